//! The one door to time: a clock that runs by itself or is moved by hand, and deadlines.

#![allow(clippy::disallowed_methods, reason = "the door to the clock")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use crate::types::Timestamp;

/// Where timestamps come from.
///
/// ```
/// use headwater::{Timestamp, time::Clock};
/// let clock = Clock::manual(Timestamp(1_000));
/// clock.advance(std::time::Duration::from_secs(2));
/// assert_eq!(clock.now(), Timestamp(3_000));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Clock(Source);

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    System,
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The system's clock, to the resolution of its tick (1 to 10 ms on Linux): Kafka's timestamps are whole
    /// milliseconds, and the coarse clock costs a quarter of the fine one.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until it is moved.
    pub fn manual(start: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(start.0))))
    }

    /// Moves a manual clock, and all its clones, forward. Does nothing to the system's.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(now) = &self.0 {
            // Relaxed: a timestamp orders nothing but itself.
            now.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::Relaxed);
        }
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => system_now(),
            // Relaxed: as in `advance`.
            Source::Manual(now) => Timestamp(now.load(Ordering::Relaxed)),
        }
    }
}

#[cfg(target_os = "linux")]
fn system_now() -> Timestamp {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    Timestamp(now.tv_sec.saturating_mul(1_000).saturating_add(now.tv_nsec / 1_000_000))
}

#[cfg(not(target_os = "linux"))]
fn system_now() -> Timestamp {
    std::time::SystemTime::now().into()
}

/// The point at which somebody stops waiting.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// `timeout` from now; never, where that is beyond what the platform can count.
    pub(crate) fn after(timeout: Duration) -> Self {
        Self(Instant::now().checked_add(timeout))
    }

    /// No end to the waiting.
    pub(crate) fn never() -> Self {
        Self(None)
    }

    /// What is left; `None` once it has passed, `Duration::MAX` for never.
    pub(crate) fn left(self) -> Option<Duration> {
        match self.0 {
            None => Some(Duration::MAX),
            Some(at) => at.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()),
        }
    }
}

/// How long something has taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed_ns(self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}
