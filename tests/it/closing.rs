//! Ending a broker, in order or not. What fails here in the field: records that were acked are gone, or two processes
//! write one directory, because the end of one session ran into the beginning of the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use headwater::fs::Simulated;
use headwater::fs::simulated::OpKind;
use headwater::{Acks, Broker, Ended, Record, Start, Visibility};

use crate::support::{
    FOR_EVER, Gate, PATIENCE, SMALL, block_on, builder_on, close, directory, joined, machine, numbered, open_dir,
    open_on, patient, quick, reader, small_topic, values,
};

/// Sends until the broker is closed or `is_over`, and returns how many were acked.
fn send_until_refused(topic: &headwater::Topic, partition: u32, is_over: &AtomicBool) -> usize {
    let mut producer = patient(topic, Acks::Appended);
    for number in 0.. {
        if is_over.load(Ordering::SeqCst) {
            return number;
        }
        let value = format!("v{number}");
        let record = Record::new(&value).partition(partition);
        let sent = match number % 2 {
            0 => producer.send(record).map(drop).map_err(|refused| *refused.error),
            _ => match producer.send_nowait(record) {
                Ok(ticket) => ticket.wait().map(drop).map_err(|refused| *refused.error),
                Err(refused) => Err(*refused.error),
            },
        };
        if let Err(error) = sent {
            assert!(error.is_closed(), "{error}");
            return number;
        }
    }
    unreachable!("the numbers do not end");
}

#[test]
fn a_directory_opens_at_once_after_close_with_producers_in_flight_and_has_what_was_acked() {
    let dir = directory();
    let mut acked = [0, 0];
    for _ in 0..200 {
        let broker = open_dir(dir.path());
        let topic = broker.topic("t").partitions(2).segment_bytes(SMALL).open_or_create().expect("a topic");
        for (partition, acked) in (0..).zip(acked) {
            let end = topic.offsets(partition).expect("a partition").end;
            assert!(end >= acked as u64, "{acked} were acked, {end} are there");
        }
        let before: Vec<u64> = (0..2).map(|partition| topic.offsets(partition).expect("a partition").end).collect();
        let threads = [0, 1].map(|partition| {
            let topic = topic.clone();
            thread::spawn(move || send_until_refused(&topic, partition, &AtomicBool::new(false)))
        });
        let log_end = || topic.metrics().iter().map(|partition| partition.records_appended).min();
        crate::support::until("both send", || log_end() > Some(3));
        close(broker);
        // The producers may still be on their way out: the directory is free all the same.
        let next = Broker::open(dir.path()).expect("the directory is free at once");
        drop(next);
        for (slot, thread) in threads.into_iter().enumerate() {
            acked[slot] = before[slot] as usize + joined("a producer hears of the end", thread);
        }
    }
}

#[test]
fn a_directory_opens_at_once_after_everything_was_dropped_and_has_what_was_acked() {
    let dir = directory();
    let mut acked = 0;
    for round in 0..200_u64 {
        let broker = Broker::open(dir.path()).expect("the directory is free at once");
        let topic = small_topic(&broker, "t");
        let end = topic.offsets(0).expect("a partition").end;
        assert!(end >= acked, "round {round}: {acked} were acked, {end} are there");
        let is_over = Arc::new(AtomicBool::new(false));
        let thread = {
            let (topic, is_over) = (topic.clone(), Arc::clone(&is_over));
            thread::spawn(move || send_until_refused(&topic, 0, &is_over))
        };
        crate::support::until("it sends", || topic.metrics()[0].records_appended > 3);
        // One that lingers: the thread that would send it later must not hold the directory.
        let mut lingering = topic.producer_builder().linger(Duration::from_millis(1)).build().expect("a producer");
        drop(lingering.send_nowait(Record::new("lingering")).expect("taken"));
        is_over.store(true, Ordering::SeqCst);
        acked = end + joined("the producer ends", thread) as u64 + 1;
        drop((broker, topic));
        drop(lingering);
    }
}

#[test]
fn what_a_producer_holds_is_in_the_log_once_producer_and_broker_were_dropped() {
    // The second session finds a log that was closed in order: nothing of it is marked as open yet.
    for acks in [Acks::Appended, Acks::Synced] {
        let fs = Simulated::memory();
        let broker = open_on(&fs);
        quick(&small_topic(&broker, "t")).send(Record::new("v0")).expect("sent");
        close(broker);

        let broker = open_on(&fs);
        let mut producer = patient(&small_topic(&broker, "t"), acks);
        let ticket = producer.send_nowait(Record::new("v1")).expect("taken");
        drop(ticket);
        drop(broker);
        drop(producer);
        assert_eq!(values(&small_topic(&open_on(&fs), "t")), numbered(0..2), "{acks:?}");
    }
}

