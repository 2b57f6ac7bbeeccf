//! Tables designed by query, on an embedded SQLite file or on Apache Cassandra, chosen by URL.
//!
//! Both engines are defined by the same numbered CQL files and follow Cassandra's rules to the letter: each cell has a
//! write timestamp and the latest wins, whatever order the writes arrive in; a tie is won by the tombstone, then by
//! the larger value. [`Session::upsert`] is CQL `INSERT`: it also writes the row's marker, so that a row with only its key
//! is there; `Value::Null` deletes a cell. All of it is idempotent: the same write twice changes nothing.
//!
//! An acknowledged write is durable. Nothing here scans: a read names a whole key, or one partition.

mod cassandra;
mod definition;
mod error;
mod merge;
mod metrics;
mod plan;
mod row;
mod session;
mod settings;
mod sqlite;
mod value;
mod write;

pub mod contract;

pub use definition::{Column, Definition, Kind};
pub use error::{Error, Result};
pub use row::Row;
pub use session::Session;
pub use settings::{Consistency, Settings, Tls};
pub use value::Value;
pub use write::{Select, Write};
