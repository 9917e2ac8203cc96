//! The 16 bytes before each batch: what makes it valid, and nothing else behind the tail.
//!
//! ```text
//!  0  u64  commit word: bits 0..30 length, 30..32 kind, 32..64 tag; stored last        F-9
//!  8  u32  CRC-32 of generation, position, the commit word's low half, flags and the
//!          batch's first 21 bytes (its own CRC-32C covers the rest)                      F-10
//! 12  u32  flags, zero                                                                   F-8
//! 16  the batch, then zeros to a multiple of 8
//! ```
//! A frame is valid if and only if (1) its tag is that of the segment's generation and its own position, (2) its
//! CRC holds, (3) its kind is known and its length ends inside the segment, and (4) for a batch, the length agrees
//! with the batch's own and the batch's CRC-32C holds. The tag makes a reused file need no zeroing; the CRC over
//! the position keeps a misplaced frame from being taken for the one that belongs there.

use crate::batch;

/// Bytes before the batch (F-8).
pub(crate) const HEAD_LEN: u64 = 16;
/// Frames begin at multiples of this (F-8).
pub(crate) const ALIGN: u64 = 8;
/// Where the CRC lies in the head (F-8).
pub(crate) const CRC_AT: usize = 8;
/// What our CRC covers of a batch: its CRC-32C begins behind that (F-10).
const BATCH_HEAD_LEN: usize = 21;
/// The longest payload the commit word can say (F-9).
const LEN_MAX: u32 = (1 << 30) - 1;

/// What a frame holds (F-11).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A record batch.
    Batch,
    /// Nothing, to the end of the segment: the segment is sealed.
    Pad,
}

impl Kind {
    const fn bits(self) -> u32 {
        match self {
            Self::Batch => 1 << 30,
            Self::Pad => 2 << 30,
        }
    }

    const fn of(low: u32) -> Option<Self> {
        match low >> 30 {
            1 => Some(Self::Batch),
            2 => Some(Self::Pad),
            _ => None,
        }
    }
}

/// Where a frame lies: the two numbers that its tag and CRC bind it to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The segment's generation.
    pub(crate) generation: u64,
    /// The frame's first byte in the file.
    pub(crate) position: u64,
}

impl Place {
    /// The tag of a frame here: never 0, so that zeros are never a frame (F-9).
    fn tag(self) -> u32 {
        // splitmix64's finisher: every bit of both numbers reaches the upper half.
        let mut x = self.generation ^ self.position.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let tag = ((x ^ (x >> 31)) >> 32) as u32;
        if tag == 0 { 1 } else { tag }
    }
}

/// A frame's head, decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    /// Bytes of payload, without the padding to a multiple of 8.
    pub(crate) len: u32,
    crc: u32,
    flags: u32,
}

impl Head {
    /// The head of a frame at `place` around `payload`; for a pad, `len` bytes that are not looked at.
    pub(crate) fn new(place: Place, kind: Kind, len: u32, payload: &[u8]) -> Self {
        assert!(len <= LEN_MAX, "a frame of {len} bytes is longer than its word can say ({LEN_MAX})");
        let head = Self { kind, len, crc: 0, flags: 0 };
        Self { crc: head.checksum(place, payload), ..head }
    }

    /// The commit word of this head at `place`.
    pub(crate) fn word(self, place: Place) -> u64 {
        (u64::from(place.tag()) << 32) | u64::from(self.low())
    }

    /// The whole head at `place`, to be written at once.
    pub(crate) fn encode(self, place: Place) -> [u8; HEAD_LEN as usize] {
        let mut bytes = [0; HEAD_LEN as usize];
        bytes[..CRC_AT].copy_from_slice(&self.word(place).to_le_bytes());
        bytes[CRC_AT..].copy_from_slice(&self.tail());
        bytes
    }

