//! One segment file: a header page, then frames to the end, at a fixed size from the first day.
//!
//! Two faces of one file: [`Segment`] is shared and read through the map; [`SegmentWriter`] is the appender's alone.
//! Small batches are stored through the map, large ones written with `write_at`, both into the one page cache; where
//! the platform has no such thing, everything is written and nothing stored.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::batch::BatchView;
use crate::fs::{File, Fs};
use crate::storage::checkpoint::Owner;
use crate::storage::frame::{self, Frame, HEAD_LEN, Head, Kind, Place};
use crate::storage::index::{self, Entry, Index};
use crate::storage::mmap::{Map, MapWriter};
use crate::storage::name::FileName;
use crate::sync::plain::{Mutex, RwLock};
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crate::types::{Offset, Timestamp, TopicId};

/// What a map is made of, in bytes; larger on some machines, where a hint then covers less.
const PAGE: u64 = 4096;
/// Where the first frame lies (F-7).
pub(crate) const FIRST_FRAME: u64 = 4096;

const MAGIC: &[u8; 8] = b"HWSEGMT\0"; // F-7
const VERSION: u32 = 1; // F-18
const CRC_AT: usize = 64;
const HEADER_USED: usize = CRC_AT + 4;

/// How far ahead of a stream of appends pages are brought in, in bytes.
const AHEAD: u64 = 4 << 20;
/// The same where every append is followed by a sync: that much is written ahead as zeros, and a sync of somebody's
/// record may have to wait for it.
const AHEAD_SYNCED: u64 = 1 << 20;

/// Batches of this many bytes and more are written instead of stored: from there on `pwrite` is ahead of touching
/// fresh pages one by one (see `benches/append.rs`).
const WRITE_FROM: usize = 4 << 10;
/// Up to so many bytes a frame is copied together and written in one call; a longer one in two.
const WRITE_WHOLE: usize = 64 << 10;

/// What the first page of a segment says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    /// Tells this life of the file from every other: tags and checksums of frames depend on it.
    pub(crate) generation: u64,
    /// The first offset.
    pub(crate) base_offset: Offset,
    /// The file's size in bytes.
    pub(crate) bytes: u64,
    /// Whose it is.
    pub(crate) owner: Owner,
}

/// Why a file is not a segment of this partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NoHeader {
    /// A later release wrote it.
    Version(u32),
    /// It is not what was written.
    Damaged(&'static str),
}

