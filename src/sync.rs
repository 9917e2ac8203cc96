//! The one door to atomics, cells, locks and spinning: std and parking_lot, or loom's twins under `cfg(loom)`.
//!
//! Everything that another thread may see between two of our instructions comes through here, so that the models
//! in `ring` run the very code that ships.

#[cfg(not(loom))]
mod imp {
    pub(crate) use std::hint::spin_loop;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence};
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
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence};
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

/// A SeqCst fence in two halves: [`light`](Self::light) for the side that runs all the time, [`heavy`](Self::heavy)
/// for the side that is about to sleep anyway.
///
/// Between a light and a heavy half there is the same order as between two SeqCst fences; between two light halves
/// there is none. On Linux the light half is an order to the compiler alone, and the heavy one has the kernel run a
/// fence on every core that runs a thread of this process (`membarrier`, expedited: 0.1 to 0.3 µs). Elsewhere, in the
/// models, and where the kernel refuses, both are SeqCst fences (6.7 ns).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Barrier {
    is_asymmetric: bool,
}

impl Barrier {
    /// The process's barrier; all of them are alike.
    pub(crate) fn new() -> Self {
        Self { is_asymmetric: asymmetric::is_ready() }
    }

    #[inline]
    pub(crate) fn light(self) {
        if self.is_asymmetric {
            // SeqCst, for the compiler only: `heavy` makes the core keep the order when it matters.
            std::sync::atomic::compiler_fence(Ordering::SeqCst);
        } else {
            // SeqCst: pairs with the fence in `heavy`.
            fence(Ordering::SeqCst);
        }
    }

    pub(crate) fn heavy(self) {
        if self.is_asymmetric {
            asymmetric::fence_all_cores();
        }
        // SeqCst: pairs with the fence in `light`; after the kernel's own, for two heavy halves.
        fence(Ordering::SeqCst);
    }
}

#[cfg(all(target_os = "linux", not(loom), not(miri)))]
mod asymmetric {
    use std::sync::OnceLock;

    use rustix::thread::{MembarrierCommand, membarrier};

    /// Whether the kernel does it for this process, which is asked once.
    pub(super) fn is_ready() -> bool {
        static IS_READY: OnceLock<bool> = OnceLock::new();
        *IS_READY.get_or_init(|| {
            membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok()
                && membarrier(MembarrierCommand::PrivateExpedited).is_ok()
        })
    }

    pub(super) fn fence_all_cores() {
        membarrier(MembarrierCommand::PrivateExpedited).expect(
            "the kernel fenced for this process before; a filter of system calls must let `membarrier` through",
        );
    }
}

#[cfg(not(all(target_os = "linux", not(loom), not(miri))))]
mod asymmetric {
    pub(super) fn is_ready() -> bool {
        false
    }

    pub(super) fn fence_all_cores() {}
}

/// Locks that no model runs through: parking_lot's, under loom too.
pub(crate) mod plain {
    pub(crate) use parking_lot::{Condvar, Mutex, RwLock};
}
