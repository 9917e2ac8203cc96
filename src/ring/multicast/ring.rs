//! The ring itself: what writers and readers share, and how room is granted.

use std::fmt;
use std::time::Duration;

use crossbeam::utils::CachePadded;

use crate::config::OnFull;
use crate::metrics::Counter;
use crate::ring::first_panic::FirstPanic;
use crate::ring::multicast::groups::{GroupState, Groups};
use crate::ring::multicast::policy::{Keeping, Policy};
use crate::ring::multicast::slots::Slots;
use crate::ring::notify::Notify;
use crate::ring::seeded::{Bug, is_seeded};
use crate::sync::{AtomicBool, AtomicU64, Barrier, Mutex, MutexGuard, Ordering};

/// See the invariants in the module's head.
pub(crate) struct Ring<T> {
    pub(super) slots: Slots<T>,
    pub(super) policy: Policy,
    pub(super) barrier: Barrier,
    /// Where the ring was closed; `OPEN`, or `CLOSING` while that is being found out under the groups' lock.
    pub(super) closed_at: AtomicU64,
    /// Told when something was published, and when the ring is closed.
    pub(super) readers: Notify,
    /// Told when readers move on, when writers give credit back, and when the ring is closed; and when something was
    /// published that may be dropped for room.
    pub(super) writers: Notify,
    /// Whether that last is so. Stored under the groups' lock.
    may_drop: AtomicBool,
    /// Nanoseconds that writers have waited for room.
    pub(super) blocked_ns: Counter,
    pub(super) tail: CachePadded<AtomicU64>,
    room: CachePadded<Room>,
    /// Joining, leaving, refreshing the gate, closing. No stranger's code runs under it.
    groups: Mutex<Groups>,
}

/// What writers look at when they run out of credit.
struct Room {
    granted: AtomicU64,
    /// Stored under the groups' lock only.
    gate: AtomicU64,
}

pub(super) const OPEN: u64 = u64::MAX;
const CLOSING: u64 = u64::MAX - 1;

// SAFETY: values go from writers' threads to others, hence `T: Send`. They are lent to several threads at a time only
// by `Reader::read` and `Reader::visit`, which ask for `T: Sync`; a place is written by one thread at a time (C-2), and
// by none that readers hold (C-1).
unsafe impl<T: Send> Sync for Ring<T> {}
// SAFETY: as above; whoever drops the ring last drops the values that are left in it.
unsafe impl<T: Send> Send for Ring<T> {}

impl<T> Ring<T> {
    /// `None` if there is not so much memory.
    ///
    /// # Panics
    /// If the capacity is not a power of two of at least 2.
    pub(crate) fn new(policy: Policy) -> Option<Self> {
        let slots = Slots::new(policy.capacity, policy.layout)?;
        let groups = Groups::new(policy.keeping, policy.on_full == OnFull::DropOldest);
        Some(Self {
            slots,
            policy,
            barrier: Barrier::new(),
            closed_at: AtomicU64::new(OPEN),
            readers: Notify::new(),
            writers: Notify::new(),
            may_drop: AtomicBool::new(groups.may_drop()),
            blocked_ns: Counter::new(),
            tail: CachePadded::new(AtomicU64::new(0)),
            room: CachePadded::new(Room { granted: AtomicU64::new(0), gate: AtomicU64::new(0) }),
            groups: Mutex::new(groups),
        })
    }

    /// To be called when a group came or went, under the lock; and then the writers are to be told.
    pub(super) fn note_groups(&self, groups: &Groups) {
        // Relaxed: who misses a change did publish before the writers are told of it.
        self.may_drop.store(groups.may_drop(), Ordering::Relaxed);
    }

    /// Tells those who wait for something to be published. With a light half between the two.
    #[inline]
    pub(super) fn tell_published(&self) {
        self.readers.notify_all();
        // Relaxed: ordered by the light half in `notify_all`. Where there is one writer, it is not the one who waits.
        if !self.slots.is_cursor() && self.may_drop.load(Ordering::Relaxed) && !is_seeded(Bug::RingPublishesSilently) {
            self.writers.notify_all();
        }
    }

    #[inline]
    pub(crate) fn capacity(&self) -> u64 {
        self.slots.capacity()
    }

    pub(crate) fn on_full(&self) -> OnFull {
        self.policy.on_full
    }

