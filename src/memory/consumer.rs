//! Reads a memory topic, alone or as a member of a group.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::memory::channel::Channel;
use crate::memory::error::{Lagged, RecvError};
use crate::memory::topic::Topic;
use crate::ring::multicast::{Joining, Reader, Start, Stop};
use crate::time::Deadline;
use crate::types::TopicName;

/// Values that [`Consumer::poll`] takes from a shared group at once, at most.
const POLL_MAX: u64 = 32;

impl<T> Topic<T> {
    /// A consumer alone: it sees every value that is sent from now on, and with the default policy holds senders back
    /// when it is a whole ring behind.
    pub fn consumer(&self) -> Consumer<T> {
        self.consumer_builder().join()
    }

    /// A consumer alone, to be set up.
    pub fn consumer_builder(&self) -> ConsumerBuilder<T> {
        ConsumerBuilder::new(&self.0, None)
    }

    /// A member of a group, which is made if it is not there: the group sees every value, its members share them. A new
    /// group begins with the next value that is sent, unless it is told otherwise, and it ends with its last member.
    /// Any text is a name; groups of memory topics have nothing to do with those of topics in the directory.
    pub fn group(&self, name: &str) -> ConsumerBuilder<T> {
        ConsumerBuilder::new(&self.0, Some(name.into()))
    }
}

/// A consumer of a memory topic, to be set up.
#[must_use = "a builder does nothing until `join`"]
pub struct ConsumerBuilder<T> {
    channel: Channel<T>,
    joining: Joining,
}

impl<T> ConsumerBuilder<T> {
    fn new(channel: &Channel<T>, group: Option<Arc<str>>) -> Self {
        let joining = Joining { group, start: Start::Latest, is_lossy: false, prefetch: 1 };
        Self { channel: channel.clone(), joining }
    }

    /// Begins with the oldest value that is still there. That leaves out up to a quarter of a full ring, which producers
    /// may be about to overwrite, but nothing that a group has still to read. A group that is there goes on where it is.
    pub fn from_oldest(mut self) -> Self {
        self.joining.start = Start::Oldest;
        self
    }

    /// Holds nobody back: where the ring is full, the group misses its oldest values and hears how many
    /// ([`Lagged`]). A group that is there stays as its first member made it.
    pub fn lossy(mut self) -> Self {
        self.joining.is_lossy = true;
        self
    }

    /// How many values this member takes from its group at a time, at most, when it receives one by one. 1, the
    /// default, shares the work evenly however long a value takes; more is faster where values are quick, but what a
    /// busy member has taken waits for it. 0 counts as 1. Without effect for a consumer alone, and for a lossy group,
    /// which must not hold what it does not read.
    #[doc(alias = "max.poll.records")]
    pub fn prefetch(mut self, values: usize) -> Self {
        self.joining.prefetch = values as u64;
        self
    }

    /// Joins. On a closed topic, too: with [`from_oldest`](Self::from_oldest) the consumer finds what is still there and
    /// then the end, without it the end. The first to join looks through the marks of the whole ring, once.
    pub fn join(self) -> Consumer<T> {
        let Self { channel, joining } = self;
        Consumer { reader: channel.ring.reader(&joining, channel.wait), topic: channel.name }
    }
}

impl<T> fmt::Debug for ConsumerBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerBuilder").field("topic", &self.channel.name).field("joining", &self.joining).finish()
    }
}

/// Reads a memory topic. `Send`; dropping it leaves its group, and gives back what it had not read.
///
/// ```
/// use headwater::Broker;
/// use std::time::Duration;
/// # fn main() -> headwater::Result<()> {
/// # let broker = Broker::in_memory()?;
/// let names = broker.memory_topic::<String>("names").open_or_create()?;
/// let mut reader = names.consumer();
/// assert_eq!(reader.try_recv(), Ok(None));
///
/// names.producer()?.send_batch(&mut vec!["a".into(), "bc".into(), "def".into()])?;
/// assert_eq!(reader.recv(), Ok("a".to_owned())); // a clone
/// assert_eq!(reader.recv_with(|name| name.len()), Ok(2)); // or a look
/// let mut lengths = 0;
/// assert_eq!(reader.poll(Duration::ZERO, |name| lengths += name.len()), Ok(1)); // at all that is there
/// assert_eq!(lengths, 3);
/// # Ok(())
/// # }
/// ```
pub struct Consumer<T> {
    reader: Reader<T>,
    topic: TopicName,
}

