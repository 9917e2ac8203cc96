//! One partition: gives offsets to what is appended, one batch after the other, and tells readers of it.
//!
//! Producers on many threads meet here in a lock-free queue; whoever holds the pen appends for the others (see
//! [`ring`]). A batch comes encoded and checksummed, so that what is done under the pen is to number it
//! and to copy it.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};

use crate::batch::BatchView;
use crate::config::{Acks, Visibility};
use crate::error::{Error, Result};
use crate::log::worker::Worker;
use crate::log::writer::{Appending, LogWriter};
use crate::log::{Log, LogSpec};
use crate::metrics::{Counter, PartitionMetrics};
use crate::record::{OwnedRecord, TicketError};
use crate::ring::{self, Combiner, Notify, Waiting};
use crate::sync::plain::Mutex;
use crate::types::{Offset, Timestamp, TopicPartition};

/// Batches that may wait for the one who holds the pen.
const QUEUE_CAPACITY: usize = 256;
/// Buffers of appended batches that are kept for the next ones.
const BUFFERS_KEPT: usize = 16;

/// A partition that is open.
pub(crate) struct Partition {
    log: Arc<Log>,
    pen: Combiner<Appender>,
    shared: Arc<Shared>,
    /// Those who hold records that were not submitted yet; asked for them when the partition is closed. Guards only
    /// itself.
    holders: Mutex<Vec<Weak<dyn Holder>>>,
}

/// Somebody who holds records back for a while, to send them together.
pub(crate) trait Holder: Send + Sync {
    /// Submits what it holds.
    fn submit_held(&self);
    /// Submits what it has held for long enough, and has itself called again for the rest.
    fn submit_due(self: Arc<Self>);
}

/// The thread that calls those who hold something back when it is time.
pub(crate) type Lingerer = Worker<Weak<dyn Holder>>;

/// A linger thread to be.
pub(crate) fn lingerer() -> Lingerer {
    Worker::new("headwater-linger", |holder: Weak<dyn Holder>| {
        holder.upgrade().into_iter().for_each(|holder| holder.submit_due())
    })
}

/// What the appender and everybody else share.
#[derive(Debug)]
struct Shared {
    appended: Notify,
    buffers: crossbeam::queue::ArrayQueue<Vec<u8>>,
    /// Batches whose outcome is known and whose tickets were not told yet.
    untold: crossbeam::queue::SegQueue<Arc<Completion>>,
    batches: Counter,
    records: Counter,
    bytes: Counter,
    refused: Counter,
    skipped: Counter,
}

/// A batch on its way: encoded and checksummed, without its offset.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) bytes: Vec<u8>,
    pub(crate) count: u32,
    pub(crate) max_timestamp: Timestamp,
    pub(crate) completion: Arc<Completion>,
}

/// What became of a submitted batch; shared by the tickets of its records.
#[derive(Debug)]
pub(crate) struct Completion {
    outcome: OnceLock<Outcome>,
    done: Notify,
}

/// The batch's offsets, or why it has none, and the batch back.
type Outcome = std::result::Result<Range<Offset>, (Error, Vec<u8>)>;

impl Completion {
    pub(crate) fn new() -> Self {
        Self { outcome: OnceLock::new(), done: Notify::new() }
    }

    /// News when the outcome is known.
    pub(crate) fn done(&self) -> &Notify {
        &self.done
    }

    /// The offset of the record with this index in the batch, or why it was refused, with the record; `None` while
    /// that is not known.
    pub(crate) fn outcome(&self, index: u32) -> Option<std::result::Result<Offset, TicketError>> {
        Some(match self.outcome.get()? {
            Ok(offsets) => Ok(offsets.start + u64::from(index)),
            Err((error, batch)) => {
                Err(TicketError { record: record_of(batch, index).map(Box::new), error: Box::new(error.clone()) })
            }
        })
    }

    /// Whether the outcome is known.
    pub(crate) fn is_known(&self) -> bool {
        self.outcome.get().is_some()
    }

    /// The offset behind the batch, or why it was refused; `None` while that is not known.
    pub(crate) fn end(&self) -> Option<Result<Offset>> {
        let outcome = self.outcome.get()?.as_ref();
        Some(outcome.map(|offsets| offsets.end).map_err(|(error, _)| error.clone()))
    }

    /// Notes the outcome. Whoever waits is told after the pen was let go: see [`Partition::tell`].
    fn complete(&self, outcome: Outcome) {
        let is_first = self.outcome.set(outcome).is_ok();
        debug_assert!(is_first, "a batch was completed twice");
    }
}

