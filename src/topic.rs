//! A topic: a named set of partitions that live in one broker's home.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{OnDamage, TopicConfig};
use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::log::worker::Worker;
use crate::log::{LogSpec, Workers};
use crate::metrics::PartitionMetrics;
use crate::partition::{Lingerer, Partition};
use crate::storage::checkpoint::Owner;
use crate::storage::quarantine::Quarantine;
use crate::storage::recovery::RecoveryReport;
use crate::sync::plain::Mutex;
use crate::sync::{AtomicBool, Ordering};
use crate::time::Clock;
use crate::types::{Offset, PartitionId, TopicId, TopicName, TopicPartition};

/// What all topics of a broker share: the directory, and the lock on it for as long as anyone uses any of them.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) dir: PathBuf,
    pub(crate) clock: Clock,
    pub(crate) on_damage: OnDamage,
    pub(crate) min_free: u64,
    pub(crate) workers: Workers,
    pub(crate) lingerer: Arc<Lingerer>,
    /// Closes the broker, since the disk takes as long as it takes.
    pub(crate) closer: Worker<Box<dyn FnOnce() + Send>>,
    pub(crate) is_closed: AtomicBool,
    /// `None` once it was given back by closing. Guards only itself.
    pub(crate) lock: Mutex<Option<Arc<dyn crate::fs::File>>>,
}

impl Home {
    /// Refuses once the broker was closed.
    pub(crate) fn check_open(&self) -> Result<()> {
        // Acquire: pairs with the Release in `Broker::close`.
        if self.is_closed.load(Ordering::Acquire) { Err(Error::Closed { what: "the broker" }) } else { Ok(()) }
    }

    /// Where a partition's files are: by the topic's id, never by a name from outside (F-4).
    fn partition_dir(&self, topic: TopicId, partition: PartitionId) -> PathBuf {
        self.dir.join("topics").join(format!("{topic}-{partition}"))
    }
}

/// A topic: cheap to clone, usable from any thread.
///
/// Made by [`Broker::topic`](crate::Broker::topic). It keeps the broker's directory locked for as long as it lives.
#[derive(Clone)]
pub struct Topic(Arc<Inner>);

struct Inner {
    name: TopicName,
    id: TopicId,
    config: TopicConfig,
    /// Before the home, which may hold the lock.
    partitions: Opened,
    home: Arc<Home>,
}

/// Open partitions, which are given up when they are dropped: the directory's lock may go next.
struct Opened(Vec<Arc<Partition>>);

impl Drop for Opened {
    fn drop(&mut self) {
        for partition in &self.0 {
            partition.abandon();
        }
    }
}

impl Topic {
    /// Opens all partitions of a topic, making those that are not there.
    pub(crate) fn open(
        home: Arc<Home>,
        name: TopicName,
        id: TopicId,
        config: TopicConfig,
        is_new: bool,
    ) -> Result<Self> {
        let partitions = (0..config.partitions).map(|partition| {
            let dir = home.partition_dir(id, partition);
            home.fs.create_dir(&dir).map_err(|e| Error::io("create", &dir, e))?;
            let named = TopicPartition { topic: name.clone(), partition };
            let spec = LogSpec {
                fs: Arc::clone(&home.fs),
                quarantine: Arc::new(Quarantine::new(home.dir.join("quarantine"), named.clone())),
                partition: named,
                owner: Owner { topic: id, partition },
                segment_bytes: config.segment_bytes,
                on_damage: home.on_damage,
                min_free: home.min_free,
                flush_messages: config.flush_messages,
                flush_interval: config.flush_interval,
                workers: home.workers.clone(),
                is_new,
                dir,
            };
            Partition::open(spec).map(Arc::new)
        });
        // If one cannot be opened those before it are let go of, as whole topics are.
        let mut opened = Opened(Vec::new());
        for partition in partitions {
            opened.0.push(partition?);
        }
        let partitions = opened;
        // The names of the partitions' directories, before anything in them is acked.
        let topics = home.dir.join("topics");
        home.fs.sync_dir(&topics).map_err(|e| Error::io("sync", &topics, e))?;
        Ok(Self(Arc::new(Inner { name, id, config, partitions, home })))
    }

    /// The topic's name.
    pub fn name(&self) -> &TopicName {
        &self.0.name
    }

    /// The topic's identity, which no other topic ever has.
    pub fn id(&self) -> TopicId {
        self.0.id
    }

    /// What was decided when the topic was created.
    pub fn config(&self) -> &TopicConfig {
        &self.0.config
    }

    /// How the last session of each partition ended and what was done about it.
    pub fn recovery(&self) -> impl Iterator<Item = &RecoveryReport> {
        self.0.partitions.0.iter().map(|partition| partition.log().report())
    }

    /// What each partition has done since it was opened, by partition.
    pub fn metrics(&self) -> Vec<PartitionMetrics> {
        self.0.partitions.0.iter().map(|partition| partition.metrics()).collect()
    }

    /// The first offset of a partition, and the offset behind its last record.
    ///
    /// # Errors
    /// [`Error::UnknownPartition`].
    pub fn offsets(&self, partition: PartitionId) -> Result<std::ops::Range<Offset>> {
        let log = self.partition(partition)?.log();
        let start = log.start();
        Ok(start..log.end().max(start))
    }

    pub(crate) fn partition(&self, partition: PartitionId) -> Result<&Arc<Partition>> {
        self.0.partitions.0.get(partition as usize).ok_or_else(|| Error::UnknownPartition {
            topic: self.0.name.to_string(),
            partition,
            partitions: self.0.config.partitions,
        })
    }

    pub(crate) fn home(&self) -> &Arc<Home> {
        &self.0.home
    }

    /// Closes every partition, and says what went wrong first, after all were tried.
    pub(crate) fn close(&self) -> Result<()> {
        let closed: Vec<_> = self.0.partitions.0.iter().map(|partition| partition.close()).collect();
        closed.into_iter().collect()
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { name, id, partitions, .. } = &*self.0;
        f.debug_struct("Topic").field("name", name).field("id", id).field("partitions", &partitions.0.len()).finish()
    }
}
