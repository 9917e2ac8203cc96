//! Records a second into the page cache (`Acks::Appended`): 100 B and 1 KiB, from 1, 2 and 4 producers, by each of the
//! three ways to send.
//!
//! ```text
//! cargo bench --bench append
//! ```
//! # Method
//! - One log per row, with one partition and the default settings, on the disk that `HEADWATER_BENCH_DIR` or Cargo's
//!   target directory is on.
//! - A sample is the time from before the producers' threads start until all have ended: 240,000 records of 100 B or
//!   64,000 of 1 KiB in all, so that starting threads does not count. 20 samples after one that does not count.
//! - `send` returns when the record is in the log. `send_nowait` returns before; a sample ends when `flush` has
//!   returned in every thread. `send_batch` appends 100 records at a time.
//! - The thread that syncs behind the producers every 32 MiB, and the rolling of 64 MiB segments, are within the time.
//! - In the end the log must hold as many records as were sent.
//!
//! Items are records, bytes are those of the values. Look at the median; the fastest is what the machine can do when
//! nothing else happens.

use std::cell::Cell;
use std::fmt;
use std::thread;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use headwater::{Acks, Producer, Record};

use crate::log::{ScratchLog, producer, scratch_dir, value};

#[path = "common/log.rs"]
mod log;

fn main() {
    divan::main();
}

/// One row: how large the records are, and how many threads send them.
#[derive(Clone, Copy)]
struct Shape {
    record_bytes: usize,
    /// Of all producers together, in one sample.
    records: usize,
    producers: usize,
}

const SHAPES: [Shape; 6] = [small(1), small(2), small(4), large(1), large(2), large(4)];

const fn small(producers: usize) -> Shape {
    Shape { record_bytes: 100, records: 240_000, producers }
}

const fn large(producers: usize) -> Shape {
    Shape { record_bytes: 1024, records: 64_000, producers }
}

/// Records per call of `send_batch`; divides every producer's share of every shape.
const BATCH: usize = 100;

#[divan::bench(args = SHAPES, sample_count = 20, sample_size = 1)]
fn send(bencher: Bencher, shape: Shape) {
    measure(bencher, shape, |producer, value, records| {
        for _ in 0..records {
            producer.send(Record::new(value)).expect("the disk has room");
        }
    });
}

#[divan::bench(args = SHAPES, sample_count = 20, sample_size = 1)]
fn send_nowait(bencher: Bencher, shape: Shape) {
    measure(bencher, shape, |producer, value, records| {
        for _ in 0..records {
            drop(producer.send_nowait(Record::new(value)).expect("the disk has room"));
        }
        producer.flush().expect("every batch was appended");
    });
}

#[divan::bench(args = SHAPES, sample_count = 20, sample_size = 1)]
fn send_batch(bencher: Bencher, shape: Shape) {
    measure(bencher, shape, |producer, value, records| {
        let batch = vec![Record::new(value); BATCH];
        for _ in 0..records / BATCH {
            producer.send_batch(&batch).expect("the disk has room");
        }
    });
}

/// Times rounds in which every producer calls `produce` with its share of the records.
fn measure(bencher: Bencher, shape: Shape, produce: impl Fn(&mut Producer, &[u8], usize) + Sync) {
    let log = ScratchLog::open(scratch_dir());
    let value = value(shape.record_bytes);
    let mut producers: Vec<Producer> = (0..shape.producers).map(|_| producer(&log.topic, Acks::Appended)).collect();
    let rounds = Cell::new(0);
    let mut round = || {
        rounds.set(rounds.get() + 1);
        thread::scope(|scope| {
            for producer in &mut producers {
                scope.spawn(|| produce(producer, &value, shape.records / shape.producers));
            }
        });
    };
    round();
    bencher
        .counter(ItemsCount::new(shape.records))
        .counter(BytesCount::new(shape.records * shape.record_bytes))
        .bench_local(round);
    let appended = log.topic.offsets(0).expect("a topic has a partition").end;
    assert_eq!(appended, rounds.get() * shape.records as u64, "records in the log, and records sent");
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.producers == 1 { "" } else { "s" };
        write!(f, "{} B, {} producer{plural}", self.record_bytes, self.producers)
    }
}
