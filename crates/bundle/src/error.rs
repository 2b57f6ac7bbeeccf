//! What keeps a bundle from being made or taken in.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use common::schemas::SiteId;
use common::{broker, identity, table, volume};

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. The text never includes the source.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("the site's broker")]
    Broker(#[from] broker::Error),
    #[error(transparent)]
    Link(#[from] link::Error),
    #[error("the site's volume")]
    Volume(#[from] volume::Error),
    #[error("the site's tables")]
    Table(#[from] table::Error),
    #[error("an asset that arrived cannot be written down")]
    Arrival(#[source] Box<mirror::Error>),
    #[error("cannot sign")]
    Sign(#[source] Box<identity::Error>),
    #[error("cannot {operation} {}", path.display())]
    Stick {
        operation: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("the stick is full: {} does not fit", path.display())]
    Full { path: PathBuf },
    #[error("{} cannot be trusted", path.display())]
    Untrusted {
        path: PathBuf,
        source: Box<identity::Error>,
    },
    #[error("{}: {why}", path.display())]
    Document { path: PathBuf, why: String },
    #[error("{} holds no bundle for {site}{}", path.display(), listed(found))]
    Nothing {
        path: PathBuf,
        site: SiteId,
        found: Vec<String>,
    },
    #[error("{site} is not enrolled here: run `fieldline site add {site}`")]
    NotEnrolled { site: SiteId },
    #[error("{site} is enrolled with another certificate than the one that signed")]
    OtherCertificate { site: SiteId },
    #[error("{site} was revoked")]
    Revoked { site: SiteId },
    #[error(
        "the link of this site is at work, and records must come one way at a time: pause it (`fieldline link pause`) or stop it"
    )]
    LinkAtWork,
    #[error("{0}")]
    Routes(String),
}

fn listed(found: &[String]) -> String {
    if found.is_empty() {
        String::new()
    } else {
        format!("; there are {}", found.join(", "))
    }
}

impl Error {
    pub(crate) fn stick(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            // A file system whose files cannot be that large is full as far as this file goes.
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => Self::Full {
                path: path.to_owned(),
            },
            _ => Self::Stick {
                operation,
                path: path.to_owned(),
                source,
            },
        }
    }

    pub(crate) fn arrival(source: mirror::Error) -> Self {
        Self::Arrival(Box::new(source))
    }

    pub(crate) fn document(path: &Path, why: impl Into<String>) -> Self {
        Self::Document {
            path: path.to_owned(),
            why: why.into(),
        }
    }
}
