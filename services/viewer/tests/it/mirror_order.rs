//! The team's word on what the mirror fetches first, and on what stays.

use common::schemas::AssetId;
use common::table::{Select, Value, Write};
use reqwest::Method;
use serde_json::json;
use testkit::asset_id;

use crate::edge_site::{broadcast, write};
use crate::events::Page;
use crate::rig::{Rig, nothing};

async fn ready(rig: &Rig, number: u32, content: &[u8]) -> AssetId {
    let id = broadcast(rig, number, content).await;
    let row = Write::to("assets")
        .set("attempt", 1)
        .set("requesting_at", Value::timestamp(10))
        .set("response", "ready")
        .set("response_attempt", 1);
    write(rig, &id, row).await;
    rig.shows(&format!("/api/assets/{id}"), |asset| asset["state"] == "ready")
        .await;
    id
}

async fn orders(rig: &Rig) -> usize {
    let select = Select::from("mirror_orders").partition("realm", "edge");
    rig.table.select(select).await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_is_in_the_order_that_the_team_said_and_is_read_page_by_page() {
    let rig = Rig::edge().await;
    let mut ids = Vec::new();
    for number in 1..=4 {
        ids.push(ready(&rig, number, b"12345").await);
    }
    ids.sort();
    rig.shows("/api/mirror/queue", |queue| queue["total"] == 4).await;
    let order = |id: &AssetId| format!("/api/assets/{id}/order");
    assert!(rig.get("/api/mirror").await["ordered_at"].is_null());
    let mut page = Page::open(&rig, "?topics=mirror", None).await;
    let (status, said) = rig.post(&order(&ids[3]), json!({"to": "first"})).await;
    assert_eq!((status, &said["priority"]), (200, &json!(1)));
    page.until("mirror", |mirror| mirror["ordered_at"].is_number())
        .await;
    assert_eq!(
        rig.post(&order(&ids[2]), json!({"to": "first", "by": "kim"}))
            .await
            .1["priority"],
        2
    );
    assert_eq!(
        rig.post(&order(&ids[0]), json!({"to": "last"})).await.1["priority"],
        -1
    );
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let page = rig.get(&format!("/api/mirror/queue?limit=3&after={after}")).await;
        assert_eq!((&page["total"], &page["bytes"]), (&json!(4), &json!(20)));
        for one in page["queue"].as_array().unwrap() {
            assert_eq!(one["bytes_before"], seen.len() * 5);
            seen.push(one["asset_id"].as_str().unwrap().to_owned());
        }
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut after),
            None => break,
        }
    }
    assert_eq!(seen, [2, 3, 1, 0].map(|number: usize| ids[number].to_string()));
    // What has come needs no place, and one that is usual has none.
    let come = Write::to("assets")
        .set("mirrored_at", Value::timestamp(20))
        .set("mirrored_hash", testkit::hash(b"12345").as_str());
    write(&rig, &ids[3], come).await;
    rig.shows("/api/mirror/queue", |queue| queue["total"] == 3).await;
    assert_eq!(orders(&rig).await, 3);
    rig.post(&order(&ids[0]), json!({"to": "usual"})).await;
    assert_eq!(orders(&rig).await, 1);
    assert_eq!(rig.post(&order(&ids[3]), json!({"to": "first"})).await.0, 409);
    assert_eq!(rig.post(&order(&ids[2]), nothing()).await.0, 400);
    assert_eq!(
        rig.post(&order(&asset_id(99)), json!({"priority": 1})).await.0,
        404
    );
    let entry = &rig.get("/api/audit?q=asset.order").await["entries"];
    assert!(entry.to_string().contains("to: first"), "{entry}");
    let viewer = rig.user("viewer").await;
    let refused = rig
        .browse(
            &viewer,
            Method::POST,
            &order(&ids[2]),
            Some(json!({"to": "last"})),
        )
        .await;
    assert_eq!(refused.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pinned_says_so_until_it_is_unpinned() {
    let rig = Rig::edge().await;
    let id = ready(&rig, 1, b"12345").await;
    let (status, pinned) = rig.post(&format!("/api/assets/{id}/pin"), nothing()).await;
    assert_eq!((status, &pinned["state"]), (200, &json!("ready")));
    let since = rig.get(&format!("/api/assets/{id}")).await["pinned_at"].clone();
    assert!(since.is_number());
    assert_eq!(
        rig.post(&format!("/api/assets/{id}/pin"), nothing()).await.1["pinned_at"],
        since
    );
    rig.post(&format!("/api/assets/{id}/unpin"), nothing()).await;
    assert!(rig.get(&format!("/api/assets/{id}")).await["pinned_at"].is_null());
    assert_eq!(rig.post("/api/assets/x/pin", nothing()).await.0, 404);
}
