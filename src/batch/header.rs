//! The first 61 bytes of a batch: where each field lies, what it must say, and the two that the log patches.
//!
//! A header is sane (F-12) if and only if
//! 1. its magic is 2 and its codec is one that Kafka knows;
//! 2. its length reaches at least to the end of the header;
//! 3. its base offset, last offset delta and count are not negative, and the last offset fits into 63 bits;
//! 4. it has no more records than offsets (fewer after compaction, which keeps offsets and may leave none).
//!
//! The CRC is checked apart (`BatchView::verify`), once per batch and not at every look.

use std::fmt;

use crate::batch::BatchError;
use crate::types::{LeaderEpoch, Offset, Timestamp};

/// Length of the header; the records begin here.
pub(crate) const HEADER_LEN: usize = 61;

/// Patched by the log; outside the CRC.
pub(crate) const BASE_OFFSET_AT: usize = 0;
/// Counts the bytes from [`LEADER_EPOCH_AT`] to the end of the batch.
pub(crate) const BATCH_LENGTH_AT: usize = 8;
/// Patched by the log; outside the CRC.
pub(crate) const LEADER_EPOCH_AT: usize = 12;
pub(crate) const MAGIC_AT: usize = 16;
/// CRC-32C of everything from [`ATTRIBUTES_AT`] to the end of the batch.
pub(crate) const CRC_AT: usize = 17;
pub(crate) const ATTRIBUTES_AT: usize = 21;
pub(crate) const LAST_OFFSET_DELTA_AT: usize = 23;
pub(crate) const BASE_TIMESTAMP_AT: usize = 27;
pub(crate) const MAX_TIMESTAMP_AT: usize = 35;
pub(crate) const PRODUCER_ID_AT: usize = 43;
pub(crate) const PRODUCER_EPOCH_AT: usize = 51;
pub(crate) const BASE_SEQUENCE_AT: usize = 53;
pub(crate) const RECORDS_COUNT_AT: usize = 57;

/// The one format written and read here.
pub(crate) const MAGIC: i8 = 2;
/// What the batch length does not count: base offset and the length itself.
pub(crate) const LENGTH_EXCLUDES: usize = LEADER_EPOCH_AT;
/// The largest batch, in bytes: its length must be an `i32`. A round number below the last possible one.
pub(crate) const BATCH_LEN_MAX: usize = i32::MAX as usize;

const CODEC_MASK: i16 = 0b111;
const LOG_APPEND_TIME_BIT: i16 = 1 << 3;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        })
    }
}

/// Who gave the records their timestamps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TimestampType {
    /// The producer, each record its own.
    CreateTime,
    /// The broker, one for the whole batch.
    LogAppendTime,
}

/// A sane header, read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BatchHeader {
    pub(crate) base_offset: Offset,
    /// Of the whole batch with its header, in bytes.
    pub(crate) batch_len: usize,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) crc: u32,
    pub(crate) attributes: i16,
    /// Not negative.
    pub(crate) last_offset_delta: i32,
    pub(crate) base_timestamp: Timestamp,
    pub(crate) max_timestamp: Timestamp,
    /// -1 where the producer is not idempotent.
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) records_count: u32,
    compression: Compression,
}

