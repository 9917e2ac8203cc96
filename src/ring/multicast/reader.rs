//! A reader: a member of a group, and the run of values that it is reading.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::config::{OnFull, WaitStrategy};
use crate::ring::multicast::groups::{Group, IDLE, Joining, Mark, Start};
use crate::ring::multicast::policy::Keeping;
use crate::ring::multicast::ring::Ring;
use crate::ring::notify::{Notify, Patience, Waiting};
use crate::ring::seeded::{Bug, is_light_half_left_out, is_seeded};
use crate::sync::{Ordering, spin_loop};
use crate::time::Deadline;

/// One of the ring's readers.
pub(crate) struct Reader<T> {
    ring: Arc<Ring<T>>,
    run: Run,
    patience: Patience,
    /// The registration of a task that polls.
    polled: Option<Waiting<Readers<T>>>,
}

/// Why there is no next value just now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    /// The group missed this many values here. Ask again for the next one.
    Lagged(u64),
    /// The ring is closed, and all of it was read, or is in the hands of other members.
    Closed,
}

/// What a member may read next: a part of the ring that is its own, or, for a reader alone, that it has seen.
struct Run {
    group: Arc<Group>,
    mark: Arc<Mark>,
    /// The group's, at hand.
    is_claimed: bool,
    next: u64,
    end: u64,
    prefetch: u64,
    /// The group's `drops` when we last looked and found no gap, or none that is still ahead.
    drops_seen: u64,
    /// Whether the last run was so short that we are at the writers' heels.
    is_close: bool,
}

/// A run of a reader alone is looked for no further than this: so many marks are a few cache lines.
const RUN_MAX: u64 = 256;
/// A run below this is a short one.
const SHORT: u64 = 16;
/// PAUSEs after a short run, so that reader and writer do not take a cache line from each other for each value.
const POLITE_PAUSES: u32 = 4;
/// PAUSEs after a lost claim.
const LOST_PAUSES: u32 = 8;
/// A visited run moves the head at least after this share of the ring.
const VISIT_SHARE: u64 = 8;

impl<T> Ring<T> {
    /// Adds a reader.
    pub(crate) fn reader(self: &Arc<Self>, joining: &Joining, strategy: WaitStrategy) -> Reader<T> {
        let misses_oldest = self.policy.on_full == OnFull::DropOldest;
        let (group, mark) = {
            let mut groups = self.groups();
            let joined = groups.join(joining, misses_oldest, |groups| match joining.start {
                Start::Oldest => self.gate(),
                // The end of what is visible, not the tail: a group never begins beyond a writer at work (C-4).
                Start::Latest => {
                    // Acquire: pairs with the claims' and publications' Release.
                    let tail = self.sent().min(self.tail.load(Ordering::Acquire));
                    let from = groups.highest().unwrap_or_else(|| self.gate());
                    if is_seeded(Bug::RingJoinsAtTail) {
                        tail
                    } else {
                        self.slots.visible_end(&self.tail, from.min(tail), tail)
                    }
                }
            });
            self.note_groups(&groups);
            joined
        };
        // It may begin beyond a gate that writers wait for, and they are not told of publications any more.
        self.writers.notify_all();
        let position = group.position();
        let prefetch = joining.prefetch.max(1);
        let is_claimed = group.is_claimed;
        let run =
            Run { group, mark, is_claimed, next: position, end: position, prefetch, drops_seen: 0, is_close: false };
        Reader { ring: Arc::clone(self), run, patience: Patience::new(strategy), polled: None }
    }
}

impl<T> Reader<T> {
    /// Whether there is a next value, without waiting: `None` if there is none yet.
    #[inline(always)]
    pub(crate) fn ready(&mut self) -> Option<Result<(), Stop>> {
        self.ready_many(self.run.prefetch)
    }

    /// As [`ready`](Self::ready), for up to `max` values that are taken from the group at once.
    #[inline(always)]
    pub(crate) fn ready_many(&mut self, max: u64) -> Option<Result<(), Stop>> {
        if self.run.next < self.run.end { Some(Ok(())) } else { self.run.refill(&self.ring, max) }
    }

    /// Waits for the next value; `None` if the time is up before.
    #[inline(always)]
    pub(crate) fn wait(&mut self, deadline: Deadline) -> Option<Result<(), Stop>> {
        if self.run.next < self.run.end { Some(Ok(())) } else { self.wait_for(self.run.prefetch, deadline) }
    }