impl Header {
    fn encode(&self) -> [u8; HEADER_USED] {
        let mut bytes = [0; HEADER_USED];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.owner.partition.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.generation.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.base_offset.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[40..56].copy_from_slice(&self.owner.topic.0.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header of the segment that should begin at `base_offset`.
    pub(crate) fn read(file: &dyn File, base_offset: Offset, owner: Owner) -> io::Result<Result<Self, NoHeader>> {
        let mut bytes = [0; HEADER_USED];
        let read = file.read_at(&mut bytes, 0)?;
        Ok(Self::decode(&bytes[..read], base_offset, owner))
    }

    fn decode(bytes: &[u8], base_offset: Offset, owner: Owner) -> Result<Self, NoHeader> {
        let Some(bytes) = bytes.get(..HEADER_USED) else { return Err(NoHeader::Damaged("it ends inside its header")) };
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let small = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        if &bytes[..8] != MAGIC {
            return Err(NoHeader::Damaged("it does not begin as a segment does"));
        }
        if small(CRC_AT) != crc32fast::hash(&bytes[..CRC_AT]) {
            return Err(NoHeader::Damaged("its header's checksum does not hold"));
        }
        if small(8) != VERSION {
            return Err(NoHeader::Version(small(8)));
        }
        let topic = TopicId(u128::from_le_bytes(bytes[40..56].try_into().expect("16 bytes")));
        let header = Self {
            generation: number(16),
            base_offset: number(24),
            bytes: number(32),
            owner: Owner { topic, partition: small(12) },
        };
        if header.owner != owner {
            return Err(NoHeader::Damaged("it belongs to another partition"));
        }
        if header.base_offset != base_offset {
            return Err(NoHeader::Damaged("its header names another base offset than its file"));
        }
        Ok(header)
    }
}

/// The newest version of a segment that this release reads.
pub(crate) const VERSION_SUPPORTED: u32 = VERSION;

/// A file that is to become a segment: sized, with blocks for a beginning at least, not yet part of the log.
#[derive(Debug)]
pub(crate) struct Spare {
    path: PathBuf,
    file: Arc<dyn File>,
    map: Arc<Map>,
    allocated: u64,
}

impl Spare {
    /// Writes the header of the segment that it is to become.
    pub(crate) fn label(&self, header: &Header) -> io::Result<()> {
        self.file.write_at(&header.encode(), 0)
    }

    /// Makes the file `spare-number.log`, or takes the one that is there, of `bytes` bytes, of which the first
    /// `allocate` get blocks.
    pub(crate) fn make(fs: &dyn Fs, dir: &Path, number: u64, bytes: u64, allocate: u64) -> io::Result<Self> {
        let path = FileName::Spare(number).path(dir);
        let file = match fs.create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs.open(&path)?,
            created => created?,
        };
        if file.len()? != bytes {
            file.set_len(bytes)?;
        }
        let allocate = allocate.clamp(FIRST_FRAME + HEAD_LEN, bytes);
        file.allocate(0..allocate)?;
        let map = Arc::new(Map::new(file.map(bytes as usize)?, 0));
        Ok(Self { path, file, map, allocated: allocate })
    }

    /// Gives the whole file blocks, so that no append meets a full disk.
    pub(crate) fn fill_up(&mut self) -> io::Result<()> {
        let len = self.map.len();
        self.file.allocate(self.allocated..len.max(self.allocated))?;
        self.allocated = len;
        Ok(())
    }

    /// Has every block written once, so that a later sync has no metadata to carry. It costs the disk as much as the
    /// data will: worth it where every append waits for a sync, not where they stream.
    pub(crate) fn warm(&self, fs: &dyn Fs) -> io::Result<()> {
        warm(&*self.file, &self.map, 0..self.map.len())?;
        // The directory too: a name that is durable early makes the first sync of the segment a plain one.
        fs.sync_dir(parent(&self.path))
    }
}

/// Touches every page of a range and syncs it, step by step. The pages are let go before the sync: they stay in the
/// page cache, dirty, and the sync finds none mapped. A mapped page costs it a write protection, with an interrupt to
/// every other core, and the next store a fault.
fn warm(file: &dyn File, map: &Map, range: Range<u64>) -> io::Result<()> {
    const STEP: u64 = 4 << 20;
    let mut start = range.start;
    while start < range.end {
        let end = (start + STEP).min(range.end);
        map.populate(start..end);
        map.release(start..end);
        file.sync_data()?;
        start = end;
    }
    Ok(())
}

fn parent(path: &Path) -> &Path {
    path.parent().expect("a segment lies in a directory")
}

/// A segment as everybody sees it.
#[derive(Debug)]
pub(crate) struct Segment {
    header: Header,
    path: PathBuf,
    map: Arc<Map>,
    /// Open from creation until sealed and synced, since the system reports a write error once per open file.
    /// Guards only itself.
    file: Mutex<Option<Arc<dyn File>>>,
    /// Up to here the page cache is not to be believed. Guards only itself, and the writing again.
    doubtful: Mutex<u64>,
    /// Up to here pages were let go. Guards only itself.
    released: Mutex<u64>,
    /// Up to here pages are to be made ready before the appender comes to them.
    wanted: AtomicU64,
    /// Somebody waits for the disk between appends.
    is_synced_often: AtomicBool,
    /// Up to here they were.
    populated: AtomicU64,
    /// The next offset behind what is committed.
    end_offset: AtomicU64,
    /// Guards only itself; `None` until somebody needs it, for a segment that was not written by this process.
    index: RwLock<Option<Index>>,
}

/// Frames of a segment that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Hole {
    /// Where the first bad frame lies.
    pub(crate) position: u64,
    /// Where the next good frame lies, or the end of the segment.
    pub(crate) resume: u64,
    /// The first offset of the next good frame; `None`: no good frame follows.
    pub(crate) resume_offset: Option<Offset>,
    /// What was wrong.
    pub(crate) reason: &'static str,
}

