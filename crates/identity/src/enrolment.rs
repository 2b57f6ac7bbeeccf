//! The one document that connects an edge to its core: where the core is, whom to trust there, and the site's own
//! certificate with its key.
//!
//! What is read is checked as far as that can be done without the core: the site, its certificate and its key belong
//! together, and the addresses are addresses. Whether anybody answers there, and to this certificate, is for whoever
//! connects to find out. The text holds a key: it is kept in files of their owner alone and never printed.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use rcgen::KeyPair;
use schemas::SiteId;
use serde_json::{Map, Value, json};
use units::Secret;
use url::Url;
use x509_parser::pem::Pem;

use crate::address::{BrokerAddress, depot};
use crate::certificate::{Details, der, details, read_site};
use crate::error::{Error, Result};
use crate::files::{self, Existing, Readers};

/// What the documents of this release say they are.
pub const FORMAT: &str = "fieldline-enrolment-1";

/// An edge's enrolment.
#[derive(Clone, PartialEq, Eq)]
pub struct Enrolment {
    site: SiteId,
    broker: BrokerAddress,
    depot: Url,
    ca: String,
    certificate: String,
    key: Secret,
}

/// Where an enrolment's certificates lie, for clients that want files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// The authority that issued the certificates of the core's servers.
    pub ca: PathBuf,
    /// The site's certificate.
    pub certificate: PathBuf,
    /// The key of that certificate.
    pub key: PathBuf,
}

impl Enrolment {
    /// The longest text that is read.
    pub const MAX_BYTES: usize = 32 * 1024;

    /// Makes the document of a site.
    ///
    /// # Errors
    /// [`Error::Enrolment`] when the parts are not what they should be, or do not belong together.
    pub fn new(
        site: SiteId,
        broker_url: &str,
        depot_url: &str,
        ca_pem: &str,
        certificate_pem: &str,
        key_pem: &str,
    ) -> Result<Self> {
        authorities(ca_pem)?;
        own(&site, certificate_pem, key_pem)?;
        Ok(Self {
            site,
            broker: broker_url
                .parse()
                .map_err(|problem| wrong("core.broker_url", problem))?,
            depot: depot(depot_url).map_err(|problem| wrong("core.depot_url", problem))?,
            ca: ca_pem.to_owned(),
            certificate: certificate_pem.to_owned(),
            key: Secret::new(key_pem),
        })
    }

    /// Reads the document.
    ///
    /// # Errors
    /// What is wrong, where, and what would be right; never with a part of the key.
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() > Self::MAX_BYTES {
            return Err(Error::EnrolmentSize);
        }
        // The error of serde_json may quote what it found, so only the place of it is told.
        let value: Value = serde_json::from_str(text).map_err(|error| Error::EnrolmentSyntax {
            line: error.line(),
            column: error.column(),
        })?;
        let root = value.as_object().ok_or_else(|| {
            wrong(
                "text",
                "is no JSON object; choose the file that `fieldline site add --out` wrote",
            )
        })?;
        let format = field(root, "", "format")?;
        if format != FORMAT {
            let shown: String = format.chars().take(40).collect();
            return Err(wrong(
                "format",
                format!("is {shown:?}; this release reads {FORMAT:?}"),
            ));
        }
        only(
            root,
            "",
            &["format", "site", "core", "ca_pem", "certificate_pem", "key_pem"],
        )?;
        let core = root
            .get("core")
            .and_then(Value::as_object)
            .ok_or_else(|| wrong("core", "is missing; it holds broker_url and depot_url"))?;
        only(core, "core.", &["broker_url", "depot_url"])?;
        let site = field(root, "", "site")?
            .parse()
            .map_err(|error: schemas::IdError| wrong("site", error.to_string()))?;
        Self::new(
            site,
            field(core, "core.", "broker_url")?,
            field(core, "core.", "depot_url")?,
            field(root, "", "ca_pem")?,
            field(root, "", "certificate_pem")?,
            field(root, "", "key_pem")?,
        )
    }

    /// Reads the document in a file; none when there is no file.
    ///
    /// # Errors
    /// As [`Self::parse`], and when the file cannot be read.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let failed = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(failed(source)),
        };
        let mut text = String::new();
        file.take(Self::MAX_BYTES as u64 + 1)
            .read_to_string(&mut text)
            .map_err(failed)?;
        Self::parse(&text).map(Some)
    }

    /// The same with other addresses of the core, as this site reaches it.
    ///
    /// # Errors
    /// When an address is none.
    pub fn at(mut self, broker_url: Option<&str>, depot_url: Option<&str>) -> Result<Self> {
        if let Some(url) = broker_url {
            self.broker = url.parse().map_err(|problem| wrong("core.broker_url", problem))?;
        }
        if let Some(url) = depot_url {
            self.depot = depot(url).map_err(|problem| wrong("core.depot_url", problem))?;
        }
        Ok(self)
    }

    /// Writes a new file, whole or not at all, which its owner alone can read.
    ///
    /// # Errors
    /// [`Error::Exists`] when there is one with another content; one with the same is left as it is.
    pub fn write(&self, path: &Path) -> Result<()> {
        match files::write(path, &self.text(), Readers::Owner, Existing::Keep) {
            Err(Error::Exists { .. }) if files::read(path)?.is_some_and(|text| text == self.text()) => Ok(()),
            written => written,
        }
    }

    /// Writes the file in the place of any that is there.
    ///
    /// # Errors
    /// When it cannot be written; the former one is there then.
    pub fn replace(&self, path: &Path) -> Result<()> {
        files::write(path, &self.text(), Readers::Owner, Existing::Replace)
    }

    /// Writes authority, certificate and key as files of their own into a directory, which is made at need.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn unpack(&self, directory: &Path) -> Result<Unpacked> {
        files::make_directory(directory)?;
        let unpacked = Unpacked {
            ca: directory.join("ca.crt"),
            certificate: directory.join("site.crt"),
            key: directory.join("site.key"),
        };
        for (path, text) in [
            (&unpacked.ca, self.ca.as_str()),
            (&unpacked.key, self.key.expose()),
            (&unpacked.certificate, self.certificate.as_str()),
        ] {
            files::write(path, text, Readers::Owner, Existing::Replace)?;
        }
        Ok(unpacked)
    }

    /// The document's text, with the key.
    fn text(&self) -> String {
        let document = json!({
            "format": FORMAT,
            "site": self.site,
            "core": {"broker_url": self.broker.to_string(), "depot_url": self.depot_url()},
            "ca_pem": self.ca,
            "certificate_pem": self.certificate,
            "key_pem": self.key.expose(),
        });
        format!("{document:#}\n")
    }

    /// The edge that it is for.
    pub fn site(&self) -> &SiteId {
        &self.site
    }

    /// Where the core's broker is.
    pub fn broker(&self) -> &BrokerAddress {
        &self.broker
    }

    /// Where the core's depot is.
    pub fn depot(&self) -> &Url {
        &self.depot
    }

    /// The same as text, without a path.
    pub fn depot_url(&self) -> &str {
        self.depot.as_str().trim_end_matches('/')
    }

    /// The authority that issued the certificates of the core's servers, in PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca
    }

    /// The site's certificate, in PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    /// The key of that certificate, PKCS#8 in PEM.
    pub fn key_pem(&self) -> &Secret {
        &self.key
    }

    /// What the site's certificate says.
    ///
    /// # Errors
    /// None that was not told when the document was read.
    pub fn details(&self) -> Result<Details> {
        details(&self.certificate)
    }
}

