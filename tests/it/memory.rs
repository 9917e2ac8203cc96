//! Memory topics: made, found again, sent to and read by one group. What fails here in the field: a topic of another
//! type answers to a name, a refused value is gone, or "full" comes a value too early or too late.

use std::thread;
use std::time::Duration;

use headwater::memory::{Lagged, RecvError, Refused, Topic};
use headwater::{Broker, Error, Layout, OnFull, Record, WaitStrategy};

use crate::memory_support::{
    MOMENT, Scales, broker, drain, new_queue, new_topic, poll_once, queue, spawn_asleep, topic,
};
use crate::support::{FOR_EVER, joined, quick, until};

fn names(broker: &Broker) -> Vec<String> {
    broker.memory_topics().iter().map(ToString::to_string).collect()
}

// ── Names and settings ──

#[test]
fn create_open_and_open_or_create_do_what_they_say() {
    let broker = broker();
    let refusal = broker.memory_topic::<u32>("t").open().expect_err("not there");
    assert!(matches!(&refusal, Error::UnknownTopic { topic } if topic == "t"), "{refusal}");
    assert_eq!(names(&broker), [""; 0], "asking made it");
    let made = broker.memory_topic::<u32>("t").capacity(8).create().expect("new");
    let refusal = broker.memory_topic::<u32>("t").create().expect_err("there already");
    assert!(matches!(&refusal, Error::TopicExists { topic } if topic == "t"), "{refusal}");
    let opened = broker.memory_topic::<u32>("t").open().expect("there");
    // One that is there keeps its settings. One that makes no sense is refused all the same.
    let either = broker.memory_topic::<u32>("t").capacity(64).on_full(OnFull::Reject).open_or_create().expect("there");
    let refusal = broker.memory_topic::<u32>("t").capacity(0).open_or_create().expect_err("no capacity");
    assert!(matches!(refusal, Error::InvalidConfig { .. }), "{refusal}");
    assert_eq!((made.capacity(), opened.capacity(), either.capacity()), (8, 8, 8));
    assert_eq!((either.name().as_str(), made.clone().name().as_str()), ("t", "t"));

    // One topic, however often it was opened.
    let mut reader = opened.consumer();
    either.producer().expect("a producer").send(7).expect("sent");
    assert_eq!((reader.recv(), reader.topic().as_str()), (Ok(7), "t"));
    assert_eq!(made.metrics().sent, 1);

    broker.memory_queue::<String>("q").open_or_create().expect("new");
    assert_eq!(names(&broker), ["q", "t"]);
    assert_eq!(broker.memory_queue::<String>("q").open().expect("there").name().as_str(), "q");
}

#[test]
fn a_memory_topic_has_a_name_of_its_own_beside_those_of_the_durable_ones() {
    let broker = broker();
    let durable = broker.topic("t").create().expect("new");
    let memory = broker.memory_topic::<u32>("t").create().expect("new, too");
    quick(&durable).send(Record::new("v0")).expect("sent");
    assert_eq!(memory.metrics().sent, 0);
    assert_eq!((names(&broker).len(), broker.topics().len()), (1, 1));
}

#[test]
fn a_name_outside_the_grammar_is_refused_and_nothing_is_made() {
    let broker = broker();
    let long = "a".repeat(250);
    for name in ["", ".", "..", "a/b", "a b", "ü", "__t", &long] {
        for refusal in [
            broker.memory_topic::<u32>(name).open_or_create().expect_err(name),
            broker.memory_topic::<u32>(name).create().expect_err(name),
            broker.memory_topic::<u32>(name).open().expect_err(name),
            broker.memory_queue::<u32>(name).open_or_create().expect_err(name),
        ] {
            assert!(matches!(&refusal, Error::InvalidName(_)), "{name}: {refusal}");
        }
    }
    assert_eq!(names(&broker), [""; 0]);
    for name in ["a", "A-z_0.9", &long[1..]] {
        assert_eq!(broker.memory_topic::<u32>(name).create().expect(name).name().as_str(), name);
    }
}

