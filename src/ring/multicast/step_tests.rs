//! What a multicast ring does, one step after another; and what `tests` does not have of crowds: readers that come and
//! go, and the end under fire.

use std::future::Future;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

use crate::config::{OnFull, WaitStrategy};
use crate::ring::multicast::groups::{Joining, Start};
use crate::ring::multicast::policy::{Keeping, Policy};
use crate::ring::multicast::reader::{Reader, Stop};
use crate::ring::multicast::ring::Ring;
use crate::ring::multicast::slots::Layout;
use crate::ring::multicast::writer::{Refusal, Writer};
use crate::time::Deadline;

const LAYOUTS: [Layout; 3] = [Layout::Cursor, Layout::Flags, Layout::Stamped];
const KEEPINGS: [Keeping; 3] = [Keeping::UntilOverwritten, Keeping::UntilConsumed, Keeping::UntilTaken];

/// A ring of four places that blocks its writers and keeps values until they are overwritten.
const BLOCKING: Policy = Policy {
    capacity: 4,
    layout: Layout::Flags,
    on_full: OnFull::Block,
    keeping: Keeping::UntilOverwritten,
    closes_after_writers: false,
};

fn each_policy() -> impl Iterator<Item = Policy> {
    LAYOUTS.into_iter().flat_map(|layout| KEEPINGS.map(|keeping| Policy { layout, keeping, ..BLOCKING }))
}

fn new_ring<T>(policy: Policy) -> Arc<Ring<T>> {
    Arc::new(Ring::new(policy).expect("there is memory for a few places"))
}

fn new_writer<T>(ring: &Arc<Ring<T>>) -> Writer<T> {
    ring.writer(WaitStrategy::Park).map_err(|refusal| format!("{refusal:?}")).expect("there is room for one more")
}

fn new_reader<T>(ring: &Arc<Ring<T>>, joining: &Joining) -> Reader<T> {
    ring.reader(joining, WaitStrategy::Park)
}

/// How to be the only member of a group, from the oldest value on.
fn alone() -> Joining {
    Joining { group: None, start: Start::Oldest, is_lossy: false, prefetch: 1 }
}

fn of_group(name: &str) -> Joining {
    Joining { group: Some(name.into()), ..alone() }
}

/// Sends what there is room for; the rest comes back.
fn send<T>(writer: &mut Writer<T>, values: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.into_iter().collect();
    let _ = writer.try_put_all(&mut values);
    values
}

/// Reads what is there. What was missed is an error.
fn read<T: Sync + Clone>(reader: &mut Reader<T>) -> Vec<Result<T, u64>> {
    let mut seen = Vec::new();
    loop {
        match reader.ready() {
            Some(Ok(())) => seen.push(Ok(reader.read(T::clone))),
            Some(Err(Stop::Lagged(missed))) => seen.push(Err(missed)),
            Some(Err(Stop::Closed)) | None => return seen,
        }
    }
}

fn oks(values: Range<i32>) -> Vec<Result<i32, u64>> {
    values.map(Ok).collect()
}

/// What was missed, and then what was read.
fn missed_and(missed: u64, values: Range<i32>) -> Vec<Result<i32, u64>> {
    [vec![Err(missed)], oks(values)].concat()
}

fn panics<R>(step: impl FnOnce() -> R) -> bool {
    catch_unwind(AssertUnwindSafe(step)).is_err()
}

/// Counts for each value how often it was dropped.
#[derive(Clone)]
struct Drops(Arc<Vec<AtomicUsize>>);

impl Drops {
    fn of(values: usize) -> Self {
        Self(Arc::new((0..values).map(|_| AtomicUsize::new(0)).collect()))
    }

    fn values(&self, numbers: Range<usize>) -> Vec<Tracked> {
        numbers.map(|number| Tracked { number, drops: self.clone(), is_bomb: false }).collect()
    }