#[test]
fn a_ticket_waited_for_after_its_broker_was_dropped_does_not_overwrite_the_next_ones_records() {
    let fs = Simulated::memory();
    let broker = open_on(&fs);
    let mut producer = patient(&small_topic(&broker, "t"), Acks::Appended);
    producer.send(Record::new("v0")).expect("sent");
    let ticket = producer.send_nowait(Record::new("v1")).expect("taken");
    drop((broker, producer));
    let Ok(next) = builder_on(&fs).open() else { return };
    let topic = small_topic(&next, "t");
    let mut found = values(&topic);
    quick(&topic).send(Record::new("theirs")).expect("sent");
    found.push("theirs".into());
    match ticket.wait() {
        Ok(offset) => assert_eq!(found.get(offset as usize).map(String::as_str), Some("v1"), "acked and not there"),
        Err(refused) => assert!(refused.error.is_closed() && refused.record.is_some(), "{refused}"),
    }
    assert_eq!(values(&topic), found);
    assert_eq!(values(&small_topic(&open_on(&fs.kill()), "t")), found, "in the files");
}

#[test]
fn closing_sends_what_is_held_back_and_tells_the_tickets() {
    let dir = directory();
    let broker = open_dir(dir.path());
    let topic = broker.topic("t").partitions(2).segment_bytes(SMALL).create().expect("a topic");
    let mut producer = patient(&topic, Acks::Synced);
    let mut take = |value, partition| producer.send_nowait(Record::new(value).partition(partition)).expect("taken");
    let tickets = [take("v0", 0), take("v2", 1), take("v1", 0)];
    close(broker);
    assert_eq!(tickets.map(|ticket| ticket.wait().expect("on the disk")), [0, 0, 1]);
    let broker = open_dir(dir.path());
    let topic = broker.topic("t").open().expect("a topic");
    assert_eq!(values(&topic), numbered(0..3));
    assert!(topic.recovery().all(|report| report.ended == Ended::Closed && report.torn.is_none()));
}

#[test]
fn how_a_session_ended_is_said_at_the_next_open() {
    let fs = machine();
    let ended = |fs: &Simulated| {
        let broker = open_on(fs);
        let topic = small_topic(&broker, "t");
        let ended = topic.recovery().next().expect("a partition").ended;
        topic.producer().expect("a producer").send(Record::new("v")).expect("sent");
        (broker, ended)
    };
    let (broker, first) = ended(&fs);
    assert_eq!(first, Ended::New);
    close(broker);
    let (broker, second) = ended(&fs);
    assert_eq!(second, Ended::Closed);
    drop(broker);
    let (_broker, third) = ended(&fs);
    assert_eq!(third, Ended::ProcessDied, "dropping is as if the process had ended");
    let (_broker, fourth) = ended(&fs.kill());
    assert_eq!(fourth, Ended::ProcessDied);
    let (_broker, fifth) = ended(&fs.crash(0));
    assert_eq!(fifth, Ended::MachineDied);
}

#[test]
fn a_closed_broker_refuses_everything_and_gives_the_record_back() {
    let broker = Broker::in_memory().expect("a broker");
    let topic = broker.topic("t").create().expect("a topic");
    let mut producer = topic.producer().expect("a producer");
    let mut unused = topic.producer().expect("a producer");
    let mut consumer = reader(&topic);
    producer.send(Record::new("v0")).expect("sent");
    let again = broker.clone();
    close(broker);

    let refused = producer.send(Record::new("v1")).expect_err("closed");
    assert!(refused.error.is_closed(), "{refused}");
    assert_eq!(refused.into_inner().value_bytes(), Some(&b"v1"[..]));
    assert!(unused.send(Record::new("v1")).expect_err("closed").error.is_closed());
    let refused = producer.send_nowait(Record::new("v2")).expect_err("closed");
    assert!(refused.error.is_closed(), "{refused}");
    assert_eq!(refused.into_inner().value_bytes(), Some(&b"v2"[..]));
    let refused = producer.send_batch(&[Record::new("v3")]).expect_err("closed");
    assert!(refused.error.is_closed() && refused.sent == [None], "{refused}");
    assert!(consumer.poll(FOR_EVER).expect_err("closed").is_closed());
    assert!(block_on(consumer.poll_async()).expect_err("closed").is_closed());
    assert!(topic.producer().expect_err("closed").is_closed());
    assert!(topic.consumer(Start::Earliest).build().expect_err("closed").is_closed());
    assert!(again.consumer("g", Start::Earliest).topics(["t"]).build().expect_err("closed").is_closed());
    assert!(again.topic("t").open().expect_err("closed").is_closed());
    assert!(again.topic("u").create().expect_err("closed").is_closed());
    assert_eq!(topic.metrics()[0].log_end, 1, "what was refused was not sent");
    again.close(PATIENCE).expect("closing twice is fine");
}

