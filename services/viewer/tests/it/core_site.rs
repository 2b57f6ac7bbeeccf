//! The core: the pipeline's assets, deliveries, edges.

use bytes::Bytes;
use common::chassis::now_ms;
use common::schemas::{Asset, AssetState, SiteStatus, at_core, decode, topic};
use common::table::{Value, Write};
use reqwest::Method;
use serde_json::{Value as Json, json};
use testkit::{announced, asset_id, downloaded};

use crate::rig::{Rig, nothing};

async fn pipeline(rig: &Rig, asset: &Asset) {
    rig.send(topic::ASSET_PIPELINE, asset.asset_id.as_str(), asset)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_asset_of_the_pipeline_is_shown_with_its_state_and_reason() {
    let rig = Rig::core().await;
    pipeline(&rig, &announced(1, "http://x/1.png")).await;
    pipeline(
        &rig,
        &Asset {
            state: AssetState::Failed,
            reason: Some("404 not found".into()),
            ..announced(2, "http://x/2")
        },
    )
    .await;
    pipeline(
        &rig,
        &Asset {
            state: AssetState::Broadcast,
            ..downloaded(3, b"x")
        },
    )
    .await;
    let page = rig.shows("/api/assets", |page| page["total"] == 3).await;
    assert_eq!(
        page["by_state"],
        json!({"announced": 1, "broadcast": 1, "failed": 1})
    );
    let failed = rig.get("/api/assets?state=failed").await;
    assert_eq!(failed["assets"][0]["reason"], "404 not found");
    let one = rig.get(&format!("/api/assets/{}", asset_id(1))).await;
    assert_eq!(
        (&one["link"], &one["native_id"]),
        (&json!("http://x/1.png"), &json!("entry-1"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn content_is_saved_under_the_name_of_the_assets_file() {
    let rig = Rig::core().await;
    let mut writer = rig.volume.writer().await.unwrap();
    writer.write(b"bytes").await.unwrap();
    writer.finish().await.unwrap();
    pipeline(&rig, &downloaded(3, b"bytes")).await;
    rig.shows("/api/assets", |page| page["total"] == 1).await;
    let path = format!("/api/assets/{}/content", asset_id(3));
    let response = rig.call(Method::GET, &path, None).await;
    let disposition = response.headers()["content-disposition"].to_str().unwrap();
    assert!(disposition.contains("entry-3.png"), "{disposition}");
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_shown_by_asset_and_by_site() {
    let rig = Rig::core().await;
    pipeline(
        &rig,
        &Asset {
            state: AssetState::Broadcast,
            ..downloaded(3, b"x")
        },
    )
    .await;
    let id = asset_id(3);
    let facts = |write: Write| {
        write
            .set("asset_id", id.as_str())
            .set("site", "edge-1")
            .set("attempt", 1)
            .set("request_id", format!("edge-1.{id}.1"))
            .set("outcome", "ready")
            .set("delivered_at", Value::timestamp(77))
    };
    rig.table.upsert(facts(Write::to("deliveries"))).await.unwrap();
    rig.table
        .upsert(facts(Write::to("site_requests")).set("bucket", id.bucket()))
        .await
        .unwrap();
    let page = rig.shows("/api/assets", |page| page["total"] == 1).await;
    assert_eq!(page["assets"][0]["deliveries"][0]["delivered_at"], 77);
    let requests = rig.get("/api/requests?site=edge-1").await;
    assert_eq!(requests["requests"][0]["asset_id"], id.as_str());
    assert!(requests["next"].is_null());
    assert_eq!(
        rig.answer(Method::GET, "/api/requests?site=Edge%209", None)
            .await
            .0,
        400
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn withdrawal_and_expiry_go_into_the_pipeline_with_all_that_is_known() {
    let rig = Rig::core().await;
    let asset = Asset {
        state: AssetState::Broadcast,
        ..downloaded(3, b"x")
    };
    pipeline(&rig, &asset).await;
    rig.shows("/api/assets", |page| page["total"] == 1).await;
    let path = format!("/api/assets/{}", asset.asset_id);
    assert_eq!(
        rig.post(
            &format!("{path}/expiry"),
            json!({"expires_at": 4_000_000_000_000_i64})
        )
        .await
        .0,
        200
    );
    rig.shows(&path, |asset| asset["state"] == "downloaded").await;
    assert_eq!(rig.post(&format!("{path}/withdraw"), nothing()).await.0, 400);
    let (status, answer) = rig
        .post(&format!("{path}/withdraw"), json!({"reason": "wrong picture"}))
        .await;
    assert_eq!((status, &answer["state"]), (200, &json!("withdrawn")));
    rig.shows(&path, |asset| asset["state"] == "withdrawn").await;
    let mut newest = None;
    let read = |record: common::broker::Record| {
        newest = record.value.map(|value: Bytes| decode::<Asset>(&value).unwrap())
    };
    rig.broker.read_to_end(topic::ASSET_PIPELINE, read).await.unwrap();
    let reason = Some("wrong picture".to_owned());
    let expires_at = Some(4_000_000_000_000);
    assert_eq!(
        newest,
        Some(Asset {
            state: AssetState::Withdrawn,
            reason,
            expires_at,
            ..asset
        })
    );
    assert_eq!(
        rig.post(&format!("{path}/expiry"), json!({"expires_at": null}))
            .await
            .0,
        409
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn edge_is_enrolled_with_its_topics_once_and_cut_off_with_its_entries() {
    let rig = Rig::core().await;
    let body = json!({"site": "edge-7", "certificate_sha256": "ab".repeat(32)});
    let (status, made) = rig.post("/api/sites", body.clone()).await;
    assert_eq!((status, made["topics"].as_array().unwrap().len()), (201, 5));
    let (status, made) = rig.post("/api/sites", body).await;
    assert_eq!((status, made["topics"].as_array().unwrap().len()), (200, 0));
    assert_eq!(
        rig.broker
            .describe("edge-7.ASSET_REQUEST")
            .await
            .unwrap()
            .unwrap()
            .partitions,
        3
    );
    let wrong = json!({"site": "Edge 7", "certificate_sha256": "ab".repeat(32)});
    assert_eq!(rig.post("/api/sites", wrong).await.0, 400);
    rig.volume
        .put_entry("mirror/edge-7/edge-7.x.1", Bytes::from_static(b"{}"))
        .await
        .unwrap();
    let (status, cut) = rig
        .post("/api/sites/edge-7/revoke", json!({"reason": "lost"}))
        .await;
    assert_eq!((status, &cut["entries_deleted"]), (200, &json!(1)));
    let sites = rig.get("/api/sites").await;
    assert_eq!(sites["sites"][0]["revoked_reason"], "lost");
    assert!(sites["sites"][0]["status"].is_null());
    assert_eq!(
        rig.post("/api/sites/edge-9/revoke", json!({"reason": "lost"}))
            .await
            .0,
        404
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_is_late_by_when_it_was_heard_whatever_its_clock_says() {
    let rig = Rig::core().await;
    let body = json!({"site": "edge-7", "certificate_sha256": "ab".repeat(32)});
    assert_eq!(rig.post("/api/sites", body).await.0, 201);
    assert!(rig.get("/api/sites").await["sites"][0]["status"].is_null());
    let edge = testkit::site("edge-7");
    let began = now_ms();
    let says = |reported_at: i64| SiteStatus {
        site: edge.clone(),
        version: "1".into(),
        reported_at,
        assets: 1,
        mirrored: 0,
        pending: 0,
        problems: Vec::new(),
        lag: None,
    };
    let slow = began - 3 * 3_600_000;
    rig.send(&at_core(&edge, topic::SITE_STATUS), "edge-7", &says(slow))
        .await;
    let told = |sites: &Json| sites["sites"][0]["status"]["reported_at"] == slow;
    let sites = rig.shows("/api/sites", told).await;
    let heard_at = &sites["sites"][0]["status"]["heard_at"];
    assert!(heard_at.as_i64() >= Some(began), "{sites}");
    assert!(heard_at.as_i64() <= Some(now_ms()), "{sites}");
    let status = rig.get("/api/status").await;
    assert!(
        !status.to_string().contains("nothing is heard of edge-7"),
        "{status}"
    );
    // Another viewer does not know when the word came, and has nothing but the edge's own time.
    let again = rig.again().await;
    let get = |path: &'static str| {
        let call = rig.http.get(format!("{again}{path}"));
        async move { call.send().await.unwrap().json::<Json>().await.unwrap() }
    };
    assert_eq!(get("/api/sites").await["sites"][0]["status"]["heard_at"], slow);
    let status = get("/api/status").await;
    let late = "nothing is heard of edge-7 for 3 hours";
    assert!(status.to_string().contains(late), "{status}");
}
