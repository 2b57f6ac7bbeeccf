//! The same between real brokers.

use bundle::{Since, Wish, export, import};
use std::time::Duration;

use crate::assets::arrives_whole;
use crate::kills::each_comes_once;
use crate::records::{refused_is_put_aside, the_link_is_kept_out, twice};
use crate::rig::Rig;

fn url(name: &str) -> String {
    let servers =
        std::env::var(name).unwrap_or_else(|_| panic!("{name} names a broker, as kafka://127.0.0.1:9092"));
    assert!(servers.starts_with("kafka://"), "{name}: {servers}");
    servers
}

async fn two_kafkas() -> Rig {
    Rig::between(testkit::temp_dir(), &url("KAFKA_URL"), &url("KAFKA_EDGE_URL")).await
}

async fn small_edge() -> Rig {
    let directory = testkit::temp_dir();
    let edge = testkit::sqlite(&directory.path().join("edge"), "broker.db");
    Rig::between(directory, &url("KAFKA_URL"), &edge).await
}

async fn there_and_back(rig: &Rig) {
    for round in 0..3 {
        rig.send(1000).await;
        rig.export_down().await;
        // Torn off once on the way.
        let mut stick = rig.stick();
        let work = import(&rig.edge, &mut stick, Wish::default(), &|_| {});
        drop(tokio::time::timeout(Duration::from_millis(300 * (round + 1)), work).await);
        assert_eq!(rig.import_down().await.problems, Vec::<String>::new());
        export(&rig.edge, &rig.core.site, &mut stick, &Since::Receipt, &|_| {})
            .await
            .unwrap();
        assert_eq!(rig.import_up().await.problems, Vec::<String>::new());
        rig.all_is_carried().await;
        assert_eq!(rig.import_up().await.records, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn a_session_of_the_link_that_was_under_way_is_fenced_at_a_core_on_kafka() {
    let rig = small_edge().await;
    the_link_is_kept_out(&rig).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn records_go_both_ways_between_two_kafkas() {
    let rig = two_kafkas().await;
    there_and_back(&rig).await;
    twice(&rig).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn records_go_both_ways_between_a_kafka_and_an_edge_on_its_own_broker() {
    let rig = small_edge().await;
    there_and_back(&rig).await;
    twice(&rig).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_URL"]
async fn whatever_is_torn_off_between_two_kafkas_each_record_comes_once() {
    each_comes_once(&two_kafkas().await, 6, 1500).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn whatever_is_torn_off_between_a_kafka_and_an_embedded_edge_each_record_comes_once() {
    each_comes_once(&small_edge().await, 6, 1500).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_URL"]
async fn a_record_that_a_kafka_refuses_is_put_aside_and_the_others_go_on() {
    refused_is_put_aside(&two_kafkas().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_EDGE_URL and CASSANDRA_URL"]
async fn assets_go_between_two_sites_on_kafka_and_cassandra() {
    let (core, edge) = (url("KAFKA_URL"), url("KAFKA_EDGE_URL"));
    let [core_table, edge_table] = std::array::from_fn(|_| Some(testkit::keyspace()));
    let rig = Rig::on(testkit::temp_dir(), (&core, core_table), (&edge, edge_table)).await;
    arrives_whole(&rig).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and CASSANDRA_URL"]
async fn assets_go_from_kafka_and_cassandra_to_an_edge_on_its_own_engines() {
    let directory = testkit::temp_dir();
    let edge = testkit::sqlite(&directory.path().join("edge"), "broker.db");
    let core = url("KAFKA_URL");
    let rig = Rig::on(directory, (&core, Some(testkit::keyspace())), (&edge, None)).await;
    arrives_whole(&rig).await;
}
