//! One place of a ring: room for a value, and a stamp that says whose turn it is.

use std::mem::MaybeUninit;

use crate::ring::seeded::{Bug, is_seeded};
use crate::sync::{AtomicU64, Ordering, UnsafeCell};

/// A place that serves the positions `p`, `p + capacity`, `p + 2 * capacity`, … in turn.
///
/// | stamp | state | whose it is |
/// |---|---|---|
/// | `p` | free | the producer that claims position `p` |
/// | `p + 1` | holds the value of `p` | the consumer |
/// | `p + capacity` | free again, a lap later | the producer that claims `p + capacity` |
pub(crate) struct Slot<T> {
    stamp: AtomicU64,
    value: UnsafeCell<MaybeUninit<T>>,
}

impl<T> Slot<T> {
    /// A free place, first in turn for `position`.
    pub(crate) fn new(position: u64) -> Self {
        Self { stamp: AtomicU64::new(position), value: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    /// The stamp, seen with everything that was done before it was stored.
    pub(crate) fn stamp(&self) -> u64 {
        // Acquire: pairs with the Release in `fill` (the value is there) and in `take` (the value is gone).
        self.stamp.load(Ordering::Acquire)
    }

    /// The stamp alone, for who only wants to know whether to come and look.
    pub(crate) fn peek_stamp(&self) -> u64 {
        // Relaxed: nothing behind the stamp is touched; who must not miss it fences before (`Combiner::look_again`).
        self.stamp.load(Ordering::Relaxed)
    }

    /// Puts the value of `position` in and hands it to the consumer.
    ///
    /// # Safety
    /// The caller has claimed `position`, has seen this slot's stamp equal to it, and calls once.
    pub(crate) unsafe fn fill(&self, position: u64, value: T) {
        self.value.with_mut(|place| {
            // SAFETY: the claim makes this slot ours alone until the stamp below, and it is empty, so nothing
            // is overwritten that should have been dropped.
            unsafe { place.cast::<T>().write(value) };
        });
        // Release: pairs with the Acquire in `stamp`, by which the consumer sees the value. Relaxed: a seeded bug.
        let hand_over = if is_seeded(Bug::QueuePublishesRelaxed) { Ordering::Relaxed } else { Ordering::Release };
        self.stamp.store(position + 1, hand_over);
    }

    /// Takes the value of `position` out and hands the place to the producer of `free_for`.
    ///
    /// # Safety
    /// The caller is the one consumer, has seen this slot's stamp equal to `position + 1`, and calls once.
    pub(crate) unsafe fn take(&self, free_for: u64) -> T {
        let value = self.value.with(|place| {
            // SAFETY: the stamp says that the value is there and the slot is the one consumer's until the stamp
            // below; the value is read once, since the consumer moves on.
            unsafe { place.cast::<T>().read() }
        });
        // Release: pairs with the Acquire in `stamp`, by which the next producer sees the place empty.
        self.stamp.store(free_for, Ordering::Release);
        value
    }
}
