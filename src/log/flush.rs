//! Reaching the disk together: one leader syncs for all who wait, and what arrives meanwhile is the next group.
//!
//! No timer and no thread is needed for that: whoever comes first leads, the others wait for its sync, and one of
//! them leads the next. A failed sync fences the log: the kernel may have dropped what it could not write and report
//! success the next time, so nothing is retried and nothing more is acked (PostgreSQL learnt this in 2018).

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, OnceLock};

use crate::error::{Error, Result};
use crate::log::Log;
use crate::log::fence::Fence;
use crate::ring::Notify;
use crate::storage::checkpoint::{Checkpoint, Control, Left, RecoveryPoint};
use crate::storage::name::CONTROL;
use crate::storage::segment::{FIRST_FRAME, Segment};
use crate::sync::plain::{Condvar, Mutex};
use crate::sync::{AtomicBool, AtomicU64, Ordering, fence};
use crate::types::Offset;

/// Records between two writings of the control file, besides every sealed segment. It bounds what recovery walks.
const CHECKPOINT_RECORDS: u64 = 64 << 10;

/// The durable end of a log and everybody who waits for it.
#[derive(Debug)]
pub(crate) struct Flush {
    durable: AtomicU64,
    fence: OnceLock<Fence>,
    /// Guards who leads and what is to be synced; never held during I/O.
    state: Mutex<State>,
    /// For threads that follow.
    led: Condvar,
    /// For tasks, and for readers who see only what is durable.
    synced: Notify,
    /// The control file. Taken by the leader, by the first append, by closing and by dropping; held while it is
    /// written and not while it is synced. No lock of this type is taken under it.
    journal: Mutex<Journal>,
    /// No sync is begun any more: the directory is somebody else's.
    is_abandoned: AtomicBool,
    /// Syncs that somebody waited for.
    awaited: AtomicU64,
    /// The flush thread will come by when the flush interval has passed.
    is_scheduled: AtomicBool,
    /// The flush thread was asked to come by at once.
    is_requested: AtomicBool,
}

/// Why the flush thread comes by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Why {
    /// The flush interval has passed.
    Scheduled,
    /// Somebody asked.
    Requested,
}

/// What the control file of a log that is opened says, on the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// That it is open.
    Open,
    /// That it was closed in order.
    Clean,
    /// One or the other: what it says in the page cache may not have reached the disk.
    Unknown,
}

#[derive(Debug)]
struct State {
    is_led: bool,
    /// Segments with bytes that may not be on the disk, in order; the last one is being written.
    unsynced: VecDeque<Arc<Segment>>,
    /// Whether a name has changed since the directory was synced.
    has_new_name: bool,
}

#[derive(Debug)]
struct Journal {
    checkpoint: Checkpoint,
    /// As last written: a start that was noted never goes back.
    log_start: Offset,
    recovery_point: RecoveryPoint,
    /// Whether the control file says, durably, that the log is open: it must, before the first append.
    is_marked_open: bool,
    /// Whether it says that the log was closed in order, and nothing has come since.
    is_clean: bool,
    /// What a dead process left has not been synced yet.
    is_unsettled: bool,
    is_fenced: bool,
    /// The file is somebody else's by now.
    is_abandoned: bool,
}

impl Flush {
    /// A log that is durable up to `durable`.
    pub(crate) fn new(checkpoint: Checkpoint, durable: RecoveryPoint, found: Found) -> Self {
        Self {
            durable: AtomicU64::new(durable.offset),
            fence: OnceLock::new(),
            state: Mutex::new(State { is_led: false, unsynced: VecDeque::new(), has_new_name: false }),
            led: Condvar::new(),
            synced: Notify::new(),
            journal: Mutex::new(Journal {
                checkpoint,
                log_start: 0,
                recovery_point: durable,
                is_marked_open: found == Found::Open,
                is_clean: found == Found::Clean,
                is_unsettled: false,
                is_fenced: false,
                is_abandoned: false,
            }),
            is_abandoned: AtomicBool::new(false),
            awaited: AtomicU64::new(0),
            is_scheduled: AtomicBool::new(false),
            is_requested: AtomicBool::new(false),
        }
    }

    /// The offset behind the last record that is on the disk.
    pub(crate) fn durable(&self) -> Offset {
        // Acquire: pairs with the Release in `lead`, which comes after the sync.
        self.durable.load(Ordering::Acquire)
    }

    /// Why nothing is taken any more, if so.
    pub(crate) fn fence(&self) -> Option<&Fence> {
        self.fence.get()
    }

