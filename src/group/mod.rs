//! Consumer groups: who reads for which group, and how far each group has come.
//!
//! A group has one live member here; several members, generations and rebalancing have their place between
//! `offsets` and the consumer.

pub(crate) mod offsets;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::group::offsets::{Commit, Offsets};
use crate::registry::Registry;
use crate::sync::plain::Mutex;
use crate::types::{Offset, PartitionId, TopicId, check_name};

/// The groups of one broker.
#[derive(Debug)]
pub(crate) struct Groups {
    registry: Arc<Registry>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Read when the first group is joined. Guarded together with the members; its I/O is done outside.
    offsets: Option<Arc<Offsets>>,
    live: BTreeSet<String>,
}

impl Groups {
    pub(crate) fn new(registry: Arc<Registry>) -> Self {
        Self { registry, state: Mutex::default() }
    }

    /// Makes the caller the member of a group, until the membership is dropped.
    ///
    /// # Errors
    /// [`Error::GroupInUse`], [`Error::InvalidName`], or why the committed offsets cannot be read.
    pub(crate) fn join(self: &Arc<Self>, group: &str) -> Result<Membership> {
        check_name("group name", group)?;
        let mut state = self.state.lock();
        if state.live.contains(group) {
            return Err(Error::GroupInUse { group: group.into() });
        }
        let offsets = match &state.offsets {
            Some(offsets) => Arc::clone(offsets),
            None => Arc::clone(state.offsets.insert(Arc::new(Offsets::open(&self.registry)?))),
        };
        state.live.insert(group.into());
        Ok(Membership { groups: Arc::clone(self), offsets, group: group.into() })
    }
}

/// A consumer's place in a group.
#[derive(Debug)]
pub(crate) struct Membership {
    groups: Arc<Groups>,
    offsets: Arc<Offsets>,
    group: String,
}

impl Membership {
    /// The group's name.
    pub(crate) fn group(&self) -> &str {
        &self.group
    }

    /// Where the group goes on in a partition, if it has committed there.
    pub(crate) fn committed(&self, topic: TopicId, partition: PartitionId) -> Option<Offset> {
        self.offsets.committed(&self.group, topic, partition)
    }

    /// Notes how far the group has come, in the page cache; returns what is to be synced.
    ///
    /// # Errors
    /// As an append: nothing was noted then.
    pub(crate) fn commit(&self, commits: &[Commit]) -> Result<Offset> {
        self.offsets.commit(&self.group, commits)
    }

    /// The offsets' own log, to be waited for.
    pub(crate) fn offsets(&self) -> &Offsets {
        &self.offsets
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.groups.state.lock().live.remove(&self.group);
    }
}
