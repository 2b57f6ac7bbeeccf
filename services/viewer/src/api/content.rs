//! An asset's bytes and its preview, as something to look at and nothing to run.

use std::ops::Range;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use common::schemas::{AssetId, Hash};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Site;
use super::input::Params;
use crate::app::{App, Kind, asset_id};
use crate::problem::{Problem, ProblemBody, Result};
use crate::{edge, headquarters, previews};

/// How to get the bytes.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ContentQuery {
    /// As a file to keep, not as something to look at.
    download: bool,
}

/// What is shown in place. Everything else, SVG and HTML above all, is a file to keep.
fn shown(media_type: &str) -> bool {
    matches!(
        media_type,
        "image/png" | "image/jpeg" | "image/gif" | "image/webp" | "image/avif" | "image/bmp" | "image/tiff"
    ) || media_type.starts_with("video/")
        || media_type.starts_with("audio/")
}

/// Sends an asset's bytes.
#[utoipa::path(get, path = "/api/assets/{id}/content", params(("id" = String, Path), ContentQuery),
    responses((status = 200, description = "the bytes"), (status = 206, description = "a range of them"),
        (status = 304, description = "they are what you have"),
        (status = 404, body = ProblemBody), (status = 409, body = ProblemBody), (status = 416, body = ProblemBody)))]
pub(crate) async fn content(
    State(app): Site,
    Path(id): Path<String>,
    Params(query): Params<ContentQuery>,
    headers: HeaderMap,
) -> Result<Response> {
    let Found {
        hash,
        media_type,
        file_name,
        asset_id,
    } = find(&app, &id).await?;
    let size = app.volume.stat(&hash).await?;
    let size = size
        .ok_or_else(|| Problem::conflict(format!("the bytes of asset {id} are not in this site's volume")))?;
    let tag = format!("\"{hash}\"");
    if has(&headers, &tag) {
        return Ok(unchanged(&tag));
    }
    let asked = headers
        .get(header::RANGE)
        .and_then(|range| range.to_str().ok())
        .and_then(|range| part(range, size));
    let range = match &asked {
        Some(Err(())) => {
            let whole = HeaderValue::from_str(&format!("bytes */{size}")).ok();
            let problem = Problem::new(
                StatusCode::RANGE_NOT_SATISFIABLE,
                format!("the asset has {size} bytes"),
            );
            let mut response = problem.into_response();
            response
                .headers_mut()
                .extend(whole.map(|whole| (header::CONTENT_RANGE, whole)));
            return Ok(response);
        }
        Some(Ok(range)) => range.clone(),
        None => 0..size,
    };
    let body = Body::from_stream(app.volume.stream(&hash, range.clone()).await?);
    // Of the core's, only its newest record has the name; what it is called is worth no error.
    let file_name = match app.kind {
        Kind::Edge => file_name,
        Kind::Core => headquarters::record(&app, &asset_id)
            .await
            .ok()
            .and_then(|asset| asset.file_name),
    };
    let mut response = body.into_response();
    let inline = shown(&media_type) && !query.download;
    describe(
        response.headers_mut(),
        if shown(&media_type) {
            &media_type
        } else {
            "application/octet-stream"
        },
        inline,
        file_name.as_deref().unwrap_or(asset_id.as_str()),
    );
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.extend(HeaderValue::from_str(&tag).ok().map(|tag| (header::ETAG, tag)));
    if asked.is_some() {
        let last = range.end.saturating_sub(1);
        let text = HeaderValue::from_str(&format!("bytes {}-{last}/{size}", range.start)).ok();
        headers.extend(text.map(|text| (header::CONTENT_RANGE, text)));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

/// An asset whose bytes should be here.
struct Found {
    asset_id: AssetId,
    hash: Hash,
    media_type: String,
    /// None at the core.
    file_name: Option<String>,
}

async fn find(app: &App, text: &str) -> Result<Found> {
    let id = asset_id(text)?;
    let unknown = || Problem::not_found(format!("{} knows no asset {id}", app.site));
    let absent = || Problem::conflict(format!("the bytes of asset {id} are not here"));
    let (hash, media_type, file_name) = match app.kind {
        Kind::Edge => {
            let facts = edge::asset(app, &id).await?.ok_or_else(unknown)?;
            let hash = facts
                .mirrored_hash
                .or_else(|| facts.hash.filter(|_| facts.mirrored_at.is_some()))
                .ok_or_else(|| {
                    absent().hint("request it; when it is ready, the mirror command fetches it")
                })?;
            (hash, facts.media_type, facts.file_name)
        }
        Kind::Core => {
            app.indexed().await?;
            app.index.get(&id).ok_or_else(unknown)?;
            let (hash, media_type) = headquarters::content(app, &id).ok_or_else(absent)?;
            (hash.parse().map_err(|_| absent())?, media_type, None)
        }
    };
    Ok(Found {
        asset_id: id,
        hash,
        media_type: media_type.unwrap_or_default(),
        file_name,
    })
}

/// Whether the caller has what this tag names.
fn has(headers: &HeaderMap, tag: &str) -> bool {
    let known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|tags| tags.to_str().ok());
    known.is_some_and(|tags| {
        tags.trim() == "*"
            || tags
                .split(',')
                .any(|one| one.trim().trim_start_matches("W/") == tag)
    })
}

fn unchanged(tag: &str) -> Response {
    let mut response = StatusCode::NOT_MODIFIED.into_response();
    let tag = HeaderValue::from_str(tag).ok();
    response.headers_mut().extend(tag.map(|tag| (header::ETAG, tag)));
    response
}

/// Sends an asset's preview.
#[utoipa::path(get, path = "/api/assets/{id}/preview", params(("id" = String, Path)),
    responses((status = 200, description = "a small picture"), (status = 304, description = "it is what you have"),
        (status = 404, body = ProblemBody)))]
