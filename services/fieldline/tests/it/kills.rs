//! SIGKILL in the middle of an export and of an import.

use std::process::Stdio;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::rig::{Rig, Running, command};

/// Starts the command and kills it after a moment; whether it had not ended by then.
async fn killed(words: &[String], after: Duration) -> bool {
    let mut child = Running(
        command(words)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    tokio::time::sleep(after).await;
    let under_way = child.0.try_wait().unwrap().is_none();
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    under_way
}

#[tokio::test(flavor = "multi_thread")]
async fn whenever_export_and_import_are_killed_each_record_and_asset_comes_once() {
    let seed = std::env::var("SEED").map_or_else(|_| rand::rng().random(), |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let rig = Rig::new();
    rig.readings(3000, 10_000).await;
    let assets = [rig.asset(1, 40_000_000).await, rig.asset(2, 100_000).await];
    let (mut under_way, mut exported) = (0, false);
    for (from, to) in [("edge-1", "core"), ("core", "edge-1")] {
        for words in [rig.export(from), rig.import(to)] {
            for _ in 0..testkit::rounds(5) {
                // Short moments as often as long ones, for how fast the machine is nobody knows.
                let moment = Duration::from_secs_f64(10_f64.powf(random.random_range(-2.3..0.2)));
                under_way += u32::from(killed(&words, moment).await);
                // Whatever is there is signed, and all that is named is whole.
                let shown = rig.show();
                let nothing_yet = !exported && shown.err.contains("there is no bundle");
                assert!(
                    shown.code == Some(0) || nothing_yet,
                    "after {moment:?}: {shown:?}"
                );
            }
            rig.do_it(&words).prints("");
            exported = true;
        }
        rig.do_it(&rig.import(to))
            .prints(": 0 records")
            .prints(", 0 assets");
    }
    println!("{under_way} killed under way");
    assert!(under_way > 0, "nothing was killed");
    let (sent, came) = (
        rig.contents("edge-1", "readings").await,
        rig.contents("core", "edge-1.readings").await,
    );
    assert_eq!(sent.len(), 3000);
    assert!(sent == came, "{} records came", came.len());
    for asset in assets {
        let found = rig.volume("edge-1").await.stat(&asset.hash).await.unwrap();
        assert_eq!(found, Some(asset.size));
    }
}