    /// Values that panic when they are dropped.
    fn bombs(&self, numbers: Range<usize>) -> Vec<Tracked> {
        numbers.map(|number| Tracked { number, drops: self.clone(), is_bomb: true }).collect()
    }

    fn value(&self, number: usize) -> Tracked {
        Tracked { number, drops: self.clone(), is_bomb: false }
    }

    fn counts(&self) -> Vec<usize> {
        self.0.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }
}

struct Tracked {
    number: usize,
    drops: Drops,
    is_bomb: bool,
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.drops.0[self.number].fetch_add(1, Ordering::Relaxed);
        if self.is_bomb && !thread::panicking() {
            resume_unwind(Box::new("a bomb"));
        }
    }
}

/// Reads, or takes out, up to `count` values.
fn consume(reader: &mut Reader<Tracked>, keeping: Keeping, count: usize) -> Vec<usize> {
    let mut seen = Vec::new();
    while seen.len() < count && reader.ready() == Some(Ok(())) {
        seen.push(match keeping {
            Keeping::UntilTaken => reader.take().number,
            Keeping::UntilOverwritten | Keeping::UntilConsumed => reader.read(|value| value.number),
        });
    }
    seen
}

// ── Values come and go ──

#[test]
fn each_value_is_dropped_once_however_far_it_came() {
    for policy in each_policy() {
        for read in 0..=7 {
            let drops = Drops::of(7);
            let ring = new_ring(policy);
            let (mut writer, mut reader) = (new_writer(&ring), new_reader(&ring, &alone()));
            assert_eq!(send(&mut writer, drops.values(0..4)).len(), 0);
            let mut seen = consume(&mut reader, policy.keeping, read.min(3));
            let rest = send(&mut writer, drops.values(4..7));
            assert_eq!(rest.len(), 3 - seen.len(), "{policy:?}: there is room for as many as were read");
            seen.extend(consume(&mut reader, policy.keeping, read - seen.len()));
            assert!(seen.iter().copied().eq(0..read.min(4 + read.min(3))), "{policy:?}: {seen:?}");
            drop((rest, reader, writer, ring));
            assert_eq!(drops.counts(), [1; 7], "{policy:?}, {read} were read");
        }
    }
}

#[test]
fn a_value_is_dropped_when_its_keeping_says() {
    for policy in each_policy() {
        let drops = Drops::of(5);
        let ring = new_ring(policy);
        let (mut writer, mut reader) = (new_writer(&ring), new_reader(&ring, &alone()));
        assert_eq!(send(&mut writer, drops.values(0..4)).len(), 0);
        assert_eq!(consume(&mut reader, policy.keeping, 2), [0, 1]);
        let after_reading = drops.counts();
        assert_eq!(send(&mut writer, drops.values(4..5)).len(), 0);
        let (then, now) = match policy.keeping {
            Keeping::UntilOverwritten => ([0, 0, 0, 0, 0], [1, 0, 0, 0, 0]),
            Keeping::UntilConsumed | Keeping::UntilTaken => ([1, 1, 0, 0, 0], [1, 1, 0, 0, 0]),
        };
        assert_eq!((after_reading, drops.counts()), (then.to_vec(), now.to_vec()), "{policy:?}");
    }
}

#[test]
fn what_comes_too_late_for_a_closed_ring_comes_back_and_nothing_is_dropped_twice() {
    for policy in each_policy() {
        let drops = Drops::of(8);
        let ring = new_ring(policy);
        let (mut writer, mut reader) = (new_writer(&ring), new_reader(&ring, &alone()));
        assert_eq!(send(&mut writer, drops.values(0..4)).len(), 0);
        assert_eq!(consume(&mut reader, policy.keeping, 3), [0, 1, 2]);
        assert_eq!(writer.try_reserve(), Ok(()));
        ring.close();
        // It passes through a place whose value was read: that one is dropped, the late one comes back.
        let late = writer.put(drops.value(4)).expect_err("the ring is closed");
        assert_eq!(late.number, 4);
        let mut rest = drops.values(5..8);
        assert_eq!(writer.try_put_all(&mut rest), Err(Refusal::Closed), "{policy:?}");
        assert!(rest.iter().map(|value| value.number).eq(5..8), "{policy:?}: all come back, in their order");
        assert_eq!(consume(&mut reader, policy.keeping, 9), [3]);
        assert_eq!((reader.ready(), ring.sent(), reader.lag()), (Some(Err(Stop::Closed)), 4, 0), "{policy:?}");
        drop((late, rest, reader, writer, ring));
        assert_eq!(drops.counts(), [1; 8], "{policy:?}");
    }
}

