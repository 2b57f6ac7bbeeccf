//! A site on embedded engines in a directory of its own, and the service at work in it.

use std::time::Duration;

use common::broker::{self, Broker, Cleanup, Outgoing, TopicSpec};
use common::chassis::{Host, HostSettings, Stop, run_in};
use common::schemas::{self, AssetId, EDGE_TABLES, Record, Topic};
use common::table::{self, Row, Session};
use common::telemetry::Telemetry;
use listener::{Listener, Settings};
use testkit::{TempDir, eventually};
use tokio::task::JoinHandle;

pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Site {
    pub(crate) broker: Broker,
    pub(crate) table: Session,
    pub(crate) settings: Settings,
    running: Option<(Stop, JoinHandle<anyhow::Result<()>>)>,
    _directory: TempDir,
}

impl Site {
    /// A site with its topics and tables made, and nothing at work.
    pub(crate) async fn new() -> Self {
        let directory = testkit::temp_dir();
        let settings = Settings {
            broker: broker::Settings {
                url: testkit::sqlite(directory.path(), "broker.db"),
                ..broker::Settings::default()
            },
            table: table::Settings {
                url: testkit::sqlite(directory.path(), "table.db"),
                ..table::Settings::default()
            },
            ..Settings::default()
        };
        let registry = Host::detached("test", "north").registry().clone();
        let broker = Broker::open(&settings.broker, "test", &registry).await.unwrap();
        let table = Session::open(&settings.table, "test", &registry).await.unwrap();
        table.migrate(EDGE_TABLES).await.unwrap();
        let topics = Topic::edge(&testkit::site("north"));
        for topic in topics {
            let cleanup = if topic.compacted {
                Cleanup::Compact
            } else {
                Cleanup::Delete
            };
            let spec = TopicSpec {
                cleanup,
                ..TopicSpec::new(topic.name, topic.partitions.unwrap_or(3))
            };
            broker.create_topic(&spec).await.unwrap();
        }
        Self {
            broker,
            table,
            settings,
            running: None,
            _directory: directory,
        }
    }

    /// The same with the service at work.
    pub(crate) async fn running() -> Self {
        let mut site = Self::new().await;
        site.start();
        site
    }

    pub(crate) fn start(&mut self) {
        let stop = Stop::new();
        let settings = HostSettings {
            site: "north".to_owned(),
            instance: Some("test".to_owned()),
            ..HostSettings::default()
        };
        let host = Host::new("listener", settings, Telemetry::detached(), stop.clone());
        self.running = Some((
            stop,
            tokio::spawn(run_in::<Listener>(host, self.settings.clone())),
        ));
    }

    pub(crate) async fn stop(&mut self) {
        let (stop, service) = self.running.take().unwrap();
        stop.cancel();
        service.await.unwrap().unwrap();
    }

    pub(crate) async fn send<R: Record>(&self, topic: &str, asset_id: &AssetId, record: &R) {
        self.send_bytes(topic, asset_id, schemas::encode(record).unwrap())
            .await;
    }

    pub(crate) async fn send_bytes(&self, topic: &str, asset_id: &AssetId, value: Vec<u8>) {
        let record = Outgoing::new(topic, asset_id.as_str(), value);
        self.broker.producer().unwrap().send(record).await.unwrap();
    }

    /// Every record of a topic, partition by partition.
    pub(crate) async fn records<R: Record>(&self, topic: &str) -> Vec<R> {
        self.raw(topic)
            .await
            .iter()
            .map(|record| schemas::decode(record.value.as_ref().unwrap()).unwrap())
            .collect()
    }

    /// The reasons of a topic's dead letters, once there are as many as wanted.
    pub(crate) async fn dead_letters(&self, topic: &str, wanted: usize) -> Vec<String> {
        let topic = format!("{topic}.dead-letter");
        eventually(LIMIT, || async {
            if self.broker.describe(&topic).await.unwrap().is_none() {
                return Err("no dead-letter topic".to_owned());
            }
            let records = self.raw(&topic).await;
            let reason = |record: &broker::Record| {
                String::from_utf8_lossy(record.header("error").unwrap()).into_owned()
            };
            if records.len() < wanted {
                Err(format!("{} dead letters", records.len()))
            } else {
                Ok(records.iter().map(reason).collect())
            }
        })
        .await
    }

    async fn raw(&self, topic: &str) -> Vec<broker::Record> {
        let mut records = Vec::new();
        self.broker
            .read_to_end(topic, |record| records.push(record))
            .await
            .unwrap();
        records
    }

    /// Waits until the service has committed everything that is in a topic.
    pub(crate) async fn caught_up(&self, topic: &str) {
        let partitions = self.broker.describe(topic).await.unwrap().unwrap().partitions;
        eventually(LIMIT, || async {
            let committed = self.broker.committed("north.listener", topic).await.unwrap();
            for partition in 0..partitions {
                let high = self.broker.watermarks(topic, partition).await.unwrap().high;
                let next = committed
                    .iter()
                    .find(|(of, _)| *of == partition)
                    .map_or(0, |(_, next)| *next);
                if next < high {
                    return Err(format!("{topic}/{partition} is at {next} of {high}"));
                }
            }
            Ok(())
        })
        .await;
    }

    pub(crate) async fn row(&self, table: &str, asset_id: &AssetId) -> Option<Row> {
        let key = [
            ("bucket", asset_id.bucket().into()),
            ("asset_id", asset_id.as_str().into()),
        ];
        self.table.get(table, &key).await.unwrap()
    }
}
