//! Row 5: the disk is full. Every size that a disk may have, from what is there already, in small steps: an append that
//! finds no room is refused as that and leaves nothing behind, what is there stays readable, and with room again the
//! same session goes on. Recovery needs no room at all.

use std::sync::Arc;

use headwater::fs::{Fs, Simulated};
use headwater::{Acks, Visibility};

use crate::image::{self, DIR};
use crate::model::{Loss, Model};
use crate::random::Random;
use crate::report::Row;
use crate::session::{Call, Session, Settings, World, held};

const STEP: u64 = 4096;
/// Three segments and what goes with them.
const STEPS: u64 = 56;
const CALLS: usize = 40;

/// One workload on disks of all sizes.
pub(crate) fn workload(seed: u64, row: &Row) -> Result<(), String> {
    for step in 0..STEPS {
        if row.is_over() {
            return Ok(());
        }
        row.count(1);
        one(seed, step, row).map_err(|problem| format!("{step} steps of room: {problem}"))?;
    }
    Ok(())
}

fn one(seed: u64, step: u64, row: &Row) -> Result<(), String> {
    let mut random = Random::new(seed);
    let mut settings = Settings::of(&mut random);
    settings.has_group = false;
    let world = World::new(Model::new(settings.partitions, false));
    let fs = settings.machine(random.next());
    let mut session = open(&fs, &world, &settings)?;
    if random.one_in(2) {
        // Into the first segments, so that what is met is a roll.
        session.call(Call::SendBatch(Acks::Synced), &mut random)?.map_err(|error| error.to_string())?;
    }
    let used = used(&fs);
    fs.set_capacity(used + step * STEP);
    let mut refusals = 0;
    for number in 0..CALLS {
        // Room again, in the middle of it all.
        if number == CALLS / 2 {
            session.call(Call::Read(Visibility::Committed), &mut random)?.map_err(|error| error.to_string())?;
            let looked = image::look(&fs.crash(random.next()), &held(&world.model), Loss::Power);
            looked.map_err(|problem| format!("a power cut on the full disk: {problem}"))?;
            let looked = image::look(&fs.kill(), &held(&world.model), Loss::Process);
            looked.map_err(|problem| format!("a kill on the full disk: {problem}"))?;
            fs.set_capacity(u64::MAX);
        }
        let call =
            random.pick(&[Call::Send(Acks::Synced), Call::SendNowait(Acks::Appended), Call::SendBatch(Acks::Synced)]);
        let called = session.call(call, &mut random).map_err(|problem| format!("call {number}: {problem}"))?;
        match called {
            Ok(()) => {}
            Err(error) if error.is_full() && number < CALLS / 2 => refusals += 1,
            Err(error) => return Err(format!("call {number}, {call:?}: {error}")),
        }
    }
    row.detail("refusals", refusals);
    session.close()?.map_err(|error| error.to_string())?;
    image::look(&fs.crash(0), &held(&world.model), Loss::Power).map(drop)
}

fn open(fs: &Simulated, world: &Arc<World>, settings: &Settings) -> Result<Session, String> {
    Session::open(fs, world, settings, Loss::Process)?.map_err(|error| format!("it does not open: {error}"))
}

fn used(fs: &Simulated) -> u64 {
    fs.set_capacity(u64::MAX - 1);
    u64::MAX - 1 - fs.free_space(std::path::Path::new(DIR)).unwrap_or(0)
}
