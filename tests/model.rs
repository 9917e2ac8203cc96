//! Random operations of the public API against a plain model: a `Vec` a partition and a map of committed offsets.
//!
//! What fails here in the field: two features that are right by themselves and wrong one after the other. After each
//! step the broker is asked for everything the model knows. A seed that fails is printed; `HEADWATER_MODEL_SEED=n`
//! runs that one alone.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use headwater::fs::Simulated;
use headwater::{
    Acks, Broker, Consumer, Ended, Producer, Record, Start, Ticket, Topic, TopicName, TopicPartition, Visibility,
};

const PARTITIONS: usize = 3;
const STEPS: usize = 250;
const GROUP: &str = "readers";
/// So long that nothing waits for its end.
const FOR_EVER: Duration = Duration::from_secs(100_000);
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_broker_in_memory_does_what_the_model_says() {
    for seed in seeds(0..12) {
        println!("seed {seed}");
        run(seed, Home::Machine(Simulated::memory()));
    }
}

#[test]
fn a_broker_on_a_simulated_machine_does_what_the_model_says_over_kills_and_power_cuts() {
    for seed in seeds(100..124) {
        println!("seed {seed}");
        run(seed, Home::Machine(Simulated::new(seed)));
    }
}

#[test]
fn a_broker_on_a_disk_does_what_the_model_says() {
    for seed in seeds(200..203) {
        println!("seed {seed}");
        let dir = tempfile::tempdir().expect("a directory");
        run(seed, Home::Disk(dir.path().to_path_buf()));
    }
}

fn seeds(usual: Range<u64>) -> Vec<u64> {
    match std::env::var("HEADWATER_MODEL_SEED") {
        Ok(seed) => vec![seed.parse().expect("HEADWATER_MODEL_SEED is a number")],
        Err(_) => usual.collect(),
    }
}

/// Where the broker lives, over all its sessions.
enum Home {
    Machine(Simulated),
    Disk(PathBuf),
}

/// What a session can end with.
#[derive(Clone, Copy, PartialEq, Debug)]
enum End {
    Close,
    Drop,
    Kill,
    Crash,
}

/// What should be there.
#[derive(Default)]
struct Model {
    /// Values by partition and offset.
    log: [Vec<Vec<u8>>; PARTITIONS],
    /// Up to here at least it is on the disk.
    durable: [usize; PARTITIONS],
    /// Taken by `send_nowait`, held back, in order.
    held: [Vec<Vec<u8>>; PARTITIONS],
    /// Batches are numbered: the last number, those that are held, and the first offsets of those that were sent.
    batch: u64,
    holding: [u64; PARTITIONS],
    bases: BTreeMap<u64, u64>,
    committed: BTreeMap<usize, u64>,
    position: [u64; PARTITIONS],
}

impl Model {
    /// What is held for a partition goes into the log.
    fn submit(&mut self, partition: usize) {
        let held = std::mem::take(&mut self.held[partition]);
        if !held.is_empty() {
            self.bases.insert(self.holding[partition], self.end(partition));
        }
        self.log[partition].extend(held);
    }

    fn submit_all(&mut self) {
        (0..PARTITIONS).for_each(|partition| self.submit(partition));
    }

    fn end(&self, partition: usize) -> u64 {
        self.log[partition].len() as u64
    }

    /// A ticket says where its record is.
    fn check(&self, taken: Taken, what: &str) {
        let Taken { ticket, partition, batch, index } = taken;
        let expected = self.bases.get(&batch).map(|base| base + index as u64);
        let offset = ticket.wait().map_err(|refused| refused.error);
        assert_eq!(Some(offset.expect(what)), expected, "{what}: a ticket of partition {partition}");
    }

    fn sync(&mut self, partition: usize) {
        self.durable[partition] = self.log[partition].len();
    }

    /// A consumer of the group begins anew.
    fn rejoin(&mut self) {
        for partition in 0..PARTITIONS {
            self.position[partition] = self.committed.get(&partition).copied().unwrap_or(0);
        }
    }
}

/// A broker that is open, and what was made from it. Fields drop in this order.
struct Session {
    tickets: VecDeque<Taken>,
    consumer: Consumer,
    synced: Producer,
    appended: Producer,
    topic: Topic,
    broker: Broker,
}

