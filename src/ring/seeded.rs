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
    /// A value of a multicast ring is made visible without Release.
    RingPublishesRelaxed,
    /// Writers get credit for places that readers still hold.
    RingGrantsWithoutRoom,
    /// A reader moves on without Release.
    RingReadsOn,
    /// A member claims without marking what it will read.
    RingClaimsUnmarked,
    /// The gate is found by looking at members' marks before their group's head.
    RingReadsMarksFirst,
    /// A group begins at the tail, beyond writers at work.
    RingJoinsAtTail,
    /// A ring is closed without waiting for what is under way.
    RingClosesUnfenced,
    /// A writer does not look whether the ring was closed before its value was in.
    RingKeepsLateValues,
    /// A member's new mark hides that it is done with what it held before.
    RingMarksRelaxed,
    /// A member that lost a claim tells no writer that its mark is gone.
    RingLosesClaimsSilently,
    /// A writer publishes without telling those who wait to drop what it publishes.
    RingPublishesSilently,
    /// A reader moves on without telling the writers.
    RingReadsSilently,
    /// A member that leaves takes along what it has claimed.
    RingLeavesWithRun,
    /// A member that is done with its last run tells nobody who waits for that at the end.
    RingEndsSilently,
    /// A member that finds a gap ahead of it does not look again.
    RingForgetsGaps,
}

/// Whether the running model planted this bug. Never, outside of the models.
#[cfg(not(all(test, loom)))]
pub(crate) const fn is_seeded(_: Bug) -> bool {
    false
}

#[cfg(all(test, loom))]
pub(crate) use planting::{is_seeded, plant};

/// Whether a barrier's light half is left out: for its own bug, and for bugs that it would hide. In the models it is
/// a fence, which also hands over what came before; where it is an order to the compiler alone, it does not.
pub(crate) fn is_light_half_left_out() -> bool {
    [Bug::NotifyWithoutFence, Bug::RingPublishesRelaxed, Bug::RingMarksRelaxed].into_iter().any(is_seeded)
}

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
        pub(crate) const ALL: [Self; 26] = [
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
            Self::RingPublishesRelaxed,
            Self::RingGrantsWithoutRoom,
            Self::RingReadsOn,
            Self::RingClaimsUnmarked,
            Self::RingReadsMarksFirst,
            Self::RingJoinsAtTail,
            Self::RingClosesUnfenced,
            Self::RingKeepsLateValues,
            Self::RingMarksRelaxed,
            Self::RingLosesClaimsSilently,
            Self::RingPublishesSilently,
            Self::RingReadsSilently,
            Self::RingLeavesWithRun,
            Self::RingEndsSilently,
            Self::RingForgetsGaps,
        ];
    }
}
