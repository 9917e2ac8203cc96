//! A multicast ring under more threads than there are cores: every value once to every group, in its writer's order,
//! what was missed counted, and nothing leaked. ThreadSanitizer runs these, too (`.ci/thread-sanitizer`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::config::{OnFull, WaitStrategy};
use crate::ring::multicast::front::Front;
use crate::ring::multicast::groups::{Joining, Start};
use crate::ring::multicast::policy::{Keeping, Policy};
use crate::ring::multicast::reader::{Reader, Stop};
use crate::ring::multicast::ring::Ring;
use crate::ring::multicast::slots::Layout;
use crate::ring::multicast::writer::Refusal;
use crate::time::Deadline;

const WRITERS: u64 = 3;
const EACH: u64 = if cfg!(miri) { 50 } else { 4_000 };

/// A value with an allocation of its own, counted while it lives.
struct Value {
    writer: u64,
    number: Box<u64>,
    alive: Arc<AtomicU64>,
}

impl Value {
    fn new(writer: u64, number: u64, alive: &Arc<AtomicU64>) -> Self {
        alive.fetch_add(1, Ordering::Relaxed);
        Self { writer, number: Box::new(number), alive: Arc::clone(alive) }
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What one reader saw.
#[derive(Default)]
struct Seen {
    values: u64,
    sum: u64,
    missed: u64,
    next: [u64; WRITERS as usize],
}

impl Seen {
    fn note(&mut self, value: &Value) {
        let next = &mut self.next[value.writer as usize];
        assert!(*value.number >= *next, "writer {}: {} after {next}", value.writer, value.number);
        *next = *value.number + 1;
        self.values += 1;
        self.sum += *value.number;
    }
}

fn policy(layout: Layout, on_full: OnFull, keeping: Keeping) -> Policy {
    Policy { capacity: 16, layout, on_full, keeping, closes_after_writers: true }
}

fn joining(group: Option<&str>, is_lossy: bool, prefetch: u64) -> Joining {
    Joining { group: group.map(Arc::from), start: Start::Latest, is_lossy, prefetch }
}

/// Reads to the end: one by one, and in runs.
fn read(mut reader: Reader<Value>, keeping: Keeping) -> Seen {
    let mut seen = Seen::default();
    loop {
        match reader.wait_many(1 + seen.values % 5, Deadline::never()).expect("no deadline") {
            Ok(()) if keeping == Keeping::UntilTaken => seen.note(&reader.take()),
            Ok(()) if seen.values.is_multiple_of(3) => reader.read(|value| seen.note(value)),
            Ok(()) => drop(reader.visit(u64::MAX, |value| seen.note(value))),
            Err(Stop::Lagged(missed)) => seen.missed += missed,
            Err(Stop::Closed) => return seen,
        }
    }
}

/// Writes one by one and in batches, and ends the ring when the last writer has done so.
fn write(ring: &Arc<Ring<Value>>, writer: u64, alive: &Arc<AtomicU64>) {
    let mut values: Vec<Value> = Vec::new();
    let mut pen = ring.writer(WaitStrategy::Park).expect("there is room for a writer");
    let mut number = 0;
    while number < EACH {
        if number.is_multiple_of(2) {
            while pen.reserve(Deadline::never()) == Err(Refusal::Full) {}
            assert!(pen.put(Value::new(writer, number, alive)).is_ok(), "nobody closes it");
            number += 1;
        } else {
            let end = (number + 7).min(EACH);
            values.extend((number..end).map(|number| Value::new(writer, number, alive)));
            while pen.put_all(&mut values, Deadline::never()) == Err(Refusal::Full) {}
            number = end;
        }
    }
}

/// Runs the threads; each group's readers, and what they saw together.
fn run(policy: Policy, writers: u64, groups: &[(bool, usize)]) {
    let alive = Arc::new(AtomicU64::new(0));
    let ring = Arc::new(Ring::new(policy).expect("there is memory for sixteen values"));
    let names: Vec<String> = (0..groups.len()).map(|index| format!("g{index}")).collect();
    let mut readers: Vec<Vec<Reader<Value>>> = Vec::new();
    for (name, (is_lossy, members)) in names.iter().zip(groups) {
        let group = (*members > 1).then_some(name.as_str());
        let join = |_| ring.reader(&joining(group, *is_lossy, 4), WaitStrategy::Park);
        readers.push((0..*members).map(join).collect());
    }
    let seen: Vec<Seen> = thread::scope(|scope| {
        let reading: Vec<Vec<_>> = readers
            .into_iter()
            .map(|members| members.into_iter().map(|it| scope.spawn(move || read(it, policy.keeping))).collect())
            .collect();
        // All are there before the first is done, or the ring would end too early.
        let hold = (policy.layout != Layout::Cursor).then(|| ring.writer(WaitStrategy::Park).expect("one more"));
        let writing: Vec<_> = (0..writers)
            .map(|writer| {
                let (ring, alive) = (&ring, &alive);
                scope.spawn(move || write(ring, writer, alive))
            })
            .collect();
        writing.into_iter().for_each(|it| it.join().expect("no writer panics"));
        drop(hold);
        let together = |members: Vec<thread::ScopedJoinHandle<'_, Seen>>| {
            members.into_iter().map(|it| it.join().expect("no reader panics")).fold(Seen::default(), |mut all, one| {
                all.values += one.values;
                all.sum += one.sum;
                all.missed += one.missed;
                all
            })
        };
        reading.into_iter().map(together).collect()
    });
    let sent = writers * EACH;
    assert_eq!(ring.sent(), sent, "{policy:?}");
    for (seen, (is_lossy, _)) in seen.iter().zip(groups) {
        assert_eq!(seen.values + seen.missed, sent, "{policy:?}");
        if !is_lossy && policy.on_full != OnFull::DropOldest {
            assert_eq!((seen.missed, seen.sum), (0, writers * (EACH * (EACH - 1) / 2)), "{policy:?}");
        }
    }
    drop(ring);
    assert_eq!(alive.load(Ordering::Relaxed), 0, "every value was dropped once: {policy:?}");
}

#[test]
fn every_group_sees_every_value_once_and_what_it_misses_is_counted() {
    for layout in [Layout::Flags, Layout::Stamped, Layout::Cursor] {
        let writers = if layout == Layout::Cursor { 1 } else { WRITERS };
        for on_full in [OnFull::Block, OnFull::Reject, OnFull::DropOldest] {
            for keeping in [Keeping::UntilOverwritten, Keeping::UntilConsumed] {
                run(policy(layout, on_full, keeping), writers, &[(false, 1), (false, 2), (true, 1)]);
            }
            run(policy(layout, on_full, Keeping::UntilTaken), writers, &[(false, 3)]);
        }
    }
}

#[test]
fn what_is_left_of_a_batch_moves_up_and_what_is_put_back_is_first_again() {
    let mut values: Vec<String> = ["a", "b", "c", "d"].map(String::from).to_vec();
    let mut front = Front::new(&mut values);
    let taken = [front.take(), front.take(), front.take()];
    assert_eq!((taken.join(""), front.len()), ("abc".into(), 1));
    let [.., last] = taken;
    front.put_back(last);
    drop(front);
    assert_eq!(values, ["c", "d"]);
}
