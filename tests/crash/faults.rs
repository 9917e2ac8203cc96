//! Row 3: the n-th operation fails, once or until the disk is mended, in a session and in recovery.
//!
//! What must hold: nothing is acked on a partition whose sync failed until it was opened anew; what is refused without
//! a fence is not in the log; other partitions go on once the disk does; and after all of it, everything acked before
//! is there, also after one more power cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use headwater::fs::Simulated;
use headwater::fs::simulated::{Fault, FaultKind, OpKind, Times};
use headwater::{Acks, Error, Visibility};

use crate::image;
use crate::model::{Loss, Model};
use crate::random::Random;
use crate::session::{Call, Session, Settings, World, held};

#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) sessions: AtomicU64,
    pub(crate) recoveries: AtomicU64,
    pub(crate) refusals: AtomicU64,
}

const CALLS: u64 = 10;

/// One workload, with a fault at each of its operations in turn.
pub(crate) fn workload(seed: u64, tally: &Tally) -> Result<(), String> {
    for kind in [FaultKind::Eio, FaultKind::Enospc] {
        for times in [Times::Once, Times::Forever] {
            let fault = |at| Fault { kind, times, only: None, from: at };
            let mut at = 0;
            while session(seed, fault(at), tally).map_err(|problem| format!("{:?}: {problem}", fault(at)))? {
                at += 1;
            }
            for loss in [Loss::Power, Loss::Process] {
                let mut at = 0;
                while recovery(seed, loss, fault(at), tally)
                    .map_err(|problem| format!("recovery after {loss:?} with {:?}: {problem}", fault(at)))?
                {
                    at += 1;
                }
            }
        }
    }
    Ok(())
}

/// A session with a fault. Whether the fault was met.
fn session(seed: u64, fault: Fault, tally: &Tally) -> Result<bool, String> {
    tally.sessions.fetch_add(1, Ordering::Relaxed);
    let mut random = Random::new(seed);
    let settings = Settings::of(&mut random);
    let world = World::new(Model::new(settings.partitions, settings.has_group));
    let mut fs = settings.machine(random.next());
    let from = fault.from;
    fs.fail(fault.clone());
    world.has_faults.store(true, Ordering::Relaxed);
    // Who appended without waiting for the disk is not told that a sync has failed, and has no promise after it.
    let has_sync_failed = Arc::new(AtomicBool::new(false));
    let (flag, is_forever) = (Arc::clone(&has_sync_failed), fault.times == Times::Forever);
    fs.on_operation(move |_, operation| {
        let is_hit = operation.number == from || is_forever && operation.number > from;
        if is_hit && operation.kind == OpKind::SyncData {
            flag.store(true, Ordering::Relaxed);
        }
    });
    let mut choice = Random::new(seed ^ (from << 8));
    let opened = match image::open(&fs) {
        Err(error) => Err(error),
        Ok(broker) => {
            let ends = Vec::new();
            let found = image::Found { broker, topic: None, ends, committed: Vec::new() };
            Session::of(found, &world, &settings, Loss::Process)?
        }
    };
    match opened {
        Err(error) => is_typed(&error, tally)?,
        Ok(mut session) => {
            let mut mended_at = None;
            for number in 0..CALLS {
                if mended_at.is_some_and(|at| number >= at) {
                    fs.heal();
                }
                let call = Call::any(&settings, &mut random);
                let Err(error) =
                    session.call(call, &mut random).map_err(|problem| format!("call {number}: {problem}"))?
                else {
                    continue;
                };
                is_typed(&error, tally)?;
                if mended_at.is_some_and(|at| number >= at) && !error.is_fenced() {
                    return Err(format!("call {number}, {call:?}, is refused though the disk was mended: {error}"));
                }
                mended_at = mended_at.or(Some(number + 3));
            }
            // What is durable can be read whatever happened.
            session.call(Call::Read(Visibility::Durable), &mut random)?.map_err(|error| error.to_string())?;
            if choice.one_in(3) {
                if let Err(error) = session.close()? {
                    is_typed(&error, tally)?;
                }
            } else {
                session.abandon();
            }
        }
    }
    let was_met = fs.operations() > from;
    fs.heal();
    if has_sync_failed.load(Ordering::Relaxed) {
        held(&world.model).partitions.iter_mut().for_each(|log| log.is_fenced = true);
    }
    let loss = match choice.below(4) {
        0 => Loss::Process,
        1 => {
            fs = fs.kill();
            Loss::Process
        }
        _ => {
            fs = fs.crash(choice.next());
            Loss::Power
        }
    };
    go_on(&fs, &world, &settings, loss, &mut choice)?;
    Ok(was_met)
}

