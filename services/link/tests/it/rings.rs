//! No ring of sites carries a record round: the route that would close it is refused, and named.

use std::collections::BTreeSet;
use std::time::Duration;

use common::broker::{Broker, Outgoing, Record, TopicSpec};
use common::schemas::{self, LinkPath, topic};
use link::{Direction, Rename, Route};
use testkit::eventually;
use tokio::time::Instant;

use crate::kafka::url;
use crate::rig::{LIMIT, Rig, Running, contents, record};

/// Longer than two looks at what others tell.
const STABLE: Duration = Duration::from_secs(3);
/// What must not go round.
const ROUND: &str = "would go round for ever";

/// Sites, each of which has the next one for a core, and the last one the first.
struct Ring {
    links: Vec<Rig>,
    topic: String,
}

fn down(topic: &str) -> Route {
    Route {
        name: "round".into(),
        direction: Direction::Down,
        topics: vec![topic.into()],
        pattern: None,
        rename: Rename::Same,
        class: None,
        live_first: false,
    }
}

impl Ring {
    async fn new(brokers: &[String]) -> Self {
        let topic = testkit::unique("round");
        let mut links = Vec::new();
        for (at, edge) in brokers.iter().enumerate() {
            let core = &brokers[(at + 1) % brokers.len()];
            let mut rig = Rig::new(core, edge, None).await;
            rig.settings.extra_routes = vec![down(&topic)];
            rig.edge.create_topic(&TopicSpec::new(&topic, 1)).await.unwrap();
            links.push(rig);
        }
        Self { links, topic }
    }

    async fn send(&self, at: usize, number: usize) {
        let record = record(&self.topic, number);
        let producer = self.links[at].edge.producer().unwrap();
        producer.send_all(vec![record]).await.unwrap();
    }

    /// How often each of these numbers is at a site.
    async fn count(&self, at: usize, numbers: usize) -> Vec<usize> {
        let found = contents(&self.links[at].edge, &self.topic).await;
        let of = |number: usize| {
            let value = format!("value {number}");
            let mut records = found.values().flatten();
            let mut count = 0;
            while records.any(|record| record.value.as_deref() == Some(value.as_bytes())) {
                count += 1;
            }
            count
        };
        (0..numbers).map(of).collect()
    }

    /// Waits until a site has these numbers so often.
    async fn has(&self, at: usize, wanted: &[usize]) {
        eventually(LIMIT, || async {
            let found = self.count(at, wanted.len()).await;
            assert!(
                found.iter().zip(wanted).all(|(found, wanted)| found <= wanted),
                "site {at}: {found:?}"
            );
            (found == wanted)
                .then_some(())
                .ok_or_else(|| format!("site {at}: {found:?}, not {wanted:?}"))
        })
        .await;
    }

    /// Waits until the first site's broker tells of the whole way that the topic has come, through so many others.
    async fn knows(&self, hops: usize) {
        let first = &self.links[0];
        let key = format!("{}/{}", first.site, self.topic);
        eventually(LIMIT, || async {
            let mut told = 0;
            let take = |record: Record| {
                if record.key.as_deref() == Some(key.as_bytes()) {
                    let path = record
                        .value
                        .map(|value| schemas::decode::<LinkPath>(&value).unwrap());
                    told = path.map_or(0, |path| path.hops.len());
                }
            };
            first.edge.read_to_end(topic::LINK_PATHS, take).await.unwrap();
            (told == hops)
                .then_some(())
                .ok_or_else(|| format!("{told} of {hops} hops are told"))
        })
        .await;
    }

    /// Takes back what these sites have told, which there will be no more, at brokers that other tests use too.
    async fn forget(sites: &[(String, Broker)]) {
        for (site, broker) in sites {
            let mut keys = BTreeSet::new();
            let take = |record: Record| {
                let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
                if key.starts_with(&format!("{site}/")) {
                    keys.insert(key);
                }
            };
            broker.read_to_end(topic::LINK_PATHS, take).await.unwrap();
            let gone = keys
                .into_iter()
                .map(|key| Outgoing::tombstone(topic::LINK_PATHS, key));
            broker.producer().unwrap().send_all(gone.collect()).await.unwrap();
        }
    }

