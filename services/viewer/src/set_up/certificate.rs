//! TLS with the enrolment's certificates, verified both ways, and what a failed handshake means in plain words.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use common::chassis::now_ms;
use common::identity::Enrolment;
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::reach::{LIMIT, Reached};
use super::{Failed, StepName};

const NEW: &str = "ask headquarters for a new enrolment";

fn failed(detail: impl Into<String>, remedy: impl Into<String>) -> Failed {
    Failed::new(StepName::Certificate, detail, remedy)
}

fn moment(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |at| format!("{at:.0}"))
}

/// How long this site's own certificate lasts; one that is not valid now would only be told of by the other side, in
/// fewer words.
pub(super) fn own(enrolment: &Enrolment) -> Result<String, Failed> {
    let now = now_ms();
    let details = enrolment
        .details()
        .map_err(|error| failed(format!("this site's certificate cannot be read: {error}"), NEW))?;
    if details.not_after <= now {
        return Err(failed(
            format!("this site's certificate expired at {}", moment(details.not_after)),
            format!(
                "{NEW}; if that is not so, this machine's clock is ahead: it says {}",
                moment(now)
            ),
        ));
    }
    if details.not_before > now {
        return Err(failed(
            format!(
                "this site's certificate is valid from {} on",
                moment(details.not_before)
            ),
            format!("set this machine's clock, which says {}", moment(now)),
        ));
    }
    Ok(format!("this site's certificate {}", details.expiry(now)))
}

fn client(enrolment: &Enrolment, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, Failed> {
    let unusable = |error: &dyn std::fmt::Display| {
        failed(
            format!("the enrolment's certificates cannot be used: {error}"),
            NEW,
        )
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(enrolment.ca_pem().as_bytes()) {
        let certificate = certificate.map_err(|error| unusable(&error))?;
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    let chain = CertificateDer::pem_slice_iter(enrolment.certificate_pem().as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(&error))?;
    let key = PrivateKeyDer::from_pem_slice(enrolment.key_pem().expose().as_bytes())
        .map_err(|error| unusable(&error))?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|error| unusable(&error))?;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

/// The handshake as this site sees it. Whether the other side takes this site's certificate shows in its first answer:
/// TLS 1.3 ends the handshake before that.
pub(super) async fn handshake(
    enrolment: &Enrolment,
    alpn: &[&[u8]],
    reached: Reached,
) -> Result<TlsStream<TcpStream>, Failed> {
    let connector = TlsConnector::from(client(enrolment, alpn)?);
    let name = ServerName::try_from(reached.host.clone()).map_err(|_| {
        failed(
            format!("{} cannot stand in a certificate", reached.host),
            "enter the core's address by its name",
        )
    })?;
    match timeout(LIMIT, connector.connect(name, reached.stream)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(explain(&error, &reached.host)),
        Err(_) => Err(failed(
            format!(
                "{}, port {}, does not answer with TLS within {} s",
                reached.host,
                reached.port,
                LIMIT.as_secs()
            ),
            "check the port: is it the one with TLS?",
        )),
    }
}

/// The TLS failure somewhere below an error.
fn below<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An io::Error shows what it wraps, but not as its source.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = inner.and_then(|inner| below(inner)) {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// Why there was no connection, when the other side had been reached.
pub(super) fn explain(error: &(dyn StdError + 'static), host: &str) -> Failed {
    match below(error) {
        Some(rustls::Error::InvalidCertificate(problem)) => theirs(problem, host),
        Some(rustls::Error::AlertReceived(alert)) => ours(*alert),
        Some(rustls::Error::InvalidMessage(_)) => failed(
            format!("what answers at {host} does not speak TLS"),
            "check the port; a broker without TLS is written kafka+plain://host:port",
        ),
        Some(other) => failed(
            format!("no TLS with {host}: {other}"),
            "check that the address is the core's",
        ),
        None => failed(
            format!("{host} ended the connection before it had answered: {error}"),
            "is it the port with TLS? if it is, the other side may not know this site's certificate: ask headquarters whether this site is enrolled",
        ),
    }
}

fn theirs(problem: &CertificateError, host: &str) -> Failed {
    use CertificateError as Theirs;
    let clock = || format!("this machine's clock says {}", moment(now_ms()));
    match problem {
        Theirs::UnknownIssuer | Theirs::BadSignature => failed(
            format!("the certificate of {host} was not issued by the authority of this enrolment"),
            format!("{NEW}; if this one is new, it is not the core that answers at this address"),
        ),
        Theirs::Expired | Theirs::ExpiredContext { .. } => failed(
            format!("the certificate of {host} has expired"),
            format!("headquarters must renew it; {}", clock()),
        ),
        Theirs::NotValidYet | Theirs::NotValidYetContext { .. } => failed(
            format!("the certificate of {host} is not valid yet"),
            format!("set this machine's clock if it is behind: {}", clock()),
        ),
        Theirs::NotValidForNameContext { presented, .. } => failed(
            format!("the certificate is not for {host} but for {}", names(presented)),
            "enter the core's address by a name of its certificate, or let headquarters issue one for this name",
        ),
        Theirs::NotValidForName => failed(
            format!("the certificate is not for {host}"),
            "enter the core's address by a name of its certificate",
        ),
        other => failed(
            format!("the certificate of {host} cannot be trusted: {other}"),
            "tell headquarters",
        ),
    }
}

/// The names of a certificate, which the verifier tells as `DnsName("core.example")`.
fn names(presented: &[String]) -> String {
    let bare = |name: &String| {
        let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
        inner.unwrap_or(name).trim_matches('"').to_owned()
    };
    presented.iter().map(bare).collect::<Vec<_>>().join(", ")
}

fn ours(alert: AlertDescription) -> Failed {
    match alert {
        AlertDescription::CertificateExpired => {
            failed("the core says that this site's certificate has expired", NEW)
        }
        AlertDescription::CertificateRevoked => {
            failed("the core says that this site's certificate was revoked", NEW)
        }
        AlertDescription::UnknownCA | AlertDescription::DecryptError => failed(
            "the core does not know the authority that issued this site's certificate",
            format!("{NEW}: this one is of another installation"),
        ),
        AlertDescription::UnrecognisedName => failed(
            "the core does not know itself by this name",
            "enter the core's address by a name of its certificate",
        ),
        other => failed(
            format!("the core does not accept this site's certificate: {other:?}"),
            NEW,
        ),
    }
}
