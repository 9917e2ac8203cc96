//! A partition's log: segments in a row, one writer, any number of readers, and who waits for the disk together.
//!
//! ```text
//! log_start ≤ recovery point ≤ durable end ≤ end          log_start ≤ visible end ≤ end
//! base offset of segment n+1 = end offset of segment n
//! ```
//! The log knows offsets and batches; it knows no producers and no consumers.

pub(crate) mod worker;
pub(crate) mod fence;
pub(crate) mod segments;
pub(crate) mod flush;
pub(crate) mod writer;
pub(crate) mod cursor;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::batch::BatchError;
use crate::config::{OnDamage, Visibility};
use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::log::fence::Fence;
use crate::log::flush::{Flush, Found, Why};
use crate::log::segments::Segments;
use crate::log::worker::Worker;
use crate::log::writer::LogWriter;
use crate::storage::checkpoint::Owner;
use crate::storage::quarantine::Quarantine;
use crate::storage::recovery::{self, Ended, RecoveryReport, Site};
use crate::storage::segment::SegmentWriter;
use crate::sync::{AtomicU64, Ordering};
use crate::time::Deadline;
use crate::types::{Offset, Timestamp, TopicPartition};

pub(crate) use cursor::{Cursor, Fetched};

/// What a log is made of and how it behaves.
#[derive(Clone, Debug)]
pub(crate) struct LogSpec {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) dir: PathBuf,
    /// Where damaged files are put aside, if they are to be.
    pub(crate) quarantine: Arc<Quarantine>,
    pub(crate) partition: TopicPartition,
    pub(crate) owner: Owner,
    pub(crate) segment_bytes: u64,
    pub(crate) on_damage: OnDamage,
    /// Bytes to be left free on the file system.
    pub(crate) min_free: u64,
    pub(crate) flush_messages: Option<u64>,
    pub(crate) flush_interval: Option<Duration>,
    pub(crate) workers: Workers,
    /// Nothing is expected to be there: the topic is being made.
    pub(crate) is_new: bool,
}

/// The threads that work ahead of and behind the appender; shared by all logs of a broker, started when needed.
#[derive(Clone, Debug)]
pub(crate) struct Workers {
    /// Prepares segments.
    pub(crate) prepare: Arc<Worker<Weak<Log>>>,
    /// Syncs what nobody waits for.
    pub(crate) flush: Arc<Worker<(Weak<Log>, Why)>>,
}

impl Workers {
    /// Nothing runs until the first job.
    pub(crate) fn new() -> Self {
        let prepare = |log: Weak<Log>| log.upgrade().iter().for_each(Log::prepare_segments);
        let flush = |(log, why): (Weak<Log>, Why)| log.upgrade().iter().for_each(|log| log.flush_behind(why));
        Self {
            prepare: Arc::new(Worker::new("headwater-prepare", prepare)),
            flush: Arc::new(Worker::new("headwater-flush", flush)),
        }
    }
}

/// One partition's log, as readers and waiters share it.
#[derive(Debug)]
pub(crate) struct Log {
    spec: LogSpec,
    segments: Segments,
    /// The offset behind the last record that is committed.
    end: AtomicU64,
    flush: Flush,
    report: RecoveryReport,
}

impl Log {
    /// Opens or creates the log in `spec.dir`, whatever a crash left there, with the one hand that writes it.
    ///
    /// # Errors
    /// [`Error::Damaged`] for damage that is to be refused, [`Error::UnsupportedVersion`], [`Error::Io`].
    pub(crate) fn open(spec: LogSpec) -> Result<(Arc<Self>, LogWriter)> {
        let site = Site {
            fs: &*spec.fs,
            dir: &spec.dir,
            owner: spec.owner,
            partition: &spec.partition,
            on_damage: spec.on_damage,
            quarantine: &spec.quarantine,
            is_new: spec.is_new,
        };
        let recovered = recovery::recover(site)?;
        let tail = match recovered.tail {
            None => None,
            Some(tail) => {
                let resumed = SegmentWriter::resume(&*spec.fs, &spec.dir, tail);
                Some(resumed.map_err(|e| Error::io("map the last segment in", &spec.dir, e))?)
            }
        };
        let found = match recovered.report.ended {
            _ if recovered.is_marked_open => Found::Open,
            Ended::Closed => Found::Clean,
            _ => Found::Unknown,
        };
        let log = Arc::new(Self {
            segments: Segments::new(recovered.log_start, &recovered.bases),
            end: AtomicU64::new(recovered.end_offset),
            flush: Flush::new(recovered.checkpoint, recovered.durable, found),
            report: recovered.report,
            spec,
        });
        log.take_up_unsynced(recovered.durable.segment, tail.as_ref())?;
        if log.report.ended == Ended::ProcessDied {
            log.flush.settle_first();
        }
        let writer = LogWriter::new(Arc::clone(&log), tail, &recovered.spares);
        if log.durable_end() < log.end() {
            // What a dead process left in the page cache, for readers who see only what is on the disk.
            if log.spec.fs.allows_threads() {
                log.request_flush();
            } else {
                log.sync_to(log.end())?;
            }
        }
        Ok((log, writer))
    }

