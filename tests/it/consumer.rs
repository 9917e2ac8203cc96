//! Reading. What fails here in the field: a consumer begins elsewhere than it was told, passes over records or lends
//! them twice, is not woken, or holds bytes that change under it.

use std::sync::Arc;
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use headwater::fs::simulated::{Fault, FaultKind, OpKind};
use headwater::{Acks, Broker, Error, Offset, Record, Start, Timestamp, Topic, Visibility};

use crate::support::{
    FOR_EVER, PATIENCE, Read, SMALL, Woken, block_on, close, directory, drain, joined, machine, numbered, open_dir,
    open_on, partition_of, patient, quick, reader, segments, small_topic, values,
};

/// The first offset that a consumer with this start is lent, and its position before.
fn first(topic: &Topic, start: Start) -> (Offset, Option<Offset>) {
    let mut consumer = topic.consumer(start).build().expect("a consumer");
    let position = consumer.position(&partition_of("t", 0)).expect("it reads the partition");
    (position, drain(&mut consumer).first().map(|record| record.offset))
}

#[test]
fn a_consumer_begins_where_it_was_told() {
    let broker = Broker::in_memory().expect("a broker");
    let topic = small_topic(&broker, "t");
    assert_eq!(first(&topic, Start::Earliest), (0, None));
    assert_eq!(first(&topic, Start::Latest), (0, None));
    assert_eq!(first(&topic, Start::Offset(0)), (0, None), "the end of an empty log is in it");
    assert_eq!(first(&topic, Start::Timestamp(Timestamp(0))), (0, None));
    let batch: Vec<_> = numbered(0..10);
    quick(&topic).send_batch(&batch.iter().map(Record::new).collect::<Vec<_>>()).expect("sent");
    assert_eq!(first(&topic, Start::Earliest), (0, Some(0)));
    assert_eq!(first(&topic, Start::Latest), (10, None));
    assert_eq!(first(&topic, Start::Offset(7)), (7, Some(7)), "also in the middle of a batch");
    assert_eq!(first(&topic, Start::Offset(10)), (10, None));
    let refusal = topic.consumer(Start::Offset(11)).build().expect_err("beyond the end");
    let Error::OffsetOutOfRange { partition, offset: 11, first: 0, end: 10 } = refusal else { panic!("{refusal}") };
    assert_eq!(partition, partition_of("t", 0));
    let mut latest = topic.consumer(Start::Latest).build().expect("a consumer");
    quick(&topic).send(Record::new("new")).expect("sent");
    assert_eq!(drain(&mut latest).iter().map(|record| record.offset).collect::<Vec<_>>(), [10]);
}

#[test]
fn a_start_by_time_finds_the_first_record_of_that_time_or_later_however_they_are_ordered() {
    let dir = directory();
    let broker = open_dir(dir.path());
    let topic = small_topic(&broker, "t");
    let mut producer = quick(&topic);
    // Over several segments; most in order, some late by much, some early, several alike.
    let filler = [b'x'; 1000];
    let times: Vec<i64> = (0..400)
        .map(|number| match number % 50 {
            17 => number * 10 - 900,
            23 => number * 10 + 700,
            _ => number / 3 * 30,
        })
        .collect();
    for some in times.chunks(4) {
        let batch: Vec<_> = some.iter().map(|time| Record::new(&filler).timestamp(Timestamp(*time))).collect();
        producer.send_batch(&batch).expect("sent");
    }
    let check = |topic: &Topic| {
        for time in (-1_000..5_000).step_by(35).chain([i64::MIN, i64::MAX, times[399], times[399] + 1]) {
            let expected = times.iter().position(|at| *at >= time).map_or(400, |at| at as u64);
            let (position, lent) = first(topic, Start::Timestamp(Timestamp(time)));
            assert_eq!((position, lent), (expected, (expected < 400).then_some(expected)), "time {time}");
        }
    };
    check(&topic);
    drop(topic);
    drop(producer);
    close(broker);
    let broker = open_dir(dir.path());
    check(&small_topic(&broker, "t"));
}