    pub(super) fn groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock()
    }

    /// A lower bound of what anybody may still read. Exact enough for people; ordered only under the groups' lock.
    pub(super) fn gate(&self) -> u64 {
        // Acquire: pairs with the Release in `refresh`: what was read below the gate is done with.
        self.room.gate.load(Ordering::Acquire)
    }

    // ── Room ──

    /// Room for at least `need` values, and at most `ask` or `need`; `None` if there is not that much.
    pub(super) fn grant(&self, need: u64, ask: u64) -> Option<u64> {
        self.grant_within_gate(need, ask).or_else(|| self.grant_after_refresh(need, ask))
    }

    fn grant_within_gate(&self, need: u64, ask: u64) -> Option<u64> {
        // Acquire, so that the gate is loaded after it: then it is at least what this was granted by.
        let mut granted = self.room.granted.load(Ordering::Acquire);
        loop {
            let room = (self.gate() + self.capacity()).saturating_sub(granted);
            if room < need && !is_seeded(Bug::RingGrantsWithoutRoom) {
                return None;
            }
            let credit = room.min(ask).max(need);
            // AcqRel: pairs with itself in the next grant; what this one saw of the gate goes on with its credit.
            // Acquire: as above.
            let outcome =
                self.room.granted.compare_exchange_weak(granted, granted + credit, Ordering::AcqRel, Ordering::Acquire);
            match outcome {
                Ok(_) => return Some(credit),
                Err(moved_to) => granted = moved_to,
            }
        }
    }

    #[cold]
    fn grant_after_refresh(&self, need: u64, ask: u64) -> Option<u64> {
        let mut spoils = Vec::new();
        let credit = {
            let mut groups = self.groups();
            loop {
                if self.is_closed() {
                    break None;
                }
                // Relaxed: a guess at what is needed; the grant itself decides.
                let want = (self.room.granted.load(Ordering::Relaxed) + need).saturating_sub(self.capacity());
                self.refresh(&mut groups, want, &mut spoils);
                let credit = self.grant_within_gate(need, ask);
                if credit.is_some() || self.gate() < want {
                    break credit;
                }
                // Other writers were faster; there may be more.
            }
        };
        let mut panics = FirstPanic::default();
        let is_dropped = panics.run(|| drop_all(spoils)).is_some();
        if !is_dropped {
            // The panic goes to our caller in place of the credit.
            self.give_back(credit.unwrap_or(0));
        }
        panics.resume();
        credit.filter(|_| is_dropped)
    }

    /// Gives credit back that was not used.
    pub(super) fn give_back(&self, credit: u64) {
        if credit > 0 {
            // AcqRel: part of the order of grants.
            self.room.granted.fetch_sub(credit, Ordering::AcqRel);
            self.writers.notify_all();
        }
    }

    /// Moves the gate to `want` or beyond, if the readers allow it, making groups that may miss values miss them.
    /// What is to be dropped is left in `spoils`, for after the lock.
    fn refresh(&self, groups: &mut Groups, want: u64, spoils: &mut Vec<T>) {
        // Relaxed: stored under the lock that we hold.
        let gate = self.room.gate.load(Ordering::Relaxed);
        if gate >= want && self.policy.keeping != Keeping::UntilConsumed {
            return;
        }
        let mut lowest = groups.lowest();
        if gate < want && lowest.is_none_or(|lowest| lowest < want) && !self.is_closed() {
            // Some values more than are needed, so that this is not done for each value.
            let end = want + self.capacity() / DROP_SHARE;
            let visible_end = |from| self.slots.visible_end(&self.tail, from, end);
            match lowest {
                None => lowest = Some(visible_end(gate)),
                // In vain, where another holds the gate.
                Some(_) if groups.lowest_held() < want => {}
                Some(_) => {
                    groups.drop_oldest(want, visible_end, |position| {
                        if self.policy.keeping == Keeping::UntilTaken {
                            // SAFETY: the group's head has just passed it by the compare-exchange of the one who
                            // drops, or a member had left it behind under this lock. So no reader takes it; nor does a
                            // writer, for the gate has not passed it (C-1, C-5).
                            spoils.push(unsafe { self.slots.take(position) });
                        }
                    });
                    lowest = groups.lowest();
                }
            }
        }
        // No further than is of use: what lies above the gate can be read by who comes late.
        let enough = match self.policy.keeping {
            Keeping::UntilOverwritten => want.max(gate + (self.capacity() / GATE_SHARE).max(1)),
            Keeping::UntilConsumed | Keeping::UntilTaken => u64::MAX,
        };
        let moved_to = lowest.unwrap_or(gate).min(enough);
        if moved_to <= gate {
            return;
        }
        if self.policy.keeping == Keeping::UntilConsumed {
            // SAFETY: every group has read them (C-5), and no writer has the places before the gate is stored (C-1).
            spoils.extend((gate..moved_to).map(|position| unsafe { self.slots.take(position) }));
        }
        // Release: pairs with the Acquire in `gate`: what was read and taken below is done with.
        self.room.gate.store(moved_to, Ordering::Release);
    }

    /// Drops what every group has read, where values are kept until then.
    pub(super) fn reclaim(&self) {
        let mut spoils = Vec::new();
        self.refresh(&mut self.groups(), 0, &mut spoils);
        drop_all(spoils);
    }

    // ── The end ──

    /// Ends the ring: what is in it can be read, nothing more gets in.
    pub(crate) fn close(&self) {
        let is_first = self.find_end(&self.groups());
        if is_first {
            self.tell_closed();
        }
    }

    /// Settles where the ring ends; whether it was open before. For [`tell_closed`](Self::tell_closed) after the lock.
    pub(super) fn find_end(&self, _locked: &Groups) -> bool {
        if self.is_closed() {
            return false;
        }
        // Relaxed: ordered by the heavy half below, which pairs with the light halves in `Writer` and `Run`. A
        // writer that published before it is below the tail that we load, and so is all that a reader saw before
        // it; who publishes or looks later sees that the ring is closing, and waits for the lock.
        self.closed_at.store(CLOSING, Ordering::Relaxed);
        if !is_seeded(Bug::RingClosesUnfenced) {
            self.barrier.heavy();
        }
        let tail = self.tail.load(Ordering::Acquire); // Acquire: pairs with the Release of claims and publications.
        self.closed_at.store(tail, Ordering::Release); // Release: pairs with the Acquire in `is_closed`.
        true
    }

    pub(super) fn tell_closed(&self) {
        self.readers.notify_all();
        self.writers.notify_all();
    }

    /// Whether it is closed, or about to be.
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        // Acquire: pairs with the Release in `close`.
        self.closed_at.load(Ordering::Acquire) != OPEN
    }

    /// Where it was closed, if it was. Asked after something was seen or published, and a light half in between.
    #[inline]
    pub(super) fn end(&self) -> Option<u64> {
        // Relaxed: ordered by the light half before; the slow path takes the lock.
        if self.closed_at.load(Ordering::Relaxed) == OPEN { None } else { Some(self.settled_end()) }
    }

    #[cold]
    fn settled_end(&self) -> u64 {
        // Relaxed, for both: settled once the lock is ours, and the lock orders it.
        match self.closed_at.load(Ordering::Relaxed) {
            CLOSING => {
                let _settled = self.groups();
                self.closed_at.load(Ordering::Relaxed) // Relaxed: as above.
            }
            end => end,
        }
    }

    // ── For people ──

    /// Values sent so far.
    pub(crate) fn sent(&self) -> u64 {
        // Relaxed, twice: for people. A claim that came too late for a closed ring is not counted.
        self.tail.load(Ordering::Relaxed).min(self.closed_at.load(Ordering::Relaxed))
    }

    /// Values that some group has not read, or that are kept although nobody reads.
    pub(crate) fn depth(&self) -> u64 {
        let lowest = self.groups().lowest();
        self.sent().saturating_sub(lowest.unwrap_or_else(|| self.gate()))
    }

    /// How long writers have waited for room, all together.
    pub(crate) fn blocked(&self) -> Duration {
        Duration::from_nanos(self.blocked_ns.value())
    }

    /// How each group stands.
    pub(crate) fn group_states(&self) -> Vec<GroupState> {
        self.groups().states(self.sent())
    }

    /// Live writers.
    pub(crate) fn writer_count(&self) -> usize {
        self.groups().writers
    }
}

