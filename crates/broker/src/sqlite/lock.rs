//! Who owns a broker's file: one process, which wrote down who it is.
//!
//! The lock is the kernel's and ends with the process, however it ends; the text in the file only names the holder.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::error::{Error, Result};

/// The files that this process holds: the text in a lock file cannot tell, for pids repeat across containers.
static HELD: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Held as long as any thread works on the file.
#[derive(Debug)]
pub(super) struct Lock {
    database: PathBuf,
    file: Option<Flock<File>>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        self.file = None;
        held.remove(&self.database);
    }
}

/// Why the lock was not taken.
pub(super) enum Refused {
    /// This process has it, by an engine that is closing.
    Own,
    /// Something that trying again does not mend.
    Other(Error),
}

impl Lock {
    pub(super) fn take(database: &Path) -> Result<Self, Refused> {
        let path = lock_path(database);
        let open = |source: std::io::Error| {
            Refused::Other(Error::Open {
                url: path.display().to_string(),
                source: source.into(),
            })
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(open)?;
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                let text = format!("{} pid {}\n", program(), std::process::id());
                file.set_len(0).and_then(|()| file.rewind()).map_err(open)?;
                file.write_all(text.as_bytes()).map_err(open)?;
                held.insert(database.into());
                Ok(Self {
                    database: database.into(),
                    file: Some(file),
                })
            }
            Err((_, Errno::EWOULDBLOCK)) if held.contains(database) => Err(Refused::Own),
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut text = String::new();
                file.read_to_string(&mut text).map_err(open)?;
                let holder = text.trim();
                let holder = if holder.is_empty() {
                    "another process"
                } else {
                    holder
                };
                Err(Refused::Other(Error::Locked {
                    path: database.into(),
                    holder: holder.into(),
                }))
            }
            Err((_, errno)) => Err(open(errno.into())),
        }
    }
}

fn lock_path(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

fn program() -> String {
    let program = std::env::current_exe().ok();
    let name = program.as_deref().and_then(Path::file_name);
    name.map_or_else(|| "process".into(), |name| name.to_string_lossy().into_owned())
}
