use identity::Authority;
use testkit::eventually;

use crate::rig::{Caller, LIMIT, Rig, client, client_tls, refusal, site};

#[tokio::test]
async fn nobody_comes_in_without_a_certificate_of_the_cores_authority() {
    let rig = Rig::running().await;
    let foreign = Authority::create(&rig.dir.path().join("foreign")).unwrap();
    let issued = foreign.issue_site(&site("edge-1")).unwrap();
    rig.enrol("edge-1", &issued.details.fingerprint).await;
    let forged = rig.caller("edge-1", &rig.authority, &issued.certificate, &issued.key);
    assert!(forged.get("manifest").send().await.is_err());

    let bare = client(client_tls(rig.authority.certificate(), None));
    let bare = Caller {
        site: site("edge-1"),
        http: bare,
        base: rig.base.clone(),
    };
    assert!(bare.get("manifest").send().await.is_err());

    // A server's certificate is of the right authority and is still no site's.
    let tls = &rig.settings.tls;
    let server = rig.caller(
        "core",
        &rig.authority,
        tls.certificate.as_ref().unwrap(),
        tls.key.as_ref().unwrap(),
    );
    assert!(server.get("manifest").send().await.is_err());
    rig.stop().await;
}

#[tokio::test]
async fn changed_certificates_are_taken_up_and_unusable_ones_are_not() {
    let rig = Rig::running().await;
    let one = rig.enrolled("edge-1").await;
    assert_eq!(one.get("manifest").send().await.unwrap().status(), 200);

    let next = Authority::create(&rig.dir.path().join("next")).unwrap();
    let server = next.issue_server(&["127.0.0.1".to_owned()]).unwrap();
    let tls = &rig.settings.tls;
    let (certificate, key) = (tls.certificate.as_ref().unwrap(), tls.key.as_ref().unwrap());
    std::fs::write(certificate, "no certificate").unwrap();
    // Connections are kept open between requests, so each question comes over a new one.
    let own = (
        rig.dir.path().join("certs/sites/edge-1.crt"),
        rig.dir.path().join("certs/sites/edge-1.key"),
    );
    for _ in 0..3 {
        tokio::time::sleep(*rig.settings.tls_reload).await;
        let fresh = client(client_tls(rig.authority.certificate(), Some(own.clone())));
        let fresh = Caller {
            site: site("edge-1"),
            http: fresh,
            base: rig.base.clone(),
        };
        assert_eq!(
            fresh.get("manifest").send().await.unwrap().status(),
            200,
            "the last good ones stay in use"
        );
    }

    std::fs::copy(&server.key, key).unwrap();
    std::fs::copy(&server.certificate, certificate).unwrap();
    std::fs::copy(next.certificate_path(), tls.ca.as_ref().unwrap()).unwrap();
    let issued = next.issue_site(&site("edge-2")).unwrap();
    eventually(LIMIT, || async {
        let two = rig.caller("edge-2", &next, &issued.certificate, &issued.key);
        let response = two
            .get("manifest")
            .send()
            .await
            .map_err(|error| error.to_string())?;
        assert_eq!(refusal(response).await.1, "edge-2 is not enrolled at this core");
        Ok::<_, String>(())
    })
    .await;
    rig.stop().await;
}
