//! Freeing what the core holds for nobody: entries that have expired or whose site was revoked, and the bytes of assets that
//! have expired or were withdrawn. (Of what is delivered, responder closes the entry when the receipt comes.)
//!
//! Bytes go when every published asset that has them is over, and no open entry names them, in two sweeps one after the
//! other, and no asset has them that is downloaded and not published yet: such a one is in `asset-pipeline` only, for as long
//! as broadcaster is paused. What was never published is left alone. Two depots that sweep at once do no harm. A sweep reads
//! all entries and the 64 partitions of table `published`, and `asset-pipeline` when there is something to free; it holds 16
//! bytes for each asset.
//!
//! An object that downloader has stored, or found stored, and not yet said to have, is not known here. Freed in these moments
//! it is downloaded again, for downloader looks once more when it has said so. Where that ends: it says so and looks between
//! the sweep's last look and the freeing, which are some milliseconds.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use common::broker::Broker;
use common::chassis::{Stop, now_ms};
use common::control::Control;
use common::schemas::{self, Asset, AssetId, AssetState, Hash, SiteId, topic};
use common::table::{Select, Session};
use common::telemetry::chain;
use common::volume::{ManifestEntry, Volume};

use crate::error::{Error, Result};
use crate::standing::Register;

const PAGE: usize = 1000;
/// Where all sites' entries are.
const ENTRIES: &str = "mirror";

/// What sweeps.
#[derive(Debug)]
pub(crate) struct Sweep {
    pub(crate) broker: Broker,
    pub(crate) table: Session,
    pub(crate) volume: Volume,
    pub(crate) register: Register,
    pub(crate) control: Control,
}

/// The beginning of a hash, enough to tell it from millions; of an asset's id, all of it.
fn short(digits: &str) -> u128 {
    u128::from_str_radix(&digits[..32], 16).unwrap_or_default()
}

/// The hashes of what is published, by whether anybody may still ask for it.
#[derive(Debug, Default)]
struct Published {
    live: HashSet<u128>,
    over: HashSet<Hash>,
    /// The assets that are over.
    assets: HashSet<u128>,
}

impl Sweep {
    /// Sweeps now and then, until `stop`.
    pub(crate) async fn run(self, every: Duration, stop: Stop) -> anyhow::Result<()> {
        let mut over = HashSet::new();
        loop {
            if stop
                .run_until_cancelled(tokio::time::sleep(every))
                .await
                .is_none()
            {
                return Ok(());
            }
            match stop.run_until_cancelled(self.sweep(&over)).await {
                None => return Ok(()),
                Some(Ok(now_over)) => over = now_over,
                Some(Err(error)) => {
                    tracing::warn!(error = chain(&error), "cannot look for what can be freed");
                    over.clear();
                }
            }
        }
    }

    /// Frees what could be freed at the last sweep too; says what could be at this one.
    async fn sweep(&self, before: &HashSet<Hash>) -> Result<HashSet<Hash>> {
        // Entries last: one that is made meanwhile is for an asset that is published and not over.
        let mut published = self.published().await?;
        self.entries(&mut published.live).await?;
        published
            .over
            .retain(|hash| !published.live.contains(&short(hash.as_str())));
        let (mut due, mut again) = (HashSet::new(), HashSet::new());
        for hash in published.over {
            if self.volume.stat(&hash).await.map_err(Error::Volume)?.is_none() {
                continue;
            }
            if before.contains(&hash) {
                due.insert(hash);
            } else {
                again.insert(hash);
            }
        }
        if !due.is_empty() {
            // Last of all, so that little time is left in which another asset can come to have them.
            let on_their_way = self.on_their_way(&due, &published.assets).await?;
            due.retain(|hash| !on_their_way.contains(hash));
        }
        for hash in due {
            self.volume.delete(&hash).await.map_err(Error::Volume)?;
            self.control.count("objects_freed", 1);
            tracing::info!(%hash, "bytes of an asset that is over are freed");
        }
        Ok(again)
    }

