//! One file of the simulator, in three versions: *live* is what the program sees, *clean* what the kernel takes for
//! written, *durable* what is on the medium.
//!
//! A sector is dirty if and only if live and clean differ there, so stores through a map are found without being
//! watched. A sync that succeeds makes all three the same. A sync that fails makes live and clean the same, and
//! durable only in places: from then on nobody knows what is missing, as on ext4 and XFS.
//!
//! Clean and durable are pages behind reference counts, copied when one changes. A fork shares them with its
//! origin, and it has live bytes of its own only once somebody writes to the file or maps it.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::fs::Region;
use crate::fs::simulated::random::Random;
use crate::sync::Mutex;

/// The number of a file, kept over renames and crashes.
pub(super) type FileId = u64;

/// A file without its names.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) id: FileId,
    /// Guards the bytes; no other lock is taken while it is held.
    pub(super) content: Mutex<Content>,
    /// Held by an open file that came from `Fs::lock`.
    pub(super) is_locked: AtomicBool,
}

impl Inode {
    pub(super) fn new(id: FileId, content: Content) -> Self {
        Self { id, content: Mutex::new(content), is_locked: AtomicBool::new(false) }
    }
}

/// The bytes of a file.
#[derive(Default, Debug)]
pub(super) struct Content {
    /// The live length in bytes.
    len: u64,
    /// The live bytes, shared with maps; exactly as many words as the length needs. `None` until somebody writes or
    /// maps: the live bytes are then the clean ones.
    live: Option<Words>,
    clean: Image,
    durable: Image,
}

