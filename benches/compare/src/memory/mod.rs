//! Channels and rings between the threads of one process: the workloads F to N, and who does them.

mod payload;
mod harness;
mod cores;
mod stream;
mod rally;
pub(crate) mod plan;
mod contender;
mod peers;
#[cfg(feature = "memory")]
mod headwater;

use std::fmt;

use crate::harness::Result;

pub(crate) use contender::all;
pub(crate) use harness::PARKS;
pub(crate) use payload::PayloadKind;
pub(crate) use rally::{Pause, Rally};
pub(crate) use stream::{LOST, Stream};

/// One workload in memory with its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    /// F to M.
    Stream(Stream),
    /// N.
    Rally(Rally),
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cell::Stream(stream) => write!(f, "stream {stream}"),
            Cell::Rally(rally) => write!(f, "rally {rally}"),
        }
    }
}

impl Cell {
    /// Reads what `Display` writes, cut into words.
    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        match words {
            ["stream", words @ ..] => Ok(Cell::Stream(Stream::parse(words)?)),
            ["rally", words @ ..] => Ok(Cell::Rally(Rally::parse(words)?)),
            _ => Err(format!("`{}` is not a cell in memory", words.join(" ")).into()),
        }
    }
}
