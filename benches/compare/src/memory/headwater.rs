//! Headwater's memory topics and queues, by their public API only.

use std::time::Duration;

use headwater::memory::{Consumer as Reader, Producer as Writer, QueueConsumer, RecvError, Topic};
use headwater::{Broker, Layout, WaitStrategy};

use crate::cell::Figures;
use crate::contender::HEADWATER;
use crate::harness::Result;
use crate::memory::harness::{Able, Batches, Card, Consumer, PARKS, Peer, Producer};
use crate::memory::payload::{Line, Page, Payload};
use crate::memory::rally::{self, CAPACITY};
use crate::memory::{Cell, Pause, Rally, Stream};

/// Headwater in one of its ways, each with a row of its own where it makes a difference.
pub(crate) struct Headwater(pub(crate) Way);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// A topic as it comes, but for `single_producer` where there is one.
    Default,
    /// `Layout::Stamped`: for latency.
    Stamped,
    /// Members that take 32 values from their group at a time.
    Prefetch,
    /// A queue: values are taken, not read.
    Queue,
}

const NAME: &str = "compare";
const PREFETCH: usize = 32;
/// Nobody waits so long; a poll wants a limit.
const LONG: Duration = Duration::from_secs(3600);

impl Peer for Headwater {
    fn card(&self) -> Card {
        let (name, notes): (_, &[&str]) = match self.0 {
            Way::Default => (
                HEADWATER,
                &[
                    "a memory topic with default settings; `single_producer` where there is one; a consumer alone, or \
                     the members of a named group",
                    "one by one is `send` and `recv` (`recv_with` for what is behind a pointer); batches are \
                     `send_slice` (`send_batch` for what is not `Copy`) and `poll`",
                ],
            ),
            Way::Stamped => ("Headwater stamped", &["`Layout::Stamped`, in the ping-pong"]),
            Way::Prefetch => ("Headwater prefetch 32", &["`prefetch(32)`, where members share"]),
            Way::Queue => ("Headwater queue", &["a memory queue, `take` and `take_batch`, where there is one group"]),
        };
        Card { name, package: "headwater", notes }
    }

    fn able(&self, cell: &Cell) -> Option<Able> {
        let has_row = match (self.0, cell) {
            (Way::Default, _) => true,
            (Way::Stamped, cell) => matches!(cell, Cell::Rally(_)),
            (Way::Prefetch, cell) => matches!(cell, Cell::Stream(Stream { members: 2.., .. })),
            (Way::Queue, cell) => matches!(cell, Cell::Stream(Stream { groups: 1, .. })),
        };
        let waits = if matches!(cell, Cell::Rally(Rally { pause: Pause::Yield, .. })) { "yields" } else { PARKS };
        has_row.then_some(Able { waits, batches: Batches::Both })
    }

    fn stream<T: Payload>(&self, stream: &Stream) -> Result<Figures> {
        let broker = Broker::in_memory()?;
        if self.0 == Way::Queue {
            let builder = broker.memory_queue::<T>(NAME).capacity(stream.capacity).close_after_producers();
            let queue = if stream.producers == 1 { builder.single_producer() } else { builder }.create()?;
            let members = (0..stream.members).map(|_| Taking { consumer: queue.consumer(), taken: Vec::new() });
            let members = members.collect();
            let producers = (0..stream.producers).map(|_| queue.producer()).collect::<headwater::Result<_>>()?;
            return stream.run(producers, vec![members]);
        }
        let builder = broker.memory_topic::<T>(NAME).capacity(stream.capacity).close_after_producers();
        let topic = if stream.producers == 1 { builder.single_producer() } else { builder }.create()?;
        let groups = (0..stream.groups).map(|group| self.members(&topic, stream, group)).collect();
        let producers = (0..stream.producers).map(|_| topic.producer()).collect::<headwater::Result<_>>()?;
        stream.run(producers, groups)
    }

