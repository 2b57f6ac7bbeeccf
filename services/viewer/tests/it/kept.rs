//! What outlives a restart, and for how long.

use std::collections::BTreeMap;

use common::broker::{Outgoing, TopicSpec};
use common::chassis::{Span, now_ms};
use common::schemas::{ServiceHistory, ServiceState, ServiceStatus, decode, topic};
use common::table::Write;
use serde_json::{Value, json};
use testkit::eventually;

use crate::edge_site::{broadcast, write};
use crate::events::Page;
use crate::rig::{LIMIT, Rig, nothing};

async fn at(rig: &Rig, url: &str, path: &str) -> Value {
    let answer = rig.http.get(format!("{url}{path}")).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200, "{path}");
    answer.json().await.unwrap()
}

/// Waits until a viewer answers as wanted.
async fn shows(rig: &Rig, url: &str, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually(LIMIT, || async {
        let answer = at(rig, url, path).await;
        if wanted(&answer) {
            Ok(answer)
        } else {
            Err(answer.to_string())
        }
    })
    .await
}

fn word(service: &str, reported_at: i64, counters: BTreeMap<String, i64>) -> ServiceStatus {
    ServiceStatus {
        service: service.into(),
        instance: "one".into(),
        state: ServiceState::Running,
        detail: None,
        last_error: None,
        last_error_at: None,
        started_at: reported_at - 60_000,
        reported_at,
        version: "1".into(),
        counters,
        gauges: BTreeMap::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_request_takes_is_told_at_the_last_rate_also_when_status_is_compacted_and_viewer_starts_anew()
{
    let rig = Rig::edge().await;
    let id = broadcast(&rig, 1, &[7; 3000]).await;
    let ready = Write::to("assets")
        .set("attempt", 1)
        .set("response", "ready")
        .set("response_attempt", 1);
    write(&rig, &id, ready).await;
    rig.shows("/api/mirror/estimate", |estimate| estimate["assets"] == 1)
        .await;
    let began = now_ms();
    for (after, bytes) in [(1_000, 0), (6_000, 10_000), (11_000, 20_000)] {
        let counters = BTreeMap::from([("bytes_received".to_owned(), bytes)]);
        rig.send(
            topic::SERVICE_STATUS,
            "mirror/one",
            &word("mirror", began + after, counters),
        )
        .await;
    }
    let known = |estimate: &Value| estimate["measured_over_s"] == 10;
    let before = rig.shows("/api/mirror/estimate", known).await;
    assert_eq!(
        (&before["seconds"], &before["bytes_per_second"], &before["as_of"]),
        (&json!(1.5), &json!(2_000.0), &json!(began + 11_000))
    );
    eventually(LIMIT, || async {
        let mut newest = 0;
        let look = |record: common::broker::Record| {
            if record.key.is_some_and(|key| key.starts_with(b"viewer/moved/")) {
                newest = decode::<ServiceHistory>(&record.value.unwrap()).unwrap().at;
            }
        };
        rig.broker
            .read_to_end(topic::SERVICE_HISTORY, look)
            .await
            .unwrap();
        if newest == began + 11_000 {
            Ok(())
        } else {
            Err(newest)
        }
    })
    .await;
    // Compaction leaves the last word alone, or nothing once the service has gone.
    rig.broker.delete_topic(topic::SERVICE_STATUS).await.unwrap();
    rig.broker
        .create_topic(&TopicSpec::new(topic::SERVICE_STATUS, 1).compacted())
        .await
        .unwrap();
    let again = rig.again().await;
    let after = shows(&rig, &again, "/api/mirror/estimate", |estimate| {
        !estimate["seconds"].is_null() && estimate["assets"] == 1
    })
    .await;
    assert_eq!(after, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_was_sent_again_waits_no_longer_and_that_is_told_and_remembered() {
    let rig = Rig::core().await;
    for name in ["readings", "readings.dead-letter"] {
        rig.broker.create_topic(&TopicSpec::new(name, 1)).await.unwrap();
    }
    rig.send(
        topic::SERVICE_STATUS,
        "table-sink/one",
        &word("table-sink", now_ms(), BTreeMap::new()),
    )
    .await;
    let mut page = Page::open(&rig, "?topics=dead_letters,audit", None).await;
    for offset in ["40", "41"] {
        let letter = Outgoing::new("readings.dead-letter", "key", b"broken".to_vec())
            .with_header("error", "it is broken")
            .with_header("service", "table-sink")
            .with_header("origin-topic", "readings")
            .with_header("origin-partition", "0")
            .with_header("origin-offset", offset);
        rig.broker.producer().unwrap().send(letter).await.unwrap();
    }
    page.until("dead_letters", |told| *told == json!({"kept": 2, "waiting": 2}))
        .await;
    let of_service = |count: i64| {
        move |all: &Value| {
            let mut services = all["services"].as_array().unwrap().iter();
            services.any(|one| one["service"] == "table-sink" && one["dead_letters"] == count)
        }
    };
    rig.shows("/api/services", of_service(2)).await;
    let path = "/api/dead-letters/readings.dead-letter/0/1/redrive";
    assert_eq!(rig.post(path, nothing()).await.0, 200);
    page.until("audit", |told| told["at"].is_number()).await;
    page.until("dead_letters", |told| *told == json!({"kept": 2, "waiting": 1}))
        .await;
    assert_eq!(rig.get("/api/status").await["dead_letters"], 1);
    rig.shows("/api/services", of_service(1)).await;
    let listed = rig.get("/api/dead-letters").await;
    let listed = listed["dead_letters"].as_array().unwrap();
    let sent =
        |offset: i64| listed.iter().find(|one| one["offset"] == offset).unwrap()["redriven_at"].is_number();
    assert!(sent(1) && !sent(0), "{listed:?}");
    let again = rig.again().await;
    shows(&rig, &again, "/api/status", |status| status["dead_letters"] == 1).await;
    shows(&rig, &again, "/api/services", of_service(1)).await;
    assert_eq!(
        rig.post("/api/dead-letters/readings.dead-letter/0/0/redrive", nothing())
            .await
            .0,
        200
    );
    let status = rig
        .shows("/api/status", |status| status["dead_letters"] == 0)
        .await;
    assert!(
        !status["problems"].to_string().contains("could not be processed"),
        "{status}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_is_kept_as_long_as_it_is_set_and_no_longer() {
    let rig = Rig::core().await;
    let brief = Rig::edge_with(|settings| settings.audit_retention = Span::seconds(3)).await;
    for rig in [&rig, &brief] {
        let mut page = Page::open(rig, "?topics=audit", None).await;
        let body = json!({"name": "sensors"});
        assert_eq!(rig.post("/api/topics", body).await.0, 201);
        page.until("audit", |told| told["at"].is_number()).await;
    }
    brief
        .shows("/api/audit", |page| page["entries"] == json!([]))
        .await;
    let kept = &rig.get("/api/audit").await["entries"][0];
    assert_eq!(
        (&kept["action"], &kept["outcome"]),
        (&json!("topic.create"), &json!("done"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn uptime_rate_and_the_last_error_of_a_service_are_those_it_told() {
    let rig = Rig::edge().await;
    let began = now_ms();
    for second in [0, 10, 20_i64] {
        let counters = BTreeMap::from([
            ("published".to_owned(), second * 3),
            ("bytes_sent".to_owned(), second * 999),
        ]);
        let status = ServiceStatus {
            last_error: Some("the core refused it".into()),
            last_error_at: Some(began - 5),
            started_at: began - 90_000,
            ..word("requester", began + second * 1000, counters)
        };
        rig.send(topic::SERVICE_STATUS, "requester/one", &status).await;
    }
    let all = rig
        .shows("/api/services", |all| {
            let mut services = all["services"].as_array().unwrap().iter();
            services.any(|one| one["service"] == "requester" && one["reported_at"] == began + 20_000)
        })
        .await;
    let mut services = all["services"].as_array().unwrap().iter();
    let one = services.find(|one| one["service"] == "requester").unwrap();
    assert_eq!(
        (&one["rate"], &one["last_error"], &one["last_error_at"]),
        (&json!(3.0), &json!("the core refused it"), &json!(began - 5))
    );
    let uptime = one["uptime_s"].as_i64().unwrap();
    assert!((90..90 + 60).contains(&uptime), "{uptime}");
}

#[tokio::test(flavor = "multi_thread")]
async fn viewer_itself_can_be_told_what_to_log_and_not_to_pause() {
    let rig = Rig::edge().await;
    rig.shows("/api/services", |all| {
        let mut services = all["services"].as_array().unwrap().iter();
        services.any(|one| one["service"] == "viewer" && one["state"] == "running")
    })
    .await;
    let (status, told) = rig
        .post("/api/services/viewer/log-level", json!({"level": "debug"}))
        .await;
    assert_eq!(
        (status, &told["desired"], &told["log_level"]),
        (200, &json!("running"), &json!("debug"))
    );
    assert_eq!(rig.post("/api/services/viewer/stop", nothing()).await.0, 409);
}
