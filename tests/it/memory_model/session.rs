//! A topic or queue, and those who use it: runs steps on it and on the model.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use headwater::memory::{Consumer, Metrics, Producer, Queue, QueueConsumer, RecvError, Refused, SendError, Topic};
use headwater::{Error, OnFull};

use super::model::{Answer, Model};
use super::{AT_ONCE, Join, Kind, ManyWay, ReadWay, SendWay, Setting, Step};
use crate::memory_support::{Load, Scales, expect_panic, new_queue, new_topic, poll_once};

const PRODUCERS_MAX: usize = 3;
const READERS_MAX: usize = 6;
/// A shared group's member takes so many at once in a `poll`, at most.
const POLL_MAX: u64 = 32;

pub(super) fn run(setting: Setting, steps: &[Step]) {
    let mut session = Session::new(setting);
    for (index, step) in steps.iter().enumerate() {
        let what = format!("step {index}, {step:?}");
        session.take(*step, &what);
        session.compare(&what);
    }
    session.end();
}

enum Home {
    Topic(Topic<Load>),
    Queue(Queue<Load>),
}

enum Reader {
    Consumer(Consumer<Load>),
    Taker(QueueConsumer<Load>),
}

/// What became of one value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sent {
    Yes,
    Full,
    Closed,
    /// A future that was pending, and was dropped.
    Cancelled,
}

struct Session {
    model: Model,
    scales: Scales,
    home: Home,
    producers: Vec<Producer<Load>>,
    readers: BTreeMap<usize, Reader>,
    next_reader: usize,
    next_number: u64,
    /// Somebody has waited for room.
    has_waited: bool,
}

impl Home {
    fn producer(&self) -> headwater::Result<Producer<Load>> {
        match self {
            Self::Topic(topic) => topic.producer(),
            Self::Queue(queue) => queue.producer(),
        }
    }

    fn metrics(&self) -> Metrics {
        match self {
            Self::Topic(topic) => topic.metrics(),
            Self::Queue(queue) => queue.metrics(),
        }
    }

    fn close(&self) {
        match self {
            Self::Topic(topic) => topic.close(),
            Self::Queue(queue) => queue.close(),
        }
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Topic(topic) => topic.is_closed(),
            Self::Queue(queue) => queue.is_closed(),
        }
    }
}

impl Session {
    fn new(setting: Setting) -> Self {
        let Setting { kind, capacity, on_full, keep, layout } = setting;
        let capacity = capacity as usize;
        let home = match kind {
            Kind::Topic => {
                let builder = new_topic().capacity(capacity).on_full(on_full).keep(keep);
                let builder = match layout {
                    Some(layout) => builder.layout(layout),
                    None => builder.single_producer(),
                };
                Home::Topic(builder.create().expect("a topic"))
            }
            Kind::Queue => {
                let builder = new_queue().capacity(capacity).on_full(on_full);
                let builder = match layout {
                    Some(layout) => builder.layout(layout),
                    None => builder.single_producer(),
                };
                Home::Queue(builder.create().expect("a queue"))
            }
        };
        let producers = vec![home.producer().expect("the first producer")];
        let (model, scales) = (Model::new(setting), Scales::default());
        Self {
            model,
            scales,
            home,
            producers,
            readers: BTreeMap::new(),
            next_reader: 0,
            next_number: 0,
            has_waited: false,
        }
    }

    fn take(&mut self, step: Step, what: &str) {
        match step {
            Step::Send { producer, way } => self.send(producer, way, what),
            Step::SendMany { producer, count, waits } => self.send_many(producer, count, waits, what),
            Step::Withdraw { producer, panics } => self.withdraw(producer, panics, what),
            Step::NewProducer => self.new_producer(what),
            Step::DropProducer { producer } => {
                if let Some(index) = index(producer, self.producers.len()) {
                    drop(self.producers.swap_remove(index));
                }
            }
            Step::Join(join) => self.join(join, what),
            Step::Leave { reader } => {
                if let Some(id) = self.reader(reader) {
                    drop(self.readers.remove(&id));
                    self.model.leave(id);
                }
            }
            Step::Read { reader, way } => self.read(reader, way, what),
            Step::ReadMany { reader, way } => self.read_many(reader, way, what),
            Step::SendFromVisitor { reader, producer } => self.send_from_visitor(reader, producer, what),
            Step::Close => {
                self.home.close();
                self.model.is_closed = true;
            }
        }
    }

