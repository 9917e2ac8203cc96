//! The names of the simulator's files, each directory in two versions: *live* is what the program sees, *durable*
//! what is on the medium. Between them lie the pending changes, in order, until the directory is synced.
//!
//! Directories and files have numbers, so that the maps of names can be shared between forks.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::fs::simulated::inode::{Content, FileId, Inode};

/// The number of a directory.
pub(super) type DirId = u64;

/// All names and all files of a machine.
#[derive(Debug)]
pub(super) struct Tree {
    dirs: BTreeMap<DirId, Dir>,
    /// Every file that has a name, or may have one after a crash.
    files: BTreeMap<FileId, Arc<Inode>>,
    /// The next number for a directory or file.
    next_id: u64,
    names: Durability,
}

/// What a name needs to be durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Durability {
    /// A sync of its directory; until then the change is pending.
    Sync,
    /// Nothing: there is no crash model, and nothing is kept of the past.
    Nothing,
}

#[derive(Clone, Default, Debug)]
struct Dir {
    live: Names,
    durable: Names,
    pending: Vec<Change>,
}

type Names = Arc<BTreeMap<Arc<str>, Node>>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Node {
    File(FileId),
    Dir(DirId),
}

/// A change of a directory that is not durable yet.
#[derive(Clone, Debug)]
enum Change {
    Add { name: Arc<str>, node: Node },
    Rename { from: Arc<str>, to: Arc<str>, node: Node, replaced: Option<Node> },
    Remove { name: Arc<str>, node: Node },
}

/// A pending change as it is told to people.
#[derive(Debug)]
pub(super) enum PendingName {
    Added(PathBuf),
    Renamed(PathBuf, PathBuf),
    Removed(PathBuf),
}

impl Tree {
    pub(super) fn new(names: Durability) -> Self {
        let dirs = BTreeMap::from([(ROOT, Dir::default())]);
        Self { dirs, files: BTreeMap::new(), next_id: ROOT + 1, names }
    }

    pub(super) fn durability(&self) -> Durability {
        self.names
    }

