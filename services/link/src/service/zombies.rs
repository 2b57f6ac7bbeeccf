//! An instance that has lost its lease and does not know it, with a topic in another class than the new one has it in.

use std::collections::BTreeMap;
use std::time::Duration;

use common::broker::{Outgoing, Record};
use common::chassis::{HostSettings, Service as _};
use common::schemas::Topic;
use common::telemetry::Telemetry;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use testkit::eventually;

use super::*;
use crate::routes::{Rename, Route};
use crate::session::Session;
use crate::trouble::Trouble;

const LIMIT: Duration = Duration::from_secs(60);

#[expect(clippy::disallowed_methods, reason = "tests are told where the engines are")]
fn url(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; make engines-up tells what to set"))
}

/// An edge on its embedded broker, of whose links there may be several.
struct Edge {
    site: SiteId,
    broker: Broker,
    core: Broker,
    settings: Settings,
    _directory: testkit::TempDir,
}

impl Edge {
    async fn new() -> Self {
        let directory = testkit::temp_dir();
        let site: SiteId = testkit::unique("edge").parse().unwrap();
        let mut settings = Settings {
            broker: broker::Settings::url(testkit::sqlite(directory.path(), "edge.db")),
            core: broker::Settings::url(url("KAFKA_URL")),
            ..Settings::default()
        };
        settings.extra_routes = vec![Route {
            name: "readings".into(),
            direction: Direction::Up,
            topics: vec!["readings".into()],
            pattern: None,
            rename: Rename::Prefix,
            class: None,
            live_first: false,
        }];
        let open = async |settings| {
            Broker::open(settings, "test", &prometheus::Registry::new())
                .await
                .unwrap()
        };
        let (broker, core) = (open(&settings.broker).await, open(&settings.core).await);
        broker.create_topic(&TopicSpec::new("readings", 1)).await.unwrap();
        for topic in Topic::edge(&site) {
            let spec = TopicSpec::new(&topic.name, topic.partitions.unwrap_or(1));
            broker
                .create_topic(&if topic.compacted { spec.compacted() } else { spec })
                .await
                .unwrap();
        }
        let checkpoints = TopicSpec::new(at_core(&site, topic::CHECKPOINTS), 1).compacted();
        core.create_topic(&checkpoints).await.unwrap();
        core.create_topic(&TopicSpec::new(at_core(&site, "readings"), 1))
            .await
            .unwrap();
        Self {
            site,
            broker,
            core,
            settings,
            _directory: directory,
        }
    }

    /// A link that has just got the lease, and has the readings in this class.
    async fn link(&self, class: Class) -> Instance {
        let mut settings = self.settings.clone();
        settings.extra_routes[0].class = Some(class);
        let host = HostSettings {
            site: self.site.to_string(),
            instance: Some(format!("{class}-{}", rand::random::<u32>())),
            ..HostSettings::default()
        };
        let host = Host::new("link", host, Telemetry::detached(), Stop::new());
        let mut link = Link::build(settings, &host).await.unwrap();
        link.holder = holder::anew();
        let kept = Kept::default();
        Instance { link, kept }
    }

    async fn send(&self, from: usize, count: usize) {
        let record = |number: usize| {
            let mut record = Outgoing::new("readings", "key", number.to_string().into_bytes());
            record.headers = vec![("traceparent".into(), "none".into())];
            record
        };
        let records = (from..from + count).map(record).collect();
        self.broker.producer().unwrap().send_all(records).await.unwrap();
    }

    /// The numbers at the core, in their order.
    async fn carried(&self) -> Vec<usize> {
        let mut found = Vec::new();
        let take = |record: Record| {
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            found.push(value.parse().unwrap());
        };
        let topic = at_core(&self.site, "readings");
        self.core.read_to_end(&topic, take).await.unwrap();
        found
    }

