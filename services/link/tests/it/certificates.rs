//! Certificates towards the core: wrong ones are named, and new files are taken up.

use std::sync::Arc;
use std::time::Duration;

use common::broker::{self, Broker, TopicSpec};
use common::identity::kafka_principal;
use common::schemas::{ServiceState, ServiceStatus, Topic};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use testkit::{eventually, kafka_acls};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;

use crate::kafka::{mutual_tls, told, url};
use crate::kafka_rules::{authority, let_in};
use crate::rig::{LIMIT, Rig};

const PAST: i32 = 2021;
const FUTURE: i32 = 2090;

/// An authority, and what it signs.
struct Signer {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Signer {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self {
            certificate: params.self_signed(&key).unwrap().pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for a name that ends with a year's beginning, and its key.
    fn sign(&self, name: &str, until: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// A server with such a certificate, which nobody gets further with than the handshake.
    async fn serve(&self, name: &str, until: i32) -> String {
        let ca = CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap();
        let (certificate, key) = self.sign(name, until);
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(ca).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                drop(acceptor.accept(stream).await);
            }
        });
        format!("kafka://{address}")
    }

    /// What a link waits for whose own certificate ends so, at this server: it says all of what is wanted.
    async fn waits(&self, server: &str, until: i32, unverified: bool, wanted: &[&str]) -> String {
        let directory = testkit::temp_dir();
        let mut rig = Rig::embedded().await;
        let put = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            Some(path)
        };
        let (certificate, key) = self.sign(rig.site.as_str(), until);
        rig.settings.core = broker::Settings::url(server);
        rig.settings.core.tls = broker::Tls {
            ca: put("ca.crt", &self.certificate),
            certificate: put("own.crt", &certificate),
            key: put("own.key", &key),
            unverified,
        };
        let running = rig.start();
        let waits = rig.waits("one", wanted).await;
        running.stop().await;
        waits.detail.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_certificates_and_those_of_another_name_are_named_as_such() {
    let signer = Signer::new();
    let good = signer.serve("127.0.0.1", FUTURE).await;
    let own = [
        "own.crt has expired",
        "refuses this client's certificate: it has expired",
    ];
    signer.waits(&good, PAST, false, &own).await;
    let late = signer.serve("127.0.0.1", PAST).await;
    let server = signer.waits(&late, FUTURE, false, &["certificate expired"]).await;
    assert!(!server.contains("this site's certificate"), "{server}");
    let other = signer.serve("core.example", FUTURE).await;
    let named = ["not valid for name", "core.example"];
    signer.waits(&other, FUTURE, false, &named).await;
    // Whoever takes anybody is told so while he waits, too.
    let taken = ["core.tls.unverified is set", "has expired"];
    signer.waits(&other, PAST, true, &taken).await;
}

/// Whoever takes anybody for the core finds that in the program's log too, from its start on.
#[tokio::test(flavor = "multi_thread")]
async fn taking_anybody_stands_in_the_log() {
    let signer = Signer::new();
    let server = signer.serve("core.example", FUTURE).await;
    for (unverified, wanted) in [
        (true, "core.tls.unverified is set"),
        (false, "not valid for name"),
    ] {
        let directory = testkit::temp_dir();
        let path = |name: &str| directory.path().join(name);
        let site = testkit::site("edge-1");
        let edge = broker::Settings::url(testkit::sqlite(directory.path(), "broker.db"));
        let broker = Broker::open(&edge, "test", &prometheus::Registry::new())
            .await
            .unwrap();
        for topic in Topic::edge(&site) {
            broker.create_topic(&TopicSpec::of(&topic, 1, 1)).await.unwrap();
        }
        drop(broker);
        testkit::closed(&path("broker.db")).await;
        let (certificate, key) = signer.sign("edge-1", FUTURE);
        for (name, text) in [
            ("ca.crt", &signer.certificate),
            ("own.crt", &certificate),
            ("own.key", &key),
        ] {
            std::fs::write(path(name), text).unwrap();
        }
        let settings = format!(
            "[common]\nsite = \"edge-1\"\n[common.log]\nlevel = \"warn\"\n[common.broker]\nurl = {:?}\n\
             [link.core]\nurl = {server:?}\n[link.core.tls]\nca = {:?}\ncertificate = {:?}\nkey = {:?}\n\
             unverified = {unverified}\n",
            edge.url,
            path("ca.crt"),
            path("own.crt"),
            path("own.key"),
        );
        std::fs::write(path("link.toml"), settings).unwrap();
        let log = std::fs::File::create(path("log")).unwrap();
        let mut link = Command::new(env!("CARGO_BIN_EXE_link"))
            .arg("--config")
            .arg(path("link.toml"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let said = eventually(LIMIT, || async {
            let said = std::fs::read_to_string(path("log")).unwrap();
            said.contains(wanted).then(|| said.clone()).ok_or(said)
        })
        .await;
        assert_eq!(said.contains("unverified"), unverified, "{said}");
        link.kill().await.unwrap();
    }
}

/// A rig whose core is reached by mutual TLS with files of its own, which are not yet right.
async fn encrypted(mut rig: Rig) -> (Rig, testkit::TempDir) {
    let directory = testkit::temp_dir();
    let own = |name: &str| Some(directory.path().join(name));
    rig.settings.core = broker::Settings::url(url("KAFKA_TLS_URL"));
    rig.settings.core.tls = broker::Tls {
        certificate: own("own.crt"),
        key: own("own.key"),
        ..mutual_tls()
    };
    (rig, directory)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_TLS_URL and the certificates beside it"]
async fn certificate_that_the_core_refuses_is_named_and_a_new_one_is_taken_up() {
    refused_is_named(Rig::small_edge().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_EDGE_2_URL, KAFKA_TLS_URL and the certificates beside it"]
async fn between_two_kafkas_a_certificate_that_the_core_refuses_is_named() {
    let (rig, _told) = told().await;
    refused_is_named(rig).await;
}

async fn refused_is_named(rig: Rig) {
    let (rig, directory) = encrypted(rig).await;
    let put = |name: &str, text: String| std::fs::write(directory.path().join(name), text).unwrap();
    let authority = common::identity::Authority::create(directory.path()).unwrap();
    let stranger = authority.issue_site(&rig.site).unwrap();
    put("own.crt", std::fs::read_to_string(stranger.certificate).unwrap());
    put("own.key", std::fs::read_to_string(stranger.key).unwrap());
    let running = rig.start();
    rig.waits("one", &["refuses this client's certificate"]).await;
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
    stranger_is_named(Rig::small_edge().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_EDGE_2_URL, KAFKA_TLS_URL and the certificates beside it"]
async fn between_two_kafkas_a_strangers_authority_is_named() {
    let (rig, _told) = told().await;
    stranger_is_named(rig).await;
}

async fn stranger_is_named(rig: Rig) {
    let (mut rig, directory) = encrypted(rig).await;
    let authority = common::identity::Authority::create(directory.path()).unwrap();
    let ca = directory.path().join("stranger.crt");
    std::fs::write(&ca, authority.certificate()).unwrap();
    rig.settings.core.tls = broker::Tls {
        ca: Some(ca),
        ..mutual_tls()
    };
    let running = rig.start();
    rig.waits("one", &["certificate"]).await;
    running.stop().await;
    rig.settings.core.tls.unverified = true;
    let running = rig.start();
    rig.reports("one", |status| {
        let said = status.detail.as_deref().unwrap_or_default();
        status.state == ServiceState::Running && said.contains("unverified")
    })
    .await;
    rig.send(0, 50).await;
    rig.all_is_carried().await;
    running.stop().await;
}

/// The files are exchanged under a link that carries: it goes on with the new ones, and is not started anew for that.
async fn renewed_certificates_are_taken_up(rig: Rig) {
    let (rig, directory) = encrypted(rig).await;
    let authority = authority(&directory);
    // As `fieldline certs` or cert-manager do it: one file after the other. By its name the core tells which one it is.
    let renew = |name: &str| {
        let own = authority.issue_site(&name.parse().unwrap()).unwrap();
        std::fs::copy(&own.key, directory.path().join("own.key")).unwrap();
        std::fs::copy(&own.certificate, directory.path().join("own.crt")).unwrap();
        own
    };
    let old = renew(&format!("{}-old", rig.site));
    let principals = [format!("User:CN={}-old", rig.site), kafka_principal(&rig.site)];
    for principal in &principals {
        let_in(&rig, principal).await;
    }
    let running = rig.start();
    let running_one = |status: &ServiceStatus| status.state == ServiceState::Running;
    let begun = rig.reports("one", running_one).await.started_at;
    let mut sent = 0;
    for round in 0..20 {
        if round == 4 {
            renew(rig.site.as_str());
        }
        rig.send(sent, 10).await;
        sent += 10;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    rig.all_is_carried().await;
    let deny = format!(
        "kafka-acls --add --deny-principal {} --operation All --topic {}",
        principals[0], rig.news
    );
    kafka_acls::run(&url("KAFKA_URL"), &[deny]).await;
    let mut settings = rig.settings.core.clone();
    (settings.tls.certificate, settings.tls.key) = (Some(old.certificate), Some(old.key));
    let stranger = Broker::open(&settings, "old", &prometheus::Registry::new()).await;
    let refused = stranger.unwrap().watermarks(&rig.news, 0).await;
    assert!(
        refused.is_err(),
        "with the old one it would not go on: {refused:?}"
    );
    rig.send(sent, 50).await;
    rig.all_is_carried().await;
    assert_eq!(rig.reports("one", running_one).await.started_at, begun);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_TLS_URL and the certificates beside it"]
async fn renewed_certificates_are_taken_up_while_a_small_edge_carries() {
    renewed_certificates_are_taken_up(Rig::small_edge().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_EDGE_URL, KAFKA_TLS_URL and the certificates beside it"]
async fn renewed_certificates_are_taken_up_while_it_is_carried_between_two_kafkas() {
    renewed_certificates_are_taken_up(Rig::two_kafkas().await).await;
}
