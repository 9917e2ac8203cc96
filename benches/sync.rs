//! Records a second onto the disk (`Acks::Synced`), 100 B each: one by one from 1, 4 and 16 threads, which share
//! syncs; in batches of 100; and many in flight.
//!
//! ```text
//! cargo bench --bench sync
//! ```
//! # Method
//! - One log per row, with one partition and the default settings, on the disk that `HEADWATER_BENCH_DIR` or Cargo's
//!   target directory is on. Where that is memory the figures mean nothing.
//! - `send`: a sample is 100 records from each thread, each sent when the one before is on the disk. With one thread
//!   that is one `fdatasync` per record, and the figure is the disk's.
//! - `send_batch`: a sample is 100 batches of 100 records from one thread, each on the disk before the next.
//! - `send_nowait`: a sample is 10,000 records from one thread that waits once, in `flush`, for all of them.
//! - 20 samples after one that does not count. In the end as many records must be on the disk as were sent: a consumer
//!   that sees only what is durable is at their end.
//!
//! That the syncs are real is shown by counting them from outside, as benches/compare/README.md does with strace.
//! Items are records.

use std::cell::Cell;
use std::thread;

use divan::Bencher;
use divan::counter::ItemsCount;
use headwater::{Acks, Producer, Record, Start, Visibility};

use crate::log::{ScratchLog, producer, scratch_dir, value};

#[path = "common/log.rs"]
mod log;

fn main() {
    divan::main();
}

const RECORD_BYTES: usize = 100;
const BATCH: usize = 100;
/// Calls that wait for the disk, per thread and sample.
const CALLS: usize = 100;

#[divan::bench(args = [1, 4, 16], sample_count = 20, sample_size = 1)]
fn send(bencher: Bencher, threads: usize) {
    measure(bencher, Work { threads, share: CALLS }, |producer, value| {
        for _ in 0..CALLS {
            producer.send(Record::new(value)).expect("the disk takes it");
        }
    });
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn send_batch(bencher: Bencher) {
    measure(bencher, Work { threads: 1, share: CALLS * BATCH }, |producer, value| {
        let batch = vec![Record::new(value); BATCH];
        for _ in 0..CALLS {
            producer.send_batch(&batch).expect("the disk takes it");
        }
    });
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn send_nowait(bencher: Bencher) {
    measure(bencher, Work { threads: 1, share: CALLS * BATCH }, |producer, value| {
        for _ in 0..CALLS * BATCH {
            drop(producer.send_nowait(Record::new(value)).expect("the disk takes it"));
        }
        producer.flush().expect("all of it is on the disk");
    });
}

struct Work {
    threads: usize,
    /// Records of each thread in one sample.
    share: usize,
}

/// Times rounds in which every thread calls `produce`, which sends its share.
fn measure(bencher: Bencher, work: Work, produce: impl Fn(&mut Producer, &[u8]) + Sync) {
    let log = ScratchLog::open(scratch_dir());
    let value = value(RECORD_BYTES);
    let mut producers: Vec<Producer> = (0..work.threads).map(|_| producer(&log.topic, Acks::Synced)).collect();
    let rounds = Cell::new(0);
    let mut round = || {
        rounds.set(rounds.get() + 1);
        thread::scope(|scope| {
            for producer in &mut producers {
                scope.spawn(|| produce(producer, &value));
            }
        });
    };
    round();
    bencher.counter(ItemsCount::new(work.threads * work.share)).bench_local(round);
    let reader = log.topic.consumer(Start::Earliest).visibility(Visibility::Durable).build();
    let durable = reader.expect("the broker is open").lag();
    assert_eq!(durable, rounds.get() * (work.threads * work.share) as u64, "records on the disk, and records sent");
}
