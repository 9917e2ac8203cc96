//! The one hand that writes a log: gives offsets, appends, rolls.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::batch;
use crate::error::{Error, Result, is_full};
use crate::log::{Log, LogSpec};
use crate::storage::segment::{FIRST_FRAME, Header, Pace, SegmentWriter, Span};
use crate::types::{LeaderEpoch, Offset, Timestamp};

/// Bytes appended after which a sync is asked for, whatever the acks: so that neither a later sync nor the kernel's
/// limit of dirty pages makes everybody wait at once, and recovery has little to walk.
const FLUSH_BYTES: u64 = 32 << 20;

/// So much without a sync that somebody waits for is a stream.
const STREAM_BYTES: u64 = 1 << 20;

/// The writer of one log. Its owner sees to it that there is one.
#[derive(Debug)]
pub(crate) struct LogWriter {
    log: Arc<Log>,
    current: Option<SegmentWriter>,
    end: Offset,
    is_marked_open: bool,
    bytes_unflushed: u64,
    records_unflushed: u64,
    /// Syncs that somebody had waited for when one was last noticed, and what was appended since.
    syncs_awaited: u64,
    bytes_since: u64,
}

/// A batch to be appended: encoded and checksummed, its base offset still open.
#[derive(Debug)]
pub(crate) struct Appending<'a> {
    /// The whole batch; base offset and leader epoch are patched here.
    pub(crate) bytes: &'a mut [u8],
    /// How many offsets it takes.
    pub(crate) count: u32,
    /// The latest of its timestamps.
    pub(crate) max_timestamp: Timestamp,
}

impl LogWriter {
    pub(crate) fn new(log: Arc<Log>, current: Option<SegmentWriter>, spares: &[u64]) -> Self {
        log.segments.take_left_over(spares);
        let end = log.end();
        Self {
            log,
            current,
            end,
            is_marked_open: false,
            bytes_unflushed: 0,
            records_unflushed: 0,
            syncs_awaited: 0,
            bytes_since: STREAM_BYTES,
        }
    }

    /// Appends a batch and returns its first offset. When this returns the batch is in the page cache and readable.
    ///
    /// # Errors
    /// [`Error::StorageFull`] and [`Error::Io`]: nothing was appended, and a later append may succeed.
    /// [`Error::Fenced`]: this or an earlier write failed, and no later one will succeed.
    pub(crate) fn append(&mut self, appending: Appending<'_>) -> Result<Offset> {
        let Appending { bytes, count, max_timestamp } = appending;
        if let Some(fence) = self.log.fence() {
            return Err(fence.error(self.log.partition()));
        }
        if !self.is_marked_open {
            self.log.flush.mark_open(&self.log)?;
            self.is_marked_open = true;
        }
        let base_offset = self.end;
        let span = Span { base_offset, end_offset: base_offset + u64::from(count), max_timestamp };
        batch::patch(bytes, base_offset, EPOCH);
        let pace = self.pace(bytes.len() as u64);
        self.make_room(bytes.len())?;
        let Self { log, current, .. } = self;
        let current = current.as_mut().expect("there is room");
        if let Err(error) = current.append(bytes, span, pace) {
            return Err(log.flush.fence_off(log, error));
        }
        if current.wants_pages(pace) {
            log.prepare_soon();
        }
        self.end = span.end_offset;
        self.log.publish(self.end);
        self.ask_for_flush(bytes.len() as u64, count);
        Ok(base_offset)
    }

    /// Whether appends stream, or somebody waits for the disk between them.
    fn pace(&mut self, bytes: u64) -> Pace {
        let awaited = self.log.flush.syncs_awaited();
        if awaited != self.syncs_awaited {
            (self.syncs_awaited, self.bytes_since) = (awaited, 0);
        }
        self.bytes_since = self.bytes_since.saturating_add(bytes);
        if self.bytes_since > STREAM_BYTES { Pace::Stream } else { Pace::Synced }
    }

