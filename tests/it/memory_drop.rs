//! Values of memory topics that are dropped, and users' code that panics. What fails here in the field: a lock or a
//! large buffer that nobody lets go of, a value dropped twice, and a topic that stands still because somebody's
//! `clone` failed once.

use std::thread;
use std::time::Duration;

use headwater::memory::{Queue, RecvError};
use headwater::{Keep, Layout, OnFull};

use crate::memory_support::{Scales, broker, drain, expect_panic, new_queue, new_topic, poll_once, queue, topic};
use crate::support::{FOR_EVER, joined};

#[test]
fn a_value_is_kept_until_it_is_overwritten_and_then_dropped_by_its_successor() {
    let scales = Scales::default();
    let topic = topic(4);
    let mut reader = topic.consumer();
    let mut producer = topic.producer().expect("a producer");
    for number in 0..10 {
        producer.send(scales.load(number)).expect("room");
        assert_eq!(reader.recv_with(|load| load.number), Ok(number));
        assert_eq!(scales.alive(), (number as i64 + 1).min(4), "after {number}");
    }
    drop((reader, producer));
    assert_eq!(scales.alive(), 4, "they wait for who comes late");
    drop(topic);
    assert_eq!(scales.alive(), 0);
}

#[test]
fn a_value_kept_until_consumed_is_dropped_at_once_when_the_last_group_has_read_it() {
    let scales = Scales::default();
    let topic = new_topic().capacity(4).keep(Keep::UntilConsumed).create().expect("a topic");
    let (mut one, mut two) = (topic.consumer(), topic.group("two").join());
    let mut producer = topic.producer().expect("a producer");
    for number in 0..3 {
        producer.send(scales.load(number)).expect("room");
    }
    one.recv_with(|_| ()).expect("there");
    assert_eq!(scales.alive(), 3, "the other group has not read it");
    two.recv_with(|_| assert_eq!(scales.alive(), 3, "it is lent")).expect("there");
    assert_eq!(scales.alive(), 2);
    assert_eq!(two.poll(Duration::ZERO, |_| ()), Ok(2));
    assert_eq!(scales.alive(), 2, "the first group has not read them");
    // Nobody is left to read them.
    drop(one);
    assert_eq!(scales.alive(), 0);

    // A new group that begins at the oldest finds none that the others have read.
    producer.send(scales.load(3)).expect("room");
    two.recv_with(|_| ()).expect("there");
    let mut late = topic.consumer_builder().from_oldest().join();
    assert!(late.try_recv().expect("open").is_none());
    assert_eq!(scales.alive(), 0);
}

#[test]
fn what_is_in_a_topic_or_queue_goes_with_its_last_handle_in_whichever_order_they_go() {
    // Broker, topic, producer, and a consumer that has read some of the values and taken on more.
    let orders: Vec<[usize; 4]> = (0..256)
        .map(|code| [code / 64, code / 16 % 4, code / 4 % 4, code % 4])
        .filter(|order| (0..4).all(|part| order.contains(&part)))
        .collect();
    assert_eq!(orders.len(), 24);
    for (order, keep) in orders.iter().flat_map(|order| [(order, Some(Keep::UntilConsumed)), (order, None)]) {
        let scales = Scales::default();
        let broker = broker();
        let builder = broker.memory_topic("t").capacity(8).keep(keep.unwrap_or_default());
        let topic = builder.create().expect("a topic");
        let mut reader = topic.group("g").prefetch(4).join();
        let mut producer = topic.producer().expect("a producer");
        for number in 0..14 {
            producer.send(scales.load(number)).expect("room");
            reader.recv_with(|load| assert_eq!(load.number, number)).expect("there");
        }
        (14..20).for_each(|number| producer.send(scales.load(number)).expect("room"));
        reader.recv_with(|_| ()).expect("there");
        let (mut broker, mut topic, mut producer, mut reader) =
            (Some(broker), Some(topic), Some(producer), Some(reader));
        for part in order {
            assert!(scales.alive() >= 5, "{order:?}: dropped under a handle");
            match part {
                0 => drop(broker.take()),
                1 => drop(topic.take()),
                2 => drop(producer.take()),
                _ => drop(reader.take()),
            }
        }
        assert_eq!(scales.alive(), 0, "{order:?}, {keep:?}");

        let scales = Scales::default();
        let broker = self::broker();
        let queue: Queue<_> = broker.memory_queue("q").capacity(8).create().expect("a queue");
        let (mut taker, mut other) = (queue.consumer_with_prefetch(4), queue.consumer());
        let mut producer = queue.producer().expect("a producer");
        (0..8).for_each(|number| producer.send(scales.load(number)).expect("room"));
        drop((taker.take().expect("there"), other.take().expect("there")));
        assert_eq!(scales.alive(), 6);
        let (mut broker, mut queue, mut producer) = (Some(broker), Some(queue), Some(producer));
        let mut takers = Some((taker, other));
        for part in order {
            assert_eq!(scales.alive(), 6, "{order:?}: dropped under a handle");
            match part {
                0 => drop(broker.take()),
                1 => drop(queue.take()),
                2 => drop(producer.take()),
                _ => drop(takers.take()),
            }
        }
        assert_eq!(scales.alive(), 0, "{order:?}");
    }
}

