//! The operating system's files. Beside the network's sockets, this is the only file that names `std::fs`.
//!
//! Linux is the platform it is tuned for. Elsewhere every operation keeps its promise by plainer means: space is
//! allocated by writing zeros, a range is zeroed by writing, and maps are for reading only
//! ([`has_unified_cache`](Fs::has_unified_cache) is false). Errors are the system's own, with their number.

use std::fs::OpenOptions;
use std::hash::BuildHasher;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use crate::fs::{File, Fs, Region};

/// The operating system's file system.
#[derive(Clone, Copy, Default, Debug)]
pub struct Disk;

impl Fs for Disk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        Ok(Arc::new(DiskFile { file, access: Access::ReadWrite }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Arc::new(DiskFile { file, access: Access::ReadWrite }))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = OpenOptions::new().read(true).open(path)?;
        Ok(Arc::new(DiskFile { file, access: Access::ReadOnly }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        // A name that is not Unicode is none of ours, but it is there: it is listed as well as it can be, so that
        // a directory with somebody else's files in it is not taken for an empty one.
        std::fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        // Windows has no way to open a directory for a sync; NTFS journals names by itself.
        if cfg!(windows) { Ok(()) } else { std::fs::File::open(path)?.sync_all() }
    }

    fn lock(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        // Not truncated: until the lock is ours, what the file says is the holder's.
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        file.try_lock()?;
        Ok(Arc::new(DiskFile { file, access: Access::ReadWrite }))
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        free_space(path)
    }

    fn boot_id(&self) -> io::Result<u128> {
        Ok(boot_id())
    }

    fn random(&self) -> u64 {
        unguessable()
    }

    fn has_unified_cache(&self) -> bool {
        cfg!(target_os = "linux")
    }

    fn allows_threads(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct DiskFile {
    file: std::fs::File,
    access: Access,
}

/// What the file was opened for: a map cannot ask for more.
#[derive(Clone, Copy, Debug)]
enum Access {
    ReadWrite,
    ReadOnly,
}

impl File for DiskFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match read_some(&self.file, &mut buf[done..], at.saturating_add(done as u64)) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            match write_some(&self.file, &bytes[done..], at.saturating_add(done as u64)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => done += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn allocate(&self, range: Range<u64>) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        // Blocks first, the length after them: a full disk then leaves the file as it was.
        let has_blocks = has_allocated(&self.file, &range)?;
        let len = self.len()?;
        if len < range.end {
            self.set_len(range.end)?;
        }
        if has_blocks {
            return Ok(());
        }
        self.allocate_by_writing(range.clone()).or_else(|full| {
            if len < range.end {
                self.set_len(len)?;
            }
            Err(full)
        })
    }

    fn zero(&self, range: Range<u64>) -> io::Result<()> {
        let range = range.start..range.end.min(self.len()?);
        if range.is_empty() || has_zeroed(&self.file, &range)? {
            return Ok(());
        }
        self.for_each_block(range, |at, block| self.write_at(&[0; BLOCK_BYTES][..block.len()], at))
    }

    fn sync_data(&self) -> io::Result<()> {
        // fdatasync on Linux, F_FULLFSYNC on Apple's systems, FlushFileBuffers on Windows.
        self.file.sync_data()
    }

    #[cfg(target_os = "linux")]
    fn next_data(&self, at: u64) -> io::Result<Option<u64>> {
        // The file's own position moves, which nobody uses.
        match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Data(at)) {
            Ok(place) => Ok(Some(place)),
            Err(rustix::io::Errno::NXIO) => Ok(None),
            Err(_) => Ok(Some(at)),
        }
    }

    fn write_again(&self, range: Range<u64>) -> io::Result<()> {
        const PIECE: u64 = 1 << 20;
        let mut piece = vec![0; PIECE.min(range.end.saturating_sub(range.start)) as usize];
        let mut at = range.start;
        while at < range.end {
            let wanted = (range.end - at).min(PIECE) as usize;
            let read = self.read_at(&mut piece[..wanted], at)?;
            if read == 0 {
                break;
            }
            self.write_at(&piece[..read], at)?;
            at += read as u64;
        }
        Ok(())
    }

    fn forget_cache(&self) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed)?;
        Ok(())
    }

    fn map(&self, len: usize) -> io::Result<Region> {
        // A load from a page behind the end is a signal, not an error; this is the last place to say no.
        if self.len()? < len as u64 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a map must lie within its file"));
        }
        let mut options = memmap2::MmapOptions::new();
        options.len(len);
        let map = match self.access {
            Access::ReadWrite => options.map_raw(&self.file)?,
            Access::ReadOnly => options.map_raw_read_only(&self.file)?,
        };
        Ok(Region::Mapped(Arc::new(map)))
    }
}

