//! Row 2: every crash there is. Scripts of at most three calls, a crash at every operation of the last one, and at each
//! every subset of what is unsynced. (The calls before the last were the last of a shorter script.)

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use headwater::Acks;
use headwater::fs::Simulated;

use crate::image;
use crate::model::{Loss, Model};
use crate::random::Random;
use crate::session::{Call, Session, Settings, Sizes, World, held};

/// More unsynced things than this have too many subsets: some are drawn.
const ITEMS_MAX: usize = 12;
const DRAWN: u64 = 256;

#[derive(Clone, Copy, Debug)]
enum Step {
    Call(Call),
    /// A record of 15,000 bytes.
    Large,
    /// Close in order, and open again.
    Close,
    /// Let go of everything, and open again: as if the process had died.
    Abandon,
}

const STEPS: [Step; 8] = [
    Step::Call(Call::Send(Acks::Synced)),
    Step::Call(Call::Send(Acks::Appended)),
    Step::Call(Call::SendBatch(Acks::Synced)),
    Step::Call(Call::SendBatch(Acks::Appended)),
    Step::Call(Call::SendNowait(Acks::Synced)),
    // Written and not stored, and more sectors than there are subsets for.
    Step::Large,
    Step::Close,
    Step::Abandon,
];

/// How many cases there are: four beginnings, and all scripts of one, two and three steps.
pub(crate) const CASES: u64 = 4 * SCRIPTS;
const SCRIPTS: u64 = KINDS + KINDS * KINDS + KINDS * KINDS * KINDS;
const KINDS: u64 = STEPS.len() as u64;

#[derive(Default)]
pub(crate) struct Tally {
    /// Subsets looked at.
    pub(crate) states: AtomicU64,
    /// Moments of which all subsets were looked at, and those with too many.
    pub(crate) whole: AtomicU64,
    pub(crate) drawn: AtomicU64,
}

fn script(number: u64) -> Vec<Step> {
    let (len, mut rest) = match number {
        0..KINDS => (1, number),
        _ if number < KINDS + KINDS * KINDS => (2, number - KINDS),
        _ => (3, number - KINDS - KINDS * KINDS),
    };
    let mut steps = Vec::new();
    for _ in 0..len {
        steps.push(STEPS[(rest % KINDS) as usize]);
        rest /= KINDS;
    }
    steps
}

/// One script on one beginning.
pub(crate) fn case(number: u64, tally: &Arc<Tally>) -> Result<(), String> {
    let (has_unified_cache, is_nearly_full) = (number.is_multiple_of(2), number / 2 % 2 == 1);
    let script = script(number / 4);
    let about = |problem| format!("{script:?}, unified: {has_unified_cache}, nearly full: {is_nearly_full}: {problem}");
    let settings = Settings {
        partitions: 1,
        sizes: Sizes::Same(40),
        has_group: false,
        commit_acks: Acks::Synced,
        flush_messages: None,
        has_unified_cache,
        writes_back: false,
    };
    run(&settings, is_nearly_full, &script, tally).map_err(about)
}

fn run(settings: &Settings, is_nearly_full: bool, script: &[Step], tally: &Arc<Tally>) -> Result<(), String> {
    let mut random = Random::new(1);
    let world = World::new(Model::new(1, false));
    let fs = settings.machine(1);
    let mut session = open(&fs, &world, settings)?;
    if is_nearly_full {
        // What is left of the segment takes one record or none.
        let large = [14_000, 14_000, 14_000, 14_000, 4800];
        session.send_sized(Acks::Synced, &large)?;
    }
    session.close()?.map_err(|error| error.to_string())?;
    let mut session = open(&fs, &world, settings)?;
    for (at, step) in script.iter().enumerate() {
        if at + 1 == script.len() {
            let (world, tally) = (Arc::clone(&world), Arc::clone(tally));
            let random = Mutex::new(Random::new(7));
            fs.on_operation(move |fs, _| look_at_all(fs, &world, &random, &tally));
        }
        match step {
            Step::Call(call) => {
                session.call(*call, &mut random)?.map_err(|error| format!("step {at} was refused: {error}"))?;
            }
            Step::Large => session.send_sized(Acks::Synced, &[15_000])?,
            Step::Close => {
                session.close()?.map_err(|error| format!("step {at} was refused: {error}"))?;
                session = open(&fs, &world, settings)?;
            }
            Step::Abandon => {
                session.abandon();
                session = open(&fs, &world, settings)?;
            }
        }
    }
    look_at_all(&fs, &world, &Mutex::new(random), tally);
    session.abandon();
    world.take_violation()
}

fn open(fs: &Simulated, world: &Arc<World>, settings: &Settings) -> Result<Session, String> {
    Session::open(fs, world, settings, Loss::Process)?.map_err(|error| format!("it does not open: {error}"))
}

fn look_at_all(fs: &Simulated, world: &World, random: &Mutex<Random>, tally: &Tally) {
    if held(&world.violation).is_some() {
        return;
    }
    let looked = world.note_published().and_then(|()| {
        let items = fs.unsynced();
        let model = held(&world.model);
        let is_whole = items.len() <= ITEMS_MAX;
        if is_whole { &tally.whole } else { &tally.drawn }.fetch_add(1, Ordering::Relaxed);
        let subsets = if is_whole { 1 << items.len() } else { DRAWN };
        for number in 0..subsets {
            let kept = if is_whole { number } else { held(random).next() };
            let keep = |index: usize| kept.rotate_right(index as u32) & 1 == 1;
            let looked = image::look(&fs.crash_keeping(keep), &model, Loss::Power);
            looked.map_err(|problem| {
                let spared: Vec<_> =
                    items.iter().enumerate().filter(|(at, _)| keep(*at)).map(|(_, item)| item).collect();
                format!("before operation {}, with {spared:?} of {items:?} kept: {problem}", fs.operations())
            })?;
        }
        tally.states.fetch_add(subsets, Ordering::Relaxed);
        Ok(())
    });
    if let Err(problem) = looked {
        held(&world.violation).get_or_insert(problem);
    }
}
