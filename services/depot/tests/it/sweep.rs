//! What the core frees, and what it keeps.

use common::broker::Outgoing;
use common::chassis::{Span, now_ms};
use common::schemas::{self, Asset, AssetId, AssetState, topic};
use common::table::{Value, Write};
use common::volume::{ManifestEntry, Stored};
use testkit::{announced, eventually};

use crate::rig::{LIMIT, Rig, site};

async fn publish(rig: &Rig, name: &str, stored: &Stored, withdrawn: bool) {
    let asset_id = AssetId::derive("test", name);
    let mut row = Write::to("published")
        .set("bucket", asset_id.bucket())
        .set("asset_id", asset_id.as_str())
        .set("hash", stored.hash.as_str());
    if withdrawn {
        row = row.set("withdrawn_at", Value::timestamp(now_ms()));
    }
    rig.table.upsert(row).await.unwrap();
}

#[tokio::test]
async fn what_is_over_is_freed_unless_somebody_may_still_fetch_it() {
    let rig = Rig::with(|settings| settings.sweep = Span::millis(100)).await;
    rig.enrolled("edge-1").await;
    rig.enrolled("edge-2").await;
    let mut objects = Vec::new();
    for number in 0..5 {
        objects.push(rig.store(&[number; 100_000]).await);
    }
    // Before anything is over: a sweep frees it when two have gone by.
    let kept = rig
        .open("edge-1", 3, &objects[3], Some(now_ms() + 3_600_000))
        .await;
    let expired = rig.open("edge-1", 4, &objects[2], Some(now_ms() - 1)).await;
    let cut_off = rig.open("edge-2", 5, &objects[2], None).await;
    rig.revoke("edge-2", "sold").await;
    publish(&rig, "another with the same bytes", &objects[4], false).await;
    // What is freed is over last: by then the others could have gone.
    for (number, name) in [
        (1, "live"),
        (3, "over, with an entry"),
        (4, "over and live"),
        (2, "over"),
    ] {
        publish(&rig, name, &objects[number], number > 1).await;
    }

    freed(&rig, &objects[2]).await;
    for (number, object) in objects.iter().enumerate().filter(|(number, _)| *number != 2) {
        assert!(
            rig.volume.stat(&object.hash).await.unwrap().is_some(),
            "object {number}"
        );
    }
    let entry = async |name: &str, request_id| {
        rig.volume
            .get_entry(&ManifestEntry::path(&site(name), request_id))
            .await
            .unwrap()
    };
    assert!(entry("edge-1", &kept).await.is_some());
    assert!(entry("edge-1", &expired).await.is_none() && entry("edge-2", &cut_off).await.is_none());
    rig.stop().await;
}

async fn freed(rig: &Rig, stored: &Stored) {
    eventually(LIMIT, || async {
        let left = rig.volume.stat(&stored.hash).await.unwrap();
        left.map_or(Ok(()), |size| Err(format!("{size} bytes are left")))
    })
    .await;
}

/// What `asset-pipeline` says of an asset that has these bytes.
async fn say(rig: &Rig, number: u32, state: AssetState, stored: &Stored) {
    let asset = Asset {
        state,
        hash: Some(stored.hash.clone()),
        ..announced(number, "http://127.0.0.1/again.png")
    };
    let key = asset.asset_id.as_str();
    let record = Outgoing::new(topic::ASSET_PIPELINE, key, schemas::encode(&asset).unwrap());
    rig.broker.producer().unwrap().send(record).await.unwrap();
}

#[tokio::test]
async fn what_another_asset_has_that_is_not_broadcast_yet_is_kept() {
    let rig = Rig::with(|settings| settings.sweep = Span::millis(100)).await;
    let again = rig.store(&[1; 100_000]).await;
    say(&rig, 1, AssetState::Downloaded, &again).await;
    say(&rig, 1, AssetState::Announced, &again).await;
    publish(&rig, "withdrawn", &again, true).await;
    // What is stored and over only when the other has gone has seen two more sweeps.
    for number in 2..4 {
        let over = rig.store(&[number; 100_000]).await;
        say(&rig, number.into(), AssetState::Broadcast, &over).await;
        publish(&rig, &format!("entry-{number}"), &over, true).await;
        freed(&rig, &over).await;
    }
    assert!(rig.volume.stat(&again.hash).await.unwrap().is_some());

    // Taken back before it was ever broadcast.
    say(&rig, 1, AssetState::Withdrawn, &again).await;
    freed(&rig, &again).await;
    rig.stop().await;
}

#[tokio::test]
async fn several_edges_that_ask_for_one_asset_cost_the_core_one_copy() {
    let rig = Rig::running().await;
    let bytes = vec![7; 200_000];
    let stored = rig.store(&bytes).await;
    let used = rig.volume.usage().await.unwrap().bytes;
    for (number, name) in (1..).zip(["edge-1", "edge-2", "edge-3"]) {
        let caller = rig.enrolled(name).await;
        assert_eq!(rig.store(&bytes).await, stored);
        let request_id = rig.open(name, number, &stored, None).await;
        let answer = caller.object(&stored.hash, &request_id).send().await.unwrap();
        assert_eq!(answer.bytes().await.unwrap(), bytes);
    }
    assert_eq!(rig.volume.usage().await.unwrap().bytes, used);
    rig.stop().await;
}
