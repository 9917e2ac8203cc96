//! What a crash left: where the log ends, what is cut, and when that is refused (F-17).
//!
//! The walk begins at the recovery point, so it does not depend on how long the log is. It reads with `read_at`, not
//! through the map: a bad sector is then an error, not a signal.
//!
//! - *The process died, the machine did not* (same boot id): the page cache is whole, so everything committed is
//!   there, on the disk or not, and a frame that is not whole can only be the last one.
//! - *The machine died* (another boot id): behind the recovery point the first frame that is not whole is the torn
//!   tail. It and all behind it is cut, made to read as zeros and synced before anything is appended or read:
//!   otherwise a later frame could make an old one reachable again, or a later power cut take back what was read.
//! - Before the recovery point everything was on the disk: what is not whole there is damage, and never cut.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::config::{OnDamage, SEGMENT_BYTES_MAX};
use crate::error::{Damage, Error, Result};
use crate::fs::{File, Fs};
use crate::storage::checkpoint::{Checkpoint, Control, Left, Owner, RecoveryPoint};
use crate::storage::frame::{self, Frame, HEAD_LEN, Head, Kind, Place};
use crate::storage::name::{CONTROL, FileName};
use crate::storage::quarantine::Quarantine;
use crate::storage::segment::{FIRST_FRAME, Header, NoHeader, Span, Tail, VERSION_SUPPORTED};
use crate::types::{Offset, TopicPartition};

/// What recovery works on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site<'a> {
    pub(crate) fs: &'a dyn Fs,
    pub(crate) dir: &'a Path,
    pub(crate) owner: Owner,
    /// For errors and reports.
    pub(crate) partition: &'a TopicPartition,
    pub(crate) on_damage: OnDamage,
    pub(crate) quarantine: &'a Quarantine,
    /// Nothing is expected to be there.
    pub(crate) is_new: bool,
}

/// How the last session of a partition ended, and what was done about it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// The partition.
    pub partition: TopicPartition,
    /// How the last session ended.
    pub ended: Ended,
    /// The offset behind the last record that is there.
    pub end_offset: Offset,
    /// What was cut from the end: batches that were being written when the power went, never acked at `Synced`.
    pub torn: Option<TornTail>,
    /// Damage that was passed over, as the broker was told to.
    pub skipped: Vec<Damage>,
}

/// How a session ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Ended {
    /// There was none before.
    New,
    /// Closed in order.
    Closed,
    /// The process ended without closing; the machine ran on.
    ProcessDied,
    /// The machine was restarted under it.
    MachineDied,
    /// A write or sync had failed; what was not known to be on the disk was read again from there.
    Fenced,
}

/// The torn end of a log, which was cut.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct TornTail {
    /// The segment it was in.
    pub path: std::path::PathBuf,
    /// Where the cut was made, in bytes.
    pub position: u64,
    /// What was wrong with the first frame that was cut.
    pub reason: &'static str,
    /// Whole segments behind it that were removed.
    pub segments_removed: usize,
}

/// A partition's directory, ready to be read and written.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// Base offsets of the segments, in order.
    pub(crate) bases: Vec<Offset>,
    /// The last segment, unless it is sealed.
    pub(crate) tail: Option<Tail>,
    pub(crate) log_start: Offset,
    pub(crate) end_offset: Offset,
    /// Up to here everything is on the disk.
    pub(crate) durable: RecoveryPoint,
    /// Where the next frame goes.
    pub(crate) end: RecoveryPoint,
    pub(crate) checkpoint: Checkpoint,
    /// Whether this recovery has written, durably, that the log is open.
    pub(crate) is_marked_open: bool,
    /// Numbers of prepared files that are there.
    pub(crate) spares: Vec<u64>,
    pub(crate) report: RecoveryReport,
}

