//! A web server that behaves as badly as it is told to.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode, header};
use futures_util::{StreamExt, stream};
use tokio::net::TcpListener;
use tokio::sync::Notify;

/// What was asked for: path, and the Range header.
pub(crate) type Asked = (String, Option<String>);

#[derive(Clone, Default)]
pub(crate) struct Server {
    asked: Arc<Mutex<Vec<Asked>>>,
    gate: Arc<Notify>,
    files: Arc<Mutex<HashMap<String, Bytes>>>,
}

/// Bytes that tell where they are.
pub(crate) fn long_body() -> Vec<u8> {
    (0..200_000_u32)
        .flat_map(|number| [b' ' + u8::try_from(number % 90).unwrap(), b'\n'])
        .collect()
}

impl Server {
    pub(crate) async fn start() -> (Self, SocketAddr) {
        let server = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (server, address)
    }

    /// Serves `bytes` at `/file/<name>`.
    pub(crate) fn put(&self, name: &str, bytes: Vec<u8>) {
        self.files
            .lock()
            .unwrap()
            .insert(format!("/file/{name}"), bytes.into());
    }

    pub(crate) fn asked(&self, path: &str) -> Vec<Option<String>> {
        let asked = self.asked.lock().unwrap();
        asked
            .iter()
            .filter(|(at, _)| at == path)
            .map(|(_, range)| range.clone())
            .collect()
    }

    /// Lets one `/slow` body go on.
    pub(crate) fn open(&self) {
        self.gate.notify_one();
    }
}

async fn answer(State(server): State<Server>, request: Request) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let range = request
        .headers()
        .get(header::RANGE)
        .map(|range| range.to_str().unwrap().to_owned());
    let earlier = server.asked(&path).len();
    server.asked.lock().unwrap().push((path.clone(), range.clone()));
    let answer = Response::builder();
    let cut_at = 150_000;
    match path.as_str() {
        "/redirect" => {
            let to = request.uri().query().unwrap().to_owned();
            answer
                .status(302)
                .header(header::LOCATION, to)
                .body(Body::empty())
                .unwrap()
        }
        "/loop" => answer
            .status(307)
            .header(header::LOCATION, "/loop")
            .body(Body::empty())
            .unwrap(),
        "/declared" => {
            let body = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
            answer
                .header(header::CONTENT_LENGTH, 5_368_709_120_u64)
                .body(body)
                .unwrap()
        }
        "/endless" => {
            let chunk = || Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 16_384]));
            answer
                .body(Body::from_stream(stream::repeat_with(chunk)))
                .unwrap()
        }
        "/empty" => answer.body(Body::empty()).unwrap(),
        "/busy" if earlier < 2 => answer
            .status(503)
            .header(header::RETRY_AFTER, "0")
            .body(Body::empty())
            .unwrap(),
        "/busy" => answer.body("at last".into()).unwrap(),
        "/always-busy" => answer.status(500).body(Body::empty()).unwrap(),
        "/forbidden" => answer.status(403).body(Body::empty()).unwrap(),
        "/named" => {
            let name = "attachment; filename=\"../../etc/passwd\"";
            answer
                .header(header::CONTENT_DISPOSITION, name)
                .body("plain words".into())
                .unwrap()
        }
        "/slow" => {
            let gate = server.gate;
            let rest = stream::once(async move {
                gate.notified().await;
                Ok::<_, Infallible>(Bytes::from_static(b" and the rest"))
            });
            let first = stream::once(async { Ok(Bytes::from_static(b"the start")) });
            answer.body(Body::from_stream(first.chain(rest))).unwrap()
        }
        // Breaks off once, then serves ranges of the same file; or of another; or the whole file only.
        "/cut" | "/cut-changed" | "/cut-whole" => {
            let body = long_body();
            let changed = path == "/cut-changed" && earlier > 0;
            let tag = if changed { "\"two\"" } else { "\"one\"" };
            let answer = answer.header(header::ETAG, tag);
            if earlier == 0 {
                let start = Bytes::copy_from_slice(&body[..cut_at]);
                let parts = stream::iter([Ok(start), Err(io::Error::other("cut"))]);
                // The error comes after the bytes have left.
                let parts = parts.then(|part| async {
                    if part.is_err() {
                        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                    }
                    part
                });
                return answer
                    .header(header::CONTENT_LENGTH, body.len())
                    .body(Body::from_stream(parts))
                    .unwrap();
            }
            let same = request
                .headers()
                .get(header::IF_RANGE)
                .is_some_and(|wanted| wanted == tag);
            match range.filter(|_| same && path == "/cut") {
                None if changed => answer.body("another file".into()).unwrap(),
                None => answer.body(body.into()).unwrap(),
                Some(range) => {
                    let from: usize = range
                        .strip_prefix("bytes=")
                        .unwrap()
                        .strip_suffix('-')
                        .unwrap()
                        .parse()
                        .unwrap();
                    let span = format!("bytes {from}-{}/{}", body.len() - 1, body.len());
                    let part = body[from..].to_vec();
                    answer
                        .status(206)
                        .header(header::CONTENT_RANGE, span)
                        .body(part.into())
                        .unwrap()
                }
            }
        }
        _ => match server.files.lock().unwrap().get(&path) {
            // What a server says of a file is not believed.
            Some(file) => answer
                .header(header::CONTENT_TYPE, "text/html")
                .body(file.clone().into())
                .unwrap(),
            None => answer.status(StatusCode::NOT_FOUND).body(Body::empty()).unwrap(),
        },
    }
}
