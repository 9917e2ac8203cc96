//! The segments of a log in their order, opened when somebody reads them and let go when nobody does.
//!
//! A list of base offsets is all that a long log costs: opening a topic does not depend on its backlog, and what is
//! mapped is what is being read, what is being written, and what is not yet on the disk.

use std::sync::{Arc, Weak};

use crate::error::{Damage, Error, Result};
use crate::log::{Log, LogSpec};
use crate::storage::name::FileName;
use crate::storage::segment::{NoHeader, Segment, Spare, VERSION_SUPPORTED};
use crate::sync::plain::{Mutex, RwLock};
use crate::sync::{AtomicU64, Ordering};
use crate::types::Offset;

/// Segments kept ready: at full speed one lasts a few hundredths of a second.
const SPARES_AHEAD: usize = 2;

/// The segments of one log.
#[derive(Debug)]
pub(crate) struct Segments {
    log_start: AtomicU64,
    /// In offset order. Guards the list; files are opened under a slot's own lock only.
    slots: RwLock<Vec<Arc<Slot>>>,
    spares: Mutex<Spares>,
}

#[derive(Debug)]
struct Slot {
    base: Offset,
    /// Guards only itself.
    segment: Mutex<Weak<Segment>>,
}

/// Files that are to become segments.
#[derive(Debug, Default)]
struct Spares {
    /// Ready, in the order of their making.
    ready: Vec<Spare>,
    /// Numbers of files that are there already, or in part; made use of first.
    left_over: Vec<u64>,
    next_number: u64,
    /// No more are to be made: the directory is about to be somebody else's.
    is_abandoned: bool,
    /// Appends come without syncs between them.
    is_streaming: bool,
}

impl Spares {
    /// The number of the next file to be made: its maker's alone.
    fn number(&mut self) -> u64 {
        self.left_over.pop().unwrap_or_else(|| {
            self.next_number += 1;
            self.next_number - 1
        })
    }
}

impl Segments {
    /// The segments that were found on the disk.
    pub(crate) fn new(log_start: Offset, bases: &[Offset]) -> Self {
        let slot = |base: &Offset| Arc::new(Slot { base: *base, segment: Mutex::new(Weak::new()) });
        Self {
            log_start: AtomicU64::new(log_start),
            slots: RwLock::new(bases.iter().map(slot).collect()),
            spares: Mutex::default(),
        }
    }

    /// The first offset of the log.
    pub(crate) fn log_start(&self) -> Offset {
        // Acquire: pairs with the Release of whoever moves the start (retention), after the segments are out of the list.
        self.log_start.load(Ordering::Acquire)
    }

    /// The base offsets, in order.
    pub(crate) fn bases(&self) -> Vec<Offset> {
        self.slots.read().iter().map(|slot| slot.base).collect()
    }

    /// Puts a new segment behind the others.
    pub(crate) fn push(&self, segment: &Arc<Segment>) {
        let mut slots = self.slots.write();
        let base = segment.base_offset();
        assert!(slots.last().is_none_or(|last| last.base < base), "segment {base} is not behind the last one");
        slots.push(Arc::new(Slot { base, segment: Mutex::new(Arc::downgrade(segment)) }));
    }

    /// Has the slot of a segment that is open already know it.
    pub(crate) fn keep(&self, segment: &Arc<Segment>) {
        if let Some((slot, _)) = self.find(segment.base_offset()) {
            *slot.segment.lock() = Arc::downgrade(segment);
        }
    }

    /// The segment that `offset` lies in, or would.
    pub(crate) fn open(&self, log: &Log, offset: Offset) -> Result<Arc<Segment>> {
        self.open_as(log, offset, true)
    }

    /// The same for a segment that may not be on the disk.
    pub(crate) fn open_unsynced(&self, log: &Log, offset: Offset) -> Result<Arc<Segment>> {
        self.open_as(log, offset, false)
    }

    fn open_as(&self, log: &Log, offset: Offset, is_durable: bool) -> Result<Arc<Segment>> {
        let Some((slot, end)) = self.find(offset) else {
            // In the log, and before every segment that is there.
            let next = self.slots.read().first().map_or_else(|| log.end(), |first| first.base);
            return Err(self.damaged(&log.spec, offset, next, "the file is missing"));
        };
        let mut cached = slot.segment.lock();
        if let Some(segment) = cached.upgrade() {
            return Ok(segment);
        }
        let spec = &log.spec;
        let end = end.unwrap_or_else(|| log.end());
        let path = || FileName::Segment(slot.base).path(&spec.dir);
        let opened = Segment::open_sealed(&*spec.fs, &spec.dir, slot.base..end, spec.owner, is_durable);
        let segment = match opened {
            Ok(Ok(segment)) => Arc::new(segment),
            Ok(Err(NoHeader::Version(found))) => {
                return Err(Error::UnsupportedVersion { path: path(), found, supported: VERSION_SUPPORTED });
            }
            Ok(Err(NoHeader::Damaged(reason))) => return Err(self.damaged(spec, slot.base, end, reason)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(self.damaged(spec, slot.base, end, "the file is missing"));
            }
            Err(error) => return Err(Error::io("open", path(), error)),
        };
        *cached = Arc::downgrade(&segment);
        Ok(segment)
    }

