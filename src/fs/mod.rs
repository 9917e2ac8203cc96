//! The one door to files: a trait with few, plain operations, which the disk implements and a simulator that can
//! cut the power between any two of them.
//!
//! Public so that a program can run its own crash tests on [`Simulated`] through
//! `Broker::builder().fs(..)`; the trait itself follows the store's needs and may change in any release.
//!
//! What the store relies on, and the simulator therefore takes away wherever it can:
//! - bytes written are on the medium only once [`File::sync_data`] returned; until then any subset of the
//!   512-byte sectors may be there, in any order;
//! - a name (created, renamed, removed) is on the medium only once [`Fs::sync_dir`] returned for its directory;
//! - a failed sync says nothing about which bytes arrived, and a later success does not take that back;
//! - a 512-byte sector is written whole or not at all.

#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "the door to the disk")]
pub mod disk;
pub mod simulated;
#[cfg(test)]
mod conformance;

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

pub use disk::Disk;
pub use simulated::Simulated;

/// A file system, or something that behaves like one.
pub trait Fs: Send + Sync + fmt::Debug + 'static {
    /// Makes a new, empty file for reading and writing; `AlreadyExists` if the name is taken.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Opens a file that exists for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Opens a file that exists for reading only; its maps are not to be written.
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Gives a file a new name in the same directory, in place of what had that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Takes a file's name away. Maps of it stay readable on Unix.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory and those above it; fine if they exist.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and everything in it.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// The names of the files and directories in a directory, in no order. `NotFound` if there is none.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Creates `path` if need be and locks it against every other holder, in this process too, until the
    /// returned file is dropped; `WouldBlock` if it is held. The lock dies with the process.
    fn lock(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Bytes that may still be allocated on the file system of `path`.
    fn free_space(&self, path: &Path) -> io::Result<u64>;
    /// The same number for as long as the machine has not been restarted; never 0.
    fn boot_id(&self) -> io::Result<u128>;
    /// A number nobody can guess; from the seed in the simulator.
    fn random(&self) -> u64;
    /// Whether stores through a map and [`File::write_at`] meet in one page cache, so that both ways of writing
    /// may be mixed and a sync of the file covers both.
    fn has_unified_cache(&self) -> bool;
    /// Whether the store may run threads of its own on this file system. False in a simulation, where the same
    /// seed must give the same run: background work is then done in line.
    fn allows_threads(&self) -> bool;
}

/// An open file. Positions and lengths are in bytes.
#[expect(clippy::len_without_is_empty, reason = "a length may fail to be had, and nobody asks for emptiness")]
pub trait File: Send + Sync + fmt::Debug {
    /// Length of the file.
    fn len(&self) -> io::Result<u64>;
    /// Sets the length of a file that nobody has mapped (`ResourceBusy` in the simulator if somebody has); new
    /// bytes read as zeros and have no blocks yet.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reads into `buf` from `at`; returns how many bytes there were before the end of the file.
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `at`.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Gives the range blocks on the medium, so that later stores into it cannot run out of space. What it holds
    /// is unchanged; a file that ends before the range does is made longer by zeros. `StorageFull` if there is no
    /// room, with nothing changed that a reader could see. Nobody may write into the range meanwhile: where the
    /// system has no call for it, zeros are written over what reads as zeros.
    fn allocate(&self, range: Range<u64>) -> io::Result<()>;
    /// Makes the range read as zeros without giving its blocks back. The end of the file stays where it is.
    fn zero(&self, range: Range<u64>) -> io::Result<()>;
    /// Makes all bytes written so far durable, with what is needed to find them again; those stored through a map
    /// too where [`Fs::has_unified_cache`].
    fn sync_data(&self) -> io::Result<()>;
    /// The first place from `at` on that may hold anything but zeros; `None` if there is none. A guess on the safe
    /// side: `at` itself is always a right answer.
    fn next_data(&self, at: u64) -> io::Result<Option<u64>> {
        Ok(Some(at))
    }
    /// Has the next sync write a range as it reads now, whatever the page cache takes for written already. For a file
    /// of which nobody knows whether a sync of it failed. Nobody may store into the range meanwhile.
    fn write_again(&self, range: Range<u64>) -> io::Result<()>;
    /// Drops what the page cache knows of the file and is not waiting to be written, so that the next read asks the
    /// medium. For a file whose last sync failed.
    fn forget_cache(&self) -> io::Result<()>;
    /// Maps the first `len` bytes, which must lie within the file, shared. Stores through the map are part of the
    /// file only where [`Fs::has_unified_cache`]; loads see every write everywhere. The memory is aligned to
    /// eight bytes at least.
    fn map(&self, len: usize) -> io::Result<Region>;
}

/// Shared memory that is the content of a file. Only `storage::mmap` touches what it points to.
#[derive(Clone, Debug)]
pub enum Region {
    /// A mapping of the page cache.
    Mapped(Arc<memmap2::MmapRaw>),
    /// A file that lives in the process's own memory: its content in the machine's byte order, and its length in
    /// bytes. A box, since it can be had zeroed without being touched.
    Memory(Arc<Box<[AtomicU64]>>, usize),
}

impl Region {
    /// Where the region begins.
    pub fn as_ptr(&self) -> *mut u8 {
        match self {
            Self::Mapped(map) => map.as_mut_ptr(),
            Self::Memory(words, _) => words.as_ptr().cast_mut().cast(),
        }
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Mapped(map) => map.len(),
            Self::Memory(_, len) => *len,
        }
    }

    /// Whether nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
