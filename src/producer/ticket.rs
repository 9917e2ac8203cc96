//! The receipt for a record that was taken and is on its way: to be waited for, awaited, or dropped.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::config::Acks;
use crate::error::Error;
use crate::partition::{Completion, UntilDurable};
use crate::producer::accumulator::Receipt;
use crate::record::TicketError;
use crate::ring::{Notify, Waiting};
use crate::time::Deadline;
use crate::types::Offset;

/// A record's receipt from [`send_nowait`](crate::Producer::send_nowait).
///
/// [`wait`](Self::wait) for it on a thread or `.await` it in a task of any runtime: both give the record's offset once
/// the producer's acks are fulfilled. Whoever waits has the batch sent at once, without regard to linger. Dropping a
/// ticket does not take the record back; an error that nobody sees in a ticket is told by the next
/// [`flush`](crate::Producer::flush).
#[must_use = "a ticket says whether the record was taken; if that does not matter, `drop` it"]
pub struct Ticket {
    receipt: Receipt,
    /// For tasks; `None` until first polled.
    appended: Option<Waiting<Done>>,
    durable: Option<UntilDurable>,
}

/// Leads to the news of a batch.
struct Done(Arc<Completion>);

impl Deref for Done {
    type Target = Notify;

    fn deref(&self) -> &Notify {
        self.0.done()
    }
}

impl Ticket {
    pub(crate) fn new(receipt: Receipt) -> Self {
        Self { receipt, appended: None, durable: None }
    }

    /// Waits until the record is as safe as the producer's acks say, and returns its offset.
    ///
    /// # Errors
    /// [`TicketError`] with the record, if its batch was refused; without it, if it was appended and the sync failed.
    pub fn wait(self) -> Result<Offset, TicketError> {
        self.receipt.wait(Deadline::never()).expect("without a deadline there is an answer")
    }

    /// As [`wait`](Self::wait), for at most so long; the ticket comes back if that was not enough.
    ///
    /// The time holds for being appended. The sync that may follow takes as long as the disk takes.
    ///
    /// # Errors
    /// `Err` with the ticket if the time has passed, and within `Ok` as [`wait`](Self::wait).
    pub fn wait_timeout(self, timeout: Duration) -> Result<Result<Offset, TicketError>, Self> {
        self.receipt.wait(Deadline::after(timeout)).ok_or(self)
    }

    /// The partition the record goes to.
    pub fn partition(&self) -> crate::types::PartitionId {
        self.receipt.accumulator.partition().name().partition
    }
}

impl Receipt {
    fn wait(&self, deadline: Deadline) -> Option<Result<Offset, TicketError>> {
        self.accumulator.submit_if_holding(&self.completion);
        let outcome = self.completion.done().wait(deadline, || self.completion.outcome(self.index))?;
        Some(outcome.and_then(|offset| {
            let synced = self.accumulator.partition().wait_for(self.acks, offset + 1);
            synced.map(|()| offset).map_err(not_durable)
        }))
    }
}

/// The record is in the log and may or may not be on the disk: it does not come back, or it might be there twice.
fn not_durable(error: Error) -> TicketError {
    TicketError { record: None, error: Box::new(error) }
}

impl Future for Ticket {
    type Output = Result<Offset, TicketError>;

    /// Cancel-safe: a ticket that is dropped while pending takes nothing back and wakes nobody for nothing.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { receipt, appended, durable } = self.get_mut();
        receipt.accumulator.submit_if_holding(&receipt.completion);
        let appended = appended.get_or_insert_with(|| Waiting::new(Done(Arc::clone(&receipt.completion))));
        let offset = match appended.poll_ready(cx, || receipt.completion.outcome(receipt.index)) {
            Poll::Ready(Ok(offset)) => offset,
            Poll::Ready(Err(refused)) => return Poll::Ready(Err(refused)),
            Poll::Pending => return Poll::Pending,
        };
        if receipt.acks == Acks::Appended {
            return Poll::Ready(Ok(offset));
        }
        let log = receipt.accumulator.partition().log();
        let durable = durable.get_or_insert_with(|| UntilDurable::new(log));
        durable.poll(cx, log, offset + 1).map(|synced| synced.map(|()| offset).map_err(not_durable))
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("partition", self.receipt.accumulator.partition().name())
            .field("outcome", &self.receipt.completion.outcome(self.receipt.index))
            .finish_non_exhaustive()
    }
}
