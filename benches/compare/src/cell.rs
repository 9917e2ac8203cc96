//! A cell: one workload with its parameters, run once for one peer in a process of its own.
//!
//! The parent writes a cell as text on the child's command line, the child runs it and prints what it measured
//! (`run.rs`). A process per cell keeps what a peer leaves behind (threads, allocator state, statics, held files)
//! out of the next figure.

use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::str::FromStr;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Calls, Level, Log, Peer, Producer, Result, Source, Tally, Watch};
use crate::memory;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    /// A and B: producers append for `run_ms`, or until `bytes_max` bytes of records were appended.
    Append { level: Level, record_bytes: usize, producers: usize, batch: usize, run_ms: u64, bytes_max: u64 },
    /// First half of C and D: writes so many records and dies by SIGKILL.
    Fill { record_bytes: usize, records: u64 },
    /// Second half of C and D: opens what `Fill` left, appends one record, reads everything.
    Reopen { record_bytes: usize, records: u64 },
    /// E: one consumer follows one producer that appends so many records a second.
    Tail { record_bytes: usize, per_second: u64, run_ms: u64 },
    /// F to N: what goes from thread to thread in memory.
    Memory(memory::Cell),
}

/// What a cell measured, by name.
pub(crate) type Figures = Vec<(&'static str, f64)>;

/// Records a second.
pub(crate) const RATE: &str = "rate";
/// Records appended in all, warm-up included: to be held against a count of the sync calls (README.md).
const RECORDS: &str = "records";
/// Seconds until the log was open and had taken a record.
pub(crate) const READY: &str = "ready_s";
pub(crate) const P50: &str = "p50_s";
pub(crate) const P99: &str = "p99_s";
pub(crate) const P999: &str = "p99.9_s";

/// Producers warm up so long before the clock starts.
const WARM_UP: Duration = Duration::from_millis(100);
/// Records per append call while filling: large, so that a peer that always syncs can fill in reasonable time, and
/// below the largest message of 1,000,000 B that commitlog takes.
const FILL_BATCH: usize = 500;
/// A follower may lag so long behind the producer's planned end.
const TAIL_PATIENCE: Duration = Duration::from_secs(30);

/// Runs `cell` for `peer` in `dir`, in this process.
pub(crate) fn run<P: Peer>(peer: &P, cell: &Cell, dir: &Path) -> Result<Figures> {
    match *cell {
        Cell::Append { level, record_bytes, producers, batch, run_ms, bytes_max } => {
            let calls = if batch == 1 { Calls::Single } else { Calls::Batch };
            let log = peer.open(dir, level, calls)?;
            let quota = bytes_max / record_bytes as u64 / producers as u64;
            let work = Work { level, record_bytes, batch, run: Duration::from_millis(run_ms), quota };
            append(&log, producers, &work)
        }
        Cell::Fill { record_bytes, records } => {
            fill(&peer.open(dir, Level::Appended, Calls::Batch)?, record_bytes, records)
        }
        Cell::Reopen { record_bytes, records } => reopen(peer, dir, record_bytes, records),
        Cell::Tail { record_bytes, per_second, run_ms } => {
            let log = peer.open(dir, Level::Appended, Calls::Single)?;
            tail(&log, record_bytes, per_second, Duration::from_millis(run_ms))
        }
        Cell::Memory(_) => Err("a log does no work in memory".into()),
    }
}

/// What each producer of an append workload does.
struct Work {
    level: Level,
    record_bytes: usize,
    batch: usize,
    run: Duration,
    /// Records a producer appends at most; bounds the bytes on the disk and in the page cache.
    quota: u64,
}

fn append<L: Log>(log: &L, producers: usize, work: &Work) -> Result<Figures> {
    let start_line = Barrier::new(producers + 1);
    let finish_line = Barrier::new(producers + 1);
    let (elapsed, outcomes) = thread::scope(|scope| {
        let threads: Vec<_> = (0..producers as u64)
            .map(|producer| {
                let (start_line, finish_line) = (&start_line, &finish_line);
                scope.spawn(move || produce(log, producer, work, start_line, finish_line))
            })
            .collect();
        start_line.wait();
        let start = Instant::now();
        finish_line.wait();
        // Records still queued inside the peer are not appended yet: what drains them is part of the work.
        let settled = log.settle();
        let elapsed = start.elapsed();
        let mut outcomes: Vec<Result<Produced>> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err("a producer panicked".into())))
            .collect();
        if let Err(error) = settled {
            outcomes.push(Err(error));
        }
        (elapsed, outcomes)
    });
    let produced = outcomes.into_iter().collect::<Result<Vec<_>>>()?;

    let mut expected = Tally::default();
    for (producer, produced) in produced.iter().enumerate() {
        expected.merge(Source::expected(producer as u64, work.record_bytes, produced.in_all));
    }
    check_contents(log, expected)?;
    let timed: u64 = produced.iter().map(|produced| produced.timed).sum();
    Ok(vec![(RATE, timed as f64 / elapsed.as_secs_f64()), (RECORDS, expected.records as f64)])
}

