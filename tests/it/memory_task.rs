//! Memory topics in tasks. What fails here in the field: a value goes with a future that lost a race, a task is not
//! woken because another was that is no more, and a task's waiter stays behind.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use headwater::OnFull;
use headwater::memory::{Lagged, RecvError};

use crate::memory_support::{Scales, drain, new_topic, poll_once, queue, topic};
use crate::support::{Woken, block_on, joined, until};

#[test]
fn a_task_that_waits_for_a_value_is_woken_by_it() {
    let topic = topic::<u32>(4);
    let mut producer = topic.producer().expect("a producer");
    for name in [None, Some("g")] {
        let mut reader = name.map_or_else(|| topic.consumer(), |name| topic.group(name).join());
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        let mut receiving = pin!(reader.recv_async());
        assert_eq!(receiving.as_mut().poll(&mut cx), Poll::Pending);
        assert_eq!(woken.times(), 0);
        producer.send(7).expect("room");
        assert_eq!((woken.times(), receiving.as_mut().poll(&mut cx)), (1, Poll::Ready(Ok(7))));
    }
    let mut reader = topic.consumer();
    let mut sum = 0;
    {
        let mut visiting = pin!(reader.poll_async(|value| sum += value));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        assert_eq!(visiting.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Pending);
        producer.send(8).expect("room");
        assert_eq!(woken.times(), 1);
        assert_eq!(visiting.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(Ok(1)));
    }
    assert_eq!(sum, 8);
    topic.close();
    assert_eq!(block_on(reader.poll_async(|_| ())), Err(RecvError::Closed));
}

#[test]
fn a_task_that_polls_by_hand_is_woken_by_its_last_waker() {
    let topic = topic::<u32>(4);
    let mut reader = topic.consumer();
    let [old, new] = [(); 2].map(|()| Arc::new(Woken::default()));
    let [old_waker, new_waker] = [&old, &new].map(|woken| Waker::from(Arc::clone(woken)));
    assert_eq!(reader.poll_recv(&mut Context::from_waker(&old_waker)), Poll::Pending);
    assert_eq!(reader.poll_recv(&mut Context::from_waker(&new_waker)), Poll::Pending);
    let mut producer = topic.producer().expect("a producer");
    producer.send_slice(&[1, 2]).expect("room");
    assert_eq!((old.times(), new.times()), (0, 1));
    for value in [1, 2] {
        assert_eq!(reader.poll_recv(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(value)));
    }
    assert_eq!(reader.poll_recv(&mut Context::from_waker(&new_waker)), Poll::Pending);
    topic.close();
    assert_eq!(new.times(), 2);
    assert_eq!(reader.poll_recv(&mut Context::from_waker(Waker::noop())), Poll::Ready(Err(RecvError::Closed)));
    // A reader that is dropped leaves no waker behind.
    let topic = crate::memory_support::topic::<u32>(4);
    let mut reader = topic.consumer();
    assert_eq!(reader.poll_recv(&mut Context::from_waker(&new_waker)), Poll::Pending);
    let held = Arc::strong_count(&new);
    drop(reader);
    assert_eq!(Arc::strong_count(&new), held - 1);

    let queue = queue::<u32>(4);
    let mut taker = queue.consumer();
    assert_eq!(taker.poll_take(&mut Context::from_waker(&old_waker)), Poll::Pending);
    queue.producer().expect("a producer").send(3).expect("room");
    assert_eq!(old.times(), 1);
    assert_eq!(taker.poll_take(&mut Context::from_waker(&old_waker)), Poll::Ready(Ok(3)));
}

#[test]
fn a_task_that_waits_for_room_is_woken_by_a_reader_that_reads_on_or_leaves() {
    let topic = topic::<u32>(2);
    let mut reader = topic.consumer();
    let mut producer = topic.producer().expect("a producer");
    producer.send_slice(&[0, 1]).expect("room");
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    {
        let mut sending = pin!(producer.send_async(2));
        assert!(sending.as_mut().poll(&mut cx).is_pending());
        assert_eq!(reader.recv(), Ok(0));
        assert_eq!(woken.times(), 1);
        assert_eq!(sending.as_mut().poll(&mut cx), Poll::Ready(Ok(())));
    }
    {
        let mut sending = pin!(producer.send_async(3));
        assert!(sending.as_mut().poll(&mut cx).is_pending());
        drop(reader);
        assert_eq!(woken.times(), 2);
        assert_eq!(sending.as_mut().poll(&mut cx), Poll::Ready(Ok(())));
    }
    assert_eq!(topic.metrics().sent, 4);
}

#[test]
fn time_that_tasks_wait_for_room_counts_as_blocked() {
    let topic = topic::<u32>(2);
    let mut reader = topic.consumer();
    let mut producer = topic.producer().expect("a producer");
    producer.send_slice(&[0, 1]).expect("room");
    let before = topic.metrics().blocked;
    {
        let mut sending = pin!(producer.send_async(2));
        assert!(sending.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        thread::sleep(Duration::from_millis(2));
        assert_eq!(reader.recv(), Ok(0));
        assert_eq!(sending.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(())));
    }
    assert!(topic.metrics().blocked > before);
}

