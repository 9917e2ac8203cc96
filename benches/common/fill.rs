//! A log that holds something: so many bytes of values, appended in batches of one size.

use headwater::{Acks, Record, Topic};

use crate::log::{producer, value};

/// What a log is filled with.
#[derive(Clone, Copy)]
pub(crate) struct Fill {
    pub(crate) record_bytes: usize,
    /// Records per batch.
    pub(crate) batch: usize,
    /// Bytes of all values together, rounded up to whole batches.
    pub(crate) bytes: usize,
}

impl Fill {
    pub(crate) fn records(self) -> usize {
        self.bytes.div_ceil(self.record_bytes).next_multiple_of(self.batch)
    }

    /// Appends the records without waiting for the disk.
    pub(crate) fn append(self, topic: &Topic) {
        let value = value(self.record_bytes);
        let batch = vec![Record::new(&value); self.batch];
        let mut producer = producer(topic, Acks::Appended);
        for _ in 0..self.records() / self.batch {
            producer.send_batch(&batch).expect("the disk has room");
        }
    }
}
