//! A core and an edge with engines of their own, certificates of one authority, and a directory for a stick.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bundle::{Exported, Here, Imported, Since, Stick, Wish, export, import};
use common::broker::{self, Broker, Outgoing, Record, TopicSpec};
use common::chassis::now_ms;
use common::identity::{Authority, Signer, Trust};
use common::schemas::{self, CORE_TABLES, Checkpoint, EDGE_TABLES, RequestId, SiteId, Topic, topic};
use common::table::{self, Session, Write};
use common::volume::{self, ManifestEntry, Volume};
use link::{Direction, Rename, Route};
use testkit::TempDir;

/// A site's broker, and its table where that is not an embedded one.
pub(crate) type Urls<'a> = (&'a str, Option<String>);

pub(crate) struct Rig {
    pub(crate) core: Here,
    pub(crate) edge: Here,
    pub(crate) certs: Authority,
    /// Carried down under the same name.
    pub(crate) news: String,
    /// Carried up with the site's prefix.
    pub(crate) readings: String,
    pub(crate) directory: TempDir,
    number: AtomicI64,
}

pub(crate) fn site(name: &str) -> SiteId {
    name.parse().unwrap()
}

async fn topics(broker: &Broker, topics: Vec<Topic>) {
    for topic in topics {
        let spec = TopicSpec::new(&topic.name, topic.partitions.unwrap_or(3));
        let spec = if topic.compacted { spec.compacted() } else { spec };
        broker.create_topic(&spec).await.unwrap();
    }
}

impl Rig {
    pub(crate) async fn new() -> Self {
        let directory = testkit::temp_dir();
        let (core, edge) = (
            testkit::sqlite(&directory.path().join("core"), "broker.db"),
            testkit::sqlite(&directory.path().join("edge"), "broker.db"),
        );
        Self::between(directory, &core, &edge).await
    }

    /// Two sites on these brokers, with embedded tables.
    pub(crate) async fn between(directory: TempDir, core_url: &str, edge_url: &str) -> Self {
        Self::on(directory, (core_url, None), (edge_url, None)).await
    }

    /// Two sites on these brokers and tables.
    pub(crate) async fn on(directory: TempDir, core: Urls<'_>, edge: Urls<'_>) -> Self {
        let log = tracing_subscriber::fmt().with_test_writer();
        let _one_is_enough = log.try_init();
        std::fs::create_dir_all(directory.path().join("stick")).unwrap();
        let certs = Authority::create(&directory.path().join("certs")).unwrap();
        let name = site(&testkit::unique("edge"));
        let (news, readings) = (testkit::unique("news"), testkit::unique("readings"));
        let route = |name: &str, direction, topic: &str, rename| Route {
            name: name.into(),
            direction,
            topics: vec![topic.into()],
            pattern: None,
            rename,
            class: None,
            live_first: false,
        };
        let down = route("news", Direction::Down, &news, Rename::Same);
        let up = route("readings", Direction::Up, &readings, Rename::Prefix);
        let core = here(&directory, &certs, "core", "core", core, vec![down.clone()]).await;
        let edge = here(&directory, &certs, name.as_str(), "edge", edge, vec![down, up]).await;
        core.table.migrate(CORE_TABLES).await.unwrap();
        edge.table.migrate(EDGE_TABLES).await.unwrap();
        topics(&core.broker, Topic::core()).await;
        topics(&core.broker, Topic::core_for(&name)).await;
        topics(&edge.broker, Topic::edge(&name)).await;
        let rig = Self {
            core,
            edge,
            certs,
            news,
            readings,
            directory,
            number: AtomicI64::new(0),
        };
        let at_core = rig.readings_at_core();
        rig.core
            .broker
            .create_topic(&TopicSpec::new(&rig.news, 3))
            .await
            .unwrap();
        rig.edge
            .broker
            .create_topic(&TopicSpec::new(&rig.readings, 3))
            .await
            .unwrap();
        rig.core
            .broker
            .create_topic(&TopicSpec::new(&at_core, 3))
            .await
            .unwrap();
        rig.enrol(&name).await;
        rig
    }

    pub(crate) async fn enrol(&self, name: &SiteId) {
        let path = self
            .directory
            .path()
            .join("certs/sites")
            .join(format!("{name}.crt"));
        let certificate = std::fs::read_to_string(path).unwrap();
        let row = Write::to("sites")
            .set("realm", "core")
            .set("site", name.as_str())
            .set(
                "certificate_sha256",
                common::identity::fingerprint(&certificate).unwrap(),
            )
            .set("enrolled_at", table::Value::timestamp(now_ms()));
        self.core.table.upsert(row).await.unwrap();
    }

