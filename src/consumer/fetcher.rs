//! From positions to records: which batches are next, and where in them the records lie.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use crate::config::{Start, Visibility};
use crate::error::{Damage, Error, Result};
use crate::group::offsets::Commit;
use crate::log::{Cursor, Fetched, Log};
use crate::partition::Partition;
use crate::record::{RawHeaders, RecordView};
use crate::topic::Topic;
use crate::types::{Offset, PartitionId, Timestamp, TopicId, TopicPartition};

/// How much one poll lends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) records: usize,
    pub(crate) bytes: usize,
}

/// The partitions of one consumer, and what was fetched last.
pub(crate) struct Fetcher {
    assigned: Vec<Assigned>,
    visibility: Visibility,
    limits: Limits,
    /// The partition whose turn it is.
    turn: usize,
    batches: Vec<Lent>,
    entries: Vec<Entry>,
    skipped: Vec<Damage>,
    /// The partitions whose positions the last fetch has moved, by place in `assigned`.
    touched: BTreeSet<usize>,
}

/// A partition and the place in it.
struct Assigned {
    topic: Topic,
    partition: Arc<Partition>,
    cursor: Cursor,
    /// The next offset to be lent.
    position: Offset,
    /// A batch that was fetched and is not yet lent to its end.
    rest: Option<Fetched>,
}

/// A batch of which records are lent.
struct Lent {
    fetched: Fetched,
    /// Its place in `assigned`.
    from: usize,
}

/// Where a record lies in its batch: numbers, so that it can be kept beside the batch that it borrows from.
#[derive(Clone, Copy)]
struct Entry {
    offset: Offset,
    timestamp: Timestamp,
    batch: u32,
    headers_count: u32,
    key: Place,
    value: Place,
    headers: Place,
}

/// A slice of a batch.
#[derive(Clone, Copy)]
struct Place {
    start: u32,
    len: u32,
}

/// The slice that is not there: a null key or value.
const NULL: Place = Place { start: u32::MAX, len: 0 };

impl Place {
    fn of(part: Option<&[u8]>, whole: &[u8]) -> Self {
        let Some(part) = part else { return NULL };
        // Both are addresses within one batch, which is at most 1 GiB.
        let start = part.as_ptr().addr().saturating_sub(whole.as_ptr().addr()) as u32;
        Self { start, len: part.len() as u32 }
    }

    fn get(self, whole: &[u8]) -> Option<&[u8]> {
        let Range { start, end } = self.start as usize..self.start as usize + self.len as usize;
        whole.get(start..end)
    }
}

impl Fetcher {
    pub(crate) fn new(visibility: Visibility, limits: Limits) -> Self {
        Self {
            assigned: Vec::new(),
            visibility,
            limits,
            turn: 0,
            batches: Vec::new(),
            entries: Vec::new(),
            skipped: Vec::new(),
            touched: BTreeSet::new(),
        }
    }

    /// Adds a partition, to be read from where the group has come to, or from `start` where it has not been.
    ///
    /// # Errors
    /// [`Error::OffsetOutOfRange`] for a start that the log does not have. A committed offset that it no longer has
    /// is told by the first poll: there a `seek` can answer it.
    pub(crate) fn assign(
        &mut self,
        topic: &Topic,
        partition: PartitionId,
        committed: Option<Offset>,
        start: Start,
    ) -> Result<()> {
        let partition = Arc::clone(topic.partition(partition)?);
        let log = partition.log();
        let position = match (committed, start) {
            (Some(offset), _) => offset,
            (None, Start::Earliest) => log.start(),
            (None, Start::Latest) => log.visible_end(self.visibility),
            (None, Start::Offset(offset)) => within(log, offset)?,
            (None, Start::Timestamp(time)) => log.offset_for_time(time, self.visibility)?,
        };
        let cursor = Cursor::new(Arc::clone(log), position);
        self.assigned.push(Assigned { topic: topic.clone(), partition, cursor, position, rest: None });
        Ok(())
    }

    pub(crate) fn visibility(&self) -> Visibility {
        self.visibility
    }

    /// The partitions whose news are to be waited for.
    pub(crate) fn news(&self) -> Vec<Arc<Partition>> {
        self.assigned.iter().map(|assigned| Arc::clone(&assigned.partition)).collect()
    }

    /// Whether a fetch would find something, or say that there never will be.
    pub(crate) fn has_news(&self) -> bool {
        let visible = |assigned: &Assigned| assigned.partition.log().visible_end(self.visibility);
        self.assigned
            .iter()
            .any(|assigned| assigned.position < visible(assigned) || assigned.topic.home().check_open().is_err())
    }

    /// Fetches what is next into `batches` and `entries`, and moves the positions on. Whether there was anything.
    pub(crate) fn fetch(&mut self) -> Result<bool> {
        self.batches.clear();
        self.entries.clear();
        self.skipped.clear();
        self.touched.clear();
        let mut bytes = 0;
        for _ in 0..self.assigned.len() {
            let at = self.turn;
            self.turn = (self.turn + 1) % self.assigned.len();
            self.assigned[at].topic.home().check_open()?;
            if let Err(error) = self.fetch_from(at, &mut bytes) {
                // What other partitions gave is lent first; this one says it again when it is alone in saying.
                if self.entries.is_empty() && self.skipped.is_empty() {
                    return Err(error);
                }
                self.turn = at;
                break;
            }
            if self.entries.len() >= self.limits.records || bytes >= self.limits.bytes {
                break;
            }
        }
        Ok(!self.entries.is_empty() || !self.skipped.is_empty())
    }

