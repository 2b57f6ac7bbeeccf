//! Batches stay packed as they were: neither the link nor the broker at the other side packs them anew.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::broker::{Broker, Outgoing, TopicSpec};
use common::kafka::{Cluster, FetchLimits, Fetcher, Settings, Start, Tcp};
use testkit::eventually;

use crate::kafka::url;
use crate::rig::{LIMIT, Rig, contents, record};

/// As Kafka names them, and as they are numbered in a batch.
const CODECS: [(&str, i16); 5] = [
    ("uncompressed", 0),
    ("gzip", 1),
    ("snappy", 2),
    ("lz4", 3),
    ("zstd", 4),
];
/// Of each size; the small ones may be put together on the way.
const COUNT: usize = 40;
const PROPERTY: &str = "compression.type";

fn cluster(name: &str) -> Arc<Cluster> {
    let servers = url(name);
    at(servers.strip_prefix("kafka://").unwrap())
}

pub(crate) fn at(servers: &str) -> Arc<Cluster> {
    let settings = Settings::new(servers, "test");
    Arc::new(Cluster::new(settings, Arc::new(Tcp)))
}

/// How the batches of a topic's one partition are packed, as they are stored.
async fn packed(cluster: &Arc<Cluster>, topic: &str) -> BTreeSet<i16> {
    let found = cluster.topics(&[topic]).await.unwrap().into_iter().flatten();
    let start = Start {
        topic: topic.to_owned(),
        partition: 0,
        offset: 0,
    };
    let limits = FetchLimits {
        wait: Duration::from_millis(500),
        bytes: 1 << 20,
        alone: false,
        look: None,
    };
    let topics: Vec<_> = found.collect();
    let mut fetcher = Fetcher::open(cluster, &topics, &[start], limits).await.unwrap();
    let (mut records, mut codecs) = (0, BTreeSet::new());
    let all = async {
        while records < 2 * COUNT {
            for news in fetcher.next().await.unwrap() {
                records += news.rows().unwrap().len();
                codecs.extend(news.batches.iter().map(|batch| batch.header.compression()));
            }
        }
    };
    tokio::time::timeout(LIMIT, all).await.unwrap();
    codecs
}

/// Small batches and large ones.
async fn fill(broker: &Broker, topic: &str) {
    let producer = broker.producer().unwrap();
    let one = |number: usize| Outgoing {
        value: Some(
            [b"the same again and again".repeat(9), random(number)]
                .concat()
                .into(),
        ),
        ..record(topic, number)
    };
    for number in 0..COUNT {
        producer.send(one(number)).await.unwrap();
    }
    producer
        .send_all((COUNT..2 * COUNT).map(one).collect())
        .await
        .unwrap();
}

/// Of the second half there is so much that no codec makes a batch of it small.
fn random(number: usize) -> Vec<u8> {
    let length = if number < COUNT { 10 } else { 1_000 };
    (0..length).map(|_| rand::random()).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_URL"]
async fn batches_arrive_packed_as_they_were_and_a_topic_that_is_made_packs_as_its_source() {
    let mut rig = Rig::two_kafkas().await;
    let (core, edge) = (cluster("KAFKA_URL"), cluster("KAFKA_EDGE_URL"));
    let mut topics = Vec::new();
    for (codec, number) in CODECS {
        let topic = testkit::unique(codec);
        let mut spec = TopicSpec::new(&topic, 1);
        // One that stores what it is sent, so that it shows how that was packed.
        rig.edge.create_topic(&spec).await.unwrap();
        spec.config.insert(PROPERTY.into(), codec.into());
        rig.core.create_topic(&spec).await.unwrap();
        fill(&rig.core, &topic).await;
        assert_eq!(packed(&core, &topic).await, BTreeSet::from([number]), "{codec}");
        topics.push(topic);
    }
    let made = testkit::unique("made");
    let mut spec = TopicSpec::new(&made, 1);
    spec.config.insert(PROPERTY.into(), "lz4".into());
    rig.core.create_topic(&spec).await.unwrap();
    let differs = testkit::unique("differs");
    rig.core.create_topic(&TopicSpec::new(&differs, 1)).await.unwrap();
    let mut spec = TopicSpec::new(&differs, 1);
    spec.config.insert(PROPERTY.into(), "gzip".into());
    rig.edge.create_topic(&spec).await.unwrap();
    rig.settings.extra_routes[0].topics = [&topics[..], &[made.clone(), differs.clone()]].concat();
    let running = rig.start();
    for (topic, (codec, number)) in topics.iter().zip(CODECS) {
        eventually(LIMIT, || async {
            let found: usize = contents(&rig.edge, topic).await.values().map(Vec::len).sum();
            (found == 2 * COUNT)
                .then_some(())
                .ok_or_else(|| format!("{found} of {topic}"))
        })
        .await;
        assert_eq!(packed(&edge, topic).await, BTreeSet::from([number]), "{codec}");
    }
    eventually(LIMIT, || async {
        let found = edge.properties(&[made.as_str()], &[PROPERTY]).await.unwrap();
        let found = found.first().and_then(|values| values.get(PROPERTY));
        (found.map(String::as_str) == Some("lz4"))
            .then_some(())
            .ok_or_else(|| format!("{found:?}"))
    })
    .await;
    let wanted = format!("{differs} stores records gzip and {differs} producer");
    rig.tells("one", &wanted).await;
    running.stop().await;
}
