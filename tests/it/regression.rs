//! Faults that were there once, each as it was found. What fails here in the field: acked records are gone after a
//! power cut or a repair, records that nobody sent come back, and a stranger's waker stops a producer for ever.

use std::fs;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

use headwater::fs::Simulated;
use headwater::{Acks, Broker, Consumer, OnDamage, Record, Topic};

use crate::support::{
    SMALL, builder_on, close, directory, joined, machine, numbered, open_dir, open_on, patient, quick, reader,
    segments, small_topic, until, values,
};

/// A waker that does what it was given, once.
struct Acting(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Wake for Acting {
    fn wake(self: Arc<Self>) {
        let act = self.0.lock().expect("nobody panics under it").take();
        if let Some(act) = act {
            act();
        }
    }
}

/// Polls a consumer that has nothing to read yet with a waker that acts, and works while it waits.
fn while_waiting<R>(consumer: &mut Consumer, act: impl FnOnce() + Send + 'static, work: impl FnOnce() -> R) -> R {
    let waker = Waker::from(Arc::new(Acting(Mutex::new(Some(Box::new(act))))));
    let mut poll = pin!(consumer.poll_async());
    assert!(poll.as_mut().poll(&mut Context::from_waker(&waker)).is_pending(), "there was something to read");
    work()
}

// ── Strangers' wakers ──

#[test]
fn a_waker_that_panics_does_not_fail_the_send_that_woke_it() {
    let sending = thread::spawn(|| {
        let broker = Broker::in_memory().expect("a broker");
        let topic = broker.topic("t").create().expect("a topic");
        let mut producer = quick(&topic);
        let sent = while_waiting(
            &mut reader(&topic),
            || panic!("a waker that was to panic"),
            || producer.send(Record::new("v0")),
        );
        assert_eq!(sent.expect("sent").offset, 0);
        assert_eq!(values(&topic), numbered(0..1));
    });
    joined("the send", sending);
}

#[test]
fn a_waker_may_send_to_the_partition_that_woke_it() {
    let sending = thread::spawn(|| {
        let broker = Broker::in_memory().expect("a broker");
        let topic = broker.topic("t").create().expect("a topic");
        let (mut producer, mut replying) = (quick(&topic), quick(&topic));
        let reply = move || assert_eq!(replying.send(Record::new("v1")).expect("sent").offset, 1);
        while_waiting(&mut reader(&topic), reply, || producer.send(Record::new("v0"))).expect("sent");
        assert_eq!(values(&topic), numbered(0..2));
    });
    joined("the sends", sending);
}

#[test]
fn a_waker_that_panics_in_the_linger_thread_holds_up_no_later_record() {
    let sending = thread::spawn(|| {
        let broker = Broker::in_memory().expect("a broker");
        let topic = broker.topic("t").create().expect("a topic");
        let linger = Duration::from_millis(50);
        let builder = topic.producer_builder().acks(Acks::Appended).linger(linger);
        let mut producer = builder.build().expect("a producer");
        let was_woken = Arc::new(AtomicBool::new(false));
        let mut consumer = reader(&topic);
        let mut count = 0;
        // The reader comes after the record, so that only the linger thread has news for it; once more if it is late.
        while !was_woken.load(Ordering::SeqCst) {
            drop(producer.send_nowait(Record::new("v")).expect("taken"));
            count += 1;
            let theirs = Arc::clone(&was_woken);
            let panicking: Box<dyn FnOnce() + Send> = Box::new(move || {
                theirs.store(true, Ordering::SeqCst);
                panic!("a waker that was to panic");
            });
            let waker = Waker::from(Arc::new(Acting(Mutex::new(Some(panicking)))));
            let mut poll = pin!(consumer.poll_async());
            if poll.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                until("the linger thread wakes the reader", || was_woken.load(Ordering::SeqCst));
            }
        }
        // Each by the linger thread, since nobody asks for them.
        for appended in count + 1..count + 4 {
            drop(producer.send_nowait(Record::new("v")).expect("taken"));
            until("the linger passes", || topic.metrics()[0].records_appended == appended);
        }
    });
    joined("the sends", sending);
}

