//! What a memory topic refuses, and what a reader missed.

use std::fmt;

use crate::error::Error;
use crate::ring::multicast::{Refusal, Stop};
use crate::types::TopicName;

/// Why a memory topic did not take a value.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// There is no room, and the policy or the deadline says not to wait.
    #[error(
        "memory topic {0} is full; its slowest group has to read on: a larger capacity, a lossy group, or OnFull::DropOldest would let senders go on"
    )]
    Full(TopicName),
    /// The topic was closed.
    #[error("memory topic {0} is closed")]
    Closed(TopicName),
}

impl Refused {
    pub(super) fn new(refusal: Refusal, topic: &TopicName) -> Self {
        match refusal {
            Refusal::Full => Self::Full(topic.clone()),
            Refusal::Closed => Self::Closed(topic.clone()),
        }
    }

    /// There was no room.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }

    /// The topic was closed; nothing more will get in.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed(_))
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full(topic) => Self::TopicFull { topic: topic.as_str().into() },
            Refused::Closed(_) => Self::Closed { what: "the memory topic" },
        }
    }
}

/// A value that was not sent, with the reason. `?` turns it into an [`Error`], and drops the value; into a boxed error
/// that is `Send + Sync`, or one of a crate that asks for that, it goes only where the value does: write
/// `.map_err(headwater::Error::from)?` for a queue of jobs.
#[derive(Clone, PartialEq, Eq)]
pub struct SendError<T> {
    /// The value.
    pub value: T,
    /// The reason.
    pub refused: Refused,
}

impl<T> SendError<T> {
    pub(super) fn new(value: T, refusal: Refusal, topic: &TopicName) -> Self {
        Self { value, refused: Refused::new(refusal, topic) }
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.value
    }

    /// There was no room.
    pub fn is_full(&self) -> bool {
        self.refused.is_full()
    }

    /// The topic was closed; nothing more will get in.
    pub fn is_closed(&self) -> bool {
        self.refused.is_closed()
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendError").field("refused", &self.refused).finish_non_exhaustive()
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.refused.fmt(f)
    }
}

impl<T> std::error::Error for SendError<T> {}

impl<T> From<SendError<T>> for Error {
    fn from(error: SendError<T>) -> Self {
        error.refused.into()
    }
}

/// So many values were dropped before this reader's group came to them. The next read goes on behind the gap.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{missed} values were dropped before this group read them")]
pub struct Lagged {
    /// How many, exactly. Each is told to one member of the group, once.
    pub missed: u64,
}

impl From<Lagged> for Error {
    fn from(lagged: Lagged) -> Self {
        Self::Lagged { missed: lagged.missed }
    }
}

/// Why there is no value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecvError {
    /// The group missed some. It is no end: reading goes on behind the gap.
    #[error(transparent)]
    Lagged(#[from] Lagged),
    /// The topic is closed, and this group has read all that was in it; no other member holds any of it.
    #[error("the memory topic is closed, and all of it was read")]
    Closed,
}

impl RecvError {
    /// Nothing more will come.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed)
    }
}

impl From<Stop> for RecvError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Lagged(missed) => Self::Lagged(Lagged { missed }),
            Stop::Closed => Self::Closed,
        }
    }
}

impl From<RecvError> for Error {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Lagged(lagged) => lagged.into(),
            RecvError::Closed => Self::Closed { what: "the memory topic" },
        }
    }
}
