//! F to M: producers send as fast as they can to groups of consumers; every group sees every value once.

use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Barrier;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use crate::cell::{Figures, RATE};
use crate::harness::{Calls, Result};
use crate::memory::cores::Cores;
use crate::memory::harness::{Consumer, Peer, Producer};
use crate::memory::payload::{Line, Page, Payload, PayloadKind};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stream {
    pub(crate) producers: usize,
    /// Each group sees every value; its members share them.
    pub(crate) groups: usize,
    pub(crate) members: usize,
    pub(crate) payload: PayloadKind,
    pub(crate) capacity: usize,
    pub(crate) calls: Calls,
    pub(crate) run_ms: u64,
}

/// The share of the values that a group did not see, because they were overwritten.
pub(crate) const LOST: &str = "lost";
/// Values in a batch.
pub(crate) const BATCH: usize = 64;

/// Producers warm up so long before the clock starts.
const WARM_UP: Duration = Duration::from_millis(50);
/// Numbers of different producers never meet.
const PRODUCER_SHIFT: u32 = 48;
/// Values between two looks at the clock: a look costs as much as a dozen values of the fastest.
const LOOKS_EVERY: usize = 1024;

impl Stream {
    /// Runs the workload over `peer` in this process.
    pub(crate) fn measure<P: Peer>(&self, peer: &P) -> Result<Figures> {
        match self.payload {
            PayloadKind::Word => peer.stream::<u64>(self),
            PayloadKind::Line => peer.stream::<Line>(self),
            PayloadKind::Page => peer.stream::<Page>(self),
        }
    }

    /// Runs the workload over ends that the peer has made: one for each producer, and for each member of each group.
    pub(crate) fn run<T: Payload>(
        &self,
        producers: Vec<impl Producer<T>>,
        groups: Vec<Vec<impl Consumer<T>>>,
    ) -> Result<Figures> {
        assert_eq!(producers.len(), self.producers, "a producer for each thread");
        assert_eq!(groups.len(), self.groups, "a list for each group");
        assert!(groups.iter().all(|members| members.len() == self.members), "a consumer for each member");
        let cores = &Cores::for_threads(self.producers + self.groups * self.members)?;
        let start_line = &Barrier::new(self.producers);
        let (sent, seen) = thread::scope(|scope| {
            let mut threads = 0;
            let mut nth = || {
                threads += 1;
                threads - 1
            };
            let producers: Vec<_> = producers
                .into_iter()
                .enumerate()
                .map(|(id, producer)| {
                    let nth = nth();
                    scope.spawn(move || self.produce(id as u64, producer, start_line, || cores.take(nth)))
                })
                .collect();
            let groups: Vec<Vec<_>> = groups
                .into_iter()
                .map(|members| {
                    let consume = |consumer| {
                        let nth = nth();
                        scope.spawn(move || cores.take(nth).and_then(|()| self.consume(consumer)))
                    };
                    members.into_iter().map(consume).collect()
                })
                .collect();
            let sent: Result<Vec<Sent>> = producers.into_iter().map(joined).collect();
            let seen: Result<Vec<Seen>> =
                groups.into_iter().map(|members| members.into_iter().map(joined).collect()).collect();
            (sent, seen)
        });
        self.figures::<T>(&sent?, &seen?)
    }

    /// One producer: warms up, waits for the others, sends. Passes the line even when the peer fails or panics, so
    /// that nobody waits for ever.
    fn produce<T: Payload>(
        &self,
        id: u64,
        mut producer: impl Producer<T>,
        start_line: &Barrier,
        settle: impl FnOnce() -> Result<()>,
    ) -> Result<Sent> {
        let mut source = Source { next: id << PRODUCER_SHIFT, batch: Vec::with_capacity(BATCH) };
        let first = source.next;
        let warm = or_panicked(|| {
            settle()?;
            self.pump(&mut producer, &mut source, WARM_UP)
        });
        let warmed = source.next;
        start_line.wait();
        let start = Instant::now();
        warm.and_then(|()| or_panicked(|| self.pump(&mut producer, &mut source, Duration::from_millis(self.run_ms))))?;
        Ok(Sent { start, first, timed: source.next - warmed, in_all: source.next - first })
    }