#[test]
fn a_capacity_is_rounded_up_to_a_power_of_two_and_outside_its_limits_refused() {
    assert_eq!(new_topic::<u32>().create().expect("the default").capacity(), 1024);
    for (asked, given) in [(2, 2), (3, 4), (4, 4), (1000, 1024), (1025, 2048)] {
        assert_eq!(new_topic::<u32>().capacity(asked).create().expect("allowed").capacity(), given);
        assert_eq!(new_queue::<u32>().capacity(asked).create().expect("allowed").capacity(), given);
    }
    let broker = broker();
    for capacity in [0, 1, (1 << 30) + 1, usize::MAX] {
        let builder = broker.memory_topic::<u32>("t").capacity(capacity);
        let refusal = builder.open_or_create().expect_err("outside the limits");
        assert!(matches!(refusal, Error::InvalidConfig { setting: "capacity", .. }), "{refusal}");
        assert!(refusal.to_string().contains("2 to 1073741824 values"), "{refusal}");
    }
    // 2^30 values of 16 GiB each.
    let refusal = broker.memory_queue::<[u64; 1 << 31]>("q").capacity(1 << 30).create().expect_err("too large");
    assert!(matches!(refusal, Error::InvalidConfig { setting: "capacity", .. }), "{refusal}");
    assert!(refusal.to_string().contains("no memory"), "{refusal}");
    assert_eq!(names(&broker), [""; 0]);
}

#[test]
fn a_full_ring_holds_exactly_what_its_capacity_says_in_every_layout() {
    for (layout, single) in [(Layout::Dense, false), (Layout::Stamped, false), (Layout::Dense, true)] {
        for capacity in [2, 8, 1000] {
            let mut builder = new_topic().capacity(capacity).layout(layout);
            builder = if single { builder.single_producer() } else { builder };
            let topic = builder.create().expect("a topic");
            let mut reader = topic.consumer();
            let mut producer = topic.producer().expect("a producer");
            let room = topic.capacity() as u64;
            for round in 0..3 {
                (0..room).for_each(|value| producer.try_send(round * room + value).expect("room"));
                let refused = producer.try_send(0).expect_err("full");
                assert!(refused.is_full() && !refused.is_closed() && refused.into_inner() == 0);
                assert_eq!(drain(&mut reader), Vec::from_iter(round * room..(round + 1) * room));
            }
        }
    }
}

#[test]
fn another_type_of_value_or_a_queue_for_a_topic_is_refused_with_both_types() {
    let broker = broker();
    broker.memory_topic::<u32>("t").create().expect("new");
    broker.memory_queue::<u32>("q").create().expect("new");
    let refusals = [
        (
            broker.memory_topic::<i32>("t").open().expect_err("another type"),
            ["memory topic of u32", "memory topic of i32"],
        ),
        (
            broker.memory_topic::<i32>("t").open_or_create().expect_err("another type"),
            ["memory topic of u32", "memory topic of i32"],
        ),
        (broker.memory_queue::<u32>("t").open().expect_err("no queue"), ["memory topic of u32", "memory queue of u32"]),
        (
            broker.memory_topic::<u32>("q").open_or_create().expect_err("no topic"),
            ["memory queue of u32", "memory topic of u32"],
        ),
    ];
    for (refusal, [is, asked]) in refusals {
        assert!(matches!(&refusal, Error::WrongType { .. }) && refusal.is_invalid_input(), "{refusal}");
        let text = refusal.to_string();
        assert!(text.find(is).is_some_and(|at| text[at..].contains(asked)), "{text}");
    }
    // Who wants a new one is told first that there is none to be had.
    let refusal = broker.memory_topic::<i32>("t").create().expect_err("there already");
    assert!(matches!(refusal, Error::TopicExists { .. }), "{refusal}");
    broker.memory_topic::<u32>("t").open().expect("it is unharmed");
}

