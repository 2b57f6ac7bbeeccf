//! What a site can ask for: its manifest, an object that an open entry of its manifest names, and that object's chunks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use bytes::Bytes;
use common::chassis::now_ms;
use common::schemas::{Hash, RequestId, SiteId};
use common::volume::{ManifestEntry, Volume};
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::batch::batch;
use crate::error::{Error, Result};
use crate::manifest::Lines;
use crate::metrics::Metrics;
use crate::range::{Wanted, wanted};
use crate::standing::{Peer, Register};

/// The most entries of one answer.
const MOST: usize = 10_000;
/// A manifest of more entries has no tag.
const TAGGED: usize = 100_000;
pub(crate) const ENTRIES_AT_ONCE: usize = 16;

/// What the routes share.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) register: Register,
    pub(crate) volume: Volume,
    pub(crate) metrics: Metrics,
    pub(crate) requests_per_site: usize,
    pub(crate) request_timeout: Duration,
    pub(crate) standing_max_age: Duration,
    pub(crate) at_work: Mutex<HashMap<SiteId, Arc<Semaphore>>>,
}

/// A site that may be served, and its place among its own requests.
#[derive(Debug, Clone)]
pub(crate) struct Admitted {
    pub(crate) site: SiteId,
    peer: Peer,
    /// Given back when the answer's last byte is out.
    _place: Arc<OwnedSemaphorePermit>,
}

#[derive(Debug, Deserialize)]
struct Page {
    after: Option<String>,
    limit: Option<usize>,
}

#[derive(Debug, Deserialize)]
struct For {
    request: Option<String>,
}

pub(crate) fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/v1/manifest", get(manifest))
        .route("/v1/objects/{hash}", get(object))
        .route("/v1/objects/{hash}/chunks", get(chunks))
        .route("/v1/batch", post(batch))
        .fallback(|| async { Error::NoRoute })
        .layer(middleware::from_fn_with_state(Arc::clone(&desk), admit))
        .with_state(desk)
}

/// Lets nobody in whom the register does not know, and nobody keep the desk waiting.
async fn admit(
    State(desk): State<Arc<Desk>>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let answer = async {
        let site = desk.register.admit(&peer).await?;
        let place = Arc::new(desk.place(&site)?);
        request.extensions_mut().insert(Admitted {
            site,
            peer,
            _place: place,
        });
        Ok(next.run(request).await)
    };
    let answer = match tokio::time::timeout(desk.request_timeout, answer).await {
        Ok(answer) => answer.unwrap_or_else(Error::into_response),
        Err(_) => Error::Late.into_response(),
    };
    desk.metrics
        .answers
        .with_label_values(&[answer.status().as_str()])
        .inc();
    answer
}

async fn manifest(
    State(desk): State<Arc<Desk>>,
    Extension(admitted): Extension<Admitted>,
    Query(page): Query<Page>,
    headers: HeaderMap,
) -> Result<Response> {
    let limit = page.limit.unwrap_or(MOST).clamp(1, MOST);
    let after = page.after.filter(|after| !after.is_empty());
    let after = after.map(|after| {
        after
            .parse::<RequestId>()
            .map_err(|error| Error::Malformed(error.to_string()))
    });
    let after = after
        .transpose()?
        .map(|request_id| ManifestEntry::path(&admitted.site, &request_id));
    let prefix = ManifestEntry::prefix(&admitted.site);
    let known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok());
    if let Some(known) = known {
        let paths = desk.volume.list_entries(&prefix, after.as_deref(), TAGGED).await;
        let paths = paths.map_err(Error::Volume)?;
        let names = paths.iter().filter_map(|path| path.rsplit('/').next());
        if paths.len() < TAGGED && ManifestEntry::tag(names) == known {
            return Ok(StatusCode::NOT_MODIFIED.into_response());
        }
    }
    let accepts = headers
        .get(header::ACCEPT_ENCODING)
        .and_then(|value| value.to_str().ok());
    let packed = accepts.is_some_and(|accepts| accepts.contains("gzip"));
    let lines = Lines::new(&desk, &prefix, after, limit, packed).await?;
    let body = Body::from_stream(watched(desk, admitted, lines.stream()));
    let mut response = ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response();
    if packed {
        let gzip = header::HeaderValue::from_static("gzip");
        response.headers_mut().insert(header::CONTENT_ENCODING, gzip);
    }
    Ok(response)
}

