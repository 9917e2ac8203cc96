//! Counters that cost a relaxed add, and what they stood at when somebody asked.

use crate::sync::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds, whoever else does.
    pub(crate) fn add(&self, n: u64) {
        // Relaxed: a counter orders nothing but itself.
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Adds where nobody else does at the same time: under a lock, say. A tenth of the price.
    pub(crate) fn add_alone(&self, n: u64) {
        // Relaxed, twice: as in `add`.
        self.0.store(self.0.load(Ordering::Relaxed) + n, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        // Relaxed: as in `add`.
        self.0.load(Ordering::Relaxed)
    }
}

/// What a partition has done since it was opened, and where it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct PartitionMetrics {
    /// Record batches appended.
    pub batches_appended: u64,
    /// Records appended.
    pub records_appended: u64,
    /// Bytes of batches appended.
    pub bytes_appended: u64,
    /// Appends that were refused: disk full, fenced, closed.
    pub appends_refused: u64,
    /// Offsets that consumers of this process passed over because they were damaged. A consumer that reads them
    /// again counts them again.
    pub offsets_skipped: u64,
    /// The first offset of the log.
    pub log_start: u64,
    /// The offset behind the last record.
    pub log_end: u64,
    /// The offset behind the last record that is on the disk.
    pub durable_end: u64,
}
