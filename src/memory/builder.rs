//! A memory topic or queue to be opened or created.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::config::{self, Keep, OnFull, WaitStrategy};
use crate::error::{Error, Result};
use crate::memory::channel::Channel;
use crate::memory::directory::{Directory, Want};
use crate::memory::handle::Handle;
use crate::memory::topic::Topic;
use crate::ring::multicast::{Keeping, Layout, Policy};
use crate::types::TopicName;

/// A memory topic or queue to be opened or created. The settings count when it is created; one that is there keeps its
/// own.
///
/// ```
/// use headwater::{Broker, OnFull};
/// # fn main() -> headwater::Result<()> {
/// let broker = Broker::in_memory()?;
/// let ticks = broker.memory_topic::<f64>("ticks").capacity(4096).on_full(OnFull::Reject).create()?;
/// assert_eq!(broker.memory_topic::<f64>("ticks").open()?.capacity(), 4096);
///
/// let refusal = broker.memory_topic::<String>("ticks").open().unwrap_err();
/// assert_eq!(refusal.kind(), "wrong_type");
/// let refusal = broker.memory_topic::<f64>("quotes").capacity(1).create().unwrap_err();
/// assert_eq!(refusal.to_string(), "capacity = 1 is refused: 2 to 1073741824 values are allowed");
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder does nothing until `open`, `create` or `open_or_create`"]
pub struct Builder<H> {
    directory: Arc<Directory>,
    name: String,
    capacity: usize,
    on_full: OnFull,
    keep: Keep,
    layout: config::Layout,
    has_single_producer: bool,
    closes_after_producers: bool,
    wait: WaitStrategy,
    handle: PhantomData<fn() -> H>,
}

/// Values a memory topic has room for unless it says otherwise.
const CAPACITY_DEFAULT: usize = 1024;
const CAPACITY_MIN: usize = 2;
const CAPACITY_MAX: usize = 1 << 30;

impl<H: Handle> Builder<H> {
    pub(crate) fn new(directory: Arc<Directory>, name: &str) -> Self {
        Self {
            directory,
            name: name.into(),
            capacity: CAPACITY_DEFAULT,
            on_full: OnFull::default(),
            keep: Keep::default(),
            layout: config::Layout::default(),
            has_single_producer: false,
            closes_after_producers: false,
            wait: WaitStrategy::default(),
            handle: PhantomData,
        }
    }

    /// How many values there is room for. 2 to 2^30, rounded up to a power of two; default 1024.
    pub fn capacity(mut self, values: usize) -> Self {
        self.capacity = values;
        self
    }

    /// What happens to a value for which there is no room. Default: [`OnFull::Block`].
    pub fn on_full(mut self, on_full: OnFull) -> Self {
        self.on_full = on_full;
        self
    }

    /// One producer at a time: a second is refused while the first lives. In return a value is published by moving one
    /// number, and sending is several times as fast.
    pub fn single_producer(mut self) -> Self {
        self.has_single_producer = true;
        self
    }

    /// How values lie in memory. Default: [`Layout::Dense`](config::Layout::Dense). A topic with a single producer is
    /// always dense.
    pub fn layout(mut self, layout: config::Layout) -> Self {
        self.layout = layout;
        self
    }

    /// What threads do while they wait. Default: [`WaitStrategy::Park`].
    pub fn wait_strategy(mut self, wait: WaitStrategy) -> Self {
        self.wait = wait;
        self
    }

    /// Closes it for good when its last producer leaves, as a channel is; a temporary one, as in
    /// `topic.producer()?.send(value)?`, counts. Before the first it is open. Without this it stays open for producers to
    /// come, for as long as there is a handle to make them, or the broker.
    pub fn close_after_producers(mut self) -> Self {
        self.closes_after_producers = true;
        self
    }

    /// Makes it.
    ///
    /// # Errors
    /// [`Error::TopicExists`]; [`Error::InvalidName`] and [`Error::InvalidConfig`] name the limit; [`Error::Closed`].
    pub fn create(self) -> Result<H> {
        self.find(Want::Create)
    }

    /// Opens one that is there.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`], also if it was closed; [`Error::WrongType`] if it has other values, or is a queue and not
    /// a topic; [`Error::InvalidConfig`] for a setting outside its limits, though it would not be used;
    /// [`Error::InvalidName`], [`Error::Closed`].
    pub fn open(self) -> Result<H> {
        self.find(Want::Open)
    }

    /// Opens it, or makes it. Settings of one that is there are not compared.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`create`](Self::create), but for those that say whether it is there.
    pub fn open_or_create(self) -> Result<H> {
        self.find(Want::OpenOrCreate)
    }

    fn find(self, want: Want) -> Result<H> {
        let name = TopicName::new_for_users(&self.name)?;
        let directory = Arc::clone(&self.directory);
        let policy = self.policy()?;
        let make = |name| {
            Channel::new(name, policy, self.wait)
                .ok_or_else(|| self.refuse("there is no memory for so many of these values"))
        };
        directory.open::<H>(name, want, make).map(H::new)
    }

    fn refuse(&self, limit: impl Into<String>) -> Error {
        Error::InvalidConfig { setting: "capacity", value: self.capacity.to_string(), limit: limit.into() }
    }

    fn policy(&self) -> Result<Policy> {
        if !(CAPACITY_MIN..=CAPACITY_MAX).contains(&self.capacity) {
            return Err(self.refuse(format!("{CAPACITY_MIN} to {CAPACITY_MAX} values are allowed")));
        }
        let capacity = self.capacity.next_power_of_two();
        Ok(Policy {
            capacity,
            layout: match (self.has_single_producer, self.layout) {
                (true, _) => Layout::Cursor,
                (false, config::Layout::Dense) => Layout::Flags,
                (false, config::Layout::Stamped) => Layout::Stamped,
            },
            on_full: self.on_full,
            keeping: match (H::TAKES, self.keep) {
                (true, _) => Keeping::UntilTaken,
                (false, Keep::UntilOverwritten) => Keeping::UntilOverwritten,
                (false, Keep::UntilConsumed) => Keeping::UntilConsumed,
            },
            closes_after_writers: self.closes_after_producers,
        })
    }
}

impl<T: Send + Sync + 'static> Builder<Topic<T>> {
    /// How long a value is kept. Default: [`Keep::UntilOverwritten`].
    pub fn keep(mut self, keep: Keep) -> Self {
        self.keep = keep;
        self
    }
}

impl<H> fmt::Debug for Builder<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("name", &self.name).field("capacity", &self.capacity).finish_non_exhaustive()
    }
}
