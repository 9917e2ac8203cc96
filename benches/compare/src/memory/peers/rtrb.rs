//! rtrb: a ring of one producer and one consumer, wait-free, without any way to wait.

use std::time::Duration;

use rtrb::{Consumer as Pops, Producer as Pushes, PushError, RingBuffer};

use crate::cell::Figures;
use crate::harness::Result;
use crate::memory::harness::{Able, Backoff, Batches, Card, Consumer, Peer, Producer, TRIES, Trying};
use crate::memory::payload::{Line, Page, Payload};
use crate::memory::rally::{self, CAPACITY};
use crate::memory::{Cell, Pause, Rally, Stream};

pub(crate) struct Rtrb;

impl Peer for Rtrb {
    fn card(&self) -> Card {
        Card {
            name: "rtrb",
            package: "rtrb",
            notes: &[
                "no way to wait: a try that fails is followed by the backoff that all such peers share here (127 PAUSE, \
                 in growing portions but for the ping-pong, then `yield_now`)",
                "batches are `push_entire_slice` (a chunk filled from an iterator for what is not `Copy`) and \
                 `read_chunk` over all there is",
            ],
        }
    }

    fn able(&self, cell: &Cell) -> Option<Able> {
        let able = Able { waits: TRIES, batches: Batches::Both };
        match cell {
            Cell::Stream(Stream { producers: 1, groups: 1, members: 1, .. }) => Some(able),
            Cell::Rally(Rally { pause: Pause::Yield, .. }) => Some(able),
            _ => None,
        }
    }

    fn stream<T: Payload>(&self, stream: &Stream) -> Result<Figures> {
        let (tx, rx) = RingBuffer::<T>::new(stream.capacity);
        stream.run(vec![tx], vec![vec![rx]])
    }

    fn rally(&self, _pause: Pause, run: Duration) -> Result<Figures> {
        let ((tx, mut rx), (back_tx, mut back_rx)) = (RingBuffer::new(CAPACITY), RingBuffer::new(CAPACITY));
        let (rx, back_rx) = (move || rx.pop().ok(), move || back_rx.pop().ok());
        rally::run((tx, Trying(rx)), (back_tx, Trying(back_rx)), run)
    }
}

impl<T: Payload> Producer<T> for Pushes<T> {
    fn send(&mut self, value: T) -> Result<()> {
        let mut value = value;
        let mut backoff = Backoff::growing();
        while let Err(PushError::Full(refused)) = self.push(value) {
            value = refused;
            backoff.wait();
        }
        Ok(())
    }

    fn send_batch(&mut self, batch: &mut Vec<T>) -> Result<()> {
        let mut backoff = Backoff::growing();
        while !T::copy_into(self, batch) {
            backoff.wait();
        }
        Ok(())
    }
}

/// Puts a whole batch into the ring if there is room, by the call that is made for its type.
pub(crate) trait CopiesInto: Sized {
    fn copy_into(ring: &mut Pushes<Self>, batch: &mut Vec<Self>) -> bool;
}

impl CopiesInto for u64 {
    fn copy_into(ring: &mut Pushes<u64>, batch: &mut Vec<u64>) -> bool {
        ring.push_entire_slice(batch).is_ok()
    }
}

impl CopiesInto for Line {
    fn copy_into(ring: &mut Pushes<Line>, batch: &mut Vec<Line>) -> bool {
        ring.push_entire_slice(batch).is_ok()
    }
}

impl CopiesInto for Page {
    fn copy_into(ring: &mut Pushes<Page>, batch: &mut Vec<Page>) -> bool {
        ring.write_chunk_uninit(batch.len()).map(|chunk| chunk.fill_from_iter(batch.drain(..))).is_ok()
    }
}

impl<T: Payload> Consumer<T> for Pops<T> {
    fn receive(&mut self, see: &mut impl FnMut(&T)) -> Result<bool> {
        let mut backoff = Backoff::growing();
        loop {
            if let Ok(value) = self.pop() {
                see(&value);
                return Ok(true);
            }
            // In this order: a producer that is gone has pushed its last value before.
            if self.is_abandoned() && self.is_empty() {
                return Ok(false);
            }
            backoff.wait();
        }
    }

    fn receive_batch(&mut self, see: &mut impl FnMut(&T)) -> Result<bool> {
        let mut backoff = Backoff::growing();
        loop {
            let slots = self.slots();
            if slots > 0 {
                let chunk = self.read_chunk(slots)?;
                let (first, second) = chunk.as_slices();
                first.iter().chain(second).for_each(see);
                chunk.commit_all();
                return Ok(true);
            }
            if self.is_abandoned() && self.is_empty() {
                return Ok(false);
            }
            backoff.wait();
        }
    }
}
