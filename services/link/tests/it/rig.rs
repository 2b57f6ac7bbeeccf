//! Two brokers, a link between them that can be started, stopped and torn off, and what must be true at the end.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use common::broker::{self, Broker, Outgoing, Record, TopicSpec};
use common::chassis::{Host, HostSettings, Span, Stop, run_in};
use common::schemas::{self, Checkpoint, ServiceState, ServiceStatus, SiteId, Topic, topic};
use common::telemetry::Telemetry;
use link::moves::Sides;
use link::{Direction, Far, Link, Rename, Route, Settings};
use testkit::{TempDir, eventually};
use tokio::task::JoinHandle;

use crate::kafka::url;

pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Rig {
    pub(crate) site: SiteId,
    pub(crate) core: Broker,
    pub(crate) edge: Broker,
    pub(crate) settings: Settings,
    /// Carried down under the same name.
    pub(crate) news: String,
    /// Carried up with the site's prefix.
    pub(crate) readings: String,
    _dir: Option<TempDir>,
}

/// A running link.
pub(crate) struct Running {
    host: Host,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    pub(crate) async fn stop(self) {
        self.host.stop().cancel();
        self.task.await.unwrap().unwrap();
    }

    /// What its metrics of one name are, by their label.
    pub(crate) fn metrics(&self, name: &str) -> BTreeMap<String, f64> {
        let families = self.host.registry().gather();
        let family = families.iter().find(|family| family.name() == name);
        let metrics = family.into_iter().flat_map(|family| family.get_metric());
        metrics
            .map(|metric| {
                // Those of the host are on every metric.
                let own = ["route", "first", "class", "span"];
                let mut labels = metric.get_label().iter();
                let label = labels.find(|label| own.contains(&label.name()));
                let label = label.map_or("", |label| label.value());
                (label.to_owned(), metric.get_gauge().get_value())
            })
            .collect()
    }

    /// As a crash: what was under way is dropped where it stands.
    pub(crate) async fn tear(self) {
        self.task.abort();
        let _cancelled = self.task.await;
        self.host.stop().cancel();
    }
}

impl Rig {
    pub(crate) async fn embedded() -> Self {
        let dir = testkit::temp_dir();
        let core = testkit::sqlite(dir.path(), "core.db");
        let edge = testkit::sqlite(dir.path(), "edge.db");
        Self::new(&core, &edge, Some(dir)).await
    }

    /// Two Kafkas.
    pub(crate) async fn two_kafkas() -> Self {
        Self::new(&url("KAFKA_URL"), &url("KAFKA_EDGE_URL"), None).await
    }

    /// A core on Kafka, and an edge on its embedded broker.
    pub(crate) async fn small_edge() -> Self {
        let dir = testkit::temp_dir();
        let edge = testkit::sqlite(dir.path(), "edge.db");
        Self::new(&url("KAFKA_URL"), &edge, Some(dir)).await
    }

    pub(crate) async fn new(core_url: &str, edge_url: &str, dir: Option<TempDir>) -> Self {
        // What a failed test has to say; passed ones stay quiet.
        let log = tracing_subscriber::fmt()
            .with_test_writer()
            .with_max_level(tracing::Level::INFO);
        let _one_is_enough = log.try_init();
        let (core_settings, edge_settings) =
            (broker::Settings::url(core_url), broker::Settings::url(edge_url));
        let open = async |settings, name| {
            Broker::open(settings, name, &prometheus::Registry::new())
                .await
                .unwrap()
        };
        let core = open(&core_settings, "core").await;
        let edge = open(&edge_settings, "edge").await;
        let site: SiteId = testkit::unique("edge").parse().unwrap();
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
        let settings = Settings {
            broker: edge_settings,
            core: core_settings,
            extra_routes: vec![
                route("news", Direction::Down, &news, Rename::Same),
                route("readings", Direction::Up, &readings, Rename::Prefix),
            ],
            max_records: 50,
            poll: Span::millis(200),
            refresh: Span::seconds(1),
            ..Settings::default()
        };
        let rig = Self {
            site,
            core,
            edge,
            settings,
            news,
            readings,
            _dir: dir,
        };
        rig.topics().await;
        rig
    }

