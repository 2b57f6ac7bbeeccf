//! The records, ids, topics and tables that Fieldline's services share: what they meet in, and no I/O.
//!
//! Every record travels as Avro in Confluent wire format (a zero byte, a four-byte schema id, the datum). Without a
//! registry the id is derived from the schema's fingerprint, so every site finds the same id without asking anyone.

mod edge_state;
mod ids;
mod records;
mod tables;
mod topics;
mod wire;

pub use edge_state::{EdgeAsset, EdgeState};
pub use ids::{AssetId, Hash, IdError, RequestId, SiteId};
pub use records::*;
pub use tables::{CORE_TABLES, EDGE_TABLES, MIRROR_ORDERS, MIRROR_ORDERS_MOST, Migration};
pub use topics::{Topic, at_core, names as topic, split_site};
pub use wire::{Error, Record, decode, decode_json, encode, schema_id};
