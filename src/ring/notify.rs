//! News for whoever waits: threads and async tasks alike, and next to nothing to pay while nobody does.
//!
//! An eventcount on `std::task::Waker`. The condition is the caller's: it is changed, then [`Notify::notify_all`] is
//! called; a waiter registers, then asks for the condition once more before it sleeps.

use std::fmt;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crossbeam::utils::CachePadded;

use crate::config::WaitStrategy;
use crate::ring::seeded::{Bug, is_light_half_left_out, is_seeded};
use crate::sync::{AtomicUsize, Barrier, Mutex, Ordering, spin_loop, thread, yield_now};
use crate::time::Deadline;

/// Wakes whoever waits for a condition to change.
pub(crate) struct Notify {
    /// How many are registered. Stored under `registered` only; read by notifiers without it.
    waiting: CachePadded<AtomicUsize>,
    barrier: Barrier,
    /// The wakers of those who wait. Nothing is called and no other lock is taken while it is held.
    registered: Mutex<Registered>,
}

/// Wakers by place. All are taken at once, and then the places begin anew under the next epoch.
#[derive(Default)]
struct Registered {
    epoch: u64,
    places: Vec<Option<Waker>>,
    free: Vec<usize>,
}

/// Where a waker is registered; void once the epoch has passed.
#[derive(Clone, Copy)]
struct Place {
    epoch: u64,
    index: usize,
}

impl Notify {
    /// Nobody waits yet.
    pub(crate) fn new() -> Self {
        Self {
            waiting: CachePadded::new(AtomicUsize::new(0)),
            barrier: Barrier::new(),
            registered: Mutex::new(Registered::default()),
        }
    }

    /// Wakes everybody who waits. Call it after the condition was changed: half a fence and one load if nobody does.
    ///
    /// A waker that panics keeps none of the others asleep, and its panic ends here: the hook has reported it, and the
    /// thread that brings the news has no part in it.
    #[inline]
    pub(crate) fn notify_all(&self) {
        if !is_light_half_left_out() {
            // The changed condition comes before, the look for waiters after; a waiter's registration comes before,
            // its last question after the heavy half in `Waiting::arm`. So one of the two sees the other.
            self.barrier.light();
        }
        // Relaxed: ordered by the fence.
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return;
        }
        self.wake_all();
    }

    #[cold]
    fn wake_all(&self) {
        let places = {
            let mut registered = self.registered.lock();
            registered.epoch += 1;
            registered.free.clear();
            // Relaxed: written under the lock; a notifier that misses it takes the lock for nothing.
            self.waiting.store(0, Ordering::Relaxed);
            std::mem::take(&mut registered.places)
        };
        for waker in places.into_iter().flatten() {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
                // Its destructor is a stranger's and might panic in turn.
                std::mem::forget(panic);
            }
        }
    }

    /// Waits until `ready` has an answer, which is asked before and after every wake-up; `None` once the deadline has
    /// passed and it still has none. With a deadline in the past it is asked once.
    pub(crate) fn wait<R>(&self, deadline: Deadline, ready: impl FnMut() -> Option<R>) -> Option<R> {
        wait_any(&[self], deadline, ready)
    }

    /// As [`wait`](Self::wait), with the waiter's own patience.
    pub(crate) fn wait_with<R>(
        &self,
        patience: &mut Patience,
        deadline: Deadline,
        ready: impl FnMut() -> Option<R>,
    ) -> Option<R> {
        wait_with(patience, &[self], deadline, ready)
    }

    /// Registers the waker, or brings its registration up to date.
    fn register(&self, place: Option<Place>, waker: &Waker) -> Place {
        // Cloned before and dropped after the lock: a waker's code is a stranger's.
        let mut spare = Some(waker.clone());
        let place = {
            let mut registered = self.registered.lock();
            let place = registered.enter(place, &mut spare);
            // Relaxed: ordered by the fence in `Waiting::arm`.
            self.waiting.store(registered.count(), Ordering::Relaxed);
            place
        };
        drop(spare);
        place
    }

    /// Takes a registration back, if it has not been notified.
    fn deregister(&self, place: Place) {
        let waker = {
            let mut registered = self.registered.lock();
            let waker = registered.leave(place);
            // Relaxed: who still reads the old count takes the lock for nothing.
            self.waiting.store(registered.count(), Ordering::Relaxed);
            waker
        };
        drop(waker);
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Relaxed: for people.
        f.debug_struct("Notify").field("waiting", &self.waiting.load(Ordering::Relaxed)).finish_non_exhaustive()
    }
}

