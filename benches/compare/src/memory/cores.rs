//! A core for each thread.
//!
//! Two threads that the scheduler has put on one core take turns by context switches of a microsecond, while the same
//! two on two cores need a tenth of that: a peer's figure would be that of the scheduler's luck. So where a cell has no
//! more threads than there are cores, each stays on a core of its own. Where it has more, they are left alone.

#[cfg(target_os = "linux")]
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::harness::Result;

/// The cores for a cell's threads; none if there are too few.
pub(crate) struct Cores {
    #[cfg(target_os = "linux")]
    cores: Vec<usize>,
}

#[cfg(target_os = "linux")]
impl Cores {
    pub(crate) fn for_threads(threads: usize) -> Result<Self> {
        let allowed = sched_getaffinity(None)?;
        let mut cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
        if cores.len() < threads {
            cores.clear();
        }
        Ok(Cores { cores })
    }

    /// Keeps the calling thread, the `nth` of the cell, on its core.
    pub(crate) fn take(&self, nth: usize) -> Result<()> {
        if let Some(core) = self.cores.get(nth) {
            let mut only = CpuSet::new();
            only.set(*core);
            sched_setaffinity(None, &only)?;
        }
        Ok(())
    }
}

#[cfg(not(target_os = "linux"))]
impl Cores {
    pub(crate) fn for_threads(_threads: usize) -> Result<Self> {
        Ok(Cores {})
    }

    pub(crate) fn take(&self, _nth: usize) -> Result<()> {
        Ok(())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::thread;

    use rustix::thread::sched_getaffinity;

    use super::Cores;

    /// The number of cores that a thread may run on after it took its core among `threads`.
    fn left(threads: usize) -> u32 {
        let run = move || {
            Cores::for_threads(threads).and_then(|cores| cores.take(0)).expect("Linux lets a thread choose");
            sched_getaffinity(None).expect("a thread knows its cores").count()
        };
        thread::spawn(run).join().expect("no panic")
    }

    #[test]
    fn threads_stay_on_a_core_each_unless_there_are_too_few_cores() {
        let all = sched_getaffinity(None).expect("a thread knows its cores").count();
        assert_eq!(left(all as usize), 1);
        assert_eq!(left(all as usize + 1), all);
    }
}