impl BatchHeader {
    /// Reads the header at the front of `bytes`, which may end before the batch does.
    #[inline]
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(BatchError::Truncated { have: bytes.len(), need: HEADER_LEN });
        };
        let magic = i8::from_be_bytes(field(header, MAGIC_AT));
        if magic != MAGIC {
            return Err(BatchError::UnknownMagic(magic));
        }
        let attributes = i16::from_be_bytes(field(header, ATTRIBUTES_AT));
        let last_offset_delta = i32::from_be_bytes(field(header, LAST_OFFSET_DELTA_AT));
        let parsed = Self {
            base_offset: base_offset(header, last_offset_delta)?,
            batch_len: batch_len(header)?,
            leader_epoch: i32::from_be_bytes(field(header, LEADER_EPOCH_AT)),
            crc: u32::from_be_bytes(field(header, CRC_AT)),
            attributes,
            last_offset_delta,
            base_timestamp: Timestamp(i64::from_be_bytes(field(header, BASE_TIMESTAMP_AT))),
            max_timestamp: Timestamp(i64::from_be_bytes(field(header, MAX_TIMESTAMP_AT))),
            producer_id: i64::from_be_bytes(field(header, PRODUCER_ID_AT)),
            producer_epoch: i16::from_be_bytes(field(header, PRODUCER_EPOCH_AT)),
            base_sequence: i32::from_be_bytes(field(header, BASE_SEQUENCE_AT)),
            records_count: records_count(header, last_offset_delta)?,
            compression: compression(attributes)?,
        };
        Ok(parsed)
    }

    /// The offset of the last record, or of the last that compaction took away.
    pub(crate) fn last_offset(&self) -> Offset {
        self.base_offset + u64::from(self.last_offset_delta.unsigned_abs())
    }

    /// The offset after the last (exclusive): where the next batch begins.
    pub(crate) fn end_offset(&self) -> Offset {
        self.last_offset() + 1
    }

    pub(crate) fn compression(&self) -> Compression {
        self.compression
    }

    pub(crate) fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME_BIT == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }
}

/// Gives an encoded batch its place: the two fields outside the CRC.
///
/// # Panics
/// If `bytes` is shorter than a header.
pub(crate) fn patch(bytes: &mut [u8], base_offset: Offset, leader_epoch: LeaderEpoch) {
    debug_assert!(i64::try_from(base_offset).is_ok(), "base offset {base_offset} is beyond 63 bits");
    put_field(bytes, BASE_OFFSET_AT, base_offset.to_be_bytes());
    put_field(bytes, LEADER_EPOCH_AT, leader_epoch.to_be_bytes());
}

/// The checksum that belongs at [`CRC_AT`] of the batch that is exactly `batch`.
pub(crate) fn crc_of(batch: &[u8]) -> u32 {
    // Not `checksum(Crc32Iscsi, …)`: that looks the algorithm up, which costs a small batch as much again.
    crc_fast::crc32_iscsi(&batch[ATTRIBUTES_AT..])
}

#[inline]
fn base_offset(header: &[u8; HEADER_LEN], last_offset_delta: i32) -> Result<Offset, BatchError> {
    let base = i64::from_be_bytes(field(header, BASE_OFFSET_AT));
    if last_offset_delta < 0 {
        return Err(BatchError::Malformed("its last offset delta is negative"));
    }
    // The end offset must be sayable too, hence one more than the last.
    if base < 0 || base.checked_add(i64::from(last_offset_delta) + 1).is_none() {
        return Err(BatchError::Malformed("its offsets are not within 0 to 2^63"));
    }
    Ok(base.unsigned_abs())
}

#[inline]
fn batch_len(header: &[u8; HEADER_LEN]) -> Result<usize, BatchError> {
    let length = i32::from_be_bytes(field(header, BATCH_LENGTH_AT));
    match usize::try_from(length).map(|length| length.saturating_add(LENGTH_EXCLUDES)) {
        Ok(len) if len >= HEADER_LEN => Ok(len),
        _ => Err(BatchError::Malformed("its length ends within the header")),
    }
}

#[inline]
fn records_count(header: &[u8; HEADER_LEN], last_offset_delta: i32) -> Result<u32, BatchError> {
    let count = i32::from_be_bytes(field(header, RECORDS_COUNT_AT));
    if count < 0 {
        return Err(BatchError::Malformed("its count of records is negative"));
    }
    if i64::from(count) > i64::from(last_offset_delta) + 1 {
        return Err(BatchError::Malformed("it has more records than offsets"));
    }
    Ok(count.unsigned_abs())
}

#[inline]
fn compression(attributes: i16) -> Result<Compression, BatchError> {
    Ok(match attributes & CODEC_MASK {
        0 => Compression::None,
        1 => Compression::Gzip,
        2 => Compression::Snappy,
        3 => Compression::Lz4,
        4 => Compression::Zstd,
        _ => return Err(BatchError::Malformed("its compression codec is unknown")),
    })
}

#[inline]
fn field<const N: usize>(header: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    *header[at..].first_chunk().expect("every field lies within the header")
}

/// Writes a field of a header that lies at the front of `bytes`.
#[inline]
pub(crate) fn put_field<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}