type Words = Arc<Box<[AtomicU64]>>;

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Sets the live length, as `File::set_len` says.
    pub(super) fn set_len(&mut self, len: u64) -> io::Result<()> {
        if len == self.len {
            return Ok(());
        }
        if self.live.as_ref().is_some_and(|words| Arc::strong_count(words) > 1) {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "the length of a mapped file cannot change"));
        }
        let words = usize::try_from(len.div_ceil(WORD_BYTES)).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let grown: Box<[AtomicU64]> =
            bytemuck::allocation::try_zeroed_slice_box(words).map_err(|()| io::ErrorKind::OutOfMemory)?;
        let kept = len.min(self.len);
        for (new, old) in grown.iter().zip(self.live().iter()).take(kept.div_ceil(WORD_BYTES) as usize) {
            new.store(old.load(RELAXED), RELAXED);
        }
        // The last word that is kept may reach over the end that now moves: behind it there are zeros.
        fill_with_zeros(&grown, kept..kept.next_multiple_of(WORD_BYTES).min(words as u64 * WORD_BYTES));
        self.live = Some(Arc::new(grown));
        self.len = len;
        Ok(())
    }

    pub(super) fn read_at(&self, buf: &mut [u8], at: u64) -> usize {
        let left = self.len.saturating_sub(at);
        let count = usize::try_from(left).map_or(buf.len(), |left| left.min(buf.len()));
        match &self.live {
            Some(words) => copy_out(words, at, &mut buf[..count]),
            None => self.clean.read_at(&mut buf[..count], at),
        }
        count
    }

    pub(super) fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let end = at.checked_add(bytes.len() as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        if end > self.len {
            self.set_len(end)?;
        }
        copy_in(self.live(), at, bytes);
        Ok(())
    }

    pub(super) fn zero(&mut self, range: Range<u64>) {
        let range = range.start..range.end.min(self.len);
        if !range.is_empty() {
            fill_with_zeros(self.live(), range);
        }
    }

    pub(super) fn map(&mut self, len: usize) -> io::Result<Region> {
        if self.len < len as u64 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a map must lie within its file"));
        }
        Ok(Region::Memory(Arc::clone(self.live()), len))
    }

    /// The whole file.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len as usize];
        self.read_at(&mut bytes, 0);
        bytes
    }

    /// Puts other bytes in place of all three versions. Maps see them unless the length changes.
    pub(super) fn replace(&mut self, bytes: &[u8]) {
        if bytes.len() as u64 == self.len {
            copy_in(self.live(), 0, bytes);
        } else {
            self.live = None;
            self.len = bytes.len() as u64;
        }
        self.clean = Image::of(bytes);
        self.durable = self.clean.clone();
    }

    /// A sync that succeeds.
    pub(super) fn sync(&mut self) {
        let dirty = self.dirty_sectors();
        if self.clean.shares_pages_with(&self.durable) {
            // Let go of, so that a page changes in place and not in a copy.
            self.durable = Image::default();
            self.clean.put(self.live.as_ref(), &dirty);
            self.clean.cut(self.len);
            self.durable = self.clean.clone();
        } else {
            for image in [&mut self.clean, &mut self.durable] {
                image.put(self.live.as_ref(), &dirty);
                image.cut(self.len);
            }
        }
    }

    /// A sync that fails: some dirty sectors arrive, and all are clean from now on.
    pub(super) fn sync_in_vain(&mut self, random: &mut Random) {
        let dirty = self.dirty_sectors();
        let in_eight = random.below(9);
        let arrived: Vec<u32> = dirty.iter().copied().filter(|_| random.chance(in_eight)).collect();
        self.durable.put(self.live.as_ref(), &arrived);
        if self.is_length_unsynced() && random.chance(4) {
            self.durable.cut(self.len);
        }
        self.clean.put(self.live.as_ref(), &dirty);
        self.clean.cut(self.len);
    }

    /// Makes the sectors of a range dirty that the medium does not have, whatever the kernel takes for written. The
    /// others would be written to no effect.
    pub(super) fn write_again(&mut self, range: Range<u64>) {
        let Some(words) = &self.live else { return };
        let sectors = range.start / SECTOR_BYTES..range.end.min(self.len).div_ceil(SECTOR_BYTES);
        let lost: Vec<u32> = sectors
            .filter(|sector| {
                let live = words.chunks(SECTOR_WORDS).nth(*sector as usize).unwrap_or_default();
                let page = self.durable.page(*sector as usize / PAGE_SECTORS).unwrap_or(&NO_PAGE);
                let durable = &page[*sector as usize % PAGE_SECTORS * SECTOR_WORDS..][..SECTOR_WORDS];
                live.iter().zip(durable).any(|(live, durable)| live.load(RELAXED) != *durable)
            })
            .map(|sector| sector as u32)
            .collect();
        // Clean is then what the medium has, which differs from what is live.
        self.clean.put_from(&self.durable, &lost);
    }

    /// Reads what is not dirty from the medium again, as after the cache was dropped.
    pub(super) fn forget_cache(&mut self) {
        let dirty = self.dirty_sectors();
        if let Some(words) = &self.live {
            for (sector, live) in words.chunks(SECTOR_WORDS).enumerate() {
                if dirty.binary_search(&(sector as u32)).is_ok() {
                    continue;
                }
                let page = self.durable.page(sector / PAGE_SECTORS).unwrap_or(&NO_PAGE);
                let at = sector % PAGE_SECTORS * SECTOR_WORDS;
                for (live, durable) in live.iter().zip(&page[at..at + SECTOR_WORDS]) {
                    live.store(*durable, RELAXED);
                }
            }
        }
        let clean_len = self.clean.len;
        self.clean = self.durable.clone();
        self.clean.len = clean_len;
    }

    /// What a kernel may do at any time: writes some of the dirty sectors, in a window of a file that is large.
    pub(super) fn write_back(&mut self, random: &mut Random) {
        let Some(words) = &self.live else { return };
        let sectors = words.len().div_ceil(SECTOR_WORDS) as u64;
        let first = random.below(sectors.div_ceil(WINDOW_SECTORS).max(1)) * WINDOW_SECTORS;
        let in_eight = 1 + random.below(8);
        let mut written = Vec::new();
        self.find_dirty(first as usize..(first + WINDOW_SECTORS) as usize, &mut |sector| written.push(sector));
        written.retain(|_| random.chance(in_eight));
        let is_length_written = self.is_length_unsynced() && random.chance(2);
        for image in [&mut self.clean, &mut self.durable] {
            image.put(self.live.as_ref(), &written);
            if is_length_written {
                image.cut(self.len);
            }
        }
    }

    /// Whether the file's end has moved since a sync.
    pub(super) fn is_length_unsynced(&self) -> bool {
        self.len != self.clean.len
    }

    /// The sectors that a crash may take back, in order.
    pub(super) fn dirty_sectors(&self) -> Vec<u32> {
        let mut found = Vec::new();
        self.find_dirty(0..usize::MAX, &mut |sector| found.push(sector));
        found
    }

    /// The file after a power loss that spared these of the dirty sectors, and the new length or not.
    pub(super) fn after_crash(&self, keeps_length: bool, kept_sectors: &[u32]) -> Self {
        let mut image = self.durable.clone();
        image.put(self.live.as_ref(), kept_sectors);
        image.cut(if keeps_length { self.len } else { self.durable.len });
        Self { len: image.len, live: None, clean: image.clone(), durable: image }
    }

    /// The same file in another machine, all three versions of it.
    pub(super) fn twin(&self) -> Self {
        let live = self.live.as_ref().map(|words| {
            Arc::new(words.iter().map(|word| AtomicU64::new(word.load(RELAXED))).collect::<Box<[AtomicU64]>>())
        });
        Self { len: self.len, live, clean: self.clean.clone(), durable: self.durable.clone() }
    }

    /// The live bytes, to be written or mapped.
    fn live(&mut self) -> &Words {
        self.live.get_or_insert_with(|| Arc::new(self.clean.words(self.len)))
    }

    /// Calls `found` with each dirty sector of a range of them.
    fn find_dirty(&self, within: Range<usize>, found: &mut impl FnMut(u32)) {
        let Some(words) = &self.live else { return };
        let first_page = within.start / PAGE_SECTORS;
        for (page, live) in words.chunks(PAGE_WORDS).enumerate().skip(first_page) {
            if page * PAGE_SECTORS >= within.end {
                break;
            }
            let clean = self.clean.page(page).unwrap_or(&NO_PAGE);
            for (sector, (live, clean)) in live.chunks(SECTOR_WORDS).zip(clean.chunks(SECTOR_WORDS)).enumerate() {
                // No early exit: the loop is unrolled, and almost every sector is clean.
                let difference = live.iter().zip(clean).fold(0, |all, (live, clean)| all | live.load(RELAXED) ^ clean);
                if difference != 0 {
                    found((page * PAGE_SECTORS + sector) as u32);
                }
            }
        }
    }
}