#[test]
fn a_poll_lends_no_more_than_it_was_told_and_a_batch_may_be_lent_in_parts() {
    let broker = Broker::in_memory().expect("a broker");
    let topic = small_topic(&broker, "t");
    let all = numbered(0..25);
    for some in all.chunks(10) {
        quick(&topic).send_batch(&some.iter().map(Record::new).collect::<Vec<_>>()).expect("sent");
    }
    let mut consumer = topic.consumer(Start::Earliest).max_poll_records(4).build().expect("a consumer");
    let mut read = Vec::new();
    for expected in [4, 4, 4, 4, 4, 4, 1] {
        let batch = consumer.poll(Duration::ZERO).expect("a poll").expect("records");
        assert_eq!((batch.len(), batch.is_empty(), batch.iter().len()), (expected, false, expected));
        let mut records = batch.iter();
        records.next();
        assert_eq!(records.len(), expected - 1);
        read.extend((&batch).into_iter().map(|record| record.offset()));
        drop(batch);
        assert_eq!(consumer.position(&partition_of("t", 0)), Some(read.len() as u64));
    }
    assert_eq!(read, (0..25).collect::<Vec<_>>());
    assert!(consumer.poll(Duration::ZERO).expect("a poll").is_none());

    // By bytes: a batch is begun only below the limit, and one at least is lent.
    let mut consumer = topic.consumer(Start::Earliest).max_poll_bytes(1).build().expect("a consumer");
    let lens: Vec<_> = (0..3).map(|_| consumer.poll(Duration::ZERO).expect("a poll").expect("records").len()).collect();
    assert_eq!(lens, [10, 10, 5]);

    for (builder, setting) in [
        (topic.consumer(Start::Earliest).max_poll_records(0), "max.poll.records"),
        (topic.consumer(Start::Earliest).max_poll_bytes(0), "fetch.max.bytes"),
    ] {
        let refusal = builder.build().expect_err("nothing at a time");
        assert!(matches!(&refusal, Error::InvalidConfig { setting: named, .. } if *named == setting), "{refusal}");
    }
}

#[test]
fn the_default_poll_lends_at_most_500_records() {
    let broker = Broker::in_memory().expect("a broker");
    let topic = broker.topic("t").create().expect("a topic");
    let all = vec![Record::new("v"); 1200];
    quick(&topic).send_batch(&all).expect("sent");
    let mut consumer = reader(&topic);
    let lens: Vec<_> = (0..3).map(|_| consumer.poll(Duration::ZERO).expect("a poll").expect("records").len()).collect();
    assert_eq!(lens, [500, 500, 200]);
}

