//! Records of one producer for one partition, encoded as they come and sent together.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::batch::{BatchBuilder, BatchError, HEADER_LEN, encoded_len};
use crate::config::Acks;
use crate::error::{Error, Result};
use crate::log::writer::Appending;
use crate::partition::{Completion, Holder, Lingerer, Partition, Submission};
use crate::record::Record;
use crate::sync::plain::Mutex;
use crate::time::{Clock, Deadline};
use crate::types::Offset;

/// How a producer collects.
#[derive(Clone, Debug)]
pub(crate) struct Collecting {
    pub(crate) acks: Acks,
    pub(crate) linger: Duration,
    /// A batch of this many bytes is sent without waiting for more.
    pub(crate) batch_bytes: usize,
    pub(crate) clock: Clock,
    pub(crate) lingerer: Arc<Lingerer>,
    pub(crate) allows_threads: bool,
}

/// One producer's open batch for one partition.
pub(crate) struct Accumulator {
    partition: Arc<Partition>,
    collecting: Collecting,
    batch_bytes_max: usize,
    /// Guards the open batch, and the order in which batches are submitted: it is held until they are. The pen is
    /// taken under it, never around it.
    open: Mutex<Open>,
}

/// A record was taken.
pub(crate) struct Collected {
    pub(crate) completion: Arc<Completion>,
    pub(crate) index: u32,
    /// A batch was full, with it or before it, and is on its way.
    pub(crate) has_sent: bool,
}

/// A record that was taken: which batch it went into, and as which.
#[derive(Clone)]
pub(crate) struct Receipt {
    pub(crate) accumulator: Arc<Accumulator>,
    pub(crate) completion: Arc<Completion>,
    pub(crate) index: u32,
    pub(crate) acks: Acks,
}

/// The batch that is being filled.
struct Open {
    builder: BatchBuilder,
    /// For the tickets of the records in it; `None` while there are none.
    completion: Option<Arc<Completion>>,
    /// When it is sent without being asked for.
    due: Option<Deadline>,
    /// Whether the linger thread will come by.
    is_scheduled: bool,
    /// Something was sent that others wait for.
    has_news: bool,
    /// Batches that were submitted and may not be appended yet: no more than the partition's queue takes.
    unsettled: Vec<Arc<Completion>>,
    /// The end of what was appended, as far as it was looked at.
    end: Offset,
    /// The first refusal that no flush has told.
    refusal: Option<Error>,
}

impl Accumulator {
    pub(crate) fn new(partition: Arc<Partition>, collecting: Collecting, batch_bytes_max: usize) -> Arc<Self> {
        let open = Open {
            builder: BatchBuilder::new(),
            completion: None,
            due: None,
            is_scheduled: false,
            has_news: false,
            unsettled: Vec::new(),
            end: 0,
            refusal: None,
        };
        let this = Arc::new(Self { partition, collecting, batch_bytes_max, open: Mutex::new(open) });
        this.partition.add_holder(this.as_holder());
        this
    }

    /// Works on the open batch, and then, with it unlocked, tells whoever waits for what was sent.
    fn with_open<R>(&self, work: impl FnOnce(&mut Open) -> R) -> R {
        let (result, has_news) = {
            let mut open = self.open.lock();
            (work(&mut open), std::mem::take(&mut open.has_news))
        };
        if has_news {
            self.partition.tell();
        }
        result
    }

    fn as_holder(self: &Arc<Self>) -> Weak<dyn Holder> {
        // Two steps: the method needs the type that it is called on.
        let weak: Weak<Self> = Arc::downgrade(self);
        weak
    }

    pub(crate) fn partition(&self) -> &Arc<Partition> {
        &self.partition
    }

