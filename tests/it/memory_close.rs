//! Memory topics that end, and hand-overs under load. What fails here in the field: a sender or reader sleeps for ever,
//! a value that was accepted is read by nobody, and one that came back is read all the same.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use headwater::memory::{Builder, Consumer, Producer, RecvError, Topic};
use headwater::{Keep, Layout, OnFull, WaitStrategy};

use crate::memory_support::{Scales, broker, drain, new_queue, new_topic, queue, read_to_end, take_all, topic};
use crate::support::{FOR_EVER, PATIENCE, block_on, joined, until};

// ── The end ──

#[test]
fn what_is_in_a_closed_topic_is_read_by_every_group_and_then_the_end() {
    let topic = topic::<u32>(8);
    let (mut behind, mut ahead) = (topic.consumer(), topic.group("g").join());
    let mut producer = topic.producer().expect("a producer");
    producer.send_slice(&[0, 1, 2]).expect("room");
    assert_eq!(drain(&mut ahead), [0, 1, 2]);
    assert!(!topic.is_closed());
    topic.clone().close();
    topic.close();
    assert!(topic.is_closed());
    assert_eq!(producer.send(3).expect_err("closed").into_inner(), 3);
    assert_eq!(producer.try_send(3).expect_err("closed").into_inner(), 3);
    assert_eq!(ahead.recv(), Err(RecvError::Closed));
    assert_eq!(behind.iter().collect::<Vec<_>>(), [Ok(0), Ok(1), Ok(2)]);
    // In every way, and for good.
    for reader in [&mut behind, &mut ahead] {
        assert_eq!(reader.recv(), Err(RecvError::Closed));
        assert_eq!(reader.try_recv(), Err(RecvError::Closed));
        assert_eq!(reader.recv_timeout(FOR_EVER), Err(RecvError::Closed));
        assert_eq!(reader.recv_with(|value| *value), Err(RecvError::Closed));
        assert_eq!(reader.poll(FOR_EVER, |_| ()), Err(RecvError::Closed));
        assert_eq!(reader.recv_batch(&mut Vec::new(), 1, FOR_EVER), Err(RecvError::Closed));
        assert_eq!(block_on(reader.recv_async()), Err(RecvError::Closed));
        assert_eq!((reader.iter().next(), reader.try_iter().next(), reader.lag()), (None, None, 0));
    }
    // Who sends on and on, with what room it has, changes nothing.
    (0..100).for_each(|value| assert!(producer.send(value).is_err()));
    assert_eq!((topic.metrics().sent, behind.recv()), (3, Err(RecvError::Closed)));
}

#[test]
fn a_close_wakes_all_who_wait_and_gives_senders_their_values_back() {
    for strategy in [WaitStrategy::Park, WaitStrategy::Yield, WaitStrategy::BusySpin] {
        let topic = new_topic().capacity(2).wait_strategy(strategy).create().expect("a topic");
        let reader = topic.consumer();
        let mut first = topic.producer().expect("a producer");
        first.send_slice(&[1, 2]).expect("room");
        let started = Arc::new(AtomicUsize::new(0));
        let senders: Vec<_> = (0..4_u32)
            .map(|way| {
                let (mut producer, started) = (topic.producer().expect("a producer"), Arc::clone(&started));
                thread::spawn(move || {
                    started.fetch_add(1, Ordering::SeqCst);
                    match way {
                        0 => producer.send(10).expect_err("closed").into_inner(),
                        1 => producer.send_timeout(11, PATIENCE).expect_err("closed").into_inner(),
                        2 => block_on(producer.send_async(12)).expect_err("closed").into_inner(),
                        _ => {
                            let mut batch = vec![13, 14];
                            assert!(producer.send_batch(&mut batch).expect_err("closed").is_closed());
                            batch[0]
                        }
                    }
                })
            })
            .collect();
        // Caught up, so it waits for what will not come.
        let mut waiting = topic.consumer();
        let readers = [
            thread::spawn(move || waiting.recv()),
            thread::spawn({
                let mut waiting = topic.group("g").join();
                move || block_on(waiting.recv_async())
            }),
        ];
        until("all are there", || started.load(Ordering::SeqCst) == 4);
        thread::sleep(Duration::from_millis(2));
        topic.close();
        let back: Vec<_> = senders.into_iter().map(|sender| joined("a sender hears of it", sender)).collect();
        assert_eq!(back, [10, 11, 12, 13]);
        for reader in readers {
            assert_eq!(joined("a reader hears of it", reader), Err(RecvError::Closed));
        }
        let mut reader = reader;
        assert_eq!(read_to_end(&mut reader), (vec![1, 2], 0), "{strategy:?}");
    }
}

