//! Every order in which two or three threads can meet in a multicast ring of two or four places, up to a bound on
//! preemptions. See `ring::loom_tests` for how they are run and what keeps them honest.

use std::future::Future;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use loom::thread::{JoinHandle, spawn};

use crate::config::{OnFull, WaitStrategy};
use crate::ring::loom_tests::{Twin, assert_once_and_in_order, explore, explore_within};
use crate::ring::multicast::groups::{Joining, Start};
use crate::ring::multicast::policy::{Keeping, Policy};
use crate::ring::multicast::reader::{Reader, Stop};
use crate::ring::multicast::ring::Ring;
use crate::ring::multicast::slots::Layout;
use crate::ring::multicast::writer::{Refusal, Writer};
use crate::ring::seeded::Bug;
use crate::time::Deadline;

/// A ring of two places that blocks its writers and keeps values until they are overwritten.
const BLOCKING: Policy = Policy {
    capacity: 2,
    layout: Layout::Flags,
    on_full: OnFull::Block,
    keeping: Keeping::UntilOverwritten,
    closes_after_writers: false,
};

fn ring(policy: Policy) -> Arc<Ring<u32>> {
    Arc::new(Ring::new(policy).expect("there is memory for a few places"))
}

fn writer(ring: &Arc<Ring<u32>>) -> Writer<u32> {
    ring.writer(WaitStrategy::Park).expect("the layout allows for one more writer")
}

/// A reader of its own group, from the beginning on.
fn reader(ring: &Arc<Ring<u32>>) -> Reader<u32> {
    let joining = Joining { group: None, start: Start::Oldest, is_lossy: false, prefetch: 1 };
    ring.reader(&joining, WaitStrategy::Park)
}

/// A member of the group that all members share, which takes up to `prefetch` values at a time.
fn member(ring: &Arc<Ring<u32>>, prefetch: u64) -> Reader<u32> {
    let joining = Joining { group: Some("g".into()), start: Start::Oldest, is_lossy: false, prefetch };
    ring.reader(&joining, WaitStrategy::Park)
}

/// Fills the ring of two, before any other thread is there.
fn fill(writer: &mut Writer<u32>) {
    assert_eq!(send_what_fits(writer, [0, 1]), [0, 1]);
}

/// Sends what there is room for at the moment, and says what that was.
fn send_what_fits(writer: &mut Writer<u32>, values: impl IntoIterator<Item = u32>) -> Vec<u32> {
    values.into_iter().filter(|value| writer.try_reserve().is_ok() && writer.put(*value).is_ok()).collect()
}

/// Sends all, waiting for room.
fn send(writer: &mut Writer<u32>, values: impl IntoIterator<Item = u32>) {
    for value in values {
        writer.reserve(Deadline::never()).expect("nobody closes the ring");
        writer.put(value).expect("nobody closes the ring");
    }
}

/// What can be read at once, in at most so many `questions`.
fn read_what_is_there(reader: &mut Reader<u32>, questions: usize) -> Vec<u32> {
    let mut seen = Vec::new();
    for _ in 0..questions {
        if reader.ready() == Some(Ok(())) {
            reader.read(|value| seen.push(*value));
        }
    }
    seen
}

/// As [`read_what_is_there`], where values are taken out.
fn take_what_is_there(reader: &mut Reader<u32>, questions: usize) -> Vec<u32> {
    (0..questions).filter_map(|_| (reader.ready() == Some(Ok(()))).then(|| reader.take())).collect()
}

/// Waits for `count` values.
fn read(reader: &mut Reader<u32>, count: usize) -> Vec<u32> {
    let mut next = || {
        assert_eq!(reader.wait(Deadline::never()), Some(Ok(())), "a value comes before the end");
        reader.read(|value| *value)
    };
    (0..count).map(|_| next()).collect()
}

/// Reads until the ring is closed.
fn read_to_the_end(reader: &mut Reader<u32>) -> Vec<u32> {
    let mut seen = Vec::new();
    while reader.wait(Deadline::never()) == Some(Ok(())) {
        reader.read(|value| seen.push(*value));
    }
    seen
}

