//! Groups of a memory topic: they come and go, share, fall behind. What fails here in the field: a value that a leaving
//! worker had taken on itself is read by nobody, a sender waits for a reader that is gone, and a slow screen either
//! stops the feed or misses values without a word.

use std::thread;
use std::time::Duration;

use headwater::memory::{Consumer, Lagged, RecvError, Topic};
use headwater::{Keep, OnFull};

use crate::memory_support::{Scales, drain, new_topic, queue, read_to_end, spawn_asleep, take_all, topic};
use crate::support::{FOR_EVER, PATIENCE, joined, until};

/// How a named group stands: members, lag, dropped.
#[track_caller]
fn group<T>(topic: &Topic<T>, name: &str) -> (usize, u64, u64) {
    let groups = topic.metrics().groups;
    let of_name: Vec<_> = groups.iter().filter(|group| group.name.as_deref() == Some(name)).collect();
    assert_eq!(of_name.len(), 1, "{groups:?}");
    (of_name[0].members, of_name[0].lag, of_name[0].dropped)
}

// ── Sharing ──

#[test]
fn every_group_sees_every_value_and_its_members_share_them() {
    let topic = topic::<u32>(64);
    let mut members = [topic.group("a").join(), topic.group("a").join(), topic.group("a").join()];
    let (mut other, mut alone) = (topic.group("b").join(), topic.consumer());
    let mut producer = topic.producer().expect("a producer");
    producer.send_batch(&mut Vec::from_iter(0..60)).expect("room");
    // In turns: one value at a time, in order, whoever asks.
    for value in 0..30 {
        assert_eq!(members[value as usize % 3].recv(), Ok(value));
    }
    let mut rest = Vec::new();
    while rest.len() < 30 {
        for member in &mut members {
            let mut of_one = Vec::new();
            member.poll(Duration::ZERO, |value| of_one.push(*value)).expect("open");
            assert!(of_one.is_sorted() && of_one.len() <= 32);
            rest.extend(of_one);
        }
    }
    rest.sort_unstable();
    assert_eq!(rest, Vec::from_iter(30..60));
    assert_eq!(drain(&mut other), Vec::from_iter(0..60));
    assert_eq!(drain(&mut alone), Vec::from_iter(0..60));
    // The empty name is a name; a consumer alone is of no group.
    let mut nameless = [topic.group("").join(), topic.group("").join()];
    producer.send(60).expect("room");
    assert_eq!((nameless[0].recv(), nameless[1].try_recv()), (Ok(60), Ok(None)));
    assert_eq!(topic.metrics().groups.len(), 4);
    assert_eq!(group(&topic, "").0, 2);
}

#[test]
fn a_member_takes_one_value_at_a_time_unless_it_was_allowed_more() {
    for (prefetch, most) in [(None, 1), (Some(0), 1), (Some(1), 1), (Some(8), 8), (Some(usize::MAX), 64)] {
        let topic = topic::<u32>(64);
        let with_prefetch = |topic: &Topic<u32>| match prefetch {
            None => topic.group("g").join(),
            Some(values) => topic.group("g").prefetch(values).join(),
        };
        let (mut one, _idle) = (with_prefetch(&topic), with_prefetch(&topic));
        topic.producer().expect("a producer").send_batch(&mut Vec::from_iter(0..64)).expect("room");
        assert_eq!(one.recv(), Ok(0));
        let taken = 64 - group(&topic, "g").1;
        assert!((1..=most).contains(&taken) && (most == 1 || taken > 1), "{prefetch:?}: {taken} at a time");
        assert!(taken <= 32, "{prefetch:?}: {taken} of 64, and nothing fair is left for the other");
        // What it has taken on itself counts as its group's still.
        assert_eq!(one.lag(), 63);
    }
}

#[test]
fn members_that_receive_at_once_share_without_loss_or_doubles() {
    for prefetch in [1, 7, 64] {
        let topic = topic::<u64>(16);
        let members: Vec<_> = (0..4).map(|_| topic.group("g").prefetch(prefetch).join()).collect();
        let readers: Vec<_> =
            members.into_iter().map(|mut member| thread::spawn(move || read_to_end(&mut member))).collect();
        let mut producer = topic.producer().expect("a producer");
        (0..2_000).for_each(|value| producer.send(value).expect("open"));
        topic.close();
        let mut all = Vec::new();
        for reader in readers {
            let (values, missed) = joined("a member ends", reader);
            assert!(values.is_sorted() && missed == 0);
            all.extend(values);
        }
        all.sort_unstable();
        assert_eq!(all, Vec::from_iter(0..2_000), "prefetch {prefetch}");
    }
}