#[test]
fn a_cancelled_send_has_not_sent_and_its_value_goes_with_it() {
    let scales = Scales::default();
    let topic = topic(2);
    let mut reader = topic.consumer();
    let mut producer = topic.producer().expect("a producer");
    for number in 0..2 {
        block_on(producer.send_async(scales.load(number))).expect("room");
    }
    assert!(poll_once(producer.send_async(scales.load(2))).is_none());
    // Cancelled before it was polled at all.
    drop(producer.send_async(scales.load(3)));
    assert!(poll_once(producer.reserve_async()).is_none());
    assert_eq!((scales.alive(), topic.metrics().sent), (2, 2));
    assert_eq!(drain(&mut reader).iter().map(|load| load.number).collect::<Vec<_>>(), [0, 1]);
    for number in 4..6 {
        producer.try_send(scales.load(number)).expect("all of the room is there");
    }
    assert!(producer.try_send(scales.load(6)).is_err());
    assert_eq!(drain(&mut reader).iter().map(|load| load.number).collect::<Vec<_>>(), [4, 5]);
}

#[test]
fn a_permit_is_room_for_one_value_and_dropped_unused_gives_it_back() {
    for on_full in [OnFull::Block, OnFull::Reject, OnFull::DropOldest] {
        let topic = new_topic().capacity(2).on_full(on_full).create().expect("a topic");
        let mut reader = topic.consumer();
        let (mut one, mut two) = (topic.producer().expect("one"), topic.producer().expect("two"));
        let permit = block_on(one.reserve_async()).expect("room");
        two.try_send(0).expect("the other place");
        // Permits are kept by all: what has been promised is there.
        if on_full != OnFull::DropOldest {
            assert!(two.try_send(9).expect_err("the last place is promised").is_full(), "{on_full:?}");
        }
        permit.send(1).expect("promised");
        assert_eq!(drain(&mut reader), [0, 1]);
        drop(block_on(one.reserve_async()).expect("room"));
        two.try_send(2).expect("room");
        two.try_send(3).expect("given back");
        assert_eq!(drain(&mut reader), [2, 3]);
        let permit = block_on(one.reserve_async()).expect("room");
        topic.close();
        let refused = permit.send(4).expect_err("closed meanwhile");
        assert!(refused.is_closed() && refused.into_inner() == 4);
        assert_eq!(reader.recv(), Err(RecvError::Closed));
    }
}

#[test]
fn a_task_does_what_the_topic_says_when_it_is_full() {
    let topic = new_topic().capacity(2).on_full(OnFull::Reject).create().expect("a topic");
    let _reader = topic.consumer();
    let mut producer = topic.producer().expect("a producer");
    for value in 0..2 {
        assert_eq!(poll_once(producer.send_async(value)), Some(Ok(())));
    }
    let refused = poll_once(producer.send_async(2)).expect("at once").expect_err("full");
    assert!(refused.is_full() && refused.into_inner() == 2);
    assert!(poll_once(producer.reserve_async()).expect("at once").expect_err("full").is_full());
    topic.close();
    assert!(poll_once(producer.send_async(3)).expect("at once").expect_err("closed").is_closed());

    let topic = new_topic().capacity(2).on_full(OnFull::DropOldest).create().expect("a topic");
    let mut reader = topic.consumer();
    let mut producer = topic.producer().expect("a producer");
    for value in 0..5 {
        assert_eq!(poll_once(producer.send_async(value)), Some(Ok(())), "never waits");
    }
    assert_eq!(block_on(reader.recv_async()), Err(RecvError::Lagged(Lagged { missed: 3 })));
    assert_eq!(block_on(reader.recv_async()), Ok(3));
}

#[test]
fn a_cancelled_receive_loses_nothing_and_every_other_is_woken() {
    let topic = topic::<u32>(8);
    let mut members: Vec<_> = (0..4).map(|_| topic.group("g").join()).collect();
    let mut producer = topic.producer().expect("a producer");
    for round in 0..20 {
        let wakers: Vec<_> = members.iter().map(|_| Arc::new(Woken::default())).collect();
        {
            let mut waiting: Vec<_> = members.iter_mut().map(|member| Box::pin(member.recv_async())).collect();
            for (future, woken) in waiting.iter_mut().zip(&wakers) {
                let waker = Waker::from(Arc::clone(woken));
                assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            }
            producer.send(round).expect("room");
            assert!(wakers.iter().all(|woken| woken.times() == 1), "all are woken");
            // All that were woken are cancelled before they look.
        }
        assert_eq!(members[round as usize % 4].try_recv(), Ok(Some(round)));
    }
    // Nothing of a cancelled wait stays behind.
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    assert!(pin!(members[0].recv_async()).poll(&mut Context::from_waker(&waker)).is_pending());
    drop(waker);
    assert_eq!(Arc::strong_count(&woken), 1);
    producer.send(20).expect("room");
    assert_eq!((woken.times(), members[0].try_recv()), (0, Ok(Some(20))));
    let queue = queue::<u32>(8);
    let mut takers = [queue.consumer(), queue.consumer()];
    assert_eq!(poll_once(takers[0].take_async()), None);
    queue.producer().expect("a producer").send(1).expect("room");
    drop(takers[0].take_async());
    assert_eq!(poll_once(takers[1].take_async()), Some(Ok(1)));
    assert_eq!(poll_once(takers[0].take_async()), None);
}

