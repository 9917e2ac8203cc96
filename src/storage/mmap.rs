//! The map of a segment file: the only place that turns file memory into slices, and bytes into stores.
//!
//! The map is cut in two by its *committed* end, which only moves up. Below it bytes never change and anyone may
//! borrow them; above it only the one [`MapWriter`] may touch them, and nobody may look.
//!
//! - **M-1** `base` points to `len` readable and writable (read-only maps: readable) bytes for as long as `region`
//!   lives, and `region` lives as long as the map.
//! - **M-2** There is at most one `MapWriter` to a map: `Map::writer` hands out the only one.
//! - **M-3** Bytes below `committed` are never stored to again, by this process or, under the directory's lock, by
//!   another; `committed` never goes down and never beyond `len`.
//! - **M-4** A segment file never shrinks while it may be mapped. Nobody but us changes files in a locked data
//!   directory: a program that truncates one under a running broker takes the process down with SIGBUS.
#![allow(unsafe_code)] // One of the two homes of unsafe code: file memory has no safe face.

use std::ops::Range;
use std::ptr;
use std::sync::Arc;

use crate::fs::Region;
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// A shared map of a file's first bytes.
#[derive(Debug)]
pub(crate) struct Map {
    region: Region,
    base: *mut u8,
    len: u64,
    committed: AtomicU64,
    has_writer: AtomicBool,
}

// SAFETY: `base` is not tied to a thread, and M-1 to M-3 say who may touch what it points to.
unsafe impl Send for Map {}
// SAFETY: as for Send: shared access reads below `committed` only, where nothing changes (M-3).
unsafe impl Sync for Map {}

impl Map {
    /// Maps a region whose first `committed` bytes are final.
    pub(crate) fn new(region: Region, committed: u64) -> Self {
        let len = region.len() as u64;
        assert!(committed <= len, "{committed} committed bytes in a map of {len}");
        let base = region.as_ptr();
        Self { region, base, len, committed: AtomicU64::new(committed), has_writer: AtomicBool::new(false) }
    }

    /// Hands out the writer of this map.
    ///
    /// # Panics
    /// If it was handed out before.
    pub(crate) fn writer(self: &Arc<Self>) -> MapWriter {
        // Relaxed: the flag orders nothing; it only has to be taken once.
        let taken = self.has_writer.swap(true, Ordering::Relaxed);
        assert!(!taken, "a map has one writer (M-2)");
        MapWriter { map: Arc::clone(self) }
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The end of what may be read.
    pub(crate) fn committed(&self) -> u64 {
        // Acquire: pairs with the Release in `MapWriter::commit`; the bytes below were stored before it.
        self.committed.load(Ordering::Acquire)
    }

    /// Borrows committed bytes.
    ///
    /// # Panics
    /// If the range is not below the committed end: that would be bytes that may still change.
    pub(crate) fn slice(&self, range: Range<u64>) -> &[u8] {
        let committed = self.committed();
        let Range { start, end } = range;
        assert!(start <= end && end <= committed, "bytes {start}..{end} of a map committed up to {committed}");
        let (start, len) = (start as usize, (end - start) as usize);
        // SAFETY: start <= committed <= len (M-3), so the pointer stays within the region (M-1).
        let first = unsafe { self.base.add(start) };
        // SAFETY: the bytes lie below `committed`, were stored before it was (Acquire above), and nobody stores to
        // them again while the region lives (M-1, M-3, M-4); the borrow of `self` keeps the region alive.
        unsafe { std::slice::from_raw_parts(first, len) }
    }

    /// Brings the pages of a range in, ready to be stored to, without changing a byte. A hint: failure is no harm.
    pub(crate) fn populate(&self, range: Range<u64>) {
        #[cfg(target_os = "linux")]
        if let Region::Mapped(map) = &self.region {
            let (start, len) = (range.start as usize, (range.end - range.start) as usize);
            let _ = map.advise_range(memmap2::Advice::PopulateWrite, start, len);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (range, &self.region);
    }

    /// Lets go of the pages of a range; the page cache keeps what they hold. A hint: failure is no harm.
    pub(crate) fn release(&self, range: Range<u64>) {
        #[cfg(target_os = "linux")]
        if let Region::Mapped(map) = &self.region {
            let (start, len) = (range.start as usize, (range.end - range.start) as usize);
            // SAFETY: the map is shared and backed by a file, so dropping its pages loses nothing: the next access,
            // by whoever, finds the same bytes in the page cache (M-1).
            let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, len) };
        }
        #[cfg(not(target_os = "linux"))]
        let _ = range;
    }
}

