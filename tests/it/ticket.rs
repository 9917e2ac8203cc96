//! Sending without waiting. What fails here in the field: a task or thread that is never woken, a record that lingers
//! for ever, an error that nobody hears of, a refused record that is gone.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use headwater::fs::Simulated;
use headwater::fs::simulated::{Fault, FaultKind, OpKind};
use headwater::{Acks, Broker, Record, Timestamp};

use crate::support::{
    FOR_EVER, Gate, PATIENCE, Woken, block_on, builder_on, joined, machine, numbered, open_on, patient, quick,
    small_topic, until, values,
};

fn poll_once<F: Future + Unpin>(future: &mut F, woken: &Arc<Woken>) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(&Waker::from(Arc::clone(woken))))
}

#[test]
fn a_record_is_held_back_until_its_linger_has_passed_and_then_sent_by_itself() {
    let broker = Broker::in_memory().expect("a broker");
    let topic = broker.topic("t").create().expect("a topic");
    let mut held = patient(&topic, Acks::Appended);
    let ticket = held.send_nowait(Record::new("held")).expect("taken");
    let mut producer = topic.producer_builder().linger(Duration::from_millis(2)).build().expect("a producer");
    drop(producer.send_nowait(Record::new("v0")).expect("taken"));
    drop(producer.send_nowait(Record::new("v1")).expect("taken"));
    until("the linger passes", || topic.metrics()[0].records_appended == 2);
    assert_eq!(values(&topic), numbered(0..2), "the other one is still held");
    // And on the disk, though nobody waits for it: the producer asked for that much.
    until("it is synced", || topic.metrics()[0].durable_end == 2);
    assert_eq!(ticket.wait().expect("appended"), 2);
}

#[test]
fn records_that_linger_together_are_one_batch_and_a_full_batch_does_not_linger() {
    let broker = Broker::in_memory().expect("a broker");
    let topic = broker.topic("t").create().expect("a topic");
    let builder = topic.producer_builder().acks(Acks::Appended).linger(FOR_EVER).batch_bytes(1024);
    let mut producer = builder.build().expect("a producer");
    let tickets: Vec<_> = (0..20).map(|_| producer.send_nowait(Record::new(&[b'x'; 100])).expect("taken")).collect();
    let metrics = topic.metrics()[0];
    assert!((2..=3).contains(&metrics.batches_appended), "{metrics:?}");
    assert!(metrics.bytes_appended <= 1024 * metrics.batches_appended, "{metrics:?}");
    assert!(metrics.records_appended < 20, "the last ones are held back: {metrics:?}");
    let offsets: Vec<_> = tickets.into_iter().map(|ticket| ticket.wait().expect("appended")).collect();
    assert_eq!(offsets, (0..20).collect::<Vec<_>>());
    assert_eq!(topic.metrics()[0].batches_appended, metrics.batches_appended + 1);
}

#[test]
fn without_a_linger_each_record_is_sent_at_once() {
    let broker = Broker::in_memory().expect("a broker");
    let topic = broker.topic("t").create().expect("a topic");
    let mut producer = quick(&topic);
    for sent in 1..=3 {
        drop(producer.send_nowait(Record::new("v")).expect("taken"));
        assert_eq!(topic.metrics()[0].records_appended, sent);
    }
}

#[test]
fn whoever_waits_has_the_batch_sent_at_once() {
    for way in ["wait", "wait_timeout", "await", "flush", "flush_async", "send", "send_batch", "close"] {
        let broker = Broker::in_memory().expect("a broker");
        let topic = small_topic(&broker, "t");
        let mut producer = patient(&topic, Acks::Synced);
        let ticket = producer.send_nowait(Record::new("v0")).expect("taken");
        assert_eq!(topic.metrics()[0].records_appended, 0, "{way}: it was not held back");
        let mut ticket = Some(ticket);
        let mut take = || ticket.take().expect("there is one");
        match way {
            "wait" => assert_eq!(take().wait().expect("synced"), 0),
            "wait_timeout" => assert_eq!(take().wait_timeout(PATIENCE).expect("in time").expect("synced"), 0),
            "await" => assert_eq!(block_on(take()).expect("synced"), 0),
            "flush" => producer.flush().expect("flushed"),
            "flush_async" => block_on(producer.flush_async()).expect("flushed"),
            "send" => assert_eq!(producer.send(Record::new("v1")).expect("sent").offset, 1),
            "send_batch" => assert_eq!(producer.send_batch(&[Record::new("v1")]).expect("sent")[0].offset, 1),
            _ => producer.close(PATIENCE).expect("closed"),
        }
        let metrics = topic.metrics()[0];
        assert!(metrics.records_appended >= 1, "{way}: still held back");
        assert_eq!(metrics.durable_end, metrics.log_end, "{way}: not as safe as the acks say");
        assert_eq!(values(&topic)[0], "v0", "{way}");
        if let Some(ticket) = ticket {
            assert_eq!((ticket.partition(), ticket.wait().expect("synced")), (0, 0), "{way}");
        }
    }
}