/// Opens a partition's directory and puts right what a crash left.
pub(crate) fn recover(site: Site<'_>) -> Result<Recovered> {
    let Site { fs, dir, .. } = site;
    let boot_id = fs.boot_id().map_err(|e| Error::io("read the boot id for", dir, e))?;
    let (checkpoint, control) = Checkpoint::open(fs, dir, site.owner)?;
    let Listing { mut bases, spares } = list(site)?;
    let ended = ended(control.as_ref(), bases.is_empty(), boot_id);
    let control = control.unwrap_or_else(|| rebuilt(&bases, boot_id));
    drop_before_start(site, &mut bases, control.log_start)?;
    // What a failed sync left in the cache is not on the disk and never will be; after a restart of the machine it may
    // be an earlier recovery's. It costs a walk that reads from the disk; what waits to be written stays.
    if matches!(ended, Ended::Fenced | Ended::MachineDied) && !cfg!(seeded_bug = "cache_believed") {
        for base in bases.iter().filter(|base| **base >= control.recovery_point.segment) {
            let path = FileName::Segment(*base).path(dir);
            let forget = || -> io::Result<()> { fs.open(&path)?.forget_cache() };
            forget().map_err(|e| Error::io("drop the cache of", &path, e))?;
        }
    }
    let start = match bases.last() {
        // A segment gets its name only after the one before it was sealed, so all but the last are complete.
        Some(last) if ended == Ended::ProcessDied && *last > control.recovery_point.segment => {
            RecoveryPoint { offset: *last, segment: *last, position: FIRST_FRAME }
        }
        _ => control.recovery_point,
    };
    let mut walk = LogWalk::new(site, ended, &bases, start);
    if ended == Ended::New && !site.is_new {
        walk.nothing()?;
    }
    walk.run()?;
    let LogWalk { ended, end, tail, keep, reason, skipped, .. } = walk;
    let report =
        RecoveryReport { partition: site.partition.clone(), ended, end_offset: end.offset, torn: None, skipped };
    let mut recovered = Recovered {
        bases,
        tail,
        log_start: if ended == Ended::New { end.offset } else { control.log_start },
        end_offset: end.offset,
        durable: control.recovery_point,
        end,
        checkpoint,
        is_marked_open: false,
        spares,
        report,
    };
    match ended {
        // Nothing, or a segment that was named and never written to.
        Ended::Closed if keep == recovered.bases.len() => {}
        Ended::Closed => drop(recovered.drop_behind(site, keep)?),
        // The page cache has it all, and the log settles it with its first sync: see `Flush::settle`.
        Ended::ProcessDied => recovered.clear_tail(site, reason)?,
        Ended::New | Ended::MachineDied | Ended::Fenced => {
            if !cfg!(seeded_bug = "spare_reused") {
                recovered.drop_spares(site)?;
            }
            recovered.cut_tail(site, keep, reason)?;
            recovered.settle(site, control, boot_id)?;
        }
    }
    Ok(recovered)
}

fn ended(control: Option<&Control>, is_empty: bool, boot_id: u128) -> Ended {
    match control {
        None if is_empty => Ended::New,
        None => Ended::MachineDied,
        Some(control) => match control.left {
            Left::Clean => Ended::Closed,
            Left::Fenced => Ended::Fenced,
            Left::Open if control.boot_id == boot_id => Ended::ProcessDied,
            Left::Open => Ended::MachineDied,
        },
    }
}

/// Without a control file: the segments say where the log begins, and the last one is walked from its start. Those
/// before it were complete when it was begun; what is not whole in them is found, and said, when it is read.
fn rebuilt(bases: &[Offset], boot_id: u128) -> Control {
    let last = bases.last().copied().unwrap_or(0);
    Control {
        log_start: bases.first().copied().unwrap_or(0),
        recovery_point: RecoveryPoint { offset: last, segment: last, position: FIRST_FRAME },
        boot_id,
        left: Left::Open,
    }
}

struct Listing {
    bases: Vec<Offset>,
    spares: Vec<u64>,
}

fn list(site: Site<'_>) -> Result<Listing> {
    let names = site.fs.list(site.dir).map_err(|e| Error::io("list", site.dir, e))?;
    let mut listing = Listing { bases: Vec::new(), spares: Vec::new() };
    for name in names {
        match FileName::parse(&name) {
            Some(FileName::Segment(base)) => listing.bases.push(base),
            Some(FileName::Spare(number)) => listing.spares.push(number),
            Some(FileName::Index(_)) | None => {}
        }
    }
    listing.bases.sort_unstable();
    listing.spares.sort_unstable();
    Ok(listing)
}

/// Takes away segments that lie wholly before the log's start: their removal was interrupted.
fn drop_before_start(site: Site<'_>, bases: &mut Vec<Offset>, log_start: Offset) -> Result<()> {
    while bases.get(1).is_some_and(|next| *next <= log_start) {
        remove_segment(site, bases.remove(0))?;
    }
    Ok(())
}

fn remove_segment(site: Site<'_>, base: Offset) -> Result<()> {
    for name in [FileName::Index(base), FileName::Segment(base)] {
        let path = name.path(site.dir);
        match site.fs.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", &path, error)),
            _ => {}
        }
    }
    Ok(())
}