    /// How many syncs somebody has waited for.
    pub(crate) fn syncs_awaited(&self) -> u64 {
        // Relaxed: a hint for how to write.
        self.awaited.load(Ordering::Relaxed)
    }

    /// The segment that is written to; `None` before the first.
    pub(crate) fn last_segment(&self) -> Option<Arc<Segment>> {
        self.state.lock().unsynced.back().cloned()
    }

    /// News when the durable end has moved or the log was fenced.
    pub(crate) fn synced(&self) -> &Notify {
        &self.synced
    }

    /// A segment that is written to from now on. Called before anything in it is published.
    pub(crate) fn begin_segment(&self, segment: Arc<Segment>) {
        let mut state = self.state.lock();
        state.unsynced.push_back(segment);
        state.has_new_name = true;
    }

    /// Whether the flush thread is to come by after a while; true once until it has.
    pub(crate) fn schedule(&self) -> bool {
        raise(&self.is_scheduled)
    }

    /// Whether the flush thread is to come by at once; true once until it has.
    pub(crate) fn request(&self) -> bool {
        raise(&self.is_requested)
    }

    /// The flush thread has come by: what is appended from now on asks for it again.
    pub(crate) fn begin_background(&self, why: Why) {
        let flag = match why {
            Why::Scheduled => &self.is_scheduled,
            Why::Requested => &self.is_requested,
        };
        // Relaxed: ordered by the fence.
        flag.store(false, Ordering::Relaxed);
        // SeqCst: lowering comes before, reading the end of the log after; an appender publishes before the fence in
        // `raise` and looks at the flag after it. So either it sees the flag down, or this flush sees its batch.
        fence(Ordering::SeqCst);
    }

    /// Waits until everything below `offset` is durable, and leads if nobody does.
    pub(crate) fn sync_to(&self, log: &Log, offset: Offset) -> Result<()> {
        // Relaxed: a hint for how to write.
        self.awaited.fetch_add(1, Ordering::Relaxed);
        self.reach(log, offset)
    }

    /// The same for the flush thread, which nobody waits for.
    pub(crate) fn reach(&self, log: &Log, offset: Offset) -> Result<()> {
        loop {
            if self.durable() >= offset {
                return Ok(());
            }
            let mut state = self.state.lock();
            if self.durable() >= offset {
                return Ok(());
            }
            if let Some(fence) = self.fence() {
                return Err(fence.error(log.partition()));
            }
            // Acquire: pairs with the Release in `abandon`.
            if self.is_abandoned.load(Ordering::Acquire) {
                return Err(Error::Closed { what: "the broker" });
            }
            if state.is_led {
                self.led.wait(&mut state);
                continue;
            }
            state.is_led = true;
            drop(state);
            let leading = Leading { flush: self };
            let led = self.lead(log);
            drop(leading);
            self.synced.notify_all();
            led?;
        }
    }

    /// Syncs everything that is committed now. One thread at a time.
    fn lead(&self, log: &Log) -> Result<()> {
        let end = log.end();
        let (segments, has_new_name) = {
            let mut state = self.state.lock();
            (state.unsynced.iter().cloned().collect::<Vec<_>>(), std::mem::take(&mut state.has_new_name))
        };
        if cfg!(seeded_bug = "ack_before_sync") {
            // Release: as below.
            self.durable.store(end, Ordering::Release);
        }
        if let Err(error) = sync(log, &segments, has_new_name) {
            if cfg!(seeded_bug = "sync_retried") {
                return Err(Error::io("sync", &log.spec.dir, error));
            }
            return Err(self.fence_off(log, error));
        }
        if let Err(error) = self.settle(log, end, &segments) {
            return Err(self.fence_off(log, error));
        }
        // Release: pairs with the Acquire in `durable`.
        self.durable.store(end, Ordering::Release);
        let retired = self.retire(&segments);
        for segment in &retired {
            segment.retire(&*log.spec.fs);
        }
        if !retired.is_empty() || end >= self.journal.lock().recovery_point.offset + CHECKPOINT_RECORDS {
            self.checkpoint(log, end, &segments, !retired.is_empty());
        }
        Ok(())
    }

    /// The log was found as a dead process left it: all of it is in the page cache, and nobody knows what of it is on
    /// the disk. The first sync writes it again, from the recovery point's segment on, and is acked once that is noted
    /// durably: until then a power cut could have recovery begin before a hole.
    pub(crate) fn settle_first(&self) {
        for segment in &self.state.lock().unsynced {
            segment.doubt();
        }
        self.journal.lock().is_unsettled = true;
    }

