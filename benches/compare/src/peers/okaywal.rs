//! okaywal: a write-ahead log in the strict sense: what a checkpoint has passed is gone.

use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc;

use okaywal::{Configuration, Entry, EntryId, LogManager, ReadChunkResult, SegmentReader, WriteAheadLog};
use parking_lot::Mutex;

use crate::harness::{Batch, Calls, Card, Level, Log, Peer, Producer, Result, Synced, Tally};

pub(crate) struct Okaywal;

/// Zero-filled ahead, so that a sync need not write the file's size: more than a run of B writes.
const PREALLOCATE_BYTES: u32 = 16 << 20;

impl Peer for Okaywal {
    type Log = OkaywalLog;

    fn card(&self) -> Card {
        Card {
            name: "okaywal",
            package: "okaywal",
            check: "CRC-32C, written + read",
            appended: None,
            synced: Synced::By("fdatasync, shared by waiting threads"),
            batch_loops: &[],
            follows: false,
            returns_early: false,
            notes: &[
                "checkpoints are switched off, else 768 KiB is all it keeps; C reads by its checkpoint, \
                 the one way to its entries",
                "a batch is one entry with a chunk per record",
                "recovery hands every entry to its user, who must read it: else recovery loses its place after the \
                 first chunk and cuts off the rest",
            ],
        }
    }

    fn open(&self, dir: &Path, _level: Level, _calls: Calls) -> Result<OkaywalLog> {
        let (sender, tallies) = mpsc::channel();
        let wal = Configuration::default_for(dir)
            .preallocate_bytes(PREALLOCATE_BYTES)
            .checkpoint_after_bytes(u64::MAX)
            .open(Reader { sender })?;
        Ok(OkaywalLog { wal, tallies: Mutex::new(tallies) })
    }
}

pub(crate) struct OkaywalLog {
    wal: WriteAheadLog,
    /// What the checkpoint thread has read.
    tallies: Mutex<mpsc::Receiver<io::Result<Tally>>>,
}

impl Log for OkaywalLog {
    type Producer<'a> = &'a WriteAheadLog;

    fn producer(&self) -> Result<&WriteAheadLog> {
        Ok(&self.wal)
    }

    fn read_all(&self, tally: &mut Tally) -> Result<()> {
        self.wal.checkpoint_active()?;
        tally.merge(self.tallies.lock().recv()??);
        Ok(())
    }
}

impl Producer for &WriteAheadLog {
    fn send(&mut self, record: &[u8]) -> Result<()> {
        let mut entry = self.begin_entry()?;
        entry.write_chunk(record)?;
        entry.commit()?;
        Ok(())
    }

    fn send_batch(&mut self, batch: Batch<'_>) -> Result<()> {
        let mut entry = self.begin_entry()?;
        for record in batch.records() {
            entry.write_chunk(record)?;
        }
        entry.commit()?;
        Ok(())
    }
}

/// Tallies the entries when a checkpoint hands them on.
#[derive(Debug)]
struct Reader {
    sender: mpsc::Sender<io::Result<Tally>>,
}

impl LogManager for Reader {
    /// Reads the whole entry, as the crate's example does: an unread chunk is skipped twice, by the call and by its
    /// drop, which would end the recovery there.
    fn recover(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
        tally_entry(entry, &mut Tally::default(), &mut Vec::new())
    }

    fn checkpoint_to(&mut self, _last: EntryId, entries: &mut SegmentReader, _wal: &WriteAheadLog) -> io::Result<()> {
        // The log that waits for the tally may be gone; then nobody misses it.
        let _ = self.sender.send(tally_all(entries));
        Ok(())
    }
}

fn tally_all(entries: &mut SegmentReader) -> io::Result<Tally> {
    let mut tally = Tally::default();
    let mut record = Vec::new();
    while let Some(mut entry) = entries.read_entry()? {
        tally_entry(&mut entry, &mut tally, &mut record)?;
    }
    Ok(tally)
}

/// Adds the entry's records to `tally`; `record` is a buffer to read into.
fn tally_entry(entry: &mut Entry<'_>, tally: &mut Tally, record: &mut Vec<u8>) -> io::Result<()> {
    while let ReadChunkResult::Chunk(mut chunk) = entry.read_chunk()? {
        record.clear();
        chunk.read_to_end(record)?;
        if !chunk.check_crc()? {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a chunk fails its CRC"));
        }
        tally.add(record);
    }
    Ok(())
}
