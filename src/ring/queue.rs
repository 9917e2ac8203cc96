//! A bounded queue: any number of producers, one consumer, no locks.
//!
//! Dmitry Vyukov's bounded queue with one consumer. A stamp in each slot says whose turn it is, so a producer that
//! finds no room has touched nothing and gives the value back.

use std::sync::Arc;
use std::{fmt, hint};

use crossbeam::utils::CachePadded;

use crate::ring::first_panic::FirstPanic;
use crate::ring::seeded::{Bug, is_seeded};
use crate::ring::slot::Slot;
use crate::sync::{AtomicU64, Ordering, spin_loop, yield_now};

/// The producers' end of a bounded queue, and its memory.
///
/// Positions are counted from 0 and never reused; position `p` lives in slot `p % capacity`.
///
/// Invariants:
/// - a position is claimed by one producer: `tail` moves only by compare-exchange from `p` to `p + 1`, and only
///   after the stamp of slot `p` was seen to be `p`.
/// - from the claim of `p` until stamp `p + 1` is stored, slot `p` is that producer's alone.
/// - while the stamp is `p + 1` the slot holds the value of `p` and is the consumer's alone.
/// - there is one consumer: a queue is made with its one [`Drain`], which is not `Clone` and pops by `&mut`.
/// - nothing that may panic runs between a claim and its stamp, so once no producer is left every position
///   below `tail` is published, and the live values are those from `head` to `tail`.
pub(crate) struct Queue<T> {
    /// The next position to be claimed.
    tail: CachePadded<AtomicU64>,
    /// The next position to be popped. Stored by the consumer only.
    head: CachePadded<AtomicU64>,
    slots: Box<[Slot<T>]>,
}

// SAFETY: values go from thread to thread, hence `T: Send`; a slot is touched by one thread at a time,
// so no `&T` is ever shared and `T: Sync` is not needed.
unsafe impl<T: Send> Sync for Queue<T> {}

impl<T> Queue<T> {
    /// A queue of `capacity` places and the one consumer's end of it.
    ///
    /// # Panics
    /// If `capacity` is not a power of two of at least 2.
    pub(crate) fn new(capacity: usize) -> (Arc<Self>, Drain<T>) {
        // With one slot, "holds p" and "free for p + capacity" would be the same stamp.
        assert!(capacity >= 2 && capacity.is_power_of_two(), "capacity {capacity} is not a power of two of at least 2");
        let queue = Arc::new(Self {
            tail: CachePadded::new(AtomicU64::new(0)),
            head: CachePadded::new(AtomicU64::new(0)),
            slots: (0..capacity as u64).map(Slot::new).collect(),
        });
        let drain = Drain { queue: Arc::clone(&queue), head: 0 };
        (queue, drain)
    }

    /// How many values have room.
    pub(crate) fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// Puts a value in. Lock-free: it waits for nobody, neither the consumer nor a producer that was interrupted.
    ///
    /// # Errors
    /// The value comes back when the queue is full.
    pub(crate) fn push(&self, value: T) -> Result<(), T> {
        // Relaxed: only a guess at where to look; the stamp and the compare-exchange decide.
        let mut position = self.tail.load(Ordering::Relaxed);
        loop {
            let slot = self.slot(position);
            let stamp = slot.stamp();
            if stamp == position || is_seeded(Bug::QueueClaimsWithoutRoom) {
                // Relaxed, twice: the claim only tells producers apart; what is handed over goes by the stamp.
                match self.tail.compare_exchange_weak(position, position + 1, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => {
                        // SAFETY: the stamp was `position` and the compare-exchange has just claimed it.
                        unsafe { slot.fill(position, value) };
                        return Ok(());
                    }
                    Err(moved_to) => position = moved_to,
                }
            } else if stamp < position {
                // The slot still serves the lap before: the queue was full at the moment the stamp was read.
                return Err(value);
            } else {
                // Another producer has it; look further on.
                position = self.tail.load(Ordering::Relaxed); // Relaxed: a guess, as above.
            }
        }
    }

    /// Whether there is nothing to pop: the value at the head is not published.
    ///
    /// It may be claimed, and values behind it may be published: they are reached by whoever publishes the head, so
    /// a producer must ask for them to be popped after it has pushed. Between threads the answer is only as fresh as
    /// the fences around it.
    pub(crate) fn is_empty(&self) -> bool {
        // Relaxed: an older head has a stamp of a later lap; then somebody else is popping, or has.
        let head = self.head.load(Ordering::Relaxed);
        self.slot(head).peek_stamp() != head + 1
    }

    fn slot(&self, position: u64) -> &Slot<T> {
        // Cannot lose: the remainder is less than a slice's length.
        &self.slots[(position & (self.slots.len() as u64 - 1)) as usize]
    }
}

impl<T> Drop for Queue<T> {
    fn drop(&mut self) {
        // Relaxed, twice: `&mut self` says that nobody else is here.
        let (head, tail) = (self.head.load(Ordering::Relaxed), self.tail.load(Ordering::Relaxed));
        let mut panics = FirstPanic::default();
        for position in head..tail {
            let slot = self.slot(position);
            debug_assert_eq!(slot.stamp(), position + 1, "claimed position {position} was never published");
            // SAFETY: nobody else is here, and every position from head to tail holds its value.
            let value = unsafe { slot.take(position + self.slots.len() as u64) };
            panics.run(|| drop(value));
        }
        panics.resume();
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}

/// The consumer's end of a [`Queue`].
#[derive(Debug)]
pub(crate) struct Drain<T> {
    queue: Arc<Queue<T>>,
    /// The next position to be popped: the queue's `head`, without asking.
    head: u64,
}

impl<T> Drain<T> {
    /// Takes the next value; `None` if it is not published.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let slot = self.queue.slot(self.head);
        if slot.stamp() != self.head + 1 {
            return None;
        }
        // SAFETY: the stamp says that the value is published, and we are the one consumer.
        let value = unsafe { slot.take(self.head + self.queue.slots.len() as u64) };
        self.head += 1;
        // Relaxed: a hint for `is_empty`; the slot itself was handed back by its stamp.
        self.queue.head.store(self.head, Ordering::Relaxed);
        Some(value)
    }

