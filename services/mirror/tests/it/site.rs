//! A core with its depot and an edge with its mirror, each on embedded engines in a directory of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use common::broker::{self, Broker, Cleanup, TopicSpec};
use common::chassis::{Host, HostSettings, Span, Stop, now_ms, run_in};
use common::control::{self, finished_key};
use common::identity::{Authority, Issued};
use common::schemas::{
    self, AssetId, CORE_TABLES, Desired, EDGE_TABLES, Hash, Record, RequestId, ServiceState, ServiceStatus,
    SiteId, Topic, topic,
};
use common::table::{self, Row, Session, Value, Write};
use common::telemetry::Telemetry;
use common::volume::{self, ManifestEntry, Volume};
use mirror::{Mirror, Settings, Tls};
use testkit::{TempDir, asset_id, eventually, hash, site};
use tokio::task::JoinHandle;

use crate::proxy::{Fault, Proxy};

pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Sites {
    pub(crate) north: SiteId,
    pub(crate) broker: Broker,
    pub(crate) table: Session,
    pub(crate) volume: Volume,
    pub(crate) core_table: Session,
    pub(crate) core_volume: Volume,
    pub(crate) settings: Settings,
    pub(crate) proxy: Proxy,
    depot: depot::Settings,
    depot_open: Option<(Stop, JoinHandle<()>)>,
    running: Option<(Stop, JoinHandle<anyhow::Result<()>>)>,
    directory: TempDir,
}

async fn make_topics(broker: &Broker, topics: Vec<Topic>) {
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
}

fn host(service: &str, site: &str, stop: &Stop) -> Host {
    let settings = HostSettings {
        site: site.to_owned(),
        instance: Some("test".to_owned()),
        // What a test stops in the middle does not finish first.
        grace: Span::seconds(if service == "depot" { 0 } else { 25 }),
        ..HostSettings::default()
    };
    Host::new(service, settings, Telemetry::detached(), stop.clone())
}

impl Sites {
    /// Both sites with nothing at work: no depot, no mirror.
    pub(crate) async fn new() -> Self {
        Self::with_table(None).await
    }

    /// The same with the edge's table in Cassandra, in a keyspace of its own.
    pub(crate) async fn on_cassandra() -> Self {
        Self::with_table(Some(testkit::keyspace())).await
    }

