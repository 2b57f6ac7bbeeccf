//! Headquarters: who asked for what, newest first, and the small pictures of what passes.

use std::collections::BTreeSet;

use common::chassis::now_ms;
use common::schemas::{Asset, AssetState, SiteStatus, at_core, topic};
use common::table::{Value, Write};
use reqwest::Method;
use serde_json::{Value as Json, json};
use testkit::{asset_id, downloaded};

use crate::events::Page;
use crate::rig::Rig;

async fn with_edge() -> Rig {
    let rig = Rig::core().await;
    let edge = json!({"site": "edge-1", "certificate_sha256": "ab".repeat(32)});
    assert_eq!(rig.post("/api/sites", edge).await.0, 201);
    rig
}

async fn pipeline(rig: &Rig, asset: Asset) {
    rig.send(topic::ASSET_PIPELINE, asset.asset_id.as_str(), &asset)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_six_hundred_requests_the_last_comes_first_also_after_a_restart() {
    let rig = with_edge().await;
    let asset = downloaded(599, b"x");
    let title = asset.title.clone();
    pipeline(&rig, asset).await;
    let mut rows = Vec::new();
    for number in 0..600_u32 {
        let id = asset_id(number);
        let facts = |write: Write| {
            write
                .set("asset_id", id.as_str())
                .set("site", "edge-1")
                .set("attempt", 1)
                .set("requested_at", Value::timestamp(1_000_000 + i64::from(number)))
                .set("requested_by", "kim")
                .set("outcome", "ready")
        };
        rows.push(facts(Write::to("deliveries")));
        rows.push(facts(Write::to("site_requests")).set("bucket", id.bucket()));
    }
    for some in rows.chunks(200) {
        rig.table.upsert_all(some.to_vec()).await.unwrap();
    }
    let again = rig.again().await;
    let read = |query: String| {
        let request = rig.http.get(format!("{again}/api/requests{query}"));
        async move {
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status().as_u16(), 200);
            answer.json::<Json>().await.unwrap()
        }
    };
    let first = read(String::new()).await;
    let newest = &first["requests"][0];
    assert_eq!(
        (
            &newest["asset_id"],
            &newest["title"],
            &newest["requested_by"],
            &newest["outcome"]
        ),
        (
            &json!(asset_id(599).as_str()),
            &json!(title),
            &json!("kim"),
            &json!("ready")
        )
    );
    assert_eq!(first["requests"].as_array().unwrap().len(), 100);
    let (mut page, mut all) = (first, Vec::new());
    loop {
        let times = page["requests"].as_array().unwrap().iter();
        all.extend(times.map(|one| one["requested_at"].as_i64().unwrap()));
        match page["next"].as_str() {
            Some(next) => page = read(format!("?limit=170&after={next}")).await,
            None => break,
        }
    }
    let expected: Vec<i64> = (0..600).rev().map(|number| 1_000_000 + number).collect();
    assert_eq!(all, expected);
    assert_eq!(page["older"], json!(false));
    // All of one edge are there too, as they ever were.
    let of_edge = read("?site=edge-1".to_owned()).await;
    assert_eq!(of_edge["requests"].as_array().unwrap().len(), 600);
    assert_eq!(
        rig.answer(Method::GET, "/api/requests?after=soon", None).await.0,
        400
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_nobody_has_answered_is_told_and_listed_as_open() {
    let rig = with_edge().await;
    rig.shows("/api/requests", |_| true).await;
    let mut page = Page::open(&rig, "?topics=requests", None).await;
    let edge = testkit::site("edge-1");
    let request = testkit::request(&edge, 7, 1);
    let name = at_core(&edge, topic::ASSET_REQUEST);
    rig.send(&name, request.asset_id.as_str(), &request).await;
    // One whose id is another's is no request.
    let mut foreign = testkit::request(&edge, 8, 1);
    foreign.request_id = testkit::request(&edge, 9, 1).request_id;
    rig.send(&name, foreign.asset_id.as_str(), &foreign).await;
    let told = page.until("requests", |_| true).await;
    assert_eq!(told["requests"][0]["request_id"], request.request_id.as_str());
    assert!(told["requests"][0]["outcome"].is_null());
    let listed = rig.get("/api/requests").await;
    let listed = listed["requests"].as_array().unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(
        (
            &listed[0]["requested_by"],
            &listed[0]["requested_at"],
            &listed[0]["site"]
        ),
        (
            &json!(request.requested_by),
            &json!(request.requested_at),
            &json!("edge-1")
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_core_shows_the_downloaders_preview_and_sends_nothing_twice() {
    let rig = Rig::core().await;
    let bytes = vec![7_u8; 300_000];
    let mut writer = rig.volume.writer().await.unwrap();
    writer.write(&bytes).await.unwrap();
    writer.finish().await.unwrap();
    let asset = Asset {
        state: AssetState::Broadcast,
        media_type: Some("image/png".into()),
        ..downloaded(3, &bytes)
    };
    let path = format!("/api/assets/{}", asset.asset_id);
    pipeline(&rig, asset).await;
    let shown = rig.shows(&path, |_| true).await;
    assert_eq!(shown["has_preview"], json!(false));
    assert_eq!(
        rig.answer(Method::GET, &format!("{path}/preview"), None).await.0,
        404
    );
    let mut page = Page::open(&rig, "?topics=lanes,assets", None).await;
    let preview = testkit::preview(3);
    rig.send(topic::ASSET_PREVIEW, preview.asset_id.as_str(), &preview)
        .await;
    page.until("assets", |told| told["assets"][0]["has_preview"] == true)
        .await;
    let lanes = rig.get("/api/lanes").await;
    assert_eq!(lanes["lanes"]["broadcaster"][0]["has_preview"], json!(true));
    let listed = rig.get("/api/assets").await;
    assert_eq!(listed["assets"][0]["has_preview"], json!(true));
    for what in ["preview", "content"] {
        let first = rig.call(Method::GET, &format!("{path}/{what}"), None).await;
        assert_eq!(first.status().as_u16(), 200, "{what}");
        let tag = first.headers()["etag"].clone();
        let expected = if what == "preview" {
            &preview.picture
        } else {
            &bytes
        };
        assert!(first.bytes().await.unwrap() == *expected, "{what}");
        let again = rig.http.get(format!("{}{path}/{what}", rig.url));
        let again = again.header("if-none-match", &tag).send().await.unwrap();
        assert_eq!(
            (again.status().as_u16(), &again.headers()["etag"]),
            (304, &tag),
            "{what}"
        );
        assert!(again.bytes().await.unwrap().is_empty(), "{what}");
        let other = rig.http.get(format!("{}{path}/{what}", rig.url));
        let other = other.header("if-none-match", "\"something else\"").send().await;
        assert_eq!(other.unwrap().status().as_u16(), 200, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_edge_says_of_itself_is_shown_as_it_is_described() {
    let rig = with_edge().await;
    let status = SiteStatus {
        site: testkit::site("edge-1"),
        version: "0.9.1".into(),
        reported_at: now_ms(),
        assets: 12,
        mirrored: 3,
        pending: 2,
        problems: vec!["link is paused".into()],
        lag: Some(41),
    };
    let name = at_core(&status.site, topic::SITE_STATUS);
    rig.send(&name, "edge-1", &status).await;
    let sites = rig
        .shows("/api/sites", |sites| sites["sites"][0]["status"].is_object())
        .await;
    let shown = sites["sites"][0]["status"].as_object().unwrap();
    let mut said = shown.clone();
    assert!(said.remove("heard_at").is_some_and(|at| at.is_number()));
    assert_eq!(Json::from(said), serde_json::to_value(&status).unwrap());
    let description = serde_json::to_value(viewer::openapi()).unwrap();
    let word = description["components"]["schemas"]["SiteWord"]["properties"].as_object();
    let described: BTreeSet<&String> = word.unwrap().keys().collect();
    assert_eq!(shown.keys().collect::<BTreeSet<_>>(), described);
}

#[test]
fn an_asset_is_described_as_that_of_one_kind_of_site_alone() {
    let description = serde_json::to_value(viewer::openapi()).unwrap();
    let edge = &description["components"]["schemas"]["EdgeView"];
    let core = &description["components"]["schemas"]["CoreView"];
    assert_eq!(edge["additionalProperties"], json!(false));
    assert!(
        core["required"]
            .as_array()
            .unwrap()
            .contains(&json!("announced_at"))
    );
    assert!(edge["properties"]["announced_at"].is_null());
}
