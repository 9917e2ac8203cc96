//! Counting what was tried, two threads over seeds, and the table at the end.

use std::any::Any;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use crate::session::held;

/// Rows are run one after the other, each on all processors: what is printed as a rate is one.
static TURN: Mutex<()> = Mutex::new(());
static TABLE: Mutex<Vec<Line>> = Mutex::new(Vec::new());
/// Something was found: whoever has not begun need not.
static HAS_FAILED: AtomicBool = AtomicBool::new(false);

struct Line {
    row: u32,
    text: String,
    states: u64,
}

/// One row of the table of faults, while it is tried.
pub(crate) struct Row {
    number: u32,
    fault: &'static str,
    unit: &'static str,
    started: Instant,
    cases: AtomicU64,
    details: Mutex<Vec<(String, u64)>>,
    violation: Mutex<Option<String>>,
    _turn: MutexGuard<'static, ()>,
}

impl Row {
    /// Waits for its turn.
    pub(crate) fn begin(number: u32, fault: &'static str, unit: &'static str) -> Self {
        let turn = held(&TURN);
        Self {
            number,
            fault,
            unit,
            started: Instant::now(),
            cases: AtomicU64::new(0),
            details: Mutex::new(Vec::new()),
            violation: Mutex::new(None),
            _turn: turn,
        }
    }

    pub(crate) fn count(&self, cases: u64) {
        self.cases.fetch_add(cases, Ordering::Relaxed);
    }

    pub(crate) fn cases(&self) -> u64 {
        self.cases.load(Ordering::Relaxed)
    }

    /// Adds to a number that is printed beside the cases.
    pub(crate) fn detail(&self, what: &str, n: u64) {
        let mut details = held(&self.details);
        match details.iter_mut().find(|(name, _)| name == what) {
            Some((_, count)) => *count += n,
            None => details.push((what.into(), n)),
        }
    }

    /// Whether there is no need to go on.
    pub(crate) fn is_over(&self) -> bool {
        HAS_FAILED.load(Ordering::Relaxed)
    }

    /// Runs `case` on 0, 1, 2 … on two threads, while `goes_on` says so and nothing was found. A panic counts as a
    /// violation too; `name` says how to run the same case again.
    pub(crate) fn run(
        &self,
        goes_on: impl Fn(u64) -> bool + Sync,
        name: impl Fn(u64) -> String + Sync,
        case: impl Fn(u64) -> Result<(), String> + Sync,
    ) {
        let next = AtomicU64::new(0);
        let work = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if self.is_over() || !goes_on(number) {
                    return;
                }
                let outcome = catch_unwind(AssertUnwindSafe(|| case(number)));
                let outcome = outcome.unwrap_or_else(|panic| Err(format!("a panic: {}", message(&*panic))));
                if let Err(problem) = outcome {
                    HAS_FAILED.store(true, Ordering::Relaxed);
                    held(&self.violation).get_or_insert(format!("{}: {problem}", name(number)));
                }
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(work);
            scope.spawn(work);
        });
    }

    /// Prints the row, and the table if it is the last.
    ///
    /// # Panics
    /// If something was found.
    #[track_caller]
    pub(crate) fn end(self, rows: usize) {
        let violation = held(&self.violation).take();
        let seconds = self.started.elapsed().as_secs_f64();
        let cases = self.cases();
        let details: Vec<String> = held(&self.details).iter().map(|(name, n)| format!("{n} {name}")).collect();
        let text = format!(
            "{:>3}  {:<44} {:>8} {:<9} {:>6.1} s  {} violations{}{}",
            self.number,
            self.fault,
            cases,
            self.unit,
            seconds,
            u32::from(violation.is_some()),
            if details.is_empty() { "" } else { "  " },
            details.join(", "),
        );
        say(&text);
        if let Some(violation) = violation {
            panic!("row {}, {}: {violation}", self.number, self.fault);
        }
        let mut table = held(&TABLE);
        let states = if self.unit == "states" { cases } else { 0 };
        table.push(Line { row: self.number, text, states });
        if table.len() == rows {
            table.sort_by_key(|line| line.row);
            let lines: Vec<&str> = table.iter().map(|line| &*line.text).collect();
            let states: u64 = table.iter().map(|line| line.states).sum();
            say(&format!("\nrow  fault\n{}\n{states} crash states explored, 0 violations", lines.join("\n")));
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "of no words".into())
}

/// Past the capture of the test harness: what was tried is of interest also where all is well.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// A number from the environment.
pub(crate) fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}
