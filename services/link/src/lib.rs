//! Carries records between an edge's broker and the core's, both ways, each once and in order within its partition.
//!
//! All connections are opened by the edge. Records keep key, value, headers, timestamp and partition; with them, in the
//! same transaction, goes a checkpoint to topic `<site>.checkpoints` at the destination, which says how far the source
//! partition has been carried and what its offsets became. So whatever crashes, a reader of committed records at the
//! destination sees each record once. What cannot be carried is counted and written down, never skipped unseen.

mod backlog;
mod backoff;
mod batches;
mod behind;
mod buffer;
mod carrier;
mod certificates;
pub mod checkpoint;
mod disk;
mod enrolled;
mod error;
mod far;
pub mod found;
pub mod history;
pub mod holder;
mod kept;
mod lanes;
mod line;
mod lookout;
mod lost;
mod metrics;
pub mod moves;
pub mod offsets;
mod past;
mod paths;
mod pieces;
mod place;
mod records;
mod refused;
mod report;
mod routes;
mod rule;
mod service;
mod session;
mod settings;
mod trouble;
pub mod verify;
mod wire;

pub use carrier::transactional_id;
pub use error::{Error, Result};
pub use far::Far;
pub use refused::Refused;
pub use routes::{Direction, Lane, Rename, Route, builtin, expand};
pub use service::Link;
pub use settings::Settings;
