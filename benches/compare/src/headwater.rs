//! Headwater itself, by its public API only.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use headwater::{Acks, Broker, Record, Start, Topic};

use crate::harness::{Batch, Calls, Card, Level, Log, Peer, Producer, Result, Synced, Tally, Watch};

pub(crate) struct Headwater;

/// Waiting for records that must be there takes no time; at the log's end it says that the end is reached.
const READ_WAIT: Duration = Duration::ZERO;
/// A follower waits so long before it looks at the clock.
const FOLLOW_WAIT: Duration = Duration::from_millis(100);

impl Peer for Headwater {
    type Log = HeadwaterLog;

    fn card(&self) -> Card {
        Card {
            name: crate::report::HEADWATER,
            package: "headwater",
            check: "CRC-32C, written + read",
            appended: Some("page cache"),
            synced: Synced::By("fdatasync, shared by waiting threads"),
            batch_loops: &[],
            follows: true,
            notes: &["one partition; every record carries a timestamp and may carry a key and headers"],
        }
    }

    fn open(&self, dir: &Path, level: Level, _calls: Calls) -> Result<HeadwaterLog> {
        let broker = Broker::open(dir)?;
        let topic = broker.topic("log").partitions(1).open_or_create()?;
        let acks = match level {
            Level::Appended => Acks::Appended,
            Level::Synced => Acks::Synced,
        };
        Ok(HeadwaterLog { broker, topic, acks })
    }
}

pub(crate) struct HeadwaterLog {
    broker: Broker,
    topic: Topic,
    acks: Acks,
}

impl HeadwaterLog {
    fn consumer(&self) -> Result<headwater::Consumer> {
        Ok(self.broker.consumer("reader", Start::Earliest).topics(["log"]).build()?)
    }
}

impl Log for HeadwaterLog {
    type Producer<'a> = headwater::Producer;

    fn producer(&self) -> Result<headwater::Producer> {
        Ok(self.topic.producer()?.acks(self.acks))
    }

    fn read_all(&self, tally: &mut Tally) -> Result<()> {
        let mut consumer = self.consumer()?;
        while let Some(batch) = consumer.poll(READ_WAIT)? {
            for record in &batch {
                tally.add(record.value());
            }
        }
        Ok(())
    }

    fn follow(&self, watch: &mut Watch) -> Result<()> {
        let mut consumer = self.consumer()?;
        loop {
            let go_on = match consumer.poll(FOLLOW_WAIT)? {
                Some(batch) => (&batch).into_iter().try_for_each(|record| watch.saw(record.value())),
                None => watch.idle(),
            };
            if go_on == ControlFlow::Break(()) {
                return Ok(());
            }
        }
    }
}

impl Producer for headwater::Producer {
    fn send(&mut self, record: &[u8]) -> Result<()> {
        headwater::Producer::send(self, Record::new(record)).map_err(|refused| refused.error)?;
        Ok(())
    }

    fn send_batch(&mut self, batch: Batch<'_>) -> Result<()> {
        headwater::Producer::send_batch(self, batch.records().map(Record::new))?;
        Ok(())
    }
}
