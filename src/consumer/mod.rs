//! Reading: a position in each partition, records lent from the map, and commits that are asked for.

pub(crate) mod batch;
pub(crate) mod fetcher;

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

pub use batch::{Batch, ConsumerRecord, Records};

use crate::broker::Broker;
use crate::config::{Acks, Start, Visibility};
use crate::consumer::fetcher::{Fetcher, Limits};
use crate::error::{Error, Result};
use crate::group::Membership;
use crate::group::offsets::Commit;
use crate::registry::Want;
use crate::ring::{Notify, Waiting, wait_any};
use crate::time::Deadline;
use crate::topic::Topic;
use crate::types::{Offset, TopicName, TopicPartition};

/// Reads one or more topics, alone or for a group.
///
/// A consumer has a position in each partition: the next offset it will be lent. [`poll`](Self::poll) moves it on;
/// [`Batch::commit`] tells the group. A consumer that ends without committing leaves the group where it was, and the
/// next one is lent the same records again: at least once. There is no commit that was not asked for.
///
/// A slow consumer holds nobody back: records wait in the log.
///
/// ```
/// use headwater::{Broker, Record, Start};
/// use std::time::Duration;
/// # fn main() -> headwater::Result<()> {
/// let broker = Broker::in_memory()?;
/// let orders = broker.topic("orders").open_or_create()?;
/// orders.producer()?.send(Record::new(b"paid 19.90"))?;
///
/// let mut billing = broker.consumer("billing", Start::Earliest).topics(["orders"]).build()?;
/// while let Some(batch) = billing.poll(Duration::ZERO)? {
///     for record in &batch {
///         assert_eq!((record.offset(), record.value()), (0, &b"paid 19.90"[..]));
///     }
///     batch.commit()?;
/// }
/// assert_eq!(billing.lag(), 0);
///
/// let second = broker.consumer("billing", Start::Earliest).topics(["orders"]).build();
/// assert_eq!(second.unwrap_err().kind(), "group_in_use");
/// # Ok(())
/// # }
/// ```
pub struct Consumer {
    fetcher: Fetcher,
    membership: Option<Membership>,
    commit_acks: Acks,
}

/// Sets up a [`Consumer`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct ConsumerBuilder {
    broker: Option<Broker>,
    group: Option<String>,
    start: Start,
    topics: Vec<Subscribed>,
    visibility: Visibility,
    commit_acks: Acks,
    limits: Limits,
}

/// A topic that a consumer is to read.
#[derive(Clone, Debug)]
enum Subscribed {
    Name(String),
    Open(Topic),
}

impl Broker {
    /// A consumer for a group, which goes on where the group has committed, and at `start` where it has not.
    ///
    /// A group has one live member in a process at a time.
    #[doc(alias = "group.id")]
    pub fn consumer(&self, group: &str, start: Start) -> ConsumerBuilder {
        ConsumerBuilder { broker: Some(self.clone()), group: Some(group.into()), ..ConsumerBuilder::new(start) }
    }
}

impl Topic {
    /// A consumer of this topic without a group: it begins at `start` and its positions are its owner's business.
    ///
    /// ```
    /// use headwater::{Broker, Record, Start};
    /// # use std::time::Duration;
    /// # fn main() -> headwater::Result<()> {
    /// let ticks = Broker::in_memory()?.topic("ticks").open_or_create()?;
    /// ticks.producer()?.send(Record::new(b"101.5"))?;
    /// let mut reader = ticks.consumer(Start::Offset(0)).build()?;
    /// let batch = reader.poll(Duration::ZERO)?.expect("one record is there");
    /// assert_eq!(batch.len(), 1);
    /// assert_eq!(batch.commit().unwrap_err().kind(), "no_group");
    /// # Ok(())
    /// # }
    /// ```
    pub fn consumer(&self, start: Start) -> ConsumerBuilder {
        ConsumerBuilder { topics: vec![Subscribed::Open(self.clone())], ..ConsumerBuilder::new(start) }
    }
}

