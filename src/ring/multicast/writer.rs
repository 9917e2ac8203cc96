//! A writer: takes credit, claims within it, fills, publishes, wakes.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::config::{OnFull, WaitStrategy};
use crate::metrics::Counter;
use crate::ring::multicast::front::Front;
use crate::ring::multicast::policy::Keeping;
use crate::ring::multicast::ring::{Ring, drop_all};
use crate::ring::notify::{Patience, Waiting};
use crate::ring::seeded::{Bug, is_seeded};
use crate::sync::{Ordering, spin_loop};
use crate::time::{Deadline, Stopwatch};

/// One of the ring's writers.
pub(crate) struct Writer<T> {
    ring: Arc<Ring<T>>,
    /// Values that it may claim places for.
    credit: u64,
    /// The next position, where there is one writer.
    next: u64,
    /// How much credit it takes at a time.
    share: u64,
    patience: Patience,
    /// Overwritten values on their way out.
    old: Vec<T>,
}

/// Why a value was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    Full,
    Closed,
}

impl<T> Ring<T> {
    /// Adds a writer.
    ///
    /// # Errors
    /// [`Refusal::Full`] if the ring has its one, [`Refusal::Closed`].
    pub(crate) fn writer(self: &Arc<Self>, strategy: WaitStrategy) -> Result<Writer<T>, Refusal> {
        let writers = {
            let mut groups = self.groups();
            if self.is_closed() {
                return Err(Refusal::Closed);
            }
            if self.slots.is_cursor() && groups.writers > 0 {
                return Err(Refusal::Full);
            }
            groups.writers += 1;
            groups.writers as u64
        };
        // Acquire: pairs with the Release of the writer before us, who has left.
        let next = self.tail.load(Ordering::Acquire);
        let share = self.share(writers);
        let (ring, patience) = (Arc::clone(self), Patience::new(strategy));
        Ok(Writer { ring, credit: 0, next, share, patience, old: Vec::new() })
    }

    /// How much credit a writer takes at a time: much, for each time costs; little, for what it does not use, others
    /// cannot have. All idle credit together stays well below the ring.
    fn share(&self, writers: u64) -> u64 {
        if self.slots.is_cursor() {
            return self.capacity();
        }
        match self.policy.on_full {
            OnFull::Reject => 1, // so that "full" is exact
            OnFull::Block | OnFull::DropOldest => (self.capacity() / CREDIT_SHARE / writers).clamp(1, CREDIT_MAX),
        }
    }
}

/// The part of a ring that writers may hold as idle credit, roughly.
const CREDIT_SHARE: u64 = 16;
const CREDIT_MAX: u64 = 64;

impl<T> Writer<T> {
    /// Whether a value can be put in at once.
    #[inline(always)]
    pub(crate) fn has_credit(&self) -> bool {
        self.credit > 0
    }

    /// Sees to it that there is credit, without waiting.
    #[inline]
    pub(crate) fn try_reserve(&mut self) -> Result<(), Refusal> {
        if self.credit > 0 { Ok(()) } else { self.take_credit(1, 1) }
    }

    /// Sees to it that there is credit, and waits for it until the deadline.
    #[inline]
    pub(crate) fn reserve(&mut self, deadline: Deadline) -> Result<(), Refusal> {
        if self.credit > 0 { Ok(()) } else { self.reserve_slowly(1, deadline) }
    }

