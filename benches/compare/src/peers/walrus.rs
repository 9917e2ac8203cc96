//! walrus-rust: 10 MiB blocks in 1000 MiB files, a 64-byte header per entry, `pwrite` and io_uring.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use walrus_rust::{Entry, FsyncSchedule, ReadConsistency, Walrus};

use crate::harness::{Batch, Calls, Card, Level, Log, Peer, Producer, Result, Synced, Tally, Watch};

pub(crate) struct WalrusRust;

const TOPIC: &str = "log";
/// A batch read returns at most so many entries, however many bytes were asked for (and read).
const READ_ENTRIES_MAX: usize = 2000;
/// The header before each entry.
const PREFIX_BYTES: usize = 64;
/// Enough to see one entry and learn its length.
const PEEK_BYTES: usize = 64 << 10;

impl Peer for WalrusRust {
    type Log = WalrusLog;

    fn card(&self) -> Card {
        Card {
            name: "walrus-rust",
            package: "walrus-rust",
            check: "FNV-1a 64, written + read",
            appended: Some("page cache: one pwrite(2) per record"),
            synced: Synced::By("O_SYNC and fsync (single), fsync (batch)"),
            batch_loops: &[Level::Appended],
            follows: true,
            returns_early: false,
            notes: &[
                "`SyncEach` for B one by one, `NoFsync` for all else; the append that fills a 10 MiB block fsyncs it",
                "its batch call always syncs and sets up an io_uring each time: A loops over single appends instead",
                "errors and short counts of its pwrite are ignored",
                "its batch read can skip the rest of a block; the adapter asks for byte counts at which it does not",
                "a 100 B record takes 164 B; opening reads and checks everything",
            ],
        }
    }

    fn open(&self, dir: &Path, level: Level, calls: Calls) -> Result<WalrusLog> {
        // It takes its directory from the environment only; the parent process has set it.
        if std::env::var_os("WALRUS_DATA_DIR").is_none_or(|set| set != dir.as_os_str()) {
            return Err("WALRUS_DATA_DIR is not the cell's directory".into());
        }
        let schedule = match (level, calls) {
            (Level::Synced, Calls::Single) => FsyncSchedule::SyncEach,
            // A batch is synced as a whole whatever the schedule; `SyncEach` would also sync each of its entries.
            (Level::Synced, Calls::Batch) | (Level::Appended, _) => FsyncSchedule::NoFsync,
        };
        // `StrictlyAtOnce` would fsync the consumer's position at every read.
        let consistency = ReadConsistency::AtLeastOnce { persist_every: u32::MAX };
        Ok(WalrusLog { walrus: Walrus::with_consistency_and_schedule(consistency, schedule)?, level })
    }
}

pub(crate) struct WalrusLog {
    walrus: Walrus,
    level: Level,
}

impl WalrusLog {
    /// The next entries.
    ///
    /// It asks for the bytes of exactly as many entries as one read returns. Fewer bytes are not safe: a read that
    /// ends inside the last full block goes on at the block being written and never returns what lies between.
    /// (`read_next` is no way out: at the tail it fsyncs its position at every call.)
    fn read_some(&self, record_bytes: &mut usize) -> io::Result<Vec<Entry>> {
        if *record_bytes == 0 {
            let peeked = self.walrus.batch_read_for_topic(TOPIC, PEEK_BYTES, false)?;
            let Some(first) = peeked.first() else { return Ok(Vec::new()) };
            *record_bytes = first.data.len();
        }
        self.walrus.batch_read_for_topic(TOPIC, READ_ENTRIES_MAX * (PREFIX_BYTES + *record_bytes), true)
    }
}

impl Log for WalrusLog {
    type Producer<'a> = &'a WalrusLog;

    fn producer(&self) -> Result<&WalrusLog> {
        Ok(self)
    }

    fn read_all(&self, tally: &mut Tally) -> Result<()> {
        let mut record_bytes = 0;
        loop {
            let entries = self.read_some(&mut record_bytes)?;
            if entries.is_empty() {
                return Ok(());
            }
            entries.iter().for_each(|entry| tally.add(&entry.data));
        }
    }

    fn follow(&self, watch: &mut Watch) -> Result<()> {
        let mut record_bytes = 0;
        loop {
            let entries = self.read_some(&mut record_bytes)?;
            let go_on = if entries.is_empty() {
                watch.idle()
            } else {
                entries.iter().try_for_each(|entry| watch.saw(&entry.data))
            };
            if go_on == ControlFlow::Break(()) {
                return Ok(());
            }
        }
    }
}

impl Producer for &WalrusLog {
    fn send(&mut self, record: &[u8]) -> Result<()> {
        Ok(self.walrus.append_for_topic(TOPIC, record)?)
    }

    fn send_batch(&mut self, batch: Batch<'_>) -> Result<()> {
        // Its batch call always syncs.
        match self.level {
            Level::Appended => batch.records().try_for_each(|record| self.send(record)),
            Level::Synced => {
                let records: Vec<&[u8]> = batch.records().collect();
                Ok(self.walrus.batch_append_for_topic(TOPIC, &records)?)
            }
        }
    }
}