    /// Has the last segment take the next `len` bytes, with blocks for them.
    fn make_room(&mut self, len: usize) -> Result<()> {
        if self.current.as_ref().is_none_or(|current| !current.has_room(len)) {
            self.roll(len)?;
        }
        let current = self.current.as_mut().expect("`roll` has seen to it");
        reserve(&self.log, current, len)
    }

    /// Seals the last segment and begins a new one. Nothing is synced here. If it fails no record has changed.
    fn roll(&mut self, len: usize) -> Result<()> {
        let log = &self.log;
        if let Some(current) = &mut self.current {
            reserve(log, current, 0)?; // for the seal
        }
        let LogSpec { fs, owner, segment_bytes, .. } = &log.spec;
        let spare = log.segments.take_spare(log, FIRST_FRAME + len as u64)?;
        let header = Header { generation: fs.random(), base_offset: self.end, bytes: *segment_bytes, owner: *owner };
        let failed = |e| log.space_error("begin a segment in", &log.spec.dir, e, *segment_bytes);
        if let Err(error) = spare.label(&header) {
            log.segments.give_back(spare);
            return Err(failed(error));
        }
        // Sealed before the next one has its name: a process that dies between the two leaves a log that ends in a
        // sealed segment, and not one that looks as if frames were missing. Should the name fail, the next append
        // tries again.
        if let Some(mut current) = self.current.take()
            && let Err(error) = current.seal()
        {
            return Err(log.flush.fence_off(log, error));
        }
        let next = SegmentWriter::create(&**fs, spare, header).map_err(|(spare, error)| {
            log.segments.give_back(spare);
            failed(error)
        })?;
        log.segments.push(next.segment());
        log.flush.begin_segment(Arc::clone(next.segment()));
        self.current = Some(next);
        if self.end > 0 {
            log.segments.is_streaming(self.bytes_since > STREAM_BYTES);
            log.prepare_soon();
        }
        Ok(())
    }

    /// Sees to it that what nobody waits for reaches the disk in time.
    fn ask_for_flush(&mut self, bytes: u64, records: u32) {
        self.bytes_unflushed += bytes;
        self.records_unflushed += u64::from(records);
        let has_many = self.log.spec.flush_messages.is_some_and(|limit| self.records_unflushed >= limit);
        if has_many || self.bytes_unflushed >= FLUSH_BYTES {
            (self.bytes_unflushed, self.records_unflushed) = (0, 0);
            self.log.request_flush();
        } else {
            self.log.schedule_flush();
        }
    }
}

/// There are no leaders to count yet.
const EPOCH: LeaderEpoch = 0;

fn reserve(log: &Log, current: &mut SegmentWriter, len: usize) -> Result<()> {
    let Some(more) = current.lacks(len) else { return Ok(()) };
    log.check_space(more.end - more.start)?;
    let path = current.segment().path().to_path_buf();
    let needed = more.end - more.start;
    current.reserve(more).map_err(|e| log.space_error("allocate blocks for", &path, e, needed))
}

impl Log {
    /// Refuses to take the last bytes of the disk.
    pub(crate) fn check_space(&self, needed: u64) -> Result<()> {
        let LogSpec { fs, dir, min_free, .. } = &self.spec;
        if *min_free == 0 {
            return Ok(());
        }
        let free = fs.free_space(dir).map_err(|e| Error::io("ask for free space of", dir, e))?;
        if free < min_free.saturating_add(needed) {
            return Err(Error::StorageFull { path: dir.clone(), free, needed, min_free: *min_free });
        }
        Ok(())
    }

    /// What the system said when it was asked for space.
    pub(crate) fn space_error(&self, what: &'static str, path: &Path, error: io::Error, needed: u64) -> Error {
        if !is_full(&error) {
            return Error::io(what, path, error);
        }
        let LogSpec { fs, dir, min_free, .. } = &self.spec;
        let free = fs.free_space(dir).unwrap_or(0);
        Error::StorageFull { path: path.to_path_buf(), free, needed, min_free: *min_free }
    }
}
