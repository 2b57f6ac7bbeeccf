//! Room that is given back, and what the volume takes.

use common::chassis::now_ms;
use common::schemas::{AssetId, ServiceState, ServiceStatus, topic};
use common::table::{Value, Write};
use reqwest::Method;
use serde_json::json;

use crate::edge_site::{broadcast, write};
use crate::rig::{Rig, nothing};

async fn mirrored(rig: &Rig, number: u32, content: &[u8]) -> AssetId {
    let id = broadcast(rig, number, content).await;
    let mut writer = rig.volume.writer().await.unwrap();
    writer.write(content).await.unwrap();
    let stored = writer.finish().await.unwrap();
    let row = Write::to("assets")
        .set("attempt", 1)
        .set("requesting_at", Value::timestamp(10))
        .set("response", "ready")
        .set("response_attempt", 1)
        .set("mirrored_at", Value::timestamp(20))
        .set("mirrored_hash", stored.hash.as_str());
    write(rig, &id, row).await;
    rig.shows(&format!("/api/assets/{id}"), |asset| asset["state"] == "mirrored")
        .await;
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_volume_may_take_is_what_mirror_says() {
    let rig = Rig::edge().await;
    assert!(rig.get("/api/volume").await["quota_bytes"].is_null());
    let status = ServiceStatus {
        service: "mirror".into(),
        instance: "a".into(),
        state: ServiceState::Paused,
        detail: None,
        last_error: None,
        last_error_at: None,
        started_at: 1,
        reported_at: now_ms(),
        version: "1".into(),
        counters: Default::default(),
        gauges: [("quota_bytes".to_owned(), 5e9)].into(),
    };
    rig.send(topic::SERVICE_STATUS, "mirror/a", &status).await;
    // It is measured again when what is mirrored is another sum.
    rig.shows("/api/services", |view| view["services"][0]["service"] == "mirror")
        .await;
    mirrored(&rig, 1, b"12345").await;
    assert_eq!(rig.get("/api/volume").await["quota_bytes"], 5_000_000_000_u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evicted_asset_gives_its_room_back_and_can_be_requested_again() {
    let rig = Rig::edge().await;
    let id = mirrored(&rig, 1, b"12345").await;
    let before = rig.get("/api/volume").await;
    assert_eq!(
        (&before["objects"], &before["used_bytes"]),
        (&json!(1), &json!(5))
    );
    assert!(before["free_bytes"].as_u64() <= before["total_bytes"].as_u64());
    let path = format!("/api/assets/{id}/evict");
    let (status, evicted) = rig.post(&path, nothing()).await;
    assert_eq!(
        (status, &evicted),
        (
            200,
            &json!({"asset_id": id.as_str(), "state": "available", "freed_bytes": 5})
        )
    );
    assert_eq!(rig.get("/api/volume").await["objects"], 0);
    let content = format!("/api/assets/{id}/content");
    assert_eq!(rig.answer(Method::GET, &content, None).await.0, 409);
    // Evicting again says the same.
    assert_eq!(rig.post(&path, nothing()).await.1["freed_bytes"], 0);
    let (_, asked) = rig.post(&format!("/api/assets/{id}/request"), nothing()).await;
    assert_eq!(
        (&asked["attempt"], &asked["state"]),
        (&json!(2), &json!("requesting"))
    );
    let row = Write::to("assets").set("mirrored_at", Value::timestamp(i64::MAX / 2_000_000));
    write(&rig, &id, row).await;
    let shown = rig.get(&format!("/api/assets/{id}")).await;
    assert!(shown["evicted_at"].is_number());
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_another_asset_has_stay_and_what_is_not_here_is_not_evicted() {
    let rig = Rig::edge().await;
    let (one, other) = (mirrored(&rig, 1, b"same").await, mirrored(&rig, 2, b"same").await);
    let evict = |id: &AssetId| format!("/api/assets/{id}/evict");
    assert_eq!(rig.post(&evict(&one), nothing()).await.1["freed_bytes"], 0);
    let content = rig
        .call(Method::GET, &format!("/api/assets/{other}/content"), None)
        .await;
    assert_eq!(content.bytes().await.unwrap(), "same");
    assert_eq!(rig.post(&evict(&other), nothing()).await.1["freed_bytes"], 4);
    let id = broadcast(&rig, 3, b"never here").await;
    rig.shows(&format!("/api/assets/{id}"), |_| true).await;
    assert_eq!(rig.post(&evict(&id), nothing()).await.0, 409);
    assert_eq!(rig.post("/api/assets/x/evict", nothing()).await.0, 404);
}