#[test]
fn a_ticket_that_is_dropped_takes_nothing_back() {
    let broker = Broker::in_memory().expect("a broker");
    let topic = broker.topic("t").create().expect("a topic");
    let mut producer = patient(&topic, Acks::Appended);
    for value in numbered(0..3) {
        drop(producer.send_nowait(Record::new(&value)).expect("taken"));
    }
    drop(producer);
    assert_eq!(values(&topic), numbered(0..3), "dropping the producer sends what it holds");
}

#[test]
fn a_wait_that_is_too_short_gives_the_ticket_back() {
    let fs = Simulated::memory();
    let broker = open_on(&fs);
    let topic = small_topic(&broker, "t");
    let gate = Gate::hold(&fs, OpKind::Rename, |path| path.to_string_lossy().contains("spare"));
    let sender = {
        let mut producer = quick(&topic);
        thread::spawn(move || producer.send(Record::new("v0")).expect("sent").offset)
    };
    gate.until_somebody_waits(); // with the pen in its hand
    let mut producer = patient(&topic, Acks::Appended);
    let ticket = producer.send_nowait(Record::new("v1")).expect("taken");
    let ticket = ticket.wait_timeout(Duration::ZERO).expect_err("somebody else appends");
    let ticket = ticket.wait_timeout(Duration::from_millis(1)).expect_err("still");
    let late = producer.flush_timeout(Duration::from_millis(1)).expect_err("still");
    assert!(late.kind() == "timeout" && late.is_retriable(), "{late}");
    gate.open();
    assert_eq!(joined("the send ends", sender), 0);
    assert_eq!(ticket.wait_timeout(PATIENCE).expect("in time").expect("appended"), 1);
    producer.flush_timeout(PATIENCE).expect("flushed");
}

#[test]
fn all_tickets_of_a_batch_and_a_task_that_moved_are_woken_once_the_disk_answers() {
    let fs = Simulated::memory();
    let broker = open_on(&fs);
    let topic = small_topic(&broker, "t");
    quick(&topic).send(Record::new("v0")).expect("sent");
    let gate = Gate::hold(&fs, OpKind::SyncData, |path| path.to_string_lossy().ends_with(".log"));
    let mut producer = patient(&topic, Acks::Synced);
    let mut one = producer.send_nowait(Record::new("v1")).expect("taken");
    let mut two = producer.send_nowait(Record::new("v2")).expect("taken");
    let mut cancelled = producer.send_nowait(Record::new("v3")).expect("taken");
    let (first, second, moved, gone) = (Arc::default(), Arc::default(), Arc::default(), Arc::default());
    assert!(poll_once(&mut one, &first).is_pending());
    assert!(poll_once(&mut two, &second).is_pending());
    assert!(poll_once(&mut cancelled, &gone).is_pending());
    assert!(poll_once(&mut one, &moved).is_pending(), "another task goes on with it");
    drop(cancelled);
    gate.until_somebody_waits();
    let threads: Vec<_> = (4..7)
        .map(|number| {
            let mut producer = producer.clone();
            thread::spawn(move || {
                let ticket = producer.send_nowait(Record::new(&format!("w{number}"))).expect("taken");
                block_on(ticket).expect("synced")
            })
        })
        .collect();
    assert!(poll_once(&mut two, &second).is_pending(), "nothing is synced yet");
    gate.open();
    until("the tasks are woken", || moved.times() > 0 && second.times() > 0);
    assert_eq!(poll_once(&mut one, &moved).map(|offset| offset.expect("synced")), Poll::Ready(1));
    assert_eq!(poll_once(&mut two, &second).map(|offset| offset.expect("synced")), Poll::Ready(2));
    for thread in threads {
        assert!(joined("it is woken", thread) > 3);
    }
    assert_eq!((first.times(), gone.times()), (0, 0), "a waker that was replaced or dropped was called");
    assert_eq!(values(&topic)[..4], numbered(0..4), "cancelling took the record back");
}