    /// Sends for `run`.
    fn pump<T: Payload>(&self, producer: &mut impl Producer<T>, source: &mut Source<T>, run: Duration) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < run {
            match self.calls {
                Calls::Single => {
                    for _ in 0..LOOKS_EVERY {
                        producer.send(T::of(source.next))?;
                        source.next += 1;
                    }
                }
                Calls::Batch => {
                    for _ in 0..LOOKS_EVERY / BATCH {
                        producer.send_batch(source.batch())?;
                    }
                }
            }
        }
        Ok(())
    }

    fn consume<T: Payload>(&self, mut consumer: impl Consumer<T>) -> Result<Seen> {
        let (mut values, mut sum) = (0_u64, 0_u64);
        or_panicked(|| {
            let mut see = |value: &T| {
                values += 1;
                sum = sum.wrapping_add(value.sum());
            };
            match self.calls {
                Calls::Single => while consumer.receive(&mut see)? {},
                Calls::Batch => while consumer.receive_batch(&mut see)? {},
            }
            Ok(())
        })?;
        Ok(Seen { end: Instant::now(), values, sum, lost: consumer.lost() })
    }

    /// Checks that every group saw every value once, and gives the rate of what a group saw.
    fn figures<T: Payload>(&self, sent: &[Sent], seen: &[Seen]) -> Result<Figures> {
        let in_all: u64 = sent.iter().map(|sent| sent.in_all).sum();
        let expected = sent.iter().fold(0_u64, |sum, sent| sum.wrapping_add(sent.numbers())).wrapping_mul(T::WEIGHT);
        for group in seen {
            if group.values + group.lost != in_all {
                let Seen { values, lost, .. } = group;
                return Err(format!("a group saw {values} values and lost {lost} of {in_all}").into());
            }
            if group.lost == 0 && group.sum != expected {
                return Err(format!("a group saw {in_all} values, but not the ones that were sent").into());
            }
        }
        let start = sent.iter().map(|sent| sent.start).min().ok_or("nobody sent anything")?;
        let end = seen.iter().map(|seen| seen.end).max().ok_or("nobody saw anything")?;
        let timed: u64 = sent.iter().map(|sent| sent.timed).sum();
        let lost: u64 = seen.iter().map(|seen| seen.lost).sum();
        let lost_share = lost as f64 / (in_all * seen.len() as u64) as f64;
        let rate = timed as f64 * (1.0 - lost_share) / end.duration_since(start).as_secs_f64();
        Ok(vec![(RATE, rate), (LOST, lost_share)])
    }

    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        let [producers, groups, members, payload, capacity, calls, run_ms] = words else {
            return Err(format!("`{}` is not a stream", words.join(" ")).into());
        };
        Ok(Stream {
            producers: producers.parse()?,
            groups: groups.parse()?,
            members: members.parse()?,
            payload: PayloadKind::parse(payload)?,
            capacity: capacity.parse()?,
            calls: match *calls {
                "single" => Calls::Single,
                "batch" => Calls::Batch,
                _ => return Err(format!("calls `{calls}` are neither single nor batch").into()),
            },
            run_ms: run_ms.parse()?,
        })
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stream { producers, groups, members, payload, capacity, calls, run_ms } = self;
        let calls = match calls {
            Calls::Single => "single",
            Calls::Batch => "batch",
        };
        write!(f, "{producers} {groups} {members} {} {capacity} {calls} {run_ms}", payload.name())
    }
}

/// An endless supply of values.
struct Source<T> {
    /// The number of the next value.
    next: u64,
    batch: Vec<T>,
}

impl<T: Payload> Source<T> {
    /// The next values as a program has them that has just made them: in a `Vec`, whose memory is used again.
    fn batch(&mut self) -> &mut Vec<T> {
        self.batch.clear();
        self.batch.extend((self.next..self.next + BATCH as u64).map(T::of));
        self.next += BATCH as u64;
        &mut self.batch
    }
}

/// What one producer did.
struct Sent {
    start: Instant,
    /// The number of its first value.
    first: u64,
    /// Values sent after the line.
    timed: u64,
    /// Those and the ones of the warm-up.
    in_all: u64,
}

