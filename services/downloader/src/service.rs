//! Wires downloader: consumes `asset-pipeline`, stores bytes, records what became of each asset.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use common::broker::{Broker, ConsumerSettings, Subscription};
use common::chassis::{Host, Service, Stop};
use common::control::Control;
use common::engines;
use common::schemas::topic;
use common::volume::Volume;
use tokio::sync::Semaphore;

use crate::address::Guard;
use crate::fetch::Fetcher;
use crate::pipeline::Pipeline;
use crate::settings::Settings;
use crate::settled::Settled;

/// How long a stop or a pause waits for downloads in hand; what takes longer starts again later.
const DRAIN: Duration = Duration::from_secs(5);

/// Downloads announced assets into the core's volume.
#[derive(Debug)]
pub struct Downloader {
    host: Host,
    settings: Settings,
    broker: Broker,
    volume: Volume,
    fetcher: Arc<Fetcher>,
    control: Control,
}

impl Service for Downloader {
    const NAME: &'static str = "downloader";
    type Settings = Settings;

    async fn build(settings: Settings, host: &Host) -> anyhow::Result<Self> {
        let guard = Guard::new(&settings.allow).map_err(|problems| anyhow!(problems.join("; ")))?;
        let broker = engines::broker(host, &settings.broker).await?;
        let volume = engines::volume(host, &settings.volume).await?;
        let fetcher = Arc::new(Fetcher::new(settings.clone(), guard, volume.clone())?);
        let control = Control::attach(host, &broker).await?;
        Ok(Self {
            host: host.clone(),
            settings,
            broker,
            volume,
            fetcher,
            control,
        })
    }

    async fn run(self, stop: Stop) -> anyhow::Result<()> {
        let control = self.control.clone();
        let service = Arc::new(self);
        control
            .supervise(stop, move |stop| Arc::clone(&service).consume(stop))
            .await
    }
}

impl Downloader {
    /// Downloads until told to pause or stop. What takes longer than the drain is dropped, and its record comes again.
    async fn consume(self: Arc<Self>, stop: Stop) -> anyhow::Result<()> {
        let group = format!("{}.{}", self.host.site(), Self::NAME);
        let settled = Settled::read(&self.broker, &group)
            .await
            .context("cannot read what is downloaded already")?;
        let consumer = self.broker.consumer(
            Subscription::topics([topic::ASSET_PIPELINE]),
            ConsumerSettings {
                in_flight: self.settings.concurrency,
                drain: DRAIN,
                ..ConsumerSettings::group(group)
            },
        )?;
        let pipeline = Pipeline {
            host: self.host.clone(),
            control: self.control.clone(),
            producer: self.broker.producer()?,
            fetcher: Arc::clone(&self.fetcher),
            volume: self.volume.clone(),
            preview: self.settings.preview.clone(),
            decoding: Arc::new(Semaphore::new(1)),
            settled,
        };
        self.control.running();
        consumer.run(Arc::new(pipeline), stop).await?;
        Ok(())
    }
}
