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
}

impl<T> Channel<T> {
    pub(super) fn new(name: TopicName, policy: Policy, wait: WaitStrategy) -> Self {
        Self { name, ring: Arc::new(Ring::new(policy)), wait }
    }
}

impl<T> Clone for Channel<T> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), ring: Arc::clone(&self.ring), wait: self.wait }
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
