//! What should be there: the values in order, and where each group and each member stands.

use std::collections::BTreeMap;
use std::ops::Range;

use headwater::memory::Metrics;
use headwater::{Keep, OnFull};

use super::{Join, Kind, Setting};

/// See the module's head. Readers and groups are numbered in the order in which they came.
pub(super) struct Model {
    pub(super) setting: Setting,
    /// The number of the value at each position.
    pub(super) sent: Vec<u64>,
    pub(super) is_closed: bool,
    groups: BTreeMap<usize, Group>,
    pub(super) members: BTreeMap<usize, Member>,
    next_group: usize,
    /// Nothing below is there any more, where values are kept until they are consumed.
    consumed: u64,
}

pub(super) struct Group {
    name: Option<&'static str>,
    /// The next position that no member has claimed.
    head: u64,
    is_lossy: bool,
    /// Whether members claim before they read.
    is_shared: bool,
    /// Left behind by members.
    returned: Vec<Range<u64>>,
    /// Missed, and not yet told; in order.
    gaps: Vec<Range<u64>>,
    dropped: u64,
    /// How far the last send may have moved the head when it dropped some more than it had to.
    may_go_to: u64,
}

pub(super) struct Member {
    pub(super) group: usize,
    /// Claimed and not read.
    run: Range<u64>,
    pub(super) prefetch: u64,
}

/// What a reader is to answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    Nothing,
    Closed,
    Lagged(u64),
    /// Values from this position on.
    Value(u64),
}

/// Values that may be dropped although their places are not needed yet: this share of the ring.
const DROP_SHARE: u64 = 16;

impl Model {
    pub(super) fn new(setting: Setting) -> Self {
        let mut groups = BTreeMap::new();
        if setting.kind == Kind::Queue {
            groups.insert(0, Group::new(None, 0, setting.on_full == OnFull::DropOldest, true));
        }
        let (sent, members) = (Vec::new(), BTreeMap::new());
        Self { setting, sent, is_closed: false, groups, members, next_group: 1, consumed: 0 }
    }

    pub(super) fn end(&self) -> u64 {
        self.sent.len() as u64
    }

    /// The runs of a group's members, the empty ones left out.
    fn runs(&self, group: usize) -> impl Iterator<Item = &Range<u64>> {
        self.members
            .values()
            .filter(move |member| member.group == group)
            .map(|member| &member.run)
            .filter(|run| !run.is_empty())
    }

    /// The lowest position that anybody may still read.
    pub(super) fn lowest(&self) -> Option<u64> {
        let of = |(id, group): (&usize, &Group)| {
            let held = self.runs(*id).chain(&group.returned).map(|range| range.start);
            held.fold(group.head, u64::min)
        };
        self.groups.iter().map(of).min()
    }

    // ── Sending ──

    /// How many values there is room for.
    pub(super) fn room(&self) -> u64 {
        // A lossy group holds only what its members have claimed.
        let firm = |(id, group): (&usize, &Group)| {
            let runs = self.runs(*id).map(|run| run.start);
            let rest = group.returned.iter().map(|range| range.start).chain([group.head]);
            let rest = rest.filter(|_| !group.is_lossy);
            runs.chain(rest).min()
        };
        let firm = self.groups.iter().filter_map(firm).min();
        firm.map_or(u64::MAX, |firm| (firm + self.setting.capacity).saturating_sub(self.end()))
    }

    /// A place is asked for: makes lossy groups that stand in the way miss what they must. Where the place was not
    /// given all the same, they may have missed it or not.
    pub(super) fn reserve(&mut self, dropped: &BTreeMap<usize, u64>) {
        let is_given = self.room() > 0;
        let want = (self.end() + 1).saturating_sub(self.setting.capacity);
        if self.is_closed || self.lowest().is_none_or(|lowest| lowest >= want) {
            return;
        }
        let end = self.end();
        for (id, group) in self.groups.iter_mut().filter(|(_, group)| group.is_lossy) {
            if !is_given && dropped[id] == group.dropped {
                continue;
            }
            let mut returned = Vec::new();
            for range in std::mem::take(&mut group.returned) {
                let cut = want.clamp(range.start, range.end);
                group.miss(range.start..cut);
                returned.extend((cut < range.end).then_some(cut..range.end));
            }
            group.returned = returned;
            if group.head < want {
                group.miss(group.head..want);
                group.head = want;
                group.may_go_to = end.min(want + self.setting.capacity / DROP_SHARE);
            }
        }
    }

    pub(super) fn accept(&mut self, number: u64, dropped: &BTreeMap<usize, u64>) {
        assert!(self.room() > 0 && !self.is_closed, "{number} was accepted without room");
        self.reserve(dropped);
        self.sent.push(number);
    }

