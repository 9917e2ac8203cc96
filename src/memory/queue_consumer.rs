//! Takes values out of a memory queue.

use std::fmt;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::memory::consumer::{as_usize, for_ever, wait_many};
use crate::memory::error::RecvError;
use crate::memory::queue::Queue;
use crate::ring::multicast::{Joining, Reader, Start};
use crate::time::Deadline;
use crate::types::TopicName;

impl<T> Queue<T> {
    /// A consumer; all consumers of a queue share its values.
    pub fn consumer(&self) -> QueueConsumer<T> {
        self.consumer_with_prefetch(1)
    }

    /// A consumer that takes up to so many values on itself at a time; see
    /// [`ConsumerBuilder::prefetch`](crate::memory::ConsumerBuilder::prefetch).
    pub fn consumer_with_prefetch(&self, values: usize) -> QueueConsumer<T> {
        let joining = Joining { group: None, start: Start::Oldest, is_lossy: false, prefetch: values as u64 };
        QueueConsumer { reader: self.0.ring.reader(&joining, self.0.wait), queue: self.0.name.clone() }
    }
}

/// Takes values out of a memory queue. `Send`; what it has taken on itself and not handed out goes to the others when it
/// is dropped.
pub struct QueueConsumer<T> {
    reader: Reader<T>,
    queue: TopicName,
}

impl<T> QueueConsumer<T> {
    /// The queue's name.
    pub fn queue(&self) -> &TopicName {
        &self.queue
    }

    /// Waits for the next value and takes it.
    ///
    /// # Errors
    /// [`RecvError::Closed`] when the queue is closed and empty; [`RecvError::Lagged`] where the queue drops its oldest.
    #[inline]
    pub fn take(&mut self) -> Result<T, RecvError> {
        for_ever(self.reader.wait(Deadline::never()))?;
        Ok(self.reader.take())
    }

    /// The next value, if it is there.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    #[inline]
    pub fn try_take(&mut self) -> Result<Option<T>, RecvError> {
        match self.reader.ready() {
            Some(answer) => answer?,
            None => return Ok(None),
        }
        Ok(Some(self.reader.take()))
    }

    /// As [`take`](Self::take); `None` if no value came in time.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn take_timeout(&mut self, timeout: Duration) -> Result<Option<T>, RecvError> {
        let prefetch = self.reader.prefetch();
        let is_there = wait_many(&mut self.reader, prefetch, timeout)?;
        Ok(is_there.then(|| self.reader.take()))
    }

    /// Adds up to `max` values to `values` and says how many; waits for the first at most `timeout`.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn take_batch(&mut self, values: &mut Vec<T>, max: usize, timeout: Duration) -> Result<usize, RecvError> {
        let max = max as u64;
        if max == 0 || !wait_many(&mut self.reader, max, timeout)? {
            return Ok(0);
        }
        let count = as_usize(self.reader.in_hand().min(max));
        values.reserve(count);
        values.extend((0..count).map(|_| self.reader.take()));
        Ok(count)
    }

    /// As [`take`](Self::take), for a task. Cancelling it loses nothing: it owns no value until it is ready.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub async fn take_async(&mut self) -> Result<T, RecvError> {
        self.reader.wait_async(self.reader.prefetch()).await?;
        Ok(self.reader.take())
    }

    /// The same for who polls by hand: the waker of the last pending call is woken.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, RecvError>> {
        ready!(self.reader.poll_ready(cx))?;
        Poll::Ready(Ok(self.reader.take()))
    }

    /// Values until the queue is closed, waiting for each. What a queue that drops its oldest has dropped is passed
    /// over; [`Queue::metrics`] counts it.
    pub fn iter(&mut self) -> QueueIter<'_, T> {
        QueueIter(self)
    }

    /// How many values are in the queue, those included that this consumer has taken on itself.
    pub fn lag(&self) -> u64 {
        self.reader.lag()
    }
}

impl<T> fmt::Debug for QueueConsumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("memory::QueueConsumer").field("queue", &self.queue).field("reader", &self.reader).finish()
    }
}

/// Values of a [`QueueConsumer`] until the end; see [`QueueConsumer::iter`].
pub struct QueueIter<'a, T>(&'a mut QueueConsumer<T>);

impl<T> Iterator for QueueIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        loop {
            match self.0.take() {
                Ok(value) => return Some(value),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

impl<T> fmt::Debug for QueueIter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("memory::QueueIter").field(&self.0).finish()
    }
}
