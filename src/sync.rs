//! The one door to atomics, cells, locks and spinning: std and parking_lot, or loom's twins under `cfg(loom)`.
//!
//! Everything that another thread may see between two of our instructions comes through here, so that the models
//! in `ring` run the very code that ships.

#[cfg(not(loom))]
mod imp {
    pub(crate) use std::hint::spin_loop;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
    pub(crate) use std::thread::yield_now;

    /// A mutex without poisoning: a panic under it leaves it unlocked.
    pub(crate) use parking_lot::{Mutex, MutexGuard};

    /// Threads that sleep and are woken.
    pub(crate) mod thread {
        pub(crate) use std::thread::{Thread, current, park, park_timeout};
    }

    /// `std::cell::UnsafeCell` with loom's way of asking for the pointer.
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        /// Lends the pointer for reading.
        pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            f(self.0.get())
        }

        /// Lends the pointer for writing.
        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}

#[cfg(loom)]
mod imp {
    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::hint::spin_loop;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
    pub(crate) use loom::thread::yield_now;

    pub(crate) use loom::sync::MutexGuard;

    /// loom's threads. loom has no time: a sleep with a timeout is one without, so a lost wake-up is a deadlock.
    pub(crate) mod thread {
        pub(crate) use loom::thread::{Thread, current, park};

        pub(crate) fn park_timeout(_: std::time::Duration) {
            park();
        }
    }

    /// loom's mutex with parking_lot's face.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().expect("no model panics under a lock")
        }

        pub(crate) fn try_lock(&self) -> Option<loom::sync::MutexGuard<'_, T>> {
            self.0.try_lock().ok()
        }
    }
}

pub(crate) use imp::*;

/// Locks that no model runs through: parking_lot's, under loom too.
pub(crate) mod plain {
    pub(crate) use parking_lot::{Condvar, Mutex, RwLock};
}
