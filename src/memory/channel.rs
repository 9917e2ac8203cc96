//! A ring with its topic's name: what the handles of a topic share.

use std::any::Any;
use std::sync::Arc;

use crate::config::WaitStrategy;
use crate::ring::multicast::{Policy, Ring};
use crate::types::TopicName;

/// Cheap to clone.
#[derive(Debug)]
pub(super) struct Channel<T> {
    pub(super) name: TopicName,
    pub(super) ring: Arc<Ring<T>>,
    pub(super) wait: WaitStrategy,
    pub(super) source: Arc<Source<T>>,
}

impl<T> Channel<T> {
    /// `None` if there is not so much memory.
    pub(super) fn new(name: TopicName, policy: Policy, wait: WaitStrategy) -> Option<Self> {
        let ring = Arc::new(Ring::new(policy)?);
        let source = Arc::new(Source(Arc::clone(&ring)));
        Some(Self { name, ring, wait, source })
    }
}

impl<T> Clone for Channel<T> {
    fn clone(&self) -> Self {
        let (ring, source) = (Arc::clone(&self.ring), Arc::clone(&self.source));
        Self { name: self.name.clone(), ring, wait: self.wait, source }
    }
}

/// Held by everybody through whom a value may still come: topics, producers, and the broker. The last one closes the
/// ring, so that nobody waits for what cannot come.
#[derive(Debug)]
pub(super) struct Source<T>(Arc<Ring<T>>);

impl<T> Drop for Source<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A channel of any type, as a broker keeps it.
pub(super) trait AnyChannel: Any + Send + Sync {
    fn close(&self);
    fn is_closed(&self) -> bool;
    fn as_any(&self) -> &dyn Any;
}

impl<T: Send + 'static> AnyChannel for Channel<T> {
    fn close(&self) {
        self.ring.close();
    }

    fn is_closed(&self) -> bool {
        self.ring.is_closed()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
