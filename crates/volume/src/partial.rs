//! A copy of an object whose hash is known before its bytes: each chunk is verified before it is kept.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::sync::Arc;

use schemas::Hash;
use tokio::task::JoinHandle;

use crate::chunks::{CHUNK, Chunks};
use crate::error::{Error, Result};
use crate::publish::{self, Whole};
use crate::volume::{Inner, blocking};

/// After so many bytes the disk is told to take them. At the end all of a large object would wait for it, and nothing would
/// come over the network meanwhile.
const SYNC_EACH: u64 = 32 << 20;

/// A copy that grows chunk by chunk, and survives its process: opened again, it verifies what staging holds and goes
/// on at the first chunk that is not there whole.
///
/// A call that is cancelled spends the copy, as does a failed write; opening it again is always right.
#[derive(Debug)]
pub struct Partial {
    inner: Arc<Inner>,
    whole: Arc<Whole>,
    verified: u64,
    /// The beginning of the next chunk, which nothing vouches for before it is whole.
    tail: Vec<u8>,
    /// Some of the tail was there when the copy was opened.
    inherited: bool,
    file: Option<File>,
    /// Bytes that the disk was not told to take.
    unsynced: u64,
    /// It is taking some. A failure is told to who syncs next, and to nobody after that, so it must be heard.
    syncing: Option<JoinHandle<io::Result<()>>>,
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
        let (file, verified, tail) = blocking(move || {
            let file = staging.staging.partial(&expected.hash)?;
            resume(file, &expected).map_err(Error::file("resume a partial copy"))
        })
        .await?;
        Ok(Self {
            inner,
            whole,
            verified,
            inherited: !tail.is_empty(),
            tail,
            file: Some(file),
            unsynced: 0,
            syncing: None,
        })
    }

    /// The list that its chunks are verified by.
    pub fn chunks(&self) -> &Chunks {
        &self.whole.chunks
    }

    /// How many bytes are here and verified.
    pub fn verified(&self) -> u64 {
        self.verified
    }

    /// Which bytes are still to come: behind what is verified and the beginning of the next chunk.
    pub fn missing(&self) -> Range<u64> {
        self.verified + self.tail.len() as u64..self.whole.size
    }

    /// Takes bytes as they come, the first at the start of [`Partial::missing`]. Says how many became verified; none
    /// when what was kept of an earlier, unfinished chunk turned out to be wrong: it is forgotten, and what is missing
    /// begins earlier than before.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a chunk is not the object's: that chunk is missing again, and those before it are kept.
    pub async fn take(&mut self, mut bytes: &[u8]) -> Result<Option<u64>> {
        let mut verified = 0;
        while !bytes.is_empty() {
            let chunk = self.next_chunk().unwrap_or(self.verified..self.verified);
            let length = usize::try_from(chunk.end - chunk.start).unwrap_or(usize::MAX);
            let room = length.saturating_sub(self.tail.len()).min(bytes.len());
            self.tail.extend_from_slice(&bytes[..room]);
            bytes = &bytes[room..];
            if self.tail.len() < length {
                break;
            }
            let tail = std::mem::take(&mut self.tail);
            let inherited = std::mem::take(&mut self.inherited);
            match self.append(&tail).await {
                Ok(()) => verified += tail.len() as u64,
                Err(Error::Corrupt { .. }) if inherited => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(verified))
    }

    /// Leaves the copy so that the beginning of the next chunk is there too when it is opened again.
    ///
    /// # Errors
    /// When it cannot be written; what is verified is there all the same.
    pub async fn keep(mut self) -> Result<()> {
        self.synced().await?;
        let mut file = self.file.take().ok_or(Error::Spent)?;
        let tail = std::mem::take(&mut self.tail);
        blocking(move || {
            file.write_all(&tail)
                .map_err(Error::file("write a part of a chunk"))
        })
        .await
    }

    /// Which bytes come next; nothing when all are here.
    pub fn next_chunk(&self) -> Option<Range<u64>> {
        let end = (self.verified + CHUNK).min(self.whole.size);
        (self.verified < end).then_some(self.verified..end)
    }

    /// Adds the next chunk; the beginning of it that was there is forgotten.
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
        self.tail.clear();
        let bytes = chunk.to_vec();
        let file = blocking(move || {
            file.write_all(&bytes).map_err(Error::file("write a chunk"))?;
            Ok(file)
        });
        let file = file.await?;
        self.verified += chunk.len() as u64;
        self.unsynced += chunk.len() as u64;
        if self.unsynced >= SYNC_EACH && self.syncing.as_ref().is_none_or(JoinHandle::is_finished) {
            self.synced().await?;
            let held = file.try_clone().map_err(Error::file("sync a copy"))?;
            self.syncing = Some(tokio::task::spawn_blocking(move || held.sync_data()));
            self.unsynced = 0;
        }
        self.file = Some(file);
        Ok(())
    }

    /// Waits until the disk has what it is taking.
    async fn synced(&mut self) -> Result<()> {
        match self.syncing.take() {
            None => Ok(()),
            Some(syncing) => match syncing.await {
                Ok(synced) => synced.map_err(Error::file("sync a copy")),
                Err(_) => Err(Error::Spent),
            },
        }
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
        self.synced().await?;
        publish::copied(&self.inner, &self.whole, || Ok(file)).await
    }
}

/// Verifies what the file holds, cuts the rest off, and stands at the end. A chunk that is not all there is returned.
fn resume(mut file: File, whole: &Whole) -> io::Result<(File, u64, Vec<u8>)> {
    let mut verified = 0;
    let mut chunk = Vec::new();
    let mut tail = Vec::new();
    while verified < whole.size {
        let length = CHUNK.min(whole.size - verified);
        chunk.clear();
        (&mut file).take(length).read_to_end(&mut chunk)?;
        if !whole.chunks.holds(verified / CHUNK, whole.size, &chunk) {
            if (chunk.len() as u64) < length {
                tail = chunk;
            }
            break;
        }
        verified += length;
    }
    file.set_len(verified)?;
    file.seek(SeekFrom::Start(verified))?;
    Ok((file, verified, tail))
}
