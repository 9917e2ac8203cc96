//! A program that uses the store: opens it, sends, reads, commits, and tells the model what it was told.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use headwater::fs::Simulated;
use headwater::{Acks, Broker, Consumer, Error, Producer, Record, Start, Topic, Visibility};

use crate::image::{self, DIR, Found, GROUP, TOPIC};
use crate::model::{Loss, Model, Sent};
use crate::random::Random;

/// What is decided by a seed for a whole life of a data directory.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) partitions: u32,
    pub(crate) sizes: Sizes,
    pub(crate) has_group: bool,
    pub(crate) commit_acks: Acks,
    pub(crate) flush_messages: Option<u64>,
    pub(crate) has_unified_cache: bool,
    pub(crate) writes_back: bool,
}

/// How large values are. Segments are 64 KiB, the largest batch 16,320 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sizes {
    /// All the same: a record of a later session then fits exactly over one of an earlier.
    Same(usize),
    /// Up to so many bytes.
    Below(usize),
    /// Of all kinds, from nothing to as large as a batch may be.
    Mixed,
}

impl Settings {
    pub(crate) fn of(random: &mut Random) -> Self {
        let sizes = match random.below(8) {
            0..3 => Sizes::Same(random.pick(&[20, 150, 500, 1000])),
            3 | 4 => Sizes::Below(600),
            5 => Sizes::Same(random.pick(&[5000, 12_000])),
            _ => Sizes::Mixed,
        };
        Self {
            partitions: random.pick(&[1, 1, 2, 3]),
            sizes,
            has_group: random.one_in(8),
            commit_acks: random.pick(&[Acks::Synced, Acks::Synced, Acks::Appended]),
            flush_messages: random.one_in(8).then_some(3),
            has_unified_cache: !random.one_in(4),
            writes_back: !random.one_in(4),
        }
    }

    /// A machine with nothing on its disk.
    pub(crate) fn machine(&self, seed: u64) -> Simulated {
        let mut fs = Simulated::new(seed);
        if !self.has_unified_cache {
            fs = fs.without_unified_cache();
        }
        if !self.writes_back {
            fs = fs.without_write_back();
        }
        fs
    }
}

impl Sizes {
    fn one(self, random: &mut Random) -> usize {
        const LARGEST: u64 = 16_000;
        match self {
            Self::Same(size) => size,
            Self::Below(end) => random.index(end),
            Self::Mixed => match random.below(8) {
                0 => 0,
                1..4 => random.index(100),
                4 | 5 => random.index(2000),
                6 => 3900 + random.index(400), // where storing ends and writing begins
                _ => random.below(LARGEST) as usize,
            },
        }
    }
}

/// One call on the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Call {
    Send(Acks),
    /// Several, then a wait for all of them.
    SendNowait(Acks),
    SendBatch(Acks),
    Read(Visibility),
    Commit,
}

impl Call {
    pub(crate) fn any(settings: &Settings, random: &mut Random) -> Self {
        let acks = random.pick(&[Acks::Synced, Acks::Appended]);
        match random.below(if settings.has_group { 14 } else { 11 }) {
            0..5 => Self::Send(acks),
            5..7 => Self::SendNowait(acks),
            7..10 => Self::SendBatch(acks),
            10 => Self::Read(random.pick(&[Visibility::Committed, Visibility::Durable])),
            _ => Self::Commit,
        }
    }
}

/// What the program and whoever watches it share.
pub(crate) struct World {
    pub(crate) model: Mutex<Model>,
    /// Open in the session that is running. Its numbers are looked at before every operation.
    topic: Mutex<Option<Topic>>,
    /// The ends that were published last: of the log and of what is durable.
    published: Mutex<Vec<(u64, u64)>>,
    /// A sync may fail without anybody being told at once: readers then see no more than what is durable.
    pub(crate) has_faults: AtomicBool,
    /// The first that was found by whoever watches.
    pub(crate) violation: Mutex<Option<String>>,
}

impl World {
    pub(crate) fn new(model: Model) -> Arc<Self> {
        Arc::new(Self {
            model: Mutex::new(model),
            topic: Mutex::new(None),
            published: Mutex::new(Vec::new()),
            has_faults: AtomicBool::new(false),
            violation: Mutex::new(None),
        })
    }

