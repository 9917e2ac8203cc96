//! khata-rs: Chronicle Queue's idea: one mapped file per day, stores through the map.

use std::ops::ControlFlow;
use std::path::Path;

use khata_rs::{Queue, Writer};
use parking_lot::Mutex;

use crate::harness::{Batch, Calls, Card, Level, Log, Peer, Producer, Result, Synced, Tally, Watch};

pub(crate) struct Khata;

/// The whole of a day: a full file refuses appends until midnight. Sparse, so only what is written counts.
const FILE_BYTES: usize = 8 << 30;

impl Peer for Khata {
    type Log = KhataLog;

    fn card(&self) -> Card {
        Card {
            name: "khata-rs",
            package: "khata-rs",
            check: "CRC-16, written; never checked by its reader",
            appended: Some("page cache, through the map"),
            synced: Synced::By("msync of the whole map"),
            batch_loops: &[Level::Appended, Level::Synced],
            follows: true,
            returns_early: false,
            notes: &[
                "one file a day with a size fixed beforehand (here 8 GiB): a full one refuses until midnight",
                "one producer by design: more share a lock around `write`; syncs run outside it",
                "CRC-16 is off by default and on here; the queue's reader does not look at it",
                "recovery walks every record's header",
            ],
        }
    }

    fn open(&self, dir: &Path, level: Level, _calls: Calls) -> Result<KhataLog> {
        let queue = Queue::new(dir).block_size(FILE_BYTES).checksums(true).build()?;
        // The queue lives as long as the cell's process. Closing it would sync gigabytes that nobody waits for.
        let queue = Box::leak(Box::new(queue));
        // A first writer opens the file: threads that did so at once would get a mapping and a tail each.
        std::mem::forget(queue.writer()?);
        Ok(KhataLog { queue, pen: Mutex::new(()), level })
    }
}

pub(crate) struct KhataLog {
    queue: &'static Queue,
    /// Held while a record is written: the store takes one writer at a time.
    pen: Mutex<()>,
    level: Level,
}

impl Log for KhataLog {
    type Producer<'a> = Appender<'a>;

    fn producer(&self) -> Result<Appender<'_>> {
        // Leaked as the queue is: dropping a writer syncs the whole map.
        Ok(Appender { log: self, writer: Box::leak(Box::new(self.queue.writer()?)) })
    }

    fn read_all(&self, tally: &mut Tally) -> Result<()> {
        let mut reader = self.queue.reader()?;
        reader.rewind()?;
        while let Some(record) = reader.read()? {
            tally.add(record);
        }
        Ok(())
    }

    fn follow(&self, watch: &mut Watch) -> Result<()> {
        let mut reader = self.queue.reader()?;
        reader.rewind()?;
        loop {
            let go_on = match reader.read()? {
                Some(record) => watch.saw(record),
                None => watch.idle(),
            };
            if go_on == ControlFlow::Break(()) {
                return Ok(());
            }
        }
    }
}

pub(crate) struct Appender<'a> {
    log: &'a KhataLog,
    writer: &'static mut Writer<'static>,
}

impl Appender<'_> {
    fn await_level(&self) -> Result<()> {
        match self.log.level {
            Level::Appended => Ok(()),
            Level::Synced => Ok(self.writer.flush()?),
        }
    }
}

impl Producer for Appender<'_> {
    fn send(&mut self, record: &[u8]) -> Result<()> {
        let pen = self.log.pen.lock();
        self.writer.write(record)?;
        drop(pen);
        self.await_level()
    }

    fn send_batch(&mut self, batch: Batch<'_>) -> Result<()> {
        // Its store has a batch call, its queue has none: the queue is what rolls from day to day.
        let pen = self.log.pen.lock();
        for record in batch.records() {
            self.writer.write(record)?;
        }
        drop(pen);
        self.await_level()
    }
}
