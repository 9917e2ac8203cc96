//! Sending and waiting. What fails here in the field: records in another order, in another partition, changed on the
//! way, acked before they are safe, or lost together with the error that should have brought them back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use headwater::fs::simulated::{Fault, FaultKind, OpKind};
use headwater::time::Clock;
use headwater::{Acks, Broker, Error, OwnedRecord, PartitionId, Partitioner, Record, Timestamp, TopicName};

use crate::support::{
    SMALL, builder_on, directory, drain, joined, machine, numbered, open_dir, open_on, patient, quick, reader, records,
    small_topic, values,
};

#[test]
fn send_returns_the_place_and_the_record_is_read_back_whole() {
    let broker = Broker::in_memory().expect("a broker");
    let topic = broker.topic("t").partitions(2).create().expect("a topic");
    let mut producer = topic.producer().expect("a producer");
    for (partition, offset) in [(0, 0), (1, 0), (0, 1)] {
        let at = producer.send(Record::new("v").partition(partition)).expect("sent");
        assert_eq!((at.partition, at.offset), (partition, offset));
    }
    assert_eq!(producer.topic().name().as_str(), "t");
}

#[test]
fn every_kind_of_record_comes_back_as_it_went_in() {
    let clock = Clock::manual(Timestamp(5_000));
    let fs = headwater::fs::Simulated::memory();
    let broker = builder_on(&fs).clock(clock.clone()).open().expect("a broker");
    let topic = small_topic(&broker, "t");
    let mut producer = quick(&topic);
    let owned = |key: Option<&str>, value: Option<&str>, timestamp| OwnedRecord {
        key: key.map(Into::into),
        value: value.map(Into::into),
        headers: Vec::new(),
        timestamp: Timestamp(timestamp),
    };
    let header = |name: &str, value: Option<&str>| (name.to_string(), value.map(|value| value.as_bytes().to_vec()));
    let headers = vec![
        header("same", Some("1")),
        header("", Some("no name")),
        header("same", Some("2")),
        header("empty", Some("")),
        header("null", None),
        header("same", Some("1")),
    ];
    let with_headers = OwnedRecord { headers, ..owned(Some("k"), Some("v"), -7) };
    let expected = [
        owned(None, Some("plain"), 5_000),
        owned(Some(""), Some(""), 5_000),
        owned(Some("k"), None, 5_000),
        owned(None, Some("late"), i64::MAX),
        owned(None, Some("early"), i64::MIN),
        owned(None, Some("zero"), 0),
        with_headers.clone(),
        owned(None, Some("later"), 5_250),
    ];
    producer.send(Record::new("plain")).expect("sent");
    producer.send(Record::new("").key("")).expect("sent");
    producer.send(Record::tombstone("k")).expect("sent");
    for (value, timestamp) in [("late", i64::MAX), ("early", i64::MIN), ("zero", 0)] {
        producer.send(Record::new(value).timestamp(Timestamp(timestamp))).expect("sent");
    }
    producer.send(with_headers.as_record()).expect("sent");
    clock.advance(Duration::from_millis(250));
    producer.send(Record::new("later")).expect("sent");
    assert_eq!(records(&topic), expected);

    // The other two ways stamp alike.
    producer.send_batch(&[Record::new("batched")]).expect("sent");
    drop(producer.send_nowait(Record::new("collected")).expect("taken"));
    let stamps: Vec<_> = records(&topic).iter().rev().take(2).map(|record| record.timestamp).collect();
    assert_eq!(stamps, [Timestamp(5_250); 2]);

    // In one batch too, where times and offsets are kept as differences; and a null value is not an empty one.
    let again: Vec<Record<'_>> = expected.iter().map(OwnedRecord::as_record).collect();
    let batched = small_topic(&broker, "u");
    quick(&batched).send_batch(&again).expect("sent");
    assert_eq!(records(&batched), expected);
    let mut consumer = reader(&batched);
    let batch = consumer.poll(Duration::ZERO).expect("a poll").expect("records");
    let tombstones: Vec<bool> = batch.iter().map(|record| record.is_tombstone()).collect();
    assert_eq!(tombstones.iter().position(|is| *is), Some(2));
    assert_eq!(tombstones.iter().filter(|is| **is).count(), 1, "the empty value is not null");
    let names: Vec<_> = batch.iter().nth(6).expect("the seventh").headers().map(|header| header.name).collect();
    assert_eq!(names, ["same", "", "same", "empty", "null", "same"]);
    assert_eq!(records(&small_topic(&open_on(&fs.kill()), "u")), expected, "from the files");
}

