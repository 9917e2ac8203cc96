//! Headwater: an event log that starts inside your process.
//!
//! Kafka's topics, partitions and consumer groups as a library: no daemon, no port, no runtime. A memory topic is a
//! lock-free ring of typed values between threads. A durable topic's records lie in memory-mapped segment files; what
//! was acked is there after `kill -9` and, unless asked otherwise, after a power cut.
//!
//! ```
//! use headwater::{Broker, Record, Start};
//! use std::time::Duration;
//!
//! # fn main() -> headwater::Result<()> {
//! # let dir = tempfile::tempdir().expect("a directory");
//! # let dir = dir.path();
//! let broker = Broker::open(dir)?;
//!
//! // In memory: typed values; every group sees all of them.
//! let ticks = broker.memory_topic::<f64>("ticks").open_or_create()?;
//! let mut screen = ticks.consumer();
//! ticks.producer()?.send(101.5)?;
//! assert_eq!(screen.recv()?, 101.5);
//!
//! // On the disk: records in partitions.
//! let orders = broker.topic("orders").partitions(4).open_or_create()?;
//! let mut producer = orders.producer()?;
//! producer.send(Record::new(b"paid 19.90").key(b"customer-9").header("trace", b"4bf9"))?;
//!
//! let mut billing = broker.consumer("billing", Start::Earliest).topics(["orders"]).build()?;
//! while let Some(batch) = billing.poll(Duration::ZERO)? {
//!     for record in &batch {
//!         assert_eq!(record.value(), b"paid 19.90"); // borrowed from the log
//!     }
//!     batch.commit()?; // after the work: at least once
//! }
//! broker.close(Duration::from_secs(5))
//! # }
//! ```
//!
//! # A tour
//!
//! - [A broker is a value](#a-broker-is-a-value)
//! - [Memory topics](#memory-topics)
//! - [Topics](#topics)
//! - [Sending: one, many, or without waiting](#sending-one-many-or-without-waiting)
//! - [What an ack means](#what-an-ack-means)
//! - [Reading alone](#reading-alone)
//! - [Reading for a group](#reading-for-a-group)
//! - [In tasks](#in-tasks)
//! - [When something goes wrong](#when-something-goes-wrong)
//! - [Closing, dropping, crashing](#closing-dropping-crashing)
//! - [In tests](#in-tests)
//! - [Features](#features), [platforms](#platforms), and [where to read on](#where-to-read-on)
//!
//! ## A broker is a value
//!
//! [`Broker::open`] takes a directory, or makes it, and holds its lock for as long as the broker, or a topic,
//! producer or consumer made from it, lives. Clones are the same broker. A second broker in the same directory is
//! refused, in this process or another:
//!
//! ```
//! # use headwater::{Broker, Error};
//! # let dir = tempfile::tempdir().expect("a directory");
//! # let dir = dir.path();
//! let broker = Broker::open(dir)?;
//! assert!(matches!(Broker::open(dir), Err(Error::Locked { .. })));
//! drop(broker);
//! Broker::open(dir)?;
//! # Ok::<(), Error>(())
//! ```
//!
//! ## Memory topics
//!
//! A [memory topic](memory) keeps the last values of one type in a ring. Every group sees every value, members of a group
//! share them, a consumer alone is a group of its own. When the ring is full, [`OnFull`] says whether the sender waits,
//! gets its value back, or drops the oldest; a single group can be made lossy, and is told how many values it missed.
//! A [memory queue](memory::Queue) is the same with one group, whose members take the values out.
//!
//! ```
//! # use headwater::{Broker, OnFull, memory::RecvError};
//! # fn main() -> headwater::Result<()> {
//! # let broker = Broker::in_memory()?;
//! let ticks = broker.memory_topic::<u32>("ticks").capacity(2).on_full(OnFull::Reject).create()?;
//! let mut workers = [ticks.group("workers").join(), ticks.group("workers").join()];
//! let mut screen = ticks.consumer_builder().lossy().join();
//!
//! let mut feed = ticks.producer()?;
//! feed.send_batch(&mut vec![1, 2])?;
//! assert_eq!(feed.send(3).unwrap_err().into_inner(), 3); // the workers hold it back
//! assert_eq!((workers[0].recv()?, workers[1].recv()?), (1, 2));
//! feed.send(3)?; // the screen does not
//! assert!(matches!(screen.recv(), Err(RecvError::Lagged(lagged)) if lagged.missed > 0));
//!
//! let jobs = broker.memory_queue::<Box<dyn Fn() -> u32 + Send>>("jobs").open_or_create()?;
//! jobs.producer()?.send(Box::new(|| 6 * 7))?;
//! assert_eq!(jobs.consumer().take()?(), 42);
//! # Ok(())
//! # }
//! ```
//!
//! ## Topics
//!
//! A durable topic has one or more partitions; each is a log of its own. Order holds within a partition, and records of
//! one key go to one partition. What a topic was created with stays with it; a name and a limit are checked where they
//! are given:
//!
//! ```
//! # use headwater::{Broker, Error};
//! # let broker = Broker::in_memory()?;
//! let orders = broker.topic("orders").partitions(4).segment_bytes(16 << 20).create()?;
//! assert_eq!(broker.topic("orders").open()?.id(), orders.id());
//!
//! let refusal = broker.topic("invoices").segment_bytes(1000).create().unwrap_err();
//! assert_eq!(refusal.to_string(), "segment.bytes = 1000 is refused: 65536 to 1073741824 in steps of 4096 are allowed");
//! assert!(matches!(broker.topic("orders").create(), Err(Error::TopicExists { .. })));
//! # Ok::<(), Error>(())
//! ```
//!
//! ## Sending: one, many, or without waiting
//!
//! [`send`](Producer::send) waits until its record is safe; [`send_batch`](Producer::send_batch) does that for many at
//! once; [`send_nowait`](Producer::send_nowait) collects records for a few milliseconds, sends them together, and gives a
//! [`Ticket`] for each, to be waited for, awaited, or dropped. A producer keeps its order whichever it uses. A refused
//! record comes back:
//!
//! ```
//! # use headwater::{Broker, Record};
//! # fn main() -> headwater::Result<()> {
//! # let broker = Broker::in_memory()?;
//! let orders = broker.topic("orders").max_message_bytes(2048).open_or_create()?;
//! let mut producer = orders.producer()?;
//! assert_eq!(producer.send(Record::new(b"a"))?.offset, 0);
//! assert_eq!(producer.send_batch(&[Record::new(b"b"), Record::new(b"c")])?[1].offset, 2);
//! let ticket = producer.send_nowait(Record::new(b"d"))?;
//! assert_eq!(ticket.wait()?, 3);
//!
//! let large = vec![0; 4096];
//! let refused = producer.send(Record::new(&large)).unwrap_err();
//! assert_eq!(refused.error.kind(), "record_too_large");
//! assert_eq!(refused.into_inner().value_bytes(), Some(&large[..]));
//! # Ok(())
//! # }
//! ```
//!
//! ## What an ack means
//!
//! [`Acks::Synced`], the default: on the disk, there after a power cut. Threads that wait share one sync.
//! [`Acks::Appended`]: in the page cache, there after the death of the process; the disk has it within
//! [`flush_interval`](TopicBuilder::flush_interval). There is no ack that means less.
//!
//! ```
//! # use headwater::{Acks, Broker, Record};
//! # let ticks = Broker::in_memory()?.topic("ticks").open_or_create()?;
//! let mut producer = ticks.producer_builder().acks(Acks::Appended).build()?;
//! producer.send(Record::new(b"101.5"))?;
//! assert_eq!(ticks.metrics()[0].log_end, 1);
//! # Ok::<(), headwater::Error>(())
//! ```
//!
//! ## Reading alone
//!
//! A consumer without a group begins where it is told and keeps no positions; they are public, so that they can live
//! in the same transaction as the work, in a database of your own. A slow one holds nobody back.
//!
//! ```
//! # use headwater::{Broker, Error, Record, Start};
//! # use std::time::Duration;
//! # let ticks = Broker::in_memory()?.topic("ticks").open_or_create()?;
//! # ticks.producer()?.send_batch(&[Record::new(b"101.5"), Record::new(b"101.7")])?;
//! let mut reader = ticks.consumer(Start::Offset(1)).build()?;
//! let (partition, position) = reader.positions().remove(0);
//! assert_eq!((position, reader.lag()), (1, 1));
//! assert_eq!(reader.poll(Duration::ZERO)?.expect("one is there").len(), 1);
//!
//! reader.seek(&partition, 0)?;
//! assert_eq!(reader.poll(Duration::ZERO)?.expect("two are there").len(), 2);
//! assert!(reader.poll(Duration::ZERO)?.is_none());
//! assert!(matches!(reader.seek(&partition, 9), Err(Error::OffsetOutOfRange { first: 0, end: 2, .. })));
//! # Ok::<(), Error>(())
//! ```
//!
//! ## Reading for a group
//!
//! A group's position is committed when you say so, and never otherwise. Whoever comes next goes on there; what was lent
//! and not committed is lent again. A group has one live member.
//!
//! ```
//! # use headwater::{Broker, Error, Record, Start};
//! # use std::time::Duration;
//! # let broker = Broker::in_memory()?;
//! # let orders = broker.topic("orders").open_or_create()?;
//! # orders.producer()?.send_batch(&[Record::new(b"a"), Record::new(b"b")])?;
//! let billing = || broker.consumer("billing", Start::Earliest).topics(["orders"]).max_poll_records(1).build();
//!
//! let mut first = billing()?;
//! first.poll(Duration::ZERO)?.expect("a").commit()?;
//! let _not_committed = first.poll(Duration::ZERO)?.expect("b");
//! assert!(matches!(billing(), Err(Error::GroupInUse { .. })));
//! drop(first);
//!
//! let mut second = billing()?;
//! let batch = second.poll(Duration::ZERO)?.expect("b, again");
//! assert_eq!(batch.iter().next().map(|record| record.offset()), Some(1));
//! # Ok::<(), Error>(())
//! ```
//!
//! ## In tasks
//!
//! What can wait has a twin for tasks of any runtime: a [`Ticket`] is a future, and there are
//! [`poll_async`](Consumer::poll_async), [`commit_async`](Batch::commit_async),
//! [`flush_async`](Producer::flush_async) and [`close_async`](Broker::close_async); for memory topics
//! [`send_async`](memory::Producer::send_async), [`recv_async`](memory::Consumer::recv_async) and others, which are
//! cancel-safe.
//!
//! ```
//! # use headwater::{Broker, Record, Start};
//! # fn block_on<F: std::future::Future>(task: F) -> F::Output {
//! #     struct Thread(std::thread::Thread);
//! #     impl std::task::Wake for Thread {
//! #         fn wake(self: std::sync::Arc<Self>) { self.0.unpark() }
//! #     }
//! #     let waker = std::sync::Arc::new(Thread(std::thread::current())).into();
//! #     let mut task = std::pin::pin!(task);
//! #     loop {
//! #         match task.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
//! #             std::task::Poll::Ready(output) => return output,
//! #             std::task::Poll::Pending => std::thread::park(),
//! #         }
//! #     }
//! # }
//! # block_on(async {
//! # let broker = Broker::in_memory()?;
//! # let orders = broker.topic("orders").open_or_create()?;
//! let mut producer = orders.producer()?;
//! let mut reader = orders.consumer(Start::Earliest).build()?;
//! let offset = producer.send_nowait(Record::new(b"paid 19.90"))?.await?;
//! let batch = reader.poll_async().await?;
//! assert_eq!(batch.iter().next().map(|record| record.offset()), Some(offset));
//!
//! let ticks = broker.memory_topic::<f64>("ticks").open_or_create()?;
//! let mut screen = ticks.consumer();
//! ticks.producer()?.send_async(101.5).await?;
//! assert_eq!(screen.recv_async().await?, 101.5);
//! # Ok::<(), headwater::Error>(())
//! # }).expect("the task ends well");
//! ```
//!
//! ## When something goes wrong
//!
//! There is one [`Error`]. Match on a variant where the program can act, ask a predicate where it only sorts, print it
//! for people: it says what, where, and the way out. [`kind`](Error::kind) is one stable word for logs.
//!
//! ```
//! # use headwater::Broker;
//! # let broker = Broker::in_memory()?;
//! let error = broker.topic("ordres").open().unwrap_err();
//! assert_eq!((error.kind(), error.is_retriable()), ("unknown_topic", false));
//! assert_eq!(error.to_string(), "there is no topic \"ordres\" here; `open_or_create` would make it");
//! # Ok::<(), headwater::Error>(())
//! ```
//!
//! A full disk is [`Error::StorageFull`], and sends work again once there is space. After a failed sync the partition
//! is [`Error::Fenced`] until it was opened anew. Stored bytes that are not what was written are [`Error::Damaged`], or
//! passed over and counted where the broker was opened with [`OnDamage::Skip`].
//!
//! ## Closing, dropping, crashing
//!
//! Dropping never blocks and loses nothing that was acked. [`Broker::close`] sends what is held back, syncs, and says
//! within its timeout what it could not do; memory topics are closed with it, and what is in them can still be read.
//! After a crash, [`Topic::recovery`] tells how the last session ended:
//!
//! ```
//! # use headwater::{Acks, Broker, Ended, Record, fs::Simulated};
//! # let machine = Simulated::new(1);
//! # let open = |machine: &Simulated| Broker::builder().fs(machine.clone()).data_dir("/data").open();
//! let broker = open(&machine)?;
//! let orders = broker.topic("orders").open_or_create()?;
//! orders.producer()?.send(Record::new(b"synced"))?;
//!
//! let orders = open(&machine.crash(7))?.topic("orders").open()?; // the power was cut
//! let report = orders.recovery().next().expect("one partition");
//! assert_eq!((report.ended, report.end_offset), (Ended::MachineDied, 1));
//! # Ok::<(), headwater::Error>(())
//! ```
//!
//! ## In tests
//!
//! [`Broker::in_memory`] is the same broker without a directory. [`time::Clock::manual`] stands still until it is moved.
//! [`fs::Simulated`] is a machine whose power can be cut and whose disk can fail, on demand and by seed.
//!
//! # Features
//!
//! They add, and change nothing that is there without them. None is on by default.
//!
//! - `stream`: [`memory::Consumer`] is a `futures_core::Stream`. Brings the crate `futures-core`.
//!
//! # Platforms
//!
//! Rust 1.95 or newer, no C. Tested and tuned on Linux; macOS and Windows compile with plainer means, and nobody has
//! proven the promises there.
//!
//! # Where to read on
//!
//! [`docs`]: [architecture](docs::architecture), [life of a record](docs::life_of_a_record),
//! [guarantees](docs::guarantees), [format on disk](mod@docs::format), [glossary](docs::glossary).
// The doors of clippy.toml hold for what ships; tests, benches and examples use std as they like.
#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

