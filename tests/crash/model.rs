//! The oracle: what was sent, what was acked, and what must therefore be found. It knows offsets and bytes, and
//! nothing of files, frames or syncs.
//!
//! One thread writes, so that the order of a partition is known before the store says it: a record that is sent has
//! the offset of its place in [`Partition::sent`]. What a crash may leave is then a beginning of that list: at least
//! up to what was acked, and never half a batch.

use std::sync::Arc;

use headwater::PartitionId;

use crate::random::Random;

/// What stands between a write and the look at what it left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Loss {
    /// The machine lost power.
    Power,
    /// The process ended in whatever way; the machine ran on.
    Process,
    /// The process ended while it was putting right what a power cut had left.
    Both,
}

/// A record as it was handed to a producer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Sent {
    /// The session that wrote it, and its number in all sessions: no two records have the same.
    pub(crate) key: [u8; 12],
    pub(crate) value: Arc<[u8]>,
    /// Records with the same number were sent as one batch.
    pub(crate) batch: u64,
}

impl Sent {
    pub(crate) fn writer(&self) -> u32 {
        writer_of(&self.key)
    }
}

/// The session that wrote the record with this key.
pub(crate) fn writer_of(key: &[u8]) -> u32 {
    key.first_chunk().map_or(u32::MAX, |writer| u32::from_be_bytes(*writer))
}

/// What a group has committed in one partition.
#[derive(Clone, Default, Debug)]
pub(crate) struct Commits {
    /// What must outlive a power cut.
    pub(crate) synced: Option<u64>,
    /// What must outlive the process.
    pub(crate) appended: Option<u64>,
    /// What was tried since `synced`: any of it may be found.
    pub(crate) tried: Vec<u64>,
}

/// One partition.
#[derive(Clone, Default, Debug)]
pub(crate) struct Partition {
    /// By offset; the last ones may be on their way.
    pub(crate) sent: Vec<Sent>,
    /// The end of what was acked at `Appended` or better.
    pub(crate) appended: u64,
    /// The end of what was acked at `Synced`, read with `Visibility::Durable`, or published as durable.
    pub(crate) synced: u64,
    /// A call failed so that its record may or may not be in the log: nothing may be acked any more.
    pub(crate) is_fenced: bool,
    pub(crate) commits: Commits,
}

/// One topic and one group.
#[derive(Clone, Default, Debug)]
pub(crate) struct Model {
    /// Whether the topic's creation was acked.
    pub(crate) exists: bool,
    pub(crate) partitions: Vec<Partition>,
    pub(crate) has_group: bool,
    writer: u32,
    numbers: u64,
    batches: u64,
}

impl Model {
    pub(crate) fn new(partitions: u32, has_group: bool) -> Self {
        Self { partitions: vec![Partition::default(); partitions as usize], has_group, ..Self::default() }
    }

    pub(crate) fn at(&mut self, partition: PartitionId) -> &mut Partition {
        &mut self.partitions[partition as usize]
    }

    /// A new session: its records tell themselves from all others.
    pub(crate) fn begin_session(&mut self) {
        self.writer += 1;
        for partition in &mut self.partitions {
            partition.is_fenced = false;
        }
    }

    /// Records about to be sent as one batch, or each by itself; returns them and the first one's offset.
    pub(crate) fn send(&mut self, partition: PartitionId, sizes: &[usize], is_one_batch: bool) -> (u64, Vec<Sent>) {
        let mut sent = Vec::with_capacity(sizes.len());
        for size in sizes {
            self.numbers += 1;
            if !is_one_batch || sent.is_empty() {
                self.batches += 1;
            }
            let mut key = [0; 12];
            key[..4].copy_from_slice(&self.writer.to_be_bytes());
            key[4..].copy_from_slice(&self.numbers.to_be_bytes());
            sent.push(Sent { key, value: value(self.numbers, *size), batch: self.batches });
        }
        let log = &mut self.at(partition).sent;
        let first = log.len() as u64;
        log.extend(sent.iter().cloned());
        (first, sent)
    }

