//! The local directory for bytes that are on their way into the volume.
//!
//! A writer's file is locked while it is written and goes away with the writer; what a killed writer left is removed
//! at open, when nobody holds its lock and it is older than a limit. A partial copy has the name of its object and
//! stays until it is whole.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemas::Hash;
use tempfile::NamedTempFile;

use crate::error::{Error, Result};

const WRITER: &str = "writer-";
const PARTIAL: &str = ".partial";

/// The directory. All of it blocks.
#[derive(Debug)]
pub(crate) struct Staging {
    directory: PathBuf,
}

impl Staging {
    /// Makes the directory at need and removes what dead writers left. `beside` must be on the same filesystem.
    pub(crate) fn open(directory: PathBuf, max_age: Duration, beside: Option<&Path>) -> Result<Self> {
        fs::create_dir_all(&directory).map_err(Error::file("make the staging directory"))?;
        let device = |path: &Path| {
            fs::metadata(path)
                .map(|file| file.dev())
                .map_err(Error::file("look at staging"))
        };
        if let Some(root) = beside
            && device(root)? != device(&directory)?
        {
            return Err(Error::Settings(
                "staging: must be on the filesystem of the volume's directory".into(),
            ));
        }
        let staging = Self { directory };
        staging
            .sweep(max_age)
            .map_err(Error::file("tidy the staging directory"))?;
        Ok(staging)
    }

    fn sweep(&self, max_age: Duration) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            if !entry.file_name().to_string_lossy().starts_with(WRITER) {
                continue;
            }
            // Gone in between, or not to be opened: not ours to remove.
            let Ok(file) = File::open(entry.path()) else {
                continue;
            };
            let age = file.metadata()?.modified()?.elapsed().unwrap_or_default();
            if age >= max_age && file.try_lock().is_ok() {
                tracing::info!(file = %entry.path().display(), "removes what a dead writer left in staging");
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// A file that goes away with the value.
    pub(crate) fn file(&self) -> Result<NamedTempFile> {
        let file = tempfile::Builder::new()
            .prefix(WRITER)
            .tempfile_in(&self.directory);
        let file = file.map_err(Error::file("make a file in staging"))?;
        // Where locks are unknown, age alone tells who is dead.
        drop(file.as_file().try_lock());
        Ok(file)
    }

    pub(crate) fn partial_path(&self, hash: &Hash) -> PathBuf {
        self.directory.join(format!("{hash}{PARTIAL}"))
    }

    /// Opens the partial copy of an object, for its only writer.
    pub(crate) fn partial(&self, hash: &Hash) -> Result<File> {
        let path = self.partial_path(hash);
        let failed = Error::file("open a partial copy");
        let open = || -> io::Result<Option<File>> {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // Whoever held the lock may have published the file, and then it must never be written again.
            let (held, named) = (file.metadata()?, fs::metadata(&path));
            let same = named.is_ok_and(|named| named.ino() == held.ino() && named.dev() == held.dev());
            Ok(same.then_some(file))
        };
        open()
            .map_err(failed)?
            .ok_or_else(|| Error::Busy { hash: hash.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_dead_writers_left_is_removed() {
        let home = testkit::temp_dir();
        let hash = Hash::from(blake3::hash(b"x"));
        let staging = Staging::open(home.path().join("staging"), Duration::ZERO, None).unwrap();
        let alive = staging.file().unwrap();
        let dead = staging.directory.join("writer-dead");
        fs::write(&dead, b"half").unwrap();
        fs::write(staging.partial_path(&hash), b"part").unwrap();

        let hour = Duration::from_secs(3600);
        Staging::open(staging.directory.clone(), hour, None).unwrap();
        assert!(dead.exists(), "it may still be somebody's");
        Staging::open(staging.directory.clone(), Duration::ZERO, None).unwrap();
        assert!(!dead.exists());
        assert!(alive.path().exists() && staging.partial_path(&hash).exists());
    }

    #[test]
    fn a_partial_copy_has_one_writer() {
        let home = testkit::temp_dir();
        let hash = Hash::from(blake3::hash(b"x"));
        let staging = Staging::open(home.path().into(), Duration::ZERO, None).unwrap();
        let held = staging.partial(&hash).unwrap();
        assert!(matches!(staging.partial(&hash), Err(Error::Busy { .. })));
        drop(held);
        assert!(staging.partial(&hash).is_ok());
    }
}
