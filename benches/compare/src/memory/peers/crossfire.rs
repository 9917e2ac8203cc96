//! crossfire: crossbeam's array queue with a lighter way to wake, in a type for each number of ends; blocking and
//! async.

use std::time::Duration;

use crossfire::{
    AsyncRx, AsyncTx, BlockingRxTrait, BlockingTxTrait, MTx, Rx, detect_backoff_cfg, flavor::Flavor, mpmc, mpsc, spsc,
};

use crate::cell::Figures;
use crate::harness::Result;
use crate::memory::harness::{Able, Batches, Card, Consumer, PARKS, Peer, Producer, TRIES, Trying};
use crate::memory::payload::Payload;
use crate::memory::peers::block_on::block_on;
use crate::memory::peers::{handles, is_channel_work};
use crate::memory::rally::{self, CAPACITY};
use crate::memory::{Cell, Pause, Rally, Stream};

pub(crate) struct Crossfire;

impl Peer for Crossfire {
    fn card(&self) -> Card {
        Card {
            name: "crossfire",
            package: "crossfire",
            notes: &["`bounded_blocking` of `spsc`, `mpsc` or `mpmc`, after `detect_backoff_cfg`, as documented"],
        }
    }

    fn able(&self, cell: &Cell) -> Option<Able> {
        let waits = if matches!(cell, Cell::Rally(Rally { pause: Pause::Yield, .. })) { TRIES } else { PARKS };
        is_channel_work(cell).then_some(Able { waits, batches: Batches::None })
    }

    fn stream<T: Payload>(&self, stream: &Stream) -> Result<Figures> {
        detect_backoff_cfg();
        match (stream.producers, stream.members) {
            (1, 1) => {
                let (tx, rx) = spsc::bounded_blocking::<T>(stream.capacity);
                stream.run(vec![Sending(tx)], vec![vec![Receiving(rx)]])
            }
            (_, 1) => {
                let (tx, rx) = mpsc::bounded_blocking::<T>(stream.capacity);
                stream.run(sending(tx, stream), vec![vec![Receiving(rx)]])
            }
            _ => {
                let (tx, rx) = mpmc::bounded_blocking::<T>(stream.capacity);
                let members = handles(rx, stream.members).into_iter().map(Receiving).collect();
                stream.run(sending(tx, stream), vec![members])
            }
        }
    }

    fn rally(&self, pause: Pause, run: Duration) -> Result<Figures> {
        detect_backoff_cfg();
        let (tx, rx): (_, Rx<spsc::Array<u64>>) = spsc::bounded_blocking(CAPACITY);
        let (back_tx, back_rx): (_, Rx<spsc::Array<u64>>) = spsc::bounded_blocking(CAPACITY);
        match pause {
            Pause::Park => rally::run((Sending(tx), Receiving(rx)), (Sending(back_tx), Receiving(back_rx)), run),
            Pause::Yield => {
                let (rx, back_rx) = (move || rx.try_recv().ok(), move || back_rx.try_recv().ok());
                rally::run((Sending(tx), Trying(rx)), (Sending(back_tx), Trying(back_rx)), run)
            }
        }
    }
}

struct Sending<S>(S);

fn sending<S: Clone>(first: S, stream: &Stream) -> Vec<Sending<S>> {
    handles(first, stream.producers).into_iter().map(Sending).collect()
}

impl<T: Payload, S: BlockingTxTrait<T> + Send> Producer<T> for Sending<S> {
    fn send(&mut self, value: T) -> Result<()> {
        self.0.send(value).map_err(|_| "the channel is closed".into())
    }
}

struct Receiving<R>(R);

impl<T: Payload, R: BlockingRxTrait<T> + Send> Consumer<T> for Receiving<R> {
    fn receive(&mut self, see: &mut impl FnMut(&T)) -> Result<bool> {
        Ok(self.0.recv().map(|value| see(&value)).is_ok())
    }
}

/// The async ends, each on a thread of its own.
pub(crate) struct CrossfireAsync;

impl Peer for CrossfireAsync {
    fn card(&self) -> Card {
        Card {
            name: "crossfire async",
            package: "crossfire",
            notes: &["`bounded_async`; each future is driven by a thread that parks while it is pending, no runtime"],
        }
    }

    fn able(&self, cell: &Cell) -> Option<Able> {
        let able = Able { waits: PARKS, batches: Batches::None };
        match cell {
            Cell::Rally(Rally { pause: Pause::Yield, .. }) => None,
            _ => is_channel_work(cell).then_some(able),
        }
    }