    fn load(&mut self) -> Load {
        self.next_number += 1;
        self.scales.load(self.next_number)
    }

    fn reader(&self, reader: usize) -> Option<usize> {
        let at = index(reader, self.readers.len())?;
        self.readers.keys().nth(at).copied()
    }

    // ── Sending ──

    /// What becomes of a value where there is `room`.
    fn expected(&self, room: u64, would_wait: Sent) -> Sent {
        match (self.model.is_closed, room) {
            (true, _) => Sent::Closed,
            (false, 1..) => Sent::Yes,
            (false, 0) if self.model.setting.on_full == OnFull::Reject => Sent::Full,
            (false, 0) => would_wait,
        }
    }

    fn send(&mut self, producer: usize, way: SendWay, what: &str) {
        let Some(producer) = index(producer, self.producers.len()) else { return };
        let load = self.load();
        let number = load.number;
        let room = self.model.room();
        let waits = self.expected(room, Sent::Cancelled) == Sent::Cancelled;
        let way = match way {
            SendWay::Wait if waits => SendWay::Try,
            SendWay::With if waits => SendWay::TryWith,
            way => way,
        };
        let would_wait = if matches!(way, SendWay::Task | SendWay::Permit) { Sent::Cancelled } else { Sent::Full };
        let expected = self.expected(room, would_wait);
        let producer = &mut self.producers[producer];
        let sent = match way {
            SendWay::Try => outcome(producer.try_send(load), number),
            SendWay::Wait => outcome(producer.send(load), number),
            SendWay::Timeout => outcome(producer.send_timeout(load, AT_ONCE), number),
            SendWay::With => refused(producer.send_with(|| load)),
            SendWay::TryWith => refused(producer.try_send_with(|| load)),
            SendWay::Task => poll_once(producer.send_async(load)).map_or(Sent::Cancelled, |it| outcome(it, number)),
            SendWay::Permit => match poll_once(producer.reserve_async()) {
                None => Sent::Cancelled,
                Some(Err(refusal)) => refused(Err(refusal)),
                Some(Ok(permit)) => outcome(permit.send(load), number),
            },
        };
        assert_eq!(sent, expected, "{what}");
        self.note_sent(sent, number, what);
    }

    fn note_sent(&mut self, sent: Sent, number: u64, what: &str) {
        self.has_waited |= sent == Sent::Cancelled;
        let dropped = self.dropped();
        match sent {
            Sent::Yes => self.model.accept(number, &dropped),
            Sent::Full | Sent::Cancelled => self.model.reserve(&dropped),
            Sent::Closed => {}
        }
        self.model.settle(&dropped, what);
    }

    fn send_many(&mut self, producer: usize, count: usize, waits: bool, what: &str) {
        let Some(producer) = index(producer, self.producers.len()) else { return };
        let mut loads: Vec<_> = (0..count).map(|_| self.load()).collect();
        let numbers: Vec<_> = loads.iter().map(|load| load.number).collect();
        let room = if self.model.is_closed { 0 } else { self.model.room() };
        let fit = usize::try_from(room).map_or(count, |room| room.min(count));
        let is_refused = fit < count;
        let reason = if self.model.is_closed { Sent::Closed } else { Sent::Full };
        let producer = &mut self.producers[producer];
        if waits && (!is_refused || self.model.is_closed || self.model.setting.on_full == OnFull::Reject) {
            let expected = if is_refused { reason } else { Sent::Yes };
            assert_eq!(refused(producer.send_batch(&mut loads)), expected, "{what}");
        } else {
            match producer.try_send_batch(&mut loads) {
                Ok(sent) => assert_eq!((sent, fit > 0 || count == 0), (fit, true), "{what}"),
                Err(refusal) => assert_eq!((refused(Err(refusal)), fit), (reason, 0), "{what}"),
            }
        }
        let left: Vec<_> = loads.iter().map(|load| load.number).collect();
        assert_eq!(left, numbers[fit..], "{what}: what was not sent stays, in order");
        let dropped = self.dropped();
        numbers[..fit].iter().for_each(|number| self.model.accept(*number, &dropped));
        if is_refused {
            self.model.reserve(&dropped);
        }
        self.model.settle(&dropped, what);
    }

