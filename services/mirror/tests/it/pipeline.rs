//! From the manifest to the volume, and what a second command, a stop and a cancelled request come to.

use common::chassis::now_ms;
use common::schemas::{AssetChange, AssetReceipt, Desired, ServiceState, topic};
use common::table::{Value, Write};
use common::volume::CHUNK;
use testkit::asset_id;

use crate::proxy::Fault;
use crate::site::{Sites, bytes};

#[tokio::test]
async fn assets_arrive_as_they_are_at_the_core_with_row_change_and_receipt() {
    let mut sites = Sites::new().await;
    sites.open_depot();
    let contents: Vec<_> = [0, 1, 65_535, 65_536, 65_537, 3_000_000]
        .into_iter()
        .zip(1..)
        .map(|(size, seed)| bytes(size, seed))
        .collect();
    let mut entries = Vec::new();
    for (number, content) in (1..).zip(&contents) {
        entries.push(sites.offer(number, content).await);
    }
    // Two assets can have the same bytes.
    entries.push(sites.offer(99, &contents[5]).await);
    sites.start();
    sites.paused().await;
    assert_eq!(sites.proxy.down(), 0, "it works on command only");

    let before = now_ms();
    let status = sites.command().await;
    let total: usize = contents.iter().map(Vec::len).sum();
    assert_eq!(status.counters["assets_mirrored"], 7);
    assert_eq!(status.counters["bytes_received"], i64::try_from(total).unwrap());
    assert_eq!(status.gauges["bytes_total"], status.gauges["bytes_done"]);
    assert_eq!(status.gauges["entries_left"], 0.0);
    assert!(status.gauges["bytes_per_second"] > 0.0);
    assert_eq!(status.last_error, None);

    let receipts = sites.records::<AssetReceipt>(topic::ASSET_RECEIPT).await;
    let changes = sites.records::<AssetChange>(topic::ASSET_CHANGES).await;
    assert_eq!((receipts.len(), changes.len()), (7, 7));
    for (entry, content) in entries.iter().zip(contents.iter().chain([&contents[5]])) {
        assert_eq!(sites.mirrored(entry).await.as_ref(), Some(content));
        let row = sites.row(&entry.asset_id).await.unwrap();
        let mirrored_at = row.timestamp("mirrored_at").unwrap();
        assert!((before..=now_ms()).contains(&mirrored_at));
        assert_eq!(row.text("mirrored_hash"), Some(entry.hash.as_str()));
        let receipt = AssetReceipt {
            request_id: entry.request_id.clone(),
            asset_id: entry.asset_id.clone(),
            hash: entry.hash.clone(),
            size: i64::try_from(content.len()).unwrap(),
            mirrored_at,
        };
        assert!(receipts.contains(&receipt), "{receipt:?}");
        assert!(
            changes
                .iter()
                .any(|change| change.asset_id == entry.asset_id && change.writer == "mirror")
        );
    }
    sites.stop().await;
}

#[tokio::test]
async fn a_command_given_twice_fetches_nothing_twice() {
    let mut sites = Sites::new().await;
    sites.open_depot();
    let content = bytes(200_000, 1);
    let entry = sites.offer(1, &content).await;
    sites.start();
    sites.tell(Desired::Running).await;
    let first = sites.command().await;
    // The core has not closed the entry: its receipt is sent again and says the same.
    let second = sites.command().await;
    assert_eq!(first.counters["bytes_received"], 200_000);
    assert_eq!(second.counters["bytes_received"], 200_000);
    let mut receipts = sites.records::<AssetReceipt>(topic::ASSET_RECEIPT).await;
    assert!(receipts.len() >= 2);
    receipts.dedup();
    assert_eq!(receipts.len(), 1, "{receipts:?}");
    assert_eq!(sites.mirrored(&entry).await, Some(content));
    sites.stop().await;
}

#[tokio::test]
async fn a_copy_that_was_stopped_goes_on_at_its_chunk() {
    let content = bytes(4_000_000, 1);
    let (mut sites, entry) = Sites::in_mid_copy(&content).await;
    sites.tell(Desired::Paused).await;
    sites.paused().await;
    assert_eq!(
        sites.mirrored(&entry).await,
        None,
        "nothing is visible before it is whole"
    );
    assert_eq!(sites.records::<AssetReceipt>(topic::ASSET_RECEIPT).await, []);
    let staged = sites.staged(&entry.hash);
    sites.stop().await;

    // Another process goes on.
    sites.proxy.set(Fault::None);
    sites.start();
    let status = sites.command().await;
    let received = status.counters["bytes_received"];
    assert_eq!(received, 4_000_000 - i64::try_from(staged).unwrap());
    assert_eq!(sites.mirrored(&entry).await, Some(content));
    sites.stop().await;
}

#[tokio::test]
async fn a_cut_costs_no_byte_that_has_come() {
    let mut sites = Sites::new().await;
    sites.open_depot();
    let content = bytes(3_000_000, 1);
    let entry = sites.offer(1, &content).await;
    sites.start();
    sites.paused().await;
    sites.proxy.set(Fault::Cut(1_200_000));
    let status = sites.command().await;
    assert_eq!(sites.mirrored(&entry).await, Some(content));
    let received = status.counters["bytes_received"];
    assert_eq!(received, 3_000_000, "it goes on at the very byte");
    // What the network carried is that, TLS and the lists; what was under way when it was cut is lost to it.
    assert!(
        sites.proxy.down() < 3_000_000 + 2 * CHUNK + 100_000,
        "{}",
        sites.proxy.down()
    );
    assert_eq!(sites.records::<AssetReceipt>(topic::ASSET_RECEIPT).await.len(), 1);
    sites.stop().await;
}

#[tokio::test]
async fn what_the_team_took_back_is_not_fetched() {
    let mut sites = Sites::new().await;
    sites.open_depot();
    let (kept, cancelled, refused) = (bytes(100_000, 1), bytes(100_000, 2), bytes(100_000, 3));
    let entries = [
        sites.offer(1, &kept).await,
        sites.offer(2, &cancelled).await,
        sites.offer(3, &refused).await,
    ];
    let row = |number: u32| {
        let id = asset_id(number);
        Write::to("assets")
            .set("bucket", id.bucket())
            .set("asset_id", id.as_str())
            .set("attempt", 1)
            .set("requesting_at", Value::timestamp(1000))
    };
    sites
        .table
        .upsert(row(1).set("cancelled_at", Value::timestamp(999)))
        .await
        .unwrap();
    sites
        .table
        .upsert(row(2).set("cancelled_at", Value::timestamp(1001)))
        .await
        .unwrap();
    sites
        .table
        .upsert(row(3).set("response", "refused").set("response_attempt", 1))
        .await
        .unwrap();
    sites.start();
    let status = sites.command().await;
    assert_eq!(status.counters["bytes_received"], 100_000);
    assert_eq!(sites.mirrored(&entries[0]).await, Some(kept));
    assert_eq!(sites.mirrored(&entries[1]).await, None);
    assert_eq!(sites.mirrored(&entries[2]).await, None);
    assert_eq!(
        sites.row(&asset_id(2)).await.unwrap().timestamp("mirrored_at"),
        None
    );
    assert_eq!(sites.records::<AssetReceipt>(topic::ASSET_RECEIPT).await.len(), 1);
    assert_eq!(status.gauges["bytes_total"], 100_000.0);
    assert_eq!(status.state, ServiceState::Paused);
    sites.stop().await;
}
