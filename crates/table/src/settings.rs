//! How to reach the tables, and how much to ask of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as friendly;
use serde::{Deserialize, Serialize};
use units::Secret;
use url::Url;

use crate::error::{Error, Result};

/// Where the tables are and how to speak to them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `sqlite:///absolute/path/table.db`, or `cassandra://host:9042,host:9042/keyspace`.
    pub url: String,
    /// TLS to Cassandra; on as soon as one of its paths is set.
    pub tls: Tls,
    /// The user to log in as; none without.
    pub username: Option<String>,
    /// The user's password.
    pub password: Secret,
    /// A file that holds the password, as a mounted secret.
    pub password_file: Option<PathBuf>,
    /// How many replicas must have answered a read or a write.
    pub consistency: Consistency,
    /// How a new keyspace is replicated: `{ replication_factor = 1 }`, which is SimpleStrategy, or copies by
    /// datacenter, which is NetworkTopologyStrategy.
    pub replication: BTreeMap<String, u32>,
    /// The datacenter to prefer; that of whichever node answers without.
    pub datacenter: Option<String>,
    /// How long opening a session may take.
    #[serde(with = "friendly")]
    pub connect_timeout: Duration,
    /// How long one request may take before it is tried again.
    #[serde(with = "friendly")]
    pub request_timeout: Duration,
    /// How many requests may be on their way at once.
    pub concurrency: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: String::new(),
            tls: Tls::default(),
            username: None,
            password: Secret::default(),
            password_file: None,
            consistency: Consistency::LocalQuorum,
            replication: BTreeMap::from([("replication_factor".to_owned(), 1)]),
            datacenter: None,
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(5),
            concurrency: 64,
        }
    }
}

/// PEM files for TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The authorities to trust; the system's without.
    pub ca: Option<PathBuf>,
    /// The client's certificate chain, for mutual TLS.
    pub certificate: Option<PathBuf>,
    /// The client's private key.
    pub key: Option<PathBuf>,
}

impl Tls {
    /// Whether connections are to be encrypted.
    pub fn enabled(&self) -> bool {
        self.ca.is_some() || self.certificate.is_some() || self.key.is_some()
    }
}

/// How many replicas must have answered, as in Cassandra.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are Cassandra's")]
pub enum Consistency {
    One,
    LocalOne,
    #[default]
    LocalQuorum,
    Quorum,
    EachQuorum,
    All,
}

/// What `Settings::url` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Sqlite(PathBuf),
    Cassandra { hosts: Vec<String>, keyspace: String },
}

