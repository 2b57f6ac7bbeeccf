//! What can go wrong with one asset, and what is done about it.

use std::time::Duration;

use common::broker::{Class, Classify};
use common::schemas::AssetId;
use common::{broker, volume};

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an asset was not downloaded, or could not be recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes cannot be had; asking again would not help. The text is the asset's `reason`.
    #[error("{0}")]
    Unavailable(String),
    /// One attempt failed; another may not.
    #[error("{reason}")]
    Attempt {
        /// What happened.
        reason: String,
        /// How long the server asked to wait.
        wait: Option<Duration>,
    },
    /// The volume does not take or give bytes: full, or away. Not the asset's fault, so it is tried for ever.
    #[error("cannot {operation} the bytes of asset {asset_id} in the volume")]
    Volume {
        /// Which operation.
        operation: &'static str,
        /// The asset.
        asset_id: AssetId,
        /// What the volume says.
        source: Box<volume::Error>,
    },
    /// The outcome could not be recorded.
    #[error("cannot record what became of asset {asset_id}")]
    Record {
        /// The asset.
        asset_id: AssetId,
        /// What the broker says.
        source: Box<broker::Error>,
    },
    /// The outcome cannot be encoded.
    #[error("cannot encode what became of asset {asset_id}")]
    Encode {
        /// The asset.
        asset_id: AssetId,
        /// What the encoder says.
        source: Box<common::schemas::Error>,
    },
}

impl Error {
    pub(crate) fn attempt(reason: impl Into<String>) -> Self {
        Self::Attempt {
            reason: reason.into(),
            wait: None,
        }
    }
}

impl Classify for Error {
    fn class(&self) -> Class {
        match self {
            Self::Encode { .. } => Class::Poison,
            Self::Record { source, .. } => source.class(),
            Self::Unavailable(_) | Self::Attempt { .. } | Self::Volume { .. } => Class::Retry,
        }
    }
}