#[test]
fn a_queue_that_is_dropped_drops_also_what_members_left_behind() {
    let drops = Drops::of(4);
    let ring = new_ring(Policy { keeping: Keeping::UntilTaken, ..BLOCKING });
    let (mut writer, mut leaving) = (new_writer(&ring), new_reader(&ring, &Joining { prefetch: 3, ..alone() }));
    assert_eq!(send(&mut writer, drops.values(0..4)).len(), 0);
    assert_eq!(consume(&mut leaving, Keeping::UntilTaken, 1), [0]);
    assert_eq!(leaving.in_hand(), 2);
    drop((leaving, ring, writer));
    assert_eq!(drops.counts(), [1; 4]);
}

#[test]
fn a_reader_that_leaves_takes_nothing_along_that_nobody_has_read() {
    let drops = Drops::of(3);
    let ring = new_ring(Policy { capacity: 16, keeping: Keeping::UntilConsumed, ..BLOCKING });
    let (mut writer, leaving) = (new_writer(&ring), new_reader(&ring, &alone()));
    assert_eq!(send(&mut writer, drops.values(0..3)).len(), 0);
    drop(leaving);
    assert_eq!((drops.counts(), ring.depth()), (vec![0; 3], 3));
    assert_eq!(consume(&mut new_reader(&ring, &alone()), Keeping::UntilConsumed, 9), [0, 1, 2]);
}

// ── Panics of strangers ──

#[test]
fn an_overwritten_value_whose_drop_panics_takes_neither_a_place_nor_another_value_along() {
    for layout in LAYOUTS {
        let drops = Drops::of(8);
        let ring = new_ring(Policy { layout, ..BLOCKING });
        let (mut writer, mut reader) = (new_writer(&ring), new_reader(&ring, &alone()));
        assert_eq!(send(&mut writer, drops.bombs(0..4)).len(), 0);
        assert_eq!(consume(&mut reader, Keeping::UntilOverwritten, 4), [0, 1, 2, 3]);
        assert_eq!(writer.try_reserve(), Ok(()), "all was read");
        let next = drops.value(4);
        assert!(panics(|| writer.put(next).is_ok()), "the bomb's panic goes on");
        let mut batch = drops.values(5..8);
        while !batch.is_empty() {
            assert!(panics(|| writer.try_put_all(&mut batch)), "as does one that a batch overwrites");
        }
        assert_eq!(consume(&mut reader, Keeping::UntilOverwritten, 9), [4, 5, 6, 7], "{layout:?}");
        drop((reader, writer, ring));
        assert_eq!(drops.counts(), [1; 8], "{layout:?}");
    }
}

#[test]
fn a_consumed_value_whose_drop_panics_leaves_its_room_and_the_writer_is_told() {
    let drops = Drops::of(4);
    let ring = new_ring(Policy { keeping: Keeping::UntilConsumed, ..BLOCKING });
    let (mut writer, mut reader) = (new_writer(&ring), new_reader(&ring, &alone()));
    assert_eq!(send(&mut writer, drops.bombs(0..1).into_iter().chain(drops.values(1..4))).len(), 0);
    let (woken, mut blocked) = (Arc::new(Woken::default()), pin!(writer.reserve_async()));
    let waker = Waker::from(Arc::clone(&woken));
    assert!(blocked.as_mut().poll(&mut Context::from_waker(&waker)).is_pending(), "the ring is full");
    assert_eq!(reader.ready(), Some(Ok(())));
    assert!(panics(|| reader.read(|_| ())), "the bomb's panic goes on");
    assert_eq!((woken.times(), drops.counts()), (1, vec![1, 0, 0, 0]));
    assert!(blocked.as_mut().poll(&mut Context::from_waker(&waker)).is_ready(), "there is room for one");
}

