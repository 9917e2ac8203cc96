//! Rows 1 and 4: the power is cut, or the process killed, at every operation of random lives of a data directory.
//!
//! A life is a few sessions of a program on one machine. Before every operation of the disk and behind every call the
//! machine is forked into what a power cut or a kill would leave at that moment, and each fork is opened and looked
//! at. Some are gone on with: written to, crashed again, looked at again. Every session but a cleanly closed one ends
//! in a crash or kill of its own, at a random operation, also one of recovery.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use headwater::fs::Simulated;
use headwater::fs::simulated::Operation;

use crate::image;
use crate::model::{Loss, Model};
use crate::random::Random;
use crate::session::{Call, Session, Settings, World, held};

/// States by kind.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) power: AtomicU64,
    pub(crate) process: AtomicU64,
    /// Reached through one crash or more before.
    pub(crate) again: AtomicU64,
}

/// Who watches the machine and cuts its power.
struct Watch {
    world: Arc<World>,
    settings: Settings,
    random: Mutex<Random>,
    tally: Arc<Tally>,
    /// Operations left until the power is cut.
    until_cut: AtomicU64,
    is_cut: AtomicBool,
    /// What the machine has just lost, until it is put right.
    before: Mutex<Option<Loss>>,
}

/// One life. Says what was found wrong.
pub(crate) fn life(seed: u64, tally: &Arc<Tally>) -> Result<(), String> {
    let mut random = Random::new(seed);
    let settings = Settings::of(&mut random);
    let world = World::new(Model::new(settings.partitions, settings.has_group));
    let mut fs = settings.machine(random.next());
    let mut loss = Loss::Process;
    let sessions = 2 + random.below(3);
    for session in 0..sessions {
        let watch = Arc::new(Watch {
            world: Arc::clone(&world),
            settings: settings.clone(),
            random: Mutex::new(Random::new(random.next())),
            tally: Arc::clone(tally),
            until_cut: AtomicU64::new(if random.one_in(3) { random.below(80) } else { u64::MAX }),
            is_cut: AtomicBool::new(false),
            before: Mutex::new(Some(loss)),
        });
        let hook = Arc::clone(&watch);
        fs.on_operation(move |fs, operation| hook.before_operation(fs, operation));
        let lived = live(&fs, &watch, loss, &mut random);
        fs.on_operation(|_, _| {});
        let lived = lived.and_then(|()| world.take_violation());
        lived.map_err(|problem| format!("session {session} of {settings:?}: {problem}"))?;
        if random.one_in(4) && !watch.is_cut.load(Ordering::Relaxed) {
            // Also in the middle of recovery, where it had not come to its end.
            let is_open = held(&watch.before).is_none();
            loss = if is_open || loss == Loss::Process { Loss::Process } else { Loss::Both };
            fs = fs.kill();
        } else {
            loss = Loss::Power;
            fs = fs.crash(random.next());
        }
    }
    Ok(())
}

/// One session, to its end or to the power cut.
fn live(fs: &Simulated, watch: &Arc<Watch>, loss: Loss, random: &mut Random) -> Result<(), String> {
    let Watch { world, settings, .. } = &**watch;
    let is_cut = || watch.is_cut.load(Ordering::Relaxed);
    let opened = match Session::open(fs, world, settings, loss) {
        // A machine without power answers nothing; what was there is looked at in the next session.
        Err(_) | Ok(Err(_)) if is_cut() => return Ok(()),
        opened => opened?,
    };
    let mut session = opened.map_err(|error| format!("it does not open: {error}"))?;
    *held(&watch.before) = None;
    for number in 0..random.below(14) {
        let call = Call::any(settings, random);
        let called = session.call(call, random);
        if is_cut() {
            session.abandon();
            return Ok(());
        }
        if let Err(error) = called.map_err(|problem| format!("call {number}: {problem}"))? {
            return Err(format!("call {number}, {call:?}, was refused: {error}"));
        }
        watch.look(fs, || format!("behind {call:?}"));
        world.take_violation()?;
    }
    match random.below(3) {
        0 => {
            let closed = session.close();
            if is_cut() {
                return Ok(());
            }
            closed?.map_err(|error| format!("it does not close: {error}"))?;
            watch.look(fs, || "behind the close".into());
        }
        _ => session.abandon(),
    }
    Ok(())
}

impl Watch {
    fn before_operation(&self, fs: &Simulated, operation: Operation<'_>) {
        self.look(fs, || {
            format!("before operation {}, {:?} of {:?}", operation.number, operation.kind, operation.path)
        });
        if self.until_cut.fetch_sub(1, Ordering::Relaxed) == 0 {
            self.is_cut.store(true, Ordering::Relaxed);
            fs.cut_power();
        }
    }

    /// Forks the machine and looks at what a crash at this moment would leave.
    fn look(&self, fs: &Simulated, moment: impl Fn() -> String) {
        if self.is_cut.load(Ordering::Relaxed) || held(&self.world.violation).is_some() {
            return;
        }
        let looked = self.world.note_published().and_then(|()| {
            let mut random = held(&self.random);
            let model = held(&self.world.model);
            let killed = match *held(&self.before) {
                Some(Loss::Power | Loss::Both) => Loss::Both,
                _ => Loss::Process,
            };
            for _ in 0..3 {
                // Without the rest or with all of it now and then, else by coin.
                let seed = if random.one_in(12) { random.below(2) } else { random.next() };
                self.look_at(&fs.crash(seed), &model, Loss::Power, &mut random, 0)
                    .map_err(|problem| format!("a crash with seed {seed}: {problem}"))?;
            }
            if random.one_in(2) {
                self.look_at(&fs.kill(), &model, killed, &mut random, 0)
                    .map_err(|problem| format!("a kill: {problem}"))?;
            }
            Ok(())
        });
        if let Err(problem) = looked {
            held(&self.world.violation).get_or_insert_with(|| format!("{}: {problem}", moment()));
        }
    }

    /// Looks at one fork, and goes on with some.
    fn look_at(
        &self,
        fs: &Simulated,
        model: &Model,
        loss: Loss,
        random: &mut Random,
        depth: u64,
    ) -> Result<(), String> {
        const DEPTH_MAX: u64 = 3;
        let count = match loss {
            Loss::Power => &self.tally.power,
            Loss::Process | Loss::Both => &self.tally.process,
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.tally.again.fetch_add(u64::from(depth > 0), Ordering::Relaxed);
        let found = image::look(fs, model, loss)?;
        if depth == DEPTH_MAX || !random.one_in(8) {
            return Ok(());
        }
        let world = World::new(model.clone());
        let session = Session::of(found, &world, &self.settings, loss)?;
        let mut session = session.map_err(|error| format!("it cannot be gone on with: {error}"))?;
        for _ in 0..random.below(4) {
            let call = Call::any(&self.settings, random);
            let called = session.call(call, random).map_err(|problem| format!("after recovery, {problem}"))?;
            called.map_err(|error| format!("after recovery, {call:?} was refused: {error}"))?;
        }
        world.note_published()?;
        for _ in 0..3 {
            let (fork, loss) =
                if random.one_in(4) { (fs.kill(), Loss::Process) } else { (fs.crash(random.next()), Loss::Power) };
            let looked = self.look_at(&fork, &held(&world.model), loss, random, depth + 1);
            looked.map_err(|problem| format!("and {loss:?} lost again: {problem}"))?;
        }
        session.abandon();
        Ok(())
    }
}
