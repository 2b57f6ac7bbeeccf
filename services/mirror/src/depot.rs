//! The depot as this site sees it: its manifest, and objects by chunk list and range.
//!
//! Whatever the depot sends is bounded here: a page, a list and a range have a length that is known before.

use bytes::{Bytes, BytesMut};
use common::schemas::{Hash, RequestId};
use common::volume::{Chunks, ManifestEntry};
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, IF_NONE_MATCH, RANGE,
};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url, redirect};
use serde::Deserialize;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::door::Door;
use crate::error::{Error, Result};
use crate::flow::Flow;
use crate::manifest::Manifest;
use crate::settings::{Settings, Tls};
use crate::tls;

const PROBLEM_BYTES: usize = 16 << 10;
/// How long the end of an answer may take to follow its last byte.
const END: Duration = Duration::from_secs(1);
/// Connections that stay open without work: for copies, for those that end, and for the manifest.
const IDLE: usize = 8;

/// Connections, with the certificates as they were when it was opened.
#[derive(Debug)]
pub(crate) struct Depot {
    client: Client,
    url: Url,
    shown: String,
    tls: Tls,
    /// Bytes a second of the newest answer that could tell.
    speed: Mutex<Option<f64>>,
    /// No more come for long: what is faster lay in the system's buffers.
    pub(crate) cap: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
struct Problem {
    detail: Option<String>,
}

impl Depot {
    pub(crate) fn open(settings: &Settings) -> Result<Self> {
        let url = settings.address().ok_or_else(|| Error::Answer {
            what: "its address is no URL".to_owned(),
        })?;
        let mut client = Client::builder()
            .tls_backend_preconfigured(tls::client(&settings.tls)?)
            .user_agent(concat!("fieldline-mirror/", env!("CARGO_PKG_VERSION")))
            .https_only(true)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .referer(false)
            .http1_only()
            .connect_timeout(*settings.connect_timeout)
            .read_timeout(*settings.idle_timeout)
            .pool_max_idle_per_host(settings.parallel.max(IDLE));
        if let Some(door) = settings.door {
            client = client.proxy(Door::proxy(door)?);
        }
        let client = client.build().map_err(|source| Error::Client { source })?;
        let shown = url.as_str().trim_end_matches('/').to_owned();
        Ok(Self {
            client,
            url,
            shown,
            tls: settings.tls.clone(),
            speed: Mutex::default(),
            cap: None,
        })
    }

    fn url(&self, path: &str, query: &[(&str, &str)]) -> Url {
        let mut url = self.url.clone();
        url.set_path(path);
        url.query_pairs_mut().extend_pairs(query);
        url
    }

    fn away(&self, source: reqwest::Error) -> Error {
        match tls::explain(&source, &self.tls) {
            Some(reason) => Error::Certificate {
                url: self.shown.clone(),
                reason,
            },
            // The address is said already.
            None => Error::Away {
                url: self.shown.clone(),
                source: source.without_url(),
            },
        }
    }

    fn cut(&self, at: u64, source: Option<reqwest::Error>) -> Error {
        Error::Cut {
            url: self.shown.clone(),
            at,
            source: source.map(reqwest::Error::without_url),
        }
    }

    async fn get(&self, url: Url, range: Option<&Range<u64>>) -> Result<Response> {
        let mut request = self.client.get(url);
        if let Some(range) = range {
            request = request.header(RANGE, format!("bytes={}-{}", range.start, range.end - 1));
        }
        self.send(request).await
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response> {
        let response = request.send().await.map_err(|source| self.away(source))?;
        let status = response.status();
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        let body = self.body(response, PROBLEM_BYTES).await.unwrap_or_default();
        let problem: Problem = serde_json::from_slice(&body).unwrap_or_default();
        let detail = problem.detail.unwrap_or_else(|| format!("it answers {status}"));
        if status.is_server_error()
            || matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
            )
        {
            return Err(Error::Busy {
                url: self.shown.clone(),
                detail,
            });
        }
        Err(Error::Refused { detail })
    }

    /// A whole body that must not be longer than `limit`.
    async fn body(&self, mut response: Response, limit: usize) -> Result<Bytes> {
        let mut body = BytesMut::new();
        let mut flow = Flow::new(Instant::now());
        loop {
            match response.chunk().await {
                Ok(Some(part)) if body.len() + part.len() <= limit => {
                    flow.got(part.len());
                    body.extend_from_slice(&part);
                }
                Ok(Some(_)) => {
                    return Err(Error::Answer {
                        what: format!("it is longer than {limit} bytes"),
                    });
                }
                Ok(None) => {
                    self.told(&flow);
                    return Ok(body.freeze());
                }
                Err(source) => return Err(self.cut(body.len() as u64, Some(source))),
            }
        }
    }

    /// Bytes a second on the way, as far as it is known.
    pub(crate) fn speed(&self) -> Option<f64> {
        *self.speed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self, flow: &Flow) {
        if let Some(speed) = flow.speed() {
            *self.speed.lock().unwrap_or_else(PoisonError::into_inner) = Some(speed);
        }
    }