    fn settle(&self, log: &Log, end: Offset, segments: &[Arc<Segment>]) -> io::Result<()> {
        {
            let mut journal = self.journal.lock();
            if !journal.is_unsettled {
                return Ok(());
            }
            // The end, in any case: a later recovery that began before a hole would cut what is acked now. Where the last
            // segment cannot be read, and was passed over, it is the next one's beginning.
            let next = RecoveryPoint { offset: end, segment: end, position: FIRST_FRAME };
            let recovery_point = point_at(end, segments).unwrap_or(next);
            journal.write(log, recovery_point, Left::Open)?;
        }
        self.sync_journal()?;
        let mut journal = self.journal.lock();
        (journal.is_unsettled, journal.is_marked_open) = (false, true);
        Ok(())
    }

    /// Makes durable what was last written into the control file. Not under its lock: dropping a log takes that, and
    /// must not wait for the disk.
    fn sync_journal(&self) -> io::Result<()> {
        let file = self.journal.lock().checkpoint.file();
        file.sync_data()
    }

    /// Takes the segments off the list that are sealed and were just synced: all but the last.
    fn retire(&self, synced: &[Arc<Segment>]) -> Vec<Arc<Segment>> {
        let mut state = self.state.lock();
        let sealed = synced.len().saturating_sub(1);
        state.unsynced.drain(..sealed).collect()
    }

    /// Notes how far the disk has come. An older note is as good, only further from the end: so it is synced once a
    /// segment, to bound what recovery walks after a power cut, and a failure is harmless.
    fn checkpoint(&self, log: &Log, end: Offset, segments: &[Arc<Segment>], is_to_be_synced: bool) {
        let Some(recovery_point) = point_at(end, segments) else { return };
        let written = self.journal.lock().write(log, recovery_point, Left::Open);
        if written.is_ok() && is_to_be_synced {
            let _ = self.sync_journal();
        }
    }

    /// Before the first append of a session: from here on a crash must be seen as one.
    pub(crate) fn mark_open(&self, log: &Log) -> Result<()> {
        let written = {
            let mut journal = self.journal.lock();
            if journal.is_marked_open || cfg!(seeded_bug = "clean_flag_kept") {
                return Ok(());
            }
            let recovery_point = journal.recovery_point;
            journal.write(log, recovery_point, Left::Open)
        };
        let marked = written.and_then(|()| self.sync_journal());
        marked.map_err(|e| Error::io("mark as open", log.spec.dir.join(CONTROL), e))?;
        self.journal.lock().is_marked_open = true;
        Ok(())
    }

    /// The last act of an orderly close, after everything was synced. Nothing is written into the control file after
    /// it.
    pub(crate) fn mark_clean(&self, log: &Log) -> Result<()> {
        if let Some(fence) = self.fence() {
            return Err(fence.error(log.partition()));
        }
        let segments: Vec<_> = self.state.lock().unsynced.iter().cloned().collect();
        let written = {
            let mut journal = self.journal.lock();
            if journal.is_clean {
                return Ok(()); // nothing was appended
            }
            let end = log.end();
            let recovery_point = match point_at(end, &segments) {
                _ if end == journal.recovery_point.offset => journal.recovery_point,
                Some(recovery_point) => recovery_point,
                // Where the place cannot be said the log stays marked as open: recovery will find it.
                None => return Ok(()),
            };
            let written = journal.write(log, recovery_point, Left::Clean);
            journal.is_abandoned = true;
            written
        };
        let marked = written.and_then(|()| self.sync_journal());
        marked.map_err(|e| Error::io("mark as closed", log.spec.dir.join(CONTROL), e))
    }

    /// Notes, durably, that the log begins at `start`.
    pub(crate) fn note_start(&self, log: &Log, start: Offset) -> Result<()> {
        let written = {
            let mut journal = self.journal.lock();
            let recovery_point = journal.recovery_point;
            journal.write_with_start(log, start, recovery_point, Left::Open)
        };
        let noted = written.and_then(|()| self.sync_journal());
        noted.map_err(|e| Error::io("note the start of the log in", log.spec.dir.join(CONTROL), e))
    }

    /// The control file is not to be touched any more: the directory's lock is about to be given back.
    pub(crate) fn abandon(&self) {
        self.journal.lock().is_abandoned = true;
        // Release: pairs with the Acquire in `reach`.
        self.is_abandoned.store(true, Ordering::Release);
    }