    async fn topics(&self) {
        let spec = |topic: &Topic| TopicSpec::of(topic, 3, 1);
        for topic in Topic::core_for(&self.site) {
            self.core.create_topic(&spec(&topic)).await.unwrap();
        }
        for topic in Topic::core() {
            self.core.create_topic(&spec(&topic)).await.unwrap();
        }
        for topic in Topic::edge(&self.site) {
            self.edge.create_topic(&spec(&topic)).await.unwrap();
        }
        self.core
            .create_topic(&TopicSpec::new(&self.news, 3))
            .await
            .unwrap();
        self.edge
            .create_topic(&TopicSpec::new(&self.readings, 3))
            .await
            .unwrap();
        self.core
            .create_topic(&TopicSpec::new(self.readings_at_core(), 3))
            .await
            .unwrap();
    }

    /// Lets go of the edge's embedded broker, so that its file can be exchanged; and opens it again.
    pub(crate) async fn exchange<T>(&mut self, exchange: impl AsyncFnOnce(&Path) -> T) -> T {
        let file = self.settings.broker.url.strip_prefix("sqlite://").unwrap();
        self.edge = self.core.clone();
        let done = exchange(Path::new(file)).await;
        let registry = prometheus::Registry::new();
        self.edge = Broker::open(&self.settings.broker, "edge", &registry)
            .await
            .unwrap();
        done
    }

    pub(crate) fn readings_at_core(&self) -> String {
        format!("{}.{}", self.site, self.readings)
    }

    pub(crate) fn start(&self) -> Running {
        self.start_as("one")
    }

    /// What an instance is called: an edge that tests share remembers what others have said.
    pub(crate) fn instance(&self, name: &str) -> String {
        format!("{name}-{}", self.site)
    }

    pub(crate) fn start_as(&self, instance: &str) -> Running {
        let settings = HostSettings {
            site: self.site.to_string(),
            instance: Some(self.instance(instance)),
            ..HostSettings::default()
        };
        let host = Host::new("link", settings, Telemetry::detached(), Stop::new());
        let task = tokio::spawn(run_in::<Link>(host.clone(), self.settings.clone()));
        Running { host, task }
    }

    /// Sends `count` numbered records with headers and times of their own to both sides.
    pub(crate) async fn send(&self, from: usize, count: usize) {
        for (broker, topic) in [(&self.core, &self.news), (&self.edge, &self.readings)] {
            let records = (from..from + count).map(|number| record(topic, number)).collect();
            broker.producer().unwrap().send_all(records).await.unwrap();
        }
    }

    /// Waits until the core has all readings.
    pub(crate) async fn readings_are_carried(&self) {
        let wanted = contents(&self.edge, &self.readings).await;
        let at_core = self.readings_at_core();
        eventually(LIMIT, || async {
            let found = contents(&self.core, &at_core).await;
            let count = |records: &BTreeMap<i32, Vec<Record>>| records.values().map(Vec::len).sum::<usize>();
            (count(&found) == count(&wanted))
                .then_some(())
                .ok_or_else(|| format!("{} of {} readings", count(&found), count(&wanted)))
        })
        .await;
    }

    /// Waits until both sides have what the other sent: the same records, once, in the same order, byte for byte; and
    /// until the offset maps say where each of them is.
    pub(crate) async fn all_is_carried(&self) {
        let (news, readings, at_core) = (&self.news, &self.readings, self.readings_at_core());
        for (source, topic, destination, carried, route) in [
            (&self.core, news, &self.edge, news, "news"),
            (&self.edge, readings, &self.core, &at_core, "readings"),
        ] {
            let wanted = contents(source, topic).await;
            eventually(LIMIT, || async {
                let found = contents(destination, carried).await;
                let count =
                    |records: &BTreeMap<i32, Vec<Record>>| records.values().map(Vec::len).sum::<usize>();
                if count(&found) < count(&wanted) {
                    return Err(format!(
                        "{} of {} records of {topic}",
                        count(&found),
                        count(&wanted)
                    ));
                }
                same(&wanted, &found);
                Ok(())
            })
            .await;
            let found = contents(destination, carried).await;
            for (partition, records) in &wanted {
                let checkpoint = self
                    .checkpoint(destination, &format!("{route}/{topic}/{partition}"))
                    .await
                    .unwrap();
                assert_eq!(checkpoint.next_offset, records.last().unwrap().offset + 1);
                let ranges = link::offsets::exact(&checkpoint);
                let first = ranges[0].source;
                for (source, carried) in records
                    .iter()
                    .zip(&found[partition])
                    .filter(|(r, _)| r.offset >= first)
                {
                    assert_eq!(
                        link::offsets::to_destination(ranges, source.offset),
                        Some(carried.offset)
                    );
                    assert_eq!(
                        link::offsets::to_source(ranges, carried.offset),
                        Some(source.offset)
                    );
                }
            }
        }
    }

