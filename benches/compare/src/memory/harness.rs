//! What a channel or ring must offer to be measured.
//!
//! Every peer is compiled against the same generic workloads (`stream.rs`, `rally.rs`): nothing on the path of
//! a value is a virtual call.

use std::hint;
use std::thread;
use std::time::Duration;

use crate::cell::Figures;
use crate::harness::Result;
use crate::memory::payload::Payload;
use crate::memory::{Cell, Pause, Stream};

/// One channel or ring.
pub(crate) trait Peer: Sync {
    fn card(&self) -> Card;

    /// How the peer does the work of `cell`; none if its API as it stands cannot do it.
    fn able(&self, cell: &Cell) -> Option<Able>;

    /// Builds what `stream` asks for, in the types that suit its shape best, and hands it to `Stream::run`.
    fn stream<T: Payload>(&self, stream: &Stream) -> Result<Figures>;

    /// Builds two channels of one producer and one consumer each and hands them to `rally::run`.
    fn rally(&self, _pause: Pause, _run: Duration) -> Result<Figures> {
        Err("this peer plays no rally".into())
    }
}

/// What a reader of the tables must know about a peer.
pub(crate) struct Card {
    /// The name in the tables and on the command line.
    pub(crate) name: &'static str,
    /// The name in `Cargo.lock`, where the version is taken from.
    pub(crate) package: &'static str,
    /// Findings from the peer's source that a figure alone would hide.
    pub(crate) notes: &'static [&'static str],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Able {
    /// What a thread does that finds the ring empty or full.
    pub(crate) waits: &'static str,
    /// Which side has a call for batches.
    pub(crate) batches: Batches,
}

/// It parks, after whatever spinning it does first.
pub(crate) const PARKS: &str = "parks";
/// It tries again, with the [`Backoff`] that all share.
pub(crate) const TRIES: &str = "tries again";
pub(crate) const PARKS_OR_TRIES: &str = "parks when empty, tries again when full";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Batches {
    Both,
    ReceivesOnly,
    None,
}

/// One thread's way into the ring.
pub(crate) trait Producer<T>: Send {
    /// Returns when the value is in the ring.
    fn send(&mut self, value: T) -> Result<()>;

    /// Empties `batch`, or leaves values that were copied.
    fn send_batch(&mut self, batch: &mut Vec<T>) -> Result<()> {
        batch.drain(..).try_for_each(|value| self.send(value))
    }
}

/// One thread's way out of the ring.
pub(crate) trait Consumer<T>: Send {
    /// Waits for a value and shows it to `see`; false when all producers are gone and everything was seen.
    ///
    /// A peer that hands out only whole runs shows a run.
    fn receive(&mut self, see: &mut impl FnMut(&T)) -> Result<bool>;

    /// The same with as many values as the peer gives at once.
    fn receive_batch(&mut self, see: &mut impl FnMut(&T)) -> Result<bool> {
        self.receive(see)
    }

    /// How many values were overwritten before this consumer saw them.
    fn lost(&self) -> u64 {
        0
    }
}

/// Waits a little before the next try: the same for every peer that has only tries.
///
/// 127 `PAUSE`, then a yield before each try: whoever spins without yielding stands still as soon as there are more
/// threads than cores.
pub(crate) struct Backoff {
    /// How many `PAUSE` come before the next try.
    portion: u32,
    growth: u32,
    left: u32,
}

impl Backoff {
    const PAUSES: u32 = 127;

    /// In growing portions: for throughput, since looking all the time takes the line away from who writes it.
    pub(crate) fn growing() -> Self {
        Backoff { portion: 1, growth: 2, left: Self::PAUSES }
    }

    /// One by one: for latency.
    fn steady() -> Self {
        Backoff { portion: 1, growth: 1, left: Self::PAUSES }
    }

    pub(crate) fn wait(&mut self) {
        if self.left > 0 {
            for _ in 0..self.portion {
                hint::spin_loop();
            }
            self.left -= self.portion;
            self.portion *= self.growth;
        } else {
            thread::yield_now();
        }
    }
}

/// A consumer made of a try, for the rally: what every peer can do instead of parking.
pub(crate) struct Trying<F>(pub(crate) F);

impl<T, F: FnMut() -> Option<T> + Send> Consumer<T> for Trying<F> {
    fn receive(&mut self, see: &mut impl FnMut(&T)) -> Result<bool> {
        let mut backoff = Backoff::steady();
        loop {
            if let Some(value) = (self.0)() {
                see(&value);
                return Ok(true);
            }
            backoff.wait();
        }
    }
}
