//! Memory topics: typed values between the threads and tasks of one process, through a lock-free ring.
//!
//! A [`Topic`] holds the last `capacity` values that its producers sent. Every *group* of consumers sees every value;
//! the members of a group share them. A consumer made by [`Topic::consumer`] is a group of its own. A [`Queue`] is a
//! topic with exactly one group, whose members take the values out: nothing is cloned, and nothing waits unread in
//! vain, since the group is there from the beginning.
//!
//! ```
//! use headwater::{Broker, memory::RecvError};
//!
//! # fn main() -> headwater::Result<()> {
//! let broker = Broker::in_memory()?;
//! let ticks = broker.memory_topic::<u32>("ticks").capacity(1024).open_or_create()?;
//! let mut screen = ticks.consumer(); // sees every value
//! let mut workers = [ticks.group("workers").join(), ticks.group("workers").join()]; // share every value
//!
//! let mut feed = ticks.producer()?;
//! feed.send(101)?;
//! feed.send(102)?;
//! assert_eq!((screen.recv(), screen.recv()), (Ok(101), Ok(102)));
//! assert_eq!(workers[0].recv(), Ok(101));
//! assert_eq!(workers[1].recv(), Ok(102));
//!
//! ticks.close();
//! assert_eq!(feed.send(103).unwrap_err().into_inner(), 103);
//! assert_eq!(screen.recv(), Err(RecvError::Closed));
//! # Ok(())
//! # }
//! ```
//!
//! # Where a reader begins
//!
//! A consumer sees what is sent after it joined, so join before you send: without a group nothing waits, and values are
//! overwritten. [`from_oldest`](ConsumerBuilder::from_oldest) begins with what the ring still holds. A group lives while it has
//! members; what the last one had not read is gone for it. A queue keeps everything until it is taken. `recv` clones;
//! `recv_with` and `poll` lend.
//!
//! # When a reader is slow
//!
//! [`OnFull`](crate::OnFull) says what happens when the ring is full, that is, when the slowest group has not read the
//! value whose place is needed: the sender waits (the default), the value comes back, or the oldest goes. A single
//! group can be made [lossy](ConsumerBuilder::lossy): it holds nobody back, misses the oldest values instead, and hears
//! exactly how many, before the next one:
//!
//! ```
//! # use headwater::{Broker, memory::{Lagged, RecvError}};
//! # fn main() -> headwater::Result<()> {
//! # let broker = Broker::in_memory()?;
//! let ticks = broker.memory_topic::<u32>("ticks").capacity(16).open_or_create()?;
//! let mut screen = ticks.consumer_builder().lossy().join();
//! let mut feed = ticks.producer()?;
//! for tick in 0..20 {
//!     feed.send(tick)?; // never waits for the screen
//! }
//! let Err(RecvError::Lagged(Lagged { missed })) = screen.recv() else { panic!("20 values in a ring of 16") };
//! assert!(missed >= 4);
//! assert_eq!(screen.recv(), Ok(missed as u32)); // and it goes on behind the gap
//! # Ok(())
//! # }
//! ```
//!
//! A value that is being lent ([`poll`](Consumer::poll), [`recv_with`](Consumer::recv_with)) is not overwritten while
//! the visitor runs. If it is the oldest of a full ring, senders wait for the visitor, and `try_send` refuses, whatever
//! the policy. So a lossy group that must hold nobody back takes copies: [`recv`](Consumer::recv) and its like hold a
//! value for as long as its `clone` takes. A visitor that sends to its own full topic waits for itself.
//!
//! # When all readers leave
//!
//! A group lives for as long as it has members; the last one takes its position along. What a leaving member had
//! claimed and not read goes to the others of its group. A topic without a group overwrites its oldest values, so that
//! it always holds the latest; [`from_oldest`](ConsumerBuilder::from_oldest) begins with what is still there. A queue's
//! group stays: what nobody takes stays in the queue, until it is full.
//!
//! # When a producer stalls or leaves
//!
//! No code of yours runs between the claim of a place and its publication ([`send_with`](Producer::send_with) makes the
//! value before), so a producer can only stall there if its thread is off its core, for as long as that lasts; values
//! of others behind it wait. Room that a producer has taken for its next values counts as used until it sends or leaves:
//! at most 64 places, and a sixteenth of the ring for the first producer, less for each that follows. With
//! [`OnFull::Reject`](crate::OnFull::Reject) nobody takes any ahead, so "full" is exact.
//!
//! # When values are dropped
//!
//! A value is dropped by the producer that overwrites it, after its own value is published; a panic in that drop comes
//! out of a `send` that has taken place. (Where making room drops values, in a queue that drops its oldest and with
//! `Keep::UntilConsumed`, it comes out of a `send` that has not.) With [`Keep::UntilConsumed`](crate::Keep::UntilConsumed) it is dropped when the
//! last group has read it, by whoever notices. A queue's values are their taker's. The rest goes with the last handle
//! of the topic; broker included.
//!
//! # In tasks: what is cancel-safe
//!
//! Everything is: [`recv_async`](Consumer::recv_async) and its like own no value until they are ready, so a future that is dropped loses none,
//! and a wake-up is never used up by a future that was dropped. A dropped [`send_async`](Producer::send_async) has not sent, and its
//! value goes with it; [`reserve_async`](Producer::reserve_async) waits without one.
//!
//! # Closing
//!
//! [`Topic::close`], [`Broker::close`](crate::Broker::close), where it was asked for the last producer's leaving, and the end of
//! the last through whom a value could come (broker, topic handles, producers): nothing more gets in, what is in can be read, then readers hear [`RecvError::Closed`]. A value whose `send` returned `Ok` is read by
//! every group that was there; one that came too late comes back.
//!
//! # Where it comes from
//!
//! The ring is the LMAX Disruptor's idea (values stay in place, readers have positions), with groups, credit instead of
//! a claim strategy, and a waiter list instead of a lock. Its invariants stand at the head of `ring::multicast`.

mod error;
mod channel;
mod handle;
mod directory;
mod topic;
mod queue;
mod producer;
mod consumer;
mod queue_consumer;
mod builder;

pub use builder::Builder;
pub use consumer::{Consumer, ConsumerBuilder, Iter, TryIter};
pub use error::{Lagged, RecvError, Refused, SendError};
pub use handle::Handle;
pub use producer::{Permit, Producer};
pub use queue::Queue;
pub use queue_consumer::{QueueConsumer, QueueIter};
pub use topic::{GroupMetrics, Metrics, Topic};

pub(crate) use directory::Directory;