#[test]
fn credit_is_not_lost_to_a_dropped_value_whose_drop_panics() {
    let drops = Drops::of(8);
    let ring = new_ring(Policy { keeping: Keeping::UntilTaken, on_full: OnFull::DropOldest, ..BLOCKING });
    let (mut writer, mut reader) = (new_writer(&ring), new_reader(&ring, &alone()));
    assert_eq!(send(&mut writer, drops.bombs(0..4)).len(), 0);
    assert!(panics(|| writer.try_reserve()), "the dropped bomb's panic goes on");
    assert_eq!(reader.ready(), Some(Err(Stop::Lagged(1))));
    for _ in 1..4 {
        assert_eq!(reader.ready(), Some(Ok(())));
        std::mem::forget(reader.take());
    }
    assert_eq!(send(&mut writer, drops.values(4..8)).len(), 0, "the whole ring is there");
    assert_eq!(consume(&mut reader, Keeping::UntilTaken, 9), [4, 5, 6, 7], "none was dropped for room");
}

#[test]
fn a_visitor_that_panics_has_read_its_value_and_leaves_the_rest() {
    for joining in [alone(), Joining { prefetch: 4, ..of_group("g") }] {
        let ring = new_ring(Policy { capacity: 32, ..BLOCKING });
        let (mut writer, mut reader) = (new_writer(&ring), new_reader(&ring, &joining));
        assert_eq!(send(&mut writer, 0..4), []);
        assert_eq!(reader.ready(), Some(Ok(())));
        let mut seen = Vec::new();
        let visit = |value: &i32| {
            seen.push(*value);
            if *value == 1 {
                resume_unwind(Box::new("a visitor"));
            }
        };
        assert!(panics(|| reader.visit(9, visit)), "the visitor's panic goes on");
        assert_eq!((seen, reader.in_hand()), (vec![0, 1], 2));
        assert_eq!(send(&mut writer, 4..35), [34], "what was visited leaves its room");
        assert_eq!(read(&mut reader), oks(2..34));
    }
}

// ── Groups ──

#[test]
fn a_member_that_leaves_gives_the_rest_of_its_run_to_the_others() {
    for max in [1, 2, u64::MAX] {
        let ring = new_ring(BLOCKING);
        let (mut writer, mut leaving) =
            (new_writer(&ring), new_reader(&ring, &Joining { prefetch: 4, ..of_group("g") }));
        assert_eq!(send(&mut writer, 0..4), []);
        assert_eq!((leaving.ready(), leaving.in_hand()), (Some(Ok(())), 4));
        leaving.read(|_| ());
        let mut staying = new_reader(&ring, &of_group("g"));
        assert_eq!((staying.ready_many(max), staying.lag()), (None, 0));
        drop(leaving);
        assert_eq!((staying.lag(), ring.depth(), ring.group_states()[0].members), (3, 3, 1));
        assert_eq!(send(&mut writer, 4..7), [5, 6], "what was left behind keeps its places");
        let mut seen = Vec::new();
        while staying.ready_many(max) == Some(Ok(())) {
            staying.visit(max, |value| seen.push(*value));
        }
        assert_eq!((seen, staying.lag(), ring.depth()), (vec![1, 2, 3, 4], 0, 0), "{max} at a time");
    }
}

#[test]
fn a_member_does_not_hear_the_end_before_it_has_what_another_leaves_behind() {
    let ring = new_ring(BLOCKING);
    let (mut writer, mut leaving) = (new_writer(&ring), new_reader(&ring, &of_group("g")));
    assert_eq!(send(&mut writer, 0..1), []);
    assert_eq!(leaving.ready(), Some(Ok(())));
    let mut staying = new_reader(&ring, &of_group("g"));
    ring.close();
    assert_eq!(staying.ready(), None, "another has the last value in its hand");
    drop(leaving);
    assert_eq!((read(&mut staying), staying.ready()), (oks(0..1), Some(Err(Stop::Closed))));
}

