//! A disk that fails or is full. What fails here in the field: an ack for what is not on the disk, a retry that is
//! taken for success, a full disk that ends the program or that nothing but a restart gets over.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use headwater::fs::Simulated;
use headwater::fs::simulated::{Fault, FaultKind, OpKind};
use headwater::{Acks, Ended, Error, Record, Start, Visibility};

use crate::support::{
    DATA, Gate, PATIENCE, SMALL, block_on, builder_on, close, drain, files, joined, machine, numbered, open_on,
    partition_of, patient, quick, reader, segments, small_topic, until, values,
};

fn is_segment(path: &std::path::Path) -> bool {
    path.to_string_lossy().ends_with(".log")
}

#[test]
fn a_failed_sync_is_told_to_everybody_who_waits_for_it_and_nothing_is_acked_after_it() {
    let fs = Simulated::memory();
    let broker = open_on(&fs);
    let topic = broker.topic("t").segment_bytes(SMALL).flush_interval(None).create().expect("a topic");
    let other = small_topic(&broker, "other");
    let mut producer = topic.producer().expect("a producer");
    producer.send_batch(&[Record::new("v0"), Record::new("v1")]).expect("synced");
    let gate = Gate::hold(&fs, OpKind::SyncData, is_segment);
    fs.fail(Fault::once(FaultKind::Eio).only(OpKind::SyncData));

    let (told, hears) = mpsc::channel();
    let mut threads = Vec::new();
    for waiter in 0..6 {
        let (topic, told) = (topic.clone(), told.clone());
        threads.push(thread::spawn(move || {
            let value = format!("unacked {waiter}");
            let mut producer = topic.producer().expect("a producer");
            let record = Record::new(&value);
            let refused = match waiter % 3 {
                0 => producer.send(record).map(drop).map_err(|refused| (*refused.error, true)),
                1 => {
                    let ticket = producer.send_nowait(record).expect("taken");
                    ticket.wait().map(drop).map_err(|refused| (*refused.error, refused.record.is_none()))
                }
                _ => {
                    let ticket = producer.send_nowait(record).expect("taken");
                    block_on(ticket).map(drop).map_err(|refused| (*refused.error, refused.record.is_none()))
                }
            };
            told.send((waiter, refused)).expect("the test listens");
        }));
    }
    until("all are appended", || topic.metrics()[0].log_end == 8);
    gate.until_somebody_waits();
    gate.open();
    for _ in 0..6 {
        let (waiter, refused) = hears.recv_timeout(PATIENCE).expect("everybody is told");
        let (error, may_be_there) = refused.expect_err("nobody knows what the disk holds");
        let Error::Fenced { partition, durable_end, .. } = &error else { panic!("waiter {waiter}: {error}") };
        assert_eq!((partition, *durable_end), (&partition_of("t", 0), 2));
        assert!(may_be_there, "waiter {waiter}: a record that may be in the log came back: it would be there twice");
    }
    threads.into_iter().for_each(|thread| joined("it was told", thread));

    // The fault is gone and the next sync would say that all is well: nobody asks it.
    let refused = producer.send(Record::new("later")).expect_err("fenced");
    assert!(refused.error.is_fenced() && !refused.error.is_retriable(), "{refused}");
    let refused = producer.send_nowait(Record::new("later")).expect("taken").wait().expect_err("fenced");
    assert!(refused.error.is_fenced(), "{refused}");
    assert_eq!(refused.record.expect("it was not appended").value.as_deref(), Some(&b"later"[..]));
    assert!(producer.send_batch(&[Record::new("later")]).expect_err("fenced").error.is_fenced());
    assert!(quick(&topic).send(Record::new("later")).expect_err("fenced").error.is_fenced(), "whatever the acks");
    assert_eq!(topic.metrics()[0].log_end, 8);
    for visibility in [Visibility::Committed, Visibility::Durable] {
        let mut consumer = topic.consumer(Start::Earliest).visibility(visibility).build().expect("a consumer");
        let read: Vec<_> = drain(&mut consumer).into_iter().map(|record| record.value).collect();
        assert_eq!((read, consumer.lag()), (numbered(0..2), 0), "{visibility:?}: reads go on to the durable end");
    }
    other.producer().expect("a producer").send(Record::new("v0")).expect("other partitions go on");
    assert!(broker.close(PATIENCE).expect_err("not everything was synced").is_fenced());
}

