//! Files in memory, and a machine around them whose power can be cut between any two operations.
//!
//! What is simulated, and what a [`crash`](Simulated::crash) may therefore leave:
//! - *Bytes.* A write, a store through a map and [`zero`](File::zero) change what the program sees. A 512-byte
//!   sector that differs from what was last written to the medium is dirty, and a crash keeps any subset of the
//!   dirty sectors. The kernel may write some of them at any operation, so that older versions show up too.
//! - *Lengths.* A new length is durable once the file was synced; until then a crash may keep it or not, apart from
//!   the bytes.
//! - *Names.* A name that was added, replaced or removed is durable once its directory was synced; until then a
//!   crash keeps any subset of the changes. A rename is atomic. A directory whose name is lost loses what is in it.
//! - *Failed syncs.* Some of the dirty sectors arrive, and all count as written: the next sync succeeds without
//!   them. A failed sync of a directory makes its first few changes durable; the others stay pending.
//! - *Full disks* and failing operations, on demand: [`set_capacity`](Simulated::set_capacity),
//!   [`fail`](Simulated::fail).
//!
//! What is not: sectors torn in themselves, media that forget what was synced ([`corrupt`](Simulated::corrupt) does
//! it by hand), unwritten ranges that show another file's old bytes, hard links, permissions.

mod crash;
mod fault;
mod inode;
mod random;
mod tree;

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

pub use crash::Unsynced;
pub use fault::{Fault, FaultKind, OpKind, Operation, Times};

use crate::fs::disk;
use crate::fs::simulated::crash::{Item, survivors};
use crate::fs::simulated::inode::{FileId, Inode, SECTOR_BYTES};
use crate::fs::simulated::random::{GAMMA, Random, mix};
use crate::fs::simulated::tree::{Durability, PendingName, Tree};
use crate::fs::{File, Fs, Region};
use crate::sync::Mutex;

/// A file system in memory. Clones are the same machine; [`crash`](Self::crash) and [`kill`](Self::kill) make
/// another one and leave this as it is, so that one moment can be continued in many ways.
///
/// Paths begin at the machine's root, relative ones too; `..` is refused.
///
/// ```
/// use headwater::fs::{Fs, Simulated};
/// use std::path::Path;
/// let fs = Simulated::new(7);
/// let file = fs.create(Path::new("/note"))?;
/// file.write_at(b"synced", 0)?;
/// file.sync_data()?;
/// assert!(fs.crash(0).files().is_empty(), "bytes are safe, the name is not");
///
/// fs.sync_dir(Path::new("/"))?;
/// file.write_at(b"UNSAFE", 0)?;
/// assert_eq!(fs.crash(0).read_file(Path::new("/note"))?, b"synced"); // seed 0 keeps nothing that was not synced
/// assert_eq!(fs.crash(1).read_file(Path::new("/note"))?, b"UNSAFE"); // seed 1 keeps everything
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Simulated(Arc<Machine>);

struct Machine {
    /// Guards the names. A file's content may be locked while it is held, not the other way round.
    tree: Mutex<Tree>,
    has_crash_model: bool,
    boot_id: u128,
    /// The state of the machine's generator, stepped by whoever draws from it.
    random: AtomicU64,
    writes_back: AtomicBool,
    has_unified_cache: AtomicBool,
    /// Bytes that all files together may have.
    capacity: AtomicU64,
    operations: AtomicU64,
    operations_by_kind: [AtomicU64; OpKind::ALL.len()],
    /// Whether a hook or a fault was ever set: spares the locks below where nobody looks.
    is_watched: AtomicBool,
    /// Guards the list alone.
    faults: Mutex<Vec<Fault>>,
    /// Guards the pointer: the hook is called without the lock.
    hook: Mutex<Option<Hook>>,
    /// The machine as it was when its power was cut.
    cut: OnceLock<Simulated>,
}