#[test]
fn a_poll_that_waits_when_the_broker_is_closed_is_told() {
    for visibility in [Visibility::Committed, Visibility::Durable] {
        for is_async in [false, true] {
            let broker = Broker::in_memory().expect("a broker");
            let topic = broker.topic("t").create().expect("a topic");
            topic.producer().expect("a producer").send(Record::new("v0")).expect("sent");
            let mut consumer = topic.consumer(Start::Latest).visibility(visibility).build().expect("a consumer");
            let (started, starts) = std::sync::mpsc::channel();
            let thread = thread::spawn(move || {
                started.send(()).expect("the test listens");
                let polled = match is_async {
                    false => consumer.poll(FOR_EVER).map(|_| ()),
                    true => block_on(consumer.poll_async()).map(|_| ()),
                };
                polled.expect_err("there was nothing to lend")
            });
            starts.recv().expect("the thread runs");
            // Mostly asleep by now; if not, the test shows less and is right all the same.
            (0..2000).for_each(|_| thread::yield_now());
            close(broker);
            let error = joined(&format!("a poll that sees {visibility:?} is told"), thread);
            assert!(error.is_closed(), "{error}");
        }
    }
}

#[test]
fn closing_waits_no_longer_than_it_was_told_and_goes_on_behind() {
    let fs = Simulated::memory();
    let broker = open_on(&fs);
    let topic = small_topic(&broker, "t");
    quick(&topic).send(Record::new("v0")).expect("sent");
    let gate = Gate::hold(&fs, OpKind::SyncData, |_| true);
    let clone = broker.clone();
    let late = broker.close(Duration::ZERO).expect_err("the disk does not answer");
    assert_eq!(late.kind(), "timeout", "{late}");
    gate.until_somebody_waits();
    let refused = builder_on(&fs).open().expect_err("the directory is still being written");
    assert_eq!(refused.kind(), "locked");
    // A second closing waits for the first: it must not give the directory away under it.
    let late = clone.close(Duration::from_millis(1)).expect_err("the first closing has not ended");
    assert_eq!(late.kind(), "timeout", "{late}");
    assert_eq!(builder_on(&fs).open().expect_err("still").kind(), "locked");
    gate.open();
    crate::support::until("the closing goes on behind", || builder_on(&fs).open().is_ok());
    let topic = small_topic(&open_on(&fs), "t");
    assert_eq!(values(&topic), numbered(0..1));
    assert_eq!(topic.recovery().next().expect("a partition").ended, Ended::Closed);
}

#[test]
fn a_task_can_close_and_cancelling_it_lets_the_closing_go_on() {
    let fs = Simulated::memory();
    let broker = open_on(&fs);
    quick(&small_topic(&broker, "t")).send(Record::new("v0")).expect("sent");
    block_on(broker.close_async()).expect("closed");

    let broker = open_on(&fs);
    quick(&small_topic(&broker, "t")).send(Record::new("v1")).expect("sent");
    let gate = Gate::hold(&fs, OpKind::SyncData, |_| true);
    let woken = Arc::new(crate::support::Woken::default());
    {
        let waker = std::task::Waker::from(Arc::clone(&woken));
        let mut closing = std::pin::pin!(broker.close_async());
        let polled = closing.as_mut().poll(&mut std::task::Context::from_waker(&waker));
        assert!(polled.is_pending(), "the disk does not answer");
    }
    gate.open();
    crate::support::until("the closing goes on behind", || builder_on(&fs).open().is_ok());
    assert_eq!(woken.times(), 0, "a task that was cancelled was woken");
    let topic = small_topic(&open_on(&fs), "t");
    assert_eq!((values(&topic), topic.recovery().next().expect("a partition").ended), (numbered(0..2), Ended::Closed));
}