#[test]
fn the_name_of_a_closed_topic_is_free_again_and_the_old_handles_stay_with_the_old_one() {
    let broker = broker();
    let old = broker.memory_topic::<u32>("t").create().expect("new");
    let mut old_reader = old.consumer();
    old.producer().expect("a producer").send(1).expect("sent");
    old.close();
    assert_eq!(names(&broker), [""; 0]);
    let refusal = broker.memory_topic::<u32>("t").open().expect_err("closed");
    assert!(matches!(refusal, Error::UnknownTopic { .. }), "{refusal}");

    // Of another type, even.
    let new = broker.memory_topic::<String>("t").create().expect("new");
    assert!(old.is_closed() && !new.is_closed());
    let mut new_reader = new.consumer();
    new.producer().expect("a producer").send("a".into()).expect("sent");
    assert_eq!((old_reader.recv(), old_reader.recv()), (Ok(1), Err(RecvError::Closed)));
    assert_eq!((new_reader.recv(), new_reader.try_recv()), (Ok("a".into()), Ok(None)));
    old.close();
    assert_eq!(names(&broker), ["t"], "the old one took the new one's name along");
}

#[test]
fn values_of_a_closed_topic_whose_name_is_taken_again_are_dropped_without_a_lock() {
    struct Curious(Option<Broker>);
    impl Drop for Curious {
        fn drop(&mut self) {
            if let Some(broker) = &self.0 {
                assert_eq!(names(broker), ["t"], "asked from the drop of a value");
            }
        }
    }
    let broker = broker();
    let old = broker.memory_topic::<Curious>("t").create().expect("new");
    old.producer().expect("a producer").send(Curious(Some(broker.clone()))).expect("sent");
    old.close();
    drop(old);
    let taking = thread::spawn(move || broker.memory_topic::<u32>("t").create().map(|_| ()));
    joined("the name is taken again", taking).expect("the name is free");
}

// ── Sending ──

#[test]
fn a_refused_value_comes_back_with_the_reason_and_the_reason_becomes_an_error() {
    let topic = new_topic().capacity(2).on_full(OnFull::Reject).create().expect("a topic");
    let _reader = topic.consumer();
    let mut producer = topic.producer().expect("a producer");
    for value in ["a", "b"] {
        producer.send(value.to_owned()).expect("room");
    }
    let refused = producer.send("c".to_owned()).expect_err("full");
    assert!(refused.is_full() && refused.refused == Refused::Full(topic.name().clone()), "{refused}");
    assert!(refused.to_string().contains("memory topic t is full"), "{refused}");
    assert_eq!(refused.value, "c");
    let error = Error::from(refused);
    assert!(matches!(&error, Error::TopicFull { topic } if topic == "t"), "{error}");
    assert!(error.is_full() && error.is_retriable());

    topic.close();
    let refused = producer.send("d".to_owned()).expect_err("closed");
    assert!(refused.is_closed() && !refused.is_full(), "{refused}");
    assert_eq!(refused.to_string(), "memory topic t is closed");
    assert_eq!(refused.clone().into_inner(), "d");
    let error = Error::from(refused);
    assert!(matches!(error, Error::Closed { .. }) && error.is_closed() && !error.is_retriable(), "{error}");
}

#[test]
fn a_sender_waits_until_the_slowest_group_has_read_on() {
    let topic = topic::<u32>(2);
    let (mut slow, mut fast) = (topic.consumer(), topic.consumer());
    let mut producer = topic.producer().expect("a producer");
    producer.send(0).expect("room");
    producer.send(1).expect("room");
    assert_eq!(drain(&mut fast), [0, 1]);
    let sending = thread::spawn(move || (producer.send(2), producer));
    until("the sender has waited", || topic.metrics().sent == 2);
    thread::sleep(MOMENT);
    assert!(!sending.is_finished(), "it did not wait");
    assert_eq!(slow.recv(), Ok(0));
    let (sent, _producer) = joined("the sender goes on", sending);
    sent.expect("sent");
    assert_eq!((drain(&mut slow), drain(&mut fast)), (vec![1, 2], vec![2]));
    assert!(topic.metrics().blocked > Duration::ZERO);
}

