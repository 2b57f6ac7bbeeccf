//! Bytes whose hash is known only when the last one has come.

use std::io::Write as _;
use std::sync::Arc;

use schemas::Hash;
use tempfile::NamedTempFile;

use crate::chunks::Lister;
use crate::error::{Error, Result};
use crate::publish::{self, Whole};
use crate::volume::{Inner, blocking};

/// How much is gathered before it goes to the file.
const BUFFER: usize = 256 * 1024;

/// What a writer has stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The object's name.
    pub hash: Hash,
    /// Its size in bytes.
    pub size: u64,
}

/// Streams an object into staging. Dropped unfinished, it leaves nothing behind.
///
/// A call that is cancelled or fails spends the writer: what was written is unknown, so later calls err.
#[derive(Debug)]
pub struct Writer {
    inner: Arc<Inner>,
    size: u64,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: NamedTempFile,
    lister: Lister,
    buffer: Vec<u8>,
}

impl Open {
    fn flush(mut self) -> Result<Self> {
        self.lister.update(&self.buffer);
        self.file
            .write_all(&self.buffer)
            .map_err(Error::file("write an object"))?;
        self.buffer.clear();
        Ok(self)
    }
}

impl Writer {
    pub(crate) async fn open(inner: Arc<Inner>) -> Result<Self> {
        let staging = Arc::clone(&inner);
        let file = blocking(move || staging.staging.file()).await?;
        let open = Open {
            file,
            lister: Lister::default(),
            buffer: Vec::new(),
        };
        Ok(Self {
            inner,
            size: 0,
            open: Some(open),
        })
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// When staging cannot take them; [`Error::full`] tells that there is no space.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        for piece in bytes.chunks(BUFFER) {
            let mut open = self.open.take().ok_or(Error::Spent)?;
            open.buffer.extend_from_slice(piece);
            if open.buffer.len() >= BUFFER {
                open = blocking(move || open.flush()).await?;
            }
            self.size += piece.len() as u64;
            self.open = Some(open);
        }
        Ok(())
    }

    /// How many bytes were written.
    #[expect(clippy::len_without_is_empty, reason = "a writer is no collection")]
    pub fn len(&self) -> u64 {
        self.size
    }

    /// Publishes the object under its hash. When this returns it is there, whole, also after a power cut. An object
    /// that is there already is stored again, which changes nothing.
    ///
    /// # Errors
    /// When it cannot be published; then nothing is visible.
    pub async fn finish(mut self) -> Result<Stored> {
        let open = self.open.take().ok_or(Error::Spent)?;
        let inner = Arc::clone(&self.inner);
        let (file, whole, published) = blocking(move || {
            let Open { mut file, lister, .. } = open.flush()?;
            let size = lister.size();
            let (hash, chunks) = lister.finish();
            let whole = Whole { hash, size, chunks };
            let Some(root) = &inner.store.root else {
                return Ok((file, whole, false));
            };
            publish::into_directory(&inner, root, file.as_file(), file.path(), &whole)?;
            // It has another name now.
            file.disable_cleanup(true);
            Ok((file, whole, true))
        })
        .await?;
        if !published {
            let staged = file.reopen().map_err(Error::file("read an object in staging"))?;
            publish::into_bucket(&self.inner, staged, &whole).await?;
        }
        Ok(Stored {
            hash: whole.hash,
            size: whole.size,
        })
    }
}