/// What lies at a position of a segment.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// A whole batch, and the position behind it.
    Batch { batch: BatchView<'a>, end: u64 },
    /// Nothing more in this segment.
    End,
    /// Something that cannot be read.
    Hole(Hole),
}

impl Segment {
    /// Opens a segment that nobody writes to. What it holds is checked as it is read. One that may not be on the
    /// disk yet keeps its file, to be synced.
    ///
    /// # Errors
    /// [`NoHeader`] within `Ok` where the file is not a segment of this partition.
    pub(crate) fn open_sealed(
        fs: &dyn Fs,
        dir: &Path,
        range: Range<Offset>,
        owner: Owner,
        is_durable: bool,
    ) -> io::Result<Result<Self, NoHeader>> {
        let Range { start: base_offset, end: end_offset } = range;
        let path = FileName::Segment(base_offset).path(dir);
        let file = if is_durable { fs.open_read(&path)? } else { fs.open(&path)? };
        let header = match Header::read(&*file, base_offset, owner)? {
            Ok(header) => header,
            Err(reason) => return Ok(Err(reason)),
        };
        let len = file.len()?.min(header.bytes);
        let map = Arc::new(Map::new(file.map(len as usize)?, len));
        let index = read_index(fs, dir, &header);
        Ok(Ok(Self {
            header,
            path,
            map,
            file: Mutex::new((!is_durable).then_some(file)),
            doubtful: Mutex::new(0),
            released: Mutex::new(0),
            wanted: AtomicU64::new(0),
            is_synced_often: AtomicBool::new(false),
            populated: AtomicU64::new(0),
            end_offset: AtomicU64::new(end_offset),
            index: RwLock::new(index),
        }))
    }

    /// The first offset.
    pub(crate) fn base_offset(&self) -> Offset {
        self.header.base_offset
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The next offset behind what is committed.
    pub(crate) fn end_offset(&self) -> Offset {
        // Acquire: pairs with the Release in `SegmentWriter::append`; the batch below was committed before it.
        self.end_offset.load(Ordering::Acquire)
    }

    /// The end of what may be read, in bytes.
    pub(crate) fn committed(&self) -> u64 {
        self.map.committed()
    }

    /// Borrows bytes below the committed end.
    pub(crate) fn bytes(&self, range: Range<u64>) -> &[u8] {
        self.map.slice(range)
    }

    /// Reads what lies at `position`, checked: nothing comes out of here that was not written.
    pub(crate) fn at(&self, position: u64) -> Found<'_> {
        let committed = self.map.committed();
        match self.frame_at(position, committed) {
            Ok(found) => found,
            Err(reason) => Found::Hole(self.hole(position, committed, reason)),
        }
    }

    fn frame_at(&self, position: u64, committed: u64) -> Result<Found<'_>, &'static str> {
        if position + HEAD_LEN > committed {
            let ends_early = self.is_cut() && position + HEAD_LEN <= self.header.bytes;
            return if ends_early { Err("the file is shorter than it was") } else { Ok(Found::End) };
        }
        let place = Place { generation: self.header.generation, position };
        Ok(match frame::decode(place, self.map.slice(position..committed))? {
            Frame::Pad => Found::End,
            Frame::Batch { batch, end } => Found::Batch { batch, end },
        })
    }

    /// Whether the file was found shorter than its header says: only then does the map not reach its end.
    fn is_cut(&self) -> bool {
        self.map.len() < self.header.bytes
    }

