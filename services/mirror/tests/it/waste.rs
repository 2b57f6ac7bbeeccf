//! No byte is fetched that cannot be kept, however often it is tried.

use std::time::Duration;

use common::chassis::ByteSize;
use common::schemas::{Desired, ServiceState, ServiceStatus, topic};
use testkit::eventually;

use crate::site::{LIMIT, Sites, bytes};

/// So long it is tried again and again: with the pauses of these tests ten times at least.
const A_WHILE: Duration = Duration::from_secs(3);

fn waits_for(what: &str) -> impl Fn(&ServiceStatus) -> bool {
    move |status| {
        let detail = status.detail.as_ref();
        status.state == ServiceState::Waiting && detail.is_some_and(|detail| detail.contains(what))
    }
}

async fn received(sites: &Sites) -> i64 {
    let newest = sites.records::<ServiceStatus>(topic::SERVICE_STATUS).await.pop();
    newest
        .unwrap()
        .counters
        .get("bytes_received")
        .copied()
        .unwrap_or_default()
}

#[tokio::test]
async fn what_there_is_no_room_for_is_neither_fetched_nor_listed_again() {
    let mut sites = Sites::new().await;
    sites.open_depot();
    sites.settings.quota = Some(ByteSize(200_000));
    let mut entries = Vec::new();
    for number in 1..=5 {
        entries.push(sites.offer(number, &bytes(50_000, number)).await);
    }
    sites.offer(6, &bytes(300_000, 6)).await;
    sites.start();
    sites.tell(Desired::Running).await;
    sites.status("waiting for room", waits_for("quota")).await;
    assert_eq!(received(&sites).await, 200_000, "four have room");
    let down = sites.proxy.down();
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(received(&sites).await, 200_000);
    assert_eq!(sites.proxy.down(), down, "not a byte crosses while they wait");

    // Somebody makes room for one.
    let mut here = None;
    for entry in &entries {
        if sites.mirrored(entry).await.is_some() {
            here = Some(entry.hash.clone());
        }
    }
    sites.volume.delete(&here.unwrap()).await.unwrap();
    eventually(LIMIT, || async {
        let received = received(&sites).await;
        if received == 250_000 {
            Ok(())
        } else {
            Err(received.to_string())
        }
    })
    .await;
    let more = sites.proxy.down() - down;
    assert!(more < 55_000, "it was fetched and nothing was listed: {more}");
    sites.stop().await;
}

#[tokio::test]
async fn what_is_asked_for_while_others_wait_for_room_is_listed_at_once() {
    let mut sites = Sites::new().await;
    sites.open_depot();
    sites.settings.quota = Some(ByteSize(200_000));
    sites.offer(1, &bytes(300_000, 1)).await;
    sites.start();
    sites.tell(Desired::Running).await;
    sites.status("waiting for room", waits_for("quota")).await;
    let entry = sites.offer(2, b"new").await;
    sites.tell(Desired::Running).await;
    eventually(LIMIT, || async {
        let here = sites.mirrored(&entry).await;
        here.map(drop).ok_or_else(|| "not here".to_owned())
    })
    .await;
    sites.stop().await;
}

#[tokio::test]
async fn a_volume_that_takes_nothing_is_asked_before_the_depot_is() {
    let mut sites = Sites::new().await;
    sites.open_depot();
    let mut entries = Vec::new();
    for number in 1..=20 {
        entries.push(sites.offer(number, &bytes(50_000, number)).await);
    }
    entries.push(sites.offer(21, &bytes(500_000, 21)).await);
    sites.start();
    sites.paused().await;
    // As on a disk that is full, or that can only be read any more.
    let (staging, away) = (sites.staging(), sites.staging().with_extension("away"));
    std::fs::rename(&staging, &away).unwrap();
    sites.tell(Desired::Running).await;
    sites.status("waiting", waits_for("cannot store the copy")).await;
    let (first, down) = (received(&sites).await, sites.proxy.down());
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(
        received(&sites).await,
        first,
        "nothing is fetched to be thrown away"
    );
    let more = sites.proxy.down() - down;
    assert!(more < 100_000, "but what was under way: {more}");

    std::fs::rename(&away, &staging).unwrap();
    let status = sites.paused().await;
    assert_eq!(status.counters["assets_mirrored"], 21);
    assert_eq!(status.counters["bytes_received"], 1_500_000 + first);
    sites.stop().await;
}
