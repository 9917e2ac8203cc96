//! The peers, each in its own file: one adapter, and what its source says about its promises.

mod commitlog;
mod fjall;
mod khata;
mod okaywal;
mod rewal;
mod sqlite;
mod walrus;

use std::path::Path;

use crate::cell::{self, Cell, Figures};
use crate::contender::{Contender, Fit, Label};
use crate::harness::{Card, Level, Peer, Result, Synced};
use crate::headwater::{Headwater, Way};
use crate::plan::{Task, Topic};

/// A peer whose log type is forgotten, so that all fit in one list.
impl<P: Peer> Contender for P {
    fn label(&self) -> Label {
        let card = self.card();
        Label { name: card.name, package: card.package, notes: card.notes }
    }

    fn fit(&self, task: &Task) -> Fit {
        fit(task, &self.card())
    }

    fn run(&self, cell: &Cell, dir: &Path) -> Result<Figures> {
        cell::run(self, cell, dir)
    }

    fn knows(&self, cell: &Cell) -> bool {
        !matches!(cell, Cell::Memory(_))
    }
}

fn fit(task: &Task, card: &Card) -> Fit {
    if task.topic != Topic::Log || !has_place(task, card) {
        return Fit::LeftOut;
    }
    let facts = vec![card.check, on_return(task, card)];
    match excuse(task, card) {
        Some(why) => Fit::Excused { facts, why },
        None => Fit::Fits { facts, remark: loops_over_batch(task, card).then_some("a loop over single appends") },
    }
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

/// Where the record is, or what has synced it, when the append call returns.
fn on_return(task: &Task, card: &Card) -> &'static str {
    let synced = match card.synced {
        Synced::By(call) => call,
        Synced::Never(_) => "no sync",
    };
    match task.cells.first() {
        Some(Cell::Append { level: Level::Synced, .. }) => synced,
        _ => card.appended.unwrap_or(synced),
    }
}

fn loops_over_batch(task: &Task, card: &Card) -> bool {
    match task.cells.first() {
        Some(Cell::Append { level, batch, .. }) => *batch > 1 && card.batch_loops.contains(level),
        _ => false,
    }
}

/// All contenders in the order of the tables.
pub(crate) fn all() -> Vec<Box<dyn Contender>> {
    vec![
        Box::new(Headwater { way: Way::Waiting }),
        Box::new(Headwater { way: Way::Nowait }),
        Box::new(walrus::WalrusRust),
        Box::new(commitlog::Commitlog),
        Box::new(okaywal::Okaywal),
        Box::new(rewal::Rewal),
        Box::new(khata::Khata),
        Box::new(fjall::Fjall),
        Box::new(sqlite::Sqlite),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::contender::{Contender, Fit};
    use crate::headwater::{Headwater, Way};
    use crate::plan::{Scale, Topic, WORKLOADS, tasks};

    #[test]
    fn a_call_that_returns_early_has_a_place_only_among_single_appends_without_sync() {
        let (waiting, nowait) = (Headwater { way: Way::Waiting }, Headwater { way: Way::Nowait });
        let mut all = tasks(&Scale::QUICK, &BTreeSet::from_iter(WORKLOADS.chars()));
        all.retain(|task| task.topic == Topic::Log);
        assert!(all.iter().all(|task| waiting.fit(task).is_run()), "a waiting append has a place everywhere");
        let places: Vec<&str> = all
            .iter()
            .filter(|task| !matches!(nowait.fit(task), Fit::LeftOut))
            .map(|task| task.title.as_str())
            .collect();
        assert_eq!(places.len(), 6, "{places:?}");
        assert!(places.iter().all(|title| title.starts_with("A ") && title.ends_with("one by one")), "{places:?}");
    }
}
