//! The set-up against a real Kafka, with mutual TLS and without. `deploy/engines/engines up` starts one and says where.

use std::path::Path;

use common::broker::{Broker, Settings, TopicSpec};
use common::schemas::Topic;

use crate::core_stand_in::Core;
use crate::kafka_rules::{self, May, Names, On, Rule, Says};
use crate::rig::{LIMIT, Rig};
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

/// A site that is not enrolled anywhere, an enrolment for it, and its topics at the Kafka.
async fn newcomer() -> (String, Rig, String) {
    let site = testkit::unique("edge");
    let rig = Rig::edge_named(&site, |_| ()).await;
    let core = Core::signed_by(Path::new(&env("ENGINES_TLS_CA")).parent().unwrap());
    let enrolment = core.enrolment(&site, &env("KAFKA_TLS_URL"), &core.depot().await);
    let settings = Settings::url(env("KAFKA_URL"));
    let broker = Broker::open(&settings, "test", &prometheus::Registry::new())
        .await
        .unwrap();
    let own = Topic::core_for(&testkit::site(&site));
    for topic in Topic::core().iter().chain(&own) {
        broker.create_topic(&TopicSpec::of(topic, 3, 1)).await.unwrap();
    }
    (site, rig, enrolment)
}

/// Rules reach a broker a moment after they were made.
async fn rights(rig: &Rig, enrolment: &str, detail: &str, remedy: &str) {
    testkit::eventually(LIMIT, || async move {
        let answer = test(rig, enrolment).await;
        let told = step(&answer, "broker", "rights");
        let says = |field: &str, words: &str| told[field].as_str().is_some_and(|text| text.contains(words));
        if told["state"] != "failed" || !says("detail", detail) || !says("remedy", remedy) {
            return Err(format!("not {detail:?}, {remedy:?}: {told:#}"));
        }
        fails(&answer, "broker", "rights", detail);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn rights_that_a_site_lacks_are_named_with_the_rule_that_gives_them() {
    let (site, rig, enrolment) = newcomer().await;
    let server = env("KAFKA_URL").replace("kafka://", "");
    let (principal, own) = (format!("User:CN={site}"), format!("{site}."));
    let allow = |may| Rule {
        says: Says::Allow,
        principal: &principal,
        may,
        on: On::Topic,
        names: Names::Prefixed,
        name: &own,
    };
    kafka_rules::make(
        &server,
        &[
            allow(May::Read),
            allow(May::Describe),
            allow(May::DescribeConfigs),
        ],
    )
    .await;
    let rule = format!(
        "`kafka-acls --add --allow-principal {principal} --operation Write --topic {own} --resource-pattern-type prefixed`"
    );
    let all = ["ASSET_REQUEST", "ASSET_RECEIPT", "site-status", "checkpoints"].map(|name| own.clone() + name);
    rights(
        &rig,
        &enrolment,
        &format!("this site may not write {}:", all.join(", ")),
        &rule,
    )
    .await;

    // What it says is what helps.
    kafka_rules::make(&server, &[allow(May::Write)]).await;
    testkit::eventually(LIMIT, || async {
        match test(&rig, &enrolment).await {
            answer if answer["passed"] == true => Ok(()),
            answer => Err(format!("{answer:#}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn the_one_topic_that_a_rule_denies_is_named() {
    let (site, rig, enrolment) = newcomer().await;
    let server = env("KAFKA_URL").replace("kafka://", "");
    let principal = format!("User:CN={site}");
    // Where there is a rule, what no rule allows is denied.
    let own = format!("{site}.");
    let all = [On::Topic, On::TransactionalId].map(|on| Rule {
        says: Says::Allow,
        principal: &principal,
        may: May::All,
        on,
        names: Names::Prefixed,
        name: &own,
    });
    kafka_rules::make(&server, &all).await;
    // What is tried last is denied first, since one refusal hides those after it.
    let denied = [
        (
            May::Write,
            On::Topic,
            "ASSET_RECEIPT",
            "this site may not write",
            "--operation Write --topic",
        ),
        (
            May::Write,
            On::TransactionalId,
            "set-up",
            "this site may not use the transactional id",
            "--operation Write --transactional-id",
        ),
        (
            May::Read,
            On::Topic,
            "ASSET_RESPONSE",
            "this site may not read",
            "--operation Read --topic",
        ),
        (
            May::Describe,
            On::Topic,
            "ASSET_REQUEST",
            "this site may not look at",
            "--operation DescribeConfigs --topic",
        ),
    ];
    for (may, on, name, words, rule) in denied {
        let name = format!("{site}.{name}");
        let deny = Rule {
            says: Says::Deny,
            principal: &principal,
            may,
            on,
            names: Names::Literal,
            name: &name,
        };
        kafka_rules::make(&server, &[deny]).await;
        rights(&rig, &enrolment, &format!("{words} {name}:"), rule).await;
    }
}
