//! One API over two brokers: Apache Kafka, and an embedded one on SQLite that needs nothing installed.
//!
//! The URL's scheme chooses the engine (`kafka://host:9092,…` or `sqlite:///dir/broker.db`); everything above this
//! crate behaves the same on both, which [`contract`] checks. A send returns when the record is durable. Readers see
//! committed records only, in order within a partition. Services write a [`Handler`] and leave polling, order per key,
//! retries, dead letters and commits to the one loop in [`Consumer`].

mod backoff;
mod broker;
mod consumer;
pub mod contract;
mod dead_letter;
mod engine;
mod error;
mod group;
mod handler;
mod kafka;
mod lease;
pub mod metrics;
mod murmur;
mod producer;
mod reader;
mod record;
mod settings;
mod sqlite;
mod topics;
mod trace;

pub use broker::Broker;
pub use consumer::{Consumer, ConsumerSettings, StartWithout, Subscription};
pub use dead_letter::{DeadLetter, dead_letter_topic};
pub use error::{Error, Result};
pub use group::GroupDescription;
pub use handler::{Class, Classify, Failure, Handler};
pub use lease::Lease;
pub use murmur::partition_of;
pub use producer::{Producer, Transactions};
pub use reader::Reader;
pub use record::{Headers, Outgoing, Placement, Position, Record, Start, Watermarks};
pub use settings::{Sasl, Settings, Tls};
pub use topics::{Cleanup, MAX_MESSAGE_BYTES, TopicDescription, TopicSpec};