impl ConsumerBuilder {
    fn new(start: Start) -> Self {
        Self {
            broker: None,
            group: None,
            start,
            topics: Vec::new(),
            visibility: Visibility::default(),
            commit_acks: Acks::default(),
            limits: Limits { records: 500, bytes: 1 << 20 },
        }
    }

    /// Adds topics by name. They must exist.
    pub fn topics<I: IntoIterator<Item: Into<String>>>(mut self, names: I) -> Self {
        self.topics.extend(names.into_iter().map(|name| Subscribed::Name(name.into())));
        self
    }

    /// How far it may read. Default: [`Visibility::Committed`].
    pub fn visibility(mut self, visibility: Visibility) -> Self {
        self.visibility = visibility;
        self
    }

    /// When a commit counts as done. Default: [`Acks::Synced`]. With [`Acks::Appended`] a power cut may take a commit
    /// back, and records are lent again. The records themselves are on the disk before either: a commit that outlived
    /// them would have the group pass over those that are given their offsets later.
    pub fn commit_acks(mut self, acks: Acks) -> Self {
        self.commit_acks = acks;
        self
    }

    /// The most records of one poll. At least 1; default 500.
    #[doc(alias = "max.poll.records")]
    pub fn max_poll_records(mut self, records: usize) -> Self {
        self.limits.records = records;
        self
    }

    /// About the most bytes of one poll: no batch is begun beyond it. At least 1; default 1 MiB.
    #[doc(alias = "fetch.max.bytes")]
    pub fn max_poll_bytes(mut self, bytes: usize) -> Self {
        self.limits.bytes = bytes;
        self
    }

    /// Makes the consumer.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`], [`Error::GroupInUse`], [`Error::InvalidConfig`] for limits of nothing or no topic,
    /// [`Error::OffsetOutOfRange`] for a start that no log has, [`Error::Closed`], and why a topic cannot be opened.
    pub fn build(self) -> Result<Consumer> {
        let refuse =
            |setting, limit: &str| Err(Error::InvalidConfig { setting, value: "0".into(), limit: limit.into() });
        if self.limits.records == 0 {
            return refuse("max.poll.records", "at least 1 is allowed");
        }
        if self.limits.bytes == 0 {
            return refuse("fetch.max.bytes", "at least 1 is allowed");
        }
        if self.topics.is_empty() {
            return refuse("number of topics", "a consumer reads at least 1");
        }
        let mut topics: Vec<Topic> = Vec::new();
        for subscribed in self.topics {
            let topic = match (subscribed, &self.broker) {
                (Subscribed::Open(topic), _) => topic,
                (Subscribed::Name(name), Some(broker)) => {
                    let name = TopicName::new_for_users(&name)?;
                    broker.registry().topic(&name, Want::Open, &Default::default())?
                }
                (Subscribed::Name(value), None) => {
                    let limit = "a consumer made from a topic reads that one; `broker.consumer` takes names".into();
                    return Err(Error::InvalidConfig { setting: "topics", value, limit });
                }
            };
            topic.home().check_open()?;
            if topics.iter().all(|other| other.id() != topic.id()) {
                topics.push(topic);
            }
        }
        let membership = match (&self.broker, &self.group) {
            (Some(broker), Some(group)) => Some(broker.groups().join(group)?),
            _ => None,
        };
        let mut fetcher = Fetcher::new(self.visibility, self.limits);
        for topic in topics {
            for partition in 0..topic.config().partitions {
                let committed = membership.as_ref().and_then(|member| member.committed(topic.id(), partition));
                fetcher.assign(&topic, partition, committed, self.start)?;
            }
        }
        Ok(Consumer { fetcher, membership, commit_acks: self.commit_acks })
    }
}

