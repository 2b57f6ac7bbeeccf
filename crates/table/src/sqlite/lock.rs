//! The lock beside the file: which process owns it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use crate::error::{Error, Result};

/// A held lock; the system gives it back when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes `<path>.lock` and writes down who has it, for whoever comes second.
    pub(super) fn take(path: &Path, client: &str) -> Result<Self> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".lock");
        let fault = |error: std::io::Error| Error::Open {
            path: beside.clone().into(),
            source: error.into(),
        };
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&beside)
            .map_err(fault)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                (&mut file)
                    .take(1024)
                    .read_to_string(&mut holder)
                    .map_err(fault)?;
                let holder = holder.trim();
                // The holder writes just after it locks.
                let holder = if holder.is_empty() {
                    "another process"
                } else {
                    holder
                };
                return Err(Error::Locked {
                    path: path.to_owned(),
                    holder: holder.to_owned(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(fault(error)),
        }
        let program = std::env::current_exe().ok();
        let program = program.as_deref().and_then(Path::file_name).unwrap_or_default();
        let note = format!("{}{} ({client})\n", own(), program.to_string_lossy());
        file.set_len(0).and_then(|()| file.rewind()).map_err(fault)?;
        file.write_all(note.as_bytes()).map_err(fault)?;
        Ok(Self { _file: file })
    }
}

/// Whether the holder is this process.
pub(super) fn ours(holder: &str) -> bool {
    holder.starts_with(&own())
}

fn own() -> String {
    format!("pid {} ", std::process::id())
}
