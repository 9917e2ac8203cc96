//! What the tests share: brokers on each kind of file system, readers, waiting with a deadline, and a gate that holds
//! an operation of the file system until the test lets it go.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use headwater::fs::Simulated;
use headwater::fs::simulated::{OpKind, Operation};
use headwater::{
    Acks, Broker, BrokerBuilder, Consumer, OwnedRecord, Producer, Start, Topic, TopicName, TopicPartition,
};

/// Long enough for anything that happens at all on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// So long that nothing in a test waits for its end.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(100_000);
/// The smallest segment there is.
pub(crate) const SMALL: u64 = 64 << 10;
/// The directory of a broker on a simulated machine.
pub(crate) const DATA: &str = "/data";

/// A broker to be set up on a machine of its own.
pub(crate) fn builder_on(fs: &Simulated) -> BrokerBuilder {
    Broker::builder().fs(fs.clone()).data_dir(DATA).min_free_bytes(0)
}

/// A broker on a simulated machine.
pub(crate) fn open_on(fs: &Simulated) -> Broker {
    builder_on(fs).open().expect("the broker opens")
}

/// A machine whose kernel writes nothing back by itself, so that what is unsynced is lost by `crash(0)`.
pub(crate) fn machine() -> Simulated {
    Simulated::new(1).without_write_back()
}

/// A directory that is gone when the test is.
pub(crate) fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

/// A broker on a real directory.
pub(crate) fn open_dir(path: &Path) -> Broker {
    Broker::open(path).expect("the broker opens")
}

/// Ends a broker in order.
pub(crate) fn close(broker: Broker) {
    broker.close(PATIENCE).expect("the broker closes");
}

/// A topic with the smallest segments.
pub(crate) fn small_topic(broker: &Broker, name: &str) -> Topic {
    broker.topic(name).segment_bytes(SMALL).open_or_create().expect("the topic opens")
}

/// A producer whose records are taken as soon as they are in the page cache, and sent at once.
pub(crate) fn quick(topic: &Topic) -> Producer {
    topic.producer_builder().acks(Acks::Appended).linger(Duration::ZERO).build().expect("a producer")
}

/// A producer that holds records back until somebody asks for them.
pub(crate) fn patient(topic: &Topic, acks: Acks) -> Producer {
    topic.producer_builder().acks(acks).linger(FOR_EVER).build().expect("a producer")
}

pub(crate) fn partition_of(topic: &str, partition: u32) -> TopicPartition {
    TopicPartition { topic: TopicName::new(topic).expect("a good name"), partition }
}

/// A consumer of one topic from its beginning, without a group.
pub(crate) fn reader(topic: &Topic) -> Consumer {
    topic.consumer(Start::Earliest).build().expect("a consumer")
}

/// A record as it was read.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Read {
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    pub(crate) value: String,
}

/// What is there for a consumer now.
pub(crate) fn drain(consumer: &mut Consumer) -> Vec<Read> {
    let mut read = Vec::new();
    while let Some(batch) = consumer.poll(Duration::ZERO).expect("a poll") {
        read.extend(batch.iter().map(|record| Read {
            partition: record.partition(),
            offset: record.offset(),
            value: String::from_utf8_lossy(record.value()).into_owned(),
        }));
    }
    read
}

/// All values of a topic, partition by partition.
pub(crate) fn values(topic: &Topic) -> Vec<String> {
    let mut read = drain(&mut reader(topic));
    read.sort();
    read.into_iter().map(|record| record.value).collect()
}

/// All records of a topic's partition 0, whole.
pub(crate) fn records(topic: &Topic) -> Vec<OwnedRecord> {
    let mut consumer = reader(topic);
    let mut read = Vec::new();
    while let Some(batch) = consumer.poll(Duration::ZERO).expect("a poll") {
        read.extend(batch.iter().map(|record| record.to_owned_record()));
    }
    read
}

/// `v0`, `v1` and so on.
pub(crate) fn numbered(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("v{number}")).collect()
}

/// Waits until the answer is yes.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        thread::yield_now();
    }
}

/// The result of a thread that is to end.
#[track_caller]
pub(crate) fn joined<T>(what: &str, thread: JoinHandle<T>) -> T {
    until(what, || thread.is_finished());
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Runs a future on this thread, which sleeps until it is woken.
#[track_caller]
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        assert!(Instant::now() < deadline, "a future was not woken");
        thread::park_timeout(PATIENCE);
    }
}

/// A waker that counts.
#[derive(Default)]
pub(crate) struct Woken(AtomicUsize);

impl Woken {
    pub(crate) fn times(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Holds operations of one kind on a machine until it is opened.
pub(crate) struct Gate(Arc<(Mutex<Held>, Condvar)>);

#[derive(Default)]
struct Held {
    is_open: bool,
    waiting: usize,
}

impl Gate {
    /// Operations of this kind on paths that `is_meant` wait from now on.
    pub(crate) fn hold(fs: &Simulated, kind: OpKind, is_meant: impl Fn(&Path) -> bool + Send + Sync + 'static) -> Self {
        let held: Arc<(Mutex<Held>, Condvar)> = Arc::default();
        let theirs = Arc::clone(&held);
        fs.on_operation(move |_, operation: Operation<'_>| {
            if operation.kind != kind || !is_meant(operation.path) {
                return;
            }
            let (state, changed) = &*theirs;
            let mut state = state.lock().expect("nobody panics under it");
            state.waiting += 1;
            while !state.is_open {
                state = changed.wait(state).expect("nobody panics under it");
            }
            state.waiting -= 1;
        });
        Self(held)
    }

    /// Waits until somebody stands before the gate.
    pub(crate) fn until_somebody_waits(&self) {
        until("somebody comes to the gate", || self.0.0.lock().expect("nobody panics under it").waiting > 0);
    }

    /// Lets everybody through from now on.
    pub(crate) fn open(&self) {
        self.0.0.lock().expect("nobody panics under it").is_open = true;
        self.0.1.notify_all();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
    }
}

/// The files of a topic's partition 0 whose names end so, in order.
pub(crate) fn files(fs: &Simulated, topic: &Topic, ending: &str) -> Vec<PathBuf> {
    let dir = Path::new(DATA).join("topics").join(format!("{}-0", topic.id()));
    let is_meant = |path: &PathBuf| path.starts_with(&dir) && path.to_string_lossy().ends_with(ending);
    fs.files().into_iter().filter(is_meant).collect()
}

/// The segments of a topic's partition 0, in order.
pub(crate) fn segments(fs: &Simulated, topic: &Topic) -> Vec<PathBuf> {
    let is_segment = |path: &PathBuf| !path.to_string_lossy().contains("spare-");
    files(fs, topic, ".log").into_iter().filter(is_segment).collect()
}