#[test]
fn send_timeout_waits_for_room_and_gives_the_value_back_when_the_time_is_up() {
    let topic = topic::<u32>(2);
    let mut reader = topic.consumer();
    let mut producer = topic.producer().expect("a producer");
    producer.send_timeout(0, Duration::ZERO).expect("room needs no time");
    producer.send_timeout(1, Duration::MAX).expect("room");
    for timeout in [Duration::ZERO, MOMENT] {
        let refused = producer.send_timeout(2, timeout).expect_err("full");
        assert!(refused.is_full() && refused.into_inner() == 2);
    }
    let sending = spawn_asleep(move || (producer.send_timeout(2, Duration::MAX), producer));
    assert_eq!(reader.recv(), Ok(0));
    let (sent, mut producer) = joined("the sender goes on", sending);
    sent.expect("sent");
    assert_eq!(drain(&mut reader), [1, 2]);
    topic.close();
    assert!(producer.send_timeout(3, FOR_EVER).expect_err("closed").is_closed());
}

#[test]
fn what_is_made_on_the_way_is_made_only_where_there_is_room() {
    let topic = new_topic().capacity(2).on_full(OnFull::Reject).create().expect("a topic");
    let mut reader = topic.consumer();
    let mut producer = topic.producer().expect("a producer");
    producer.send_with(|| 0).expect("room");
    producer.try_send_with(|| 1).expect("room");
    assert!(producer.send_with(|| unreachable!("no room")).expect_err("full").is_full());
    assert!(producer.try_send_with(|| unreachable!("no room")).expect_err("full").is_full());
    assert_eq!(drain(&mut reader), [0, 1]);
    // Closed while it is made: it is dropped, and nobody sees it.
    let scales = Scales::default();
    let topic = crate::memory_support::topic(2);
    let mut reader = topic.consumer();
    let mut producer = topic.producer().expect("a producer");
    let make = || {
        topic.close();
        scales.load(0)
    };
    assert!(producer.send_with(make).expect_err("closed").is_closed());
    assert_eq!(scales.alive(), 0);
    assert!(matches!(reader.try_recv(), Err(RecvError::Closed)));
    assert!(producer.try_send_with(|| scales.load(0)).expect_err("closed").is_closed());
    assert_eq!(scales.alive(), 0);
}

#[test]
fn a_batch_goes_in_from_the_front_as_far_as_there_is_room_and_the_rest_stays() {
    let topic = topic::<u32>(8);
    let mut reader = topic.consumer();
    let mut producer = topic.producer().expect("a producer");
    let mut values = Vec::from_iter(0..11);
    assert_eq!(producer.try_send_batch(&mut values), Ok(8));
    assert_eq!(values, [8, 9, 10]);
    assert!(producer.try_send_batch(&mut values).expect_err("none was sent").is_full());
    assert_eq!(values, [8, 9, 10]);
    assert_eq!(producer.try_send_batch(&mut Vec::new()), Ok(0), "of nothing");
    assert_eq!(reader.recv(), Ok(0));
    assert_eq!((producer.try_send_batch(&mut values), &values[..]), (Ok(1), &[9, 10][..]));
    assert_eq!(drain(&mut reader), Vec::from_iter(1..9));

    // Larger than the ring: it waits for room as often as it takes.
    let mut values = Vec::from_iter(9..109);
    let sending = thread::spawn(move || (producer.send_batch(&mut values), values, producer));
    let read: Vec<_> = (9..109).map(|_| reader.recv().expect("sent")).collect();
    let (sent, left, mut producer) = joined("the batch is sent", sending);
    assert_eq!((sent, left, read), (Ok(()), vec![], Vec::from_iter(9..109)));

    topic.close();
    let mut values = vec![1, 2, 3];
    assert!(producer.send_batch(&mut values).expect_err("closed").is_closed());
    assert!(producer.try_send_batch(&mut values).expect_err("closed").is_closed());
    assert_eq!(values, [1, 2, 3]);
}

