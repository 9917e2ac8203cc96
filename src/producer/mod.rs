//! Sending: one record and wait, one and go on, or many at once.

pub(crate) mod partitioner;
pub(crate) mod accumulator;
pub(crate) mod ticket;

use std::fmt;
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

pub use partitioner::{KeyPartitioner, Partitioner};
pub use ticket::Ticket;

use crate::config::Acks;
use crate::error::{Error, Result};
use crate::producer::accumulator::{Accumulator, Collected, Collecting, Receipt};
use crate::record::{Record, SendError};
use crate::time::Deadline;
use crate::topic::Topic;
use crate::types::{Offset, PartitionId};

/// Where a record has come to lie.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RecordMetadata {
    /// The partition.
    pub partition: PartitionId,
    /// The offset in it.
    pub offset: Offset,
}

/// Sends records to a topic.
///
/// Records of one producer to one partition keep their order, whichever of the ways to send they took. A clone is
/// cheap, collects batches of its own, and is how several threads send: each takes one.
///
/// Dropping a producer never blocks: what [`send_nowait`](Self::send_nowait) took is appended, nothing waits for the
/// disk.
///
/// ```
/// use headwater::{Broker, Record};
/// # fn main() -> headwater::Result<()> {
/// let broker = Broker::in_memory()?;
/// let orders = broker.topic("orders").max_message_bytes(2048).open_or_create()?;
/// let mut producer = orders.producer()?;
/// assert_eq!(producer.send(Record::new(b"paid 19.90").key(b"customer-9"))?.offset, 0);
///
/// let too_large = vec![0; 4096];
/// let refused = producer.send(Record::new(&too_large)).unwrap_err();
/// assert_eq!(refused.error.kind(), "record_too_large");
/// assert_eq!(refused.into_inner().value_bytes(), Some(&too_large[..])); // the record comes back
/// # Ok(())
/// # }
/// ```
pub struct Producer {
    topic: Topic,
    partitioner: Arc<dyn Partitioner>,
    collecting: Collecting,
    /// By partition, made when first needed.
    accumulators: Vec<Option<Arc<Accumulator>>>,
    /// Where records without a key go for now.
    sticky: PartitionId,
}

impl Topic {
    /// A producer with the defaults: [`Acks::Synced`], a linger of 5 ms, batches of 64 KiB, [`KeyPartitioner`].
    ///
    /// # Errors
    /// [`Error::Closed`] once the broker is closed.
    pub fn producer(&self) -> Result<Producer> {
        self.producer_builder().build()
    }

    /// A producer to be set up.
    pub fn producer_builder(&self) -> ProducerBuilder {
        ProducerBuilder {
            topic: self.clone(),
            acks: Acks::default(),
            linger: Duration::from_millis(5),
            batch_bytes: 64 << 10,
            partitioner: Arc::new(KeyPartitioner),
        }
    }
}

/// Sets up a [`Producer`].
///
/// ```
/// use headwater::{Acks, Broker, Record};
/// # fn main() -> headwater::Result<()> {
/// let ticks = Broker::in_memory()?.topic("ticks").open_or_create()?;
/// let mut producer = ticks.producer_builder().acks(Acks::Appended).batch_bytes(1 << 20).build()?;
/// producer.send(Record::new(b"101.5"))?;
/// let refusal = ticks.producer_builder().batch_bytes(10).build().unwrap_err();
/// assert_eq!(refusal.kind(), "invalid_config");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct ProducerBuilder {
    topic: Topic,
    acks: Acks,
    linger: Duration,
    batch_bytes: u32,
    partitioner: Arc<dyn Partitioner>,
}

impl ProducerBuilder {
    /// When a send counts as done. Default: [`Acks::Synced`].
    pub fn acks(mut self, acks: Acks) -> Self {
        self.acks = acks;
        self
    }

    /// How long [`send_nowait`](Producer::send_nowait) may hold a record back to send more with it. Default: 5 ms;
    /// zero sends each at once. Whoever waits for a ticket, flushes or sends otherwise ends the holding back.
    #[doc(alias = "linger.ms")]
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// The size of a batch that is sent without waiting for more, in bytes. At least 512, and no more than the topic's
    /// `max_message_bytes`, which counts where more is asked for; default 64 KiB.
    #[doc(alias = "batch.size")]
    pub fn batch_bytes(mut self, bytes: u32) -> Self {
        self.batch_bytes = bytes;
        self
    }

    /// Who chooses partitions. Default: [`KeyPartitioner`].
    #[doc(alias = "partitioner.class")]
    pub fn partitioner(mut self, partitioner: impl Partitioner) -> Self {
        self.partitioner = Arc::new(partitioner);
        self
    }