    /// Looks for the next good frame behind a bad one.
    fn hole(&self, position: u64, committed: u64, reason: &'static str) -> Hole {
        let mut resume = position + frame::ALIGN;
        while resume + HEAD_LEN <= committed {
            match self.frame_at(resume, committed) {
                Ok(Found::Batch { batch, .. }) => {
                    let resume_offset = Some(batch.header().base_offset);
                    return Hole { position, resume, resume_offset, reason };
                }
                Ok(Found::End) => break,
                _ => resume += frame::ALIGN,
            }
        }
        Hole { position, resume: committed.max(position), resume_offset: None, reason }
    }

    /// Where to begin looking for `offset`.
    pub(crate) fn position_before(&self, offset: Offset) -> u64 {
        self.confirmed(self.with_index(|index| index.before_offset(offset)))
    }

    /// Where to begin looking for the first record of `time` or later.
    pub(crate) fn position_before_time(&self, time: Timestamp) -> u64 {
        self.confirmed(self.with_index(|index| index.before_time(time)))
    }

    /// The latest timestamp of the segment's records.
    pub(crate) fn latest(&self) -> Timestamp {
        self.with_index(Index::latest)
    }

    /// The place of the batch that begins at `offset`, or of the end if that is where `offset` is. `None` if no
    /// batch begins there.
    pub(crate) fn position_of(&self, offset: Offset) -> Option<u64> {
        let mut position = self.position_before(offset);
        loop {
            match self.at(position) {
                Found::Batch { batch, end } if batch.header().base_offset < offset => position = end,
                Found::Batch { batch, .. } => return (batch.header().base_offset == offset).then_some(position),
                Found::End => return (self.end_offset() == offset).then_some(position),
                // Damage that was passed over.
                Found::Hole(hole) if hole.resume_offset.is_some_and(|found| found <= offset) => position = hole.resume,
                // To the end: `offset` is behind it only if nothing was appended while we looked.
                Found::Hole(hole) => {
                    let is_end = hole.resume_offset.is_none() && self.end_offset() == offset;
                    return (is_end && self.committed() == hole.resume).then_some(hole.resume);
                }
            }
        }
    }

    fn with_index<R>(&self, ask: impl Fn(&Index) -> R) -> R {
        if let Some(index) = &*self.index.read() {
            return ask(index);
        }
        let mut built = Index::default();
        self.extend(&mut built);
        let mut index = self.index.write();
        // Under the lock, what was appended meanwhile; from here on the appender notes its frames itself.
        let index = index.get_or_insert_with(|| {
            self.extend(&mut built);
            built
        });
        ask(index)
    }

    /// An index is a hint: what it points at must be the frame that it says, or the scan begins at the start.
    fn confirmed(&self, entry: Option<Entry>) -> u64 {
        let entry = entry.filter(|entry| cfg!(seeded_bug = "index_trusted") || self.is_frame_of(*entry));
        entry.map_or(FIRST_FRAME, |entry| entry.position)
    }

    fn is_frame_of(&self, entry: Entry) -> bool {
        let aligned = entry.position >= FIRST_FRAME && entry.position.is_multiple_of(frame::ALIGN);
        aligned
            && matches!(self.frame_at(entry.position, self.committed()),
                Ok(Found::Batch { batch, .. }) if batch.header().base_offset == entry.offset)
    }

    /// Notes the frames behind those that the index has.
    fn extend(&self, index: &mut Index) {
        let mut position = index.end().max(FIRST_FRAME);
        loop {
            match self.at(position) {
                Found::Batch { batch, end } => {
                    index.note(index_frame(position, end, Span::of(&batch)));
                    position = end;
                }
                Found::Hole(hole) if hole.resume_offset.is_some() => position = hole.resume,
                Found::Hole(_) | Found::End => return,
            }
        }
    }

