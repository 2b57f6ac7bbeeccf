//! The link's past, and what is told of its routes and of how long this site can wait.

use common::chassis::{Host, now_ms};
use common::control::Control;
use common::schemas::{ServiceHistory, topic};
use common::table::Write;
use serde_json::{Value, json};

use crate::edge_site::{broadcast, write};
use crate::rig::Rig;

const MINUTE: i64 = 60_000;

/// A point of the link's past, as link writes it.
async fn point(rig: &Rig, ring: &str, at: i64, figures: &[(&str, f64)]) {
    let figures = figures.iter().map(|(name, value)| ((*name).to_owned(), *value));
    let point = ServiceHistory {
        service: "link".into(),
        at,
        every_s: 60,
        figures: figures.collect(),
    };
    let key = format!("link/{ring}/{}", at / MINUTE % 1440);
    rig.send(topic::SERVICE_HISTORY, &key, &point).await;
}

fn values(list: &Value) -> Vec<f64> {
    list.as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_f64)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_of_the_link_is_told_and_is_there_after_a_restart() {
    let rig = Rig::edge().await;
    let empty = rig.get("/api/link/history").await;
    assert_eq!((&empty["span"], &empty["every_s"]), (&json!("day"), &json!(300)));
    assert_eq!(empty["at"].as_array().unwrap().len(), 288);
    assert!(values(&empty["buffer_hours"]).is_empty());
    let now = now_ms();
    for (ago, lag, bytes) in [(3, 5.0, 100.0), (2, 9.0, 150.0), (1, 4.0, 150.0)] {
        let at = now - ago * MINUTE;
        #[expect(clippy::cast_precision_loss, reason = "a test")]
        let contact = at as f64;
        let figures = [
            ("route.news.lag_records", lag),
            ("class.sensors.month_bytes", bytes),
            ("buffer_hours", 20.0 + lag),
            ("last_contact_at", contact),
        ];
        point(&rig, "minute", at, &figures).await;
        point(&rig, "quarter", at, &figures).await;
    }
    // What is none of this, and what nobody can read, changes nothing.
    point(&rig, "made", now, &[("news", 1.0)]).await;
    rig.broker
        .producer()
        .unwrap()
        .send(common::broker::Outgoing::new(
            topic::SERVICE_HISTORY,
            "link/minute/7",
            b"damaged".to_vec(),
        ))
        .await
        .unwrap();
    let hour = rig
        .shows("/api/link/history?span=hour", |hour| {
            values(&hour["routes"][0]["lag_records"]).len() == 3
        })
        .await;
    assert_eq!(hour["routes"][0]["name"], "news");
    assert_eq!(values(&hour["routes"][0]["lag_records"]), [5.0, 9.0, 4.0]);
    assert_eq!(values(&hour["buffer_hours"]), [25.0, 29.0, 24.0]);
    let mut classes = hour["classes"].as_array().unwrap().iter();
    let sensors = classes.find(|class| class["class"] == "sensors").unwrap();
    assert_eq!(values(&sensors["bytes"]), [50.0, 0.0]);
    let reached = hour["reached"].as_array().unwrap().iter();
    assert_eq!(reached.filter(|reached| **reached == json!(true)).count(), 3);
    let month = rig
        .shows("/api/link/history?span=month", |month| {
            !values(&month["buffer_hours"]).is_empty()
        })
        .await;
    assert_eq!(month["at"].as_array().unwrap().len(), 360);

    let again = rig.again().await;
    testkit::eventually(crate::rig::LIMIT, || async {
        let path = format!("{again}/api/link/history?span=hour");
        let answer: Value = rig.http.get(path).send().await.unwrap().json().await.unwrap();
        (answer["routes"] == hour["routes"])
            .then_some(())
            .ok_or_else(|| answer.to_string())
    })
    .await;
    for query in ["span=year", "span=", "span=day&span=hour", "points=1000000"] {
        let (status, said) = rig
            .answer(reqwest::Method::GET, &format!("/api/link/history?{query}"), None)
            .await;
        assert_eq!(status, 400, "{query}: {said}");
    }
    let core = Rig::core().await;
    assert_eq!(
        core.answer(reqwest::Method::GET, "/api/link/history", None)
            .await
            .0,
        404
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_say_which_way_they_go_and_the_site_how_long_it_can_wait() {
    let rig = Rig::edge().await;
    let host = Host::detached("link", "edge-1");
    let control = Control::attach(&host, &rig.broker).await.unwrap();
    host.ready();
    for (name, value) in [
        ("route.ore.up", 1.0),
        ("route.ore.lag_records", 12.0),
        ("route.ore.catch_up_seconds", 90.0),
        ("buffer_hours", 30.0),
        ("buffer.ore.hours", 30.0),
        ("buffer.ore.by", 1.0),
        ("buffer_disk_hours", 80.0),
    ] {
        control.gauge(name, value);
    }
    let link = rig
        .shows("/api/link", |link| link["limits"]["buffer"]["hours"] == 30.0)
        .await;
    let limits = &link["limits"];
    let route = &limits["routes"][0];
    assert_eq!(
        (&route["name"], &route["direction"]),
        (&json!("ore"), &json!("up"))
    );
    assert_eq!(route["catch_up_seconds"], 90.0);
    assert_eq!(
        limits["buffer"]["first"],
        json!([{"topic": "ore", "hours": 30.0, "by": "size"}, {"topic": null, "hours": 80.0, "by": "disk"}])
    );
    assert!(limits["as_of"].as_i64().unwrap() > now_ms() - MINUTE);
    host.stop().cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_mirror_moved_anything_an_estimate_goes_by_the_link_or_by_its_cap() {
    let rig = Rig::edge().await;
    let id = broadcast(&rig, 1, &[7; 6_000]).await;
    let ready = Write::to("assets")
        .set("attempt", 1)
        .set("response", "ready")
        .set("response_attempt", 1);
    write(&rig, &id, ready).await;
    let now = now_ms();
    for (ago, bytes) in [(3, 0.0), (2, 9_000.0), (1, 9_060.0)] {
        let at = now - ago * MINUTE;
        #[expect(clippy::cast_precision_loss, reason = "a test")]
        let figures = [
            ("class.broadcasts.month_bytes", bytes),
            ("last_contact_at", at as f64),
        ];
        point(&rig, "minute", at, &figures).await;
    }
    let from =
        |from: &'static str| move |estimate: &Value| estimate["rate_from"] == from && estimate["assets"] == 1;
    let told = rig.shows("/api/mirror/estimate", |estimate| {
        from("link")(estimate) && estimate["as_of"] == now - MINUTE
    });
    let told = told.await;
    assert_eq!(
        (
            &told["bytes_per_second"],
            &told["seconds"],
            &told["measured_over_s"]
        ),
        (&json!(150.0), &json!(40.0), &json!(120))
    );
    assert_eq!(
        rig.get("/api/link").await["limits"]["busiest_bytes_per_second"],
        150.0
    );
    let host = Host::detached("link", "edge-1");
    let control = Control::attach(&host, &rig.broker).await.unwrap();
    host.ready();
    control.gauge("cap", 1_000.0);
    let told = rig.shows("/api/mirror/estimate", from("cap")).await;
    assert_eq!(
        (&told["bytes_per_second"], &told["seconds"], &told["as_of"]),
        (&json!(1_000.0), &json!(6.0), &Value::Null)
    );
    host.stop().cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_is_told_with_the_link_and_among_what_is_wrong() {
    let rig = Rig::edge().await;
    let host = Host::detached("link", "edge-1");
    let control = Control::attach(&host, &rig.broker).await.unwrap();
    host.ready();
    assert!(rig.get("/api/link").await["clock"].is_null());
    control.gauge("clock_skew_ms", 190_000.0);
    control.gauge("clock_skew_within_ms", 300.0);
    let clock = json!({"ahead_ms": 190_000.0, "within_ms": 300.0});
    rig.shows("/api/link", |link| link["clock"] == clock).await;
    let status = rig.get("/api/status").await;
    let problems = status["problems"].as_array().unwrap();
    let clock = problems
        .iter()
        .find(|problem| problem["what"] == "this site's clock is 3 min ahead of headquarters'");
    assert_eq!(clock.unwrap()["severity"], "warning", "{status}");
    host.stop().cancel();
}
