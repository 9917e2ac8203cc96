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

mod random;
mod fault;
mod inode;
mod tree;
mod crash;
#[cfg(test)]
mod tests;

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
        let items = found.items(&found.0.tree.lock());
        // The caller's code runs without a lock: it may ask the machine what it is deciding about.
        let kept: Vec<bool> = (0..items.len()).map(keep).collect();
        found.after_crash(&found.0.tree.lock(), &items, &kept, 0)
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
        let mut bytes = file.content.lock().bytes();
        change(&mut bytes);
        file.content.lock().replace(&bytes);
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

    fn write_again(&self, range: Range<u64>) -> io::Result<()> {
        self.begin(OpKind::WriteAt)?;
        if self.fs.0.has_crash_model {
            self.inode.content.lock().write_again(range);
        }
        Ok(())
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
