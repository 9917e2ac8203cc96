//! Sends values to a memory topic or queue.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::config::OnFull;
use crate::error::{Error, Result};
use crate::memory::channel::{Channel, Source};
use crate::memory::error::{Refused, SendError};
use crate::memory::queue::Queue;
use crate::memory::topic::Topic;
use crate::ring::multicast::{Refusal, Writer};
use crate::time::Deadline;
use crate::types::TopicName;

/// Sends values to a memory topic or queue, in order. `Send`; make one for each thread.
///
/// ```
/// use headwater::{Broker, OnFull};
/// # fn main() -> headwater::Result<()> {
/// # let broker = Broker::in_memory()?;
/// let ticks = broker.memory_topic::<u32>("ticks").capacity(2).on_full(OnFull::Reject).create()?;
/// let mut screen = ticks.consumer();
/// let mut feed = ticks.producer()?;
/// feed.send(1)?;
/// feed.send(2)?;
/// let refused = feed.send(3).unwrap_err();
/// assert!(refused.is_full());
/// assert_eq!(refused.into_inner(), 3);
/// assert_eq!(screen.recv(), Ok(1));
/// feed.send(3)?;
/// # Ok(())
/// # }
/// ```
pub struct Producer<T> {
    writer: Writer<T>,
    topic: TopicName,
    on_full: OnFull,
    _source: Arc<Source<T>>,
}

impl<T> Topic<T> {
    /// A producer.
    ///
    /// # Errors
    /// [`Error::ProducerInUse`] if the topic has a [single producer](crate::memory::Builder::single_producer) and it is
    /// alive; [`Error::Closed`].
    pub fn producer(&self) -> Result<Producer<T>> {
        Producer::new(&self.0)
    }
}

impl<T> Queue<T> {
    /// A producer.
    ///
    /// # Errors
    /// As [`Topic::producer`].
    pub fn producer(&self) -> Result<Producer<T>> {
        Producer::new(&self.0)
    }
}

impl<T> Producer<T> {
    fn new(channel: &Channel<T>) -> Result<Self> {
        let topic = channel.name.clone();
        let writer = channel.ring.writer(channel.wait).map_err(|refusal| match refusal {
            Refusal::Full => Error::ProducerInUse { topic: topic.as_str().into() },
            Refusal::Closed => Error::Closed { what: "the memory topic" },
        })?;
        Ok(Self { writer, topic, on_full: channel.ring.on_full(), _source: Arc::clone(&channel.source) })
    }

    /// The topic's name.
    pub fn topic(&self) -> &TopicName {
        &self.topic
    }

    /// Sends without waiting.
    ///
    /// # Errors
    /// The value comes back if there is no room for it, or the topic is closed. A topic that drops its oldest values
    /// has no room only while the oldest is lent to a reader, or its sender is at work on it.
    #[inline(always)]
    pub fn try_send(&mut self, value: T) -> Result<(), SendError<T>> {
        if self.writer.has_credit() { self.put(value) } else { self.try_send_slowly(value) }
    }

    /// Sends, and does what the topic says when it is full: waits until there is room, gives the value back, or drops
    /// the oldest.
    ///
    /// # Errors
    /// The value comes back if the topic is closed, or full and [`OnFull::Reject`].
    #[inline(always)]
    pub fn send(&mut self, value: T) -> Result<(), SendError<T>> {
        if self.writer.has_credit() { self.put(value) } else { self.send_slowly(value) }
    }

    /// As [`send`](Self::send), waiting at most `timeout`.
    ///
    /// # Errors
    /// As [`send`](Self::send); full, if there was no room in time.
    pub fn send_timeout(&mut self, value: T, timeout: Duration) -> Result<(), SendError<T>> {
        match self.try_send(value) {
            Err(SendError { value, refused: Refused::Full(_) }) if !timeout.is_zero() => {
                match self.reserve(Deadline::after(timeout)) {
                    Ok(()) => self.put(value),
                    Err(refusal) => Err(self.refuse(value, refusal)),
                }
            }
            sent => sent,
        }
    }

    /// As [`send`](Self::send), making the value only once there is room for it. A panic in `make` has sent nothing, and
    /// readers never wait for it.
    ///
    /// # Errors
    /// As [`send`](Self::send); the value was not made, or, if the topic was closed meanwhile, it is dropped.
    #[inline]
    pub fn send_with(&mut self, make: impl FnOnce() -> T) -> Result<(), Refused> {
        self.reserve(Deadline::never()).map_err(|refusal| Refused::new(refusal, &self.topic))?;
        Permit(self).send(make()).map_err(|error| error.refused)
    }

    /// As [`send_with`](Self::send_with), without waiting.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send), the value not made.
    pub fn try_send_with(&mut self, make: impl FnOnce() -> T) -> Result<(), Refused> {
        self.writer.try_reserve().map_err(|refusal| Refused::new(refusal, &self.topic))?;
        Permit(self).send(make()).map_err(|error| error.refused)
    }

