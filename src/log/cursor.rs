//! One reader's place in a log: batch after batch, checked, borrowed from the map.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::batch::BatchView;
use crate::error::{Damage, Error, Result};
use crate::log::Log;
use crate::storage::frame::HEAD_LEN;
use crate::storage::name::FileName;
use crate::storage::segment::{FIRST_FRAME, Found, Segment};
use crate::types::Offset;

/// A place in a log.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    log: Arc<Log>,
    next: Offset,
    /// The segment of `next` and where to go on in it; `None` after a seek.
    place: Option<(Arc<Segment>, u64)>,
    skipped: Vec<Damage>,
}

/// A batch that was found whole, bound to its segment, which stays mapped for as long.
#[derive(Clone, Debug)]
pub(crate) struct Fetched {
    segment: Arc<Segment>,
    bytes: Range<u64>,
    offsets: Range<Offset>,
}

impl Fetched {
    /// The batch's bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.segment.bytes(self.bytes.clone())
    }

    /// The batch.
    ///
    /// # Errors
    /// None that was not found when it was fetched: bytes below the committed end do not change.
    pub(crate) fn batch(&self) -> Result<BatchView<'_>> {
        BatchView::parse(self.bytes())
            .map_err(|error| Error::Unsupported { what: format!("{}: {error}", self.segment.path().display()) })
    }

    /// The first offset of the batch.
    pub(crate) fn base_offset(&self) -> Offset {
        self.offsets.start
    }

    /// The offset behind the batch.
    pub(crate) fn end_offset(&self) -> Offset {
        self.offsets.end
    }

    /// Length of the batch in bytes.
    pub(crate) fn len(&self) -> usize {
        (self.bytes.end - self.bytes.start) as usize
    }

    pub(crate) fn path(&self) -> &Path {
        self.segment.path()
    }

    pub(crate) fn position(&self) -> u64 {
        self.bytes.start
    }
}

impl Cursor {
    /// A cursor before the record at `offset`.
    pub(crate) fn new(log: Arc<Log>, offset: Offset) -> Self {
        Self { log, next: offset, place: None, skipped: Vec::new() }
    }

    /// A cursor before the frame at `position`, one that the segment's index named.
    pub(crate) fn at_position(log: Arc<Log>, segment: &Arc<Segment>, position: u64) -> Self {
        let next = match segment.at(position) {
            Found::Batch { batch, .. } => batch.header().base_offset,
            Found::End | Found::Hole(_) => segment.base_offset(),
        };
        Self { log, next, place: Some((Arc::clone(segment), position)), skipped: Vec::new() }
    }

    /// Goes to another offset. Whether it is in the log shows at the next read.
    pub(crate) fn seek(&mut self, offset: Offset) {
        if offset != self.next {
            (self.next, self.place) = (offset, None);
        }
    }

    /// Damage that was passed over since the last call.
    pub(crate) fn take_skipped(&mut self) -> Vec<Damage> {
        std::mem::take(&mut self.skipped)
    }

    /// The next batch that ends behind the position and begins below `visible`; `None` if there is none yet. The
    /// first may begin before the position: a batch is read whole.
    ///
    /// # Errors
    /// [`Error::OffsetOutOfRange`] if the position is not in the log; [`Error::Damaged`], with the position left
    /// where the damage begins, unless the broker was told to pass over it; [`Error::Io`].
    pub(crate) fn next(&mut self, visible: Offset) -> Result<Option<Fetched>> {
        loop {
            if self.next < self.log.start() || self.next > self.log.end() {
                return Err(self.out_of_range());
            }
            // Beyond what is visible, but in the log: a failed sync has hidden what may not be on the disk.
            if self.next >= visible {
                return Ok(None);
            }
            let Some((segment, position)) = self.locate()? else { continue };
            let segment_end = segment.end_offset();
            // All its records were read. Whether its seal has reached the disk is nobody's loss.
            if self.next >= segment_end {
                continue;
            }
            match segment.at(position) {
                Found::Batch { batch, end } => {
                    let header = batch.header();
                    let offsets = header.base_offset..header.end_offset();
                    if offsets.start > self.next {
                        self.place = Some((Arc::clone(&segment), position));
                        self.pass_over(segment.path(), position, offsets.start, "offsets are missing")?;
                        continue;
                    }
                    let start = position + HEAD_LEN;
                    let bytes = start..start + header.batch_len as u64;
                    self.place = Some((Arc::clone(&segment), end));
                    if offsets.end <= self.next {
                        continue;
                    }
                    self.next = offsets.end;
                    return Ok(Some(Fetched { segment, bytes, offsets }));
                }
                Found::End => self.leave(&segment)?,
                // Before the position: passed already, or none of this reader's business.
                Found::Hole(hole) if hole.resume_offset.is_some_and(|offset| offset <= self.next) => {
                    self.place = Some((segment, hole.resume));
                }
                Found::Hole(hole) => {
                    let to = hole.resume_offset.unwrap_or(segment_end).max(self.next);
                    self.place = Some((Arc::clone(&segment), position));
                    self.pass_over(segment.path(), hole.position, to, hole.reason)?;
                    self.place = hole.resume_offset.map(|_| (segment, hole.resume));
                }
            }
        }
    }

    /// The segment and byte to go on at. `None`: a segment that cannot be opened was passed over.
    fn locate(&mut self) -> Result<Option<(Arc<Segment>, u64)>> {
        if let Some(place) = self.place.take() {
            return Ok(Some(place));
        }
        match self.log.segments.open(&self.log, self.next) {
            Ok(segment) => {
                let is_first = segment.base_offset() == self.next;
                let position = if is_first { FIRST_FRAME } else { segment.position_before(self.next) };
                Ok(Some((segment, position)))
            }
            Err(Error::Damaged(damage)) if self.passes_over() => {
                self.log.put_aside(&damage.path);
                let damage = Damage { from: self.next.max(damage.from), ..(*damage).clone() };
                self.next = self.next.max(damage.to);
                self.skipped.push(damage);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The segment has no more: on to the one behind it.
    fn leave(&mut self, segment: &Arc<Segment>) -> Result<()> {
        let end = segment.end_offset();
        if end > self.next {
            // It was sealed here, so the next offset began a segment of its own.
            let missing = FileName::Segment(self.next).path(&self.log.spec.dir);
            self.pass_over(&missing, 0, end, "the file is missing")?;
        }
        self.place = None;
        Ok(())
    }

    fn passes_over(&self) -> bool {
        self.log.passes_over_damage()
    }

    /// Meets damage as the broker was told to: goes on behind it, or says it.
    fn pass_over(&mut self, path: &Path, position: u64, to: Offset, reason: &'static str) -> Result<()> {
        let damage = Damage {
            partition: self.log.partition().clone(),
            path: path.to_path_buf(),
            position,
            from: self.next,
            to,
            reason,
        };
        if !self.passes_over() {
            return Err(Error::Damaged(Arc::new(damage)));
        }
        self.log.put_aside(path);
        self.next = to;
        if damage.from < damage.to {
            self.skipped.push(damage);
        }
        Ok(())
    }

    fn out_of_range(&self) -> Error {
        Error::OffsetOutOfRange {
            partition: self.log.partition().clone(),
            offset: self.next,
            first: self.log.start(),
            end: self.log.end(),
        }
    }
}
