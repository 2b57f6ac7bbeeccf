//! The HTTP client: no proxy from the environment, no redirects of its own, TLS by ring with the system's roots.

use std::sync::Arc;

use anyhow::Context;
use reqwest::{Client, redirect};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};

use crate::address::{Guard, PublicOnly, Trust};
use crate::settings::Settings;

/// One client for hosts that the operator named, one for all others, whose resolver gives public addresses only. They
/// share no connections, so an address that one may reach is not reused by the other.
#[derive(Debug, Clone)]
pub(crate) struct Clients {
    public: Client,
    listed: Client,
}

impl Clients {
    /// Makes both.
    pub(crate) fn new(settings: &Settings, guard: &Arc<Guard>) -> anyhow::Result<Self> {
        let tls = tls()?;
        let builder = || {
            Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .user_agent(concat!("fieldline-downloader/", env!("CARGO_PKG_VERSION")))
                .no_proxy()
                .redirect(redirect::Policy::none())
                .referer(false)
                // Flow-control windows of HTTP/2 are megabytes for each connection; files gain nothing by them.
                .http1_only()
                .connect_timeout(*settings.connect_timeout)
                .read_timeout(*settings.idle_timeout)
                .pool_max_idle_per_host(settings.concurrency.min(8))
        };
        Ok(Self {
            public: builder()
                .dns_resolver(PublicOnly(Arc::clone(guard)))
                .build()
                .context("cannot make the HTTP client")?,
            listed: builder().build().context("cannot make the HTTP client")?,
        })
    }

    /// The client for a hop.
    pub(crate) fn trusted(&self, trust: Trust) -> &Client {
        match trust {
            Trust::Public => &self.public,
            Trust::Listed => &self.listed,
        }
    }
}

/// The system's roots. A machine without any can still follow `http` links, so that is no error here.
fn tls() -> anyhow::Result<ClientConfig> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        tracing::warn!(
            "this machine has no root certificates, so https links will fail; install ca-certificates"
        );
    }
    Ok(
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .context("ring offers no TLS version")?
            .with_root_certificates(roots)
            .with_no_client_auth(),
    )
}