    /// Appends one record now, behind those that are held.
    ///
    /// # Errors
    /// What is wrong with the record, or as [`Partition::append`]. Either way the record is not in the log.
    pub(crate) fn send(&self, record: &Record<'_>) -> Result<Offset> {
        self.check_size(encoded_len(record))?;
        self.with_open(|open| {
            self.submit(open);
            open.has_news = true;
            let pushed = open.builder.push(record, self.collecting.clock.now());
            let appended = pushed.map_err(invalid).and_then(|_| self.append(&mut open.builder));
            open.builder.clear();
            appended
        })
    }

    /// Appends records now, behind those that are held: as one batch, or as few as their size allows. Tells the offset
    /// of each that was appended by its number, and returns the offset behind the last of them, and why there were no
    /// more.
    pub(crate) fn send_batches<'r, 'b: 'r>(
        &self,
        records: impl Iterator<Item = (usize, &'r Record<'b>)>,
        mut tell: impl FnMut(usize, Offset),
    ) -> (Option<Offset>, Result<()>) {
        self.with_open(|open| {
            self.submit(open);
            open.has_news = true;
            let builder = &mut open.builder;
            let now = self.collecting.clock.now();
            let (mut numbers, mut end) = (Vec::new(), None);
            let mut append = |builder: &mut BatchBuilder, numbers: &mut Vec<usize>| -> Result<()> {
                if builder.is_empty() {
                    return Ok(());
                }
                let base = self.append(builder);
                builder.clear();
                let base = base?;
                end = Some(base + numbers.len() as u64);
                numbers.drain(..).zip(base..).for_each(|(number, offset)| tell(number, offset));
                Ok(())
            };
            let fill = || {
                for (number, record) in records {
                    let size = encoded_len(record);
                    self.check_size(size)?;
                    if builder.len() + size - HEADER_LEN > self.batch_bytes_max {
                        append(builder, &mut numbers)?;
                    }
                    builder.push(record, now).map_err(invalid)?;
                    numbers.push(number);
                }
                append(builder, &mut numbers)
            };
            let filled = fill();
            open.builder.clear();
            (end, filled)
        })
    }

    fn append(&self, builder: &mut BatchBuilder) -> Result<Offset> {
        let (count, max_timestamp) = (builder.count(), builder.max_timestamp());
        self.partition.append(Appending { bytes: builder.seal(), count, max_timestamp })
    }

    /// Takes a record into the open batch and sends what is full.
    ///
    /// # Errors
    /// What is wrong with the record, which is then not taken.
    pub(crate) fn collect(self: &Arc<Self>, record: &Record<'_>) -> Result<Collected> {
        let size = encoded_len(record);
        self.check_size(size)?;
        let limit = self.collecting.batch_bytes.min(self.batch_bytes_max);
        self.with_open(|open| {
            let has_no_room = !open.builder.is_empty() && open.builder.len() + size - HEADER_LEN > limit;
            if has_no_room {
                self.submit(open);
            }
            let index = open.builder.push(record, self.collecting.clock.now()).map_err(invalid)?;
            let completion = Arc::clone(open.completion.get_or_insert_with(|| Arc::new(Completion::new())));
            let is_full = self.collecting.linger.is_zero() || open.builder.len() >= limit;
            if is_full || index == 0 && !self.linger(open) {
                self.submit(open);
            }
            Ok(Collected { completion, index, has_sent: has_no_room || is_full })
        })
    }

    fn check_size(&self, size: usize) -> Result<()> {
        if size > self.batch_bytes_max {
            let topic = self.partition.name().topic.to_string();
            return Err(Error::RecordTooLarge { topic, size, limit: self.batch_bytes_max });
        }
        Ok(())
    }

    /// A batch was begun: somebody must come by when its time is up. False if nobody will.
    fn linger(self: &Arc<Self>, open: &mut Open) -> bool {
        let due = Deadline::after(self.collecting.linger);
        open.due = Some(due);
        if !open.is_scheduled && self.collecting.allows_threads {
            open.is_scheduled = self.collecting.lingerer.submit_at(due, self.as_holder()).is_ok();
        }
        open.is_scheduled || !self.collecting.allows_threads
    }

    /// Sends the open batch if it is the one that somebody waits for.
    pub(crate) fn submit_if_holding(&self, completion: &Arc<Completion>) {
        if completion.is_known() {
            return;
        }
        self.with_open(|open| {
            if open.completion.as_ref().is_some_and(|held| Arc::ptr_eq(held, completion)) {
                self.submit(open);
            }
        });
    }

    /// Sends the open batch, if there is one.
    pub(crate) fn submit_now(&self) {
        self.with_open(|open| self.submit(open));
    }

    fn submit(&self, open: &mut Open) {
        let Some(completion) = open.completion.take() else { return };
        open.due = None;
        let (count, max_timestamp) = (open.builder.count(), open.builder.max_timestamp());
        let bytes = open.builder.take();
        if let Some(buffer) = self.partition.buffer() {
            open.builder.reuse(buffer);
        }
        open.settle();
        open.unsettled.push(Arc::clone(&completion));
        open.has_news = true;
        self.partition.submit(Submission { bytes, count, max_timestamp, completion });
        if self.collecting.acks == Acks::Synced && self.collecting.allows_threads {
            self.partition.log().request_flush();
        }
    }

    /// Sends what is held, waits until all that was sent is as safe as the acks say, and tells the first error that
    /// nobody has been told.
    ///
    /// # Errors
    /// Why a batch was refused, or [`Error::Timeout`].
    pub(crate) fn flush(&self, deadline: Deadline, timeout: Duration) -> Result<()> {
        let unsettled = self.with_open(|open| {
            self.submit(open);
            open.unsettled.clone()
        });
        let appended = unsettled.iter().all(|batch| batch.done().wait(deadline, || batch.end()).is_some());
        let (refusal, end) = {
            let mut open = self.open.lock();
            open.settle();
            (open.refusal.take(), open.end)
        };
        // What was appended is to be as safe as was asked for, also where other batches were refused.
        self.partition.wait_for(self.collecting.acks, end)?;
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        if !appended {
            let way_out = "what is still on its way may be appended yet; flush again";
            return Err(Error::Timeout { what: "the flush", after: timeout, way_out });
        }
        Ok(())
    }

    /// Sends what is held and gives a receipt for each batch that is on its way.
    pub(crate) fn receipts(self: &Arc<Self>) -> Vec<Receipt> {
        let unsettled = self.with_open(|open| {
            self.submit(open);
            open.unsettled.clone()
        });
        let receipt =
            |completion| Receipt { accumulator: Arc::clone(self), completion, index: 0, acks: self.collecting.acks };
        unsettled.into_iter().map(receipt).collect()
    }
}

