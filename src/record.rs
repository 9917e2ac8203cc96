//! One record: what a producer hands in ([`Record`]), what a consumer is lent ([`RecordView`]), and what comes back
//! when it is refused ([`SendError`] at the door, [`TicketError`] later).

use std::fmt;

use crate::error::Error;
use crate::types::{Offset, PartitionId, Timestamp};

/// A named value beside a record's payload. Order and duplicates are kept; a value may be null.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header<'a> {
    /// The name; may repeat within a record.
    pub name: &'a str,
    /// The value; `None` is null, which is not the same as empty.
    pub value: Option<&'a [u8]>,
}

/// A record on its way in: borrowed bytes, which `send` encodes before it returns.
///
/// ```
/// use headwater::Record;
/// let record = Record::new(b"paid 19.90").key(b"customer-9").header("trace", b"4bf9");
/// assert_eq!(record.key_bytes(), Some(&b"customer-9"[..]));
/// assert_eq!(Record::tombstone(b"customer-9").value_bytes(), None);
/// ```
#[derive(Clone, PartialEq, Eq)]
#[must_use = "a record does nothing until it is sent"]
pub struct Record<'a> {
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: Vec<Header<'a>>,
    pub(crate) timestamp: Option<Timestamp>,
    pub(crate) partition: Option<PartitionId>,
}

impl<'a> Record<'a> {
    /// A record with this value, without a key, stamped with the time of sending.
    pub fn new<V: AsRef<[u8]> + ?Sized>(value: &'a V) -> Self {
        Self { key: None, value: Some(value.as_ref()), headers: Vec::new(), timestamp: None, partition: None }
    }

    /// A record that says that nothing holds for `key` any longer: its value is null.
    pub fn tombstone<K: AsRef<[u8]> + ?Sized>(key: &'a K) -> Self {
        Self { key: Some(key.as_ref()), value: None, headers: Vec::new(), timestamp: None, partition: None }
    }

    /// Sets the key. Records of one key go to one partition and stay in order.
    pub fn key<K: AsRef<[u8]> + ?Sized>(mut self, key: &'a K) -> Self {
        self.key = Some(key.as_ref());
        self
    }

    /// Adds a header behind those already there.
    pub fn header<V: AsRef<[u8]> + ?Sized>(mut self, name: &'a str, value: &'a V) -> Self {
        self.headers.push(Header { name, value: Some(value.as_ref()) });
        self
    }

    /// Sets the timestamp, for example to the time of the event, instead of the time of sending.
    pub fn timestamp(mut self, timestamp: impl Into<Timestamp>) -> Self {
        self.timestamp = Some(timestamp.into());
        self
    }

    /// Sends the record to this partition, whatever the partitioner would say.
    pub fn partition(mut self, partition: PartitionId) -> Self {
        self.partition = Some(partition);
        self
    }

    /// The key, if there is one.
    pub fn key_bytes(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// The value; `None` for a tombstone.
    pub fn value_bytes(&self) -> Option<&'a [u8]> {
        self.value
    }

    /// The headers in their order.
    pub fn headers(&self) -> &[Header<'a>] {
        &self.headers
    }
}

/// A record that owns its bytes: what comes back when a record that was already on its way is refused.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct OwnedRecord {
    /// The key, if there was one.
    pub key: Option<Vec<u8>>,
    /// The value; `None` for a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers in their order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// The timestamp it would have had.
    pub timestamp: Timestamp,
}

impl OwnedRecord {
    /// The record to be sent again.
    pub fn as_record(&self) -> Record<'_> {
        Record {
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: self.headers.iter().map(|(name, value)| Header { name, value: value.as_deref() }).collect(),
            timestamp: Some(self.timestamp),
            partition: None,
        }
    }
}

impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("key", &self.key.map(Shown))
            .field("value", &self.value.map(Shown))
            .field("headers", &self.headers.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for OwnedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.as_record(), f)
    }
}

/// Bytes as a person wants to see them in a message: the first few, as text where they are text.
struct Shown<'a>(&'a [u8]);

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const FIRST: usize = 64;
        let first = &self.0[..self.0.len().min(FIRST)];
        write!(f, "b\"{}\"", first.escape_ascii())?;
        if self.0.len() > FIRST { write!(f, "… ({} bytes)", self.0.len()) } else { Ok(()) }
    }
}

/// A record in a consumer's hand: slices of the log itself, nothing copied.
///
/// It lives as long as the batch it was polled in; [`to_owned_record`](Self::to_owned_record) takes it further.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    pub(crate) offset: Offset,
    pub(crate) timestamp: Timestamp,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    /// The headers as they lie in the batch: count and bytes, decoded when asked for. Checked when the batch was.
    pub(crate) headers: RawHeaders<'a>,
}

/// Encoded headers of one record: `count` of them, back to back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RawHeaders<'a> {
    pub(crate) count: u32,
    pub(crate) bytes: &'a [u8],
}

impl<'a> RecordView<'a> {
    /// The place in the partition's log.
    pub fn offset(&self) -> Offset {
        self.offset
    }

    /// When the record was created, as its producer said.
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// The key, if there is one.
    pub fn key(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// The value; empty for a tombstone: ask [`is_tombstone`](Self::is_tombstone) where that matters.
    pub fn value(&self) -> &'a [u8] {
        self.value.unwrap_or_default()
    }

    /// Whether the value is null.
    pub fn is_tombstone(&self) -> bool {
        self.value.is_none()
    }
}

/// A record that was refused at the door, and why.
///
/// Converts into [`Error`] with `?` where the record is not wanted back. It borrows what the record borrowed, so in a
/// function that returns `Box<dyn std::error::Error>` write `.map_err(Error::from)?`.
#[derive(Clone, Debug)]
pub struct SendError<'a> {
    /// The record, unchanged.
    pub record: Record<'a>,
    /// Why it was refused.
    pub error: Box<Error>,
}

impl<'a> SendError<'a> {
    pub(crate) fn new(record: Record<'a>, error: Error) -> Self {
        Self { record, error: Box::new(error) }
    }

    /// The record, to be sent elsewhere or again.
    pub fn into_inner(self) -> Record<'a> {
        self.record
    }
}

impl fmt::Display for SendError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl std::error::Error for SendError<'_> {
    /// What is behind the reason; the reason itself is what this says.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl From<SendError<'_>> for Error {
    fn from(refused: SendError<'_>) -> Self {
        *refused.error
    }
}

/// A record that was taken by `send_nowait` and refused later, and why.
///
/// Converts into [`Error`] with `?` where the record is not wanted back.
#[derive(Clone, Debug)]
pub struct TicketError {
    /// The record, out of the batch that was refused. `None` when it may be in the log all the same:
    /// it was appended, and what failed is the sync.
    pub record: Option<Box<OwnedRecord>>,
    /// Why it was refused.
    pub error: Box<Error>,
}

impl fmt::Display for TicketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl std::error::Error for TicketError {
    /// What is behind the reason; the reason itself is what this says.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl From<TicketError> for Error {
    fn from(refused: TicketError) -> Self {
        *refused.error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_record_comes_back_and_question_mark_keeps_the_reason() {
        let refused = SendError::new(Record::new(b"x"), Error::Closed { what: "the broker" });
        assert_eq!(refused.clone().into_inner().value_bytes(), Some(&b"x"[..]));
        assert!(Error::from(refused).is_closed());
    }
}