    fn rally(&self, pause: Pause, run: Duration) -> Result<Figures> {
        let broker = Broker::in_memory()?;
        let ends = |name| -> Result<(Writer<u64>, Reader<u64>)> {
            let wait = match pause {
                Pause::Park => WaitStrategy::Park,
                Pause::Yield => WaitStrategy::Yield,
            };
            let builder = broker.memory_topic::<u64>(name).capacity(CAPACITY).wait_strategy(wait);
            // A topic with a single producer is always dense.
            let builder = match self.0 {
                Way::Stamped => builder.layout(Layout::Stamped),
                Way::Default | Way::Prefetch | Way::Queue => builder.single_producer(),
            };
            let topic = builder.create()?;
            let consumer = topic.consumer();
            Ok((topic.producer()?, consumer))
        };
        rally::run(ends("there")?, ends("back")?, run)
    }
}

impl Headwater {
    fn members<T: Payload>(&self, topic: &Topic<T>, stream: &Stream, group: usize) -> Vec<Reader<T>> {
        if stream.members == 1 {
            return vec![topic.consumer()];
        }
        let join = |_| {
            let builder = topic.group(&format!("group {group}"));
            if self.0 == Way::Prefetch { builder.prefetch(PREFETCH).join() } else { builder.join() }
        };
        (0..stream.members).map(join).collect()
    }
}

impl<T: Payload> Producer<T> for Writer<T> {
    fn send(&mut self, value: T) -> Result<()> {
        Writer::send(self, value).map_err(|_| "the topic is closed".into())
    }

    fn send_batch(&mut self, batch: &mut Vec<T>) -> Result<()> {
        T::send_all(self, batch)
    }
}

/// A value with the calls that are made for its type.
pub(crate) trait SendsAll: Sized {
    fn send_all(writer: &mut Writer<Self>, batch: &mut Vec<Self>) -> Result<()>;

    /// Waits for a value and shows it.
    fn receive(reader: &mut Reader<Self>, see: &mut impl FnMut(&Self)) -> std::result::Result<(), RecvError>;
}

impl SendsAll for u64 {
    fn send_all(writer: &mut Writer<u64>, batch: &mut Vec<u64>) -> Result<()> {
        writer.send_slice(batch).map_err(|_| "the topic is closed".into())
    }

    fn receive(reader: &mut Reader<u64>, see: &mut impl FnMut(&u64)) -> std::result::Result<(), RecvError> {
        reader.recv().map(|value| see(&value))
    }
}

impl SendsAll for Line {
    fn send_all(writer: &mut Writer<Line>, batch: &mut Vec<Line>) -> Result<()> {
        writer.send_slice(batch).map_err(|_| "the topic is closed".into())
    }

    fn receive(reader: &mut Reader<Line>, see: &mut impl FnMut(&Line)) -> std::result::Result<(), RecvError> {
        reader.recv().map(|value| see(&value))
    }
}

impl SendsAll for Page {
    fn send_all(writer: &mut Writer<Page>, batch: &mut Vec<Page>) -> Result<()> {
        writer.send_batch(batch).map_err(|_| "the topic is closed".into())
    }

    fn receive(reader: &mut Reader<Page>, see: &mut impl FnMut(&Page)) -> std::result::Result<(), RecvError> {
        reader.recv_with(|value| see(value))
    }
}

impl<T: Payload> Consumer<T> for Reader<T> {
    fn receive(&mut self, see: &mut impl FnMut(&T)) -> Result<bool> {
        goes_on(T::receive(self, see))
    }

    fn receive_batch(&mut self, see: &mut impl FnMut(&T)) -> Result<bool> {
        goes_on(self.poll(LONG, see))
    }

    fn lost(&self) -> u64 {
        self.missed()
    }
}

struct Taking<T> {
    consumer: QueueConsumer<T>,
    taken: Vec<T>,
}

impl<T> Taking<T> {
    /// As many as a topic's poll lends.
    const MAX: usize = 256;
}

impl<T: Payload> Consumer<T> for Taking<T> {
    fn receive(&mut self, see: &mut impl FnMut(&T)) -> Result<bool> {
        goes_on(self.consumer.take().map(|value| see(&value)))
    }

    fn receive_batch(&mut self, see: &mut impl FnMut(&T)) -> Result<bool> {
        let received = self.consumer.take_batch(&mut self.taken, Self::MAX, LONG);
        self.taken.iter().for_each(see);
        self.taken.clear();
        goes_on(received)
    }
}

/// Whether there may be more; only the end is no error.
fn goes_on<R>(received: std::result::Result<R, RecvError>) -> Result<bool> {
    match received {
        Ok(_) => Ok(true),
        Err(RecvError::Closed) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