/// A task's wait for an offset to reach the disk.
pub(crate) struct UntilDurable {
    waiting: Waiting<Synced>,
}

/// Leads to the news of a log's durable end.
struct Synced(Arc<Log>);

impl Deref for Synced {
    type Target = Notify;

    fn deref(&self) -> &Notify {
        self.0.flush().synced()
    }
}

impl UntilDurable {
    pub(crate) fn new(log: &Arc<Log>) -> Self {
        Self { waiting: Waiting::new(Synced(Arc::clone(log))) }
    }

    /// Ready once everything below `end` is on the disk, or never will be. Has the flush thread see to it.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, log: &Arc<Log>, end: Offset) -> Poll<Result<()>> {
        let mut ask = || match log.fence() {
            _ if log.durable_end() >= end => Some(Ok(())),
            Some(fence) => Some(Err(fence.error(log.partition()))),
            None => None,
        };
        if let Poll::Ready(answer) = self.waiting.poll_ready(cx, &mut ask) {
            return Poll::Ready(answer);
        }
        log.request_flush();
        // Where there are no threads the sync has just been done, here.
        self.waiting.poll_ready(cx, ask)
    }
}

/// A record out of a batch that was not appended.
fn record_of(batch: &[u8], index: u32) -> Option<OwnedRecord> {
    let batch = BatchView::parse(batch).ok()?;
    let record = batch.records().nth(index as usize)?.ok()?;
    Some(record.to_owned_record())
}

/// The one who appends, behind the pen.
struct Appender {
    writer: LogWriter,
    shared: Arc<Shared>,
    is_closed: bool,
}

impl Appender {
    fn append(&mut self, appending: Appending<'_>) -> Result<Offset> {
        let (count, len) = (appending.count, appending.bytes.len());
        let appended =
            if self.is_closed { Err(Error::Closed { what: "the broker" }) } else { self.writer.append(appending) };
        match &appended {
            Ok(_) => {
                // Alone: this is done under the pen.
                self.shared.batches.add_alone(1);
                self.shared.records.add_alone(u64::from(count));
                self.shared.bytes.add_alone(len as u64);
            }
            Err(_) => self.shared.refused.add_alone(1),
        }
        appended
    }
}

/// Sees to it that a batch has an outcome when it leaves the pen, also if appending it panicked.
struct Answered<'a> {
    completion: &'a Arc<Completion>,
    shared: &'a Shared,
}

impl Drop for Answered<'_> {
    fn drop(&mut self) {
        if !self.completion.is_known() {
            self.completion.complete(Err((Error::Panicked { what: "the appender" }, Vec::new())));
        }
        self.shared.untold.push(Arc::clone(self.completion));
    }
}

impl ring::Writer for Appender {
    type Item = Submission;

    fn write(&mut self, submission: Submission) {
        let Submission { mut bytes, count, max_timestamp, completion } = submission;
        let shared = Arc::clone(&self.shared);
        let answered = Answered { completion: &completion, shared: &shared };
        match self.append(Appending { bytes: &mut bytes, count, max_timestamp }) {
            Ok(base) => {
                completion.complete(Ok(base..base + u64::from(count)));
                // Full: there are enough, and this one is freed.
                let _ = self.shared.buffers.push(bytes);
            }
            Err(error) => completion.complete(Err((error, bytes))),
        }
        drop(answered);
    }

    /// Nothing: who waits is told by [`Partition::tell`], when no lock is held.
    fn end_run(&mut self) {}
}

