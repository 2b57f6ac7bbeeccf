//! Why a site is not given what it asks for, as it is told.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use common::schemas::{Hash, RequestId, SiteId};
use common::{broker, table, telemetry, volume};
use serde_json::json;

/// The result of this crate's functions.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// An answer that is no bytes. The texts are for people at the site; causes are logged here, not sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the client certificate names no site: {0}")]
    Nameless(String),
    #[error("{0} is not enrolled at this core")]
    NotEnrolled(SiteId),
    #[error("the certificate of {site} was revoked on {on}{why}")]
    Revoked { site: SiteId, on: String, why: String },
    #[error("{0} is enrolled with another certificate than this one")]
    OtherCertificate(SiteId),
    #[error("{site} has no open entry for request {request_id}")]
    NoEntry { site: SiteId, request_id: RequestId },
    #[error("the entry for request {request_id} is not for object {hash}")]
    OtherObject { request_id: RequestId, hash: Hash },
    #[error("the entry for request {0} has expired")]
    Expired(RequestId),
    #[error("{0}")]
    Malformed(String),
    #[error("the core has lost object {0}")]
    Lost(Hash),
    #[error("object {hash} has {size} bytes and not that range")]
    Range { hash: Hash, size: u64 },
    #[error("there is nothing here")]
    NoRoute,
    #[error("{0} has too many requests at once")]
    Busy(SiteId),
    #[error("the answer took too long")]
    Late,
    #[error("the core cannot look up who is enrolled now")]
    Table(#[source] table::Error),
    #[error("the core's copy of object {hash} is damaged")]
    Damaged { hash: Hash, source: Box<volume::Error> },
    #[error("the core cannot read its volume now")]
    Volume(#[source] volume::Error),
    #[error("the core cannot read which assets are on their way")]
    Broker(#[source] broker::Error),
}

impl Error {
    pub(crate) fn volume(hash: &Hash) -> impl FnOnce(volume::Error) -> Self {
        let hash = hash.clone();
        move |source| match source {
            volume::Error::Corrupt { .. } => Self::Damaged {
                hash,
                source: Box::new(source),
            },
            volume::Error::Missing { .. } => Self::Lost(hash),
            source => Self::Volume(source),
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Nameless(_)
            | Self::NotEnrolled(_)
            | Self::Revoked { .. }
            | Self::OtherCertificate(_)
            | Self::NoEntry { .. }
            | Self::OtherObject { .. }
            | Self::Expired(_) => StatusCode::FORBIDDEN,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            // Not 5xx: that is the depot's own trouble, for which a mirror keeps all other objects waiting too.
            Self::Lost(_) | Self::Damaged { .. } | Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Range { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Busy(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Late | Self::Table(_) | Self::Volume(_) | Self::Broker(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = self.status();
        let text = telemetry::chain(&self);
        match (&self, status.as_u16()) {
            (Self::Lost(_) | Self::Damaged { .. }, _) => {
                tracing::error!(error = %text, "an object must be stored again")
            }
            (_, 500..) => tracing::warn!(error = %text, "cannot serve a site"),
            (_, 403) => tracing::info!(reason = %text, "site refused"),
            _ => tracing::debug!(reason = %text, "request refused"),
        }
        let problem = json!({
            "type": "about:blank",
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "detail": self.to_string(),
        });
        let mut response = (status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        match &self {
            Self::Busy(_) | Self::Late | Self::Table(_) | Self::Volume(_) | Self::Broker(_) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
            }
            Self::Range { size, .. } => {
                if let Ok(value) = HeaderValue::try_from(format!("bytes */{size}")) {
                    headers.insert(header::CONTENT_RANGE, value);
                }
            }
            _ => {}
        }
        response
    }
}
