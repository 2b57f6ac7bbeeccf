//! What can go wrong with certificates.

use std::path::PathBuf;

/// A failure to make, keep or read a certificate.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("there is a file at {path} already; nothing was changed")]
    Exists { path: PathBuf },
    #[error("there is no certificate at {path} to renew")]
    Missing { path: PathBuf },
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("{path} does not hold a usable key")]
    Key { path: PathBuf, source: rcgen::Error },
    #[error("the certificate of this authority is not for the key beside it")]
    OtherKey { path: PathBuf },
    #[error("cannot make the certificate of {name}")]
    Issue { name: String, source: rcgen::Error },
    #[error("a server certificate needs at least one name")]
    NoNames,
    #[error("not a certificate in PEM")]
    Pem,
    #[error("not an X.509 certificate")]
    Certificate,
    #[error("the certificate has no single common name")]
    NoName,
    #[error("the certificate is not a client's")]
    NotClient,
    #[error("the certificate's common name is no site's")]
    Site { source: schemas::IdError },
    #[error("an enrolment has 32 KiB at most; choose the file that `fieldline site add --out` wrote")]
    EnrolmentSize,
    #[error(
        "the enrolment is no JSON (line {line}, column {column}); choose the file that `fieldline site add --out` wrote, whole"
    )]
    EnrolmentSyntax { line: usize, column: usize },
    #[error("the enrolment's {place} {problem}")]
    Enrolment { place: String, problem: String },
    #[error("{path} holds no ECDSA P-256 key, as `fieldline certs` makes them")]
    SigningKey { path: PathBuf },
    #[error("{certificate} is not the certificate of the key {key}")]
    NotOfKey { certificate: PathBuf, key: PathBuf },
    #[error("the certificate of {name} {expiry}")]
    Expired { name: String, expiry: String },
    #[error("the certificate of {name} is not valid yet, or the clock here is behind")]
    NotYetValid { name: String },
    #[error("the certificate of {name} was not issued by the authority of {ca}")]
    Untrusted {
        name: String,
        ca: PathBuf,
        source: webpki::Error,
    },
    #[error("the signature is not {name}'s: what was signed is not what is here")]
    Forged { name: String },
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;