#[test]
fn a_queue_that_may_miss_values_drops_also_what_a_member_left_behind() {
    let drops = Drops::of(6);
    let ring = new_ring(Policy { keeping: Keeping::UntilTaken, on_full: OnFull::DropOldest, ..BLOCKING });
    let (mut writer, mut leaving) = (new_writer(&ring), new_reader(&ring, &alone()));
    assert_eq!(send(&mut writer, drops.values(0..4)).len(), 0);
    assert_eq!((leaving.ready(), leaving.in_hand()), (Some(Ok(())), 1));
    assert_eq!(send(&mut writer, drops.values(4..5)).len(), 1, "nobody can drop what a member holds");
    drop(leaving);
    assert_eq!(drops.counts(), [0, 0, 0, 0, 1, 0]);
    assert_eq!(send(&mut writer, drops.values(5..6)).len(), 0, "nobody is left to hold it");
    assert_eq!(drops.counts(), [1, 0, 0, 0, 1, 0]);
    let mut late = new_reader(&ring, &alone());
    assert_eq!(late.ready(), Some(Err(Stop::Lagged(1))), "who comes late is told what its group missed");
    assert_eq!(consume(&mut late, Keeping::UntilTaken, 9), [1, 2, 3, 5]);
}

#[test]
fn what_a_group_missed_is_told_where_it_was_and_also_right_before_the_end() {
    for layout in LAYOUTS {
        let ring = new_ring(Policy { layout, ..BLOCKING });
        let mut writer = new_writer(&ring);
        let mut lossy = new_reader(&ring, &Joining { is_lossy: true, ..alone() });
        assert_eq!(send(&mut writer, 0..7), []);
        assert_eq!(read(&mut lossy), missed_and(3, 3..7), "{layout:?}");
        assert_eq!(send(&mut writer, 7..11), []);
        // Room for a value that is then not sent.
        assert_eq!(writer.try_reserve(), Ok(()), "a group that may miss values holds nobody back");
        ring.close();
        assert_eq!(read(&mut lossy), missed_and(1, 8..11), "{layout:?}");
        assert_eq!((lossy.ready(), lossy.missed(), lossy.lag()), (Some(Err(Stop::Closed)), 4, 0), "{layout:?}");
    }
}

#[test]
fn a_group_that_missed_all_the_rest_is_told_before_the_end() {
    let ring = new_ring(Policy { capacity: 2, ..BLOCKING });
    let mut writers = [(); 2].map(|()| new_writer(&ring));
    let mut lossy = new_reader(&ring, &Joining { is_lossy: true, ..alone() });
    assert_eq!(send(&mut writers[0], 0..2), []);
    writers.iter_mut().for_each(|writer| assert_eq!(writer.try_reserve(), Ok(())));
    ring.close();
    assert_eq!((read(&mut lossy), lossy.ready()), (vec![Err(2)], Some(Err(Stop::Closed))));
}

#[test]
fn a_group_that_misses_nothing_holds_the_writer_back_and_spares_the_others() {
    let ring = new_ring(BLOCKING);
    let mut writer = new_writer(&ring);
    let mut slow = new_reader(&ring, &alone());
    let mut lossy = new_reader(&ring, &Joining { is_lossy: true, ..alone() });
    assert_eq!(send(&mut writer, 0..6), [4, 5]);
    assert_eq!(lossy.missed(), 0, "dropping would have been in vain");
    assert_eq!(read(&mut slow), oks(0..4));
    assert_eq!(send(&mut writer, 4..6), []);
    assert_eq!(read(&mut lossy), missed_and(2, 2..6));
}