#[test]
fn futures_that_lose_their_race_again_and_again_lose_no_value() {
    const ALL: u64 = 4_000;
    let queue = queue::<u64>(4);
    let takers: Vec<_> = (0..3)
        .map(|_| {
            let mut taker = queue.consumer_with_prefetch(2);
            thread::spawn(move || {
                let mut taken = Vec::new();
                loop {
                    // Polled once, and dropped: as in a `select` that something else has won.
                    match poll_once(taker.take_async()).unwrap_or_else(|| taker.take()) {
                        Ok(value) => taken.push(value),
                        Err(RecvError::Closed) => return taken,
                        Err(lagged) => panic!("{lagged}"),
                    }
                }
            })
        })
        .collect();
    let senders: Vec<_> = (0..2)
        .map(|sender| {
            let mut producer = queue.producer().expect("a producer");
            thread::spawn(move || {
                for value in (0..ALL).filter(|value| value % 2 == sender) {
                    while poll_once(producer.reserve_async()).is_none() {
                        thread::yield_now();
                    }
                    block_on(producer.send_async(value)).expect("open");
                }
            })
        })
        .collect();
    senders.into_iter().for_each(|sender| joined("a sender ends", sender));
    until("all is taken", || queue.metrics().depth == 0);
    queue.close();
    let mut taken: Vec<_> = takers.into_iter().flat_map(|taker| joined("a taker ends", taker)).collect();
    taken.sort_unstable();
    assert_eq!(taken, Vec::from_iter(0..ALL));
}

#[test]
fn the_futures_can_be_sent_to_another_thread() {
    let topic = topic::<u32>(4);
    let (mut reader, mut producer) = (topic.consumer(), topic.producer().expect("a producer"));
    let reading =
        thread::spawn(move || block_on(async move { (reader.recv_async().await, reader.recv_async().await) }));
    let sending = thread::spawn(move || {
        block_on(async move {
            producer.send_async(1).await.expect("room");
            producer.reserve_async().await.expect("room").send(2).expect("open");
        });
    });
    joined("it is sent", sending);
    assert_eq!(joined("it is read", reading), (Ok(1), Ok(2)));
}

#[cfg(feature = "stream")]
#[test]
fn a_consumer_is_a_stream_that_ends_when_the_topic_is_closed() {
    use futures_core::Stream;
    use std::pin::Pin;

    let topic = new_topic().capacity(2).on_full(OnFull::DropOldest).create().expect("a topic");
    let mut reader = topic.consumer();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    assert_eq!(Pin::new(&mut reader).poll_next(&mut cx), Poll::Pending);
    let mut producer = topic.producer().expect("a producer");
    (0..5).for_each(|value| producer.send(value).expect("never refused"));
    assert_eq!(woken.times(), 1);
    assert_eq!(Pin::new(&mut reader).poll_next(&mut cx), Poll::Ready(Some(Err(Lagged { missed: 3 }))));
    assert_eq!(Pin::new(&mut reader).poll_next(&mut cx), Poll::Ready(Some(Ok(3))));
    assert_eq!(Pin::new(&mut reader).poll_next(&mut cx), Poll::Ready(Some(Ok(4))));
    assert_eq!(Pin::new(&mut reader).poll_next(&mut cx), Poll::Pending);
    topic.close();
    assert_eq!(woken.times(), 2);
    assert_eq!(Pin::new(&mut reader).poll_next(&mut cx), Poll::Ready(None));
    assert_eq!(Pin::new(&mut reader).poll_next(&mut cx), Poll::Ready(None));

    // From another thread, awaited.
    let topic = new_topic::<u32>().capacity(2).create().expect("a topic");
    let mut reader = topic.consumer();
    let mut producer = topic.producer().expect("a producer");
    let sending = thread::spawn(move || (0..100).for_each(|value| producer.send(value).expect("open")));
    for value in 0..100 {
        let next = std::future::poll_fn(|cx| Pin::new(&mut reader).poll_next(cx));
        assert_eq!(block_on(next), Some(Ok(value)));
    }
    joined("all is sent", sending);
}
