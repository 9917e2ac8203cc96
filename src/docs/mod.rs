//! The long texts: how the crate is built, what it writes, what it promises, and what its words mean.
//!
//! They are compiled with the crate, so their examples run and their links are checked.
//!
//! - [`architecture`]: the parts in their order, who runs what, why so and not otherwise
//! - [`life_of_a_record`]: one record from `send` to `commit`, step by step
//! - [`guarantees`]: the promises one by one, what each needs, and where it is tested
//! - [`format`](mod@format): every byte on the disk, by numbered rules
//! - [`glossary`]: one word per thing

#[doc = include_str!("../../ARCHITECTURE.md")]
pub mod architecture {}

#[doc = include_str!("life_of_a_record.md")]
pub mod life_of_a_record {}

#[doc = include_str!("guarantees.md")]
pub mod guarantees {}

#[doc = include_str!("format.md")]
pub mod format {}

#[doc = include_str!("glossary.md")]
pub mod glossary {}

/// The README's code is compiled as it stands there.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}