#[test]
fn groups_begin_where_they_say() {
    for layout in LAYOUTS {
        let ring = new_ring(Policy { layout, ..BLOCKING });
        let mut writer = new_writer(&ring);
        assert_eq!(send(&mut writer, 0..6), [], "without a group nobody holds the writer back");
        let mut latest = new_reader(&ring, &Joining { start: Start::Latest, ..alone() });
        let mut oldest = new_reader(&ring, &alone());
        assert_eq!((latest.position(), latest.lag(), oldest.lag()), (6, 0, 4), "{layout:?}");
        assert_eq!(read(&mut oldest), oks(2..6), "{layout:?}");
        assert_eq!(send(&mut writer, 6..7), []);
        assert_eq!((read(&mut latest), read(&mut oldest)), (oks(6..7), oks(6..7)), "{layout:?}");
    }
}

#[test]
fn lag_depth_and_counts_say_how_far_everybody_is() {
    let ring = new_ring(Policy { capacity: 8, ..BLOCKING });
    let mut writer = new_writer(&ring);
    let (mut fast, slow) = (new_reader(&ring, &of_group("fast")), new_reader(&ring, &of_group("slow")));
    assert_eq!(send(&mut writer, 0..5), []);
    assert_eq!(read(&mut fast), oks(0..5));
    assert_eq!((ring.sent(), ring.depth(), fast.lag(), slow.lag()), (5, 5, 0, 5));
    let states: Vec<_> = ring.group_states().into_iter().map(|it| (it.name, it.members, it.lag, it.dropped)).collect();
    assert_eq!(states, [(Some("fast".into()), 1, 0, 0), (Some("slow".into()), 1, 5, 0)]);
    drop(slow);
    assert_eq!((ring.depth(), ring.group_states().len(), ring.writer_count()), (0, 1, 1));
}

// ── Writers ──

#[test]
fn a_ring_of_one_writer_refuses_a_second_until_the_first_has_left() {
    let ring = new_ring(Policy { layout: Layout::Cursor, ..BLOCKING });
    let mut reader = new_reader(&ring, &alone());
    let mut first = new_writer(&ring);
    assert_eq!(ring.writer(WaitStrategy::Park).err(), Some(Refusal::Full));
    assert_eq!(send(&mut first, 0..2), []);
    drop(first);
    assert_eq!(send(&mut new_writer(&ring), 2..5), [4], "what the first had not used is there for the second");
    assert_eq!(read(&mut reader), oks(0..4));
}

#[test]
fn a_ring_closes_after_its_last_writer() {
    let ring = new_ring(Policy { closes_after_writers: true, ..BLOCKING });
    let mut reader = new_reader(&ring, &alone());
    for (value, mut leaving) in (0..).zip([(); 2].map(|()| new_writer(&ring))) {
        assert!(!ring.is_closed(), "{value} writers have left");
        assert_eq!(send(&mut leaving, [value]), []);
    }
    assert!(ring.is_closed());
    assert_eq!(ring.writer(WaitStrategy::Park).err(), Some(Refusal::Closed));
    assert_eq!((read(&mut reader), reader.ready()), (oks(0..2), Some(Err(Stop::Closed))));
}

#[test]
fn copies_are_sent_as_far_as_there_is_room_until_the_deadline() {
    for layout in LAYOUTS {
        let ring = new_ring(Policy { layout, ..BLOCKING });
        let (mut writer, mut reader) = (new_writer(&ring), new_reader(&ring, &alone()));
        let now = Deadline::after(Duration::ZERO);
        assert_eq!(writer.put_copies(&[0, 1, 2, 3, 4, 5], now), Err((Refusal::Full, 4)), "{layout:?}");
        assert_eq!(read(&mut reader), oks(0..4));
        assert_eq!(writer.put_copies(&[4, 5], now), Ok(()));
        ring.close();
        assert_eq!(writer.put_copies(&[6, 7], now), Err((Refusal::Closed, 0)), "{layout:?}");
        assert_eq!(read(&mut reader), oks(4..6), "{layout:?}");
    }
}

