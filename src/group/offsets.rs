//! Committed offsets: a small log of its own that is read into a table, and written anew when most of it is old.
//!
//! The log is an internal topic, `__consumer_offsets`, with one partition. The latest record of a key counts. Once
//! the log has grown well beyond the table, the whole table is appended as one batch, synced, and what lies before it
//! is let go: so opening does not depend on how often was committed (F-16).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::batch::BatchBuilder;
use crate::config::{TopicConfig, Visibility};
use crate::error::{Error, Result};
use crate::log::writer::Appending;
use crate::log::{Cursor, Log};
use crate::partition::Partition;
use crate::record::{Record, RecordView};
use crate::registry::{Registry, Want};
use crate::sync::plain::Mutex;
use crate::time::Clock;
use crate::topic::Topic;
use crate::types::{Offset, PartitionId, TopicId, TopicName};

/// The internal topic. Names that begin with two underscores are the broker's own.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// Small segments: the log is short, and is let go segment by segment.
const SEGMENT_BYTES: u64 = 1 << 20;
/// Records in the log, beyond four times the table, after which the table is written anew.
const RECORDS_SPARE: u64 = 4096;
/// Entries per batch when the table is written anew: well below the largest batch.
const ENTRIES_PER_BATCH: usize = 256;

const KEY_VERSION: u16 = 1; // F-16
const VALUE_VERSION: u16 = 1; // F-16

/// The committed offsets of all groups.
#[derive(Debug)]
pub(crate) struct Offsets {
    /// Keeps the topic open.
    _topic: Topic,
    partition: Arc<Partition>,
    clock: Clock,
    /// Guards the table, and the order of table and log. The pen is taken under it.
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    entries: BTreeMap<Key, Offset>,
    /// Records in the log.
    records: u64,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Key {
    group: String,
    topic: TopicId,
    partition: PartitionId,
}

/// How far a group has come in one partition: the next offset it has not done with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Commit {
    pub(crate) topic: TopicId,
    pub(crate) partition: PartitionId,
    pub(crate) offset: Offset,
}

impl Offsets {
    /// Reads the log into the table.
    pub(crate) fn open(registry: &Registry) -> Result<Self> {
        let name = TopicName::new(OFFSETS_TOPIC).expect("the name keeps the grammar");
        let config = TopicConfig {
            segment_bytes: SEGMENT_BYTES,
            max_message_bytes: TopicConfig::batch_bytes_limit(SEGMENT_BYTES),
            ..TopicConfig::default()
        };
        let topic = registry.topic(&name, Want::OpenOrCreate, &config)?;
        let partition = Arc::clone(topic.partition(0)?);
        let table = Mutex::new(read(partition.log())?);
        Ok(Self { _topic: topic, partition, clock: registry.home().clock.clone(), table })
    }

    /// Where a group goes on.
    pub(crate) fn committed(&self, group: &str, topic: TopicId, partition: PartitionId) -> Option<Offset> {
        self.table.lock().entries.get(&Key { group: group.into(), topic, partition }).copied()
    }

    /// Appends commits as one batch and returns its end, to be [waited for](Self::log).
    pub(crate) fn commit(&self, group: &str, commits: &[Commit]) -> Result<Offset> {
        let key = |commit: &Commit| Key { group: group.into(), topic: commit.topic, partition: commit.partition };
        let mut table = self.table.lock();
        let mut end = self.partition.log().end();
        for some in commits.chunks(ENTRIES_PER_BATCH) {
            end = self.append(some.iter().map(|commit| (key(commit), commit.offset)))?;
            table.records += some.len() as u64;
            table.entries.extend(some.iter().map(|commit| (key(commit), commit.offset)));
        }
        if table.records > RECORDS_SPARE + 4 * table.entries.len() as u64 {
            // A failure is met again at the next commit, and harms nothing until then.
            let _ = self.rewrite(&mut table);
        }
        Ok(end)
    }

    /// The log that commits go to.
    pub(crate) fn log(&self) -> &Arc<Log> {
        self.partition.log()
    }

    /// Appends the whole table and lets go of what lies before it.
    fn rewrite(&self, table: &mut Table) -> Result<()> {
        let start = self.log().end();
        let entries: Vec<_> = table.entries.iter().map(|(key, offset)| (key.clone(), *offset)).collect();
        for some in entries.chunks(ENTRIES_PER_BATCH) {
            self.append(some.iter().cloned())?;
        }
        self.log().sync_to(self.log().end())?;
        table.records = entries.len() as u64;
        self.log().trim_to(start)
    }

    fn append(&self, entries: impl Iterator<Item = (Key, Offset)>) -> Result<Offset> {
        let mut builder = BatchBuilder::new();
        let now = self.clock.now();
        for (key, offset) in entries {
            let (key, value) = (encode_key(&key), encode_value(offset));
            let pushed = builder.push(&Record::new(&value).key(&key), now);
            pushed.map_err(|error| Error::InvalidRecord { what: error.to_string() })?;
        }
        let (count, max_timestamp) = (builder.count(), builder.max_timestamp());
        let base = self.partition.append(Appending { bytes: builder.seal(), count, max_timestamp })?;
        Ok(base + u64::from(count))
    }
}

fn read(log: &Arc<Log>) -> Result<Table> {
    let mut table = Table::default();
    let mut cursor = Cursor::new(Arc::clone(log), log.start());
    let end = log.visible_end(Visibility::Committed);
    while let Some(fetched) = cursor.next(end)? {
        for record in fetched.batch()?.records() {
            let record = record.map_err(|error| log.unreadable(&fetched, error))?;
            let (key, offset) =
                decode(&record).ok_or_else(|| log.malformed(&fetched, "it is not a committed offset"))?;
            table.entries.insert(key, offset);
            table.records += 1;
        }
    }
    Ok(table)
}

/// F-16: version, topic id, partition, group to the end.
fn encode_key(key: &Key) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(22 + key.group.len());
    bytes.extend_from_slice(&KEY_VERSION.to_le_bytes());
    bytes.extend_from_slice(&key.topic.0.to_le_bytes());
    bytes.extend_from_slice(&key.partition.to_le_bytes());
    bytes.extend_from_slice(key.group.as_bytes());
    bytes
}

/// F-16: version, offset.
fn encode_value(offset: Offset) -> [u8; 10] {
    let mut bytes = [0; 10];
    bytes[..2].copy_from_slice(&VALUE_VERSION.to_le_bytes());
    bytes[2..].copy_from_slice(&offset.to_le_bytes());
    bytes
}

fn decode(record: &RecordView<'_>) -> Option<(Key, Offset)> {
    let (version, rest) = record.key()?.split_first_chunk()?;
    let (topic, rest) = rest.split_first_chunk()?;
    let (partition, group) = rest.split_first_chunk()?;
    let (value_version, rest) = record.value().split_first_chunk()?;
    let (offset, _) = rest.split_first_chunk()?;
    if u16::from_le_bytes(*version) != KEY_VERSION || u16::from_le_bytes(*value_version) != VALUE_VERSION {
        return None;
    }
    let key = Key {
        group: String::from_utf8(group.to_vec()).ok()?,
        topic: TopicId(u128::from_le_bytes(*topic)),
        partition: u32::from_le_bytes(*partition),
    };
    Some((key, u64::from_le_bytes(*offset)))
}
