//! A seeded generator (splitmix64): the same seed gives the same run.

/// The generator's state.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        mix(self.0)
    }

    /// A number from 0 to `end` (exclusive). The modulo's bias is of no matter for ranges this small.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        assert!(end > 0, "nothing is below 0");
        self.next() % end
    }

    /// True `in_eight` times out of eight.
    pub(super) fn chance(&mut self, in_eight: u64) -> bool {
        self.below(8) < in_eight
    }
}

/// Spreads a number over all 64 bits: splitmix64's finalizer.
pub(super) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// splitmix64's step.
pub(super) const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
