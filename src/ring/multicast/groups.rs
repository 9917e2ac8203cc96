//! The groups that read a ring: where each stands, what its members hold, what it missed.

use std::ops::Range;
use std::sync::Arc;

use crossbeam::utils::CachePadded;

use crate::ring::multicast::policy::Keeping;
use crate::ring::seeded::{Bug, is_seeded};
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Where a new group begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Start {
    /// With what is sent from now on.
    Latest,
    /// With the oldest value that is still there.
    Oldest,
}

/// How a reader joins.
#[derive(Clone, Debug)]
pub(crate) struct Joining {
    /// The group to share values with; `None` to be alone and see them all.
    pub(crate) group: Option<Arc<str>>,
    pub(crate) start: Start,
    /// Whether a new group may be made to miss values rather than hold a full ring back.
    pub(crate) is_lossy: bool,
    /// How many values the member takes from its group at a time, at most.
    pub(crate) prefetch: u64,
}

/// What a group's members share without a lock.
#[derive(Debug)]
pub(super) struct Group {
    /// The next position that no member has claimed.
    pub(super) head: CachePadded<AtomicU64>,
    /// Whether members claim before they read. A group of one that misses nothing moves its head after reading.
    pub(super) is_claimed: bool,
    /// Whether it is made to miss values rather than hold a full ring back.
    pub(super) is_lossy: bool,
    pub(super) members: AtomicUsize,
    /// Whether a member left something behind that it had claimed.
    pub(super) has_returned: AtomicBool,
    /// Stored before the head passes values that nobody has read.
    pub(super) drops: AtomicU64,
    /// Values that were dropped unread, all together.
    dropped: AtomicU64,
}

/// What a member holds: nothing below this position, or `IDLE`.
pub(super) type Mark = CachePadded<AtomicU64>;

pub(super) const IDLE: u64 = u64::MAX;

/// All groups; guarded by the ring's lock.
#[derive(Debug)]
pub(super) struct Groups {
    entries: Vec<Entry>,
    pub(super) writers: usize,
}

/// A group, and what of it needs the lock.
#[derive(Debug)]
struct Entry {
    group: Arc<Group>,
    name: Option<Arc<str>>,
    /// Whether it stays without members.
    is_permanent: bool,
    marks: Vec<Arc<Mark>>,
    /// Claimed by members that left, and not read.
    returned: Vec<Range<u64>>,
    /// Dropped unread, and not yet told to a member.
    gaps: Vec<Range<u64>>,
}

/// What a group missed somewhere.
pub(super) struct Gaps {
    pub(super) missed: u64,
    /// Whether it missed more, further on.
    pub(super) has_more: bool,
}

/// How a group stands.
#[derive(Clone, Debug)]
pub(crate) struct GroupState {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) members: usize,
    /// Values that no member has claimed.
    pub(crate) lag: u64,
    pub(crate) dropped: u64,
}

impl Group {
    fn new(start: u64, is_claimed: bool, is_lossy: bool) -> Self {
        Self {
            head: CachePadded::new(AtomicU64::new(start)),
            is_claimed,
            is_lossy,
            members: AtomicUsize::new(0),
            has_returned: AtomicBool::new(false),
            drops: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    pub(super) fn position(&self) -> u64 {
        // Acquire: pairs with the Release of who moved it: what was read below is read, what is marked is marked.
        self.head.load(Ordering::Acquire)
    }

    /// Values that were dropped unread, all together.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed) // Relaxed: for people.
    }
}

impl Groups {
    pub(super) fn new(keeping: Keeping, misses_oldest: bool) -> Self {
        let mut groups = Self { entries: Vec::new(), writers: 0 };
        if keeping == Keeping::UntilTaken {
            groups.entries.push(Entry::new(Group::new(0, true, misses_oldest), None, true));
        }
        groups
    }

    /// The lowest position that anybody may still read; `None` if there is no group.
    pub(super) fn lowest(&self) -> Option<u64> {
        self.entries.iter().map(Entry::lowest).min()
    }

    /// As [`lowest`](Self::lowest), as far as dropping cannot move it: groups that miss nothing, and what members hold.
    pub(super) fn lowest_held(&self) -> u64 {
        let held = |entry: &Entry| if entry.group.is_lossy { entry.marked() } else { entry.lowest() };
        self.entries.iter().map(held).min().unwrap_or(IDLE)
    }

