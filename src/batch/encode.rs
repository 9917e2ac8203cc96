//! Records into a batch: each encoded once, straight into the bytes that are appended.
//!
//! This is the hot path of every send: a record's length is computed and checked once, then its bytes are stored
//! into a buffer that is initialised beyond its end, so that no push has to ask for room.

use crate::batch::BatchError;
use crate::batch::header::{
    ATTRIBUTES_AT, BASE_OFFSET_AT, BASE_SEQUENCE_AT, BASE_TIMESTAMP_AT, BATCH_LEN_MAX, BATCH_LENGTH_AT, CRC_AT,
    HEADER_LEN, LAST_OFFSET_DELTA_AT, LEADER_EPOCH_AT, LENGTH_EXCLUDES, MAGIC, MAGIC_AT, MAX_TIMESTAMP_AT,
    PRODUCER_EPOCH_AT, PRODUCER_ID_AT, RECORDS_COUNT_AT, crc_of, put_field,
};
use crate::batch::varint;
use crate::record::{Header, Record};
use crate::types::Timestamp;

/// The least that a buffer grows to, in bytes.
const BUFFER_LEN_MIN: usize = 512;

/// A batch in the making.
///
/// Reusable: [`clear`](Self::clear) keeps the buffer, [`take`](Self::take) gives it away.
#[derive(Debug)]
pub(crate) struct BatchBuilder {
    /// The batch, and behind `end` room that is initialised and means nothing.
    buffer: Vec<u8>,
    /// End of the last record; [`HEADER_LEN`] when there is none. The header is written by `seal`.
    end: usize,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl BatchBuilder {
    /// An empty batch that has allocated nothing yet.
    pub(crate) fn new() -> Self {
        Self { buffer: Vec::new(), end: HEADER_LEN, count: 0, base_timestamp: 0, max_timestamp: 0 }
    }

    /// Adds a record, stamped with `now` unless it has a timestamp, and returns its index, which is its offset
    /// from the batch's base.
    ///
    /// # Errors
    /// [`BatchError::TooLarge`], with the batch as it was.
    #[inline]
    pub(crate) fn push(&mut self, record: &Record<'_>, now: Timestamp) -> Result<u32, BatchError> {
        let timestamp = record.timestamp.unwrap_or(now).0;
        if self.count == 0 {
            self.base_timestamp = timestamp;
            self.max_timestamp = timestamp;
        }
        // Wraps as in Kafka's own clients: the reader's sum wraps back, whatever the two timestamps.
        let deltas = Deltas { timestamp: timestamp.wrapping_sub(self.base_timestamp), offset: self.count };

        let body_len = body_len(record, deltas);
        let size = self.end.saturating_add(varint::I32_LEN_MAX).saturating_add(body_len);
        // With the whole in an i32 every part is, and the count is too: no record is shorter than 7 bytes.
        if size > BATCH_LEN_MAX {
            return Err(BatchError::TooLarge { size });
        }
        if self.buffer.len() < size {
            self.grow(size);
        }

        self.end = put_record(&mut self.buffer, self.end, record, deltas, body_len);
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.count += 1;
        Ok(deltas.offset.unsigned_abs())
    }

    /// Writes header and checksum and lends the batch, whose base offset and leader epoch are 0 until patched.
    /// More records may follow; then it is sealed again.
    ///
    /// # Panics
    /// If there is no record: Kafka knows no such batch from a producer.
    #[inline]
    pub(crate) fn seal(&mut self) -> &mut [u8] {
        assert!(self.count > 0, "a batch of {} records cannot be sealed", self.count);
        let batch = &mut self.buffer[..self.end];
        put_field(batch, BASE_OFFSET_AT, 0_i64.to_be_bytes());
        put_field(batch, BATCH_LENGTH_AT, as_i32(self.end - LENGTH_EXCLUDES).to_be_bytes());
        put_field(batch, LEADER_EPOCH_AT, 0_i32.to_be_bytes());
        put_field(batch, MAGIC_AT, MAGIC.to_be_bytes());
        put_field(batch, ATTRIBUTES_AT, 0_i16.to_be_bytes());
        put_field(batch, LAST_OFFSET_DELTA_AT, (self.count - 1).to_be_bytes());
        put_field(batch, BASE_TIMESTAMP_AT, self.base_timestamp.to_be_bytes());
        put_field(batch, MAX_TIMESTAMP_AT, self.max_timestamp.to_be_bytes());
        put_field(batch, PRODUCER_ID_AT, (-1_i64).to_be_bytes());
        put_field(batch, PRODUCER_EPOCH_AT, (-1_i16).to_be_bytes());
        put_field(batch, BASE_SEQUENCE_AT, (-1_i32).to_be_bytes());
        put_field(batch, RECORDS_COUNT_AT, self.count.to_be_bytes());
        let crc = crc_of(batch);
        put_field(batch, CRC_AT, crc.to_be_bytes());
        batch
    }

    /// Seals the batch and moves its bytes out; the builder is then empty and without a buffer.
    ///
    /// # Panics
    /// As [`seal`](Self::seal).
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.seal();
        let mut batch = std::mem::take(&mut self.buffer);
        batch.truncate(self.end);
        self.clear();
        batch
    }

