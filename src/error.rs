//! What can go wrong, in words for people: what, where, and the way out.
//!
//! One [`Error`] for the whole crate, cheap to clone, so that everybody who waited for one write hears the same.
//! This module knows no upper type; upper layers convert into it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::types::{InvalidName, Offset, PartitionId, TopicPartition};

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something was refused or failed.
///
/// Match on the variant where the program can act, on the predicates ([`is_full`](Self::is_full),
/// [`is_retriable`](Self::is_retriable), …) where it only sorts; the text is for people.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name breaks the grammar.
    #[error(transparent)]
    InvalidName(#[from] InvalidName),
    /// A setting is outside its limits.
    #[error("{setting} = {value} is refused: {limit}")]
    InvalidConfig {
        /// The setting, by Kafka's name where Kafka has one.
        setting: &'static str,
        /// The value as given.
        value: String,
        /// What is allowed.
        limit: String,
    },
    /// A record or batch is larger than the topic takes.
    #[error(
        "a record of {size} bytes is larger than {topic} takes: max.message.bytes is {limit}; split it or raise the limit when the topic is created"
    )]
    RecordTooLarge {
        /// The topic.
        topic: String,
        /// Encoded size in bytes.
        size: usize,
        /// The topic's limit in bytes.
        limit: usize,
    },
    /// A batch was given with nothing in it, or a record with more than the format can say.
    #[error("{what}")]
    InvalidRecord {
        /// What is wrong with it.
        what: String,
    },
    /// There is no such topic.
    #[error("there is no topic {topic:?} here; `open_or_create` would make it")]
    UnknownTopic {
        /// The name asked for.
        topic: String,
    },
    /// The topic is there already.
    #[error("topic {topic:?} exists already; `open` or `open_or_create` takes it as it is")]
    TopicExists {
        /// The name asked for.
        topic: String,
    },
    /// The topic has no such partition.
    #[error("topic {topic} has partitions 0 to {last}, not {partition}", last = partitions.saturating_sub(1))]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition asked for.
        partition: PartitionId,
        /// How many there are.
        partitions: u32,
    },
    /// The consumer does not read that partition.
    #[error("this consumer does not read {partition}; `positions` says what it reads")]
    NotAssigned {
        /// The partition asked for.
        partition: TopicPartition,
    },
    /// Another broker holds the directory.
    #[error("{} is in use by another broker{}; one directory has one broker: close that one first", path.display(), holder_words(*holder))]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process that holds it, where it could be read.
        holder: Option<u32>,
    },
    /// The directory is not a broker's.
    #[error("{} is not a data directory of headwater ({reason}); nothing in it was touched", path.display())]
    NotADataDirectory {
        /// The directory.
        path: PathBuf,
        /// What gave it away.
        reason: String,
    },
    /// A file was written by a version this one does not know; it was not read.
    #[error("{} has format version {found}, this release reads up to {supported}; open it with a newer release", path.display())]
    UnsupportedVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version known here.
        supported: u32,
    },
    /// Bytes that were known to be written are not what was written.
    #[error("{0}")]
    Damaged(Arc<Damage>),
    /// A read of a format that this build cannot decode, such as a compressed batch.
    #[error("{what}")]
    Unsupported {
        /// What it met and what would help.
        what: String,
    },
    /// The disk is full, or the broker's floor of free space is reached.
    #[error("no space left for {}{}; what is there stays readable and sending works again once space is freed", path.display(), shortage_words(*free, *needed, *min_free))]
    StorageFull {
        /// The file that should have grown.
        path: PathBuf,
        /// Free bytes on the file system when it was asked.
        free: u64,
        /// Bytes that were to be allocated; 0 where only the system knows.
        needed: u64,
        /// The configured floor.
        min_free: u64,
    },
    /// An operation on a file failed.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// The operation.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// A write or sync of this partition failed earlier; what the disk holds is not known, so nothing more is taken.
    #[error(
        "{partition} takes no more records since a write to its disk failed ({source}); what was acked at Synced up to offset {durable_end} is safe and readable; close and open the broker to have the rest verified"
    )]
    Fenced {
        /// The partition.
        partition: TopicPartition,
        /// End of what is known to be on the disk (exclusive).
        durable_end: Offset,
        /// The first failure.
        source: Arc<io::Error>,
    },
    /// The offset is not in the log.
    #[error("offset {offset} of {partition} is not in the log, which holds {first} to {end} (exclusive)")]
    OffsetOutOfRange {
        /// The partition.
        partition: TopicPartition,
        /// The offset asked for.
        offset: Offset,
        /// The first offset there is.
        first: Offset,
        /// The offset after the last (exclusive).
        end: Offset,
    },
    /// The group has a live member in this process already.
    #[error("group {group:?} has a live member already; drop or close that consumer first")]
    GroupInUse {
        /// The group.
        group: String,
    },
    /// A consumer without a group has nowhere to commit to.
    #[error(
        "this consumer has no group to commit for; make it with `broker.consumer(group, start)`, or keep its positions yourself"
    )]
    NoGroup,
    /// A memory topic has no room, and its policy or the deadline says not to wait.
    #[error(
        "memory topic {topic} is full; its slowest group has to read on: a larger capacity, a lossy group, or OnFull::DropOldest would let senders go on"
    )]
    TopicFull {
        /// The topic.
        topic: String,
    },
    /// A memory topic that was made for a single producer has one.
    #[error(
        "memory topic {topic} was made for a single producer and has one; drop that first, or create the topic without `single_producer`"
    )]
    ProducerInUse {
        /// The topic.
        topic: String,
    },
    /// A memory topic of that name is there, with another type.
    #[error("{topic} is a {is}, not a {asked}; open it as it was created, or choose another name")]
    WrongType {
        /// The topic.
        topic: String,
        /// What it is, with its type of value.
        is: String,
        /// What it was asked for as.
        asked: String,
    },
    /// A reader of a memory topic missed values; the next one is there.
    #[error("{missed} values were dropped before this group read them")]
    Lagged {
        /// How many, exactly.
        missed: u64,
    },
    /// The broker, producer or consumer was closed.
    #[error("{what} is closed")]
    Closed {
        /// What is closed.
        what: &'static str,
    },
    /// The time given ran out.
    #[error("{what} did not end within {after:?}; {way_out}")]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// The time that was given.
        after: Duration,
        /// What holds now and what can be done.
        way_out: &'static str,
    },
    /// A user's code that was called here panicked; nothing was changed.
    #[error("{what} panicked; the record was not sent")]
    Panicked {
        /// Whose code.
        what: &'static str,
    },
}

