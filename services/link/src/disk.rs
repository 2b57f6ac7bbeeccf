//! How much more the disks take on which this site's own broker keeps its records.

use std::path::PathBuf;
use std::sync::Arc;

use common::broker;
use common::kafka::{Cluster, Room};
use common::telemetry;

use crate::line;

/// Where the broker keeps its records.
#[derive(Debug, Clone)]
pub(crate) enum Disk {
    /// Nobody says.
    Unknown,
    /// In this directory: it is the one in this process.
    Directory(PathBuf),
    /// In those of a Kafka's servers.
    Servers(Arc<Cluster>),
}

impl Disk {
    /// Of the site's own broker, which is spoken to over `near` where it is a Kafka.
    pub(crate) fn of(broker: &broker::Settings, near: Option<Arc<Cluster>>) -> Self {
        match (line::directory(broker), near) {
            (Some(directory), _) => Self::Directory(directory),
            (None, Some(cluster)) => Self::Servers(cluster),
            (None, None) => Self::Unknown,
        }
    }

    /// How many bytes of records may come in, of which there are so many copies, until a disk is full; none where that is
    /// not known.
    pub(crate) async fn takes(&self, copies: u32) -> Option<u64> {
        match self {
            Self::Unknown => None,
            Self::Directory(directory) => {
                let directory = directory.clone();
                let found = tokio::task::spawn_blocking(move || rustix::fs::statvfs(&directory));
                let found = found.await.ok()?.ok()?;
                Some(found.f_bavail.saturating_mul(found.f_frsize))
            }
            Self::Servers(cluster) => match cluster.room().await {
                Ok(room) => room.map(|room| spread(room, copies)),
                Err(error) => {
                    tracing::debug!(error = %telemetry::chain(&error), "the disks of this site's broker cannot be looked at");
                    None
                }
            },
        }
    }
}

/// Until the fullest directory is full, when all get the same.
fn spread(room: Room, copies: u32) -> u64 {
    room.bytes.saturating_mul(u64::from(room.directories)) / u64::from(copies.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_share_what_comes_in_and_copies_take_as_much_again() {
        let takes = |bytes, directories, copies| spread(Room { bytes, directories }, copies);
        assert_eq!(takes(1_000, 1, 1), 1_000);
        assert_eq!(takes(1_000, 6, 3), 2_000);
        assert_eq!(takes(1_000, 1, 0), 1_000);
        assert_eq!(takes(u64::MAX, 3, 1), u64::MAX);
    }
}