    /// Which of `due` an asset has whose row was not there when the table was read, by the newest record of each
    /// that says so.
    async fn on_their_way(&self, due: &HashSet<Hash>, over: &HashSet<u128>) -> Result<HashSet<Hash>> {
        let mut newest = HashMap::new();
        let read = self.broker.read_to_end(topic::ASSET_PIPELINE, |record| {
            let Some(key) = record.key else { return };
            let hash = match record.value.as_deref().map(schemas::decode::<Asset>) {
                None => None,
                // A dead letter changes nothing.
                Some(Err(_)) => return,
                Some(Ok(asset)) => match asset.state {
                    // Broadcaster still publishes what was downloaded before.
                    AssetState::Announced | AssetState::Failed => return,
                    AssetState::Downloaded => asset.hash,
                    // Its row came first, but perhaps after the table was read.
                    AssetState::Broadcast => asset
                        .hash
                        .filter(|_| !over.contains(&short(asset.asset_id.as_str()))),
                    AssetState::Withdrawn => None,
                },
            };
            match hash.filter(|hash| due.contains(hash)) {
                Some(hash) => newest.insert(key, hash),
                None => newest.remove(&key),
            };
        });
        read.await.map_err(Error::Broker)?;
        Ok(newest.into_values().collect())
    }

    async fn published(&self) -> Result<Published> {
        let (mut published, now) = (Published::default(), now_ms());
        for bucket in 0..AssetId::BUCKETS {
            let mut after = None;
            loop {
                let select = Select::from("published")
                    .partition("bucket", bucket)
                    .columns(&["asset_id", "hash", "expires_at", "withdrawn_at"])
                    .limit(PAGE);
                let rows = self
                    .table
                    .select(Select { after, ..select })
                    .await
                    .map_err(Error::Table)?;
                for row in &rows {
                    let Some(hash) = row.text("hash").and_then(|hash| hash.parse::<Hash>().ok()) else {
                        continue;
                    };
                    let expired = row
                        .timestamp("expires_at")
                        .is_some_and(|expires_at| expires_at <= now);
                    if expired || row.timestamp("withdrawn_at").is_some() {
                        published.over.insert(hash);
                        let asset_id = row.text("asset_id").and_then(|id| id.parse::<AssetId>().ok());
                        published.assets.extend(asset_id.map(|id| short(id.as_str())));
                    } else {
                        published.live.insert(short(hash.as_str()));
                    }
                }
                match rows.last() {
                    Some(last) if rows.len() == PAGE => after = Some(vec![last.value("asset_id").clone()]),
                    _ => break,
                }
            }
        }
        Ok(published)
    }

    /// Removes the entries that are of no use any more, and adds the objects that the others name.
    async fn entries(&self, live: &mut HashSet<u128>) -> Result<()> {
        let mut revoked: HashMap<SiteId, bool> = HashMap::new();
        let mut after: Option<String> = None;
        loop {
            let paths = self
                .volume
                .list_entries(ENTRIES, after.as_deref(), PAGE)
                .await
                .map_err(Error::Volume)?;
            for path in &paths {
                let Some(site) = path
                    .split('/')
                    .nth(1)
                    .and_then(|site| site.parse::<SiteId>().ok())
                else {
                    continue;
                };
                let cut_off = match revoked.get(&site) {
                    Some(known) => *known,
                    None => {
                        let found = self.register.revoked(&site).await?;
                        revoked.insert(site, found);
                        found
                    }
                };
                let body = self.volume.get_entry(path).await.map_err(Error::Volume)?;
                let entry = body.and_then(|body| ManifestEntry::from_json(&body).ok());
                let Some(entry) = entry else { continue };
                if cut_off || entry.expired(now_ms()) {
                    self.volume.delete_entry(path).await.map_err(Error::Volume)?;
                    self.control.count("entries_freed", 1);
                } else {
                    live.insert(short(entry.hash.as_str()));
                }
            }
            if paths.len() < PAGE {
                return Ok(());
            }
            after = paths.into_iter().next_back();
        }
    }
}
