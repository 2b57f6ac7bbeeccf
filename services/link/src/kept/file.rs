//! The same on the disk, so that a restart reads no more than a cut.
//!
//! What is there is true for as long as the topic only grows, however old: it is complete up to its offsets. That nobody
//! else has been at work since, and that the core was not put back to a former state, the cluster says of the id of marks.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use common::kafka::Held;
use common::schemas::Checkpoint;
use serde::{Deserialize, Serialize};

use super::Offsets;

/// What is kept.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Saved {
    /// The incarnation of the topic.
    pub(super) topic: String,
    /// The transactional id of marks.
    pub(super) id: String,
    producer_id: i64,
    epoch: i16,
    /// What lies before these is known.
    pub(super) next: Offsets,
    /// Partition, offset and what it says, the newest of each key.
    pub(super) checkpoints: Vec<(i32, i64, Checkpoint)>,
}

impl Saved {
    pub(super) fn new(
        topic: &str,
        (id, held): &(String, Held),
        next: HashMap<i32, i64>,
        checkpoints: Vec<(i32, i64, Checkpoint)>,
    ) -> Self {
        Self {
            topic: topic.to_owned(),
            id: id.clone(),
            producer_id: held.producer_id,
            epoch: held.epoch,
            next,
            checkpoints,
        }
    }

    /// What the id was held by.
    pub(super) fn held(&self) -> Held {
        Held {
            producer_id: self.producer_id,
            epoch: self.epoch,
        }
    }

    /// Reads it; none when there is no file, or nothing to be understood.
    pub(super) fn read(path: &Path) -> Option<Self> {
        let read = fs::read(path).and_then(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::other));
        match read {
            Ok(saved) => Some(saved),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "known checkpoints cannot be read; they are asked for again");
                None
            }
        }
    }

    /// Replaces the file as a whole. Blocks.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let directory = path.parent().unwrap_or_else(|| Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(&serde_json::to_vec(self).map_err(io::Error::other)?)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }
}
