//! A thread that does jobs of one kind: started by the first job, ended when nobody can give it another.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use crate::sync::plain::Mutex;
use crate::time::Deadline;
use crossbeam::channel::{self, RecvTimeoutError, Sender};

/// A thread to be, and its jobs.
pub(crate) struct Worker<T> {
    name: &'static str,
    run: Run<T>,
    /// Guards only itself. `None` until the first job.
    jobs: Mutex<Option<Sender<Job<T>>>>,
}

type Run<T> = std::sync::Arc<dyn Fn(T) + Send + Sync>;

/// A job, at once or when its time has come.
struct Job<T> {
    due: Option<Deadline>,
    work: T,
}

impl<T: Send + 'static> Worker<T> {
    /// A worker that runs `run` on each job, in a thread of this name.
    pub(crate) fn new(name: &'static str, run: impl Fn(T) + Send + Sync + 'static) -> Self {
        Self { name, run: std::sync::Arc::new(run), jobs: Mutex::new(None) }
    }

    /// Has the job done soon. It comes back where no thread can be started.
    pub(crate) fn submit(&self, work: T) -> Result<(), T> {
        self.enqueue(Job { due: None, work })
    }

    /// Has the job done when `due` has passed. It comes back where no thread can be started.
    pub(crate) fn submit_at(&self, due: Deadline, work: T) -> Result<(), T> {
        self.enqueue(Job { due: Some(due), work })
    }

    fn enqueue(&self, job: Job<T>) -> Result<(), T> {
        let mut jobs = self.jobs.lock();
        if jobs.is_none() {
            let (sender, receiver) = channel::unbounded();
            let run = std::sync::Arc::clone(&self.run);
            let started = thread::Builder::new().name(self.name.into()).spawn(move || work(&receiver, &*run));
            *jobs = started.is_ok().then_some(sender);
        }
        match &*jobs {
            Some(sender) => sender.send(job).map_err(|refused| refused.0.work),
            None => Err(job.work),
        }
    }
}

/// Does a job. If it panics the panic hook has said so, and the next one is another's.
fn run_one<T>(run: &dyn Fn(T), work: T) {
    let _ = catch_unwind(AssertUnwindSafe(|| run(work)));
}

fn work<T>(jobs: &channel::Receiver<Job<T>>, run: &dyn Fn(T)) {
    let mut later: BinaryHeap<Reverse<Later<T>>> = BinaryHeap::new();
    loop {
        while let Some(Reverse(next)) = later.peek() {
            if next.due.left().is_some() {
                break;
            }
            later.pop().into_iter().for_each(|Reverse(job)| run_one(run, job.work));
        }
        let patience =
            later.peek().map_or(std::time::Duration::MAX, |Reverse(next)| next.due.left().unwrap_or_default());
        let job = if later.is_empty() {
            jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            jobs.recv_timeout(patience)
        };
        match job {
            Ok(Job { due: None, work }) => run_one(run, work),
            Ok(Job { due: Some(due), work }) => later.push(Reverse(Later { due, work })),
            Err(RecvTimeoutError::Timeout) => {}
            // Nobody is left to wait for what was to be done later.
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// A job for later, ordered by when.
struct Later<T> {
    due: Deadline,
    work: T,
}

impl<T> PartialEq for Later<T> {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl<T> Eq for Later<T> {}

impl<T> PartialOrd for Later<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Later<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.due.cmp(&other.due)
    }
}

impl<T> fmt::Debug for Worker<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_job_for_later_is_done_after_one_for_now_and_both_are_done() {
        let (done, seen) = channel::unbounded();
        let worker = Worker::new("headwater-test", move |job: u32| done.send(job).expect("the test listens"));
        assert!(worker.jobs.lock().is_none(), "a thread before the first job");
        worker.submit_at(Deadline::after(Duration::from_millis(20)), 2).expect("a thread");
        worker.submit(1).expect("a thread");
        let wait = Duration::from_secs(10);
        assert_eq!((seen.recv_timeout(wait), seen.recv_timeout(wait)), (Ok(1), Ok(2)));
        drop(worker);
        assert_eq!(seen.recv_timeout(wait), Err(RecvTimeoutError::Disconnected), "the thread outlived its worker");
    }

    #[test]
    fn a_job_that_panics_takes_no_other_with_it() {
        let (done, seen) = channel::unbounded();
        let worker = Worker::new("headwater-test", move |job: u32| {
            assert!(job != 1, "this job was to panic");
            done.send(job).expect("the test listens");
        });
        worker.submit(1).expect("a thread");
        worker.submit(2).expect("a thread");
        assert_eq!(seen.recv_timeout(Duration::from_secs(10)), Ok(2));
    }
}
