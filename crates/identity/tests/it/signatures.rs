//! What a signature promises.

use std::path::Path;

use identity::{Authority, Error, Signature, Signer, Trust, Validity};

use crate::{now_ms, site};

const WORDS: &[u8] = b"all of this";

fn signed(directory: &Path, name: &str) -> (Trust, Signature) {
    let authority = Authority::create(directory).unwrap();
    let issued = authority.issue_site(&site(name)).unwrap();
    let signer = Signer::load(&issued.certificate, &issued.key).unwrap();
    assert_eq!(signer.site(), &site(name));
    let trust = Trust::load(&authority.certificate_path()).unwrap();
    (trust, signer.sign("test", WORDS).unwrap())
}

#[test]
fn a_signature_names_its_site_and_is_of_these_words_for_this_purpose_only() {
    let directory = tempfile::tempdir().unwrap();
    let (trust, signature) = signed(directory.path(), "edge-1");
    let vouched = trust.verify("test", WORDS, &signature, now_ms()).unwrap();
    assert_eq!(vouched.site, site("edge-1"));
    assert_eq!(
        vouched.fingerprint,
        identity::fingerprint(&signature.certificate).unwrap()
    );
    for (purpose, words) in [
        ("test", &b"all of that"[..]),
        ("tes", b"tall of this"),
        ("other", WORDS),
    ] {
        let verified = trust.verify(purpose, words, &signature, now_ms());
        assert!(matches!(verified, Err(Error::Forged { .. })), "{verified:?}");
    }
}

#[test]
fn another_authoritys_site_is_told_and_so_is_a_signature_under_anothers_certificate() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (trust, own) = signed(here.path(), "edge-1");
    let (_, foreign) = signed(there.path(), "edge-1");
    assert!(matches!(
        trust.verify("test", WORDS, &foreign, now_ms()),
        Err(Error::Untrusted { .. })
    ));
    let mixed = Signature {
        certificate: own.certificate,
        ..foreign
    };
    assert!(matches!(
        trust.verify("test", WORDS, &mixed, now_ms()),
        Err(Error::Forged { .. })
    ));
}

#[test]
fn an_expired_certificate_is_named_and_so_is_one_of_the_future() {
    let directory = tempfile::tempdir().unwrap();
    let (trust, signature) = signed(directory.path(), "edge-1");
    let year = 366 * 24 * 3_600_000;
    let late = trust
        .verify("test", WORDS, &signature, now_ms() + 2 * year)
        .unwrap_err();
    assert_eq!(late.to_string(), "the certificate of edge-1 has expired");
    let early = trust
        .verify("test", WORDS, &signature, now_ms() - year)
        .unwrap_err();
    assert!(matches!(early, Error::NotYetValid { .. }));
}

#[test]
fn a_server_signs_for_no_site_and_a_key_signs_under_its_own_certificate_only() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::create_valid(directory.path(), Validity::default()).unwrap();
    let server = authority.issue_server(&["depot.example".to_owned()]).unwrap();
    assert!(matches!(
        Signer::load(&server.certificate, &server.key),
        Err(Error::NotClient)
    ));
    let one = authority.issue_site(&site("edge-1")).unwrap();
    let two = authority.issue_site(&site("edge-2")).unwrap();
    assert!(matches!(
        Signer::load(&one.certificate, &two.key),
        Err(Error::NotOfKey { .. })
    ));
}