struct Produced {
    /// Records appended between the two lines.
    timed: u64,
    /// Those and the ones of the warm-up.
    in_all: u64,
}

/// One producer: warms up, waits for the others, appends. Passes both lines even when the peer fails or panics, so
/// that nobody waits for ever.
fn produce<L: Log>(log: &L, id: u64, work: &Work, start: &Barrier, finish: &Barrier) -> Result<Produced> {
    let mut source = Source::new(id, work.record_bytes);
    let warm = or_panicked(|| {
        let mut producer = log.producer()?;
        pump(&mut producer, &mut source, work, WARM_UP.min(work.run), work.quota / 10)?;
        Ok(producer)
    });
    let before = source.taken();
    start.wait();
    let outcome =
        warm.and_then(|mut producer| or_panicked(|| pump(&mut producer, &mut source, work, work.run, work.quota)));
    finish.wait();
    outcome?;
    Ok(Produced { timed: source.taken() - before, in_all: source.taken() })
}

/// A panic inside `work` becomes an error; its message is on standard error.
fn or_panicked<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // What `work` leaves half done is not looked at again: the cell has failed.
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("a producer panicked".into()))
}

/// Appends until `run` or `quota` is used up, and leaves nothing held back.
fn pump<P: Producer>(producer: &mut P, source: &mut Source, work: &Work, run: Duration, quota: u64) -> Result<()> {
    // A look at the clock costs as much as a fast append: seldom enough to vanish, often enough to stop in time.
    let looks_every = if work.level == Level::Synced { 1 } else { (64 / work.batch).max(1) };
    let end = source.taken() + quota;
    let start = Instant::now();
    while source.taken() < end && start.elapsed() < run {
        for _ in 0..looks_every {
            if work.batch == 1 {
                producer.send(source.record())?;
            } else {
                producer.send_batch(source.batch(work.batch))?;
            }
        }
    }
    producer.finish()
}

fn fill<L: Log>(log: &L, record_bytes: usize, records: u64) -> Result<Figures> {
    let mut producer = log.producer()?;
    let mut source = Source::new(0, record_bytes);
    while source.taken() < records {
        producer.send_batch(source.batch(FILL_BATCH))?;
    }
    producer.finish()?;
    log.settle()?;
    // The process dies as on the field: nothing is closed, nothing dropped.
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
    unreachable!("SIGKILL cannot be survived")
}

fn reopen<P: Peer>(peer: &P, dir: &Path, record_bytes: usize, records: u64) -> Result<Figures> {
    let mut after = Source::new(1, record_bytes);
    let opening = Instant::now();
    let log = peer.open(dir, Level::Appended, Calls::Single)?;
    log.producer()?.send(after.record())?;
    log.settle()?;
    let ready = opening.elapsed();

    let mut expected = Source::expected(0, record_bytes, filled(records));
    expected.merge(Source::expected(1, record_bytes, 1));
    let reading = Instant::now();
    check_contents(&log, expected)?;
    let rate = expected.records as f64 / reading.elapsed().as_secs_f64();
    Ok(vec![(READY, ready.as_secs_f64()), (RATE, rate)])
}

/// `Fill` ends with a whole batch.
fn filled(records: u64) -> u64 {
    records.next_multiple_of(FILL_BATCH as u64)
}