// ── Coming and going ──

#[test]
fn a_group_that_comes_later_begins_with_what_is_sent_from_then_on() {
    let topic = topic::<u32>(16);
    let mut first = topic.consumer();
    let mut producer = topic.producer().expect("a producer");
    producer.send_slice(&[0, 1]).expect("room");
    let (mut later, mut named) = (topic.consumer(), topic.group("g").join());
    producer.send(2).expect("room");
    assert_eq!((drain(&mut first), drain(&mut later), drain(&mut named)), (vec![0, 1, 2], vec![2], vec![2]));
    // One that is there goes on where it is, whatever the new member asks for.
    producer.send_slice(&[3, 4]).expect("room");
    let mut second = topic.group("g").from_oldest().join();
    assert_eq!((second.recv(), named.recv(), second.try_recv()), (Ok(3), Ok(4), Ok(None)));
}

#[test]
fn a_group_that_begins_with_the_oldest_finds_most_of_a_full_ring() {
    let topic = topic::<u32>(1024);
    let mut reader = topic.consumer();
    let mut producer = topic.producer().expect("a producer");
    let mut early = topic.consumer_builder().from_oldest().join();
    assert_eq!(early.try_recv(), Ok(None), "of an empty one");
    drop(early);
    let mut next = 0;
    for sent in [1, 700, 1024, 1500, 2000, 3000, 10_000] {
        while next < sent {
            producer.send(next).expect("room");
            next += 1;
            assert_eq!(reader.recv(), Ok(next - 1));
        }
        let mut late = topic.consumer_builder().from_oldest().join();
        let kept = late.lag() as u32;
        let least = if sent <= 1024 { sent } else { 1024 * 3 / 4 };
        assert!((least..=1024).contains(&kept), "{kept} after {sent} values");
        assert_eq!(drain(&mut late), Vec::from_iter(sent - kept..sent));
    }
    // At least what some group has not read.
    while let Ok(()) = producer.try_send(next) {
        next += 1;
    }
    assert_eq!(next, 11_024);
    assert_eq!(drain(&mut topic.consumer_builder().from_oldest().join()), Vec::from_iter(10_000..11_024));
    // And on a closed topic: what is left, and the end.
    topic.close();
    let (left, missed) = read_to_end(&mut topic.group("late").from_oldest().join());
    assert_eq!((left, missed), (Vec::from_iter(10_000..11_024), 0));
    assert_eq!(topic.consumer().recv(), Err(RecvError::Closed));
}

#[test]
fn a_group_that_begins_with_the_oldest_holds_its_values_from_then_on() {
    let topic = topic::<u32>(8);
    let mut producer = topic.producer().expect("a producer");
    (0..100).for_each(|value| producer.send(value).expect("nobody holds it back"));
    let mut late = topic.group("late").from_oldest().join();
    let kept = late.lag() as u32;
    let room = (100..).find(|value| producer.try_send(*value).is_err()).expect("it fills") - 100;
    assert_eq!(kept + room, 8);
    assert_eq!(drain(&mut late), Vec::from_iter(100 - kept..100 + room));
}

#[test]
fn what_a_leaving_member_had_taken_and_not_read_goes_to_the_others() {
    let topic = topic::<u32>(32);
    let mut leaving = topic.group("g").prefetch(8).join();
    let mut staying = topic.group("g").join();
    let mut producer = topic.producer().expect("a producer");
    producer.send_batch(&mut Vec::from_iter(0..32)).expect("room");
    assert_eq!(leaving.recv(), Ok(0));
    assert_eq!(staying.recv(), Ok(8));
    assert_eq!(group(&topic, "g"), (2, 23, 0));
    drop(leaving);
    assert_eq!(group(&topic, "g"), (1, 30, 0), "what it gave back is unread");
    assert_eq!(staying.lag(), 30, "what it gave back is unread");
    // It comes before what is younger.
    let expected: Vec<_> = (1..8).chain(9..32).collect();
    assert_eq!(drain(&mut staying), expected);
    assert_eq!(staying.lag(), 0);
    producer.send_batch(&mut Vec::from_iter(32..64)).expect("all of the room is there");
    // Also from a closed topic.
    let mut leaving = topic.group("g").prefetch(8).join();
    assert_eq!(leaving.recv(), Ok(32));
    topic.close();
    drop(leaving);
    assert_eq!(read_to_end(&mut staying), (Vec::from_iter(33..64), 0));
}