#[test]
fn closing_the_broker_closes_its_memory_topics_and_queues() {
    let broker = broker();
    let topic = broker.memory_topic::<u32>("t").create().expect("a topic");
    let queue = broker.memory_queue::<u32>("q").create().expect("a queue");
    let (mut reader, mut taker) = (topic.consumer(), queue.consumer());
    let mut producers = [topic.producer().expect("one"), queue.producer().expect("one")];
    producers.iter_mut().for_each(|producer| producer.send(1).expect("room"));
    let waiting = thread::spawn({
        let mut waiting = topic.consumer();
        move || waiting.recv()
    });
    let other = broker.clone();
    broker.close(PATIENCE).expect("it closes");
    assert_eq!(joined("who waits hears of it", waiting), Err(RecvError::Closed));
    assert!(topic.is_closed() && queue.is_closed());
    producers.iter_mut().for_each(|producer| assert!(producer.send(2).expect_err("closed").is_closed()));
    assert_eq!((reader.recv(), reader.recv()), (Ok(1), Err(RecvError::Closed)));
    assert_eq!((taker.take(), taker.take()), (Ok(1), Err(RecvError::Closed)));
    assert_eq!(other.memory_topics(), []);
    for refusal in [
        other.memory_topic::<u32>("t").open().expect_err("closed"),
        other.memory_topic::<u32>("t").create().expect_err("closed"),
        other.memory_queue::<u32>("new").open_or_create().expect_err("closed"),
    ] {
        assert!(refusal.is_closed(), "{refusal}");
    }
    assert!(topic.producer().expect_err("closed").is_closed());
    block_on(other.close_async()).expect("closed already");
}

#[test]
fn a_topic_that_closes_after_its_producers_does_so_when_the_last_one_leaves() {
    let topic = new_topic().capacity(4).close_after_producers().create().expect("a topic");
    let mut reader = topic.consumer();
    assert_eq!(reader.try_recv(), Ok(None), "open for the first producer");
    let (mut one, two) = (topic.producer().expect("one"), topic.producer().expect("two"));
    one.send(1).expect("room");
    drop(one);
    assert!(!topic.is_closed());
    let reading = thread::spawn(move || read_to_end(&mut reader));
    drop(two);
    assert_eq!(joined("the reader ends", reading), (vec![1], 0));
    assert!(topic.is_closed() && topic.producer().expect_err("closed").is_closed());

    let queue = new_queue().close_after_producers().create().expect("a queue");
    queue.producer().expect("a producer").send(1).expect("room");
    assert!(queue.is_closed());
    assert_eq!(take_all(&mut queue.consumer()), [1]);
}

#[test]
fn closing_from_a_visitor_and_from_the_drop_of_a_value_is_allowed() {
    struct Last(Topic<Last>, Scales);
    impl Drop for Last {
        fn drop(&mut self) {
            self.0.close();
            self.0.metrics();
            drop(self.1.load(0));
        }
    }
    let scales = Scales::default();
    let topic = new_topic().capacity(2).keep(Keep::UntilConsumed).create().expect("a topic");
    let mut reader = topic.consumer();
    let mut producer = topic.producer().expect("a producer");
    producer.send(Last(topic.clone(), scales.clone())).expect("room");
    reader.recv_with(|_| assert!(!topic.is_closed())).expect("there");
    assert!(topic.is_closed(), "by the value that was read");

    let topic = crate::memory_support::topic::<u32>(4);
    let mut reader = topic.consumer();
    topic.producer().expect("a producer").send_slice(&[1, 2, 3]).expect("room");
    let mut visited = 0;
    assert_eq!(
        reader.poll(Duration::ZERO, |value| {
            topic.close();
            visited += value
        }),
        Ok(3)
    );
    assert_eq!((visited, reader.recv()), (6, Err(RecvError::Closed)));
}