fn tail<L: Log>(log: &L, record_bytes: usize, per_second: u64, run: Duration) -> Result<Figures> {
    let records = (run.as_secs_f64() * per_second as f64) as u64;
    let period = Duration::from_secs(1) / per_second as u32;
    // The producer exists before the follower: some peers show no log to readers before that.
    let mut producer = log.producer()?;
    let base = Instant::now();
    let latencies_ns = thread::scope(|scope| {
        let follower = scope.spawn(move || {
            let mut watch = Watch::new(base, records, run + TAIL_PATIENCE);
            log.follow(&mut watch)?;
            watch.finish()
        });
        let mut source = Source::new(0, record_bytes);
        let first = base.elapsed() + WARM_UP;
        for nth in 0..records as u32 {
            let due = first + period * nth;
            // A producer that is late does not shift the schedule: a stall inside the log counts for every record
            // that should have been appended meanwhile.
            while base.elapsed() < due {
                thread::yield_now();
            }
            producer.send(source.record_due(due.as_nanos() as u64))?;
        }
        follower.join().unwrap_or_else(|_| Err("the follower panicked".into()))
    })?;
    let quantile = |share: f64| latencies_ns[((latencies_ns.len() - 1) as f64 * share) as usize] as f64 / 1e9;
    Ok(vec![(P50, quantile(0.5)), (P99, quantile(0.99)), (P999, quantile(0.999))])
}

/// Reads the log back: no peer wins by not doing the work.
fn check_contents<L: Log>(log: &L, expected: Tally) -> Result<()> {
    let mut read = Tally::default();
    log.read_all(&mut read)?;
    if read != expected {
        return Err(format!(
            "read back {} records, {} B; expected {} records, {} B{}",
            read.records,
            read.bytes,
            expected.records,
            expected.bytes,
            if read.records == expected.records { "; contents differ" } else { "" }
        )
        .into());
    }
    Ok(())
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Cell::Append { level, record_bytes, producers, batch, run_ms, bytes_max } => {
                let level = match level {
                    Level::Appended => "appended",
                    Level::Synced => "synced",
                };
                write!(f, "append {level} {record_bytes} {producers} {batch} {run_ms} {bytes_max}")
            }
            Cell::Fill { record_bytes, records } => write!(f, "fill {record_bytes} {records}"),
            Cell::Reopen { record_bytes, records } => write!(f, "reopen {record_bytes} {records}"),
            Cell::Tail { record_bytes, per_second, run_ms } => write!(f, "tail {record_bytes} {per_second} {run_ms}"),
            Cell::Memory(cell) => write!(f, "memory {cell}"),
        }
    }
}

impl FromStr for Cell {
    type Err = Box<dyn std::error::Error + Send + Sync>;

    fn from_str(text: &str) -> Result<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        Ok(match words[..] {
            ["append", level, record_bytes, producers, batch, run_ms, bytes_max] => Cell::Append {
                level: match level {
                    "appended" => Level::Appended,
                    "synced" => Level::Synced,
                    _ => return Err(format!("level `{level}` is neither appended nor synced").into()),
                },
                record_bytes: record_bytes.parse()?,
                producers: producers.parse()?,
                batch: batch.parse()?,
                run_ms: run_ms.parse()?,
                bytes_max: bytes_max.parse()?,
            },
            ["fill", record_bytes, records] => {
                Cell::Fill { record_bytes: record_bytes.parse()?, records: records.parse()? }
            }
            ["reopen", record_bytes, records] => {
                Cell::Reopen { record_bytes: record_bytes.parse()?, records: records.parse()? }
            }
            ["tail", record_bytes, per_second, run_ms] => Cell::Tail {
                record_bytes: record_bytes.parse()?,
                per_second: per_second.parse()?,
                run_ms: run_ms.parse()?,
            },
            ["memory", ..] => Cell::Memory(memory::Cell::parse(&words[1..])?),
            _ => return Err(format!("`{text}` is not a cell").into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Cell, append, tail};
    use crate::harness::{Batch, Calls, Level, Log, Producer, Result, Tally, Watch};
    use crate::memory::{self, Pause, PayloadKind, Rally, Stream};
    use std::ops::ControlFlow;
    use std::sync::Mutex;
    use std::time::Duration;

    /// A log in memory that keeps every `keeps`-th record only, and panics if that is every zeroth.
    struct Lossy {
        records: Mutex<Vec<Vec<u8>>>,
        keeps: usize,
        /// Whether records wait in their producer until it is asked to finish.
        holds_back: bool,
    }

    fn lossy(keeps: usize) -> Lossy {
        Lossy { records: Mutex::default(), keeps, holds_back: false }
    }

    impl Log for Lossy {
        type Producer<'a> = LossyProducer<'a>;

        fn producer(&self) -> Result<LossyProducer<'_>> {
            Ok(LossyProducer { log: self, nth: 0, held: Vec::new() })
        }

        fn read_all(&self, tally: &mut Tally) -> Result<()> {
            self.records.lock().expect("not poisoned").iter().for_each(|record| tally.add(record));
            Ok(())
        }

        fn follow(&self, watch: &mut Watch) -> Result<()> {
            let mut next = 0;
            loop {
                let record = self.records.lock().expect("not poisoned").get(next).cloned();
                let go_on = match record {
                    Some(record) => {
                        next += 1;
                        watch.saw(&record)
                    }
                    None => watch.idle(),
                };
                if go_on == ControlFlow::Break(()) {
                    return Ok(());
                }
            }
        }
    }

    struct LossyProducer<'a> {
        log: &'a Lossy,
        nth: usize,
        held: Vec<Vec<u8>>,
    }

