//! A core in a temporary directory, with one downloader at a time.

use std::net::SocketAddr;
use std::time::Duration;

use common::broker::{self, Broker, Outgoing, TopicSpec};
use common::chassis::{self, Host, Stop};
use common::schemas::{Asset, AssetId, AssetPreview, AssetState, Topic, decode, encode, topic};
use common::volume::{self, Volume};
use downloader::{Downloader, Settings};
use testkit::TempDir;
use tokio::time::{Instant, sleep};

pub(crate) struct Site {
    pub(crate) dir: TempDir,
    pub(crate) broker: Broker,
    pub(crate) volume: Volume,
    settings: Settings,
}

pub(crate) struct Running {
    stop: Stop,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Site {
    /// A site whose downloader may reach `server`, takes at most a mebibyte, and does not wait long.
    pub(crate) async fn new(server: SocketAddr) -> Self {
        let dir = testkit::temp_dir();
        let broker = broker::Settings::url(testkit::sqlite(dir.path(), "broker.db"));
        let volume = volume::Settings {
            url: testkit::directory(dir.path(), "volume"),
            ..Default::default()
        };
        let settings = Settings {
            broker,
            volume,
            allow: vec![server.to_string()],
            max_bytes: "1MiB".parse().unwrap(),
            attempts: 3,
            backoff: "10ms".parse().unwrap(),
            idle_timeout: "5s".parse().unwrap(),
            ..Settings::default()
        };
        let broker = Broker::open(&settings.broker, "test", &Default::default())
            .await
            .unwrap();
        for wanted in Topic::core() {
            let spec = TopicSpec::new(wanted.name, wanted.partitions.unwrap_or(3));
            broker
                .create_topic(&if wanted.compacted { spec.compacted() } else { spec })
                .await
                .unwrap();
        }
        let volume = Volume::open(&settings.volume).await.unwrap();
        Self {
            dir,
            broker,
            volume,
            settings,
        }
    }

    pub(crate) fn start(&self) -> Running {
        let host = Host::detached("downloader", "core");
        let stop = host.stop();
        Running {
            stop,
            task: tokio::spawn(chassis::run_in::<Downloader>(host, self.settings.clone())),
        }
    }

    pub(crate) async fn send(&self, asset: &Asset) {
        self.send_bytes(asset.asset_id.as_str(), encode(asset).unwrap())
            .await;
    }

    pub(crate) async fn send_bytes(&self, key: &str, value: Vec<u8>) {
        let record = Outgoing::new(topic::ASSET_PIPELINE, key, value);
        self.broker.producer().unwrap().send(record).await.unwrap();
    }

    /// Announces entry `number` with a link.
    pub(crate) async fn announce(&self, number: u32, link: impl AsRef<str>) -> AssetId {
        let asset = testkit::announced(number, link.as_ref());
        self.send(&asset).await;
        asset.asset_id
    }

    /// All outcomes of an asset so far.
    pub(crate) async fn outcomes(&self, asset_id: &AssetId) -> Vec<Asset> {
        let mut found = Vec::new();
        let visit = |record: broker::Record| {
            let asset = record.value.and_then(|value| decode::<Asset>(&value).ok());
            found.extend(
                asset.filter(|asset| asset.asset_id == *asset_id && asset.state != AssetState::Announced),
            );
        };
        self.broker
            .read_to_end(topic::ASSET_PIPELINE, visit)
            .await
            .unwrap();
        found
    }

    pub(crate) async fn outcome(&self, asset_id: &AssetId) -> Asset {
        eventually(async || {
            self.outcomes(asset_id)
                .await
                .pop()
                .ok_or_else(|| format!("no outcome of {asset_id}"))
        })
        .await
    }

    pub(crate) async fn downloaded(&self, asset_id: &AssetId) -> Asset {
        let asset = self.outcome(asset_id).await;
        assert_eq!((asset.state, &asset.reason), (AssetState::Downloaded, &None));
        asset
    }

    pub(crate) async fn failed(&self, asset_id: &AssetId) -> String {
        let asset = self.outcome(asset_id).await;
        assert_eq!((asset.state, asset.hash), (AssetState::Failed, None));
        asset.reason.unwrap()
    }

    pub(crate) async fn preview(&self, asset_id: &AssetId) -> Option<AssetPreview> {
        let mut newest = None;
        let visit = |record: broker::Record| {
            let preview = decode::<AssetPreview>(&record.value.unwrap()).unwrap();
            newest = Some(preview)
                .filter(|preview| preview.asset_id == *asset_id)
                .or_else(|| newest.take());
        };
        self.broker
            .read_to_end(topic::ASSET_PREVIEW, visit)
            .await
            .unwrap();
        newest
    }

    /// What is in the volume under the asset's hash.
    pub(crate) async fn bytes(&self, asset: &Asset) -> Vec<u8> {
        let (hash, size) = (
            asset.hash.as_ref().unwrap(),
            u64::try_from(asset.size.unwrap()).unwrap(),
        );
        assert_eq!(self.volume.stat(hash).await.unwrap(), Some(size));
        self.volume.read(hash, 0..size).await.unwrap().to_vec()
    }

    /// Files that are not whole yet.
    pub(crate) fn staged(&self) -> usize {
        let staging = self.dir.path().join("volume/staging");
        std::fs::read_dir(staging).map_or(0, |files| {
            files
                .filter(|file| {
                    file.as_ref()
                        .is_ok_and(|file| file.metadata().is_ok_and(|data| data.len() > 0))
                })
                .count()
        })
    }
}

impl Running {
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

pub(crate) async fn eventually<T, E: std::fmt::Display>(attempt: impl AsyncFn() -> Result<T, E>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) if Instant::now() > deadline => panic!("{error}"),
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}
