//! A look at what a crash left: opens it as a program would, reads everything, and holds it against the model.

use std::time::Duration;

use headwater::fs::Simulated;
use headwater::time::Clock;
use headwater::{Broker, Ended, Error, Start, Timestamp, Topic, TopicPartition, Visibility};

use crate::model::{Loss, Model};

pub(crate) const DIR: &str = "/data";
pub(crate) const TOPIC: &str = "orders";
pub(crate) const GROUP: &str = "billing";

/// What was found, still open.
pub(crate) struct Found {
    pub(crate) broker: Broker,
    /// `None` where the crash took the topic's creation back.
    pub(crate) topic: Option<Topic>,
    /// Where each partition ends.
    pub(crate) ends: Vec<u64>,
    /// How far the group is, by partition; empty where the model has no group.
    pub(crate) committed: Vec<Option<u64>>,
}

/// Opens a broker on a simulated machine: no thread, no clock but ours, the whole disk to itself.
pub(crate) fn open(fs: &Simulated) -> Result<Broker, Error> {
    let clock = Clock::manual(Timestamp(1_700_000_000_000));
    Broker::builder().fs(fs.clone()).data_dir(DIR).clock(clock).min_free_bytes(0).open()
}

/// Opens what is there, reads all of it and checks it.
pub(crate) fn look(fs: &Simulated, model: &Model, loss: Loss) -> Result<Found, String> {
    let broker = open(fs).map_err(|error| format!("the broker does not open: {error}"))?;
    let topic = match broker.topic(TOPIC).open() {
        Err(Error::UnknownTopic { .. }) if !model.exists => {
            return Ok(Found { broker, topic: None, ends: Vec::new(), committed: Vec::new() });
        }
        opened => opened.map_err(|error| format!("the topic does not open: {error}"))?,
    };
    check_reports(&topic, loss)?;
    let ends = read(&topic, model, Visibility::Committed)?;
    for (partition, end) in ends.iter().enumerate() {
        let at = |problem| format!("partition {partition}: {problem}");
        let published = topic.offsets(partition as u32).map_err(|error| error.to_string())?.end;
        if published != *end {
            return Err(at(format!("reading ended at {end}, the log says {published}")));
        }
        model.partitions[partition].check_end(*end, loss).map_err(at)?;
    }
    let mut committed = Vec::new();
    if model.has_group {
        committed = find_commits(&broker, &topic)?;
        for (partition, found) in committed.iter().enumerate() {
            let checked = model.partitions[partition].check_commit(*found, ends[partition], loss);
            checked.map_err(|problem| format!("partition {partition}: {problem}"))?;
        }
    }
    Ok(Found { broker, topic: Some(topic), ends, committed })
}

/// Reads a topic from its first record to its last, checks each, and returns where each partition ended.
pub(crate) fn read(topic: &Topic, model: &Model, visibility: Visibility) -> Result<Vec<u64>, String> {
    let refused = |error: Error| format!("reading failed: {error}");
    let mut ends = vec![0; model.partitions.len()];
    let consumer = topic.consumer(Start::Earliest).visibility(visibility).max_poll_records(10_000);
    let mut consumer = consumer.build().map_err(refused)?;
    while let Some(batch) = consumer.poll(Duration::ZERO).map_err(refused)? {
        if !batch.skipped().is_empty() {
            return Err(format!("damage was passed over: {:?}", batch.skipped()));
        }
        for record in &batch {
            let partition = record.partition() as usize;
            if record.offset() != ends[partition] {
                return Err(format!("partition {partition}: offset {} after {}", record.offset(), ends[partition]));
            }
            let checked = model.partitions[partition].check_record(record.offset(), record.key(), record.value());
            checked.map_err(|problem| format!("partition {partition}: {problem}"))?;
            ends[partition] += 1;
        }
    }
    Ok(ends)
}

fn check_reports(topic: &Topic, loss: Loss) -> Result<(), String> {
    for (report, metrics) in topic.recovery().zip(topic.metrics()) {
        let is_plausible = match report.ended {
            Ended::New | Ended::Closed => report.torn.is_none(),
            Ended::ProcessDied => loss != Loss::Power,
            Ended::MachineDied => loss != Loss::Process,
            _ => true,
        };
        if !is_plausible || !report.skipped.is_empty() || report.end_offset != metrics.log_end {
            return Err(format!("a report that cannot be, after {loss:?}: {report:?} with {metrics:?}"));
        }
        // What is read now must not be taken back by the next power cut.
        if (loss == Loss::Power || report.ended == Ended::MachineDied) && metrics.durable_end != metrics.log_end {
            return Err(format!("what was recovered is not durable: {metrics:?}"));
        }
    }
    Ok(())
}

fn find_commits(broker: &Broker, topic: &Topic) -> Result<Vec<Option<u64>>, String> {
    let consumer = broker.consumer(GROUP, Start::Earliest).topics([TOPIC]).build();
    let consumer = consumer.map_err(|error| format!("the group cannot be joined: {error}"))?;
    let name = |partition| TopicPartition { topic: topic.name().clone(), partition };
    Ok((0..topic.config().partitions).map(|partition| consumer.committed(&name(partition))).collect())
}
