//! What a volume takes, and what its disk has left.

use futures_util::TryStreamExt as _;
use object_store::ObjectStore as _;

use crate::error::{Error, Result};
use crate::store::Store;
use crate::volume::blocking;

/// What a volume takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Objects, without their lists of chunks.
    pub objects: u64,
    /// Bytes of objects and lists.
    pub bytes: u64,
    /// Bytes that the disk has left for this process; none in a bucket.
    pub free: Option<u64>,
    /// Bytes that the disk holds; none in a bucket.
    pub total: Option<u64>,
}

/// Counts the objects of a store, and measures its disk.
pub(crate) async fn measure(store: &Store) -> Result<Usage> {
    let mut usage = Usage::default();
    let prefix = store.objects();
    let mut list = store.engine.list(Some(&prefix));
    while let Some(found) = list
        .try_next()
        .await
        .map_err(Error::store("list objects under", &prefix))?
    {
        usage.bytes += found.size;
        if found.location.extension() != Some("chunks") {
            usage.objects += 1;
        }
    }
    if let Some(root) = store.root.clone() {
        let disk = blocking(move || {
            rustix::fs::statvfs(&root).map_err(|error| Error::file("measure the volume's disk")(error.into()))
        })
        .await?;
        usage.free = Some(disk.f_bavail.saturating_mul(disk.f_frsize));
        usage.total = Some(disk.f_blocks.saturating_mul(disk.f_frsize));
    }
    Ok(usage)
}
