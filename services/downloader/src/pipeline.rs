//! What becomes of one announced asset.
//!
//! The order of effects is: bytes whole in the volume, preview sent, outcome sent, offset committed. A crash between any
//! two repeats what came before, to the same bytes under the same hash and the same records under the same key. Bytes that
//! depot freed before the outcome was sent are downloaded again.

use std::io::BufReader;
use std::sync::Arc;

use common::broker::{Failure, Handler, Outgoing, Producer, Record};
use common::chassis::Host;
use common::control::Control;
use common::schemas::{self, Asset, AssetId, AssetPreview, AssetState, topic};
use common::telemetry;
use common::volume::{Stored, Volume};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};

use crate::error::{Error, Result};
use crate::fetch::Fetcher;
use crate::preview::{self, Bounds, Preview};
use crate::settings::PreviewSettings;
use crate::settled::Settled;
use crate::source::ObjectReader;
use crate::{file_name, media_type};

/// The longest reason that is recorded, in characters.
const REASON_CHARS: usize = 600;

/// Handles the records of `asset-pipeline`.
pub(crate) struct Pipeline {
    pub(crate) host: Host,
    pub(crate) control: Control,
    pub(crate) producer: Producer,
    pub(crate) fetcher: Arc<Fetcher>,
    pub(crate) volume: Volume,
    pub(crate) preview: PreviewSettings,
    /// One picture is decoded at a time, which bounds memory.
    pub(crate) decoding: Arc<Semaphore>,
    pub(crate) settled: Settled,
}

impl Handler for Pipeline {
    async fn handle(&self, record: Record) -> std::result::Result<(), Failure> {
        let Some(value) = &record.value else { return Ok(()) };
        let asset: Asset = schemas::decode(value)?;
        if asset.state != AssetState::Announced || self.settled.covers(&asset.asset_id, record.offset) {
            return Ok(());
        }
        loop {
            let outcome = match self.download(&asset).await {
                Ok(downloaded) => downloaded,
                Err(Error::Unavailable(reason)) => {
                    let reason = plain(&reason);
                    tracing::info!(asset_id = %asset.asset_id, reason, "asset failed");
                    self.control.count("failed", 1);
                    Asset {
                        state: AssetState::Failed,
                        reason: Some(reason),
                        ..asset.clone()
                    }
                }
                Err(error) => {
                    self.control.error(telemetry::chain(&error));
                    return Err(error.into());
                }
            };
            self.send(
                &outcome.asset_id,
                topic::ASSET_PIPELINE,
                schemas::encode(&outcome),
            )
            .await?;
            if self.is_there(&outcome).await? {
                return Ok(());
            }
            tracing::info!(asset_id = %asset.asset_id, "bytes were freed before they were recorded: downloaded again");
        }
    }
}

impl Pipeline {
    /// Whether the bytes are still there, now that depot's sweep can know that somebody has them: before, it may have freed
    /// them as those of another asset that is over.
    async fn is_there(&self, outcome: &Asset) -> Result<bool> {
        let Some(hash) = &outcome.hash else {
            return Ok(true);
        };
        let found = self.volume.stat(hash).await.map_err(|source| Error::Volume {
            operation: "find",
            asset_id: outcome.asset_id.clone(),
            source: Box::new(source),
        })?;
        Ok(found.is_some())
    }

    async fn download(&self, asset: &Asset) -> Result<Asset> {
        let Some(link) = &asset.link else {
            return Err(Error::Unavailable("the catalogue entry has no link".into()));
        };
        let fetched = self.fetcher.fetch(&asset.asset_id, link).await?;
        let kind = media_type::sniff(&fetched.head);
        let file_name = file_name::choose(fetched.disposition.as_deref(), &fetched.url, kind.extension);
        match self.preview(&fetched.stored, kind.name).await {
            Ok(None) => {}
            Ok(Some(preview)) => {
                let record = AssetPreview {
                    asset_id: asset.asset_id.clone(),
                    media_type: preview::MEDIA_TYPE.into(),
                    width: side(preview.width),
                    height: side(preview.height),
                    picture: preview.picture,
                };
                self.send(&asset.asset_id, topic::ASSET_PREVIEW, schemas::encode(&record))
                    .await?;
                self.control.count("previews", 1);
            }
            Err(error) => {
                tracing::info!(
                    asset_id = %asset.asset_id,
                    media_type = kind.name,
                    error = telemetry::chain(&error),
                    "asset has no preview"
                );
                self.control.count("previews_failed", 1);
            }
        }
        let size = i64::try_from(fetched.stored.size).unwrap_or(i64::MAX);
        self.control.count("downloaded", 1);
        self.control.count("downloaded_bytes", size);
        Ok(Asset {
            state: AssetState::Downloaded,
            downloaded_at: Some(self.host.now_ms()),
            hash: Some(fetched.stored.hash),
            size: Some(size),
            media_type: Some(kind.name.to_owned()),
            file_name: Some(file_name),
            reason: None,
            ..asset.clone()
        })
    }

    /// None where the file is no picture, or previews are off.
    async fn preview(
        &self,
        stored: &Stored,
        media_type: &str,
    ) -> std::result::Result<Option<Preview>, preview::Error> {
        let Some(format) = preview::format(media_type) else {
            return Ok(None);
        };
        if !self.preview.enabled || stored.size > self.preview.max_bytes.bytes() {
            return Ok(None);
        }
        let Ok(permit) = Arc::clone(&self.decoding).acquire_owned().await else {
            return Ok(None);
        };
        let bounds = Bounds {
            pixels: self.preview.max_pixels,
            memory: self.preview.max_memory.bytes(),
        };
        let limit = *self.preview.timeout;
        let (volume, hash, size) = (self.volume.clone(), stored.hash.clone(), stored.size);
        let deadline = Instant::now() + limit;
        let reader = ObjectReader::new(Handle::current(), volume, hash, size, deadline);
        let decoding = spawn_blocking(move || {
            // A decoder that is given up still runs to its end, and keeps its turn until then.
            let _turn = permit;
            preview::make(BufReader::new(reader), format, bounds)
        });
        match timeout(limit, decoding).await {
            Err(_) => Err(preview::Error::TooSlow(limit)),
            Ok(Err(_)) => Err(preview::Error::Panicked),
            Ok(Ok(made)) => made.map(Some),
        }
    }

    async fn send(
        &self,
        asset_id: &AssetId,
        topic: &str,
        record: std::result::Result<Vec<u8>, schemas::Error>,
    ) -> Result<()> {
        let id = || asset_id.clone();
        let value = record.map_err(|source| Error::Encode {
            asset_id: id(),
            source: Box::new(source),
        })?;
        let sent = self
            .producer
            .send(Outgoing::new(topic, asset_id.as_str(), value))
            .await;
        sent.map(drop).map_err(|source| Error::Record {
            asset_id: id(),
            source: Box::new(source),
        })
    }
}

fn side(pixels: u32) -> i32 {
    i32::try_from(pixels).unwrap_or(i32::MAX)
}

/// A reason goes onto pages: one line, bounded.
fn plain(reason: &str) -> String {
    reason
        .chars()
        .filter(|character| !character.is_control())
        .take(REASON_CHARS)
        .collect()
}
