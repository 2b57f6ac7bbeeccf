use common::volume::contract;
use testkit::eventually;

use crate::rig::{LIMIT, Rig, refusal, site};

#[tokio::test]
async fn a_revoked_site_is_told_so_and_gets_nothing_more() {
    let rig = Rig::running().await;
    let (one, two) = (rig.enrolled("edge-1").await, rig.enrolled("edge-2").await);
    let stored = rig.store(b"bytes").await;
    let request_id = rig.open("edge-1", 1, &stored, None).await;
    assert_eq!(
        one.object(&stored.hash, &request_id)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );

    rig.revoke("edge-1", "laptop stolen").await;
    // On the connection that is open.
    let why = eventually(LIMIT, || async {
        let response = one.object(&stored.hash, &request_id).send().await.unwrap();
        if response.status() == 200 {
            Err("still served")
        } else {
            Ok(refusal(response).await)
        }
    })
    .await;
    assert_eq!(why.0, 403);
    assert!(
        why.1.starts_with("the certificate of edge-1 was revoked on 2"),
        "{}",
        why.1
    );
    assert!(why.1.ends_with(": laptop stolen"), "{}", why.1);
    assert_eq!(refusal(one.get("manifest").send().await.unwrap()).await.0, 403);
    assert_eq!(two.get("manifest").send().await.unwrap().status(), 200);
    rig.stop().await;
}

#[tokio::test]
async fn a_revocation_ends_an_answer_in_the_middle() {
    let rig = Rig::running().await;
    let one = rig.enrolled("edge-1").await;
    let stored = rig.store(&contract::bytes(64 << 20, 5)).await;
    let request_id = rig.open("edge-1", 1, &stored, None).await;
    let mut slow = one.object(&stored.hash, &request_id).send().await.unwrap();
    assert!(slow.chunk().await.unwrap().is_some());
    rig.revoke("edge-1", "lost").await;
    // Another request tells when the depot knows.
    eventually(LIMIT, || async {
        let status = one.get("manifest").send().await.unwrap().status();
        if status == 403 {
            Ok(())
        } else {
            Err(status.to_string())
        }
    })
    .await;
    let rest = async {
        while slow.chunk().await?.is_some() {}
        Ok::<_, reqwest::Error>(())
    };
    assert!(
        tokio::time::timeout(LIMIT, rest).await.unwrap().is_err(),
        "the rest must not come"
    );
    rig.stop().await;
}

#[tokio::test]
async fn a_site_is_known_by_the_certificate_it_was_enrolled_with() {
    let rig = Rig::running().await;
    let stranger = rig.authority.issue_site(&site("edge-9")).unwrap();
    let stranger = rig.caller("edge-9", &rig.authority, &stranger.certificate, &stranger.key);
    let (status, why) = refusal(stranger.get("manifest").send().await.unwrap()).await;
    assert_eq!(
        (status, why),
        (403, "edge-9 is not enrolled at this core".to_owned())
    );

    let one = rig.enrolled("edge-1").await;
    assert_eq!(one.get("manifest").send().await.unwrap().status(), 200);
    let renewed = rig.authority.renew_site(&one.site).unwrap();
    let again = rig.caller("edge-1", &rig.authority, &renewed.certificate, &renewed.key);
    let (status, why) = refusal(again.get("manifest").send().await.unwrap()).await;
    assert_eq!(
        (status, why),
        (
            403,
            "edge-1 is enrolled with another certificate than this one".to_owned()
        )
    );
    rig.enrol("edge-1", &renewed.details.fingerprint).await;
    eventually(LIMIT, || async {
        let status = again.get("manifest").send().await.unwrap().status();
        if status == 200 {
            Ok(())
        } else {
            Err(status.to_string())
        }
    })
    .await;
    rig.stop().await;
}
