//! A broker's memory topics by name.

use std::any::type_name;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use crate::error::{Error, Result};
use crate::memory::channel::{AnyChannel, Channel};
use crate::sync::plain::Mutex;
use crate::types::TopicName;

/// What is there, and of which type.
#[derive(Default)]
pub(crate) struct Directory {
    /// Guards itself only; nothing else is taken while it is held.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_closed: bool,
    topics: BTreeMap<TopicName, Listed>,
}

struct Listed {
    channel: Box<dyn AnyChannel>,
    /// What the handles are, with their type of value, for people.
    type_name: &'static str,
    is_closed: fn(&dyn AnyChannel) -> bool,
}

/// What to do about a topic that is there, or is not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Want {
    Open,
    Create,
    OpenOrCreate,
}

impl Directory {
    /// Finds the topic, or makes it. `H` is the handle's type: a topic is not opened as a queue, nor with another
    /// type of value.
    pub(super) fn open<H: 'static, T: Send + 'static>(
        &self,
        name: TopicName,
        want: Want,
        make: impl FnOnce(TopicName) -> Result<Channel<T>>,
    ) -> Result<Channel<T>> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(Error::Closed { what: "the broker" });
        }
        match state.topics.entry(name) {
            Entry::Occupied(entry) if !(entry.get().is_closed)(&*entry.get().channel) => {
                let topic = || entry.key().as_str().to_owned();
                if want == Want::Create {
                    return Err(Error::TopicExists { topic: topic() });
                }
                let listed = entry.get();
                let found =
                    (listed.type_name == type_name::<H>()).then(|| listed.channel.as_any().downcast_ref()).flatten();
                found.cloned().ok_or_else(|| Error::WrongType {
                    topic: topic(),
                    is: listed.type_name,
                    asked: type_name::<H>(),
                })
            }
            entry if want == Want::Open => Err(Error::UnknownTopic { topic: entry.key().as_str().to_owned() }),
            entry => {
                let channel = make(entry.key().clone())?;
                let is_closed = |channel: &dyn AnyChannel| {
                    channel.as_any().downcast_ref::<Channel<T>>().is_none_or(|channel| channel.ring.is_closed())
                };
                let listed = Listed { channel: Box::new(channel.clone()), type_name: type_name::<H>(), is_closed };
                entry.insert_entry(listed);
                Ok(channel)
            }
        }
    }

    pub(crate) fn names(&self) -> Vec<TopicName> {
        self.state
            .lock()
            .topics
            .iter()
            .filter(|(_, it)| !(it.is_closed)(&*it.channel))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Closes all of them, and lets go of them.
    pub(crate) fn close(&self) {
        let topics = {
            let mut state = self.state.lock();
            state.is_closed = true;
            std::mem::take(&mut state.topics)
        };
        topics.values().for_each(|listed| listed.channel.close());
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").field("topics", &self.names()).finish_non_exhaustive()
    }
}