    /// What each group has missed by now, all together; by a little more than it had to, perhaps.
    pub(super) fn settle(&mut self, dropped: &BTreeMap<usize, u64>, what: &str) {
        for (id, group) in &mut self.groups {
            let more = dropped[id] - group.dropped;
            let may_go_to = std::mem::take(&mut group.may_go_to).max(group.head);
            assert!(group.head + more <= may_go_to, "{what}: {more} values more than had to be were dropped");
            group.miss(group.head..group.head + more);
            group.head += more;
        }
    }

    // ── Coming and going ──

    /// Adds a member; `position` is where it says it is.
    pub(super) fn join(&mut self, reader: usize, join: Join, position: Option<u64>, kept: u64, what: &str) {
        let is_queue = self.setting.kind == Kind::Queue;
        let found = self.groups.iter().find(|(_, group)| is_queue || join.group.is_some() && group.name == join.group);
        let id = match found {
            Some((id, _)) => *id,
            None => {
                let begin = position.expect("a topic's reader has a position");
                let lowest = self.lowest();
                match (join.from_oldest, lowest) {
                    (false, _) => assert_eq!(begin, self.end(), "{what}: not with what is sent from now on"),
                    (true, None) => assert_eq!(begin, self.end() - kept, "{what}: not with the oldest that is kept"),
                    (true, Some(lowest)) => {
                        let oldest = self.consumed.max(self.end().saturating_sub(self.setting.capacity));
                        assert!((oldest..=lowest).contains(&begin), "{what}: {begin} is not in {oldest}..={lowest}");
                    }
                }
                let is_lossy = join.is_lossy || self.setting.on_full == OnFull::DropOldest;
                self.next_group += 1;
                let group = Group::new(join.group, begin, is_lossy, is_lossy || join.group.is_some());
                self.groups.insert(self.next_group, group);
                self.next_group
            }
        };
        let prefetch = (join.prefetch as u64).max(1);
        self.members.insert(reader, Member { group: id, run: 0..0, prefetch });
    }

    pub(super) fn leave(&mut self, reader: usize) {
        let Member { group, run, .. } = self.members.remove(&reader).expect("a member");
        let is_last = self.members.values().all(|other| other.group != group);
        if is_last && self.setting.kind == Kind::Topic {
            self.groups.remove(&group);
        } else if !run.is_empty() {
            self.group_mut(group).returned.push(run);
        }
        self.consume();
    }

    fn group_mut(&mut self, id: usize) -> &mut Group {
        self.groups.get_mut(&id).expect("a group")
    }

    // ── Reading ──

    /// How many values a reader claims at once, at most, if it asks for this many: where values may be dropped, it holds
    /// one.
    fn most(&self, reader: usize, most: u64) -> u64 {
        if self.groups[&self.members[&reader].group].is_lossy { 1 } else { most }
    }

    /// What a reader is to answer next.
    pub(super) fn next(&self, reader: usize) -> Answer {
        let member = &self.members[&reader];
        let group = &self.groups[&member.group];
        let lowest_returned = group.returned.iter().map(|range| range.start).min();
        let untold = group.untold();
        match (lowest_returned, group.head < self.end()) {
            _ if !member.run.is_empty() => Answer::Value(member.run.start),
            (Some(returned), _) => Answer::Value(returned),
            (None, true) if untold == 0 => Answer::Value(group.head),
            (None, is_open) if untold > 0 && (is_open || self.is_closed) => Answer::Lagged(untold),
            // What another member holds, it may leave behind.
            (None, _) if self.is_closed && self.runs(member.group).next().is_none() => Answer::Closed,
            (None, _) => Answer::Nothing,
        }
    }

    /// A reader was told of what its group missed. It claims nothing with it.
    pub(super) fn tell(&mut self, reader: usize, metrics: &Metrics, what: &str) {
        let group = self.members[&reader].group;
        self.group_mut(group).gaps.clear();
        assert_eq!(lag_of(metrics), self.lag(), "{what}: something was claimed");
    }

    /// A reader that was to answer with a value claimed it, and some more, perhaps.
    pub(super) fn claim(&mut self, reader: usize, most: u64, metrics: &Metrics, what: &str) {
        let claimed = self.lag().checked_sub(lag_of(metrics)).expect("nothing is given back");
        let most = self.most(reader, most);
        let member = self.members.get_mut(&reader).expect("a member");
        let group = self.groups.get_mut(&member.group).expect("a group");
        if !group.is_shared || !member.run.is_empty() {
            return;
        }
        assert!((1..=most).contains(&claimed), "{what}: {claimed} values were claimed of at most {most}");
        let lowest = (0..group.returned.len()).min_by_key(|index| group.returned[*index].start);
        match lowest {
            Some(index) => {
                let range = &mut group.returned[index];
                assert_eq!(claimed, most.min(range.end - range.start), "{what}: of what was left behind");
                member.run = range.start..range.start + claimed;
                range.start += claimed;
                group.returned.retain(|range| !range.is_empty());
            }
            None => {
                member.run = group.head..group.head + claimed;
                group.head += claimed;
            }
        }
    }

