//! Topics: made, found again, refused. What fails here in the field: a topic is there under other settings than were
//! agreed, or half of one is left behind by a failure.

use std::time::Duration;

use headwater::config::{PARTITIONS_MAX, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use headwater::fs::simulated::{Fault, FaultKind, OpKind};
use headwater::{Broker, Error, Record, Start, TopicConfig};

use crate::support::{SMALL, close, directory, machine, open_dir, open_on, quick, small_topic, values};

fn names(broker: &Broker) -> Vec<String> {
    broker.topics().iter().map(ToString::to_string).collect()
}

#[test]
fn create_open_and_open_or_create_do_what_they_say() {
    let broker = Broker::in_memory().expect("a broker");
    let refusal = broker.topic("t").open().expect_err("not there");
    assert!(matches!(&refusal, Error::UnknownTopic { topic } if topic == "t"), "{refusal}");
    assert_eq!(names(&broker), [""; 0], "asking made it");
    let made = broker.topic("t").create().expect("new");
    let refusal = broker.topic("t").create().expect_err("there already");
    assert!(matches!(&refusal, Error::TopicExists { topic } if topic == "t"), "{refusal}");
    let opened = broker.topic("t").open().expect("there");
    let either = broker.topic("t").open_or_create().expect("there");
    assert_eq!((made.id(), made.id()), (opened.id(), either.id()));
    assert_ne!(broker.topic("u").open_or_create().expect("new").id(), made.id());
    assert_eq!(names(&broker), ["t", "u"]);
    // One topic, however often it was opened.
    quick(&made).send(Record::new("v0")).expect("sent");
    assert_eq!(values(&opened), ["v0"]);
    assert_eq!(either.name().as_str(), "t");
}

#[test]
fn a_topic_keeps_its_identity_and_settings_over_a_restart_whatever_is_asked_for_later() {
    let dir = directory();
    let broker = open_dir(dir.path());
    let made = broker.topic("t").partitions(3).segment_bytes(128 << 10).max_message_bytes(2048);
    let made = made.flush_messages(7).flush_interval(None).create().expect("new");
    let (id, config) = (made.id(), made.config().clone());
    assert_eq!((config.partitions, config.segment_bytes, config.max_message_bytes), (3, 128 << 10, 2048));
    assert_eq!((config.flush_messages, config.flush_interval), (Some(7), None));
    let mut all = TopicConfig::default();
    all.flush_interval = Some(Duration::from_millis(1));
    broker.topic("all").config(all.clone()).create().expect("new");
    drop(made);
    close(broker);

    let broker = open_dir(dir.path());
    let asked = broker.topic("t").partitions(9).segment_bytes(1 << 20).flush_messages(1);
    let found = asked.open_or_create().expect("there");
    assert_eq!((found.id(), found.config()), (id, &config));
    assert_eq!(found.metrics().len(), 3);
    assert_eq!(broker.topic("all").open().expect("there").config(), &all);
    // A builder that makes no sense finds what is there: its settings do not count.
    assert_eq!(broker.topic("t").partitions(0).open().expect("there").id(), id);
}

#[test]
fn a_setting_outside_its_limits_is_refused_with_name_value_and_limit_and_nothing_is_made() {
    let broker = Broker::in_memory().expect("a broker");
    let topic = || broker.topic("t");
    let cases = [
        (topic().partitions(0), "partitions = 0", "1 to 10000"),
        (topic().partitions(PARTITIONS_MAX + 1), "partitions = 10001", "1 to 10000"),
        (topic().segment_bytes(SEGMENT_BYTES_MIN - 4096), "segment.bytes = 61440", "65536"),
        (topic().segment_bytes(SEGMENT_BYTES_MAX + 4096), "segment.bytes = 1073745920", "1073741824"),
        (topic().segment_bytes(SEGMENT_BYTES_MIN + 1), "segment.bytes = 65537", "steps of 4096"),
        (topic().max_message_bytes(1023), "max.message.bytes = 1023", "1024"),
        (topic().segment_bytes(SMALL).max_message_bytes(16 << 10), "max.message.bytes = 16384", "a quarter"),
        (topic().flush_messages(0), "flush.messages = 0", "at least 1"),
        (topic().flush_interval(Duration::from_micros(999)), "flush.ms", "at least 1"),
    ];
    for (builder, what, limit) in cases {
        let refusal = builder.create().expect_err(what);
        assert!(matches!(refusal, Error::InvalidConfig { .. }) && refusal.is_invalid_input(), "{refusal}");
        let text = refusal.to_string();
        assert!(text.contains(what) && text.contains(limit), "{what}: {text}");
    }
    assert_eq!(names(&broker), [""; 0]);
    // The limits themselves are allowed, and the largest batch is made to fit the segment where nothing was said.
    let small = topic().segment_bytes(SEGMENT_BYTES_MIN).create().expect("the smallest");
    assert_eq!(small.config().max_message_bytes, (64 << 10) / 4 - 64);
}

#[test]
fn names_keep_kafkas_grammar_and_those_of_the_broker_are_refused() {
    let broker = Broker::in_memory().expect("a broker");
    let long = "x".repeat(249);
    for good in ["a", "A.b_c-9", "_x", "...", &long] {
        assert_eq!(broker.topic(good).create().expect(good).name().as_str(), good);
    }
    let longer = "x".repeat(250);
    for bad in ["", ".", "..", "a/b", "a b", "ä", "a\0", &longer, "__consumer_offsets", "__", "__mine"] {
        for refusal in [broker.topic(bad).create(), broker.topic(bad).open(), broker.topic(bad).open_or_create()] {
            let refusal = refusal.expect_err(bad);
            assert!(matches!(&refusal, Error::InvalidName(_)) && refusal.is_invalid_input(), "{bad:?}: {refusal}");
        }
    }
    for bad in ["", "..", "a/b"] {
        let refusal = broker.consumer(bad, Start::Earliest).topics(["a"]).build().expect_err(bad);
        assert!(refusal.to_string().contains("group name"), "{refusal}");
    }
}

#[test]
fn the_list_of_topics_is_in_order_and_shows_the_brokers_own() {
    let broker = Broker::in_memory().expect("a broker");
    for name in ["b", "a", "a.b", "C"] {
        broker.topic(name).create().expect("new");
    }
    assert_eq!(names(&broker), ["C", "a", "a.b", "b"]);
    broker.consumer("g", Start::Earliest).topics(["a"]).build().expect("a consumer");
    assert_eq!(names(&broker), ["C", "__consumer_offsets", "a", "a.b", "b"]);
}

#[test]
fn partitions_have_offsets_and_metrics_of_their_own_and_others_are_unknown() {
    let broker = Broker::in_memory().expect("a broker");
    let topic = broker.topic("t").partitions(3).create().expect("new");
    let mut producer = quick(&topic);
    for (partition, count) in [(0, 1), (2, 3)] {
        for _ in 0..count {
            producer.send(Record::new("v").partition(partition)).expect("sent");
        }
    }
    let ranges: Vec<_> = (0..3).map(|partition| topic.offsets(partition).expect("there")).collect();
    assert_eq!(ranges, [0..1, 0..0, 0..3]);
    let appended = topic.metrics();
    assert_eq!(appended.iter().map(|of| of.records_appended).collect::<Vec<_>>(), [1, 0, 3]);
    assert_eq!(appended.iter().map(|of| of.batches_appended).collect::<Vec<_>>(), [1, 0, 3]);
    assert!(appended[2].bytes_appended > appended[0].bytes_appended && appended[1].bytes_appended == 0);
    let refusal = topic.offsets(3).expect_err("0 to 2");
    assert!(matches!(&refusal, Error::UnknownPartition { partition: 3, partitions: 3, .. }), "{refusal}");
    let refused = producer.send(Record::new("v").partition(3)).expect_err("0 to 2");
    assert!(matches!(*refused.error, Error::UnknownPartition { partition: 3, .. }), "{refused}");
}

#[test]
fn a_topic_is_there_after_a_power_cut_once_it_was_made() {
    let fs = machine();
    let broker = open_on(&fs);
    let topic = broker.topic("t").partitions(2).segment_bytes(SMALL).create().expect("new");
    let after = open_on(&fs.crash(0));
    let found = after.topic("t").open().expect("still there");
    assert_eq!((found.id(), found.config()), (topic.id(), topic.config()));
    quick(&found).send(Record::new("v0").partition(1)).expect("sent");
    assert_eq!(values(&found), ["v0"]);
}

#[test]
fn a_topic_that_could_not_be_made_is_not_there_and_can_be_made_later() {
    for kind in [OpKind::CreateDir, OpKind::Create, OpKind::SyncDir, OpKind::Rename, OpKind::WriteAt] {
        for fault in [FaultKind::Eio, FaultKind::Enospc] {
            let fs = machine();
            let broker = open_on(&fs);
            fs.fail(Fault::forever(fault).only(kind));
            let refusal = broker.topic("t").create().expect_err("the disk says no");
            let is_known = matches!(&refusal, Error::Io { .. } | Error::StorageFull { .. });
            assert!(is_known, "{kind:?} {fault:?}: {refusal:?}");
            assert_eq!(names(&broker), [""; 0], "{kind:?} {fault:?}");
            fs.heal();
            let topic = small_topic(&broker, "t");
            quick(&topic).send(Record::new("v0")).expect("sent");
            drop(topic);
            close(broker);
            assert_eq!(values(&small_topic(&open_on(&fs), "t")), ["v0"], "{kind:?} {fault:?}");
        }
    }
}

#[test]
fn a_full_disk_is_said_as_such_when_a_topic_is_made() {
    for kind in [OpKind::CreateDir, OpKind::Create, OpKind::Allocate, OpKind::SetLen, OpKind::WriteAt] {
        let fs = machine();
        let broker = open_on(&fs);
        fs.fail(Fault::once(FaultKind::Enospc).only(kind));
        let refusal = broker.topic("t").create().expect_err("the disk is full");
        assert!(refusal.is_full() && refusal.is_retriable(), "{kind:?}: {refusal}");
    }
}