    /// Segments that a dead process left in the page cache are synced like those that this one writes.
    /// Also where all records are on the disk: a seal may not be, and without it the segments behind are cut.
    fn take_up_unsynced(&self, durable_base: Offset, tail: Option<&SegmentWriter>) -> Result<()> {
        let tail_base = tail.map(|tail| tail.segment().base_offset());
        for base in self.segments.bases() {
            if Some(base) == tail_base || base < durable_base {
                continue;
            }
            match self.segments.open_unsynced(self, base) {
                // Recovery has said so, and was told to go on.
                Err(Error::Damaged(_)) if self.passes_over_damage() => {}
                opened => self.flush.begin_segment(opened?),
            }
        }
        if let Some(tail) = tail {
            self.segments.keep(tail.segment());
            self.flush.begin_segment(Arc::clone(tail.segment()));
        }
        Ok(())
    }

    /// What was found when the log was opened.
    pub(crate) fn report(&self) -> &RecoveryReport {
        &self.report
    }

    /// The partition, as it is named to people.
    pub(crate) fn partition(&self) -> &TopicPartition {
        &self.spec.partition
    }

    /// The first offset.
    pub(crate) fn start(&self) -> Offset {
        self.segments.log_start()
    }

    /// The offset behind the last record that is committed.
    pub(crate) fn end(&self) -> Offset {
        // Acquire: pairs with the Release in `publish`; the records below were committed before it.
        self.end.load(Ordering::Acquire)
    }

    /// The offset behind the last record that is on the disk.
    pub(crate) fn durable_end(&self) -> Offset {
        self.flush.durable()
    }

    /// The offset behind the last record that a reader may see: the high watermark.
    pub(crate) fn visible_end(&self, visibility: Visibility) -> Offset {
        match visibility {
            Visibility::Committed if self.flush.fence().is_none() => self.end(),
            _ => self.durable_end(),
        }
    }

    /// The offset of the first record of `time` or later; the visible end where there is none.
    pub(crate) fn offset_for_time(self: &Arc<Self>, time: Timestamp, visibility: Visibility) -> Result<Offset> {
        let visible = self.visible_end(visibility);
        for base in self.segments.bases() {
            let segment = match self.segments.open(self, base) {
                Err(Error::Damaged(_)) if self.passes_over_damage() => continue,
                opened => opened?,
            };
            if segment.latest() < time {
                continue;
            }
            let mut cursor = Cursor::at_position(Arc::clone(self), &segment, segment.position_before_time(time));
            while let Some(fetched) = cursor.next(visible)? {
                let batch = fetched.batch()?;
                if batch.header().max_timestamp < time {
                    continue;
                }
                for record in batch.records() {
                    let record = record.map_err(|error| self.unreadable(&fetched, error))?;
                    if record.timestamp() >= time && record.offset() >= self.start() {
                        return Ok(record.offset());
                    }
                }
            }
        }
        Ok(visible)
    }

    fn passes_over_damage(&self) -> bool {
        self.spec.on_damage != OnDamage::Refuse
    }

    /// Copies a damaged file aside, where that was asked for.
    fn put_aside(&self, path: &Path) {
        if self.spec.on_damage == OnDamage::Quarantine {
            self.spec.quarantine.put_aside(&*self.spec.fs, path);
        }
    }