    /// Makes the producer.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] for a batch size outside its limits, [`Error::Closed`] once the broker is closed.
    pub fn build(self) -> Result<Producer> {
        const BATCH_BYTES_MIN: u32 = 512;
        if self.batch_bytes < BATCH_BYTES_MIN {
            return Err(Error::InvalidConfig {
                setting: "batch.size",
                value: self.batch_bytes.to_string(),
                limit: format!("at least {BATCH_BYTES_MIN} is allowed"),
            });
        }
        let home = self.topic.home();
        home.check_open()?;
        let collecting = Collecting {
            acks: self.acks,
            linger: self.linger,
            batch_bytes: self.batch_bytes as usize,
            clock: home.clock.clone(),
            lingerer: Arc::clone(&home.lingerer),
            allows_threads: home.fs.allows_threads(),
        };
        let partitions = self.topic.config().partitions;
        // Producers begin at different partitions, so that many short-lived ones do not all fill the first.
        let sticky = (home.fs.random() % u64::from(partitions)) as PartitionId;
        let accumulators = vec![None; partitions as usize];
        Ok(Producer { partitioner: self.partitioner, collecting, accumulators, sticky, topic: self.topic })
    }
}

impl Producer {
    /// Sends one record and waits until it is as safe as the acks say.
    ///
    /// # Errors
    /// [`SendError`] gives the record back with the reason. With [`Error::Fenced`] the record may be in the log all
    /// the same: it was appended, and the sync failed.
    pub fn send<'a>(&mut self, record: Record<'a>) -> Result<RecordMetadata, SendError<'a>> {
        let acks = self.collecting.acks;
        let sent = self.choose(&record).and_then(|partition| {
            let accumulator = self.accumulator(partition)?;
            let offset = accumulator.send(&record)?;
            accumulator.partition().wait_for(acks, offset + 1)?;
            Ok(RecordMetadata { partition, offset })
        });
        if record.key.is_none() {
            self.unstick();
        }
        sent.map_err(|error| SendError::new(record, error))
    }

    /// Takes one record to be sent with others, and returns at once with a ticket for it.
    ///
    /// The batch is sent when it is full, when its linger has passed, when somebody waits for one of its tickets, and
    /// before anything else this producer sends to the same partition. A full queue makes this call append by itself:
    /// it slows down to what the partition takes, and never drops.
    ///
    /// This is also the way to send from a task: `producer.send_nowait(record)?.await`.
    ///
    /// # Errors
    /// [`SendError`] gives the record back if it cannot be taken. What happens to it later the ticket tells.
    pub fn send_nowait<'a>(&mut self, record: Record<'a>) -> Result<Ticket, SendError<'a>> {
        let acks = self.collecting.acks;
        let taken = self.choose(&record).and_then(|partition| {
            let accumulator = Arc::clone(self.accumulator(partition)?);
            let Collected { completion, index, has_sent } = accumulator.collect(&record)?;
            if has_sent && record.key.is_none() {
                self.unstick();
            }
            Ok(Ticket::new(Receipt { accumulator, completion, index, acks }))
        });
        taken.map_err(|error| SendError::new(record, error))
    }

    /// Sends many records at once and waits until they are as safe as the acks say. The result is in their order.
    ///
    /// Each partition gets its records as one batch, or as few as fit `max_message_bytes`; a batch is in the log
    /// whole or not at all, also after a crash.
    ///
    /// # Errors
    /// [`SendBatchError`] says which records are in the log and why the others are not.
    pub fn send_batch(&mut self, records: &[Record<'_>]) -> Result<Vec<RecordMetadata>, SendBatchError> {
        let mut sent = vec![None; records.len()];
        match self.try_send_batch(records, &mut sent) {
            Ok(()) => Ok(sent.into_iter().map(|metadata| metadata.expect("all were sent")).collect()),
            Err(error) => Err(SendBatchError { sent, error: Box::new(error) }),
        }
    }

    fn try_send_batch(&mut self, records: &[Record<'_>], sent: &mut [Option<RecordMetadata>]) -> Result<()> {
        let chosen = records.iter().map(|record| self.choose(record)).collect::<Result<Vec<_>>>()?;
        let mut partitions = chosen.clone();
        partitions.sort_unstable();
        partitions.dedup();
        // Before anything is sent: a partition that is not there refuses them all.
        partitions.iter().try_for_each(|partition| self.topic.partition(*partition).map(drop))?;
        let acks = self.collecting.acks;
        let mut ends = Vec::with_capacity(partitions.len());
        let mut refusal = None;
        for partition in partitions {
            let accumulator = self.accumulator(partition)?;
            let mine = (0..records.len()).filter(|at| chosen[*at] == partition);
            let (end, sent_all) = accumulator.send_batches(mine.map(|at| (at, &records[at])), |at, offset| {
                sent[at] = Some(RecordMetadata { partition, offset });
            });
            ends.extend(end.map(|end| (Arc::clone(accumulator.partition()), end)));
            if let Err(error) = sent_all {
                refusal = Some(error);
                break;
            }
        }
        self.unstick();
        // Those that are in the log are to be as safe as was asked for, also where others were refused.
        ends.iter().try_for_each(|(partition, end)| partition.wait_for(acks, *end))?;
        refusal.map_or(Ok(()), Err)
    }

    /// Sends what is held back and waits until everything sent so far is as safe as the acks say.
    ///
    /// # Errors
    /// The first error since the last flush that a `send_nowait` met later, if any.
    pub fn flush(&mut self) -> Result<()> {
        self.flush_until(Deadline::never(), Duration::MAX)
    }

    /// As [`flush`](Self::flush), waiting at most so long for being appended; the sync takes as long as the disk.
    ///
    /// # Errors
    /// [`Error::Timeout`], and as [`flush`](Self::flush).
    pub fn flush_timeout(&mut self, timeout: Duration) -> Result<()> {
        self.flush_until(Deadline::after(timeout), timeout)
    }

    fn flush_until(&mut self, deadline: Deadline, timeout: Duration) -> Result<()> {
        // All are sent before any is waited for: their syncs then run one after the other on full batches.
        self.accumulators.iter().flatten().for_each(|accumulator| accumulator.submit_now());
        let flushed: Vec<_> =
            self.accumulators.iter().flatten().map(|accumulator| accumulator.flush(deadline, timeout)).collect();
        flushed.into_iter().collect()
    }

    /// As [`flush`](Self::flush), for tasks. Cancel-safe: what was sent stays sent.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub async fn flush_async(&mut self) -> Result<()> {
        let receipts: Vec<_> = self.accumulators.iter().flatten().flat_map(|all| all.receipts()).collect();
        for receipt in receipts {
            // Told below, in order.
            let _ = Ticket::new(receipt).await;
        }
        self.flush_until(Deadline::never(), Duration::MAX)
    }

    /// Flushes within `timeout` and ends the producer. Dropping it does the same without waiting.
    ///
    /// # Errors
    /// As [`flush_timeout`](Self::flush_timeout).
    pub fn close(mut self, timeout: Duration) -> Result<()> {
        self.flush_timeout(timeout)
    }

    /// The topic.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// The partition of a record: its own wish, the partitioner's word, or the one that is being filled.
    fn choose(&self, record: &Record<'_>) -> Result<PartitionId> {
        self.topic.home().check_open()?;
        if let Some(partition) = record.partition {
            return Ok(partition);
        }
        let partitions = NonZeroU32::new(self.topic.config().partitions).expect("a topic has a partition");
        // A stranger's code: what it holds is its own, and nothing of ours has changed yet.
        let choose = || self.partitioner.partition(self.topic.name(), record, partitions.get());
        let chosen = catch_unwind(AssertUnwindSafe(choose)).map_err(|_| Error::Panicked { what: "the partitioner" })?;
        Ok(chosen.unwrap_or(self.sticky))
    }

    /// Has records without a key go to the next partition.
    fn unstick(&mut self) {
        self.sticky = (self.sticky + 1) % self.topic.config().partitions;
    }

    fn accumulator(&mut self, partition: PartitionId) -> Result<&Arc<Accumulator>> {
        let opened = self.topic.partition(partition)?;
        let slot = &mut self.accumulators[partition as usize];
        Ok(slot.get_or_insert_with(|| {
            let limit = self.topic.config().max_message_bytes as usize;
            opened.expect_appends();
            Accumulator::new(Arc::clone(opened), self.collecting.clone(), limit)
        }))
    }
}

