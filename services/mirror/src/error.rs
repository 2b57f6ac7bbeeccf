//! Why an asset, or all of them, could not be mirrored, and what that means for the others.

use std::net::SocketAddr;
use std::path::PathBuf;

use common::broker::{self, Class, Classify};
use common::budget::Hold;
use common::chassis::ByteSize;
use common::schemas::{self, AssetId};
use common::{table, volume};

type Source = Box<dyn std::error::Error + Send + Sync>;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. The text never includes the source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("cannot use {path}")]
    Pem { path: PathBuf, source: Source },
    #[error("certificate {certificate} and key {key} cannot be used")]
    Pair {
        certificate: PathBuf,
        key: PathBuf,
        source: rustls::Error,
    },
    #[error("this site's certificate {path} has expired; `fieldline certs` makes a new one")]
    Expired { path: PathBuf },
    #[error("cannot make the HTTP client")]
    Client { source: reqwest::Error },
    #[error("cannot reach the depot at {url}")]
    Away { url: String, source: reqwest::Error },
    #[error("cannot reach the depot at {url}: {reason}")]
    Certificate { url: String, reason: String },
    #[error("cannot reach the depot at {url}: it was cut off at byte {at}")]
    Cut {
        url: String,
        at: u64,
        source: Option<reqwest::Error>,
    },
    #[error("cannot reach the depot at {url}: {detail}")]
    Busy { url: String, detail: String },
    #[error("the depot refuses: {detail}")]
    Refused { detail: String },
    #[error("the depot refuses this site: {detail}")]
    Site { detail: String },
    #[error("the depot's answer makes no sense: {what}")]
    Answer { what: String },
    #[error("the core's bytes are damaged")]
    Damaged { source: volume::Error },
    #[error("cannot store the copy")]
    Volume { source: volume::Error },
    #[error("cannot {operation} asset {asset_id} in table assets")]
    Table {
        operation: &'static str,
        asset_id: AssetId,
        source: table::Error,
    },
    #[error("cannot read table mirror_orders")]
    Orders { source: table::Error },
    #[error("cannot read table assets")]
    Assets { source: table::Error },
    #[error("cannot make a record of asset {asset_id}")]
    Encode {
        asset_id: AssetId,
        source: schemas::Error,
    },
    #[error("cannot tell that asset {asset_id} has arrived")]
    Send {
        asset_id: AssetId,
        source: broker::Error,
    },
    #[error("assets may not cross now: {hold}")]
    Held { hold: Hold },
    #[error("cannot ask the link's door at {address} whether assets may cross; is link running?")]
    Door {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error(
        "the volume's quota of {} leaves no room for {}: {} are free",
        ByteSize(*quota).about(), ByteSize(*bytes).about(), ByteSize(*free).about()
    )]
    Quota { bytes: u64, free: u64, quota: u64 },
    #[error("it is not wanted any more")]
    Unwanted,
    #[error("told to stop")]
    Stopped,
}

/// Whom an error concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Concerns {
    /// This asset only; those behind it go on.
    Asset,
    /// This asset only, until there is room for it.
    Room,
    /// All assets, until something outside is back.
    All,
    /// This site, until somebody does something about it.
    Site,
    /// This process.
    Process,
    /// Nobody: it was told to stop.
    Nobody,
}

impl Error {
    pub(crate) fn concerns(&self) -> Concerns {
        let unless_fatal = |fatal| if fatal { Concerns::Process } else { Concerns::All };
        match self {
            Self::Refused { .. } | Self::Answer { .. } | Self::Damaged { .. } | Self::Encode { .. } => {
                Concerns::Asset
            }
            Self::Site { .. } => Concerns::Site,
            Self::Pem { .. } | Self::Pair { .. } | Self::Expired { .. } | Self::Client { .. } => {
                Concerns::All
            }
            Self::Away { .. } | Self::Certificate { .. } | Self::Cut { .. } | Self::Busy { .. } => {
                Concerns::All
            }
            Self::Volume { source } if source.retryable() => Concerns::All,
            Self::Volume { .. } => Concerns::Asset,
            Self::Table { source, .. } | Self::Orders { source } | Self::Assets { source } => {
                unless_fatal(!source.retryable())
            }
            Self::Send { source, .. } => match source.class() {
                Class::Poison => Concerns::Asset,
                class => unless_fatal(class == Class::Fatal),
            },
            Self::Quota { .. } => Concerns::Room,
            Self::Held { .. } | Self::Door { .. } => Concerns::All,
            Self::Stopped | Self::Unwanted => Concerns::Nobody,
        }
    }

    /// Whether somebody must act, so that it is worth an entry as the newest error.
    pub(crate) fn needs_somebody(&self) -> bool {
        matches!(
            self,
            Self::Pem { .. }
                | Self::Pair { .. }
                | Self::Expired { .. }
                | Self::Certificate { .. }
                | Self::Site { .. }
        ) || matches!(self, Self::Volume { source } if source.full())
    }
}
