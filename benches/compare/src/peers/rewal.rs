//! rewal: a queue in memory, drained by one writer thread into one file.

use std::path::Path;

use rewal::{SyncMode, Wal};

use crate::harness::{Batch, Calls, Card, Level, Log, Peer, Producer, Result, Synced, Tally};

pub(crate) struct Rewal;

impl Peer for Rewal {
    type Log = RewalLog;

    fn card(&self) -> Card {
        Card {
            name: "rewal",
            package: "rewal",
            check: "CRC-32C, written + read",
            appended: Some("a queue in the process's memory: SIGKILL loses it"),
            synced: Synced::By("fsync by the writer thread, shared by waiting threads"),
            batch_loops: &[],
            follows: false,
            returns_early: false,
            notes: &[
                "A counts until its queue is drained into the file",
                "B is `SyncMode::Batch`, `append`, `flush`; its flush returns also when the write or fsync has failed",
                "one file for ever: no segments, no retention; opening checks all of it",
                "a reader sees the file as it was when the reader was made, from the start: no following",
            ],
        }
    }

    fn open(&self, dir: &Path, level: Level, _calls: Calls) -> Result<RewalLog> {
        let mode = match level {
            Level::Appended => SyncMode::Never,
            Level::Synced => SyncMode::Batch,
        };
        Ok(RewalLog { wal: Wal::open(dir.join("log.wal")).sync_mode(mode).build()?, level })
    }
}

pub(crate) struct RewalLog {
    wal: Wal,
    level: Level,
}

impl RewalLog {
    /// Waits for the writer thread, which has synced before it answers, if the log was opened so.
    fn await_level(&self) -> Result<()> {
        match self.level {
            Level::Appended => Ok(()),
            Level::Synced => Ok(self.wal.flush()?),
        }
    }
}

impl Log for RewalLog {
    type Producer<'a> = &'a RewalLog;

    fn producer(&self) -> Result<&RewalLog> {
        Ok(self)
    }

    fn settle(&self) -> Result<()> {
        Ok(self.wal.flush()?)
    }

    fn read_all(&self, tally: &mut Tally) -> Result<()> {
        let mut events = self.wal.iterator(0)?;
        while let Some(event) = events.next_borrowed()? {
            tally.add(event.payload);
        }
        Ok(())
    }
}

impl Producer for &RewalLog {
    fn send(&mut self, record: &[u8]) -> Result<()> {
        self.wal.append(record)?;
        self.await_level()
    }

    fn send_batch(&mut self, batch: Batch<'_>) -> Result<()> {
        let mut events = rewal::Batch::with_capacity(batch.len());
        batch.records().for_each(|record| events.add(record));
        self.wal.append_batch(events)?;
        self.await_level()
    }
}