    fn withdraw(&mut self, producer: usize, panics: bool, what: &str) {
        let Some(producer) = index(producer, self.producers.len()).filter(|_| !self.model.is_closed) else { return };
        let has_room = self.model.room() > 0;
        let expected = self.expected(self.model.room(), Sent::Cancelled);
        let producer = &mut self.producers[producer];
        match (panics, has_room) {
            (true, true) => expect_panic("no value", || producer.try_send_with(|| resume_unwind(Box::new("no value")))),
            (true, false) => {
                let refusal = producer.try_send_with(|| unreachable!("there is no room"));
                assert_eq!(refused(refusal), Sent::Full, "{what}");
            }
            (false, _) => {
                let reserved = poll_once(producer.reserve_async());
                let reserved = reserved.map_or(Sent::Cancelled, |permit| refused(permit.map(drop)));
                assert_eq!(reserved, expected, "{what}");
                self.has_waited |= reserved == Sent::Cancelled;
            }
        }
        let dropped = self.dropped();
        self.model.reserve(&dropped);
        self.model.settle(&dropped, what);
    }

    fn new_producer(&mut self, what: &str) {
        if self.producers.len() == PRODUCERS_MAX {
            return;
        }
        let is_single = self.model.setting.layout.is_none();
        match self.home.producer() {
            Ok(producer) => {
                assert!(!self.model.is_closed && (!is_single || self.producers.is_empty()), "{what}");
                self.producers.push(producer);
            }
            Err(Error::ProducerInUse { .. }) => assert!(is_single && !self.producers.is_empty(), "{what}"),
            Err(error) => assert!(error.is_closed() && self.model.is_closed, "{what}: {error}"),
        }
    }

    // ── Reading ──

    fn join(&mut self, join: Join, what: &str) {
        if self.readers.len() == READERS_MAX {
            return;
        }
        let kept = self.home.metrics().depth;
        let reader = match &self.home {
            Home::Topic(topic) => {
                let builder = join.group.map_or_else(|| topic.consumer_builder(), |name| topic.group(name));
                let builder = if join.from_oldest { builder.from_oldest() } else { builder };
                let builder = if join.is_lossy { builder.lossy() } else { builder };
                Reader::Consumer(builder.prefetch(join.prefetch).join())
            }
            Home::Queue(queue) => Reader::Taker(queue.consumer_with_prefetch(join.prefetch)),
        };
        let position = match &reader {
            Reader::Consumer(consumer) => Some(consumer.position()),
            Reader::Taker(_) => None,
        };
        self.model.join(self.next_reader, join, position, kept, what);
        self.readers.insert(self.next_reader, reader);
        self.next_reader += 1;
    }

    fn read(&mut self, reader: usize, way: ReadWay, what: &str) {
        let Some(id) = self.reader(reader) else { return };
        let would_wait = self.model.next(id) == Answer::Nothing;
        let way = if would_wait && matches!(way, ReadWay::Wait | ReadWay::Lend) { ReadWay::Try } else { way };
        let most = self.model.members[&id].prefetch;
        let number = |load: Load| load.number;
        let got = match self.readers.get_mut(&id).expect("a reader") {
            Reader::Consumer(consumer) => match way {
                ReadWay::Try => consumer.try_recv().map(|load| load.map(number)),
                ReadWay::Wait => consumer.recv().map(|load| Some(load.number)),
                ReadWay::Timeout => consumer.recv_timeout(AT_ONCE).map(|load| load.map(number)),
                ReadWay::Lend => consumer.recv_with(|load| Some(load.number)),
                ReadWay::Task => poll_once(consumer.recv_async()).transpose().map(|load| load.map(number)),
                ReadWay::Iter => match consumer.try_iter().next() {
                    Some(value) => value.map(|load| Some(load.number)).map_err(RecvError::from),
                    // It does not say which; the model knows, and is asked about the rest elsewhere.
                    None if self.model.is_closed => Err(RecvError::Closed),
                    None => Ok(None),
                },
            },
            Reader::Taker(taker) => match way {
                ReadWay::Try | ReadWay::Iter => taker.try_take().map(|load| load.map(number)),
                ReadWay::Wait | ReadWay::Lend => taker.take().map(|load| Some(load.number)),
                ReadWay::Timeout => taker.take_timeout(AT_ONCE).map(|load| load.map(number)),
                ReadWay::Task => poll_once(taker.take_async()).transpose().map(|load| load.map(number)),
            },
        };
        let got = got.map(|number| number.into_iter().collect());
        self.note_read(id, got, most, 1, what);
    }

