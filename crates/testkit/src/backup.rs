//! Files of an embedded engine that are put back from a copy, as a person does who restores a site.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::wait::eventually;

/// How long an engine may take to let go of its file.
const LIMIT: Duration = Duration::from_secs(60);
const LOCK: &str = ".lock";

/// A copy of an engine's file, and of those beside it that belong to it.
#[derive(Debug)]
pub struct Backup {
    file: PathBuf,
    copy: TempDir,
}

impl Backup {
    /// Copies the file once nobody has it open any more.
    ///
    /// # Panics
    /// When somebody keeps it open, or it cannot be copied.
    pub async fn of(file: &Path) -> Self {
        let copy = crate::temp_dir();
        closed(file).await;
        let copied = parts(file).and_then(|parts| {
            let mut parts = parts.iter();
            parts.try_for_each(|part| fs::copy(part, copy.path().join(part.file_name()?)).ok().map(drop))
        });
        assert!(copied.is_some(), "{} cannot be copied", file.display());
        Self {
            file: file.to_owned(),
            copy,
        }
    }

    /// Puts it back once nobody has the file open any more.
    ///
    /// # Panics
    /// When somebody keeps it open, or it cannot be put back.
    pub async fn put_back(&self) {
        closed(&self.file).await;
        let put = parts(&self.file).and_then(|parts| {
            parts.iter().try_for_each(|part| fs::remove_file(part).ok())?;
            let copies = crate::files(self.copy.path());
            let mut copies = copies.iter();
            copies.try_for_each(|copy| {
                fs::copy(copy, self.file.with_file_name(copy.file_name()?))
                    .ok()
                    .map(drop)
            })
        });
        assert!(put.is_some(), "{} cannot be put back", self.file.display());
    }
}

/// The file and those beside it, but for its lock.
fn parts(file: &Path) -> Option<Vec<PathBuf>> {
    let name = file.file_name()?.to_str()?;
    let beside = fs::read_dir(file.parent()?).ok()?.filter_map(Result::ok);
    let all = beside.map(|entry| entry.path()).filter(|path| {
        let part = path
            .file_name()
            .and_then(|part| part.to_str())
            .unwrap_or_default();
        part.starts_with(name) && !part.ends_with(LOCK)
    });
    Some(all.collect())
}

/// Waits until nobody has the embedded engine's file open any more: its threads end some time after its last handle.
///
/// # Panics
/// When somebody keeps it open.
pub async fn closed(file: &Path) {
    let mut lock = file.as_os_str().to_owned();
    lock.push(LOCK);
    let free = || async {
        let taken = File::open(&lock)?.try_lock();
        taken.map_err(io::Error::from)
    };
    eventually(LIMIT, free).await;
}