#[test]
fn the_three_ways_to_send_keep_one_producers_order() {
    for acks in [Acks::Appended, Acks::Synced] {
        let dir = directory();
        let broker = open_dir(dir.path());
        let topic = small_topic(&broker, "t");
        let mut producer = patient(&topic, acks);
        let all = numbered(0..3_000);
        let mut next = 0;
        let mut round = 0;
        while next < all.len() {
            round += 1;
            match round % 4 {
                0 => {
                    producer.send(Record::new(&all[next])).expect("sent");
                    next += 1;
                }
                1 | 2 => {
                    drop(producer.send_nowait(Record::new(&all[next])).expect("taken"));
                    next += 1;
                }
                _ => {
                    let end = (next + round % 300).min(all.len());
                    let some: Vec<_> = all[next..end].iter().map(Record::new).collect();
                    let sent = producer.send_batch(&some).expect("sent");
                    let offsets: Vec<_> = sent.iter().map(|at| at.offset as usize).collect();
                    assert_eq!(offsets, (next..end).collect::<Vec<_>>());
                    next = end;
                }
            }
        }
        producer.flush().expect("flushed");
        assert_eq!(values(&topic), all, "{acks:?}");
    }
}

#[test]
fn clones_on_many_threads_each_keep_their_order_and_nothing_is_lost_or_doubled() {
    const THREADS: usize = 4;
    const EACH: usize = 2_000;
    let dir = directory();
    let broker = open_dir(dir.path());
    let topic = broker.topic("t").partitions(3).segment_bytes(SMALL).create().expect("a topic");
    let producer = topic.producer_builder().acks(Acks::Appended).batch_bytes(512).build().expect("a producer");
    let threads = (0..THREADS).map(|thread| {
        let mut producer = producer.clone();
        thread::spawn(move || {
            for number in 0..EACH {
                let (value, partition) = (format!("{thread} {number}"), (number % 3) as u32);
                let record = Record::new(&value).partition(partition);
                match number % 3 {
                    0 => drop(producer.send(record).expect("sent")),
                    1 => drop(producer.send_nowait(record).expect("taken")),
                    _ => drop(producer.send_batch(&[record]).expect("sent")),
                }
            }
            producer.flush().expect("flushed");
        })
    });
    for thread in threads.collect::<Vec<_>>() {
        joined("a producer ends", thread);
    }
    let read = drain(&mut reader(&topic));
    assert_eq!(read.len(), THREADS * EACH);
    let mut next: BTreeMap<(u32, &str), usize> = BTreeMap::new();
    for record in &read {
        let (thread, number) = record.value.split_once(' ').expect("two numbers");
        let number: usize = number.parse().expect("a number");
        let last = next.insert((record.partition, thread), number + 1).unwrap_or(0);
        assert!(number >= last, "{record:?} comes after number {last}");
        assert_eq!(number % 3, record.partition as usize);
    }
    let distinct: BTreeSet<&str> = read.iter().map(|record| record.value.as_str()).collect();
    assert_eq!(distinct.len(), THREADS * EACH);
}

#[test]
fn a_batch_goes_to_its_partitions_in_order_and_the_answer_is_in_the_order_given() {
    let broker = Broker::in_memory().expect("a broker");
    let topic = broker.topic("t").partitions(3).create().expect("a topic");
    let mut producer = quick(&topic);
    assert_eq!(producer.send_batch(&[]).expect("nothing is fine"), []);
    let all = numbered(0..9);
    let batch: Vec<_> = (0..).zip(&all).map(|(at, value)| Record::new(value).partition([2, 0, 2][at % 3])).collect();
    let sent = producer.send_batch(&batch).expect("sent");
    let places: Vec<_> = sent.iter().map(|at| (at.partition, at.offset)).collect();
    assert_eq!(places, [(2, 0), (0, 0), (2, 1), (2, 2), (0, 1), (2, 3), (2, 4), (0, 2), (2, 5)]);
    assert_eq!(topic.metrics().iter().map(|of| of.batches_appended).collect::<Vec<_>>(), [1, 0, 1]);
    for record in drain(&mut reader(&topic)) {
        let at = sent.iter().position(|at| (at.partition, at.offset) == (record.partition, record.offset));
        assert_eq!(record.value, all[at.expect("one that was sent")]);
    }
}

