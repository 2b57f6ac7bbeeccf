//! Sticks that are too small.

use bundle::{Since, export};

use crate::rig::Rig;

const MIB: u64 = 1 << 20;

fn size(rig: &Rig) -> u64 {
    testkit::files(&rig.root())
        .iter()
        .map(|path| path.metadata().unwrap().len())
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stick_holds_what_fits_and_says_what_did_not() {
    let rig = Rig::new().await;
    rig.send(100).await;
    rig.send_large(90).await;
    let mut carried = 0;
    for round in 0.. {
        assert!(round < 10, "it never came to an end");
        let mut stick = rig.stick().with_limit(Some(40 * MIB)).unwrap();
        let exported = export(&rig.core, &rig.edge.site, &mut stick, &Since::Receipt, &|_| {})
            .await
            .unwrap();
        assert!(size(&rig) <= 40 * MIB, "{} bytes", size(&rig));
        assert_eq!(exported.problems, Vec::<String>::new());
        let imported = rig.import_down().await;
        assert!(imported.records > 0, "nothing fits");
        assert_eq!(imported.whole, exported.whole);
        carried += imported.records;
        assert_eq!(exported.records_left, 190 - carried);
        if exported.whole {
            assert!(round > 0, "it was never full");
            break;
        }
    }
    assert_eq!(carried, 190);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wanted_first_goes_first_and_small_assets_before_large_ones() {
    let rig = Rig::new().await;
    rig.send(20).await;
    let entries = [
        rig.offer(1, 6 * MIB).await,
        rig.offer(2, MIB).await,
        rig.offer(3, 3 * MIB).await,
    ];
    let mut stick = rig.stick().with_limit(Some(5 * MIB)).unwrap();
    let exported = export(&rig.core, &rig.edge.site, &mut stick, &Since::Receipt, &|_| {})
        .await
        .unwrap();
    assert_eq!(
        (exported.assets, exported.assets_left, exported.bytes_left),
        (2, 1, 6 * MIB)
    );
    assert!(size(&rig) <= 5 * MIB);
    let imported = rig.import_down().await;
    assert_eq!((imported.assets, imported.whole), (2, false));
    assert!(rig.edge.volume.stat(&entries[0].hash).await.unwrap().is_none());
    // The receipts of those two close their entries, and the stick has room for the third.
    rig.close(&entries[1]).await;
    rig.close(&entries[2]).await;
    let mut stick = rig.stick().with_limit(Some(7 * MIB)).unwrap();
    let exported = export(&rig.core, &rig.edge.site, &mut stick, &Since::Receipt, &|_| {})
        .await
        .unwrap();
    assert_eq!((exported.assets, exported.whole), (1, true));
    assert_eq!(rig.import_down().await.assets, 1);
}
