//! Giving an object its name: the one moment at which it becomes visible.
//!
//! In a directory: sync the file, put the chunk list in place and sync the directory, then rename the file and sync
//! the directory again. A crash in between leaves nothing, or a list without object, which nobody sees. In a bucket
//! an upload is visible when it is complete, and the list is complete before.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use object_store::{ObjectStoreExt as _, PutPayload, WriteMultipart};
use schemas::Hash;

use crate::chunks::{CHUNK, Chunks};
use crate::disk::{self, sync_directory};
use crate::error::{Error, Result};
use crate::volume::{Inner, blocking};

/// The size of the pieces that a large object is uploaded in.
const PART: usize = 8 * 1024 * 1024;
const PARTS_AT_ONCE: usize = 2;

/// What is to be published.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) hash: Hash,
    pub(crate) size: u64,
    pub(crate) chunks: Chunks,
}

/// Publishes a staged file in a directory volume, by moving it. Blocks.
pub(crate) fn into_directory(
    inner: &Inner,
    root: &Path,
    file: &File,
    path: &Path,
    whole: &Whole,
) -> Result<()> {
    disk::sync(file).map_err(Error::file("sync an object"))?;
    let hash = whole.hash.as_str();
    let directory = root.join("objects").join(&hash[..2]);
    if whole.size > CHUNK {
        let mut list = inner.staging.file()?;
        list.write_all(&whole.chunks.to_bytes())
            .map_err(Error::file("write a chunk list"))?;
        disk::sync(list.as_file()).map_err(Error::file("sync a chunk list"))?;
        let name = directory.join(format!("{hash}.chunks"));
        disk::rename(list.path(), &name).map_err(Error::file("name a chunk list"))?;
        // It has another name now.
        list.disable_cleanup(true);
        sync_directory(&directory)?;
    }
    disk::rename(path, &directory.join(hash)).map_err(Error::file("name an object"))?;
    sync_directory(&directory)
}

/// Publishes the partial copy that `staged` leaves, with it in one hop to a thread that may block.
pub(crate) async fn copied(
    inner: &Arc<Inner>,
    whole: &Arc<Whole>,
    staged: impl FnOnce() -> Result<File> + Send + 'static,
) -> Result<()> {
    let path = inner.staging.partial_path(&whole.hash);
    let (here, object, from) = (Arc::clone(inner), Arc::clone(whole), path.clone());
    let staged = blocking(move || {
        let file = staged()?;
        let Some(root) = &here.store.root else {
            return Ok(Some(file));
        };
        into_directory(&here, root, &file, &from, &object)?;
        Ok(None)
    })
    .await?;
    if let Some(file) = staged {
        let held = file
            .try_clone()
            .map_err(Error::file("read an object in staging"))?;
        into_bucket(inner, file, whole).await?;
        blocking(move || fs::remove_file(path).map_err(Error::file("remove a published copy"))).await?;
        // Only now may another open the path.
        drop(held);
    }
    Ok(())
}

/// Publishes a staged file in a bucket, by uploading it. The caller removes the file.
pub(crate) async fn into_bucket(inner: &Arc<Inner>, file: File, whole: &Whole) -> Result<()> {
    let store = &inner.store;
    let (path, list) = (store.object(&whole.hash), store.chunks(&whole.hash));
    if store
        .engine
        .head(&path)
        .await
        .is_ok_and(|there| there.size == whole.size)
    {
        return Ok(());
    }
    if whole.size > CHUNK {
        let payload = PutPayload::from_bytes(whole.chunks.to_bytes());
        store
            .engine
            .put(&list, payload)
            .await
            .map_err(Error::store("upload", &list))?;
    }
    let mut file = blocking(move || {
        let mut file = file;
        file.seek(SeekFrom::Start(0))
            .map_err(Error::file("read an object in staging"))?;
        Ok(file)
    })
    .await?;
    if whole.size <= PART as u64 {
        let (_, part) = read_part(file).await?;
        store
            .engine
            .put(&path, PutPayload::from_bytes(part))
            .await
            .map_err(Error::store("upload", &path))?;
        return Ok(());
    }
    let upload = store
        .engine
        .put_multipart(&path)
        .await
        .map_err(Error::store("upload", &path))?;
    let mut upload = WriteMultipart::new_with_chunk_size(upload, PART);
    loop {
        let (returned, part) = read_part(file).await?;
        file = returned;
        if part.is_empty() {
            break;
        }
        upload
            .wait_for_capacity(PARTS_AT_ONCE)
            .await
            .map_err(Error::store("upload", &path))?;
        upload.put(part);
    }
    upload.finish().await.map_err(Error::store("upload", &path))?;
    Ok(())
}

async fn read_part(file: File) -> Result<(File, Bytes)> {
    blocking(move || {
        let mut part = Vec::new();
        let mut piece = file.take(PART as u64);
        piece
            .read_to_end(&mut part)
            .map_err(Error::file("read an object in staging"))?;
        Ok((piece.into_inner(), Bytes::from(part)))
    })
    .await
}
