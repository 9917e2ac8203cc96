//! Headwater itself, by its public API only.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use headwater::{Acks, Broker, Record, Start, Topic};

use crate::harness::{Batch, Calls, Card, Level, Log, Peer, Producer, Result, Synced, Tally, Watch};

/// Headwater, by one of its two ways to append a single record. Each has its own row.
pub(crate) struct Headwater {
    pub(crate) way: Way,
}

/// When the append call returns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// `send`: when the record is in the log, like every other peer's append.
    Waiting,
    /// `send_nowait`: when the record was taken into an open batch, which is appended when it is full or after its
    /// linger. No other peer's append returns so early but rewal's.
    Nowait,
}

/// Waiting for records that must be there takes no time; at the log's end it says that the end is reached.
const READ_WAIT: Duration = Duration::ZERO;
/// A follower waits so long before it looks at the clock.
const FOLLOW_WAIT: Duration = Duration::from_millis(100);
/// A reader of the whole log asks for as many records at once as 1 MiB, the default of a poll's bytes, may hold.
const READ_RECORDS: usize = 10_000;

impl Peer for Headwater {
    type Log = HeadwaterLog;

    fn card(&self) -> Card {
        let card = Card {
            name: crate::contender::HEADWATER,
            package: "headwater",
            check: "CRC-32C of each batch, CRC-32 of its frame, written + read",
            appended: Some("page cache"),
            synced: Synced::By("fdatasync, shared by waiting threads"),
            batch_loops: &[],
            follows: true,
            returns_early: false,
            notes: &[
                "one partition, default settings; every record carries a timestamp and may carry a key and headers",
                "A includes what a thread of its own syncs meanwhile, at the latest every 32 MiB; no append waits for it",
                "opening checks what lies behind the last note of a sync; a reader checks the rest when it gets there",
            ],
        };
        match self.way {
            Way::Waiting => card,
            Way::Nowait => Card {
                name: "Headwater nowait",
                appended: Some("an open batch in the process's memory: SIGKILL loses it"),
                returns_early: true,
                notes: &[
                    "`send_nowait`, whose tickets nobody waits for; A counts until a flush has appended all of them",
                    "only in A, one by one: a call that returns before its record is in the log is no append for B to E",
                ],
                ..card
            },
        }
    }

    fn open(&self, dir: &Path, level: Level, _calls: Calls) -> Result<HeadwaterLog> {
        let broker = Broker::open(dir)?;
        let topic = broker.topic("log").open_or_create()?;
        let acks = match level {
            Level::Appended => Acks::Appended,
            Level::Synced => Acks::Synced,
        };
        Ok(HeadwaterLog { _broker: broker, topic, acks, way: self.way })
    }
}

pub(crate) struct HeadwaterLog {
    _broker: Broker,
    topic: Topic,
    acks: Acks,
    way: Way,
}

impl Log for HeadwaterLog {
    type Producer<'a> = HeadwaterProducer;

    fn producer(&self) -> Result<HeadwaterProducer> {
        Ok(HeadwaterProducer { producer: self.topic.producer_builder().acks(self.acks).build()?, way: self.way })
    }

    fn read_all(&self, tally: &mut Tally) -> Result<()> {
        let mut consumer = self.topic.consumer(Start::Earliest).max_poll_records(READ_RECORDS).build()?;
        while let Some(batch) = consumer.poll(READ_WAIT)? {
            for record in &batch {
                tally.add(record.value());
            }
        }
        Ok(())
    }

    fn follow(&self, watch: &mut Watch) -> Result<()> {
        let mut consumer = self.topic.consumer(Start::Earliest).build()?;
        loop {
            let go_on = match consumer.poll(FOLLOW_WAIT)? {
                Some(batch) => batch.iter().try_for_each(|record| watch.saw(record.value())),
                None => watch.idle(),
            };
            if go_on == ControlFlow::Break(()) {
                return Ok(());
            }
        }
    }
}

pub(crate) struct HeadwaterProducer {
    producer: headwater::Producer,
    way: Way,
}

impl Producer for HeadwaterProducer {
    fn send(&mut self, record: &[u8]) -> Result<()> {
        let record = Record::new(record);
        match self.way {
            Way::Waiting => {
                self.producer.send(record).map_err(headwater::Error::from)?;
            }
            Way::Nowait => {
                // An error that no ticket is asked for is told by the flush.
                drop(self.producer.send_nowait(record).map_err(headwater::Error::from)?);
            }
        }
        Ok(())
    }

    fn send_batch(&mut self, batch: Batch<'_>) -> Result<()> {
        let records: Vec<Record<'_>> = batch.records().map(Record::new).collect();
        self.producer.send_batch(&records)?;
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        match self.way {
            Way::Waiting => Ok(()),
            Way::Nowait => Ok(self.producer.flush()?),
        }
    }
}