#[test]
fn what_is_given_back_is_handed_on_in_parts_and_can_be_given_back_again() {
    let queue = queue::<u32>(32);
    let mut leaving = queue.consumer_with_prefetch(16);
    queue.producer().expect("a producer").send_batch(&mut Vec::from_iter(0..32)).expect("room");
    assert_eq!(leaving.take(), Ok(0));
    drop(leaving);
    let mut second = queue.consumer_with_prefetch(4);
    assert_eq!((second.lag(), queue.metrics().depth), (31, 31));
    assert_eq!(second.take(), Ok(1));
    let mut third = queue.consumer();
    let mut batch = Vec::new();
    assert_eq!(third.take_batch(&mut batch, usize::MAX, FOR_EVER), Ok(11), "2 to 4 are the second's");
    assert_eq!(batch, Vec::from_iter(5..16));
    drop(second);
    assert_eq!(take_all(&mut third), Vec::from_iter((2..5).chain(16..32)));
    assert_eq!((third.lag(), queue.metrics().depth), (0, 0));
}

#[test]
fn what_several_left_behind_comes_oldest_first() {
    let topic = topic::<u32>(64);
    let mut members: Vec<_> = (0..4).map(|_| topic.group("g").prefetch(4).join()).collect();
    topic.producer().expect("a producer").send_batch(&mut Vec::from_iter(0..64)).expect("room");
    for (member, first) in members.iter_mut().zip([0, 4, 8, 12]) {
        assert_eq!(member.recv(), Ok(first));
    }
    let mut staying = members.pop().expect("the last");
    for leaving in [1, 1, 0] {
        drop(members.remove(leaving));
    }
    let expected: Vec<_> = (13..16).chain(1..4).chain(5..8).chain(9..12).chain(16..64).collect();
    assert_eq!(drain(&mut staying), expected);
}

#[test]
fn a_member_that_waits_is_woken_by_what_another_gives_back() {
    let topic = topic::<u32>(32);
    let mut leaving = topic.group("g").prefetch(8).join();
    topic.producer().expect("a producer").send_slice(&[0, 1, 2]).expect("room");
    assert_eq!(leaving.recv(), Ok(0));
    let mut staying = topic.group("g").join();
    let reading = spawn_asleep(move || [staying.recv(), staying.recv()]);
    drop(leaving);
    assert_eq!(joined("the other reads on", reading), [Ok(1), Ok(2)]);
}

#[test]
fn the_last_member_takes_its_group_along_and_frees_who_waited_for_it() {
    let topic = topic::<u32>(4);
    let members = [topic.group("g").prefetch(4).join(), topic.group("g").join()];
    let mut producer = topic.producer().expect("a producer");
    (0..4).for_each(|value| producer.send(value).expect("room"));
    let sending = thread::spawn(move || {
        (4..10).for_each(|value| producer.send(value).expect("open"));
        producer
    });
    until("the sender is there", || topic.metrics().sent == 4);
    let [mut one, two] = members;
    drop(two);
    thread::yield_now();
    assert_eq!((one.recv(), topic.metrics().producers), (Ok(0), 1));
    assert!(!sending.is_finished(), "the other member holds it");
    drop(one);
    let mut producer = joined("the sender is free", sending);
    let metrics = topic.metrics();
    assert_eq!((metrics.sent, metrics.groups), (10, vec![]));
    // A group of that name is a new one.
    let mut new = topic.group("g").join();
    producer.send(10).expect("room");
    assert_eq!(drain(&mut new), [10]);
    assert_eq!(group(&topic, "g"), (1, 0, 0));
}