fn join<R>(thread: JoinHandle<R>) -> R {
    thread.join().expect("no thread of a model panics")
}

fn sorted(values: impl IntoIterator<Item = u32>) -> Vec<u32> {
    let mut values: Vec<u32> = values.into_iter().collect();
    values.sort_unstable();
    values
}

// ── Room ──

/// Two writers on credit: the place of a value is not written again before it is read.
fn two_writers_and_a_reader(layout: Layout) {
    let ring = ring(Policy { layout, ..BLOCKING });
    let mut reader = reader(&ring);
    let writers = [1, 2].map(|thread| {
        let mut writer = writer(&ring);
        spawn(move || send_what_fits(&mut writer, [thread * 10, thread * 10 + 1]))
    });
    let reading = spawn(move || (read_what_is_there(&mut reader, 2), reader));
    let sent: Vec<u32> = writers.into_iter().flat_map(join).collect();
    let (mut seen, mut reader) = join(reading);
    assert!(sent.len() >= 2, "two of {sent:?} had room from the beginning");
    ring.close();
    seen.extend(read_to_the_end(&mut reader));
    assert_once_and_in_order(&seen, &sorted(sent));
}

fn two_writers_and_a_reader_by_flags() {
    two_writers_and_a_reader(Layout::Flags);
}

fn two_writers_and_a_reader_by_stamps() {
    two_writers_and_a_reader(Layout::Stamped);
}

#[test]
fn two_writers_never_overrun_a_reader_and_each_value_is_read_once() {
    explore_within(2, "ring: two writers, reader (flags)", 1_000, two_writers_and_a_reader_by_flags);
    explore_within(2, "ring: two writers, reader (stamps)", 1_000, two_writers_and_a_reader_by_stamps);
}

/// A writer that sleeps for room, and a reader that sleeps for values.
fn writer_and_reader_that_wait(layout: Layout) {
    let ring = ring(Policy { layout, ..BLOCKING });
    let (mut reader, mut writer) = (reader(&ring), writer(&ring));
    let writing = spawn(move || send(&mut writer, [10, 11, 12]));
    let reading = spawn(move || read(&mut reader, 3));
    join(writing);
    assert_eq!(join(reading), [10, 11, 12]);
}

fn writer_and_reader_that_wait_by_cursor() {
    writer_and_reader_that_wait(Layout::Cursor);
}

fn writer_and_reader_that_wait_by_flags() {
    writer_and_reader_that_wait(Layout::Flags);
}

#[test]
fn neither_a_sleeping_writer_nor_a_sleeping_reader_is_forgotten() {
    explore("ring: writer, reader that wait (cursor)", 1_000, writer_and_reader_that_wait_by_cursor);
    explore("ring: writer, reader that wait (flags)", 1_000, writer_and_reader_that_wait_by_flags);
}

/// Where nobody reads, room comes from what the other writer publishes.
fn two_writers_that_nobody_reads() {
    let ring = ring(BLOCKING);
    let writers = [1, 2].map(|thread| {
        let mut writer = writer(&ring);
        spawn(move || send(&mut writer, [thread * 10, thread * 10 + 1]))
    });
    writers.into_iter().for_each(join);
    assert_eq!(ring.sent(), 4);
    ring.close();
    let seen = read_to_the_end(&mut reader(&ring));
    assert!((1..=2).contains(&seen.len()), "a ring of two keeps up to two values: {seen:?}");
    assert_once_and_in_order(&seen, &sorted(seen.clone()));
}

#[test]
fn a_writer_that_waits_to_drop_what_another_publishes_is_told() {
    explore("ring: two writers that nobody reads", 1_000, two_writers_that_nobody_reads);
}

/// Two groups, and the values that both have read are taken out by whoever moves the gate.
fn writer_and_two_groups_that_consume() {
    let ring = ring(Policy { layout: Layout::Cursor, keeping: Keeping::UntilConsumed, ..BLOCKING });
    let mut writer = writer(&ring);
    let readers = [(); 2].map(|()| reader(&ring));
    fill(&mut writer);
    let readers = readers.map(|mut reader| spawn(move || (read_what_is_there(&mut reader, 2), reader)));
    let writing = spawn(move || send_what_fits(&mut writer, [2]));
    let sent = join(writing);
    ring.close();
    for reading in readers {
        let (mut seen, mut reader) = join(reading);
        seen.extend(read_to_the_end(&mut reader));
        assert_eq!(seen, [vec![0, 1], sent.clone()].concat());
    }
}

