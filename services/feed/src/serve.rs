//! Serves the bytes of catalogues that have no server of their own, so that their links are real links.
//!
//! Only the catalogue's own names are answered: the built-in pictures, or the visible files of one directory. Nothing
//! below it, no links, no names with separators.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::Semaphore;
use tower_http::services::ServeFile;

use crate::catalogue::{Catalogue, servable};
use crate::sample;

/// What needs no escaping in one segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// What is served.
#[derive(Debug, Clone)]
enum Files {
    /// The built-in pictures, painted one at a time: each takes memory and a processor while it is painted.
    Sample(Arc<Semaphore>),
    /// A directory's files.
    Directory(PathBuf),
}

/// The routes for a catalogue; none where its links lead elsewhere.
pub fn router(catalogue: &Catalogue) -> Option<Router> {
    let files = match catalogue {
        Catalogue::Sample => Files::Sample(Arc::new(Semaphore::new(1))),
        Catalogue::Directory(path) => Files::Directory(path.clone()),
        _ => return None,
    };
    Some(
        Router::new()
            .route("/assets/{name}", get(asset))
            .with_state(files),
    )
}

/// The link to an asset of this name.
pub fn link(public_url: Option<&str>, address: SocketAddr, name: &str) -> String {
    let name = utf8_percent_encode(name, SEGMENT);
    match public_url {
        Some(url) => format!("{}/assets/{name}", url.trim_end_matches('/')),
        None => format!("http://{address}/assets/{name}"),
    }
}

async fn asset(State(files): State<Files>, Path(name): Path<String>, request: Request) -> Response {
    let answer = match files {
        Files::Sample(turn) => picture(&turn, &name).await,
        Files::Directory(directory) => file(directory, &name, request).await,
    };
    answer.unwrap_or_else(|| StatusCode::NOT_FOUND.into_response())
}

async fn picture(turn: &Arc<Semaphore>, name: &str) -> Option<Response> {
    let index = sample::index(name)?;
    let turn = Arc::clone(turn).acquire_owned().await.ok()?;
    let painted = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        sample::encode(index)
    });
    match painted.await {
        Ok(Ok(bytes)) => Some(([(header::CONTENT_TYPE, sample::media_type(index))], bytes).into_response()),
        Ok(Err(error)) => {
            tracing::warn!(name, %error, "picture could not be encoded");
            Some(StatusCode::INTERNAL_SERVER_ERROR.into_response())
        }
        Err(_) => {
            tracing::warn!(name, "painting a picture panicked");
            Some(StatusCode::INTERNAL_SERVER_ERROR.into_response())
        }
    }
}

/// Ranges, dates and lengths are tower-http's.
async fn file(directory: PathBuf, name: &str, request: Request) -> Option<Response> {
    if !servable(name) {
        return None;
    }
    let path = directory.join(name);
    // Of the name itself, not of what a link points to.
    let metadata = tokio::fs::symlink_metadata(&path).await.ok()?;
    if !metadata.is_file() {
        return None;
    }
    let served = ServeFile::new(path).try_call(request).await;
    Some(
        served
            .map(|response| response.map(Body::new))
            .unwrap_or_else(|error| {
                tracing::warn!(name, %error, "file could not be served");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }),
    )
}
