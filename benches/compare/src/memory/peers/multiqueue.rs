//! multiqueue2: a ring of streams, each shared by its consumers: what comes nearest to groups.

use std::sync::mpsc::TrySendError;
use std::time::Duration;

use multiqueue2::wait::{BlockingWait, Wait, YieldingWait};
use multiqueue2::{
    BroadcastReceiver, BroadcastSender, BroadcastUniReceiver, MPMCReceiver, MPMCSender, MPMCUniReceiver,
    broadcast_queue_with, mpmc_queue_with,
};

use crate::cell::Figures;
use crate::harness::Result;
use crate::memory::harness::{Able, Backoff, Batches, Card, Consumer, PARKS, PARKS_OR_TRIES, Peer, Producer};
use crate::memory::payload::Payload;
use crate::memory::peers::handles;
use crate::memory::rally::{self, CAPACITY};
use crate::memory::{Cell, Pause, Rally, Stream};

pub(crate) struct Multiqueue(pub(crate) Waiting);

/// By which of its waits a receiver waits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// The default.
    Blocking,
    Yielding,
}

impl Peer for Multiqueue {
    fn card(&self) -> Card {
        match self.0 {
            Waiting::Blocking => Card {
                name: "multiqueue2",
                package: "multiqueue2",
                notes: &[
                    "`BlockingWait`, the default: every send takes a lock to wake whoever sleeps; a send on a full ring \
                     only fails, so it tries again with the backoff of all such peers",
                    "`mpmc_queue` for one group, `broadcast_queue` for several; a sole consumer is made single, and \
                     views values in place when broadcast",
                ],
            },
            Waiting::Yielding => Card {
                name: "multiqueue2 yielding",
                package: "multiqueue2",
                notes: &["`YieldingWait`: an idle receiver keeps its core busy"],
            },
        }
    }

    fn able(&self, cell: &Cell) -> Option<Able> {
        match (cell, self.0) {
            (Cell::Stream(_), Waiting::Blocking) => Some(Able { waits: PARKS_OR_TRIES, batches: Batches::None }),
            (Cell::Stream(_), Waiting::Yielding) => Some(Able { waits: "yields", batches: Batches::None }),
            (Cell::Rally(Rally { pause: Pause::Park, .. }), Waiting::Blocking) => {
                Some(Able { waits: PARKS, batches: Batches::None })
            }
            (Cell::Rally(Rally { pause: Pause::Yield, .. }), Waiting::Yielding) => {
                Some(Able { waits: "yields", batches: Batches::None })
            }
            _ => None,
        }
    }

    fn stream<T: Payload>(&self, stream: &Stream) -> Result<Figures> {
        match self.0 {
            Waiting::Blocking => stream_with::<T>(stream, BlockingWait::new()),
            Waiting::Yielding => stream_with::<T>(stream, YieldingWait::new()),
        }
    }

    fn rally(&self, pause: Pause, run: Duration) -> Result<Figures> {
        match pause {
            Pause::Park => rally_with(BlockingWait::new(), BlockingWait::new(), run),
            Pause::Yield => rally_with(YieldingWait::new(), YieldingWait::new(), run),
        }
    }
}

fn stream_with<T: Payload>(stream: &Stream, wait: impl Wait + 'static) -> Result<Figures> {
    let capacity = stream.capacity as u64;
    if stream.groups == 1 {
        let (tx, rx) = mpmc_queue_with::<T, _>(capacity, wait);
        if stream.members == 1 {
            let rx = rx.into_single().map_err(|_| NOT_SINGLE)?;
            return stream.run(handles(tx, stream.producers), vec![vec![rx]]);
        }
        return stream.run(handles(tx, stream.producers), vec![handles(rx, stream.members)]);
    }
    let (tx, rx) = broadcast_queue_with::<T, _>(capacity, wait);
    let mut streams: Vec<BroadcastReceiver<T>> = (1..stream.groups).map(|_| rx.add_stream()).collect();
    streams.push(rx);
    if stream.members == 1 {
        let groups: std::result::Result<Vec<_>, _> =
            streams.into_iter().map(|rx| Ok(vec![rx.into_single().map_err(|_| NOT_SINGLE)?])).collect();
        return stream.run(handles(tx, stream.producers), groups.map_err(|error: &str| error)?);
    }
    let groups = streams.into_iter().map(|rx| handles(rx, stream.members)).collect();
    stream.run(handles(tx, stream.producers), groups)
}

fn rally_with<W: Wait + 'static>(there: W, back: W, run: Duration) -> Result<Figures> {
    let (tx, rx) = mpmc_queue_with::<u64, _>(CAPACITY as u64, there);
    let (back_tx, back_rx) = mpmc_queue_with::<u64, _>(CAPACITY as u64, back);
    let rx = rx.into_single().map_err(|_| NOT_SINGLE)?;
    let back_rx = back_rx.into_single().map_err(|_| NOT_SINGLE)?;
    rally::run((tx, rx), (back_tx, back_rx), run)
}

const NOT_SINGLE: &str = "a receiver that was just made has company";

impl<T: Payload> Producer<T> for MPMCSender<T> {
    fn send(&mut self, value: T) -> Result<()> {
        send(value, |value| self.try_send(value))
    }
}

impl<T: Payload> Producer<T> for BroadcastSender<T> {
    fn send(&mut self, value: T) -> Result<()> {
        send(value, |value| self.try_send(value))
    }
}

fn send<T>(mut value: T, mut try_send: impl FnMut(T) -> std::result::Result<(), TrySendError<T>>) -> Result<()> {
    let mut backoff = Backoff::growing();
    loop {
        match try_send(value) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(refused)) => value = refused,
            Err(TrySendError::Disconnected(_)) => return Err("the queue is closed".into()),
        }
        backoff.wait();
    }
}

impl<T: Payload> Consumer<T> for MPMCUniReceiver<T> {
    fn receive(&mut self, see: &mut impl FnMut(&T)) -> Result<bool> {
        Ok(self.recv().map(|value| see(&value)).is_ok())
    }
}

impl<T: Payload> Consumer<T> for MPMCReceiver<T> {
    fn receive(&mut self, see: &mut impl FnMut(&T)) -> Result<bool> {
        Ok(self.recv().map(|value| see(&value)).is_ok())
    }
}

impl<T: Payload> Consumer<T> for BroadcastUniReceiver<T> {
    fn receive(&mut self, see: &mut impl FnMut(&T)) -> Result<bool> {
        Ok(self.recv_view(see).is_ok())
    }
}

impl<T: Payload> Consumer<T> for BroadcastReceiver<T> {
    fn receive(&mut self, see: &mut impl FnMut(&T)) -> Result<bool> {
        Ok(self.recv().map(|value| see(&value)).is_ok())
    }
}