#[test]
fn a_producer_that_is_dropped_sends_what_it_holds_also_while_a_ticket_is_out() {
    let broker = Broker::in_memory().expect("a broker");
    let topic = broker.topic("t").create().expect("a topic");
    let mut producer = patient(&topic, Acks::Appended);
    let ticket = producer.send_nowait(Record::new("v0")).expect("taken");
    drop(producer);
    assert_eq!(values(&topic), numbered(0..1), "dropping the producer appended nothing");
    assert_eq!(ticket.wait().expect("appended"), 0);
}

// ── Power cuts ──

#[test]
fn what_is_acked_behind_damage_that_was_passed_over_is_there_after_a_power_cut() {
    for closes in [false, true] {
        let open = |fs: &Simulated| builder_on(fs).on_damage(OnDamage::Skip).open().expect("the broker opens");
        let fs = machine();
        let broker = open(&fs);
        let topic = small_topic(&broker, "t");
        let mut producer = topic.producer().expect("a producer");
        for number in 0..5_u8 {
            producer.send(Record::new(&[b'a' + number; 100])).expect("acked as synced");
        }
        // One bit in the last segment, behind its last index entry.
        let after = fs.kill();
        let damage = |bytes: &mut Vec<u8>| {
            let third = bytes.windows(100).position(|window| window == [b'c'; 100]).expect("the third value");
            bytes[third + 50] ^= 1;
        };
        after.corrupt(&segments(&fs, &topic)[0], damage).expect("there");

        let broker = open(&after);
        let topic = broker.topic("t").open().expect("the damage is passed over");
        let sent =
            topic.producer().expect("a producer").send(Record::new("behind the damage")).expect("acked as synced");
        assert_eq!(sent.offset, 5, "closes: {closes}");
        if closes {
            drop(topic);
            close(broker);
        }

        let broker = open(&after.crash(0));
        let topic = broker.topic("t").open().expect("the damage is passed over");
        let expected: Vec<_> = [b'a', b'b', b'd', b'e'].map(|letter| char::from(letter).to_string().repeat(100)).into();
        let mut left = values(&topic);
        assert_eq!(left.pop().as_deref(), Some("behind the damage"), "closes: {closes}: gone, though it was acked");
        assert_eq!(left, expected, "closes: {closes}");
    }
}

#[test]
fn a_new_data_directory_is_there_after_a_power_cut_however_deep_and_however_named() {
    for dir in ["/a/b/c", "c", "a/b"] {
        let open = |fs: &Simulated| builder_on(fs).data_dir(dir).open().expect("the broker opens");
        let fs = machine();
        let broker = open(&fs);
        let topic = broker.topic("t").create().expect("a topic");
        topic.producer().expect("a producer").send(Record::new("v0")).expect("acked as synced");
        let after = fs.crash(0);
        assert!(!after.files().is_empty(), "{dir}: nothing is left of what was acked");
        let broker = open(&after);
        assert_eq!(values(&broker.topic("t").open().expect("a topic")), numbered(0..1), "{dir}");
    }
}

/// Sends `count` records that bear `name`, and notes them behind what was there.
fn extend(topic: &Topic, acks: Acks, name: &str, count: u64, there: &mut Vec<String>) {
    let builder = topic.producer_builder().acks(acks).linger(Duration::ZERO);
    let mut producer = builder.build().expect("a producer");
    for number in 0..count {
        let value = format!("{name} {number:04}");
        producer.send(Record::new(&value)).expect("sent");
        there.push(value);
    }
}

