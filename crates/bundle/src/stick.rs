//! The directory on the stick.
//!
//! `<from>.to.<to>/manifest.jsonl` · `<from>.to.<to>/receipt.jsonl` (written by `<to>`) · `<from>.to.<to>/<hash>.segment` ·
//! `objects/<hash>/<number>` (1 GiB at most each, for file systems whose files end at 4 GiB) · `objects/<hash>/chunks`.
//! A file appears whole or not at all: it is written under another name, synced, and renamed.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use common::schemas::{Hash, SiteId};

use crate::error::{Error, Result};

/// The largest document that is read.
const DOCUMENT: u64 = 256 << 20;
/// The ending of files that are not whole.
const PARTIAL: &str = ".partial";

/// A stick, or any directory.
#[derive(Debug, Clone)]
pub struct Stick {
    root: PathBuf,
    /// The most bytes that may be here, and how many are.
    limit: Option<u64>,
    used: u64,
}

impl Stick {
    /// The stick that is mounted there.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            limit: None,
            used: 0,
        }
    }

    /// The same, to be filled with so many bytes at most, what is there included.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn with_limit(mut self, limit: Option<u64>) -> Result<Self> {
        self.limit = limit;
        self.used = size(&self.root)?;
        Ok(self)
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn bundle(&self, from: &SiteId, to: &SiteId) -> PathBuf {
        self.root.join(format!("{from}.to.{to}"))
    }

    pub(crate) fn manifest(&self, from: &SiteId, to: &SiteId) -> PathBuf {
        self.bundle(from, to).join("manifest.jsonl")
    }

    pub(crate) fn receipt(&self, from: &SiteId, to: &SiteId) -> PathBuf {
        self.bundle(from, to).join("receipt.jsonl")
    }

    pub(crate) fn object(&self, hash: &Hash) -> PathBuf {
        self.root.join("objects").join(hash.as_str())
    }

    pub(crate) fn objects(&self) -> PathBuf {
        self.root.join("objects")
    }

    /// The directories of bundles: from whom, to whom.
    pub(crate) fn bundles(&self) -> Result<Vec<(SiteId, SiteId)>> {
        let names = names(&self.root)?.into_iter();
        let pair = |name: String| {
            let (from, to) = name.split_once(".to.")?;
            Some((from.parse().ok()?, to.parse().ok()?))
        };
        let mut found: Vec<(SiteId, SiteId)> = names.filter_map(pair).collect();
        found.sort();
        Ok(found)
    }

    /// Whether so many bytes more may be written.
    pub(crate) fn room(&self, bytes: u64) -> Result<()> {
        match self.limit {
            Some(limit) if self.used.saturating_add(bytes) > limit => Err(Error::Full {
                path: self.root.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Writes a file that must be whole when it is there.
    pub(crate) fn write(&mut self, path: &Path, bytes: &[u8]) -> Result<()> {
        let before = fs::metadata(path).map_or(0, |found| found.len());
        self.used = self.used.saturating_sub(before) + bytes.len() as u64;
        let partial = partial(path);
        let written = make(path).and_then(|()| {
            let mut file = File::create(&partial)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&partial, path)?;
            sync(path.parent())
        });
        written.map_err(|error| {
            self.used = self.used.saturating_sub(bytes.len() as u64) + before;
            // What is there of it only takes room; if it cannot be removed, the next writing overwrites it.
            drop(fs::remove_file(&partial));
            Error::stick("write", path)(error)
        })
    }

    /// Begins a file that is too large to be held whole.
    pub(crate) fn begin(&self, path: &Path) -> Result<Piece> {
        let partial = partial(path);
        let made = make(path).and_then(|()| File::create(&partial));
        Ok(Piece {
            file: made.map_err(Error::stick("write", path))?,
            path: path.to_owned(),
            bytes: 0,
        })
    }

    /// Gives a file that is whole its name.
    pub(crate) fn end(&mut self, piece: Piece) -> Result<()> {
        let Piece { file, path, bytes } = piece;
        let before = fs::metadata(&path).map_or(0, |found| found.len());
        let ended = file
            .sync_all()
            .and_then(|()| fs::rename(partial(&path), &path))
            .and_then(|()| sync(path.parent()));
        ended.map_err(Error::stick("write", &path))?;
        self.used = self.used.saturating_sub(before) + bytes;
        Ok(())
    }

    /// Removes what is there, a file or a directory with all in it.
    pub(crate) fn remove(&mut self, path: &Path) -> Result<()> {
        let bytes = size(path)?;
        let removed = if path.is_dir() {
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        };
        match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::stick("remove", path)(error)),
            _ => {
                self.used = self.used.saturating_sub(bytes);
                Ok(())
            }
        }
    }
}

/// A file that grows.
#[derive(Debug)]
pub(crate) struct Piece {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl Piece {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes += bytes.len() as u64;
        self.file
            .write_all(bytes)
            .map_err(Error::stick("write", &self.path))
    }
}

/// What a file is called until it is whole.
fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(PARTIAL);
    name.into()
}

fn make(path: &Path) -> std::io::Result<()> {
    let Some(directory) = path.parent().filter(|directory| !directory.is_dir()) else {
        return Ok(());
    };
    fs::create_dir_all(directory)?;
    sync(directory.parent())
}

fn sync(directory: Option<&Path>) -> std::io::Result<()> {
    let Some(directory) = directory.filter(|path| !path.as_os_str().is_empty()) else {
        return Ok(());
    };
    match File::open(directory)?.sync_all() {
        // Some file systems of sticks have nothing to sync in a directory.
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        done => done,
    }
}

/// A document's file, if it is there.
pub(crate) fn document(path: &Path) -> Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(DOCUMENT + 1).read_to_end(&mut text));
    match read {
        Ok(_) if text.len() as u64 > DOCUMENT => Err(Error::document(path, "it is absurdly large")),
        Ok(_) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::stick("read", path)(error)),
    }
}

/// The file of that size and hash, or what is wrong with it.
pub(crate) fn whole(path: &Path, bytes: u64, hash: &Hash) -> Result<Vec<u8>> {
    let mut found = Vec::new();
    let read = File::open(path).and_then(|file| file.take(bytes.saturating_add(1)).read_to_end(&mut found));
    match read {
        Ok(_) if Hash::from(blake3::hash(&found)) == *hash => Ok(found),
        Ok(_) => Err(Error::document(
            path,
            "it is damaged: its bytes are not those that were signed",
        )),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Error::document(path, "it is missing")),
        Err(error) => Err(Error::stick("read", path)(error)),
    }
}

/// The names of what is in a directory; none of one that is not there.
pub(crate) fn names(directory: &Path) -> Result<Vec<String>> {
    let failed = Error::stick("look into", directory);
    match fs::read_dir(directory) {
        Ok(entries) => {
            let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            names.collect::<std::io::Result<_>>().map_err(failed)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(error)),
    }
}

/// How many bytes a file has, or all files of a directory.
fn size(path: &Path) -> Result<u64> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(Error::stick("look at", path)(error)),
    };
    if !found.is_dir() {
        return Ok(found.len());
    }
    let parts = names(path)?;
    parts.iter().map(|name| size(&path.join(name))).sum()
}