    /// As [`wait`](Self::wait), for up to `max` values that are taken from the group at once.
    pub(crate) fn wait_many(&mut self, max: u64, deadline: Deadline) -> Option<Result<(), Stop>> {
        if self.run.next < self.run.end { Some(Ok(())) } else { self.wait_for(max, deadline) }
    }

    #[inline(never)]
    fn wait_for(&mut self, max: u64, deadline: Deadline) -> Option<Result<(), Stop>> {
        let Self { ring, run, patience, .. } = self;
        if run.is_close && cfg!(not(loom)) {
            (0..POLITE_PAUSES).for_each(|_| spin_loop());
        }
        if let Some(answer) = run.refill(ring, max) {
            return Some(answer);
        }
        ring.readers.wait_with(patience, deadline, || run.refill(ring, max))
    }

    /// As [`wait_many`](Self::wait_many), for a task.
    pub(crate) async fn wait_async(&mut self, max: u64) -> Result<(), Stop> {
        if self.run.next < self.run.end {
            return Ok(());
        }
        let Self { ring, run, .. } = self;
        let mut waiting = Waiting::new(&ring.readers);
        std::future::poll_fn(|cx| waiting.poll_ready(cx, || run.refill(ring, max))).await
    }

    /// The same for a task that polls by hand: its registration stays until it is answered or the reader is dropped.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        if self.run.next < self.run.end {
            return Poll::Ready(Ok(()));
        }
        let Self { ring, run, polled, .. } = self;
        let waiting = polled.get_or_insert_with(|| Waiting::new(Readers(Arc::clone(ring))));
        waiting.poll_ready(cx, || run.refill(ring, run.prefetch))
    }

    /// How many values it takes from its group at a time.
    pub(crate) fn prefetch(&self) -> u64 {
        self.run.prefetch
    }

    /// The next position this reader reads, as far as it knows.
    pub(crate) fn position(&self) -> u64 {
        if self.run.next < self.run.end { self.run.next } else { self.run.group.position() }
    }

    /// Values sent and read by no member of this group, as far as it knows.
    pub(crate) fn lag(&self) -> u64 {
        let run = if self.run.is_claimed { self.run.end - self.run.next } else { 0 };
        run + self.ring.groups().lag(&self.run.group, self.ring.sent())
    }

    /// Values that this group missed, all together.
    pub(crate) fn missed(&self) -> u64 {
        self.run.group.dropped()
    }

    /// Values of the run that are there to be read without asking the ring.
    #[inline]
    pub(crate) fn in_hand(&self) -> u64 {
        self.run.end - self.run.next
    }

    /// Takes the next value out of its place.
    ///
    /// # Panics
    /// If the reader is not ready, or if the ring keeps values.
    #[inline(always)]
    pub(crate) fn take(&mut self) -> T {
        assert!(self.ring.policy.keeping == Keeping::UntilTaken, "values of this ring are not taken out");
        let position = self.run.next;
        assert!(position < self.run.end, "a reader that is not ready");
        // SAFETY: claimed by this member alone (C-5), published (C-3), and taken once, as the run moves on.
        let value = unsafe { self.ring.slots.take(position) };
        self.run.advance(&self.ring, position + 1);
        value
    }
}

impl<T: Sync> Reader<T> {
    /// Lends the next value. It counts as read when `f` ends, also by a panic.
    ///
    /// # Panics
    /// If the reader is not ready, or if the ring's values are taken out.
    #[inline(always)]
    pub(crate) fn read<R>(&mut self, f: impl FnOnce(&T) -> R) -> R {
        let position = self.run.next;
        assert!(position < self.run.end, "a reader that is not ready");
        let progress = Progress { ring: &self.ring, next: position + 1, run: &mut self.run };
        // SAFETY: published (C-3); held by our head or mark until `progress` ends (C-5); not taken out, since values
        // of a ring whose readers take are not `read`.
        let answer = unsafe { progress.ring.slots.read(position, f) };
        drop(progress);
        answer
    }