/// One that asks for much sleeps beside a reader that goes on only when it has got what there is.
#[test]
fn a_writer_that_waits_for_much_takes_what_there_is() {
    let ring = new_ring(Policy { capacity: 64, ..BLOCKING });
    let (mut writer, mut reader) = (new_writer(&ring), new_reader(&ring, &alone()));
    let ends = thread::scope(|scope| {
        let mut values: Vec<i32> = (0..500).collect();
        let writing = scope.spawn(move || writer.put_all(&mut values, Deadline::never()));
        let mut ends = 64;
        for next in 0..436 {
            while ring.sent() < ends {
                thread::yield_now();
            }
            assert_eq!(reader.wait(Deadline::never()), Some(Ok(())));
            assert_eq!(reader.read(|value| *value), next);
            ends += 1;
        }
        assert_eq!(writing.join().expect("the writer does not panic"), Ok(()));
        ends
    });
    assert_eq!((ends, ring.sent()), (500, 500));
}

// ── Tasks ──

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Woken {
    fn times(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

#[test]
fn a_future_owns_no_value_before_it_is_ready() {
    let ring = new_ring(BLOCKING);
    let mut writer = new_writer(&ring);
    let [mut dropped, mut staying] = [(); 2].map(|()| new_reader(&ring, &of_group("g")));
    let woken = [(); 2].map(|()| Arc::new(Woken::default()));
    let wakers = [0, 1].map(|index: usize| Waker::from(Arc::clone(&woken[index])));
    {
        let mut waiting = pin!(staying.wait_async(1));
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&wakers[1])).is_pending());
        {
            let mut cancelled = pin!(dropped.wait_async(1));
            assert!(cancelled.as_mut().poll(&mut Context::from_waker(&wakers[0])).is_pending());
            assert_eq!(send(&mut writer, 7..8), []);
            assert_eq!((woken[0].times(), woken[1].times()), (1, 1), "both are told");
        }
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&wakers[1])).is_ready(), "what was there still is");
    }
    assert_eq!(read(&mut staying), oks(7..8));
}

// ── Crowds ──

/// Twice and more the cores of the machines that this runs on: somebody is always interrupted in the middle.
const CROWD: u64 = 5;
const EACH: u64 = if cfg!(miri) { 40 } else { 2_000 };

/// A value says which writer it is from, and how many that one sent before.
fn value(writer: u64, number: u64) -> u64 {
    writer << 32 | number
}

/// Joins, reads a little and leaves, until all writers have left.
fn come_and_go(ring: &Arc<Ring<u64>>, joining: &Joining, left: &AtomicU64) {
    while left.load(Ordering::Relaxed) > 0 {
        let mut reader = new_reader(ring, joining);
        let mut last = [None; CROWD as usize];
        let mut see = |value: &u64| {
            let (writer, number) = ((value >> 32) as usize, value & u64::from(u32::MAX));
            // In a shared group, what another left behind may come after what is newer.
            let is_late = joining.group.is_none() && last[writer] >= Some(number);
            assert!(!is_late, "writer {writer}: {number} after {last:?}");
            last[writer] = Some(number);
        };
        for _ in 0..5 {
            if reader.ready() == Some(Ok(())) {
                reader.visit(2, &mut see);
            }
        }
    }
}