#[test]
fn a_batch_to_a_topic_that_rejects_is_sent_as_far_as_it_goes() {
    let topic = new_topic().capacity(4).on_full(OnFull::Reject).create().expect("a topic");
    let mut reader = topic.consumer();
    let mut producer = topic.producer().expect("a producer");
    let mut values = Vec::from_iter(0..6);
    assert!(producer.send_batch(&mut values).expect_err("two are left").is_full());
    assert_eq!((&values[..], drain(&mut reader)), (&[4, 5][..], vec![0, 1, 2, 3]));
    assert_eq!((producer.send_batch(&mut values), &values[..]), (Ok(()), &[][..]));
    assert_eq!(producer.send_slice(&[6, 7, 8]), Err((Refused::Full(topic.name().clone()), 2)));
    assert_eq!((producer.send_slice(&[]), drain(&mut reader)), (Ok(()), vec![4, 5, 6, 7]));
}

#[test]
fn a_slice_is_copied_in_order_and_a_refusal_says_how_far_it_came() {
    for single in [true, false] {
        let builder = new_topic().capacity(8);
        let builder = if single { builder.single_producer() } else { builder };
        let topic = builder.create().expect("a topic");
        let mut reader = topic.consumer();
        let mut producer = topic.producer().expect("a producer");
        producer.send_slice(&[0, 1, 2]).expect("room");
        assert_eq!(drain(&mut reader), [0, 1, 2]);
        let values = Vec::from_iter(0..100_u32);
        let sending = thread::spawn(move || (producer.send_slice(&values), producer));
        let read: Vec<_> = (0..100).map(|_| reader.recv().expect("sent")).collect();
        let (sent, mut producer) = joined("the slice is sent", sending);
        assert_eq!((sent, read), (Ok(()), Vec::from_iter(0..100)));

        // Closed while it waits for room: what was sent before can be read, the rest begins where it says.
        let values = Vec::from_iter(0..20_u32);
        let sending = thread::spawn(move || (producer.send_slice(&values), producer));
        until("the ring is full", || topic.metrics().depth == 8);
        topic.close();
        let (sent, _) = joined("the sender hears of it", sending);
        assert_eq!(sent, Err((Refused::Closed(topic.name().clone()), 8)));
        assert_eq!(drain(&mut reader), Vec::from_iter(0..8));
    }
}

#[test]
fn room_that_an_idle_producer_has_taken_ahead_is_at_most_a_sixteenth_and_comes_back_when_it_leaves() {
    let sent_until_full = |topic: &Topic<u32>| {
        let mut producer = topic.producer().expect("a producer");
        (0..).find(|value| producer.try_send(*value).is_err()).expect("it fills")
    };
    for (capacity, ahead) in [(1024, 64), (4096, 64), (256, 16), (8, 1)] {
        let topic = topic::<u32>(capacity);
        let _reader = topic.consumer();
        let mut idle = topic.producer().expect("a producer");
        idle.send(0).expect("room");
        let all = capacity as u32 - 1;
        let sent = sent_until_full(&topic);
        assert!((all - (ahead - 1)..=all).contains(&sent), "{sent} of {all} behind one that is idle");
        // Its own room is there.
        let own = (0..).find(|value| idle.try_send(*value).is_err()).expect("it fills");
        assert_eq!(sent + own, all);
        assert_eq!(topic.metrics().depth, capacity as u64);
    }
    let topic = topic::<u32>(1024);
    let _reader = topic.consumer();
    let mut idle = topic.producer().expect("a producer");
    idle.send(0).expect("room");
    let sent = sent_until_full(&topic);
    drop(idle);
    assert_eq!(sent + sent_until_full(&topic), 1023, "the room comes back");
}

#[test]
fn with_reject_nobody_takes_room_ahead_so_full_is_exact() {
    let topic = new_topic().capacity(1024).on_full(OnFull::Reject).create().expect("a topic");
    let _reader = topic.consumer();
    let mut producers = [(); 3].map(|()| topic.producer().expect("a producer"));
    for value in 0..1024 {
        producers[value % 3].send(value).expect("room");
    }
    for producer in &mut producers {
        assert!(producer.send(0).expect_err("full").is_full());
    }
}