async fn object(
    State(desk): State<Arc<Desk>>,
    Extension(admitted): Extension<Admitted>,
    Path(hash): Path<String>,
    Query(wish): Query<For>,
    headers: HeaderMap,
) -> Result<Response> {
    let hash = desk.right(&admitted.site, &hash, &wish).await?;
    let size = desk.volume.stat(&hash).await.map_err(Error::volume(&hash))?;
    let size = size.ok_or_else(|| Error::Lost(hash.clone()))?;
    let tag = format!("\"{hash}\"");
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    // Of another version the whole is wanted, says If-Range; of a hash there is no other version.
    let range = text(header::RANGE).filter(|_| text(header::IF_RANGE).is_none_or(|known| known == tag));
    let (status, range) = match wanted(range, size) {
        Wanted::Whole => (StatusCode::OK, 0..size),
        Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Wanted::Impossible => return Err(Error::Range { hash, size }),
    };
    let mut response = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::CONTENT_LENGTH, range.end - range.start)
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::ETAG, tag);
    if status == StatusCode::PARTIAL_CONTENT {
        let span = format!("bytes {}-{}/{size}", range.start, range.end - 1);
        response = response.header(header::CONTENT_RANGE, span);
    }
    let pieces = desk
        .volume
        .stream(&hash, range)
        .await
        .map_err(Error::volume(&hash))?;
    let body = Body::from_stream(watched(
        desk,
        admitted,
        pieces.map_err(std::io::Error::other).boxed(),
    ));
    response
        .body(body)
        .map_err(|error| Error::Malformed(error.to_string()))
}

async fn chunks(
    State(desk): State<Arc<Desk>>,
    Extension(admitted): Extension<Admitted>,
    Path(hash): Path<String>,
    Query(wish): Query<For>,
) -> Result<Response> {
    let hash = desk.right(&admitted.site, &hash, &wish).await?;
    let chunks = desk.volume.chunks(&hash).await.map_err(Error::volume(&hash))?;
    let list = chunks.ok_or_else(|| Error::Lost(hash.clone()))?.to_bytes();
    let sent = u64::try_from(list.len()).unwrap_or(u64::MAX);
    desk.metrics
        .sent
        .with_label_values(&[admitted.site.as_str()])
        .inc_by(sent);
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::ETAG, format!("\"{hash}.chunks\"")),
    ];
    Ok((headers, list).into_response())
}

/// The bytes, as long as the site may have them: a revocation ends the answer in the middle. Holds the site's place.
pub(crate) fn watched(
    desk: Arc<Desk>,
    admitted: Admitted,
    pieces: BoxStream<'static, std::io::Result<Bytes>>,
) -> BoxStream<'static, std::io::Result<Bytes>> {
    let checked_at = Instant::now();
    let pieces = stream::try_unfold((pieces, checked_at), move |(mut pieces, mut checked_at)| {
        let (desk, admitted) = (Arc::clone(&desk), admitted.clone());
        async move {
            if checked_at.elapsed() >= desk.standing_max_age {
                desk.register
                    .admit(&admitted.peer)
                    .await
                    .map_err(std::io::Error::other)?;
                checked_at = Instant::now();
            }
            let piece = pieces.try_next().await.inspect_err(|error| {
                tracing::warn!(site = %admitted.site, %error, "cannot read an object that is being sent");
            })?;
            let Some(piece) = piece else { return Ok(None) };
            let sent = u64::try_from(piece.len()).unwrap_or(u64::MAX);
            desk.metrics
                .sent
                .with_label_values(&[admitted.site.as_str()])
                .inc_by(sent);
            Ok(Some((piece, (pieces, checked_at))))
        }
    });
    pieces.boxed()
}

impl Desk {
    /// A place among the site's requests, if it has one left.
    fn place(&self, site: &SiteId) -> Result<OwnedSemaphorePermit> {
        let mut at_work = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        // Only enrolled sites come here, so there are few.
        let places = at_work
            .entry(site.clone())
            .or_insert_with(|| Arc::new(Semaphore::new(self.requests_per_site)));
        Arc::clone(places)
            .try_acquire_owned()
            .map_err(|_| Error::Busy(site.clone()))
    }

    /// One entry of the listing; gone in between is gone.
    pub(crate) async fn entry(&self, path: String) -> Result<Option<ManifestEntry>> {
        let body = self.volume.get_entry(&path).await.map_err(Error::Volume)?;
        Ok(body.and_then(|body| match ManifestEntry::from_json(&body) {
            Ok(entry) => Some(entry),
            Err(error) => {
                tracing::warn!(%path, %error, "a manifest entry cannot be read and is left out");
                None
            }
        }))
    }

    /// The object, if the site has an open entry for this request that names it.
    async fn right(&self, site: &SiteId, hash: &str, wish: &For) -> Result<Hash> {
        let hash: Hash = hash
            .parse()
            .map_err(|error| Error::Malformed(format!("{error}")))?;
        let request = wish
            .request
            .as_deref()
            .ok_or_else(|| Error::Malformed("?request= is missing".into()))?;
        let request_id: RequestId = request
            .parse()
            .map_err(|error| Error::Malformed(format!("{error}")))?;
        let entry = self.entry(ManifestEntry::path(site, &request_id)).await?;
        let Some(entry) = entry else {
            return Err(Error::NoEntry {
                site: site.clone(),
                request_id,
            });
        };
        if entry.hash != hash {
            return Err(Error::OtherObject { request_id, hash });
        }
        if entry.expired(now_ms()) {
            return Err(Error::Expired(request_id));
        }
        Ok(hash)
    }
}
