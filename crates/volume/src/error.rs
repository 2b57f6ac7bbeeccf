//! Why bytes could not be stored or had.

use std::error::Error as StdError;
use std::io::{self, ErrorKind};

use schemas::Hash;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. The text never includes the source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The settings cannot work.
    #[error("volume settings: {0}")]
    Settings(String),
    /// Bytes are not what their hash says.
    #[error("{what} of object {hash} is not what the hash says")]
    Corrupt {
        /// The object.
        hash: Hash,
        /// Which part: `chunk 3`, `the chunk list`.
        what: String,
    },
    /// The place that holds the volume or its staging is full.
    #[error("no space left: cannot {operation}")]
    Full {
        /// What was tried.
        operation: &'static str,
        /// What the engine said.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The volume has no such object.
    #[error("the volume has no object {hash}")]
    Missing {
        /// The object.
        hash: Hash,
    },
    /// A range that the object does not have, or that is too long for one call.
    #[error("object {hash} has no bytes {start}..{end} to read at once")]
    Range {
        /// The object.
        hash: Hash,
        /// Its first byte.
        start: u64,
        /// The byte after its last.
        end: u64,
    },
    /// Another partial copy of the object is being written.
    #[error("object {hash} is being written by another")]
    Busy {
        /// The object.
        hash: Hash,
    },
    /// An entry's path leads out of the volume or is no path.
    #[error("{path:?} is no path of an entry: {why}")]
    Path {
        /// The beginning of it.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An earlier write was interrupted; nothing more can be written.
    #[error("an earlier write was interrupted")]
    Spent,
    /// A file could not be read or written.
    #[error("cannot {operation}")]
    File {
        /// What was tried.
        operation: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The volume could not be read or written.
    #[error("cannot {operation} {path}")]
    Store {
        /// What was tried.
        operation: &'static str,
        /// Where in the volume.
        path: String,
        /// Why.
        #[source]
        source: object_store::Error,
    },
}

impl Error {
    /// Whether the same call may succeed later: space can be freed, a bucket can come back.
    pub fn retryable(&self) -> bool {
        matches!(
            self,
            Self::Full { .. } | Self::Busy { .. } | Self::Spent | Self::File { .. } | Self::Store { .. }
        )
    }

    /// Whether there is no space left.
    pub fn full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }

    pub(crate) fn file(operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            if no_space(&source) {
                Self::Full {
                    operation,
                    source: Box::new(source),
                }
            } else {
                Self::File { operation, source }
            }
        }
    }

    pub(crate) fn store(
        operation: &'static str,
        path: &object_store::path::Path,
    ) -> impl FnOnce(object_store::Error) -> Self {
        let path = path.to_string();
        move |source| {
            if no_space(&source) {
                Self::Full {
                    operation,
                    source: Box::new(source),
                }
            } else {
                Self::Store {
                    operation,
                    path,
                    source,
                }
            }
        }
    }
}

fn no_space(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
                return true;
            }
            // An io::Error shows what it wraps, but not as its source.
            if let Some(inner) = error.get_ref()
                && no_space(inner)
            {
                return true;
            }
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_apart_however_deep_it_is_wrapped() {
        let full = || io::Error::from(ErrorKind::StorageFull);
        assert!(Error::file("write")(full()).full());
        assert!(Error::file("write")(io::Error::other(full())).full());
        assert!(!Error::file("write")(io::Error::from(ErrorKind::PermissionDenied)).full());
        let wrapped = object_store::Error::Generic {
            store: "file",
            source: Box::new(full()),
        };
        let error = Error::store("write", &"mirror/edge-1/x".into())(wrapped);
        assert!(error.full() && error.retryable());
        assert_eq!(error.to_string(), "no space left: cannot write");
    }
}
