//! A certificate authority in a directory.
//!
//! Files are written in the order key, bundle, certificate: the certificate's presence says that the rest is there. A
//! crash in between leaves a key without certificate, which the next call takes up.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData as _, SerialNumber,
};
use schemas::SiteId;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::certificate::{Details, der, details};
use crate::error::{Error, Result};
use crate::files::{self, Existing, Readers};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Certificates start this much in the past: a field site's clock may be behind.
const BACKDATED: Duration = DAY;

/// How many days certificates are valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Validity {
    /// The authority's own; every certificate it issued ends with it.
    pub authority_days: u32,
    /// A server's.
    pub server_days: u32,
    /// A site's.
    pub site_days: u32,
}

impl Default for Validity {
    fn default() -> Self {
        Self {
            authority_days: 3650,
            server_days: 397,
            site_days: 397,
        }
    }
}

/// Where an issued certificate lies, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The certificate, in PEM.
    pub certificate: PathBuf,
    /// Its private key, PKCS#8 in PEM.
    pub key: PathBuf,
    /// Key and certificate in one file.
    pub bundle: PathBuf,
    /// What the certificate says.
    pub details: Details,
}

/// Issues certificates, from the key in its directory.
pub struct Authority {
    directory: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    validity: Validity,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

/// What a certificate is for.
struct Request<'a> {
    /// `servers/<name>` or `sites/<site>`, without ending.
    stem: PathBuf,
    name: &'a str,
    names: &'a [String],
    usage: ExtendedKeyUsagePurpose,
    days: u32,
}

impl Authority {
    /// Makes a new authority in a directory, which is made at need.
    ///
    /// # Errors
    /// [`Error::Exists`] when the directory has one: an authority is never overwritten.
    pub fn create(directory: &Path) -> Result<Self> {
        Self::create_valid(directory, Validity::default())
    }