fn sync_dir(site: Site<'_>) -> Result<()> {
    if cfg!(seeded_bug = "no_directory_sync") {
        return Ok(());
    }
    site.fs.sync_dir(site.dir).map_err(|e| Error::io("sync", site.dir, e))
}

impl Recovered {
    /// After the process died: what it was storing when it did may lie behind the tail. It reads as nothing, but
    /// it must not stay: a power cut could bring it back behind frames that are appended now.
    fn clear_tail(&mut self, site: Site<'_>, reason: Option<&'static str>) -> Result<()> {
        let Some(tail) = &self.tail else { return Ok(()) };
        let path = FileName::Segment(tail.header.base_offset).path(site.dir);
        let io = |what| move |e| (what, e);
        let clear = || -> Result<bool, (&'static str, io::Error)> {
            if !has_bytes(&*tail.file, tail.position, tail.header.bytes).map_err(io("read"))? {
                return Ok(false);
            }
            tail.file.zero(tail.position..tail.header.bytes).map_err(io("zero"))?;
            tail.file.sync_data().map_err(io("sync"))?;
            Ok(true)
        };
        if clear().map_err(|(what, e)| Error::io(what, &path, e))? {
            let (position, reason) = (tail.position, reason.unwrap_or("it was not committed"));
            self.report.torn = Some(TornTail { path, position, reason, segments_removed: 0 });
        }
        Ok(())
    }

    /// A spare may be a segment that lost its name to the power cut, with frames in it: were it used again, another
    /// power cut could keep the name that it gets and lose the header that makes those frames void.
    fn drop_spares(&mut self, site: Site<'_>) -> Result<()> {
        for number in self.spares.drain(..) {
            let path = FileName::Spare(number).path(site.dir);
            site.fs.remove(&path).map_err(|e| Error::io("remove", &path, e))?;
        }
        Ok(())
    }

    /// What was found is durable from now on, and noted as that, before the first of it is read.
    fn settle(&mut self, site: Site<'_>, before: Control, boot_id: u128) -> Result<()> {
        if let Err(error) = self.sync(site, before.recovery_point.segment) {
            // For the next open: it must not believe the page cache.
            let _ = self.checkpoint.write(&Control { left: Left::Fenced, ..before });
            return Err(error);
        }
        self.durable = self.end;
        let control = Control { log_start: self.log_start, recovery_point: self.durable, boot_id, left: Left::Open };
        let path = site.dir.join(CONTROL);
        self.checkpoint.write(&control).map_err(|e| Error::io("write", &path, e))?;
        self.checkpoint.sync().map_err(|e| Error::io("sync", &path, e))?;
        self.is_marked_open = true;
        Ok(())
    }

    /// Syncs the segments from `from` on, and the names.
    fn sync(&self, site: Site<'_>, from: Offset) -> Result<()> {
        for base in self.bases.iter().filter(|base| **base >= from) {
            let path = FileName::Segment(*base).path(site.dir);
            let sync = || match &self.tail {
                Some(tail) if tail.header.base_offset == *base => tail.file.sync_data(),
                _ => site.fs.open(&path)?.sync_data(),
            };
            sync().map_err(|e| Error::io("sync", &path, e))?;
        }
        sync_dir(site)
    }

    /// Removes the segments that do not belong to the log; how many there were.
    fn drop_behind(&mut self, site: Site<'_>, keep: usize) -> Result<usize> {
        let removed = self.bases.len() - keep;
        // From the end, so that an interruption leaves no gap that looks like a log.
        for base in self.bases.drain(keep..).rev() {
            remove_segment(site, base)?;
        }
        sync_dir(site)?;
        Ok(removed)
    }

    /// After the machine died: cuts everything behind the last good frame, for good.
    fn cut_tail(&mut self, site: Site<'_>, keep: usize, reason: Option<&'static str>) -> Result<()> {
        let segments_removed = self.drop_behind(site, keep)?;
        let Some(tail) = &self.tail else { return Ok(()) };
        let path = FileName::Segment(tail.header.base_offset).path(site.dir);
        let had_bytes = has_bytes(&*tail.file, tail.position, (tail.position + HEAD_LEN).min(tail.header.bytes));
        let had_bytes = had_bytes.map_err(|e| Error::io("read", &path, e))?;
        if !cfg!(seeded_bug = "resurrected_tail") {
            tail.file.zero(tail.position..tail.header.bytes).map_err(|e| Error::io("zero", &path, e))?;
        }
        if had_bytes || segments_removed > 0 {
            let (position, reason) = (tail.position, reason.unwrap_or("the segments behind it do not follow"));
            self.report.torn = Some(TornTail { path, position, reason, segments_removed });
        }
        Ok(())
    }
}