    /// Waits until all are there, and fails when one is there twice or out of order.
    async fn all(&self, count: usize) {
        eventually(LIMIT, || async {
            let found = self.carried().await;
            assert!(
                found.iter().copied().eq(0..found.len()),
                "twice or out of order: {:?}",
                wrong(&found)
            );
            (found.len() == count)
                .then_some(())
                .ok_or_else(|| format!("{} of {count}", found.len()))
        })
        .await;
    }
}

/// The numbers that are not there just once.
fn wrong(found: &[usize]) -> BTreeMap<usize, usize> {
    let mut counts = BTreeMap::new();
    for number in found {
        *counts.entry(*number).or_default() += 1;
    }
    counts.retain(|_, count| *count > 1);
    counts
}

/// One of an edge's links.
struct Instance {
    link: Link,
    kept: Kept,
}

impl Instance {
    async fn alone(&self, stop: &Stop) -> bool {
        self.link.alone(Direction::Up, &self.kept, stop).await
    }

    fn readings(&self) -> Carrier {
        let mut lanes = self.link.lanes.iter();
        let lane = lanes.find(|lane| lane.source == "readings").unwrap();
        let mut carrier = self.link.carrier(
            Direction::Up,
            Some(lane.class),
            [lane.clone()].into_iter(),
            (&Bell::default(), &Paths::default(), &self.kept),
        );
        carrier.lanes = carrier.all.clone();
        carrier
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn session_of_an_instance_that_lost_its_lease_carries_nothing_whenever_it_began() {
    let edge = Edge::new().await;
    let (old, stop) = (edge.link(Class::Sensors).await, Stop::new());
    assert!(old.alone(&stop).await);
    let (before, trouble) = (old.readings(), Trouble::default());
    let mut session = Session::open(&before, &trouble).await.unwrap();
    let new = edge.link(Class::Previews).await;
    assert!(new.alone(&stop).await);
    edge.send(0, 50).await;
    // What began before is fenced, though its class is nobody's any more; what begins now is told by the mark.
    let ended = session.carry(&mut Trouble::default(), &stop).await;
    assert!(ended.unwrap_err().fenced());
    let after = old.readings();
    assert!(Session::open(&after, &trouble).await.unwrap_err().fenced());
    assert_eq!(edge.carried().await, Vec::<usize>::new());
    let carries = tokio::spawn(new.readings().run(stop.clone()));
    edge.all(50).await;
    // Nor does it carry when it comes back later, and the new one goes on.
    assert!(Session::open(&after, &trouble).await.unwrap_err().fenced());
    assert_eq!(old.readings().run(stop.clone()).await, Err(Fenced));
    edge.send(50, 50).await;
    edge.all(100).await;
    stop.cancel();
    carries.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
#[expect(clippy::print_stdout, reason = "to be tried again")]
async fn nothing_comes_twice_from_a_zombie_that_has_a_topic_in_another_class() {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let edge = Edge::new().await;
    let stop = Stop::new();
    let classes = [Class::Sensors, Class::Previews];
    let (mut sent, mut zombie) = (0, edge.link(classes[1]).await);
    assert!(zombie.alone(&stop).await);
    for round in 0..8 {
        let new = edge.link(classes[round % 2]).await;
        let waits = random.random_range(0..300);
        let mut carries = JoinSet::new();
        let takes = async {
            tokio::time::sleep(Duration::from_millis(waits)).await;
            assert!(new.alone(&stop).await);
            // Fenced by a zombie, it would get the lease again.
            carries.spawn(new.readings().run(stop.clone()));
        };
        let lives: Vec<u64> = (0..12).map(|_| random.random_range(5..150)).collect();
        let haunts = async {
            for life in lives {
                // One session after the other begins, as after errors, and is torn off.
                let haunts = tokio::spawn(zombie.readings().run(stop.clone()));
                tokio::time::sleep(Duration::from_millis(life)).await;
                haunts.abort();
                drop(haunts.await);
            }
        };
        let sends = async {
            for _ in 0..20 {
                edge.send(sent, 10).await;
                sent += 10;
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
        };
        tokio::join!(takes, haunts, sends);
        edge.all(sent).await;
        carries.shutdown().await;
        zombie = new;
    }
}
