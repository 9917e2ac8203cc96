//! tokio's `sync`: `mpsc`, and `broadcast`, which overwrites what a slow reader has not seen. No runtime: the
//! blocking calls are what a thread uses.

use std::time::Duration;

use tokio::sync::{broadcast, mpsc};

use crate::cell::Figures;
use crate::harness::Result;
use crate::memory::harness::{Able, Batches, Card, Consumer, PARKS, Peer, Producer, TRIES, Trying};
use crate::memory::payload::Payload;
use crate::memory::peers::block_on::block_on;
use crate::memory::peers::handles;
use crate::memory::rally::{self, CAPACITY};
use crate::memory::{Cell, Pause, Rally, Stream};

pub(crate) struct Mpsc;

impl Peer for Mpsc {
    fn card(&self) -> Card {
        Card {
            name: "tokio mpsc",
            package: "tokio",
            notes: &[
                "`blocking_send` and `blocking_recv` on threads, no runtime",
                "batches are `reserve_many` and `blocking_recv_many` with a limit of 1024",
            ],
        }
    }

    fn able(&self, cell: &Cell) -> Option<Able> {
        let able = Able { waits: PARKS, batches: Batches::Both };
        match cell {
            Cell::Stream(Stream { groups: 1, members: 1, .. }) => Some(able),
            Cell::Rally(Rally { pause: Pause::Park, .. }) => Some(able),
            Cell::Rally(Rally { pause: Pause::Yield, .. }) => Some(Able { waits: TRIES, ..able }),
            Cell::Stream(_) => None,
        }
    }

    fn stream<T: Payload>(&self, stream: &Stream) -> Result<Figures> {
        let (tx, rx) = mpsc::channel::<T>(stream.capacity);
        stream.run(handles(tx, stream.producers), vec![vec![Many::new(rx)]])
    }

    fn rally(&self, pause: Pause, run: Duration) -> Result<Figures> {
        let ((tx, mut rx), (back_tx, mut back_rx)) = (mpsc::channel(CAPACITY), mpsc::channel(CAPACITY));
        match pause {
            Pause::Park => rally::run((tx, Many::new(rx)), (back_tx, Many::new(back_rx)), run),
            Pause::Yield => {
                let (rx, back_rx) = (move || rx.try_recv().ok(), move || back_rx.try_recv().ok());
                rally::run((tx, Trying(rx)), (back_tx, Trying(back_rx)), run)
            }
        }
    }
}

impl<T: Payload> Producer<T> for mpsc::Sender<T> {
    fn send(&mut self, value: T) -> Result<()> {
        self.blocking_send(value).map_err(|_| "the channel is closed".into())
    }

    fn send_batch(&mut self, batch: &mut Vec<T>) -> Result<()> {
        let permits = block_on(self.reserve_many(batch.len()))?;
        permits.zip(batch.drain(..)).for_each(|(permit, value)| permit.send(value));
        Ok(())
    }
}

struct Many<T> {
    receiver: mpsc::Receiver<T>,
    received: Vec<T>,
}

impl<T> Many<T> {
    const LIMIT: usize = 1024;

    fn new(receiver: mpsc::Receiver<T>) -> Self {
        Many { receiver, received: Vec::with_capacity(Self::LIMIT) }
    }
}

impl<T: Payload> Consumer<T> for Many<T> {
    fn receive(&mut self, see: &mut impl FnMut(&T)) -> Result<bool> {
        Ok(self.receiver.blocking_recv().map(|value| see(&value)).is_some())
    }

    fn receive_batch(&mut self, see: &mut impl FnMut(&T)) -> Result<bool> {
        let received = self.receiver.blocking_recv_many(&mut self.received, Self::LIMIT);
        self.received.iter().for_each(see);
        self.received.clear();
        Ok(received > 0)
    }
}

pub(crate) struct Broadcast;

impl Peer for Broadcast {
    fn card(&self) -> Card {
        Card {
            name: "tokio broadcast",
            package: "tokio",
            notes: &[
                "a send never waits: what a slow reader has not seen is overwritten, counted by `Lagged`, and not \
                 in the rate; with losses it is never the best peer",
            ],
        }
    }

    fn able(&self, cell: &Cell) -> Option<Able> {
        let able = Able { waits: "parks when empty, overwrites when full", batches: Batches::None };
        matches!(cell, Cell::Stream(Stream { groups: 2.., members: 1, .. })).then_some(able)
    }

    fn stream<T: Payload>(&self, stream: &Stream) -> Result<Figures> {
        let tx = broadcast::Sender::<T>::new(stream.capacity);
        let groups = (0..stream.groups).map(|_| vec![Lossy { receiver: tx.subscribe(), lost: 0 }]).collect();
        stream.run(handles(tx, stream.producers), groups)
    }
}

impl<T: Payload> Producer<T> for broadcast::Sender<T> {
    fn send(&mut self, value: T) -> Result<()> {
        broadcast::Sender::send(self, value).map_err(|_| "nobody listens")?;
        Ok(())
    }
}

struct Lossy<T> {
    receiver: broadcast::Receiver<T>,
    lost: u64,
}

impl<T: Payload> Consumer<T> for Lossy<T> {
    fn receive(&mut self, see: &mut impl FnMut(&T)) -> Result<bool> {
        loop {
            match self.receiver.blocking_recv() {
                Ok(value) => {
                    see(&value);
                    return Ok(true);
                }
                Err(broadcast::error::RecvError::Lagged(missed)) => self.lost += missed,
                Err(broadcast::error::RecvError::Closed) => return Ok(false),
            }
        }
    }

    fn lost(&self) -> u64 {
        self.lost
    }
}
