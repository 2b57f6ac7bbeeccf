//! Where asset bytes live: a directory (`file:///dir`) or a bucket and prefix (`s3://bucket/prefix`).
//!
//! An object is named by the BLAKE3 hash of its bytes, written once, and comes with the list of its chunks' hashes
//! ([`Chunks`]). Bytes are staged in a local directory and appear in the volume whole or not at all: the staged file
//! is synced, its hash is known, the chunk list is in place, and only then the object gets its name. What was
//! acknowledged survives a power cut. A manifest entry is a small create-only object beside the assets.
//!
//! `objects/<first 2 digits>/<hash>` · `objects/<first 2 digits>/<hash>.chunks` (none for an object of one chunk, whose
//! list is its hash) · `mirror/<site>/<request id>` · `staging/` (of a directory volume, on the same filesystem).

mod chunks;
pub mod contract;
mod disk;
mod error;
mod kin;
mod manifest;
mod partial;
mod publish;
mod settings;
mod staging;
mod store;
mod usage;
mod volume;
mod writer;

pub use chunks::{CHUNK, Chunks};
pub use error::{Error, Result};
pub use kin::{Donors, Kin};
pub use manifest::{ManifestEnd, ManifestEntry};
pub use partial::Partial;
pub use settings::{S3, Settings};
pub use usage::Usage;
pub use volume::{READ_LIMIT, Volume};
pub use writer::{Stored, Writer};
