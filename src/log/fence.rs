//! Why a log takes nothing any more: after a failed write or sync nobody knows what the disk holds.

use std::io;
use std::sync::Arc;

use crate::error::Error;
use crate::types::{Offset, TopicPartition};

/// The first failure, and what was safe when it came.
#[derive(Clone, Debug)]
pub(crate) struct Fence {
    pub(crate) durable_end: Offset,
    pub(crate) source: Arc<io::Error>,
}

impl Fence {
    /// As everybody is told who wants to append or waits for a sync.
    pub(crate) fn error(&self, partition: &TopicPartition) -> Error {
        Error::Fenced { partition: partition.clone(), durable_end: self.durable_end, source: Arc::clone(&self.source) }
    }
}
