//! The tasks of a run: which cells, which columns they fill.

use std::collections::BTreeSet;

use crate::cell::{Cell, P50, P99, P999, RATE, READY};
use crate::harness::Level;
use crate::memory;

/// Cells that are run together for a peer and make one table.
pub(crate) struct Task {
    pub(crate) topic: Topic,
    pub(crate) title: String,
    pub(crate) cells: Vec<Cell>,
    pub(crate) columns: Vec<Column>,
}

/// What kind of contender a task is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    /// Logs on a disk.
    Log,
    /// Channels and rings between the threads of one process.
    Memory,
}

impl Topic {
    /// The columns that are no figures.
    pub(crate) fn facts(self) -> &'static [&'static str] {
        match self {
            Topic::Log => &["integrity check", "on return"],
            Topic::Memory => &["waits"],
        }
    }
}

pub(crate) struct Column {
    pub(crate) workload: char,
    pub(crate) title: &'static str,
    /// The figure's name in what a cell measures.
    pub(crate) figure: &'static str,
    pub(crate) unit: Unit,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Records a second: more is better.
    Rate,
    /// Seconds: less is better.
    Time,
}

/// How much is done in each cell.
pub(crate) struct Scale {
    pub(crate) run_ms: u64,
    /// Bytes of records that an append cell writes at most.
    append_bytes_max: u64,
    /// Bytes of records that are written for C and D.
    pub(crate) fill_bytes: u64,
    /// Length of a cell in memory.
    pub(crate) memory_ms: u64,
}

impl Scale {
    pub(crate) const FULL: Scale =
        Scale { run_ms: 2500, append_bytes_max: 4 << 30, fill_bytes: 1 << 30, memory_ms: 1000 };
    pub(crate) const QUICK: Scale =
        Scale { run_ms: 500, append_bytes_max: 1 << 30, fill_bytes: 128 << 20, memory_ms: 300 };
}

/// A to E are logs; the rest is planned in `memory::plan`.
pub(crate) const WORKLOADS: &str = "ABCDEFGHIJKLMN";

/// Records a second that the producer of E appends: far from every peer's limit.
const TAIL_PER_SECOND: u64 = 20_000;

const SMALL: usize = 100;
const LARGE: usize = 1024;
const BATCH: usize = 100;

/// The tasks that fill at least one column of the wanted workloads.
pub(crate) fn tasks(scale: &Scale, wanted: &BTreeSet<char>) -> Vec<Task> {
    let mut tasks = Vec::new();
    for record_bytes in [SMALL, LARGE] {
        for batch in [1, BATCH] {
            for producers in [1, 2, 4] {
                tasks.push(append(scale, Level::Appended, Shape { record_bytes, producers, batch }));
            }
        }
    }
    for (producers, batch) in [(1, 1), (4, 1), (16, 1), (1, BATCH)] {
        tasks.push(append(scale, Level::Synced, Shape { record_bytes: SMALL, producers, batch }));
    }
    for record_bytes in [LARGE, SMALL] {
        let records = scale.fill_bytes / record_bytes as u64;
        let title = format!("{} MiB in records of {}", scale.fill_bytes >> 20, bytes(record_bytes));
        tasks.push(Task {
            topic: Topic::Log,
            title: format!("C, D · {title}"),
            cells: vec![Cell::Fill { record_bytes, records }, Cell::Reopen { record_bytes, records }],
            columns: vec![
                Column { workload: 'C', title: "C: read back, records/s", figure: RATE, unit: Unit::Rate },
                Column { workload: 'D', title: "D: ready after SIGKILL", figure: READY, unit: Unit::Time },
            ],
        });
    }
    tasks.push(Task {
        topic: Topic::Log,
        title: format!("E · append to seen, {} at {TAIL_PER_SECOND} records/s", bytes(SMALL)),
        cells: vec![Cell::Tail { record_bytes: SMALL, per_second: TAIL_PER_SECOND, run_ms: scale.run_ms }],
        columns: vec![
            Column { workload: 'E', title: "p50", figure: P50, unit: Unit::Time },
            Column { workload: 'E', title: "p99", figure: P99, unit: Unit::Time },
            Column { workload: 'E', title: "p99.9", figure: P999, unit: Unit::Time },
        ],
    });
    tasks.extend(memory::plan::tasks(scale));
    for task in &mut tasks {
        task.columns.retain(|column| wanted.contains(&column.workload));
    }
    tasks.retain(|task| !task.columns.is_empty());
    tasks
}

struct Shape {
    record_bytes: usize,
    producers: usize,
    batch: usize,
}

fn append(scale: &Scale, level: Level, shape: Shape) -> Task {
    let Shape { record_bytes, producers, batch } = shape;
    let (workload, verb) = match level {
        Level::Appended => ('A', "appended"),
        Level::Synced => ('B', "synced"),
    };
    let threads = if producers == 1 { "1 producer".to_owned() } else { format!("{producers} producers") };
    let calls = if batch == 1 { "one by one".to_owned() } else { format!("batches of {batch}") };
    Task {
        topic: Topic::Log,
        title: format!("{workload} · {verb}, {}, {threads}, {calls}", bytes(record_bytes)),
        cells: vec![Cell::Append {
            level,
            record_bytes,
            producers,
            batch,
            run_ms: scale.run_ms,
            bytes_max: scale.append_bytes_max,
        }],
        columns: vec![Column { workload, title: "records/s", figure: RATE, unit: Unit::Rate }],
    }
}

fn bytes(record_bytes: usize) -> String {
    if record_bytes.is_multiple_of(1024) { format!("{} KiB", record_bytes / 1024) } else { format!("{record_bytes} B") }
}

#[cfg(test)]
mod tests {
    use super::{Scale, tasks};
    use std::collections::BTreeSet;

    #[test]
    fn only_the_wanted_columns_are_planned() {
        let planned = tasks(&Scale::QUICK, &BTreeSet::from(['D']));
        assert_eq!(planned.len(), 2, "one task for each record size");
        assert!(planned.iter().all(|task| task.columns.len() == 1), "C is not asked for");
    }
}
