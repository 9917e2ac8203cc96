//! What a builder opens: a topic or a queue.

/// What a [`Builder`](crate::memory::Builder) opens: a [`Topic`](crate::memory::Topic) or a
/// [`Queue`](crate::memory::Queue).
pub trait Handle: sealed::Sealed + 'static {}

pub(super) mod sealed {
    use crate::memory::channel::Channel;

    /// Keeps [`Handle`](super::Handle) to this crate.
    #[allow(unreachable_pub, private_interfaces, reason = "a public trait's parent that nobody can name")]
    pub trait Sealed: Sized {
        type Value: Send + 'static;
        const TAKES: bool;
        fn new(channel: Channel<Self::Value>) -> Self;
    }
}