/// Values that are dropped at a time from a group that holds a full ring back: this share of the ring.
const DROP_SHARE: u64 = 16;
/// The gate moves by this share of the ring at a time, so that the rest can be read by who comes late.
const GATE_SHARE: u64 = 4;

/// Drops each, also past one whose drop panics.
pub(super) fn drop_all<T>(values: impl IntoIterator<Item = T>) {
    let mut panics = FirstPanic::default();
    for value in values {
        panics.run(|| drop(value));
    }
    panics.resume();
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        if !std::mem::needs_drop::<T>() {
            return;
        }
        // Relaxed, thrice: `&mut self` says that nobody else is here.
        let load = |position: &AtomicU64| position.load(Ordering::Relaxed);
        let (tail, gate) = (load(&self.tail), load(&self.room.gate));
        let end = tail.min(load(&self.closed_at));
        // Claims that came too late for a closed ring have emptied the places of what lay a lap before them.
        let start = match self.policy.keeping {
            Keeping::UntilOverwritten => tail.saturating_sub(self.capacity()),
            Keeping::UntilConsumed => gate,
            Keeping::UntilTaken => end,
        };
        let untaken = match self.policy.keeping {
            Keeping::UntilOverwritten | Keeping::UntilConsumed => Vec::new(),
            Keeping::UntilTaken => self.groups().untaken(end),
        };
        let mut panics = FirstPanic::default();
        for position in (start..end).chain(untaken.into_iter().flatten()) {
            // SAFETY: nobody else is here. What lies in these positions was published (no writer is left in between),
            // and neither overwritten, nor dropped with the gate, nor taken, as the ranges above say.
            let value = unsafe { self.slots.take(position) };
            panics.run(|| drop(value));
        }
        panics.resume();
    }
}

impl<T> fmt::Debug for Ring<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("policy", &self.policy).field("sent", &self.sent()).finish_non_exhaustive()
    }
}
