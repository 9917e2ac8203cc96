//! The tables, as Markdown.

use std::fmt::Write;
use std::path::Path;

use crate::contender::{Contender, Fit, HEADWATER, Label};
use crate::machine;
use crate::memory;
use crate::plan::{Column, Task, Topic, Unit};
use crate::run::{Outcome, Spread};

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

/// One row of a table: who, whether it fits the task, and how it did.
struct Row<'a> {
    label: Label,
    fit: Fit,
    outcome: &'a Outcome,
}

fn rows<'a>(task: &Task, contenders: &[Box<dyn Contender>], outcomes: &'a [Outcome]) -> Vec<Row<'a>> {
    contenders
        .iter()
        .zip(outcomes)
        .map(|(contender, outcome)| Row { label: contender.label(), fit: contender.fit(task), outcome })
        .filter(|row| !matches!(row.fit, Fit::LeftOut))
        .collect()
}

impl Row<'_> {
    /// Whether its threads sleep when they have to wait.
    fn parks(&self) -> bool {
        matches!(&self.fit, Fit::Fits { facts, .. } if facts.contains(&memory::PARKS))
    }
}

/// One table, with what must be known about its rows below it.
pub(crate) fn table(task: &Task, contenders: &[Box<dyn Contender>], outcomes: &[Outcome]) -> String {
    let mut text = format!("\n## {}\n\n| peer | version |", task.title);
    for fact in task.topic.facts() {
        let _ = write!(text, " {fact} |");
    }
    for column in &task.columns {
        let _ = write!(text, " {} | × |", column.title);
    }
    text.push_str("\n|---|---|");
    text.push_str(&"---|".repeat(task.topic.facts().len()));
    text.push_str(&"--:|--:|".repeat(task.columns.len()));
    text.push('\n');

    let rows = rows(task, contenders, outcomes);
    let own = rows.iter().find(|row| row.label.name == HEADWATER).map(|row| row.outcome);
    let mut remarks = String::new();
    for row in &rows {
        let name = row.label.name;
        let (facts, mark) = match &row.fit {
            Fit::LeftOut => continue,
            Fit::Excused { facts, why } => {
                let _ = writeln!(remarks, "- {name}: – ({why})");
                (facts, "")
            }
            Fit::Fits { facts, remark } => {
                if let Outcome::Failed(why) = row.outcome {
                    let _ = writeln!(remarks, "- {name}: failed ({why})");
                } else if let Some(remark) = remark {
                    let _ = writeln!(remarks, "- {name}: † {remark}");
                }
                (facts, if remark.is_some() { " †" } else { "" })
            }
        };
        let _ = write!(text, "| {name} | {} |", machine::locked_version(row.label.package));
        for fact in facts {
            let _ = write!(text, " {fact} |");
        }
        for column in &task.columns {
            match row.outcome {
                Outcome::NotRun => text.push_str(" – | – |"),
                Outcome::Failed(_) => text.push_str(" failed | – |"),
                Outcome::Measured(_) => {
                    let spread = row.outcome.figure(column.figure);
                    let own = own.and_then(|own| own.figure(column.figure));
                    let ratio = own.zip(spread).map(|(own, peer)| times_as_fast(own, peer, column.unit));
                    let figure = spread.map_or("–".to_owned(), |spread| show(spread, column.unit));
                    let lost = row.outcome.figure(memory::LOST).map_or(String::new(), show_lost);
                    let _ = write!(text, " {figure}{mark}{lost} | {} |", ratio.map_or("–".to_owned(), show_ratio));
                }
            }
        }
        text.push('\n');
    }
    if !remarks.is_empty() {
        text.push('\n');
        text.push_str(&remarks);
    }
    text
}