    /// Starts to read up to `limit` entries after `after`; none when all that there are have the tag `known`. A refusal
    /// is meant for the site.
    pub(crate) async fn manifest(
        &self,
        after: Option<&str>,
        limit: usize,
        known: Option<&str>,
    ) -> Result<Option<Manifest<'_>>> {
        let limit = limit.to_string();
        let url = self.url(
            "/v1/manifest",
            &[("after", after.unwrap_or_default()), ("limit", &limit)],
        );
        let mut request = self.client.get(url).header(ACCEPT_ENCODING, "gzip");
        if let Some(known) = known {
            request = request.header(IF_NONE_MATCH, known);
        }
        let asked_at = Instant::now();
        let response = self.send(request).await.map_err(|error| match error {
            Error::Refused { detail } => Error::Site { detail },
            other => other,
        })?;
        if response.status() == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        let packed = response
            .headers()
            .get(CONTENT_ENCODING)
            .is_some_and(|how| how == "gzip");
        let body = Body::new(self, response, 0, asked_at);
        Ok(Some(Manifest::new(body, packed)))
    }

    /// Whether the depot is there for this site at all; the error says why not.
    pub(crate) async fn probe(&self) -> Result<()> {
        match self.manifest(None, 1, None).await? {
            Some(mut manifest) => manifest.part().await.map(drop),
            None => Ok(()),
        }
    }

    fn object(&self, hash: &Hash, request_id: &RequestId, what: &str) -> Url {
        self.url(
            &format!("/v1/objects/{hash}{what}"),
            &[("request", request_id.as_str())],
        )
    }

    /// The list of an object's chunks, not proved yet.
    pub(crate) async fn chunks(&self, entry: &ManifestEntry) -> Result<Chunks> {
        let response = self
            .get(self.object(&entry.hash, &entry.request_id, "/chunks"), None)
            .await?;
        let length = usize::try_from(Chunks::bytes_of(entry.size)).unwrap_or(usize::MAX);
        let list = self.body(response, length).await?;
        let wrong = || Error::Answer {
            what: format!(
                "a chunk list of {} bytes for an object of {}",
                list.len(),
                entry.size
            ),
        };
        Chunks::from_bytes(list.clone())
            .filter(|_| list.len() == length)
            .ok_or_else(wrong)
    }

    /// Starts to read many small objects; what comes is framed, see [`crate::batch`].
    pub(crate) async fn batch(&self, entries: &[ManifestEntry]) -> Result<Body<'_>> {
        let requests: Vec<&RequestId> = entries.iter().map(|entry| &entry.request_id).collect();
        let url = self.url("/v1/batch", &[]);
        let request = self
            .client
            .post(url)
            .json(&serde_json::json!({ "requests": requests }));
        let asked_at = Instant::now();
        let response = self.send(request).await?;
        Ok(Body::new(self, response, 0, asked_at))
    }

    /// Starts to read bytes of an object; `range` must not be empty.
    pub(crate) async fn range(&self, entry: &ManifestEntry, range: Range<u64>) -> Result<Body<'_>> {
        let url = self.object(&entry.hash, &entry.request_id, "");
        let asked_at = Instant::now();
        let response = self.get(url, Some(&range)).await?;
        let header = |name| {
            response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
        };
        let expected = format!("bytes {}-{}/{}", range.start, range.end - 1, entry.size);
        let part = response.status() == StatusCode::PARTIAL_CONTENT && header(CONTENT_RANGE) == expected;
        if !part || header(CONTENT_LENGTH) != (range.end - range.start).to_string() {
            let found = format!("{} {}", response.status().as_u16(), header(CONTENT_RANGE));
            return Err(Error::Answer {
                what: format!("{found} where {expected} was asked for"),
            });
        }
        Ok(Body::new(self, response, range.start, asked_at))
    }
}

/// The bytes of an answer as they come.
#[derive(Debug)]
pub(crate) struct Body<'a> {
    depot: &'a Depot,
    response: Response,
    at: u64,
    flow: Flow,
}

impl<'a> Body<'a> {
    fn new(depot: &'a Depot, response: Response, at: u64, asked_at: Instant) -> Self {
        Self {
            depot,
            response,
            at,
            flow: Flow::new(asked_at),
        }
    }

    /// Whether the `left` bytes will be here within a round trip. A short answer goes by the speed of others.
    #[expect(clippy::cast_precision_loss, reason = "it is an estimate")]
    pub(crate) fn soon_over(&self, left: u64) -> bool {
        let speed = self.flow.speed().or_else(|| self.depot.speed());
        let cap = self.depot.cap.map(|cap| cap as f64);
        self.flow
            .soon_over(left, speed.into_iter().chain(cap).reduce(f64::min))
    }

    /// The next bytes. Its end is an error: a reader asks for no more than there is.
    pub(crate) async fn next(&mut self) -> Result<Bytes> {
        match self.response.chunk().await {
            Ok(Some(bytes)) => {
                self.at += bytes.len() as u64;
                self.flow.got(bytes.len());
                self.depot.told(&self.flow);
                Ok(bytes)
            }
            Ok(None) => Err(self.depot.cut(self.at, None)),
            Err(source) => Err(self.depot.cut(self.at, Some(source))),
        }
    }

    /// Reads the end of what is all there, so that the connection can be used again. It is on its way; where it is not,
    /// another connection costs less than waiting.
    pub(crate) async fn finish(&mut self) {
        let _end = tokio::time::timeout(END, self.response.chunk()).await;
    }
}
