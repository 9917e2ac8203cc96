//! The control file: how far the log is known to be on the disk, and how the last session ended.
//!
//! Two slots of 4 KiB are written in turn, each within one sector, so that a torn write costs the newer one only.
//! It is written often and synced seldom: an old control file is never wrong, it only makes recovery walk further.
//! An empty, zeroed or short file is normal after a crash in the first moments of a partition (F-5).

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::fs::{File, Fs};
use crate::storage::name::CONTROL;
use crate::types::{Offset, PartitionId, TopicId};

const MAGIC: &[u8; 8] = b"HWCNTRL\0"; // F-5
const VERSION: u32 = 1; // F-18
const SLOT_LEN: u64 = 4096;
const CRC_AT: usize = 92;
const SLOT_USED: usize = CRC_AT + 4; // F-5: well within one sector

/// The partition that a file belongs to, written into it so that one in the wrong directory is found out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Owner {
    /// The topic.
    pub(crate) topic: TopicId,
    /// Its partition.
    pub(crate) partition: PartitionId,
}

/// A place up to which everything is on the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct RecoveryPoint {
    /// The next offset.
    pub(crate) offset: Offset,
    /// The segment it lies in, or would: by base offset.
    pub(crate) segment: Offset,
    /// The byte in that segment; the end of its header where it has no frames.
    pub(crate) position: u64,
}

/// How the log was left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Left {
    /// A broker has it, or died with it.
    Open,
    /// Closed in order: the recovery point is the end of the log.
    Clean,
    /// A write or sync failed: what the page cache says about the bytes behind the recovery point is not to be
    /// believed.
    Fenced,
}

/// What the control file says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Control {
    /// The first offset of the log.
    pub(crate) log_start: Offset,
    /// Everything below is on the disk.
    pub(crate) recovery_point: RecoveryPoint,
    /// The machine's boot in which this was written.
    pub(crate) boot_id: u128,
    /// How the log was left.
    pub(crate) left: Left,
}

impl Control {
    fn encode(&self, sequence: u64, owner: Owner) -> [u8; SLOT_USED] {
        let mut bytes = [0; SLOT_USED];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12] = match self.left {
            Left::Open => 0,
            Left::Clean => 1,
            Left::Fenced => 2,
        };
        bytes[16..24].copy_from_slice(&sequence.to_le_bytes());
        bytes[24..40].copy_from_slice(&self.boot_id.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.log_start.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.recovery_point.offset.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.recovery_point.segment.to_le_bytes());
        bytes[64..72].copy_from_slice(&self.recovery_point.position.to_le_bytes());
        bytes[72..88].copy_from_slice(&owner.topic.0.to_le_bytes());
        bytes[88..92].copy_from_slice(&owner.partition.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Another partition's slot says nothing here.
    fn decode(bytes: &[u8], owner: Owner) -> Slot {
        let Some(bytes) = bytes.get(..SLOT_USED) else { return Slot::Nothing };
        let crc = u32::from_le_bytes(bytes[CRC_AT..].try_into().expect("4 bytes"));
        if &bytes[..8] != MAGIC || crc != crc32fast::hash(&bytes[..CRC_AT]) {
            return Slot::Nothing;
        }
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let version = u32::from_le_bytes(bytes[8..12].try_into().expect("4 bytes"));
        let left = match bytes[12] {
            0 => Left::Open,
            1 => Left::Clean,
            2 => Left::Fenced,
            _ => return Slot::Unknown(version),
        };
        if version != VERSION {
            return Slot::Unknown(version);
        }
        let topic = TopicId(u128::from_le_bytes(bytes[72..88].try_into().expect("16 bytes")));
        let partition = u32::from_le_bytes(bytes[88..92].try_into().expect("4 bytes"));
        if (Owner { topic, partition }) != owner {
            return Slot::Nothing;
        }
        let control = Self {
            log_start: number(40),
            recovery_point: RecoveryPoint { offset: number(48), segment: number(56), position: number(64) },
            boot_id: u128::from_le_bytes(bytes[24..40].try_into().expect("16 bytes")),
            left,
        };
        Slot::Known { sequence: number(16), control }
    }
}

enum Slot {
    Nothing,
    Unknown(u32),
    Known { sequence: u64, control: Control },
}

/// The open control file of a partition.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    file: Arc<dyn File>,
    owner: Owner,
    sequence: u64,
}