#[test]
fn a_topic_outlives_its_broker_until_all_through_whom_a_value_may_come_are_gone() {
    let broker = broker();
    let topic = broker.memory_topic::<u32>("t").create().expect("a topic");
    let mut reader = topic.consumer();
    let mut producer = topic.producer().expect("a producer");
    assert_eq!(producer.topic().as_str(), "t");
    drop(broker);
    producer.send(1).expect("nobody closed it");
    drop(topic);
    producer.send(2).expect("nobody closed it");
    assert_eq!(reader.recv(), Ok(1));
    let reading = thread::spawn(move || (reader.recv(), reader.recv(), reader.recv()));
    drop(producer);
    let end = Err(RecvError::Closed);
    assert_eq!(joined("the reader hears that nothing can come", reading), (Ok(2), end, end));

    // A topic's handle is enough to keep it open, and so is its broker.
    let broker = self::broker();
    let queue = broker.memory_queue::<u32>("q").create().expect("a queue");
    let mut taker = queue.consumer();
    assert_eq!(taker.queue().as_str(), "q");
    drop(queue);
    assert_eq!(taker.try_take(), Ok(None));
    let queue = broker.memory_queue::<u32>("q").open().expect("it is open");
    drop(broker);
    queue.producer().expect("a producer").send(1).expect("open");
    drop(queue);
    assert_eq!((taker.take(), taker.take()), (Ok(1), end));
}

// ── Panics ──

#[test]
fn a_value_whose_making_panics_leaves_everything_as_it_was() {
    for (layout, single) in [(Layout::Dense, false), (Layout::Stamped, false), (Layout::Dense, true)] {
        let builder = new_topic().capacity(4).layout(layout);
        let topic = if single { builder.single_producer() } else { builder }.create().expect("a topic");
        let mut reader = topic.consumer();
        let mut producer = topic.producer().expect("a producer");
        producer.send(0).expect("room");
        for _ in 0..10 {
            expect_panic("no value", || producer.send_with(|| panic!("no value")));
            expect_panic("no value", || producer.try_send_with(|| panic!("no value")));
        }
        assert_eq!((topic.metrics().sent, drain(&mut reader)), (1, vec![0]));
        // Its producer goes on, and all of the room is there.
        (1..5).for_each(|value| producer.try_send(value).expect("room"));
        assert!(producer.try_send(5).is_err());
        assert_eq!(drain(&mut reader), [1, 2, 3, 4]);
        // Or leaves, and its room goes to others.
        expect_panic("no value", || producer.send_with(|| panic!("no value")));
        drop(producer);
        let mut producer = topic.producer().expect("a producer");
        (5..9).for_each(|value| producer.try_send(value).expect("room"));
        assert_eq!(drain(&mut reader), [5, 6, 7, 8]);
    }
}

#[test]
fn a_value_whose_visitor_panics_counts_as_read_and_the_rest_comes_with_the_next_call() {
    let topic = topic::<u32>(16);
    let mut alone = topic.consumer();
    let mut members = [topic.group("g").prefetch(8).join(), topic.group("g").join()];
    let mut producer = topic.producer().expect("a producer");
    (0..16).for_each(|value| producer.send(value).expect("room"));
    expect_panic("at the first", || alone.recv_with(|_| panic!("at the first")));
    assert_eq!((alone.position(), alone.lag()), (1, 15));
    let mut visited = Vec::new();
    expect_panic("at the fifth", || {
        alone.poll(FOR_EVER, |value| {
            visited.push(*value);
            assert!(*value != 5, "at the fifth");
        })
    });
    assert_eq!(visited, [1, 2, 3, 4, 5]);
    assert_eq!(alone.poll(Duration::ZERO, |value| visited.push(*value)), Ok(10));
    assert_eq!(visited, Vec::from_iter(1..16));

    let [one, two] = &mut members;
    let mut visited = Vec::new();
    expect_panic("at the second", || {
        one.poll(FOR_EVER, |value| {
            visited.push(*value);
            assert!(*value != 1, "at the second");
        })
    });
    assert_eq!(visited, [0, 1]);
    // Whatever it had taken on itself, it or the other reads.
    visited.extend(drain(one));
    visited.extend(drain(two));
    visited.sort_unstable();
    assert_eq!(visited, Vec::from_iter(0..16));
    (16..32).for_each(|value| producer.try_send(value).expect("nothing is held any more"));
}

