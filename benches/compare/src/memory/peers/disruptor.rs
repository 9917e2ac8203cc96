//! disruptor: the ring of LMAX; every consumer sees every value, in place, in runs.

use std::time::Duration;

use disruptor::{
    BusySpin, EventPoller, MultiProducerBarrier, Polling, SingleProducerBarrier, build_multi_producer,
    build_single_producer,
};

use crate::cell::Figures;
use crate::harness::Result;
use crate::memory::harness::{Able, Backoff, Batches, Card, Consumer, Peer, Producer, TRIES, Trying};
use crate::memory::payload::Payload;
use crate::memory::peers::handles;
use crate::memory::rally::{self, CAPACITY};
use crate::memory::{Cell, Pause, Rally, Stream};

pub(crate) struct Disruptor;

impl Peer for Disruptor {
    fn card(&self) -> Card {
        Card {
            name: "disruptor",
            package: "disruptor",
            notes: &[
                "event pollers on our threads with the backoff of all peers that only try: its own wait strategies \
                 spin without yielding, or sleep; so does its `publish` on a full ring, hence `try_publish`",
                "a poll hands over all there is: it has no receive for one value, so its rows one by one are sent one \
                 by one and seen in runs",
                "consumers are fixed before the first value; no groups",
            ],
        }
    }

    fn able(&self, cell: &Cell) -> Option<Able> {
        let able = Able { waits: TRIES, batches: Batches::Both };
        match cell {
            Cell::Stream(Stream { members: 1, .. }) => Some(able),
            Cell::Rally(Rally { pause: Pause::Yield, .. }) => Some(able),
            _ => None,
        }
    }

    fn stream<T: Payload>(&self, stream: &Stream) -> Result<Figures> {
        // The types differ for one consumer and for several, which are read through a list.
        match (stream.producers, stream.groups) {
            (1, 1) => {
                let (poller, builder) =
                    build_single_producer(stream.capacity, || T::of(0), BusySpin).new_event_poller();
                stream.run(vec![Publishing(builder.build())], vec![vec![poller]])
            }
            (1, groups) => {
                let mut builder = build_single_producer(stream.capacity, || T::of(0), BusySpin).with_multi_consumer();
                let mut pollers = Vec::new();
                while pollers.len() < groups {
                    let (poller, more) = builder.new_event_poller();
                    pollers.push(vec![poller]);
                    builder = more;
                }
                stream.run(vec![Publishing(builder.build())], pollers)
            }
            (producers, 1) => {
                let (poller, builder) = build_multi_producer(stream.capacity, || T::of(0), BusySpin).new_event_poller();
                let producers = handles(builder.build(), producers).into_iter().map(Publishing).collect();
                stream.run(producers, vec![vec![poller]])
            }
            (producers, groups) => {
                let mut builder = build_multi_producer(stream.capacity, || T::of(0), BusySpin).with_multi_consumer();
                let mut pollers = Vec::new();
                while pollers.len() < groups {
                    let (poller, more) = builder.new_event_poller();
                    pollers.push(vec![poller]);
                    builder = more;
                }
                let producers = handles(builder.build(), producers).into_iter().map(Publishing).collect();
                stream.run(producers, pollers)
            }
        }
    }

    fn rally(&self, _pause: Pause, run: Duration) -> Result<Figures> {
        let (poller, builder) = build_single_producer(CAPACITY, || 0, BusySpin).new_event_poller();
        let (back_poller, back_builder) = build_single_producer(CAPACITY, || 0, BusySpin).new_event_poller();
        let there = (Publishing(builder.build()), Trying(tried(poller)));
        rally::run(there, (Publishing(back_builder.build()), Trying(tried(back_poller))), run)
    }
}

/// A try for one value.
fn tried(mut poller: EventPoller<u64, SingleProducerBarrier>) -> impl FnMut() -> Option<u64> {
    move || poller.take(1).ok().and_then(|mut run| (&mut run).next().copied())
}

struct Publishing<P>(P);

impl<T: Payload, P: disruptor::Producer<T> + Send> Producer<T> for Publishing<P> {
    fn send(&mut self, value: T) -> Result<()> {
        let mut backoff = Backoff::growing();
        // A closure that is not called drops what it holds: it only borrows the value.
        let mut value = Some(value);
        while self.0.try_publish(|slot| value.take().into_iter().for_each(|value| *slot = value)).is_err() {
            backoff.wait();
        }
        Ok(())
    }

    fn send_batch(&mut self, batch: &mut Vec<T>) -> Result<()> {
        let mut backoff = Backoff::growing();
        let n = batch.len();
        while self
            .0
            .try_batch_publish(n, |slots| slots.zip(batch.drain(..)).for_each(|(slot, value)| *slot = value))
            .is_err()
        {
            backoff.wait();
        }
        Ok(())
    }
}

/// The bound that a poller needs on its barrier is private, so there is one of these for each barrier.
macro_rules! consumer {
    ($barrier:ty) => {
        impl<T: Payload> Consumer<T> for EventPoller<T, $barrier> {
            fn receive(&mut self, see: &mut impl FnMut(&T)) -> Result<bool> {
                let mut backoff = Backoff::growing();
                loop {
                    match self.poll() {
                        Ok(mut run) => {
                            (&mut run).for_each(see);
                            return Ok(true);
                        }
                        Err(Polling::Shutdown) => return Ok(false),
                        Err(Polling::NoEvents) => backoff.wait(),
                    }
                }
            }
        }
    };
}

consumer!(SingleProducerBarrier);
consumer!(MultiProducerBarrier);