#[test]
fn groups_that_come_and_go_under_load_see_a_run_without_a_hole() {
    let topic = topic::<u64>(8);
    let mut whole = topic.consumer();
    let mut producer = topic.producer().expect("a producer");
    let sending = thread::spawn(move || (0..6_000).for_each(|value| producer.send(value).expect("open")));
    let visitors: Vec<_> = [false, true]
        .map(|from_oldest| {
            let topic = topic.clone();
            thread::spawn(move || {
                for round in 0..150 {
                    let builder = topic.consumer_builder();
                    let mut visitor = if from_oldest { builder.from_oldest() } else { builder }.join();
                    let begin = visitor.position();
                    for expected in begin..begin + round % 20 {
                        match visitor.recv_timeout(PATIENCE) {
                            Ok(Some(value)) => assert_eq!(value, expected, "round {round}"),
                            Err(RecvError::Closed) => return,
                            other => panic!("{other:?}"),
                        }
                    }
                }
            })
        })
        .into();
    let reading = thread::spawn(move || {
        (0..6_000).for_each(|value| assert_eq!(whole.recv(), Ok(value)));
        whole
    });
    joined("all is sent", sending);
    drop(joined("all is read", reading));
    topic.close();
    visitors.into_iter().for_each(|visitor| joined("a visitor leaves", visitor));
    assert_eq!(topic.metrics().groups, []);
}

// ── Lossy groups ──

/// Reads what is there, counting.
fn take_in(reader: &mut Consumer<u32>, received: &mut Vec<u32>, missed: &mut u64) {
    for value in reader.try_iter() {
        value.map_or_else(|lagged| *missed += lagged.missed, |value| received.push(value));
    }
}

#[test]
fn a_lossy_group_holds_nobody_back_and_what_it_received_and_missed_is_all_that_was_sent() {
    for capacity in [2, 16, 64] {
        let topic = topic::<u32>(capacity);
        let mut screen = topic.consumer_builder().lossy().join();
        let mut producer = topic.producer().expect("a producer");
        let (mut received, mut missed, mut sent) = (Vec::new(), 0, 0);
        for run in [1, 5, 16, 17, 40, 200, 3] {
            for _ in 0..run {
                producer.try_send(sent).expect("never full");
                sent += 1;
            }
            take_in(&mut screen, &mut received, &mut missed);
            assert_eq!(received.len() as u64 + missed, u64::from(sent), "after {run} more");
            assert_eq!((screen.missed(), received.last(), screen.lag()), (missed, Some(&(sent - 1)), 0));
        }
        assert!(missed > 0 && received.is_sorted());
        // No more goes than had to, and a sixteenth of the ring.
        let most = received.windows(2).map(|pair| pair[1] - pair[0] - 1).max().expect("two values");
        assert!(most as usize <= 200 - capacity + capacity / 16 + 1, "{most} at once");
    }
}

#[test]
fn a_lossy_group_that_was_told_of_its_gap_and_does_not_read_on_holds_nobody_back() {
    type Hear = fn(&mut Consumer<u32>) -> RecvError;
    let ways: [Hear; 3] = [
        |screen| screen.recv().expect_err("a gap"),
        |screen| screen.poll(FOR_EVER, |_| ()).expect_err("a gap"),
        |screen| screen.recv_batch(&mut Vec::new(), 9, FOR_EVER).expect_err("a gap"),
    ];
    for (index, hear) in ways.into_iter().enumerate() {
        let topic = topic::<u32>(16);
        let mut screen = topic.consumer_builder().lossy().join();
        let mut producer = topic.producer().expect("a producer");
        (0..20).for_each(|value| producer.try_send(value).expect("never full"));
        let RecvError::Lagged(Lagged { missed: first }) = hear(&mut screen) else { panic!("way {index}: a gap") };
        (20..60).for_each(|value| {
            producer.try_send(value).unwrap_or_else(|refused| panic!("way {index}, value {value}: {refused}"));
        });
        let (mut received, mut missed) = (Vec::new(), first);
        take_in(&mut screen, &mut received, &mut missed);
        assert_eq!(received.len() as u64 + missed, 60, "way {index}");
    }
}

