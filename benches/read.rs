//! Reading a log of 1 GiB from its first record to its last: records and bytes a second, with every check.
//!
//! ```text
//! cargo bench --bench read
//! ```
//! # Method
//! - The log holds 1 GiB of values in one partition with the default settings. It was just written: as far as memory
//!   goes it is in the page cache, so that the reader is measured and not the disk.
//! - A sample is one new consumer from `Start::Earliest` until a poll finds no more. Every batch's CRC-32C and every
//!   frame's CRC are checked on the way, and the sum of all bytes of all values is taken, as a consumer would look at
//!   them. Count and sum must be right. 5 samples after one that does not count.
//! - How records lie in batches decides what a record costs: 100 to a batch, and the worst case, every record in a
//!   batch of its own as `send` leaves it.
//!
//! Items are records, bytes are those of the values.

use std::fmt;
use std::time::Duration;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use headwater::{Start, Topic};

use crate::fill::Fill;
use crate::log::{ScratchLog, scratch_dir, value};

#[path = "common/fill.rs"]
mod fill;
#[path = "common/log.rs"]
mod log;

fn main() {
    divan::main();
}

const GIB: usize = 1 << 30;

const FILLS: [Fill; 3] = [
    Fill { record_bytes: 1024, batch: 100, bytes: GIB },
    Fill { record_bytes: 100, batch: 100, bytes: GIB },
    Fill { record_bytes: 100, batch: 1, bytes: GIB },
];

/// As many records of 100 B as fit the 1 MiB that a poll lends by default.
const POLL_RECORDS: usize = 10_000;

#[divan::bench(args = FILLS, sample_count = 5, sample_size = 1)]
fn read_back(bencher: Bencher, fill: Fill) {
    let log = ScratchLog::open(scratch_dir());
    fill.append(&log.topic);
    let mut one = Seen::default();
    one.add(&value(fill.record_bytes));
    let records = fill.records() as u64;
    let expected = Seen { records, sum: one.sum.wrapping_mul(records) };
    assert_eq!(read_all(&log.topic), expected);
    bencher
        .counter(ItemsCount::new(records))
        .counter(BytesCount::new(fill.records() * fill.record_bytes))
        .bench_local(|| assert_eq!(read_all(&log.topic), expected));
}

fn read_all(topic: &Topic) -> Seen {
    let consumer = topic.consumer(Start::Earliest).max_poll_records(POLL_RECORDS).build();
    let mut consumer = consumer.expect("the broker is open");
    let mut seen = Seen::default();
    while let Some(batch) = consumer.poll(Duration::ZERO).expect("the log is whole") {
        batch.iter().for_each(|record| seen.add(record.value()));
    }
    seen
}

/// What a reader has looked at.
#[derive(Default, PartialEq, Eq, Debug)]
struct Seen {
    records: u64,
    sum: u64,
}

impl Seen {
    /// Takes the sum of the value's words and of the bytes that are left.
    fn add(&mut self, value: &[u8]) {
        let (words, rest) = value.as_chunks::<8>();
        let words = words.iter().map(|word| u64::from_le_bytes(*word));
        let rest = rest.iter().map(|byte| u64::from(*byte));
        self.sum = words.chain(rest).fold(self.sum, u64::wrapping_add);
        self.records += 1;
    }
}

impl fmt::Display for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.batch {
            1 => write!(f, "{} B, one by one", self.record_bytes),
            batch => write!(f, "{} B, batches of {batch}", self.record_bytes),
        }
    }
}