#[test]
fn a_flush_that_is_cancelled_takes_nothing_back() {
    let fs = Simulated::memory();
    let broker = open_on(&fs);
    let topic = small_topic(&broker, "t");
    quick(&topic).send(Record::new("v0")).expect("sent");
    let gate = Gate::hold(&fs, OpKind::SyncData, |path| path.to_string_lossy().ends_with(".log"));
    let mut producer = patient(&topic, Acks::Synced);
    let ticket = producer.send_nowait(Record::new("v1")).expect("taken");
    let woken = Arc::default();
    {
        let mut flushing = Box::pin(producer.flush_async());
        assert!(poll_once(&mut flushing, &woken).is_pending(), "the disk does not answer");
    }
    gate.open();
    assert_eq!(ticket.wait().expect("synced"), 1);
    block_on(producer.flush_async()).expect("flushed");
    assert_eq!(topic.metrics()[0].durable_end, 2);
}

#[test]
fn a_batch_that_the_disk_refuses_gives_every_record_back_in_its_ticket_and_the_rest_goes_on() {
    let fs = machine();
    let clock = headwater::time::Clock::manual(Timestamp(77));
    let broker = builder_on(&fs).clock(clock).open().expect("a broker");
    let topic = small_topic(&broker, "t");
    let mut producer = patient(&topic, Acks::Synced);
    let first = Record::new("v0").key("k0").header("h", "1").header("h", "");
    let tickets = [first.clone(), Record::tombstone("k1").timestamp(Timestamp(5)), Record::new("v2")]
        .map(|record| producer.send_nowait(record).expect("taken"));
    fs.fail(Fault::once(FaultKind::Enospc).only(OpKind::SetLen));
    let back = tickets.map(|ticket| {
        let refused = ticket.wait().expect_err("no room for a segment");
        assert!(refused.error.is_full(), "{refused}");
        *refused.record.expect("it was not appended")
    });
    assert_eq!(back[0].as_record(), first.timestamp(Timestamp(77)), "with the time it was stamped with");
    assert_eq!(back[0].headers, [("h".into(), Some(b"1".to_vec())), ("h".into(), Some(Vec::new()))]);
    assert_eq!(
        (back[1].key.as_deref(), back[1].value.as_deref(), back[1].timestamp),
        (Some(&b"k1"[..]), None, Timestamp(5))
    );
    assert_eq!(back[2].value.as_deref(), Some(&b"v2"[..]));
    let again: Vec<_> = back.iter().map(|record| record.as_record()).collect();
    // What the tickets told the flush tells too: it was the first error since the last one. Then it is forgotten.
    assert!(producer.flush().expect_err("some were refused").is_full());
    producer.flush().expect("told once");
    assert_eq!(producer.send_batch(&again).expect("there is room").len(), 3);
    assert_eq!(values(&topic), ["v0", "", "v2"]);
}

#[test]
fn a_refusal_that_no_ticket_told_is_told_by_the_next_flush_or_close() {
    for way in ["flush", "flush_async", "close"] {
        let fs = machine();
        let broker = open_on(&fs);
        let topic = small_topic(&broker, "t");
        let mut producer = quick(&topic);
        fs.fail(Fault::once(FaultKind::Enospc).only(OpKind::SetLen));
        drop(producer.send_nowait(Record::new("lost")).expect("taken: what becomes of it the ticket tells"));
        producer.send_nowait(Record::new("v0")).expect("taken").wait().expect("there is room again");
        let told = match way {
            "flush" => producer.flush(),
            "flush_async" => block_on(producer.flush_async()),
            _ => producer.close(PATIENCE),
        };
        assert!(told.expect_err("one was refused").is_full(), "{way}");
        assert_eq!(values(&topic), ["v0"]);
    }
}

#[test]
fn a_question_mark_turns_refusals_into_the_crates_error() {
    fn send(topic: &headwater::Topic) -> headwater::Result<u64> {
        let mut producer = quick(topic);
        producer.send(Record::new("v0"))?;
        producer.send_batch(&[Record::new("v1")])?;
        Ok(producer.send_nowait(Record::new("v2"))?.wait()?)
    }
    let fs = machine();
    let topic = small_topic(&open_on(&fs), "t");
    assert_eq!(send(&topic).expect("sent"), 2);
    fs.cut_power();
    fs.fail(Fault::forever(FaultKind::Eio));
    let mut producer = topic.producer().expect("a producer");
    assert!(headwater::Error::from(producer.send(Record::new("v3")).expect_err("no power")).is_fenced());
    assert!(send(&topic).expect_err("fenced").is_fenced());
}
