//! From the core's topics to the edge's row.

use std::time::Duration;

use common::broker::Outgoing;
use common::schemas::{
    self, AssetBroadcast, AssetChange, AssetPreview, EdgeAsset, EdgeState, Outcome, Record, topic,
};
use common::table::Select;
use testkit::{asset_id, broadcast, eventually, preview, response};

use crate::site::{LIMIT, Site};

impl Site {
    async fn asset(&self, number: u32) -> EdgeAsset {
        let Some(row) = self.row("assets", &asset_id(number)).await else {
            return EdgeAsset::default();
        };
        EdgeAsset::read(
            |column| row.text(column),
            |column| {
                row.int(column)
                    .map(i64::from)
                    .or_else(|| row.bigint(column))
                    .or_else(|| row.timestamp(column))
            },
        )
    }

    async fn until(&self, number: u32, holds: impl Fn(&EdgeAsset) -> bool) -> EdgeAsset {
        eventually(LIMIT, || async {
            let asset = self.asset(number).await;
            if holds(&asset) {
                Ok(asset)
            } else {
                Err(format!("{asset:?}"))
            }
        })
        .await
    }

    async fn send_at<R: Record>(&self, topic: &str, number: u32, record: &R, timestamp: i64) {
        let record = Outgoing::new(topic, asset_id(number).as_str(), schemas::encode(record).unwrap());
        let record = Outgoing {
            timestamp: Some(timestamp),
            ..record
        };
        self.broker.producer().unwrap().send(record).await.unwrap();
    }
}

#[tokio::test]
async fn a_broadcast_makes_an_asset_available() {
    let site = Site::running().await;
    site.send(topic::ASSET_BROADCAST, &asset_id(1), &broadcast(1, b"bytes"))
        .await;
    let asset = site.until(1, EdgeAsset::known).await;
    assert_eq!(asset.title.as_deref(), Some("Entry 1"));
    assert_eq!(asset.state(0), EdgeState::Available);
    site.caught_up(topic::ASSET_BROADCAST).await;
    let changes = site.records::<AssetChange>(topic::ASSET_CHANGES).await;
    assert_eq!(
        changes
            .iter()
            .map(|change| change.writer.as_str())
            .collect::<Vec<_>>(),
        ["listener"]
    );
}

#[tokio::test]
async fn a_preview_before_its_broadcast_is_no_asset_yet() {
    let site = Site::running().await;
    site.send(topic::ASSET_PREVIEW, &asset_id(1), &preview(1)).await;
    let asset = site.until(1, |asset| asset.preview_media_type.is_some()).await;
    assert!(!asset.known());
    site.send(topic::ASSET_BROADCAST, &asset_id(1), &broadcast(1, b"bytes"))
        .await;
    site.until(1, EdgeAsset::known).await;
    let row = site.row("assets", &asset_id(1)).await.unwrap();
    assert_eq!(row.blob("preview"), Some(preview(1).picture.as_slice()));
}

#[tokio::test]
async fn a_replay_cannot_overwrite_what_is_newer() {
    let site = Site::running().await;
    let now = common::chassis::now_ms();
    let title = |title: &str| AssetBroadcast {
        title: title.to_owned(),
        ..broadcast(1, b"bytes")
    };
    let taken_back = AssetBroadcast {
        withdrawn_at: Some(9),
        reason: Some("wrong".to_owned()),
        ..title("newer")
    };
    site.send_at(topic::ASSET_BROADCAST, 1, &taken_back, now).await;
    site.send_at(topic::ASSET_BROADCAST, 1, &title("older"), now - 1000)
        .await;
    site.send_at(topic::ASSET_BROADCAST, 1, &taken_back, now).await;
    site.caught_up(topic::ASSET_BROADCAST).await;
    let asset = site.asset(1).await;
    assert_eq!(asset.title.as_deref(), Some("newer"));
    assert_eq!(asset.state(0), EdgeState::Withdrawn);
    // Even a newer broadcast does not bring it back.
    site.send_at(topic::ASSET_BROADCAST, 1, &title("newest"), now + 1000)
        .await;
    site.until(1, |asset| asset.title.as_deref() == Some("newest"))
        .await;
    assert_eq!(site.asset(1).await.state(0), EdgeState::Withdrawn);
}

#[tokio::test]
async fn an_answer_fills_its_columns() {
    let site = Site::running().await;
    let north = testkit::site("north");
    let now = common::chassis::now_ms();
    site.send_at(
        topic::ASSET_RESPONSE,
        1,
        &response(&north, 1, 1, Outcome::Refused),
        now,
    )
    .await;
    let asset = site.until(1, |asset| asset.response.is_some()).await;
    assert_eq!(
        (asset.response.as_deref(), asset.response_attempt),
        (Some("refused"), Some(1))
    );
    assert!(asset.response_reason.is_some());
    site.send_at(
        topic::ASSET_RESPONSE,
        1,
        &response(&north, 1, 2, Outcome::Ready),
        now + 1,
    )
    .await;
    let asset = site.until(1, |asset| asset.response_attempt == Some(2)).await;
    assert_eq!(
        (asset.response.as_deref(), asset.response_reason),
        (Some("ready"), None)
    );
}

#[tokio::test]
async fn what_cannot_be_taken_is_put_aside_and_the_rest_goes_on() {
    let site = Site::running().await;
    let large = AssetPreview {
        picture: vec![0; 64 * 1024 + 1],
        ..preview(1)
    };
    let script = AssetPreview {
        media_type: "image/svg+xml".to_owned(),
        ..preview(1)
    };
    site.send(topic::ASSET_PREVIEW, &asset_id(1), &large).await;
    site.send(topic::ASSET_PREVIEW, &asset_id(1), &script).await;
    site.send_bytes(topic::ASSET_PREVIEW, &asset_id(1), b"nonsense".to_vec())
        .await;
    site.send(topic::ASSET_PREVIEW, &asset_id(1), &preview(1)).await;
    let reasons = site.dead_letters(topic::ASSET_PREVIEW, 3).await;
    assert!(
        reasons.iter().any(|reason| reason.contains("65536 is the most")),
        "{reasons:?}"
    );
    site.until(1, |asset| asset.preview_media_type.is_some()).await;
}

#[tokio::test]
async fn ten_thousand_assets_are_taken_in_quickly() {
    let mut site = Site::new().await;
    let producer = site.broker.producer().unwrap();
    for thousand in 0..10 {
        let record = |number: u32| {
            let value = schemas::encode(&broadcast(number, b"bytes")).unwrap();
            Outgoing::new(topic::ASSET_BROADCAST, asset_id(number).as_str(), value)
        };
        let numbers = thousand * 1000..(thousand + 1) * 1000;
        producer.send_all(numbers.map(record).collect()).await.unwrap();
    }
    site.start();
    eventually(Duration::from_secs(60), || async {
        let changes = site.records::<AssetChange>(topic::ASSET_CHANGES).await.len();
        if changes < 10_000 {
            Err(format!("{changes} changes"))
        } else {
            Ok(())
        }
    })
    .await;
    let mut assets = 0;
    for bucket in 0..schemas::AssetId::BUCKETS {
        let bucket = Select::from("assets").partition("bucket", bucket);
        assets += site.table.select(bucket).await.unwrap().len();
    }
    assert_eq!(assets, 10_000);
    site.stop().await;
}
