//! The fault table: what a power cut, a kill, a failing disk and a changed file may do, and what they may not.
//!
//! The store runs on a simulated machine (`headwater::fs::Simulated`) that keeps what was synced and takes back any
//! part of the rest; the oracle is a plain list outside of it. Each test is one row and prints how much it tried.
//!
//! - `HEADWATER_CRASH_STATES`: states of row 1 (400,000 in release, few in debug builds).
//! - `HEADWATER_CRASH_SEED`: run this one life of row 1 and nothing else of it.
//! - `HEADWATER_FAULTS`, `HEADWATER_KILLS`, `HEADWATER_DAMAGES`: workloads of row 3, processes to be killed in row 4,
//!   changed files in row 6.

use std::sync::Arc;
use std::sync::atomic::Ordering;

#[path = "crash/damage.rs"]
mod damage;
#[path = "crash/exhaustive.rs"]
mod exhaustive;
#[path = "crash/faults.rs"]
mod faults;
#[path = "crash/full.rs"]
mod full;
#[path = "crash/image.rs"]
mod image;
#[path = "crash/killed.rs"]
mod killed;
#[path = "crash/model.rs"]
mod model;
#[path = "crash/power.rs"]
mod power;
#[path = "crash/random.rs"]
mod random;
#[path = "crash/report.rs"]
mod report;
#[path = "crash/session.rs"]
mod session;

use report::{Row, setting};

/// How many tests are in the table.
const ROWS: usize = 6;

/// Less where nothing is optimized: `cargo test` is to stay quick.
const fn scaled(release: u64, debug: u64) -> u64 {
    if cfg!(debug_assertions) { debug } else { release }
}

#[test]
fn a_power_cut_or_a_kill_at_any_operation_takes_back_nothing_that_was_acked() {
    let row = Row::begin(1, "power cut or kill at any operation, again", "states");
    let tally: Arc<power::Tally> = Arc::default();
    let states = || tally.power.load(Ordering::Relaxed) + tally.process.load(Ordering::Relaxed);
    let wanted = setting("HEADWATER_CRASH_STATES").unwrap_or(scaled(400_000, 3_000));
    let name = |seed: u64| format!("HEADWATER_CRASH_SEED={seed}");
    match setting("HEADWATER_CRASH_SEED") {
        Some(seed) => row.run(|number| number == 0, |_| name(seed), |_| power::life(seed, &tally)),
        None => row.run(|_| states() < wanted, name, |seed| power::life(seed, &tally)),
    }
    row.count(states());
    row.detail("after a power cut", tally.power.load(Ordering::Relaxed));
    row.detail("after a kill", tally.process.load(Ordering::Relaxed));
    row.detail("after more than one", tally.again.load(Ordering::Relaxed));
    row.end(ROWS);
}

#[test]
fn every_crash_of_a_small_script_leaves_what_was_acked() {
    let row = Row::begin(2, "every subset of what is unsynced", "states");
    let tally: Arc<exhaustive::Tally> = Arc::default();
    // One in several, of all kinds.
    let stride = scaled(1, 61);
    let cases = exhaustive::CASES.div_ceil(stride);
    let name = |number: u64| format!("script {number}");
    row.run(|number| number < cases, name, |number| exhaustive::case(number * stride, &tally));
    row.count(tally.states.load(Ordering::Relaxed));
    row.detail("scripts", cases);
    row.detail("moments with all subsets", tally.whole.load(Ordering::Relaxed));
    row.detail("with some drawn", tally.drawn.load(Ordering::Relaxed));
    row.end(ROWS);
}

#[test]
fn a_failing_disk_is_said_and_nothing_is_acked_that_it_may_not_hold() {
    let row = Row::begin(3, "the n-th operation fails, once or for ever", "cases");
    let tally = faults::Tally::default();
    let workloads = setting("HEADWATER_FAULTS").unwrap_or(scaled(40, 2));
    row.run(|seed| seed < workloads, |seed| format!("workload {seed}"), |seed| faults::workload(seed, &tally));
    let (sessions, recoveries) = (tally.sessions.load(Ordering::Relaxed), tally.recoveries.load(Ordering::Relaxed));
    row.count(sessions + recoveries);
    row.detail("workloads", workloads);
    row.detail("faults in recovery", recoveries);
    row.detail("refusals", tally.refusals.load(Ordering::Relaxed));
    row.end(ROWS);
}

#[test]
fn a_killed_process_leaves_every_record_it_had_acked() {
    killed::write_if_child();
    let row = Row::begin(4, "SIGKILL of a writing process, a real disk", "kills");
    let kills = setting("HEADWATER_KILLS").unwrap_or(scaled(30, 5));
    let test = "a_killed_process_leaves_every_record_it_had_acked";
    row.run(
        |number| number == 0,
        |_| "the writers".into(),
        |_| {
            let acked = killed::kill_again_and_again(kills, test)?;
            row.detail("acked records, all there", acked);
            Ok(())
        },
    );
    row.count(kills);
    row.end(ROWS);
}

#[test]
fn a_full_disk_is_said_as_that_and_room_is_all_that_it_takes_to_go_on() {
    let row = Row::begin(5, "disk full, at every size in steps of 4 KiB", "cases");
    let workloads = scaled(40, 2);
    row.run(|seed| seed < workloads, |seed| format!("workload {seed}"), |seed| full::workload(seed, &row));
    row.end(ROWS);
}

#[test]
fn a_file_that_is_not_what_was_written_is_read_right_or_not_at_all() {
    let row = Row::begin(6, "changed, swapped, cut and missing files", "cases");
    let tally = damage::Tally::default();
    let cases = setting("HEADWATER_DAMAGES").unwrap_or(scaled(20_000, 200));
    let bases: Result<Vec<_>, String> = (0..scaled(24, 6)).map(damage::base).collect();
    let bases = bases.expect("directories to be damaged");
    row.run(|seed| seed < cases, |seed| format!("case {seed}"), |seed| damage::case(&bases, seed, &tally));
    row.count(cases);
    row.detail("read whole", tally.whole.load(Ordering::Relaxed));
    row.detail("read but for what is said to be lost", tally.partly.load(Ordering::Relaxed));
    row.detail("refused", tally.refused.load(Ordering::Relaxed));
    row.end(ROWS);
}
