//! Wires feed: reads a catalogue, announces its assets to `asset-pipeline` a few at a time, serves what has no server.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use common::broker::{Broker, Outgoing, Producer};
use common::chassis::{Host, Service, Stop};
use common::control::Control;
use common::schemas::{self, Asset, AssetId, AssetState, topic};
use common::{engines, telemetry};
use tokio::net::TcpListener;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::Instrument;

use crate::backlog::{Backlog, Known};
use crate::catalogue::Catalogue;
use crate::entry::{Entry, Listing};
use crate::live::Live;
use crate::serve;
use crate::settings::Settings;

/// The longest wait before a catalogue that could not be read is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(30);
/// How many entries that could not be read are named in the log.
const NAMED: usize = 20;

/// Announces assets.
#[derive(Debug)]
pub struct Feed {
    host: Host,
    settings: Settings,
    catalogue: Catalogue,
    name: String,
    live: Live,
    broker: Broker,
    control: Control,
    /// Where served assets are, for catalogues whose assets are served here.
    served_at: Option<std::net::SocketAddr>,
}

impl Service for Feed {
    const NAME: &'static str = "feed";
    type Settings = Settings;

    async fn build(settings: Settings, host: &Host) -> anyhow::Result<Self> {
        let catalogue: Catalogue = settings
            .catalogue
            .parse()
            .map_err(|problem: String| anyhow!(problem))?;
        let broker = engines::broker(host, &settings.broker).await?;
        let control = Control::attach(host, &broker).await?;
        let mut served_at = None;
        if let Some(router) = serve::router(&catalogue) {
            let at = settings.serve;
            let listener = TcpListener::bind(at)
                .await
                .with_context(|| format!("cannot serve assets at {at}"))?;
            served_at = Some(listener.local_addr()?);
            let stop = host.stop();
            let serving = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
            host.spawn(
                "assets",
                async move { serving.await.context("cannot serve assets") },
            );
        }
        let name = settings.name.clone().unwrap_or_else(|| catalogue.name());
        let live = Live::new()?;
        Ok(Self {
            host: host.clone(),
            settings,
            catalogue,
            name,
            live,
            broker,
            control,
            served_at,
        })
    }

    async fn run(self, stop: Stop) -> anyhow::Result<()> {
        let control = self.control.clone();
        let feed = Arc::new(self);
        control
            .supervise(stop, move |stop| Arc::clone(&feed).work(stop))
            .await
    }
}

impl Feed {
    /// Announces until told to pause or stop; an announcement that was begun is finished.
    async fn work(self: Arc<Self>, stop: Stop) -> anyhow::Result<()> {
        let known = Known::read(&self.broker)
            .await
            .context("cannot read what is announced already")?;
        tracing::info!(
            known = known.len(),
            catalogue = self.name,
            "feed knows what is announced"
        );
        let producer = self.broker.producer()?;
        self.rounds(known, &producer, &stop).await
    }

    async fn rounds(&self, mut known: Known, producer: &Producer, stop: &Stop) -> anyhow::Result<()> {
        while !stop.is_cancelled() {
            let listing = match self.catalogue.read(&self.live).await {
                Ok(listing) => listing,
                Err(error) => {
                    let text = telemetry::chain(&error);
                    tracing::warn!(error = text, "catalogue cannot be read");
                    self.control.error(text.clone());
                    self.control.waiting(text);
                    pause(TRY_AGAIN.min(*self.settings.refresh), stop).await;
                    continue;
                }
            };
            self.report(&listing);
            let mut backlog = self.left(listing.entries, &known);
            if backlog.is_empty() {
                self.control.waiting("catalogue exhausted");
                pause(*self.settings.refresh, stop).await;
                continue;
            }
            self.control.running();
            let mut ticks = interval(*self.settings.interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while !backlog.is_empty() {
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    _ = ticks.tick() => self.announce(&mut backlog, &mut known, producer).await?,
                }
            }
        }
        Ok(())
    }

    /// What nobody has announced yet: of this round, or with `repeat` of the first round that has something left.
    fn left(&self, entries: Vec<Entry>, known: &Known) -> Backlog {
        let order = self.settings.order;
        if !self.settings.repeat || entries.is_empty() {
            return Backlog::new(entries, &self.name, 1, known, order);
        }
        let mut round = 1;
        loop {
            // Ends: what is known is finite, and each round needs ids of its own.
            let backlog = Backlog::new(entries.clone(), &self.name, round, known, order);
            if !backlog.is_empty() {
                return backlog;
            }
            round += 1;
        }
    }

    async fn announce(
        &self,
        backlog: &mut Backlog,
        known: &mut Known,
        producer: &Producer,
    ) -> anyhow::Result<()> {
        let batch = rand::random_range(1..=self.settings.batch);
        for _ in 0..batch {
            let Some((asset_id, entry)) = backlog.next(self.settings.order) else {
                break;
            };
            let asset = self.asset(asset_id.clone(), entry);
            let record = Outgoing::new(topic::ASSET_PIPELINE, asset_id.as_str(), schemas::encode(&asset)?);
            let span = tracing::info_span!("announce", %asset_id);
            producer
                .send(record)
                .instrument(span)
                .await
                .context("cannot announce an asset")?;
            known.insert(&asset_id);
            self.control.count("announced", 1);
            tracing::debug!(%asset_id, native_id = asset.native_id, "asset announced");
        }
        Ok(())
    }

    fn asset(&self, asset_id: AssetId, entry: Entry) -> Asset {
        let now = self.host.now_ms();
        let lifetime = self
            .settings
            .expires_after
            .map(|span| i64::try_from(span.as_millis()).unwrap_or(i64::MAX));
        let link = match self.served_at {
            // The round is in the id, not in the name.
            Some(address) => {
                let name = entry.native_id.rsplit_once('#').filter(|_| self.settings.repeat);
                let name = name.map_or(entry.native_id.as_str(), |(name, _)| name);
                Some(serve::link(self.settings.public_url.as_deref(), address, name))
            }
            None => entry.link,
        };
        Asset {
            asset_id,
            state: AssetState::Announced,
            catalogue: self.name.clone(),
            native_id: entry.native_id,
            title: entry.title,
            description: entry.description,
            link: link.map(|link| self.settings.rewritten(link)),
            credit: entry.credit,
            created_at: entry.created_at,
            announced_at: now,
            downloaded_at: None,
            expires_at: lifetime.map(|lifetime| now.saturating_add(lifetime)),
            hash: None,
            size: None,
            media_type: None,
            file_name: None,
            reason: None,
        }
    }

    /// Counts and names what could not be read.
    fn report(&self, listing: &Listing) {
        tracing::info!(
            entries = listing.entries.len(),
            rejected = listing.rejected.len(),
            "catalogue read"
        );
        for rejected in listing.rejected.iter().take(NAMED) {
            tracing::warn!(
                entry = rejected.entry,
                reason = rejected.reason,
                "catalogue entry cannot be read"
            );
        }
        self.control.gauge("entries", listing.entries.len() as f64);
        self.control
            .gauge("rejected_entries", listing.rejected.len() as f64);
        if let Some(first) = listing.rejected.first() {
            let count = listing.rejected.len();
            self.control.error(format!(
                "{count} catalogue entries cannot be read; the first is {}: {}",
                first.entry, first.reason
            ));
        }
    }
}

async fn pause(duration: Duration, stop: &Stop) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = sleep(duration) => {}
    }
}
