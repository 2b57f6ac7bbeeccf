//! Gets live catalogues over HTTP, within bounds of size and time.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use reqwest::{Client, redirect};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use url::Url;

use crate::catalogue::MAX_BYTES;
use crate::error::{Error, Result};

const TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The HTTP client for catalogues; the address is the operator's own, so it may be anywhere.
#[derive(Debug, Clone)]
pub struct Live(Client);

impl Live {
    /// A client with the system's roots and no proxy from the environment.
    pub fn new() -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .context("ring offers no TLS version")?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(concat!("fieldline-feed/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .http1_only()
            .redirect(redirect::Policy::limited(5))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .pool_max_idle_per_host(0)
            .build()
            .context("cannot make the HTTP client")?;
        Ok(Self(client))
    }

    /// What is at the URL.
    pub(crate) async fn get(&self, url: &Url) -> Result<Vec<u8>> {
        let host = url.host_str().unwrap_or_default().to_owned();
        let failed = |source: reqwest::Error| Error::Get {
            host: host.clone(),
            source: source.without_url(),
        };
        let mut response = self.0.get(url.clone()).send().await.map_err(failed)?;
        if !response.status().is_success() {
            return Err(Error::Status {
                host,
                status: response.status(),
            });
        }
        let mut bytes = Vec::new();
        let too_large = |bytes: u64| bytes > MAX_BYTES;
        if too_large(response.content_length().unwrap_or_default()) {
            return Err(Error::TooLarge {
                catalogue: host,
                limit: MAX_BYTES,
            });
        }
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if too_large((bytes.len() + chunk.len()) as u64) {
                return Err(Error::TooLarge {
                    catalogue: host,
                    limit: MAX_BYTES,
                });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}