#[test]
fn a_value_is_not_taken_out_before_every_group_has_read_it() {
    explore_within(2, "ring: writer, two groups that consume", 1_000, writer_and_two_groups_that_consume);
}

// ── Groups ──

/// Members that claim and read, each asking so many times, against a writer that refreshes the gate.
fn writer_and_members(values: Range<u32>, questions: &[usize]) {
    let ring = ring(BLOCKING);
    let mut writer = writer(&ring);
    let members: Vec<_> = questions.iter().map(|questions| (*questions, member(&ring, 1))).collect();
    fill(&mut writer);
    let reading = |(questions, mut member)| spawn(move || (read_what_is_there(&mut member, questions), member));
    let members: Vec<_> = members.into_iter().map(reading).collect();
    let writing = spawn(move || send_what_fits(&mut writer, values));
    let sent = join(writing);
    ring.close();
    let mut seen = Vec::new();
    for reading in members {
        let (values, mut member) = join(reading);
        assert!(values.is_sorted(), "a member was overtaken by itself: {values:?}");
        seen.extend(values);
        seen.extend(read_to_the_end(&mut member));
    }
    assert_eq!(sorted(seen), [vec![0, 1], sent].concat(), "every item once");
}

fn writer_and_a_member() {
    writer_and_members(2..4, &[2]);
}

fn writer_and_two_members() {
    writer_and_members(2..3, &[1, 1]);
}

#[test]
fn a_claimed_value_is_held_until_its_member_has_read_it() {
    explore("ring: writer, member", 1_000, writer_and_a_member);
    explore_within(2, "ring: writer, two members", 1_000, writer_and_two_members);
}

/// A queue: a member that asks once, beside another that takes all there is, and then a writer that waits for room.
fn member_and_another_and_then_a_writer() {
    let ring = ring(Policy { layout: Layout::Cursor, keeping: Keeping::UntilTaken, ..BLOCKING });
    let mut writer = writer(&ring);
    let [mut asking, mut taking] = [(); 2].map(|()| reader(&ring));
    fill(&mut writer);
    let asking = spawn(move || (take_what_is_there(&mut asking, 1), asking));
    let taking = spawn(move || {
        let taken = take_what_is_there(&mut taking, 2);
        send(&mut writer, [2]);
        (taken, taking)
    });
    let ((asked, mut asking), (taken, _taking)) = (join(asking), join(taking));
    let rest = take_what_is_there(&mut asking, 3);
    assert_eq!(sorted([asked, taken, rest].concat()), [0, 1, 2], "every item once");
}

#[test]
fn members_take_each_value_once_and_one_that_takes_none_keeps_no_writer_asleep() {
    explore("ring: member, another and then a writer", 1_000, member_and_another_and_then_a_writer);
}

/// A member that leaves with a run in its hand, another that waits for what it leaves, and a writer for room.
fn writer_and_a_member_that_leaves() {
    let ring = ring(BLOCKING);
    let mut writer = writer(&ring);
    let mut leaving = member(&ring, 2);
    fill(&mut writer);
    assert_eq!((leaving.ready(), leaving.in_hand()), (Some(Ok(())), 2));
    let mut staying = member(&ring, 2);
    let leaving = spawn(move || leaving.read(|value| *value));
    let staying = spawn(move || read(&mut staying, 2));
    let writing = spawn(move || send(&mut writer, [2]));
    join(writing);
    let seen = [join(leaving)].into_iter().chain(join(staying));
    assert_eq!(sorted(seen), [0, 1, 2], "every item once");
}

#[test]
fn what_a_member_leaves_behind_is_read_by_another() {
    explore_within(2, "ring: writer, member that leaves, member", 1_000, writer_and_a_member_that_leaves);
}