/// A ticket, and which record of which batch it is for.
struct Taken {
    ticket: Ticket,
    partition: usize,
    batch: u64,
    index: usize,
}

struct Random(u64);

impl Random {
    /// splitmix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Mostly small, some beyond what is stored through a map, some that fill a segment soon.
    fn value(&mut self, number: usize) -> Vec<u8> {
        let len = [0, 10, 100, 700, 1_500, 9_000][self.below(6)];
        let mut value = format!("{number}:").into_bytes();
        value.resize(value.len() + len, b'a' + (number % 26) as u8);
        value
    }
}

fn place(partition: usize) -> TopicPartition {
    TopicPartition { topic: TopicName::new("t").expect("a name"), partition: partition as u32 }
}

fn open(home: &Home) -> Session {
    let builder = match home {
        Home::Machine(fs) => Broker::builder().fs(fs.clone()).data_dir("/data"),
        Home::Disk(path) => Broker::builder().data_dir(path),
    };
    let broker = builder.min_free_bytes(0).open().expect("the broker opens");
    let topic = broker.topic("t").partitions(PARTITIONS as u32).segment_bytes(64 << 10).flush_interval(None);
    let topic = topic.open_or_create().expect("the topic opens");
    let producer = |acks| topic.producer_builder().acks(acks).linger(FOR_EVER).build().expect("a producer");
    let (synced, appended) = (producer(Acks::Synced), producer(Acks::Appended));
    let consumer = join(&broker);
    Session { tickets: VecDeque::new(), consumer, synced, appended, topic, broker }
}

fn join(broker: &Broker) -> Consumer {
    let builder = broker.consumer(GROUP, Start::Earliest).topics(["t"]).max_poll_records(7);
    builder.build().expect("the group is free")
}

fn run(seed: u64, mut home: Home) {
    let mut random = Random(seed);
    let mut model = Model::default();
    let mut session = open(&home);
    let mut sent = 0;
    for step in 0..STEPS {
        let operation = random.below(20);
        let what = format!("seed {seed}, step {step}, operation {operation}");
        match operation {
            0..4 => send(&mut session, &mut model, &mut random, &mut sent, &what),
            4..8 => send_nowait(&mut session, &mut model, &mut random, &mut sent),
            8..10 => send_batch(&mut session, &mut model, &mut random, &mut sent, &what),
            10 => {
                session.appended.flush().expect(&what);
                model.submit_all();
            }
            11 => wait(&mut session, &mut model, &what),
            12..16 => poll(&mut session, &mut model, &mut random, &what),
            16 => seek(&mut session, &mut model, &mut random, &what),
            17 => {
                drop(session.consumer);
                session.consumer = join(&session.broker);
                model.rejoin();
            }
            _ if random.below(3) > 0 => {}
            _ => {
                let end = match home {
                    Home::Disk(_) => [End::Close, End::Drop][random.below(2)],
                    Home::Machine(_) => [End::Close, End::Drop, End::Kill, End::Crash][random.below(4)],
                };
                session = reopen(session, &mut home, &mut model, end, &mut random, &what);
            }
        }
        compare(&session, &model, &mut random, &what);
    }
    compare_all(&session.topic, &model, &format!("seed {seed}, at the end"));
}

fn send(session: &mut Session, model: &mut Model, random: &mut Random, sent: &mut usize, what: &str) {
    let (partition, value) = (random.below(PARTITIONS), random.value(*sent));
    *sent += 1;
    let record = Record::new(&value).partition(partition as u32);
    let is_synced = random.below(2) == 0;
    let expected = if is_synced {
        model.end(partition)
    } else {
        // The producer that holds records: those come first.
        model.submit(partition);
        model.end(partition)
    };
    let producer = if is_synced { &mut session.synced } else { &mut session.appended };
    let at = producer.send(record).map_err(|refused| refused.error).expect(what);
    assert_eq!((at.partition as usize, at.offset), (partition, expected), "{what}");
    model.log[partition].push(value);
    if is_synced {
        model.sync(partition);
    }
}