// ── Words: plain data ──
pub(crate) mod types;
pub(crate) mod error;
pub(crate) mod record;
pub mod config;

// ── Machine: the only doors to the platform ──
pub(crate) mod sync;
pub mod time;
pub mod fs;
pub(crate) mod metrics;

// ── Mechanisms: bytes, memory, files; no topics here ──
pub(crate) mod batch;
pub(crate) mod ring;
pub(crate) mod storage;

// ── Logs: ordered records with offsets ──
pub mod memory;
pub(crate) mod log;

// ── Broker: names, rules, coordination ──
pub(crate) mod partition;
pub(crate) mod topic;
pub(crate) mod registry;
pub(crate) mod group;
pub(crate) mod broker;

// ── Clients ──
pub(crate) mod producer;
pub(crate) mod consumer;

// ── Face ──
pub mod docs;

pub use batch::Headers;
pub use broker::{Broker, BrokerBuilder, TopicBuilder};
pub use config::{Acks, Keep, Layout, OnDamage, OnFull, Start, TopicConfig, Visibility, WaitStrategy};
pub use consumer::{Batch, Consumer, ConsumerBuilder, ConsumerRecord, Records};
pub use error::{Damage, Error, Result};
pub use metrics::PartitionMetrics;
pub use producer::{KeyPartitioner, Partitioner, Producer, ProducerBuilder, RecordMetadata, SendBatchError, Ticket};
pub use record::{Header, OwnedRecord, Record, RecordView, SendError, TicketError};
pub use storage::recovery::{Ended, RecoveryReport, TornTail};
pub use topic::Topic;
pub use types::{InvalidName, LeaderEpoch, Offset, PartitionId, Timestamp, TopicId, TopicName, TopicPartition};