    /// As [`Self::create`], with the validity of what it will issue and of itself.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn create_valid(directory: &Path, validity: Validity) -> Result<Self> {
        let path = directory.join("ca.crt");
        if path.exists() {
            return Err(Error::Exists { path });
        }
        files::make_directory(directory)?;
        let key = key(&directory.join("ca.key"))?;
        let mut params = parameters("Fieldline CA", &key, validity.authority_days);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(|source| Error::Issue {
            name: "the authority".to_owned(),
            source,
        })?;
        files::write(&path, &certificate.pem(), Readers::Everyone, Existing::Keep)?;
        Self::load(directory).map(|authority| authority.with_validity(validity))
    }

    /// Opens the authority in a directory.
    ///
    /// # Errors
    /// When there is none, or its files do not belong together.
    pub fn load(directory: &Path) -> Result<Self> {
        let path = directory.join("ca.crt");
        let certificate = files::read(&path)?.ok_or_else(|| Error::Missing { path: path.clone() })?;
        let key_path = directory.join("ca.key");
        let key = read_key(&key_path)?.ok_or_else(|| Error::Missing {
            path: key_path.clone(),
        })?;
        let certificate_der = der(&certificate)?;
        let (_, parsed) =
            x509_parser::parse_x509_certificate(&certificate_der).map_err(|_| Error::Certificate)?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.der_bytes() {
            return Err(Error::OtherKey { path });
        }
        let issuer = Issuer::from_ca_cert_der(&certificate_der.as_slice().into(), key).map_err(|source| {
            Error::Key {
                path: key_path,
                source,
            }
        })?;
        Ok(Self {
            directory: directory.to_owned(),
            issuer,
            certificate,
            validity: Validity::default(),
        })
    }

    /// Sets how long what it issues is valid.
    #[must_use]
    pub fn with_validity(mut self, validity: Validity) -> Self {
        self.validity = validity;
        self
    }

    /// The authority's certificate, in PEM: what peers must trust.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Where that certificate lies.
    pub fn certificate_path(&self) -> PathBuf {
        self.directory.join("ca.crt")
    }

    /// What the authority's own certificate says.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn details(&self) -> Result<Details> {
        details(&self.certificate)
    }

    /// Issues a server's certificate for its host names and addresses; the first names the files.
    ///
    /// # Errors
    /// [`Error::Exists`] when that server has one.
    pub fn issue_server(&self, names: &[String]) -> Result<Issued> {
        self.issue(&self.server(names)?, Existing::Keep)
    }

    /// Issues a site's client certificate.
    ///
    /// # Errors
    /// [`Error::Exists`] when that site has one.
    pub fn issue_site(&self, site: &SiteId) -> Result<Issued> {
        self.issue(&self.site(site), Existing::Keep)
    }

    /// Issues a server's certificate anew, for the same key.
    ///
    /// # Errors
    /// [`Error::Missing`] when that server has none.
    pub fn renew_server(&self, names: &[String]) -> Result<Issued> {
        self.issue(&self.server(names)?, Existing::Replace)
    }

    /// Issues a site's certificate anew, for the same key. Its fingerprint changes.
    ///
    /// # Errors
    /// [`Error::Missing`] when that site has none.
    pub fn renew_site(&self, site: &SiteId) -> Result<Issued> {
        self.issue(&self.site(site), Existing::Replace)
    }

    fn server<'a>(&self, names: &'a [String]) -> Result<Request<'a>> {
        let name = names.first().ok_or(Error::NoNames)?;
        let safe = |letter: char| letter.is_ascii_alphanumeric() || letter == '.' || letter == '-';
        let file: String = name
            .chars()
            .map(|letter| if safe(letter) { letter } else { '_' })
            .collect();
        Ok(Request {
            // A name of nothing but dots would leave the directory.
            stem: self.directory.join("servers").join(file.trim_start_matches('.')),
            name,
            names,
            usage: ExtendedKeyUsagePurpose::ServerAuth,
            days: self.validity.server_days,
        })
    }

    fn site<'a>(&self, site: &'a SiteId) -> Request<'a> {
        Request {
            stem: self.directory.join("sites").join(site.as_str()),
            name: site.as_str(),
            names: &[],
            usage: ExtendedKeyUsagePurpose::ClientAuth,
            days: self.validity.site_days,
        }
    }

    fn issue(&self, request: &Request<'_>, existing: Existing) -> Result<Issued> {
        // The ending is added, not set: what follows the last dot of a host name is not an ending.
        let ending = |ending: &str| {
            let mut path = request.stem.clone().into_os_string();
            path.push(ending);
            PathBuf::from(path)
        };
        let (certificate_path, key_path, bundle) = (ending(".crt"), ending(".key"), ending(".pem"));
        match (existing, certificate_path.exists()) {
            (Existing::Keep, true) => {
                return Err(Error::Exists {
                    path: certificate_path,
                });
            }
            (Existing::Replace, false) => {
                return Err(Error::Missing {
                    path: certificate_path,
                });
            }
            _ => {}
        }
        if let Some(directory) = certificate_path.parent() {
            files::make_directory(directory)?;
        }
        let key = key(&key_path)?;
        let failed = |source| Error::Issue {
            name: request.name.to_owned(),
            source,
        };
        let mut params = parameters(request.name, &key, request.days);
        params.subject_alt_names = CertificateParams::new(request.names)
            .map_err(failed)?
            .subject_alt_names;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![request.usage.clone()];
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?.pem();
        files::write(
            &bundle,
            &format!("{}{certificate}", key.serialize_pem()),
            Readers::Owner,
            Existing::Replace,
        )?;
        files::write(&certificate_path, &certificate, Readers::Everyone, existing)?;
        Ok(Issued {
            details: details(&certificate)?,
            certificate: certificate_path,
            key: key_path,
            bundle,
        })
    }
}

fn read_key(path: &Path) -> Result<Option<KeyPair>> {
    let Some(pem) = files::read(path)? else {
        return Ok(None);
    };
    KeyPair::from_pem(&pem).map(Some).map_err(|source| Error::Key {
        path: path.to_owned(),
        source,
    })
}

/// The key at a path, made if there is none.
fn key(path: &Path) -> Result<KeyPair> {
    if let Some(key) = read_key(path)? {
        return Ok(key);
    }
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(|source| Error::Key {
        path: path.to_owned(),
        source,
    })?;
    files::write(path, &key.serialize_pem(), Readers::Owner, Existing::Keep)?;
    Ok(key)
}

fn parameters(name: &str, key: &KeyPair, days: u32) -> CertificateParams {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + now.saturating_sub(BACKDATED);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + now + DAY * days;
    params.serial_number = Some(serial(key, now));
    params
}

/// A number of its own for every certificate, also for two of one key.
fn serial(key: &KeyPair, now: Duration) -> SerialNumber {
    let mut digest = Sha256::new();
    digest.update(key.der_bytes());
    digest.update(now.as_nanos().to_be_bytes());
    let mut number = digest.finalize()[..16].to_vec();
    number[0] = number[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&number)
}