#[test]
fn a_lossy_group_beside_a_blocking_one_misses_values_only_where_that_one_has_read_them() {
    let topic = topic::<u32>(8);
    let mut worker = topic.group("worker").join();
    let mut screen = topic.group("screen").lossy().join();
    let mut producer = topic.producer().expect("a producer");
    let mut sent = 0;
    while producer.try_send(sent).is_ok() {
        sent += 1;
    }
    assert_eq!(sent, 8, "the worker holds it");
    assert_eq!(drain(&mut worker), Vec::from_iter(0..8));
    (8..13).for_each(|value| producer.try_send(value).expect("the screen holds nobody"));
    assert_eq!(drain(&mut worker), Vec::from_iter(8..13));
    let (mut received, mut missed) = (Vec::new(), 0);
    take_in(&mut screen, &mut received, &mut missed);
    assert_eq!(missed + received.len() as u64, 13);
    assert_eq!(received, Vec::from_iter(13 - received.len() as u32..13));
    assert_eq!((group(&topic, "worker").2, group(&topic, "screen").2, worker.missed()), (0, missed, 0));
    // A group that is there stays as its first member made it.
    let mut second = topic.group("worker").lossy().join();
    sent = 0;
    while producer.try_send(sent).is_ok() {
        sent += 1;
    }
    assert_eq!(sent, 8, "the worker holds it still");
    assert_eq!(worker.recv().and(second.recv()), Ok(1));
    assert_eq!(worker.missed(), 0);
}

#[test]
fn each_missed_value_is_told_to_one_member_once() {
    let topic = new_topic().capacity(16).on_full(OnFull::DropOldest).create().expect("a topic");
    let mut members = [(); 3].map(|()| topic.group("g").join());
    let mut producer = topic.producer().expect("a producer");
    let (mut received, mut missed) = (Vec::new(), 0);
    let mut sent = 0;
    for round in 0..50 {
        for _ in 0..10 + round {
            producer.try_send(sent).expect("never refused");
            sent += 1;
        }
        for _ in 0..round % 7 {
            take_in_one(&mut members[round as usize % 3], &mut received, &mut missed);
        }
    }
    for member in &mut members {
        take_in(member, &mut received, &mut missed);
    }
    assert_eq!(received.len() as u64 + missed, u64::from(sent));
    assert_eq!((group(&topic, "g").2, members[0].missed(), members[2].missed()), (missed, missed, missed));
    received.sort_unstable();
    received.dedup();
    assert_eq!(received.len() as u64 + missed, u64::from(sent));
    // Somebody who joins now hears of none of it.
    assert_eq!(drain(&mut topic.group("g").join()), []);
}

fn take_in_one(reader: &mut Consumer<u32>, received: &mut Vec<u32>, missed: &mut u64) {
    match reader.try_recv() {
        Ok(value) => received.extend(value),
        Err(RecvError::Lagged(lagged)) => *missed += lagged.missed,
        Err(RecvError::Closed) => panic!("it is open"),
    }
}

#[test]
fn the_end_is_told_once_no_other_member_holds_a_value_that_it_may_leave_behind() {
    for is_read in [false, true] {
        let topic = topic::<u32>(16);
        let mut holding = topic.group("g").prefetch(2).join();
        let mut other = topic.group("g").join();
        topic.producer().expect("a producer").send_slice(&[0, 1, 2, 3]).expect("room");
        assert_eq!(holding.recv(), Ok(0));
        assert_eq!((other.recv(), other.recv()), (Ok(2), Ok(3)));
        topic.close();
        assert_eq!((other.try_recv(), other.recv_timeout(Duration::ZERO)), (Ok(None), Ok(None)), "the first holds 1");
        let waiting = spawn_asleep(move || (other.recv(), other));
        if is_read {
            assert_eq!((holding.recv(), holding.recv()), (Ok(1), Err(RecvError::Closed)));
        }
        let kept = is_read.then_some(holding);
        let (last, mut other) = joined("the other hears of it", waiting);
        assert_eq!(last, if is_read { Err(RecvError::Closed) } else { Ok(1) });
        assert_eq!(other.recv(), Err(RecvError::Closed));
        drop(kept);
    }
}

