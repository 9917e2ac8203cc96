//! Every order in which two or three threads can meet in these mechanisms, up to a bound on preemptions.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --lib ring::` runs them. A model explores up to three preemptions
//! an execution; `LOOM_MAX_PREEMPTIONS=n` sets another bound. Three things keep a model honest: it asserts how many
//! executions it explored at least, since loom can silently explore a single one; it has a twin for each bug that
//! someone could make in it, which must fail; and the main thread only spawns, joins and then looks.

use std::process::Command;
use std::sync::Arc as StdArc;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::AtomicUsize as StdAtomicUsize;
use std::task::Waker;

use loom::sync::Arc;
use loom::thread::spawn;

use crate::ring::combiner::{Combiner, Writer};
use crate::ring::multicast;
use crate::ring::notify::{Notify, Waiting};
use crate::ring::queue::Queue;
use crate::ring::seeded::{Bug, plant};
use crate::sync::{AtomicUsize, Ordering};
use crate::time::Deadline;

const PREEMPTIONS: usize = 3;

/// Explores the model and asserts that there were at least `floor` executions to explore.
pub(in crate::ring) fn explore(name: &str, floor: usize, model: fn()) {
    explore_within(PREEMPTIONS, name, floor, model);
}

/// The same with a bound of its own, for models that three would make too large.
#[allow(clippy::print_stderr, reason = "the figure is what a reader of the run wants to see")]
pub(in crate::ring) fn explore_within(preemptions: usize, name: &str, floor: usize, model: fn()) {
    let executions = StdArc::new(StdAtomicUsize::new(0));
    let counter = StdArc::clone(&executions);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.check(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let executions = executions.load(Ordering::Relaxed);
    eprintln!("{name}: {executions} executions");
    assert!(executions >= floor, "{name} explored {executions} executions, fewer than {floor}: the model is void");
}

/// Asserts that `seen` holds what each thread put in, once, and in that thread's order. Items are `thread * 10 + n`.
pub(in crate::ring) fn assert_once_and_in_order(seen: &[u32], expected: &[u32]) {
    let mut sorted = seen.to_vec();
    sorted.sort_unstable();
    assert_eq!(sorted, expected, "every item once: {seen:?}");
    for thread in 0..3 {
        let own: Vec<u32> = seen.iter().copied().filter(|item| item / 10 == thread).collect();
        assert!(own.is_sorted(), "thread {thread} was overtaken by itself: {seen:?}");
    }
}

// ── Queue ──

fn two_producers_and_a_consumer() {
    let (queue, mut drain) = Queue::new(2);
    let producers = [1, 2].map(|thread: u32| {
        let queue = StdArc::clone(&queue);
        spawn(move || {
            (0..2).filter(|n| queue.push(thread * 10 + n).is_ok()).map(|n| thread * 10 + n).collect::<Vec<_>>()
        })
    });
    let consumer = spawn(move || {
        let popped: Vec<u32> = (0..2).filter_map(|_| drain.pop()).collect();
        (popped, drain)
    });
    let mut pushed: Vec<u32> = producers.into_iter().flat_map(|p| p.join().expect("no producer panics")).collect();
    let (mut popped, mut drain) = consumer.join().expect("the consumer does not panic");
    while let Some(value) = drain.pop() {
        popped.push(value);
    }
    assert!(queue.is_empty() && pushed.len() >= 2, "two of {pushed:?} had room from the beginning");
    pushed.sort_unstable();
    assert_once_and_in_order(&popped, &pushed);
}

#[test]
fn a_queue_of_two_hands_over_each_value_once_and_in_its_producers_order() {
    explore("queue", 1_000, two_producers_and_a_consumer);
}

// ── Combiner ──

/// Writes into a log that can be read without the pen. std's mutex, which loom does not see: it is never contended,
/// since the pen is held around it.
struct Journal(StdArc<StdMutex<Vec<u32>>>);

impl Writer for Journal {
    type Item = u32;

    fn write(&mut self, item: u32) {
        self.0.lock().expect("never poisoned").push(item);
    }

    fn end_run(&mut self) {}
}

fn journal() -> (Arc<Combiner<Journal>>, StdArc<StdMutex<Vec<u32>>>) {
    let log = StdArc::default();
    (Arc::new(Combiner::new(2, Journal(StdArc::clone(&log)))), log)
}

fn two_submitters() {
    let (combiner, log) = journal();
    let submitters = [1, 2].map(|thread: u32| {
        let combiner = Arc::clone(&combiner);
        spawn(move || (0..2).for_each(|n| combiner.submit(thread * 10 + n)))
    });
    submitters.into_iter().for_each(|submitter| submitter.join().expect("no submitter panics"));
    assert_once_and_in_order(&log.lock().expect("never poisoned"), &[10, 11, 20, 21]);
}

/// Two that insist on the pen and one that only submits: announcements, and the one who relies on them.
fn two_waiters_and_a_submitter() {
    let (combiner, log) = journal();
    let threads = [0, 1, 2].map(|thread: u32| {
        let combiner = Arc::clone(&combiner);
        spawn(move || match thread {
            0 => combiner.submit(0),
            _ => combiner.with(|writer| writer.write(thread * 10)),
        })
    });
    threads.into_iter().for_each(|thread| thread.join().expect("no thread panics"));
    assert_once_and_in_order(&log.lock().expect("never poisoned"), &[0, 10, 20]);
}

/// One that submits and then insists, behind one that may be interrupted between its claim and its value.
fn submit_then_with() {
    let (combiner, log) = journal();
    let other = Arc::clone(&combiner);
    let first = spawn(move || other.submit(10));
    let other = Arc::clone(&combiner);
    let second = spawn(move || {
        other.submit(20);
        other.with(|writer| writer.write(21));
    });
    first.join().expect("the first does not panic");
    second.join().expect("the second does not panic");
    assert_once_and_in_order(&log.lock().expect("never poisoned"), &[10, 20, 21]);
}

#[test]
fn no_submitted_item_is_stranded_or_written_twice() {
    explore("combiner: submit, submit", 1_000, two_submitters);
}

#[test]
fn no_item_is_stranded_by_a_holder_that_leaves_to_an_announced_thread() {
    explore("combiner: submit, with, with", 1_000, two_waiters_and_a_submitter);
}

#[test]
fn a_thread_that_takes_the_pen_finds_its_own_submissions_written() {
    explore("combiner: submit then with", 1_000, submit_then_with);
}

// ── Notify ──

/// A notify, and the condition that it is about. Relaxed, so that only the notify's own fences order anything.
struct Stage {
    notify: Notify,
    reached: AtomicUsize,
}

impl Stage {
    fn new() -> Arc<Self> {
        Arc::new(Self { notify: Notify::new(), reached: AtomicUsize::new(0) })
    }

    fn reach(&self, stage: usize) {
        self.reached.store(stage, Ordering::Relaxed);
        self.notify.notify_all();
    }

    /// Sleeps until `stage`. A lost wake-up is a deadlock, which loom reports.
    fn wait_for(&self, stage: usize) {
        let reached = || (self.reached.load(Ordering::Relaxed) >= stage).then_some(());
        assert!(self.notify.wait(Deadline::never(), reached).is_some(), "there is no deadline");
    }
}

fn notifier_and_waiters(waiters: usize) {
    let stage = Stage::new();
    let waiters: Vec<_> = (0..waiters)
        .map(|_| {
            let stage = Arc::clone(&stage);
            spawn(move || stage.wait_for(1))
        })
        .collect();
    let notifier = {
        let stage = Arc::clone(&stage);
        spawn(move || stage.reach(1))
    };
    waiters.into_iter().for_each(|waiter| waiter.join().expect("no waiter panics"));
    notifier.join().expect("the notifier does not panic");
}

fn notifier_and_two_waiters() {
    notifier_and_waiters(2);
}

/// A registration that is dropped at any moment, beside a waiter that takes its place in the next epoch.
fn notifier_waiter_and_a_dropped_future() {
    let stage = Stage::new();
    let future = {
        let stage = Arc::clone(&stage);
        spawn(move || {
            let mut waiting = Waiting::new(&stage.notify);
            waiting.arm(Waker::noop());
        })
    };
    let waiter = {
        let stage = Arc::clone(&stage);
        spawn(move || stage.wait_for(2))
    };
    let notifier = {
        let stage = Arc::clone(&stage);
        spawn(move || [1, 2].into_iter().for_each(|next| stage.reach(next)))
    };
    future.join().expect("the future does not panic");
    waiter.join().expect("the waiter does not panic");
    notifier.join().expect("the notifier does not panic");
}

#[test]
fn no_wake_up_is_lost_between_the_last_question_and_the_sleep() {
    explore("notify: notify, wait, wait", 1_000, notifier_and_two_waiters);
}

#[test]
fn a_dropped_registration_takes_nobody_elses_wake_up() {
    explore("notify: notify, wait, drop", 1_000, notifier_waiter_and_a_dropped_future);
}

// ── Twins ──

/// A model, and what it says when it fails.
pub(in crate::ring) type Twin = (fn(), &'static str);

/// The models that must find the bug.
fn models_against(bug: Bug) -> Vec<Twin> {
    let model: Twin = match bug {
        Bug::QueueClaimsWithoutRoom => (two_producers_and_a_consumer, "Causality violation"),
        Bug::QueuePublishesRelaxed => (two_producers_and_a_consumer, "Causality violation"),
        Bug::CombinerLeavesUnseen => (two_submitters, "every item once"),
        Bug::CombinerNeverOffers => (two_submitters, "every item once"),
        Bug::CombinerOffersUnfenced => (two_submitters, "every item once"),
        Bug::CombinerLooksUnfenced => (two_submitters, "every item once"),
        Bug::CombinerOvertakes => (submit_then_with, "was overtaken by itself"),
        Bug::CombinerStaysAnnounced => (two_waiters_and_a_submitter, "every item once"),
        Bug::NotifySleepsUnasked => (notifier_and_two_waiters, "deadlock"),
        Bug::NotifyWithoutFence => (notifier_and_two_waiters, "deadlock"),
        Bug::NotifyForgetsEpoch => (notifier_waiter_and_a_dropped_future, "deadlock"),
        ring => return multicast::loom_tests::models_against(ring),
    };
    vec![model]
}

/// Names the bug, and the place of the model in its list, to the process that is to run with it.
const TWIN: &str = "HEADWATER_SEEDED_BUG";

#[test]
#[ignore = "fails by design; `every_seeded_bug_is_found_by_its_model` runs it"]
fn a_model_with_a_seeded_bug() {
    let twin = std::env::var(TWIN).expect("the bug's name");
    let (name, index) = twin.split_once('/').expect("a name and a place");
    let bug = Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == name).expect("a bug's name");
    plant(bug);
    explore(&twin, 0, models_against(bug)[index.parse::<usize>().expect("a place")].0);
}

/// In processes of their own, since a deadlock found by loom aborts where a destructor takes a lock.
#[test]
fn every_seeded_bug_is_found_by_its_model() {
    let (_crate, module) = module_path!().split_once("::").expect("this module lies in a crate");
    for bug in Bug::ALL {
        let models = models_against(bug);
        assert!(!models.is_empty(), "no model looks for {bug:?}");
        for (index, (_, words)) in models.into_iter().enumerate() {
            let twin = Command::new(std::env::current_exe().expect("this binary has a path"))
                .args(["--exact", &format!("{module}::a_model_with_a_seeded_bug"), "--ignored", "--nocapture"])
                .env(TWIN, format!("{bug:?}/{index}"))
                .env("RUST_BACKTRACE", "0")
                .output()
                .expect("this binary runs");
            let said = String::from_utf8_lossy(&twin.stderr);
            assert!(!twin.status.success(), "model {index} holds with {bug:?} in the code, so it proves nothing of it");
            assert!(said.contains(words), "{bug:?} made model {index} fail, but not with {words:?}: {said}");
        }
    }
}
