//! A copy of an object whose hash is known before its bytes: each chunk is verified before it is kept.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::sync::Arc;

use schemas::Hash;

use crate::chunks::{CHUNK, Chunks};
use crate::error::{Error, Result};
use crate::publish::{self, Whole};
use crate::volume::{Inner, blocking};

/// A copy that grows chunk by chunk, and survives its process: opened again, it verifies what staging holds and goes
/// on at the first chunk that is not there whole.
///
/// A call that is cancelled spends the copy, as does a failed write; opening it again is always right.
#[derive(Debug)]
pub struct Partial {
    inner: Arc<Inner>,
    whole: Arc<Whole>,
    verified: u64,
    file: Option<File>,
}

impl Partial {
    pub(crate) async fn open(inner: Arc<Inner>, hash: &Hash, size: u64, chunks: Chunks) -> Result<Self> {
        chunks.verify(hash, size)?;
        let whole = Arc::new(Whole {
            hash: hash.clone(),
            size,
            chunks,
        });
        let (staging, expected) = (Arc::clone(&inner), Arc::clone(&whole));
        let (file, verified) = blocking(move || {
            let file = staging.staging.partial(&expected.hash)?;
            resume(file, &expected).map_err(Error::file("resume a partial copy"))
        })
        .await?;
        Ok(Self {
            inner,
            whole,
            verified,
            file: Some(file),
        })
    }

    /// How many bytes are here and verified.
    pub fn verified(&self) -> u64 {
        self.verified
    }

    /// Which bytes come next; nothing when all are here.
    pub fn next_chunk(&self) -> Option<Range<u64>> {
        let end = (self.verified + CHUNK).min(self.whole.size);
        (self.verified < end).then_some(self.verified..end)
    }

    /// Adds the next chunk.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when these are not its bytes; the copy stays as it was and can go on.
    pub async fn append(&mut self, chunk: &[u8]) -> Result<()> {
        let mut file = self.file.take().ok_or(Error::Spent)?;
        let number = self.verified / CHUNK;
        if self.next_chunk().is_none() || !self.whole.chunks.holds(number, self.whole.size, chunk) {
            self.file = Some(file);
            return Err(Error::Corrupt {
                hash: self.whole.hash.clone(),
                what: format!("chunk {number}"),
            });
        }
        let bytes = chunk.to_vec();
        let file = blocking(move || {
            file.write_all(&bytes).map_err(Error::file("write a chunk"))?;
            Ok(file)
        });
        self.file = Some(file.await?);
        self.verified += chunk.len() as u64;
        Ok(())
    }

    /// Publishes the object. When this returns it is there, whole, also after a power cut.
    ///
    /// # Errors
    /// When bytes are missing, or it cannot be published; then nothing is visible.
    pub async fn publish(mut self) -> Result<()> {
        let file = self.file.take().ok_or(Error::Spent)?;
        if self.verified < self.whole.size {
            let what = format!("the copy, {} of {} bytes,", self.verified, self.whole.size);
            return Err(Error::Corrupt {
                hash: self.whole.hash.clone(),
                what,
            });
        }
        let path = self.inner.staging.partial_path(&self.whole.hash);
        let (inner, whole, from) = (Arc::clone(&self.inner), Arc::clone(&self.whole), path.clone());
        let staged = blocking(move || {
            let Some(root) = &inner.store.root else {
                return Ok(Some(file));
            };
            publish::into_directory(&inner, root, &file, &from, &whole)?;
            Ok(None)
        })
        .await?;
        if let Some(file) = staged {
            let held = file
                .try_clone()
                .map_err(Error::file("read an object in staging"))?;
            publish::into_bucket(&self.inner, file, &self.whole).await?;
            blocking(move || fs::remove_file(path).map_err(Error::file("remove a published copy"))).await?;
            // Only now may another open the path.
            drop(held);
        }
        Ok(())
    }
}

/// Verifies what the file holds, cuts the rest off, and stands at the end.
fn resume(mut file: File, whole: &Whole) -> std::io::Result<(File, u64)> {
    let mut verified = 0;
    let mut chunk = Vec::new();
    while verified < whole.size {
        let length = CHUNK.min(whole.size - verified);
        chunk.clear();
        (&mut file).take(length).read_to_end(&mut chunk)?;
        if !whole.chunks.holds(verified / CHUNK, whole.size, &chunk) {
            break;
        }
        verified += length;
    }
    file.set_len(verified)?;
    file.seek(SeekFrom::Start(verified))?;
    Ok((file, verified))
}
