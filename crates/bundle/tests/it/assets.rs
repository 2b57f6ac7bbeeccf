//! Assets: from what was asked for to what was delivered.

use std::time::Duration;

use bundle::{Wish, import};
use common::schemas::{self, AssetReceipt, topic};

use crate::rig::{Rig, contents};

const MIB: u64 = 1 << 20;

async fn receipts(rig: &Rig) -> Vec<AssetReceipt> {
    let all = contents(&rig.edge.broker, topic::ASSET_RECEIPT).await;
    let all = all.into_values().flatten();
    all.map(|record| schemas::decode(&record.value.unwrap()).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asset_arrives_whole_and_leaves_what_the_mirror_leaves() {
    arrives_whole(&Rig::new().await).await;
}

/// Assets of all sizes arrive, each once, with row and receipt.
pub(crate) async fn arrives_whole(rig: &Rig) {
    for (number, size) in [(1, 0), (2, 1), (3, 65_536), (4, 65_537), (5, 3 * MIB + 7)] {
        let entry = rig.offer(number, size).await;
        rig.export_down().await;
        let imported = rig.import_down().await;
        assert_eq!((imported.assets, imported.problems.len()), (1, 0), "{imported:?}");
        assert_eq!(rig.edge.volume.stat(&entry.hash).await.unwrap(), Some(size));
        let receipt = receipts(rig)
            .await
            .into_iter()
            .find(|found| found.request_id == entry.request_id);
        assert_eq!(receipt.map(|receipt| receipt.hash), Some(entry.hash.clone()));
        let key = [
            ("bucket", entry.asset_id.bucket().into()),
            ("asset_id", entry.asset_id.as_str().into()),
        ];
        let row = rig.edge.table.get("assets", &key).await.unwrap().unwrap();
        assert_eq!(row.text("mirrored_hash"), Some(entry.hash.as_str()));
        let again = rig.import_down().await;
        assert_eq!((again.assets, again.assets_known), (0, 1));
        rig.close(&entry).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn importing_an_asset_twice_has_no_effect() {
    let rig = Rig::new().await;
    rig.offer(1, MIB).await;
    rig.export_down().await;
    assert_eq!(rig.import_down().await.assets, 1);
    let before = receipts(&rig).await;
    let again = rig.import_down().await;
    assert_eq!((again.assets, again.assets_known), (0, 1));
    assert_eq!(receipts(&rig).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_edges_that_ask_for_one_asset_take_one_copy_on_the_stick() {
    let rig = Rig::new().await;
    let entry = rig.offer(1, MIB).await;
    rig.export_down().await;
    let (before, other) = (rig.objects(), rig.other_edge().await);
    rig.offer_to(&other, &entry).await;
    bundle::export(
        &rig.core,
        &other,
        &mut rig.stick(),
        &bundle::Since::Receipt,
        &|_| {},
    )
    .await
    .unwrap();
    assert_eq!(rig.objects(), before);
    // Its bytes go when neither wants them any more.
    rig.close(&entry).await;
    rig.export_down().await;
    assert_eq!(rig.objects(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asset_that_was_torn_off_goes_on_at_its_chunk() {
    let rig = Rig::new().await;
    rig.offer(1, 40 * MIB).await;
    rig.export_down().await;
    let mut stick = rig.stick();
    for _ in 0..3 {
        let work = import(&rig.edge, &mut stick, Wish::default(), &|_| {});
        drop(tokio::time::timeout(Duration::from_millis(60), work).await);
    }
    assert_eq!(rig.import_down().await.problems, Vec::<String>::new());
    assert_eq!(receipts(&rig).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_with_a_quota_takes_what_it_has_room_for() {
    let mut rig = Rig::new().await;
    rig.offer(1, MIB).await;
    rig.offer(2, 3 * MIB).await;
    rig.edge.quota = Some(2 * MIB);
    rig.export_down().await;
    let imported = rig.import_down().await;
    assert_eq!(imported.assets, 1);
    assert!(imported.problems[0].contains("quota"), "{:?}", imported.problems);
}
