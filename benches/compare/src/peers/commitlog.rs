//! commitlog: segments written with `write`, an index entry per message in a growing map.

use std::ops::ControlFlow;
use std::path::Path;

use commitlog::message::{MessageBuf, MessageSet};
use commitlog::{CommitLog, LogOptions, Offset, ReadLimit};
use parking_lot::RwLock;

use crate::harness::{Batch, Calls, Card, Level, Log, Peer, Producer, Result, Synced, Tally, Watch};

pub(crate) struct Commitlog;

/// Bytes asked for in one read; the crate's own bulk example takes 10 KiB, more is faster.
const READ_BYTES: usize = 256 << 10;

impl Peer for Commitlog {
    /// `append` takes `&mut self`, `read` takes `&self`: the lock that its users write around it.
    type Log = RwLock<CommitLog>;

    fn card(&self) -> Card {
        Card {
            name: "commitlog",
            package: "commitlog",
            check: "CRC-32C, written + read",
            appended: Some("page cache: one write(2) per call"),
            synced: Synced::Never(
                "`flush` is std's `File::flush`, which does nothing; only whole index pages are msynced",
            ),
            batch_loops: &[],
            follows: true,
            returns_early: false,
            notes: &[
                "one lock around the log; a follower polls and shares that lock",
                "an index entry for every message; opening trusts it, verifies nothing, and repairs nothing after a \
                 crash between segment and index",
            ],
        }
    }

    fn open(&self, dir: &Path, level: Level, _calls: Calls) -> Result<Self::Log> {
        if level == Level::Synced {
            return Err("commitlog has no sync".into());
        }
        Ok(RwLock::new(CommitLog::new(LogOptions::new(dir))?))
    }
}

impl Log for RwLock<CommitLog> {
    type Producer<'a> = Appender<'a>;

    fn producer(&self) -> Result<Appender<'_>> {
        Ok(Appender { log: self, messages: MessageBuf::default() })
    }

    fn read_all(&self, tally: &mut Tally) -> Result<()> {
        let log = self.read();
        let mut next = 0;
        while read_some(&log, &mut next, |record| {
            tally.add(record);
            ControlFlow::Continue(())
        })?
        .is_some()
        {}
        Ok(())
    }

    fn follow(&self, watch: &mut Watch) -> Result<()> {
        let mut next = 0;
        loop {
            let seen = read_some(&self.read(), &mut next, |record| watch.saw(record))?;
            let go_on = seen.unwrap_or_else(|| watch.idle());
            if go_on == ControlFlow::Break(()) {
                return Ok(());
            }
        }
    }
}

/// Hands on what one read gives; `None` at the log's end.
fn read_some(
    log: &CommitLog,
    next: &mut Offset,
    mut seen: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<Option<ControlFlow<()>>> {
    let messages = log.read(*next, ReadLimit::max_bytes(READ_BYTES))?;
    if messages.is_empty() {
        return Ok(None);
    }
    for message in messages.iter() {
        *next = message.offset() + 1;
        if seen(message.payload()) == ControlFlow::Break(()) {
            return Ok(Some(ControlFlow::Break(())));
        }
    }
    Ok(Some(ControlFlow::Continue(())))
}

pub(crate) struct Appender<'a> {
    log: &'a RwLock<CommitLog>,
    /// Encoded and checksummed outside the lock, kept to spare the allocation.
    messages: MessageBuf,
}

impl Appender<'_> {
    fn push(&mut self, record: &[u8]) -> Result<()> {
        self.messages.push(record).map_err(|error| format!("commitlog cannot encode the record: {error:?}"))?;
        Ok(())
    }

    fn append(&mut self) -> Result<()> {
        self.log.write().append(&mut self.messages)?;
        self.messages.clear();
        Ok(())
    }
}

impl Producer for Appender<'_> {
    fn send(&mut self, record: &[u8]) -> Result<()> {
        self.push(record)?;
        self.append()
    }

    fn send_batch(&mut self, batch: Batch<'_>) -> Result<()> {
        batch.records().try_for_each(|record| self.push(record))?;
        self.append()
    }
}
