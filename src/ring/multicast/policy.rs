//! What a ring is made with.

use crate::config::OnFull;
use crate::ring::multicast::slots::Layout;

/// What a ring is made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// Places: a power of two, at least 2.
    pub(crate) capacity: usize,
    pub(crate) layout: Layout,
    pub(crate) on_full: OnFull,
    pub(crate) keeping: Keeping,
    /// Whether the ring is closed when its last writer leaves.
    pub(crate) closes_after_writers: bool,
}

/// Who takes a value out of its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(clippy::enum_variant_names, reason = "each is the end of a sentence that begins with `keep`")]
pub(crate) enum Keeping {
    /// The writer that overwrites it.
    UntilOverwritten,
    /// Whoever moves the gate past it.
    UntilConsumed,
    /// Its reader: there is one group, for as long as the ring lives.
    UntilTaken,
}