#[test]
fn a_fenced_partition_is_verified_by_opening_it_again_and_keeps_what_was_acked() {
    for seed in 0..40 {
        // A failed sync loses what the seed says, for good.
        let fs = Simulated::new(seed).without_write_back();
        let broker = open_on(&fs);
        let topic = small_topic(&broker, "t");
        let mut producer = topic.producer().expect("a producer");
        let mut acked = numbered(0..5);
        for value in &acked {
            producer.send(Record::new(value)).expect("synced");
        }
        fs.fail(Fault::once(FaultKind::Eio).only(OpKind::SyncData).after(fs.operations_of(OpKind::SyncData)));
        let batch: Vec<_> = (5..9).map(|number| format!("v{number}")).collect();
        let refused = producer.send_batch(&batch.iter().map(Record::new).collect::<Vec<_>>());
        assert!(refused.expect_err("the sync failed").error.is_fenced(), "seed {seed}");
        let closed = broker.close(PATIENCE).expect_err("fenced");
        assert!(closed.is_fenced(), "seed {seed}: {closed}");
        drop((topic, producer));

        let broker = open_on(&fs);
        let topic = small_topic(&broker, "t");
        assert_eq!(topic.recovery().next().expect("a partition").ended, Ended::Fenced, "seed {seed}");
        let found = values(&topic);
        assert!(found == numbered(0..5) || found == numbered(0..9), "seed {seed}: {found:?}");
        topic.producer().expect("a producer").send(Record::new("new")).expect("it takes records again");
        acked = found;
        acked.push("new".into());
        assert_eq!(values(&topic), acked, "seed {seed}");
        assert_eq!(values(&small_topic(&open_on(&fs.crash(0)), "t")), acked, "seed {seed}: after a power cut");
    }
}

#[test]
fn a_consumer_that_waits_when_the_partition_is_fenced_is_told_what_is_there_and_no_more() {
    let fs = machine();
    let broker = open_on(&fs);
    let topic = broker.topic("t").segment_bytes(SMALL).flush_interval(None).create().expect("a topic");
    topic.producer().expect("a producer").send(Record::new("v0")).expect("synced");
    quick(&topic).send(Record::new("v1")).expect("appended");
    let mut consumer = reader(&topic);
    assert_eq!(drain(&mut consumer).len(), 2, "both are committed");
    fs.fail(Fault::once(FaultKind::Eio).only(OpKind::SyncData));
    topic.producer().expect("a producer").send(Record::new("v2")).expect_err("the sync failed");
    assert!(consumer.poll(Duration::from_millis(1)).expect("reads go on").is_none());
    assert_eq!((consumer.position(&partition_of("t", 0)), consumer.lag()), (Some(2), 0));
    consumer.seek(&partition_of("t", 0), 0).expect("in the log");
    assert_eq!(drain(&mut consumer).into_iter().map(|record| record.value).collect::<Vec<_>>(), numbered(0..1));
}

#[test]
fn a_failed_write_fences_as_a_failed_sync_does() {
    for kind in [FaultKind::Eio, FaultKind::ShortWrite] {
        let fs = machine();
        let broker = open_on(&fs);
        let topic = small_topic(&broker, "t");
        let mut producer = topic.producer().expect("a producer");
        producer.send(Record::new("v0")).expect("synced");
        let large = vec![b'x'; 8_000]; // large batches are written, not stored
        fs.fail(Fault::once(kind).only(OpKind::WriteAt));
        let refused = producer.send(Record::new(&large)).expect_err("the write failed");
        assert!(refused.error.is_fenced(), "{kind:?}: {refused}");
        assert_eq!(values(&topic), ["v0"]);
        assert!(broker.close(PATIENCE).expect_err("fenced").is_fenced());
        drop((topic, producer));
        let topic = small_topic(&open_on(&fs), "t");
        assert_eq!(values(&topic), ["v0"], "{kind:?}: half a record was read");
        topic.producer().expect("a producer").send(Record::new("v1")).expect("it takes records again");
        assert_eq!(values(&topic), numbered(0..2));
    }
}