/// A place in a log where bytes that were known to be written are not what was written.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{} of {partition} is damaged at byte {position} ({reason}): offsets {from} to {to} (exclusive) cannot be read; restore the file, or open the broker with OnDamage::Skip to go on without them", path.display())]
pub struct Damage {
    /// The partition.
    pub partition: TopicPartition,
    /// The file.
    pub path: PathBuf,
    /// Where in the file the damage begins, in bytes.
    pub position: u64,
    /// The first offset that cannot be read.
    pub from: Offset,
    /// The first offset after the damage (exclusive).
    pub to: Offset,
    /// What was wrong with the bytes.
    pub reason: &'static str,
}

fn holder_words(holder: Option<u32>) -> String {
    holder.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

impl Error {
    /// Wraps what the system said about `path`. A full disk is always [`Error::StorageFull`].
    pub(crate) fn io(what: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        if is_full(&source) {
            return Self::StorageFull { path: path.as_ref().to_path_buf(), free: 0, needed: 0, min_free: 0 };
        }
        Self::Io { what, path: path.as_ref().to_path_buf(), source: Arc::new(source) }
    }

    /// The same call may succeed later without anything being mended by hand.
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::StorageFull { .. } | Self::Timeout { .. } | Self::GroupInUse { .. } | Self::Locked { .. })
            || matches!(self, Self::TopicFull { .. } | Self::ProducerInUse { .. } | Self::Lagged { .. })
            || matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::Interrupted || is_too_many_files(source))
    }

    /// The disk, the space the broker may use of it, or a memory topic is full.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::StorageFull { .. } | Self::TopicFull { .. })
    }

    /// The thing was closed; nothing more will come of it.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed { .. })
    }

    /// Stored bytes are not what was written.
    pub fn is_damaged(&self) -> bool {
        matches!(self, Self::Damaged(_))
    }

    /// The partition was fenced after a failed write or sync.
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::Fenced { .. })
    }

    /// The caller's input is outside a limit; sending it again will not help.
    pub fn is_invalid_input(&self) -> bool {
        matches!(
            self,
            Self::InvalidName(_)
                | Self::InvalidConfig { .. }
                | Self::RecordTooLarge { .. }
                | Self::InvalidRecord { .. }
                | Self::UnknownPartition { .. }
                | Self::NotAssigned { .. }
                | Self::NoGroup
                | Self::WrongType { .. }
        )
    }

    /// One lowercase word for logs and scripts, stable between releases.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::InvalidName(_) => "invalid_name",
            Self::InvalidConfig { .. } => "invalid_config",
            Self::RecordTooLarge { .. } => "record_too_large",
            Self::InvalidRecord { .. } => "invalid_record",
            Self::UnknownTopic { .. } => "unknown_topic",
            Self::TopicExists { .. } => "topic_exists",
            Self::UnknownPartition { .. } => "unknown_partition",
            Self::NotAssigned { .. } => "not_assigned",
            Self::Locked { .. } => "locked",
            Self::NotADataDirectory { .. } => "not_a_data_directory",
            Self::UnsupportedVersion { .. } => "unsupported_version",
            Self::Damaged(_) => "damaged",
            Self::Unsupported { .. } => "unsupported",
            Self::StorageFull { .. } => "storage_full",
            Self::Io { .. } => "io",
            Self::Fenced { .. } => "fenced",
            Self::OffsetOutOfRange { .. } => "offset_out_of_range",
            Self::GroupInUse { .. } => "group_in_use",
            Self::NoGroup => "no_group",
            Self::TopicFull { .. } => "topic_full",
            Self::ProducerInUse { .. } => "producer_in_use",
            Self::WrongType { .. } => "wrong_type",
            Self::Lagged { .. } => "lagged",
            Self::Closed { .. } => "closed",
            Self::Timeout { .. } => "timeout",
            Self::Panicked { .. } => "panicked",
        }
    }
}

fn shortage_words(free: u64, needed: u64, min_free: u64) -> String {
    if needed == 0 {
        return String::new();
    }
    format!(": {free} bytes are free, {needed} more are needed above min_free_bytes = {min_free}")
}

/// Whether the system had no room, on the disk or in a quota.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// EMFILE and ENFILE: the process or the system has no file descriptor left at this moment.
fn is_too_many_files(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    cfg!(unix) && matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_stays_small_enough_to_be_returned_by_value() {
        assert!(size_of::<Error>() <= 128, "Error has grown to {} bytes", size_of::<Error>());
    }
}