impl Consumer {
    /// Lends the next records, waiting for at most `timeout` if there are none; `None` when there still are none.
    ///
    /// The positions move on behind what is lent. Records of one partition come in order; the partitions take turns.
    ///
    /// # Errors
    /// [`Error::Damaged`], with the position left before it: `seek` to [`Damage::to`](crate::Damage::to) to go on
    /// behind. [`Error::OffsetOutOfRange`] if the position is not, or no longer, in the log. [`Error::Closed`] once
    /// the broker is closed, also while waiting. [`Error::Io`].
    pub fn poll(&mut self, timeout: Duration) -> Result<Option<Batch<'_>>> {
        if !self.fetcher.fetch()? {
            let deadline = Deadline::after(timeout);
            let Self { fetcher, .. } = self;
            let news = fetcher.news();
            let news: Vec<&Notify> = news.iter().map(|partition| partition.news(fetcher.visibility())).collect();
            let there_is_some = wait_any(&news, deadline, || fetcher.has_news().then_some(()));
            if there_is_some.is_none() || !self.fetcher.fetch()? {
                return Ok(None);
            }
        }
        Ok(Some(Batch::new(self)))
    }

    /// As [`poll`](Self::poll) without an end to the waiting, for tasks of any runtime.
    ///
    /// Cancel-safe: the positions move only when the batch is returned.
    ///
    /// # Errors
    /// As [`poll`](Self::poll).
    pub async fn poll_async(&mut self) -> Result<Batch<'_>> {
        while !self.fetcher.fetch()? {
            let fetcher = &self.fetcher;
            let news = fetcher.news();
            let visibility = fetcher.visibility();
            let mut waiting: Vec<_> = news.iter().map(|partition| Waiting::new(partition.news(visibility))).collect();
            poll_fn(|cx| {
                for waiting in &mut waiting {
                    waiting.arm(cx.waker());
                }
                if fetcher.has_news() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            })
            .await;
        }
        Ok(Batch::new(self))
    }

    /// Has the next poll begin at `offset` in a partition. Nothing is committed by that.
    ///
    /// # Errors
    /// [`Error::OffsetOutOfRange`] if the log does not have it; [`Error::NotAssigned`] if this consumer does not read
    /// that partition.
    pub fn seek(&mut self, partition: &TopicPartition, offset: Offset) -> Result<()> {
        self.fetcher.seek(partition, offset)
    }

    /// The next offset to be lent from a partition; `None` if this consumer does not read it.
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        self.fetcher.position(partition)
    }

    /// The partitions that are read, with their positions.
    pub fn positions(&self) -> Vec<(TopicPartition, Offset)> {
        self.fetcher.positions()
    }

    /// What the group has committed for a partition: where the next consumer will begin.
    pub fn committed(&self, partition: &TopicPartition) -> Option<Offset> {
        let topic = self.fetcher.topic_of(partition)?;
        self.membership.as_ref()?.committed(topic, partition.partition)
    }

    /// How many records lie between the positions and the ends of the logs.
    pub fn lag(&self) -> u64 {
        self.fetcher.lag()
    }

    /// The same for one partition; `None` if this consumer does not read it.
    pub fn partition_lag(&self, partition: &TopicPartition) -> Option<u64> {
        self.fetcher.partition_lag(partition)
    }

    /// The group's name; `None` without one.
    pub fn group(&self) -> Option<&str> {
        self.membership.as_ref().map(Membership::group)
    }

    /// Notes in the page cache that everything before the positions of the last batch is done with. The records are
    /// on the disk by now.
    fn append_commit(&self) -> Result<(Arc<crate::log::Log>, Offset)> {
        let membership = self.membership.as_ref().ok_or(Error::NoGroup)?;
        let commits: Vec<Commit> = self.fetcher.lent().collect();
        let end = membership.commit(&commits)?;
        Ok((Arc::clone(membership.offsets().log()), end))
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("group", &self.group())
            .field("positions", &self.positions())
            .finish_non_exhaustive()
    }
}
