//! The format read by hand: a second reader, written after `src/docs/format.md` and not after the crate's code.
//!
//! It panics on whatever breaks a rule, and says which.

use std::ops::Range;

pub(crate) const FIRST_FRAME: usize = 4096;
pub(crate) const SLOT: usize = 4096;

pub(crate) fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("2 bytes"))
}

pub(crate) fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

pub(crate) fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

pub(crate) fn le128(bytes: &[u8], at: usize) -> u128 {
    u128::from_le_bytes(bytes[at..at + 16].try_into().expect("16 bytes"))
}

fn be16(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes(bytes[at..at + 2].try_into().expect("2 bytes"))
}

fn be32(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn be64(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

/// CRC-32 as in zip and Ethernet (F-1), bit by bit.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    crc(0xEDB8_8320, bytes)
}

/// CRC-32C, Castagnoli's (F-1), bit by bit.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc(0x82F6_3B78, bytes)
}

fn crc(polynomial: u32, bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ polynomial } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

/// One slot of a control file (F-5).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Control {
    pub(crate) left: u8,
    pub(crate) sequence: u64,
    pub(crate) boot_id: u128,
    pub(crate) log_start: u64,
    pub(crate) offset: u64,
    pub(crate) segment: u64,
    pub(crate) position: u64,
    pub(crate) topic: u128,
    pub(crate) partition: u32,
}

impl Control {
    /// Reads the two slots; the newer one first.
    pub(crate) fn read(file: &[u8]) -> Vec<Self> {
        assert_eq!(file.len(), 2 * SLOT, "F-5: a control file is two slots");
        let mut slots: Vec<_> = [0, SLOT].into_iter().filter_map(|at| Self::slot(&file[at..at + SLOT])).collect();
        slots.sort_by_key(|slot| std::cmp::Reverse(slot.sequence));
        slots
    }

    fn slot(slot: &[u8]) -> Option<Self> {
        if slot.iter().all(|byte| *byte == 0) {
            return None;
        }
        assert_eq!(&slot[..8], b"HWCNTRL\0", "F-5: magic");
        assert_eq!(le32(slot, 8), 1, "F-5: version");
        assert_eq!(le32(slot, 92), crc32(&slot[..92]), "F-5: checksum");
        assert!(slot[13..16].iter().chain(&slot[96..]).all(|byte| *byte == 0), "F-5: zeros");
        Some(Self {
            left: slot[12],
            sequence: le64(slot, 16),
            boot_id: le128(slot, 24),
            log_start: le64(slot, 40),
            offset: le64(slot, 48),
            segment: le64(slot, 56),
            position: le64(slot, 64),
            topic: le128(slot, 72),
            partition: le32(slot, 88),
        })
    }

    /// Puts this in place of both slots.
    pub(crate) fn write(&self, file: &mut [u8]) {
        file.fill(0);
        let slot = &mut file[(self.sequence as usize % 2) * SLOT..];
        slot[..8].copy_from_slice(b"HWCNTRL\0");
        slot[8..12].copy_from_slice(&1_u32.to_le_bytes());
        slot[12] = self.left;
        slot[24..40].copy_from_slice(&self.boot_id.to_le_bytes());
        for (at, number) in
            [(16, self.sequence), (40, self.log_start), (48, self.offset), (56, self.segment), (64, self.position)]
        {
            slot[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        slot[72..88].copy_from_slice(&self.topic.to_le_bytes());
        slot[88..92].copy_from_slice(&self.partition.to_le_bytes());
        sum(slot, 92);
    }
}

/// Puts the CRC-32 of everything before `at` there.
pub(crate) fn sum(bytes: &mut [u8], at: usize) {
    let crc = crc32(&bytes[..at]);
    bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
}

/// A segment's header (F-7).
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) partition: u32,
    pub(crate) generation: u64,
    pub(crate) base_offset: u64,
    pub(crate) bytes: u64,
    pub(crate) topic: u128,
}

impl Header {
    pub(crate) fn read(file: &[u8]) -> Self {
        assert_eq!(&file[..8], b"HWSEGMT\0", "F-7: magic");
        assert_eq!(le32(file, 8), 1, "F-7: version");
        assert_eq!(le32(file, 64), crc32(&file[..64]), "F-7: checksum");
        assert!(file[56..64].iter().chain(&file[68..FIRST_FRAME]).all(|byte| *byte == 0), "F-7: zeros");
        Self {
            partition: le32(file, 12),
            generation: le64(file, 16),
            base_offset: le64(file, 24),
            bytes: le64(file, 32),
            topic: le128(file, 40),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Batch,
    Pad,
}

/// A frame of a segment (F-8).
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) position: usize,
    pub(crate) kind: Kind,
    pub(crate) payload: Range<usize>,
    /// The first byte behind it and its padding.
    pub(crate) end: usize,
}