/// A recovery with a fault. Whether the fault was met.
fn recovery(seed: u64, loss: Loss, fault: Fault, tally: &Tally) -> Result<bool, String> {
    tally.recoveries.fetch_add(1, Ordering::Relaxed);
    let mut random = Random::new(seed);
    let settings = Settings::of(&mut random);
    let world = World::new(Model::new(settings.partitions, settings.has_group));
    let fs = settings.machine(random.next());
    let session = Session::open(&fs, &world, &settings, Loss::Process)?;
    let mut session = session.map_err(|error| error.to_string())?;
    for _ in 0..CALLS {
        let call = Call::any(&settings, &mut random);
        session.call(call, &mut random)?.map_err(|error| error.to_string())?;
    }
    session.abandon();
    let fs = if loss == Loss::Power { fs.crash(random.next()) } else { fs.kill() };
    let from = fault.from;
    fs.fail(fault);
    // A failure is said; nothing else is asked of it. A second try may meet the fault again.
    for _ in 0..2 {
        let opened = image::open(&fs).and_then(|broker| broker.topic(image::TOPIC).open());
        if let Err(error) = opened {
            is_typed(&error, tally)?;
            // What was not on the disk then may never be: a failed sync ends what `Appended` promises.
            held(&world.model).partitions.iter_mut().for_each(|log| log.is_fenced = true);
        }
    }
    let was_met = fs.operations() > from;
    fs.heal();
    let mut choice = Random::new(seed ^ (from << 8));
    let (fs, loss) = match (choice.below(3), loss) {
        (0, _) => (fs.crash(choice.next()), Loss::Power),
        (1, Loss::Process) => (fs.kill(), loss),
        (_, Loss::Process) => (fs, loss),
        // Half of it was put right before the process gave up.
        (_, _) => (fs, Loss::Both),
    };
    go_on(&fs, &world, &settings, loss, &mut choice)?;
    Ok(was_met)
}

/// The disk is well again: everything promised is there, and what is promised now is kept too.
fn go_on(
    fs: &Simulated,
    world: &Arc<World>,
    settings: &Settings,
    loss: Loss,
    random: &mut Random,
) -> Result<(), String> {
    let opened = Session::open(fs, world, settings, loss).map_err(|problem| format!("after {loss:?}: {problem}"))?;
    let mut session = opened.map_err(|error| format!("it does not open again: {error}"))?;
    for call in [Call::SendBatch(Acks::Appended), Call::SendBatch(Acks::Synced), Call::Read(Visibility::Committed)] {
        let called = session.call(call, random).map_err(|problem| format!("opened again, {problem}"))?;
        called.map_err(|error| format!("opened again, {call:?} is refused: {error}"))?;
    }
    for seed in [0, random.next()] {
        let looked = image::look(&fs.crash(seed), &held(&world.model), Loss::Power);
        looked.map_err(|problem| format!("opened again after {loss:?}, and power lost with seed {seed}: {problem}"))?;
    }
    session.abandon();
    Ok(())
}

/// A failing disk is said as what it is.
fn is_typed(error: &Error, tally: &Tally) -> Result<(), String> {
    tally.refusals.fetch_add(1, Ordering::Relaxed);
    match error {
        Error::Io { .. } | Error::StorageFull { .. } | Error::Fenced { .. } => Ok(()),
        error => Err(format!("a failing disk is called {}: {error}", error.kind())),
    }
}