// ── Under fire ──

/// What four senders got in and what came back, until the topic was closed.
fn fire(producers: Vec<Producer<u64>>) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let send = |sender: u64, mut producer: Producer<u64>| {
        move || {
            let (mut accepted, mut refused) = (Vec::new(), Vec::new());
            for turn in 0.. {
                let value = sender << 32 | turn << 4;
                match turn % 5 {
                    0 => match producer.send(value) {
                        Ok(()) => accepted.push(value),
                        Err(error) => refused.push(error.into_inner()),
                    },
                    1 => match block_on(producer.send_async(value)) {
                        Ok(()) => accepted.push(value),
                        Err(error) => refused.push(error.into_inner()),
                    },
                    2 => match producer.send_with(|| value) {
                        Ok(()) => accepted.push(value),
                        Err(_) => refused.push(value),
                    },
                    3 => {
                        let all = [value, value + 1, value + 2];
                        let outcome = producer.send_slice(&all);
                        let sent = outcome.as_ref().map_or_else(|(_, sent)| *sent, |()| all.len());
                        accepted.extend(&all[..sent]);
                        refused.extend(&all[sent..]);
                    }
                    _ => {
                        let mut batch = Vec::from_iter(value..value + 10);
                        let all = batch.clone();
                        if producer.send_batch(&mut batch).is_ok() {
                            assert_eq!(batch, []);
                        }
                        assert_eq!(batch, all[all.len() - batch.len()..], "what was not sent is the end");
                        accepted.extend(&all[..all.len() - batch.len()]);
                        refused.extend(batch);
                    }
                }
                if !refused.is_empty() {
                    return (accepted, refused);
                }
            }
            unreachable!("it is closed before")
        }
    };
    let senders: Vec<_> =
        (0..).zip(producers).map(|(sender, producer)| thread::spawn(send(sender, producer))).collect();
    let (mut accepted, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for sender in senders {
        let (of_one, back) = joined("a sender ends", sender);
        assert!(of_one.is_sorted());
        accepted.extend(of_one);
        refused.extend(back);
    }
    (accepted, refused)
}

fn each_of_several(builder: Builder<Topic<u64>>, layout: Option<Layout>) -> Builder<Topic<u64>> {
    match layout {
        Some(layout) => builder.layout(layout),
        None => builder.single_producer(),
    }
}

#[test]
fn under_fire_each_accepted_value_is_read_once_by_every_group_and_a_refused_one_by_none() {
    for round in 0..24 {
        let layout = [Some(Layout::Dense), Some(Layout::Stamped), None][round % 3];
        let keep = if round % 4 < 2 { Keep::UntilOverwritten } else { Keep::UntilConsumed };
        let builder = new_topic().capacity([2, 8, 64, 1024][round % 4]).keep(keep);
        let topic = each_of_several(builder, layout).create().expect("a topic");
        let mut alone = topic.consumer();
        let members = [topic.group("g").join(), topic.group("g").prefetch(4).join()];
        let reading_alone = thread::spawn({
            let topic = topic.clone();
            move || {
                let mut values = Vec::new();
                while let Ok(value) = alone.recv() {
                    values.push(value);
                    if values.len() == 40 + round * 20 {
                        topic.close();
                    }
                }
                values
            }
        });
        type Read = fn(&mut Consumer<u64>, &mut Vec<u64>) -> bool;
        let ways: [Read; 2] = [
            |reader, values| reader.poll(PATIENCE, |value| values.push(*value)).is_ok(),
            |reader, values| block_on(reader.recv_async()).map(|value| values.push(value)).is_ok(),
        ];
        let reading_shared: Vec<JoinHandle<Vec<u64>>> = members
            .into_iter()
            .zip(ways)
            .map(|(mut member, read)| {
                thread::spawn(move || {
                    let mut values = Vec::new();
                    while read(&mut member, &mut values) {}
                    values
                })
            })
            .collect();
        let senders = if layout.is_some() { 4 } else { 1 };
        let (accepted, refused) = fire((0..senders).map(|_| topic.producer().expect("a producer")).collect());
        assert!(accepted.is_disjoint(&refused));

        let values = joined("the reader ends", reading_alone);
        for sender in 0..senders {
            let of_one = values.iter().filter(|value| **value >> 32 == sender);
            assert!(of_one.is_sorted(), "round {round}: out of order");
        }
        let shared: Vec<u64> = reading_shared.into_iter().flat_map(|reader| joined("a member ends", reader)).collect();
        for (who, values) in [("alone", values), ("shared", shared)] {
            let read: BTreeSet<_> = values.iter().copied().collect();
            assert_eq!(read.len(), values.len(), "round {round}, {who}: a value was read twice");
            let lost: Vec<_> = accepted.difference(&read).collect();
            assert!(lost.is_empty(), "round {round}, {who}: accepted, and never read: {lost:?}");
            let ghosts: Vec<_> = read.difference(&accepted).collect();
            assert!(ghosts.is_empty(), "round {round}, {who}: refused, and read all the same: {ghosts:?}");
        }
        assert_eq!(topic.metrics().sent, accepted.len() as u64, "round {round}");
    }
}