impl Registered {
    fn count(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Puts the waker into its place, or a new one; `waker` is left with what is to be dropped.
    fn enter(&mut self, place: Option<Place>, waker: &mut Option<Waker>) -> Place {
        if let Some(place) = place.filter(|place| place.epoch == self.epoch) {
            let entry = &mut self.places[place.index];
            let is_same = entry.as_ref().zip(waker.as_ref()).is_some_and(|(old, new)| old.will_wake(new));
            if !is_same {
                std::mem::swap(entry, waker);
            }
            return place;
        }
        let index = match self.free.pop() {
            Some(index) => {
                self.places[index] = waker.take();
                index
            }
            None => {
                self.places.push(waker.take());
                self.places.len() - 1
            }
        };
        Place { epoch: self.epoch, index }
    }

    fn leave(&mut self, place: Place) -> Option<Waker> {
        if is_seeded(Bug::NotifyForgetsEpoch) {
            let waker = self.places.get_mut(place.index).and_then(Option::take);
            self.free.extend(waker.is_some().then_some(place.index));
            return waker;
        }
        if place.epoch != self.epoch {
            return None;
        }
        self.free.push(place.index);
        let waker = self.places[place.index].take();
        debug_assert!(waker.is_some(), "place {} of epoch {} was left twice", place.index, place.epoch);
        waker
    }
}

/// One waiter's registration, taken back when it is dropped.
///
/// For a future: keep it beside what the condition needs, and call [`poll_ready`](Self::poll_ready). `N` is an
/// `Arc<Notify>`, or whatever leads to the notify.
pub(crate) struct Waiting<N: Deref<Target = Notify>> {
    notify: N,
    place: Option<Place>,
}

impl<N: Deref<Target = Notify>> Waiting<N> {
    /// Not registered yet.
    pub(crate) fn new(notify: N) -> Self {
        Self { notify, place: None }
    }

    /// Ready with the answer of `ready`, or pending with the task's waker registered: then a `notify_all` that comes
    /// after the condition changes wakes it.
    pub(crate) fn poll_ready<R>(&mut self, cx: &mut Context<'_>, mut ready: impl FnMut() -> Option<R>) -> Poll<R> {
        let answer = ready().or_else(|| {
            self.arm(cx.waker());
            if is_seeded(Bug::NotifySleepsUnasked) { None } else { ready() }
        });
        match answer {
            Some(answer) => {
                self.disarm();
                Poll::Ready(answer)
            }
            None => Poll::Pending,
        }
    }

    /// Registers the waker. Ask for the condition after it, and only then sleep.
    pub(crate) fn arm(&mut self, waker: &Waker) {
        self.place = Some(self.notify.register(self.place, waker));
        // Pairs with the light half in `Notify::notify_all`.
        self.notify.barrier.heavy();
    }

    /// Takes the registration back.
    pub(crate) fn disarm(&mut self) {
        if let Some(place) = self.place.take() {
            self.notify.deregister(place);
        }
    }
}

impl<N: Deref<Target = Notify>> Drop for Waiting<N> {
    fn drop(&mut self) {
        self.disarm();
    }
}

impl<N: Deref<Target = Notify>> fmt::Debug for Waiting<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("is_registered", &self.place.is_some()).finish_non_exhaustive()
    }
}

/// As [`Notify::wait`], for news of several kinds.
pub(crate) fn wait_any<R>(notifies: &[&Notify], deadline: Deadline, ready: impl FnMut() -> Option<R>) -> Option<R> {
    wait_with(&mut Patience::new(WaitStrategy::Park), notifies, deadline, ready)
}