    /// Waits until a link says that it refuses the route.
    async fn refuses(&self, at: usize) -> String {
        let rig = &self.links[at];
        let wanted = format!("{} {ROUND}", self.topic);
        let status = rig
            .reports("one", |status| {
                status
                    .detail
                    .as_deref()
                    .is_some_and(|detail| detail.contains(&wanted))
            })
            .await;
        status.detail.unwrap()
    }
}

/// All links but the last one work already when that begins: it is refused, and the others go on.
async fn last_one_is_refused(ring: Ring) {
    let last = ring.links.len() - 1;
    let mut running: Vec<Running> = Vec::new();
    for (at, rig) in ring.links[..last].iter().enumerate() {
        running.push(rig.start());
        ring.send(at + 1, at).await;
        ring.has(at, &vec![1; at + 1]).await;
    }
    ring.knows(last).await;
    running.push(ring.links[last].start());
    let said = ring.refuses(last).await;
    let sites: Vec<&str> = (0..=last).rev().map(|at| ring.links[at].site.as_str()).collect();
    let way = format!("{} → {}", sites.join(" → "), sites[0]);
    assert!(said.contains(&way), "{way} in {said}");
    // What the last one has goes to all others, once.
    let number = last;
    ring.send(last, number).await;
    for at in 0..last {
        // Each was sent behind the site that it is named after, and goes to all before that.
        let mut wanted: Vec<usize> = (0..number).map(|sent| usize::from(sent + 1 >= at)).collect();
        wanted.push(1);
        ring.has(at, &wanted).await;
    }
    assert_eq!(ring.count(last, number + 1).await[number], 1);
    // One gives the route up: the ring is open, and the last one carries.
    let mut opened = ring;
    let first = running.remove(0);
    first.stop().await;
    opened.links[0].settings.extra_routes.clear();
    running.push(opened.links[0].start());
    opened.send(0, number + 1).await;
    eventually(LIMIT, || async {
        match opened.count(last, number + 2).await.last() {
            Some(1) => Ok(()),
            found => Err(format!("{found:?} of the newest at the last site")),
        }
    })
    .await;
    for running in running {
        running.stop().await;
    }
}

/// The same at brokers that other tests use too.
async fn last_one_is_refused_there(brokers: &[String]) {
    let ring = Ring::new(brokers).await;
    let sites = ring
        .links
        .iter()
        .map(|rig| (rig.site.to_string(), rig.edge.clone()));
    let sites: Vec<_> = sites.collect();
    let done = tokio::spawn(last_one_is_refused(ring)).await;
    Ring::forget(&sites).await;
    done.unwrap();
}

fn files(count: usize) -> (testkit::TempDir, Vec<String>) {
    let dir = testkit::temp_dir();
    let file = |at: usize| testkit::sqlite(dir.path(), &format!("{at}.db"));
    let files = (0..count).map(file).collect();
    (dir, files)
}