    fn damaged(&self, spec: &LogSpec, from: Offset, to: Offset, reason: &'static str) -> Error {
        let path = FileName::Segment(from).path(&spec.dir);
        Error::Damaged(Arc::new(Damage { partition: spec.partition.clone(), path, position: 0, from, to, reason }))
    }

    /// The slot that `offset` lies in, and where it ends; `None` for the last one.
    fn find(&self, offset: Offset) -> Option<(Arc<Slot>, Option<Offset>)> {
        let slots = self.slots.read();
        let behind = slots.partition_point(|slot| slot.base <= offset);
        let slot = slots.get(behind.checked_sub(1)?)?;
        Some((Arc::clone(slot), slots.get(behind).map(|next| next.base)))
    }

    /// Where the segment of `offset` begins, if that is behind the log's start.
    pub(crate) fn start_of_segment(&self, offset: Offset) -> Option<Offset> {
        let (slot, _) = self.find(offset)?;
        (slot.base > self.log_start()).then_some(slot.base)
    }

    /// Takes segments off the list and off the disk that lie wholly before `start`, which is the log's start by now,
    /// durably. Who still reads one keeps its map. A file that cannot be removed is removed at the next open.
    pub(crate) fn remove_before(&self, log: &Log, start: Offset) {
        let removed: Vec<_> = {
            let mut slots = self.slots.write();
            let behind = slots.partition_point(|slot| slot.base < start);
            slots.drain(..behind).collect()
        };
        // Release: pairs with the Acquire in `log_start`.
        self.log_start.store(start, Ordering::Release);
        for slot in removed {
            for name in [FileName::Index(slot.base), FileName::Segment(slot.base)] {
                let _ = log.spec.fs.remove(&name.path(&log.spec.dir));
            }
        }
    }

    /// Files that a former session prepared.
    pub(crate) fn take_left_over(&self, numbers: &[u64]) {
        let mut spares = self.spares.lock();
        spares.left_over = numbers.to_vec();
        spares.next_number = numbers.iter().max().map_or(0, |last| last + 1);
    }

    /// A file for the next segment: one that is ready, or one made on the spot with the first `allocate` bytes.
    pub(crate) fn take_spare(&self, log: &Log, allocate: u64) -> Result<Spare> {
        let number = {
            let mut spares = self.spares.lock();
            if !spares.ready.is_empty() {
                return Ok(spares.ready.remove(0));
            }
            spares.number()
        };
        self.make_spare(log, number, allocate, |_| Ok(()))
    }

    /// Takes a spare back that could not become a segment.
    pub(crate) fn give_back(&self, spare: Spare) {
        self.spares.lock().ready.insert(0, spare);
    }

    /// Makes spares until enough are ready. A failure is left to the appender, who meets it again and can say it.
    pub(crate) fn prepare(&self, log: &Log) {
        loop {
            let (number, is_streaming) = {
                let mut spares = self.spares.lock();
                // Before the first roll nobody knows whether the log will ever need a second segment.
                let is_needed = self.slots.read().len() > 1;
                if !is_needed || spares.is_abandoned || spares.ready.len() >= SPARES_AHEAD {
                    return;
                }
                (spares.number(), spares.is_streaming)
            };
            let made = self.make_spare(log, number, log.spec.segment_bytes, |spare| {
                spare.fill_up()?;
                if is_streaming { Ok(()) } else { spare.warm(&*log.spec.fs) }
            });
            match made {
                Ok(spare) => self.spares.lock().ready.push(spare),
                Err(_) => return,
            }
        }
    }

    /// Makes the file with this number; if that fails, the number and what there is of the file are for the next.
    fn make_spare(
        &self,
        log: &Log,
        number: u64,
        allocate: u64,
        finish: impl Fn(&mut Spare) -> std::io::Result<()>,
    ) -> Result<Spare> {
        let LogSpec { fs, dir, segment_bytes, .. } = &log.spec;
        let made = log.check_space(allocate).and_then(|()| {
            let made = Spare::make(&**fs, dir, number, *segment_bytes, allocate)
                .and_then(|mut spare| finish(&mut spare).map(|()| spare));
            made.map_err(|e| log.space_error("make", &FileName::Spare(number).path(dir), e, allocate))
        });
        if made.is_err() {
            self.spares.lock().left_over.push(number);
        }
        made
    }

    /// Makes no more spares.
    pub(crate) fn abandon(&self) {
        self.spares.lock().is_abandoned = true;
    }

    /// Says what the next segments are for.
    pub(crate) fn is_streaming(&self, is_streaming: bool) {
        self.spares.lock().is_streaming = is_streaming;
    }
}