/// The one who may store into a map, above its committed end.
#[derive(Debug)]
pub(crate) struct MapWriter {
    map: Arc<Map>,
}

impl MapWriter {
    /// Stores `bytes` at `at`.
    ///
    /// # Panics
    /// If the range is not between the committed end and the end of the map.
    pub(crate) fn store(&mut self, at: u64, bytes: &[u8]) {
        self.check(at, bytes.len());
        // SAFETY: `check` has shown that `at` lies within the region (M-1).
        let to = unsafe { self.map.base.add(at as usize) };
        // SAFETY: the range is above `committed`, where nobody borrows (M-3) and no other writer is (M-2);
        // `bytes` is a borrow, hence elsewhere.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    }

    /// Stores a commit word: little-endian, whole, and after everything stored before it.
    ///
    /// # Panics
    /// As [`store`](Self::store), and if `at` is not a multiple of 8.
    pub(crate) fn store_word(&mut self, at: u64, word: u64) {
        self.check(at, size_of::<u64>());
        assert!(at.is_multiple_of(8), "a commit word at {at}, which is not a multiple of 8");
        // SAFETY: `check` has shown that `at` lies within the region (M-1).
        let to = unsafe { self.map.base.add(at as usize) };
        // SAFETY: regions begin at a multiple of 8 (pages or u64s) and so does `at`; the word is above `committed`,
        // so nobody else touches it (M-2, M-3).
        let slot = unsafe { std::sync::atomic::AtomicU64::from_ptr(to.cast()) };
        // Release: a process that dies between two stores leaves the word only behind the bytes that it covers;
        // pairs with nothing in this process, which reads behind `committed` alone.
        slot.store(word.to_le(), std::sync::atomic::Ordering::Release);
    }

    /// Makes everything below `end` final and readable.
    pub(crate) fn commit(&mut self, end: u64) {
        // Relaxed: only this writer stores it.
        let committed = self.map.committed.load(Ordering::Relaxed);
        assert!(committed <= end && end <= self.map.len, "commit to {end} after {committed}, of {}", self.map.len);
        // Release: pairs with the Acquire in `Map::committed`.
        self.map.committed.store(end, Ordering::Release);
    }

    fn check(&self, at: u64, len: usize) {
        // Relaxed: only this writer stores it.
        let committed = self.map.committed.load(Ordering::Relaxed);
        let end = at.checked_add(len as u64);
        let fits = at >= committed && end.is_some_and(|end| end <= self.map.len);
        assert!(fits, "store of {len} bytes at {at}: the map is committed to {committed} of {}", self.map.len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map_of(words: usize) -> Arc<Map> {
        let len = words * size_of::<u64>();
        let words = (0..words).map(|_| std::sync::atomic::AtomicU64::new(0)).collect();
        Arc::new(Map::new(Region::Memory(Arc::new(words), len), 0))
    }

    #[test]
    fn what_was_committed_can_be_borrowed_while_the_writer_goes_on() {
        let map = map_of(4);
        let mut writer = map.writer();
        writer.store(8, b"payload!");
        writer.store_word(0, 42);
        writer.commit(16);
        let seen = map.slice(0..16);
        writer.store(16, b"next");
        assert_eq!((seen[0], &seen[8..]), (42, &b"payload!"[..]));
    }

    #[test]
    fn bytes_that_may_still_change_are_not_lent_and_committed_ones_not_changed() {
        fn panics(f: impl FnOnce()) -> bool {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_err()
        }
        let map = map_of(4);
        let mut writer = map.writer();
        writer.commit(8);
        assert!(panics(|| drop(map.slice(0..9).to_vec())), "lent beyond the committed end");
        assert!(panics(|| writer.store(7, b"x")), "stored below the committed end");
        assert!(panics(|| writer.store(31, b"xy")), "stored beyond the map");
        assert!(panics(|| writer.store(u64::MAX, b"xy")), "wrapped around");
        assert!(panics(|| writer.store_word(12, 1)), "a word that is not aligned");
        assert!(panics(|| writer.commit(0)), "the committed end went back");
        assert!(panics(|| drop(map.writer())), "a second writer");
    }
}