impl Settings {
    /// Every problem of these settings, each with what to set.
    pub fn validate(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        if let Err(error) = self.address() {
            problems.push(error);
        }
        if self.tls.certificate.is_some() != self.tls.key.is_some() {
            problems.push("tls.certificate and tls.key go together".to_owned());
        }
        if self.password_file.is_some() && !self.password.expose().is_empty() {
            problems.push("set password or password_file, not both".to_owned());
        }
        if self.username.is_some() && self.password.expose().is_empty() && self.password_file.is_none() {
            problems.push("username needs password or password_file".to_owned());
        }
        if self.concurrency == 0 || self.connect_timeout.is_zero() || self.request_timeout.is_zero() {
            problems.push("concurrency, connect_timeout and request_timeout must be above zero".to_owned());
        }
        if self.replication.is_empty() || self.replication.values().any(|copies| *copies == 0) {
            problems.push("replication must name at least one copy".to_owned());
        }
        if self.replication.keys().any(|name| name.contains('\'')) {
            problems.push("replication: a datacenter's name has no quotes".to_owned());
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }

    pub(crate) fn checked(&self) -> Result<Address> {
        self.validate().map_err(|problems| Error::Settings {
            problem: problems.join("; "),
        })?;
        self.address().map_err(|problem| Error::Settings { problem })
    }

    /// The password, from its file where one is named.
    pub(crate) fn secret(&self) -> Result<Secret> {
        let Some(path) = &self.password_file else {
            return Ok(self.password.clone());
        };
        let text = std::fs::read_to_string(path).map_err(|error| Error::Settings {
            problem: format!("password_file {}: {error}", path.display()),
        })?;
        Ok(Secret::new(text.trim_end_matches(['\r', '\n'])))
    }

    fn address(&self) -> Result<Address, String> {
        const FORMS: &str = "sqlite:///absolute/path/table.db or cassandra://host:9042/keyspace";
        if self.url.is_empty() {
            return Err(format!("url is not set: {FORMS}"));
        }
        // A list of hosts is not a URL to the standard, so the hosts are taken out by hand.
        if let Some(rest) = self.url.strip_prefix("cassandra://") {
            let (hosts, keyspace) = rest
                .split_once('/')
                .ok_or_else(|| format!("url names no keyspace: {FORMS}"))?;
            let hosts = hosts.split(',').map(host).collect::<Result<Vec<_>, _>>()?;
            if !name(keyspace) {
                return Err(format!(
                    "url: keyspace {keyspace:?} is not of a-z, 0-9 and _, at most 48 letters"
                ));
            }
            return Ok(Address::Cassandra {
                hosts,
                keyspace: keyspace.to_owned(),
            });
        }
        let url = Url::parse(&self.url).map_err(|error| format!("url {}: {error}: {FORMS}", self.url))?;
        let path = url
            .to_file_path_of("sqlite")
            .ok_or_else(|| format!("url {} is not {FORMS}", self.url))?;
        Ok(Address::Sqlite(path))
    }
}

/// Turns `sqlite:` URLs into paths as `file:` ones are.
trait FilePath {
    fn to_file_path_of(&self, scheme: &str) -> Option<PathBuf>;
}

impl FilePath for Url {
    fn to_file_path_of(&self, scheme: &str) -> Option<PathBuf> {
        if self.scheme() != scheme || self.has_host() && self.host_str() != Some("") {
            return None;
        }
        let path = Self::parse(&format!("file://{}", self.path()))
            .ok()?
            .to_file_path()
            .ok()?;
        (path.file_name().is_some() && path != Path::new("/")).then_some(path)
    }
}

fn host(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.contains(['@', '?', '#', ' ']) {
        return Err(format!(
            "url: {text:?} is not host:port (user and password are settings of their own)"
        ));
    }
    let port = text
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Ok(if port {
        text.to_owned()
    } else {
        format!("{text}:9042")
    })
}

fn name(text: &str) -> bool {
    let letters = text
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    letters && text.len() <= 48 && text.starts_with(|c: char| c.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str) -> Settings {
        Settings {
            url: url.to_owned(),
            ..Settings::default()
        }
    }

    #[test]
    fn urls_name_an_engine() {
        let sqlite = at("sqlite:///var/lib/a%20b/table.db").checked().unwrap();
        assert_eq!(sqlite, Address::Sqlite("/var/lib/a b/table.db".into()));
        let Address::Cassandra { hosts, keyspace } =
            at("cassandra://a:1,b,[::1]:9042/field").checked().unwrap()
        else {
            panic!("not cassandra")
        };
        assert_eq!(
            (hosts.join(" ").as_str(), keyspace.as_str()),
            ("a:1 b:9042 [::1]:9042", "field")
        );
    }

    #[test]
    fn a_bad_url_says_what_to_set() {
        for url in [
            "",
            "sqlite://table.db",
            "sqlite:///",
            "cassandra://a",
            "http://a/b",
            "nonsense",
        ] {
            let problem = at(url).checked().unwrap_err().to_string();
            assert!(
                problem.contains("sqlite:///absolute/path/table.db or cassandra://host:9042/keyspace"),
                "{problem}"
            );
        }
        assert!(
            at("cassandra://a/Upper")
                .checked()
                .unwrap_err()
                .to_string()
                .contains("keyspace \"Upper\"")
        );
        assert!(
            at("cassandra://user:word@a/k")
                .checked()
                .unwrap_err()
                .to_string()
                .contains("settings of their own")
        );
    }

    #[test]
    fn every_problem_is_named() {
        let settings = Settings {
            username: Some("u".to_owned()),
            tls: Tls {
                key: Some("k".into()),
                ..Tls::default()
            },
            concurrency: 0,
            replication: BTreeMap::new(),
            ..Settings::default()
        };
        let problems = settings.validate().unwrap_err().join("\n");
        for word in [
            "url is not set",
            "tls.certificate",
            "password",
            "concurrency",
            "replication",
        ] {
            assert!(problems.contains(word), "{word} is not in {problems}");
        }
    }

    #[test]
    fn a_secret_is_never_printed_and_can_come_from_a_file() {
        let text =
            r#"{"url": "cassandra://a/k", "username": "u", "password": "hunter2", "connect_timeout": "2s"}"#;
        let settings = serde_json::from_str::<Settings>(text).unwrap();
        assert_eq!(settings.secret().unwrap().expose(), "hunter2");
        let printed = format!("{settings:?} {}", serde_json::to_string(&settings).unwrap());
        assert!(!printed.contains("hunter2") && printed.contains("[redacted]") && printed.contains("\"2s\""));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "from a file\n").unwrap();
        let settings = Settings {
            password_file: Some(file.path().into()),
            ..Settings::default()
        };
        assert_eq!(settings.secret().unwrap().expose(), "from a file");
        assert!(serde_json::from_str::<Settings>(r#"{"urll": ""}"#).is_err());
    }
}
