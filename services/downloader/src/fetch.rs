//! Follows a link and streams what is there into the volume.
//!
//! An attempt that breaks off is resumed by Range where the server gave a validator (ETag or Last-Modified) and still
//! has the same file (If-Range); else the next attempt starts anew. Attempts, redirects, bytes and time are bounded.
//! Dropping the future leaves nothing behind: the volume's writer removes its staging file.

use std::sync::Arc;

use common::schemas::AssetId;
use common::telemetry;
use common::volume::{self, Stored, Volume, Writer};
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Response, StatusCode, Url};
use tokio::time::{sleep, timeout};

use crate::address::{Guard, Refusal};
use crate::backoff;
use crate::client::Clients;
use crate::error::{Error, Result};
use crate::media_type::HEAD_BYTES;
use crate::settings::Settings;

/// Follows links.
#[derive(Debug)]
pub struct Fetcher {
    guard: Arc<Guard>,
    clients: Clients,
    volume: Volume,
    settings: Settings,
}

/// An asset's bytes, whole in the volume, and what is known of them.
#[derive(Debug)]
pub struct Fetched {
    /// Hash and size.
    pub stored: Stored,
    /// The first bytes, at most [`HEAD_BYTES`].
    pub head: Vec<u8>,
    /// The last hop's URL.
    pub url: Url,
    /// The server's Content-Disposition.
    pub disposition: Option<String>,
}

/// What earlier attempts left for the next one.
struct Transfer<'a> {
    asset_id: &'a AssetId,
    writer: Writer,
    head: Vec<u8>,
    validator: Option<HeaderValue>,
    url: Url,
    disposition: Option<String>,
}

impl Fetcher {
    /// Follows links within `settings`, into `volume`.
    pub fn new(settings: Settings, guard: Guard, volume: Volume) -> anyhow::Result<Self> {
        let guard = Arc::new(guard);
        let clients = Clients::new(&settings, &guard)?;
        Ok(Self {
            guard,
            clients,
            volume,
            settings,
        })
    }

    /// Gets what a link leads to. [`Error::Unavailable`] is final; the text is for people.
    pub async fn fetch(&self, asset_id: &AssetId, link: &str) -> Result<Fetched> {
        let url = Url::parse(link).map_err(|error| {
            Error::Unavailable(format!(
                "the link is no URL: {error}; http and https are followed"
            ))
        })?;
        let limit = *self.settings.total_timeout;
        timeout(limit, self.attempts(asset_id, url))
            .await
            .unwrap_or_else(|_| {
                let span = self.settings.total_timeout;
                Err(Error::Unavailable(format!(
                    "not downloaded within {span}, which is downloader.total_timeout"
                )))
            })
    }

    async fn attempts(&self, asset_id: &AssetId, link: Url) -> Result<Fetched> {
        let mut transfer = Transfer {
            asset_id,
            writer: self.writer(asset_id).await?,
            head: Vec::new(),
            validator: None,
            url: link.clone(),
            disposition: None,
        };
        for attempt in 1.. {
            match self.attempt(&link, &mut transfer).await {
                Ok(()) => break,
                Err(Error::Attempt { reason, .. }) if attempt >= self.settings.attempts => {
                    return Err(Error::Unavailable(format!(
                        "{reason}; given up after {attempt} attempts"
                    )));
                }
                Err(Error::Attempt { reason, wait }) => {
                    let wait = backoff::wait(&self.settings, attempt, wait);
                    tracing::debug!(%asset_id, attempt, reason, ?wait, "an attempt failed");
                    sleep(wait).await;
                }
                Err(error) => return Err(error),
            }
        }
        let Transfer {
            writer,
            head,
            url,
            disposition,
            ..
        } = transfer;
        let stored = writer
            .finish()
            .await
            .map_err(|source| volume_error("finish", asset_id, source))?;
        Ok(Fetched {
            stored,
            head,
            url,
            disposition,
        })
    }

    async fn attempt(&self, link: &Url, transfer: &mut Transfer<'_>) -> Result<()> {
        let mut response = self.follow(link, transfer).await?;
        let offset = match response.status() {
            StatusCode::OK => 0,
            StatusCode::PARTIAL_CONTENT => content_range(response.headers()).map_or(0, |(start, _)| start),
            StatusCode::RANGE_NOT_SATISFIABLE => {
                self.restart(transfer).await?;
                return Err(Error::attempt(
                    "the file changed on the server while it was downloaded",
                ));
            }
            status => return Err(refused(status, response.headers(), &self.settings)),
        };
        if offset != transfer.writer.len() {
            // The server sends the whole file, or a part that was not asked for.
            self.restart(transfer).await?;
            if offset != 0 {
                return Err(Error::attempt(
                    "the server sent another range than the one asked for",
                ));
            }
        }
        let total = match content_range(response.headers()) {
            Some((_, total)) if response.status() == StatusCode::PARTIAL_CONTENT => total,
            _ => response.content_length(),
        };
        let limit = self.settings.max_bytes;
        if let Some(total) = total.filter(|total| *total > limit.bytes()) {
            return Err(Error::Unavailable(format!(
                "the server declares {total} bytes; downloader.max_bytes is {limit}"
            )));
        }
        transfer.validator = validator(response.headers());
        transfer.url = response.url().clone();
        transfer.disposition = text(response.headers(), header::CONTENT_DISPOSITION);

        while let Some(bytes) = response.chunk().await.map_err(|error| self.broken(link, error))? {
            if transfer.writer.len() + bytes.len() as u64 > limit.bytes() {
                return Err(Error::Unavailable(format!(
                    "the server sends more than {limit}, which is downloader.max_bytes"
                )));
            }
            let wanted = HEAD_BYTES - transfer.head.len();
            transfer.head.extend_from_slice(&bytes[..bytes.len().min(wanted)]);
            let written = transfer.writer.write(&bytes).await;
            written.map_err(|source| volume_error("write", transfer.asset_id, source))?;
        }
        match total {
            Some(total) if transfer.writer.len() < total => Err(Error::attempt(format!(
                "the server sent {} of {total} bytes",
                transfer.writer.len()
            ))),
            _ if transfer.writer.len() == 0 => Err(Error::Unavailable("the server sent no bytes".into())),
            _ => Ok(()),
        }
    }

