//! One writer at a time, and whoever holds the pen writes for the others.
//!
//! Under contention this is several times faster than a lock that everybody takes in turn: the writer's state stays
//! on one core, and a run of items becomes one batch.

use std::sync::Arc;

use crossbeam::utils::CachePadded;

use crate::ring::first_panic::FirstPanic;
use crate::ring::queue::{Drain, Queue};
use crate::ring::seeded::{Bug, is_seeded};
use crate::sync::{AtomicBool, AtomicUsize, Mutex, MutexGuard, Ordering, fence};

/// What is done with the items, by one thread at a time.
///
/// A panic in either method goes on in the thread that holds the pen, after it has served everybody and let go; the
/// item is gone. The writer is used again afterwards, so it keeps itself whole.
pub(crate) trait Writer {
    /// What is submitted.
    type Item;

    /// Takes the next item. Must not submit to its own combiner.
    fn write(&mut self, item: Self::Item);

    /// Ends a run of writes: called before the pen is let go, and at least once every capacity's worth of items.
    fn end_run(&mut self);
}

/// A writer behind a pen, with a queue in front of it.
///
/// Every item is written exactly once, in the order of each submitting thread. None is stranded: by the time all
/// calls have returned, all their items are written. An item may still be in the queue when its own `submit` returns,
/// but then another thread is inside a call and will write it before that call returns.
///
/// Why none is stranded: a submitter publishes its item, fences, and tries the pen. The holder lets go of the pen,
/// fences, and looks at the queue. Whichever fence comes first, one of them sees the other. Only where another thread
/// has announced that it will take the pen does the holder leave without looking: the pen passes to that thread after
/// us, and it looks. An item behind one that is claimed and not yet published is left to the thread that claimed,
/// which tries the pen in its turn.
pub(crate) struct Combiner<W: Writer> {
    queue: Arc<Queue<W::Item>>,
    /// Guards the writer and the queue's one consumer. The writer's own locks are taken under it, never around it.
    pen: CachePadded<Mutex<Desk<W>>>,
    /// Threads that have announced that they will take the pen. Each comes off under the pen.
    announced: CachePadded<AtomicUsize>,
    /// The holder has served others for long: the next submitter should take over. A request that outlives its holder
    /// costs one submitter one wait.
    is_tired: AtomicBool,
}

/// What the pen gives access to.
struct Desk<W: Writer> {
    writer: W,
    drain: Drain<W::Item>,
}

/// Capacities of the queue that a holder writes, after which it asks to be relieved. One under loom, so that it happens.
const RUNS_MAX: usize = if cfg!(loom) { 1 } else { 4 };

impl<W: Writer> Combiner<W> {
    /// A combiner with a queue of `capacity` items.
    ///
    /// # Panics
    /// If `capacity` is not a power of two of at least 2.
    pub(crate) fn new(capacity: usize, writer: W) -> Self {
        let (queue, drain) = Queue::new(capacity);
        Self {
            queue,
            pen: CachePadded::new(Mutex::new(Desk { writer, drain })),
            announced: CachePadded::new(AtomicUsize::new(0)),
            is_tired: AtomicBool::new(false),
        }
    }

    /// Has the item written, by this thread or by the one that holds the pen.
    ///
    /// Does not wait, unless the queue is full or the holder has asked to be relieved: then it waits for the pen. A
    /// thread that gets the pen writes what others submit in the meantime, up to about [`RUNS_MAX`] capacities.
    pub(crate) fn submit(&self, item: W::Item) {
        match self.queue.push(item) {
            Ok(()) => {
                if let Some(desk) = self.offer() {
                    let mut panics = FirstPanic::default();
                    self.serve(desk, &mut panics);
                    panics.resume();
                }
            }
            Err(item) => self.with(|writer| writer.write(item)),
        }
    }

