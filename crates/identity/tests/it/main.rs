//! What certificates promise.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod signatures;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use identity::{Authority, Enrolment, Error, Validity, details, fingerprint, read_site};
use schemas::SiteId;
use x509_parser::pem::parse_x509_pem;

fn site(name: &str) -> SiteId {
    name.parse().unwrap()
}

fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis()
        .try_into()
        .unwrap()
}

fn der(path: &Path) -> Vec<u8> {
    parse_x509_pem(&fs::read(path).unwrap()).unwrap().1.contents
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn an_authority_is_never_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let first = Authority::create(directory.path()).unwrap();
    let before = fs::read(directory.path().join("ca.key")).unwrap();
    assert!(matches!(
        Authority::create(directory.path()),
        Err(Error::Exists { .. })
    ));
    assert_eq!(fs::read(directory.path().join("ca.key")).unwrap(), before);
    assert_eq!(
        Authority::load(directory.path()).unwrap().certificate(),
        first.certificate()
    );
}

#[test]
fn a_key_left_by_a_crash_is_taken_up() {
    let directory = tempfile::tempdir().unwrap();
    Authority::create(directory.path()).unwrap();
    fs::remove_file(directory.path().join("ca.crt")).unwrap();
    let before = fs::read(directory.path().join("ca.key")).unwrap();
    Authority::create(directory.path()).unwrap();
    assert_eq!(fs::read(directory.path().join("ca.key")).unwrap(), before);
}

#[test]
fn a_site_is_read_from_its_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::create(directory.path()).unwrap();
    let issued = authority.issue_site(&site("north-ridge")).unwrap();
    assert_eq!(read_site(&der(&issued.certificate)).unwrap(), site("north-ridge"));
    assert_eq!(
        fingerprint(&fs::read_to_string(&issued.certificate).unwrap()).unwrap(),
        issued.details.fingerprint
    );
    assert!(matches!(
        authority.issue_site(&site("north-ridge")),
        Err(Error::Exists { .. })
    ));
}

#[test]
fn a_server_is_no_site() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::create(directory.path()).unwrap();
    let issued = authority
        .issue_server(&["north".to_owned(), "127.0.0.1".to_owned()])
        .unwrap();
    assert!(matches!(
        read_site(&der(&issued.certificate)),
        Err(Error::NotClient)
    ));
    assert!(read_site(b"not a certificate").is_err());
    assert!(matches!(authority.issue_server(&[]), Err(Error::NoNames)));
}

#[test]
fn a_name_cannot_leave_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::create(directory.path()).unwrap();
    for name in ["../../escape", "::1", "*.example.org", ".."] {
        if let Ok(issued) = authority.issue_server(&[name.to_owned()]) {
            assert_eq!(
                issued.key.parent().unwrap(),
                directory.path().join("servers"),
                "{name}"
            );
        }
    }
}

#[test]
fn keys_are_readable_by_their_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::create(directory.path()).unwrap();
    let issued = authority.issue_site(&site("north")).unwrap();
    assert_eq!(mode(&issued.key), 0o600);
    assert_eq!(mode(&issued.bundle), 0o600);
    assert_eq!(mode(&directory.path().join("ca.key")), 0o600);
    assert_eq!(mode(&issued.certificate), 0o644);
    let bundle = fs::read_to_string(&issued.bundle).unwrap();
    assert!(bundle.contains("BEGIN PRIVATE KEY") && bundle.contains("BEGIN CERTIFICATE"));
}

#[test]
fn renewal_keeps_the_key_and_moves_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::create(directory.path()).unwrap();
    let brief = Validity {
        site_days: 2,
        ..Validity::default()
    };
    assert!(matches!(
        authority.renew_site(&site("north")),
        Err(Error::Missing { .. })
    ));
    let authority = authority.with_validity(brief);
    let first = authority.issue_site(&site("north")).unwrap();
    let key = fs::read(&first.key).unwrap();
    assert_eq!(first.details.expiry(now_ms()), "expires in 1 day");
    assert_eq!(first.details.expiry(first.details.not_after + 1), "has expired");
    let second = authority
        .with_validity(Validity::default())
        .renew_site(&site("north"))
        .unwrap();
    assert_eq!(fs::read(&second.key).unwrap(), key);
    assert!(second.details.days_left(now_ms()) > 300);
    assert_ne!(second.details.fingerprint, first.details.fingerprint);
    assert_eq!(
        details(&fs::read_to_string(&second.certificate).unwrap()).unwrap(),
        second.details
    );
}