    /// A write or sync failed: nothing is taken from now on, and everybody who waits is told.
    pub(crate) fn fence_off(&self, log: &Log, source: io::Error) -> Error {
        let first = Fence { durable_end: self.durable(), source: Arc::new(source) };
        let fence = self.fence.get_or_init(|| first);
        {
            // For the next session: it must not believe the page cache. If this fails too, the disk is asked anyway
            // after a restart of the machine, and the caller has been told.
            let mut journal = self.journal.lock();
            journal.is_fenced = true;
            let recovery_point = journal.recovery_point;
            let _ = journal.write(log, recovery_point, Left::Fenced);
        }
        drop(self.state.lock());
        self.led.notify_all();
        self.synced.notify_all();
        fence.error(log.partition())
    }
}

/// Raises a flag; whether it was down.
fn raise(flag: &AtomicBool) -> bool {
    // SeqCst: see `begin_background`.
    fence(Ordering::SeqCst);
    // Relaxed, twice: ordered by the fence. The load spares the line when the flag is up, as it mostly is.
    !flag.load(Ordering::Relaxed) && !flag.swap(true, Ordering::Relaxed)
}

/// Leadership; given back on the way out, also of a panic.
struct Leading<'a> {
    flush: &'a Flush,
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        self.flush.state.lock().is_led = false;
        self.flush.led.notify_all();
    }
}

fn sync(log: &Log, segments: &[Arc<Segment>], has_new_name: bool) -> io::Result<()> {
    let skip = usize::from(cfg!(seeded_bug = "sync_skips_last"));
    for segment in &segments[..segments.len() - skip.min(segments.len())] {
        segment.sync()?;
    }
    if has_new_name && !cfg!(seeded_bug = "no_directory_sync") {
        log.spec.fs.sync_dir(&log.spec.dir)?;
    }
    Ok(())
}

/// The place of `end` in the last of the segments that it can lie in. A roll may have added one since.
fn point_at(end: Offset, segments: &[Arc<Segment>]) -> Option<RecoveryPoint> {
    let Some(last) = segments.iter().rfind(|segment| segment.base_offset() <= end) else {
        return Some(RecoveryPoint { offset: end, segment: end, position: FIRST_FRAME });
    };
    let segment = last.base_offset();
    if end != segment && last.end_offset() < end {
        // What lay between cannot be read and was passed over: the next append begins a segment.
        return Some(RecoveryPoint { offset: end, segment: end, position: FIRST_FRAME });
    }
    let position = if end == segment { FIRST_FRAME } else { last.position_of(end)? };
    Some(RecoveryPoint { offset: end, segment, position })
}

impl Journal {
    fn write(&mut self, log: &Log, recovery_point: RecoveryPoint, left: Left) -> io::Result<()> {
        self.write_with_start(log, log.start().max(self.log_start), recovery_point, left)
    }

    fn write_with_start(
        &mut self,
        log: &Log,
        log_start: Offset,
        recovery_point: RecoveryPoint,
        left: Left,
    ) -> io::Result<()> {
        if self.is_abandoned {
            return Err(io::Error::other("the log was given up"));
        }
        // A log that was fenced stays so, whatever a leader that was under way has to note.
        let left = if self.is_fenced { Left::Fenced } else { left };
        let boot_id = log.spec.fs.boot_id()?;
        let control = Control { log_start, recovery_point, boot_id, left };
        self.checkpoint.write(&control)?;
        self.is_clean = left == Left::Clean;
        (self.log_start, self.recovery_point) = (log_start, recovery_point);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::fs::{Fs, Simulated};
    use crate::storage::checkpoint::Owner;
    use crate::types::TopicId;

    #[test]
    fn a_flush_that_somebody_asked_for_leaves_the_scheduled_one_scheduled() {
        let (disk, dir) = (Simulated::memory(), Path::new("/p"));
        disk.create_dir(dir).expect("made");
        let owner = Owner { topic: TopicId(1), partition: 0 };
        let checkpoint = Checkpoint::open(&disk, dir, owner).expect("created").0;
        let flush = Flush::new(checkpoint, RecoveryPoint::default(), Found::Open);
        assert!(flush.schedule() && !flush.schedule());
        assert!(flush.request());
        flush.begin_background(Why::Requested);
        // Else every flush would leave one more job waiting for the interval to pass.
        assert!(!flush.schedule() && flush.request());
        flush.begin_background(Why::Scheduled);
        assert!(flush.schedule());
    }
}
