//! A memory topic's handle, and how it stands.

use std::fmt;
use std::time::Duration;

use crate::memory::channel::Channel;
use crate::memory::handle::Handle;
use crate::memory::handle::sealed::Sealed;
use crate::types::TopicName;

/// A memory topic: cheap to clone, usable from any thread. See the [module](crate::memory) for what it promises.
///
/// Made by [`Broker::memory_topic`](crate::Broker::memory_topic). It lives as long as
/// its broker or any handle, unless it is closed before.
pub struct Topic<T>(pub(super) Channel<T>);

impl<T> Topic<T> {
    /// Its name.
    pub fn name(&self) -> &TopicName {
        &self.0.name
    }

    /// How many values there is room for.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Ends it: nothing more gets in, what is in can be read. The name is free again.
    pub fn close(&self) {
        self.0.ring.close();
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.0.ring.is_closed()
    }

    /// How it stands at this moment. Takes a lock that joining, leaving and a full ring take, too.
    pub fn metrics(&self) -> Metrics {
        self.0.metrics()
    }
}

impl<T> Channel<T> {
    pub(super) fn capacity(&self) -> usize {
        usize::try_from(self.ring.capacity()).expect("a ring lies in memory")
    }

    pub(super) fn metrics(&self) -> Metrics {
        let groups = self.ring.group_states().into_iter().map(|state| GroupMetrics {
            name: state.name.as_deref().map(str::to_owned),
            members: state.members,
            lag: state.lag,
            dropped: state.dropped,
        });
        Metrics {
            sent: self.ring.sent(),
            depth: self.ring.depth(),
            blocked: self.ring.blocked(),
            producers: self.ring.writer_count(),
            groups: groups.collect(),
        }
    }
}

/// What a memory topic has done since it was created, and where it stands. Counted without cost to those who send and
/// receive: the figures are differences of positions, or come from paths that wait anyway.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// Values sent.
    pub sent: u64,
    /// Values between the slowest group and the end; without a group, those that are kept for who begins with the
    /// oldest.
    pub depth: u64,
    /// How long senders have waited for room, all together.
    pub blocked: Duration,
    /// Live producers.
    pub producers: usize,
    /// Live groups, in no order; a consumer alone is a group without a name.
    pub groups: Vec<GroupMetrics>,
}

/// How a group of a memory topic stands.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct GroupMetrics {
    /// Its name; `None` for a consumer alone, and for a queue's group.
    pub name: Option<String>,
    /// Live members.
    pub members: usize,
    /// Values that no member has read or taken on.
    pub lag: u64,
    /// Values that it missed.
    pub dropped: u64,
}

#[allow(private_interfaces, reason = "a sealed trait")]
impl<T: Send + Sync + 'static> Sealed for Topic<T> {
    type Value = T;
    const TAKES: bool = false;

    fn new(channel: Channel<T>) -> Self {
        Self(channel)
    }
}

impl<T: Send + Sync + 'static> Handle for Topic<T> {}

impl<T> Clone for Topic<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for Topic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("memory::Topic").field("name", self.name()).field("ring", &self.0.ring).finish()
    }
}