impl<T> Consumer<T> {
    /// The topic's name.
    pub fn topic(&self) -> &TopicName {
        &self.topic
    }

    /// How many values this consumer's group has still to read: those it has taken on itself, and those that no member
    /// has. Takes the lock that joining and leaving take.
    pub fn lag(&self) -> u64 {
        self.reader.lag()
    }

    /// How many values the group has missed, all together.
    pub fn missed(&self) -> u64 {
        self.reader.missed()
    }

    /// The place of the next value among all that were ever sent, as far as it is known: members of a group share.
    pub fn position(&self) -> u64 {
        self.reader.position()
    }
}

impl<T: Sync> Consumer<T> {
    /// Waits for the next value and lends it to `f`. A panic in `f` counts the value as read. An `f` that sends to the
    /// same topic, when that is full and waits for this consumer, waits for itself.
    ///
    /// # Errors
    /// [`RecvError::Lagged`] before the first value behind a gap, [`RecvError::Closed`] at the end.
    #[inline(always)]
    pub fn recv_with<R>(&mut self, f: impl FnOnce(&T) -> R) -> Result<R, RecvError> {
        for_ever(self.reader.wait(Deadline::never()))?;
        Ok(self.reader.read(f))
    }

    /// Lends to `f` what is there, a run of up to 256 values (of a shared group: this member's part of up to 32; of a
    /// lossy group: one, since what is held cannot be dropped), and says how many: the fastest way to read. Where nothing is there it waits at most `timeout`; 0 is the answer if
    /// nothing came. A panic in `f` counts the value as read and leaves the rest to the next call.
    ///
    /// # Errors
    /// As [`recv_with`](Self::recv_with).
    pub fn poll(&mut self, timeout: Duration, f: impl FnMut(&T)) -> Result<usize, RecvError> {
        if !wait_many(&mut self.reader, POLL_MAX, timeout)? {
            return Ok(0);
        }
        Ok(as_usize(self.reader.visit(u64::MAX, f)))
    }

    /// As [`poll`](Self::poll), for a task, without a timeout. Cancelling it loses nothing.
    ///
    /// # Errors
    /// As [`recv_with`](Self::recv_with).
    pub async fn poll_async(&mut self, f: impl FnMut(&T)) -> Result<usize, RecvError> {
        self.reader.wait_async(POLL_MAX).await?;
        Ok(as_usize(self.reader.visit(u64::MAX, f)))
    }
}

impl<T: Clone + Sync> Consumer<T> {
    /// Waits for the next value and clones it.
    ///
    /// # Errors
    /// As [`recv_with`](Self::recv_with).
    #[inline(always)]
    pub fn recv(&mut self) -> Result<T, RecvError> {
        self.recv_with(T::clone)
    }

    /// The next value, if it is there.
    ///
    /// # Errors
    /// As [`recv_with`](Self::recv_with).
    #[inline(always)]
    pub fn try_recv(&mut self) -> Result<Option<T>, RecvError> {
        match self.reader.ready() {
            Some(answer) => answer?,
            None => return Ok(None),
        }
        Ok(Some(self.reader.read(T::clone)))
    }