#[test]
fn a_second_producer_of_a_topic_for_one_is_refused_while_the_first_lives() {
    let topic = new_topic().capacity(8).single_producer().create().expect("a topic");
    let mut reader = topic.consumer();
    let mut first = topic.producer().expect("the first");
    let refusal = topic.producer().expect_err("the second");
    assert!(matches!(&refusal, Error::ProducerInUse { topic } if topic == "t"), "{refusal}");
    assert!(refusal.is_retriable());
    first.send(0).expect("room");
    drop(first);
    let mut second = topic.producer().expect("the first has left");
    (1..8).for_each(|value| second.try_send(value).expect("the first left its room"));
    assert!(second.try_send(8).expect_err("full").is_full());
    topic.producer().expect_err("the second lives");
    assert_eq!(drain(&mut reader), Vec::from_iter(0..8));

    let queue = new_queue::<u32>().single_producer().create().expect("a queue");
    let first = queue.producer().expect("the first");
    assert!(matches!(queue.producer().expect_err("the second"), Error::ProducerInUse { .. }));
    drop(first);
    queue.producer().expect("the first has left");
}

#[test]
fn a_producer_of_a_closed_topic_is_refused() {
    let topic = topic::<u32>(2);
    topic.close();
    assert!(topic.producer().expect_err("closed").is_closed());
    let queue = queue::<u32>(2);
    queue.close();
    assert!(queue.producer().expect_err("closed").is_closed());
}

// ── Reading alone ──

#[test]
fn a_consumer_sees_every_value_that_is_sent_from_now_on_whichever_way_it_reads() {
    let topic = topic::<String>(64);
    let mut producer = topic.producer().expect("a producer");
    producer.send("before".into()).expect("sent");
    let mut reader = topic.consumer();
    assert_eq!((reader.position(), reader.lag(), reader.missed()), (1, 0, 0));
    assert_eq!((reader.try_recv(), reader.recv_timeout(Duration::ZERO)), (Ok(None), Ok(None)));
    assert_eq!(reader.recv_timeout(MOMENT), Ok(None));
    assert_eq!(reader.poll(Duration::ZERO, |_| unreachable!("nothing is there")), Ok(0));
    assert_eq!(reader.poll(MOMENT, |_| unreachable!("nothing is there")), Ok(0));
    assert_eq!(poll_once(reader.recv_async()), None);

    let sent: Vec<_> = (0..20).map(|number| format!("v{number}")).collect();
    producer.send_batch(&mut sent.clone()).expect("sent");
    assert_eq!(reader.lag(), 20);
    let mut read = vec![reader.recv().expect("there")];
    read.push(reader.try_recv().expect("there").expect("there"));
    read.push(reader.recv_timeout(FOR_EVER).expect("there").expect("there"));
    assert_eq!(reader.recv_with(|value| read.push(value.clone())), Ok(()));
    read.push(poll_once(reader.recv_async()).expect("there").expect("there"));
    assert_eq!((reader.position(), reader.lag()), (6, 15));
    assert_eq!(reader.recv_batch(&mut read, 0, FOR_EVER), Ok(0), "none were asked for");
    assert_eq!(reader.recv_batch(&mut read, 3, FOR_EVER), Ok(3));
    read.extend(reader.iter().take(2).map(|value| value.expect("nothing was missed")));
    assert_eq!(reader.poll(FOR_EVER, |value| read.push(value.clone())), Ok(10));
    assert_eq!((read, reader.position(), reader.lag()), (sent, 21, 0));
    assert_eq!(reader.recv_batch(&mut Vec::new(), usize::MAX, Duration::ZERO), Ok(0));
}

