//! Mutual TLS from three PEM files, read again when they change.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use common::chassis::Stop;
use common::control::Control;
use common::telemetry;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use crate::settings::Tls;
use crate::standing::Peer;

/// The files' contents.
#[derive(PartialEq, Eq)]
struct Files {
    ca: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

async fn read(tls: &Tls) -> Result<Files> {
    async fn file(path: Option<&Path>, what: &str) -> Result<Vec<u8>> {
        let path = path.with_context(|| format!("tls.{what} is not set"))?;
        tokio::fs::read(path)
            .await
            .with_context(|| format!("cannot read tls.{what} {}", path.display()))
    }
    Ok(Files {
        ca: file(tls.ca.as_deref(), "ca").await?,
        certificate: file(tls.certificate.as_deref(), "certificate").await?,
        key: file(tls.key.as_deref(), "key").await?,
    })
}

fn configuration(files: &Files) -> Result<Arc<ServerConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&files.ca) {
        roots
            .add(certificate.context("tls.ca is not PEM")?)
            .context("tls.ca is no authority's certificate")?;
    }
    ensure!(!roots.is_empty(), "tls.ca holds no certificate");
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .context("cannot verify sites with tls.ca")?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&files.certificate)
        .collect::<Result<_, _>>()
        .context("tls.certificate is not PEM")?;
    let key = PrivateKeyDer::from_pem_slice(&files.key).context("tls.key is no key in PEM")?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .context("tls.certificate and tls.key do not belong together")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// What new connections are accepted with.
pub(crate) struct Certificates {
    tls: Tls,
    files: Files,
    current: watch::Sender<Arc<ServerConfig>>,
}

impl Certificates {
    pub(crate) async fn load(tls: &Tls) -> Result<Self> {
        let files = read(tls).await?;
        let current = watch::Sender::new(configuration(&files)?);
        Ok(Self {
            tls: tls.clone(),
            files,
            current,
        })
    }

    pub(crate) fn current(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.current.subscribe()
    }

    /// Looks at the files again and again. What cannot be used is told, and the last good one stays in use.
    pub(crate) async fn follow(mut self, every: Duration, control: Control, stop: Stop) -> Result<()> {
        while stop
            .run_until_cancelled(tokio::time::sleep(every))
            .await
            .is_some()
        {
            let reload = async {
                let files = read(&self.tls).await?;
                if files == self.files {
                    return Ok(None);
                }
                Ok::<_, anyhow::Error>(Some((configuration(&files)?, files)))
            };
            match reload.await {
                Ok(None) => {}
                Ok(Some((config, files))) => {
                    self.files = files;
                    self.current.send_replace(config);
                    tracing::info!("certificates were read again");
                }
                Err(error) => {
                    let error = telemetry::chain(error.as_ref());
                    tracing::warn!(%error, "changed certificates cannot be used; the last good ones stay in use");
                    control.error(format!("changed certificates cannot be used: {error}"));
                }
            }
        }
        Ok(())
    }
}

/// Who a verified certificate names.
pub(crate) fn peer(certificate: &CertificateDer<'_>) -> Peer {
    let fingerprint = Sha256::digest(certificate)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Peer {
        site: identity::read_site(certificate).map_err(|error| telemetry::chain(&error)),
        fingerprint,
    }
}
