//! A core with a depot and an edge with a mirror, on embedded engines in this process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use common::broker::{self, Broker, Cleanup, TopicSpec};
use common::chassis::{Host, HostSettings, Stop, now_ms, run_in};
use common::control;
use common::identity::Authority;
use common::schemas::{
    self, CORE_TABLES, Desired, EDGE_TABLES, Hash, RequestId, ServiceControl, SiteId, Topic, topic,
};
use common::table::{self, Session, Value, Write};
use common::telemetry::Telemetry;
use common::volume::{self, ManifestEntry, Volume};
use testkit::{asset_id, site};
use tokio::task::{AbortHandle, JoinSet};

pub(crate) struct Core {
    north: SiteId,
    volume: Volume,
    address: SocketAddr,
    authority: PathBuf,
    tls: mirror::Tls,
    depot: AbortHandle,
}

impl Drop for Core {
    fn drop(&mut self) {
        self.depot.abort();
    }
}

fn host(service: &str, site: &str, stop: &Stop) -> Host {
    let settings = HostSettings {
        site: site.to_owned(),
        instance: Some("bench".to_owned()),
        ..HostSettings::default()
    };
    Host::new(service, settings, Telemetry::detached(), stop.clone())
}

fn engines(dir: &Path) -> (broker::Settings, table::Settings, volume::Settings) {
    let broker = broker::Settings {
        url: testkit::sqlite(dir, "broker.db"),
        ..broker::Settings::default()
    };
    let table = table::Settings {
        url: testkit::sqlite(dir, "table.db"),
        ..table::Settings::default()
    };
    let volume = volume::Settings {
        url: testkit::directory(dir, "volume"),
        ..volume::Settings::default()
    };
    (broker, table, volume)
}

async fn make_topics(broker: &Broker, topics: Vec<Topic>) -> Result<()> {
    for topic in topics {
        let cleanup = if topic.compacted {
            Cleanup::Compact
        } else {
            Cleanup::Delete
        };
        let partitions = topic.partitions.unwrap_or(3);
        let spec = TopicSpec {
            cleanup,
            ..TopicSpec::new(topic.name, partitions)
        };
        broker.create_topic(&spec).await?;
    }
    Ok(())
}

fn hash(bytes: &[u8]) -> Hash {
    blake3::hash(bytes).into()
}

impl Core {
    pub(crate) async fn open(dir: &Path) -> Result<Self> {
        let north = site("north");
        let certs = dir.join("certs");
        let authority = Authority::create(&certs)?;
        let server = authority.issue_server(&["127.0.0.1".to_owned()])?;
        let own = authority.issue_site(&north)?;
        let address = SocketAddr::from(([127, 0, 0, 1], testkit::free_port()));
        let (broker, table, volume) = engines(dir);
        let settings = depot::Settings {
            broker,
            table,
            volume,
            listen: address,
            tls: depot::Tls {
                ca: Some(authority.certificate_path()),
                certificate: Some(server.certificate),
                key: Some(server.key),
            },
            ..depot::Settings::default()
        };
        let registry = Host::detached("bench", "core").registry().clone();
        let broker = Broker::open(&settings.broker, "bench", &registry).await?;
        make_topics(&broker, Topic::core()).await?;
        let table = Session::open(&settings.table, "bench", &registry).await?;
        table.migrate(CORE_TABLES).await?;
        let row = Write::to("sites")
            .set("realm", "core")
            .set("site", north.as_str())
            .set("certificate_sha256", own.details.fingerprint.as_str())
            .set("enrolled_at", Value::timestamp(now_ms()));
        table.upsert(row).await?;
        let volume = Volume::open(&settings.volume).await?;
        let depot = tokio::spawn(run_in::<depot::Depot>(
            host("depot", "core", &Stop::new()),
            settings,
        ));
        Ok(Self {
            north,
            volume,
            address,
            tls: mirror::Tls {
                ca: authority.certificate_path(),
                certificate: own.certificate,
                key: own.key,
            },
            authority: certs,
            depot: depot.abort_handle(),
        })
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) async fn offer(&self, number: u32, bytes: &[u8]) -> Result<()> {
        let mut writer = self.volume.writer().await?;
        writer.write(bytes).await?;
        let stored = writer.finish().await?;
        let asset_id = asset_id(number);
        let request_id = RequestId::new(&self.north, &asset_id, 1);
        let entry = ManifestEntry {
            request_id: request_id.clone(),
            asset_id,
            hash: stored.hash,
            size: stored.size,
            media_type: "application/octet-stream".to_owned(),
            file_name: format!("{number:05}.bin"),
            entered_at: now_ms(),
            expires_at: None,
        };
        let path = ManifestEntry::path(&self.north, &request_id);
        self.volume.put_entry(&path, entry.to_json().into()).await?;
        Ok(())
    }

    pub(crate) async fn edge(&self, dir: &Path, through: SocketAddr) -> Result<Edge> {
        let (broker, table, volume) = engines(dir);
        let settings = mirror::Settings {
            broker,
            table,
            volume,
            depot: format!("https://{through}"),
            tls: self.tls.clone(),
            ..mirror::Settings::default()
        };
        let registry = Host::detached("bench", "north").registry().clone();
        let broker = Broker::open(&settings.broker, "bench", &registry).await?;
        make_topics(&broker, Topic::edge(&self.north)).await?;
        let table = Session::open(&settings.table, "bench", &registry).await?;
        table.migrate(EDGE_TABLES).await?;
        let volume = Volume::open(&settings.volume).await?;
        debug_assert!(self.authority.exists());
        Ok(Edge {
            broker,
            volume,
            settings,
        })
    }
}

pub(crate) struct Edge {
    broker: Broker,
    volume: Volume,
    settings: mirror::Settings,
}

impl Edge {
    /// From the word to start until mirror says that nothing is left.
    pub(crate) async fn mirror(&self) -> Result<()> {
        control::ask(&self.broker, "mirror", Desired::Running, Some("bench")).await?;
        let stop = Stop::new();
        // It ends with this future.
        let mut mirror = JoinSet::new();
        mirror.spawn(run_in::<mirror::Mirror>(
            host("mirror", "north", &stop),
            self.settings.clone(),
        ));
        while !self.done().await? {
            if let Some(ended) = mirror.try_join_next() {
                bail!("mirror has ended: {ended:?}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        stop.cancel();
        let ended = mirror.join_next().await.context("mirror has ended")?;
        ended.context("mirror panicked")?
    }

    async fn done(&self) -> Result<bool> {
        let mut done = false;
        let read = self.broker.read_to_end(topic::SERVICE_CONTROL, |record| {
            let command = record
                .value
                .as_ref()
                .and_then(|value| schemas::decode::<ServiceControl>(value).ok());
            done |= command.is_some_and(|command| command.asked_by.as_deref() == Some("mirror"));
        });
        read.await?;
        Ok(done)
    }

    pub(crate) async fn check(&self, files: &[Vec<u8>]) -> Result<()> {
        for bytes in files {
            let size = self.volume.stat(&hash(bytes)).await?;
            if size != Some(bytes.len() as u64) {
                bail!("an object is missing at the edge");
            }
        }
        Ok(())
    }
}