#[test]
fn readers_that_come_and_go_hold_nobody_up_and_see_every_writer_in_order() {
    let rings = LAYOUTS.into_iter().flat_map(|layout| [2, 16].map(|capacity| Policy { capacity, layout, ..BLOCKING }));
    for policy in rings {
        let writers = if policy.layout == Layout::Cursor { 1 } else { CROWD };
        let ring = &new_ring(policy);
        let left = &AtomicU64::new(writers);
        let write = |mut writer: Writer<u64>, own| {
            for number in 0..EACH {
                writer.reserve(Deadline::never()).expect("nobody closes it");
                writer.put(value(own, number)).expect("nobody closes it");
            }
            left.fetch_sub(1, Ordering::Relaxed);
        };
        thread::scope(|scope| {
            let mut threads = Vec::new();
            for own in 0..writers {
                let writer = new_writer(ring);
                threads.push(scope.spawn(move || write(writer, own)));
            }
            for own in 0..CROWD {
                let start = if own < 2 { Start::Latest } else { Start::Oldest };
                let group = (own % 2 == 0).then(|| Arc::from("g"));
                let joining = Joining { group, start, is_lossy: own == 3, prefetch: 4 };
                threads.push(scope.spawn(move || come_and_go(ring, &joining, left)));
            }
            // One by one: ThreadSanitizer does not see the scope wait.
            threads.into_iter().for_each(|thread| thread.join().expect("no thread panics"));
        });
        assert_eq!(ring.sent(), writers * EACH, "{policy:?}");
    }
}

/// A value on the heap; all that live are counted.
struct Alive<'a>(&'a AtomicUsize, Box<u64>);

impl<'a> Alive<'a> {
    fn new(alive: &'a AtomicUsize, number: u64) -> Self {
        alive.fetch_add(1, Ordering::Relaxed);
        Self(alive, Box::new(number))
    }
}

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Sends until the ring is closed, one by one and in batches; how many were accepted.
fn send_until_closed<'a>(writer: &mut Writer<Alive<'a>>, alive: &'a AtomicUsize) -> u64 {
    let mut sent = 0;
    loop {
        if writer.reserve(Deadline::never()).is_err() || writer.put(Alive::new(alive, sent)).is_err() {
            return sent;
        }
        let mut batch: Vec<_> = (sent + 1..sent + 4).map(|number| Alive::new(alive, number)).collect();
        let outcome = writer.put_all(&mut batch, Deadline::never());
        sent += 4 - batch.len() as u64;
        if outcome.is_err() {
            return sent;
        }
    }
}

#[test]
fn a_ring_closed_under_fire_gives_each_accepted_value_to_each_group_and_drops_each_once() {
    for (policy, round) in each_policy().flat_map(|policy| (0..4).map(move |round| (policy, round))) {
        let writers = if policy.layout == Layout::Cursor { 1 } else { CROWD };
        let alive = &AtomicUsize::new(0);
        let ring = new_ring::<Alive<'_>>(Policy { capacity: 8, ..policy });
        let (sent, read) = thread::scope(|scope| {
            let readers: Vec<_> = (0..CROWD)
                .map(|own| {
                    let group = if own % 2 == 0 { "even" } else { "odd" };
                    let mut reader = new_reader(&ring, &Joining { prefetch: 2, ..of_group(group) });
                    scope.spawn(move || {
                        let mut count = 0;
                        while reader.wait(Deadline::never()).expect("there is no deadline").is_ok() {
                            match policy.keeping {
                                Keeping::UntilTaken => drop(reader.take()),
                                Keeping::UntilOverwritten | Keeping::UntilConsumed => {
                                    assert!(reader.read(|value| *value.1) < u64::MAX);
                                }
                            }
                            count += 1;
                        }
                        count
                    })
                })
                .collect();
            let writers: Vec<_> = (0..writers)
                .map(|_| {
                    let mut writer = new_writer(&ring);
                    scope.spawn(move || send_until_closed(&mut writer, alive))
                })
                .collect();
            while ring.sent() < 50 * round {
                thread::yield_now();
            }
            ring.close();
            let sent = writers.into_iter().map(|writer| writer.join().expect("no writer panics")).sum::<u64>();
            (sent, readers.into_iter().map(|reader| reader.join().expect("no reader panics")).sum::<u64>())
        });
        let groups = if policy.keeping == Keeping::UntilTaken { 1 } else { 2 };
        assert_eq!((read, ring.sent()), (sent * groups, sent), "{policy:?}");
        drop(ring);
        assert_eq!(alive.load(Ordering::Relaxed), 0, "{policy:?}");
    }
}