    /// Sends all values, in order, taking them from the front: what is not sent stays in `values`. One claim and one
    /// look for sleepers for as many as there is room for: for small values several times as fast as one by one.
    ///
    /// # Errors
    /// As [`send`](Self::send). Those before the refused one were sent.
    pub fn send_batch(&mut self, values: &mut Vec<T>) -> Result<(), Refused> {
        if self.on_full == OnFull::Reject {
            return match self.try_send_batch(values) {
                Ok(_) if !values.is_empty() => Err(Refused::Full(self.topic.clone())),
                sent => sent.map(|_| ()),
            };
        }
        self.writer.put_all(values, Deadline::never()).map_err(|refusal| Refused::new(refusal, &self.topic))
    }

    /// As [`send_batch`](Self::send_batch), as far as it goes without waiting; how many were sent.
    ///
    /// # Errors
    /// Full, if none was sent; closed, with all that was not sent still in `values`.
    pub fn try_send_batch(&mut self, values: &mut Vec<T>) -> Result<usize, Refused> {
        self.writer.try_put_all(values).map_err(|refusal| Refused::new(refusal, &self.topic))
    }

    /// As [`send`](Self::send), for a task. Dropped before it is ready, it has sent nothing, and the value goes with
    /// it; [`reserve_async`](Self::reserve_async) waits without a value.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_async(&mut self, value: T) -> Result<(), SendError<T>> {
        match self.reserved_async().await {
            Ok(()) => self.put(value),
            Err(refusal) => Err(self.refuse(value, refusal)),
        }
    }

    /// Waits for room for one value, in a task. Dropped before it is ready, it leaves nothing behind.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn reserve_async(&mut self) -> Result<Permit<'_, T>, Refused> {
        match self.reserved_async().await {
            Ok(()) => Ok(Permit(self)),
            Err(refusal) => Err(Refused::new(refusal, &self.topic)),
        }
    }

    async fn reserved_async(&mut self) -> Result<(), Refusal> {
        match self.on_full {
            OnFull::Reject => self.writer.try_reserve(),
            OnFull::Block | OnFull::DropOldest => self.writer.reserve_async().await,
        }
    }

    #[cold]
    #[inline(never)]
    fn send_slowly(&mut self, value: T) -> Result<(), SendError<T>> {
        match self.reserve(Deadline::never()) {
            Ok(()) => self.put(value),
            Err(refusal) => Err(self.refuse(value, refusal)),
        }
    }

    #[inline(never)]
    fn try_send_slowly(&mut self, value: T) -> Result<(), SendError<T>> {
        match self.writer.try_reserve() {
            Ok(()) => self.put(value),
            Err(refusal) => Err(self.refuse(value, refusal)),
        }
    }

    fn reserve(&mut self, deadline: Deadline) -> Result<(), Refusal> {
        match self.on_full {
            OnFull::Reject => self.writer.try_reserve(),
            OnFull::Block | OnFull::DropOldest => self.writer.reserve(deadline),
        }
    }

    #[inline(always)]
    fn put(&mut self, value: T) -> Result<(), SendError<T>> {
        self.writer.put(value).map_err(|value| self.refuse(value, Refusal::Closed))
    }

    #[cold]
    fn refuse(&self, value: T, refusal: Refusal) -> SendError<T> {
        SendError::new(value, refusal, &self.topic)
    }
}

impl<T: Copy> Producer<T> {
    /// As [`send_batch`](Self::send_batch), for values that are copied: how many were sent comes with the refusal.
    ///
    /// # Errors
    /// As [`send_batch`](Self::send_batch), with the number of those that were sent: the rest begins there.
    pub fn send_slice(&mut self, values: &[T]) -> Result<(), (Refused, usize)> {
        let deadline = if self.on_full == OnFull::Reject { Deadline::after(Duration::ZERO) } else { Deadline::never() };
        self.writer.put_copies(values, deadline).map_err(|(refusal, sent)| (Refused::new(refusal, &self.topic), sent))
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("memory::Producer").field("topic", &self.topic).field("writer", &self.writer).finish()
    }
}

/// Room for one value, from [`Producer::reserve_async`]. Dropped unused, the room is there for others again, or, where
/// producers take room ahead, for this one's next value.
pub struct Permit<'a, T>(&'a mut Producer<T>);

impl<T> Permit<'_, T> {
    /// Sends the value; there is room for it.
    ///
    /// # Errors
    /// The value comes back if the topic was closed meanwhile.
    pub fn send(self, value: T) -> Result<(), SendError<T>> {
        self.0.put(value)
    }
}

impl<T> Drop for Permit<'_, T> {
    fn drop(&mut self) {
        self.0.writer.give_back_lone_credit();
    }
}

impl<T> fmt::Debug for Permit<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("memory::Permit").field(&self.0).finish()
    }
}
