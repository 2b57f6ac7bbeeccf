//! Kafka's protocol as far as it takes to carry record batches as they are: Fetch here, Produce there.
//!
//! Everything that handles single records uses librdkafka, through the crate `broker`. What is here never looks into a
//! batch unless it has to: the producer's part of a batch's header is written anew, its checksum with it, and the
//! records inside stay the bytes they were. A [`Fetcher`] reads partitions (committed records only, long polls, incremental
//! sessions) and says of each batch whether it can go as it is; a [`Producer`] writes batches in transactions under a
//! transactional id. Nothing is tried again here that could change an order or an outcome: after an error the owner
//! drops what it has and begins anew. All waiting is bounded by progress, not by size, so that a large answer on a thin
//! line is not taken for a dead one.

pub mod batch;
mod cluster;
mod connection;
mod dial;
mod ends;
mod error;
mod fetch;
mod frame;
mod groups;
mod look;
mod make;
mod old;
mod produce;
mod records;
mod sasl;
mod settings;
mod skew;
mod tls;

pub use cluster::{Cluster, Topic};
pub use dial::{Dial, Stream, Tcp, Traffic};
pub use ends::Ends;
pub use error::{Error, Result};
pub use fetch::{FetchLimits, Fetched, Fetcher, Start};
pub use groups::Group;
pub use look::Room;
pub use produce::{Carried, Held, Partition, Producer};
pub use records::{Read, Rebuilt, Row, pack, read, rebuild, write};
pub use settings::{Sasl, Settings, Tls};
pub use skew::Skew;
