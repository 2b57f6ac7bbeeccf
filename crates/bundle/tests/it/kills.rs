//! Exports and imports that are torn off anywhere.

use std::time::Duration;

use bundle::{Since, Stick, Wish, export, import};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::rig::Rig;

/// Drops a future after a moment, or lets it end.
async fn torn<T>(after: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(after, work).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_torn_off_each_record_comes_once() {
    each_comes_once(&Rig::new().await, 12, 400).await;
}

/// However many exports and imports are torn off, none later than after so many milliseconds.
pub(crate) async fn each_comes_once(rig: &Rig, rounds: usize, latest: u64) {
    let seed = std::env::var("SEED").map_or_else(|_| rand::rng().random(), |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (mut torn_off, mut ended) = (0, 0);
    for _ in 0..rounds {
        rig.send(random.random_range(1..4000)).await;
        for _ in 0..4 {
            let moment = Duration::from_micros(random.random_range(0..latest * 1000));
            let (here, there) = if random.random() {
                (&rig.core, &rig.edge)
            } else {
                (&rig.edge, &rig.core)
            };
            let mut stick = rig.stick();
            let done = if random.random() {
                let work = export(here, &there.site, &mut stick, &Since::Receipt, &|_| {});
                torn(moment, work).await.map(|done| drop(done.unwrap()))
            } else {
                let work = import(here, &mut stick, Wish::default(), &|_| {});
                torn(moment, work).await.map(|done| {
                    // On the first tries there may be nothing yet.
                    if let Ok(imported) = done {
                        assert_eq!(imported[0].problems, Vec::<String>::new());
                    }
                })
            };
            match done {
                Some(()) => ended += 1,
                None => torn_off += 1,
            }
        }
    }
    println!("{torn_off} torn off, {ended} ended");
    for _ in 0..2 {
        rig.export_down().await;
        rig.import_down().await;
        rig.export_up().await;
        rig.import_up().await;
    }
    rig.all_is_carried().await;
    let left = testkit::files(&rig.root());
    assert!(
        left.iter()
            .all(|path| path.extension().is_none_or(|ending| ending != "partial")),
        "{left:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_was_torn_off_goes_on_behind_what_it_left() {
    let rig = Rig::new().await;
    rig.send_large(60).await;
    let mut stick = rig.stick();
    // As a kill: the future is dropped when the first segment is on the stick.
    let (told, mut first) = tokio::sync::mpsc::unbounded_channel();
    let shown = move |_| {
        let _nobody_listens_any_more = told.send(());
    };
    tokio::select! {
        _ = export(&rig.core, &rig.edge.site, &mut stick, &Since::Receipt, &shown) => panic!("nobody tore it off"),
        _ = first.recv() => {}
    }
    let look = bundle::show(&Stick::at(rig.root()), Some(&rig.edge.trust), true)
        .unwrap()
        .remove(0);
    assert_eq!((look.problem, look.damaged), (None, Vec::<String>::new()));
    let there = look.manifest.unwrap();
    assert!(!there.whole);
    let part = rig.import_down().await;
    assert!(part.records > 0 && part.records < 60, "{part:?}");
    std::fs::remove_file(rig.down().join("receipt.jsonl")).unwrap();
    let exported = rig.export_down().await;
    assert_eq!((exported.kept, exported.records), (part.records, 60));
    assert_eq!(rig.import_down().await.records, 60 - part.records);
}