impl DiskFile {
    /// Gives blocks to a range within the file where the system has no call for it.
    ///
    /// A block that reads as anything but zeros was written once and has its place. One that reads as zeros may
    /// be a hole, and zeros are written over it: the same bytes, so nothing is lost as long as nobody writes into
    /// the range meanwhile, which the trait demands. Asking the file system for its holes instead would trust
    /// the very systems that could not allocate. Block by block, since a file filled by large writes is kept in
    /// large pages, and every small store then dirties all of one.
    fn allocate_by_writing(&self, range: Range<u64>) -> io::Result<()> {
        self.for_each_block(range, |at, block| {
            let read = self.read_at(block, at)?;
            if block[..read].iter().all(|byte| *byte == 0) { self.write_at(&block[..read], at) } else { Ok(()) }
        })
    }

    /// Calls `f` with the position of every block of the range and a buffer of the length that the range has there.
    fn for_each_block(&self, range: Range<u64>, mut f: impl FnMut(u64, &mut [u8]) -> io::Result<()>) -> io::Result<()> {
        let mut buf = [0; BLOCK_BYTES];
        let mut at = range.start;
        while at < range.end {
            let end = (at - at % BLOCK_BYTES as u64).saturating_add(BLOCK_BYTES as u64).min(range.end);
            f(at, &mut buf[..(end - at) as usize])?;
            at = end;
        }
        Ok(())
    }
}

/// Bytes handled at a time where a range is written by hand: a page of memory on most machines.
const BLOCK_BYTES: usize = 4096;

/// Allocates blocks without moving the end of the file; false if this system or file system cannot.
#[cfg(target_os = "linux")]
fn has_allocated(file: &std::fs::File, range: &Range<u64>) -> io::Result<bool> {
    fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, range)
}

#[cfg(not(target_os = "linux"))]
fn has_allocated(_: &std::fs::File, _: &Range<u64>) -> io::Result<bool> {
    Ok(false)
}

/// Zeroes a range within the file and keeps its blocks; false if this system or file system cannot.
#[cfg(target_os = "linux")]
fn has_zeroed(file: &std::fs::File, range: &Range<u64>) -> io::Result<bool> {
    use rustix::fs::FallocateFlags;
    fallocate(file, FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE, range)
}

#[cfg(not(target_os = "linux"))]
fn has_zeroed(_: &std::fs::File, _: &Range<u64>) -> io::Result<bool> {
    Ok(false)
}