#[test]
fn what_a_lossy_group_missed_is_exact_under_load() {
    for on_full in [OnFull::Block, OnFull::DropOldest] {
        let topic = new_topic().capacity(16).on_full(on_full).create().expect("a topic");
        let screens: Vec<_> = (0..2)
            .map(|_| topic.group("screens").lossy().join())
            .map(|mut screen| thread::spawn(move || read_to_end(&mut screen)))
            .collect();
        let mut alone = topic.consumer_builder().lossy().join();
        let alone = thread::spawn(move || (read_to_end(&mut alone), alone));
        let senders: Vec<_> = (0..3_u64)
            .map(|sender| {
                let mut producer = topic.producer().expect("a producer");
                thread::spawn(move || {
                    (0..3_000).for_each(|value| producer.send(sender * 10_000 + value).expect("open"))
                })
            })
            .collect();
        senders.into_iter().for_each(|sender| joined("a sender ends", sender));
        topic.close();
        let ((values, missed), reader) = joined("the reader ends", alone);
        assert_eq!(values.len() as u64 + missed, 9_000, "{on_full:?}");
        assert_eq!(reader.missed(), missed);
        for sender in 0..3 {
            assert!(values.iter().filter(|value| **value / 10_000 == sender).is_sorted(), "{on_full:?}");
        }
        let (mut shared, mut missed) = (Vec::new(), 0);
        for screen in screens {
            let (values, missed_here) = joined("a screen ends", screen);
            shared.extend(values);
            missed += missed_here;
        }
        shared.sort_unstable();
        shared.dedup();
        assert_eq!(shared.len() as u64 + missed, 9_000, "{on_full:?}");
    }
}

// ── Metrics ──

#[test]
fn the_metrics_are_exact() {
    let topic = topic::<u32>(32);
    let empty = topic.metrics();
    assert_eq!((empty.sent, empty.depth, empty.blocked, empty.producers), (0, 0, Duration::ZERO, 0));
    assert_eq!(empty.groups, []);
    let mut producers = [topic.producer().expect("one"), topic.producer().expect("two")];
    let mut alone = topic.consumer();
    let mut members = [topic.group("g").prefetch(4).join(), topic.group("g").join()];
    producers[0].send_batch(&mut Vec::from_iter(0..20)).expect("room");
    producers[1].send(20).expect("room");
    alone.recv_batch(&mut Vec::new(), 5, FOR_EVER).expect("there");
    members[0].recv().expect("there");
    members[1].recv().expect("there");
    let metrics = topic.metrics();
    // The first member holds 1 to 3, which it has taken on and not read.
    assert_eq!((metrics.sent, metrics.depth, metrics.blocked, metrics.producers), (21, 20, Duration::ZERO, 2));
    let mut groups: Vec<_> = metrics.groups.into_iter().map(|it| (it.name, it.members, it.lag, it.dropped)).collect();
    groups.sort_unstable();
    assert_eq!(groups, [(None, 1, 16, 0), (Some("g".into()), 2, 16, 0)]);
    assert_eq!((alone.lag(), members[0].lag(), members[1].lag()), (16, 19, 16));
    assert_eq!((alone.position(), members[0].position(), members[1].position()), (5, 1, 5));

    let [one_less, leaving] = producers;
    drop((members, leaving));
    let metrics = topic.metrics();
    assert_eq!((metrics.depth, metrics.producers, metrics.groups.len()), (16, 1, 1));
    drop((alone, one_less));
    assert_eq!(topic.metrics().producers, 0);
    topic.close();
    assert_eq!(topic.metrics().sent, 21);
}

#[test]
fn a_value_kept_until_consumed_waits_for_a_member_that_holds_it() {
    let scales = Scales::default();
    let topic = new_topic().capacity(8).keep(Keep::UntilConsumed).create().expect("a topic");
    let mut holding = topic.group("g").prefetch(4).join();
    let mut quick = topic.group("g").join();
    let mut producer = topic.producer().expect("a producer");
    (0..8).for_each(|number| producer.send(scales.load(number)).expect("room"));
    let number = holding.recv_with(|load| load.number).expect("there");
    assert_eq!((number, scales.alive()), (0, 7));
    assert_eq!(quick.poll(Duration::ZERO, |_| ()), Ok(2));
    while quick.poll(Duration::ZERO, |_| ()).expect("open") > 0 {}
    assert_eq!(scales.alive(), 7, "the oldest is held");
    drop(holding);
    assert_eq!(scales.alive(), 7, "it was given back, not read");
    while quick.poll(Duration::ZERO, |_| ()).expect("open") > 0 {}
    assert_eq!(scales.alive(), 0);
}