    /// What the store says of itself at this moment holds from this moment on: readers act on it.
    pub(crate) fn note_published(&self) -> Result<(), String> {
        let Some(topic) = held(&self.topic).clone() else { return Ok(()) };
        let mut model = held(&self.model);
        let mut published = held(&self.published);
        for (partition, metrics) in topic.metrics().iter().enumerate() {
            let (end, durable) = (metrics.log_end, metrics.durable_end);
            let log = &mut model.partitions[partition];
            if durable > end || end > log.sent.len() as u64 || end < log.appended {
                let problem = format!("{} acked, {} sent", log.appended, log.sent.len());
                return Err(format!("partition {partition}: {metrics:?} cannot be with {problem}"));
            }
            let before = published.get(partition).copied().unwrap_or_default();
            if end < before.0 || durable < before.1 {
                return Err(format!("partition {partition}: {metrics:?} goes back behind {before:?}"));
            }
            log.synced = log.synced.max(durable);
        }
        *published = topic.metrics().iter().map(|metrics| (metrics.log_end, metrics.durable_end)).collect();
        Ok(())
    }

    pub(crate) fn take_violation(&self) -> Result<(), String> {
        held(&self.violation).take().map_or(Ok(()), Err)
    }
}

/// A lock that a panic elsewhere does not take away: the panic is told by whoever had it.
pub(crate) fn held<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One open broker and what a program has of it.
pub(crate) struct Session {
    world: Arc<World>,
    settings: Settings,
    broker: Broker,
    topic: Topic,
    synced: Producer,
    appended: Producer,
    group: Option<Consumer>,
}

impl Session {
    /// Opens what is there, checks it, and goes on from it. The inner error is the store's.
    pub(crate) fn open(
        fs: &Simulated,
        world: &Arc<World>,
        settings: &Settings,
        loss: Loss,
    ) -> Result<Result<Self, Error>, String> {
        let model = held(&world.model).clone();
        let found = image::look(fs, &model, loss)?;
        Self::of(found, world, settings, loss)
    }

    /// Goes on from what was found.
    pub(crate) fn of(
        found: Found,
        world: &Arc<World>,
        settings: &Settings,
        loss: Loss,
    ) -> Result<Result<Self, Error>, String> {
        let Found { broker, topic, ends, committed } = found;
        {
            let mut model = held(&world.model);
            if let Some(topic) = &topic {
                model.adopt(&ends, topic.metrics().iter().map(|metrics| metrics.durable_end));
            }
            for (partition, found) in model.partitions.iter_mut().zip(committed) {
                partition.commits.adopt(found, loss);
            }
            model.begin_session();
        }
        let topic = match topic {
            Some(topic) => Ok(topic),
            None => create(&broker, settings),
        };
        let open = |topic: Topic| -> Result<Self, Error> {
            held(&world.model).exists = true;
            held(&world.published).clear();
            // All that is sent together in one call fits one batch, where it may.
            let producer = topic.producer_builder().batch_bytes(1 << 20);
            let (synced, appended) = (producer.clone().build()?, producer.acks(Acks::Appended).build()?);
            *held(&world.topic) = Some(topic.clone());
            let (world, settings) = (Arc::clone(world), settings.clone());
            Ok(Self { world, settings, broker, topic, synced, appended, group: None })
        };
        Ok(topic.and_then(open))
    }

    /// Makes a call and tells the model how it went. The inner error is the store's, the outer is a broken promise.
    pub(crate) fn call(&mut self, call: Call, random: &mut Random) -> Result<Result<(), Error>, String> {
        let called = match call {
            Call::Send(acks) => self.send(acks, random),
            Call::SendNowait(acks) => self.send_nowait(acks, random),
            Call::SendBatch(acks) => self.send_batch(acks, random),
            Call::Read(visibility) => self.read(visibility),
            Call::Commit => self.commit(random),
        };
        let called = called.map_err(|problem| format!("{call:?}: {problem}"))?;
        self.world.take_violation()?;
        self.world.note_published()?;
        Ok(called)
    }