    /// Lends each value of the run, at most `max`, and says how many. Where `f` panics, the rest stays to be read.
    pub(crate) fn visit(&mut self, max: u64, mut f: impl FnMut(&T)) -> u64 {
        let start = self.run.next;
        let end = self.run.end.min(start.saturating_add(max));
        let stride = (self.ring.capacity() / VISIT_SHARE).max(1);
        while self.run.next < end {
            let from = self.run.next;
            let until = end.min(from + stride);
            let mut progress = Progress { ring: &self.ring, next: from, run: &mut self.run };
            for position in from..until {
                progress.next = position + 1;
                // SAFETY: as in `read`.
                unsafe { progress.ring.slots.read(position, &mut f) };
            }
        }
        end - start
    }
}

/// Moves the run on when a visitor ends, whichever way.
struct Progress<'a, T> {
    ring: &'a Ring<T>,
    run: &'a mut Run,
    next: u64,
}

impl<T> Drop for Progress<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.run.advance(self.ring, self.next);
    }
}

impl Run {
    /// Finds values to read: `None` if there are none yet.
    fn refill<T>(&mut self, ring: &Ring<T>, max: u64) -> Option<Result<(), Stop>> {
        debug_assert!(self.next == self.end, "a run is refilled at {} before its end {}", self.next, self.end);
        if self.is_claimed { self.claim(ring, max) } else { self.look(ring) }
    }

    /// A reader alone: what it has seen is its own, since the gate waits for its head.
    #[inline]
    fn look<T>(&mut self, ring: &Ring<T>) -> Option<Result<(), Stop>> {
        match self.visible_end(ring, self.next, RUN_MAX) {
            Ok(end) if end == self.next => None,
            Ok(end) => {
                self.is_close = end - self.next < SHORT;
                self.end = end;
                Some(Ok(()))
            }
            Err(stop) => Some(Err(stop)),
        }
    }

    /// A member: a part of what is visible, claimed from the group's head.
    fn claim<T>(&mut self, ring: &Ring<T>, max: u64) -> Option<Result<(), Stop>> {
        // Relaxed: a hint; who returns wakes those who miss it.
        if self.group.has_returned.load(Ordering::Relaxed)
            && let Some(returned) = ring.groups().take_returned(&self.group, &self.mark, max)
        {
            (self.next, self.end) = (returned.start, returned.end);
            return Some(Ok(()));
        }
        // What a member holds, nobody can drop: where values may be dropped, it holds one.
        let max = if self.group.is_lossy { 1 } else { max };
        loop {
            let head = self.group.position();
            // Before the claim: who is told holds nothing.
            if let Some(missed) = self.tell_gaps(ring, head) {
                return Some(Err(Stop::Lagged(missed)));
            }
            // Relaxed: a hint at how many others want some.
            let members = self.group.members.load(Ordering::Relaxed).max(1) as u64;
            let wanted = max.saturating_mul(members).min(RUN_MAX);
            let end = match self.visible_end(ring, head, wanted) {
                Ok(end) if end == head => return None,
                Ok(end) => end,
                Err(_) => return self.claim_leftovers(ring, max),
            };
            self.is_close = end - head < SHORT.min(wanted);
            let count = ((end - head) / members).clamp(1, max);
            if !is_seeded(Bug::RingClaimsUnmarked) {
                // Stored before the claim's Release, so who sees the head moved sees the mark (C-5). Release: it hides
                // the mark before it, by which others learn that the run before is read. Relaxed: a seeded bug.
                let done = if is_seeded(Bug::RingMarksRelaxed) { Ordering::Relaxed } else { Ordering::Release };
                self.mark.store(head, done);
            }
            // AcqRel: pairs with the Acquire in `Group::position`. Relaxed: it is loaded again.
            let claimed = self.group.head.compare_exchange(head, head + count, Ordering::AcqRel, Ordering::Relaxed);
            if claimed.is_err() {
                // Release: as in `advance`; nothing was read.
                self.mark.store(IDLE, Ordering::Release);
                if !is_seeded(Bug::RingLosesClaimsSilently) {
                    // A writer may have seen the mark, which is below what the others have read, and gone to sleep.
                    ring.writers.notify_all();
                }
                self.tell_end(ring);
                if cfg!(not(loom)) {
                    // The other has the head's line; asking for it at once only takes it from him again.
                    (0..LOST_PAUSES).for_each(|_| spin_loop());
                }
                continue;
            }
            (self.next, self.end) = (head, head + count);
            return Some(Ok(()));
        }
    }