fn send_nowait(session: &mut Session, model: &mut Model, random: &mut Random, sent: &mut usize) {
    let (partition, value) = (random.below(PARTITIONS), random.value(*sent));
    // Held back only as long as the batch is not full: the model does not count bytes, so it is kept well below.
    if model.held[partition].iter().map(Vec::len).sum::<usize>() + value.len() > 10_000 {
        return;
    }
    *sent += 1;
    let ticket = session.appended.send_nowait(Record::new(&value).partition(partition as u32)).expect("taken");
    model.held[partition].push(value);
    let index = model.held[partition].len() - 1;
    if index == 0 {
        // Numbers are given once: each partition's batches have their own.
        model.batch += 1;
        model.holding[partition] = model.batch;
    }
    session.tickets.push_back(Taken { ticket, partition, batch: model.holding[partition], index });
}

/// Waits for the oldest ticket, which sends its batch if that is held, and no other.
fn wait(session: &mut Session, model: &mut Model, what: &str) {
    let Some(taken) = session.tickets.pop_front() else { return };
    if !model.bases.contains_key(&taken.batch) {
        model.submit(taken.partition);
    }
    model.check(taken, what);
}

fn send_batch(session: &mut Session, model: &mut Model, random: &mut Random, sent: &mut usize, what: &str) {
    let count = random.below(6);
    let values: Vec<_> = (0..count).map(|at| (random.below(PARTITIONS), random.value(*sent + at))).collect();
    *sent += count;
    let is_synced = random.below(2) == 0;
    let records: Vec<_> = values.iter().map(|(at, value)| Record::new(value).partition(*at as u32)).collect();
    let producer = if is_synced { &mut session.synced } else { &mut session.appended };
    let metadata = producer.send_batch(&records).expect(what);
    assert_eq!(metadata.len(), count, "{what}");
    for ((partition, value), at) in values.into_iter().zip(metadata) {
        if !is_synced {
            model.submit(partition);
        }
        assert_eq!((at.partition as usize, at.offset), (partition, model.end(partition)), "{what}");
        model.log[partition].push(value);
        if is_synced {
            model.sync(partition);
        }
    }
}

fn poll(session: &mut Session, model: &mut Model, random: &mut Random, what: &str) {
    let commits = random.below(2) == 0;
    let Some(batch) = session.consumer.poll(Duration::ZERO).expect(what) else {
        for partition in 0..PARTITIONS {
            assert_eq!(model.position[partition], model.end(partition), "{what}: nothing was lent");
        }
        return;
    };
    assert!((1..=7).contains(&batch.len()) && batch.skipped().is_empty(), "{what}: {batch:?}");
    let mut touched = Vec::new();
    for record in &batch {
        let partition = record.partition() as usize;
        assert_eq!(record.offset(), model.position[partition], "{what}: partition {partition}");
        assert_eq!(record.value(), model.log[partition][record.offset() as usize], "{what}: partition {partition}");
        model.position[partition] += 1;
        touched.push(partition);
    }
    if commits {
        batch.commit().expect(what);
        for partition in touched {
            model.committed.insert(partition, model.position[partition]);
            // The records are made as safe as the commit.
            let position = model.position[partition] as usize;
            model.durable[partition] = model.durable[partition].max(position);
        }
    }
}

fn seek(session: &mut Session, model: &mut Model, random: &mut Random, what: &str) {
    let partition = random.below(PARTITIONS);
    let offset = random.below(model.log[partition].len() + 2) as u64;
    match session.consumer.seek(&place(partition), offset) {
        Ok(()) => model.position[partition] = offset,
        Err(error) => assert_eq!(error.kind(), "offset_out_of_range", "{what}"),
    }
    assert_eq!(model.position[partition] == offset, offset <= model.end(partition), "{what}: seek to {offset}");
}