/// Some of many records were refused.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{} of {} records were not sent: {error}", sent.iter().filter(|sent| sent.is_none()).count(), sent.len())]
pub struct SendBatchError {
    /// For each record, in order, where it lies; `None` for those that are not in the log. After
    /// [`Error::Fenced`] those that are may not be on the disk.
    pub sent: Vec<Option<RecordMetadata>>,
    /// Why the others were refused.
    #[source]
    pub error: Box<Error>,
}

impl From<SendBatchError> for Error {
    fn from(refused: SendBatchError) -> Self {
        *refused.error
    }
}

impl Drop for Producer {
    /// What was taken is appended, also while tickets are out. Nothing waits for the disk here.
    fn drop(&mut self) {
        self.accumulators.iter().flatten().for_each(|accumulator| accumulator.submit_now());
    }
}

impl Clone for Producer {
    /// A producer with the same settings and batches of its own.
    fn clone(&self) -> Self {
        Self {
            topic: self.topic.clone(),
            partitioner: Arc::clone(&self.partitioner),
            collecting: self.collecting.clone(),
            accumulators: vec![None; self.accumulators.len()],
            sticky: self.sticky,
        }
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("topic", self.topic.name())
            .field("acks", &self.collecting.acks)
            .finish_non_exhaustive()
    }
}