#[cfg(target_os = "linux")]
fn fallocate(file: &std::fs::File, mode: rustix::fs::FallocateFlags, range: &Range<u64>) -> io::Result<bool> {
    use rustix::io::Errno;
    match rustix::io::retry_on_intr(|| rustix::fs::fallocate(file, mode, range.start, range.end - range.start)) {
        Ok(()) => Ok(true),
        // ENOSYS: a kernel, or a sandbox that plays one, without the call.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(unix)]
fn read_some(file: &std::fs::File, buf: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buf, at)
}

#[cfg(unix)]
fn write_some(file: &std::fs::File, bytes: &[u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::write_at(file, bytes, at)
}

#[cfg(windows)]
fn read_some(file: &std::fs::File, buf: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buf, at)
}

#[cfg(windows)]
fn write_some(file: &std::fs::File, bytes: &[u8], at: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_write(file, bytes, at)
}

#[cfg(unix)]
fn free_space(path: &Path) -> io::Result<u64> {
    let stat = rustix::io::retry_on_intr(|| rustix::fs::statvfs(path))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Windows is not asked: a full disk is met where space is allocated.
#[cfg(not(unix))]
fn free_space(_: &Path) -> io::Result<u64> {
    Ok(u64::MAX)
}

/// The kernel's own number for this boot.
///
/// Where there is none (other systems, a sandbox without /proc) it is a number of this process. The store then
/// takes every earlier process's files for those of an earlier boot and trusts only what was synced: slower to
/// open, never wrong.
fn boot_id() -> u128 {
    static OF_THIS_PROCESS: OnceLock<u128> = OnceLock::new();
    kernel_boot_id().unwrap_or_else(|| {
        *OF_THIS_PROCESS.get_or_init(|| u128::from(unguessable()) << 64 | u128::from(unguessable()) | 1)
    })
}

#[cfg(target_os = "linux")]
fn kernel_boot_id() -> Option<u128> {
    parse_boot_id(&std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?)
}

#[cfg(not(target_os = "linux"))]
fn kernel_boot_id() -> Option<u128> {
    None
}

/// Reads the 32 hexadecimal digits of a UUID.
#[cfg(any(target_os = "linux", test))]
fn parse_boot_id(text: &str) -> Option<u128> {
    let digits = text.trim().replace('-', "");
    if !(digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())) {
        return None;
    }
    u128::from_str_radix(&digits, 16).ok().filter(|id| *id != 0)
}

/// A number from the keys that std draws from the system for its hash maps: new keys for every call, through
/// SipHash, which does not give them away.
pub(super) fn unguessable() -> u64 {
    std::hash::RandomState::new().hash_one(std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::conformance;

    fn scratch() -> tempfile::TempDir {
        tempfile::tempdir().expect("the machine has a directory for temporary files")
    }

    #[cfg(unix)]
    fn create(path: &Path) -> DiskFile {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).expect("a new file");
        DiskFile { file, access: Access::ReadWrite }
    }

    #[test]
    fn the_disk_does_what_every_file_system_must() {
        let dir = scratch();
        conformance::check(&Disk, dir.path());
    }

    #[test]
    fn a_map_and_a_write_meet_in_one_cache_where_the_disk_says_so() {
        let dir = scratch();
        if Disk.has_unified_cache() {
            conformance::check_unified_cache(&Disk, dir.path());
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn allocated_space_is_blocks_and_not_only_length() {
        use std::os::unix::fs::MetadataExt;
        let dir = scratch();
        let file = create(&dir.path().join("file"));
        file.set_len(1 << 20).expect("set_len");
        assert_eq!(file.file.metadata().expect("metadata").blocks(), 0, "a hole has blocks");
        file.allocate(0..1 << 20).expect("allocate");
        let blocks = file.file.metadata().expect("metadata").blocks();
        assert!(blocks * 512 >= 1 << 20, "1 MiB was allocated and the file has {blocks} sectors");
        file.allocate(1 << 20..3 << 20).expect("allocate behind the end");
        let blocks = file.file.metadata().expect("metadata").blocks();
        assert!(blocks * 512 >= 3 << 20, "3 MiB were allocated and the file has {blocks} sectors");
    }

    #[test]
    #[cfg(unix)]
    fn space_allocated_by_writing_has_blocks_and_keeps_what_is_there() {
        use std::os::unix::fs::MetadataExt;
        let dir = scratch();
        let file = create(&dir.path().join("file"));
        file.set_len(100_000).expect("set_len");
        file.write_at(b"kept", 50_001).expect("write");
        file.allocate_by_writing(1..100_000).expect("allocate");
        let mut found = vec![0; 100_000];
        assert_eq!(file.read_at(&mut found, 0).expect("read"), 100_000);
        assert_eq!(&found[50_001..50_005], b"kept");
        assert!(found[..50_001].iter().chain(&found[50_005..]).all(|byte| *byte == 0));
        let blocks = file.file.metadata().expect("metadata").blocks();
        assert!(blocks * 512 >= 100_000, "100,000 bytes were allocated and the file has {blocks} sectors");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn more_than_the_disk_has_is_refused_as_storage_full_and_changes_nothing() {
        // A tmpfs refuses at once. A disk would first be filled to its end, under everybody who uses it.
        let Ok(dir) = tempfile::tempdir_in("/dev/shm") else { return };
        let file = create(&dir.path().join("file"));
        file.write_at(b"here", 0).expect("write");
        let refusal = file.allocate(0..1 << 60).expect_err("more than there is");
        assert_eq!(refusal.kind(), io::ErrorKind::StorageFull, "{refusal}");
        assert!(refusal.raw_os_error().is_some(), "{refusal} has lost its number");
        assert_eq!(file.len().expect("len"), 4, "the refused allocation moved the end of the file");
    }

    #[test]
    fn the_boot_id_is_the_same_twice_and_never_zero() {
        let first = Disk.boot_id().expect("boot_id");
        assert_eq!(first, Disk.boot_id().expect("boot_id"));
        assert_ne!(first, 0);
    }

    #[test]
    fn a_boot_id_is_read_from_a_uuid_and_from_nothing_else() {
        let id = "01234567-89ab-cdef-0123-456789abcdef\n";
        assert_eq!(parse_boot_id(id), Some(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef));
        for wrong in ["", "x", "0123", "00000000-0000-0000-0000-000000000000", "+1234567-89ab-cdef-0123-456789abcdef"] {
            assert_eq!(parse_boot_id(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn random_numbers_differ_from_call_to_call() {
        let mut numbers: Vec<u64> = (0..1_000).map(|_| Disk.random()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 1_000);
    }
}
