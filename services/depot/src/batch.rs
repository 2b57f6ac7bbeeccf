//! Many small objects in one answer, so that a long way is gone once and not once for each.
//!
//! `POST /v1/batch` with `{"requests": [<request_id>, …]}`. The answer has a frame for each, in their order: one byte, four
//! bytes of length, most significant first, and so many bytes. The first byte is 0 before an object's bytes and 1 before the
//! reason why it is not given. Only objects of one chunk are given: these need no list.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::{BufMut as _, Bytes, BytesMut};
use common::schemas::RequestId;
use common::volume::{CHUNK, ManifestEntry};
use futures_util::stream::{self, StreamExt as _};
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::routes::{Admitted, Desk, ENTRIES_AT_ONCE, watched};

/// The most objects of one answer.
const MOST: usize = 4096;
const GIVEN: u8 = 0;
const REFUSED: u8 = 1;

#[derive(Debug, Deserialize)]
pub(crate) struct Wanted {
    requests: Vec<RequestId>,
}

pub(crate) async fn batch(
    State(desk): State<Arc<Desk>>,
    Extension(admitted): Extension<Admitted>,
    Json(wanted): Json<Wanted>,
) -> Result<Response> {
    if wanted.requests.len() > MOST {
        return Err(Error::Malformed(format!("more than {MOST} requests at once")));
    }
    let (found, site) = (Arc::clone(&desk), admitted.site.clone());
    let frames = stream::iter(wanted.requests)
        .map(move |request_id| {
            let (desk, path) = (Arc::clone(&found), ManifestEntry::path(&site, &request_id));
            let no_entry = Error::NoEntry {
                site: site.clone(),
                request_id,
            };
            async move { frame(desk.small(path, no_entry).await) }
        })
        .buffered(ENTRIES_AT_ONCE)
        .ready_chunks(ENTRIES_AT_ONCE)
        .flat_map(|frames| stream::iter(together(frames)));
    let body = Body::from_stream(watched(desk, admitted, frames.boxed()));
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response())
}

/// Those that are ready go out as one: each write costs its own framing and encryption.
fn together(frames: Vec<std::io::Result<Bytes>>) -> Vec<std::io::Result<Bytes>> {
    let mut all = BytesMut::new();
    for frame in frames {
        match frame {
            Ok(frame) => all.extend_from_slice(&frame),
            // The answer ends here, and what was before it goes out.
            Err(error) => return vec![Ok(all.freeze()), Err(error)],
        }
    }
    vec![Ok(all.freeze())]
}

/// A refusal is for this object alone; what is wrong with the depot ends the answer.
fn frame(found: Result<Bytes>) -> std::io::Result<Bytes> {
    let (kind, bytes) = match found {
        Ok(bytes) => (GIVEN, bytes),
        Err(error @ (Error::Volume(_) | Error::Table(_))) => return Err(std::io::Error::other(error)),
        Err(error) => (REFUSED, Bytes::from(error.to_string())),
    };
    let mut frame = BytesMut::with_capacity(5 + bytes.len());
    frame.put_u8(kind);
    frame.put_u32(u32::try_from(bytes.len()).map_err(std::io::Error::other)?);
    frame.extend_from_slice(&bytes);
    Ok(frame.freeze())
}

impl Desk {
    async fn small(&self, path: String, no_entry: Error) -> Result<Bytes> {
        let entry = self.entry(path).await?.ok_or(no_entry)?;
        if entry.expired(common::chassis::now_ms()) {
            return Err(Error::Expired(entry.request_id));
        }
        if entry.size > CHUNK {
            return Err(Error::Malformed("it has more than one chunk".to_owned()));
        }
        let read = self.volume.read(&entry.hash, 0..entry.size).await;
        read.map_err(Error::volume(&entry.hash))
    }
}
