//! Headwater: an event log that starts inside your process.
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

pub use batch::Headers;
pub use broker::{Broker, BrokerBuilder, TopicBuilder};
pub use config::{Acks, OnDamage, Start, TopicConfig, Visibility};
pub use consumer::{Batch, Consumer, ConsumerBuilder, ConsumerRecord, Records};
pub use error::{Damage, Error, Result};
pub use metrics::PartitionMetrics;
pub use producer::{KeyPartitioner, Partitioner, Producer, ProducerBuilder, RecordMetadata, SendBatchError, Ticket};
pub use record::{Header, OwnedRecord, Record, RecordView, SendError, TicketError};
pub use storage::recovery::{Ended, RecoveryReport, TornTail};
pub use topic::Topic;
pub use types::{InvalidName, LeaderEpoch, Offset, PartitionId, Timestamp, TopicId, TopicName, TopicPartition};
