//! A core with a running depot, and clients under the certificates of its sites.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::broker::{self, Broker, TopicSpec};
use common::chassis::{Host, Service as _, Span, Stop, now_ms};
use common::schemas::{AssetId, CORE_TABLES, Hash, RequestId, SiteId, Topic};
use common::table::{self, Session, Value, Write};
use common::volume::{self, ManifestEnd, ManifestEntry, Stored, Volume};
use depot::{Depot, Settings, Tls};
use identity::Authority;
use reqwest::{Client, RequestBuilder, Response};
use testkit::TempDir;
use tokio::task::JoinHandle;

pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Rig {
    pub(crate) authority: Authority,
    pub(crate) broker: Broker,
    pub(crate) table: Session,
    pub(crate) volume: Volume,
    pub(crate) settings: Settings,
    pub(crate) base: String,
    pub(crate) dir: TempDir,
    stop: Stop,
    task: JoinHandle<anyhow::Result<()>>,
}

pub(crate) fn site(name: &str) -> SiteId {
    name.parse().unwrap()
}

impl Rig {
    pub(crate) async fn running() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let dir = testkit::temp_dir();
        let certs = dir.path().join("certs");
        let authority = Authority::create(&certs).unwrap();
        let server = authority.issue_server(&["127.0.0.1".to_owned()]).unwrap();
        let mut settings = Settings {
            broker: broker::Settings {
                url: testkit::sqlite(dir.path(), "broker.db"),
                ..Default::default()
            },
            table: table::Settings {
                url: testkit::sqlite(dir.path(), "table.db"),
                ..Default::default()
            },
            volume: volume::Settings {
                url: testkit::directory(dir.path(), "volume"),
                ..Default::default()
            },
            listen: ([127, 0, 0, 1], 0).into(),
            tls: Tls {
                ca: Some(authority.certificate_path()),
                certificate: Some(server.certificate),
                key: Some(server.key),
            },
            tls_reload: Span::millis(50),
            standing_max_age: Span::millis(200),
            ..Settings::default()
        };
        change(&mut settings);
        let host = Host::detached("depot", "core");
        let broker = Broker::open(&settings.broker, "test", host.registry())
            .await
            .unwrap();
        for topic in Topic::core() {
            broker.create_topic(&TopicSpec::new(topic.name, 1)).await.unwrap();
        }
        let table = Session::open(&settings.table, "test", host.registry())
            .await
            .unwrap();
        table.migrate(CORE_TABLES).await.unwrap();
        let volume = Volume::open(&settings.volume).await.unwrap();
        let depot = Depot::build(settings.clone(), &host).await.unwrap();
        let (base, stop) = (format!("https://{}", depot.address()), host.stop());
        let task = tokio::spawn(depot.run(stop.clone()));
        Self {
            authority,
            broker,
            table,
            volume,
            settings,
            base,
            dir,
            stop,
            task,
        }
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// A site with a certificate that the core knows.
    pub(crate) async fn enrolled(&self, name: &str) -> Caller {
        let issued = self.authority.issue_site(&site(name)).unwrap();
        self.enrol(name, &issued.details.fingerprint).await;
        self.caller(name, &self.authority, &issued.certificate, &issued.key)
    }

    pub(crate) async fn enrol(&self, name: &str, fingerprint: &str) {
        let row = Write::to("sites")
            .set("realm", "core")
            .set("site", name)
            .set("certificate_sha256", fingerprint)
            .set("enrolled_at", Value::timestamp(now_ms()));
        self.table.upsert(row).await.unwrap();
    }

    pub(crate) async fn revoke(&self, name: &str, reason: &str) {
        let row = Write::to("sites")
            .set("realm", "core")
            .set("site", name)
            .set("revoked_at", Value::timestamp(now_ms()))
            .set("revoked_reason", reason);
        self.table.upsert(row).await.unwrap();
    }

    pub(crate) fn caller(&self, name: &str, trusts: &Authority, certificate: &Path, key: &Path) -> Caller {
        let tls = client_tls(
            trusts.certificate(),
            Some((certificate.to_owned(), key.to_owned())),
        );
        Caller {
            site: site(name),
            http: client(tls),
            base: self.base.clone(),
        }
    }

    pub(crate) async fn store(&self, bytes: &[u8]) -> Stored {
        let mut writer = self.volume.writer().await.unwrap();
        writer.write(bytes).await.unwrap();
        writer.finish().await.unwrap()
    }

    /// Opens an entry for a site; the asset is told from others by its number.
    pub(crate) async fn open(
        &self,
        name: &str,
        number: u32,
        stored: &Stored,
        expires_at: Option<i64>,
    ) -> RequestId {
        let (site, asset_id) = (site(name), AssetId::derive("test", &number.to_string()));
        let request_id = RequestId::new(&site, &asset_id, 1);
        let entry = ManifestEntry {
            request_id: request_id.clone(),
            asset_id,
            hash: stored.hash.clone(),
            size: stored.size,
            media_type: "image/png".into(),
            file_name: format!("{number}.png"),
            entered_at: now_ms(),
            expires_at,
        };
        let path = ManifestEntry::path(&site, &request_id);
        assert!(
            self.volume
                .put_entry(&path, entry.to_json().into())
                .await
                .unwrap()
        );
        request_id
    }
}

pub(crate) fn client_tls(ca: &str, own: Option<(PathBuf, PathBuf)>) -> rustls::ClientConfig {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};

    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap())
        .unwrap();
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
    match own {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
            config
                .with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap())
                .unwrap()
        }
    }
}

pub(crate) fn client(tls: rustls::ClientConfig) -> Client {
    Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .http1_only()
        .build()
        .unwrap()
}

/// A site at the door.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) site: SiteId,
    pub(crate) http: Client,
    pub(crate) base: String,
}

impl Caller {
    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(format!("{}/v1/{path}", self.base))
    }

    pub(crate) fn object(&self, hash: &Hash, request_id: &RequestId) -> RequestBuilder {
        self.get(&format!("objects/{hash}?request={request_id}"))
    }
}

/// The status and the reason of a refusal.
pub(crate) async fn refusal(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: serde_json::Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    assert_eq!(problem["status"], status);
    (status, problem["detail"].as_str().unwrap().to_owned())
}

/// What a manifest says.
pub(crate) struct Page {
    pub(crate) entries: Vec<ManifestEntry>,
    pub(crate) next: Option<String>,
}

impl Page {
    pub(crate) async fn of(response: Response) -> Self {
        assert_eq!(response.status(), 200);
        let body = response.text().await.unwrap();
        let mut lines: Vec<&str> = body.lines().collect();
        let end: ManifestEnd = serde_json::from_str(lines.pop().unwrap()).unwrap();
        Self {
            entries: lines
                .into_iter()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect(),
            next: end.next,
        }
    }
}
