//! Reading certificates: whose, until when, and by which fingerprint a table knows them.

use schemas::SiteId;
use sha2::{Digest as _, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer as _;

use crate::error::{Error, Result};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Details {
    /// Its common name.
    pub name: String,
    /// From when on it is valid, in milliseconds since 1970.
    pub not_before: i64,
    /// Until when it is valid, in milliseconds since 1970.
    pub not_after: i64,
    /// The SHA-256 of the certificate, 64 lower-case hexadecimal digits.
    pub fingerprint: String,
}

impl Details {
    /// Whole days until it expires; negative once it has.
    pub fn days_left(&self, now_ms: i64) -> i64 {
        (self.not_after - now_ms).div_euclid(DAY_MS)
    }

    /// The same in words.
    pub fn expiry(&self, now_ms: i64) -> String {
        match self.days_left(now_ms) {
            ..0 => "has expired".to_owned(),
            0 => "expires today".to_owned(),
            1 => "expires in 1 day".to_owned(),
            days => format!("expires in {days} days"),
        }
    }
}

pub(crate) fn der(pem: &str) -> Result<Vec<u8>> {
    let (_, pem) = parse_x509_pem(pem.as_bytes()).map_err(|_| Error::Pem)?;
    if pem.label == "CERTIFICATE" {
        Ok(pem.contents)
    } else {
        Err(Error::Pem)
    }
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(Error::Certificate),
    }
}

/// The only common name: a second one could be read by one program and not by another.
fn common_name(certificate: &X509Certificate<'_>) -> Result<String> {
    let mut names = certificate.subject().iter_common_name();
    match (names.next(), names.next()) {
        (Some(name), None) => name.as_str().map(str::to_owned).map_err(|_| Error::NoName),
        _ => Err(Error::NoName),
    }
}

fn hex(der: &[u8]) -> String {
    Sha256::digest(der)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The SHA-256 of the first certificate in a PEM text, 64 lower-case hexadecimal digits: what table `sites` keeps.
///
/// # Errors
/// When the text does not start with a certificate.
pub fn fingerprint(pem: &str) -> Result<String> {
    Ok(hex(&der(pem)?))
}

/// The same of a certificate in DER, as TLS shows it.
pub fn fingerprint_der(certificate_der: &[u8]) -> String {
    hex(certificate_der)
}

/// What the first certificate in a PEM text says.
///
/// # Errors
/// When the text does not start with a certificate that has one common name.
pub fn details(pem: &str) -> Result<Details> {
    let der = der(pem)?;
    let certificate = parse(&der)?;
    let validity = certificate.validity();
    Ok(Details {
        name: common_name(&certificate)?,
        not_before: validity.not_before.timestamp().saturating_mul(1000),
        not_after: validity.not_after.timestamp().saturating_mul(1000),
        fingerprint: hex(&der),
    })
}

/// The site that a client certificate, in DER, names. Whether an authority vouches for it is the TLS layer's part,
/// which must have verified it before.
///
/// # Errors
/// When it is not a client's certificate, or its one common name is no site's.
pub fn read_site(certificate_der: &[u8]) -> Result<SiteId> {
    let certificate = parse(certificate_der)?;
    let client = certificate
        .extended_key_usage()
        .map_err(|_| Error::Certificate)?
        .is_some_and(|usage| usage.value.client_auth);
    if !client {
        return Err(Error::NotClient);
    }
    common_name(&certificate)?
        .parse()
        .map_err(|source| Error::Site { source })
}
