//! Why a record of the core did not reach the table.

use common::broker::{self, Class, Classify};
use common::schemas::{self, AssetId};
use common::table;

/// A failure to take in what the core says.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("the record has no value")]
    NoValue,
    #[error("cannot read the record")]
    Decode { source: schemas::Error },
    #[error("the preview of asset {asset_id} has {bytes} bytes; {limit} is the most")]
    PreviewTooLarge {
        asset_id: AssetId,
        bytes: usize,
        limit: usize,
    },
    #[error("the preview of asset {asset_id} is {media_type:?}, which no page shows")]
    PreviewType { asset_id: AssetId, media_type: String },
    #[error("cannot write asset {asset_id} in table assets")]
    Table { asset_id: AssetId, source: table::Error },
    #[error("cannot make the change record of asset {asset_id}")]
    Encode {
        asset_id: AssetId,
        source: schemas::Error,
    },
    #[error("cannot say that asset {asset_id} changed")]
    Send {
        asset_id: AssetId,
        source: broker::Error,
    },
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Classify for Error {
    fn class(&self) -> Class {
        match self {
            Self::NoValue
            | Self::Decode { .. }
            | Self::PreviewTooLarge { .. }
            | Self::PreviewType { .. }
            | Self::Encode { .. } => Class::Poison,
            Self::Table { source, .. } if source.retryable() => Class::Retry,
            Self::Table { .. } => Class::Fatal,
            Self::Send { source, .. } => source.class(),
        }
    }
}
