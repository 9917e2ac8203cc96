//! A log to be measured: one topic of one partition with the default settings, in a directory that goes with it.

use std::path::Path;

use headwater::{Acks, Broker, Producer, Topic};
use tempfile::TempDir;

/// An open log. The fields are dropped in this order: the directory goes last.
pub(crate) struct ScratchLog {
    pub(crate) topic: Topic,
    _broker: Broker,
    _dir: TempDir,
}

impl ScratchLog {
    /// The log in `dir`, made if it is not there.
    pub(crate) fn open(dir: TempDir) -> Self {
        let (broker, topic) = open(dir.path());
        Self { topic, _broker: broker, _dir: dir }
    }
}

pub(crate) fn open(dir: &Path) -> (Broker, Topic) {
    let broker = Broker::open(dir).expect("the directory is ours");
    let topic = broker.topic("log").open_or_create().expect("a topic with default settings");
    (broker, topic)
}

pub(crate) fn producer(topic: &Topic, acks: Acks) -> Producer {
    topic.producer_builder().acks(acks).build().expect("the broker is open")
}

/// An empty directory on the disk that is measured: that of `HEADWATER_BENCH_DIR`, or else of Cargo's target
/// directory. The system's own temporary directory may lie in memory, where a sync means nothing.
pub(crate) fn scratch_dir() -> TempDir {
    let parent = std::env::var_os("HEADWATER_BENCH_DIR").unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").into());
    tempfile::tempdir_in(parent).expect("a directory for the log; HEADWATER_BENCH_DIR names another place")
}

/// A value of so many bytes that nothing can compress.
pub(crate) fn value(bytes: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let next = || {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}
