//! The contenders in memory, in the order of the tables.

use std::path::Path;

use crate::cell::{self, Figures};
use crate::contender::{Contender, Fit, Label};
use crate::harness::{Calls, Result};
use crate::memory::harness::{Batches, Peer};
#[cfg(feature = "memory")]
use crate::memory::headwater::{Headwater, Way};
use crate::memory::peers::{bus, crossbeam, crossfire, disruptor, flume, kanal, multiqueue, rtrb, tokio};
use crate::memory::{Cell, Stream};
use crate::plan::Task;

pub(crate) fn all() -> Vec<Box<dyn Contender>> {
    vec![
        #[cfg(feature = "memory")]
        Box::new(InMemory(Headwater(Way::Default))),
        #[cfg(feature = "memory")]
        Box::new(InMemory(Headwater(Way::Stamped))),
        #[cfg(feature = "memory")]
        Box::new(InMemory(Headwater(Way::Prefetch))),
        #[cfg(feature = "memory")]
        Box::new(InMemory(Headwater(Way::Queue))),
        Box::new(InMemory(crossbeam::Crossbeam)),
        Box::new(InMemory(crossfire::Crossfire)),
        Box::new(InMemory(crossfire::CrossfireAsync)),
        Box::new(InMemory(crossfire::CrossfireFanOut)),
        Box::new(InMemory(kanal::Kanal)),
        Box::new(InMemory(flume::Flume)),
        Box::new(InMemory(tokio::Mpsc)),
        Box::new(InMemory(tokio::Broadcast)),
        Box::new(InMemory(rtrb::Rtrb)),
        Box::new(InMemory(disruptor::Disruptor)),
        Box::new(InMemory(bus::Broadcasting)),
        Box::new(InMemory(multiqueue::Multiqueue(multiqueue::Waiting::Blocking))),
        Box::new(InMemory(multiqueue::Multiqueue(multiqueue::Waiting::Yielding))),
    ]
}

/// A peer whose types are forgotten, so that all fit in one list.
struct InMemory<P>(P);

impl<P: Peer> Contender for InMemory<P> {
    fn label(&self) -> Label {
        let card = self.0.card();
        Label { name: card.name, package: card.package, notes: card.notes }
    }

    fn fit(&self, task: &Task) -> Fit {
        let Some(cell::Cell::Memory(cell)) = task.cells.first() else { return Fit::LeftOut };
        let Some(able) = self.0.able(cell) else { return Fit::LeftOut };
        let remark = match (cell, able.batches) {
            (Cell::Stream(Stream { calls: Calls::Batch, .. }), Batches::ReceivesOnly) => {
                Some("receives in batches, sends one by one")
            }
            (Cell::Stream(Stream { calls: Calls::Batch, .. }), Batches::None) => Some("has no batches: one by one"),
            _ => None,
        };
        Fit::Fits { facts: vec![able.waits], remark }
    }

    fn run(&self, cell: &cell::Cell, _dir: &Path) -> Result<Figures> {
        match cell {
            cell::Cell::Memory(Cell::Stream(stream)) => stream.measure(&self.0),
            cell::Cell::Memory(Cell::Rally(rally)) => self.0.rally(rally.pause, rally.run()),
            _ => Err("a ring in memory is no log".into()),
        }
    }

    fn knows(&self, cell: &cell::Cell) -> bool {
        matches!(cell, cell::Cell::Memory(_))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::all;
    use crate::contender::Fit;
    use crate::plan::{Scale, Topic, WORKLOADS, tasks};

    #[test]
    fn nothing_in_memory_has_a_row_among_the_logs() {
        let contenders = all();
        for task in tasks(&Scale::QUICK, &BTreeSet::from_iter(WORKLOADS.chars())) {
            let rows = contenders.iter().filter(|contender| !matches!(contender.fit(&task), Fit::LeftOut)).count();
            match task.topic {
                Topic::Log => assert_eq!(rows, 0, "{}", task.title),
                Topic::Memory => assert!(rows >= 3, "{} has {rows} rows", task.title),
            }
        }
    }

    #[test]
    fn no_two_contenders_share_a_name() {
        let names: Vec<&str> = all().iter().map(|contender| contender.label().name).collect();
        assert_eq!(BTreeSet::from_iter(&names).len(), names.len(), "{names:?}");
    }
}
