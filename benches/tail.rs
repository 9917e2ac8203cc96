//! One consumer follows one producer: how long after its time a record is seen, and how long the last ones take.
//!
//! ```text
//! cargo bench --bench tail
//! ```
//! # Method
//! - A producer sends records of 100 B by a schedule, so many a second for 3 s; a consumer in another thread waits in
//!   `poll` and notes when it is lent each of them. Order and number are checked.
//! - The time of a record begins when it was *due*, not when `send` was called: a stall inside the log counts for all
//!   records that should have been sent meanwhile (no coordinated omission).
//! - `appended`: `Acks::Appended`, and the consumer sees what is in the page cache. `synced`: `Acks::Synced`, and the
//!   consumer sees only what is on the disk (`Visibility::Durable`), so that every time contains an `fdatasync`.
//! - The first 100 ms do not count. The producer waits for its time by yielding: with fewer than two idle cores the
//!   figures are those of the scheduler.
//!
//! A program of its own and no table of means: what matters here is the tail.
#![allow(clippy::print_stdout)]

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use headwater::{Acks, Consumer, Producer, Record, Start, Visibility};

use crate::log::{ScratchLog, producer, scratch_dir, value};

#[path = "common/log.rs"]
mod log;

const RECORD_BYTES: usize = 100;
const RUN: Duration = Duration::from_secs(3);
/// Without `--bench`, which `cargo bench` passes: only to see that it runs.
const TRY: Duration = Duration::from_millis(200);
const WARM_UP: Duration = Duration::from_millis(100);
/// A consumer that has waited so long for a record has missed it.
const PATIENCE: Duration = Duration::from_secs(30);

/// One row.
#[derive(Clone, Copy)]
struct Pace {
    acks: Acks,
    visibility: Visibility,
    per_second: u32,
}

const PACES: [Pace; 4] = [
    Pace { acks: Acks::Appended, visibility: Visibility::Committed, per_second: 1_000 },
    Pace { acks: Acks::Appended, visibility: Visibility::Committed, per_second: 20_000 },
    Pace { acks: Acks::Appended, visibility: Visibility::Committed, per_second: 100_000 },
    Pace { acks: Acks::Synced, visibility: Visibility::Durable, per_second: 1_000 },
];

fn main() {
    let run = if std::env::args().any(|word| word == "--bench") { RUN } else { TRY };
    println!("{:<22} {:>9} {:>9} {:>9} {:>9}   µs from due to seen", "tail", "p50", "p99", "p99.9", "max");
    for pace in PACES {
        let latencies = follow(pace, run);
        let at = |share: f64| {
            let nth = ((latencies.len() - 1) as f64 * share) as usize;
            format!("{:.1}", latencies[nth].as_secs_f64() * 1e6)
        };
        let name = pace.to_string();
        println!("{name:<22} {:>9} {:>9} {:>9} {:>9}", at(0.5), at(0.99), at(0.999), at(1.0));
    }
}

/// Runs one row and returns the records' times, sorted.
fn follow(pace: Pace, run: Duration) -> Vec<Duration> {
    let log = ScratchLog::open(scratch_dir());
    let producer = producer(&log.topic, pace.acks);
    let consumer = log.topic.consumer(Start::Earliest).visibility(pace.visibility).build();
    let consumer = consumer.expect("the broker is open");
    let schedule = Schedule { base: Instant::now(), period: Duration::from_secs(1) / pace.per_second };
    let records = schedule.records_in(WARM_UP + run);
    let mut latencies = thread::scope(|scope| {
        let watching = scope.spawn(move || watch(consumer, schedule, records));
        produce(producer, schedule, records);
        watching.join().expect("the consumer has seen every record")
    });
    latencies.drain(..schedule.records_in(WARM_UP) as usize);
    latencies.sort_unstable();
    latencies
}

/// When each record is due.
#[derive(Clone, Copy)]
struct Schedule {
    base: Instant,
    period: Duration,
}

impl Schedule {
    fn due(self, record: u32) -> Instant {
        self.base + self.period * record
    }

    fn records_in(self, time: Duration) -> u32 {
        u32::try_from(time.as_nanos() / self.period.as_nanos()).expect("seconds of records")
    }
}

/// Sends each record at its time. One that is late does not shift those behind it.
fn produce(mut producer: Producer, schedule: Schedule, records: u32) {
    let value = value(RECORD_BYTES);
    for record in 0..records {
        while Instant::now() < schedule.due(record) {
            thread::yield_now();
        }
        producer.send(Record::new(&value)).expect("the disk takes it");
    }
}

/// Notes how long after its time each record was seen, in order.
fn watch(mut consumer: Consumer, schedule: Schedule, records: u32) -> Vec<Duration> {
    let mut latencies = Vec::with_capacity(records as usize);
    while latencies.len() < records as usize {
        let batch = consumer.poll(PATIENCE).expect("the log is whole").expect("a record within the patience");
        for record in &batch {
            let seen = Instant::now();
            assert_eq!(record.offset(), latencies.len() as u64, "the next record in order");
            latencies.push(seen.saturating_duration_since(schedule.due(latencies.len() as u32)));
        }
    }
    latencies
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let acks = if self.acks == Acks::Appended { "appended" } else { "synced" };
        write!(f, "{acks}, {}/s", self.per_second)
    }
}