    /// A reader gave these values, of which it was to give at most `wanted`, and claimed at most `most` for it.
    fn note_read(&mut self, id: usize, got: Result<Vec<u64>, RecvError>, most: u64, wanted: u64, what: &str) {
        let metrics = self.home.metrics();
        let expected = self.model.next(id);
        match got {
            Ok(numbers) if numbers.is_empty() => assert_eq!(expected, Answer::Nothing, "{what}"),
            Ok(numbers) => {
                assert!(matches!(expected, Answer::Value(_)), "{what}: {numbers:?} where it was to be {expected:?}");
                self.model.claim(id, most, &metrics, what);
                let count = numbers.len() as u64;
                match self.model.in_hand(id) {
                    Some(in_hand) => assert_eq!(count, in_hand.min(wanted), "{what}: how many"),
                    None => assert!(count <= wanted, "{what}: how many"),
                }
                self.model.read(id, &numbers, what);
            }
            Err(RecvError::Lagged(lagged)) => {
                assert_eq!(expected, Answer::Lagged(lagged.missed), "{what}");
                self.model.tell(id, &metrics, what);
            }
            Err(RecvError::Closed) => assert_eq!(expected, Answer::Closed, "{what}"),
        }
    }

    fn read_many(&mut self, reader: usize, way: ManyWay, what: &str) {
        let Some(id) = self.reader(reader) else { return };
        if let ManyWay::Batch { max: 0 } = way {
            let mut none = Vec::new();
            let got = match self.readers.get_mut(&id).expect("a reader") {
                Reader::Consumer(consumer) => consumer.recv_batch(&mut none, 0, AT_ONCE),
                Reader::Taker(taker) => taker.take_batch(&mut none, 0, AT_ONCE),
            };
            assert_eq!((got, none.len()), (Ok(0), 0), "{what}");
            return;
        }
        let (most, wanted) = match way {
            ManyWay::Poll | ManyWay::PollTask => (POLL_MAX, u64::MAX),
            ManyWay::Batch { max } => (max as u64, max as u64),
            ManyWay::Fail { at } => (POLL_MAX, at as u64),
        };
        let mut numbers = Vec::new();
        let got = match (self.readers.get_mut(&id).expect("a reader"), way) {
            (Reader::Consumer(consumer), ManyWay::Poll) => consumer.poll(AT_ONCE, |load| numbers.push(load.number)),
            (Reader::Consumer(consumer), ManyWay::PollTask) => {
                poll_once(consumer.poll_async(|load| numbers.push(load.number))).unwrap_or(Ok(0))
            }
            (Reader::Consumer(consumer), ManyWay::Batch { max }) => {
                let mut loads = Vec::new();
                let got = consumer.recv_batch(&mut loads, max, AT_ONCE);
                numbers.extend(loads.iter().map(|load| load.number));
                got
            }
            (Reader::Consumer(consumer), ManyWay::Fail { at }) => {
                let visit = |load: &Load| {
                    numbers.push(load.number);
                    if numbers.len() == at {
                        resume_unwind(Box::new("the visitor fails"));
                    }
                };
                let polled = AssertUnwindSafe(|| consumer.poll(AT_ONCE, visit));
                let got = catch_unwind(polled).unwrap_or(Ok(at));
                assert!(got.is_err() || got == Ok(numbers.len()), "{what}: {got:?}");
                got
            }
            (
                Reader::Taker(taker),
                ManyWay::Batch { .. } | ManyWay::Poll | ManyWay::PollTask | ManyWay::Fail { .. },
            ) => {
                let mut loads = Vec::new();
                // A batch of a queue's is no larger than asked for.
                let max = usize::try_from(most.min(wanted)).unwrap_or(usize::MAX);
                let got = taker.take_batch(&mut loads, max, AT_ONCE);
                numbers.extend(loads.iter().map(|load| load.number));
                let most = max as u64;
                self.note_read(id, got.map(|_| numbers), most, most, what);
                return;
            }
        };
        if let Ok(count) = got {
            assert_eq!(count, numbers.len(), "{what}: how many it says");
        }
        self.note_read(id, got.map(|_| numbers), most, wanted, what);
    }

