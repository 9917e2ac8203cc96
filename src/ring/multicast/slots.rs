//! The memory of a multicast ring: a place for each of the last `capacity` values, and how a place is made visible.

use std::mem::MaybeUninit;

use crate::ring::seeded::{Bug, is_seeded};
use crate::sync::{AtomicU8, AtomicU64, Ordering, UnsafeCell};

/// How readers learn that a value is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Layout {
    /// One writer, dense values: everything below the tail is visible.
    Cursor,
    /// Several writers, dense values, a byte for each in a row of its own.
    Flags,
    /// Several writers, the byte beside its value: both travel in one cache line.
    Stamped,
}

/// Places for positions counted from 0 and never reused; position `p` lives in place `p % capacity`.
///
/// A place's mark is a byte that equals [`Slots::lap`] of `p` once the value of `p` is there. The laps around it have
/// other bytes, and nobody reads 256 laps behind, since nobody is more than one behind.
pub(super) struct Slots<T> {
    cells: Cells<T>,
    /// `capacity - 1`.
    mask: u64,
    /// `log2(capacity)`.
    shift: u32,
}

type Place<T> = UnsafeCell<MaybeUninit<T>>;

enum Cells<T> {
    Cursor(Box<[Place<T>]>),
    Flags { values: Box<[Place<T>]>, marks: Box<[AtomicU8]> },
    Stamped(Box<[Stamped<T>]>),
}

struct Stamped<T> {
    mark: AtomicU8,
    value: Place<T>,
}

impl<T> Slots<T> {
    /// `None` if there is not so much memory.
    ///
    /// # Panics
    /// If `capacity` is not a power of two of at least 2.
    pub(super) fn new(capacity: usize, layout: Layout) -> Option<Self> {
        assert!(capacity >= 2 && capacity.is_power_of_two(), "capacity {capacity} is not a power of two of at least 2");
        let place = || UnsafeCell::new(MaybeUninit::uninit());
        let mark = || AtomicU8::new(0);
        let cells = match layout {
            Layout::Cursor => Cells::Cursor(row(capacity, place)?),
            Layout::Flags => Cells::Flags { values: row(capacity, place)?, marks: row(capacity, mark)? },
            Layout::Stamped => Cells::Stamped(row(capacity, || Stamped { mark: mark(), value: place() })?),
        };
        Some(Self { cells, mask: capacity as u64 - 1, shift: capacity.trailing_zeros() })
    }

    #[inline]
    pub(super) fn capacity(&self) -> u64 {
        self.mask + 1
    }

    /// Whether one writer's tail is all that makes values visible.
    #[inline]
    pub(super) fn is_cursor(&self) -> bool {
        matches!(self.cells, Cells::Cursor(_))
    }

    #[inline]
    fn index(&self, position: u64) -> usize {
        // Cannot lose: less than the length of a slice.
        (position & self.mask) as usize
    }

    #[inline]
    fn place(&self, position: u64) -> &Place<T> {
        let index = self.index(position);
        match &self.cells {
            // SAFETY: an index under the mask is less than the capacity, which is the length of every slice here.
            Cells::Cursor(values) | Cells::Flags { values, .. } => unsafe { values.get_unchecked(index) },
            // SAFETY: as above.
            Cells::Stamped(cells) => unsafe { &cells.get_unchecked(index).value },
        }
    }

    /// The mark's byte for a value of `position`: never the one of the lap before, or of a place not yet used.
    #[inline]
    fn lap(&self, position: u64) -> u8 {
        // Meant to lose: laps are told apart from their neighbours only.
        ((position >> self.shift) as u8).wrapping_add(1)
    }

    /// Makes the values of the positions from `start` to `end` visible. Where the tail does that, nothing is left to do.
    #[inline]
    pub(super) fn publish(&self, start: u64, end: u64) {
        // Release: pairs with the Acquire in `is_visible`, by which readers see the value. Relaxed: a seeded bug.
        let hand_over = if is_seeded(Bug::RingPublishesRelaxed) { Ordering::Relaxed } else { Ordering::Release };
        match &self.cells {
            Cells::Cursor(_) => {}
            Cells::Flags { marks, .. } => {
                for position in start..end {
                    marks[self.index(position)].store(self.lap(position), hand_over);
                }
            }
            Cells::Stamped(cells) => {
                for position in start..end {
                    cells[self.index(position)].mark.store(self.lap(position), hand_over);
                }
            }
        }
    }

    /// The end of the unbroken run of visible values from `from` on, looked for no further than `limit`.
    ///
    /// `from` is not below the positions that writers may now be overwriting.
    #[inline]
    pub(super) fn visible_end(&self, tail: &AtomicU64, from: u64, limit: u64) -> u64 {
        match &self.cells {
            Cells::Cursor(_) => {
                // Acquire: pairs with the Release in `Ring::publish`, by which we see the values below the tail.
                tail.load(Ordering::Acquire).min(limit).max(from)
            }
            Cells::Flags { marks, .. } => {
                let mut end = from;
                // Acquire: pairs with the Release in `publish`.
                while end < limit && marks[self.index(end)].load(Ordering::Acquire) == self.lap(end) {
                    end += 1;
                }
                end
            }
            Cells::Stamped(cells) => {
                let mut end = from;
                // Acquire: pairs with the Release in `publish`.
                while end < limit && cells[self.index(end)].mark.load(Ordering::Acquire) == self.lap(end) {
                    end += 1;
                }
                end
            }
        }
    }

    /// Puts the value of `position` into its empty place.
    ///
    /// # Safety
    /// The caller has claimed `position` and not yet published it; the place is empty, or holds what needs no drop.
    #[inline]
    pub(super) unsafe fn write(&self, position: u64, value: T) {
        self.place(position).with_mut(|place| {
            // SAFETY: the claim makes the place ours alone (C-2); empty as the caller says, so nothing is leaked.
            unsafe { place.cast::<T>().write(value) };
        });
    }

    /// Takes the value of `position` out and leaves the place empty.
    ///
    /// # Safety
    /// The place holds the value of `position`, and nobody else touches it meanwhile or takes it again.
    #[inline]
    pub(super) unsafe fn take(&self, position: u64) -> T {
        self.place(position).with_mut(|place| {
            // SAFETY: it is there, and ours alone, as the caller says.
            unsafe { place.cast::<T>().read() }
        })
    }

    /// Lends the value of `position`.
    ///
    /// # Safety
    /// The value of `position` is visible to the caller, who holds the gate at or below `position` until `f` ends.
    #[inline]
    pub(super) unsafe fn read<R>(&self, position: u64, f: impl FnOnce(&T) -> R) -> R {
        self.place(position).with(|place| {
            // SAFETY: published (C-3), and not overwritten while the gate is held (C-1).
            f(unsafe { &*place.cast::<T>() })
        })
    }
}

/// `count` of them in memory; `None` if there is not so much.
fn row<P>(count: usize, make: impl FnMut() -> P) -> Option<Box<[P]>> {
    let mut row = Vec::new();
    row.try_reserve_exact(count).ok()?;
    row.extend(std::iter::repeat_with(make).take(count));
    Some(row.into_boxed_slice())
}

impl<T: Copy> Slots<T> {
    /// Puts copies of `values` into the places from `start` on.
    ///
    /// # Safety
    /// As for [`Slots::write`], for each of them.
    #[inline]
    pub(super) unsafe fn write_copies(&self, start: u64, values: &[T]) {
        for (position, value) in (start..).zip(values) {
            // SAFETY: as the caller says.
            unsafe { self.write(position, *value) };
        }
    }
}
