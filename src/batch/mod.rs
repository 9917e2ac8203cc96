//! Record batches: records to bytes and back, in the very bytes of Kafka's RecordBatch v2.
//!
//! A batch is the unit of encoding, checksum and append. What is encoded here lies unchanged in memory, in the
//! file, on Kafka's wire and on a replica; only base offset and leader epoch are patched in, and its CRC leaves
//! those two out. All numbers are big-endian.
//!
//! ```text
//!   0 i64 base offset          12 i32 leader epoch    21 i16 attributes           43 i64 producer id
//!   8 i32 batch length (from   16 i8  magic = 2       23 i32 last offset delta    51 i16 producer epoch
//!         byte 12 to the end)  17 u32 CRC-32C of all  27 i64 base timestamp       53 i32 base sequence
//!                                     from byte 21    35 i64 max timestamp        57 i32 count of records
//!  61 records, back to back:
//!     length (of what follows) · attributes i8 = 0 · timestamp delta · offset delta · key · value ·
//!     count of headers · per header: name · value
//!     key, value, name: length, bytes; length -1 is null. All lengths, counts and deltas are zigzag varints.
//! ```
//!
//! Knows no topics and no files. Everything read is untrusted: any bytes give a batch or a [`BatchError`].

pub(crate) mod varint;
pub(crate) mod header;
pub(crate) mod encode;
pub(crate) mod decode;

pub(crate) use decode::BatchView;
pub use decode::Headers;
pub(crate) use encode::{BatchBuilder, encoded_len};
pub(crate) use header::{Compression, HEADER_LEN, patch};

/// Why bytes are not a batch, or records cannot become one. Upper layers convert it and add the place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum BatchError {
    /// The record does not fit into this batch, or into any.
    #[error("a batch of {size} bytes is larger than the format can say: its length is a signed 32-bit number")]
    TooLarge {
        /// What the batch would have come to, in bytes.
        size: usize,
    },
    /// The bytes end before the batch does.
    #[error("the bytes end inside a batch: {have} of {need} are there")]
    Truncated {
        /// Bytes given.
        have: usize,
        /// Bytes needed to go on.
        need: usize,
    },
    /// The magic byte names another format.
    #[error(
        "the batch has magic {0}, only 2 is read here; produce with a client that speaks Produce version 3 or newer"
    )]
    UnknownMagic(i8),
    /// A field contradicts the format or another field.
    #[error("the batch is malformed: {0}")]
    Malformed(&'static str),
    /// The bytes are not those that were summed.
    #[error("the batch has CRC-32C {stored:#010x} but its bytes give {computed:#010x}")]
    CrcMismatch {
        /// As it stands in the batch.
        stored: u32,
        /// As the bytes give it.
        computed: u32,
    },
    /// The records are compressed, and what was asked for needs them plain.
    #[error("the records are compressed with {0}, which cannot be decoded here")]
    Compressed(Compression),
}

impl BatchError {
    /// What is wrong, in words that need no values: for `Damage` and the like.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "the batch is larger than the format can say",
            Self::Truncated { .. } => "the bytes end inside a batch",
            Self::UnknownMagic(_) => "the magic byte is not 2",
            Self::Malformed(reason) => reason,
            Self::CrcMismatch { .. } => "the CRC-32C does not match the bytes",
            Self::Compressed(_) => "the records are compressed",
        }
    }
}