    impl Producer for LossyProducer<'_> {
        fn send(&mut self, record: &[u8]) -> Result<()> {
            assert!(self.log.keeps > 0, "asked to panic");
            self.nth += 1;
            if self.nth.is_multiple_of(self.log.keeps) {
                self.held.push(record.to_vec());
            }
            if self.log.holds_back { Ok(()) } else { self.finish() }
        }

        fn finish(&mut self) -> Result<()> {
            self.log.records.lock().expect("not poisoned").append(&mut self.held);
            Ok(())
        }

        fn send_batch(&mut self, batch: Batch<'_>) -> Result<()> {
            batch.records().try_for_each(|record| self.send(record))
        }
    }

    fn work(batch: usize) -> super::Work {
        super::Work { level: Level::Appended, record_bytes: 100, batch, run: Duration::from_millis(20), quota: 10_000 }
    }

    #[test]
    fn a_log_that_keeps_everything_passes() {
        for batch in [1, 100] {
            append(&lossy(1), 2, &work(batch)).expect("nothing was lost");
        }
        tail(&lossy(1), 100, 1000, Duration::from_millis(20)).expect("nothing was lost");
    }

    #[test]
    fn a_log_that_loses_records_gets_no_figure() {
        append(&lossy(2), 2, &work(1)).expect_err("half of the records are gone");
        tail(&lossy(2), 100, 1000, Duration::from_millis(20)).expect_err("half of the records are gone");
    }

    #[test]
    fn what_a_producer_holds_back_is_appended_before_the_clock_stops() {
        let log = Lossy { holds_back: true, ..lossy(1) };
        append(&log, 2, &work(1)).expect("nothing was left behind in a producer");
    }

    #[test]
    fn a_producer_that_panics_fails_the_cell_and_stops_nobody() {
        append(&lossy(0), 2, &work(1)).expect_err("every append panics");
    }

    #[test]
    fn a_cell_survives_the_command_line() {
        let cells = [
            Cell::Append {
                level: Level::Synced,
                record_bytes: 100,
                producers: 4,
                batch: 100,
                run_ms: 500,
                bytes_max: 1 << 32,
            },
            Cell::Fill { record_bytes: 1024, records: 7 },
            Cell::Reopen { record_bytes: 1024, records: 7 },
            Cell::Tail { record_bytes: 100, per_second: 20_000, run_ms: 500 },
            Cell::Memory(memory::Cell::Stream(Stream {
                producers: 2,
                groups: 3,
                members: 4,
                payload: PayloadKind::Page,
                capacity: 65_536,
                calls: Calls::Batch,
                run_ms: 300,
            })),
            Cell::Memory(memory::Cell::Rally(Rally { pause: Pause::Yield, run_ms: 300 })),
        ];
        for cell in cells {
            assert_eq!(cell.to_string().parse::<Cell>().expect("a cell reads what it writes"), cell);
        }
    }
}