#[tokio::test(flavor = "multi_thread")]
async fn ring_of_two_sites_is_refused() {
    let (_dir, files) = files(2);
    last_one_is_refused(Ring::new(&files).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ring_of_three_sites_is_refused() {
    let (_dir, files) = files(3);
    last_one_is_refused(Ring::new(&files).await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_URL"]
async fn ring_of_two_kafkas_is_refused() {
    last_one_is_refused_there(&[url("KAFKA_URL"), url("KAFKA_EDGE_URL")]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_URL"]
async fn ring_through_two_kafkas_and_a_small_site_is_refused() {
    let (_dir, files) = files(1);
    // The core of a site that has its own broker only in its process cannot be elsewhere: it closes no ring of its own.
    let brokers = [url("KAFKA_URL"), url("KAFKA_EDGE_URL"), files[0].clone()];
    last_one_is_refused_there(&brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_links_that_begin_at_one_moment_one_gives_way() {
    let (_dir, files) = files(3);
    let ring = Ring::new(&files).await;
    let running: Vec<Running> = ring.links.iter().map(Rig::start).collect();
    let refusing = async || {
        let mut refusing = Vec::new();
        for (at, rig) in ring.links.iter().enumerate() {
            let mut newest = None;
            let key = format!("link/{}", rig.instance("one"));
            let keep = |record: Record| {
                if record.key.as_deref() == Some(key.as_bytes()) {
                    newest = record
                        .value
                        .map(|value| schemas::decode::<schemas::ServiceStatus>(&value).unwrap());
                }
            };
            rig.edge.read_to_end(topic::SERVICE_STATUS, keep).await.unwrap();
            let detail = newest.and_then(|status| status.detail).unwrap_or_default();
            if detail.contains(&format!("{} {ROUND}", ring.topic)) {
                refusing.push(at);
            }
        }
        refusing
    };
    // The same one at two looks of each link and more; before, one may have looked that has not heard of all.
    let last = eventually(LIMIT, || async {
        let until = Instant::now() + STABLE;
        let first = refusing().await;
        let &[one] = &first[..] else {
            return Err(format!("{first:?} refuse"));
        };
        while Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = refusing().await;
            if now != first {
                return Err(format!("{first:?} refused, now {now:?}"));
            }
        }
        Ok(one)
    })
    .await;
    // What the one that refuses has goes to all others, once.
    ring.send(last, 0).await;
    for at in 0..3 {
        ring.has(at, &[1]).await;
    }
    for running in running {
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sites_that_are_each_others_core_exchange_topics_that_do_not_go_round() {
    let (_dir, files) = files(2);
    let mut ring = Ring::new(&files).await;
    // Each brings the other's down, under the same name, and sends its own up.
    let own: Vec<String> = ["from-0", "from-1"].map(testkit::unique).to_vec();
    for (at, rig) in ring.links.iter_mut().enumerate() {
        rig.edge.create_topic(&TopicSpec::new(&own[at], 1)).await.unwrap();
        let up = Route {
            name: "up".into(),
            direction: Direction::Up,
            rename: Rename::Prefix,
            ..down(&own[at])
        };
        rig.settings.extra_routes = vec![down(&own[1 - at]), up];
    }
    let running: Vec<Running> = ring.links.iter().map(Rig::start).collect();
    for (at, rig) in ring.links.iter().enumerate() {
        let sent = (0..10).map(|number| record(&own[at], number)).collect();
        rig.edge.producer().unwrap().send_all(sent).await.unwrap();
    }
    for (at, rig) in ring.links.iter().enumerate() {
        arrives(&rig.core, &own[at], 10).await;
        arrives(&rig.core, &format!("{}.{}", rig.site, own[at]), 10).await;
    }
    for running in running {
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_ways_from_one_core_to_one_site_are_no_ring() {
    let (_dir, files) = files(4);
    let topic = testkit::unique("diamond");
    let mut links = Vec::new();
    // A core, two regions, and a site that has a link to either: one brings the topic, the other what its region has of
    // its own, and sends up what has come down.
    for (core, edge) in [(0, 1), (0, 2), (1, 3), (2, 3)] {
        let mut rig = Rig::new(&files[core], &files[edge], None).await;
        rig.core.create_topic(&TopicSpec::new(&topic, 1)).await.unwrap();
        rig.settings.extra_routes = vec![down(&topic)];
        links.push(rig);
    }
    let own = testkit::unique("own");
    links[3]
        .core
        .create_topic(&TopicSpec::new(&own, 1))
        .await
        .unwrap();
    links[3].settings.extra_routes = vec![down(&own)];
    let running: Vec<Running> = links.iter().map(Rig::start).collect();
    for (broker, topic) in [(&links[0].core, &topic), (&links[3].core, &own)] {
        let sent = (0..10).map(|number| record(topic, number)).collect();
        broker.producer().unwrap().send_all(sent).await.unwrap();
    }
    for rig in &links[..3] {
        arrives(&rig.edge, &topic, 10).await;
    }
    arrives(&links[3].edge, &own, 10).await;
    for running in running {
        running.stop().await;
    }
}

async fn arrives(broker: &Broker, topic: &str, count: usize) {
    eventually(LIMIT, || async {
        let found: usize = contents(broker, topic).await.values().map(Vec::len).sum();
        assert!(found <= count, "{found} of {count} in {topic}");
        (found == count)
            .then_some(())
            .ok_or_else(|| format!("{found} of {count} in {topic}"))
    })
    .await;
}