    /// Takes the pen, writes what was submitted before, and lets `f` at the writer.
    ///
    /// What this thread submitted earlier is written before `f` runs, and so is what any call submitted that returned
    /// before this one began. `f` must not come back to the same combiner.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut W) -> R) -> R {
        let mut panics = FirstPanic::default();
        let mut desk = self.take();
        desk.catch_up(&mut panics);
        let result = panics.run(|| f(&mut desk.writer));
        panics.run(|| desk.writer.end_run());
        let is_relieved = self.is_announced(&desk);
        drop(desk);
        if !is_relieved && let Some(desk) = self.look_again() {
            self.serve(desk, &mut panics);
        }
        panics.resume();
        result.expect("where `f` panicked, the panic has gone on")
    }

    /// Tries the pen after a push. `None`: the holder will see the item before it leaves.
    fn offer(&self) -> Option<MutexGuard<'_, Desk<W>>> {
        if is_seeded(Bug::CombinerNeverOffers) {
            return None;
        }
        if let Some(desk) = self.pen.try_lock() {
            return Some(desk);
        }
        if is_seeded(Bug::CombinerOffersUnfenced) {
            return None;
        }
        // SeqCst: our item's stamp, stored before, and the failed try below are on opposite sides, as are the
        // holder's letting go and its look at the stamp around the fence in `look_again`: one sees the other.
        // It is spared above, since a try that succeeds proves by itself that nobody relies on us any more.
        fence(Ordering::SeqCst);
        if let Some(desk) = self.pen.try_lock() {
            return Some(desk);
        }
        // Relaxed, twice: a request that is seen late is seen by the next; the swap lets one thread answer.
        if self.is_tired.load(Ordering::Relaxed) && self.is_tired.swap(false, Ordering::Relaxed) {
            return Some(self.take());
        }
        None
    }

    /// Waits for the pen. Who comes through here must look again after letting go, or be relieved.
    fn take(&self) -> MutexGuard<'_, Desk<W>> {
        if let Some(desk) = self.pen.try_lock() {
            return desk;
        }
        // Relaxed, here and below: a count is exact by itself, and who reads it holds the pen: an announcement that was
        // taken back under the pen before is seen so, one that stands will be followed by a look at the queue.
        self.announced.fetch_add(1, Ordering::Relaxed);
        let desk = self.pen.lock();
        if !is_seeded(Bug::CombinerStaysAnnounced) {
            self.announced.fetch_sub(1, Ordering::Relaxed); // Relaxed: under the pen, as said above.
        }
        desk
    }

    /// Whether another thread will take the pen after its holder, who shows it.
    fn is_announced(&self, _holding: &MutexGuard<'_, Desk<W>>) -> bool {
        // Relaxed: as in `take`.
        self.announced.load(Ordering::Relaxed) > 0
    }

    /// Writes for everybody until nothing is left or another thread has announced that it goes on.
    fn serve<'a>(&'a self, mut desk: MutexGuard<'a, Desk<W>>, panics: &mut FirstPanic) {
        let run_max = self.queue.capacity();
        let mut served = 0;
        loop {
            let taken = desk.run(run_max, panics);
            served += taken;
            if served >= RUNS_MAX * run_max {
                // Relaxed: a request, not a hand-over; only an announcement lets us leave early.
                self.is_tired.store(true, Ordering::Relaxed);
            }
            let is_relieved = self.is_announced(&desk);
            if taken == run_max && !is_relieved {
                continue;
            }
            drop(desk);
            if is_relieved {
                return;
            }
            match self.look_again() {
                Some(again) => desk = again,
                None => return,
            }
        }
    }

    /// Looks at the queue after letting go of the pen; takes it again if there is something nobody else holds it for.
    fn look_again(&self) -> Option<MutexGuard<'_, Desk<W>>> {
        if is_seeded(Bug::CombinerLeavesUnseen) {
            return None;
        }
        if !is_seeded(Bug::CombinerLooksUnfenced) {
            // SeqCst: pairs with the fence in `offer`.
            fence(Ordering::SeqCst);
        }
        if self.queue.is_empty() { None } else { self.pen.try_lock() }
    }
}

impl<W: Writer> Desk<W> {
    /// Writes what is published, at most `run_max` items and none behind one whose write panics, and ends the run.
    /// Returns how many were taken.
    fn run(&mut self, run_max: usize, panics: &mut FirstPanic) -> usize {
        let mut taken = 0;
        panics.run(|| {
            while taken < run_max
                && let Some(item) = self.drain.pop()
            {
                taken += 1;
                self.writer.write(item);
            }
        });
        if taken > 0 {
            panics.run(|| self.writer.end_run());
        }
        taken
    }