    pub(crate) async fn checkpoint(&self, destination: &Broker, key: &str) -> Option<Checkpoint> {
        let mut found = None;
        destination
            .read_to_end(&format!("{}.checkpoints", self.site), |record| {
                if record.key.as_deref() == Some(key.as_bytes()) {
                    found = record.value.map(|value| schemas::decode(&value).unwrap());
                }
            })
            .await
            .unwrap();
        found
    }

    /// Waits until an instance reports what is wanted.
    pub(crate) async fn reports(
        &self,
        instance: &str,
        wanted: impl Fn(&ServiceStatus) -> bool,
    ) -> ServiceStatus {
        eventually(LIMIT, || async {
            let mut newest = None;
            let key = format!("link/{}", self.instance(instance));
            self.edge
                .read_to_end(topic::SERVICE_STATUS, |record| {
                    if record.key.as_deref() == Some(key.as_bytes()) {
                        newest = record
                            .value
                            .map(|value| schemas::decode::<ServiceStatus>(&value).unwrap());
                    }
                })
                .await
                .unwrap();
            newest
                .clone()
                .filter(&wanted)
                .ok_or_else(|| format!("not reported yet, but {newest:?}"))
        })
        .await
    }

    /// Waits until an instance waits and says all of this; that another one has the lease, it may say before.
    pub(crate) async fn waits(&self, instance: &str, wanted: &[&str]) -> ServiceStatus {
        self.reports(instance, |status| {
            let said = status.detail.as_deref().unwrap_or_default();
            status.state == ServiceState::Waiting && wanted.iter().all(|wanted| said.contains(wanted))
        })
        .await
    }

    /// Waits until an instance tells an error that says this.
    pub(crate) async fn tells(&self, instance: &str, wanted: &str) {
        self.reports(instance, |status| {
            status
                .last_error
                .as_deref()
                .is_some_and(|said| said.contains(wanted))
        })
        .await;
    }

    /// Both brokers, for what is done without the service.
    pub(crate) fn sides(&self, far: Option<Far>) -> Sides {
        Sides {
            site: self.site.clone(),
            edge: self.edge.clone(),
            core: self.core.clone(),
            far,
        }
    }

    pub(crate) async fn runs(&self, instance: &str) {
        self.reports(instance, |status| status.state == ServiceState::Running)
            .await;
    }
}

pub(crate) fn record(topic: &str, number: usize) -> Outgoing {
    let mut record = Outgoing::new(
        topic,
        format!("key-{}", number % 17),
        format!("value {number}").into_bytes(),
    );
    // Kafka's retention goes by the records' own time, so it must not be long ago.
    record.timestamp = Some(common::chassis::now_ms() - 3_600_000 + i64::try_from(number).unwrap());
    // A header of its own keeps the sender from adding a trace.
    record.headers = vec![
        (
            "traceparent".into(),
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
        ),
        ("number".into(), number.to_string().into()),
    ];
    record
}

/// How many bytes of a partition a topic may keep whose records a test wants gone.
pub(crate) const KEPT: u64 = 20_000;

/// A record that is more than that: it goes, and all that was before it.
pub(crate) fn too_much(topic: &str, number: usize) -> Outgoing {
    Outgoing {
        value: Some(vec![b'x'; 30_000].into()),
        ..record(topic, number)
    }
}

pub(crate) async fn contents(broker: &Broker, topic: &str) -> BTreeMap<i32, Vec<Record>> {
    eventually(LIMIT, || async {
        let mut found: BTreeMap<i32, Vec<Record>> = BTreeMap::new();
        let visit = |record: Record| found.entry(record.partition).or_default().push(record);
        match broker.read_to_end(topic, visit).await {
            Ok(()) | Err(broker::Error::UnknownTopic { .. }) => Ok(found),
            // A topic that was made a moment ago may have no leaders yet.
            Err(error @ broker::Error::Topic { .. }) => Err(error.to_string()),
            Err(error) => panic!("{error}"),
        }
    })
    .await
}

/// Each record once, in order, byte for byte.
pub(crate) fn same(wanted: &BTreeMap<i32, Vec<Record>>, found: &BTreeMap<i32, Vec<Record>>) {
    let what = |records: &BTreeMap<i32, Vec<Record>>| {
        let of = |record: &Record| {
            (
                record.key.clone(),
                record.value.clone(),
                record.headers.clone(),
                record.timestamp,
            )
        };
        records
            .iter()
            .map(|(partition, all)| (*partition, all.iter().map(of).collect()))
            .collect::<Vec<(_, Vec<_>)>>()
    };
    assert!(
        what(wanted) == what(found),
        "other records, or another order, at the destination"
    );
}
