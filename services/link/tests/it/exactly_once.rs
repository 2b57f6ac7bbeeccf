//! Each record arrives once and in order, however often the link is stopped or torn off.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::rig::Rig;

/// Starts the link again and again, and lets it go at random moments while records keep coming.
pub(crate) async fn survives(rig: &Rig, rounds: usize, longest_ms: u64) {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for round in 0..rounds {
        let running = rig.start();
        for part in 0..3 {
            rig.send(round * 120 + part * 40, 40).await;
            tokio::time::sleep(Duration::from_millis(random.random_range(0..longest_ms))).await;
        }
        if random.random_bool(0.7) {
            running.tear().await;
        } else {
            running.stop().await;
        }
    }
    let running = rig.start();
    rig.all_is_carried().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_carried_once_and_in_order_when_the_link_is_torn_off() {
    let rig = Rig::embedded().await;
    survives(&rig, 12, 120).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_are_missing_at_the_edge_are_made_with_the_partitions_of_the_core() {
    let rig = Rig::embedded().await;
    let running = rig.start();
    rig.send(0, 100).await;
    rig.all_is_carried().await;
    assert_eq!(rig.edge.describe(&rig.news).await.unwrap().unwrap().partitions, 3);
    running.stop().await;
}