#[test]
fn a_run_that_is_lent_has_at_most_256_values_and_of_a_lossy_group_one() {
    let topic = topic::<u32>(1024);
    let mut reader = topic.consumer();
    let mut producer = topic.producer().expect("a producer");
    producer.send_batch(&mut Vec::from_iter(0..600)).expect("sent");
    let mut read = Vec::new();
    for run in [256, 256, 88, 0] {
        assert_eq!(reader.poll(Duration::ZERO, |value| read.push(*value)), Ok(run));
    }
    assert_eq!(read, Vec::from_iter(0..600));
    // Of a lossy group: one, since what is held cannot be dropped.
    let mut lossy = topic.consumer_builder().lossy().join();
    producer.send_slice(&[600, 601]).expect("room");
    assert_eq!(lossy.poll(Duration::ZERO, |value| read.push(*value)), Ok(1));
    assert_eq!(lossy.recv_batch(&mut read, 9, Duration::ZERO), Ok(1));
    assert_eq!(read, Vec::from_iter(0..602));
}

#[test]
fn whoever_waits_for_a_value_gets_it_whichever_way_it_waits() {
    type Wait = fn(&mut headwater::memory::Consumer<u32>) -> u32;
    let ways: [Wait; 6] = [
        |reader| reader.recv().expect("sent"),
        |reader| reader.recv_timeout(Duration::MAX).expect("sent").expect("in time"),
        |reader| reader.recv_with(|value| *value).expect("sent"),
        |reader| {
            let mut last = 0;
            assert_eq!(reader.poll(FOR_EVER, |value| last = *value), Ok(1));
            last
        },
        |reader| {
            let mut values = Vec::new();
            assert_eq!(reader.recv_batch(&mut values, 9, FOR_EVER), Ok(1));
            values[0]
        },
        |reader| reader.iter().next().expect("not closed").expect("nothing missed"),
    ];
    for strategy in [WaitStrategy::Park, WaitStrategy::Yield, WaitStrategy::BusySpin] {
        let topic = new_topic().capacity(2).wait_strategy(strategy).create().expect("a topic");
        let mut producer = topic.producer().expect("a producer");
        let mut reader = topic.consumer();
        let reading = thread::spawn(move || ways.map(|wait| wait(&mut reader)));
        // One at a time, so that each of them waits.
        for value in 1..=6 {
            until("the value before was read", || topic.metrics().depth == 0);
            producer.send(value).expect("sent");
        }
        assert_eq!(joined("all were read", reading), [1, 2, 3, 4, 5, 6], "{strategy:?}");
    }
}

#[test]
fn who_waits_long_sleeps_and_is_woken() {
    let topic = topic::<u32>(2);
    let (mut reader, mut producer) = (topic.consumer(), topic.producer().expect("a producer"));
    let reading = spawn_asleep(move || (reader.recv(), reader));
    producer.send(7).expect("room");
    let (value, mut reader) = joined("the reader is woken", reading);
    assert_eq!(value, Ok(7));
    let sending = spawn_asleep(move || (0..3).for_each(|value| producer.send(value).expect("sent")));
    assert_eq!((topic.metrics().depth, reader.recv()), (2, Ok(0)));
    joined("the sender is woken", sending);
    assert_eq!(drain(&mut reader), [1, 2]);
}

#[test]
fn a_value_that_is_lent_is_not_overwritten_whatever_the_policy() {
    for on_full in [OnFull::Block, OnFull::DropOldest] {
        let topic = new_topic().capacity(4).on_full(on_full).create().expect("a topic");
        let mut lossy = topic.consumer_builder().lossy().join();
        let mut producer = topic.producer().expect("a producer");
        producer.send(0_u32).expect("room");
        let seen = lossy.recv_with(|lent| {
            (1..4).for_each(|value| producer.try_send(value).expect("room"));
            for _ in 0..3 {
                let refused = producer.try_send(4).expect_err("the oldest is lent");
                assert!(refused.is_full(), "{refused}");
            }
            *lent
        });
        assert_eq!(seen, Ok(0), "{on_full:?}");
        producer.try_send(4).expect("it was given back");
        let mut read = Vec::new();
        let mut missed = 0;
        for value in lossy.try_iter() {
            value.map_or_else(|lagged| missed += lagged.missed, |value| read.push(value));
        }
        assert_eq!(missed + read.len() as u64, 4, "{on_full:?}");
        assert_eq!(read.last(), Some(&4));
    }
}

// ── Policies ──