/// Whether a range holds anything but zeros.
fn has_bytes(file: &dyn File, mut position: u64, end: u64) -> io::Result<bool> {
    let mut buffer = vec![0; (end - position).min(256 << 10) as usize];
    while let Some(data) = file.next_data(position)?
        && data < end
    {
        position = data;
        let wanted = (end - position).min(buffer.len() as u64) as usize;
        let read = file.read_at(&mut buffer[..wanted], position)?;
        if read == 0 {
            return Ok(false);
        }
        if buffer[..read].iter().any(|byte| *byte != 0) {
            return Ok(true);
        }
        position += read as u64;
    }
    Ok(false)
}

/// The walk over the segments from the recovery point to the end of the log.
struct LogWalk<'a> {
    site: Site<'a>,
    ended: Ended,
    /// The control file says where the log ends.
    is_clean: bool,
    bases: &'a [Offset],
    end: RecoveryPoint,
    tail: Option<Tail>,
    /// How many of the segments belong to the log.
    keep: usize,
    /// What was wrong with the first frame that does not count.
    reason: Option<&'static str>,
    skipped: Vec<Damage>,
}

/// More offsets than any segment holds. Where the last segment cannot be read nobody knows how many it had; the log
/// then goes on behind all that there could have been, so that no offset is ever given twice.
const OFFSETS_MAX: u64 = SEGMENT_BYTES_MAX;

/// A segment's file and what its first page says.
type Opened = (Arc<dyn File>, Header);

/// Why the walk through one segment stopped.
enum Stop {
    /// The segment is sealed, or full.
    Sealed,
    /// No whole frame follows.
    Broken(&'static str),
}

impl<'a> LogWalk<'a> {
    fn new(site: Site<'a>, ended: Ended, bases: &'a [Offset], start: RecoveryPoint) -> Self {
        Self {
            site,
            ended,
            is_clean: ended == Ended::Closed,
            bases,
            end: start,
            tail: None,
            keep: bases.len(),
            reason: None,
            skipped: Vec::new(),
        }
    }

    fn run(&mut self) -> Result<()> {
        let Some(mut at) = self.bases.iter().position(|base| *base == self.end.segment) else {
            return self.without_segment();
        };
        loop {
            let base = self.bases[at];
            let is_last = at + 1 == self.bases.len();
            if self.end.segment != base {
                self.end = RecoveryPoint { offset: self.end.offset, segment: base, position: FIRST_FRAME };
            }
            let (file, header) = match self.open(base)? {
                Ok(opened) => opened,
                Err(reason) => return self.without_header(at, reason),
            };
            if self.ended == Ended::Closed {
                if is_last && !self.goes_on(&*file, &header)? {
                    return self.take_closed(file, header);
                }
                // Then the control file is an old one that the disk has brought back.
                self.ended = Ended::MachineDied;
            }
            match self.segment(&*file, &header)? {
                Stop::Sealed if is_last => return Ok(()),
                Stop::Sealed if self.bases[at + 1] == self.end.offset => at += 1,
                Stop::Sealed if self.is_whole() => {
                    self.damage(self.end.position, self.bases[at + 1], "the segments do not follow each other")?;
                    at += 1;
                }
                Stop::Sealed => return self.stop_at(at, file, header, "the segments behind it do not follow"),
                Stop::Broken(reason) if self.is_whole() => match self.next_whole(&*file, &header)? {
                    // Not a tail: what was written after it is there.
                    Some((position, offset)) => {
                        self.damage(self.end.position, offset, reason)?;
                        self.end.position = position;
                    }
                    None if is_last => return self.stop_at(at, file, header, reason),
                    None => {
                        self.damage(self.end.position, self.bases[at + 1], reason)?;
                        at += 1;
                    }
                },
                Stop::Broken(reason) => return self.stop_at(at, file, header, reason),
            }
        }
    }

