//! What a peer must offer to be measured, and the records it is given.
//!
//! Every peer is compiled against the same generic workloads (`cell.rs`): nothing on the path of a record is
//! a virtual call, and no peer has a loop of its own.

use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// What has happened to a record when the append call has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// It is in the log, but no sync was asked for.
    Appended,
    /// It survives power loss.
    Synced,
}

/// Which append call a workload will use, for a peer that must be opened differently for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Calls {
    Single,
    Batch,
}

/// One log implementation.
pub(crate) trait Peer: Sync {
    type Log: Log;

    fn card(&self) -> Card;

    /// Opens or creates the log in `dir`.
    ///
    /// A peer that cannot append without a sync opens at [`Level::Synced`] whatever `level` says.
    fn open(&self, dir: &Path, level: Level, calls: Calls) -> Result<Self::Log>;
}

/// An open log; shared by the threads of a workload.
pub(crate) trait Log: Sync {
    type Producer<'a>: Producer
    where
        Self: 'a;

    /// Called by each producing thread for itself.
    fn producer(&self) -> Result<Self::Producer<'_>>;

    /// Returns when everything appended has left the process's own queues.
    fn settle(&self) -> Result<()> {
        Ok(())
    }

    /// Reads every record from the start, in order, with the check that the peer's reader makes.
    fn read_all(&self, tally: &mut Tally) -> Result<()>;

    /// Shows `watch` every record from the start as it appears, until `watch` has seen enough.
    ///
    /// Only called if the card says that the peer can be followed.
    fn follow(&self, _watch: &mut Watch) -> Result<()> {
        Err("this peer cannot be followed".into())
    }
}

/// One thread's way into the log. Both calls return at the level that the log was opened with.
pub(crate) trait Producer {
    fn send(&mut self, record: &[u8]) -> Result<()>;

    /// Appends all of `batch`; a peer without such a call loops, and its card says so.
    fn send_batch(&mut self, batch: Batch<'_>) -> Result<()>;

    /// Returns when nothing is held back any more and every append of this producer has succeeded.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What a reader of the tables must know about a peer.
pub(crate) struct Card {
    /// The name in the tables and on the command line.
    pub(crate) name: &'static str,
    /// The name in `Cargo.lock`, where the version is taken from.
    pub(crate) package: &'static str,
    /// The integrity check, when writing and when reading.
    pub(crate) check: &'static str,
    /// Where a record is when an append without sync returns; none if every append is synced.
    pub(crate) appended: Option<&'static str>,
    pub(crate) synced: Synced,
    /// The levels at which a batch is a loop over single appends.
    pub(crate) batch_loops: &'static [Level],
    /// Whether a consumer can follow the log while it grows.
    pub(crate) follows: bool,
    /// The row of a call that returns before its record is in the log: a second row of the same peer, which has a
    /// place only where records are appended one by one without sync, and is left out elsewhere.
    pub(crate) returns_early: bool,
    /// Findings from the peer's source that a figure alone would hide.
    pub(crate) notes: &'static [&'static str],
}

/// Whether the peer has an append that is durable when it returns.
pub(crate) enum Synced {
    /// The system call that makes it so.
    By(&'static str),
    /// Why there is none.
    Never(&'static str),
}

/// Records of one length, back to back.
#[derive(Clone, Copy)]
pub(crate) struct Batch<'a> {
    bytes: &'a [u8],
    record_bytes: usize,
}

impl<'a> Batch<'a> {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() / self.record_bytes
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = &'a [u8]> {
        self.bytes.chunks_exact(self.record_bytes)
    }
}

/// An endless supply of records, cheap enough not to be what is measured: the bodies are made once, each record
/// costs one store of its number.
pub(crate) struct Source {
    pool: Vec<u8>,
    record_bytes: usize,
    producer: u64,
    /// The number of the next record.
    next: u64,
}

impl Source {
    /// Bodies in the pool; a multiple of every batch size. At 100 B the pool outgrows the 64 KiB window of LZ4, so
    /// that no peer gains by compressing.
    const SLOTS: u64 = 1000;
    /// Record = number (8 B, little-endian), time (8 B, only when followed), body.
    pub(crate) const RECORD_BYTES_MIN: usize = 16;
    /// Numbers of different producers never meet.
    const PRODUCER_SHIFT: u32 = 48;

    pub(crate) fn new(producer: u64, record_bytes: usize) -> Self {
        assert!(record_bytes >= Self::RECORD_BYTES_MIN, "record of {record_bytes} B is too short for its number");
        let mut pool = vec![0; record_bytes * Self::SLOTS as usize];
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        for byte in &mut pool {
            // xorshift64: the bodies need to be incompressible, not random.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = state as u8;
        }
        Source { pool, record_bytes, producer, next: 0 }
    }

