//! What the tests of memory topics share: topics of a broker that is gone, values whose drops are counted, futures
//! polled by hand, and a look at whether a thread sleeps.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use headwater::Broker;
use headwater::memory::{Builder, Consumer, Queue, QueueConsumer, RecvError, Topic};

use crate::support::{PATIENCE, until};

pub(crate) fn broker() -> Broker {
    Broker::in_memory().expect("a broker")
}

/// A topic to be set up, of a broker of its own.
pub(crate) fn new_topic<T: Send + Sync + 'static>() -> Builder<Topic<T>> {
    broker().memory_topic("t")
}

/// A queue to be set up, of a broker of its own.
pub(crate) fn new_queue<T: Send + 'static>() -> Builder<Queue<T>> {
    broker().memory_queue("q")
}

pub(crate) fn topic<T: Send + Sync + 'static>(capacity: usize) -> Topic<T> {
    new_topic().capacity(capacity).create().expect("a topic")
}

pub(crate) fn queue<T: Send + 'static>(capacity: usize) -> Queue<T> {
    new_queue().capacity(capacity).create().expect("a queue")
}

/// What is there for a consumer now.
#[track_caller]
pub(crate) fn drain<T: Clone + Sync>(consumer: &mut Consumer<T>) -> Vec<T> {
    consumer.try_iter().map(|value| value.expect("nothing was missed")).collect()
}

/// What is there to be taken now.
#[track_caller]
pub(crate) fn take_all<T>(consumer: &mut QueueConsumer<T>) -> Vec<T> {
    std::iter::from_fn(|| match consumer.try_take() {
        Ok(value) => value,
        Err(RecvError::Closed) => None,
        Err(lagged) => panic!("nothing was missed: {lagged}"),
    })
    .collect()
}

/// What is read until the end, and how many values were missed on the way.
pub(crate) fn read_to_end<T: Clone + Sync>(consumer: &mut Consumer<T>) -> (Vec<T>, u64) {
    let (mut values, mut missed) = (Vec::new(), 0);
    for value in consumer.iter() {
        match value {
            Ok(value) => values.push(value),
            Err(lagged) => missed += lagged.missed,
        }
    }
    (values, missed)
}

/// Polls a future once, and drops it.
pub(crate) fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Counts the loads that are alive, and can make their drop or their clone panic.
#[derive(Clone, Default)]
pub(crate) struct Scales(Arc<Weighed>);

#[derive(Default)]
struct Weighed {
    alive: AtomicI64,
    clones_panic: AtomicBool,
}

/// A value that is counted for as long as it lives.
pub(crate) struct Load {
    pub(crate) number: u64,
    is_explosive: bool,
    scales: Scales,
}

impl Scales {
    pub(crate) fn load(&self, number: u64) -> Load {
        self.0.alive.fetch_add(1, Ordering::SeqCst);
        Load { number, is_explosive: false, scales: self.clone() }
    }

    /// A load whose drop panics.
    pub(crate) fn explosive(&self, number: u64) -> Load {
        let mut load = self.load(number);
        load.is_explosive = true;
        load
    }

    /// Loads that were made and not dropped; below zero if one was dropped twice.
    pub(crate) fn alive(&self) -> i64 {
        self.0.alive.load(Ordering::SeqCst)
    }

    /// The next clone of a load panics.
    pub(crate) fn break_a_clone(&self) {
        self.0.clones_panic.store(true, Ordering::SeqCst);
    }
}

impl Clone for Load {
    /// The clone of an explosive load is harmless.
    fn clone(&self) -> Self {
        assert!(!self.scales.0.clones_panic.swap(false, Ordering::SeqCst), "a clone that panics");
        self.scales.load(self.number)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.scales.0.alive.fetch_sub(1, Ordering::SeqCst);
        assert!(!self.is_explosive, "a drop that panics");
    }
}

/// Whether something panics, and with these words.
#[track_caller]
pub(crate) fn expect_panic<R>(words: &str, act: impl FnOnce() -> R) {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(act())));
    let panic = outcome.expect_err("it panics");
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).expect("a panic with words");
    assert!(text.contains(words), "it panicked with {text:?}");
}

/// Runs `act` in a thread, and comes back when that thread sleeps; where the system does not tell, after a moment.
#[track_caller]
pub(crate) fn spawn_asleep<R: Send + 'static>(act: impl FnOnce() -> R + Send + 'static) -> JoinHandle<R> {
    let (tell, told) = mpsc::channel();
    let thread = thread::spawn(move || {
        tell.send(std::fs::read_link("/proc/thread-self").ok()).expect("it is heard");
        act()
    });
    let own = told.recv_timeout(PATIENCE).expect("it is there");
    match own {
        Some(own) => {
            let stat = Path::new("/proc").join(own).join("stat");
            until("the thread sleeps", || {
                let stat = std::fs::read_to_string(&stat).unwrap_or_default();
                // The state comes behind the name, which stands in parentheses and may have some of its own.
                stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
            });
        }
        None => thread::sleep(MOMENT),
    }
    thread
}

/// A moment that passes whatever happens: for waits that end by their timeout.
pub(crate) const MOMENT: Duration = Duration::from_millis(5);
