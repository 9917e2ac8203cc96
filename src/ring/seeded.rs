//! Bugs that the models plant, to see that they would have found them.

/// A line of a mechanism that can be left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bug {
    /// A producer takes the slot at the tail without looking whether the consumer has left it.
    QueueClaimsWithoutRoom,
    /// The stamp that hands a value over is stored without Release.
    QueuePublishesRelaxed,
    /// The holder of the pen does not look again after letting go.
    CombinerLeavesUnseen,
    /// A submitter does not try the pen after it has pushed.
    CombinerNeverOffers,
    /// A submitter whose try fails relies on the holder without a fence between.
    CombinerOffersUnfenced,
    /// The holder looks again without a fence after letting go.
    CombinerLooksUnfenced,
    /// The holder overtakes what was claimed before and is not yet published.
    CombinerOvertakes,
    /// A thread that has had the pen is still counted on to take it.
    CombinerStaysAnnounced,
    /// A waiter sleeps without asking again after it registered.
    NotifySleepsUnasked,
    /// The notifier looks for waiters before its news can be seen.
    NotifyWithoutFence,
    /// A late deregistration takes whatever now lies in its place.
    NotifyForgetsEpoch,
}

/// Whether the running model planted this bug. Never, outside of the models.
#[cfg(not(all(test, loom)))]
pub(crate) const fn is_seeded(_: Bug) -> bool {
    false
}

#[cfg(all(test, loom))]
pub(crate) use planting::{is_seeded, plant};

#[cfg(all(test, loom))]
mod planting {
    use std::cell::Cell;

    use super::Bug;

    // loom runs all threads of a model on the thread that runs the model.
    thread_local!(static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) });

    pub(crate) fn is_seeded(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }

    /// Plants the bug for what this thread runs from now on.
    pub(crate) fn plant(bug: Bug) {
        PLANTED.set(Some(bug));
    }

    impl Bug {
        pub(crate) const ALL: [Self; 11] = [
            Self::QueueClaimsWithoutRoom,
            Self::QueuePublishesRelaxed,
            Self::CombinerLeavesUnseen,
            Self::CombinerNeverOffers,
            Self::CombinerOffersUnfenced,
            Self::CombinerLooksUnfenced,
            Self::CombinerOvertakes,
            Self::CombinerStaysAnnounced,
            Self::NotifySleepsUnasked,
            Self::NotifyWithoutFence,
            Self::NotifyForgetsEpoch,
        ];
    }
}
