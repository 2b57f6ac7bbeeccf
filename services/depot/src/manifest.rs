//! What the manifest says, a line for each entry: so that the site begins with the first while the others come, and goes on
//! behind the last one when the line is cut.

use std::io::{self, Write as _};
use std::sync::Arc;

use bytes::Bytes;
use common::chassis::now_ms;
use common::volume::ManifestEnd;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream::{self, BoxStream, StreamExt as _};

use crate::error::{Error, Result};
use crate::routes::{Desk, ENTRIES_AT_ONCE};

/// Entries that go out together. The first of them are soon there, also on a thin line.
const TOGETHER: usize = 64;

/// The lines of one answer.
#[derive(Debug)]
pub(crate) struct Lines {
    desk: Arc<Desk>,
    paths: std::vec::IntoIter<String>,
    /// Behind which entry there are more.
    next: Option<String>,
    /// It says the same over and over: packed it is a fraction.
    packer: Option<GzEncoder<Vec<u8>>>,
    ended: bool,
}

impl Lines {
    /// Of up to `limit` entries behind the path `after`.
    pub(crate) async fn new(
        desk: &Arc<Desk>,
        prefix: &str,
        after: Option<String>,
        limit: usize,
        packed: bool,
    ) -> Result<Self> {
        let paths = desk.volume.list_entries(prefix, after.as_deref(), limit).await;
        let paths = paths.map_err(Error::Volume)?;
        let last = paths.last().and_then(|path| path.rsplit('/').next());
        Ok(Self {
            desk: Arc::clone(desk),
            next: last.filter(|_| paths.len() == limit).map(str::to_owned),
            paths: paths.into_iter(),
            packer: packed.then(|| GzEncoder::new(Vec::new(), Compression::default())),
            ended: false,
        })
    }

    /// Their bytes.
    pub(crate) fn stream(self) -> BoxStream<'static, io::Result<Bytes>> {
        let pieces = stream::try_unfold(self, |mut lines| async move {
            if lines.ended {
                return Ok(None);
            }
            let bytes = lines.piece().await?;
            Ok(Some((bytes, lines)))
        });
        pieces.boxed()
    }

    async fn piece(&mut self) -> io::Result<Bytes> {
        let paths: Vec<String> = self.paths.by_ref().take(TOGETHER).collect();
        let mut found = stream::iter(paths)
            .map(|path| self.desk.entry(path))
            .buffered(ENTRIES_AT_ONCE);
        let (mut lines, now) = (Vec::new(), now_ms());
        while let Some(entry) = found.next().await {
            let Some(entry) = entry.map_err(io::Error::other)? else {
                continue;
            };
            if !entry.expired(now) {
                line(&mut lines, &entry)?;
            }
        }
        drop(found);
        self.ended = self.paths.len() == 0;
        if self.ended {
            let next = self.next.take();
            line(&mut lines, &ManifestEnd { next })?;
        }
        let Some(packer) = &mut self.packer else {
            return Ok(lines.into());
        };
        packer.write_all(&lines)?;
        if self.ended {
            packer.try_finish()?;
        } else {
            packer.flush()?;
        }
        Ok(std::mem::take(packer.get_mut()).into())
    }
}

fn line(lines: &mut Vec<u8>, of: &impl serde::Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *lines, of)?;
    lines.push(b'\n');
    Ok(())
}