fn reopen(session: Session, home: &mut Home, model: &mut Model, end: End, random: &mut Random, what: &str) -> Session {
    let Session { tickets, consumer, synced, appended, topic, broker } = session;
    let is_mortal = matches!(home, Home::Machine(fs) if fs.files().len() > 1 && !format!("{fs:?}").contains("memory"));
    let end = if end == End::Crash && !is_mortal { End::Kill } else { end };
    match end {
        End::Close => {
            broker.close(PATIENCE).expect(what);
            model.submit_all();
            (0..PARTITIONS).for_each(|partition| model.sync(partition));
            tickets.into_iter().for_each(|taken| model.check(taken, what));
            drop((consumer, synced, appended, topic));
        }
        End::Drop => {
            model.submit_all();
            // In the order that a careless program may have.
            drop(broker);
            drop(topic);
            if random.below(2) == 0 {
                drop(tickets);
                drop((appended, synced, consumer));
            } else {
                drop((consumer, synced, appended));
                tickets.into_iter().for_each(|taken| model.check(taken, what));
            }
        }
        End::Kill | End::Crash => {
            let Home::Machine(fs) = home else { unreachable!("a disk is not killed here") };
            let next = if end == End::Kill { fs.kill() } else { fs.crash(random.next()) };
            model.held = Default::default();
            *fs = next;
            // The dead process's handles lead to the machine that it died on.
            drop((tickets, consumer, synced, appended, topic, broker));
        }
    }
    let next = open(home);
    for (partition, report) in next.topic.recovery().enumerate() {
        let found = next.topic.offsets(partition as u32).expect(what).end as usize;
        if end == End::Crash {
            let durable = model.durable[partition];
            assert!(
                (durable..=model.log[partition].len()).contains(&found),
                "{what}: partition {partition} ends at {found} after a power cut; {durable} were synced, {} sent",
                model.log[partition].len()
            );
            model.log[partition].truncate(found);
            model.sync(partition);
        }
        let is_as_expected = match end {
            End::Close => report.ended == Ended::Closed && report.torn.is_none(),
            End::Crash => true,
            // Nothing may have been appended since the last clean end.
            End::Drop | End::Kill => report.torn.is_none() && report.ended != Ended::MachineDied,
        };
        assert!(is_as_expected && report.skipped.is_empty(), "{what}: {end:?}: {report:?}");
    }
    model.rejoin();
    compare_all(&next.topic, model, &format!("{what}, after {end:?}"));
    next
}

/// What can be asked without reading.
fn compare(session: &Session, model: &Model, random: &mut Random, what: &str) {
    let Session { consumer, topic, .. } = session;
    let metrics = topic.metrics();
    let mut lag = 0;
    for (partition, metrics) in metrics.iter().enumerate() {
        let end = model.end(partition);
        assert_eq!(topic.offsets(partition as u32).expect(what), 0..end, "{what}: partition {partition}");
        let position = model.position[partition];
        assert_eq!(consumer.position(&place(partition)), Some(position), "{what}: partition {partition}");
        let committed = model.committed.get(&partition).copied();
        assert_eq!(consumer.committed(&place(partition)), committed, "{what}: partition {partition}");
        assert_eq!(consumer.partition_lag(&place(partition)), Some(end - position), "{what}: partition {partition}");
        lag += end - position;
        let durable = metrics.durable_end;
        assert_eq!(metrics.log_end, end, "{what}: partition {partition}");
        assert!(durable <= end, "{what}: partition {partition} is durable to {durable} and ends at {end}");
    }
    assert_eq!(consumer.lag(), lag, "{what}");
    let partition = random.below(PARTITIONS);
    let from = random.below(model.log[partition].len() + 1);
    compare_from(topic, model, partition, from, 5, what);
}

/// Everything, record by record.
fn compare_all(topic: &Topic, model: &Model, what: &str) {
    (0..PARTITIONS).for_each(|partition| compare_from(topic, model, partition, 0, usize::MAX, what));
    let mut durable = topic.consumer(Start::Earliest).visibility(Visibility::Durable).build().expect(what);
    while let Some(batch) = durable.poll(Duration::ZERO).expect(what) {
        for record in &batch {
            assert_eq!(record.value(), model.log[record.partition() as usize][record.offset() as usize], "{what}");
        }
    }
}

/// Some records of one partition.
fn compare_from(topic: &Topic, model: &Model, partition: usize, from: usize, count: usize, what: &str) {
    let mut reader = topic.consumer(Start::Earliest).max_poll_records(count.min(500)).build().expect(what);
    for other in 0..PARTITIONS {
        let to = if other == partition { from } else { model.log[other].len() };
        reader.seek(&place(other), to as u64).expect(what);
    }
    let mut next = from;
    while let Some(batch) = reader.poll(Duration::ZERO).expect(what) {
        for record in &batch {
            assert_eq!((record.partition() as usize, record.offset()), (partition, next as u64), "{what}");
            assert_eq!(record.value(), model.log[partition][next], "{what}: partition {partition}, offset {next}");
            next += 1;
        }
        if next - from >= count {
            return;
        }
    }
    assert_eq!(next, model.log[partition].len(), "{what}: partition {partition} read from {from}");
}