    pub(crate) fn readings_at_core(&self) -> String {
        format!("{}.{}", self.edge.site, self.readings)
    }

    pub(crate) fn stick(&self) -> Stick {
        Stick::at(self.root())
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("stick")
    }

    pub(crate) fn down(&self) -> PathBuf {
        self.root().join(format!("core.to.{}", self.edge.site))
    }

    /// Sends so many numbered records on both sides.
    pub(crate) async fn send(&self, count: i64) {
        let from = self.number.fetch_add(count, Ordering::Relaxed);
        for (broker, topic) in [
            (&self.core.broker, &self.news),
            (&self.edge.broker, &self.readings),
        ] {
            let records = (from..from + count).map(|number| record(topic, number)).collect();
            broker.producer().unwrap().send_all(records).await.unwrap();
        }
    }

    /// Sends so many records of a MiB that cannot be packed down.
    pub(crate) async fn send_large(&self, count: i64) {
        let mut bytes = vec![0; 1 << 20];
        for number in 0..count {
            let seed = number.to_be_bytes();
            blake3::Hasher::new()
                .update(&seed)
                .finalize_xof()
                .fill(&mut bytes);
            let mut large = record(&self.news, number);
            large.value = Some(bytes.clone().into());
            self.core.broker.producer().unwrap().send(large).await.unwrap();
        }
    }

    /// Puts an asset of that size into the core's volume, and an open entry of the edge for it.
    pub(crate) async fn offer(&self, number: u32, size: u64) -> ManifestEntry {
        let mut bytes = vec![0; usize::try_from(size).unwrap()];
        blake3::Hasher::new()
            .update(&number.to_be_bytes())
            .finalize_xof()
            .fill(&mut bytes);
        let mut writer = self.core.volume.writer().await.unwrap();
        writer.write(&bytes).await.unwrap();
        let hash = writer.finish().await.unwrap().hash;
        let asset_id = testkit::asset_id(number);
        let entry = ManifestEntry {
            request_id: RequestId::new(&self.edge.site, &asset_id, 1),
            asset_id,
            hash,
            size,
            media_type: "image/png".to_owned(),
            file_name: format!("entry-{number}.png"),
            entered_at: now_ms(),
            expires_at: None,
        };
        self.offer_to(&self.edge.site, &entry).await;
        entry
    }

    pub(crate) async fn offer_to(&self, site: &SiteId, entry: &ManifestEntry) {
        let path = ManifestEntry::path(site, &entry.request_id);
        assert!(
            self.core
                .volume
                .put_entry(&path, entry.to_json().into())
                .await
                .unwrap()
        );
    }

    /// As the responder does when the receipt comes.
    pub(crate) async fn close(&self, entry: &ManifestEntry) {
        let path = ManifestEntry::path(&self.edge.site, &entry.request_id);
        self.core.volume.delete_entry(&path).await.unwrap();
    }

    /// The same edge with engines that have nothing yet.
    pub(crate) async fn edge_again(&self, home: &str) -> Here {
        let url = testkit::sqlite(&self.directory.path().join(home), "broker.db");
        let name = self.edge.site.as_str();
        let mut again = here(&self.directory, &self.certs, name, home, (&url, None), vec![]).await;
        again.routes.clone_from(&self.edge.routes);
        again.table.migrate(EDGE_TABLES).await.unwrap();
        topics(&again.broker, Topic::edge(&again.site)).await;
        again
    }

    /// Another edge that is enrolled.
    pub(crate) async fn other_edge(&self) -> SiteId {
        let other = site(&testkit::unique("other"));
        self.certs.issue_site(&other).unwrap();
        self.enrol(&other).await;
        topics(&self.core.broker, Topic::core_for(&other)).await;
        other
    }

    /// The files of assets on the stick.
    pub(crate) fn objects(&self) -> Vec<PathBuf> {
        testkit::files(&self.root().join("objects"))
    }

    pub(crate) async fn export_down(&self) -> Exported {
        self.export(&self.core, &self.edge.site).await
    }

    pub(crate) async fn export_up(&self) -> Exported {
        self.export(&self.edge, &self.core.site).await
    }

    async fn export(&self, here: &Here, to: &SiteId) -> Exported {
        let exported = export(here, to, &mut self.stick(), &Since::Receipt, &|_| {})
            .await
            .unwrap();
        assert_eq!(exported.problems, Vec::<String>::new());
        exported
    }

    pub(crate) async fn import_down(&self) -> Imported {
        one(import(&self.edge, &mut self.stick(), Wish::default(), &|_| {}).await)
    }

    pub(crate) async fn import_up(&self) -> Imported {
        one(import(&self.core, &mut self.stick(), Wish::default(), &|_| {}).await)
    }

