//! Headwater and its peers at the same work: see README.md for the workloads and how to read the tables.

mod cell;
mod contender;
mod harness;
mod headwater;
mod machine;
mod memory;
mod peers;
mod plan;
mod report;
mod run;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::cell::Cell;
use crate::contender::Contender;
use crate::harness::Result;
use crate::plan::{Scale, Task};
use crate::run::Runner;

const USAGE: &str =
    "usage: headwater-compare [--quick] [--only A,B,…] [--rows TEXT] [--peers NAME,…] [--rounds N] [--dir DIR]

  --quick     short cells: for a first look, not for quoting
  --only      the workloads to run; all without it. A to E are logs, F to N channels and rings in memory
  --rows      only the tables whose title contains TEXT, in whatever case
  --peers     the peers to run; all without it
  --rounds    runs of each cell, of which the median counts; 3 without it
  --dir       where logs are written; ./target/compare without it

The tables go to standard output, the progress to standard error.";

const ROUNDS: usize = 3;

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)).and_then(|options| match options {
        Some(options) => options.run(),
        None => {
            println!("{USAGE}");
            Ok(())
        }
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    scale: Scale,
    workloads: BTreeSet<char>,
    /// What a table's title must contain, in lower case; empty for all.
    rows: String,
    /// Names; empty for all.
    peers: Vec<String>,
    rounds: usize,
    dir: PathBuf,
    /// Given by the parent process to its children: run this and print its figures.
    cell: Option<Cell>,
}

impl Options {
    /// `None` if help was asked for.
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Self>> {
        let mut options = Options {
            scale: Scale::FULL,
            workloads: plan::WORKLOADS.chars().collect(),
            rows: String::new(),
            peers: Vec::new(),
            rounds: ROUNDS,
            dir: PathBuf::from("target/compare"),
            cell: None,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value\n\n{USAGE}"));
            match word.as_str() {
                "--quick" => options.scale = Scale::QUICK,
                "--only" => options.workloads = parse_workloads(&value()?)?,
                "--rows" => options.rows = value()?.to_lowercase(),
                "--peers" => options.peers = value()?.split(',').map(str::to_owned).collect(),
                "--rounds" => options.rounds = value()?.parse()?,
                "--dir" => options.dir = PathBuf::from(value()?),
                "--cell" => options.cell = Some(value()?.parse()?),
                // `cargo bench` adds this to every benchmark.
                "--bench" => {}
                "--help" | "-h" => return Ok(None),
                _ => return Err(format!("unknown argument {word}\n\n{USAGE}").into()),
            }
        }
        if options.rounds == 0 {
            return Err("--rounds must be at least 1".into());
        }
        Ok(Some(options))
    }

    fn run(self) -> Result<()> {
        let contenders = self.contenders()?;
        match &self.cell {
            Some(cell) => self.run_cell(cell, contenders),
            None => self.compare(&contenders),
        }
    }

    fn contenders(&self) -> Result<Vec<Box<dyn Contender>>> {
        let mut contenders = peers::all();
        contenders.extend(memory::all());
        let names: Vec<&str> = contenders.iter().map(|contender| contender.label().name).collect();
        if let Some(unknown) = self.peers.iter().find(|name| !names.contains(&name.as_str())) {
            return Err(format!("no peer is named {unknown}; there are {}", names.join(", ")).into());
        }
        contenders
            .retain(|contender| self.peers.is_empty() || self.peers.iter().any(|name| name == contender.label().name));
        Ok(contenders)
    }

    fn tasks(&self) -> Vec<Task> {
        let mut tasks = plan::tasks(&self.scale, &self.workloads);
        tasks.retain(|task| task.title.to_lowercase().contains(&self.rows));
        tasks
    }

    /// The child's part.
    fn run_cell(&self, cell: &Cell, mut contenders: Vec<Box<dyn Contender>>) -> Result<()> {
        contenders.retain(|contender| contender.knows(cell));
        let [contender] = &contenders[..] else { return Err("a cell is run for one peer".into()) };
        let figures = contender.run(cell, &self.dir)?;
        for (name, value) in figures {
            println!("{} {name} {value:e}", run::FIGURE);
        }
        Ok(())
    }

    /// The parent's part: prints each table when it is done.
    fn compare(&self, contenders: &[Box<dyn Contender>]) -> Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        let dir = self.dir.canonicalize()?;
        let command: Vec<String> = std::env::args().collect();
        let mut out = std::io::stdout().lock();
        write!(out, "{}", report::head(&command.join(" "), &dir))?;
        out.flush()?;
        let runner = Runner { dir, rounds: self.rounds };
        let mut done = Vec::new();
        for task in self.tasks() {
            let outcomes = runner.measure(&task, contenders);
            write!(out, "{}", report::table(&task, contenders, &outcomes))?;
            out.flush()?;
            done.push((task, outcomes));
        }
        write!(out, "{}{}", report::summary(&done, contenders), report::notes(&done, contenders))?;
        Ok(())
    }
}

fn parse_workloads(list: &str) -> Result<BTreeSet<char>> {
    list.split(',')
        .map(|name| match name.chars().collect::<Vec<_>>()[..] {
            [workload] if plan::WORKLOADS.contains(workload) => Ok(workload),
            _ => Err(format!("`{name}` is none of the workloads {}", plan::WORKLOADS).into()),
        })
        .collect()
}
