//! What a copy makes of the line: it outlives the depot, and there are as many at once as the line has room for.

use common::chassis::ByteSize;
use common::schemas::{Desired, ServiceState};
use common::volume::ManifestEntry;
use testkit::{asset_id, eventually};

use crate::proxy::Fault;
use crate::site::{LIMIT, Sites, bytes};

#[tokio::test]
async fn a_depot_that_was_started_anew_goes_on_at_the_very_byte() {
    let content = bytes(4_000_000, 1);
    let (mut sites, entry) = Sites::in_mid_copy(&content).await;
    sites.close_depot().await;
    // What lies on the way is lost with it.
    sites.proxy.set(Fault::Cut(0));
    sites
        .status("waiting", |status| status.state == ServiceState::Waiting)
        .await;
    let before = sites.staged(&entry.hash);
    assert!(before < 4_000_000, "it was stopped in the middle");
    sites.open_depot();
    let status = sites.paused().await;
    assert_eq!(sites.mirrored(&entry).await, Some(content));
    assert_eq!(status.counters["bytes_received"], 4_000_000, "nothing came twice");
    assert_eq!(status.last_error, None);
    sites.stop().await;
}

/// Six assets, and a line that is held up in the middle of them.
async fn held_up(cap: u64) -> (Sites, Vec<ManifestEntry>) {
    let mut sites = Sites::new().await;
    sites.open_depot();
    sites.settings.bytes_per_second = Some(ByteSize(cap));
    let mut entries = Vec::new();
    for number in 1..=6 {
        entries.push(sites.offer(number, &bytes(1_000_000, number)).await);
    }
    sites.start();
    sites.paused().await;
    sites.proxy.set(Fault::Hold(400_000));
    sites.tell(Desired::Running).await;
    eventually(LIMIT, || async {
        match sites.proxy.down() {
            400_000.. => Ok(()),
            down => Err(down.to_string()),
        }
    })
    .await;
    (sites, entries)
}

#[tokio::test]
async fn on_a_thin_line_one_copy_comes_after_the_other() {
    let (mut sites, entries) = held_up(100_000).await;
    let begun = entries
        .iter()
        .filter(|entry| sites.staged(&entry.hash) > 0)
        .count();
    assert_eq!(begun, 1);
    // One for the copy, and one at most for the manifest.
    assert!(sites.proxy.connections() <= 2, "{}", sites.proxy.connections());
    sites.stop().await;
}

#[tokio::test]
async fn on_a_fat_line_several_copies_come_at_once() {
    let (mut sites, entries) = held_up(100_000_000).await;
    eventually(LIMIT, || async {
        match sites.proxy.connections() {
            4.. => Ok(()),
            few => Err(few.to_string()),
        }
    })
    .await;
    sites.proxy.set(Fault::None);
    for entry in &entries {
        eventually(LIMIT, || async {
            let here = sites.mirrored(entry).await;
            here.map(drop).ok_or_else(|| entry.file_name.clone())
        })
        .await;
    }
    sites.stop().await;
}

/// What one small object costs on a line that is cut each time so many bytes have come: it arrives, and no byte of it comes
/// twice.
async fn cut_each(bytes_each: u64) {
    let mut sites = Sites::new().await;
    sites.open_depot();
    // What is taken for the asset's own trouble is given up at once.
    sites.settings.tries = 1;
    let content = bytes(60_000, 1);
    let entry = sites.offer(1, &content).await;
    sites.proxy.set(Fault::Cuts(bytes_each));
    sites.start();
    let status = sites.command().await;
    assert_eq!(
        status.last_error,
        None,
        "{} connections",
        sites.proxy.connections()
    );
    assert!(sites.mirrored(&entry).await == Some(content));
    assert_eq!(
        status.counters["bytes_received"], 60_000,
        "it goes on at the very byte"
    );
    sites.stop().await;
}

#[tokio::test]
async fn a_small_object_arrives_over_a_line_that_is_cut_before_it_is_whole() {
    cut_each(40_000).await;
}

#[tokio::test]
async fn a_small_object_arrives_over_a_line_that_is_cut_again_and_again_within_it() {
    cut_each(28_000).await;
}

#[tokio::test]
async fn a_small_object_goes_on_at_its_byte_when_it_was_stopped() {
    let mut sites = Sites::new().await;
    sites.open_depot();
    let mut entries = [sites.entry(1, b""), sites.entry(2, b"")];
    entries.sort_by(|one, other| one.request_id.cmp(&other.request_id));
    let [first, second] = entries.map(|entry| if entry.asset_id == asset_id(1) { 1 } else { 2 });
    sites.offer(first, &bytes(20_000, first)).await;
    let entry = sites.offer(second, &bytes(60_000, second)).await;
    sites.start();
    sites.paused().await;
    sites.proxy.set(Fault::Hold(60_000));
    sites.tell(Desired::Running).await;
    // TLS carries 16 KiB at once, so the beginning of the second is here too.
    sites
        .status("the first is here", |status| {
            status.counters.get("assets_mirrored") == Some(&1)
        })
        .await;
    sites.tell(Desired::Paused).await;
    eventually(LIMIT, || async {
        match sites.staged(&entry.hash) {
            0 => Err("nothing is kept"),
            _ => Ok(()),
        }
    })
    .await;
    sites.proxy.set(Fault::None);
    sites.command().await;
    // The entry of the first is still open.
    let status = sites.status("the second is here", |status| {
        status.counters.get("assets_mirrored") == Some(&3)
    });
    assert_eq!(
        status.await.counters["bytes_received"],
        80_000,
        "nothing came twice"
    );
    sites.stop().await;
}

/// The bytes that come down until 300 entries of one small object are read, when the line is cut after so many.
async fn listed(cut: Option<u64>) -> u64 {
    let mut sites = Sites::new().await;
    sites.open_depot();
    sites.offer(1, b"the same").await;
    for number in 2..=300 {
        let mut entry = sites.entry(number, b"the same");
        // Nothing that can be packed.
        entry.file_name = bytes(250, number)
            .iter()
            .map(|byte| format!("{byte:x}"))
            .collect();
        sites.enter(&entry, &entry.request_id).await;
    }
    sites.proxy.set(cut.map_or(Fault::None, Fault::Cut));
    sites.start();
    let status = sites.command().await;
    assert_eq!(status.counters["assets_mirrored"], 300);
    assert_eq!(status.last_error, None);
    let down = sites.proxy.down();
    sites.stop().await;
    down
}

#[tokio::test]
async fn a_manifest_that_is_cut_is_read_on_behind_its_last_entry() {
    let whole = listed(None).await;
    let cut = 50_000;
    assert!(whole > cut + 30_000, "{whole}");
    let both = listed(Some(cut)).await;
    // What was on the way is lost, 64 entries at most that go out together, and there are two handshakes.
    assert!(both < whole + cut - 10_000, "{both} instead of {whole}");
}
