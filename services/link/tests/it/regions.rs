//! Links chain: edge, region, core.

use std::collections::BTreeMap;
use std::time::Duration;

use common::broker::{Broker, Outgoing, Record};
use common::schemas::topic;
use link::{Direction, Rename, Route};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use testkit::eventually;

use crate::kafka::{told, url};
use crate::rig::{LIMIT, Rig, Running, contents, record};

/// A region between a core and an edge: the region's link leads to the core, the edge's to the region.
struct Chain {
    region: Rig,
    edge: Rig,
    /// The readings of the edge, at the core.
    readings: String,
    /// What the core tells everybody, under one name everywhere.
    news: String,
}

impl Chain {
    async fn new(core: &str, region: &str, edge: &str) -> Self {
        let mut upper = Rig::new(core, region, None).await;
        let mut lower = Rig::new(region, edge, None).await;
        // Whatever an edge sends of its own goes on to the core, with the region's name before the edge's.
        upper.settings.extra_routes.push(Route {
            name: "of-edges".into(),
            direction: Direction::Up,
            topics: Vec::new(),
            pattern: Some(format!("{}\\.readings-.*", lower.site)),
            rename: Rename::Prefix,
            class: None,
            live_first: false,
        });
        // What came to the region from the core goes on to the edge.
        let news = upper.news.clone();
        lower.settings.extra_routes.push(Route {
            name: "news-of-the-core".into(),
            direction: Direction::Down,
            topics: vec![news.clone()],
            pattern: None,
            rename: Rename::Same,
            class: None,
            live_first: false,
        });
        Self {
            readings: format!("{}.{}", upper.site, lower.readings_at_core()),
            region: upper,
            edge: lower,
            news,
        }
    }

    fn start(&self) -> [Running; 2] {
        [self.region.start(), self.edge.start()]
    }

    async fn send(&self, from: usize, count: usize) {
        let sent = [
            (&self.edge.edge, self.edge.readings.as_str()),
            (&self.region.core, self.news.as_str()),
            (&self.region.core, topic::ASSET_BROADCAST),
        ];
        for (broker, topic) in sent {
            let records: Vec<Outgoing> = (from..from + count).map(|number| record(topic, number)).collect();
            broker.producer().unwrap().send_all(records).await.unwrap();
        }
    }

    async fn all_is_carried(&self) {
        let readings = (
            &self.edge.edge,
            self.edge.readings.as_str(),
            &self.region.core,
            self.readings.as_str(),
        );
        let news = (
            &self.region.core,
            self.news.as_str(),
            &self.edge.edge,
            self.news.as_str(),
        );
        for (source, topic, destination, carried) in [readings, news] {
            let wanted = values(source, topic).await;
            eventually(LIMIT, || async {
                let found = values(destination, carried).await;
                let count = |values: &BTreeMap<i32, Vec<_>>| values.values().map(Vec::len).sum::<usize>();
                if count(&found) < count(&wanted) {
                    return Err(format!("{} of {} in {carried}", count(&found), count(&wanted)));
                }
                assert!(found == wanted, "other records, or another order, in {carried}");
                Ok(())
            })
            .await;
        }
    }
}

type Kept = (Option<bytes::Bytes>, Option<bytes::Bytes>, usize, i64);

async fn values(broker: &Broker, topic: &str) -> BTreeMap<i32, Vec<Kept>> {
    let of = |record: Record| (record.key, record.value, record.headers.len(), record.timestamp);
    let found = contents(broker, topic).await.into_iter();
    found
        .map(|(partition, records)| (partition, records.into_iter().map(of).collect()))
        .collect()
}

/// Both links are let go at random moments; each record is there once, and nothing goes round.
async fn records_pass(chain: &Chain) {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for round in 0..4 {
        let running = chain.start();
        chain.send(round * 60, 60).await;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..800))).await;
        for running in running {
            running.tear().await;
        }
    }
    let running = chain.start();
    chain.all_is_carried().await;
    // Broadcasts go all the way down by the routes that every edge has.
    eventually(LIMIT, || async {
        let found = contents(&chain.edge.edge, topic::ASSET_BROADCAST).await;
        let last = b"value 239".as_slice();
        let mut records = found.values().flatten();
        if records.any(|record| record.value.as_deref() == Some(last)) {
            Ok(())
        } else {
            Err("the last broadcast is not there")
        }
    })
    .await;
    for running in running {
        running.stop().await;
    }
    let (region, edge) = (chain.region.site.as_str(), chain.edge.site.as_str());
    for (broker, wrong) in [
        (&chain.region.core, format!("{region}.{region}.")),
        (&chain.region.core, format!("{region}.{edge}.{edge}.")),
        (&chain.region.edge, format!("{edge}.{edge}.")),
        (&chain.edge.edge, format!("{region}.")),
    ] {
        let names = broker.topic_names().await.unwrap();
        assert!(
            names.iter().all(|name| !name.starts_with(&wrong)),
            "{wrong} in {names:?}"
        );
    }
    chain.all_is_carried().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_pass_a_region_once_and_in_order_both_ways() {
    let dir = testkit::temp_dir();
    let of = |file| testkit::sqlite(dir.path(), file);
    records_pass(&Chain::new(&of("core.db"), &of("region.db"), &of("edge.db")).await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_URL"]
async fn records_pass_a_region_on_kafka_between_an_embedded_edge_and_a_core_on_kafka() {
    let dir = testkit::temp_dir();
    let edge = testkit::sqlite(dir.path(), "edge.db");
    records_pass(&Chain::new(&url("KAFKA_URL"), &url("KAFKA_EDGE_URL"), &edge).await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_EDGE_URL and KAFKA_EDGE_2_URL"]
async fn records_pass_a_region_where_all_three_are_kafkas() {
    let (_edges, _told) = told().await;
    let [core, region, edge] = ["KAFKA_URL", "KAFKA_EDGE_URL", "KAFKA_EDGE_2_URL"].map(url);
    records_pass(&Chain::new(&core, &region, &edge).await).await;
}