    async fn with_table(url: Option<String>) -> Self {
        let directory = testkit::temp_dir();
        let (core, edge) = (directory.path().join("core"), directory.path().join("north"));
        let north = site("north");
        let authority = Authority::create(&directory.path().join("certs")).unwrap();
        let server = authority.issue_server(&["127.0.0.1".to_owned()]).unwrap();
        let own = authority.issue_site(&north).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], testkit::free_port()));
        let proxy = Proxy::start(address).await;
        let depot = depot::Settings {
            broker: broker::Settings {
                url: testkit::sqlite(&core, "broker.db"),
                ..broker::Settings::default()
            },
            table: table::Settings {
                url: testkit::sqlite(&core, "table.db"),
                ..table::Settings::default()
            },
            volume: volume::Settings {
                url: testkit::directory(&core, "volume"),
                ..volume::Settings::default()
            },
            listen: address,
            tls: depot::Tls {
                ca: authority.certificate_path().into(),
                certificate: server.certificate.clone().into(),
                key: server.key.clone().into(),
            },
            ..depot::Settings::default()
        };
        let settings = Settings {
            broker: broker::Settings {
                url: testkit::sqlite(&edge, "broker.db"),
                ..broker::Settings::default()
            },
            table: table::Settings {
                url: url.unwrap_or_else(|| testkit::sqlite(&edge, "table.db")),
                ..table::Settings::default()
            },
            volume: volume::Settings {
                url: testkit::directory(&edge, "volume"),
                ..volume::Settings::default()
            },
            depot: format!("https://{}", proxy.address),
            tls: Tls {
                ca: authority.certificate_path(),
                certificate: own.certificate.clone(),
                key: own.key.clone(),
            },
            backoff: Span::millis(20),
            backoff_max: Span::millis(200),
            ..Settings::default()
        };
        let registry = Host::detached("test", "north").registry().clone();
        let broker = Broker::open(&settings.broker, "test", &registry).await.unwrap();
        let table = Session::open(&settings.table, "test", &registry).await.unwrap();
        table.migrate(EDGE_TABLES).await.unwrap();
        make_topics(&broker, Topic::edge(&north)).await;
        let registry = Host::detached("test", "core").registry().clone();
        let core_broker = Broker::open(&depot.broker, "test", &registry).await.unwrap();
        make_topics(&core_broker, Topic::core()).await;
        let core_table = Session::open(&depot.table, "test", &registry).await.unwrap();
        core_table.migrate(CORE_TABLES).await.unwrap();
        let sites = Self {
            volume: Volume::open(&settings.volume).await.unwrap(),
            core_volume: Volume::open(&depot.volume).await.unwrap(),
            north,
            broker,
            table,
            core_table,
            settings,
            proxy,
            depot,
            depot_open: None,
            running: None,
            directory,
        };
        sites.enrol(&own).await;
        sites
    }

    pub(crate) async fn enrol(&self, issued: &Issued) {
        let row = Write::to("sites")
            .set("realm", "core")
            .set("site", self.north.as_str())
            .set("certificate_sha256", issued.details.fingerprint.as_str())
            .set("enrolled_at", Value::timestamp(now_ms()));
        self.core_table.upsert(row).await.unwrap();
    }

    pub(crate) async fn revoke(&self, reason: &str) {
        let row = Write::to("sites")
            .set("realm", "core")
            .set("site", self.north.as_str())
            .set("revoked_at", Value::timestamp(now_ms()))
            .set("revoked_reason", reason);
        self.core_table.upsert(row).await.unwrap();
    }

    /// The core opens its door.
    pub(crate) fn open_depot(&mut self) {
        let stop = Stop::new();
        let running = run_in::<depot::Depot>(host("depot", "core", &stop), self.depot.clone());
        let closed = stop.clone();
        let open = tokio::spawn(async move {
            let ended = running.await;
            assert!(closed.is_cancelled(), "the depot must stay open: {ended:?}");
        });
        self.depot_open = Some((stop, open));
    }

    /// The core's door falls shut: every connection breaks.
    pub(crate) async fn close_depot(&mut self) {
        let (stop, open) = self.depot_open.take().unwrap();
        stop.cancel();
        open.await.unwrap();
    }

    pub(crate) fn start(&mut self) {
        let stop = Stop::new();
        let running = run_in::<Mirror>(host("mirror", "north", &stop), self.settings.clone());
        self.running = Some((stop, tokio::spawn(running)));
    }

    pub(crate) async fn stop(&mut self) {
        let (stop, service) = self.running.take().unwrap();
        stop.cancel();
        service.await.unwrap().unwrap();
    }

    /// A mirror at work on an asset of some megabytes, whose line is held up when some chunks have come.
    pub(crate) async fn in_mid_copy(content: &[u8]) -> (Self, ManifestEntry) {
        let mut sites = Self::new().await;
        sites.open_depot();
        let entry = sites.offer(1, content).await;
        sites.start();
        sites.paused().await;
        sites.proxy.set(Fault::Hold(1_500_000));
        sites.tell(Desired::Running).await;
        eventually(LIMIT, || async {
            match sites.staged(&entry.hash) {
                1_048_576.. => Ok(()),
                staged => Err(format!("{staged} bytes")),
            }
        })
        .await;
        (sites, entry)
    }

    pub(crate) async fn tell(&self, desired: Desired) {
        control::ask(&self.broker, "mirror", desired, Some("test"))
            .await
            .unwrap();
    }

    /// Bytes that the core has, with an open entry for them.
    pub(crate) async fn offer(&self, number: u32, bytes: &[u8]) -> ManifestEntry {
        let mut writer = self.core_volume.writer().await.unwrap();
        writer.write(bytes).await.unwrap();
        writer.finish().await.unwrap();
        let entry = self.entry(number, bytes);
        self.enter(&entry, &entry.request_id).await;
        entry
    }

    pub(crate) fn entry(&self, number: u32, bytes: &[u8]) -> ManifestEntry {
        let asset_id = asset_id(number);
        ManifestEntry {
            request_id: RequestId::new(&self.north, &asset_id, 1),
            asset_id,
            hash: hash(bytes),
            size: bytes.len() as u64,
            media_type: "image/png".to_owned(),
            file_name: format!("entry-{number}.png"),
            entered_at: now_ms(),
            expires_at: None,
        }
    }

    /// Puts an entry where that of a request belongs.
    pub(crate) async fn enter(&self, entry: &ManifestEntry, place: &RequestId) {
        let path = ManifestEntry::path(&self.north, place);
        assert!(
            self.core_volume
                .put_entry(&path, entry.to_json().into())
                .await
                .unwrap()
        );
    }

    pub(crate) fn core_object(&self, hash: &Hash) -> PathBuf {
        self.directory
            .path()
            .join("core/volume/objects")
            .join(&hash.as_str()[..2])
            .join(hash.as_str())
    }

    /// Where copies are until they are whole.
    pub(crate) fn staging(&self) -> PathBuf {
        self.directory.path().join("north/volume/staging")
    }

    /// How many bytes of a copy are in staging.
    pub(crate) fn staged(&self, hash: &Hash) -> u64 {
        let path = self.staging().join(format!("{hash}.partial"));
        std::fs::metadata(path).map_or(0, |file| file.len())
    }

    pub(crate) async fn mirrored(&self, entry: &ManifestEntry) -> Option<Vec<u8>> {
        let size = self.volume.stat(&entry.hash).await.unwrap()?;
        Some(self.volume.read(&entry.hash, 0..size).await.unwrap().to_vec())
    }

    /// What mirror says of itself, once it satisfies.
    pub(crate) async fn status(
        &self,
        wanted: &str,
        satisfies: impl Fn(&ServiceStatus) -> bool,
    ) -> ServiceStatus {
        eventually(LIMIT, || async {
            let newest = self.records::<ServiceStatus>(topic::SERVICE_STATUS).await.pop();
            newest
                .clone()
                .filter(|status| satisfies(status))
                .ok_or_else(|| format!("not {wanted}: {newest:?}"))
        })
        .await
    }

    /// Tells mirror to work, and waits until it has declared that done and says so.
    pub(crate) async fn command(&self) -> ServiceStatus {
        let before = self.paused_last().await;
        self.tell(Desired::Running).await;
        let done_at = eventually(LIMIT, || async {
            let status = self.records::<ServiceStatus>(topic::SERVICE_STATUS).await.pop();
            let newest = self
                .paused_last()
                .await
                .filter(|newest| Some(newest) > before.as_ref());
            newest
                .map(|(_, done_at)| done_at)
                .ok_or_else(|| format!("no pause: {status:?}"))
        })
        .await;
        let since =
            |status: &ServiceStatus| status.state == ServiceState::Paused && status.reported_at >= done_at;
        self.status("paused since", since).await
    }

    pub(crate) async fn paused(&self) -> ServiceStatus {
        self.status("paused", |status| status.state == ServiceState::Paused)
            .await
    }

    /// Where mirror has declared a command done last, and when. Those before it may be tidied away at any time.
    async fn paused_last(&self) -> Option<(i64, i64)> {
        let mut newest = None;
        let read = self.broker.read_to_end(topic::SERVICE_CONTROL, |record| {
            if record.key.as_deref() == Some(finished_key("mirror").as_bytes()) {
                newest = Some((record.offset, record.timestamp));
            }
        });
        read.await.unwrap();
        newest
    }

    /// Every record of a topic, partition by partition.
    pub(crate) async fn records<R: Record + Send>(&self, topic: &str) -> Vec<R> {
        let mut records = Vec::new();
        let read = self.broker.read_to_end(topic, |record| {
            records.push(schemas::decode(record.value.as_ref().unwrap()).unwrap());
        });
        read.await.unwrap();
        records
    }

    pub(crate) async fn row(&self, asset_id: &AssetId) -> Option<Row> {
        let key = [
            ("bucket", asset_id.bucket().into()),
            ("asset_id", asset_id.as_str().into()),
        ];
        self.table.get("assets", &key).await.unwrap()
    }
}

/// Bytes that no two chunks share.
pub(crate) fn bytes(length: usize, seed: u32) -> Vec<u8> {
    (0_u32..)
        .flat_map(|number| {
            (number ^ seed.rotate_left(16))
                .wrapping_mul(2_654_435_761)
                .to_le_bytes()
        })
        .take(length)
        .collect()
}
