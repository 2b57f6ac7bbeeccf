//! The same promises between real brokers, and between an embedded edge and a real core.

use crate::exactly_once::survives;
use crate::instances::one_works;
use crate::rig::Rig;

#[expect(clippy::disallowed_methods, reason = "tests are told where the engines are")]
pub(crate) fn url(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; make engines-up tells what to set"))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_URL"]
async fn records_are_carried_once_and_in_order_between_two_kafkas() {
    let rig = Rig::new(&url("KAFKA_URL"), &url("KAFKA_EDGE_URL"), None).await;
    survives(&rig, 6, 900).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn records_are_carried_once_and_in_order_between_an_embedded_edge_and_kafka() {
    let dir = testkit::temp_dir();
    let edge = testkit::sqlite(dir.path(), "edge.db");
    let rig = Rig::new(&url("KAFKA_URL"), &edge, Some(dir)).await;
    survives(&rig, 6, 900).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_URL"]
async fn of_two_links_between_two_kafkas_one_works_and_one_waits() {
    one_works(&Rig::new(&url("KAFKA_URL"), &url("KAFKA_EDGE_URL"), None).await).await;
}