    /// Both sides have what the other sent: the same records, once, in the same order, byte for byte; and the offset maps
    /// say where each of them is.
    pub(crate) async fn all_is_carried(&self) {
        let (core, edge) = (&self.core.broker, &self.edge.broker);
        let at_core = self.readings_at_core();
        for (source, topic, destination, carried, route) in [
            (core, &self.news, edge, &self.news, "news"),
            (edge, &self.readings, core, &at_core, "readings"),
        ] {
            let (wanted, found) = (
                contents(source, topic).await,
                contents(destination, carried).await,
            );
            assert!(
                what(&wanted) == what(&found),
                "other records, or another order, in {carried}"
            );
            for (partition, records) in &wanted {
                let key = format!("{route}/{topic}/{partition}");
                let checkpoint = self.checkpoint(destination, &key).await.unwrap();
                assert_eq!(checkpoint.next_offset, records.last().unwrap().offset + 1);
                let ranges = link::offsets::exact(&checkpoint);
                let first = ranges[0].source;
                let pairs = records.iter().zip(&found[partition]);
                for (source, carried) in pairs.filter(|(source, _)| source.offset >= first) {
                    let there = link::offsets::to_destination(ranges, source.offset);
                    assert_eq!(there, Some(carried.offset));
                }
            }
        }
    }

    pub(crate) async fn checkpoint(&self, destination: &Broker, key: &str) -> Option<Checkpoint> {
        let mut found = None;
        let topic = format!("{}.{}", self.edge.site, topic::CHECKPOINTS);
        let read = destination.read_to_end(&topic, |record| {
            if record.key.as_deref() == Some(key.as_bytes()) {
                found = record.value.map(|value| schemas::decode(&value).unwrap());
            }
        });
        read.await.unwrap();
        found
    }
}

pub(crate) fn one(imported: bundle::Result<Vec<Imported>>) -> Imported {
    let mut imported = imported.unwrap();
    assert_eq!(imported.len(), 1);
    imported.remove(0)
}

/// A site with a certificate of the authority.
pub(crate) async fn here(
    directory: &TempDir,
    certs: &Authority,
    name: &str,
    home: &str,
    (broker_url, table_url): Urls<'_>,
    extra: Vec<Route>,
) -> Here {
    // It may have one already.
    drop(certs.issue_site(&site(name)));
    let own = directory.path().join("certs/sites").join(name);
    let home = directory.path().join(home);
    let registry = prometheus::Registry::new();
    let table = table::Settings {
        url: table_url.unwrap_or_else(|| testkit::sqlite(&home, "table.db")),
        ..table::Settings::default()
    };
    let volume = volume::Settings {
        url: testkit::directory(&home, "volume"),
        ..volume::Settings::default()
    };
    let settings = broker::Settings::url(broker_url);
    Here {
        site: site(name),
        core: site("core"),
        broker: Broker::open(&settings, "bundle", &registry).await.unwrap(),
        table: Session::open(&table, "bundle", &registry).await.unwrap(),
        volume: Volume::open(&volume).await.unwrap(),
        signer: Signer::load(&own.with_extension("crt"), &own.with_extension("key")).unwrap(),
        trust: Trust::load(&certs.certificate_path()).unwrap(),
        routes: [link::builtin(), extra].concat(),
        in_classes: true,
        retention: Duration::from_secs(30 * 24 * 3600),
        quota: None,
    }
}

pub(crate) fn record(topic: &str, number: i64) -> Outgoing {
    let mut record = Outgoing::new(
        topic,
        format!("key-{}", number % 17),
        format!("value {number}").into_bytes(),
    );
    record.timestamp = Some(now_ms() - 3_600_000 + number);
    // A header of its own keeps the sender from adding a trace.
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    record.headers = vec![
        ("traceparent".into(), trace.into()),
        ("number".into(), number.to_string().into()),
    ];
    record
}

pub(crate) async fn contents(broker: &Broker, topic: &str) -> BTreeMap<i32, Vec<Record>> {
    let mut found: BTreeMap<i32, Vec<Record>> = BTreeMap::new();
    let read = broker.read_to_end(topic, |record| {
        found.entry(record.partition).or_default().push(record)
    });
    match read.await {
        Ok(()) | Err(broker::Error::UnknownTopic { .. }) => found,
        Err(error) => panic!("{error}"),
    }
}

pub(crate) fn what(records: &BTreeMap<i32, Vec<Record>>) -> Vec<(i32, Vec<impl PartialEq + use<>>)> {
    let of = |record: &Record| {
        let record = record.clone();
        (record.key, record.value, record.headers, record.timestamp)
    };
    let all = records.iter();
    all.map(|(partition, all)| (*partition, all.iter().map(of).collect()))
        .collect()
}
