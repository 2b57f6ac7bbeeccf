//! From `asset-pipeline` to the row and the edges, and what stays withdrawn.

use common::broker::Outgoing;
use common::chassis::Span;
use common::schemas::{self, Asset, AssetBroadcast, AssetChange, AssetState, topic};
use common::table::{Value, Write};
use testkit::{announced, asset_id, downloaded, eventually, hash};

use crate::site::{LIMIT, Site};

impl Site {
    async fn step(&self, asset: &Asset) {
        self.send(topic::ASSET_PIPELINE, &asset.asset_id, asset).await;
    }

    async fn broadcasts(&self, wanted: usize) -> Vec<AssetBroadcast> {
        eventually(LIMIT, || async {
            let records = self.records::<AssetBroadcast>(topic::ASSET_BROADCAST).await;
            if records.len() < wanted {
                Err(format!("{} broadcasts", records.len()))
            } else {
                Ok(records)
            }
        })
        .await
    }

    async fn state(&self, number: u32) -> Vec<AssetState> {
        let records = self.records::<Asset>(topic::ASSET_PIPELINE).await;
        records
            .iter()
            .filter(|asset| asset.asset_id == asset_id(number))
            .map(|asset| asset.state)
            .collect()
    }
}

fn withdrawn(number: u32) -> Asset {
    let state = AssetState::Withdrawn;
    Asset {
        state,
        reason: Some("wrong picture".to_owned()),
        ..downloaded(number, b"bytes")
    }
}

#[tokio::test]
async fn a_downloaded_asset_has_a_row_when_it_is_broadcast() {
    let site = Site::running().await;
    site.step(&downloaded(1, b"bytes")).await;
    let broadcast = site.broadcasts(1).await.remove(0);
    let row = site.row("published", &asset_id(1)).await.unwrap();
    assert_eq!(row.text("hash"), Some(hash(b"bytes").as_str()));
    assert_eq!(row.timestamp("broadcast_at"), Some(broadcast.broadcast_at));
    assert_eq!((broadcast.hash, broadcast.expires_at), (hash(b"bytes"), None));
    site.caught_up(topic::ASSET_PIPELINE).await;
    assert_eq!(
        site.state(1).await,
        [AssetState::Downloaded, AssetState::Broadcast]
    );
    let changes = site.records::<AssetChange>(topic::ASSET_CHANGES).await;
    assert!(changes.iter().all(|change| change.writer == "broadcaster") && !changes.is_empty());
}

#[tokio::test]
async fn a_record_that_comes_again_says_the_same_again() {
    let mut site = Site::new().await;
    site.settings.expires_after = Some(Span::seconds(60));
    site.start();
    site.step(&downloaded(1, b"bytes")).await;
    site.step(&downloaded(1, b"bytes")).await;
    let broadcasts = site.broadcasts(2).await;
    assert_eq!(broadcasts[0], broadcasts[1]);
    assert_eq!(
        broadcasts[0].expires_at,
        Some(broadcasts[0].broadcast_at + 60_000)
    );
}

#[tokio::test]
async fn a_crash_after_the_row_is_made_good() {
    let mut site = Site::new().await;
    let id = asset_id(1);
    let row = Write::to("published")
        .set("bucket", id.bucket())
        .set("asset_id", id.as_str());
    site.table
        .upsert(row.set("broadcast_at", Value::timestamp(77)).at(1))
        .await
        .unwrap();
    site.step(&downloaded(1, b"bytes")).await;
    site.start();
    assert_eq!(site.broadcasts(1).await[0].broadcast_at, 77);
}

#[tokio::test]
async fn an_older_record_does_not_overwrite_a_newer_row() {
    let site = Site::running().await;
    let record = |bytes: &[u8], timestamp| Outgoing {
        timestamp: Some(timestamp),
        ..Outgoing::new(
            topic::ASSET_PIPELINE,
            asset_id(1).as_str(),
            schemas::encode(&downloaded(1, bytes)).unwrap(),
        )
    };
    let now = common::chassis::now_ms();
    let records = vec![record(b"new", now), record(b"old", now - 1000)];
    site.broker.producer().unwrap().send_all(records).await.unwrap();
    site.broadcasts(2).await;
    let row = site.row("published", &asset_id(1)).await.unwrap();
    assert_eq!(row.text("hash"), Some(hash(b"new").as_str()));
}

