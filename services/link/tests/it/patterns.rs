//! Routes that take topics up by a pattern, and partitions that are added.

use common::broker::{Broker, Outgoing, TopicSpec};
use link::{Direction, Rename, Route};
use testkit::eventually;

use crate::kafka::url;
use crate::rig::{LIMIT, Rig, contents, record};

fn pattern(name: &str, direction: Direction, pattern: String, rename: Rename) -> Route {
    Route {
        name: name.into(),
        direction,
        topics: Vec::new(),
        pattern: Some(pattern),
        rename,
        class: None,
        live_first: false,
    }
}

async fn send(broker: &Broker, topic: &str, partition: i32, count: usize) {
    let records = (0..count).map(|number| Outgoing {
        partition: Some(partition),
        ..record(topic, number)
    });
    // A client may know a topic that has just got partitions as it was.
    eventually(LIMIT, || async {
        let records: Vec<_> = records.clone().collect();
        let sent = broker.producer().unwrap().send_all(records).await;
        sent.map(drop).map_err(|error| error.to_string())
    })
    .await;
}

async fn arrive(broker: &Broker, topic: &str, partition: i32, count: usize) {
    eventually(LIMIT, || async {
        match contents(broker, topic).await.get(&partition).map_or(0, Vec::len) {
            found if found == count => Ok(()),
            found => Err(format!("{found} of {count} in {topic}/{partition}")),
        }
    })
    .await;
}

async fn topics_come_and_grow(mut rig: Rig) {
    let (iot, cmd) = (testkit::unique("iot"), testkit::unique("cmd"));
    rig.settings.extra_routes.extend([
        pattern("iot", Direction::Up, format!("{iot}-.*"), Rename::Prefix),
        pattern("commands", Direction::Down, format!("{cmd}-.*"), Rename::Strip),
    ]);
    let command = format!("{}.{cmd}-valve", rig.site);
    rig.core.create_topic(&TopicSpec::new(&command, 2)).await.unwrap();
    send(&rig.core, &command, 1, 5).await;
    let running = rig.start();
    rig.runs("one").await;
    // What was there comes down, and what is made while the link works goes up.
    arrive(&rig.edge, &format!("{cmd}-valve"), 1, 5).await;
    for name in ["a", "a.dead-letter", "b", "c"] {
        let spec = TopicSpec::new(format!("{iot}-{name}"), 2);
        rig.edge.create_topic(&spec).await.unwrap();
        send(&rig.edge, &spec.name, 1, 10).await;
    }
    let at_core = format!("{}.{iot}-a", rig.site);
    arrive(&rig.core, &at_core, 1, 10).await;
    for name in ["b", "c"] {
        arrive(&rig.core, &format!("{}.{iot}-{name}", rig.site), 1, 10).await;
    }
    // Partitions follow the source.
    rig.edge.add_partitions(&format!("{iot}-a"), 4).await.unwrap();
    send(&rig.edge, &format!("{iot}-a"), 3, 7).await;
    arrive(&rig.core, &at_core, 3, 7).await;
    assert_eq!(rig.core.describe(&at_core).await.unwrap().unwrap().partitions, 4);
    rig.send(0, 30).await;
    rig.all_is_carried().await;
    // What is gone for good is told, for nobody knows what waited in it.
    let is_told = async |name: &str| {
        rig.reports("one", |status| {
            let told = status.last_error.as_deref().unwrap_or_default();
            told.contains(name) && told.contains("is gone at this site")
        })
        .await;
    };
    let [here, away] = ["b", "c"].map(|name| format!("{iot}-{name}"));
    rig.edge.delete_topic(&here).await.unwrap();
    is_told(&here).await;
    running.stop().await;
    // Also when no link was at work.
    rig.edge.delete_topic(&away).await.unwrap();
    let running = rig.start();
    is_told(&away).await;
    running.stop().await;
    arrive(&rig.core, &at_core, 1, 10).await;
    let names = rig.core.topic_names().await.unwrap();
    assert!(
        names
            .iter()
            .all(|name| !name.ends_with(".dead-letter") || !name.contains(&iot)),
        "{names:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_fit_a_pattern_are_taken_up_without_a_restart_and_grow_with_their_source() {
    topics_come_and_grow(Rig::embedded().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_destination_will_not_keep_is_said() {
    let rig = Rig::embedded().await;
    rig.edge
        .create_topic(&TopicSpec::new(&rig.news, 3).compacted())
        .await
        .unwrap();
    let running = rig.start();
    rig.tells("one", "the newest of each key").await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_URL"]
async fn topics_that_fit_a_pattern_are_taken_up_between_two_kafkas() {
    topics_come_and_grow(Rig::new(&url("KAFKA_URL"), &url("KAFKA_EDGE_URL"), None).await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn topics_that_fit_a_pattern_are_taken_up_between_an_embedded_edge_and_kafka() {
    let dir = testkit::temp_dir();
    let edge = testkit::sqlite(dir.path(), "edge.db");
    topics_come_and_grow(Rig::new(&url("KAFKA_URL"), &edge, Some(dir)).await).await;
}
