//! A core in a temporary directory, with one feed at a time.

use common::broker::{self, Broker, TopicSpec};
use common::chassis::{self, Host, Stop};
use common::schemas::{Asset, AssetState, ServiceStatus, Topic, decode, topic};
use feed::{Feed, Settings};
use testkit::TempDir;

pub(crate) struct Site {
    pub(crate) dir: TempDir,
    pub(crate) broker: Broker,
    pub(crate) settings: broker::Settings,
}

pub(crate) struct Running {
    stop: Stop,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Site {
    pub(crate) async fn new() -> Self {
        let dir = testkit::temp_dir();
        let settings = broker::Settings::url(testkit::sqlite(dir.path(), "broker.db"));
        let broker = Broker::open(&settings, "test", &Default::default())
            .await
            .unwrap();
        for wanted in Topic::core() {
            let spec = TopicSpec::new(wanted.name, wanted.partitions.unwrap_or(3));
            broker
                .create_topic(&if wanted.compacted { spec.compacted() } else { spec })
                .await
                .unwrap();
        }
        Self {
            dir,
            broker,
            settings,
        }
    }

    /// Settings that announce fast.
    pub(crate) fn feed(&self, catalogue: impl Into<String>) -> Settings {
        Settings {
            broker: self.settings.clone(),
            catalogue: catalogue.into(),
            interval: "5ms".parse().unwrap(),
            batch: 10,
            ..Settings::default()
        }
    }

    pub(crate) fn start(&self, settings: Settings) -> Running {
        let host = Host::detached("feed", "core");
        let stop = host.stop();
        Running {
            stop,
            task: tokio::spawn(chassis::run_in::<Feed>(host, settings)),
        }
    }

    /// All records of the pipeline.
    pub(crate) async fn records(&self) -> Vec<Asset> {
        let mut assets = Vec::new();
        let visit = |record: broker::Record| assets.push(decode(&record.value.unwrap()).unwrap());
        self.broker
            .read_to_end(topic::ASSET_PIPELINE, visit)
            .await
            .unwrap();
        assets
    }

    pub(crate) async fn announced(&self, count: usize) -> Vec<Asset> {
        eventually(async || {
            let assets = self.records().await;
            if assets.len() < count {
                Err(format!("{} of {count} announced", assets.len()))
            } else {
                Ok(assets)
            }
        })
        .await
        .into_iter()
        .inspect(|asset| assert_eq!(asset.state, AssetState::Announced))
        .collect()
    }

    /// Waits until feed says that it waits, and why.
    pub(crate) async fn waiting(&self, why: &str) -> ServiceStatus {
        eventually(async || {
            let mut newest = None;
            let visit =
                |record: broker::Record| newest = decode::<ServiceStatus>(&record.value.unwrap()).ok();
            self.broker
                .read_to_end(topic::SERVICE_STATUS, visit)
                .await
                .unwrap();
            let status = newest.ok_or("no status")?;
            let detail = status.detail.clone().unwrap_or_default();
            if detail.contains(why) {
                Ok(status)
            } else {
                Err(format!("{:?}: {detail}", status.state))
            }
        })
        .await
    }
}

impl Running {
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

pub(crate) async fn eventually<T, E: std::fmt::Display>(attempt: impl AsyncFn() -> Result<T, E>) -> T {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) if tokio::time::Instant::now() > deadline => panic!("{error}"),
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
        }
    }
}
