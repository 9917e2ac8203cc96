//! Random operations on a memory topic or queue against a plain model: what was sent, a position a group, and what each
//! member has taken on.
//!
//! What fails here in the field: two features that are right by themselves and wrong one after the other. One thread,
//! so every answer is known: what is full, what comes back, who reads which value, how many were missed, and how many
//! values are alive. A seed that fails is printed, with the shortest way there; `HEADWATER_MODEL_SEED=n` runs that one
//! alone.

use std::ops::Range;
use std::time::Duration;

use headwater::{Keep, Layout, OnFull};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

mod model;
mod session;

const CASES: u32 = 40;
const STEPS: usize = 120;

#[test]
fn a_topic_that_blocks_does_what_the_model_says() {
    check(0..6, Kind::Topic, &[OnFull::Block]);
}

#[test]
fn a_topic_that_rejects_does_what_the_model_says() {
    check(100..106, Kind::Topic, &[OnFull::Reject]);
}

#[test]
fn a_topic_that_drops_its_oldest_does_what_the_model_says() {
    check(200..206, Kind::Topic, &[OnFull::DropOldest]);
}

#[test]
fn a_queue_does_what_the_model_says() {
    check(300..309, Kind::Queue, &[OnFull::Block, OnFull::Reject, OnFull::DropOldest]);
}

#[allow(clippy::print_stdout, reason = "the seed of a run that fails is to be seen")]
fn check(usual: Range<u64>, kind: Kind, policies: &'static [OnFull]) {
    let seeds = match std::env::var("HEADWATER_MODEL_SEED") {
        Ok(seed) => vec![seed.parse().expect("HEADWATER_MODEL_SEED is a number")],
        Err(_) => usual.collect(),
    };
    for seed in seeds {
        println!("seed {seed}");
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&u64::to_le_bytes(seed));
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let config = Config { cases: CASES, failure_persistence: None, max_shrink_iters: 2_000, ..Config::default() };
        let cases = (setting(kind, policies), vec(step(), 1..STEPS));
        let outcome = TestRunner::new_with_rng(config, rng).run(&cases, |(setting, steps)| {
            session::run(setting, &steps);
            Ok(())
        });
        outcome.unwrap_or_else(|failure| panic!("HEADWATER_MODEL_SEED={seed}: {failure}"));
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Topic,
    Queue,
}

/// How a topic or queue is made.
#[derive(Clone, Copy, Debug)]
struct Setting {
    kind: Kind,
    capacity: u64,
    on_full: OnFull,
    keep: Keep,
    /// `None`: for a single producer.
    layout: Option<Layout>,
}

/// Producers and readers are meant modulo how many there are.
#[derive(Clone, Copy, Debug)]
enum Step {
    Send {
        producer: usize,
        way: SendWay,
    },
    SendMany {
        producer: usize,
        count: usize,
        waits: bool,
    },
    /// Fails to make a value, or leaves a permit unused.
    Withdraw {
        producer: usize,
        panics: bool,
    },
    NewProducer,
    DropProducer {
        producer: usize,
    },
    Join(Join),
    Leave {
        reader: usize,
    },
    Read {
        reader: usize,
        way: ReadWay,
    },
    ReadMany {
        reader: usize,
        way: ManyWay,
    },
    /// A visitor that sends while a value is lent to it.
    SendFromVisitor {
        reader: usize,
        producer: usize,
    },
    Close,
}

#[derive(Clone, Copy, Debug)]
struct Join {
    group: Option<&'static str>,
    from_oldest: bool,
    is_lossy: bool,
    prefetch: usize,
}

#[derive(Clone, Copy, Debug)]
enum SendWay {
    Try,
    Wait,
    Timeout,
    With,
    TryWith,
    Task,
    Permit,
}

#[derive(Clone, Copy, Debug)]
enum ReadWay {
    Try,
    Wait,
    Timeout,
    Lend,
    Task,
    Iter,
}

#[derive(Clone, Copy, Debug)]
enum ManyWay {
    Poll,
    PollTask,
    Batch {
        max: usize,
    },
    /// A visitor that fails at its value of this number.
    Fail {
        at: usize,
    },
}

fn setting(kind: Kind, policies: &'static [OnFull]) -> impl Strategy<Value = Setting> {
    let layouts = vec![None, Some(Layout::Dense), Some(Layout::Stamped)];
    let keeps = vec![Keep::UntilOverwritten, Keep::UntilConsumed];
    (select(vec![2, 4, 8, 16]), select(policies), select(keeps), select(layouts))
        .prop_map(move |(capacity, on_full, keep, layout)| Setting { kind, capacity, on_full, keep, layout })
}

fn step() -> impl Strategy<Value = Step> {
    use {ManyWay as M, ReadWay as R, SendWay as S};
    let send_ways = vec![S::Try, S::Wait, S::Timeout, S::With, S::TryWith, S::Task, S::Permit];
    let read_ways = vec![R::Try, R::Wait, R::Timeout, R::Lend, R::Task, R::Iter];
    let many_way = prop_oneof![
        Just(M::Poll),
        Just(M::PollTask),
        (0..9_usize).prop_map(|max| M::Batch { max }),
        Just(M::Batch { max: usize::MAX }),
        (1..5_usize).prop_map(|at| M::Fail { at }),
    ];
    let join =
        (select(vec![None, Some("a"), Some("b")]), any::<bool>(), any::<bool>(), select(vec![0, 1, 1, 2, 5, 40]))
            .prop_map(|(group, from_oldest, is_lossy, prefetch)| Join { group, from_oldest, is_lossy, prefetch });
    let who = || 0..6_usize;
    prop_oneof![
        30 => (who(), select(send_ways)).prop_map(|(producer, way)| Step::Send { producer, way }),
        8 => (who(), 0..12_usize, any::<bool>())
            .prop_map(|(producer, count, waits)| Step::SendMany { producer, count, waits }),
        2 => (who(), any::<bool>()).prop_map(|(producer, panics)| Step::Withdraw { producer, panics }),
        2 => Just(Step::NewProducer),
        1 => who().prop_map(|producer| Step::DropProducer { producer }),
        5 => join.prop_map(Step::Join),
        3 => who().prop_map(|reader| Step::Leave { reader }),
        20 => (who(), select(read_ways)).prop_map(|(reader, way)| Step::Read { reader, way }),
        8 => (who(), many_way).prop_map(|(reader, way)| Step::ReadMany { reader, way }),
        3 => (who(), who()).prop_map(|(reader, producer)| Step::SendFromVisitor { reader, producer }),
        1 => prop_oneof![9 => Just(Step::NewProducer), 1 => Just(Step::Close)],
    ]
}

/// No time at all.
const AT_ONCE: Duration = Duration::ZERO;