#[test]
fn a_topic_without_a_group_overwrites_its_oldest_values_whatever_the_policy() {
    for on_full in [OnFull::Block, OnFull::Reject, OnFull::DropOldest] {
        let topic = new_topic().capacity(16).on_full(on_full).create().expect("a topic");
        let mut producer = topic.producer().expect("a producer");
        for value in 0..100_u32 {
            producer.send(value).expect("nobody holds it back");
        }
        let metrics = topic.metrics();
        assert_eq!((metrics.sent, metrics.groups.len(), metrics.blocked), (100, 0, Duration::ZERO));
        assert!((1..=16).contains(&metrics.depth), "{metrics:?}");
        let mut late = topic.consumer_builder().from_oldest().join();
        let kept = drain(&mut late);
        assert_eq!(kept, Vec::from_iter(100 - kept.len() as u32..100));
        assert_eq!(kept.len() as u64, metrics.depth);
        assert_eq!(drain(&mut topic.consumer()), []);
        // With a group it is as it was made.
        (0..16).for_each(|value| producer.try_send(value).expect("room"));
        assert_eq!(producer.try_send(16).is_err(), on_full != OnFull::DropOldest, "{on_full:?}");
    }
}

#[test]
fn a_topic_that_drops_its_oldest_never_refuses_and_counts_what_each_group_missed() {
    let topic = new_topic().capacity(4).on_full(OnFull::DropOldest).create().expect("a topic");
    let (mut slow, mut fast) = (topic.consumer(), topic.group("fast").join());
    let mut producer = topic.producer().expect("a producer");
    let mut seen = Vec::new();
    for value in 0..10_u32 {
        producer.send(value).expect("never refused");
        seen.push(fast.recv().expect("nothing was missed"));
    }
    assert_eq!(seen, Vec::from_iter(0..10));
    assert_eq!((slow.missed(), fast.missed()), (6, 0));
    assert_eq!(slow.recv(), Err(RecvError::Lagged(Lagged { missed: 6 })));
    assert_eq!(drain(&mut slow), [6, 7, 8, 9]);
    let dropped: Vec<_> = topic.metrics().groups.iter().map(|group| (group.name.clone(), group.dropped)).collect();
    assert!(dropped.contains(&(None, 6)) && dropped.contains(&(Some("fast".into()), 0)), "{dropped:?}");

    let error = Error::from(RecvError::Lagged(Lagged { missed: 6 }));
    assert!(matches!(error, Error::Lagged { missed: 6 }) && !error.is_closed() && error.is_retriable(), "{error}");
    assert!(Error::from(RecvError::Closed).is_closed() && RecvError::Closed.is_closed());
    assert!(!RecvError::from(Lagged { missed: 6 }).is_closed());
}

#[test]
fn the_gap_of_a_slow_reader_is_told_in_every_way_of_reading_before_the_first_value_behind_it() {
    type Read = fn(&mut headwater::memory::Consumer<u32>) -> Result<u32, RecvError>;
    let ways: [Read; 6] = [
        |reader| reader.recv(),
        |reader| reader.try_recv().map(|value| value.expect("there")),
        |reader| reader.recv_timeout(FOR_EVER).map(|value| value.expect("there")),
        |reader| {
            let mut first = None;
            reader.poll(FOR_EVER, |value| first = first.or(Some(*value)))?;
            Ok(first.expect("there"))
        },
        |reader| {
            let mut values = Vec::new();
            reader.recv_batch(&mut values, 9, FOR_EVER)?;
            Ok(values[0])
        },
        |reader| poll_once(reader.recv_async()).expect("there"),
    ];
    for (index, read) in ways.into_iter().enumerate() {
        let topic = new_topic().capacity(4).on_full(OnFull::DropOldest).create().expect("a topic");
        let mut reader = topic.consumer();
        topic.producer().expect("a producer").send_batch(&mut Vec::from_iter(0..7)).expect("never refused");
        assert_eq!(read(&mut reader), Err(RecvError::Lagged(Lagged { missed: 3 })), "way {index}");
        assert_eq!(read(&mut reader), Ok(3), "way {index}");
    }
}
