//! TLS to Cassandra, from PEM files.

use std::path::Path;

use openssl::error::ErrorStack;
use openssl::ssl::{SslConnector, SslFiletype, SslMethod};
use scylla::client::session::OpenSsl010Config;

use crate::error::{Error, Result};
use crate::settings::Tls;

/// Trusts only the given authorities, where some are given, and checks that the certificate is for the node's address.
pub(super) fn config(tls: &Tls) -> Result<OpenSsl010Config> {
    let mut builder =
        SslConnector::builder(SslMethod::tls_client()).map_err(|error| fault("", Path::new(""), &error))?;
    if let Some(ca) = &tls.ca {
        builder.set_ca_file(ca).map_err(|error| fault("ca", ca, &error))?;
    }
    if let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) {
        let chain = builder.set_certificate_chain_file(certificate);
        chain.map_err(|error| fault("certificate", certificate, &error))?;
        builder
            .set_private_key_file(key, SslFiletype::PEM)
            .map_err(|error| fault("key", key, &error))?;
        builder
            .check_private_key()
            .map_err(|error| fault("key", key, &error))?;
    }
    Ok(OpenSsl010Config::new(builder))
}

fn fault(setting: &str, path: &Path, error: &ErrorStack) -> Error {
    Error::Settings {
        problem: format!("tls.{setting} {}: {error}", path.display()),
    }
}