    /// Writes everything that was claimed before this call, so that nothing written next overtakes it.
    fn catch_up(&mut self, panics: &mut FirstPanic) {
        let end = self.drain.claimed_end();
        // Again after a panic: that item is gone, and what comes next must not overtake the others.
        while panics
            .run(|| {
                while let Some(item) = self.drain.pop_below(end) {
                    self.writer.write(item);
                }
            })
            .is_none()
        {}
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::{OnceLock, Weak, mpsc};
    use std::thread;

    use super::*;

    /// What a writer was told: items, and `None` for the end of a run.
    #[derive(Default)]
    struct Journal(Vec<Option<u32>>);

    /// The item that no journal can write.
    const BAD: u32 = u32::MAX;

    impl Writer for Journal {
        type Item = u32;

        fn write(&mut self, item: u32) {
            assert_ne!(item, BAD, "a bad item");
            self.0.push(Some(item));
        }

        fn end_run(&mut self) {
            self.0.push(None);
        }
    }

    impl Journal {
        fn items(&self) -> Vec<u32> {
            self.0.iter().copied().flatten().collect()
        }
    }

    /// Runs `meanwhile` while another thread holds the pen, in a `with` that then ends by `ending`. Returns whether
    /// that `with` panicked.
    fn while_held(combiner: &Combiner<Journal>, ending: fn(&mut Journal), meanwhile: impl FnOnce()) -> bool {
        let (held, is_held) = mpsc::channel();
        let (let_go, may_let_go) = mpsc::channel();
        thread::scope(|scope| {
            let holder = scope.spawn(move || {
                combiner.with(|writer| {
                    held.send(()).expect("the test waits");
                    may_let_go.recv().expect("the test says so");
                    ending(writer);
                });
            });
            is_held.recv().expect("the pen is taken");
            meanwhile();
            let_go.send(()).expect("the holder waits");
            holder.join().is_err()
        })
    }

    #[test]
    fn an_undisturbed_submitter_writes_its_own_and_ends_each_run() {
        let combiner = Combiner::new(4, Journal::default());
        combiner.submit(1);
        combiner.submit(2);
        assert_eq!(combiner.with(|writer| writer.0.clone()), [Some(1), None, Some(2), None]);
        assert_eq!(combiner.with(|writer| writer.0.len()), 5, "the call before ended a run of its own");
    }

    #[test]
    fn a_submitter_does_not_wait_for_the_holder_who_writes_for_it_in_one_run() {
        let combiner = Combiner::new(4, Journal::default());
        assert!(!while_held(&combiner, |writer| writer.write(0), || (1..=3).for_each(|n| combiner.submit(n))));
        assert_eq!(combiner.with(|writer| writer.0.clone()), [Some(0), None, Some(1), Some(2), Some(3), None]);
    }

    #[test]
    fn a_submitter_that_finds_the_queue_full_waits_and_keeps_its_order() {
        let combiner = Arc::new(Combiner::new(2, Journal::default()));
        let mut submitter = None;
        while_held(
            &combiner,
            |_| {},
            || {
                let other = Arc::clone(&combiner);
                submitter = Some(thread::spawn(move || (0..5).for_each(|n| other.submit(n))));
                // It has filled the queue and now waits for the pen.
                while combiner.announced.load(Ordering::Relaxed) == 0 {
                    thread::yield_now();
                }
            },
        );
        submitter.expect("it was started").join().expect("it does not panic");
        assert_eq!(combiner.with(|writer| writer.items()), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn an_item_whose_write_panics_is_gone_alone_and_its_panic_goes_on_at_the_holder() {
        let combiner = Combiner::new(4, Journal::default());
        let has_panicked =
            while_held(&combiner, |_| {}, || [1, BAD, 2, BAD].into_iter().for_each(|n| combiner.submit(n)));
        assert!(has_panicked, "the panic went on in the thread that wrote");
        combiner.submit(3);
        assert_eq!(combiner.with(|writer| writer.items()), [1, 2, 3]);
    }

    #[test]
    fn whoever_takes_the_pen_finds_everything_before_it_written_even_past_a_panic() {
        let combiner = Arc::new(Combiner::new(4, Journal::default()));
        let (found, finds) = mpsc::channel();
        let mut taker = None;
        while_held(
            &combiner,
            |_| {},
            || {
                [1, BAD, 2].into_iter().for_each(|n| combiner.submit(n));
                let other = Arc::clone(&combiner);
                taker = Some(thread::spawn(move || other.with(|writer| found.send(writer.items()))));
                while combiner.announced.load(Ordering::Relaxed) == 0 {
                    thread::yield_now();
                }
            },
        );
        let outcome = taker.expect("it was started").join();
        assert!(outcome.is_err(), "the panic goes on in the thread that wrote");
        assert_eq!(finds.recv().expect("its own call was made"), [1, 2]);
    }

    #[test]
    fn a_panic_of_the_one_who_took_the_pen_strands_nobody() {
        let combiner = Combiner::new(4, Journal::default());
        assert!(while_held(&combiner, |_| panic!("of the holder"), || combiner.submit(1)));
        combiner.pen.try_lock().map(|desk| assert_eq!(desk.writer.0, [None, Some(1), None])).expect("the pen is free");
        catch_unwind(AssertUnwindSafe(|| combiner.submit(BAD))).expect_err("the panic goes on");
        combiner.pen.try_lock().map(|desk| assert_eq!(desk.writer.items(), [1])).expect("the pen is free");
    }

    /// Keeps its first writing thread busy: it does not go on before there is more to write, or somebody to go on.
    #[derive(Default)]
    struct Unending {
        combiner: OnceLock<Weak<Combiner<Unending>>>,
        is_busy: Arc<AtomicBool>,
        first: Option<thread::ThreadId>,
        written_by_first: usize,
    }

    impl Writer for Unending {
        type Item = bool;

        fn write(&mut self, is_last: bool) {
            let this = thread::current().id();
            if *self.first.get_or_insert(this) != this {
                return;
            }
            self.written_by_first += 1;
            self.is_busy.store(true, Ordering::Relaxed);
            let combiner = self.combiner.get().and_then(Weak::upgrade).expect("set before the first item");
            while !is_last && combiner.queue.is_empty() && combiner.announced.load(Ordering::Relaxed) == 0 {
                thread::yield_now();
            }
        }

        fn end_run(&mut self) {}
    }

    #[test]
    fn a_holder_whom_others_keep_busy_hands_the_pen_over() {
        const CAPACITY: usize = 4;
        const FED: usize = 10_000;
        let is_busy = Arc::new(AtomicBool::new(false));
        let writer = Unending { is_busy: Arc::clone(&is_busy), ..Unending::default() };
        let combiner = Arc::new(Combiner::new(CAPACITY, writer));
        combiner.with(|writer| writer.combiner.set(Arc::downgrade(&combiner))).expect("set once");
        thread::scope(|scope| {
            let holder = scope.spawn(|| combiner.submit(false));
            while !is_busy.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            for n in 1..=FED {
                // One at a time: a full queue would have us wait for the pen, and that relieves the holder too.
                while !combiner.queue.is_empty() {
                    thread::yield_now();
                }
                combiner.submit(n == FED);
            }
            holder.join().expect("the holder comes back");
        });
        let written = combiner.with(|writer| writer.written_by_first);
        // A run may begin just before the request and one more item arrive just before the announcement.
        let bound = CAPACITY * (RUNS_MAX + 2);
        assert!(written <= bound, "the holder wrote {written} items, more than about {bound}, before it was relieved");
    }

    #[test]
    fn with_more_threads_than_cores_every_item_is_written_once_in_its_threads_order() {
        const THREADS: u32 = 8;
        const EACH: u32 = 20_000;
        let combiner = Combiner::new(64, Journal::default());
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let combiner = &combiner;
                scope.spawn(move || {
                    for n in 0..EACH {
                        let item = thread * EACH * 2 + n;
                        // Every thread mixes both ways in; order holds across them.
                        if n % 97 == thread {
                            combiner.with(|writer| writer.write(item))
                        } else {
                            combiner.submit(item)
                        }
                    }
                });
            }
        });
        // Without `with`, which would write what was stranded.
        let desk = combiner.pen.try_lock().expect("nobody holds the pen any more");
        let items = desk.writer.items();
        assert_eq!(items.len(), (THREADS * EACH) as usize, "none was stranded");
        for thread in 0..THREADS {
            let own: Vec<u32> =
                items.iter().filter(|item| *item / (EACH * 2) == thread).map(|n| n % (EACH * 2)).collect();
            assert!(own.iter().copied().eq(0..EACH), "thread {thread} finds its items once and in its order");
        }
    }
}