#[test]
fn under_fire_each_accepted_value_of_a_queue_is_taken_once_and_a_refused_one_never() {
    for round in 0..16 {
        let on_full = if round % 2 == 0 { OnFull::Block } else { OnFull::DropOldest };
        let queue = new_queue::<u64>().capacity([2, 8, 64, 256][round % 4]).on_full(on_full).create().expect("a queue");
        let takers: Vec<_> = (0..3)
            .map(|taker| {
                let mut consumer = queue.consumer_with_prefetch(1 + taker * 3);
                let queue = queue.clone();
                thread::spawn(move || {
                    let (mut values, mut missed) = (Vec::new(), 0);
                    loop {
                        let taken = match taker {
                            0 => consumer.take().map(|value| values.push(value)),
                            1 => consumer.take_batch(&mut values, 5, PATIENCE).map(|_| ()),
                            _ => block_on(consumer.take_async()).map(|value| values.push(value)),
                        };
                        match taken {
                            Ok(()) => {}
                            Err(RecvError::Lagged(lagged)) => missed += lagged.missed,
                            Err(RecvError::Closed) => return (values, missed),
                        }
                        if values.len() >= 30 + round * 10 {
                            queue.close();
                        }
                    }
                })
            })
            .collect();
        let (accepted, refused) = fire((0..4).map(|_| queue.producer().expect("a producer")).collect());
        let (mut taken, mut missed) = (Vec::new(), 0);
        for taker in takers {
            let (values, missed_by_one) = joined("a taker ends", taker);
            taken.extend(values);
            missed += missed_by_one;
        }
        let once: BTreeSet<_> = taken.iter().copied().collect();
        assert_eq!(once.len(), taken.len(), "round {round}: taken twice");
        assert!(once.is_subset(&accepted) && once.is_disjoint(&refused), "round {round}");
        assert_eq!(once.len() as u64 + missed, accepted.len() as u64, "round {round}: {on_full:?}");
        assert_eq!(missed, queue.metrics().groups[0].dropped);
        assert!(missed == 0 || on_full == OnFull::DropOldest);
    }
}