#[test]
fn a_value_whose_clone_panics_counts_as_read() {
    let scales = Scales::default();
    let topic = topic(8);
    let mut reader = topic.consumer();
    let mut producer = topic.producer().expect("a producer");
    (0..8).for_each(|number| producer.send(scales.load(number)).expect("room"));
    scales.break_a_clone();
    expect_panic("a clone", || reader.recv());
    scales.break_a_clone();
    expect_panic("a clone", || reader.try_recv());
    scales.break_a_clone();
    expect_panic("a clone", || reader.recv_timeout(FOR_EVER));
    scales.break_a_clone();
    expect_panic("a clone", || poll_once(reader.recv_async()));
    let mut values = Vec::new();
    scales.break_a_clone();
    expect_panic("a clone", || reader.recv_batch(&mut values, 9, FOR_EVER));
    assert_eq!(values.len(), 0);
    assert_eq!(reader.recv_batch(&mut values, 9, FOR_EVER), Ok(3));
    assert_eq!(values.iter().map(|load| load.number).collect::<Vec<_>>(), [5, 6, 7]);
    assert_eq!(scales.alive(), 8 + 3);
    drop((values, reader, producer, topic));
    assert_eq!(scales.alive(), 0);
}

#[test]
fn a_panic_in_the_drop_of_an_overwritten_value_comes_out_of_a_send_that_has_taken_place() {
    let scales = Scales::default();
    let topic = topic(4);
    let mut reader = topic.consumer();
    let mut producer = topic.producer().expect("a producer");
    for number in 0..4 {
        producer.send(scales.explosive(number)).expect("room");
    }
    assert_eq!(reader.poll(Duration::ZERO, |_| ()), Ok(4));
    expect_panic("a drop", || producer.send(scales.load(4)));
    let mut batch = vec![scales.load(5), scales.load(6), scales.load(7)];
    while let left @ 1.. = batch.len() {
        expect_panic("a drop", || producer.send_batch(&mut batch));
        assert!(batch.len() < left, "some were sent");
    }
    let mut numbers = Vec::new();
    assert_eq!(reader.poll(Duration::ZERO, |load| numbers.push(load.number)), Ok(4));
    assert_eq!(numbers, [4, 5, 6, 7]);
    assert_eq!(scales.alive(), 4, "one of a batch was forgotten");
    producer.send(scales.load(8)).expect("it goes on");
    drop((reader, producer, topic));
    assert_eq!(scales.alive(), 0);
}

#[test]
fn a_panic_in_the_drop_of_a_consumed_value_stops_nobody() {
    let scales = Scales::default();
    let topic = new_topic().capacity(4).keep(Keep::UntilConsumed).create().expect("a topic");
    let (mut one, mut two) = (topic.consumer(), topic.consumer());
    let mut producer = topic.producer().expect("a producer");
    (0..4).for_each(|number| producer.send(scales.explosive(number)).expect("room"));
    assert_eq!(one.poll(Duration::ZERO, |_| ()), Ok(4));
    expect_panic("a drop", || two.recv_with(|_| ()));
    assert_eq!((scales.alive(), two.lag()), (3, 3));
    // From a visitor that panics itself: the first panic is heard, not an abort.
    expect_panic("the visitor", || two.recv_with(|_| panic!("the visitor")));
    assert_eq!((scales.alive(), two.lag()), (2, 2));
    // And from a reader that leaves.
    expect_panic("a drop", || drop(two));
    assert_eq!(scales.alive(), 0);
    (4..8).for_each(|number| producer.try_send(scales.load(number)).expect("all of the room is there"));
    assert_eq!(one.poll(Duration::ZERO, |_| ()), Ok(4));
    assert_eq!(scales.alive(), 0);
}

#[test]
fn what_is_left_in_a_ring_is_dropped_also_past_a_drop_that_panics() {
    let scales = Scales::default();
    let (topic, queue) = (topic(8), queue(8));
    let (mut to_topic, mut to_queue) = (topic.producer().expect("one"), queue.producer().expect("one"));
    for number in 0..5 {
        let load = |number| if number % 2 == 0 { scales.load(number) } else { scales.explosive(number) };
        to_topic.send(load(number)).expect("room");
        to_queue.send(load(number)).expect("room");
    }
    drop((to_topic, to_queue));
    assert_eq!(scales.alive(), 10);
    expect_panic("a drop", || drop(topic));
    assert_eq!(scales.alive(), 5);
    expect_panic("a drop", || drop(queue));
    assert_eq!(scales.alive(), 0);
}

#[test]
fn a_panic_in_the_drop_of_a_value_that_a_queue_drops_as_its_oldest_loses_no_room() {
    let scales = Scales::default();
    let queue = new_queue().capacity(4).on_full(OnFull::DropOldest).create().expect("a queue");
    let mut producer = queue.producer().expect("a producer");
    (0..4).for_each(|number| producer.send(scales.explosive(number)).expect("room"));
    for number in 0..4 {
        // It comes out of a send that has not taken place, and whose value goes with it; the room is there.
        expect_panic("a drop", || producer.send(scales.load(100)));
        assert_eq!(scales.alive(), 3);
        producer.try_send(scales.load(4 + number)).expect("room");
    }
    queue.close();
    let mut taker = queue.consumer();
    let mut taken = 0;
    let mut missed = 0;
    loop {
        match taker.take() {
            Ok(_) => taken += 1,
            Err(RecvError::Lagged(lagged)) => missed += lagged.missed,
            Err(RecvError::Closed) => break,
        }
    }
    assert_eq!(taken + missed, queue.metrics().sent);
    assert_eq!((taken, missed, scales.alive()), (4, 4, 0));
}