/// A future that is dropped when its value may have come already, and then its reader, beside another member.
fn writer_and_a_cancelled_member() {
    let ring = ring(BLOCKING);
    let mut writer = writer(&ring);
    let [mut cancelled, mut staying] = [(); 2].map(|()| member(&ring, 2));
    let cancelled = spawn(move || {
        // Either pending, and it is taken back; or it has claimed the value, which the reader gives back.
        let _ = pin!(cancelled.wait_async(1)).poll(&mut Context::from_waker(Waker::noop()));
    });
    let staying = spawn(move || read(&mut staying, 1));
    let writing = spawn(move || send(&mut writer, [7]));
    join(cancelled);
    join(writing);
    assert_eq!(join(staying), [7]);
}

#[test]
fn a_cancelled_member_takes_neither_a_value_nor_a_wake_up_along() {
    explore_within(2, "ring: writer, cancelled member, member", 1_000, writer_and_a_cancelled_member);
}

/// A group begun while two writers are at work.
fn two_writers_and_a_group_that_joins(start: Start, layout: Layout) {
    let ring = ring(Policy { layout, ..BLOCKING });
    let writers = [1, 2].map(|thread| {
        let mut writer = writer(&ring);
        spawn(move || send_what_fits(&mut writer, [thread * 10, thread * 10 + 1]))
    });
    let joined = Arc::clone(&ring);
    let joining = spawn(move || {
        let joining = Joining { group: None, start, is_lossy: false, prefetch: 1 };
        let mut reader = joined.reader(&joining, WaitStrategy::Park);
        let begin = reader.position();
        (begin, read_what_is_there(&mut reader, 2), reader)
    });
    let sent: Vec<u32> = writers.into_iter().flat_map(join).collect();
    let (begin, mut seen, mut reader) = join(joining);
    ring.close();
    seen.extend(read_to_the_end(&mut reader));
    assert_eq!(begin + seen.len() as u64, sent.len() as u64, "all from its beginning on: {seen:?} of {sent:?}");
    assert_once_and_in_order(&seen, &sorted(seen.clone()));
}

fn two_writers_and_a_group_at_the_end() {
    two_writers_and_a_group_that_joins(Start::Latest, Layout::Flags);
}

fn two_writers_and_a_group_at_the_beginning() {
    two_writers_and_a_group_that_joins(Start::Oldest, Layout::Stamped);
}

#[test]
fn a_group_that_joins_reads_all_from_where_it_began() {
    explore_within(2, "ring: two writers, join at the end", 1_000, two_writers_and_a_group_at_the_end);
    explore_within(2, "ring: two writers, join at the beginning", 1_000, two_writers_and_a_group_at_the_beginning);
}

// ── Dropping the oldest ──

/// Sends what there is room for, in so many attempts. Values count from `next` on, so that each says its position.
fn send_positions(writer: &mut Writer<u32>, attempts: usize, next: u64) -> u64 {
    (0..attempts).fold(next, |next, _| {
        next + u64::from(writer.try_reserve().is_ok() && writer.put(next.try_into().expect("few values")).is_ok())
    })
}

/// Reads what is there, and counts what it is told it missed.
fn read_and_miss(reader: &mut Reader<u32>, questions: usize, position: &mut u64) {
    for _ in 0..questions {
        match reader.ready() {
            Some(Ok(())) => {
                let value = reader.read(|value| u64::from(*value));
                assert_eq!(value, *position, "what was missed is told before the value behind it");
                *position += 1;
            }
            Some(Err(Stop::Lagged(missed))) => *position += missed,
            Some(Err(Stop::Closed)) | None => {}
        }
    }
}

/// A writer that drops what a reader may be about to claim.
fn writer_that_drops_and_a_reader(layout: Layout) {
    let ring = ring(Policy { layout, on_full: OnFull::DropOldest, ..BLOCKING });
    let (mut reader, mut writer) = (reader(&ring), writer(&ring));
    fill(&mut writer);
    let writing = spawn(move || send_positions(&mut writer, 3, 2));
    let reading = spawn(move || {
        let mut position = 0;
        read_and_miss(&mut reader, 2, &mut position);
        (position, reader)
    });
    let sent = join(writing);
    let (mut position, mut reader) = join(reading);
    ring.close();
    read_and_miss(&mut reader, 6, &mut position);
    assert_eq!((position, reader.ready()), (sent, Some(Err(Stop::Closed))), "read and missed make what was sent");
}