    /// The highest head: all below is visible.
    pub(super) fn highest(&self) -> Option<u64> {
        self.entries.iter().map(|entry| entry.group.position()).max()
    }

    /// Moves groups that may miss values to `want` or beyond, as far as `visible_end` of where they are.
    pub(super) fn drop_oldest(&mut self, want: u64, visible_end: impl Fn(u64) -> u64, mut on_drop: impl FnMut(u64)) {
        for entry in self.entries.iter_mut().filter(|entry| entry.group.is_lossy) {
            entry.drop_returned(want, &mut on_drop);
            let group = Arc::clone(&entry.group);
            loop {
                let head = group.position();
                let end = if head < want { visible_end(head) } else { head };
                if end == head {
                    break;
                }
                // Relaxed: a reader sees it by the head's Release below; it then takes the lock and finds the gap.
                group.drops.store(group.drops.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                // AcqRel: pairs with the Acquire in `position`. Relaxed: it is loaded again.
                if group.head.compare_exchange(head, end, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                    entry.add_gap(head..end);
                    (head..end).for_each(&mut on_drop);
                    // Relaxed: for people.
                    group.dropped.fetch_add(end - head, Ordering::Relaxed);
                    break;
                }
            }
        }
    }

    /// Enters a member; `begin` says where a new group starts.
    pub(super) fn join(
        &mut self,
        joining: &Joining,
        misses_oldest: bool,
        begin: impl FnOnce(&Self) -> u64,
    ) -> (Arc<Group>, Arc<Mark>) {
        let found = self
            .entries
            .iter()
            .position(|entry| entry.is_permanent || (joining.group.is_some() && entry.name == joining.group));
        let index = found.unwrap_or_else(|| {
            let is_lossy = joining.is_lossy || misses_oldest;
            let group = Group::new(begin(self), is_lossy || joining.group.is_some(), is_lossy);
            self.entries.push(Entry::new(group, joining.group.clone(), false));
            self.entries.len() - 1
        });
        let entry = &mut self.entries[index];
        let mark = Arc::new(CachePadded::new(AtomicU64::new(IDLE)));
        entry.marks.push(Arc::clone(&mark));
        entry.count_members();
        (Arc::clone(&entry.group), mark)
    }

    /// Takes a member out, with what it has claimed and not read. The last one takes its group along.
    pub(super) fn leave(&mut self, group: &Arc<Group>, mark: &Arc<Mark>, unread: Range<u64>) {
        let index = self.index_of(group);
        let entry = &mut self.entries[index];
        entry.marks.retain(|other| !Arc::ptr_eq(other, mark));
        entry.count_members();
        if entry.marks.is_empty() && !entry.is_permanent {
            self.entries.swap_remove(index);
        } else if !unread.is_empty() && group.is_claimed {
            if is_seeded(Bug::RingLeavesWithRun) {
                return;
            }
            entry.returned.push(unread);
            // Relaxed: a hint; who follows it takes the lock. Who misses it is woken after we let the lock go.
            group.has_returned.store(true, Ordering::Relaxed);
        }
    }

    /// Hands a member something that another left behind, the lowest first, at most `max` values.
    pub(super) fn take_returned(&mut self, group: &Arc<Group>, mark: &Mark, max: u64) -> Option<Range<u64>> {
        let index = self.index_of(group);
        let entry = &mut self.entries[index];
        let lowest = (0..entry.returned.len()).min_by_key(|index| entry.returned[*index].start)?;
        let range = &mut entry.returned[lowest];
        let end = range.end.min(range.start.saturating_add(max));
        let taken = range.start..end;
        range.start = end;
        if range.is_empty() {
            entry.returned.swap_remove(lowest);
        }
        // Relaxed, twice: refreshes look under the lock that we hold; a hint, as in `leave`.
        mark.store(taken.start, Ordering::Relaxed);
        group.has_returned.store(!entry.returned.is_empty(), Ordering::Relaxed);
        Some(taken)
    }

    /// Takes the gaps below `position`, of which no member was told yet.
    pub(super) fn take_gaps(&mut self, group: &Arc<Group>, position: u64) -> Gaps {
        let index = self.index_of(group);
        let gaps = &mut self.entries[index].gaps;
        let mut missed = 0;
        gaps.retain(|gap| {
            let is_below = gap.start < position;
            missed += if is_below { gap.end - gap.start } else { 0 };
            !is_below
        });
        Gaps { missed, has_more: !gaps.is_empty() }
    }

    /// Whether room may come from dropping what is published: there is no group, or one that may miss values.
    pub(super) fn may_drop(&self) -> bool {
        self.entries.is_empty() || self.entries.iter().any(|entry| entry.group.is_lossy)
    }

    pub(super) fn states(&self, sent: u64) -> Vec<GroupState> {
        let state = |entry: &Entry| GroupState {
            name: entry.name.clone(),
            members: entry.marks.len(),
            lag: entry.lag(sent),
            dropped: entry.group.dropped(),
        };
        self.entries.iter().map(state).collect()
    }

    /// What lies in the places of a ring whose one group takes values out: below `end`, claimed by nobody who is left.
    pub(super) fn untaken(&self, end: u64) -> Vec<Range<u64>> {
        let unclaimed = |entry: &Entry| std::iter::once(entry.group.position()..end);
        self.entries.iter().flat_map(|entry| entry.returned.iter().cloned().chain(unclaimed(entry))).collect()
    }

    /// Values that no member of the group has claimed.
    pub(super) fn lag(&self, group: &Arc<Group>, sent: u64) -> u64 {
        self.entries[self.index_of(group)].lag(sent)
    }

    /// Whether a member of the group holds something.
    pub(super) fn is_being_read(&self, group: &Arc<Group>) -> bool {
        self.entries[self.index_of(group)].marked() != IDLE
    }

    fn index_of(&self, group: &Arc<Group>) -> usize {
        self.entries.iter().position(|entry| Arc::ptr_eq(&entry.group, group)).expect("a group has its members")
    }
}

impl Entry {
    fn new(group: Group, name: Option<Arc<str>>, is_permanent: bool) -> Self {
        let (marks, returned, gaps) = (Vec::new(), Vec::new(), Vec::new());
        Self { group: Arc::new(group), name, is_permanent, marks, returned, gaps }
    }

