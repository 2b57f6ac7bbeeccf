//! Words that a site signs: whoever trusts the authority can tell whose they are and that nobody changed them.
//!
//! A signature comes with the signer's certificate, so the reader needs nothing but the authority's. It is ECDSA P-256
//! over SHA-256, of a purpose and the words: what was signed for one purpose is nothing for another.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls_pki_types::{CertificateDer, UnixTime};
use schemas::SiteId;
use serde::{Deserialize, Serialize};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::pem::parse_x509_pem;

use crate::certificate::{der, details, read_site};
use crate::error::{Error, Result};
use crate::files;

/// A signature with the certificate that it can be checked by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// The signer's certificate, in PEM.
    pub certificate: String,
    /// The signature, ASN.1 in Base64.
    pub signature: String,
}

/// Signs in a site's name.
pub struct Signer {
    site: SiteId,
    certificate: String,
    key: EcdsaKeyPair,
    random: SystemRandom,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("site", &self.site)
            .finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Result<String> {
    files::read(path)?.ok_or_else(|| Error::Missing {
        path: path.to_owned(),
    })
}

/// What is signed: the purpose, its length before it, so that no two purposes and words make the same bytes.
fn bound(purpose: &str, words: &[u8]) -> Vec<u8> {
    [
        &(purpose.len() as u64).to_be_bytes()[..],
        purpose.as_bytes(),
        words,
    ]
    .concat()
}

impl Signer {
    /// Takes a site's certificate and its key, both in PEM.
    ///
    /// # Errors
    /// When they do not belong together, or the certificate is no site's.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self> {
        let (text, secret) = (read(certificate)?, read(key)?);
        let random = SystemRandom::new();
        let unusable = || Error::SigningKey { path: key.to_owned() };
        let (_, pem) = parse_x509_pem(secret.as_bytes()).map_err(|_| unusable())?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pem.contents, &random)
            .map_err(|_| unusable())?;
        let der = der(&text)?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).map_err(|_| Error::Certificate)?;
        if parsed.public_key().subject_public_key.data.as_ref() != pair.public_key().as_ref() {
            let (certificate, key) = (certificate.to_owned(), key.to_owned());
            return Err(Error::NotOfKey { certificate, key });
        }
        Ok(Self {
            site: read_site(&der)?,
            certificate: text,
            key: pair,
            random,
        })
    }

    /// Whose name it signs in.
    pub fn site(&self) -> &SiteId {
        &self.site
    }

    /// Signs words for a purpose.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn sign(&self, purpose: &str, words: &[u8]) -> Result<Signature> {
        let signature = self.key.sign(&self.random, &bound(purpose, words));
        let signature = signature.map_err(|_| Error::Forged {
            name: self.site.to_string(),
        })?;
        Ok(Signature {
            certificate: self.certificate.clone(),
            signature: STANDARD.encode(signature.as_ref()),
        })
    }
}

/// Who signed, as an authority vouches for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouched {
    /// The site.
    pub site: SiteId,
    /// Its certificate's SHA-256, as table `sites` keeps it.
    pub fingerprint: String,
}

/// An authority that is trusted.
#[derive(Debug)]
pub struct Trust {
    path: PathBuf,
    authority: CertificateDer<'static>,
}

impl Trust {
    /// Takes the authority's certificate, in PEM.
    ///
    /// # Errors
    /// When there is none.
    pub fn load(ca: &Path) -> Result<Self> {
        Ok(Self {
            path: ca.to_owned(),
            authority: der(&read(ca)?)?.into(),
        })
    }

    /// Who signed these words for this purpose, if the authority vouches for them now.
    ///
    /// # Errors
    /// [`Error::Forged`], [`Error::Untrusted`], [`Error::Expired`], [`Error::NotYetValid`], or when the certificate is no
    /// site's.
    pub fn verify(&self, purpose: &str, words: &[u8], signature: &Signature, now_ms: i64) -> Result<Vouched> {
        let der: CertificateDer<'_> = der(&signature.certificate)?.into();
        let said = details(&signature.certificate)?;
        let name = || said.name.clone();
        let untrusted = |source| Error::Untrusted {
            name: name(),
            ca: self.path.clone(),
            source,
        };
        let anchors = [anchor_from_trusted_cert(&self.authority).map_err(untrusted)?];
        let certificate = EndEntityCert::try_from(&der).map_err(untrusted)?;
        let now = UnixTime::since_unix_epoch(Duration::from_millis(now_ms.try_into().unwrap_or(0)));
        let verified = certificate.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &anchors,
            &[],
            now,
            KeyUsage::client_auth(),
            None,
            None,
        );
        match verified {
            Ok(_) => {}
            Err(webpki::Error::CertExpired { .. }) => {
                let expiry = said.expiry(now_ms);
                return Err(Error::Expired { name: name(), expiry });
            }
            Err(webpki::Error::CertNotValidYet { .. }) => return Err(Error::NotYetValid { name: name() }),
            Err(source) => return Err(untrusted(source)),
        }
        let forged = || Error::Forged { name: name() };
        let bytes = STANDARD.decode(&signature.signature).map_err(|_| forged())?;
        certificate
            .verify_signature(webpki::ring::ECDSA_P256_SHA256, &bound(purpose, words), &bytes)
            .map_err(|_| forged())?;
        Ok(Vouched {
            site: read_site(&der)?,
            fingerprint: said.fingerprint,
        })
    }
}