fn writer_that_drops_and_a_reader_by_cursor() {
    writer_that_drops_and_a_reader(Layout::Cursor);
}

fn writer_that_drops_and_a_reader_by_flags() {
    writer_that_drops_and_a_reader(Layout::Flags);
}

/// A writer that asks for room for several at once drops also what lies behind the reader's claim.
fn writer_of_batches_that_drops_and_a_reader() {
    let policy = Policy { capacity: 16, layout: Layout::Cursor, on_full: OnFull::DropOldest, ..BLOCKING };
    let ring = ring(policy);
    let joining = Joining { group: None, start: Start::Oldest, is_lossy: true, prefetch: 1 };
    let mut reader = ring.reader(&joining, WaitStrategy::Park);
    let mut writer = writer(&ring);
    assert_eq!(send_what_fits(&mut writer, 0..16).len(), 16);
    let writing = spawn(move || {
        let mut values = vec![16, 17];
        let _ = writer.put_all(&mut values, Deadline::after(Duration::ZERO));
        18 - values.len() as u64
    });
    let reading = spawn(move || {
        let mut position = 0;
        read_and_miss(&mut reader, 3, &mut position);
        (position, reader)
    });
    let sent = join(writing);
    let (mut position, mut reader) = join(reading);
    ring.close();
    read_and_miss(&mut reader, 20, &mut position);
    assert_eq!(position, sent, "read and missed make what was sent");
}

#[test]
fn a_reader_that_is_made_to_miss_values_is_told_how_many() {
    explore_within(2, "ring: writer that drops, reader (cursor)", 1_000, writer_that_drops_and_a_reader_by_cursor);
    explore_within(2, "ring: writer that drops, reader (flags)", 1_000, writer_that_drops_and_a_reader_by_flags);
    explore_within(1, "ring: writer of batches that drops, reader", 1_000, writer_of_batches_that_drops_and_a_reader);
}

// ── The end ──

/// A value whose sender heard `Ok` is read before the end; one that came back is never read.
///
/// The reader does not sleep here: loom's `unpark` frees a thread also from waiting for a mutex.
fn writer_reader_and_close(layout: Layout) {
    let ring = ring(Policy { capacity: 4, layout, ..BLOCKING });
    let (mut reader, mut writer) = (reader(&ring), writer(&ring));
    let writing = spawn(move || send_what_fits(&mut writer, [10, 11]));
    let reading = spawn(move || (read_what_is_there(&mut reader, 2), reader));
    let closing = spawn(move || ring.close());
    join(closing);
    let (mut seen, mut reader) = join(reading);
    let sent = join(writing);
    seen.extend(read_to_the_end(&mut reader));
    assert_eq!(seen, sent, "every item once");
}

fn writer_reader_and_close_by_cursor() {
    writer_reader_and_close(Layout::Cursor);
}

fn writer_reader_and_close_by_flags() {
    writer_reader_and_close(Layout::Flags);
}

#[test]
fn a_closed_ring_gives_what_it_accepted_and_gives_the_rest_back() {
    explore("ring: writer, reader, close (cursor)", 1_000, writer_reader_and_close_by_cursor);
    explore("ring: writer, reader, close (flags)", 1_000, writer_reader_and_close_by_flags);
}

/// Both sleep: one for room, one of another group for a value. Neither will come.
fn writer_and_reader_that_wait_for_the_end() {
    let ring = ring(BLOCKING);
    let mut writer = writer(&ring);
    let slow = reader(&ring);
    fill(&mut writer);
    let joining = Joining { group: None, start: Start::Latest, is_lossy: false, prefetch: 1 };
    let mut waiting = ring.reader(&joining, WaitStrategy::Park);
    let writing = spawn(move || writer.reserve(Deadline::never()));
    let reading = spawn(move || waiting.wait(Deadline::never()));
    let closing = spawn(move || ring.close());
    join(closing);
    assert_eq!(join(writing), Err(Refusal::Closed));
    assert_eq!(join(reading), Some(Err(Stop::Closed)));
    drop(slow);
}