/// A frame's tag (F-9): splitmix64's finisher over generation and position.
pub(crate) fn tag(generation: u64, position: u64) -> u32 {
    let mut x = generation ^ position.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^= x >> 31;
    ((x >> 32) as u32).max(1)
}

/// All frames of a segment in their order, each checked after F-8 to F-11.
pub(crate) fn frames(file: &[u8]) -> Vec<Frame> {
    let header = Header::read(file);
    assert_eq!(file.len() as u64, header.bytes, "F-7: the file is as long as its header says");
    let (mut found, mut position) = (Vec::new(), FIRST_FRAME);
    while position + 16 <= file.len() {
        let word = le64(file, position);
        if (word >> 32) as u32 != tag(header.generation, position as u64) {
            break;
        }
        let (low, flags) = (word as u32, le32(file, position + 12));
        let kind = match low >> 30 {
            1 => Kind::Batch,
            2 => Kind::Pad,
            other => panic!("F-11: kind {other} at {position}"),
        };
        let payload = position + 16..position + 16 + (low & 0x3FFF_FFFF) as usize;
        let end = payload.end.next_multiple_of(8);
        assert!(payload.end <= file.len(), "F-8: the frame at {position} ends at {}", payload.end);
        assert_eq!(flags, 0, "F-8: flags at {position}");
        let mut covered = [header.generation.to_le_bytes(), (position as u64).to_le_bytes()].concat();
        covered.extend(low.to_le_bytes());
        covered.extend(flags.to_le_bytes());
        if kind == Kind::Batch {
            covered.extend(&file[payload.start..payload.start + 21]);
        }
        assert_eq!(le32(file, position + 8), crc32(&covered), "F-10: checksum of the frame at {position}");
        found.push(Frame { position, kind, payload, end });
        position = end;
    }
    found
}

/// A record batch (F-12).
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) base_offset: i64,
    pub(crate) last_offset_delta: i32,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) records: Vec<Record>,
}

/// A record as it lies in a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Record {
    pub(crate) offset: u64,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Batch {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        assert_eq!(be32(bytes, 8) as usize + 12, bytes.len(), "F-12: a batch is as long as its frame");
        assert_eq!(be32(bytes, 12), 0, "F-12: leader epoch");
        assert_eq!(bytes[16], 2, "F-12: magic");
        assert_eq!(be32(bytes, 17).cast_unsigned(), crc32c(&bytes[21..]), "F-10: the batch's own checksum");
        assert_eq!(be16(bytes, 21), 0, "F-12: no attributes");
        assert_eq!((be64(bytes, 43), be16(bytes, 51), be32(bytes, 53)), (-1, -1, -1), "F-12: no idempotent producer");
        let (base_offset, last_offset_delta) = (be64(bytes, 0), be32(bytes, 23));
        let (base_timestamp, max_timestamp) = (be64(bytes, 27), be64(bytes, 35));
        let mut rest = &bytes[61..];
        let record = |delta: i32| {
            let length = varint(&mut rest);
            let mut body = take(&mut rest, length);
            assert_eq!(take(&mut body, 1), [0], "F-12: a record has no attributes");
            let timestamp = base_timestamp + varint(&mut body);
            assert_eq!(varint(&mut body), i64::from(delta), "F-13: offset deltas are dense");
            let (key, value) = (nullable(&mut body), nullable(&mut body));
            let count = varint(&mut body);
            let header = |_| {
                let name = nullable(&mut body).expect("F-12: a header has a name");
                (String::from_utf8(name).expect("F-12: in UTF-8"), nullable(&mut body))
            };
            let headers = (0..count).map(header).collect();
            let offset = (base_offset + i64::from(delta)).cast_unsigned();
            assert!(body.is_empty(), "F-12: a record is as long as it says");
            Record { offset, timestamp, key, value, headers }
        };
        let records: Vec<_> = (0..be32(bytes, 57)).map(record).collect();
        assert!(rest.is_empty(), "F-12: nothing behind the last record");
        Self { base_offset, last_offset_delta, base_timestamp, max_timestamp, records }
    }
}

fn varint(rest: &mut &[u8]) -> i64 {
    let (mut raw, mut shift) = (0_u64, 0);
    loop {
        let byte = take(rest, 1)[0];
        raw |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return (raw >> 1).cast_signed() ^ -((raw & 1).cast_signed());
        }
    }
}

fn nullable(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let length = varint(rest);
    (length >= 0).then(|| take(rest, length).to_vec())
}

fn take<'a>(rest: &mut &'a [u8], length: i64) -> &'a [u8] {
    let (taken, behind) = rest.split_at(usize::try_from(length).expect("F-12: a length is not negative"));
    *rest = behind;
    taken
}

/// The batches of a segment, with the frames they lie in.
pub(crate) fn batches(file: &[u8]) -> Vec<(Frame, Batch)> {
    let frames = frames(file).into_iter().filter(|frame| frame.kind == Kind::Batch);
    frames.map(|frame| (frame.clone(), Batch::read(&file[frame.payload]))).collect()
}