fn enrolment(directory: &Path, name: &str) -> Enrolment {
    let authority = Authority::create(directory).unwrap();
    let issued = authority.issue_site(&site(name)).unwrap();
    Enrolment::new(
        site(name),
        "kafka://core.example:9093",
        "https://core.example:7443",
        authority.certificate(),
        &fs::read_to_string(issued.certificate).unwrap(),
        &fs::read_to_string(issued.key).unwrap(),
    )
    .unwrap()
}

#[test]
fn an_enrolment_reads_what_it_wrote_for_its_owner_alone_and_overwrites_nothing_silently() {
    let directory = tempfile::tempdir().unwrap();
    let made = enrolment(&directory.path().join("certs"), "north");
    let path = directory.path().join("north.enrolment");
    assert_eq!(Enrolment::read(&path).unwrap(), None);
    made.write(&path).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(Enrolment::read(&path).unwrap().as_ref(), Some(&made));
    made.write(&path).unwrap();
    let moved = made
        .clone()
        .at(Some("kafka+plain://10.0.0.7:9092"), None)
        .unwrap();
    assert!(matches!(moved.write(&path), Err(Error::Exists { .. })));
    assert_eq!(Enrolment::read(&path).unwrap().as_ref(), Some(&made));
    moved.replace(&path).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(Enrolment::read(&path).unwrap(), Some(moved));
    let unpacked = made.unpack(&directory.path().join("unpacked")).unwrap();
    assert_eq!(mode(&unpacked.key), 0o600);
    assert_eq!(mode(&directory.path().join("unpacked")), 0o700);
    assert_eq!(
        fs::read_to_string(&unpacked.key).unwrap(),
        made.key_pem().expose()
    );
}

type Change<'a> = dyn Fn(&mut serde_json::Value) + 'a;

#[test]
fn a_wrong_enrolment_is_told_what_where_and_what_would_be_right_and_never_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let made = enrolment(&directory.path().join("one"), "north");
    let other = enrolment(&directory.path().join("two"), "south");
    let path = directory.path().join("north.enrolment");
    made.write(&path).unwrap();
    let sound: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let said = |change: &Change| {
        let mut document = sound.clone();
        change(&mut document);
        let text = document.to_string();
        let error = Enrolment::parse(&text).unwrap_err().to_string();
        assert!(!error.contains("PRIVATE"), "{error}");
        error
    };
    let cases: [(&Change, &str); 12] = [
        (
            &|d| d["format"] = "x".into(),
            "format is \"x\"; this release reads \"fieldline-enrolment-1\"",
        ),
        (&|d| d["site"] = "South!".into(), "site"),
        (
            &|d| d["site"] = "south".into(),
            "is the certificate of north, not of south",
        ),
        (
            &|d| d["core"] = d["key_pem"].clone(),
            "core is missing; it holds broker_url",
        ),
        (
            &|d| d["core"]["broker_url"] = "core".into(),
            "write it as kafka://host:9093",
        ),
        (
            &|d| d["core"]["depot_url"] = "http://core".into(),
            "write it as https://host:7443",
        ),
        (
            &|d| d["core"]["port"] = 1.into(),
            "core.port is not known; known are broker_url, depot_url",
        ),
        (&|d| d["ca_pem"] = "x".into(), "ca_pem holds no certificate"),
        (
            &|d| d["ca_pem"] = d["key_pem"].clone(),
            "ca_pem holds something that is no certificate",
        ),
        (
            &|d| d["certificate_pem"] = d["ca_pem"].clone(),
            "certificate_pem is no site's: the certificate is not a client's",
        ),
        (
            &|d| d["key_pem"] = other.key_pem().expose().into(),
            "key_pem is not the key of certificate_pem",
        ),
        (&|d| d["key_pem"] = 7.into(), "key_pem must be a text"),
    ];
    for (change, expected) in cases {
        let error = said(change);
        assert!(error.contains(expected), "{error:?} lacks {expected:?}");
    }
    let cut = Enrolment::parse("{\"format\": \"fieldline-enrolment-1\",")
        .unwrap_err()
        .to_string();
    assert!(cut.contains("line 1, column"), "{cut}");
    assert!(matches!(
        Enrolment::parse(&" ".repeat(40_000)),
        Err(Error::EnrolmentSize)
    ));
    assert!(!format!("{made:?}").contains("BEGIN"));
}
