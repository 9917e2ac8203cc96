//! The operations of a simulated machine, and orders to let some of them fail.

use std::io;
use std::path::Path;

#[cfg(doc)]
use crate::fs::simulated::Simulated;
#[cfg(doc)]
use crate::fs::{File, Fs};

/// What an operation does. `len`, `free_space` and the like are none: they cannot fail here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum OpKind {
    /// [`Fs::create`]
    Create,
    /// [`Fs::lock`]
    Lock,
    /// [`Fs::rename`]
    Rename,
    /// [`Fs::remove`]
    Remove,
    /// [`Fs::create_dir`]
    CreateDir,
    /// [`Fs::remove_dir`]
    RemoveDir,
    /// [`Fs::sync_dir`]
    SyncDir,
    /// [`File::set_len`]
    SetLen,
    /// [`File::write_at`]
    WriteAt,
    /// [`File::allocate`]
    Allocate,
    /// [`File::zero`]
    Zero,
    /// [`File::sync_data`]
    SyncData,
    /// [`Fs::open`]
    Open,
    /// [`Fs::open_read`]
    OpenRead,
    /// [`Fs::list`]
    List,
    /// [`File::read_at`]
    ReadAt,
    /// [`File::map`]
    Map,
}

impl OpKind {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Create,
        Self::Lock,
        Self::Rename,
        Self::Remove,
        Self::CreateDir,
        Self::RemoveDir,
        Self::SyncDir,
        Self::SetLen,
        Self::WriteAt,
        Self::Allocate,
        Self::Zero,
        Self::SyncData,
        Self::Open,
        Self::OpenRead,
        Self::List,
        Self::ReadAt,
        Self::Map,
    ];

    /// Whether it may change what a crash leaves.
    pub fn is_mutating(self) -> bool {
        !matches!(self, Self::Open | Self::OpenRead | Self::List | Self::ReadAt | Self::Map)
    }
}

/// A mutating operation that is about to happen.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Operation<'a> {
    /// Its number among the machine's mutating operations, from 0.
    pub number: u64,
    /// What it does.
    pub kind: OpKind,
    /// The file or directory; of a rename, the old name.
    pub path: &'a Path,
}

/// An order to fail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// How the operation fails.
    pub kind: FaultKind,
    /// How often.
    pub times: Times,
    /// Which operations can be hit: those of a kind, or (`None`) all mutating ones.
    pub only: Option<OpKind>,
    /// The first that is hit, counted from 0 among those that can be: with `only`, by
    /// [`operations_of`](Simulated::operations_of), else by [`operations`](Simulated::operations).
    pub from: u64,
}

/// How an operation fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// An I/O error. From a sync, it leaves nobody knowing what arrived.
    Eio,
    /// No space is left.
    Enospc,
    /// The process has no file descriptor left.
    Emfile,
    /// A write ends in the middle since no space is left. Hits nothing but [`OpKind::WriteAt`].
    ShortWrite,
}

/// How often an operation fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Times {
    /// Once; then the fault is gone.
    Once,
    /// Until it is [healed](Simulated::heal).
    Forever,
}

impl Fault {
    /// Hits the next mutating operation.
    pub fn once(kind: FaultKind) -> Self {
        Self { kind, times: Times::Once, only: None, from: 0 }
    }

    /// Hits all mutating operations.
    pub fn forever(kind: FaultKind) -> Self {
        Self { kind, times: Times::Forever, only: None, from: 0 }
    }

    /// Hits only operations of a kind, reading ones too.
    #[must_use]
    pub fn only(self, kind: OpKind) -> Self {
        Self { only: Some(kind), ..self }
    }

    /// Lets the first `passed` of those it could hit pass, counted since the machine began.
    #[must_use]
    pub fn after(self, passed: u64) -> Self {
        Self { from: passed, ..self }
    }

    pub(super) fn hits(&self, kind: OpKind, number: u64, number_of_kind: u64) -> bool {
        let is_due = match self.only {
            Some(only) => only == kind && number_of_kind >= self.from,
            None => kind.is_mutating() && number >= self.from,
        };
        is_due && (self.kind != FaultKind::ShortWrite || kind == OpKind::WriteAt)
    }
}

impl FaultKind {
    /// What the system would say.
    pub(super) fn error(self) -> io::Error {
        match self {
            Self::Eio => system_error(5, io::ErrorKind::Other),
            Self::Enospc | Self::ShortWrite => system_error(28, io::ErrorKind::StorageFull),
            Self::Emfile => system_error(24, io::ErrorKind::Other),
        }
    }
}

/// An error with the number that it has on every Unix; Windows has other numbers, so there it has only its kind.
fn system_error(unix_number: i32, kind: io::ErrorKind) -> io::Error {
    if cfg!(unix) { io::Error::from_raw_os_error(unix_number) } else { kind.into() }
}