fn wait_with<R>(
    patience: &mut Patience,
    notifies: &[&Notify],
    deadline: Deadline,
    mut ready: impl FnMut() -> Option<R>,
) -> Option<R> {
    if let Some(answer) = ready() {
        return Some(answer);
    }
    deadline.left()?;
    if let Some(answer) = patience.ask_awake(deadline, &mut ready) {
        return Some(answer);
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut waiting: Vec<_> = notifies.iter().map(|notify| Waiting::new(*notify)).collect();
    loop {
        for waiting in &mut waiting {
            waiting.arm(&waker);
        }
        if !is_seeded(Bug::NotifySleepsUnasked)
            && let Some(answer) = ready()
        {
            return Some(answer);
        }
        match deadline.left()? {
            Duration::MAX => thread::park(),
            left => thread::park_timeout(left),
        }
    }
}

/// How long a waiter stays awake before it sleeps, and what it has learnt about that.
#[derive(Clone, Debug)]
pub(crate) struct Patience {
    strategy: WaitStrategy,
    /// Questions without giving the core away, next time. Halved when they were in vain: then whoever brings the news
    /// is likely waiting for this core.
    spins: u32,
}

impl Patience {
    /// Questions without giving the core away, at most; about 4 µs.
    const SPINS_MAX: u32 = 100;
    const SPINS_MIN: u32 = 4;
    /// Questions with giving it away in between, unless the time is up before.
    const YIELDS: u32 = 100;
    /// A sleeping thread takes 33 to 40 µs to come back.
    const AWAKE_MAX: Duration = Duration::from_micros(50);

    pub(crate) fn new(strategy: WaitStrategy) -> Self {
        Self { strategy, spins: Self::SPINS_MAX }
    }

    /// Asks on while staying awake: as long as it takes, or for about as long as waking an idle core would take.
    fn ask_awake<R>(&mut self, deadline: Deadline, ready: &mut impl FnMut() -> Option<R>) -> Option<R> {
        if cfg!(loom) {
            // The models are about what comes after; asking in turns only makes them larger.
            return None;
        }
        match self.strategy {
            WaitStrategy::BusySpin => ask_on(deadline, ready, || (0..16).for_each(|_| spin_loop())),
            WaitStrategy::Yield => self.ask_spinning(ready).or_else(|| ask_on(deadline, ready, yield_now)),
            WaitStrategy::Park => self.ask_for_a_while(deadline, ready),
        }
    }

    /// Asks without giving the core away.
    fn ask_spinning<R>(&mut self, ready: &mut impl FnMut() -> Option<R>) -> Option<R> {
        for _ in 0..self.spins {
            spin_loop();
            if let Some(answer) = ready() {
                self.spins = (self.spins * 2).min(Self::SPINS_MAX);
                return Some(answer);
            }
        }
        self.spins = (self.spins / 2).max(Self::SPINS_MIN);
        None
    }

    fn ask_for_a_while<R>(&mut self, deadline: Deadline, ready: &mut impl FnMut() -> Option<R>) -> Option<R> {
        if let Some(answer) = self.ask_spinning(ready) {
            return Some(answer);
        }
        let awake = Deadline::after(Self::AWAKE_MAX);
        for _ in 0..Self::YIELDS {
            yield_now();
            if let Some(answer) = ready() {
                return Some(answer);
            }
            if awake.left().is_none() || deadline.left().is_none() {
                break;
            }
        }
        None
    }
}

/// Asks until there is an answer or the time is up.
fn ask_on<R>(deadline: Deadline, ready: &mut impl FnMut() -> Option<R>, mut pass_time: impl FnMut()) -> Option<R> {
    loop {
        pass_time();
        if let Some(answer) = ready() {
            return Some(answer);
        }
        deadline.left()?;
    }
}

/// The waker of a sleeping thread.
struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::sync::AtomicBool;

    /// A waker that counts, and one that panics.
    #[derive(Default)]
    struct Woken {
        times: AtomicUsize,
        is_fragile: bool,
    }

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.times.fetch_add(1, Ordering::Relaxed);
            assert!(!self.is_fragile, "a waker that panics");
        }
    }

    impl Woken {
        fn times(&self) -> usize {
            self.times.load(Ordering::Relaxed)
        }
    }

    fn waiting_count(notify: &Notify) -> usize {
        notify.waiting.load(Ordering::Relaxed)
    }

    #[test]
    fn a_pending_future_is_woken_once_and_registers_anew() {
        let notify = Arc::new(Notify::new());
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        let mut waiting = Waiting::new(Arc::clone(&notify));
        for round in 1..=3 {
            assert!(waiting.poll_ready(&mut cx, || None::<()>).is_pending());
            assert!(waiting.poll_ready(&mut cx, || None::<()>).is_pending(), "a second poll is the same registration");
            assert_eq!(waiting_count(&notify), 1);
            notify.notify_all();
            notify.notify_all();
            assert_eq!((woken.times(), waiting_count(&notify)), (round, 0));
        }
        assert_eq!(waiting.poll_ready(&mut cx, || Some(7)), Poll::Ready(7));
    }

    #[test]
    fn a_future_polled_by_another_task_wakes_that_one() {
        let notify = Notify::new();
        let tasks = [Arc::new(Woken::default()), Arc::new(Woken::default())];
        let mut waiting = Waiting::new(&notify);
        for task in &tasks {
            let waker = Waker::from(Arc::clone(task));
            assert!(waiting.poll_ready(&mut Context::from_waker(&waker), || None::<()>).is_pending());
        }
        notify.notify_all();
        assert_eq!(tasks.map(|task| task.times()), [0, 1]);
    }

    #[test]
    fn a_future_that_is_dropped_or_done_leaves_nothing_behind_and_its_place_to_others() {
        let notify = Notify::new();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut many: Vec<_> = (0..5).map(|_| Waiting::new(&notify)).collect();
        many.iter_mut().for_each(|waiting| waiting.arm(&waker));
        drop(many.drain(1..4));
        assert_eq!((waiting_count(&notify), Arc::strong_count(&woken)), (2, 4), "two, the waker and ours");
        let mut answers = [None, Some(1)].into_iter();
        let mut done = Waiting::new(&notify);
        let polled = done.poll_ready(&mut Context::from_waker(&waker), || answers.next().flatten());
        assert_eq!((polled, waiting_count(&notify)), (Poll::Ready(1), 2), "ready at the last question");
        assert_eq!(notify.registered.lock().places.len(), 5, "places are used again");
        notify.notify_all();
        assert_eq!((woken.times(), Arc::strong_count(&woken)), (2, 2));
    }

    #[test]
    fn a_registration_that_was_notified_leaves_its_successors_place_alone() {
        let notify = Notify::new();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut early = Waiting::new(&notify);
        early.arm(Waker::noop());
        notify.notify_all();
        let mut late = Waiting::new(&notify);
        late.arm(&waker);
        drop(early);
        notify.notify_all();
        assert_eq!(woken.times(), 1);
    }

    #[test]
    fn a_waker_that_panics_keeps_nobody_asleep() {
        let notify = Notify::new();
        let tasks = [true, false].map(|is_fragile| Arc::new(Woken { is_fragile, ..Woken::default() }));
        let mut many: Vec<_> = tasks.iter().map(|_| Waiting::new(&notify)).collect();
        for (waiting, task) in many.iter_mut().zip(&tasks) {
            waiting.arm(&Waker::from(Arc::clone(task)));
        }
        notify.notify_all(); // and the panic does not come out here
        assert_eq!(tasks.map(|task| task.times()), [1, 1]);
    }

    #[test]
    fn a_wait_ends_at_its_deadline_and_asks_once_where_that_has_passed() {
        let notify = Notify::new();
        let start = Instant::now();
        assert_eq!(notify.wait(Deadline::after(Duration::from_millis(20)), || None::<()>), None);
        assert!(start.elapsed() >= Duration::from_millis(20));
        assert_eq!(waiting_count(&notify), 0, "it took its registration back");
        let mut asked = 0;
        let never = || {
            asked += 1;
            None::<()>
        };
        assert_eq!(notify.wait(Deadline::after(Duration::ZERO), never), None);
        assert_eq!(asked, 1);
    }

    #[test]
    fn a_sleeping_thread_hears_any_of_the_notifies_it_waits_for() {
        for spoken in 0..2 {
            let notifies = [Notify::new(), Notify::new()];
            let is_said = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let waiter = scope.spawn(|| {
                    let both = [&notifies[0], &notifies[1]];
                    wait_any(&both, Deadline::never(), || is_said.load(Ordering::Relaxed).then_some(()))
                });
                // It is registered, so past its awake phase: asleep, or about to be.
                while notifies.iter().any(|notify| waiting_count(notify) == 0) {
                    yield_now();
                }
                is_said.store(true, Ordering::Relaxed);
                notifies[spoken].notify_all();
                assert_eq!(waiter.join().expect("the waiter does not panic"), Some(()));
            });
            assert!(notifies.iter().all(|notify| waiting_count(notify) == 0));
        }
    }

    #[test]
    fn with_more_threads_than_cores_a_turn_that_goes_round_is_never_lost() {
        const THREADS: usize = 6;
        const TURNS: usize = 3_000;
        let notify = Notify::new();
        let turn = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (notify, turn) = (&notify, &turn);
                scope.spawn(move || {
                    for mine in (thread..TURNS).step_by(THREADS) {
                        let come = || (turn.load(Ordering::Relaxed) == mine).then_some(());
                        notify.wait(Deadline::never(), come).expect("there is no deadline");
                        turn.store(mine + 1, Ordering::Relaxed);
                        notify.notify_all();
                    }
                });
            }
        });
        assert_eq!((turn.load(Ordering::Relaxed), waiting_count(&notify)), (TURNS, 0));
    }
}
