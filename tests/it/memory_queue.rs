//! Memory queues. What fails here in the field: a value is taken twice, or by nobody, or is gone because nobody was there
//! when it came.

use std::thread;
use std::time::Duration;

use headwater::OnFull;
use headwater::memory::{Lagged, RecvError};

use crate::memory_support::{MOMENT, Scales, new_queue, poll_once, queue, take_all};
use crate::support::{FOR_EVER, joined};

#[test]
fn a_queue_keeps_values_without_consumers_and_is_full_without_them() {
    let queue = queue::<u32>(4);
    let mut producer = queue.producer().expect("a producer");
    (0..4).for_each(|value| producer.try_send(value).expect("room"));
    assert!(producer.try_send(4).expect_err("full").is_full());
    let metrics = queue.metrics();
    assert_eq!((metrics.sent, metrics.depth, metrics.producers), (4, 4, 1));
    let [group] = &metrics.groups[..] else { panic!("{metrics:?}") };
    assert_eq!((&group.name, group.members, group.lag, group.dropped), (&None, 0, 4, 0));

    let mut taker = queue.consumer();
    assert_eq!((taker.lag(), taker.take()), (4, Ok(0)));
    drop(taker);
    // The group stays where it was.
    assert_eq!(take_all(&mut queue.consumer()), [1, 2, 3]);
    producer.try_send(4).expect("room");
    assert_eq!(queue.metrics().groups[0].lag, 1);
}

#[test]
fn a_queue_moves_values_that_can_be_neither_cloned_nor_shared() {
    struct OneOfItsKind(std::cell::Cell<u32>, #[expect(dead_code, reason = "it makes the type what it is")] Box<u32>);
    let queue = queue::<OneOfItsKind>(4);
    let one = OneOfItsKind(std::cell::Cell::new(1), Box::new(1));
    queue.producer().expect("a producer").send(one).expect("room");
    let mut taker = queue.consumer();
    let taking = thread::spawn(move || taker.take().map(|value| value.0.get()));
    assert_eq!(joined("it is taken", taking), Ok(1));
}

#[test]
fn values_of_a_queue_are_taken_once_in_order_whichever_way() {
    let queue = queue::<u32>(64);
    let (mut one, mut two) = (queue.consumer(), queue.clone().consumer());
    let mut producer = queue.producer().expect("a producer");
    assert_eq!(
        (one.try_take(), one.take_timeout(Duration::ZERO), one.take_timeout(MOMENT)),
        (Ok(None), Ok(None), Ok(None))
    );
    assert_eq!(one.take_batch(&mut Vec::new(), 9, MOMENT), Ok(0));
    producer.send_batch(&mut Vec::from_iter(0..20)).expect("sent");
    let mut taken = vec![one.take().expect("there")];
    taken.push(two.try_take().expect("there").expect("there"));
    taken.push(one.take_timeout(FOR_EVER).expect("there").expect("there"));
    assert_eq!(two.take_batch(&mut taken, 0, FOR_EVER), Ok(0));
    assert_eq!(two.take_batch(&mut taken, 3, FOR_EVER), Ok(3));
    taken.push(poll_once(one.take_async()).expect("there").expect("there"));
    taken.extend(two.iter().take(2));
    assert_eq!(taken, Vec::from_iter(0..9));
    // A batch is the member's share, at most.
    let count = one.take_batch(&mut taken, usize::MAX, FOR_EVER).expect("there");
    assert!((1..=11).contains(&count), "{count}");
    taken.extend(take_all(&mut two));
    assert_eq!(taken, Vec::from_iter(0..20));
}

#[test]
fn a_queue_that_drops_its_oldest_counts_them_and_an_iterator_passes_over_the_gap() {
    let scales = Scales::default();
    let queue = new_queue().capacity(4).on_full(OnFull::DropOldest).create().expect("a queue");
    let mut producer = queue.producer().expect("a producer");
    for number in 0..7 {
        producer.send(scales.load(number)).expect("never refused");
        assert_eq!(scales.alive(), (number as i64 + 1).min(4), "the oldest is dropped at once");
    }
    assert_eq!(queue.metrics().groups[0].dropped, 3);
    let mut taker = queue.consumer();
    let Err(lagged) = taker.take() else { panic!("three were dropped") };
    assert_eq!(lagged, RecvError::Lagged(Lagged { missed: 3 }));
    assert_eq!(taker.take().map(|load| load.number), Ok(3));
    (7..10).for_each(|number| producer.send(scales.load(number)).expect("never refused"));
    queue.close();
    let left: Vec<_> = taker.iter().map(|load| load.number).collect();
    assert_eq!(left.last(), Some(&9));
    assert_eq!(left.len() as u64 + 1 + queue.metrics().groups[0].dropped, 10);
    assert_eq!(scales.alive(), 0);
}

#[test]
fn an_iterator_over_a_queue_ends_when_it_is_closed_and_empty_and_stays_ended() {
    let queue = queue::<u32>(4);
    queue.producer().expect("a producer").send_slice(&[1, 2]).expect("room");
    queue.close();
    assert!(queue.is_closed());
    let mut taker = queue.consumer();
    let mut iter = taker.iter();
    assert_eq!((iter.next(), iter.next(), iter.next(), iter.next()), (Some(1), Some(2), None, None));
    assert_eq!((taker.take(), taker.try_take()), (Err(RecvError::Closed), Err(RecvError::Closed)));
    assert_eq!(taker.take_timeout(FOR_EVER), Err(RecvError::Closed));
    assert_eq!(taker.take_batch(&mut Vec::new(), 1, FOR_EVER), Err(RecvError::Closed));
}

#[test]
fn a_batch_is_no_larger_than_asked_for_also_out_of_what_was_taken_ahead() {
    let queue = queue::<u32>(64);
    let mut taker = queue.consumer_with_prefetch(8);
    queue.producer().expect("a producer").send_batch(&mut Vec::from_iter(0..20)).expect("room");
    assert_eq!(taker.take(), Ok(0));
    let mut batch = Vec::new();
    for (max, count) in [(2, 2), (usize::MAX, 5), (3, 3), (usize::MAX, 9), (1, 0)] {
        assert_eq!(taker.take_batch(&mut batch, max, Duration::ZERO), Ok(count), "{max}");
    }
    assert_eq!(batch, Vec::from_iter(1..20));
}