    /// Makes everything stored and written so far durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let Some(file) = self.file.lock().clone() else { return Ok(()) };
        self.release_behind();
        let mut doubtful = self.doubtful.lock();
        file.write_again(0..*doubtful)?;
        *doubtful = 0;
        drop(doubtful);
        file.sync_data()
    }

    /// Has the next sync write what is committed by now once more: a process that died may have had a failed sync,
    /// after which the kernel takes for written what is not.
    pub(crate) fn doubt(&self) {
        *self.doubtful.lock() = self.map.committed();
    }

    /// Lets go of the pages behind the tail, where there are many: see [`warm`] for what mapped ones cost a sync.
    fn release_behind(&self) {
        const WORTH_IT: u64 = 256 << 10;
        let mut released = self.released.lock();
        let end = self.map.committed() / PAGE * PAGE;
        if end >= *released + WORTH_IT {
            self.map.release(*released..end);
            *released = end;
        }
    }

    /// Makes ready what the appender will come to next. In a stream, the pages: a fault costs as much as ten small
    /// appends. Between syncs, the blocks: one that was never written costs each sync a commit of the file system's
    /// journal, half as much again as the sync itself. A failure is left to the appender.
    pub(crate) fn make_ready(&self) {
        // Relaxed: hints; one thread does this.
        let wanted = self.wanted.load(Ordering::Relaxed) / PAGE * PAGE;
        let start = self.populated.load(Ordering::Relaxed).max(self.committed()).next_multiple_of(PAGE);
        if start < wanted {
            // Relaxed: a hint.
            let file = self.file.lock().clone();
            match file.filter(|_| self.is_synced_often.load(Ordering::Relaxed)) {
                Some(file) => drop(warm(&*file, &self.map, start..wanted)),
                None => self.map.populate(start..wanted),
            }
            // Relaxed: as above.
            self.populated.store(wanted, Ordering::Relaxed);
        }
    }

    /// Puts a sealed and synced segment to rest: its index is written, its file closed, its pages let go.
    /// Nothing here can fail in a way that matters: an index is rebuilt where it is missing.
    pub(crate) fn retire(&self, fs: &dyn Fs) {
        if self.file.lock().take().is_none() {
            return;
        }
        self.map.release(0..self.map.len());
        if let Some(index) = &*self.index.read() {
            let path = FileName::Index(self.header.base_offset).path(parent(&self.path));
            let _ = fs.remove(&path);
            let _ = fs.create(&path).and_then(|file| file.write_at(&index.encode(self.header.generation), 0));
        }
    }
}

fn read_index(fs: &dyn Fs, dir: &Path, header: &Header) -> Option<Index> {
    let file = fs.open_read(&FileName::Index(header.base_offset).path(dir)).ok()?;
    let len = file.len().ok()?;
    // More than one entry per interval was never written.
    if len > 1024 + header.bytes / 64 {
        return None;
    }
    let mut bytes = vec![0; len as usize];
    let read = file.read_at(&mut bytes, 0).ok()?;
    Index::decode(header.generation, &bytes[..read])
}

/// The appender's hand on the last segment.
#[derive(Debug)]
pub(crate) struct SegmentWriter {
    segment: Arc<Segment>,
    file: Arc<dyn File>,
    map: MapWriter,
    /// Whether stores through the map may be mixed with writes.
    stores: bool,
    /// Head and batch, to be written in one.
    scratch: Vec<u8>,
    position: u64,
    /// Bytes that have blocks, so that a store cannot meet a full disk.
    allocated: u64,
    /// Up to here pages were asked for.
    wanted: u64,
}

/// What is to be continued after a restart: the last segment, and where its good frames end.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) header: Header,
    pub(crate) file: Arc<dyn File>,
    pub(crate) position: u64,
    pub(crate) end_offset: Offset,
}

