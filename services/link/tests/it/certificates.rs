//! Certificates towards the core: wrong ones are named, and new files are taken up.

use std::path::PathBuf;

use common::broker;
use common::schemas::ServiceState;

use crate::kafka::url;
use crate::rig::Rig;

/// A rig whose core is reached by mutual TLS with files of its own, which are not yet right.
async fn encrypted() -> (Rig, testkit::TempDir) {
    let directory = testkit::temp_dir();
    let mut rig = Rig::small_edge().await;
    let own = |name: &str| Some(directory.path().join(name));
    rig.settings.core = broker::Settings::url(url("KAFKA_TLS_URL"));
    rig.settings.core.tls = broker::Tls {
        ca: Some(PathBuf::from(url("ENGINES_TLS_CA"))),
        certificate: own("own.crt"),
        key: own("own.key"),
        unverified: false,
    };
    (rig, directory)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_TLS_URL and the certificates beside it"]
async fn certificate_that_the_core_refuses_is_named_and_a_new_one_is_taken_up() {
    let (rig, directory) = encrypted().await;
    let put = |name: &str, text: String| std::fs::write(directory.path().join(name), text).unwrap();
    let authority = common::identity::Authority::create(directory.path()).unwrap();
    let stranger = authority.issue_site(&rig.site).unwrap();
    put("own.crt", std::fs::read_to_string(stranger.certificate).unwrap());
    put("own.key", std::fs::read_to_string(stranger.key).unwrap());
    let running = rig.start();
    let refused = rig
        .reports("one", |status| {
            status.state == ServiceState::Waiting
                && status
                    .detail
                    .as_ref()
                    .is_some_and(|why| why.contains("certificate"))
        })
        .await;
    assert!(
        refused
            .detail
            .unwrap()
            .contains("refuses this client's certificate")
    );
    for (name, of) in [
        ("own.key", "ENGINES_TLS_KEY"),
        ("own.crt", "ENGINES_TLS_CERTIFICATE"),
    ] {
        put(name, std::fs::read_to_string(url(of)).unwrap());
    }
    rig.runs("one").await;
    rig.send(0, 50).await;
    rig.all_is_carried().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_TLS_URL and the certificates beside it"]
async fn strangers_authority_is_named_and_taking_anybody_stands_in_every_status() {
    let (mut rig, directory) = encrypted().await;
    let authority = common::identity::Authority::create(directory.path()).unwrap();
    let ca = directory.path().join("stranger.crt");
    std::fs::write(&ca, authority.certificate()).unwrap();
    rig.settings.core.tls = broker::Tls {
        ca: Some(ca),
        certificate: Some(PathBuf::from(url("ENGINES_TLS_CERTIFICATE"))),
        key: Some(PathBuf::from(url("ENGINES_TLS_KEY"))),
        unverified: false,
    };
    let running = rig.start();
    let waits = rig
        .reports("one", |status| {
            status.state == ServiceState::Waiting && status.detail.is_some()
        })
        .await;
    assert!(waits.detail.unwrap().contains("certificate"));
    running.stop().await;
    rig.settings.core.tls.unverified = true;
    let running = rig.start();
    let told = rig
        .reports("one", |status| status.state == ServiceState::Running)
        .await;
    assert!(told.detail.unwrap().contains("unverified"));
    rig.send(0, 50).await;
    rig.all_is_carried().await;
    running.stop().await;
}
