//! Offset and time to byte position, sparse: one entry per [`INTERVAL`] bytes of a segment.
//!
//! Kafka keeps two files, one by offset and one by time. Both say where to begin a scan, so here one entry says
//! both. The file is written when the segment is sealed, checksummed as a whole, never trusted further than to a
//! place where the scan finds a valid frame, and rebuilt from the segment when it is not there (F-14).

use crate::types::{Offset, Timestamp};

/// Bytes of the segment per entry.
pub(crate) const INTERVAL: u64 = 4096;

const MAGIC: &[u8; 8] = b"HWINDEX1";
const HEAD_LEN: usize = 24; // F-14: magic, count u32, crc u32, latest timestamp of all
const ENTRY_LEN: usize = 24; // F-14: offset, position, latest timestamp before

/// One place to begin a scan at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    /// The first offset of the frame at `position`.
    pub(crate) offset: Offset,
    /// The frame's first byte.
    pub(crate) position: u64,
    /// The latest timestamp of all records of the segment before this frame.
    pub(crate) latest_before: Timestamp,
}

/// A frame as the index sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    /// Its first byte.
    pub(crate) position: u64,
    /// The byte behind it.
    pub(crate) end: u64,
    /// Its first record's offset.
    pub(crate) base_offset: Offset,
    /// The latest of its timestamps.
    pub(crate) max_timestamp: Timestamp,
}

/// The entries of one segment, in order, and how far they reach.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Index {
    entries: Vec<Entry>,
    /// The latest timestamp so far.
    latest: Timestamp,
    /// The position behind the last frame that was noted.
    end: u64,
}

impl Default for Index {
    fn default() -> Self {
        Self { entries: Vec::new(), latest: Timestamp(i64::MIN), end: 0 }
    }
}

impl Index {
    /// Notes a frame. Frames come in order and without gaps; one that was noted before is passed over.
    pub(crate) fn note(&mut self, frame: Frame) {
        if frame.position < self.end {
            return;
        }
        if self.entries.last().is_none_or(|last| frame.position >= last.position + INTERVAL) {
            let Frame { base_offset: offset, position, .. } = frame;
            self.entries.push(Entry { offset, position, latest_before: self.latest });
        }
        self.latest = self.latest.max(frame.max_timestamp);
        self.end = frame.end;
    }

    /// The position behind the last frame that was noted; 0 where there is none.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// The latest timestamp of all frames that were noted.
    pub(crate) fn latest(&self) -> Timestamp {
        self.latest
    }

    /// Where to begin looking for `offset`: the last entry at or before it.
    pub(crate) fn before_offset(&self, offset: Offset) -> Option<Entry> {
        let behind = self.entries.partition_point(|entry| entry.offset <= offset);
        behind.checked_sub(1).map(|at| self.entries[at])
    }

    /// Where to begin looking for the first record of `time` or later: the last entry before which everything is
    /// earlier.
    pub(crate) fn before_time(&self, time: Timestamp) -> Option<Entry> {
        let behind = self.entries.partition_point(|entry| entry.latest_before < time);
        behind.checked_sub(1).map(|at| self.entries[at])
    }

    /// The file's bytes (F-14).
    pub(crate) fn encode(&self, generation: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_LEN + self.entries.len() * ENTRY_LEN);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&u32::try_from(self.entries.len()).expect("fewer than pages").to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.latest.0.to_le_bytes());
        for entry in &self.entries {
            bytes.extend_from_slice(&entry.offset.to_le_bytes());
            bytes.extend_from_slice(&entry.position.to_le_bytes());
            bytes.extend_from_slice(&entry.latest_before.0.to_le_bytes());
        }
        let crc = checksum(generation, &bytes[16..]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a file's bytes; `None` for anything that was not written by [`encode`](Self::encode) for a segment of
    /// this generation.
    pub(crate) fn decode(generation: u64, bytes: &[u8]) -> Option<Self> {
        let (head, body) = bytes.split_at_checked(HEAD_LEN)?;
        let count = u32::from_le_bytes(head[8..12].try_into().ok()?) as usize;
        let crc = u32::from_le_bytes(head[12..16].try_into().ok()?);
        if &head[..8] != MAGIC
            || Some(body.len()) != count.checked_mul(ENTRY_LEN)
            || (crc != checksum(generation, &bytes[16..]) && !cfg!(seeded_bug = "index_trusted"))
        {
            return None;
        }
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("8 bytes"));
        let entries: Vec<Entry> = body
            .chunks_exact(ENTRY_LEN)
            .map(|entry| Entry {
                offset: number(&entry[..8]),
                position: number(&entry[8..16]),
                latest_before: Timestamp(number(&entry[16..]).cast_signed()),
            })
            .collect();
        let rises =
            entries.windows(2).all(|pair| pair[0].offset < pair[1].offset && pair[0].position < pair[1].position);
        // A file is written for a sealed segment: nothing is noted behind it.
        rises.then_some(Self { entries, latest: Timestamp(number(&head[16..]).cast_signed()), end: u64::MAX })
    }
}

fn checksum(generation: u64, rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&generation.to_le_bytes());
    hasher.update(rest);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Index {
        let mut index = Index::default();
        for i in 0..100u64 {
            let position = 4096 + i * 2048;
            let max_timestamp = Timestamp(i.cast_signed() * 10 + 10);
            index.note(Frame { position, end: position + 2048, base_offset: 1000 + i * 3, max_timestamp });
        }
        index
    }

    #[test]
    fn a_frame_is_noted_once() {
        let mut index = sample();
        index.note(Frame { position: 4096, end: 9000, base_offset: 1, max_timestamp: Timestamp(i64::MAX) });
        assert_eq!(index, sample());
    }

    #[test]
    fn a_lookup_gives_the_last_entry_that_is_not_behind_what_is_looked_for() {
        let index = sample();
        assert_eq!(index.entries.len(), 50, "one entry per interval, not per frame");
        assert_eq!(index.before_offset(999), None);
        assert_eq!(index.before_offset(1000).expect("the first").offset, 1000);
        assert_eq!(index.before_offset(1011).expect("between").offset, 1006);
        assert_eq!(index.before_offset(u64::MAX).expect("the last").offset, 1294);
        assert_eq!(index.before_time(Timestamp(41)).expect("between").offset, 1012);
        assert_eq!(index.before_time(Timestamp(40)).expect("40 itself may lie before the entry").offset, 1006);
    }

    #[test]
    fn a_file_is_read_back_and_any_other_bytes_are_not() {
        let index = sample();
        let bytes = index.encode(7);
        assert_eq!(Index::decode(7, &bytes).expect("as written").entries, index.entries);
        assert_eq!(Index::decode(8, &bytes), None, "another segment's");
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert_eq!(Index::decode(7, &bytes), None, "byte {at} was changed");
            assert_eq!(Index::decode(7, &bytes[..at]), None, "cut to {at}");
        }
    }
}
