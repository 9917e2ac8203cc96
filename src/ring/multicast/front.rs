//! The front of a caller's `Vec`, from which values are taken one by one.

use std::ptr;

/// Takes from the front; what is left moves up once, when it is dropped.
///
/// While it lives the `Vec` is empty for everybody else, and the values from `taken` to `len` of its memory are ours.
pub(super) struct Front<'a, T> {
    values: &'a mut Vec<T>,
    taken: usize,
    len: usize,
}

impl<'a, T> Front<'a, T> {
    pub(super) fn new(values: &'a mut Vec<T>) -> Self {
        let len = values.len();
        // SAFETY: zero values are initialised, whatever the memory holds.
        unsafe { values.set_len(0) };
        Self { values, taken: 0, len }
    }

    /// Values that are left.
    pub(super) fn len(&self) -> usize {
        self.len - self.taken
    }

    #[inline]
    pub(super) fn take(&mut self) -> T {
        assert!(self.taken < self.len, "nothing is left at {} of {}", self.taken, self.len);
        // SAFETY: `taken` is less than the number of values in the memory.
        let first = unsafe { self.values.as_mut_ptr().add(self.taken) };
        self.taken += 1;
        // SAFETY: the value is there and ours (see above), and is passed over from now on.
        unsafe { first.read() }
    }

    /// Puts the value back that was taken last.
    pub(super) fn put_back(&mut self, value: T) {
        assert!(self.taken > 0, "nothing was taken");
        self.taken -= 1;
        // SAFETY: `taken` is less than the number of values in the memory.
        let last = unsafe { self.values.as_mut_ptr().add(self.taken) };
        // SAFETY: the place was left empty by `take`.
        unsafe { last.write(value) };
    }
}

impl<T> Drop for Front<'_, T> {
    fn drop(&mut self) {
        let start = self.values.as_mut_ptr();
        // SAFETY: at most the number of values in the memory.
        let left = unsafe { start.add(self.taken) };
        // SAFETY: `len()` values lie there, and there is memory for them at the start, which is empty up to there.
        unsafe { ptr::copy(left, start, self.len()) };
        // SAFETY: they lie at the start now.
        unsafe { self.values.set_len(self.len - self.taken) };
    }
}