impl fmt::Debug for Enrolment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enrolment")
            .field("site", &self.site)
            .field("broker", &self.broker.to_string())
            .field("depot", &self.depot_url())
            .finish_non_exhaustive()
    }
}

fn wrong(place: &str, problem: impl Into<String>) -> Error {
    Error::Enrolment {
        place: place.to_owned(),
        problem: problem.into(),
    }
}

fn field<'a>(map: &'a Map<String, Value>, above: &str, name: &str) -> Result<&'a str> {
    let place = format!("{above}{name}");
    match map.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        Some(_) => Err(wrong(&place, "must be a text that is not empty")),
        None => Err(wrong(&place, "is missing")),
    }
}

fn only(map: &Map<String, Value>, above: &str, known: &[&str]) -> Result<()> {
    match map.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => {
            let shown: String = key.chars().take(40).collect();
            Err(wrong(
                &format!("{above}{shown}"),
                format!("is not known; known are {}", known.join(", ")),
            ))
        }
        None => Ok(()),
    }
}

fn authorities(pem: &str) -> Result<()> {
    let mut count = 0;
    for found in Pem::iter_from_buffer(pem.as_bytes()) {
        let sound = found.is_ok_and(|pem| pem.label == "CERTIFICATE" && pem.parse_x509().is_ok());
        if !sound {
            return Err(wrong("ca_pem", "holds something that is no certificate in PEM"));
        }
        count += 1;
    }
    if count == 0 {
        return Err(wrong("ca_pem", "holds no certificate in PEM"));
    }
    Ok(())
}

/// Site, certificate and key belong together.
fn own(site: &SiteId, certificate_pem: &str, key_pem: &str) -> Result<()> {
    let place = "certificate_pem";
    let certificate = der(certificate_pem).map_err(|error| wrong(place, format!("is {error}")))?;
    let named = read_site(&certificate).map_err(|error| wrong(place, format!("is no site's: {error}")))?;
    if named != *site {
        return Err(wrong(
            place,
            format!("is the certificate of {named}, not of {site}"),
        ));
    }
    let key = KeyPair::from_pem(key_pem).map_err(|_| wrong("key_pem", "is no PKCS#8 key in PEM"))?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).map_err(|_| Error::Certificate)?;
    if parsed.public_key().subject_public_key.data.as_ref() != rcgen::PublicKeyData::der_bytes(&key) {
        return Err(wrong("key_pem", "is not the key of certificate_pem"));
    }
    Ok(())
}