    fn stream<T: Payload>(&self, stream: &Stream) -> Result<Figures> {
        detect_backoff_cfg();
        match (stream.producers, stream.members) {
            (1, 1) => {
                let (tx, rx) = spsc::bounded_async::<T>(stream.capacity);
                stream.run(vec![AsyncSending(tx)], vec![vec![AsyncReceiving(rx)]])
            }
            (_, 1) => {
                let (tx, rx) = mpsc::bounded_async::<T>(stream.capacity);
                let producers = handles(tx, stream.producers).into_iter().map(|tx| AsyncSending(tx.into())).collect();
                stream.run(producers, vec![vec![AsyncReceiving(rx)]])
            }
            _ => {
                let (tx, rx) = mpmc::bounded_async::<T>(stream.capacity);
                let producers = handles(tx, stream.producers).into_iter().map(|tx| AsyncSending(tx.into())).collect();
                let members = handles(rx, stream.members).into_iter().map(|rx| AsyncReceiving(rx.into())).collect();
                stream.run(producers, vec![members])
            }
        }
    }

    fn rally(&self, _pause: Pause, run: Duration) -> Result<Figures> {
        detect_backoff_cfg();
        let ((tx, rx), (back_tx, back_rx)) = (spsc::bounded_async(CAPACITY), spsc::bounded_async(CAPACITY));
        let there = (AsyncSending(tx), AsyncReceiving(rx));
        rally::run(there, (AsyncSending(back_tx), AsyncReceiving(back_rx)), run)
    }
}

struct AsyncSending<F: Flavor>(AsyncTx<F>);

impl<F: Flavor<Item: Payload>> Producer<F::Item> for AsyncSending<F> {
    fn send(&mut self, value: F::Item) -> Result<()> {
        block_on(self.0.send(value)).map_err(|_| "the channel is closed".into())
    }
}

struct AsyncReceiving<F: Flavor>(AsyncRx<F>);

impl<F: Flavor<Item: Payload>> Consumer<F::Item> for AsyncReceiving<F> {
    fn receive(&mut self, see: &mut impl FnMut(&F::Item)) -> Result<bool> {
        Ok(block_on(self.0.recv()).map(|value| see(&value)).is_ok())
    }
}

/// A channel for each group: the way to broadcast with channels.
pub(crate) struct CrossfireFanOut;

impl Peer for CrossfireFanOut {
    fn card(&self) -> Card {
        Card {
            name: "crossfire fan-out",
            package: "crossfire",
            notes: &[
                "has no broadcast of its own: a channel for each group, to each of which a producer sends a clone; \
                 groups may see values of different producers in different order",
            ],
        }
    }

    fn able(&self, cell: &Cell) -> Option<Able> {
        let able = Able { waits: PARKS, batches: Batches::None };
        matches!(cell, Cell::Stream(Stream { groups: 2.., .. })).then_some(able)
    }

    fn stream<T: Payload>(&self, stream: &Stream) -> Result<Figures> {
        detect_backoff_cfg();
        match (stream.producers, stream.members) {
            (1, 1) => {
                let (txs, rxs): (Vec<_>, Vec<_>) =
                    (0..stream.groups).map(|_| spsc::bounded_blocking::<T>(stream.capacity)).unzip();
                stream.run(vec![FanOut(txs)], rxs.into_iter().map(|rx| vec![Receiving(rx)]).collect())
            }
            (_, 1) => {
                let (txs, rxs): (Vec<MTx<mpsc::Array<T>>>, Vec<_>) =
                    (0..stream.groups).map(|_| mpsc::bounded_blocking::<T>(stream.capacity)).unzip();
                let groups = rxs.into_iter().map(|rx| vec![Receiving(rx)]).collect();
                stream.run(handles(txs, stream.producers).into_iter().map(FanOut).collect(), groups)
            }
            _ => {
                let (txs, rxs): (Vec<MTx<mpmc::Array<T>>>, Vec<_>) =
                    (0..stream.groups).map(|_| mpmc::bounded_blocking::<T>(stream.capacity)).unzip();
                let members = |rx| handles(rx, stream.members).into_iter().map(Receiving).collect();
                let groups = rxs.into_iter().map(members).collect();
                stream.run(handles(txs, stream.producers).into_iter().map(FanOut).collect(), groups)
            }
        }
    }
}

struct FanOut<S>(Vec<S>);

impl<T: Payload, S: BlockingTxTrait<T> + Send> Producer<T> for FanOut<S> {
    fn send(&mut self, value: T) -> Result<()> {
        for group in &self.0 {
            group.send(value.clone()).map_err(|_| "a channel is closed")?;
        }
        Ok(())
    }
}