#[test]
fn a_seek_into_a_batch_that_is_partly_lent_begins_exactly_there() {
    let broker = Broker::in_memory().expect("a broker");
    let topic = small_topic(&broker, "t");
    let all = numbered(0..10);
    quick(&topic).send_batch(&all.iter().map(Record::new).collect::<Vec<_>>()).expect("sent");
    let mut consumer = topic.consumer(Start::Earliest).max_poll_records(3).build().expect("a consumer");
    let place = partition_of("t", 0);
    let next = |consumer: &mut headwater::Consumer| {
        let batch = consumer.poll(Duration::ZERO).expect("a poll");
        batch.map(|batch| batch.iter().map(|record| record.offset()).collect::<Vec<_>>())
    };
    assert_eq!(next(&mut consumer), Some(vec![0, 1, 2]));
    for (to, expected) in [(1, vec![1, 2, 3]), (4, vec![4, 5, 6]), (8, vec![8, 9]), (0, vec![0, 1, 2])] {
        consumer.seek(&place, to).expect("in the log");
        assert_eq!((consumer.position(&place), consumer.lag()), (Some(to), 10 - to));
        assert_eq!(next(&mut consumer), Some(expected));
    }
    // Into another batch, with this one partly lent.
    quick(&topic).send_batch(&vec![Record::new("v"); 5]).expect("sent");
    assert_eq!(next(&mut consumer), Some(vec![3, 4, 5]));
    consumer.seek(&place, 12).expect("in the log");
    assert_eq!(next(&mut consumer), Some(vec![12, 13, 14]));
    consumer.seek(&place, 1).expect("in the log");
    assert_eq!(next(&mut consumer), Some(vec![1, 2, 3]));
    consumer.seek(&place, 15).expect("the end is in the log");
    assert_eq!(next(&mut consumer), None);
    let refusal = consumer.seek(&place, 16).expect_err("beyond");
    assert!(matches!(refusal, Error::OffsetOutOfRange { offset: 16, first: 0, end: 15, .. }), "{refusal}");
    assert_eq!(consumer.position(&place), Some(15), "a refused seek moves nothing");
    for stranger in [partition_of("t", 1), partition_of("u", 0)] {
        let refusal = consumer.seek(&stranger, 0).expect_err("it does not read that");
        assert!(matches!(&refusal, Error::NotAssigned { partition } if *partition == stranger), "{refusal}");
        assert_eq!((consumer.position(&stranger), consumer.partition_lag(&stranger)), (None, None));
    }
}

#[test]
fn several_topics_are_read_in_turn_and_each_partition_in_order() {
    let broker = Broker::in_memory().expect("a broker");
    let one = broker.topic("one").partitions(2).create().expect("a topic");
    let two = broker.topic("two").create().expect("a topic");
    for number in 0..40 {
        let value = format!("v{number}");
        quick(&one).send(Record::new(&value).partition(number % 2)).expect("sent");
        quick(&two).send(Record::new(&value)).expect("sent");
    }
    let topics = ["one", "two", "one"]; // twice is once
    let builder = broker.consumer("g", Start::Earliest).topics(topics).max_poll_records(5);
    let mut consumer = builder.build().expect("a consumer");
    let names: Vec<_> = consumer.positions().iter().map(|(partition, _)| partition.to_string()).collect();
    assert_eq!(names, ["one-0", "one-1", "two-0"]);
    assert_eq!((consumer.lag(), consumer.partition_lag(&partition_of("two", 0))), (80, Some(40)));
    let mut read: std::collections::BTreeMap<(String, u32), Vec<u64>> = Default::default();
    let mut polls = 0;
    while let Some(batch) = consumer.poll(Duration::ZERO).expect("a poll") {
        polls += 1;
        for record in &batch {
            read.entry((record.topic().to_string(), record.partition())).or_default().push(record.offset());
        }
        drop(batch);
        if polls == 3 {
            assert_eq!(read.len(), 3, "partitions take turns: {read:?}");
        }
    }
    let lens: Vec<_> = read.values().map(Vec::len).collect();
    assert_eq!(lens, [20, 20, 40]);
    assert!(read.values().all(|offsets| offsets.iter().copied().eq(0..offsets.len() as u64)), "{read:?}");
    assert_eq!(consumer.lag(), 0);

    let refusal = broker.consumer("h", Start::Earliest).topics(["one", "none"]).build().expect_err("no such topic");
    assert!(matches!(&refusal, Error::UnknownTopic { topic } if topic == "none"), "{refusal}");
    let refusal = broker.consumer("h", Start::Earliest).build().expect_err("no topic");
    assert!(matches!(refusal, Error::InvalidConfig { .. }), "{refusal}");
    let wrong = broker.consumer("h", Start::Earliest).topics(["no/ne"]).build().expect_err("no name");
    assert_eq!(wrong.kind(), "invalid_name");
}

