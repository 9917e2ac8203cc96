//! Every setting in one place: Kafka's name where Kafka has one, its default, its limits, and how it is said in text.

use std::time::Duration;

use crate::error::{Error, Result};

/// What holds for one topic, decided when it is created and kept with it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct TopicConfig {
    /// How many partitions. 1 to 10,000; default 1.
    #[doc(alias = "num.partitions")]
    pub partitions: u32,
    /// Size of a segment file in bytes. 64 KiB to 1 GiB, a multiple of 4 KiB; default 64 MiB.
    #[doc(alias = "segment.bytes")]
    pub segment_bytes: u64,
    /// The largest record batch in bytes, as encoded: a record may be that large less about 100 bytes.
    /// 1 KiB to a quarter of a segment; default 1 MiB, or that quarter where it is less.
    #[doc(alias = "max.message.bytes")]
    pub max_message_bytes: u32,
    /// Sync when this many records are not yet on the disk, whatever their acks. Default: never by count.
    #[doc(alias = "flush.messages")]
    pub flush_messages: Option<u64>,
    /// Sync when something has not been on the disk for this long, whatever its acks. Default: 5 s.
    #[doc(alias = "flush.ms")]
    pub flush_interval: Option<Duration>,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            partitions: 1,
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            max_message_bytes: MAX_MESSAGE_BYTES_DEFAULT,
            flush_messages: None,
            flush_interval: Some(Duration::from_secs(5)),
        }
    }
}

/// What a memory topic does with a value for which there is no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum OnFull {
    /// The sender waits until the slowest group has read on. The default: nothing is lost. A thread that is itself that
    /// reader waits for ever; there, `try_send` and `send_timeout` are for it.
    #[default]
    Block,
    /// The value comes back to its sender.
    Reject,
    /// The oldest values go, up to a sixteenth of the ring at a time: groups that have not read them miss them, hear how
    /// many they missed, and go on.
    DropOldest,
}

/// How long a memory topic keeps a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Keep {
    /// Until its place is needed. The default, and much the faster: a value is dropped by the thread that overwrites
    /// it, and late consumers can begin with what is still there.
    #[default]
    UntilOverwritten,
    /// Until every group has read it: for values whose drop matters, such as a lock or a large buffer.
    UntilConsumed,
}

/// What a thread does while it waits for a memory topic. Tasks always sleep.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum WaitStrategy {
    /// Asks on, and keeps its core. For threads that have a core of their own; with more waiting threads than cores
    /// it brings everything to a crawl.
    BusySpin,
    /// Asks on, for about 4 µs without giving its core away, then giving it away in between.
    Yield,
    /// Asks on for up to about 50 µs, which is what waking it would take, then sleeps. The default.
    #[default]
    Park,
}

/// How a memory topic with several producers lies in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Layout {
    /// Values side by side, what tells that they are there apart from them. The default, and the faster in bulk.
    #[default]
    Dense,
    /// Each value with what tells that it is there beside it, in one cache line: the faster for a value alone.
    Stamped,
}

/// The smallest segment, in bytes.
pub const SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// The largest segment, in bytes.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// A segment's size unless a topic says otherwise, in bytes.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;
/// A topic's largest batch unless it says otherwise, in bytes.
pub const MAX_MESSAGE_BYTES_DEFAULT: u32 = 1 << 20;
/// Partitions a topic may have.
pub const PARTITIONS_MAX: u32 = 10_000;
/// Segment sizes are whole pages.
const PAGE: u64 = 4096;

impl TopicConfig {
    /// The largest batch that fits segments of `segment_bytes`: a quarter, less room for a frame's head (F-12).
    pub(crate) fn batch_bytes_limit(segment_bytes: u64) -> u32 {
        u32::try_from(segment_bytes / 4 - 64).expect("a segment is at most 1 GiB")
    }

    /// Checks every limit.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] names the setting, the value and the limit.
    pub fn check(&self) -> Result<()> {
        let refuse = |setting, value: String, limit: String| Err(Error::InvalidConfig { setting, value, limit });
        if !(1..=PARTITIONS_MAX).contains(&self.partitions) {
            return refuse("partitions", self.partitions.to_string(), format!("1 to {PARTITIONS_MAX} are allowed"));
        }
        let segment = self.segment_bytes;
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&segment) || !segment.is_multiple_of(PAGE) {
            let limit = format!("{SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX} in steps of {PAGE} are allowed");
            return refuse("segment.bytes", segment.to_string(), limit);
        }
        let batch_limit = Self::batch_bytes_limit(segment);
        if !(1024..=batch_limit).contains(&self.max_message_bytes) {
            let limit = format!("1024 to {batch_limit}, a quarter of segment.bytes, are allowed");
            return refuse("max.message.bytes", self.max_message_bytes.to_string(), limit);
        }
        if self.flush_messages == Some(0) {
            return refuse("flush.messages", "0".into(), "at least 1 is allowed".into());
        }
        if self.flush_interval.is_some_and(|interval| interval < Duration::from_millis(1)) {
            return refuse("flush.ms", "0".into(), "at least 1 is allowed; leave it out for never".into());
        }
        Ok(())
    }

    /// Sets one setting from text: the layer that files, command lines and Kafka's admin requests go through.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] for a name or a value that is not understood. Limits are checked by
    /// [`check`](Self::check), since they depend on one another.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let setting = SETTINGS.iter().find(|setting| setting.name == name).ok_or_else(|| Error::InvalidConfig {
            setting: "setting",
            value: name.chars().take(100).collect(),
            limit: format!("known are {}", SETTINGS.map(|setting| setting.name).join(", ")),
        })?;
        (setting.parse)(self, value).ok_or_else(|| Error::InvalidConfig {
            setting: setting.name,
            value: value.chars().take(100).collect(),
            limit: format!("{} is expected", setting.expects),
        })
    }

    /// Every setting by name, as text that [`set`](Self::set) reads back; settings that are off are left out.
    pub fn entries(&self) -> Vec<(&'static str, String)> {
        SETTINGS.iter().filter_map(|setting| Some((setting.name, (setting.show)(self)?))).collect()
    }
}