/// One line a task in memory: the best peer, the best of those that park, and each of Headwater's rows against both.
pub(crate) fn summary(done: &[(Task, Vec<Outcome>)], contenders: &[Box<dyn Contender>]) -> String {
    let mut lines = String::new();
    for (task, outcomes) in done.iter().filter(|(task, _)| task.topic == Topic::Memory) {
        let rows = rows(task, contenders, outcomes);
        for column in &task.columns {
            let best = best(&rows, column, |row| !row.label.is_own());
            let parking = self::best(&rows, column, |row| !row.label.is_own() && row.parks());
            let peer = |best: Option<(&str, Spread)>| {
                best.map_or("–".to_owned(), |(name, spread)| {
                    format!("{name} {}", show_value(spread.median, column.unit))
                })
            };
            let ratio = |own, best: Option<(&str, Spread)>| {
                best.map_or("–".to_owned(), |(_, best)| show_ratio(times_as_fast(own, best, column.unit)))
            };
            let own: Vec<String> = rows
                .iter()
                .filter(|row| row.label.is_own())
                .filter_map(|row| Some((row.label.name, row.outcome.figure(column.figure)?)))
                .map(|(name, spread)| {
                    let value = show_value(spread.median, column.unit);
                    format!("{name} {value} · **{}** · {}", ratio(spread, best), ratio(spread, parking))
                })
                .collect();
            let own = if own.is_empty() { "–".to_owned() } else { own.join("<br>") };
            let figure = if column.unit == Unit::Time { format!(", {}", column.title) } else { String::new() };
            let _ = writeln!(lines, "| {}{figure} | {} | {} | {own} |", task.title, peer(best), peer(parking));
        }
    }
    if lines.is_empty() {
        return lines;
    }
    format!(
        "\n## Memory: Headwater to the best peer\n\n\
         The first × is to the best peer, the second to the best that parks when it has to wait, as Headwater does.\n\n\
         | work | best peer | best that parks | Headwater · × · × |\n|---|---|---|---|\n{lines}"
    )
}

/// The best of the rows that are wanted. A peer that lost values has not done the work.
fn best(rows: &[Row<'_>], column: &Column, is_wanted: impl Fn(&Row<'_>) -> bool) -> Option<(&'static str, Spread)> {
    rows.iter()
        .filter(|row| is_wanted(row))
        .filter(|row| row.outcome.figure(memory::LOST).is_none_or(|lost| lost.max == 0.0))
        .filter_map(|row| Some((row.label.name, row.outcome.figure(column.figure)?)))
        .reduce(|best, next| if times_as_fast(next.1, best.1, column.unit) > 1.0 { next } else { best })
}

/// What the sources of the contenders that had a row say and no figure shows.
pub(crate) fn notes(done: &[(Task, Vec<Outcome>)], contenders: &[Box<dyn Contender>]) -> String {
    let mut text = "\n## Notes\n\n".to_owned();
    for contender in contenders {
        if done.iter().all(|(task, _)| matches!(contender.fit(task), Fit::LeftOut)) {
            continue;
        }
        let label = contender.label();
        for note in label.notes {
            let _ = writeln!(text, "- {}: {note}", label.name);
        }
    }
    text
}

fn times_as_fast(own: Spread, peer: Spread, unit: Unit) -> f64 {
    match unit {
        Unit::Rate => own.median / peer.median,
        Unit::Time => peer.median / own.median,
    }
}

fn show(spread: Spread, unit: Unit) -> String {
    let show = |value| show_value(value, unit);
    format!("**{}** ({}–{})", show(spread.median), show(spread.min), show(spread.max))
}

fn show_value(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Rate => show_rate(value),
        Unit::Time => show_time(value),
    }
}

/// The share of the values that a reader never saw.
fn show_lost(share: Spread) -> String {
    if share.max > 0.0 { format!(" · {:.1} % lost", share.median * 100.0) } else { String::new() }
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
    } else if seconds >= 1e-6 {
        format!("{} µs", three_digits(seconds * 1e6))
    } else {
        format!("{} ns", three_digits(seconds * 1e9))
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
    use std::collections::BTreeMap;

    use super::{Row, best, show_rate, show_time, times_as_fast};
    use crate::cell::RATE;
    use crate::contender::{Fit, Label};
    use crate::memory::LOST;
    use crate::plan::{Column, Unit};
    use crate::run::{Outcome, Spread};

    #[test]
    fn a_peer_that_lost_values_is_not_the_best() {
        let outcome = |rate: f64, lost: f64| {
            let figure = |value| Spread { median: value, min: value, max: value };
            Outcome::Measured(BTreeMap::from([(RATE.to_owned(), figure(rate)), (LOST.to_owned(), figure(lost))]))
        };
        let outcomes = [("slow", outcome(1.0, 0.0)), ("fast", outcome(2.0, 0.0)), ("lossy", outcome(9.0, 0.01))];
        let rows: Vec<Row<'_>> = outcomes
            .iter()
            .map(|(name, outcome)| Row {
                label: Label { name, package: "", notes: &[] },
                fit: Fit::Fits { facts: Vec::new(), remark: None },
                outcome,
            })
            .collect();
        let column = Column { workload: 'F', title: "values/s", figure: RATE, unit: Unit::Rate };
        assert_eq!(best(&rows, &column, |_| true).map(|(name, _)| name), Some("fast"));
        assert_eq!(best(&rows, &column, |row| row.label.name != "fast").map(|(name, _)| name), Some("slow"));
    }

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
        assert_eq!(show_time(0.000_000_101), "101 ns");
    }
}