type Hook = Arc<dyn Fn(&Simulated, Operation<'_>) + Send + Sync>;

impl Simulated {
    /// A machine with the crash model. The same seed and the same operations give the same run.
    pub fn new(seed: u64) -> Self {
        let boot_id = u128::from(mix(seed)) << 64 | 1;
        Self::with(Tree::new(Durability::Sync), boot_id, mix(seed ^ GAMMA))
    }

    /// Plain memory, without the crash model and its cost: what `Broker::in_memory()` stands on. The length of a
    /// file is set without touching its memory.
    pub fn memory() -> Self {
        let boot_id = u128::from(disk::unguessable()) << 64 | 1;
        Self::with(Tree::new(Durability::Nothing), boot_id, disk::unguessable())
    }

    fn with(tree: Tree, boot_id: u128, random: u64) -> Self {
        let has_crash_model = tree.durability() == Durability::Sync;
        Self(Arc::new(Machine {
            tree: Mutex::new(tree),
            has_crash_model,
            boot_id,
            random: AtomicU64::new(random),
            writes_back: AtomicBool::new(true),
            has_unified_cache: AtomicBool::new(true),
            capacity: AtomicU64::new(u64::MAX),
            operations: AtomicU64::new(0),
            operations_by_kind: Default::default(),
            is_watched: AtomicBool::new(false),
            faults: Mutex::new(Vec::new()),
            hook: Mutex::new(None),
            cut: OnceLock::new(),
        }))
    }

    /// The machine says of itself that maps and writes do not meet in one cache, as disks other than Linux's do.
    #[must_use]
    pub fn without_unified_cache(self) -> Self {
        self.0.has_unified_cache.store(false, RELAXED);
        self
    }

    /// The kernel writes nothing back before it is told to: what is unsynced then depends on the operations alone.
    #[must_use]
    pub fn without_write_back(self) -> Self {
        self.0.writes_back.store(false, RELAXED);
        self
    }

    /// The machine after a power loss at this moment: what was synced, and of the rest what the seed says. It has a
    /// new boot id, no locks and no faults; operations are counted from 0 again.
    ///
    /// Seed 0 keeps nothing of the rest and seed 1 all of it. Any other draws how it chooses (coin flips of several
    /// odds, sector by sector or page by page; only what lies early or late in each file; only the first sector of
    /// each run, where a batch has its commit word, or all but it; all but one) and then chooses.
    ///
    /// # Panics
    /// If the machine has no crash model.
    pub fn crash(&self, seed: u64) -> Simulated {
        let found = self.moment();
        let tree = found.0.tree.lock();
        let items = found.items(&tree);
        found.after_crash(&tree, &items, &survivors(seed, &items), seed)
    }

    /// As [`crash`](Self::crash), with of the rest only what `keep` wants, by its index in
    /// [`unsynced`](Self::unsynced). The rest's 2^n subsets are all that a crash can leave at this moment.
    ///
    /// # Panics
    /// If the machine has no crash model.
    pub fn crash_keeping(&self, keep: impl Fn(usize) -> bool) -> Simulated {
        let found = self.moment();
        let tree = found.0.tree.lock();
        let items = found.items(&tree);
        let kept: Vec<bool> = (0..items.len()).map(keep).collect();
        found.after_crash(&tree, &items, &kept, 0)
    }

    /// What a crash at this moment may keep or take back, in an order that stays the same until something changes:
    /// names by directory and time, then each file's length and sectors.
    pub fn unsynced(&self) -> Vec<Unsynced> {
        let found = self.moment();
        let tree = found.0.tree.lock();
        let mut names = tree.pending_names().into_iter();
        let paths = tree.all_paths();
        let path_of = |file: FileId| paths.get(&file).cloned().unwrap_or_default();
        let describe = |item: Item| match item {
            Item::Name => match names.next().expect("a name change for each item") {
                PendingName::Added(path) => Unsynced::Added { path },
                PendingName::Renamed(from, to) => Unsynced::Renamed { from, to },
                PendingName::Removed(path) => Unsynced::Removed { path },
            },
            Item::Length(file) => Unsynced::Length { path: path_of(file) },
            Item::Sector(file, sector) => {
                Unsynced::Sector { path: path_of(file), position: u64::from(sector) * SECTOR_BYTES }
            }
        };
        found.items(&tree).into_iter().map(describe).collect()
    }

    /// The machine after nothing but the process died: all bytes and names as they were seen last, synced or not,
    /// and the same boot id; no locks, no faults. What was unsynced still is.
    pub fn kill(&self) -> Simulated {
        let found = self.moment();
        let tree = found.0.tree.lock().twin();
        found.fork(tree, found.0.boot_id, 0)
    }

    /// Cuts the power under whoever is running: every operation fails from now on, and [`crash`](Self::crash) and
    /// [`kill`](Self::kill) go on from this moment, whatever is still stored through maps.
    pub fn cut_power(&self) {
        self.0.cut.get_or_init(|| self.kill());
    }

    /// Calls `hook` before every mutating operation, in place of the hook that was there. No lock is held
    /// meanwhile: the hook may crash the machine it is given, or cut its power.
    pub fn on_operation(&self, hook: impl Fn(&Simulated, Operation<'_>) + Send + Sync + 'static) {
        *self.0.hook.lock() = Some(Arc::new(hook));
        // Release: pairs with the Acquire in `begin`.
        self.0.is_watched.store(true, Ordering::Release);
    }

    /// How many mutating operations there have been, failed ones too.
    pub fn operations(&self) -> u64 {
        self.0.operations.load(RELAXED)
    }

    /// How many operations of a kind there have been, failed ones too.
    pub fn operations_of(&self, kind: OpKind) -> u64 {
        self.0.operations_by_kind[kind as usize].load(RELAXED)
    }

    /// Makes operations fail. Where several faults hit one operation, the one given first counts.
    pub fn fail(&self, fault: Fault) {
        self.0.faults.lock().push(fault);
        // Release: pairs with the Acquire in `begin`.
        self.0.is_watched.store(true, Ordering::Release);
    }

    /// Takes all faults back. What they did to the files stays.
    pub fn heal(&self) {
        self.0.faults.lock().clear();
    }

    /// Limits what all files together may have. An operation that would make a file longer than there is room for
    /// fails with `StorageFull`; lengths count, whether or not the bytes were ever written.
    pub fn set_capacity(&self, bytes: u64) {
        self.0.capacity.store(bytes, RELAXED);
    }

    /// Changes a file on the medium, behind everybody's back. Maps see it, unless the length changes.
    ///
    /// # Errors
    /// `NotFound`, if there is no such file.
    pub fn corrupt(&self, path: impl AsRef<Path>, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let file = self.moment().0.tree.lock().file(path.as_ref())?;
        let mut content = file.content.lock();
        let mut bytes = content.bytes();
        change(&mut bytes);
        content.replace(&bytes);
        Ok(())
    }

    /// All files, in the order of their paths.
    pub fn files(&self) -> Vec<PathBuf> {
        self.moment().0.tree.lock().live_files().into_iter().map(|(path, _)| path).collect()
    }

    /// A whole file, as a program would see it.
    ///
    /// # Errors
    /// `NotFound`, if there is no such file.
    pub fn read_file(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let file = self.moment().0.tree.lock().file(path.as_ref())?;
        let bytes = file.content.lock().bytes();
        Ok(bytes)
    }

    /// The machine to look at: as it was when its power was cut, or this.
    fn moment(&self) -> &Simulated {
        self.0.cut.get().unwrap_or(self)
    }

    fn items(&self, tree: &Tree) -> Vec<Item> {
        assert!(self.0.has_crash_model, "Simulated::memory() has no crash model; Simulated::new(seed) has");
        let mut items = vec![Item::Name; tree.pending_total()];
        for inode in tree.files() {
            let content = inode.content.lock();
            if content.is_length_unsynced() {
                items.push(Item::Length(inode.id));
            }
            items.extend(content.dirty_sectors().into_iter().map(|sector| Item::Sector(inode.id, sector)));
        }
        items
    }

    fn after_crash(&self, tree: &Tree, items: &[Item], kept: &[bool], seed: u64) -> Simulated {
        let names = items.partition_point(|item| *item == Item::Name);
        let content = |inode: &Inode| {
            let first = items.partition_point(|item| item.file() < Some(inode.id));
            let own = items[first..].iter().zip(&kept[first..]).take_while(|(item, _)| item.file() == Some(inode.id));
            let mut keeps_length = false;
            let mut sectors = Vec::new();
            for (item, _) in own.filter(|(_, is_kept)| **is_kept) {
                match item {
                    Item::Sector(_, sector) => sectors.push(*sector),
                    Item::Length(_) => keeps_length = true,
                    Item::Name => {}
                }
            }
            inode.content.lock().after_crash(keeps_length, &sectors)
        };
        // It never comes round to an earlier one: the lower half begins at 1 and counts the crashes.
        self.fork(tree.after_crash(&kept[..names], content), self.0.boot_id + 1, seed)
    }

    /// Another machine of the same kind, with its own chance.
    fn fork(&self, tree: Tree, boot_id: u128, seed: u64) -> Simulated {
        let fork = Self::with(tree, boot_id, mix(self.0.random.load(RELAXED) ^ mix(seed)));
        fork.0.writes_back.store(self.0.writes_back.load(RELAXED), RELAXED);
        fork.0.has_unified_cache.store(self.0.has_unified_cache.load(RELAXED), RELAXED);
        fork.0.capacity.store(self.0.capacity.load(RELAXED), RELAXED);
        fork
    }

    /// A generator that goes on where the last one began.
    fn draw(&self) -> Random {
        Random::new(mix(self.0.random.fetch_add(GAMMA, RELAXED)))
    }

    /// Counts an operation, shows it to the hook and lets the kernel write back; says how it is to fail, if so.
    fn begin_or_fault(&self, kind: OpKind, path: &Path) -> io::Result<Option<FaultKind>> {
        self.check_power()?;
        let number_of_kind = self.0.operations_by_kind[kind as usize].fetch_add(1, RELAXED);
        let number = if kind.is_mutating() { self.0.operations.fetch_add(1, RELAXED) } else { 0 };
        // Acquire: pairs with the Release in `on_operation` and `fail`.
        if self.0.is_watched.load(Ordering::Acquire) {
            if kind.is_mutating() {
                let hook = self.0.hook.lock().clone();
                if let Some(hook) = hook {
                    hook(self, Operation { number, kind, path });
                    self.check_power()?;
                }
            }
            let mut faults = self.0.faults.lock();
            if let Some(index) = faults.iter().position(|fault| fault.hits(kind, number, number_of_kind)) {
                let fault = faults[index].kind;
                if faults[index].times == Times::Once {
                    faults.remove(index);
                }
                return Ok(Some(fault));
            }
        }
        if self.0.has_crash_model && kind.is_mutating() && self.0.writes_back.load(RELAXED) {
            self.write_back();
        }
        Ok(None)
    }

    fn begin(&self, kind: OpKind, path: &Path) -> io::Result<()> {
        self.begin_or_fault(kind, path)?.map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn check_power(&self) -> io::Result<()> {
        self.0.cut.get().map_or(Ok(()), |_| Err(FaultKind::Eio.error()))
    }

    /// Once in a while, writes some dirty sectors of one file.
    fn write_back(&self) {
        let mut random = self.draw();
        if random.below(WRITE_BACK_EVERY) != 0 {
            return;
        }
        let tree = self.0.tree.lock();
        let count = tree.files().len() as u64;
        if count > 0
            && let Some(inode) = tree.files().nth(random.below(count) as usize)
        {
            inode.content.lock().write_back(&mut random);
        }
    }

    /// Refuses what would make a file longer than there is room for.
    fn check_room(&self, inode: &Inode, len: u64) -> io::Result<()> {
        let capacity = self.0.capacity.load(RELAXED);
        if capacity == u64::MAX {
            return Ok(());
        }
        let growth = len.saturating_sub(inode.content.lock().len());
        let used = self.0.tree.lock().used_bytes();
        if growth > 0 && used.saturating_add(growth) > capacity { Err(FaultKind::Enospc.error()) } else { Ok(()) }
    }

    fn handle(&self, inode: Arc<Inode>, path: &Path, access: Access) -> Arc<dyn File> {
        Arc::new(SimulatedFile { fs: self.clone(), inode, path: path.into(), access })
    }
}

impl fmt::Debug for Simulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.0.has_crash_model { "Simulated" } else { "Simulated::memory" };
        f.debug_struct(name).field("operations", &self.operations()).finish_non_exhaustive()
    }
}

impl Fs for Simulated {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.begin(OpKind::Create, path)?;
        let inode = self.0.tree.lock().create(path)?;
        Ok(self.handle(inode, path, Access::ReadWrite))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.begin(OpKind::Open, path)?;
        let inode = self.0.tree.lock().file(path)?;
        Ok(self.handle(inode, path, Access::ReadWrite))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.begin(OpKind::OpenRead, path)?;
        let inode = self.0.tree.lock().file(path)?;
        Ok(self.handle(inode, path, Access::ReadOnly))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.begin(OpKind::Rename, from)?;
        self.0.tree.lock().rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.begin(OpKind::Remove, path)?;
        self.0.tree.lock().remove(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.begin(OpKind::CreateDir, path)?;
        self.0.tree.lock().create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.begin(OpKind::RemoveDir, path)?;
        self.0.tree.lock().remove_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.begin(OpKind::List, path)?;
        self.0.tree.lock().list(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let fault = self.begin_or_fault(OpKind::SyncDir, path)?;
        let mut tree = self.0.tree.lock();
        let Some(fault) = fault else { return tree.sync_dir(path, usize::MAX) };
        let arrived = self.draw().below(tree.pending_count(path)? as u64 + 1);
        tree.sync_dir(path, arrived as usize)?;
        Err(fault.error())
    }

    fn lock(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.begin(OpKind::Lock, path)?;
        let mut tree = self.0.tree.lock();
        let inode = match tree.file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => tree.create(path)?,
            found => found?,
        };
        // Acquire: pairs with the Release in the holder's drop.
        if inode.is_locked.swap(true, Ordering::Acquire) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(self.handle(inode, path, Access::Lock))
    }

    fn free_space(&self, _path: &Path) -> io::Result<u64> {
        self.check_power()?;
        let capacity = self.0.capacity.load(RELAXED);
        let used = self.0.tree.lock().used_bytes();
        Ok(if capacity == u64::MAX { u64::MAX } else { capacity.saturating_sub(used) })
    }

    fn boot_id(&self) -> io::Result<u128> {
        self.check_power()?;
        Ok(self.0.boot_id)
    }

    fn random(&self) -> u64 {
        if self.0.has_crash_model { self.draw().next() } else { disk::unguessable() }
    }

    fn has_unified_cache(&self) -> bool {
        self.0.has_unified_cache.load(RELAXED)
    }

    fn allows_threads(&self) -> bool {
        !self.0.has_crash_model
    }
}

#[derive(Debug)]
struct SimulatedFile {
    fs: Simulated,
    inode: Arc<Inode>,
    /// The name it was opened by.
    path: Box<Path>,
    access: Access,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Access {
    ReadWrite,
    ReadOnly,
    /// Reads and writes, and holds the file's lock until it is dropped.
    Lock,
}

impl SimulatedFile {
    fn begin(&self, kind: OpKind) -> io::Result<()> {
        self.check_access(kind)?;
        self.fs.begin(kind, &self.path)
    }

    fn check_access(&self, kind: OpKind) -> io::Result<()> {
        if self.access == Access::ReadOnly && kind.is_mutating() && kind != OpKind::SyncData {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the file was opened for reading"));
        }
        Ok(())
    }
}

impl File for SimulatedFile {
    fn len(&self) -> io::Result<u64> {
        self.fs.check_power()?;
        Ok(self.inode.content.lock().len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.begin(OpKind::SetLen)?;
        self.fs.check_room(&self.inode, len)?;
        self.inode.content.lock().set_len(len)
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.begin(OpKind::ReadAt)?;
        Ok(self.inode.content.lock().read_at(buf, at))
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.check_access(OpKind::WriteAt)?;
        let fault = self.fs.begin_or_fault(OpKind::WriteAt, &self.path)?;
        let written = match fault {
            None => bytes,
            Some(FaultKind::ShortWrite) => &bytes[..self.fs.draw().below(bytes.len() as u64 + 1) as usize],
            Some(fault) => return Err(fault.error()),
        };
        self.fs.check_room(&self.inode, at.saturating_add(written.len() as u64))?;
        self.inode.content.lock().write_at(written, at)?;
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn allocate(&self, range: Range<u64>) -> io::Result<()> {
        self.begin(OpKind::Allocate)?;
        if range.is_empty() || range.end <= self.inode.content.lock().len() {
            return Ok(());
        }
        self.fs.check_room(&self.inode, range.end)?;
        self.inode.content.lock().set_len(range.end)
    }

    fn zero(&self, range: Range<u64>) -> io::Result<()> {
        self.begin(OpKind::Zero)?;
        self.inode.content.lock().zero(range);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let fault = self.fs.begin_or_fault(OpKind::SyncData, &self.path)?;
        let mut content = self.inode.content.lock();
        match fault {
            _ if !self.fs.0.has_crash_model => {}
            None => content.sync(),
            Some(_) => content.sync_in_vain(&mut self.fs.draw()),
        }
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn forget_cache(&self) -> io::Result<()> {
        self.fs.check_power()?;
        if self.fs.0.has_crash_model {
            self.inode.content.lock().forget_cache();
        }
        Ok(())
    }

    fn map(&self, len: usize) -> io::Result<Region> {
        self.begin(OpKind::Map)?;
        self.inode.content.lock().map(len)
    }
}

impl Drop for SimulatedFile {
    fn drop(&mut self) {
        if self.access == Access::Lock {
            // Release: pairs with the Acquire of the next holder.
            self.inode.is_locked.store(false, Ordering::Release);
        }
    }
}

/// Relaxed: these numbers order nothing but themselves.
const RELAXED: Ordering = Ordering::Relaxed;
/// One mutating operation in so many is a moment at which the kernel writes something back.
const WRITE_BACK_EVERY: u64 = 16;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::fs::conformance;

    const ROOT: &str = "/";
    const FILE: &str = "/file";
    const NO_FILES: [&Path; 0] = [];

    /// A machine without spontaneous write-back, so that a test can say what is unsynced.
    fn quiet() -> Simulated {
        Simulated::new(1).without_write_back()
    }

    /// A file of so many bytes of 1, all durable.
    fn with_durable_file(fs: &Simulated, len: usize) -> Arc<dyn File> {
        let file = fs.create(Path::new(FILE)).expect("create");
        file.write_at(&vec![1; len], 0).expect("write_at");
        file.sync_data().expect("sync_data");
        fs.sync_dir(Path::new(ROOT)).expect("sync_dir");
        assert_eq!(fs.unsynced(), [], "what was synced is listed as unsynced");
        file
    }

    /// Stores eight bytes as a program does through its map.
    fn store(region: &Region, position: usize, value: [u8; 8]) {
        let Region::Memory(words, _) = region else { panic!("the simulator maps its own memory") };
        words[position / 8].store(u64::from_ne_bytes(value), RELAXED);
    }

    fn read(fs: &Simulated) -> Vec<u8> {
        fs.read_file(FILE).expect("the file is there")
    }

    #[test]
    fn both_kinds_of_machine_do_what_every_file_system_must() {
        for fs in [Simulated::memory(), Simulated::new(3), quiet()] {
            fs.create_dir(Path::new("/data/dir")).expect("create_dir");
            conformance::check(&fs, Path::new("/data/dir"));
            conformance::check_unified_cache(&fs, Path::new("/data/dir"));
        }
    }

    #[test]
    fn after_a_failed_sync_a_forgotten_cache_shows_what_the_medium_holds() {
        let lost = (0..20).filter(|seed| {
            let fs = Simulated::new(*seed).without_write_back();
            let file = with_durable_file(&fs, 4096);
            file.write_at(&[2; 4096], 0).expect("write_at");
            fs.fail(Fault::once(FaultKind::Eio).only(OpKind::SyncData));
            file.sync_data().expect_err("the sync was to fail");
            file.sync_data().expect("the next one says that all is well");
            assert_eq!(read(&fs), [2; 4096], "the cache still has what was written");
            file.forget_cache().expect("forget_cache");
            let medium = fs.crash(0).read_file(FILE).expect("the file is there");
            assert_eq!(read(&fs), medium, "what is read is not what the medium holds");
            medium != [2; 4096]
        });
        assert!(lost.count() > 0, "no failed sync lost anything");
    }

    #[test]
    fn a_crash_keeps_what_was_synced_and_any_subset_of_the_sectors_that_were_not() {
        let fs = quiet();
        let file = with_durable_file(&fs, 4096);
        file.write_at(&[2; 4 * 512], 512).expect("write_at");
        assert_eq!(fs.unsynced().len(), 4);
        let mut seen = BTreeSet::new();
        for seed in 0..2_000 {
            let bytes = read(&fs.crash(seed));
            for (sector, bytes) in bytes.chunks(512).enumerate() {
                assert!(bytes.iter().all(|byte| *byte == bytes[0]), "seed {seed} tore sector {sector}");
            }
            let versions: Vec<u8> = bytes.chunks(512).map(|sector| sector[0]).collect();
            assert_eq!([versions[0], versions[5], versions[6], versions[7]], [1; 4], "seed {seed} lost synced bytes");
            seen.insert(versions);
        }
        assert_eq!(seen.len(), 16, "not every subset of 4 sectors was reached");
        assert_eq!(read(&fs), read(&fs.crash(1)), "seed 1 does not keep everything");
        assert_eq!(read(&fs.crash(0)), [1; 4096], "seed 0 does not take everything back");
    }

    #[test]
    fn a_store_through_a_map_is_lost_until_it_was_synced() {
        let fs = quiet();
        let file = with_durable_file(&fs, 1 << 16);
        let region = file.map(1 << 16).expect("map");
        store(&region, 40_000, *b"through ");
        assert_eq!(fs.unsynced(), [Unsynced::Sector { path: FILE.into(), position: 39_936 }]);
        assert_eq!(read(&fs.crash(0)), [1; 1 << 16]);
        file.sync_data().expect("sync_data");
        assert_eq!(fs.unsynced(), []);
        assert_eq!(read(&fs.crash(0))[40_000..40_008], *b"through ");
    }

    #[test]
    fn a_name_is_lost_until_its_directory_was_synced_and_takes_its_directory_along() {
        let fs = quiet();
        let (dir, path) = (Path::new("/dir"), Path::new("/dir/file"));
        fs.create_dir(dir).expect("create_dir");
        fs.create(path).expect("create").sync_data().expect("sync_data");
        fs.sync_dir(dir).expect("sync_dir");
        assert_eq!(fs.unsynced(), [Unsynced::Added { path: dir.into() }]);
        assert_eq!(fs.crash(0).list(dir).expect_err("lost with its name").kind(), io::ErrorKind::NotFound);
        fs.sync_dir(Path::new(ROOT)).expect("sync_dir");
        assert_eq!(fs.crash(0).files(), [path]);
        fs.remove_dir(dir).expect("remove_dir");
        assert_eq!(fs.files(), NO_FILES);
        assert_eq!(fs.crash(0).files(), [path], "the removal was durable without a sync");
        assert_eq!(fs.crash(1).files(), NO_FILES);
        fs.sync_dir(Path::new(ROOT)).expect("sync_dir");
        assert_eq!(fs.crash(0).files(), NO_FILES);
    }

    #[test]
    fn a_rename_is_atomic_in_every_crash() {
        let fs = quiet();
        with_durable_file(&fs, 3);
        for version in [2, 3] {
            let next = fs.create(Path::new("/next")).expect("create");
            next.write_at(&[version; 3], 0).expect("write_at");
            next.sync_data().expect("sync_data");
            fs.rename(Path::new("/next"), Path::new(FILE)).expect("rename");
        }
        let unsynced = fs.unsynced().len();
        assert_eq!(unsynced, 4, "two files were added and renamed");
        let mut seen = BTreeSet::new();
        for subset in 0..1_u32 << unsynced {
            let crashed = fs.crash_keeping(|index| subset >> index & 1 == 1);
            let bytes = read(&crashed);
            assert!([[1; 3], [2; 3], [3; 3]].contains(&bytes[..].try_into().expect("3 bytes")), "{bytes:?}");
            seen.insert((bytes[0], crashed.files().len()));
        }
        assert_eq!(seen, BTreeSet::from([(1, 1), (1, 2), (2, 1), (2, 2), (3, 1)]));
    }

    #[test]
    fn every_subset_of_what_is_unsynced_is_a_crash_of_its_own() {
        let fs = quiet();
        let file = with_durable_file(&fs, 2048);
        file.set_len(1536).expect("set_len");
        file.write_at(&[2; 1024], 0).expect("write_at");
        fs.rename(Path::new(FILE), Path::new("/other")).expect("rename");
        let unsynced = fs.unsynced();
        let (file, other) = (PathBuf::from(FILE), PathBuf::from("/other"));
        let expected = [
            Unsynced::Renamed { from: file, to: other.clone() },
            Unsynced::Length { path: other.clone() },
            Unsynced::Sector { path: other.clone(), position: 0 },
            Unsynced::Sector { path: other, position: 512 },
        ];
        assert_eq!(unsynced, expected);
        for subset in 0..1_u32 << unsynced.len() {
            let has = |index: usize| subset >> index & 1 == 1;
            let crashed = fs.crash_keeping(has);
            let mut expected = vec![1; if has(1) { 1536 } else { 2048 }];
            expected[..512].fill(if has(2) { 2 } else { 1 });
            expected[512..1024].fill(if has(3) { 2 } else { 1 });
            let path = if has(0) { "/other" } else { FILE };
            assert_eq!(crashed.files(), [Path::new(path)], "subset {subset:b}");
            assert!(crashed.read_file(path).expect("it is there") == expected, "subset {subset:b}");
            assert_eq!(crashed.unsynced(), [], "a crash left something unsynced");
        }
    }

    #[test]
    fn a_length_that_is_lost_takes_the_bytes_behind_it() {
        let fs = quiet();
        let file = with_durable_file(&fs, 700);
        file.write_at(&[2; 1000], 600).expect("write_at");
        let all_but_length = |index: usize| fs.unsynced()[index] != Unsynced::Length { path: FILE.into() };
        let bytes = read(&fs.crash_keeping(all_but_length));
        assert_eq!(bytes.len(), 700);
        assert_eq!(bytes[600..], [2; 100]);
        let only_length = |index: usize| !all_but_length(index);
        let bytes = read(&fs.crash_keeping(only_length));
        assert_eq!(bytes.len(), 1600);
        assert_eq!(bytes[700..], [0; 900], "new bytes that were not written read as zeros");
    }

    #[test]
    fn what_a_failed_sync_lost_is_not_brought_back_by_the_next() {
        let mut lost = 0;
        for seed in 0..50 {
            let fs = Simulated::new(seed).without_write_back();
            let file = with_durable_file(&fs, 4096);
            file.write_at(&[2; 4096], 0).expect("write_at");
            fs.fail(Fault::once(FaultKind::Eio).only(OpKind::SyncData).after(1));
            assert_eq!(file.sync_data().expect_err("the fault").raw_os_error(), cfg!(unix).then_some(5));
            file.sync_data().expect("the kernel takes everything for written");
            assert_eq!(fs.unsynced(), []);
            assert_eq!(read(&fs), [2; 4096], "the program still sees what it wrote");
            lost += read(&fs.crash(1)).chunks(512).filter(|sector| sector[0] == 1).count();
            file.write_at(&[3; 512], 0).expect("write_at");
            file.sync_data().expect("sync_data");
            assert_eq!(read(&fs.crash(0))[..512], [3; 512], "what was written after it is safe again");
        }
        assert!((50..350).contains(&lost), "of 400 sectors {lost} were lost");
    }

    #[test]
    fn a_failed_directory_sync_may_or_may_not_have_done_it() {
        let mut seen = BTreeSet::new();
        for seed in 0..50 {
            let fs = Simulated::new(seed);
            for name in ["/a", "/b"] {
                fs.create(Path::new(name)).expect("create");
            }
            fs.fail(Fault::once(FaultKind::Eio));
            fs.sync_dir(Path::new(ROOT)).expect_err("the fault");
            seen.insert(fs.crash(0).files().len());
            fs.sync_dir(Path::new(ROOT)).expect("sync_dir");
            assert_eq!(fs.crash(0).files().len(), 2);
        }
        assert_eq!(seen, BTreeSet::from([0, 1, 2]));
    }

    #[test]
    fn the_kernel_may_have_written_an_older_version_back() {
        let fs = Simulated::new(5);
        let file = with_durable_file(&fs, 512);
        let mut seen = BTreeSet::new();
        for version in 2..=200 {
            file.write_at(&[version; 512], 0).expect("write_at");
            seen.insert(read(&fs.crash(0))[0]);
        }
        assert!(seen.len() > 5, "a crash showed only the versions {seen:?}");
    }

    #[test]
    fn a_killed_process_leaves_everything_but_its_locks_and_what_was_unsynced_still_is() {
        let fs = quiet();
        let file = with_durable_file(&fs, 512);
        let _lock = fs.lock(Path::new("/LOCK")).expect("lock");
        file.write_at(b"written", 0).expect("write_at");
        fs.fail(Fault::forever(FaultKind::Eio));
        let killed = fs.kill();
        assert_eq!(killed.read_file(FILE).expect("read"), read(&fs));
        assert_eq!(killed.unsynced(), fs.unsynced());
        assert_eq!(killed.boot_id().expect("boot_id"), fs.boot_id().expect("boot_id"));
        killed.lock(Path::new("/LOCK")).expect("the lock died with its process");
        let crashed = killed.crash(0);
        assert_eq!(read(&crashed), [1; 512]);
        assert_ne!(crashed.boot_id().expect("boot_id"), fs.boot_id().expect("boot_id"));
        assert_ne!(crashed.boot_id().expect("boot_id"), crashed.crash(0).boot_id().expect("boot_id"));
    }

    #[test]
    fn a_fork_and_its_origin_do_not_see_each_other() {
        let fs = quiet();
        let file = with_durable_file(&fs, 8192);
        let forks = [fs.crash(0), fs.crash(1), fs.kill()];
        for (index, fork) in forks.iter().enumerate() {
            let forked = fork.open(Path::new(FILE)).expect("open");
            let region = forked.map(8192).expect("map");
            store(&region, 4096, [10 + index as u8; 8]);
            forked.sync_data().expect("sync_data");
        }
        assert_eq!(read(&fs), [1; 8192]);
        assert_eq!(read(&fs.crash(0)), [1; 8192]);
        file.write_at(&[9; 8192], 0).expect("write_at");
        file.sync_data().expect("sync_data");
        for (index, fork) in forks.iter().enumerate() {
            let bytes = read(&fork.crash(0));
            assert_eq!((bytes[0], bytes[4096], bytes[8191]), (1, 10 + index as u8, 1));
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_run() {
        let run = || {
            let fs = Simulated::new(11);
            let file = fs.create(Path::new(FILE)).expect("create");
            for round in 0..100 {
                file.write_at(&[round; 700], u64::from(round) * 300).expect("write_at");
            }
            let crashed = fs.crash(4);
            (fs.unsynced(), crashed.read_file(FILE).ok(), crashed.random(), fs.random(), fs.boot_id().expect("boot_id"))
        };
        assert_eq!(run(), run());
    }

    #[test]
    fn the_hook_sees_every_mutating_operation_before_it_happens_and_may_crash_the_machine() {
        let fs = quiet();
        let seen: Arc<Mutex<Vec<(u64, OpKind, usize)>>> = Arc::default();
        let log = Arc::clone(&seen);
        fs.on_operation(move |fs, operation| {
            log.lock().push((operation.number, operation.kind, fs.crash(1).files().len()));
        });
        let file = with_durable_file(&fs, 10);
        file.len().expect("len");
        file.read_at(&mut [0; 4], 0).expect("read_at");
        fs.remove(Path::new(FILE)).expect("remove");
        let expected = [
            (0, OpKind::Create, 0),
            (1, OpKind::WriteAt, 1),
            (2, OpKind::SyncData, 1),
            (3, OpKind::SyncDir, 1),
            (4, OpKind::Remove, 1),
        ];
        assert_eq!(*seen.lock(), expected);
        assert_eq!(fs.operations(), 5);
        assert_eq!(fs.operations_of(OpKind::ReadAt), 1);
    }

    #[test]
    fn a_fault_hits_what_it_says_as_often_as_it_says() {
        let fs = quiet();
        let file = with_durable_file(&fs, 8);
        let write = || file.write_at(b"x", 0).err().map(|error| error.kind());
        fs.fail(Fault::once(FaultKind::Enospc).after(fs.operations() + 1));
        assert_eq!([write(), write(), write()], [None, Some(io::ErrorKind::StorageFull), None]);
        fs.fail(Fault::forever(FaultKind::Enospc).only(OpKind::Allocate));
        assert_eq!(write(), None);
        file.allocate(0..9).expect_err("the fault");
        file.allocate(0..9).expect_err("the fault");
        fs.heal();
        file.allocate(0..9).expect("healed");
        fs.fail(Fault::once(FaultKind::Emfile).only(OpKind::Open).after(1));
        fs.open(Path::new(FILE)).expect("the first");
        let refusal = fs.open(Path::new(FILE)).expect_err("the second");
        assert_eq!(refusal.raw_os_error(), cfg!(unix).then_some(24));
        fs.open(Path::new(FILE)).expect("the third");
        fs.fail(Fault::forever(FaultKind::Eio));
        file.read_at(&mut [0; 4], 0).expect("a reading operation is hit only when it is named");
        file.set_len(0).expect_err("the fault");
        fs.create(Path::new("/new")).expect_err("the fault");
        assert_eq!((fs.files().len(), file.len().expect("len")), (1, 9), "a failed operation did something");
    }

    #[test]
    fn a_short_write_leaves_a_beginning_of_what_was_to_be_written() {
        let mut seen = BTreeSet::new();
        for seed in 0..100 {
            let fs = Simulated::new(seed);
            let file = with_durable_file(&fs, 4);
            fs.fail(Fault::forever(FaultKind::ShortWrite));
            fs.create(Path::new("/other")).expect("only writes fall short");
            assert_eq!(file.write_at(b"2222", 2).expect_err("the fault").kind(), io::ErrorKind::StorageFull);
            seen.insert(String::from_utf8_lossy(&read(&fs)).into_owned());
        }
        let expected = ["\u{1}\u{1}\u{1}\u{1}", "\u{1}\u{1}2\u{1}", "\u{1}\u{1}22", "\u{1}\u{1}222", "\u{1}\u{1}2222"];
        assert_eq!(seen, expected.map(String::from).into());
    }

    #[test]
    fn a_full_disk_refuses_what_makes_files_longer_and_nothing_else() {
        let fs = quiet();
        let file = with_durable_file(&fs, 1000);
        fs.set_capacity(1500);
        assert_eq!(fs.free_space(Path::new(ROOT)).expect("free_space"), 500);
        let full = |refused: io::Result<()>| assert_eq!(refused.expect_err("full").kind(), io::ErrorKind::StorageFull);
        full(file.set_len(1501));
        full(file.allocate(0..1501));
        full(file.write_at(&[1; 600], 901));
        assert_eq!(file.len().expect("len"), 1000);
        file.write_at(&[2; 1000], 0).expect("within the file");
        file.set_len(1500).expect("just enough");
        full(fs.create(Path::new("/other")).expect("a name takes no room").set_len(1));
        assert_eq!(
            fs.crash(0).free_space(Path::new(ROOT)).expect("free_space"),
            500,
            "a crash changed the disk's size"
        );
        fs.remove(Path::new(FILE)).expect("remove");
        assert_eq!(fs.free_space(Path::new(ROOT)).expect("free_space"), 1500);
    }

    #[test]
    fn corruption_shows_through_maps_and_outlives_a_crash() {
        let fs = quiet();
        let region = with_durable_file(&fs, 1024).map(1024).expect("map");
        fs.corrupt(FILE, |bytes| bytes[512..520].fill(7)).expect("it is there");
        let Region::Memory(words, _) = &region else { panic!("the simulator maps its own memory") };
        assert_eq!(words[64].load(RELAXED).to_ne_bytes(), [7; 8]);
        assert_eq!(fs.unsynced(), []);
        assert_eq!(read(&fs.crash(0))[512..520], [7; 8]);
        fs.corrupt(FILE, |bytes| bytes.truncate(3)).expect("it is there");
        assert_eq!((read(&fs), read(&fs.crash(0))), (vec![1; 3], vec![1; 3]));
        assert_eq!(fs.corrupt("/none", |_| ()).expect_err("nothing is there").kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_cut_freezes_the_machine_under_those_who_run_on_it() {
        let fs = quiet();
        let file = with_durable_file(&fs, 512);
        let region = file.map(512).expect("map");
        store(&region, 0, [2; 8]);
        fs.cut_power();
        store(&region, 0, [3; 8]);
        let eio =
            |result: io::Result<()>| assert_eq!(result.expect_err("no power").raw_os_error(), cfg!(unix).then_some(5));
        eio(file.sync_data());
        eio(file.read_at(&mut [0; 8], 0).map(drop));
        eio(file.len().map(drop));
        eio(fs.sync_dir(Path::new(ROOT)));
        eio(fs.list(Path::new(ROOT)).map(drop));
        assert_eq!(read(&fs.crash(0))[..8], [1; 8]);
        assert_eq!(read(&fs.crash(1))[..8], [2; 8], "a store after the cut reached the medium");
        assert_eq!(fs.unsynced().len(), 1);
    }

    #[test]
    fn the_hook_may_cut_the_power_before_an_operation_happens() {
        let fs = quiet();
        fs.on_operation(|fs, operation| {
            if operation.kind == OpKind::SyncDir {
                fs.cut_power();
            }
        });
        fs.create(Path::new(FILE)).expect("create");
        fs.sync_dir(Path::new(ROOT)).expect_err("no power");
        assert_eq!(fs.crash(0).files(), NO_FILES);
    }

    #[test]
    fn the_length_of_a_mapped_file_stays_what_it_is() {
        let fs = Simulated::memory();
        let file = fs.create(Path::new(FILE)).expect("create");
        file.set_len(100).expect("set_len");
        let region = file.map(50).expect("map");
        for len in [0, 99, 101] {
            assert_eq!(file.set_len(len).expect_err("it is mapped").kind(), io::ErrorKind::ResourceBusy);
        }
        file.set_len(100).expect("nothing to change");
        drop(region);
        file.set_len(99).expect("nobody has it mapped any more");
    }

    #[test]
    fn what_is_forgotten_is_let_go() {
        for fs in [Simulated::memory(), quiet()] {
            for _ in 0..10 {
                fs.create_dir(Path::new("/a/b")).expect("create_dir");
                fs.create(Path::new("/a/b/one")).expect("create");
                fs.create(Path::new("/a/two")).expect("create");
                fs.rename(Path::new("/a/b/one"), Path::new("/a/b/two")).expect("rename");
                fs.remove_dir(Path::new("/a")).expect("remove_dir");
                fs.sync_dir(Path::new(ROOT)).expect("sync_dir");
            }
            assert_eq!(fs.0.tree.lock().files().len(), 0);
            assert_eq!(fs.0.tree.lock().all_paths().len(), 1);
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_file_nobody_writes_to_takes_no_memory() {
        let resident_pages = || {
            let statm = crate::fs::Disk.open_read(Path::new("/proc/self/statm")).expect("Linux has it");
            let mut text = [0; 200];
            let read = statm.read_at(&mut text, 0).expect("read_at");
            let text = String::from_utf8_lossy(&text[..read]).into_owned();
            text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("the second number")
        };
        let fs = Simulated::memory();
        let before = resident_pages();
        let regions: Vec<Region> = (0..16)
            .map(|index| {
                let file = fs.create(Path::new(&format!("/{index}"))).expect("create");
                file.set_len(64 << 20).expect("set_len");
                file.allocate(0..64 << 20).expect("allocate");
                file.map(64 << 20).expect("map")
            })
            .collect();
        let grown = resident_pages().saturating_sub(before);
        assert!(grown < 1 << 16, "{} untouched files of 64 MiB took {grown} pages", regions.len());
    }

    #[test]
    fn random_bytes_in_random_places_match_a_plain_vector_through_syncs_forks_and_crashes() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut fs = Simulated::new(seed);
            let mut model = vec![1; 5000];
            let mut file = with_durable_file(&fs, 5000);
            for step in 0..60 {
                let at = random.below(model.len() as u64 + 1) as usize;
                let len = random.below(3000) as usize;
                match random.below(8) {
                    0..3 => {
                        model.resize(model.len().max(at + len), 0);
                        model[at..at + len].fill(step);
                        file.write_at(&vec![step; len], at as u64).expect("write_at");
                    }
                    3 => {
                        let end = (at + len).min(model.len());
                        model[at..end].fill(0);
                        file.zero(at as u64..(at + len) as u64).expect("zero");
                    }
                    4 => {
                        model.resize(at, 0);
                        file.set_len(at as u64).expect("set_len");
                    }
                    5 => drop(file.map(model.len()).expect("map")),
                    6 => {
                        file.sync_data().expect("sync_data");
                        fs = fs.crash(random.next());
                        file = fs.open(Path::new(FILE)).expect("open");
                    }
                    _ => {
                        fs = if random.chance(4) { fs.kill() } else { fs.crash(1) };
                        file = fs.open(Path::new(FILE)).expect("open");
                    }
                }
                assert!(read(&fs) == model, "seed {seed} step {step}: the file is not what was written");
            }
        }
    }
}