#[test]
fn a_full_disk_gives_the_record_back_leaves_the_rest_readable_and_is_got_over_without_a_restart() {
    let fs = machine();
    let broker = open_on(&fs);
    let topic = small_topic(&broker, "t");
    let mut producer = topic.producer().expect("a producer");
    let value = |number: usize| format!("{number:0>1000}");
    fs.set_capacity(400 << 10);
    let mut sent = 0;
    let refused = loop {
        match producer.send(Record::new(&value(sent))) {
            Ok(at) => assert_eq!(at.offset, sent as u64),
            Err(refused) => break (refused.record.value_bytes().map(<[u8]>::to_vec), *refused.error),
        }
        sent += 1;
        assert!(sent < 1_000, "the disk does not fill up");
    };
    let (record, error) = refused;
    assert!(matches!(error, Error::StorageFull { .. }) && error.is_full() && error.is_retriable(), "{error}");
    assert_eq!(record, Some(value(sent).into_bytes()));
    assert!(sent > 100, "{sent} records fill 400 KiB");
    for _ in 0..5 {
        assert!(producer.send(Record::new(&value(sent))).expect_err("still full").error.is_full());
    }
    let files_when_full = fs.files().len();
    let mut consumer = reader(&topic);
    assert_eq!(drain(&mut consumer).len(), sent, "what is there stays readable");
    // Held records come back in their tickets.
    let mut holding = patient(&topic, Acks::Appended);
    let tickets = [0, 1].map(|_| holding.send_nowait(Record::new(&value(sent))).expect("taken"));
    for ticket in tickets {
        let refused = ticket.wait().expect_err("full");
        assert!(refused.error.is_full(), "{refused}");
        assert_eq!(refused.record.expect("it was not appended").value, Some(value(sent).into_bytes()));
    }
    let too_much = value(sent);
    let refused = producer.send_batch(&[Record::new(&too_much), Record::new(&too_much)]).expect_err("full");
    assert!(refused.error.is_full() && refused.sent == [None, None], "{refused}");
    assert_eq!(fs.files().len(), files_when_full, "every attempt left a file behind");

    fs.set_capacity(u64::MAX);
    let end = topic.offsets(0).expect("there").end;
    assert_eq!(producer.send(Record::new(&value(sent))).expect("there is space again").offset, end);
    assert_eq!(drain(&mut consumer).len() as u64, end + 1 - sent as u64);
    close(broker);
    drop((topic, consumer, producer, holding));
    assert_eq!(values(&small_topic(&open_on(&fs), "t")).len() as u64, end + 1);
}

#[test]
fn the_floor_of_free_space_is_kept_and_named() {
    let fs = machine();
    fs.set_capacity(2 << 20);
    let floor = 1 << 20;
    let broker = builder_on(&fs).min_free_bytes(floor).open().expect("a broker");
    let topic = small_topic(&broker, "t");
    let mut producer = quick(&topic);
    let value = [b'x'; 1000];
    let error = loop {
        if let Err(refused) = producer.send(Record::new(&value)) {
            break *refused.error;
        }
        assert!(topic.metrics()[0].records_appended < 3_000, "the floor is not kept");
    };
    let Error::StorageFull { free, needed, min_free, .. } = error else { panic!("{error}") };
    assert!(min_free == floor && free < floor + needed, "{free} free, {needed} needed, {min_free} to be left");
    assert!(error.to_string().contains("min_free_bytes = 1048576"), "{error}");
    let used: usize = fs.files().iter().map(|path| fs.read_file(path).expect("there").len()).sum();
    assert!(used as u64 <= floor, "{used} bytes of 2 MiB are used");
    // Small things still find room in what has blocks already.
    fs.set_capacity(4 << 20);
    producer.send(Record::new(&value)).expect("there is space again");
}

