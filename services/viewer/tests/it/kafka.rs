//! The set-up against a real Kafka, with mutual TLS and without. `deploy/engines/engines up` starts one and says where.

use std::path::Path;

use common::broker::{Broker, Settings, TopicSpec};
use common::schemas::Topic;

use crate::core_stand_in::Core;
use crate::rig::Rig;
use crate::set_up::{fails, step, test};

#[expect(clippy::disallowed_methods, reason = "tests are told where the engines are")]
fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; make engines-up tells what to set"))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn a_kafka_lets_a_site_in_and_its_missing_topics_are_named() {
    let site = testkit::unique("edge");
    let rig = Rig::edge_named(&site, |_| ()).await;
    let core = Core::signed_by(Path::new(&env("ENGINES_TLS_CA")).parent().unwrap());
    let depot = core.depot().await;
    let secure = core.enrolment(&site, &env("KAFKA_TLS_URL"), &depot);
    let answer = test(&rig, &secure).await;
    assert_eq!(
        step(&answer, "broker", "certificate")["state"],
        "passed",
        "{answer:#}"
    );
    fails(&answer, "broker", "topics", &format!("{site}.ASSET_REQUEST"));

    let broker = Broker::open(
        &Settings::url(env("KAFKA_URL")),
        "test",
        &prometheus::Registry::new(),
    )
    .await
    .unwrap();
    let own = Topic::core_for(&testkit::site(&site));
    for topic in Topic::core().iter().chain(&own) {
        broker.create_topic(&TopicSpec::of(topic, 3, 1)).await.unwrap();
    }
    let answer = test(&rig, &secure).await;
    assert_eq!(answer["passed"], true, "{answer:#}");
    let plain = env("KAFKA_URL").replace("kafka:", "kafka+plain:");
    let answer = test(&rig, &core.enrolment(&site, &plain, &depot)).await;
    assert_eq!(answer["passed"], true, "{answer:#}");
    assert_eq!(step(&answer, "broker", "certificate")["state"], "skipped");

    // What was written to see whether it may be written is read by nobody.
    for topic in &own {
        let mut records = 0;
        broker.read_to_end(&topic.name, |_| records += 1).await.unwrap();
        assert_eq!(records, 0, "{}", topic.name);
    }
}