    /// CRC and flags as they lie behind the commit word.
    pub(crate) fn tail(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&self.crc.to_le_bytes());
        bytes[4..].copy_from_slice(&self.flags.to_le_bytes());
        bytes
    }

    /// Reads a head. `None`: nothing was committed at this place.
    pub(crate) fn read(place: Place, bytes: [u8; HEAD_LEN as usize]) -> Option<Self> {
        let word = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes"));
        if (word >> 32) as u32 != place.tag() {
            return None;
        }
        let low = word as u32;
        let crc = u32::from_le_bytes(bytes[8..12].try_into().expect("4 bytes"));
        let flags = u32::from_le_bytes(bytes[12..16].try_into().expect("4 bytes"));
        Some(Self { kind: Kind::of(low)?, len: low & LEN_MAX, crc, flags })
    }

    /// Whether the head belongs here and to this payload. Says what is wrong otherwise.
    pub(crate) fn check(self, place: Place, payload: &[u8]) -> Result<(), &'static str> {
        if cfg!(seeded_bug = "no_crc_check") {
            return Ok(());
        }
        if self.flags != 0 {
            return Err("a frame has flags that this release does not know");
        }
        if self.crc != self.checksum(place, payload) {
            return Err("a frame's checksum does not hold");
        }
        Ok(())
    }

    /// The position behind this frame and its padding.
    pub(crate) fn end(self, position: u64) -> u64 {
        end_of(position, u64::from(self.len))
    }

    fn low(self) -> u32 {
        self.kind.bits() | self.len
    }

    fn checksum(self, place: Place, payload: &[u8]) -> u32 {
        let covered = match self.kind {
            Kind::Batch => &payload[..BATCH_HEAD_LEN.min(payload.len())],
            Kind::Pad => &[],
        };
        let mut bytes = [0; 24 + BATCH_HEAD_LEN];
        bytes[..8].copy_from_slice(&place.generation.to_le_bytes());
        bytes[8..16].copy_from_slice(&place.position.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.low().to_le_bytes());
        bytes[20..24].copy_from_slice(&self.flags.to_le_bytes());
        bytes[24..24 + covered.len()].copy_from_slice(covered);
        crc32fast::hash(&bytes[..24 + covered.len()])
    }
}

/// The position behind a frame at `position` with `len` bytes of payload (F-8).
pub(crate) fn end_of(position: u64, len: u64) -> u64 {
    (position + HEAD_LEN + len).next_multiple_of(ALIGN)
}

/// Checks a batch frame's payload: its length against the frame's, and its own CRC-32C (F-10).
fn check_batch(payload: &[u8]) -> Result<batch::BatchView<'_>, &'static str> {
    let view = batch::BatchView::parse(payload).map_err(|_| "a batch's header makes no sense")?;
    if view.header().batch_len != payload.len() {
        return Err("a batch's length is not its frame's");
    }
    if !cfg!(seeded_bug = "no_crc_check") {
        view.verify().map_err(|_| "a batch's checksum does not hold")?;
    }
    Ok(view)
}

/// A whole frame.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Frame<'a> {
    /// A batch, and the position behind its frame.
    Batch { batch: batch::BatchView<'a>, end: u64 },
    /// The rest of the segment is empty for ever.
    Pad,
}

/// Reads the frame at `place`, where `rest` is what there is from there on: at least a head, and all of the frame if
/// it is whole. Says what is wrong otherwise.
pub(crate) fn decode(place: Place, rest: &[u8]) -> Result<Frame<'_>, &'static str> {
    let (head, rest) = rest.split_first_chunk().ok_or("a frame ends inside its head")?;
    let head = Head::read(place, *head).ok_or("there is no frame where one should be")?;
    match head.kind {
        Kind::Pad => head.check(place, &[]).map(|()| Frame::Pad),
        Kind::Batch => {
            let payload = rest.get(..head.len as usize).ok_or("a frame is longer than what is left of its segment")?;
            head.check(place, payload)?;
            Ok(Frame::Batch { batch: check_batch(payload)?, end: head.end(place.position) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { generation: 0x1234_5678_9abc_def0, position: 4096 };

    fn encode(place: Place, payload: &[u8]) -> [u8; 16] {
        Head::new(place, Kind::Batch, u32::try_from(payload.len()).expect("short"), payload).encode(place)
    }

    #[test]
    fn a_frame_is_valid_only_in_its_own_place_and_generation() {
        let payload = [7; 64];
        let bytes = encode(PLACE, &payload);
        let head = Head::read(PLACE, bytes).expect("committed here");
        head.check(PLACE, &payload).expect("whole");
        assert_eq!(head.end(4096), 4096 + 16 + 64);
        for other in [Place { position: 4104, ..PLACE }, Place { generation: 1, ..PLACE }] {
            assert_eq!(Head::read(other, bytes), None, "the tag belongs to another place");
            // Even where the tags collide, the checksum knows the place.
            assert_ne!(head.check(other, &payload), Ok(()));
        }
    }

    #[test]
    fn every_flipped_bit_of_a_head_or_of_the_batchs_first_bytes_is_seen() {
        let payload = [7; 64];
        let bytes = encode(PLACE, &payload);
        for bit in 0..(16 + 21) * 8 {
            let (mut bytes, mut payload) = (bytes, payload);
            match bit / 8 {
                byte @ 0..16 => bytes[byte] ^= 1 << (bit % 8),
                byte => payload[byte - 16] ^= 1 << (bit % 8),
            }
            let whole = Head::read(PLACE, bytes).is_some_and(|head| head.check(PLACE, &payload).is_ok());
            assert!(!whole, "bit {bit} was flipped and nobody saw it");
        }
    }

    #[test]
    fn zeros_are_never_a_frame() {
        for position in (4096..1 << 20).step_by(8) {
            assert_eq!(Head::read(Place { generation: 0, position }, [0; 16]), None);
        }
    }
}