    /// The next whole batch behind a broken one: its place and first offset.
    fn next_whole(&self, file: &dyn File, header: &Header) -> Result<Option<(u64, Offset)>> {
        let broken = self.end.position;
        if !has_bytes(file, broken, header.bytes).map_err(|e| self.unreadable(header, e))? {
            return Ok(None);
        }
        let mut window = Window::new(file, header);
        let mut position = broken + frame::ALIGN;
        while position + HEAD_LEN <= header.bytes {
            let frame = window.frame(position).map_err(|e| self.unreadable(header, e))?;
            if let Ok(Some((span, _))) = frame
                && span.base_offset > self.end.offset
            {
                return Ok(Some((position, span.base_offset)));
            }
            position += frame::ALIGN;
        }
        Ok(None)
    }

    fn unreadable(&self, header: &Header, error: io::Error) -> Error {
        Error::io("read", FileName::Segment(header.base_offset).path(self.site.dir), error)
    }

    /// Whether everything that was committed must be there.
    fn is_whole(&self) -> bool {
        matches!(self.ended, Ended::ProcessDied | Ended::Closed)
    }

    fn open(&self, base: Offset) -> Result<Result<Opened, &'static str>> {
        let path = FileName::Segment(base).path(self.site.dir);
        let file = self.site.fs.open(&path).map_err(|e| Error::io("open", &path, e))?;
        let header = Header::read(&*file, base, self.site.owner).map_err(|e| Error::io("read", &path, e))?;
        let len = file.len().map_err(|e| Error::io("measure", &path, e))?;
        match header {
            Ok(header) if len < header.bytes => Ok(Err("the file is shorter than its header says")),
            Ok(header) => Ok(Ok((file, header))),
            Err(NoHeader::Damaged(reason)) => Ok(Err(reason)),
            Err(NoHeader::Version(found)) => {
                Err(Error::UnsupportedVersion { path, found, supported: VERSION_SUPPORTED })
            }
        }
    }

    /// A partition that was there before has neither a control file nor a segment.
    fn nothing(&mut self) -> Result<()> {
        self.damage(0, OFFSETS_MAX, "the partition's files are missing")?;
        self.end = RecoveryPoint { offset: OFFSETS_MAX, segment: OFFSETS_MAX, position: FIRST_FRAME };
        Ok(())
    }

    /// The recovery point lies in a segment that is not there: fine if it was never begun.
    fn without_segment(&mut self) -> Result<()> {
        let RecoveryPoint { offset, segment, position } = self.end;
        let next = self.bases.iter().copied().find(|base| *base > segment);
        if offset == segment && position == FIRST_FRAME && next.is_none() {
            return Ok(());
        }
        if position == FIRST_FRAME && offset == segment && !self.is_whole() {
            self.keep = self.bases.partition_point(|base| *base < segment);
            return Ok(());
        }
        let end = if self.is_clean { offset } else { segment + OFFSETS_MAX };
        self.damage_from(segment, 0, next.unwrap_or(end), "the file is missing")?;
        match next {
            Some(next) => {
                self.end = RecoveryPoint { offset: next, segment: next, position: FIRST_FRAME };
                self.run()
            }
            None => Ok(()),
        }
    }

    /// A segment that does not begin as one: after a power cut, one that was never synced.
    fn without_header(&mut self, at: usize, reason: &'static str) -> Result<()> {
        let base = self.bases[at];
        let was_durable = self.end.segment == base && self.end.position > FIRST_FRAME;
        let held_nothing = self.is_clean && at + 1 == self.bases.len() && self.end.offset == base;
        if held_nothing || !was_durable && !self.is_whole() {
            self.keep = at;
            self.reason = Some(reason);
            return Ok(());
        }
        let next = self.bases.get(at + 1).copied();
        // None of it can be read, also what was known to be on the disk.
        let end = if self.is_clean { self.end.offset } else { base + OFFSETS_MAX };
        self.damage_from(base, 0, next.unwrap_or(end), reason)?;
        match next {
            Some(next) => {
                self.end = RecoveryPoint { offset: next, segment: next, position: FIRST_FRAME };
                self.run()
            }
            None => Ok(()),
        }
    }

    /// Whether there is a batch behind the recovery point.
    fn goes_on(&self, file: &dyn File, header: &Header) -> Result<bool> {
        let position = self.end.position;
        if position + HEAD_LEN > header.bytes {
            return Ok(false);
        }
        let frame = Window::new(file, header).frame(position).map_err(|e| self.unreadable(header, e))?;
        Ok(frame.is_ok_and(|frame| frame.is_some()))
    }

