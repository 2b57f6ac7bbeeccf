//! The set-up against a real Kafka, with mutual TLS and without. `deploy/engines/engines up` starts one and says where.

use std::path::Path;

use common::broker::{Broker, Settings, TopicSpec};
use common::identity::{KafkaNeeds, kafka_principal};
use common::schemas::Topic;
use serde_json::Value;
use testkit::kafka_acls;

use crate::core_stand_in::Core;
use crate::rig::{LIMIT, Rig};
use crate::set_up::{fails, step, test};

#[expect(clippy::disallowed_methods, reason = "tests are told where the engines are")]
fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; make engines-up tells what to set"))
}

/// What lets a site do all that it needs.
fn rules(site: &str) -> Vec<String> {
    let site = testkit::site(site);
    let rules = KafkaNeeds::default().rules(&site, &kafka_principal(&site));
    rules.iter().map(ToString::to_string).collect()
}

/// Rules reach a broker a moment after they were made.
async fn once(rig: &Rig, enrolment: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    testkit::eventually(LIMIT, || async {
        let answer = test(rig, enrolment).await;
        wanted(&answer)
            .then(|| answer.clone())
            .ok_or_else(|| format!("{answer:#}"))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn a_kafka_lets_a_site_in_and_its_missing_topics_are_named() {
    let site = testkit::unique("edge");
    let rig = Rig::edge_named(&site, |_| ()).await;
    let core = Core::signed_by(Path::new(&env("ENGINES_TLS_CA")).parent().unwrap());
    let depot = core.depot().await;
    let secure = core.enrolment(&site, &env("KAFKA_TLS_URL"), &depot);
    kafka_acls::run(&env("KAFKA_URL"), &rules(&site)).await;
    let answer = once(&rig, &secure, |answer| {
        step(answer, "broker", "rights")["state"] == "passed"
    })
    .await;
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

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn rights_that_a_site_lacks_are_named_with_the_rule_that_gives_them() {
    let (site, rig, enrolment) = newcomer().await;
    let (principal, own) = (format!("User:CN={site}"), format!("{site}."));
    // Nothing is let; whoever does what is said each time gets there.
    let mut told = Vec::new();
    let passed = loop {
        let answer = test(&rig, &enrolment).await;
        if answer["passed"] == true {
            break answer;
        }
        let rights = step(&answer, "broker", "rights");
        fails(&answer, "broker", "rights", "this site may not");
        let text = |field: &str| rights[field].as_str().unwrap().to_owned();
        let (detail, remedy) = (text("detail"), text("remedy"));
        let commands: Vec<_> = remedy
            .split('`')
            .filter(|words| words.starts_with("kafka-acls"))
            .collect();
        assert!(!commands.is_empty(), "{remedy}");
        kafka_acls::run(&env("KAFKA_URL"), &commands).await;
        assert!(
            remedy.contains(&format!("`fieldline site rules {site}`")),
            "{remedy}"
        );
        told.push(format!("{detail}\n{remedy}"));
        assert!(told.len() < 60, "{told:#?}");
    };
    let said = |words: &str| assert!(told.iter().any(|told| told.contains(words)), "{words}: {told:#?}");
    let all = ["ASSET_REQUEST", "ASSET_RECEIPT", "site-status", "checkpoints"].map(|name| own.clone() + name);
    said(&format!("this site may not write {}:", all.join(", ")));
    said(&format!(
        "this site may not use the transactional id {own}set-up:"
    ));
    said("this site may not look at ASSET_BROADCAST, ");
    said(&format!(
        "`kafka-acls --add --allow-principal {principal} --operation Write --topic {own} --resource-pattern-type prefixed`"
    ));
    said("this site may not read as group link.reader:");
    said("--operation Read --topic link-paths`");

    // Topics of its own are more than every site needs.
    const MAKES: &str = "headquarters makes a topic for";
    let detail = |answer: &Value| step(answer, "broker", "rights")["detail"].to_string();
    assert!(detail(&passed).contains(MAKES), "{passed:#}");
    kafka_acls::run(&env("KAFKA_URL"), &rules(&site)).await;
    once(&rig, &enrolment, |answer| !detail(answer).contains(MAKES)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn the_one_topic_that_a_rule_denies_is_named() {
    let (site, rig, enrolment) = newcomer().await;
    kafka_acls::run(&env("KAFKA_URL"), &rules(&site)).await;
    once(&rig, &enrolment, |answer| answer["passed"] == true).await;
    // What is tried last is denied first, since one refusal hides those after it.
    let denied = [
        (
            "Write --topic",
            "ASSET_RECEIPT",
            "this site may not write",
            "Write --topic",
        ),
        (
            "Write --transactional-id",
            "set-up",
            "this site may not use the transactional id",
            "Write --transactional-id",
        ),
        (
            "Read --topic",
            "ASSET_RESPONSE",
            "this site may not read",
            "Read --topic",
        ),
        (
            "Describe --topic",
            "ASSET_REQUEST",
            "this site may not look at",
            "DescribeConfigs --topic",
        ),
    ];
    for (denied, name, words, helps) in denied {
        let name = format!("{site}.{name}");
        let deny = format!("kafka-acls --add --deny-principal User:CN={site} --operation {denied} {name}");
        kafka_acls::run(&env("KAFKA_URL"), &[deny]).await;
        let says = |answer: &Value, field: &str, words: &str| {
            let said = &step(answer, "broker", "rights")[field];
            said.as_str().is_some_and(|said| said.contains(words))
        };
        let words = format!("{words} {name}:");
        let answer = once(&rig, &enrolment, |answer| {
            says(answer, "detail", &words) && says(answer, "remedy", helps)
        })
        .await;
        fails(&answer, "broker", "rights", &words);
    }
}