    fn model(&self) -> std::sync::MutexGuard<'_, Model> {
        held(&self.world.model)
    }

    fn producer(&mut self, acks: Acks) -> &mut Producer {
        if acks == Acks::Synced { &mut self.synced } else { &mut self.appended }
    }

    fn send(&mut self, acks: Acks, random: &mut Random) -> Result<Result<(), Error>, String> {
        let partition = random.below(u64::from(self.settings.partitions)) as u32;
        let size = self.settings.sizes.one(random);
        let (first, sent) = self.model().send(partition, &[size], true);
        let answer = self.producer(acks).send(record(&sent[0], partition)).map(|metadata| metadata.offset);
        Ok(match answer {
            Ok(offset) => self.acked(partition, acks, first, &[offset]).map(Ok)?,
            Err(refused) => Err(self.refused(partition, first, *refused.error)),
        })
    }

    fn send_nowait(&mut self, acks: Acks, random: &mut Random) -> Result<Result<(), Error>, String> {
        let partition = random.below(u64::from(self.settings.partitions)) as u32;
        let (sizes, is_one_batch) = self.several(random);
        let (first, sent) = self.model().send(partition, &sizes, is_one_batch);
        let mut tickets = Vec::new();
        let mut failed = None;
        for sent in &sent {
            match self.producer(acks).send_nowait(record(sent, partition)) {
                Ok(ticket) => tickets.push(ticket),
                Err(refused) => {
                    failed = Some(*refused.error);
                    break;
                }
            }
        }
        // What is in the log or may be: a record that comes back is not, and one behind it may be.
        let mut kept = Vec::new();
        let mut offsets = Vec::new();
        for (ticket, sent) in tickets.into_iter().zip(sent) {
            match ticket.wait() {
                Ok(offset) => {
                    if offset != first + kept.len() as u64 {
                        return Err(format!("acked at {offset}, and {} was next", first + kept.len() as u64));
                    }
                    offsets.push(offset);
                    kept.push(sent);
                }
                Err(refused) => {
                    if refused.record.is_none() {
                        kept.push(sent);
                        if !refused.error.is_fenced() {
                            return Err(format!("a record may be in the log, with {}", refused.error));
                        }
                    }
                    failed.get_or_insert(*refused.error);
                }
            }
        }
        // What failed is told once, here or by the next flush.
        let _ = self.producer(acks).flush();
        self.model().replace(partition, first, kept);
        if !offsets.is_empty() {
            self.acked(partition, acks, first, &offsets)?;
        }
        Ok(match failed {
            None => Ok(()),
            Some(error) if error.is_fenced() => {
                self.model().at(partition).is_fenced = true;
                Err(error)
            }
            Some(error) => Err(error),
        })
    }

    fn send_batch(&mut self, acks: Acks, random: &mut Random) -> Result<Result<(), Error>, String> {
        // One batch for each partition that gets any.
        let mut all: Vec<(u32, u64, Vec<Sent>)> = Vec::new();
        for partition in 0..self.settings.partitions {
            if partition == 0 || random.one_in(2) {
                let (sizes, is_one_batch) = self.several(random);
                let (first, sent) = self.model().send(partition, &sizes, is_one_batch);
                all.push((partition, first, sent));
            }
        }
        let records: Vec<Record<'_>> =
            all.iter().flat_map(|(partition, _, sent)| sent.iter().map(|sent| record(sent, *partition))).collect();
        let answer = self.producer(acks).send_batch(&records);
        let (answers, error) = match answer {
            Ok(sent) => (sent.into_iter().map(Some).collect::<Vec<_>>(), None),
            Err(refused) => (refused.sent, Some(*refused.error)),
        };
        let mut answers = answers.into_iter();
        for (partition, first, sent) in &all {
            let mine: Vec<_> = answers.by_ref().take(sent.len()).collect();
            let there: Vec<u64> = mine.iter().map_while(|answer| answer.map(|metadata| metadata.offset)).collect();
            if mine[there.len()..].iter().any(Option::is_some) {
                return Err(format!("partition {partition}: of one batch some later records are there: {mine:?}"));
            }
            match &error {
                None => self.acked(*partition, acks, *first, &there)?,
                Some(error) => {
                    let is_fenced = matches!(error, Error::Fenced { partition: at, .. } if at.partition == *partition);
                    if is_fenced {
                        self.model().at(*partition).is_fenced = true;
                        continue;
                    }
                    // In the log, and perhaps not on the disk.
                    if !there.is_empty() {
                        self.acked(*partition, Acks::Appended, *first, &there)?;
                    }
                    self.model().take_back(*partition, first + there.len() as u64);
                }
            }
        }
        Ok(error.map_or(Ok(()), Err))
    }

    fn read(&mut self, visibility: Visibility) -> Result<Result<(), Error>, String> {
        let model = self.model().clone();
        let ends = image::read(&self.topic, &model, visibility)?;
        // After a kill what was synced before is durable, and said to be only after the next sync.
        let durable = self.topic.metrics().into_iter().map(|metrics| metrics.durable_end);
        for ((partition, end), durable) in ends.into_iter().enumerate().zip(durable) {
            let log = &model.partitions[partition];
            let may_be_fenced = log.is_fenced || self.world.has_faults.load(Ordering::Relaxed);
            let least = if visibility == Visibility::Durable || may_be_fenced { durable } else { log.appended };
            if end < least {
                return Err(format!("partition {partition}: a reader sees no more than {end}, {least} were acked"));
            }
            if visibility == Visibility::Durable {
                let log = &mut self.model().partitions[partition];
                log.synced = log.synced.max(end);
            }
        }
        Ok(Ok(()))
    }

    fn commit(&mut self, random: &mut Random) -> Result<Result<(), Error>, String> {
        if self.group.is_none() {
            let commit_acks = self.settings.commit_acks;
            let builder = self.broker.consumer(GROUP, Start::Earliest).topics([TOPIC]).commit_acks(commit_acks);
            match builder.max_poll_records(1 + random.index(20)).build() {
                Ok(consumer) => self.group = Some(consumer),
                Err(error) => return Ok(Err(error)),
            }
        }
        let consumer = self.group.as_mut().expect("it was just made");
        let before = consumer.positions();
        let batch = match consumer.poll(Duration::ZERO) {
            Ok(Some(batch)) => batch,
            Ok(None) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error)),
        };
        let mut ends: Vec<u64> = before.iter().map(|(_, position)| *position).collect();
        for record in &batch {
            ends[record.partition() as usize] = record.offset() + 1;
        }
        let moved: Vec<(usize, u64)> =
            ends.iter().copied().enumerate().filter(|(at, end)| before[*at].1 != *end).collect();
        {
            let mut model = held(&self.world.model);
            for (partition, end) in &moved {
                model.partitions[*partition].commits.tried.push(*end);
            }
        }
        if let Err(error) = batch.commit() {
            // Where it stands is not known; the next consumer asks.
            self.group = None;
            return Ok(Err(error));
        }
        let mut model = held(&self.world.model);
        for (partition, end) in moved {
            let log = &mut model.partitions[partition];
            log.commits.appended = Some(end);
            if self.settings.commit_acks == Acks::Synced {
                log.commits.synced = Some(end);
                log.commits.tried.clear();
                log.synced = log.synced.max(end);
            }
        }
        Ok(Ok(()))
    }

    /// Sends records of these sizes, one by one.
    pub(crate) fn send_sized(&mut self, acks: Acks, sizes: &[usize]) -> Result<(), String> {
        for size in sizes {
            let (first, sent) = self.model().send(0, &[*size], true);
            let answer = self.producer(acks).send(record(&sent[0], 0)).map(|metadata| metadata.offset);
            let offset = answer.map_err(|refused| refused.to_string())?;
            self.acked(0, acks, first, &[offset])?;
        }
        Ok(())
    }

    /// Sizes of records that are sent together, and whether they fit one batch.
    fn several(&self, random: &mut Random) -> (Vec<usize>, bool) {
        const BATCH: usize = 16_320;
        let sizes: Vec<usize> = (0..=random.index(5)).map(|_| self.settings.sizes.one(random)).collect();
        let is_one_batch = 61 + sizes.iter().map(|size| size + 64).sum::<usize>() < BATCH;
        (sizes, is_one_batch)
    }

    /// The store said where these records are, and how safe they are.
    fn acked(&self, partition: u32, acks: Acks, first: u64, offsets: &[u64]) -> Result<(), String> {
        if !offsets.iter().copied().eq(first..first + offsets.len() as u64) {
            return Err(format!("partition {partition}: acked at {offsets:?}, and {first} was next"));
        }
        let mut model = self.model();
        let log = model.at(partition);
        if log.is_fenced {
            return Err(format!("partition {partition}: {offsets:?} were acked after a failed sync"));
        }
        let end = first + offsets.len() as u64;
        log.appended = log.appended.max(end);
        if acks == Acks::Synced {
            log.synced = log.synced.max(end);
        }
        Ok(())
    }

    /// The store said that the records from `from` on are not there, or may be.
    fn refused(&self, partition: u32, from: u64, error: Error) -> Error {
        let mut model = self.model();
        if error.is_fenced() {
            model.at(partition).is_fenced = true;
        } else {
            model.take_back(partition, from);
        }
        error
    }

    /// Ends it in order: everything is on the disk when this returns without an error.
    pub(crate) fn close(self) -> Result<Result<(), Error>, String> {
        let Self { world, broker, .. } = self;
        let closed = broker.close(Duration::from_secs(60));
        *held(&world.topic) = None;
        if closed.is_ok() {
            let mut model = held(&world.model);
            for log in &mut model.partitions {
                if log.is_fenced {
                    return Err("a broker with a fenced partition was closed as if all were well".into());
                }
                log.synced = log.appended;
                log.commits.synced = log.commits.appended;
                log.commits.tried.clear();
            }
        }
        world.take_violation()?;
        Ok(closed)
    }

    /// Lets go of everything at once.
    pub(crate) fn abandon(self) {
        *held(&self.world.topic) = None;
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("dir", &DIR).field("settings", &self.settings).finish_non_exhaustive()
    }
}

fn create(broker: &Broker, settings: &Settings) -> Result<Topic, Error> {
    let mut topic = broker.topic(TOPIC).partitions(settings.partitions).segment_bytes(64 << 10).flush_interval(None);
    if let Some(records) = settings.flush_messages {
        topic = topic.flush_messages(records);
    }
    topic.open_or_create()
}

fn record(sent: &Sent, partition: u32) -> Record<'_> {
    Record::new(&*sent.value).key(&sent.key).partition(partition)
}