    /// The end of what was claimed before this call, by this thread or by what happened before.
    pub(crate) fn claimed_end(&self) -> u64 {
        // Relaxed: a thread sees its own claims, and those it was told of, without any ordering here.
        self.queue.tail.load(Ordering::Relaxed)
    }

    /// Takes the next value if its position is below `end`, which must be a claimed end. Where the value is claimed
    /// and not yet published, waits for its producer, which is between two instructions of `push`.
    pub(crate) fn pop_below(&mut self, end: u64) -> Option<T> {
        /// Turns after which the producer is taken to be off its core.
        const SPINS: u32 = 64;
        if self.head >= end {
            return None;
        }
        let mut turns = 0;
        loop {
            if let Some(value) = self.pop() {
                return Some(value);
            }
            if is_seeded(Bug::CombinerOvertakes) {
                return None;
            }
            hint::cold_path();
            turns += 1;
            if turns < SPINS { spin_loop() } else { yield_now() }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::thread;

    use super::*;
    use crate::sync::AtomicUsize;

    #[test]
    fn a_full_queue_gives_the_value_back_and_takes_it_once_there_is_room() {
        let (queue, mut drain) = Queue::new(4);
        for lap in 0..5 {
            assert!(queue.is_empty(), "lap {lap}");
            for n in 0..4 {
                assert_eq!(queue.push(lap * 10 + n), Ok(()));
            }
            assert_eq!(queue.push(99), Err(99));
            assert_eq!(drain.pop(), Some(lap * 10));
            assert_eq!(queue.push(lap * 10 + 4), Ok(()));
            let rest: Vec<_> = std::iter::from_fn(|| drain.pop()).collect();
            assert_eq!(rest, [1, 2, 3, 4].map(|n| lap * 10 + n));
        }
    }

    #[test]
    fn the_consumer_can_stop_at_what_was_claimed_when_it_came() {
        let (queue, mut drain) = Queue::new(4);
        assert_eq!((queue.push('a'), queue.push('b')), (Ok(()), Ok(())));
        let end = drain.claimed_end();
        assert_eq!(queue.push('c'), Ok(()));
        let below: String = std::iter::from_fn(|| drain.pop_below(end)).collect();
        assert_eq!((below.as_str(), drain.pop()), ("ab", Some('c')));
    }

    #[test]
    fn a_capacity_that_is_no_power_of_two_or_cannot_tell_full_from_empty_is_refused() {
        for capacity in [0, 1, 3, 12] {
            let refusal = catch_unwind(|| drop(Queue::<u8>::new(capacity))).expect_err("refused");
            let words = refusal.downcast_ref::<String>().expect("a message");
            assert!(words.contains(&format!("capacity {capacity} is not")), "{words}");
        }
    }

    /// Counts its drops, and panics in one of them.
    struct Fragile<'a>(usize, &'a AtomicUsize);

    impl Drop for Fragile<'_> {
        fn drop(&mut self) {
            self.1.fetch_add(1, Ordering::Relaxed);
            assert_ne!(self.0, 2, "value 2 breaks when it is dropped");
        }
    }

    #[test]
    fn dropping_a_queue_drops_what_is_in_it_once_even_past_a_drop_that_panics() {
        let dropped = AtomicUsize::new(0);
        let (queue, mut drain) = Queue::<Fragile>::new(4);
        for n in 0..6 {
            if n >= 4 {
                assert_eq!(drain.pop().map(|value| value.0), Some(n - 4));
            }
            assert!(queue.push(Fragile(n, &dropped)).is_ok());
        }
        assert_eq!(dropped.load(Ordering::Relaxed), 2, "the two that were popped");
        drop(queue);
        let outcome = catch_unwind(AssertUnwindSafe(|| drop(drain)));
        assert!(outcome.is_err(), "the panic goes on");
        assert_eq!(dropped.load(Ordering::Relaxed), 6, "the four that were in it, each once");
    }

    #[test]
    fn with_more_threads_than_cores_every_value_arrives_once_in_its_producers_order_and_none_leaks() {
        const PRODUCERS: usize = 7;
        const EACH: usize = 20_000;
        let alive = Arc::new(());
        let (queue, mut drain) = Queue::new(64);
        let mut next = [0; PRODUCERS];
        thread::scope(|scope| {
            for producer in 0..PRODUCERS {
                let (queue, alive) = (&queue, &alive);
                scope.spawn(move || {
                    for n in 0..EACH {
                        let mut value = (producer, n, Arc::clone(alive));
                        while let Err(back) = queue.push(value) {
                            value = back;
                            yield_now();
                        }
                    }
                });
            }
            for _ in 0..PRODUCERS * EACH {
                let (producer, n, _alive) = loop {
                    match drain.pop() {
                        Some(value) => break value,
                        None => yield_now(),
                    }
                };
                assert_eq!(n, next[producer], "producer {producer}");
                next[producer] += 1;
            }
        });
        assert_eq!((next, drain.pop().is_none()), ([EACH; PRODUCERS], true));
        assert_eq!(Arc::strong_count(&alive), 1, "every value was dropped");
    }
}