    /// How many records were taken.
    pub(crate) fn taken(&self) -> u64 {
        self.next
    }

    pub(crate) fn record(&mut self) -> &[u8] {
        self.batch(1).bytes
    }

    /// A record that says when it was due.
    pub(crate) fn record_due(&mut self, due_ns: u64) -> &[u8] {
        let at = self.number();
        self.pool[at + 8..at + 16].copy_from_slice(&due_ns.to_le_bytes());
        &self.pool[at..at + self.record_bytes]
    }

    pub(crate) fn batch(&mut self, records: usize) -> Batch<'_> {
        assert!(Self::SLOTS.is_multiple_of(records as u64), "batch of {records} does not divide {}", Self::SLOTS);
        let from = self.number();
        for _ in 1..records {
            self.number();
        }
        Batch { bytes: &self.pool[from..from + records * self.record_bytes], record_bytes: self.record_bytes }
    }

    /// What a reader must have seen if it saw exactly the first `records` of this source.
    pub(crate) fn expected(producer: u64, record_bytes: usize, records: u64) -> Tally {
        let mut source = Source::new(producer, record_bytes);
        let mut tally = Tally::default();
        for _ in 0..records {
            tally.add(source.record());
        }
        tally
    }

    /// Stamps the next record's number into its slot and returns where the slot begins.
    fn number(&mut self) -> usize {
        let at = (self.next % Self::SLOTS) as usize * self.record_bytes;
        let number = self.producer << Self::PRODUCER_SHIFT | self.next;
        self.pool[at..at + 8].copy_from_slice(&number.to_le_bytes());
        self.next += 1;
        at
    }
}

/// What was read: equal tallies mean the same records, in any order.
///
/// Every byte of a record is looked at, as a consumer would; a zero-copy reader without a check is not credited for
/// data that nobody touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    words: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, record: &[u8]) {
        let (words, rest) = record.as_chunks::<8>();
        for word in words {
            self.words = self.words.wrapping_add(u64::from_le_bytes(*word));
        }
        for byte in rest {
            self.words = self.words.wrapping_add(u64::from(*byte));
        }
        self.records += 1;
        self.bytes += record.len() as u64;
    }

    pub(crate) fn merge(&mut self, other: Tally) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.words = self.words.wrapping_add(other.words);
    }
}

/// What a follower reports to: takes the time of each record seen and says when to stop.
pub(crate) struct Watch {
    base: Instant,
    deadline: Instant,
    expected: u64,
    latencies_ns: Vec<u64>,
    /// The first record that was not the one expected.
    disorder: Option<String>,
}

impl Watch {
    /// Times are counted from `base`; the follower gives up `patience` later if `expected` records were not seen.
    pub(crate) fn new(base: Instant, expected: u64, patience: Duration) -> Self {
        let latencies_ns = Vec::with_capacity(expected as usize);
        Watch { base, deadline: base + patience, expected, latencies_ns, disorder: None }
    }

    /// Notes a record; breaks after the last one.
    pub(crate) fn saw(&mut self, record: &[u8]) -> ControlFlow<()> {
        let now_ns = self.base.elapsed().as_nanos() as u64;
        let (number, due_ns) = match record.as_chunks::<8>().0 {
            [number, due, ..] => (u64::from_le_bytes(*number), u64::from_le_bytes(*due)),
            _ => {
                self.disorder = Some(format!("saw a record of {} B", record.len()));
                return ControlFlow::Break(());
            }
        };
        let seen = self.latencies_ns.len() as u64;
        if number != seen {
            self.disorder = Some(format!("saw record {number} where record {seen} was due"));
            return ControlFlow::Break(());
        }
        self.latencies_ns.push(now_ns.saturating_sub(due_ns));
        if seen + 1 == self.expected { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Nothing new: lets another thread run; breaks when patience is at its end.
    pub(crate) fn idle(&mut self) -> ControlFlow<()> {
        std::thread::yield_now();
        if Instant::now() > self.deadline { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// The latencies, sorted; an error if a record was missed or came out of order.
    pub(crate) fn finish(mut self) -> Result<Vec<u64>> {
        if let Some(disorder) = self.disorder {
            return Err(disorder.into());
        }
        if (self.latencies_ns.len() as u64) < self.expected {
            return Err(format!("saw {} of {} records", self.latencies_ns.len(), self.expected).into());
        }
        self.latencies_ns.sort_unstable();
        Ok(self.latencies_ns)
    }
}