    fn fetch_from(&mut self, at: usize, bytes: &mut usize) -> Result<()> {
        let assigned = &mut self.assigned[at];
        let visible = assigned.partition.log().visible_end(self.visibility);
        while self.entries.len() < self.limits.records && *bytes < self.limits.bytes {
            let fetched = match assigned.rest.take() {
                Some(rest) => rest,
                None => {
                    let fetched = assigned.cursor.next(visible);
                    for damage in assigned.cursor.take_skipped() {
                        assigned.partition.count_skipped(damage.to - damage.from);
                        assigned.position = assigned.position.max(damage.to);
                        self.skipped.push(damage);
                        self.touched.insert(at);
                    }
                    match fetched? {
                        Some(fetched) => fetched,
                        None => return Ok(()),
                    }
                }
            };
            let room = self.limits.records - self.entries.len();
            let batch = self.batches.len() as u32;
            match lend(assigned, &fetched, batch, room, &mut self.entries) {
                Ok(()) => {}
                Err(error) => {
                    // The position has not moved: it is said again at the next poll.
                    assigned.cursor.seek(assigned.position);
                    return Err(error);
                }
            }
            *bytes += fetched.len();
            if assigned.position < fetched.end_offset() {
                assigned.rest = Some(fetched.clone());
            }
            self.batches.push(Lent { fetched, from: at });
            self.touched.insert(at);
        }
        Ok(())
    }

    /// How many records are lent.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// A record that is lent, and where it came from.
    pub(crate) fn record(&self, index: usize) -> Option<(RecordView<'_>, &Topic, PartitionId)> {
        let entry = self.entries.get(index)?;
        let lent = &self.batches[entry.batch as usize];
        let whole = lent.fetched.bytes();
        let view = RecordView {
            offset: entry.offset,
            timestamp: entry.timestamp,
            key: entry.key.get(whole),
            value: entry.value.get(whole),
            headers: RawHeaders { count: entry.headers_count, bytes: entry.headers.get(whole).unwrap_or_default() },
        };
        let assigned = &self.assigned[lent.from];
        Some((view, &assigned.topic, assigned.partition.name().partition))
    }

    /// Damage that was passed over on the way to what is lent.
    pub(crate) fn skipped(&self) -> &[Damage] {
        &self.skipped
    }

    /// How far the partitions have come of which something is lent, or was passed over.
    pub(crate) fn lent(&self) -> impl Iterator<Item = Commit> {
        self.touched.iter().map(|at| {
            let Assigned { topic, partition, position, .. } = &self.assigned[*at];
            Commit { topic: topic.id(), partition: partition.name().partition, offset: *position }
        })
    }

    /// The logs of which something is lent, and how far.
    pub(crate) fn lent_logs(&self) -> impl Iterator<Item = (&Arc<Partition>, Offset)> {
        let assigned = self.touched.iter().map(|at| &self.assigned[*at]);
        assigned.map(|assigned| (&assigned.partition, assigned.position))
    }

    pub(crate) fn seek(&mut self, partition: &TopicPartition, offset: Offset) -> Result<()> {
        let found = self.assigned.iter_mut().find(|assigned| assigned.partition.name() == partition);
        let assigned = found.ok_or_else(|| Error::NotAssigned { partition: partition.clone() })?;
        assigned.position = within(assigned.partition.log(), offset)?;
        assigned.cursor.seek(offset);
        assigned.rest = None;
        Ok(())
    }

    pub(crate) fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        self.find(partition).map(|assigned| assigned.position)
    }

    pub(crate) fn positions(&self) -> Vec<(TopicPartition, Offset)> {
        self.assigned.iter().map(|assigned| (assigned.partition.name().clone(), assigned.position)).collect()
    }

    pub(crate) fn topic_of(&self, partition: &TopicPartition) -> Option<TopicId> {
        self.find(partition).map(|assigned| assigned.topic.id())
    }

    pub(crate) fn lag(&self) -> u64 {
        self.assigned.iter().map(|assigned| self.lag_of(assigned)).sum()
    }

    pub(crate) fn partition_lag(&self, partition: &TopicPartition) -> Option<u64> {
        self.find(partition).map(|assigned| self.lag_of(assigned))
    }

    fn lag_of(&self, assigned: &Assigned) -> u64 {
        assigned.partition.log().visible_end(self.visibility).saturating_sub(assigned.position)
    }

    fn find(&self, partition: &TopicPartition) -> Option<&Assigned> {
        self.assigned.iter().find(|assigned| assigned.partition.name() == partition)
    }
}

/// Notes where the batch's records lie, from the position on, and moves the position behind them.
fn lend(assigned: &mut Assigned, fetched: &Fetched, batch: u32, room: usize, entries: &mut Vec<Entry>) -> Result<()> {
    let log = assigned.partition.log();
    let before = (entries.len(), assigned.position);
    let whole = fetched.bytes();
    for record in fetched.batch()?.records_from(assigned.position).take(room) {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                (_, assigned.position) = before;
                entries.truncate(before.0);
                return Err(log.unreadable(fetched, error));
            }
        };
        entries.push(Entry {
            offset: record.offset,
            timestamp: record.timestamp,
            batch,
            headers_count: record.headers.count,
            key: Place::of(record.key, whole),
            value: Place::of(record.value, whole),
            headers: Place::of(Some(record.headers.bytes), whole),
        });
        assigned.position = record.offset + 1;
    }
    if entries.len() - before.0 < room {
        // Read to its end, which may lie behind its last record.
        assigned.position = fetched.end_offset();
    }
    Ok(())
}

fn within(log: &Log, offset: Offset) -> Result<Offset> {
    let (first, end) = (log.start(), log.end());
    if (first..=end).contains(&offset) {
        return Ok(offset);
    }
    Err(Error::OffsetOutOfRange { partition: log.partition().clone(), offset, first, end })
}