    /// How many values a reader has in hand; `None` for a reader alone, who sees what it sees.
    pub(super) fn in_hand(&self, reader: usize) -> Option<u64> {
        let member = &self.members[&reader];
        self.groups[&member.group].is_shared.then_some(member.run.end - member.run.start)
    }

    /// A reader has read these.
    pub(super) fn read(&mut self, reader: usize, numbers: &[u64], what: &str) {
        let at = self.position(reader);
        let count = numbers.len() as u64;
        let expected = self.sent.get(at as usize..(at + count) as usize);
        assert_eq!(expected, Some(numbers), "{what}: from position {at} on");
        let member = self.members.get_mut(&reader).expect("a member");
        let group = self.groups.get_mut(&member.group).expect("a group");
        if group.is_shared {
            assert!(count <= member.run.end - member.run.start, "{what}: more than were claimed");
            member.run.start += count;
        } else {
            group.head += count;
        }
        self.consume();
    }

    /// Somebody read on, or left.
    fn consume(&mut self) {
        if self.setting.keep == Keep::UntilConsumed {
            self.consumed = self.consumed.max(self.lowest().unwrap_or(0));
        }
    }

    // ── How it stands ──

    pub(super) fn position(&self, reader: usize) -> u64 {
        let member = &self.members[&reader];
        if member.run.is_empty() { self.groups[&member.group].head } else { member.run.start }
    }

    pub(super) fn lag_of(&self, reader: usize) -> u64 {
        let member = &self.members[&reader];
        member.run.end - member.run.start + self.groups[&member.group].lag(self.end())
    }

    pub(super) fn dropped(&self, reader: usize) -> u64 {
        self.groups[&self.members[&reader].group].dropped
    }

    /// Unread by any member, over all groups.
    fn lag(&self) -> u64 {
        self.groups.values().map(|group| group.lag(self.end())).sum()
    }

    /// Name, members, lag and dropped of each group, in order.
    pub(super) fn group_rows(&self) -> Vec<(Option<String>, usize, u64, u64)> {
        let row = |(id, group): (&usize, &Group)| {
            let members = self.members.values().filter(|member| member.group == *id).count();
            (group.name.map(str::to_owned), members, group.lag(self.end()), group.dropped)
        };
        let mut rows: Vec<_> = self.groups.iter().map(row).collect();
        rows.sort_unstable();
        rows
    }

    /// How many values are alive in the ring: at least, and at most.
    pub(super) fn alive(&mut self, kept: u64) -> Range<u64> {
        let unread = self.lowest().map_or(0, |lowest| self.end() - lowest);
        let (least, most) = match (self.setting.kind, self.setting.keep) {
            (Kind::Queue, _) => {
                let held: u64 = self.runs(0).map(|run| run.end - run.start).sum();
                (self.lag() + held, self.lag() + held)
            }
            (Kind::Topic, Keep::UntilOverwritten) => {
                let all = self.end().min(self.setting.capacity);
                // What comes too late for a closed topic takes its place's old value along.
                (if self.is_closed { unread } else { all }, all)
            }
            (Kind::Topic, Keep::UntilConsumed) if self.groups.is_empty() => {
                // Nobody is there to consume: it is what a reader could begin with.
                assert!(self.end() - kept >= self.consumed, "what was consumed is kept");
                self.consumed = self.end() - kept;
                (kept, kept)
            }
            (Kind::Topic, Keep::UntilConsumed) => (unread, (self.end() - self.consumed).min(self.setting.capacity)),
        };
        least..most + 1
    }
}

fn lag_of(metrics: &Metrics) -> u64 {
    metrics.groups.iter().map(|group| group.lag).sum()
}

impl Group {
    fn new(name: Option<&'static str>, head: u64, is_lossy: bool, is_shared: bool) -> Self {
        let (returned, gaps) = (Vec::new(), Vec::new());
        Self { name, head, is_lossy, is_shared, returned, gaps, dropped: 0, may_go_to: 0 }
    }

    fn lag(&self, end: u64) -> u64 {
        end - self.head + self.returned.iter().map(|range| range.end - range.start).sum::<u64>()
    }

    fn miss(&mut self, missed: Range<u64>) {
        self.dropped += missed.end - missed.start;
        self.gaps.extend((!missed.is_empty()).then_some(missed));
    }

    /// Values that were missed, of which no member was told.
    fn untold(&self) -> u64 {
        self.gaps.iter().map(|gap| gap.end - gap.start).sum()
    }
}