    /// A call said that these records, and all that it sent behind them, are not in the log.
    pub(crate) fn take_back(&mut self, partition: PartitionId, from: u64) {
        self.at(partition).sent.truncate(from as usize);
    }

    /// Of the records from `first` on these are in the log, or may be, and no others.
    pub(crate) fn replace(&mut self, partition: PartitionId, first: u64, kept: Vec<Sent>) {
        let log = &mut self.at(partition).sent;
        log.truncate(first as usize);
        log.extend(kept);
    }

    /// What was found is the log from now on, and safe as far as the store says so.
    pub(crate) fn adopt(&mut self, ends: &[u64], durable: impl Iterator<Item = u64>) {
        self.exists = true;
        for ((partition, end), durable) in self.partitions.iter_mut().zip(ends).zip(durable) {
            partition.sent.truncate(*end as usize);
            partition.appended = *end;
            partition.synced = partition.synced.max(durable);
        }
    }
}

impl Partition {
    /// The end of what must be found.
    pub(crate) fn required(&self, loss: Loss) -> u64 {
        match loss {
            Loss::Power | Loss::Both => self.synced,
            // What the cache said after a failed sync is not believed.
            Loss::Process if self.is_fenced => self.synced,
            Loss::Process => self.appended.max(self.synced),
        }
    }

    /// Whether a record that was found is the one that was sent.
    pub(crate) fn check_record(&self, offset: u64, key: Option<&[u8]>, value: &[u8]) -> Result<(), String> {
        let Some(sent) = usize::try_from(offset).ok().and_then(|offset| self.sent.get(offset)) else {
            return Err(format!("offset {offset} was never sent; {} records were", self.sent.len()));
        };
        if key != Some(&sent.key) {
            let found = key.map(writer_of);
            return Err(format!("offset {offset} holds a record of writer {found:?}, not {}'s", sent.writer()));
        }
        if *value != *sent.value {
            return Err(format!("offset {offset} has other bytes than were sent ({} of them)", sent.value.len()));
        }
        Ok(())
    }

    /// Whether the log may end at `end`.
    pub(crate) fn check_end(&self, end: u64, loss: Loss) -> Result<(), String> {
        let required = self.required(loss);
        if end < required {
            return Err(format!("the log ends at {end}, but everything below {required} was promised ({loss:?})"));
        }
        let (last, next) = (end.checked_sub(1).map(|last| &self.sent[last as usize]), self.sent.get(end as usize));
        if let (Some(last), Some(next)) = (last, next)
            && last.batch == next.batch
        {
            return Err(format!("the log ends at {end}, inside a batch"));
        }
        Ok(())
    }

    /// Whether a group may be found there.
    pub(crate) fn check_commit(&self, found: Option<u64>, end: u64, loss: Loss) -> Result<(), String> {
        let Commits { synced, appended, tried } = &self.commits;
        let is_all_there = loss == Loss::Process && !self.is_fenced;
        let must = if is_all_there { appended } else { synced };
        let newest = found == *must || found.is_some_and(|found| tried.contains(&found));
        // What was tried before the newest that is safe is older, and must not come back.
        let is_back = is_all_there && found < *appended;
        if !newest || is_back {
            return Err(format!("the group is found at {found:?}, not {must:?} or one of {tried:?} ({loss:?})"));
        }
        if found.is_some_and(|found| found > end) {
            return Err(format!("the group is found at {found:?}, beyond the end of the log, {end}"));
        }
        Ok(())
    }
}

impl Commits {
    pub(crate) fn adopt(&mut self, found: Option<u64>, loss: Loss) {
        self.appended = found;
        if loss == Loss::Power {
            self.synced = found;
            self.tried.clear();
        } else {
            self.tried.extend(found);
        }
    }
}

/// The bytes of a record: no two records have the same, from the first eight on.
fn value(number: u64, size: usize) -> Arc<[u8]> {
    let mut random = Random::new(number);
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(size);
    bytes.into()
}