impl SegmentWriter {
    /// Turns a spare into the segment that begins at `header.base_offset`. Nothing is synced here: whoever syncs the
    /// first batch syncs the file and its directory.
    ///
    /// The spare must be [labelled](Spare::label) with that header. If it cannot get its name it comes back.
    pub(crate) fn create(fs: &dyn Fs, spare: Spare, header: Header) -> Result<Self, (Spare, io::Error)> {
        let segment_path = FileName::Segment(header.base_offset).path(parent(&spare.path));
        if let Err(error) = fs.rename(&spare.path, &segment_path) {
            return Err((spare, error));
        }
        let Spare { file, map, allocated, .. } = spare;
        let mut writer = map.writer();
        writer.commit(FIRST_FRAME);
        let segment = Arc::new(Segment {
            header,
            path: segment_path,
            map,
            file: Mutex::new(Some(Arc::clone(&file))),
            doubtful: Mutex::new(0),
            released: Mutex::new(0),
            wanted: AtomicU64::new(0),
            is_synced_often: AtomicBool::new(false),
            populated: AtomicU64::new(0),
            end_offset: AtomicU64::new(header.base_offset),
            index: RwLock::new(Some(Index::default())),
        });
        let stores = fs.has_unified_cache();
        Ok(Self {
            segment,
            file,
            map: writer,
            stores,
            scratch: Vec::new(),
            position: FIRST_FRAME,
            allocated,
            wanted: 0,
        })
    }

    /// Goes on in the last segment of a log that was there.
    pub(crate) fn resume(fs: &dyn Fs, dir: &Path, tail: Tail) -> io::Result<Self> {
        let Tail { header, file, position, end_offset } = tail;
        let map = Arc::new(Map::new(file.map(header.bytes as usize)?, 0));
        let mut writer = map.writer();
        writer.commit(position);
        let segment = Arc::new(Segment {
            header,
            path: FileName::Segment(header.base_offset).path(dir),
            map,
            file: Mutex::new(Some(Arc::clone(&file))),
            doubtful: Mutex::new(0),
            released: Mutex::new(0),
            wanted: AtomicU64::new(0),
            is_synced_often: AtomicBool::new(false),
            populated: AtomicU64::new(0),
            end_offset: AtomicU64::new(end_offset),
            index: RwLock::new(None),
        });
        // Blocks behind the tail may be there or not: `reserve` asks again, which costs little where they are.
        Ok(Self {
            segment,
            file,
            map: writer,
            stores: fs.has_unified_cache(),
            scratch: Vec::new(),
            position,
            allocated: position,
            wanted: 0,
        })
    }

    /// The segment as everybody sees it.
    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Whether more pages are to be brought in: true about once every [`AHEAD`] / 2 bytes.
    pub(crate) fn wants_pages(&mut self, pace: Pace) -> bool {
        let ahead = match pace {
            Pace::Stream => AHEAD,
            Pace::Synced => AHEAD_SYNCED,
        };
        if !self.stores || self.position + ahead / 2 < self.wanted || self.wanted == self.allocated {
            return false;
        }
        self.wanted = (self.position + ahead).min(self.allocated);
        // Relaxed: a hint.
        self.segment.is_synced_often.store(pace == Pace::Synced, Ordering::Relaxed);
        // Relaxed: a hint.
        self.segment.wanted.store(self.wanted, Ordering::Relaxed);
        true
    }

    /// Whether a batch of `len` bytes fits, with a pad behind it or the segment's exact end.
    pub(crate) fn has_room(&self, len: usize) -> bool {
        let end = frame::end_of(self.position, len as u64);
        end <= self.segment.header.bytes
    }

    /// What is to be [reserved](Self::reserve) before a batch of `len` bytes, and a pad behind it, may be stored.
    /// Grows in doubling steps, so that a small topic takes little of the disk and a busy one asks seldom.
    pub(crate) fn lacks(&self, len: usize) -> Option<Range<u64>> {
        const STEP_MIN: u64 = 256 << 10;
        const STEP_MAX: u64 = 8 << 20;
        let bytes = self.segment.header.bytes;
        let needed = (frame::end_of(self.position, len as u64) + HEAD_LEN).min(bytes);
        let step = self.allocated.clamp(STEP_MIN, STEP_MAX);
        (needed > self.allocated).then(|| self.allocated..needed.max(self.allocated + step).min(bytes))
    }