impl Checkpoint {
    /// Opens or creates the control file of `dir`, with what it says; `None` where it says nothing.
    ///
    /// # Errors
    /// [`Error::UnsupportedVersion`] for a file of a later release; [`Error::Io`].
    pub(crate) fn open(fs: &dyn Fs, dir: &Path, owner: Owner) -> Result<(Self, Option<Control>)> {
        let path = dir.join(CONTROL);
        let file = match fs.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs.create(&path).map_err(|e| Error::io("create", &path, e))?
            }
            opened => opened.map_err(|e| Error::io("open", &path, e))?,
        };
        let mut bytes = [0; SLOT_USED];
        let (mut sequence, mut newest) = (0, None);
        for at in [0, SLOT_LEN] {
            let read = file.read_at(&mut bytes, at).map_err(|e| Error::io("read", &path, e))?;
            match Control::decode(&bytes[..read], owner) {
                Slot::Nothing => {}
                Slot::Unknown(found) => return Err(Error::UnsupportedVersion { path, found, supported: VERSION }),
                Slot::Known { sequence: found, control } if newest.is_none() || found > sequence => {
                    (sequence, newest) = (found, Some(control));
                }
                Slot::Known { .. } => {}
            }
        }
        if newest.is_none() {
            // Blocks for both slots now, so that a full disk can still be written down later.
            file.set_len(2 * SLOT_LEN).map_err(|e| Error::io("size", &path, e))?;
            file.allocate(0..2 * SLOT_LEN).map_err(|e| Error::io("allocate", &path, e))?;
        }
        Ok((Self { file, owner, sequence }, newest))
    }

    /// Writes the other slot. On the disk only after [`sync`](Self::sync), or whenever the system likes.
    pub(crate) fn write(&mut self, control: &Control) -> io::Result<()> {
        let sequence = self.sequence + 1;
        self.file.write_at(&control.encode(sequence, self.owner), (sequence % 2) * SLOT_LEN)?;
        self.sequence = sequence;
        Ok(())
    }

    /// Makes what was written durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// The file, to be synced by somebody who does not keep the others from writing.
    pub(crate) fn file(&self) -> Arc<dyn File> {
        Arc::clone(&self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Simulated;

    const OWNER: Owner = Owner { topic: TopicId(7), partition: 1 };

    #[test]
    fn another_partitions_control_file_says_nothing() {
        let (disk, dir) = (Simulated::new(1), Path::new("/p"));
        disk.create_dir(dir).expect("made");
        Checkpoint::open(&disk, dir, OWNER).expect("created").0.write(&control(1)).expect("written");
        assert!(Checkpoint::open(&disk, dir, OWNER).expect("opens").1.is_some());
        for other in [Owner { partition: 2, ..OWNER }, Owner { topic: TopicId(8), ..OWNER }] {
            assert_eq!(Checkpoint::open(&disk, dir, other).expect("opens").1, None);
        }
    }

    fn control(offset: Offset) -> Control {
        let recovery_point = RecoveryPoint { offset, segment: 3, position: 4096 };
        Control { log_start: 3, recovery_point, boot_id: 9, left: Left::Open }
    }

    #[test]
    fn the_newer_slot_wins_and_a_torn_one_costs_one_write() {
        let (disk, dir) = (Simulated::new(1), Path::new("/p"));
        disk.create_dir(dir).expect("made");
        let (mut checkpoint, nothing) = Checkpoint::open(&disk, dir, OWNER).expect("created");
        assert_eq!(nothing, None);
        for offset in 1..=4 {
            checkpoint.write(&control(offset)).expect("written");
        }
        let read =
            || Checkpoint::open(&disk, dir, OWNER).expect("opens").1.map(|control| control.recovery_point.offset);
        assert_eq!(read(), Some(4));
        disk.corrupt(dir.join(CONTROL), |bytes| bytes[20] ^= 1).expect("there"); // sequence 4 lies in slot 0
        assert_eq!(read(), Some(3));
        disk.corrupt(dir.join(CONTROL), |bytes| bytes.truncate(100)).expect("there");
        assert_eq!(read(), None);
    }

    #[test]
    fn a_later_version_is_refused_unread() {
        let (disk, dir) = (Simulated::new(1), Path::new("/p"));
        disk.create_dir(dir).expect("made");
        Checkpoint::open(&disk, dir, OWNER).expect("created").0.write(&control(1)).expect("written");
        disk.corrupt(dir.join(CONTROL), |bytes| {
            let slot = &mut bytes[4096..4096 + SLOT_USED];
            slot[8] = 2;
            let crc = crc32fast::hash(&slot[..CRC_AT]);
            slot[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        })
        .expect("there");
        let refusal = Checkpoint::open(&disk, dir, OWNER).expect_err("version 2");
        assert!(matches!(refusal, Error::UnsupportedVersion { found: 2, supported: 1, .. }), "{refusal}");
    }
}
