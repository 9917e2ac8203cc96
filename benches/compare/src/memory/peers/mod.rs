//! The peers in memory, each in its own file: one adapter, and what its source says about its promises.

pub(crate) mod block_on;
pub(crate) mod bus;
pub(crate) mod crossbeam;
pub(crate) mod crossfire;
pub(crate) mod disruptor;
pub(crate) mod flume;
pub(crate) mod kanal;
pub(crate) mod multiqueue;
pub(crate) mod rtrb;
pub(crate) mod tokio;

pub(crate) use rtrb::CopiesInto;

use crate::memory::{Cell, Stream};

/// Whether `cell` is work for a channel: every value goes to one consumer.
fn is_channel_work(cell: &Cell) -> bool {
    matches!(cell, Cell::Stream(Stream { groups: 1, .. }) | Cell::Rally(_))
}

/// `n` handles: clones, and the first itself, so that a channel can tell one sender from several.
fn handles<T: Clone>(first: T, n: usize) -> Vec<T> {
    let mut handles = vec![first];
    while handles.len() < n {
        handles.push(handles[0].clone());
    }
    handles
}
