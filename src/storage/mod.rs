//! One partition's directory: segments, their frames and indexes, the control file, and what a crash leaves of them.
//!
//! Storage knows batches and offsets, no topics and no waiting. The rules F-n are those of `docs/format.md`; all
//! numbers here are little-endian (F-1).

pub(crate) mod name;
pub(crate) mod frame;
pub(crate) mod mmap;
pub(crate) mod index;
pub(crate) mod checkpoint;
pub(crate) mod segment;
pub(crate) mod quarantine;
pub(crate) mod recovery;