#[test]
fn a_batch_larger_than_a_message_becomes_as_few_as_fit() {
    let broker = Broker::in_memory().expect("a broker");
    let topic = broker.topic("t").max_message_bytes(1024).create().expect("a topic");
    let value = [b'x'; 400];
    let batch: Vec<_> = (0..10).map(|_| Record::new(&value)).collect();
    let sent = quick(&topic).send_batch(&batch).expect("sent");
    assert_eq!(sent.iter().map(|at| at.offset).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    assert_eq!(topic.metrics()[0].batches_appended, 5, "two of 400 bytes fit 1024");
}

#[test]
fn a_refused_batch_says_which_of_its_records_are_in_the_log() {
    let broker = Broker::in_memory().expect("a broker");
    let topic = broker.topic("t").partitions(2).max_message_bytes(1024).create().expect("a topic");
    let mut producer = quick(&topic);
    let (value, too_large) = ([b'x'; 400], [b'x'; 1000]);
    let mut batch: Vec<_> = (0..6).map(|_| Record::new(&value).partition(0)).collect();
    batch.push(Record::new(&too_large).partition(0));
    batch.push(Record::new(&value).partition(1));
    let refused = producer.send_batch(&batch).expect_err("one is too large");
    assert!(matches!(*refused.error, Error::RecordTooLarge { limit: 1024, .. }), "{refused}");
    let in_log = refused.sent.iter().flatten().count();
    assert!(refused.to_string().contains(&format!("{} of 8 records were not sent", 8 - in_log)), "{refused}");
    let read = drain(&mut reader(&topic));
    let told: Vec<_> = refused.sent.iter().flatten().map(|at| (at.partition, at.offset)).collect();
    assert_eq!(read.iter().map(|record| (record.partition, record.offset)).collect::<Vec<_>>(), told);

    // Nothing is sent where a partition is wrong.
    let before = topic.offsets(0).expect("there").end;
    let refused = producer.send_batch(&[Record::new("v").partition(0), Record::new("v").partition(9)]);
    let refused = refused.expect_err("no partition 9");
    assert_eq!(topic.offsets(0).expect("there").end - before, refused.sent.iter().flatten().count() as u64);
    // And what was left over of a refused batch is not sent with the next.
    let at = producer.send(Record::new("next").partition(1)).expect("sent");
    assert_eq!(
        drain(&mut reader(&topic)).pop().map(|record| (record.offset, record.value)),
        Some((at.offset, "next".into()))
    );
}

#[test]
fn what_a_refused_batch_says_is_in_the_log_is_as_safe_as_the_acks_say() {
    let (value, too_large) = ([b'x'; 400], [b'x'; 1000]);
    for wrong in [Record::new(&too_large).partition(1), Record::new("v").partition(9)] {
        let fs = machine();
        let broker = open_on(&fs);
        let topic = broker.topic("t").partitions(2).segment_bytes(SMALL).max_message_bytes(1024);
        let topic = topic.create().expect("a topic");
        let mut batch: Vec<_> = (0..4).map(|_| Record::new(&value).partition(0)).collect();
        batch.push(wrong);
        let refused = producer_of(&topic).send_batch(&batch).expect_err("one is wrong");
        let told: Vec<_> = refused.sent.iter().flatten().map(|at| (at.partition, at.offset)).collect();
        let after = open_on(&fs.crash(0));
        let read = drain(&mut reader(&small_topic(&after, "t")));
        let found: Vec<_> = read.iter().map(|record| (record.partition, record.offset)).collect();
        assert_eq!(found, told, "{}: said to be synced, gone after a power cut", refused.error);
    }
}

#[test]
fn acks_are_given_when_the_record_survives_what_they_name() {
    for (acks, survives_power_cut) in [(Acks::Appended, false), (Acks::Synced, true)] {
        let fs = machine();
        let broker = open_on(&fs);
        let topic = broker.topic("t").segment_bytes(SMALL).flush_interval(None).create().expect("a topic");
        // The first record makes the segment known to the disk.
        topic.producer().expect("a producer").send(Record::new("v0")).expect("sent");
        let mut producer = topic.producer_builder().acks(acks).build().expect("a producer");
        producer.send(Record::new("v1")).expect("sent");
        producer.send_batch(&[Record::new("v2")]).expect("sent");
        producer.send_nowait(Record::new("v3")).expect("taken").wait().expect("acked");
        producer.flush().expect("flushed");
        assert_eq!(values(&small_topic(&open_on(&fs.kill()), "t")), numbered(0..4), "{acks:?}, the process died");
        let left = if survives_power_cut { 4 } else { 1 };
        assert_eq!(values(&small_topic(&open_on(&fs.crash(0)), "t")), numbered(0..left), "{acks:?}, the power was cut");
        assert_eq!(topic.metrics()[0].durable_end, left as u64);
    }
}

#[test]
fn flush_messages_bounds_what_a_power_cut_takes_whatever_the_acks() {
    let fs = machine();
    let broker = open_on(&fs);
    let topic = broker.topic("t").segment_bytes(SMALL).flush_messages(3).create().expect("a topic");
    let mut producer = quick(&topic);
    for (sent, value) in numbered(0..10).iter().enumerate() {
        producer.send(Record::new(value)).expect("sent");
        let left = values(&small_topic(&open_on(&fs.crash(0)), "t")).len();
        assert!(sent + 1 - left < 3, "{left} of {} are left", sent + 1);
    }
}

#[test]
fn keys_go_where_kafkas_java_client_sends_them() {
    let broker = Broker::in_memory().expect("a broker");
    let topic = broker.topic("t").partitions(1000).segment_bytes(SMALL).create().expect("a topic");
    let mut producer = quick(&topic);
    // Hashes of org.apache.kafka.common.utils.UtilsTest, and of the empty key.
    let cases: [(&[u8], i32); 7] = [
        (b"21", -973_932_308),
        (b"foobar", -790_332_482),
        (b"a-little-bit-long-string", -985_981_536),
        (b"a-little-bit-longer-string", -1_486_304_829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        (b"abc", 479_470_107),
        (b"", 275_646_681),
    ];
    for (key, hash) in cases {
        let expected = (hash.cast_unsigned() & 0x7fff_ffff) % 1000;
        let record = || Record::new("v").key(key);
        assert_eq!(producer.send(record()).expect("sent").partition, expected, "{key:?}");
        assert_eq!(producer.send_nowait(record()).expect("taken").partition(), expected, "{key:?}");
        assert_eq!(producer.send_batch(&[record()]).expect("sent")[0].partition, expected, "{key:?}");
        let elsewhere = record().partition((expected + 1) % 1000);
        assert_eq!(producer.send(elsewhere).expect("sent").partition, (expected + 1) % 1000, "its own wish counts");
    }
}

#[test]
fn records_without_a_key_spread_over_all_partitions_batch_by_batch() {
    let broker = Broker::in_memory().expect("a broker");
    let topic = broker.topic("t").partitions(4).create().expect("a topic");
    let partitions_with_records =
        |topic: &headwater::Topic| topic.metrics().iter().filter(|of| of.records_appended > 0).count();
    let mut producer = quick(&topic);
    for _ in 0..4 {
        producer.send(Record::new("v")).expect("sent");
    }
    assert_eq!(partitions_with_records(&topic), 4, "send");

    let topic = broker.topic("u").partitions(4).create().expect("a topic");
    for _ in 0..4 {
        let sent = producer_of(&topic).send_batch(&[Record::new("v"), Record::new("w")]).expect("sent");
        assert_eq!(sent[0].partition, sent[1].partition, "one batch, one partition");
    }
    let mut producer = producer_of(&topic);
    for _ in 0..4 {
        producer.send_batch(&[Record::new("v")]).expect("sent");
    }
    assert_eq!(partitions_with_records(&topic), 4, "send_batch");

    // Full batches: many records, each batch in one partition, and all partitions in turn.
    let topic = broker.topic("w").partitions(4).create().expect("a topic");
    let mut producer =
        topic.producer_builder().acks(Acks::Appended).linger(crate::support::FOR_EVER).batch_bytes(2048).build();
    let producer = producer.as_mut().expect("a producer");
    for _ in 0..4_000 {
        drop(producer.send_nowait(Record::new(&[b'x'; 100])).expect("taken"));
    }
    producer.flush().expect("flushed");
    let metrics = topic.metrics();
    assert_eq!(metrics.iter().map(|of| of.records_appended).sum::<u64>(), 4_000);
    for of in &metrics {
        assert!((900..=1_100).contains(&of.records_appended), "uneven: {metrics:?}");
        assert!(of.records_appended / of.batches_appended >= 10, "batches stay large: {of:?}");
    }
}

fn producer_of(topic: &headwater::Topic) -> headwater::Producer {
    topic.producer().expect("a producer")
}

#[test]
fn a_partitioner_of_ones_own_is_asked_once_a_record_and_its_mistakes_refuse_the_record() {
    #[derive(Debug, Default)]
    struct ByValue(Arc<AtomicUsize>);
    impl Partitioner for ByValue {
        fn partition(&self, topic: &TopicName, record: &Record<'_>, partitions: u32) -> Option<PartitionId> {
            self.0.fetch_add(1, Ordering::SeqCst);
            assert_eq!((topic.as_str(), partitions), ("t", 3));
            match record.value_bytes() {
                Some(b"panics") => panic!("a partitioner that panics"),
                Some(b"outside") => Some(3),
                Some(b"anywhere") => None,
                _ => Some(2),
            }
        }
    }
    let asked = Arc::new(AtomicUsize::new(0));
    let broker = Broker::in_memory().expect("a broker");
    let topic = broker.topic("t").partitions(3).create().expect("a topic");
    let builder = topic.producer_builder().partitioner(ByValue(Arc::clone(&asked)));
    let mut producer = builder.acks(Acks::Appended).build().expect("a producer");

    assert_eq!(producer.send(Record::new("v")).expect("sent").partition, 2);
    assert_eq!(producer.send(Record::new("v").partition(1)).expect("sent").partition, 1);
    assert_eq!(asked.load(Ordering::SeqCst), 1, "not asked where the record says it");
    producer.send(Record::new("anywhere")).expect("sent");
    let in_log = |topic: &headwater::Topic| topic.metrics().iter().map(|of| of.records_appended).sum::<u64>();
    let before = in_log(&topic);
    for (value, kind) in [("panics", "panicked"), ("outside", "unknown_partition")] {
        let refused = producer.send(Record::new(value)).expect_err(value);
        assert_eq!((refused.error.kind(), refused.record.value_bytes()), (kind, Some(value.as_bytes())));
        let refused = producer.send_nowait(Record::new(value)).expect_err(value);
        assert_eq!((refused.error.kind(), refused.record.value_bytes()), (kind, Some(value.as_bytes())));
        let refused = producer.send_batch(&[Record::new(value)]).expect_err(value);
        assert_eq!((refused.error.kind(), &refused.sent[..]), (kind, &[None][..]));
    }
    producer.flush().expect("flushed");
    assert_eq!(in_log(&topic), before, "a refused record was sent");
    assert_eq!(producer.send(Record::new("v")).expect("as before").partition, 2);
}

#[test]
fn a_record_that_is_too_large_comes_back_with_size_and_limit() {
    let broker = Broker::in_memory().expect("a broker");
    let topic = broker.topic("t").max_message_bytes(2048).create().expect("a topic");
    let mut producer = quick(&topic);
    let too_large = [b'x'; 2048];
    let record = || Record::new(&too_large).key("k").header("h", "1");
    let refused = producer.send(record()).expect_err("too large");
    let Error::RecordTooLarge { topic: named, size, limit: 2048 } = &*refused.error else { panic!("{refused}") };
    assert!(named == "t" && *size > 2048 && refused.error.is_invalid_input(), "{refused}");
    assert_eq!(refused.into_inner(), record());
    assert_eq!(producer.send_nowait(record()).expect_err("too large").into_inner(), record());
    assert_eq!(producer.send_batch(&[record()]).expect_err("too large").sent, [None]);
    // "That large less about 100 bytes" is taken, also where it is larger than what is collected for.
    let mut small = topic.producer_builder().batch_bytes(512).acks(Acks::Appended).build().expect("a producer");
    let large = [b'y'; 1900];
    small.send_nowait(Record::new("before")).expect("taken").wait().expect("appended");
    let large = small.send_nowait(Record::new(&large)).expect("taken");
    let after = small.send_nowait(Record::new("after")).expect("taken");
    assert_eq!((large.wait().expect("appended"), after.wait().expect("appended")), (1, 2));
    let refusal = topic.producer_builder().batch_bytes(511).build().expect_err("below the limit");
    assert!(matches!(refusal, Error::InvalidConfig { setting: "batch.size", .. }), "{refusal}");
}

#[test]
fn a_send_that_the_disk_refuses_gives_the_record_back_and_leaves_nothing_behind() {
    // The first append makes a file, sizes it, gives it blocks, and asks for more of them.
    for (kind, passed) in [(OpKind::SetLen, 0), (OpKind::Allocate, 0), (OpKind::Allocate, 1)] {
        let fs = machine();
        let broker = open_on(&fs);
        let topic = small_topic(&broker, "t");
        let mut producer = topic.producer().expect("a producer");
        fs.fail(Fault::once(FaultKind::Enospc).only(kind).after(fs.operations_of(kind) + passed));
        let refused = producer.send(Record::new("v0").key("k")).expect_err("no room for a segment");
        assert!(refused.error.is_full() && refused.error.is_retriable(), "{kind:?} {passed}: {refused}");
        assert_eq!((topic.metrics()[0].appends_refused, topic.metrics()[0].log_end), (1, 0), "{kind:?} {passed}");
        assert_eq!(producer.send(refused.into_inner()).expect("there is room").offset, 0);
        assert_eq!(values(&topic), ["v0"]);
    }
}