    /// Gives the range blocks, so that a store into it cannot meet a full disk.
    pub(crate) fn reserve(&mut self, range: Range<u64>) -> io::Result<()> {
        let end = range.end;
        self.file.allocate(range)?;
        self.allocated = self.allocated.max(end);
        Ok(())
    }

    /// Appends a batch whose header says its offsets. Room and blocks must have been seen to.
    ///
    /// A batch of a stream is stored; one that is about to be synced is written, since a sync write-protects what it
    /// finds mapped and the next store would pay for that.
    pub(crate) fn append(&mut self, batch: &[u8], span: Span, pace: Pace) -> io::Result<()> {
        let place = Place { generation: self.segment.header.generation, position: self.position };
        let len = u32::try_from(batch.len()).expect("batches are limited to a quarter of a segment");
        let head = Head::new(place, Kind::Batch, len, batch);
        let end = head.end(self.position);
        assert!(end <= self.allocated, "a frame to {end} where blocks end at {}", self.allocated);
        if self.stores && pace == Pace::Stream && batch.len() < WRITE_FROM {
            self.map.store(self.position + HEAD_LEN, batch);
            self.store_head(place, head);
        } else if batch.len() > WRITE_WHOLE {
            self.file.write_at(batch, self.position + HEAD_LEN)?;
            self.write_head(place, head)?;
        } else {
            self.scratch.clear();
            self.scratch.extend_from_slice(&head.encode(place));
            self.scratch.extend_from_slice(batch);
            self.file.write_at(&self.scratch, self.position)?;
        }
        self.map.commit(end);
        if let Some(index) = &mut *self.segment.index.write() {
            index.note(index_frame(self.position, end, span));
        }
        self.position = end;
        // Release: pairs with the Acquire in `Segment::end_offset`.
        self.segment.end_offset.store(span.end_offset, Ordering::Release);
        Ok(())
    }

    /// Marks the rest of the segment as empty for ever. Nothing can be appended behind it.
    pub(crate) fn seal(&mut self) -> io::Result<()> {
        let bytes = self.segment.header.bytes;
        if let Some(rest) = (bytes - self.position).checked_sub(HEAD_LEN) {
            let place = Place { generation: self.segment.header.generation, position: self.position };
            let len = u32::try_from(rest).expect("a segment is at most 1 GiB");
            self.write_head(place, Head::new(place, Kind::Pad, len, &[]))?;
        }
        self.map.commit(bytes);
        self.position = bytes;
        Ok(())
    }

    /// Stores a frame's head behind its payload: CRC first, the commit word last.
    fn store_head(&mut self, place: Place, head: Head) {
        self.map.store(place.position + frame::CRC_AT as u64, &head.tail());
        self.map.store_word(place.position, head.word(place));
    }

    fn write_head(&mut self, place: Place, head: Head) -> io::Result<()> {
        self.file.write_at(&head.encode(place), place.position)
    }
}

/// What appends are like at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pace {
    /// One after the other, without anybody waiting for the disk.
    Stream,
    /// With syncs in between that somebody waits for.
    Synced,
}

/// The offsets and times of a batch, as its appender knows them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// The first record's offset.
    pub(crate) base_offset: Offset,
    /// The offset behind the last record.
    pub(crate) end_offset: Offset,
    /// The latest timestamp.
    pub(crate) max_timestamp: Timestamp,
}

impl Span {
    /// What a batch's own header says.
    pub(crate) fn of(batch: &BatchView<'_>) -> Self {
        let header = batch.header();
        Self { base_offset: header.base_offset, end_offset: header.end_offset(), max_timestamp: header.max_timestamp }
    }
}

fn index_frame(position: u64, end: u64, span: Span) -> index::Frame {
    index::Frame { position, end, base_offset: span.base_offset, max_timestamp: span.max_timestamp }
}