#[tokio::test]
async fn a_withdrawal_is_told_and_is_final() {
    let site = Site::running().await;
    site.step(&downloaded(1, b"bytes")).await;
    site.broadcasts(1).await;
    site.step(&withdrawn(1)).await;
    let broadcasts = site.broadcasts(2).await;
    assert!(broadcasts[1].withdrawn_at.is_some());
    assert_eq!(broadcasts[1].reason.as_deref(), Some("wrong picture"));
    assert_eq!(broadcasts[1].broadcast_at, broadcasts[0].broadcast_at);
    // Late, or again: the row stays withdrawn, and the compacted topic ends with the withdrawal.
    site.step(&downloaded(1, b"bytes")).await;
    let broadcasts = site.broadcasts(3).await;
    assert_eq!(broadcasts[2].withdrawn_at, broadcasts[1].withdrawn_at);
    assert_eq!(broadcasts[2].reason, broadcasts[1].reason);
    site.caught_up(topic::ASSET_PIPELINE).await;
    assert_eq!(site.state(1).await.last(), Some(&AssetState::Withdrawn));
    assert!(
        site.row("published", &asset_id(1))
            .await
            .unwrap()
            .timestamp("withdrawn_at")
            .is_some()
    );
}

#[tokio::test]
async fn a_withdrawal_that_waits_behind_the_download_is_the_last_state() {
    let mut site = Site::new().await;
    // Both are there before broadcaster looks, so it says `broadcast` behind the withdrawal.
    site.step(&downloaded(1, b"bytes")).await;
    site.step(&withdrawn(1)).await;
    site.start();
    eventually(LIMIT, || async {
        let broadcasts = site.broadcasts(2).await;
        let last = broadcasts.last().and_then(|last| last.reason.clone());
        (last.as_deref() == Some("wrong picture"))
            .then_some(())
            .ok_or("not told yet")
    })
    .await;
    site.caught_up(topic::ASSET_PIPELINE).await;
    let states = site.state(1).await;
    assert_eq!(
        states,
        [
            AssetState::Downloaded,
            AssetState::Withdrawn,
            AssetState::Broadcast,
            AssetState::Withdrawn
        ],
        "and it is not said for ever"
    );
}

#[tokio::test]
async fn a_withdrawal_before_the_download_is_final_too() {
    let site = Site::running().await;
    let early = Asset {
        state: AssetState::Withdrawn,
        reason: None,
        ..announced(1, "http://example.org/a")
    };
    site.step(&early).await;
    site.step(&downloaded(1, b"bytes")).await;
    site.step(&downloaded(2, b"bytes")).await;
    site.broadcasts(1).await;
    site.caught_up(topic::ASSET_PIPELINE).await;
    let broadcasts = site.broadcasts(1).await;
    assert!(
        broadcasts
            .iter()
            .all(|broadcast| broadcast.asset_id == asset_id(2))
    );
    assert_eq!(site.state(1).await.last(), Some(&AssetState::Withdrawn));
}

#[tokio::test]
async fn what_cannot_be_read_is_put_aside_and_the_rest_goes_on() {
    let site = Site::running().await;
    site.send_bytes(topic::ASSET_PIPELINE, &asset_id(1), b"nonsense".to_vec())
        .await;
    site.step(&Asset {
        hash: None,
        ..downloaded(1, b"bytes")
    })
    .await;
    site.step(&Asset {
        state: AssetState::Failed,
        ..announced(1, "http://example.org/a")
    })
    .await;
    site.step(&downloaded(1, b"bytes")).await;
    let reasons = site.dead_letters(topic::ASSET_PIPELINE, 2).await;
    assert!(
        reasons.iter().any(|reason| reason.contains("has no hash")),
        "{reasons:?}"
    );
    assert_eq!(site.broadcasts(1).await.len(), 1);
}

#[tokio::test]
async fn a_stop_loses_nothing() {
    let mut site = Site::running().await;
    for number in 0..50 {
        site.step(&downloaded(number, b"bytes")).await;
        if number == 25 {
            site.stop().await;
            site.start();
        }
    }
    let mut ids: Vec<_> = site
        .broadcasts(50)
        .await
        .into_iter()
        .map(|broadcast| broadcast.asset_id)
        .collect();
    site.caught_up(topic::ASSET_PIPELINE).await;
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 50);
}