    fn send_from_visitor(&mut self, reader: usize, producer: usize, what: &str) {
        let (Some(id), Some(producer)) = (self.reader(reader), index(producer, self.producers.len())) else { return };
        if !matches!(self.model.next(id), Answer::Value(_)) {
            return;
        }
        let load = self.load();
        let number = load.number;
        let Reader::Consumer(consumer) = self.readers.get_mut(&id).expect("a reader") else { return };
        let (home, producer) = (&self.home, &mut self.producers[producer]);
        let seen = consumer.recv_with(|lent| (lent.number, home.metrics(), outcome(producer.try_send(load), number)));
        let (lent, metrics, sent) = seen.expect("a value is there");
        let most = self.model.members[&id].prefetch;
        self.model.claim(id, most, &metrics, what);
        assert_eq!(sent, self.expected(self.model.room(), Sent::Full), "{what}");
        self.note_sent(sent, number, what);
        self.model.read(id, &[lent], what);
    }

    // ── How it stands ──

    /// How many values each group has missed, as its members say.
    fn dropped(&self) -> BTreeMap<usize, u64> {
        let of_queue = match &self.home {
            Home::Queue(queue) => Some((0, queue.metrics().groups[0].dropped)),
            Home::Topic(_) => None,
        };
        let of = |(id, reader): (&usize, &Reader)| match reader {
            Reader::Consumer(consumer) => Some((self.model.members[id].group, consumer.missed())),
            Reader::Taker(_) => None,
        };
        self.readers.iter().filter_map(of).chain(of_queue).collect()
    }

    fn compare(&mut self, what: &str) {
        let Metrics { sent, depth, blocked, producers, groups, .. } = self.home.metrics();
        let model = &mut self.model;
        assert_eq!((sent, producers), (model.end(), self.producers.len()), "{what}");
        assert_eq!((blocked > AT_ONCE, self.home.is_closed()), (self.has_waited, model.is_closed), "{what}");
        let mut rows: Vec<_> = groups.into_iter().map(|it| (it.name, it.members, it.lag, it.dropped)).collect();
        rows.sort_unstable();
        assert_eq!(rows, model.group_rows(), "{what}: name, members, lag, dropped");
        match model.lowest() {
            Some(lowest) => assert_eq!(depth, model.end() - lowest, "{what}: depth"),
            None => assert!(depth <= model.setting.capacity.min(model.end()), "{what}: depth {depth}"),
        }
        let alive = self.scales.alive();
        let expected = model.alive(depth);
        assert!(
            u64::try_from(alive).is_ok_and(|alive| expected.contains(&alive)),
            "{what}: {alive} alive of {expected:?}"
        );
        for (id, reader) in &self.readers {
            let lag = match reader {
                Reader::Taker(taker) => taker.lag(),
                Reader::Consumer(consumer) => {
                    let stands = (consumer.position(), consumer.missed());
                    assert_eq!(stands, (model.position(*id), model.dropped(*id)), "{what}: reader {id}");
                    consumer.lag()
                }
            };
            assert_eq!(lag, model.lag_of(*id), "{what}: lag of reader {id}");
        }
    }

    /// All that is left is read by who is there, and dropped with the last handle.
    fn end(mut self) {
        self.home.close();
        self.model.is_closed = true;
        let ids: Vec<_> = self.readers.keys().copied().collect();
        for round in 0.. {
            let before: Vec<_> = ids.iter().map(|id| self.model.next(*id)).collect();
            if before.iter().all(|answer| *answer == Answer::Closed) {
                break;
            }
            for reader in 0..ids.len() {
                self.read(reader, ReadWay::Try, &format!("at the end, {round}"));
                self.compare(&format!("at the end, {round}"));
            }
        }
        let Self { scales, home, producers, readers, .. } = self;
        drop((producers, home));
        drop(readers);
        assert_eq!(scales.alive(), 0, "at the end");
    }
}

fn index(meant: usize, count: usize) -> Option<usize> {
    (count > 0).then(|| meant % count)
}

/// What became of a value, which comes back if it was not sent.
fn outcome(sent: Result<(), SendError<Load>>, number: u64) -> Sent {
    sent.map_or_else(
        |SendError { value, refused: reason }| {
            assert_eq!(value.number, number, "another value came back");
            refused(Err(reason))
        },
        |()| Sent::Yes,
    )
}

fn refused(sent: Result<(), Refused>) -> Sent {
    match sent {
        Ok(()) => Sent::Yes,
        Err(Refused::Full(_)) => Sent::Full,
        Err(Refused::Closed(_)) => Sent::Closed,
    }
}
