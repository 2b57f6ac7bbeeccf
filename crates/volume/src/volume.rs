//! The handle that services hold.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions, PutPayload};
use schemas::Hash;

use crate::chunks::{CHUNK, Chunks};
use crate::disk::sync_directory;
use crate::error::{Error, Result};
use crate::partial::Partial;
use crate::publish::{self, Whole};
use crate::settings::Settings;
use crate::staging::Staging;
use crate::store::Store;
use crate::usage::{Usage, measure};
use crate::writer::Writer;

/// The most bytes of one [`Volume::read`].
pub const READ_LIMIT: u64 = 8 * 1024 * 1024;

/// How much of a directory's file is read at once.
const PIECE: u64 = 256 * 1024;

/// The largest entry that is read.
const ENTRY_LIMIT: u64 = 64 * 1024;

/// Where asset bytes live; clones are the same.
#[derive(Debug, Clone)]
pub struct Volume(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) staging: Staging,
}

/// Runs what blocks on a thread that may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        // Cancelled by a runtime that ends, or panicked.
        Err(_) => Err(Error::Spent),
    }
}

fn absent<T>(result: object_store::Result<T>) -> object_store::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Volume {
    /// Opens the volume; makes its directory at need, never a bucket.
    ///
    /// # Errors
    /// When the settings cannot work or the place cannot be used.
    pub async fn open(settings: &Settings) -> Result<Self> {
        let place = settings.place()?;
        let staging = settings.staging(&place)?;
        let settings = settings.clone();
        blocking(move || {
            let store = Store::open(&settings, place)?;
            let staging = Staging::open(staging, *settings.staging_max_age, store.root.as_deref())?;
            Ok(Self(Arc::new(Inner { store, staging })))
        })
        .await
    }

    /// Whether the volume answers and staging can be written.
    pub async fn ping(&self) -> Result<()> {
        let inner = Arc::clone(&self.0);
        blocking(move || inner.staging.file().map(drop)).await?;
        self.stat(&Hash::from(blake3::hash(b"ping"))).await?;
        Ok(())
    }

    /// Counts what is here. It lists every object, so it is not for every request.
    pub async fn usage(&self) -> Result<Usage> {
        measure(&self.0.store).await
    }

    /// Starts an object whose hash is not yet known.
    pub async fn writer(&self) -> Result<Writer> {
        Writer::open(Arc::clone(&self.0)).await
    }

    /// Starts or goes on with a copy of an object.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the list is not that object's; [`Error::Busy`] while another has the copy open.
    pub async fn partial(&self, hash: &Hash, size: u64, chunks: Chunks) -> Result<Partial> {
        Partial::open(Arc::clone(&self.0), hash, size, chunks).await
    }

    /// Forgets a partial copy that nobody wants any more.
    pub async fn forget(&self, hash: &Hash) -> Result<()> {
        let (inner, hash) = (Arc::clone(&self.0), hash.clone());
        blocking(move || {
            let held = inner.staging.partial(&hash)?;
            let removed = fs::remove_file(inner.staging.partial_path(&hash));
            drop(held);
            removed.map_err(Error::file("remove a partial copy"))
        })
        .await
    }

    /// The size of an object, if it is here.
    pub async fn stat(&self, hash: &Hash) -> Result<Option<u64>> {
        let path = self.0.store.object(hash);
        let found = absent(self.0.store.engine.head(&path).await).map_err(Error::store("look for", &path))?;
        Ok(found.map(|meta| meta.size))
    }

    /// Reads some bytes of an object, [`READ_LIMIT`] at most.
    ///
    /// # Errors
    /// [`Error::Missing`], or [`Error::Range`] when the object has not got them all.
    pub async fn read(&self, hash: &Hash, range: Range<u64>) -> Result<Bytes> {
        let wrong = || Error::Range {
            hash: hash.clone(),
            start: range.start,
            end: range.end,
        };
        let length = range
            .end
            .checked_sub(range.start)
            .filter(|length| *length <= READ_LIMIT)
            .ok_or_else(wrong)?;
        if length == 0 {
            return Ok(Bytes::new());
        }
        let path = self.0.store.object(hash);
        match absent(self.0.store.engine.get_range(&path, range.clone()).await) {
            Ok(Some(bytes)) if bytes.len() as u64 == length => Ok(bytes),
            Ok(Some(_)) => Err(wrong()),
            Ok(None) => Err(Error::Missing { hash: hash.clone() }),
            Err(error) => match self.stat(hash).await? {
                Some(size) if size < range.end => Err(wrong()),
                _ => Err(Error::store("read", &path)(error)),
            },
        }
    }

    /// Streams a range of an object, in pieces of no fixed size.
    ///
    /// # Errors
    /// [`Error::Missing`], or [`Error::Range`] when the object has not got them all.
    pub async fn stream(&self, hash: &Hash, range: Range<u64>) -> Result<BoxStream<'static, Result<Bytes>>> {
        let size = self
            .stat(hash)
            .await?
            .ok_or_else(|| Error::Missing { hash: hash.clone() })?;
        if range.start > range.end || range.end > size {
            return Err(Error::Range {
                hash: hash.clone(),
                start: range.start,
                end: range.end,
            });
        }
        if range.is_empty() {
            return Ok(stream::empty().boxed());
        }
        if self.0.store.root.is_none() {
            let path = self.0.store.object(hash);
            let options = GetOptions {
                range: Some(range.into()),
                ..GetOptions::default()
            };
            let found = self
                .0
                .store
                .engine
                .get_opts(&path, options)
                .await
                .map_err(Error::store("read", &path))?;
            return Ok(found
                .into_stream()
                .map_err(move |error| Error::store("read", &path)(error))
                .boxed());
        }
        let (volume, hash) = (self.clone(), hash.clone());
        let pieces = stream::try_unfold(range, move |left| {
            let (volume, hash) = (volume.clone(), hash.clone());
            async move {
                let end = (left.start + PIECE).min(left.end);
                if left.is_empty() {
                    return Ok(None);
                }
                let bytes = volume.read(&hash, left.start..end).await?;
                Ok(Some((bytes, end..left.end)))
            }
        });
        Ok(pieces.boxed())
    }

    /// The list of an object's chunks, proved against its hash, if the object is here.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the list is damaged.
    pub async fn chunks(&self, hash: &Hash) -> Result<Option<Chunks>> {
        let Some(size) = self.stat(hash).await? else {
            return Ok(None);
        };
        let damaged = || Error::Corrupt {
            hash: hash.clone(),
            what: "the chunk list".into(),
        };
        let chunks = if size <= CHUNK {
            Chunks::single(hash)
        } else {
            let path = self.0.store.chunks(hash);
            let found = absent(self.0.store.engine.get(&path).await).map_err(Error::store("read", &path))?;
            let found = found
                .filter(|found| found.meta.size == Chunks::bytes_of(size))
                .ok_or_else(damaged)?;
            Chunks::from_bytes(found.bytes().await.map_err(Error::store("read", &path))?)
        };
        let chunks = chunks.ok_or_else(damaged)?;
        if size > CHUNK {
            chunks.verify(hash, size)?;
        }
        Ok(Some(chunks))
    }

    /// The objects that have a chunk list of more than one chunk. Looks at every one.
    pub(crate) async fn listed(&self) -> Result<Vec<Hash>> {
        let store = &self.0.store;
        let under = store.objects();
        let found = store.engine.list(Some(&under));
        let names = found.try_filter_map(async |meta| {
            let name = meta
                .location
                .filename()
                .and_then(|name| name.strip_suffix(".chunks"));
            Ok(name.and_then(|name| name.parse().ok()))
        });
        names.try_collect().await.map_err(Error::store("list", &under))
    }

    /// Stores an object of one chunk whose hash is known.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when these are not its bytes.
    pub async fn put(&self, hash: &Hash, bytes: Bytes) -> Result<()> {
        let chunks = Chunks::single(hash).ok_or_else(|| Error::Missing { hash: hash.clone() })?;
        let size = bytes.len() as u64;
        chunks.verify(hash, size)?;
        let whole = Arc::new(Whole {
            hash: hash.clone(),
            size,
            chunks,
        });
        let (inner, expected) = (Arc::clone(&self.0), Arc::clone(&whole));
        // As one step: a hop between threads for each takes as long as the step.
        let staged = move || {
            if size > 0 && !expected.chunks.holds(0, size, &bytes) {
                return Err(Error::Corrupt {
                    hash: expected.hash.clone(),
                    what: "chunk 0".into(),
                });
            }
            // Nothing of an earlier try stays.
            let mut file = inner.staging.partial(&expected.hash)?;
            let written = file.set_len(0).and_then(|()| file.write_all(&bytes));
            written.map_err(Error::file("write a chunk"))?;
            Ok(file)
        };
        publish::copied(&self.0, &whole, staged).await
    }

    /// Removes an object; one that is not here is removed already.
    pub async fn delete(&self, hash: &Hash) -> Result<()> {
        // The object first: a list alone is never seen.
        self.remove(self.0.store.object(hash)).await?;
        self.remove(self.0.store.chunks(hash)).await?;
        Ok(())
    }

    /// Creates an entry; `false` when there is one, which stays as it is.
    ///
    /// # Errors
    /// [`Error::Path`] when the path is none.
    pub async fn put_entry(&self, path: &str, body: Bytes) -> Result<bool> {
        let path = self.0.store.entry(path)?;
        let options = PutOptions {
            mode: PutMode::Create,
            ..PutOptions::default()
        };
        match self
            .0
            .store
            .engine
            .put_opts(&path, PutPayload::from_bytes(body), options)
            .await
        {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(Error::store("create", &path)(error)),
        }
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// [`Error::Path`] when the path is none, or the entry is absurdly large.
    pub async fn get_entry(&self, path: &str) -> Result<Option<Bytes>> {
        let place = self.0.store.entry(path)?;
        let found = absent(self.0.store.engine.get(&place).await).map_err(Error::store("read", &place))?;
        let Some(found) = found else { return Ok(None) };
        if found.meta.size > ENTRY_LIMIT {
            return Err(Error::Path {
                path: path.into(),
                why: "what is there is too large for an entry",
            });
        }
        found
            .bytes()
            .await
            .map(Some)
            .map_err(Error::store("read", &place))
    }

    /// The paths of up to `limit` entries under `prefix`, in order, those after the path `after` only.
    ///
    /// # Errors
    /// [`Error::Path`] when `prefix` or `after` is no path.
    pub async fn list_entries(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        let store = &self.0.store;
        let under = store.entry(prefix.trim_end_matches('/'))?;
        let mut found = match after {
            Some(after) => store.engine.list_with_offset(Some(&under), &store.entry(after)?),
            None => store.engine.list(Some(&under)),
        };
        // A directory is listed in no order, so the first ones are known at the end; never more than those are kept.
        let ordered = store.root.is_none();
        let mut first = BTreeSet::new();
        while let Some(meta) = found.try_next().await.map_err(Error::store("list", &under))? {
            first.insert(store.relative(&meta.location));
            if first.len() > limit {
                first.pop_last();
            }
            if ordered && first.len() == limit {
                break;
            }
        }
        Ok(first.into_iter().collect())
    }

    /// Removes an entry; one that is not here is removed already.
    ///
    /// # Errors
    /// [`Error::Path`] when the path is none.
    pub async fn delete_entry(&self, path: &str) -> Result<()> {
        self.remove(self.0.store.entry(path)?).await
    }

    async fn remove(&self, path: Path) -> Result<()> {
        let Some(file) = self.0.store.file(&path) else {
            let removed = absent(self.0.store.engine.delete(&path).await);
            return removed.map(drop).map_err(Error::store("delete", &path));
        };
        blocking(move || match fs::remove_file(&file) {
            Ok(()) => file.parent().map_or(Ok(()), sync_directory),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::file("delete from the volume")(error)),
        })
        .await
    }
}
