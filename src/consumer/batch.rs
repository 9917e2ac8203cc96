//! What a poll lends: records that borrow from the log, and the right to commit them.

use std::fmt;
use std::future::poll_fn;
use std::ops::Deref;

use crate::config::Acks;
use crate::consumer::Consumer;
use crate::error::{Damage, Result};
use crate::partition::UntilDurable;
use crate::record::RecordView;
use crate::types::{PartitionId, TopicName};

/// Records on loan from the log.
///
/// [`commit`](Self::commit) it when the work is done; dropping it commits nothing. Iterating copies nothing and
/// cannot fail: every batch was checked when it was polled.
#[must_use = "what is not looked at was polled in vain"]
pub struct Batch<'a> {
    consumer: &'a mut Consumer,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(consumer: &'a mut Consumer) -> Self {
        Self { consumer }
    }

    /// How many records there are. 0 only where damage was passed over and nothing followed yet.
    pub fn len(&self) -> usize {
        self.consumer.fetcher.len()
    }

    /// Whether there is none; see [`len`](Self::len).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The records, partition by partition and in order within each.
    pub fn iter(&self) -> Records<'_> {
        Records { consumer: self.consumer, next: 0 }
    }

    /// Damage that was passed over on the way here, because the broker was opened with
    /// [`OnDamage::Skip`](crate::OnDamage::Skip) or `Quarantine`: which offsets of which file are lost, exactly.
    pub fn skipped(&self) -> &[Damage] {
        self.consumer.fetcher.skipped()
    }

    /// Tells the group that these records, and all before them in their partitions, are done with, and waits until
    /// that is as safe as the consumer's `commit_acks` say. The records themselves are made as safe first.
    ///
    /// # Errors
    /// [`Error::NoGroup`](crate::Error::NoGroup) for a consumer without one. Otherwise why it could not be noted: the
    /// group is then where it was, or, if only the sync failed, may be.
    pub fn commit(self) -> Result<()> {
        let consumer = self.consumer;
        if consumer.membership.is_some() && !cfg!(seeded_bug = "commit_before_data") {
            for (partition, end) in consumer.fetcher.lent_logs() {
                partition.log().sync_to(end)?;
            }
        }
        let (log, end) = consumer.append_commit()?;
        match consumer.commit_acks {
            Acks::Appended => Ok(()),
            Acks::Synced => log.sync_to(end),
        }
    }

    /// As [`commit`](Self::commit), for tasks. Cancelling it may leave the commit noted or not.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub async fn commit_async(self) -> Result<()> {
        let consumer = self.consumer;
        if consumer.membership.is_some() {
            for (partition, end) in consumer.fetcher.lent_logs() {
                until_durable(partition.log(), end).await?;
            }
        }
        let (log, end) = consumer.append_commit()?;
        match consumer.commit_acks {
            Acks::Appended => Ok(()),
            Acks::Synced => until_durable(&log, end).await,
        }
    }
}

async fn until_durable(log: &std::sync::Arc<crate::log::Log>, end: crate::types::Offset) -> Result<()> {
    let mut durable = UntilDurable::new(log);
    poll_fn(|cx| durable.poll(cx, log, end)).await
}

impl<'b> IntoIterator for &'b Batch<'_> {
    type Item = ConsumerRecord<'b>;
    type IntoIter = Records<'b>;

    fn into_iter(self) -> Records<'b> {
        self.iter()
    }
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("len", &self.len()).field("skipped", &self.skipped()).finish_non_exhaustive()
    }
}

/// A record, and the topic and partition it came from.
#[derive(Clone, Copy, Debug)]
pub struct ConsumerRecord<'a> {
    record: RecordView<'a>,
    topic: &'a TopicName,
    partition: PartitionId,
}

impl<'a> ConsumerRecord<'a> {
    /// The topic.
    pub fn topic(&self) -> &'a TopicName {
        self.topic
    }

    /// The partition.
    pub fn partition(&self) -> PartitionId {
        self.partition
    }
}

impl<'a> Deref for ConsumerRecord<'a> {
    type Target = RecordView<'a>;

    fn deref(&self) -> &RecordView<'a> {
        &self.record
    }
}

/// The records of a [`Batch`].
#[derive(Clone)]
pub struct Records<'a> {
    consumer: &'a Consumer,
    next: usize,
}

impl<'a> Iterator for Records<'a> {
    type Item = ConsumerRecord<'a>;

    fn next(&mut self) -> Option<ConsumerRecord<'a>> {
        let (record, topic, partition) = self.consumer.fetcher.record(self.next)?;
        self.next += 1;
        Some(ConsumerRecord { record, topic: topic.name(), partition })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.consumer.fetcher.len() - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Records<'_> {}

impl fmt::Debug for Records<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("left", &self.len()).finish_non_exhaustive()
    }
}