impl Open {
    /// Forgets batches of which the outcome is known, and keeps what they came to.
    fn settle(&mut self) {
        let Self { unsettled, end, refusal, .. } = self;
        unsettled.retain(|batch| match batch.end() {
            None => true,
            Some(Ok(batch_end)) => {
                *end = (*end).max(batch_end);
                false
            }
            Some(Err(error)) => {
                refusal.get_or_insert(error);
                false
            }
        });
    }
}

impl Holder for Accumulator {
    fn submit_held(&self) {
        self.submit_now();
    }

    fn submit_due(self: Arc<Self>) {
        self.with_open(|open| {
            open.is_scheduled = match open.due {
                // The batch it was scheduled for has gone, and this one is younger.
                Some(due) if due.left().is_some() => self.collecting.lingerer.submit_at(due, self.as_holder()).is_ok(),
                _ => false,
            };
            if !open.is_scheduled {
                self.submit(open);
            }
        });
    }
}

impl Drop for Accumulator {
    /// What was taken is appended, also if the producer is dropped without a flush. Nothing waits for the disk here.
    fn drop(&mut self) {
        self.submit_now();
    }
}

fn invalid(error: BatchError) -> Error {
    Error::InvalidRecord { what: error.to_string() }
}

impl fmt::Debug for Accumulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accumulator").field("partition", self.partition.name()).finish_non_exhaustive()
    }
}