#[test]
fn without_a_file_descriptor_a_roll_is_refused_and_tried_again_by_the_next_send() {
    for kind in [OpKind::Create, OpKind::Rename, OpKind::WriteAt, OpKind::Map] {
        let fs = machine();
        let broker = open_on(&fs);
        let topic = small_topic(&broker, "t");
        let mut producer = quick(&topic);
        let value = [b'x'; 500]; // stored, not written: only the roll touches the file system
        producer.send(Record::new(&value)).expect("the first segment");
        fs.fail(Fault::forever(FaultKind::Emfile).only(kind));
        let refused = loop {
            if let Err(refused) = producer.send(Record::new(&value)) {
                break refused;
            }
            assert!(topic.metrics()[0].records_appended < 1_000, "{kind:?}: it rolls without");
        };
        assert!(matches!(*refused.error, Error::Io { .. }) && refused.error.is_retriable(), "{kind:?}: {refused}");
        assert_eq!(refused.record.value_bytes(), Some(&value[..]));
        let end = topic.offsets(0).expect("there").end;
        for _ in 0..20 {
            producer.send(Record::new(&value)).expect_err("still none");
        }
        let spares = files(&fs, &topic, ".log").len() - segments(&fs, &topic).len();
        assert!(spares <= 3, "{kind:?}: 20 attempts left {spares} files behind");
        assert_eq!(values(&topic).len() as u64, end, "{kind:?}: what is there stays readable");
        fs.heal();
        let last = [b'y'; 500];
        assert_eq!(producer.send(Record::new(&last)).expect("it rolls").offset, end, "{kind:?}");
        assert_eq!(segments(&fs, &topic).len(), 2, "{kind:?}");
        for after in [fs.kill(), {
            topic.producer().expect("a producer").send(Record::new("synced")).expect("sent");
            fs.crash(0)
        }] {
            let found = values(&small_topic(&open_on(&after), "t"));
            assert_eq!(found.get(end as usize).map(String::as_bytes), Some(&last[..]), "{kind:?}");
        }
    }
}

#[test]
fn a_session_that_cannot_be_marked_as_begun_takes_nothing_until_it_can() {
    for kind in [OpKind::WriteAt, OpKind::SyncData] {
        let fs = machine();
        let broker = open_on(&fs);
        small_topic(&broker, "t").producer().expect("a producer").send(Record::new("v0")).expect("sent");
        close(broker);
        let broker = open_on(&fs);
        let topic = small_topic(&broker, "t");
        fs.fail(Fault::forever(FaultKind::Eio).only(kind));
        let mut producer = topic.producer().expect("a producer");
        let refused = producer.send(Record::new("v1")).expect_err("the control file cannot be written");
        fs.heal();
        let is_said = matches!(&*refused.error, Error::Io { path, .. } if path.ends_with("control"));
        assert!(is_said || refused.error.is_fenced(), "{kind:?}: {refused}");
        assert_eq!(values(&topic), ["v0"], "{kind:?}");
        if is_said {
            assert_eq!(producer.send(refused.into_inner()).expect("it can now").offset, 1);
            let after = open_on(&fs.crash(0));
            assert_eq!(values(&small_topic(&after, "t")), numbered(0..2), "{kind:?}");
        }
    }
}

#[test]
fn a_topic_that_cannot_be_read_when_it_is_opened_is_said_and_opened_later() {
    for kind in [OpKind::Open, OpKind::ReadAt, OpKind::List] {
        let fs = machine();
        let broker = open_on(&fs);
        small_topic(&broker, "t").producer().expect("a producer").send(Record::new("v0")).expect("sent");
        drop(broker);
        let broker = open_on(&fs);
        fs.fail(Fault::once(FaultKind::Eio).only(kind));
        let refusal = broker.topic("t").open().expect_err("the disk says no");
        match &refusal {
            Error::Io { path, .. } => assert!(path.starts_with(DATA), "{kind:?}: {refusal}"),
            // What the dead process left is synced when the topic is opened.
            Error::Fenced { .. } => assert_eq!(kind, OpKind::SyncDir, "{refusal}"),
            _ => panic!("{kind:?}: {refusal}"),
        }
        assert_eq!(values(&broker.topic("t").open().expect("it can now")), ["v0"], "{kind:?}");
    }
}
