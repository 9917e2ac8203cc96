//! The words of a log as types: names, numbers and times that cannot be mistaken for one another.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The name of a topic: 1 to 249 characters of `[A-Za-z0-9._-]`, neither `.` nor `..`.
///
/// Kafka's grammar, so that a name that is good here is good there. Parsed once, at the door;
/// everything behind it takes a `TopicName` and does not look again.
///
/// ```
/// use headwater::TopicName;
/// assert_eq!(TopicName::new("orders.eu-1")?.as_str(), "orders.eu-1");
/// assert!(TopicName::new("orders/eu").is_err());
/// # Ok::<(), headwater::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(std::sync::Arc<str>);

impl TopicName {
    /// The longest name, in bytes.
    pub const LEN_MAX: usize = 249;

    /// Parses a name.
    ///
    /// # Errors
    /// [`InvalidName`] says which rule the name breaks.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        check_name("topic name", name)?;
        Ok(Self(name.into()))
    }

    /// The same for a name that comes from a program: those that begin with `__` are the broker's own.
    pub(crate) fn new_for_users(name: &str) -> Result<Self, InvalidName> {
        if name.starts_with("__") {
            let reason = "names that begin with `__` are the broker's own";
            return Err(InvalidName { what: "topic name", name: name.chars().take(300).collect(), reason });
        }
        Self::new(name)
    }

    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The one grammar for names of topics and of consumer groups.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<(), InvalidName> {
    let refuse = |reason| Err(InvalidName { what, name: name.chars().take(300).collect(), reason });
    if name.is_empty() {
        return refuse("it is empty");
    }
    if name == "." || name == ".." {
        return refuse("`.` and `..` are not names");
    }
    if name.len() > TopicName::LEN_MAX {
        return refuse("it is longer than 249 bytes");
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        return refuse("only ASCII letters, digits, `.`, `_` and `-` are allowed");
    }
    Ok(())
}

/// A name that breaks the grammar.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what} {name:?} is refused: {reason}")]
pub struct InvalidName {
    /// What was to be named.
    pub what: &'static str,
    /// The name as given, shortened where it is very long.
    pub name: String,
    /// The rule that it breaks.
    pub reason: &'static str,
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// The identity of a topic: given once, never again, not even to a topic created later under the same name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub u128);

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The number of a partition within its topic, from 0.
pub type PartitionId = u32;

/// A partition of a topic, as it is named to people: `orders-3`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicName,
    /// The partition's number within it.
    pub partition: PartitionId,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// The place of a record in its partition's log, counted from 0 and never reused.
///
/// A plain number, as in Kafka: people store it in their own tables and compute with it.
pub type Offset = u64;

/// Milliseconds since 1970-01-01 UTC, as Kafka keeps time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The timestamp as a point in the system's time; `None` where the platform cannot say it.
    pub fn to_system_time(self) -> Option<SystemTime> {
        let distance = Duration::from_millis(self.0.unsigned_abs());
        if self.0 >= 0 { UNIX_EPOCH.checked_add(distance) } else { UNIX_EPOCH.checked_sub(distance) }
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let ms = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(ms(after)),
            Err(before) => Self(-ms(before.duration())),
        }
    }
}

/// Counts the terms of a partition's leaders. Always 0 until there is a cluster.
pub type LeaderEpoch = i32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_outside_the_grammar_is_refused_with_the_rule_it_breaks() {
        let long = "x".repeat(250);
        for (name, rule) in
            [("", "empty"), (".", "not names"), ("..", "not names"), ("a/b", "ASCII"), ("é", "ASCII"), (&long, "249")]
        {
            let refusal = TopicName::new(name).expect_err(name).to_string();
            assert!(refusal.contains(rule), "{name:?} was refused with {refusal:?}");
        }
        assert!(TopicName::new(&"x".repeat(249)).is_ok());
    }

    #[test]
    fn a_timestamp_survives_the_way_through_system_time_on_both_sides_of_1970() {
        for ms in [-86_400_000, -1, 0, 1, 1_700_000_000_123] {
            let time = Timestamp(ms).to_system_time().expect("within the platform's range");
            assert_eq!(Timestamp::from(time), Timestamp(ms));
        }
    }
}
