//! A ring that several writers fill and several groups of readers see, each value in its place: no copies, no locks.
//!
//! The numbers that carry it, all of them positions counted from 0:
//!
//! ```text
//!   gate ≤ every group's head ≤ end of what is visible ≤ tail ≤ granted ≤ gate + capacity
//! ```
//!
//! - `tail`: the next position to be claimed (where there is one writer: to be published).
//! - `gate`: a lower bound of what anybody may still read. It may be stale, never ahead.
//! - `granted`: how far the room goes that was given to writers. A writer takes room for several values at once, as
//!   *credit*, and claims within it by a bare `fetch_add`. Credit is no position: it can be kept, used later, or
//!   given back, so nobody ever holds a position he has no value for.
//!
//! Invariants:
//! - C-1: a position is claimed only out of credit, and credit is granted up to `gate + capacity`. So the place of
//!   position `p` is no longer read by anybody when `p` is claimed.
//! - C-2: a claimed position is its writer's alone until it publishes it. No stranger's code runs in between.
//! - C-3: a published position below the gate plus the capacity holds its value, unless it lies at or beyond the end
//!   of a closed ring, where no reader looks (C-6).
//! - C-4: a group's head never passes what is visible, and no group is begun beyond it. So neither does the gate, and
//!   no place is given to a second writer while a first is still busy with it.
//! - C-5: what readers hold is at or above their group's head, or marked: a member's mark is stored before the head
//!   passes it, and a refresh reads heads before marks.
//! - C-6: a ring is closed at a position. Values below are read; a writer that published at or above takes its value
//!   back.
//!
//! Why a claim may rely on credit that another writer took: a position `p` is claimed by the `p + 1`th unit of credit
//! that is used, so at least one of the units used up to then comes from a grant that ended beyond `p`, and that
//! grant had seen the gate beyond `p - capacity`. Whoever used that unit has claimed before, and claims are ordered
//! (AcqRel), so what the grant saw is seen here, too.

mod slots;
mod front;
mod policy;
mod groups;
mod ring;
mod writer;
mod reader;

#[cfg(all(test, loom))]
pub(super) mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;
#[cfg(all(test, not(loom)))]
mod step_tests;

pub(crate) use groups::{Joining, Start};
pub(crate) use policy::{Keeping, Policy};
pub(crate) use reader::{Reader, Stop};
pub(crate) use ring::Ring;
pub(crate) use slots::Layout;
pub(crate) use writer::{Refusal, Writer};