impl Sent {
    /// The sum of the numbers `first..first + in_all`.
    fn numbers(&self) -> u64 {
        let ramp = u128::from(self.in_all) * u128::from(self.in_all.saturating_sub(1)) / 2;
        self.first.wrapping_mul(self.in_all).wrapping_add(ramp as u64)
    }
}

/// What one consumer, or a group of them, saw.
struct Seen {
    end: Instant,
    values: u64,
    sum: u64,
    lost: u64,
}

/// A group saw what its members saw.
impl FromIterator<Seen> for Seen {
    fn from_iter<I: IntoIterator<Item = Seen>>(members: I) -> Self {
        members
            .into_iter()
            .reduce(|a, b| Seen {
                end: a.end.max(b.end),
                values: a.values + b.values,
                sum: a.sum.wrapping_add(b.sum),
                lost: a.lost + b.lost,
            })
            .unwrap_or_else(|| Seen { end: Instant::now(), values: 0, sum: 0, lost: 0 })
    }
}

fn joined<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| Err("a thread panicked".into()))
}

/// A panic inside `work` becomes an error; its message is on standard error.
fn or_panicked<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // What `work` leaves half done is not looked at again: the cell has failed.
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("a thread panicked".into()))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::sync::{Arc, Mutex};

    use super::Stream;
    use crate::cell::RATE;
    use crate::harness::{Calls, Result};
    use crate::memory::PayloadKind;
    use crate::memory::harness::{Consumer, Producer};

    /// Sends each value to one channel a group, but for those that `keep` does not want.
    struct Faulty {
        groups: Vec<mpsc::SyncSender<u64>>,
        keep: fn(u64) -> Option<u64>,
    }

    impl Producer<u64> for Faulty {
        fn send(&mut self, value: u64) -> Result<()> {
            for group in &self.groups {
                if let Some(value) = (self.keep)(value) {
                    group.send(value)?;
                }
            }
            Ok(())
        }
    }

    /// A member of a group that shares a receiver.
    struct Member(Arc<Mutex<mpsc::Receiver<u64>>>);

    impl Consumer<u64> for Member {
        fn receive(&mut self, see: &mut impl FnMut(&u64)) -> Result<bool> {
            let value = self.0.lock().expect("not poisoned").recv();
            Ok(value.inspect(see).is_ok())
        }
    }

    fn run(keep: fn(u64) -> Option<u64>, calls: Calls) -> Result<crate::cell::Figures> {
        let stream =
            Stream { producers: 2, groups: 2, members: 2, payload: PayloadKind::Word, capacity: 16, calls, run_ms: 10 };
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..2).map(|_| mpsc::sync_channel(16)).unzip();
        let producers = (0..2).map(|_| Faulty { groups: senders.clone(), keep }).collect();
        drop(senders);
        let groups = receivers.into_iter().map(|receiver| {
            let receiver = Arc::new(Mutex::new(receiver));
            vec![Member(Arc::clone(&receiver)), Member(receiver)]
        });
        stream.run(producers, groups.collect())
    }

    #[test]
    fn a_channel_that_delivers_every_value_once_to_every_group_passes() {
        for calls in [Calls::Single, Calls::Batch] {
            let figures = run(Some, calls).expect("nothing was lost");
            assert!(figures.iter().any(|(name, rate)| *name == RATE && *rate > 0.0), "{figures:?}");
        }
    }

    #[test]
    fn a_channel_that_loses_a_value_gets_no_figure() {
        let error = run(|value| (value != 7).then_some(value), Calls::Single).expect_err("value 7 is gone");
        assert!(error.to_string().contains("lost 0 of"), "{error}");
    }

    #[test]
    fn a_channel_that_delivers_another_value_gets_no_figure() {
        let error = run(|value| Some(if value == 7 { 8 } else { value }), Calls::Batch).expect_err("8 came twice");
        assert!(error.to_string().contains("not the ones"), "{error}");
    }

    #[test]
    fn a_producer_that_panics_fails_the_cell_and_stops_nobody() {
        run(|_| panic!("asked to panic"), Calls::Single).expect_err("every send panics");
    }
}