    /// A batch whose checksums hold and whose records make no sense: whoever wrote it was not this crate.
    pub(crate) fn malformed(&self, fetched: &Fetched, reason: &'static str) -> Error {
        Error::Damaged(Arc::new(crate::error::Damage {
            partition: self.spec.partition.clone(),
            path: fetched.path().to_path_buf(),
            position: fetched.position(),
            from: fetched.base_offset(),
            to: fetched.end_offset(),
            reason,
        }))
    }

    /// Why records of a batch that is whole cannot be read.
    pub(crate) fn unreadable(&self, fetched: &Fetched, error: BatchError) -> Error {
        match error {
            BatchError::Compressed(_) => Error::Unsupported {
                what: format!(
                    "offsets {} to {} of {}: {error}",
                    fetched.base_offset(),
                    fetched.end_offset(),
                    self.partition()
                ),
            },
            _ => self.malformed(fetched, error.reason()),
        }
    }

    /// Makes everything below `offset` durable, together with everybody who waits for the same.
    ///
    /// # Errors
    /// [`Error::Fenced`] if this or an earlier sync failed.
    pub(crate) fn sync_to(&self, offset: Offset) -> Result<()> {
        self.flush.sync_to(self, offset)
    }

    /// Everything that waits for the disk waits here.
    pub(crate) fn flush(&self) -> &Flush {
        &self.flush
    }

    /// Why nothing can be appended any more, if so.
    pub(crate) fn fence(&self) -> Option<&Fence> {
        self.flush.fence()
    }

    /// Closes in order: everything synced, and the control file says so. The writer takes nothing more by now.
    pub(crate) fn close(&self) -> Result<()> {
        let closed = self.sync_to(self.end()).and_then(|()| self.flush.mark_clean(self));
        self.abandon();
        closed
    }

    /// Lets go of whole segments that lie before `offset`, as far as it is on the disk. The start of the log moves
    /// first, durably, and then the files go.
    pub(crate) fn trim_to(&self, offset: Offset) -> Result<()> {
        let Some(start) = self.segments.start_of_segment(offset.min(self.durable_end())) else { return Ok(()) };
        self.flush.note_start(self, start)?;
        self.segments.remove_before(self, start);
        Ok(())
    }

    /// Leaves the files to whoever opens them next.
    pub(crate) fn abandon(&self) {
        self.segments.abandon();
        self.flush.abandon();
    }

    /// Has the disk catch up at once, on the flush thread; in this one where there are to be no threads.
    pub(crate) fn request_flush(self: &Arc<Self>) {
        if !self.spec.fs.allows_threads() {
            self.flush_behind(Why::Requested);
        } else if self.flush.request()
            && self.spec.workers.flush.submit((Arc::downgrade(self), Why::Requested)).is_err()
        {
            // No thread can be had now: the next request tries again.
            self.flush.begin_background(Why::Requested);
        }
    }

    /// Has the disk catch up after the flush interval.
    pub(crate) fn schedule_flush(self: &Arc<Self>) {
        if let Some(interval) = self.spec.flush_interval
            && self.spec.fs.allows_threads()
            && self.flush.schedule()
        {
            let job = (Arc::downgrade(self), Why::Scheduled);
            if self.spec.workers.flush.submit_at(Deadline::after(interval), job).is_err() {
                self.flush.begin_background(Why::Scheduled);
            }
        }
    }

    /// Syncs what there is. A failure fences the log, and whoever comes next hears of it.
    fn flush_behind(self: &Arc<Self>, why: Why) {
        self.flush.begin_background(why);
        let _ = self.flush.reach(self, self.end());
    }

    /// Has pages and segments made ready, where there are threads.
    fn prepare_soon(self: &Arc<Self>) {
        if self.spec.fs.allows_threads() {
            // Without a thread the appender makes what it needs itself.
            let _ = self.spec.workers.prepare.submit(Arc::downgrade(self));
        }
    }

    /// Brings in the pages that come next, and sees to spare segments.
    fn prepare_segments(self: &Arc<Self>) {
        if let Some(last) = self.flush.last_segment() {
            last.make_ready();
        }
        self.segments.prepare(self);
    }

    fn publish(&self, end: Offset) {
        // Release: pairs with the Acquire in `end`.
        self.end.store(end, Ordering::Release);
    }
}
