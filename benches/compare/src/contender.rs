//! A contender: one row of the tables, whatever kind of work it does.
//!
//! What runs cells (`run.rs`) and draws tables (`report.rs`) knows contenders only so; the logs are in `peers`, the
//! channels and rings in `memory`.

use std::path::Path;

use crate::cell::{Cell, Figures};
use crate::harness::Result;
use crate::plan::Task;

pub(crate) trait Contender {
    fn label(&self) -> Label;

    /// Whether the contender has a row in the task's table, and what stands there.
    fn fit(&self, task: &Task) -> Fit;

    /// Runs one cell of a task that it fits, in `dir`, in this process.
    fn run(&self, cell: &Cell, dir: &Path) -> Result<Figures>;

    /// Whether `cell` is of the contender's kind: names are only distinct among those of one kind.
    fn knows(&self, cell: &Cell) -> bool;
}

pub(crate) struct Label {
    /// The name in the tables and on the command line.
    pub(crate) name: &'static str,
    /// The name in `Cargo.lock`, where the version is taken from.
    pub(crate) package: &'static str,
    /// Findings from the source that a figure alone would hide.
    pub(crate) notes: &'static [&'static str],
}

/// The name of Headwater's first row; its figures are what the others are divided into.
pub(crate) const HEADWATER: &str = "Headwater";

impl Label {
    /// Whether this is Headwater, in one of its rows.
    pub(crate) fn is_own(&self) -> bool {
        self.package == "headwater"
    }
}

pub(crate) enum Fit {
    /// No row in the task's table.
    LeftOut,
    /// A row without figures: the contender does not offer what the task asks for.
    Excused { facts: Vec<&'static str>, why: &'static str },
    Fits {
        /// What stands in the columns that are no figures, as many as the task's topic has.
        facts: Vec<&'static str>,
        /// Set where the contender's call is not quite the one the task names: marks the figure, and explains.
        remark: Option<&'static str>,
    },
}

impl Fit {
    pub(crate) fn is_run(&self) -> bool {
        matches!(self, Fit::Fits { .. })
    }
}
