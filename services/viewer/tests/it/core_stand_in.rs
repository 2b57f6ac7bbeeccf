//! What an edge reaches of a core: an authority, TLS listeners that answer as a depot or a Kafka would, and a broker.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::broker::{Broker, Settings, TopicSpec};
use common::chassis::now_ms;
use common::schemas::Topic;
use identity::{Authority, Enrolment, Issued, Validity};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use testkit::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::rig::LIMIT;

/// What a listener says to whoever has sent it something.
#[derive(Clone, Copy)]
pub(crate) enum Says {
    /// A depot's manifest without entries.
    Manifest,
    /// A depot's refusal.
    Refusal,
    /// What only Kafka says: the beginning of its answer to ApiVersions.
    Kafka,
    /// Something else.
    Nonsense,
}

impl Says {
    fn bytes(self) -> Vec<u8> {
        let http = |status: &str, body: &str| {
            let length = body.len();
            format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
                .into_bytes()
        };
        match self {
            Self::Manifest => http("200 OK", "{\"next\":null}\n"),
            Self::Refusal => http(
                "403 Forbidden",
                r#"{"status":403,"detail":"edge-1 is not enrolled here"}"#,
            ),
            Self::Kafka => vec![0, 0, 0, 16, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            Self::Nonsense => b"220 mail.example ESMTP\r\n".to_vec(),
        }
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, says: Says) {
    let mut asked = [0; 4096];
    // Whoever has hung up needs no answer.
    if stream.read(&mut asked).await.is_ok_and(|count| count > 0) {
        let _sent = stream.write_all(&says.bytes()).await;
        let _ended = stream.shutdown().await;
    }
}

/// Listens without TLS; returns the port.
pub(crate) async fn plain(says: Says) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, says));
        }
    });
    port
}

/// A core as far as this test has one.
pub(crate) struct Core {
    pub(crate) authority: Authority,
    pub(crate) dir: TempDir,
}

impl Core {
    pub(crate) fn new() -> Self {
        Self::valid(Validity::default())
    }

    pub(crate) fn valid(validity: Validity) -> Self {
        let dir = testkit::temp_dir();
        let authority = Authority::create_valid(&dir.path().join("certs"), validity).unwrap();
        Self { authority, dir }
    }

    /// A core whose certificates another authority issues, which lies in a directory.
    pub(crate) fn signed_by(authority: &Path) -> Self {
        let dir = testkit::temp_dir();
        let certs = dir.path().join("certs");
        std::fs::create_dir(&certs).unwrap();
        for file in ["ca.crt", "ca.key"] {
            std::fs::copy(authority.join(file), certs.join(file)).unwrap();
        }
        let authority = Authority::load(&certs).unwrap();
        Self { authority, dir }
    }

    /// Waits until a certificate that is valid until about now is valid no longer.
    pub(crate) async fn outlives(&self, path: &str) {
        let pem = std::fs::read_to_string(self.dir.path().join(path)).unwrap();
        let end = identity::details(&pem).unwrap().not_after;
        testkit::eventually(LIMIT, || async move {
            match now_ms() - end {
                // Whole seconds are compared.
                past if past > 1000 => Ok(()),
                past => Err(format!("{past} ms")),
            }
        })
        .await;
    }

    fn server(&self, name: &str) -> Issued {
        self.authority.issue_server(&[name.to_owned()]).unwrap()
    }

    /// Listens with TLS under a certificate for `name`, for clients of the authority `trusted`.
    pub(crate) async fn listen(&self, name: &str, trusted: &Self, says: Says) -> u16 {
        let issued = self.server(name);
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(trusted.authority.certificate().as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![CertificateDer::from_pem_file(&issued.certificate).unwrap()],
                PrivateKeyDer::from_pem_file(&issued.key).unwrap(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        answer(stream, says).await;
                    }
                });
            }
        });
        port
    }

    /// A depot that is as it should be.
    pub(crate) async fn depot(&self) -> String {
        format!(
            "https://127.0.0.1:{}",
            self.listen("127.0.0.1", self, Says::Manifest).await
        )
    }

    /// An embedded broker, with what an edge of this name needs there unless it is `missing`.
    pub(crate) async fn broker(&self, edge: &str, missing: &[&str]) -> String {
        let url = testkit::sqlite(self.dir.path(), "core.db");
        let broker = Broker::open(&Settings::url(&url), "test", &prometheus::Registry::new())
            .await
            .unwrap();
        let topics = Topic::core()
            .into_iter()
            .chain(Topic::core_for(&testkit::site(edge)));
        for topic in topics.filter(|topic| !missing.contains(&topic.name.as_str())) {
            broker.create_topic(&TopicSpec::of(&topic, 3, 1)).await.unwrap();
        }
        url
    }

    /// What `fieldline site add --out` writes.
    pub(crate) fn enrolment(&self, site: &str, broker: &str, depot: &str) -> String {
        let path = self.file(site, broker, depot);
        std::fs::read_to_string(path).unwrap()
    }

    fn file(&self, site: &str, broker: &str, depot: &str) -> PathBuf {
        let site = testkit::site(site);
        let certs = self.dir.path().join("certs/sites");
        if !certs.join(format!("{site}.crt")).exists() {
            self.authority.issue_site(&site).unwrap();
        }
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        let enrolment = Enrolment::new(
            site.clone(),
            broker,
            depot,
            self.authority.certificate(),
            &read(&certs.join(format!("{site}.crt"))),
            &read(&certs.join(format!("{site}.key"))),
        );
        let path = self.dir.path().join("made.enrolment");
        enrolment.unwrap().replace(&path).unwrap();
        path
    }
}