    pub(super) fn file(&self, path: &Path) -> io::Result<Arc<Inode>> {
        match self.node(path)? {
            Node::File(id) => Ok(Arc::clone(self.inode(id))),
            Node::Dir(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<Arc<Inode>> {
        let (dir, name) = self.split(path)?;
        if self.dirs[&dir].live.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = Arc::new(Inode::new(self.next_id, Content::default()));
        self.files.insert(inode.id, Arc::clone(&inode));
        self.add(dir, name, Node::File);
        Ok(inode)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let ((from_dir, from), (dir, to)) = (self.split(from)?, self.split(to)?);
        if from_dir != dir {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a file is renamed within its directory"));
        }
        let live = &self.dirs[&dir].live;
        let node = *live.get(from).ok_or(io::ErrorKind::NotFound)?;
        let replaced = live.get(to).copied();
        if matches!(node, Node::Dir(_)) || matches!(replaced, Some(Node::Dir(_))) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if from != to {
            self.change(dir, Change::Rename { from: from.into(), to: to.into(), node, replaced });
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.split(path)?;
        match self.dirs[&dir].live.get(name) {
            None => Err(io::ErrorKind::NotFound.into()),
            Some(Node::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            Some(node @ Node::File(_)) => {
                let node = *node;
                self.change(dir, Change::Remove { name: name.into(), node });
                Ok(())
            }
        }
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        let mut dir = ROOT;
        for name in names_of(path) {
            let name = name?;
            dir = match self.dirs[&dir].live.get(name) {
                Some(Node::Dir(id)) => *id,
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => {
                    let id = self.next_id;
                    self.dirs.insert(id, Dir::default());
                    self.add(dir, name, Node::Dir);
                    id
                }
            };
        }
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.split(path)?;
        let dir = self.dir(path)?;
        self.empty(dir);
        self.change(parent, Change::Remove { name: name.into(), node: Node::Dir(dir) });
        Ok(())
    }

    /// Removes all that is in a directory, one by one, as a program would: a crash may spare some of it.
    fn empty(&mut self, dir: DirId) {
        for (name, node) in self.dirs[&dir].live.as_ref().clone() {
            if let Node::Dir(below) = node {
                self.empty(below);
            }
            self.change(dir, Change::Remove { name, node });
        }
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        Ok(self.dirs[&self.dir(path)?].live.keys().map(|name| name.to_string()).collect())
    }

    /// Makes the first `count` pending changes of a directory durable; all of them, if there are fewer.
    pub(super) fn sync_dir(&mut self, path: &Path, count: usize) -> io::Result<()> {
        let id = self.dir(path)?;
        let dir = self.dirs.get_mut(&id).expect("a directory that was just found");
        let count = count.min(dir.pending.len());
        let durable: Vec<Change> = dir.pending.drain(..count).collect();
        if dir.pending.is_empty() {
            dir.durable = Arc::clone(&dir.live);
        } else {
            durable.iter().for_each(|change| change.apply(Arc::make_mut(&mut dir.durable)));
        }
        durable.iter().filter_map(Change::displaced).for_each(|node| self.forget(node));
        Ok(())
    }

    /// How many changes of a directory are pending.
    pub(super) fn pending_count(&self, path: &Path) -> io::Result<usize> {
        Ok(self.dirs[&self.dir(path)?].pending.len())
    }

    /// All files that have a name, in the order of their paths.
    pub(super) fn live_files(&self) -> Vec<(PathBuf, Arc<Inode>)> {
        let mut found = Vec::new();
        self.find_live_files(ROOT, Path::new("/"), &mut found);
        found
    }

    fn find_live_files(&self, dir: DirId, path: &Path, found: &mut Vec<(PathBuf, Arc<Inode>)>) {
        for (name, node) in &*self.dirs[&dir].live {
            let path = path.join(&**name);
            match node {
                Node::File(id) => found.push((path, Arc::clone(self.inode(*id)))),
                Node::Dir(id) => self.find_live_files(*id, &path, found),
            }
        }
    }

    /// The lengths of all files that have a name, added up.
    pub(super) fn used_bytes(&self) -> u64 {
        self.live_files().iter().map(|(_, inode)| inode.content.lock().len()).sum()
    }

    /// Every file that has a name, or may have one after a crash, in the order of their numbers.
    pub(super) fn files(&self) -> impl ExactSizeIterator<Item = &Arc<Inode>> {
        self.files.values()
    }

    /// How many name changes are pending in all.
    pub(super) fn pending_total(&self) -> usize {
        self.dirs.values().map(|dir| dir.pending.len()).sum()
    }

    /// All pending name changes, directory by directory, in the order in which they were made.
    pub(super) fn pending_names(&self) -> Vec<PendingName> {
        let paths = self.all_paths();
        let describe = |(id, dir): (&DirId, &Dir)| {
            let at = |name: &Arc<str>| paths.get(&Node::Dir(*id).key()).cloned().unwrap_or_default().join(&**name);
            let told = dir.pending.iter().map(|change| match change {
                Change::Add { name, .. } => PendingName::Added(at(name)),
                Change::Rename { from, to, .. } => PendingName::Renamed(at(from), at(to)),
                Change::Remove { name, .. } => PendingName::Removed(at(name)),
            });
            told.collect::<Vec<_>>()
        };
        self.dirs.iter().flat_map(describe).collect()
    }

    /// A path for every directory and file that has one or had one: the live one if there is one.
    pub(super) fn all_paths(&self) -> BTreeMap<u64, PathBuf> {
        let mut paths = BTreeMap::from([(ROOT, PathBuf::from("/"))]);
        let mut open = vec![ROOT];
        while let Some(id) = open.pop() {
            let dir = &self.dirs[&id];
            let at = paths[&id].clone();
            let past = dir.pending.iter().map(Change::target);
            let names = dir.live.iter().chain(&*dir.durable).map(|(name, node)| (name, *node)).chain(past);
            for (name, node) in names {
                if let std::collections::btree_map::Entry::Vacant(entry) = paths.entry(node.key()) {
                    entry.insert(at.join(&**name));
                    open.extend(node.dir());
                }
            }
        }
        paths
    }

    /// The tree after a power loss that spared these of the pending name changes (in the order of
    /// [`pending_names`](Self::pending_names)), with the content that `content` finds for each file.
    pub(super) fn after_crash(&self, kept_names: &[bool], mut content: impl FnMut(&Inode) -> Content) -> Self {
        let mut kept = kept_names.iter();
        let mut names: BTreeMap<DirId, Names> = BTreeMap::new();
        for (id, dir) in &self.dirs {
            let mut found = Arc::clone(&dir.durable);
            for (change, _) in dir.pending.iter().zip(kept.by_ref()).filter(|(_, is_kept)| **is_kept) {
                change.apply(Arc::make_mut(&mut found));
            }
            names.insert(*id, found);
        }
        let mut after = Self { next_id: self.next_id, ..Self::new(self.names) };
        let mut open = vec![ROOT];
        while let Some(id) = open.pop() {
            let live = names.remove(&id).expect("a directory has one name at most");
            for node in live.values() {
                match node {
                    Node::Dir(id) => open.push(*id),
                    Node::File(id) => {
                        let inode = Arc::new(Inode::new(*id, content(self.inode(*id))));
                        after.files.insert(*id, inode);
                    }
                }
            }
            after.dirs.insert(id, Dir { durable: Arc::clone(&live), live, pending: Vec::new() });
        }
        after
    }

    /// The same tree in another machine, with all that is pending.
    pub(super) fn twin(&self) -> Self {
        let twin = |(id, inode): (&FileId, &Arc<Inode>)| (*id, Arc::new(Inode::new(*id, inode.content.lock().twin())));
        let files = self.files.iter().map(twin).collect();
        Self { dirs: self.dirs.clone(), files, next_id: self.next_id, names: self.names }
    }

    /// The directory in which a path lies, and its last name.
    fn split<'a>(&self, path: &'a Path) -> io::Result<(DirId, &'a str)> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path has no name in it"));
        };
        Ok((self.dir(parent)?, name.to_str().ok_or(io::ErrorKind::InvalidInput)?))
    }

    fn dir(&self, path: &Path) -> io::Result<DirId> {
        self.node(path)?.dir().ok_or_else(|| io::ErrorKind::NotADirectory.into())
    }

    fn node(&self, path: &Path) -> io::Result<Node> {
        names_of(path).try_fold(Node::Dir(ROOT), |node, name| {
            let dir = node.dir().ok_or(io::ErrorKind::NotADirectory)?;
            self.dirs[&dir].live.get(name?).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }

    fn inode(&self, id: FileId) -> &Arc<Inode> {
        self.files.get(&id).expect("a name leads to a file")
    }

    fn add(&mut self, dir: DirId, name: &str, kind: impl FnOnce(u64) -> Node) {
        let node = kind(self.next_id);
        self.next_id += 1;
        self.change(dir, Change::Add { name: name.into(), node });
    }

    fn change(&mut self, dir: DirId, change: Change) {
        let names = self.dirs.get_mut(&dir).expect("a directory that was just found");
        change.apply(Arc::make_mut(&mut names.live));
        match self.names {
            Durability::Sync => names.pending.push(change),
            Durability::Nothing => change.displaced().into_iter().for_each(|node| self.forget(node)),
        }
    }

    /// Forgets what no crash can bring back. Who has the file open keeps it.
    fn forget(&mut self, node: Node) {
        match node {
            Node::File(id) => drop(self.files.remove(&id)),
            Node::Dir(id) => {
                let Some(dir) = self.dirs.remove(&id) else { return };
                let past = dir.pending.iter().map(|change| change.target().1);
                let nodes: Vec<Node> = dir.live.values().chain(dir.durable.values()).copied().chain(past).collect();
                nodes.into_iter().for_each(|node| self.forget(node));
            }
        }
    }
}

impl Change {
    /// Changes a map of names. The changes before this one may not have been applied: a crash keeps any of them.
    fn apply(&self, names: &mut BTreeMap<Arc<str>, Node>) {
        match self {
            Self::Add { name, node } => {
                names.insert(Arc::clone(name), *node);
            }
            Self::Rename { to, node, .. } => {
                // Wherever it is: a file has one name, also if an earlier rename of it was lost.
                names.retain(|_, other| other != node);
                names.insert(Arc::clone(to), *node);
            }
            Self::Remove { name, node } => {
                if names.get(name) == Some(node) {
                    names.remove(name);
                }
            }
        }
    }

    /// What has no name any more once this change is durable.
    fn displaced(&self) -> Option<Node> {
        match self {
            Self::Add { .. } => None,
            Self::Rename { replaced, .. } => *replaced,
            Self::Remove { node, .. } => Some(*node),
        }
    }

    /// What is changed, and the name that it has or had.
    fn target(&self) -> (&Arc<str>, Node) {
        match self {
            Self::Add { name, node } | Self::Remove { name, node } => (name, *node),
            Self::Rename { to, node, .. } => (to, *node),
        }
    }
}

impl Node {
    fn dir(self) -> Option<DirId> {
        match self {
            Self::Dir(id) => Some(id),
            Self::File(_) => None,
        }
    }

    /// Files and directories are numbered together.
    fn key(self) -> u64 {
        match self {
            Self::Dir(id) | Self::File(id) => id,
        }
    }
}

/// The names on a path, from the root. There is no current directory: a relative path begins at the root too.
fn names_of(path: &Path) -> impl Iterator<Item = io::Result<&str>> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_str().ok_or_else(|| io::ErrorKind::InvalidInput.into())),
        Component::ParentDir => Some(Err(io::ErrorKind::InvalidInput.into())),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    })
}

const ROOT: DirId = 0;
