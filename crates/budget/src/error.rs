//! What can go wrong.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. The text never includes the source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Settings that cannot work; each problem names its key.
    #[error("the budget's settings cannot be used: {}", .0.join("; "))]
    Settings(Vec<String>),
    /// What was counted cannot be kept.
    #[error("cannot keep what was counted in {path}")]
    State {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The door cannot be opened.
    #[error("cannot open the door at {listen}")]
    Door {
        /// Where.
        listen: SocketAddr,
        /// Why.
        source: io::Error,
    },
}
