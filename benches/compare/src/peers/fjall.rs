//! fjall: an LSM store; a log is a keyspace whose keys are big-endian sequence numbers.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::harness::{Batch, Calls, Card, Level, Log, Peer, Producer, Result, Synced, Tally, Watch};

pub(crate) struct Fjall;

impl Peer for Fjall {
    type Log = FjallLog;

    fn card(&self) -> Card {
        Card {
            name: "fjall",
            package: "fjall",
            check: "XXH3, written + read",
            appended: Some("page cache: one write(2) per call"),
            synced: Synced::By("fdatasync under the journal's lock"),
            batch_loops: &[],
            follows: true,
            returns_early: false,
            notes: &[
                "a key-value store: it also sorts, indexes and compacts, and writes each record at least twice",
                "a follower polls with a new range scan",
                "default settings",
            ],
        }
    }

    fn open(&self, dir: &Path, level: Level, _calls: Calls) -> Result<FjallLog> {
        let database = Database::builder(dir).open()?;
        let records = database.keyspace("log", KeyspaceCreateOptions::default)?;
        let next = match records.last_key_value() {
            Some(last) => u64::from_be_bytes(last.key()?.as_ref().try_into()?) + 1,
            None => 0,
        };
        Ok(FjallLog { database, records, next: AtomicU64::new(next), level })
    }
}

pub(crate) struct FjallLog {
    database: Database,
    records: Keyspace,
    /// The key of the next record.
    next: AtomicU64,
    level: Level,
}

impl FjallLog {
    fn next_key(&self) -> [u8; 8] {
        // Relaxed: only distinct keys are asked of it; fjall's own lock orders the writes.
        self.next.fetch_add(1, Ordering::Relaxed).to_be_bytes()
    }
}

impl Log for FjallLog {
    type Producer<'a> = &'a FjallLog;

    fn producer(&self) -> Result<&FjallLog> {
        Ok(self)
    }

    fn read_all(&self, tally: &mut Tally) -> Result<()> {
        for record in self.records.iter() {
            tally.add(&record.value()?);
        }
        Ok(())
    }

    fn follow(&self, watch: &mut Watch) -> Result<()> {
        let mut next = 0_u64;
        loop {
            let from = next;
            for record in self.records.range(from.to_be_bytes()..) {
                next += 1;
                if watch.saw(&record.value()?) == ControlFlow::Break(()) {
                    return Ok(());
                }
            }
            if next == from && watch.idle() == ControlFlow::Break(()) {
                return Ok(());
            }
        }
    }
}

impl Producer for &FjallLog {
    fn send(&mut self, record: &[u8]) -> Result<()> {
        self.records.insert(self.next_key(), record)?;
        match self.level {
            Level::Appended => Ok(()),
            Level::Synced => Ok(self.database.persist(PersistMode::SyncData)?),
        }
    }

    fn send_batch(&mut self, batch: Batch<'_>) -> Result<()> {
        let mode = match self.level {
            Level::Appended => PersistMode::Buffer,
            Level::Synced => PersistMode::SyncData,
        };
        let mut writes = self.database.batch().durability(Some(mode));
        for record in batch.records() {
            writes.insert(&self.records, self.next_key(), record);
        }
        Ok(writes.commit()?)
    }
}