    /// A member at the end of a closed ring: what another left behind, what was missed and not yet told, or the end;
    /// `None` while another is still reading, for it may leave something behind.
    #[cold]
    fn claim_leftovers<T>(&mut self, ring: &Ring<T>, max: u64) -> Option<Result<(), Stop>> {
        let mut groups = ring.groups();
        if let Some(returned) = groups.take_returned(&self.group, &self.mark, max) {
            (self.next, self.end) = (returned.start, returned.end);
            return Some(Ok(()));
        }
        match groups.take_gaps(&self.group, u64::MAX).missed {
            0 if groups.is_being_read(&self.group) => None,
            0 => Some(Err(Stop::Closed)),
            missed => Some(Err(Stop::Lagged(missed))),
        }
    }

    /// Tells members that wait at the end of a closed ring that this one holds nothing any more. Asked after the mark
    /// was stored and writers were told, which has the light half that pairs with the heavy one in `Ring::close`.
    #[inline]
    fn tell_end<T>(&self, ring: &Ring<T>) {
        if ring.is_closed() && !is_seeded(Bug::RingEndsSilently) {
            ring.readers.notify_all();
        }
    }

    /// The end of what is visible from `from` on, at most `max` values of it; or that there will be no more.
    #[inline]
    fn visible_end<T>(&self, ring: &Ring<T>, from: u64, max: u64) -> Result<u64, Stop> {
        let end = ring.slots.visible_end(&ring.tail, from, from.saturating_add(max));
        // What was seen comes before, whether the ring is closed after: pairs with the heavy half in `Ring::close`.
        if !is_light_half_left_out() {
            ring.barrier.light();
        }
        match ring.end() {
            Some(closed_at) if from >= closed_at => Err(Stop::Closed),
            Some(closed_at) => Ok(end.min(closed_at)),
            None => Ok(end),
        }
    }

    /// How many values were dropped before `position`, the group's head, if that was not told yet.
    #[inline]
    fn tell_gaps<T>(&mut self, ring: &Ring<T>, position: u64) -> Option<u64> {
        // Relaxed: stored before the head passed the gap, and we have seen the head beyond it.
        let drops = self.group.drops.load(Ordering::Relaxed);
        if drops == self.drops_seen {
            return None;
        }
        // Who drops has the lock until the gap is entered.
        let gaps = ring.groups().take_gaps(&self.group, position);
        // A gap ahead of this run is told behind it: until then there is something to look for.
        if !gaps.has_more || is_seeded(Bug::RingForgetsGaps) {
            self.drops_seen = drops;
        }
        (gaps.missed > 0).then_some(gaps.missed)
    }

    /// All before `next` is read.
    #[inline(always)]
    fn advance<T>(&mut self, ring: &Ring<T>, next: u64) {
        self.next = next;
        // Release, for both: pairs with the Acquire in `Group::position` and `Entry::lowest`: what was read is done
        // with. Relaxed: a seeded bug.
        let done = if is_seeded(Bug::RingReadsOn) { Ordering::Relaxed } else { Ordering::Release };
        if self.is_claimed {
            self.mark.store(if next < self.end { next } else { IDLE }, done);
        } else {
            self.group.head.store(next, done);
        }
        if !is_seeded(Bug::RingReadsSilently) {
            ring.writers.notify_all();
        }
        if self.is_claimed && next == self.end {
            self.tell_end(ring);
        }
        // Last, for the drop of a value may panic. A writer that is faster reclaims in our place.
        if ring.policy.keeping == Keeping::UntilConsumed {
            ring.reclaim();
        }
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        let unread = self.run.next..self.run.end;
        {
            let mut groups = self.ring.groups();
            groups.leave(&self.run.group, &self.run.mark, unread);
            self.ring.note_groups(&groups);
        }
        // The gate may move, and others may read what we leave.
        self.ring.writers.notify_all();
        self.ring.readers.notify_all();
        // Last, for the drop of a value may panic.
        if self.ring.policy.keeping == Keeping::UntilConsumed {
            self.ring.reclaim();
        }
    }
}

/// The way to a ring's readers.
struct Readers<T>(Arc<Ring<T>>);

impl<T> Deref for Readers<T> {
    type Target = Notify;

    fn deref(&self) -> &Notify {
        &self.0.readers
    }
}

impl<T> fmt::Debug for Reader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("position", &self.position()).finish_non_exhaustive()
    }
}
