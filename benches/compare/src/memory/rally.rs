//! N: two threads hand one value to and fro over two channels; the time one way is half a round trip.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use crate::cell::{Figures, P50, P99, P999};
use crate::harness::Result;
use crate::memory::cores::Cores;
use crate::memory::harness::{Consumer, Producer};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rally {
    pub(crate) pause: Pause,
    pub(crate) run_ms: u64,
}

/// What a thread does while the value is on the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// The peer's blocking receive, which parks after whatever spinning it does first.
    Park,
    /// The peer's spinning or yielding receive, else its try with the common backoff: the core is never given up.
    Yield,
}

/// Room in each of the two channels. Only one value is under way, but a channel of one slot would be another kind.
pub(crate) const CAPACITY: usize = 1024;

const WARM_UP: Duration = Duration::from_millis(50);
/// More round trips than fit into a second at 100 ns each, so that the list of times never grows.
const TRIPS_MAX: usize = 12_000_000;
/// Ends the rally.
const STOP: u64 = u64::MAX;

/// Plays with the ends of the channel `there` and of the channel `back`.
pub(crate) fn run(
    there: (impl Producer<u64>, impl Consumer<u64>),
    back: (impl Producer<u64>, impl Consumer<u64>),
    run: Duration,
) -> Result<Figures> {
    let ((out, far_in), (far_out, home)) = (there, back);
    let cores = &Cores::for_threads(2)?;
    cores.take(0)?;
    let (trips, echoed) = thread::scope(|scope| {
        let echo = scope.spawn(move || cores.take(1).and_then(|()| echo(far_in, far_out)));
        let trips = throw_and_catch(out, home, run);
        (trips, echo.join().unwrap_or_else(|_| Err("the echo panicked".into())))
    });
    let mut trips = trips?;
    echoed?;
    if trips.is_empty() {
        return Err("not one round trip".into());
    }
    trips.sort_unstable();
    let one_way = |share: f64| f64::from(trips[((trips.len() - 1) as f64 * share) as usize]) / 2.0 / 1e9;
    Ok(vec![(P50, one_way(0.5)), (P99, one_way(0.99)), (P999, one_way(0.999))])
}

/// The times of the round trips in nanoseconds. Lets go of both ends however it ends, so that the echo ends, too.
fn throw_and_catch(mut out: impl Producer<u64>, mut home: impl Consumer<u64>, run: Duration) -> Result<Vec<u32>> {
    let mut trips: Vec<u32> = Vec::with_capacity(TRIPS_MAX);
    let start = Instant::now();
    let mut number = 0;
    while start.elapsed() < WARM_UP + run && trips.len() < TRIPS_MAX {
        let thrown = Instant::now();
        out.send(number)?;
        let mut caught = None;
        home.receive(&mut |value| caught = Some(*value))?;
        let trip = thrown.elapsed();
        if caught != Some(number) {
            return Err(format!("threw {number} and caught {caught:?}").into());
        }
        if thrown.duration_since(start) >= WARM_UP {
            trips.push(u32::try_from(trip.as_nanos()).unwrap_or(u32::MAX));
        }
        number += 1;
    }
    out.send(STOP)?;
    Ok(trips)
}

fn echo(mut far_in: impl Consumer<u64>, mut far_out: impl Producer<u64>) -> Result<()> {
    loop {
        let mut caught = None;
        if !far_in.receive(&mut |value| caught = Some(*value))? {
            return Err("the channel ended before the rally".into());
        }
        match caught {
            Some(STOP) => return Ok(()),
            Some(value) => far_out.send(value)?,
            None => return Err("received without a value".into()),
        }
    }
}

impl Rally {
    pub(crate) fn run(&self) -> Duration {
        Duration::from_millis(self.run_ms)
    }

    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        let [pause, run_ms] = words else { return Err(format!("`{}` is not a rally", words.join(" ")).into()) };
        let pause = match *pause {
            "park" => Pause::Park,
            "yield" => Pause::Yield,
            _ => return Err(format!("pause `{pause}` is neither park nor yield").into()),
        };
        Ok(Rally { pause, run_ms: run_ms.parse()? })
    }
}

impl fmt::Display for Rally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pause = match self.pause {
            Pause::Park => "park",
            Pause::Yield => "yield",
        };
        write!(f, "{pause} {}", self.run_ms)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::run;
    use crate::cell::P50;
    use crate::harness::Result;
    use crate::memory::harness::{Consumer, Producer};

    struct Out {
        sender: mpsc::Sender<u64>,
        adds: u64,
    }

    impl Producer<u64> for Out {
        fn send(&mut self, value: u64) -> Result<()> {
            Ok(self.sender.send(value + if value == u64::MAX { 0 } else { self.adds })?)
        }
    }

    struct In(mpsc::Receiver<u64>);

    impl Consumer<u64> for In {
        fn receive(&mut self, see: &mut impl FnMut(&u64)) -> Result<bool> {
            Ok(self.0.recv().inspect(see).is_ok())
        }
    }

    fn channel(adds: u64) -> (Out, In) {
        let (sender, receiver) = mpsc::channel();
        (Out { sender, adds }, In(receiver))
    }

    #[test]
    fn a_rally_takes_time() {
        let figures = run(channel(0), channel(0), Duration::from_millis(10)).expect("nothing goes wrong");
        assert!(figures.iter().any(|(name, seconds)| *name == P50 && *seconds > 0.0), "{figures:?}");
    }

    #[test]
    fn a_value_that_changes_on_the_way_fails_the_cell() {
        let error = run(channel(0), channel(1), Duration::from_millis(10)).expect_err("1 comes back for 0");
        assert!(error.to_string().contains("threw 0 and caught Some(1)"), "{error}");
    }
}
