//! Why requests were not published.

use common::broker::{self, Class, Classify};
use common::{schemas, table};

/// A failure to publish what the team asked for.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("site {site:?} cannot ask: its name is none")]
    Site { site: String, source: schemas::IdError },
    #[error("cannot read the pending requests")]
    Read { source: table::Error },
    #[error("cannot make a request's record")]
    Encode { source: schemas::Error },
    #[error("cannot send requests")]
    Send { source: broker::Error },
    #[error("cannot note that requests were sent")]
    Note { source: table::Error },
    #[error("cannot take sent requests off the pending ones")]
    Delete { source: table::Error },
    #[error("cannot say that assets changed")]
    Tell { source: broker::Error },
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Classify for Error {
    fn class(&self) -> Class {
        match self {
            Self::Site { .. } | Self::Encode { .. } => Class::Fatal,
            Self::Read { source } | Self::Note { source } | Self::Delete { source } => {
                if source.retryable() {
                    Class::Retry
                } else {
                    Class::Fatal
                }
            }
            Self::Send { source } | Self::Tell { source } => source.class(),
        }
    }
}