/// A session that dies at each operation of its first append; the next one takes over, appends without a sync and
/// loses its power; what the one after it finds and adds must then stay as it is, whatever comes next.
#[test]
fn a_session_killed_while_it_marked_the_log_open_brings_nothing_back() {
    let open = |fs: &Simulated, what: &str| {
        let broker = open_on(fs);
        let topic = broker.topic("t").open().unwrap_or_else(|error| panic!("{what}: {error}"));
        (broker, topic)
    };
    for seed in 0..2 {
        let fs = Simulated::new(seed);
        let broker = open_on(&fs);
        let builder = broker.topic("t").segment_bytes(SMALL).max_message_bytes(1024).flush_interval(None);
        let topic = builder.create().expect("a topic");
        extend(&topic, Acks::Synced, "closed", 1, &mut Vec::new());
        drop(topic);
        close(broker);

        let killed = killed_in_first_append(&fs);
        assert!(killed.len() >= 2, "the log is marked as open with {} operations", killed.len());
        for (at, killed) in killed.iter().enumerate() {
            for power_cut in 0..40 {
                let what = format!("machine {seed}, killed at operation {at}, power cut {power_cut}");
                let fs = killed.kill();
                let (_broker, topic) = open(&fs, &what);
                let mut sent = values(&topic);
                extend(&topic, Acks::Appended, "unsynced", 30, &mut sent);

                let fs = fs.crash(power_cut);
                let (_broker, topic) = open(&fs, &what);
                let mut there = values(&topic);
                assert!(sent.starts_with(&there), "{what}: of {sent:?} it left {there:?}");
                extend(&topic, Acks::Synced, "synced", 1 + power_cut % 9, &mut there);

                for (how, fs) in [("kill", fs.kill()), ("power cut", fs.crash(power_cut + 1))] {
                    let what = format!("{what}, then a {how}");
                    let (_broker, topic) = open(&fs, &what);
                    assert_eq!(values(&topic), there, "{what}");
                }
            }
        }
    }
}

/// What a process leaves that dies at an operation of its first append, for each of them.
fn killed_in_first_append(fs: &Simulated) -> Vec<Simulated> {
    let fs = fs.kill();
    let broker = open_on(&fs);
    let topic = broker.topic("t").open().expect("a topic");
    let killed: Arc<Mutex<Vec<Simulated>>> = Arc::default();
    let theirs = Arc::clone(&killed);
    fs.on_operation(move |fs, _| theirs.lock().expect("nobody panics under it").push(fs.kill()));
    extend(&topic, Acks::Appended, "killed", 1, &mut Vec::new());
    fs.on_operation(|_, _| {});
    std::mem::take(&mut *killed.lock().expect("nobody panics under it"))
}

// ── Repairs that lose ──

#[test]
fn a_topic_whose_files_are_gone_is_damaged_and_not_a_new_one() {
    for what in ["the directory", "the files"] {
        let data = directory();
        let broker = open_dir(data.path());
        let topic = small_topic(&broker, "t");
        let partition = data.path().join("topics").join(format!("{}-0", topic.id()));
        topic.producer().expect("a producer").send(Record::new("v0")).expect("acked as synced");
        drop(topic);
        close(broker);
        fs::remove_dir_all(&partition).expect("removed");
        if what == "the files" {
            fs::create_dir(&partition).expect("made");
        }
        let broker = open_dir(data.path());
        let refusal = broker.topic("t").open().map(|topic| topic.recovery().cloned().collect::<Vec<_>>());
        let refusal = refusal.expect_err("acked records are gone, and nothing was said");
        assert!(refusal.is_damaged(), "without {what}: {refusal}");
    }
}

#[test]
fn a_hole_larger_than_a_quarter_of_the_segment_is_no_torn_tail_while_the_machine_runs_on() {
    let fs = machine();
    let broker = open_on(&fs);
    let topic = small_topic(&broker, "t");
    let mut producer = topic.producer().expect("a producer");
    let value = |number: u64| format!("{number:0>1000}");
    for number in 0..40 {
        producer.send(Record::new(&value(number))).expect("acked as synced");
    }
    let segment = segments(&fs, &topic).remove(0);
    let after = fs.kill();
    after.corrupt(&segment, |bytes| bytes[12_288..12_288 + 20_480].fill(0)).expect("there");

    let refusal = open_on(&after).topic("t").open().map(|topic| topic.recovery().cloned().collect::<Vec<_>>());
    let refusal = refusal.expect_err("acked records were cut, and nothing was said");
    assert!(refusal.is_damaged(), "{refusal}");
    let broker = builder_on(&after).on_damage(OnDamage::Skip).open().expect("the broker opens");
    let topic = broker.topic("t").open().expect("the damage is passed over");
    let left = values(&topic);
    assert_eq!(left.last(), Some(&value(39)), "what lies behind the hole was whole");
    assert!((15..40).contains(&left.len()), "{} of 40 records are left", left.len());
}
