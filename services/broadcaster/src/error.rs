//! Why an asset was not published.

use common::broker::{self, Class, Classify};
use common::schemas::{self, AssetId};
use common::table;

/// A failure to publish or withdraw an asset.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("the record has no value")]
    NoValue,
    #[error("cannot read the record")]
    Decode { source: schemas::Error },
    #[error("cannot make a record of asset {asset_id}")]
    Encode {
        asset_id: AssetId,
        source: schemas::Error,
    },
    #[error("asset {asset_id} is said to be downloaded but has no {field}")]
    Incomplete { asset_id: AssetId, field: &'static str },
    #[error("cannot {operation} asset {asset_id} in table published")]
    Table {
        operation: &'static str,
        asset_id: AssetId,
        source: table::Error,
    },
    #[error("cannot send what became of asset {asset_id}")]
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
            Self::NoValue | Self::Decode { .. } | Self::Encode { .. } | Self::Incomplete { .. } => {
                Class::Poison
            }
            Self::Table { source, .. } if source.retryable() => Class::Retry,
            Self::Table { .. } => Class::Fatal,
            Self::Send { source, .. } => source.class(),
        }
    }
}