#[test]
fn the_end_wakes_all_who_wait() {
    explore_within(2, "ring: writer, reader that wait, close", 1_000, writer_and_reader_that_wait_for_the_end);
}

/// At the end of a closed ring a member waits for those that are still reading.
fn two_members_that_read_and_one_that_waits_for_the_end() {
    let ring = ring(BLOCKING);
    let mut writer = writer(&ring);
    let reading = [(); 2].map(|()| member(&ring, 1));
    fill(&mut writer);
    let reading = reading.map(|mut reader| {
        assert_eq!(reader.ready(), Some(Ok(())));
        reader
    });
    let mut waiting = member(&ring, 1);
    ring.close();
    let reading = reading.map(|mut reader| spawn(move || (reader.read(|value| *value), reader)));
    let waiting = spawn(move || waiting.wait(Deadline::never()));
    let [(first, _one), (second, _other)] = reading.map(join);
    assert_eq!((first, second, join(waiting)), (0, 1, Some(Err(Stop::Closed))));
}

#[test]
fn a_member_that_waits_for_the_others_hears_the_end() {
    explore("ring: two members, member at the end", 1_000, two_members_that_read_and_one_that_waits_for_the_end);
}

// ── Twins ──

/// The models that must find the bug.
pub(in crate::ring) fn models_against(bug: Bug) -> Vec<Twin> {
    match bug {
        Bug::RingPublishesRelaxed => vec![
            (two_writers_and_a_reader_by_flags, "Causality violation"),
            (two_writers_and_a_reader_by_stamps, "Causality violation"),
            (writer_reader_and_close_by_cursor, "Causality violation"),
        ],
        // A reader that was overrun waits for a value that was there.
        Bug::RingGrantsWithoutRoom => vec![
            (two_writers_and_a_reader_by_flags, "deadlock"),
            (two_writers_and_a_reader_by_stamps, "deadlock"),
            (two_writers_and_a_group_at_the_beginning, "deadlock"),
        ],
        Bug::RingReadsOn => vec![
            (two_writers_and_a_reader_by_flags, "Causality violation"),
            (writer_and_reader_that_wait_by_cursor, "Causality violation"),
            (writer_and_two_groups_that_consume, "Causality violation"),
        ],
        Bug::RingReadsSilently => vec![
            (writer_and_reader_that_wait_by_cursor, "deadlock"),
            (writer_and_reader_that_wait_by_flags, "deadlock"),
        ],
        Bug::RingPublishesSilently => vec![(two_writers_that_nobody_reads, "deadlock")],
        Bug::RingClaimsUnmarked => vec![
            (writer_and_a_member, "Causality violation"),
            (writer_that_drops_and_a_reader_by_flags, "Causality violation"),
        ],
        Bug::RingReadsMarksFirst => vec![
            (writer_and_a_member, "Causality violation"),
            (writer_that_drops_and_a_reader_by_cursor, "Causality violation"),
        ],
        Bug::RingMarksRelaxed => vec![(writer_and_a_member, "Causality violation")],
        Bug::RingLosesClaimsSilently => vec![(member_and_another_and_then_a_writer, "deadlock")],
        Bug::RingLeavesWithRun => {
            vec![(writer_and_a_member_that_leaves, "deadlock"), (writer_and_a_cancelled_member, "deadlock")]
        }
        Bug::RingEndsSilently => vec![(two_members_that_read_and_one_that_waits_for_the_end, "deadlock")],
        Bug::RingJoinsAtTail => vec![(two_writers_and_a_group_at_the_end, "Causality violation")],
        Bug::RingForgetsGaps => vec![
            (writer_that_drops_and_a_reader_by_flags, "is told before the value"),
            (writer_of_batches_that_drops_and_a_reader, "is told before the value"),
        ],
        Bug::RingClosesUnfenced | Bug::RingKeepsLateValues => vec![
            (writer_reader_and_close_by_cursor, "every item once"),
            (writer_reader_and_close_by_flags, "every item once"),
        ],
        _ => Vec::new(),
    }
}