    fn lag(&self, sent: u64) -> u64 {
        let returned: u64 = self.returned.iter().map(|range| range.end - range.start).sum();
        returned + sent.saturating_sub(self.group.position())
    }

    /// The lowest position that a member holds.
    fn marked(&self) -> u64 {
        // Acquire: pairs with the Release in `Run`: what the member read below is read.
        self.marks.iter().map(|mark| mark.load(Ordering::Acquire)).min().unwrap_or(IDLE)
    }

    fn lowest(&self) -> u64 {
        // The head before the marks: if it is beyond a claim, the claim's mark is there (C-5).
        let (head, mark) = if is_seeded(Bug::RingReadsMarksFirst) {
            let mark = self.marked();
            (self.group.position(), mark)
        } else {
            (self.group.position(), self.marked())
        };
        self.returned.iter().map(|range| range.start).fold(head.min(mark), u64::min)
    }

    /// Drops what members left behind below `want`.
    fn drop_returned(&mut self, want: u64, mut on_drop: impl FnMut(u64)) {
        for index in 0..self.returned.len() {
            let range = self.returned[index].clone();
            let end = range.end.min(want);
            if range.start < end {
                self.returned[index].start = end;
                self.add_gap(range.start..end);
                (range.start..end).for_each(&mut on_drop);
                // Relaxed, thrice: under the lock, which whoever follows it takes; for people.
                self.group.drops.store(self.group.drops.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                self.group.dropped.fetch_add(end - range.start, Ordering::Relaxed);
            }
        }
        self.returned.retain(|range| !range.is_empty());
        // Relaxed: a hint, as in `Groups::leave`.
        self.group.has_returned.store(!self.returned.is_empty(), Ordering::Relaxed);
    }

    fn add_gap(&mut self, gap: Range<u64>) {
        match self.gaps.last_mut() {
            Some(last) if last.end == gap.start => last.end = gap.end,
            _ => self.gaps.push(gap),
        }
    }

    fn count_members(&self) {
        // Relaxed: a hint at how much to leave for the others.
        self.group.members.store(self.marks.len(), Ordering::Relaxed);
    }
}
