//! Why a request, a receipt or a withdrawal was not dealt with.

use common::broker::{self, Class, Classify};
use common::schemas::{self, AssetId, RequestId, SiteId};
use common::{table, volume};

/// A failure to deal with what came in. A refusal is none: that is an answer.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("topic {topic} is no site's")]
    Topic { topic: String },
    #[error("the record has no value")]
    NoValue,
    #[error("cannot read the record")]
    Decode { source: schemas::Error },
    #[error("cannot make a record of asset {asset_id}")]
    Encode {
        asset_id: AssetId,
        source: schemas::Error,
    },
    #[error("site {site} sent a receipt for {request_id}, which is no request of it for that asset")]
    ForeignReceipt { site: SiteId, request_id: RequestId },
    #[error("site {site} sent a receipt for {request_id}, which it never asked for")]
    UnknownReceipt { site: SiteId, request_id: RequestId },
    #[error("site {site} says that it stored other bytes for {request_id} than were published")]
    OtherBytes { site: SiteId, request_id: RequestId },
    #[error("the receipt for {request_id} is here before its request is settled")]
    Unsettled { request_id: RequestId },
    #[error("cannot {operation}, for asset {asset_id}")]
    Table {
        operation: &'static str,
        asset_id: AssetId,
        source: table::Error,
    },
    #[error("cannot {operation} the manifest entry of {request_id}")]
    Manifest {
        operation: &'static str,
        request_id: RequestId,
        source: Box<volume::Error>,
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
            Self::Topic { .. }
            | Self::NoValue
            | Self::Decode { .. }
            | Self::Encode { .. }
            | Self::ForeignReceipt { .. }
            | Self::UnknownReceipt { .. }
            | Self::OtherBytes { .. } => Class::Poison,
            Self::Table { source, .. } if !source.retryable() => Class::Fatal,
            Self::Manifest { source, .. } if !source.retryable() => Class::Fatal,
            Self::Table { .. } | Self::Manifest { .. } | Self::Unsettled { .. } => Class::Retry,
            Self::Send { source, .. } => source.class(),
        }
    }
}
