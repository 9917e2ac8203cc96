//! A memory queue: a topic with one group, whose members take the values out.

use std::fmt;

use crate::memory::channel::Channel;
use crate::memory::handle::Handle;
use crate::memory::handle::sealed::Sealed;
use crate::memory::topic::Metrics;
use crate::types::TopicName;

/// A memory queue: every value goes to one consumer, by value. Cheap to clone, usable from any thread.
///
/// It has one group, for as long as it lives: what is sent before the first consumer comes waits for it, and when it is
/// full, [`OnFull`](crate::OnFull) holds with or without consumers. Values need be neither `Clone` nor `Sync`.
///
/// ```
/// use headwater::Broker;
/// type Job = Box<dyn FnOnce() -> u32 + Send>;
/// # fn main() -> headwater::Result<()> {
/// # let broker = Broker::in_memory()?;
/// let jobs = broker.memory_queue::<Job>("jobs").open_or_create()?;
/// jobs.producer()?.send(Box::new(|| 6 * 7))?;
///
/// let mut worker = jobs.consumer();
/// let job = worker.take()?;
/// assert_eq!(job(), 42);
/// assert!(worker.try_take()?.is_none());
/// jobs.close();
/// assert!(worker.take().is_err_and(|error| error.is_closed()));
/// # Ok(())
/// # }
/// ```
pub struct Queue<T>(pub(super) Channel<T>);

impl<T> Queue<T> {
    /// Its name.
    pub fn name(&self) -> &TopicName {
        &self.0.name
    }

    /// How many values there is room for.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Ends it: nothing more gets in, what is in can be taken. The name is free again.
    pub fn close(&self) {
        self.0.ring.close();
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.0.ring.is_closed()
    }

    /// How it stands at this moment.
    pub fn metrics(&self) -> Metrics {
        self.0.metrics()
    }
}

#[allow(private_interfaces, reason = "a sealed trait")]
impl<T: Send + 'static> Sealed for Queue<T> {
    type Value = T;
    const TAKES: bool = true;

    fn new(channel: Channel<T>) -> Self {
        Self(channel)
    }
}

impl<T: Send + 'static> Handle for Queue<T> {}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("memory::Queue").field("name", self.name()).field("ring", &self.0.ring).finish()
    }
}