#[test]
fn under_load_every_value_is_dropped_once() {
    for keep in [None, Some(Keep::UntilOverwritten), Some(Keep::UntilConsumed)] {
        let scales = Scales::default();
        let sender = |mut producer: Producer<crate::memory_support::Load>, scales: &Scales| {
            let scales = scales.clone();
            thread::spawn(move || (0..).take_while(|number| producer.send(scales.load(*number)).is_ok()).count())
        };
        match keep {
            None => {
                let queue = queue(8);
                let senders = [(); 3].map(|()| sender(queue.producer().expect("a producer"), &scales));
                let mut takers = [queue.consumer(), queue.consumer_with_prefetch(4)];
                (0..500).for_each(|turn| drop(takers[turn % 2].take().expect("open")));
                // One leaves with values on itself, and nobody takes the rest.
                drop(takers);
                queue.close();
                let sent: usize = senders.into_iter().map(|sender| joined("a sender ends", sender)).sum();
                assert_eq!(queue.metrics().sent, sent as u64);
                assert_eq!(scales.alive(), sent as i64 - 500);
            }
            Some(keep) => {
                let topic = new_topic().capacity(8).keep(keep).create().expect("a topic");
                let mut readers = [topic.consumer(), topic.group("g").prefetch(4).join(), topic.consumer()];
                let senders = [(); 3].map(|()| sender(topic.producer().expect("a producer"), &scales));
                for turn in 0..500 {
                    readers.iter_mut().for_each(|reader| drop(reader.recv().expect("open")));
                    assert!(keep == Keep::UntilOverwritten || turn % 50 > 0 || scales.alive() <= 8 + 4);
                }
                topic.close();
                let sent: usize = senders.into_iter().map(|sender| joined("a sender ends", sender)).sum();
                assert!(sent >= 500);
            }
        }
        assert_eq!(scales.alive(), 0, "{keep:?}");
    }
}

// ── Hand-overs ──

#[test]
fn no_wake_up_is_lost_between_more_threads_and_tasks_than_cores() {
    const EACH: u64 = 700;
    for layout in [Layout::Dense, Layout::Stamped] {
        let topic = new_topic::<u64>().capacity(2).layout(layout).create().expect("a topic");
        let read = Arc::new(AtomicUsize::new(0));
        let readers: Vec<_> = (0..6)
            .map(|way| {
                let mut member = topic.group("g").join();
                let (topic, read) = (topic.clone(), Arc::clone(&read));
                thread::spawn(move || {
                    let mut sum = 0;
                    loop {
                        let value = match way % 3 {
                            0 => member.recv(),
                            1 => block_on(member.recv_async()),
                            _ => member.recv_timeout(PATIENCE).map(|value| value.expect("a wake-up was lost")),
                        };
                        match value {
                            Ok(value) => sum += value,
                            Err(RecvError::Closed) => return sum,
                            Err(lagged) => panic!("{lagged}"),
                        }
                        if read.fetch_add(1, Ordering::SeqCst) + 1 == 6 * EACH as usize {
                            topic.close();
                        }
                    }
                })
            })
            .collect();
        let senders: Vec<_> = (0..6)
            .map(|way| {
                let mut producer = topic.producer().expect("a producer");
                thread::spawn(move || {
                    for value in 1..=EACH {
                        match way % 3 {
                            0 => producer.send(value).expect("open"),
                            1 => block_on(producer.send_async(value)).expect("open"),
                            _ => producer.send_timeout(value, PATIENCE).expect("a wake-up was lost"),
                        }
                    }
                })
            })
            .collect();
        senders.into_iter().for_each(|sender| joined("a sender ends", sender));
        let sum: u64 = readers.into_iter().map(|reader| joined("a reader ends", reader)).sum();
        assert_eq!(sum, 6 * EACH * (EACH + 1) / 2, "{layout:?}");
    }
}

#[test]
fn a_value_that_goes_to_and_fro_is_never_lost_whatever_the_strategy() {
    for (strategy, turns) in [(WaitStrategy::Park, 5_000), (WaitStrategy::Yield, 2_000), (WaitStrategy::BusySpin, 20)] {
        for single in [false, true] {
            let new = || {
                let builder = new_queue::<u64>().capacity(2).wait_strategy(strategy);
                if single { builder.single_producer() } else { builder }.create().expect("a queue")
            };
            let (there, back) = (new(), new());
            let (mut to, mut from) = (there.producer().expect("one"), back.consumer());
            let (mut their_from, mut their_to) = (there.consumer(), back.producer().expect("one"));
            let echo = thread::spawn(move || {
                while let Ok(value) = their_from.take() {
                    their_to.send(value + 1).expect("open");
                }
            });
            let asking = thread::spawn(move || {
                for turn in 0..turns {
                    to.send(turn).expect("open");
                    assert_eq!(from.take(), Ok(turn + 1));
                }
                there.close();
            });
            joined("all turns are over", asking);
            joined("the echo ends", echo);
        }
    }
}