pub(crate) async fn preview(
    State(app): Site,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response> {
    let id = asset_id(&id)?;
    let none = || Problem::not_found(format!("asset {id} has no preview here"));
    let found = match app.kind {
        Kind::Edge => edge::preview(&app, &id).await?,
        Kind::Core => previews::read(&app, &id).await?,
    };
    let (media_type, picture) = found.filter(|(kind, _)| shown(kind)).ok_or_else(none)?;
    let tag = format!("\"{}\"", &blake3::hash(&picture).to_hex()[..32]);
    let mut response = if has(&headers, &tag) {
        unchanged(&tag)
    } else {
        picture.into_response()
    };
    let headers = response.headers_mut();
    describe(headers, &media_type, true, "preview");
    headers.extend(HeaderValue::from_str(&tag).ok().map(|tag| (header::ETAG, tag)));
    let keep = HeaderValue::from_static("private, max-age=31536000, immutable");
    headers.insert(header::CACHE_CONTROL, keep);
    Ok(response)
}

fn describe(headers: &mut HeaderMap, media_type: &str, inline: bool, file_name: &str) {
    let kind = HeaderValue::from_str(media_type);
    headers.insert(
        header::CONTENT_TYPE,
        kind.unwrap_or(HeaderValue::from_static("application/octet-stream")),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    let how = if inline { "inline" } else { "attachment" };
    let text = HeaderValue::from_str(&format!("{how}; filename*=UTF-8''{}", escaped(file_name)));
    headers.insert(
        header::CONTENT_DISPOSITION,
        text.unwrap_or(HeaderValue::from_static("attachment")),
    );
}

/// A file name as RFC 8187 wants it; directories are none of its business.
fn escaped(name: &str) -> String {
    let base = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    base.bytes()
        .take(200)
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

/// One range of `bytes=`; none for what is not understood (which then counts as not asked), an error for a range that
/// the asset does not have.
fn part(text: &str, size: u64) -> Option<std::result::Result<Range<u64>, ()>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let range = match (first, last) {
        ("", last) => size.saturating_sub(last.parse().ok()?)..size,
        (first, "") => first.parse().ok()?..size,
        (first, last) => {
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            if last < first {
                return None;
            }
            first..last.saturating_add(1).min(size)
        }
    };
    Some(if range.start < range.end {
        Ok(range)
    } else {
        Err(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_rfc_9110() {
        assert_eq!(part("bytes=0-9", 100), Some(Ok(0..10)));
        assert_eq!(part("bytes=90-", 100), Some(Ok(90..100)));
        assert_eq!(part("bytes=-5", 100), Some(Ok(95..100)));
        assert_eq!(part("bytes=90-500", 100), Some(Ok(90..100)));
        assert_eq!(part("bytes=100-", 100), Some(Err(())));
        for odd in ["items=0-1", "bytes=5-2", "bytes=a-b", "bytes=0-1,3-4", "bytes=-"] {
            assert_eq!(part(odd, 100), None, "{odd}");
        }
    }

    #[test]
    fn file_names_carry_no_directory_and_no_syntax() {
        assert_eq!(escaped("../../etc/pass wd\"\r\n.png"), "pass%20wd%22%0D%0A.png");
        assert_eq!(escaped("..\\x.exe"), "x.exe");
        assert!(!shown("image/svg+xml") && !shown("text/html") && !shown("application/xhtml+xml"));
    }
}