/// A version of a file that no map reaches. Cloning it copies nothing.
#[derive(Clone, Default, Debug)]
struct Image {
    len: u64,
    /// `None`, and everything behind the last page, is zeros. Pages may reach, and lie, behind the length: a sector
    /// can be written back before the length is. What is there counts once the length covers it.
    pages: Arc<Vec<Option<Arc<Page>>>>,
}

type Page = [u64; PAGE_WORDS];

impl Image {
    fn of(bytes: &[u8]) -> Self {
        let pages = bytes.chunks(PAGE_WORDS * WORD_BYTES as usize).map(|bytes| {
            let mut page = NO_PAGE;
            bytemuck::cast_slice_mut(&mut page)[..bytes.len()].copy_from_slice(bytes);
            Some(Arc::new(page))
        });
        Self { len: bytes.len() as u64, pages: Arc::new(pages.collect()) }
    }

    fn page(&self, index: usize) -> Option<&Page> {
        self.pages.get(index)?.as_deref()
    }

    fn shares_pages_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.pages, &other.pages)
    }

    fn read_at(&self, buf: &mut [u8], at: u64) {
        const PAGE_BYTES: usize = PAGE_WORDS * WORD_BYTES as usize;
        let mut at = at as usize;
        let mut rest = buf;
        while !rest.is_empty() {
            let within = at % PAGE_BYTES;
            let (now, later) = rest.split_at_mut((PAGE_BYTES - within).min(rest.len()));
            let page = self.page(at / PAGE_BYTES).unwrap_or(&NO_PAGE);
            now.copy_from_slice(&bytemuck::cast_slice(page)[within..within + now.len()]);
            at += now.len();
            rest = later;
        }
    }

    /// The first `len` bytes as live words.
    fn words(&self, len: u64) -> Box<[AtomicU64]> {
        let count = len.div_ceil(WORD_BYTES) as usize;
        let mut words = Vec::with_capacity(count);
        for page in 0..count.div_ceil(PAGE_WORDS) {
            let page_words = (count - words.len()).min(PAGE_WORDS);
            words.extend(self.page(page).unwrap_or(&NO_PAGE)[..page_words].iter().map(|word| AtomicU64::new(*word)));
        }
        words.into_boxed_slice()
    }

    /// Takes sectors from the live bytes.
    fn put(&mut self, live: Option<&Words>, sectors: &[u32]) {
        let (Some(live), Some(last)) = (live, sectors.last()) else { return };
        let pages = Arc::make_mut(&mut self.pages);
        pages.resize(pages.len().max(*last as usize / PAGE_SECTORS + 1), None);
        for sector in sectors.iter().map(|sector| *sector as usize) {
            let page = pages[sector / PAGE_SECTORS].get_or_insert_with(|| Arc::new(NO_PAGE));
            let at = sector % PAGE_SECTORS * SECTOR_WORDS;
            let to = &mut Arc::make_mut(page)[at..at + SECTOR_WORDS];
            let from = live.get(sector * SECTOR_WORDS..).unwrap_or_default();
            to[from.len().min(SECTOR_WORDS)..].fill(0);
            for (to, from) in to.iter_mut().zip(from) {
                *to = from.load(RELAXED);
            }
        }
    }

    /// Takes sectors from another version.
    fn put_from(&mut self, other: &Self, sectors: &[u32]) {
        let Some(last) = sectors.last() else { return };
        let pages = Arc::make_mut(&mut self.pages);
        pages.resize(pages.len().max(*last as usize / PAGE_SECTORS + 1), None);
        for sector in sectors.iter().map(|sector| *sector as usize) {
            let from = other.page(sector / PAGE_SECTORS).unwrap_or(&NO_PAGE);
            let page = pages[sector / PAGE_SECTORS].get_or_insert_with(|| Arc::new(NO_PAGE));
            let at = sector % PAGE_SECTORS * SECTOR_WORDS;
            Arc::make_mut(page)[at..at + SECTOR_WORDS].copy_from_slice(&from[at..at + SECTOR_WORDS]);
        }
    }

    /// Sets the length and forgets what lies behind it.
    fn cut(&mut self, len: u64) {
        self.len = len;
        let page_bytes = PAGE_WORDS as u64 * WORD_BYTES;
        let pages_needed = usize::try_from(len.div_ceil(page_bytes)).unwrap_or(usize::MAX);
        if self.pages.len() > pages_needed {
            Arc::make_mut(&mut self.pages).truncate(pages_needed);
        }
        let within = (len % page_bytes) as usize;
        let last = (len / page_bytes) as usize;
        let ends_in_zeros =
            self.page(last).is_none_or(|page| bytemuck::cast_slice::<u64, u8>(page)[within..].iter().all(|b| *b == 0));
        if within > 0
            && !ends_in_zeros
            && let Some(page) = &mut Arc::make_mut(&mut self.pages)[last]
        {
            let page: &mut Page = Arc::make_mut(page);
            bytemuck::cast_slice_mut::<u64, u8>(page)[within..].fill(0);
        }
    }
}

