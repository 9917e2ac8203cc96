//! Runs cells in child processes, round by round, and keeps their figures.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::cell::Cell;
use crate::harness::{Card, Level, Result, Synced};
use crate::plan::Task;

/// Before each figure on a child's standard output; anything else there is the peer's chatter.
pub(crate) const FIGURE: &str = "figure";

const SIGKILL: i32 = 9;

/// How one peer did in one task.
pub(crate) enum Outcome {
    /// The row has no place in the task's table.
    LeftOut,
    /// The peer does not offer what the task asks for.
    Excused(&'static str),
    Failed(String),
    /// The figures by name, one value a round.
    Measured(BTreeMap<String, Spread>),
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

/// Where and how long children run.
pub(crate) struct Runner {
    /// Absolute; each cell gets a fresh directory in it.
    pub(crate) dir: PathBuf,
    pub(crate) rounds: usize,
    /// A child that takes longer has failed.
    pub(crate) patience: Duration,
}

impl Runner {
    /// Runs `task` for every peer. Rounds are the outer loop: a machine that slows down for a while slows all down.
    pub(crate) fn measure(&self, task: &Task, cards: &[Card]) -> Vec<Outcome> {
        let mut figures: Vec<BTreeMap<String, Vec<f64>>> = cards.iter().map(|_| BTreeMap::new()).collect();
        let mut failures: Vec<Option<String>> = cards.iter().map(|_| None).collect();
        for round in 1..=self.rounds {
            for ((card, figures), failure) in cards.iter().zip(&mut figures).zip(&mut failures) {
                if !has_place(task, card) || excuse(task, card).is_some() || failure.is_some() {
                    continue;
                }
                eprintln!("{} · {} · round {round} of {}", task.title, card.name, self.rounds);
                match self.round(task, card) {
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
        cards
            .iter()
            .zip(figures)
            .zip(failures)
            .map(|((card, figures), failure)| match (excuse(task, card), failure) {
                _ if !has_place(task, card) => Outcome::LeftOut,
                (Some(excuse), _) => Outcome::Excused(excuse),
                (None, Some(failure)) => Outcome::Failed(failure),
                (None, None) => {
                    Outcome::Measured(figures.into_iter().map(|(name, values)| (name, Spread::of(values))).collect())
                }
            })
            .collect()
    }

    /// All cells of `task` for one peer, one after the other in one fresh directory.
    fn round(&self, task: &Task, card: &Card) -> Result<Vec<(String, f64)>> {
        let scratch = Scratch::new(&self.dir)?;
        let mut figures = Vec::new();
        for cell in &task.cells {
            figures.extend(self.child(cell, card, &scratch)?);
        }
        Ok(figures)
    }

    fn child(&self, cell: &Cell, card: &Card, scratch: &Scratch) -> Result<Vec<(String, f64)>> {
        let (stdout, stderr) = (scratch.path.join("stdout"), scratch.path.join("stderr"));
        let log_dir = scratch.path.join("log");
        fs::create_dir_all(&log_dir)?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--cell", &cell.to_string(), "--peers", card.name, "--dir"])
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
        let deadline = Instant::now() + self.patience;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                child.kill()?;
                child.wait()?;
                return Err(format!("no end after {} s", self.patience.as_secs()).into());
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

/// Whether the row belongs into the task's table: a call that returns early is an append one by one without sync.
fn has_place(task: &Task, card: &Card) -> bool {
    let is_single = matches!(task.cells.first(), Some(Cell::Append { level: Level::Appended, batch: 1, .. }));
    is_single || !card.returns_early
}

/// Why the peer is not asked to do the task.
fn excuse(task: &Task, card: &Card) -> Option<&'static str> {
    match (task.cells.first()?, &card.synced) {
        (Cell::Append { level: Level::Appended, .. }, _) if card.appended.is_none() => Some("every append is synced"),
        (Cell::Append { level: Level::Synced, .. }, Synced::Never(why)) => Some(why),
        (Cell::Tail { .. }, _) if !card.follows => Some("cannot be followed"),
        _ => None,
    }
}

/// A directory for one round; gone afterwards, with the disk at rest.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new(parent: &Path) -> Result<Self> {
        let path = parent.join(format!("cell-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Scratch { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: what stays behind costs space, not truth. The sync keeps the next peer from paying for this
        // one's deletions and journal.
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("cannot remove {}: {error}", self.path.display());
        }
        rustix::fs::sync();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Spread, has_place, parse_figures};
    use crate::harness::Peer;
    use crate::headwater::{Headwater, Way};
    use crate::plan::{Scale, WORKLOADS, tasks};

    #[test]
    fn figures_are_found_among_the_peers_chatter() {
        let figures = parse_figures("[walrus] new\nfigure rate 12.5\nblock 7 sealed\n").expect("one figure");
        assert_eq!(figures, [("rate".to_owned(), 12.5)]);
    }

    #[test]
    fn a_call_that_returns_early_has_a_place_only_among_single_appends_without_sync() {
        let (waiting, nowait) = (Headwater { way: Way::Waiting }.card(), Headwater { way: Way::Nowait }.card());
        let all = tasks(&Scale::QUICK, &BTreeSet::from_iter(WORKLOADS.chars()));
        assert!(all.iter().all(|task| has_place(task, &waiting)), "a waiting append has a place everywhere");
        let places: Vec<&str> =
            all.iter().filter(|task| has_place(task, &nowait)).map(|task| task.title.as_str()).collect();
        assert_eq!(places.len(), 6, "{places:?}");
        assert!(places.iter().all(|title| title.starts_with("A ") && title.ends_with("one by one")), "{places:?}");
    }

    #[test]
    fn a_spread_knows_its_middle_and_its_ends() {
        let spread = Spread::of(vec![3.0, 1.0, 10.0]);
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 3.0, 10.0));
    }
}