    /// As [`reserve`](Self::reserve), for tasks.
    pub(crate) async fn reserve_async(&mut self) -> Result<(), Refusal> {
        if self.credit > 0 {
            return Ok(());
        }
        if let Some(settled) = self.settle_credit(1, 1) {
            return settled;
        }
        let ring = Arc::clone(&self.ring);
        let _blocked = Blocked { ns: &ring.blocked_ns, since: Stopwatch::start() };
        let mut waiting = Waiting::new(&ring.writers);
        std::future::poll_fn(|cx: &mut Context<'_>| -> Poll<Result<(), Refusal>> {
            waiting.poll_ready(cx, || self.settle_credit(1, 1))
        })
        .await
    }

    /// Gives credit back that was taken for a value which did not come, unless the writer takes some ahead anyway.
    #[inline]
    pub(crate) fn give_back_lone_credit(&mut self) {
        if self.share == 1 && self.credit > 0 {
            self.ring.give_back(std::mem::take(&mut self.credit));
        }
    }

    /// Takes credit for at least `need` values, for as many as `ask` where it is there.
    fn take_credit(&mut self, need: u64, ask: u64) -> Result<(), Refusal> {
        let ask = ask.max(self.share);
        match self.ring.grant(need, ask) {
            Some(credit) => {
                self.credit += credit;
                Ok(())
            }
            None if self.ring.is_closed() => Err(Refusal::Closed),
            None => Err(Refusal::Full),
        }
    }

    /// The same, as an answer to whether the waiting is over.
    fn settle_credit(&mut self, need: u64, ask: u64) -> Option<Result<(), Refusal>> {
        match self.take_credit(need, ask) {
            Err(Refusal::Full) => None,
            settled => Some(settled),
        }
    }

    #[cold]
    #[inline(never)]
    fn reserve_slowly(&mut self, ask: u64, deadline: Deadline) -> Result<(), Refusal> {
        if let Some(settled) = self.settle_credit(1, ask) {
            return settled;
        }
        let ring = Arc::clone(&self.ring);
        let _blocked = Blocked { ns: &ring.blocked_ns, since: Stopwatch::start() };
        let mut patience = self.patience.clone();
        // At first it waits for room for some, so that it does not come back for each value that a reader frees.
        // Not any more once it may fall asleep: it would sleep with room for one, and the readers might wait for that.
        let some = ask.max(self.share).min(ring.capacity() / SOME_SHARE).max(1);
        let settled = (0..if some > 1 { SOME_QUESTIONS } else { 0 })
            .find_map(|_| {
                if cfg!(not(loom)) {
                    spin_loop();
                }
                self.settle_credit(some, ask)
            })
            .or_else(|| ring.writers.wait_with(&mut patience, deadline, || self.settle_credit(1, ask)));
        self.patience = patience;
        settled.unwrap_or(Err(Refusal::Full))
    }

    /// Puts a value in, for which there is credit.
    ///
    /// # Errors
    /// The value comes back if the ring was closed before it was in.
    ///
    /// # Panics
    /// If there is no credit; and if the drop of the value it overwrites panics, which has then no part in this.
    #[inline(always)] // a few instructions in the usual case, and each counts
    pub(crate) fn put(&mut self, value: T) -> Result<(), T> {
        assert!(self.credit > 0, "a value is put in without credit");
        self.credit -= 1;
        let (position, old) =
            if self.ring.slots.is_cursor() { self.fill_next(value) } else { self.fill_claimed(value) };
        if let Some(end) = self.ring.end()
            && position >= end
            && !is_seeded(Bug::RingKeepsLateValues)
        {
            // SAFETY: no reader looks beyond the end of a closed ring (C-6), and the place is still ours: no writer
            // has credit for a position a whole lap beyond it.
            return Err(unsafe { self.ring.slots.take(position) });
        }
        drop(old);
        Ok(())
    }

    /// Puts a value in where there is one writer: its position, and the value it overwrites.
    #[inline(always)]
    fn fill_next(&mut self, value: T) -> (u64, Option<T>) {
        let (ring, position) = (&*self.ring, self.next);
        self.next = position + 1;
        // SAFETY: the one writer's next position (C-2).
        let old = unsafe { ring.replace(position, value) };
        ring.move_tail(position + 1);
        ring.readers.notify_all();
        (position, old)
    }

    /// The same where there are several.
    #[inline]
    fn fill_claimed(&mut self, value: T) -> (u64, Option<T>) {
        let ring = &*self.ring;
        // AcqRel: pairs with itself in other writers: what they saw of the gate when they took their credit, we see,
        // too (the last paragraph of the module's head).
        let position = ring.tail.fetch_add(1, Ordering::AcqRel);
        // SAFETY: claimed just now (C-2).
        let old = unsafe { ring.replace(position, value) };
        ring.slots.publish(position, position + 1);
        ring.tell_published();
        (position, old)
    }

    /// Puts as many values in from the front as there is credit for, and leaves the rest. How many went in.
    ///
    /// # Errors
    /// [`Refusal::Closed`], and all that is not in is still there.
    fn put_front(&mut self, values: &mut Front<'_, T>) -> Result<usize, Refusal> {
        let count = self.credit.min(values.len() as u64);
        // Before the claim, and enough: nothing is allocated behind it. Cannot lose: at most the length of a Vec.
        self.old.reserve(if self.ring.overwrites(u64::MAX) { count as usize } else { 0 });
        let (start, end) = self.claim(count);
        let ring = &*self.ring;
        for position in start..end {
            // SAFETY: claimed just now, or the one writer's next (C-2).
            self.old.extend(unsafe { ring.replace(position, values.take()) });
        }
        let late = self.publish(start, end);
        let ring = &*self.ring;
        let is_closed = !late.is_empty();
        // Cannot lose: at most the length of a Vec.
        let sent = (late.start - start) as usize;
        for position in late.rev() {
            // SAFETY: as in `put`: beyond the end of a closed ring, and still ours.
            values.put_back(unsafe { ring.slots.take(position) });
        }
        drop_all(self.old.drain(..));
        if is_closed { Err(Refusal::Closed) } else { Ok(sent) }
    }

    /// Puts all values in, as far as they go without waiting; how many went in.
    pub(crate) fn try_put_all(&mut self, values: &mut Vec<T>) -> Result<usize, Refusal> {
        let mut values = Front::new(values);
        let mut sent = 0;
        while values.len() > 0 {
            if self.credit == 0 {
                match self.take_credit(1, values.len() as u64) {
                    Ok(()) => {}
                    Err(Refusal::Full) if sent > 0 => break,
                    Err(refusal) => return Err(refusal),
                }
            }
            sent += self.put_front(&mut values)?;
        }
        Ok(sent)
    }

    /// Puts all values in, waiting for room.
    pub(crate) fn put_all(&mut self, values: &mut Vec<T>, deadline: Deadline) -> Result<(), Refusal> {
        let mut values = Front::new(values);
        while values.len() > 0 {
            if self.credit == 0 {
                self.reserve_slowly(values.len() as u64, deadline)?;
            }
            self.put_front(&mut values)?;
        }
        Ok(())
    }

    /// Claims `count` positions, for which there is credit.
    #[inline]
    fn claim(&mut self, count: u64) -> (u64, u64) {
        self.credit -= count;
        let start = if self.ring.slots.is_cursor() {
            self.next
        } else {
            // AcqRel: as in `fill_claimed`.
            self.ring.tail.fetch_add(count, Ordering::AcqRel)
        };
        self.next = start + count;
        (start, start + count)
    }

    /// Makes claimed and filled positions visible, and says which of them came too late for a closed ring.
    #[inline]
    fn publish(&self, start: u64, end: u64) -> std::ops::Range<u64> {
        self.ring.publish(start, end);
        self.ring.tell_published();
        match self.ring.end() {
            Some(closed_at) if !is_seeded(Bug::RingKeepsLateValues) => closed_at.clamp(start, end)..end,
            _ => end..end,
        }
    }
}

