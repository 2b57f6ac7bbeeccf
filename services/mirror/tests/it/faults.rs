//! What is wrong at the core or with a certificate is named, and holds up nobody else.

use common::identity::{Authority, Validity};
use common::schemas::{AssetReceipt, Desired, RequestId, ServiceState, topic};
use testkit::asset_id;

use crate::site::{Sites, bytes};

#[tokio::test]
async fn damaged_bytes_are_refused_and_the_others_arrive() {
    let mut sites = Sites::new().await;
    sites.open_depot();
    sites.settings.parallel = 1;
    let contents: Vec<_> = (1..=4).map(|seed| bytes(500_000, seed)).collect();
    let mut entries = Vec::new();
    for (number, content) in (1..).zip(&contents) {
        entries.push(sites.offer(number, content).await);
    }
    let path = sites.core_object(&entries[0].hash);
    let mut damaged = std::fs::read(&path).unwrap();
    damaged[300_000] ^= 1;
    std::fs::write(&path, damaged).unwrap();

    sites.start();
    let status = sites.command().await;
    let error = status.last_error.unwrap();
    assert!(
        error.contains(asset_id(1).as_str()) && error.contains("damaged") && error.contains("chunk 4"),
        "{error}"
    );
    assert_eq!(status.counters["chunks_refused"], 3);
    assert_eq!(status.counters["assets_mirrored"], 3);
    assert_eq!(sites.mirrored(&entries[0]).await, None);
    for (entry, content) in entries.iter().zip(&contents).skip(1) {
        assert_eq!(sites.mirrored(entry).await.as_ref(), Some(content));
    }
    assert_eq!(sites.records::<AssetReceipt>(topic::ASSET_RECEIPT).await.len(), 3);

    // Repaired at the core, the next command brings it, from the damaged chunk on.
    std::fs::write(&path, &contents[0]).unwrap();
    let status = sites.command().await;
    assert_eq!(
        status.counters["assets_mirrored"], 7,
        "three of them once more, since their entries are open"
    );
    assert_eq!(sites.mirrored(&entries[0]).await.as_ref(), Some(&contents[0]));
    sites.stop().await;
}

#[tokio::test]
async fn a_small_object_at_which_every_answer_ends_holds_up_nobody() {
    let mut sites = Sites::new().await;
    sites.open_depot();
    let mut entries = Vec::new();
    for number in 1..=5 {
        entries.push(sites.offer(number, &bytes(5_000, number)).await);
    }
    entries.sort_by(|one, other| one.request_id.cmp(&other.request_id));
    // The depot cannot read it, and ends its answer there.
    std::fs::write(sites.core_object(&entries[1].hash), b"torn").unwrap();
    sites.start();
    let status = sites.command().await;
    let error = status.last_error.unwrap();
    assert!(error.contains(entries[1].asset_id.as_str()), "{error}");
    assert_eq!(status.counters["assets_mirrored"], 4);
    assert_eq!(status.counters["tries_failed"], 3);
    sites.stop().await;
}

#[tokio::test]
async fn an_asset_without_an_entry_of_its_own_is_refused_by_name() {
    let mut sites = Sites::new().await;
    sites.open_depot();
    let good = sites.offer(1, &bytes(70_000, 1)).await;
    let (secret, lost) = (
        sites.entry(2, &bytes(70_000, 2)),
        sites.entry(3, &bytes(70_000, 3)),
    );
    // An entry that names another request than the one it lies at, and one whose object is gone.
    sites
        .enter(&secret, &RequestId::new(&sites.north, &asset_id(2), 7))
        .await;
    sites.enter(&lost, &lost.request_id).await;
    sites.start();
    let status = sites.command().await;
    let error = status.last_error.unwrap();
    assert!(
        error.contains("2 assets could not be mirrored") && error.contains("refuses"),
        "{error}"
    );
    assert_eq!(status.counters["assets_mirrored"], 1);
    assert_eq!(status.counters["tries_failed"], 6);
    assert!(sites.mirrored(&good).await.is_some() && sites.mirrored(&secret).await.is_none());
    sites.stop().await;
}

#[tokio::test]
async fn a_revoked_site_is_told_why() {
    let mut sites = Sites::new().await;
    sites.open_depot();
    let entry = sites.offer(1, &bytes(70_000, 1)).await;
    sites.revoke("laptop lost in the harbour").await;
    sites.start();
    let status = sites.command().await;
    let error = status.last_error.unwrap();
    assert!(
        error.contains("revoked") && error.contains("laptop lost in the harbour"),
        "{error}"
    );
    assert_eq!(sites.mirrored(&entry).await, None);
    sites.stop().await;
}

#[tokio::test]
async fn a_depot_that_is_away_is_waited_for() {
    let mut sites = Sites::new().await;
    let content = bytes(70_000, 1);
    let entry = sites.offer(1, &content).await;
    sites.start();
    sites.tell(Desired::Running).await;
    let status = sites
        .status("waiting", |status| status.state == ServiceState::Waiting)
        .await;
    let detail = status.detail.unwrap();
    assert!(
        detail.starts_with("cannot reach the depot at https://127.0.0.1:"),
        "{detail}"
    );
    sites.open_depot();
    sites.paused().await;
    assert_eq!(sites.mirrored(&entry).await, Some(content));
    sites.stop().await;
}

#[tokio::test]
async fn a_wrong_certificate_is_named_and_a_right_one_is_taken_up_without_a_restart() {
    let mut sites = Sites::new().await;
    sites.open_depot();
    let content = bytes(70_000, 1);
    let entry = sites.offer(1, &content).await;
    let elsewhere = testkit::temp_dir();
    let other = Authority::create(elsewhere.path()).unwrap();
    let right = sites.settings.tls.ca.clone();
    let ca = elsewhere.path().join("trusted.crt");
    std::fs::copy(other.certificate_path(), &ca).unwrap();
    sites.settings.tls.ca = ca.clone();
    sites.start();
    sites.tell(Desired::Running).await;
    let status = sites
        .status("waiting with an error", |status| {
            status.state == ServiceState::Waiting && status.last_error.is_some()
        })
        .await;
    let error = status.last_error.unwrap();
    assert!(
        error.contains("was not issued by the authority in") && error.contains("trusted.crt"),
        "{error}"
    );
    std::fs::copy(right, &ca).unwrap();
    sites.paused().await;
    assert_eq!(sites.mirrored(&entry).await, Some(content));
    sites.stop().await;
}

#[tokio::test]
async fn a_certificate_of_ones_own_that_is_over_or_foreign_is_named() {
    let mut sites = Sites::new().await;
    sites.open_depot();
    let elsewhere = testkit::temp_dir();
    let other = Authority::create(elsewhere.path()).unwrap();
    let foreign = other.issue_site(&sites.north).unwrap();
    let over = Authority::load(sites.settings.tls.ca.parent().unwrap()).unwrap();
    let over = over.with_validity(Validity {
        site_days: 0,
        ..Validity::default()
    });
    let over = over.issue_site(&"south".parse().unwrap()).unwrap();
    for (issued, wanted) in [
        (
            foreign,
            "does not know the authority that issued this site's certificate",
        ),
        (over, "has expired"),
    ] {
        sites.settings.tls.certificate = issued.certificate;
        sites.settings.tls.key = issued.key;
        sites.start();
        sites.tell(Desired::Running).await;
        let named = |status: &common::schemas::ServiceStatus| {
            status
                .last_error
                .as_ref()
                .is_some_and(|error| error.contains(wanted))
        };
        sites.status(wanted, named).await;
        sites.tell(Desired::Paused).await;
        sites.paused().await;
        sites.stop().await;
    }
}
