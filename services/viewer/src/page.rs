//! The page: its files, in the program, compressed once at start.
//!
//! Files are asked for under a name that holds the hash of all of them, so a browser keeps them for ever and still
//! never mixes two versions. Only `index.html`, which names that hash, is asked for each time.

use std::collections::HashMap;
use std::io::Write as _;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use include_dir::{Dir, include_dir};

use crate::api::Site;
use crate::problem::Problem;

static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/page");

/// Stands in `index.html` for the hash.
const PLACE: &str = "{{hash}}";

#[derive(Debug)]
struct Asset {
    kind: &'static str,
    plain: Bytes,
    packed: Bytes,
}

/// The page's files, ready to be sent.
#[derive(Debug)]
pub(crate) struct Page {
    hash: String,
    index: Asset,
    files: HashMap<String, Asset>,
}

impl Page {
    /// Takes the files from the program.
    pub(crate) fn load() -> Self {
        let mut found: Vec<(String, &[u8])> = Vec::new();
        collect(&FILES, &mut found);
        found.sort();
        let mut hasher = blake3::Hasher::new();
        for (name, bytes) in &found {
            hasher.update(name.as_bytes());
            hasher.update(bytes);
        }
        let hash = hasher.finalize().to_hex().as_str()[..16].to_owned();
        let text = FILES
            .get_file("index.html")
            .and_then(|file| file.contents_utf8())
            .unwrap_or_default();
        Self {
            index: pack("text/html; charset=utf-8", text.replace(PLACE, &hash).as_bytes()),
            files: found
                .into_iter()
                .filter_map(|(name, bytes)| Some((pack(kind(&name)?, bytes), name)))
                .map(|(asset, name)| (name, asset))
                .collect(),
            hash,
        }
    }
}

fn collect<'a>(dir: &'a Dir<'a>, found: &mut Vec<(String, &'a [u8])>) {
    for file in dir.files() {
        found.push((file.path().display().to_string(), file.contents()));
    }
    for inner in dir.dirs() {
        collect(inner, found);
    }
}

/// The media type of what is served; none for what only stands in the source.
fn kind(name: &str) -> Option<&'static str> {
    match name.rsplit_once('.')?.1 {
        "js" => Some("text/javascript; charset=utf-8"),
        "css" => Some("text/css; charset=utf-8"),
        "svg" => Some("image/svg+xml"),
        _ => None,
    }
}

fn pack(kind: &'static str, plain: &[u8]) -> Asset {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Writing to memory does not fail; should it, the plain bytes are sent.
    let packed = encoder
        .write_all(plain)
        .and_then(|()| encoder.finish())
        .unwrap_or_default();
    Asset {
        kind,
        plain: Bytes::copy_from_slice(plain),
        packed: packed.into(),
    }
}

fn send(asset: &Asset, headers: &HeaderMap, etag: &str, keep: &'static str) -> Response {
    let tag = format!("\"{etag}\"");
    let same = headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let fixed: [(HeaderName, &str); 4] = [
        (header::CACHE_CONTROL, keep),
        (header::ETAG, &tag),
        (header::VARY, "accept-encoding"),
        (header::CONTENT_TYPE, asset.kind),
    ];
    let mut response = if same {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let zipped = headers
            .get(header::ACCEPT_ENCODING)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.contains("gzip"));
        if zipped && !asset.packed.is_empty() {
            let coding = [(header::CONTENT_ENCODING, "gzip")];
            (coding, asset.packed.clone()).into_response()
        } else {
            asset.plain.clone().into_response()
        }
    };
    for (name, value) in fixed {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// `GET /`: the page itself.
pub(crate) async fn index(State(app): Site, headers: HeaderMap) -> Response {
    let page = &app.page;
    send(&page.index, &headers, &page.hash, "no-cache")
}

/// `GET /page/{hash}/{path}`: one of its files.
pub(crate) async fn file(
    State(app): Site,
    Path((hash, path)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let page = &app.page;
    match page.files.get(&path) {
        Some(asset) if hash == page.hash => {
            send(asset, &headers, &hash, "public, max-age=31536000, immutable")
        }
        _ => Problem::not_found("the page has no such file in this version")
            .hint("load the page again")
            .into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_page_is_small_on_the_wire() {
        let page = Page::load();
        let all: usize = page.files.values().map(|asset| asset.packed.len()).sum();
        assert!(page.files.contains_key("app.js"));
        assert!(all + page.index.packed.len() < 150 * 1024, "{all} bytes");
    }

    #[test]
    fn nothing_in_the_page_needs_more_than_its_policy_allows() {
        let page = Page::load();
        let index = std::str::from_utf8(&page.index.plain).unwrap();
        assert!(!index.contains(PLACE));
        assert!(!index.contains("<style") && !index.contains("style=") && !index.contains("<script>"));
        for (name, asset) in page.files.iter().filter(|(name, _)| name.ends_with(".js")) {
            let text = std::str::from_utf8(&asset.plain).unwrap();
            if !name.starts_with("vendor/") {
                for word in [
                    "innerHTML",
                    "outerHTML",
                    "document.write",
                    "eval(",
                    "insertAdjacentHTML",
                ] {
                    assert!(!text.contains(word), "{name} has {word}");
                }
            }
        }
    }
}