#[test]
fn a_poll_waits_and_is_woken_by_a_send_from_another_thread() {
    for visibility in [Visibility::Committed, Visibility::Durable] {
        let dir = directory();
        let broker = open_dir(dir.path());
        let topic = broker.topic("t").partitions(3).segment_bytes(SMALL).create().expect("a topic");
        let mut consumer = topic.consumer(Start::Latest).visibility(visibility).build().expect("a consumer");
        assert!(consumer.poll(Duration::from_millis(1)).expect("a poll").is_none(), "nothing is there");
        let rounds = 200;
        let (lent, told) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            for round in 0..rounds {
                let batch = match round % 2 {
                    0 => consumer.poll(FOR_EVER).expect("a poll").expect("for ever is long enough"),
                    _ => block_on(consumer.poll_async()).expect("a poll"),
                };
                lent.send(batch.len()).expect("the test listens");
            }
        });
        let mut producer = topic.producer().expect("a producer");
        for round in 0..rounds {
            producer.send(Record::new("v").partition(round % 3)).expect("sent");
            assert_eq!(told.recv_timeout(PATIENCE), Ok(1), "round {round}, {visibility:?}");
        }
        joined("the consumer ends", thread);
    }
}

#[test]
fn a_poll_of_a_task_is_woken_once_and_leaves_the_positions_when_cancelled() {
    let broker = Broker::in_memory().expect("a broker");
    let topic = broker.topic("t").create().expect("a topic");
    let mut consumer = reader(&topic);
    let woken: Arc<Woken> = Arc::default();
    let waker = Waker::from(Arc::clone(&woken));
    {
        let mut polling = Box::pin(consumer.poll_async());
        assert!(polling.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        quick(&topic).send(Record::new("v0")).expect("sent");
        assert_eq!(woken.times(), 1);
    }
    assert_eq!(consumer.position(&partition_of("t", 0)), Some(0), "cancelled after it was woken");
    quick(&topic).send(Record::new("v1")).expect("sent");
    assert_eq!(woken.times(), 1, "a cancelled poll is woken");
    assert_eq!(block_on(consumer.poll_async()).expect("a poll").len(), 2);
}

#[test]
fn a_durable_consumer_sees_nothing_that_a_power_cut_could_take() {
    let fs = machine();
    let broker = open_on(&fs);
    let topic = broker.topic("t").segment_bytes(SMALL).flush_interval(None).create().expect("a topic");
    let mut durable = topic.consumer(Start::Earliest).visibility(Visibility::Durable).build().expect("a consumer");
    let mut committed = reader(&topic);
    let mut unsynced = quick(&topic);
    let mut synced = topic.producer().expect("a producer");
    let mut read = Vec::new();
    for round in 0..20 {
        unsynced.send(Record::new(&format!("v{}", 2 * round))).expect("sent");
        assert_eq!(drain(&mut durable), [], "round {round}: not on the disk");
        assert_eq!((durable.lag(), drain(&mut committed).len()), (0, 1));
        let latest = topic.consumer(Start::Latest).visibility(Visibility::Durable).build().expect("a consumer");
        assert_eq!(latest.positions()[0].1, 2 * round, "the end as it sees it");
        synced.send(Record::new(&format!("v{}", 2 * round + 1))).expect("sent");
        read.extend(drain(&mut durable).into_iter().map(|record| record.value));
        assert_eq!(values(&small_topic(&open_on(&fs.crash(0)), "t")), read, "what was read is there for ever");
        drain(&mut committed);
    }
    assert_eq!(read, numbered(0..40));
}

#[test]
fn what_is_lent_stays_as_it_is_while_the_log_rolls_on() {
    let dir = directory();
    let broker = open_dir(dir.path());
    let topic = small_topic(&broker, "t");
    let mut producer = quick(&topic);
    let value = |number: u64| format!("{number:0>1000}");
    for number in 0..10 {
        producer.send(Record::new(&value(number))).expect("sent");
    }
    let mut consumer = reader(&topic);
    let batch = consumer.poll(Duration::ZERO).expect("a poll").expect("records");
    let first: Vec<_> = batch.iter().map(|record| record.value()).collect();
    for number in 10..1_000 {
        producer.send(Record::new(&value(number))).expect("sent");
    }
    topic.producer().expect("a producer").send(Record::new("synced")).expect("sent"); // segments are put to rest
    for (number, lent) in (0..).zip(&first) {
        assert_eq!(*lent, value(number).as_bytes());
    }
    assert_eq!(batch.len(), 10);
    drop(batch);
    assert_eq!(drain(&mut consumer).len(), 991);
}

#[test]
fn a_record_can_be_taken_out_of_its_batch() {
    let broker = Broker::in_memory().expect("a broker");
    let topic = small_topic(&broker, "t");
    quick(&topic).send(Record::new("v0").key("k").header("h", "1").timestamp(Timestamp(3))).expect("sent");
    let mut consumer = reader(&topic);
    let batch = consumer.poll(Duration::ZERO).expect("a poll").expect("records");
    // As the doc of `RecordView` says it, on what the iterator gives.
    let owned: headwater::OwnedRecord = batch.iter().next().map(|record| record.to_owned_record()).expect("one");
    drop(batch);
    assert_eq!((owned.key, owned.value, owned.timestamp), (Some(b"k".to_vec()), Some(b"v0".to_vec()), Timestamp(3)));
}

#[test]
fn a_consumer_without_a_group_has_nowhere_to_commit_to() {
    let fs = machine();
    let topic = small_topic(&open_on(&fs), "t");
    quick(&topic).send(Record::new("v0")).expect("sent");
    let mut consumer = reader(&topic);
    assert_eq!((consumer.group(), consumer.committed(&partition_of("t", 0))), (None, None));
    let syncs = fs.operations_of(OpKind::SyncData);
    let refusal = consumer.poll(Duration::ZERO).expect("a poll").expect("records").commit().expect_err("no group");
    assert!(matches!(refusal, Error::NoGroup), "{refusal}");
    assert_eq!(fs.operations_of(OpKind::SyncData), syncs, "and costs nothing");
    consumer.seek(&partition_of("t", 0), 0).expect("in the log");
    let batch = consumer.poll(Duration::ZERO).expect("a poll").expect("records");
    assert!(matches!(block_on(batch.commit_async()).expect_err("no group"), Error::NoGroup));
}

#[test]
fn a_segment_that_cannot_be_opened_for_a_moment_is_said_and_read_at_the_next_poll() {
    let fs = machine();
    let broker = open_on(&fs);
    let topic = small_topic(&broker, "t");
    let mut producer = topic.producer().expect("a producer");
    let value = [b'x'; 1000];
    for _ in 0..200 {
        producer.send(Record::new(&value)).expect("sent");
    }
    assert!(segments(&fs, &topic).len() >= 3);
    let mut consumer = topic.consumer(Start::Earliest).max_poll_records(1000).build().expect("a consumer");
    fs.fail(Fault::once(FaultKind::Emfile).only(OpKind::OpenRead));
    let refusal = consumer.poll(Duration::ZERO).expect_err("no file descriptor");
    assert!(matches!(&refusal, Error::Io { what: "open", .. }) && refusal.is_retriable(), "{refusal}");
    assert_eq!(consumer.position(&partition_of("t", 0)), Some(0));
    let offsets: Vec<_> = drain(&mut consumer).into_iter().map(|Read { offset, .. }| offset).collect();
    assert_eq!(offsets, (0..200).collect::<Vec<_>>());
}

#[test]
fn a_slow_reader_holds_no_producer_back() {
    let broker = Broker::in_memory().expect("a broker");
    let topic = small_topic(&broker, "t");
    let mut slow = reader(&topic);
    let mut producer = patient(&topic, Acks::Appended);
    for value in numbered(0..20_000) {
        drop(producer.send_nowait(Record::new(&value)).expect("taken"));
    }
    producer.flush().expect("flushed");
    assert_eq!(slow.lag(), 20_000);
    assert_eq!(drain(&mut slow).into_iter().map(|record| record.value).collect::<Vec<_>>(), numbered(0..20_000));
}
