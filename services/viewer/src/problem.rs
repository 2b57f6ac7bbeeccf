//! Errors as RFC 9457 problems: what is wrong and what to do, in words; causes are logged, not sent.

use std::fmt;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use common::{broker, control, table, telemetry, volume};
use serde::Serialize;
use utoipa::ToSchema;

/// The result of a handler.
pub(crate) type Result<T, E = Problem> = std::result::Result<T, E>;

/// Why a request is not answered with what was asked for.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: String,
    hint: Option<String>,
    retry_after: Option<u64>,
}

/// Why a request was refused, beside its answer, for the audit.
#[derive(Debug, Clone)]
pub(crate) struct Refusal(pub(crate) String);

/// A problem as it is sent (`application/problem+json`).
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProblemBody {
    /// Always `about:blank`: the status says the kind.
    r#type: &'static str,
    /// The status in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What is wrong, for people.
    detail: String,
    /// What to do about it.
    hint: Option<String>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            hint: None,
            retry_after: None,
        }
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }

    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says when to try again, in seconds.
    pub(crate) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    fn logged(status: StatusCode, error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::warn!(error = %telemetry::chain(error), "request failed");
        Self::new(status, error.to_string())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Problem {}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let refusal = Refusal(self.detail.clone());
        let body = ProblemBody {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
            hint: self.hint,
        };
        let mut response = (self.status, Json(body)).into_response();
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        if let Some(seconds) = self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(refusal);
        response
    }
}

impl From<broker::Error> for Problem {
    fn from(error: broker::Error) -> Self {
        match &error {
            broker::Error::UnknownTopic { .. } | broker::Error::UnknownPartition { .. } => {
                Self::not_found(error.to_string()).hint("GET /api/topics lists what there is")
            }
            broker::Error::NoDeadLetter { .. } => Self::not_found(error.to_string()),
            broker::Error::OffsetOutOfRange { .. } | broker::Error::Settings(_) => {
                Self::bad_request(error.to_string())
            }
            _ => Self::logged(StatusCode::SERVICE_UNAVAILABLE, &error),
        }
    }
}

impl From<control::Error> for Problem {
    fn from(error: control::Error) -> Self {
        Self::logged(StatusCode::SERVICE_UNAVAILABLE, &error)
    }
}

impl From<table::Error> for Problem {
    fn from(error: table::Error) -> Self {
        let retryable = error.retryable();
        Self::logged(
            if retryable {
                StatusCode::SERVICE_UNAVAILABLE
            } else {
                StatusCode::INTERNAL_SERVER_ERROR
            },
            &error,
        )
    }
}

impl From<volume::Error> for Problem {
    fn from(error: volume::Error) -> Self {
        Self::logged(StatusCode::SERVICE_UNAVAILABLE, &error)
    }
}

impl From<common::schemas::Error> for Problem {
    fn from(error: common::schemas::Error) -> Self {
        Self::logged(StatusCode::INTERNAL_SERVER_ERROR, &error)
    }
}