    /// After an orderly close the control file says where the end is.
    fn take_closed(&mut self, file: Arc<dyn File>, header: Header) -> Result<()> {
        let RecoveryPoint { offset, position, .. } = self.end;
        if position < header.bytes {
            self.tail = Some(Tail { header, file, position, end_offset: offset });
        }
        Ok(())
    }

    fn stop_at(&mut self, at: usize, file: Arc<dyn File>, header: Header, reason: &'static str) -> Result<()> {
        let RecoveryPoint { offset, position, .. } = self.end;
        self.keep = at + 1;
        self.reason = Some(reason);
        if position + HEAD_LEN <= header.bytes {
            self.tail = Some(Tail { header, file, position, end_offset: offset });
        }
        Ok(())
    }

    /// Walks the frames of one segment from `self.end` on.
    fn segment(&mut self, file: &dyn File, header: &Header) -> Result<Stop> {
        let mut window = Window::new(file, header);
        loop {
            let position = self.end.position;
            if position + HEAD_LEN > header.bytes {
                return Ok(Stop::Sealed);
            }
            match window.frame(position).map_err(|e| self.unreadable(header, e))? {
                Ok(None) => return Ok(Stop::Sealed),
                // F-13: offsets have no gaps.
                Ok(Some((span, _))) if span.base_offset != self.end.offset => {
                    return Ok(Stop::Broken("a batch does not follow the one before it"));
                }
                Ok(Some((span, end))) => {
                    self.end.offset = span.end_offset;
                    self.end.position = end;
                }
                Err(reason) => return Ok(Stop::Broken(reason)),
            }
        }
    }

    /// Meets damage as the broker was told to.
    fn damage(&mut self, position: u64, to: Offset, reason: &'static str) -> Result<()> {
        self.damage_from(self.end.offset, position, to, reason)
    }

    fn damage_from(&mut self, from: Offset, position: u64, to: Offset, reason: &'static str) -> Result<()> {
        let damage = Damage {
            partition: self.site.partition.clone(),
            path: FileName::Segment(self.end.segment).path(self.site.dir),
            position,
            from,
            to: to.max(self.end.offset),
            reason,
        };
        match self.site.on_damage {
            OnDamage::Refuse => Err(Error::Damaged(Arc::new(damage))),
            on_damage => {
                if on_damage == OnDamage::Quarantine {
                    self.site.quarantine.put_aside(self.site.fs, &damage.path);
                }
                self.end.offset = damage.to;
                self.skipped.push(damage);
                Ok(())
            }
        }
    }
}

/// A file read in large pieces, frame by frame.
struct Window<'a> {
    file: &'a dyn File,
    header: &'a Header,
    bytes: Vec<u8>,
    start: u64,
}

impl<'a> Window<'a> {
    const PIECE: u64 = 1 << 20;

    fn new(file: &'a dyn File, header: &'a Header) -> Self {
        Self { file, header, bytes: Vec::new(), start: 0 }
    }

    /// The frame at `position`: its span and end, `None` for a pad, or what is wrong with it.
    fn frame(&mut self, position: u64) -> io::Result<Result<Option<(Span, u64)>, &'static str>> {
        let place = Place { generation: self.header.generation, position };
        self.load(position, HEAD_LEN)?;
        if let Some(head) = self.rest(position).first_chunk().and_then(|head| Head::read(place, *head))
            && head.kind == Kind::Batch
        {
            self.load(position, HEAD_LEN + u64::from(head.len))?;
        }
        Ok(frame::decode(place, self.rest(position)).map(|frame| match frame {
            Frame::Pad => None,
            Frame::Batch { batch, end } => Some((Span::of(&batch), end)),
        }))
    }

    fn rest(&self, position: u64) -> &[u8] {
        &self.bytes[(position - self.start) as usize..]
    }

    /// Sees to it that `len` bytes from `position` on are there, as far as the file has them.
    fn load(&mut self, position: u64, len: u64) -> io::Result<()> {
        let have = self.start..self.start + self.bytes.len() as u64;
        let end = (position + len).min(self.header.bytes);
        if have.contains(&position) && end <= have.end {
            return Ok(());
        }
        let wanted = len.max(Self::PIECE).min(self.header.bytes - position);
        self.bytes.resize(wanted as usize, 0);
        let mut filled = 0;
        while filled < self.bytes.len() {
            match self.file.read_at(&mut self.bytes[filled..], position + filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        self.bytes.truncate(filled);
        self.start = position;
        Ok(())
    }
}