impl Partition {
    /// Opens the partition in `spec.dir`, whatever a crash left there.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub(crate) fn open(spec: LogSpec) -> Result<Self> {
        let (log, writer) = Log::open(spec)?;
        let shared = Arc::new(Shared {
            appended: Notify::new(),
            buffers: crossbeam::queue::ArrayQueue::new(BUFFERS_KEPT),
            untold: crossbeam::queue::SegQueue::new(),
            batches: Counter::new(),
            records: Counter::new(),
            bytes: Counter::new(),
            refused: Counter::new(),
            skipped: Counter::new(),
        });
        let appender = Appender { writer, shared: Arc::clone(&shared), is_closed: false };
        let pen = Combiner::new(QUEUE_CAPACITY, appender);
        Ok(Self { log, pen, shared, holders: Mutex::new(Vec::new()) })
    }

    /// The partition's name.
    pub(crate) fn name(&self) -> &TopicPartition {
        self.log.partition()
    }

    /// The log, for reading and for waiting.
    pub(crate) fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Somebody is about to send here: has the log marked as open now, which waits for the disk once a session, so that
    /// no drop has to. A failure is met again, and told, by the first append.
    pub(crate) fn expect_appends(&self) {
        let _ = self.log.flush().mark_open(&self.log);
    }

    /// Appends a batch behind everything that was submitted before, and returns its first offset.
    ///
    /// # Errors
    /// As [`LogWriter::append`], and [`Error::Closed`].
    ///
    /// Call [`tell`](Self::tell) when the caller's own locks are released.
    pub(crate) fn append(&self, appending: Appending<'_>) -> Result<Offset> {
        self.pen.with(|appender| appender.append(appending))
    }

    /// Has a batch appended by this thread or by the one that is at it. Its completion says what became of it.
    ///
    /// Call [`tell`](Self::tell) when the caller's own locks are released.
    pub(crate) fn submit(&self, submission: Submission) {
        self.pen.submit(submission);
    }

    /// Tells readers and tickets what has come to pass since. A waker is a stranger's code and may do anything, also
    /// send to this very partition: so it runs under no lock. Whoever appended for others comes by here after it.
    pub(crate) fn tell(&self) {
        self.shared.appended.notify_all();
        while let Some(completion) = self.shared.untold.pop() {
            completion.done.notify_all();
        }
    }

    /// A buffer that was used before, if there is one.
    pub(crate) fn buffer(&self) -> Option<Vec<u8>> {
        self.shared.buffers.pop()
    }

    /// Waits until what ends at `end` is as safe as `acks` says.
    ///
    /// # Errors
    /// [`Error::Fenced`] if a sync failed.
    pub(crate) fn wait_for(&self, acks: Acks, end: Offset) -> Result<()> {
        match acks {
            Acks::Appended => Ok(()),
            Acks::Synced => self.log.sync_to(end),
        }
    }

    /// News for those who see this much of the log.
    pub(crate) fn news(&self, visibility: Visibility) -> &Notify {
        match visibility {
            Visibility::Committed => &self.shared.appended,
            Visibility::Durable => self.log.flush().synced(),
        }
    }

    /// Notes that offsets were passed over.
    pub(crate) fn count_skipped(&self, offsets: u64) {
        self.shared.skipped.add(offsets);
    }

    /// Has `holder` asked for what it holds before the partition closes.
    pub(crate) fn add_holder(&self, holder: Weak<dyn Holder>) {
        let mut holders = self.holders.lock();
        holders.retain(|holder| holder.strong_count() > 0);
        holders.push(holder);
    }

    /// Has everybody submit what they hold back.
    fn gather(&self) {
        let holders: Vec<_> = self.holders.lock().iter().filter_map(Weak::upgrade).collect();
        for holder in holders {
            holder.submit_held();
        }
    }

    /// Takes nothing from now on, syncs what there is, and notes that the log was closed in order.
    ///
    /// # Errors
    /// [`Error::Fenced`], [`Error::Io`].
    pub(crate) fn close(&self) -> Result<()> {
        self.stop();
        let closed = self.log.close();
        // Whoever waits for news is to find out that there will be none.
        self.shared.appended.notify_all();
        self.log.flush().synced().notify_all();
        closed
    }

    /// Nobody uses the topic any more, and the directory's lock is about to be given back: what producers still hold
    /// is appended, and from then on neither they nor the threads behind touch what the next broker finds.
    pub(crate) fn abandon(&self) {
        self.stop();
        self.log.abandon();
    }

    /// Takes what is held back, and nothing after it.
    fn stop(&self) {
        self.gather();
        self.pen.with(|appender| appender.is_closed = true);
        self.tell();
    }

    pub(crate) fn metrics(&self) -> PartitionMetrics {
        PartitionMetrics {
            batches_appended: self.shared.batches.value(),
            records_appended: self.shared.records.value(),
            bytes_appended: self.shared.bytes.value(),
            appends_refused: self.shared.refused.value(),
            offsets_skipped: self.shared.skipped.value(),
            log_start: self.log.start(),
            log_end: self.log.end(),
            durable_end: self.log.durable_end(),
        }
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partition").field("name", self.name()).field("end", &self.log.end()).finish_non_exhaustive()
    }
}
