//! The site's side of mutual TLS, and what a failed handshake means in plain words.

use std::error::Error as StdError;
use std::path::Path;
use std::sync::Arc;

use common::chassis::now_ms;
use common::identity;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};

use crate::error::{Error, Result};
use crate::settings::Tls;

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let pem = |source: rustls::pki_types::pem::Error| Error::Pem {
        path: path.to_owned(),
        source: source.into(),
    };
    let found = CertificateDer::pem_file_iter(path)
        .map_err(pem)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(pem)?;
    if found.is_empty() {
        return Err(Error::Pem {
            path: path.to_owned(),
            source: "it holds no certificate".into(),
        });
    }
    Ok(found)
}

/// TLS that trusts the one authority and no other, and shows this site's certificate. Reads the files each time, so that
/// a renewed certificate is taken up without a restart.
pub(crate) fn client(tls: &Tls) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&tls.ca)? {
        roots.add(certificate).map_err(|source| Error::Pem {
            path: tls.ca.clone(),
            source: source.into(),
        })?;
    }
    let chain = certificates(&tls.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|source| Error::Pem {
        path: tls.key.clone(),
        source: source.into(),
    })?;
    let pair = |source| Error::Pair {
        certificate: tls.certificate.clone(),
        key: tls.key.clone(),
        source,
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Fails when this site's certificate is over: the depot's answer to it would say less.
pub(crate) fn check_dates(tls: &Tls) -> Result<()> {
    let unreadable = |source: Box<dyn StdError + Send + Sync>| Error::Pem {
        path: tls.certificate.clone(),
        source,
    };
    let pem = std::fs::read_to_string(&tls.certificate).map_err(|source| unreadable(source.into()))?;
    let details = identity::details(&pem).map_err(|source| unreadable(source.into()))?;
    if details.not_after <= now_ms() {
        return Err(Error::Expired {
            path: tls.certificate.clone(),
        });
    }
    Ok(())
}

/// The TLS failure somewhere below an error.
fn failure<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An io::Error shows what it wraps, but not as its source.
        let inner = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        if let Some(found) = inner.and_then(|inner| failure(inner)) {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// What is wrong with whose certificate, if that is why a connection failed.
pub(crate) fn explain(error: &(dyn StdError + 'static), tls: &Tls) -> Option<String> {
    use CertificateError as Theirs;
    let (ca, own) = (tls.ca.display(), tls.certificate.display());
    let text = match failure(error)? {
        rustls::Error::InvalidCertificate(problem) => match problem {
            Theirs::UnknownIssuer | Theirs::BadSignature => {
                format!("its certificate was not issued by the authority in {ca}")
            }
            Theirs::Expired | Theirs::ExpiredContext { .. } => {
                "its certificate has expired, or this machine's clock is ahead".to_owned()
            }
            Theirs::NotValidYet | Theirs::NotValidYetContext { .. } => {
                "its certificate is not valid yet, or this machine's clock is behind".to_owned()
            }
            Theirs::NotValidForName | Theirs::NotValidForNameContext { .. } => {
                "its certificate is for another host name".to_owned()
            }
            other => format!("its certificate cannot be trusted: {other}"),
        },
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateExpired => {
                format!("it says that this site's certificate {own} has expired")
            }
            AlertDescription::UnknownCA | AlertDescription::DecryptError => {
                format!("it does not know the authority that issued this site's certificate {own}")
            }
            AlertDescription::CertificateRevoked => {
                format!("it says that this site's certificate {own} was revoked")
            }
            other => format!("it does not accept this site's certificate {own}: {other:?}"),
        },
        other => format!("no TLS with it: {other}"),
    };
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_is_wrong_is_named_however_deep_the_cause_is() {
        let tls = Tls {
            ca: "/certs/ca.crt".into(),
            certificate: "/certs/north.crt".into(),
            key: "/certs/north.key".into(),
        };
        let below = |error: rustls::Error| std::io::Error::other(std::io::Error::other(error));
        let text = explain(&below(CertificateError::UnknownIssuer.into()), &tls).unwrap();
        assert!(text.contains("/certs/ca.crt"), "{text}");
        let alert = rustls::Error::AlertReceived(AlertDescription::CertificateExpired);
        let text = explain(&below(alert), &tls).unwrap();
        assert!(
            text.contains("/certs/north.crt") && text.contains("expired"),
            "{text}"
        );
        assert_eq!(
            explain(&std::io::Error::from(std::io::ErrorKind::ConnectionRefused), &tls),
            None
        );
    }
}
