//! How long a log takes to be ready again: after the SIGKILL of the process that was writing it, and after an orderly
//! close. 64 MiB and 1 GiB, to see that the time goes with what was not yet synced, and not with what the log holds.
//!
//! ```text
//! cargo bench --bench reopen
//! ```
//! # Method
//! - `after_sigkill`: this program runs itself as a child that fills a new directory with records of 1 KiB in batches
//!   of 100 at `Acks::Appended` and says so; it is killed at once, with the end of the log not yet on the disk.
//! - `after_close`: the same records, and `Broker::close` has returned.
//! - A sample is the time to open broker and topic and to append one record: until then nothing has been taken. What
//!   had been appended must be there. Filling and removing are outside the time.
//! - 5 samples, each on a directory of its own. After a kill the kernel may still be writing the log: that is so in
//!   the field, and within the time.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use divan::Bencher;
use headwater::{Acks, Record};
use tempfile::TempDir;

use crate::fill::Fill;
use crate::log::{ScratchLog, open, producer, scratch_dir};

#[path = "common/fill.rs"]
mod fill;
#[path = "common/log.rs"]
mod log;

/// Set for the child: `<MiB> <directory>`.
const CHILD: &str = "HEADWATER_BENCH_REOPEN";
/// What the child says when the log is filled, before it waits for its end.
const FILLED: &str = "filled";

fn main() {
    match std::env::var(CHILD) {
        Ok(order) => fill_and_wait(&order),
        Err(_) => divan::main(),
    }
}

/// How much the log holds.
#[derive(Clone, Copy)]
struct Backlog {
    mib: usize,
}

const BACKLOGS: [Backlog; 2] = [Backlog { mib: 64 }, Backlog { mib: 1024 }];

#[divan::bench(args = BACKLOGS, sample_count = 5, sample_size = 1)]
fn after_sigkill(bencher: Bencher, backlog: Backlog) {
    bencher.with_inputs(|| killed(backlog)).bench_local_values(|dir| ready(dir, backlog));
}

#[divan::bench(args = BACKLOGS, sample_count = 5, sample_size = 1)]
fn after_close(bencher: Bencher, backlog: Backlog) {
    bencher.with_inputs(|| closed(backlog)).bench_local_values(|dir| ready(dir, backlog));
}

/// The work that is timed. The log comes back, so that it is closed and removed outside the time.
fn ready(dir: TempDir, backlog: Backlog) -> ScratchLog {
    let log = ScratchLog::open(dir);
    let appended = producer(&log.topic, Acks::Appended).send(Record::new(b"ready")).expect("the disk has room");
    assert_eq!(appended.offset, backlog.fill().records() as u64, "records that were there before");
    log
}

/// A directory whose owner was killed.
fn killed(backlog: Backlog) -> TempDir {
    let dir = scratch_dir();
    let this = std::env::current_exe().expect("a program knows its path");
    let order = format!("{} {}", backlog.mib, dir.path().display());
    let spawned = Command::new(this).env(CHILD, order).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = spawned.expect("this program runs");
    let mut said = String::new();
    let stdout = child.stdout.take().expect("it was piped");
    BufReader::new(stdout).read_line(&mut said).expect("the child says when it is done");
    assert_eq!(said.trim_end(), FILLED, "the child failed; its message is above");
    child.kill().expect("the child waits to be killed");
    child.wait().expect("the child is dead");
    dir
}

/// A directory that was left in order.
fn closed(backlog: Backlog) -> TempDir {
    let dir = scratch_dir();
    let (broker, topic) = open(dir.path());
    backlog.fill().append(&topic);
    drop(topic);
    broker.close(Duration::from_secs(60)).expect("a minute is enough for what was not on the disk");
    dir
}

/// The child's part.
#[allow(clippy::print_stdout)] // how it speaks to its parent
fn fill_and_wait(order: &str) {
    let (mib, dir) = order.split_once(' ').expect("a size and a directory");
    let backlog = Backlog { mib: mib.parse().expect("a number of MiB") };
    let (_broker, topic) = open(Path::new(dir));
    backlog.fill().append(&topic);
    println!("{FILLED}");
    // The end of the input is that of the parent: a child does not stay behind.
    let _ = std::io::stdin().read(&mut [0]);
}

impl Backlog {
    fn fill(self) -> Fill {
        Fill { record_bytes: 1024, batch: 100, bytes: self.mib << 20 }
    }
}

impl fmt::Display for Backlog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB", self.mib)
    }
}