    /// Goes on in a buffer that was used before, in place of the one that was given away.
    pub(crate) fn reuse(&mut self, buffer: Vec<u8>) {
        if self.is_empty() && buffer.len() > self.buffer.len() {
            self.buffer = buffer;
        }
    }

    /// The latest timestamp so far; 0 where there is no record.
    pub(crate) fn max_timestamp(&self) -> Timestamp {
        Timestamp(self.max_timestamp)
    }

    /// Forgets the records and keeps the buffer.
    pub(crate) fn clear(&mut self) {
        self.end = HEADER_LEN;
        self.count = 0;
        self.max_timestamp = 0;
    }

    /// Length of the batch so far with its header, in bytes.
    pub(crate) fn len(&self) -> usize {
        self.end
    }

    /// How many records it has.
    pub(crate) fn count(&self) -> u32 {
        self.count.unsigned_abs()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    #[cold]
    fn grow(&mut self, len_min: usize) {
        let len = len_min.max(self.buffer.len().saturating_mul(2)).max(BUFFER_LEN_MIN);
        self.buffer.resize(len, 0);
    }
}

/// An upper bound for the length of a batch of this record alone, header included, in bytes; for the length that
/// the record adds to a batch, take [`HEADER_LEN`] off. So a limit can be checked before anything is written.
pub(crate) fn encoded_len(record: &Record<'_>) -> usize {
    let widest = Deltas { timestamp: i64::MIN, offset: i32::MAX };
    body_len(record, widest).saturating_add(HEADER_LEN + varint::I32_LEN_MAX)
}

/// What a record says relative to its batch.
#[derive(Clone, Copy)]
struct Deltas {
    timestamp: i64,
    offset: i32,
}

/// Length of a record without the length itself. Saturates: headers may name the same huge slice many times.
#[inline]
fn body_len(record: &Record<'_>, deltas: Deltas) -> usize {
    let numbers = ATTRIBUTES_LEN + varint::len(deltas.timestamp) + varint::len(deltas.offset.into());
    let payload = bytes_len(record.key).saturating_add(bytes_len(record.value));
    let headers = if record.headers.is_empty() { 1 } else { headers_len(&record.headers) };
    payload.saturating_add(numbers).saturating_add(headers)
}

/// A record's attributes: a byte without a meaning yet.
const ATTRIBUTES_LEN: usize = 1;

fn headers_len(headers: &[Header<'_>]) -> usize {
    headers.iter().fold(count_len(headers.len()), |len, header| {
        len.saturating_add(bytes_len(Some(header.name.as_bytes()))).saturating_add(bytes_len(header.value))
    })
}

#[inline]
fn bytes_len(bytes: Option<&[u8]>) -> usize {
    match bytes {
        None => 1,
        Some(bytes) => bytes.len().saturating_add(count_len(bytes.len())),
    }
}

#[inline]
fn count_len(count: usize) -> usize {
    // Beyond i64 the record is refused anyway.
    varint::len(i64::try_from(count).unwrap_or(i64::MAX))
}

/// Writes a record of `body_len` at `at` and returns where it ends.
#[inline]
fn put_record(out: &mut [u8], at: usize, record: &Record<'_>, deltas: Deltas, body_len: usize) -> usize {
    let body = varint::put(out, at, as_i64(body_len));
    out[body] = 0; // attributes
    let mut at = varint::put(out, body + ATTRIBUTES_LEN, deltas.timestamp);
    at = varint::put(out, at, deltas.offset.into());
    at = put_bytes(out, at, record.key);
    at = put_bytes(out, at, record.value);
    at = varint::put(out, at, as_i64(record.headers.len()));
    for header in &record.headers {
        at = put_bytes(out, at, Some(header.name.as_bytes()));
        at = put_bytes(out, at, header.value);
    }
    debug_assert_eq!(at, body + body_len, "a record is not as long as was foretold");
    at
}

#[inline]
fn put_bytes(out: &mut [u8], at: usize, bytes: Option<&[u8]>) -> usize {
    let Some(bytes) = bytes else { return varint::put(out, at, -1) };
    let start = varint::put(out, at, as_i64(bytes.len()));
    let end = start + bytes.len();
    out[start..end].copy_from_slice(bytes);
    end
}

#[inline]
fn as_i64(len: usize) -> i64 {
    len as i64 // at most BATCH_LEN_MAX, as below
}

#[inline]
fn as_i32(len: usize) -> i32 {
    debug_assert!(len <= BATCH_LEN_MAX, "a part of {len} bytes in a batch of at most {BATCH_LEN_MAX}");
    len as i32 // the whole batch was held to BATCH_LEN_MAX before anything was written
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written down by hand from Kafka's description of the format; the CRC by a bitwise CRC-32C in another
    /// language.
    #[rustfmt::skip]
    const GOLDEN: [u8; 91] = [
        0, 0, 0, 0, 0, 0, 0, 0,     // base offset
        0, 0, 0, 0x4f,              // batch length: 91 - 12
        0, 0, 0, 0,                 // leader epoch
        2,                          // magic
        GOLDEN_CRC[0], GOLDEN_CRC[1], GOLDEN_CRC[2], GOLDEN_CRC[3],
        0, 0,                       // attributes
        0, 0, 0, 2,                 // last offset delta
        0, 0, 0, 0, 0, 0, 3, 0xe8,  // base timestamp 1000: the first record's
        0, 0, 0, 0, 0, 0, 4, 0x28,  // max timestamp 1064
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // producer id -1
        0xff, 0xff,                 // producer epoch -1
        0xff, 0xff, 0xff, 0xff,     // base sequence -1
        0, 0, 0, 3,                 // count
        // length, attributes, timestamp delta, offset delta, key, value, count of headers, headers
        0x18, 0, 0x00, 0x00, 2, b'k', 2, b'v', 2, 2, b'h', 2, b'x',
        0x0c, 0, 0x01, 0x02, 1, 1, 0,                    // 1 ms earlier; null, null
        0x12, 0, 0x80, 0x01, 0x04, 0, 0, 2, 0, 1,        // 64 ms later; empty, empty; "" = null
    ];
    const GOLDEN_CRC: [u8; 4] = 0x2673_38c3_u32.to_be_bytes();

    fn golden_records() -> [Record<'static>; 3] {
        let mut unnamed = Record::new(b"").key(b"").timestamp(Timestamp(1064));
        unnamed.headers.push(Header { name: "", value: None });
        let mut null = Record::tombstone(b"").timestamp(Timestamp(999));
        null.key = None;
        [Record::new(b"v").key(b"k").header("h", b"x"), null, unnamed]
    }

    fn push_golden(batch: &mut BatchBuilder) {
        for (index, record) in (0..).zip(&golden_records()) {
            assert_eq!(batch.push(record, Timestamp(1000)), Ok(index));
        }
    }

    #[test]
    fn a_batch_has_the_very_bytes_of_kafkas_format() {
        let mut batch = BatchBuilder::new();
        push_golden(&mut batch);
        assert_eq!((batch.len(), batch.count()), (GOLDEN.len(), 3));
        assert_eq!(batch.seal(), GOLDEN);
        assert_eq!(batch.take(), GOLDEN, "sealing twice changed something");
        assert_eq!((batch.len(), batch.count(), batch.is_empty()), (HEADER_LEN, 0, true));
    }

    #[test]
    fn a_builder_that_is_used_again_leaves_nothing_of_what_it_held_before() {
        let mut batch = BatchBuilder::new();
        let large = vec![0xee; 10_000];
        batch.push(&Record::new(&large).timestamp(Timestamp(i64::MAX)), Timestamp(0)).expect("it fits");
        batch.seal();
        batch.clear();
        assert!(batch.is_empty());
        push_golden(&mut batch);
        assert_eq!(batch.seal(), GOLDEN, "after clear");
        batch.take();
        push_golden(&mut batch);
        assert_eq!(batch.take(), GOLDEN, "after take");
    }

    #[test]
    fn a_sealed_batch_takes_more_records_and_is_sealed_again() {
        let mut batch = BatchBuilder::new();
        let [first, second, third] = golden_records();
        batch.push(&first, Timestamp(1000)).expect("it fits");
        batch.seal();
        batch.push(&second, Timestamp(0)).expect("it fits");
        batch.push(&third, Timestamp(0)).expect("it fits");
        assert_eq!(batch.seal(), GOLDEN);
    }

    #[test]
    fn a_record_beyond_the_formats_limit_is_refused_and_the_batch_stays_as_it_was() {
        // Zeroed memory that nobody touches: the refusal comes before the first byte is copied.
        let huge = vec![0; BATCH_LEN_MAX];
        let half = &huge[..BATCH_LEN_MAX / 2];
        let mut batch = BatchBuilder::new();
        push_golden(&mut batch);
        let in_headers = Record::new(b"").header("a", half).header("b", half).header("c", half);
        for record in [Record::new(&huge), Record::tombstone(&huge), in_headers] {
            let refused = batch.push(&record, Timestamp(0)).expect_err("a batch beyond 2^31 bytes was taken");
            assert!(matches!(refused, BatchError::TooLarge { size } if size > BATCH_LEN_MAX), "{refused}");
        }
        assert_eq!(batch.seal(), GOLDEN);
    }

    #[test]
    fn the_foretold_length_is_never_below_the_real_one_and_at_most_17_bytes_above() {
        let mut batch = BatchBuilder::new();
        let long = vec![1; 100_000];
        let distant = Record::new(b"").timestamp(Timestamp(i64::MAX));
        for record in golden_records().into_iter().chain([Record::new(&long).header("h", &long)]) {
            let foretold = encoded_len(&record);
            let mut check = |first: Option<&Record<'_>>| {
                batch.clear();
                if let Some(first) = first {
                    batch.push(first, Timestamp(0)).expect("it fits");
                }
                let before = batch.len();
                batch.push(&record, Timestamp(0)).expect("it fits");
                let real = HEADER_LEN + batch.len() - before;
                assert!((real..=real + 17).contains(&foretold), "{foretold} was foretold for {real}");
            };
            check(None);
            check(Some(&distant)); // the longest timestamp delta
        }
    }

    #[test]
    #[should_panic(expected = "a batch of 0 records cannot be sealed")]
    fn an_empty_batch_cannot_be_sealed() {
        BatchBuilder::new().seal();
    }
}