    /// As [`recv`](Self::recv); `None` if no value came in time.
    ///
    /// # Errors
    /// As [`recv_with`](Self::recv_with).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<T>, RecvError> {
        let prefetch = self.reader.prefetch();
        let is_there = wait_many(&mut self.reader, prefetch, timeout)?;
        Ok(is_there.then(|| self.reader.read(T::clone)))
    }

    /// Adds up to `max` values to `values` and says how many; waits for the first at most `timeout`.
    ///
    /// # Errors
    /// As [`recv_with`](Self::recv_with).
    pub fn recv_batch(&mut self, values: &mut Vec<T>, max: usize, timeout: Duration) -> Result<usize, RecvError> {
        let max = max as u64;
        if max == 0 || !wait_many(&mut self.reader, max, timeout)? {
            return Ok(0);
        }
        Ok(as_usize(self.reader.visit(max, |value| values.push(value.clone()))))
    }

    /// As [`recv`](Self::recv), for a task. Cancelling it loses nothing: it owns no value until it is ready.
    ///
    /// # Errors
    /// As [`recv_with`](Self::recv_with).
    pub async fn recv_async(&mut self) -> Result<T, RecvError> {
        self.reader.wait_async(self.reader.prefetch()).await?;
        Ok(self.reader.read(T::clone))
    }

    /// The same for who polls by hand, or makes a stream of it: the waker of the last pending call is woken.
    ///
    /// # Errors
    /// As [`recv_with`](Self::recv_with).
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, RecvError>> {
        ready!(self.reader.poll_ready(cx))?;
        Poll::Ready(Ok(self.reader.read(T::clone)))
    }

    /// Values until the topic is closed, waiting for each; [`Lagged`] where some were missed.
    pub fn iter(&mut self) -> Iter<'_, T> {
        Iter(self)
    }

    /// Values for as long as one is there.
    pub fn try_iter(&mut self) -> TryIter<'_, T> {
        TryIter(self)
    }
}

/// Whether a value came in time.
pub(super) fn wait_many<T>(reader: &mut Reader<T>, max: u64, timeout: Duration) -> Result<bool, RecvError> {
    // A clock that is not needed is not asked.
    let answer = match reader.ready_many(max) {
        None if !timeout.is_zero() => reader.wait_many(max, Deadline::after(timeout)),
        answer => answer,
    };
    answer.transpose()?;
    Ok(answer.is_some())
}

/// The answer of a wait that has no deadline.
#[inline(always)]
pub(super) fn for_ever(answer: Option<Result<(), Stop>>) -> Result<(), RecvError> {
    answer.expect("a wait without a deadline ends with an answer").map_err(RecvError::from)
}

pub(super) fn as_usize(count: u64) -> usize {
    usize::try_from(count).expect("no more values than lie in memory")
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("memory::Consumer").field("topic", &self.topic).field("reader", &self.reader).finish()
    }
}

/// Values of a [`Consumer`] until the end; see [`Consumer::iter`].
pub struct Iter<'a, T>(&'a mut Consumer<T>);

impl<T: Clone + Sync> Iterator for Iter<'_, T> {
    type Item = Result<T, Lagged>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.0.recv() {
            Ok(value) => Some(Ok(value)),
            Err(RecvError::Lagged(lagged)) => Some(Err(lagged)),
            Err(RecvError::Closed) => None,
        }
    }
}

/// Values of a [`Consumer`] for as long as one is there; see [`Consumer::try_iter`].
pub struct TryIter<'a, T>(&'a mut Consumer<T>);

impl<T: Clone + Sync> Iterator for TryIter<'_, T> {
    type Item = Result<T, Lagged>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.0.try_recv() {
            Ok(value) => value.map(Ok),
            Err(RecvError::Lagged(lagged)) => Some(Err(lagged)),
            Err(RecvError::Closed) => None,
        }
    }
}

/// Ends when the topic is closed. Feature `stream`.
#[cfg(feature = "stream")]
impl<T: Clone + Sync> futures_core::Stream for Consumer<T> {
    type Item = Result<T, Lagged>;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(match ready!(self.poll_recv(cx)) {
            Ok(value) => Some(Ok(value)),
            Err(RecvError::Lagged(lagged)) => Some(Err(lagged)),
            Err(RecvError::Closed) => None,
        })
    }
}

impl<T> fmt::Debug for Iter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("memory::Iter").field(&self.0).finish()
    }
}

impl<T> fmt::Debug for TryIter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("memory::TryIter").field(&self.0).finish()
    }
}
