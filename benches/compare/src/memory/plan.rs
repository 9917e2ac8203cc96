//! The tasks in memory: F to M are streams, each with a shape of its own; N is the rally.

use crate::cell::{self, P50, P99, P999, RATE};
use crate::harness::Calls;
use crate::memory::stream::BATCH;
use crate::memory::{Cell, Pause, PayloadKind, Rally, Stream};
use crate::plan::{Column, Scale, Task, Topic, Unit};

struct Shape {
    workload: char,
    title: &'static str,
    producers: usize,
    groups: usize,
    members: usize,
    /// Run with every payload; with `u64` only if not.
    every_payload: bool,
}

const SHAPES: [Shape; 8] = [
    Shape { workload: 'F', title: "SPSC", producers: 1, groups: 1, members: 1, every_payload: true },
    Shape { workload: 'G', title: "2→1", producers: 2, groups: 1, members: 1, every_payload: true },
    Shape { workload: 'H', title: "4→1", producers: 4, groups: 1, members: 1, every_payload: false },
    Shape { workload: 'I', title: "2→2 shared", producers: 2, groups: 1, members: 2, every_payload: false },
    Shape { workload: 'J', title: "broadcast 1→2", producers: 1, groups: 2, members: 1, every_payload: true },
    Shape { workload: 'K', title: "broadcast 1→4", producers: 1, groups: 4, members: 1, every_payload: false },
    Shape { workload: 'L', title: "broadcast 2→2", producers: 2, groups: 2, members: 1, every_payload: false },
    Shape { workload: 'M', title: "2→2 groups of 2", producers: 2, groups: 2, members: 2, every_payload: false },
];

const SMALL: usize = 1024;
const LARGE: usize = 65_536;

pub(crate) fn tasks(scale: &Scale) -> Vec<Task> {
    let mut tasks = Vec::new();
    for shape in &SHAPES {
        for (payload, capacity) in [
            (PayloadKind::Word, SMALL),
            (PayloadKind::Word, LARGE),
            (PayloadKind::Line, SMALL),
            (PayloadKind::Page, SMALL),
        ] {
            if payload != PayloadKind::Word && !shape.every_payload {
                continue;
            }
            for calls in [Calls::Single, Calls::Batch] {
                tasks.push(stream(scale, shape, payload, capacity, calls));
            }
        }
    }
    tasks.extend([Pause::Park, Pause::Yield].map(|pause| rally(scale, pause)));
    tasks
}

fn stream(scale: &Scale, shape: &Shape, payload: PayloadKind, capacity: usize, calls: Calls) -> Task {
    let Shape { workload, title, producers, groups, members, .. } = *shape;
    let how = match calls {
        Calls::Single => "one by one".to_owned(),
        Calls::Batch => format!("batches of {BATCH}"),
    };
    let run_ms = scale.memory_ms;
    let stream = Stream { producers, groups, members, payload, capacity, calls, run_ms };
    Task {
        topic: Topic::Memory,
        title: format!("{workload} · {title}, {}, capacity {capacity}, {how}", payload.title()),
        cells: vec![cell::Cell::Memory(Cell::Stream(stream))],
        columns: vec![Column { workload, title: "values/s", figure: RATE, unit: Unit::Rate }],
    }
}

fn rally(scale: &Scale, pause: Pause) -> Task {
    let how = match pause {
        Pause::Park => "parking",
        Pause::Yield => "yielding",
    };
    let column = |title, figure| Column { workload: 'N', title, figure, unit: Unit::Time };
    Task {
        topic: Topic::Memory,
        title: format!("N · ping-pong one way, {how} receive"),
        cells: vec![cell::Cell::Memory(Cell::Rally(Rally { pause, run_ms: scale.memory_ms }))],
        columns: vec![column("p50", P50), column("p99", P99), column("p99.9", P999)],
    }
}