/// Reads bytes that lie anywhere across words.
fn copy_out(words: &[AtomicU64], at: u64, buf: &mut [u8]) {
    let (first, skip) = ((at / WORD_BYTES) as usize, (at % WORD_BYTES) as usize);
    let (head, rest) = buf.split_at_mut(if skip == 0 { 0 } else { (8 - skip).min(buf.len()) });
    let mut words = words.get(first..).unwrap_or_default().iter().map(|word| word.load(RELAXED).to_ne_bytes());
    if !head.is_empty() {
        head.copy_from_slice(&words.next().unwrap_or_default()[skip..skip + head.len()]);
    }
    let (whole, tail) = rest.as_chunks_mut();
    for (to, from) in whole.iter_mut().zip(words.by_ref()) {
        *to = from;
    }
    if !tail.is_empty() {
        tail.copy_from_slice(&words.next().unwrap_or_default()[..tail.len()]);
    }
}

/// Writes bytes anywhere across words; the other bytes of a word stay what they are, whoever else stores to them.
fn copy_in(words: &[AtomicU64], at: u64, bytes: &[u8]) {
    let (first, skip) = ((at / WORD_BYTES) as usize, (at % WORD_BYTES) as usize);
    let (head, rest) = bytes.split_at(if skip == 0 { 0 } else { (8 - skip).min(bytes.len()) });
    let mut words = words[first..].iter();
    let store_part = |word: Option<&AtomicU64>, skip: usize, part: &[u8]| {
        let word = word.expect("the file was made long enough for the write");
        // The closure always gives a value, so the update cannot be refused.
        let _ = word.fetch_update(RELAXED, RELAXED, |old| {
            let mut new = old.to_ne_bytes();
            new[skip..skip + part.len()].copy_from_slice(part);
            Some(u64::from_ne_bytes(new))
        });
    };
    if !head.is_empty() {
        store_part(words.next(), skip, head);
    }
    let (whole, tail) = rest.as_chunks();
    for (from, to) in whole.iter().zip(words.by_ref()) {
        to.store(u64::from_ne_bytes(*from), RELAXED);
    }
    if !tail.is_empty() {
        store_part(words.next(), 0, tail);
    }
}