/// One row of the table that ties a setting to its text.
struct Setting {
    name: &'static str,
    expects: &'static str,
    parse: fn(&mut TopicConfig, &str) -> Option<()>,
    show: fn(&TopicConfig) -> Option<String>,
}

const SETTINGS: [Setting; 5] = [
    Setting {
        name: "partitions",
        expects: "a whole number",
        parse: |config, text| text.parse().ok().map(|n| config.partitions = n),
        show: |config| Some(config.partitions.to_string()),
    },
    Setting {
        name: "segment.bytes",
        expects: "a whole number of bytes",
        parse: |config, text| text.parse().ok().map(|n| config.segment_bytes = n),
        show: |config| Some(config.segment_bytes.to_string()),
    },
    Setting {
        name: "max.message.bytes",
        expects: "a whole number of bytes",
        parse: |config, text| text.parse().ok().map(|n| config.max_message_bytes = n),
        show: |config| Some(config.max_message_bytes.to_string()),
    },
    Setting {
        name: "flush.messages",
        expects: "a whole number of records, or `never`",
        parse: |config, text| optional(text).map(|n| config.flush_messages = n),
        show: |config| Some(config.flush_messages.map_or_else(|| NEVER.to_string(), |n| n.to_string())),
    },
    Setting {
        name: "flush.ms",
        expects: "a whole number of milliseconds, or `never`",
        parse: |config, text| optional(text).map(|n| config.flush_interval = n.map(Duration::from_millis)),
        show: |config| {
            Some(config.flush_interval.map_or_else(|| NEVER.to_string(), |time| time.as_millis().to_string()))
        },
    },
];

const NEVER: &str = "never";

fn optional(text: &str) -> Option<Option<u64>> {
    if text == NEVER { Some(None) } else { text.parse().ok().map(Some) }
}

/// When a send counts as done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
#[non_exhaustive]
#[doc(alias = "acks")]
pub enum Acks {
    /// The record is in the page cache: it survives the death of the process, not of the machine.
    Appended,
    /// The record is on the disk: it survives a power cut. Syncs are shared by all who wait (group commit).
    #[default]
    Synced,
}

/// Where a consumer begins that has no position of its own yet. There is no default: both ends surprise somebody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
#[doc(alias = "auto.offset.reset")]
pub enum Start {
    /// At the first record the log still holds.
    Earliest,
    /// Behind the last record: only what comes from now on.
    Latest,
    /// At this offset in every partition.
    Offset(crate::types::Offset),
    /// At the first record whose timestamp is this or later; behind the last where there is none.
    Timestamp(crate::types::Timestamp),
}

/// How far consumers may read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Visibility {
    /// Everything appended. A power cut may take back the last records that were read before they were synced.
    #[default]
    Committed,
    /// Only what is on the disk: what was read once is never taken back.
    Durable,
}

/// What to do when stored bytes are not what was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum OnDamage {
    /// Stop there with [`Error::Damaged`], which names file, position and offsets.
    #[default]
    Refuse,
    /// Go on at the next batch that is whole; what was passed over is counted and reported.
    Skip,
    /// As `Skip`, after a copy of the file was put aside in `quarantine/` for a person to look at.
    Quarantine,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_within_their_own_limits() {
        TopicConfig::default().check().expect("defaults are allowed");
    }

    #[test]
    fn a_value_outside_a_limit_is_refused_with_setting_value_and_limit() {
        type Change = fn(&mut TopicConfig);
        let cases: [(Change, &str, &str); 6] = [
            (|c| c.partitions = 0, "partitions = 0", "1 to 10000"),
            (|c| c.partitions = 10_001, "partitions = 10001", "1 to 10000"),
            (|c| c.segment_bytes = 1000, "segment.bytes = 1000", "65536 to 1073741824"),
            (|c| c.segment_bytes = (1 << 20) + 1, "segment.bytes = 1048577", "steps of 4096"),
            (|c| c.segment_bytes = 64 << 10, "max.message.bytes = 1048576", "1024 to 16320"),
            (|c| c.flush_messages = Some(0), "flush.messages = 0", "at least 1"),
        ];
        for (change, what, limit) in cases {
            let mut config = TopicConfig::default();
            change(&mut config);
            let text = config.check().expect_err(what).to_string();
            assert!(text.contains(what) && text.contains(limit), "{text}");
        }
    }

    #[test]
    fn settings_survive_the_way_through_text() {
        let config = TopicConfig { partitions: 7, flush_messages: Some(9), flush_interval: None, ..Default::default() };
        let mut read = TopicConfig::default();
        for (name, value) in config.entries() {
            read.set(name, &value).expect("what was shown can be read");
        }
        assert_eq!(read, config);
        assert!(read.set("retention.banana", "1").expect_err("unknown").to_string().contains("segment.bytes"));
        assert!(read.set("flush.ms", "soon").expect_err("not a number").to_string().contains("milliseconds"));
    }
}