impl<T: Copy> Writer<T> {
    /// Puts copies of all values in, waiting for room.
    ///
    /// # Errors
    /// Why it ended early, and how many are in.
    pub(crate) fn put_copies(&mut self, values: &[T], deadline: Deadline) -> Result<(), (Refusal, usize)> {
        let mut sent = 0;
        while sent < values.len() {
            let rest = &values[sent..];
            if self.credit == 0 {
                self.reserve_slowly(rest.len() as u64, deadline).map_err(|refusal| (refusal, sent))?;
            }
            let count = self.credit.min(rest.len() as u64);
            let (start, end) = self.claim(count);
            // Cannot lose: at most the length of a slice.
            let (now, _) = rest.split_at(count as usize);
            // SAFETY: as in `put_front`; what lay there is `Copy`, and needs no drop.
            unsafe { self.ring.slots.write_copies(start, now) };
            let late = self.publish(start, end);
            sent += (late.start - start) as usize;
            if !late.is_empty() {
                return Err((Refusal::Closed, sent));
            }
        }
        Ok(())
    }
}

/// A waiting writer waits for this share of the ring at first, or for what it asks for.
const SOME_SHARE: u64 = 8;
/// So many times it asks for that.
const SOME_QUESTIONS: u32 = if cfg!(loom) { 1 } else { 24 };

impl<T> Ring<T> {
    /// Whether the place of this position holds a value of a lap ago that is to be dropped.
    #[inline]
    fn overwrites(&self, position: u64) -> bool {
        std::mem::needs_drop::<T>() && position >= self.capacity() && self.policy.keeping == Keeping::UntilOverwritten
    }

    /// Puts the value of `position` in, and takes out what it overwrites, if that is to be dropped.
    ///
    /// # Safety
    /// The caller has claimed `position`, or is the one writer and comes to it, and has not published it.
    #[inline(always)]
    unsafe fn replace(&self, position: u64, value: T) -> Option<T> {
        let old = if self.overwrites(position) {
            // SAFETY: a lap ago the place was filled, it was not emptied since, and it is the caller's now (C-1, C-2).
            Some(unsafe { self.slots.take(position) })
        } else {
            None
        };
        // SAFETY: the caller's (C-2), and empty.
        unsafe { self.slots.write(position, value) };
        old
    }

    /// Makes everything below `end` visible, where there is one writer.
    #[inline(always)]
    fn move_tail(&self, end: u64) {
        // Release: pairs with the Acquire in `Slots::visible_end`. Relaxed: a seeded bug.
        let hand_over = if is_seeded(Bug::RingPublishesRelaxed) { Ordering::Relaxed } else { Ordering::Release };
        self.tail.store(end, hand_over);
    }

    #[inline]
    fn publish(&self, start: u64, end: u64) {
        if self.slots.is_cursor() { self.move_tail(end) } else { self.slots.publish(start, end) }
    }
}

/// Counts how long a writer has waited, however the waiting ends.
struct Blocked<'a> {
    ns: &'a Counter,
    since: Stopwatch,
}

impl Drop for Blocked<'_> {
    fn drop(&mut self) {
        self.ns.add(self.since.elapsed_ns());
    }
}

impl<T> Drop for Writer<T> {
    fn drop(&mut self) {
        self.ring.give_back(self.credit);
        let closes = {
            let mut groups = self.ring.groups();
            groups.writers -= 1;
            let closes = groups.writers == 0 && self.ring.policy.closes_after_writers;
            // Under the lock that a new writer would take.
            closes && self.ring.find_end(&groups)
        };
        if closes {
            self.ring.tell_closed();
        }
    }
}

impl<T> fmt::Debug for Writer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("credit", &self.credit).finish_non_exhaustive()
    }
}