/// Writes zeros over a range of bytes.
fn fill_with_zeros(words: &[AtomicU64], range: Range<u64>) {
    let head_end = range.start.next_multiple_of(WORD_BYTES).min(range.end);
    let tail_start = (range.end - range.end % WORD_BYTES).max(head_end);
    if range.start < head_end {
        copy_in(words, range.start, &[0; 8][..(head_end - range.start) as usize]);
    }
    for word in &words[(head_end / WORD_BYTES) as usize..(tail_start / WORD_BYTES) as usize] {
        word.store(0, RELAXED);
    }
    if tail_start < range.end {
        copy_in(words, tail_start, &[0; 8][..(range.end - tail_start) as usize]);
    }
}

/// Relaxed: calls are ordered by the content's lock; stores through a map by whoever publishes them, as on a disk.
const RELAXED: Ordering = Ordering::Relaxed;

const WORD_BYTES: u64 = size_of::<u64>() as u64;
/// What a medium writes whole or not at all.
pub(super) const SECTOR_BYTES: u64 = 512;
const SECTOR_WORDS: usize = (SECTOR_BYTES / WORD_BYTES) as usize;
/// What is copied at a time when a version changes.
const PAGE_WORDS: usize = 512;
/// Sectors of a page.
pub(super) const PAGE_SECTORS: usize = PAGE_WORDS / SECTOR_WORDS;
const NO_PAGE: Page = [0; PAGE_WORDS];
/// How far one spontaneous write-back looks: 256 KiB, so that a large file does not slow every operation.
const WINDOW_SECTORS: u64 = 512;
