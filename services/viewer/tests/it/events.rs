//! What happens is told to who listens, in order, and again to who comes back.

use std::time::Duration;

use common::chassis::{Host, now_ms};
use common::control::Control;
use common::schemas::{AssetResponse, Outcome, RequestId, ServiceState, ServiceStatus, at_core, topic};
use common::table::Write;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use testkit::asset_id;

use crate::edge_site::{broadcast, write};
use crate::rig::{LIMIT, Rig, nothing};

/// A page that listens.
pub(crate) struct Page {
    response: Response,
    text: String,
    id: String,
}

impl Page {
    pub(crate) async fn open(rig: &Rig, query: &str, last: Option<&str>) -> Self {
        let mut request = rig.http.get(format!("{}/api/events{query}", rig.url));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut page = Self {
            response,
            text: String::new(),
            id: String::new(),
        };
        let (name, hello) = page.next().await;
        assert_eq!(name, "hello");
        assert!(hello["epoch"].is_string() && hello["now"].is_number());
        page
    }

    /// The next event.
    async fn next(&mut self) -> (String, Value) {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| {
                    event
                        .lines()
                        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
                        .map(str::to_owned)
                };
                if let Some(id) = field("id") {
                    self.id = id;
                }
                let Some(name) = field("event") else { continue };
                return (name, serde_json::from_str(&field("data").unwrap()).unwrap());
            }
            let chunk = tokio::time::timeout(LIMIT, self.response.chunk()).await;
            let chunk = chunk
                .expect("an event comes")
                .unwrap()
                .expect("the stream goes on");
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The next event of a kind that is as wanted.
    pub(crate) async fn until(&mut self, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let (name, data) = self.next().await;
            if name == kind && wanted(&data) {
                return data;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn assets_that_change_are_told_with_the_counts_of_all_and_again_to_who_comes_back() {
    let rig = Rig::edge().await;
    rig.shows("/api/assets", |_| true).await;
    let mut page = Page::open(&rig, "?topics=assets", None).await;
    let first = page.id.clone();
    let id = broadcast(&rig, 1, b"12345").await;
    let told = page.until("assets", |_| true).await;
    assert_eq!(told["assets"][0]["asset_id"], json!(id.as_str()));
    assert_eq!(told["by_state"], json!({"available": 1}));
    let (status, _) = rig.post(&format!("/api/assets/{id}/request"), nothing()).await;
    assert_eq!(status, 200);
    let told = page
        .until("assets", |told| told["assets"][0]["state"] == "requesting")
        .await;
    assert_eq!(told["assets"][0], rig.get(&format!("/api/assets/{id}")).await);
    // As EventSource does after the line was cut.
    let mut back = Page::open(&rig, "?topics=assets", Some(&first)).await;
    back.until("assets", |told| told["assets"][0]["state"] == "available")
        .await;
    back.until("assets", |told| told["assets"][0]["state"] == "requesting")
        .await;
    let mut lost = Page::open(&rig, "?after=1-1", None).await;
    assert_eq!(lost.next().await.0, "reset");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_falls_silent_is_told_so_by_the_servers_own_clock() {
    let rig = Rig::edge().await;
    let mut page = Page::open(&rig, "?topics=services,link", None).await;
    let mut problems = Page::open(&rig, "?topics=problems", None).await;
    let word = |reported_at: i64| ServiceStatus {
        service: "link".into(),
        instance: "one".into(),
        state: ServiceState::Running,
        detail: None,
        last_error: None,
        last_error_at: None,
        started_at: now_ms() - 5_000,
        reported_at,
        version: "1".into(),
        counters: Default::default(),
        gauges: [
            ("last_contact_at".to_owned(), 1.0),
            ("lag_records_up".to_owned(), 4.0),
        ]
        .into(),
    };
    let is = |state: &'static str| {
        move |told: &Value| {
            let mut services = told["services"].as_array().unwrap().iter();
            services.any(|service| service["service"] == "link" && service["state"] == state)
        }
    };
    // It said so a while ago, and the rest is waited for; where that was too long for a machine that has too much to do, it
    // speaks again.
    let (mut said, mut took) = (0, i64::MAX);
    for ago in [5_000, 0, 0, 0] {
        said = now_ms() - ago;
        rig.send(topic::SERVICE_STATUS, "link/one", &word(said)).await;
        let running = page.until("services", is("running"));
        let Ok(running) = tokio::time::timeout(Duration::from_secs(9), running).await else {
            continue;
        };
        let link = &running["services"][0];
        assert_eq!((&link["lag"], &link["dead_letters"]), (&json!(4.0), &json!(0)));
        assert!(link["uptime_s"].as_i64() >= Some(5));
        page.until("services", is("silent")).await;
        took = now_ms() - said;
        if took < 10_000 {
            break;
        }
    }
    assert!(took < 10_000, "within ten seconds of its last word: {took}");
    let told = problems
        .until("problems", |told| {
            told["problems"].to_string().contains("says nothing")
        })
        .await;
    // No button of a page starts a process, so it is said where that is done.
    assert!(told.to_string().contains("start link on its machine"), "{told}");
    let shown = rig.get("/api/link").await;
    assert_eq!(
        (&shown["state"], &shown["down_since"], &shown["lag"]["up"]),
        (&json!("down"), &json!(1), &json!(4.0))
    );
    // With nothing to tell it says so, or nobody could know a quiet line from a dead one.
    let beat = tokio::time::timeout(LIMIT, page.until("beat", |_| true)).await;
    assert!(beat.expect("a beat comes")["now"].as_i64() > Some(said));
    let back = Page::open(&rig, "?topics=volume", Some(&page.id)).await;
    assert_eq!(back.id, page.id, "it goes on behind the beat");
}

#[tokio::test(flavor = "multi_thread")]
async fn core_tells_lanes_and_answers() {
    let rig = Rig::core().await;
    let certificate = "a".repeat(64);
    let edge = json!({"site": "edge-1", "certificate_sha256": certificate});
    assert_eq!(rig.post("/api/sites", edge).await.0, 201);
    rig.shows("/api/lanes", |_| true).await;
    let mut page = Page::open(&rig, "", None).await;
    let asset = testkit::announced(1, "http://x/");
    rig.send(topic::ASSET_PIPELINE, asset.asset_id.as_str(), &asset)
        .await;
    let told = page
        .until("lanes", |told| told["lanes"]["feed"][0].is_object())
        .await;
    let passed = &told["lanes"]["feed"][0];
    assert_eq!(
        (&passed["lane"], &passed["asset_id"], &passed["state"]),
        (
            &json!("feed"),
            &json!(asset.asset_id.as_str()),
            &json!("announced")
        )
    );
    let site = testkit::site("edge-1");
    let row = Write::to("deliveries")
        .set("asset_id", asset.asset_id.as_str())
        .set("site", "edge-1")
        .set("attempt", 1)
        .set("outcome", "ready");
    rig.table.upsert(row).await.unwrap();
    let answer = AssetResponse {
        request_id: RequestId::new(&site, &asset.asset_id, 1),
        asset_id: asset.asset_id.clone(),
        attempt: 1,
        outcome: Outcome::Ready,
        reason: None,
        responded_at: 7,
    };
    rig.send(
        &at_core(&site, topic::ASSET_RESPONSE),
        asset.asset_id.as_str(),
        &answer,
    )
    .await;
    let told = page.until("requests", |_| true).await;
    assert_eq!(told["requests"][0]["outcome"], "ready");
    let lanes = rig
        .shows("/api/lanes", |lanes| lanes["lanes"]["responder"][0].is_object())
        .await;
    let passed = &lanes["lanes"]["responder"][0];
    assert_eq!(
        (&passed["site"], &passed["state"], &passed["title"], &passed["at"]),
        (&json!("edge-1"), &json!("ready"), &json!(asset.title), &json!(7))
    );
    assert_eq!(rig.get("/api/sites").await["sites"][0]["site"], "edge-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_that_are_added_changed_or_removed_are_told() {
    let rig = Rig::core().await;
    let mut page = Page::open(&rig, "?topics=users", None).await;
    rig.user("field").await;
    page.until("users", |told| told["at"].is_number()).await;
    let disabled = json!({"disabled": true});
    assert_eq!(rig.post("/api/users/field", disabled).await.0, 200);
    page.until("users", |_| true).await;
    let removed = rig.answer(Method::DELETE, "/api/users/field", None).await;
    assert_eq!(removed.0, 200);
    page.until("users", |_| true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_are_bounded_and_kinds_are_checked() {
    let rig = Rig::edge().await;
    let status = |query: &'static str| {
        let call = rig.call(Method::GET, query, None);
        async move { call.await.status().as_u16() }
    };
    assert_eq!(status("/api/events?topics=assets,nothing").await, 400);
    assert_eq!(status("/api/events?other=1").await, 400);
    assert_eq!(rig.answer(Method::GET, "/api/lanes", None).await.0, 404);
    let mut open = Vec::new();
    for _ in 0..64 {
        open.push(Page::open(&rig, "?topics=volume", None).await);
    }
    let (status, _) = rig.answer(Method::GET, "/api/events", None).await;
    assert_eq!(status, 503);
    drop(open);
    testkit::eventually(LIMIT, || async {
        let status = rig.call(Method::GET, "/api/events", None).await.status().as_u16();
        if status == 200 { Ok(()) } else { Err(status) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn log_level_changes_and_the_service_stays_as_it_is() {
    let rig = Rig::edge().await;
    let host = Host::detached("mirror", "edge-1");
    let control = Control::attach_paused(&host, &rig.broker).await.unwrap();
    host.ready();
    let mut told_to = control.told();
    rig.shows("/api/mirror", |mirror| mirror["instances"][0].is_object())
        .await;
    assert_eq!(rig.post("/api/mirror/stop", nothing()).await.0, 200);
    rig.shows("/api/mirror", |mirror| mirror["desired"] == "paused")
        .await;
    let (status, told) = rig
        .post("/api/services/mirror/log-level", json!({"level": "debug"}))
        .await;
    assert_eq!(
        (status, &told["desired"], &told["log_level"]),
        (200, &json!("paused"), &json!("debug"))
    );
    rig.shows("/api/services", |all| {
        let mut services = all["services"].as_array().unwrap().iter();
        services.any(|service| service["service"] == "mirror" && service["log_level"] == "debug")
    })
    .await;
    assert_eq!(
        told_to.borrow_and_update().desired,
        common::schemas::Desired::Paused
    );
    assert_eq!(
        rig.post("/api/services/nothing/log-level", json!({"level": "debug"}))
            .await
            .0,
        404
    );
    host.stop().cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_are_sorted_at_the_server_and_a_selection_is_estimated() {
    let rig = Rig::edge().await;
    for (number, content) in [(1u32, &b"333"[..]), (2, b"1"), (3, b"22")] {
        broadcast(&rig, number, content).await;
    }
    rig.shows("/api/assets", |all| all["total"] == 3).await;
    let sizes = |page: &Value| -> Vec<i64> {
        let assets = page["assets"].as_array().unwrap();
        assets
            .iter()
            .map(|asset| asset["size"].as_i64().unwrap())
            .collect()
    };
    assert_eq!(sizes(&rig.get("/api/assets?sort=size").await), [1, 2, 3]);
    let page = rig.get("/api/assets?sort=size&order=desc&limit=2").await;
    assert_eq!(sizes(&page), [3, 2]);
    let next = page["next"].as_str().unwrap();
    assert_eq!(
        sizes(
            &rig.get(&format!("/api/assets?sort=size&order=desc&after={next}"))
                .await
        ),
        [1]
    );
    let by_title = rig.get("/api/assets?sort=title&limit=1").await;
    let next = by_title["next"].as_str().unwrap().replace(' ', "%20");
    let rest = rig.get(&format!("/api/assets?sort=title&after={next}")).await;
    assert_eq!(rest["assets"].as_array().unwrap().len(), 2);
    assert_eq!(
        rig.answer(Method::GET, "/api/assets?sort=other", None).await.0,
        400
    );
    let ids = format!("{},{}", asset_id(1), asset_id(3));
    let estimate = rig.get(&format!("/api/mirror/estimate?ids={ids}")).await;
    assert_eq!((&estimate["assets"], &estimate["bytes"]), (&json!(2), &json!(5)));
    assert_eq!(estimate["bytes_per_second"], Value::Null);
    for (path, status) in [("x", 400), ("00000000000000000000000000000000", 404)] {
        let path = format!("/api/mirror/estimate?ids={path}");
        assert_eq!(rig.answer(Method::GET, &path, None).await.0, status);
    }
    let row = Write::to("assets")
        .set("preview", b"RIFF".to_vec())
        .set("preview_media_type", "image/webp");
    write(&rig, &asset_id(1), row).await;
    let preview = format!("{}/api/assets/{}/preview", rig.url, asset_id(1));
    let first = rig.http.get(&preview).send().await.unwrap();
    let tag = first.headers()["etag"].clone();
    assert!(
        first.headers()["cache-control"]
            .to_str()
            .unwrap()
            .contains("immutable")
    );
    let again = rig.http.get(&preview).header("if-none-match", tag);
    assert_eq!(again.send().await.unwrap().status().as_u16(), 304);
    tokio::time::timeout(Duration::from_secs(10), async { drop(rig) })
        .await
        .unwrap();
}
