//! A broker's memory topics by name.

use std::any::{TypeId, type_name};
use std::collections::BTreeMap;
use std::fmt;

use crate::error::{Error, Result};
use crate::memory::channel::{AnyChannel, Channel};
use crate::memory::handle::Handle;
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
    what: String,
    handle: TypeId,
}

impl Listed {
    fn new<H: Handle>(channel: Channel<H::Value>) -> Self {
        Self { channel: Box::new(channel), what: what::<H>(), handle: TypeId::of::<H>() }
    }

    fn is_closed(&self) -> bool {
        self.channel.is_closed()
    }

    /// The channel, if it is what is asked for.
    fn opened<H: Handle>(&self) -> Option<Channel<H::Value>> {
        let channel = self.channel.as_any().downcast_ref::<Channel<H::Value>>()?;
        (self.handle == TypeId::of::<H>()).then(|| channel.clone())
    }
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
    pub(super) fn open<H: Handle>(
        &self,
        name: TopicName,
        want: Want,
        make: impl FnOnce(TopicName) -> Result<Channel<H::Value>>,
    ) -> Result<Channel<H::Value>> {
        // Declared before the lock, so dropped after it: the values in a closed topic are a stranger's.
        let _closed: BTreeMap<_, _>;
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(Error::Closed { what: "the broker" });
        }
        _closed = state.topics.extract_if(.., |_, listed| listed.is_closed()).collect();
        let listed = state.topics.get(&name);
        match (listed, want) {
            (Some(_), Want::Create) => Err(Error::TopicExists { topic: name.as_str().into() }),
            (Some(listed), _) => listed.opened::<H>().ok_or_else(|| Error::WrongType {
                topic: name.as_str().into(),
                is: listed.what.clone(),
                asked: what::<H>(),
            }),
            (None, Want::Open) => Err(Error::UnknownTopic { topic: name.as_str().into() }),
            (None, _) => {
                let channel = make(name.clone())?;
                state.topics.insert(name, Listed::new::<H>(channel.clone()));
                Ok(channel)
            }
        }
    }

    pub(crate) fn names(&self) -> Vec<TopicName> {
        let state = self.state.lock();
        state.topics.iter().filter(|(_, listed)| !listed.is_closed()).map(|(name, _)| name.clone()).collect()
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

/// A kind of handle and its type of value, for people.
fn what<H: Handle>() -> String {
    format!("memory {} of {}", if H::TAKES { "queue" } else { "topic" }, type_name::<H::Value>())
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").field("topics", &self.names()).finish_non_exhaustive()
    }
}
