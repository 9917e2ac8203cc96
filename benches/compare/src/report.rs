//! The tables, as Markdown.

use std::fmt::Write;
use std::path::Path;

use crate::cell::Cell;
use crate::harness::{Card, Level, Synced};
use crate::machine;
use crate::plan::{Task, Unit};
use crate::run::{Outcome, Spread};

/// The name in Headwater's card; its figures are what the others are divided into.
pub(crate) const HEADWATER: &str = "Headwater";

/// What was run, when and where.
pub(crate) fn head(command: &str, dir: &Path) -> String {
    format!(
        "# Headwater and its peers\n\n\
         - command: `{command}`\n- date: {}\n- machine: {}\n- file system: {}\n\n\
         A figure is the median of the rounds, with the least and the most. The last number says how many times as \
         fast Headwater is: above 1 it wins, below 1 the peer does.\n",
        machine::date(),
        machine::summary(),
        machine::file_system(dir)
    )
}

/// One table, with what must be known about its rows below it.
pub(crate) fn table(task: &Task, cards: &[Card], outcomes: &[Outcome]) -> String {
    let mut text = format!("\n## {}\n\n| peer | version | integrity check | on return |", task.title);
    for column in &task.columns {
        let _ = write!(text, " {} | × |", column.title);
    }
    text.push_str("\n|---|---|---|---|");
    text.push_str(&"--:|--:|".repeat(task.columns.len()));
    text.push('\n');

    let own = cards.iter().zip(outcomes).find(|(card, _)| card.name == HEADWATER).map(|(_, outcome)| outcome);
    let mut remarks = String::new();
    for (card, outcome) in cards.iter().zip(outcomes) {
        if matches!(outcome, Outcome::LeftOut) {
            continue;
        }
        let version = machine::locked_version(card.package);
        let _ = write!(text, "| {} | {version} | {} | {} |", card.name, card.check, on_return(task, card));
        let loops = loops_over_batch(task, card);
        for column in &task.columns {
            match outcome {
                Outcome::Measured(figures) => {
                    let spread = figures.get(column.figure);
                    let ratio = match (spread, own) {
                        (Some(peer), Some(Outcome::Measured(own))) => {
                            own.get(column.figure).map(|own| times_as_fast(*own, *peer, column.unit))
                        }
                        _ => None,
                    };
                    let figure = spread.map_or("–".to_owned(), |spread| show(*spread, column.unit));
                    let mark = if loops { " †" } else { "" };
                    let _ = write!(text, " {figure}{mark} | {} |", ratio.map_or("–".to_owned(), show_ratio));
                }
                Outcome::Excused(_) | Outcome::LeftOut => text.push_str(" – | – |"),
                Outcome::Failed(_) => text.push_str(" failed | – |"),
            }
        }
        text.push('\n');
        match outcome {
            Outcome::Excused(why) => {
                let _ = writeln!(remarks, "- {}: – ({why})", card.name);
            }
            Outcome::Failed(why) => {
                let _ = writeln!(remarks, "- {}: failed ({why})", card.name);
            }
            Outcome::Measured(_) if loops => {
                let _ = writeln!(remarks, "- {}: † a loop over single appends", card.name);
            }
            Outcome::Measured(_) | Outcome::LeftOut => {}
        }
    }
    if !remarks.is_empty() {
        text.push('\n');
        text.push_str(&remarks);
    }
    text
}

/// What the sources of the peers say and no figure shows.
pub(crate) fn notes(cards: &[Card]) -> String {
    let mut text = "\n## Notes\n\n".to_owned();
    for card in cards {
        for note in card.notes {
            let _ = writeln!(text, "- {}: {note}", card.name);
        }
    }
    text
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

fn times_as_fast(own: Spread, peer: Spread, unit: Unit) -> f64 {
    match unit {
        Unit::Rate => own.median / peer.median,
        Unit::Time => peer.median / own.median,
    }
}

fn show(spread: Spread, unit: Unit) -> String {
    let show = match unit {
        Unit::Rate => show_rate,
        Unit::Time => show_time,
    };
    format!("**{}** ({}–{})", show(spread.median), show(spread.min), show(spread.max))
}

fn show_rate(rate: f64) -> String {
    if rate >= 1e6 {
        format!("{} M", three_digits(rate / 1e6))
    } else if rate >= 1e3 {
        format!("{} k", three_digits(rate / 1e3))
    } else {
        three_digits(rate)
    }
}

fn show_time(seconds: f64) -> String {
    if seconds >= 1.0 {
        format!("{} s", three_digits(seconds))
    } else if seconds >= 1e-3 {
        format!("{} ms", three_digits(seconds * 1e3))
    } else {
        format!("{} µs", three_digits(seconds * 1e6))
    }
}

fn show_ratio(ratio: f64) -> String {
    three_digits(ratio)
}

/// More digits would claim more than a shared machine can measure.
fn three_digits(value: f64) -> String {
    let decimals = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::{show_rate, show_time, times_as_fast};
    use crate::plan::Unit;
    use crate::run::Spread;

    #[test]
    fn above_one_headwater_wins_whatever_the_unit() {
        let (less, more) = (Spread { median: 2.0, min: 2.0, max: 2.0 }, Spread { median: 8.0, min: 8.0, max: 8.0 });
        assert_eq!(times_as_fast(more, less, Unit::Rate), 4.0, "more records a second is faster");
        assert_eq!(times_as_fast(less, more, Unit::Time), 4.0, "less time is faster");
    }

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        assert_eq!(show_rate(25_040_000.0), "25.0 M");
        assert_eq!(show_rate(7_300.0), "7.30 k");
        assert_eq!(show_time(0.000_142), "142 µs");
        assert_eq!(show_time(1.5), "1.50 s");
    }
}
