//! Runs cells in child processes, round by round, and keeps their figures.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::cell::Cell;
use crate::contender::{Contender, Fit};
use crate::harness::Result;
use crate::plan::{Task, Topic};

/// Before each figure on a child's standard output; anything else there is the peer's chatter.
pub(crate) const FIGURE: &str = "figure";

const SIGKILL: i32 = 9;

/// How one peer did in a task that it fits.
pub(crate) enum Outcome {
    /// It was not asked: `Fit` says why.
    NotRun,
    Failed(String),
    /// The figures by name, one value a round.
    Measured(BTreeMap<String, Spread>),
}

impl Outcome {
    pub(crate) fn figure(&self, name: &str) -> Option<Spread> {
        match self {
            Outcome::Measured(figures) => figures.get(name).copied(),
            Outcome::NotRun | Outcome::Failed(_) => None,
        }
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        assert!(!values.is_empty(), "a spread of no values");
        values.sort_by(f64::total_cmp);
        Spread { median: values[values.len() / 2], min: values[0], max: values[values.len() - 1] }
    }
}

/// Where children run, and how often.
pub(crate) struct Runner {
    /// Absolute; each cell gets a fresh directory in it.
    pub(crate) dir: PathBuf,
    pub(crate) rounds: usize,
}

impl Runner {
    /// Runs `task` for every peer. Rounds are the outer loop: a machine that slows down for a while slows all down.
    pub(crate) fn measure(&self, task: &Task, contenders: &[Box<dyn Contender>]) -> Vec<Outcome> {
        let fits: Vec<Fit> = contenders.iter().map(|contender| contender.fit(task)).collect();
        let mut figures: Vec<BTreeMap<String, Vec<f64>>> = contenders.iter().map(|_| BTreeMap::new()).collect();
        let mut failures: Vec<Option<String>> = contenders.iter().map(|_| None).collect();
        for round in 1..=self.rounds {
            for (((contender, fit), figures), failure) in
                contenders.iter().zip(&fits).zip(&mut figures).zip(&mut failures)
            {
                if !fit.is_run() || failure.is_some() {
                    continue;
                }
                let name = contender.label().name;
                eprintln!("{} · {name} · round {round} of {}", task.title, self.rounds);
                match self.round(task, name) {
                    Ok(measured) => {
                        measured.into_iter().for_each(|(name, value)| figures.entry(name).or_default().push(value));
                    }
                    Err(error) => {
                        eprintln!("  failed: {error}");
                        *failure = Some(error.to_string());
                    }
                }
            }
        }
        fits.iter()
            .zip(figures)
            .zip(failures)
            .map(|((fit, figures), failure)| match failure {
                _ if !fit.is_run() => Outcome::NotRun,
                Some(failure) => Outcome::Failed(failure),
                None => {
                    Outcome::Measured(figures.into_iter().map(|(name, values)| (name, Spread::of(values))).collect())
                }
            })
            .collect()
    }

    /// All cells of `task` for the contender `name`, one after the other in one fresh directory.
    fn round(&self, task: &Task, name: &str) -> Result<Vec<(String, f64)>> {
        let scratch = Scratch::new(&self.dir, task.topic)?;
        let mut figures = Vec::new();
        for cell in &task.cells {
            figures.extend(child(cell, name, &scratch, patience(task.topic))?);
        }
        Ok(figures)
    }
}

/// A child that takes longer has failed.
fn patience(topic: Topic) -> Duration {
    match topic {
        // The slowest cell that is not stuck fills a gigabyte in a few minutes.
        Topic::Log => Duration::from_secs(600),
        // A second of work, and what is in flight at its end; the rest is a deadlock or a lost wake-up.
        Topic::Memory => Duration::from_secs(20),
    }
}

fn child(cell: &Cell, name: &str, scratch: &Scratch, patience: Duration) -> Result<Vec<(String, f64)>> {
    let (stdout, stderr) = (scratch.path.join("stdout"), scratch.path.join("stderr"));
    let log_dir = scratch.path.join("log");
    fs::create_dir_all(&log_dir)?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--cell", &cell.to_string(), "--peers", name, "--dir"])
        .arg(&log_dir)
        // An empty environment but for walrus-rust: it is configured so, and looks there for `WALRUS_QUIET`
        // several times a record, which would cost it more in a long environment.
        .env_clear()
        .env("WALRUS_QUIET", "1")
        .env("WALRUS_DATA_DIR", &log_dir)
        .stdin(Stdio::null())
        .stdout(File::create(&stdout)?)
        .stderr(File::create(&stderr)?)
        .spawn()?;
    let deadline = Instant::now() + patience;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Err(format!("no end after {} s", patience.as_secs()).into());
        }
        thread::sleep(Duration::from_millis(10));
    };
    if !ended_well(cell, status) {
        let stderr = fs::read_to_string(&stderr)?;
        let reason = stderr.lines().find(|line| !line.trim().is_empty()).unwrap_or("no message");
        return Err(format!("{status}: {reason}").into());
    }
    parse_figures(&fs::read_to_string(&stdout)?)
}

/// Filling ends with the process's death.
fn ended_well(cell: &Cell, status: ExitStatus) -> bool {
    match cell {
        Cell::Fill { .. } => status.signal() == Some(SIGKILL),
        _ => status.success(),
    }
}

fn parse_figures(stdout: &str) -> Result<Vec<(String, f64)>> {
    let mut figures = Vec::new();
    for line in stdout.lines() {
        if let [FIGURE, name, value] = line.split(' ').collect::<Vec<_>>()[..] {
            figures.push((name.to_owned(), value.parse()?));
        }
    }
    Ok(figures)
}

/// A directory for one round; gone afterwards, with the disk at rest.
struct Scratch {
    path: PathBuf,
    topic: Topic,
}

impl Scratch {
    fn new(parent: &Path, topic: Topic) -> Result<Self> {
        let path = parent.join(format!("cell-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Scratch { path, topic })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: what stays behind costs space, not truth. The sync keeps the next peer from paying for this
        // one's deletions and journal.
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("cannot remove {}: {error}", self.path.display());
        }
        if self.topic == Topic::Log {
            rustix::fs::sync();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Spread, parse_figures};

    #[test]
    fn figures_are_found_among_the_peers_chatter() {
        let figures = parse_figures("[walrus] new\nfigure rate 12.5\nblock 7 sealed\n").expect("one figure");
        assert_eq!(figures, [("rate".to_owned(), 12.5)]);
    }

    #[test]
    fn a_spread_knows_its_middle_and_its_ends() {
        let spread = Spread::of(vec![3.0, 1.0, 10.0]);
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 3.0, 10.0));
    }
}
