//! Reading what a caller sends, with a problem in words where it is not what it should be.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use crate::problem::Problem;

/// A JSON body; an empty one is an empty object.
#[derive(Debug)]
pub(crate) struct Input<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Input<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|error| Problem::new(error.status(), error.body_text()))?;
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        serde_json::from_slice(text)
            .map(Self)
            .map_err(|error| Problem::bad_request(format!("the body is not as it should be: {error}")))
    }
}

/// The query's parameters.
#[derive(Debug)]
pub(crate) struct Params<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = Query::<T>::try_from_uri(&parts.uri);
        query
            .map(|Query(query)| Self(query))
            .map_err(|error| Problem::bad_request(error.body_text()))
    }
}

/// Who asks.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct By {
    /// The name that is kept with what was asked, instead of the caller's own; counts from the command line alone.
    pub(crate) by: Option<String>,
}

/// A text that people wrote: not empty, not long.
pub(crate) fn words(field: &str, text: &str) -> Result<String, Problem> {
    const LONGEST: usize = 500;
    let text = text.trim();
    if text.is_empty() || text.len() > LONGEST || text.chars().any(char::is_control) {
        return Err(Problem::bad_request(format!(
            "{field} must be one line of at most {LONGEST} bytes"
        )));
    }
    Ok(text.to_owned())
}

/// A name that may be left out.
pub(crate) fn name(field: &str, text: Option<&String>) -> Result<Option<String>, Problem> {
    text.map(|text| words(field, text)).transpose()
}