    /// Asks for the link, and for what it redirects to, each hop checked before anything is sent to it.
    async fn follow(&self, link: &Url, transfer: &Transfer<'_>) -> Result<Response> {
        let mut url = link.clone();
        for _ in 0..=self.settings.max_redirects {
            let trust = self
                .guard
                .check(&url)
                .map_err(|refusal| unavailable(&url, link, &refusal))?;
            let mut request = self
                .clients
                .trusted(trust)
                .get(url.clone())
                .header(header::ACCEPT, "*/*")
                .header(header::ACCEPT_ENCODING, "identity");
            if let (Some(validator), done @ 1..) = (&transfer.validator, transfer.writer.len()) {
                request = request
                    .header(header::RANGE, format!("bytes={done}-"))
                    .header(header::IF_RANGE, validator);
            }
            let response = request.send().await.map_err(|error| self.broken(link, error))?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let next =
                text(response.headers(), header::LOCATION).and_then(|location| url.join(&location).ok());
            let Some(next) = next else {
                return Err(Error::Unavailable(format!("{} redirects to nowhere", host(&url))));
            };
            // Checked first, so that the refusal of an address is named rather than the lost encryption.
            let trust = self
                .guard
                .check(&next)
                .map_err(|refusal| unavailable(&next, link, &refusal))?;
            if url.scheme() == "https" && next.scheme() == "http" && trust != crate::address::Trust::Listed {
                return Err(Error::Unavailable(format!(
                    "{} redirects from https to http at {}; add {} to downloader.allow to permit it",
                    host(&url),
                    host(&next),
                    host(&next)
                )));
            }
            url = next;
        }
        Err(Error::Unavailable(format!(
            "more than {} redirects, which is downloader.max_redirects",
            self.settings.max_redirects
        )))
    }

    /// What a broken connection means: a refusal by the resolver is final, the rest may pass.
    fn broken(&self, link: &Url, error: reqwest::Error) -> Error {
        let error = error.without_url();
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(inner) = source {
            if let Some(refusal) = inner.downcast_ref::<Refusal>() {
                return unavailable(link, link, refusal);
            }
            source = inner.source();
        }
        if error.is_timeout() && !error.is_connect() {
            return Error::attempt(format!(
                "{} was silent for {}",
                host(link),
                self.settings.idle_timeout
            ));
        }
        Error::attempt(format!(
            "cannot download from {}: {}",
            host(link),
            telemetry::chain(&error)
        ))
    }

    async fn restart(&self, transfer: &mut Transfer<'_>) -> Result<()> {
        transfer.writer = self.writer(transfer.asset_id).await?;
        transfer.head.clear();
        transfer.validator = None;
        Ok(())
    }

    async fn writer(&self, asset_id: &AssetId) -> Result<Writer> {
        self.volume
            .writer()
            .await
            .map_err(|source| volume_error("write", asset_id, source))
    }
}

fn volume_error(operation: &'static str, asset_id: &AssetId, source: volume::Error) -> Error {
    Error::Volume {
        operation,
        asset_id: asset_id.clone(),
        source: Box::new(source),
    }
}

fn unavailable(hop: &Url, link: &Url, refusal: &Refusal) -> Error {
    if hop == link {
        Error::Unavailable(refusal.to_string())
    } else {
        Error::Unavailable(format!("{} redirects away: {refusal}", host(link)))
    }
}

fn refused(status: StatusCode, headers: &HeaderMap, settings: &Settings) -> Error {
    let reason = format!("the server answered {status}");
    match status.as_u16() {
        408 | 425 | 429 | 500 | 502..=504 => Error::Attempt {
            reason,
            wait: backoff::retry_after(headers).map(|wait| wait.min(*settings.backoff_max)),
        },
        _ => Error::Unavailable(reason),
    }
}

/// The first byte and the file's length of `Content-Range: bytes 5-9/10`.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let range = text(headers, header::CONTENT_RANGE)?;
    let (span, total) = range.strip_prefix("bytes ")?.split_once('/')?;
    Some((span.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

/// A strong ETag, or else the date: a weak ETag does not vouch for each byte.
fn validator(headers: &HeaderMap) -> Option<HeaderValue> {
    let strong = headers
        .get(header::ETAG)
        .filter(|tag| !tag.as_bytes().starts_with(b"W/"));
    strong.or_else(|| headers.get(header::LAST_MODIFIED)).cloned()
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    headers
        .get(name)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// Host and port for messages.
fn host(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => "an unnamed host".to_owned(),
    }
}
