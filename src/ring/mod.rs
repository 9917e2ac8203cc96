//! Lock-free mechanisms under a partition: a bounded queue, a [`Combiner`] in which whoever holds the pen
//! writes for the others, and a [`Notify`] that costs next to nothing while nobody waits.
//!
//! They know no records and no files. What another thread can see of them goes through `crate::sync`, so the models
//! in `loom_tests` run this very code.

// The one place besides `storage::mmap`: a slot is written by one thread and read by another, with nothing but its
// stamp between them. `slot` holds all of it, `queue` says why it is allowed.
#![allow(unsafe_code)]

mod seeded;
mod first_panic;
mod slot;
mod queue;
mod combiner;
mod notify;
pub(crate) mod multicast;

#[cfg(all(test, loom))]
mod loom_tests;

pub(crate) use combiner::{Combiner, Writer};
pub(crate) use notify::{Notify, Waiting, wait_any};
