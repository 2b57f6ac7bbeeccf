//! Which broker, and how to be let in.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use units::Secret;
use url::Url;

use crate::error::{Error, Result};

/// Which broker a service uses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `kafka://host:9092,host:9092` or `sqlite:///absolute/path/broker.db`. There is no default.
    pub url: String,
    /// TLS towards Kafka; on when any of it is set.
    pub tls: Tls,
    /// User and password towards Kafka.
    pub sasl: Sasl,
    /// Any property of librdkafka, above what this crate sets.
    pub librdkafka: BTreeMap<String, String>,
}

/// librdkafka's own ways not to look whom it speaks to.
const UNCHECKED: [(&str, &str); 2] = [
    ("enable.ssl.certificate.verification", "false"),
    ("ssl.endpoint.identification.algorithm", "none"),
];

/// TLS towards Kafka, as PEM files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The authority that signed the broker's certificate; setting it turns TLS on.
    pub ca: Option<PathBuf>,
    /// This client's certificate, for mutual TLS.
    pub certificate: Option<PathBuf>,
    /// The key of that certificate.
    pub key: Option<PathBuf>,
    /// Whoever answers is taken for the broker. For a moment of need: nothing is secret then, and every log and each status of
    /// link says so.
    pub unverified: bool,
}

impl Tls {
    /// Whether connections are encrypted.
    pub fn on(&self) -> bool {
        self.ca.is_some() || self.certificate.is_some() || self.unverified
    }
}

/// User and password towards Kafka.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sasl {
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`; none is no SASL.
    pub mechanism: Option<String>,
    /// The user.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// A file that holds the password.
    pub password_file: Option<PathBuf>,
}

/// The engine that a URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// Kafka at these servers (`host:port,host:port`).
    Kafka(String),
    /// The embedded broker in this file.
    Sqlite(PathBuf),
}

impl Settings {
    /// Settings with this URL and nothing else.
    pub fn url(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            ..Self::default()
        }
    }

    /// What is wrong with the settings, in a user's words.
    pub fn validate(&self) -> std::result::Result<(), Vec<String>> {
        let mut problems = Vec::new();
        if let Err(problem) = self.target() {
            problems.push(match problem {
                Error::Settings(text) => text,
                other => other.to_string(),
            });
        }
        if self.tls.certificate.is_some() != self.tls.key.is_some() {
            problems.push("tls.certificate and tls.key go together".into());
        }
        if self.sasl.mechanism.is_some() != self.sasl.username.is_some() {
            problems.push("sasl.mechanism and sasl.username go together".into());
        }
        if self.sasl.password.is_some() && self.sasl.password_file.is_some() {
            problems.push("set one of sasl.password and sasl.password_file".into());
        }
        for (property, off) in UNCHECKED {
            let value = self.librdkafka.get(property);
            if value.is_some_and(|value| value.trim().eq_ignore_ascii_case(off)) {
                problems.push(format!(
                    "librdkafka.{property} = {off} takes anybody for the broker without a word: tls.unverified does that, and is said"
                ));
            }
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }

    /// The engine that the URL names.
    pub(crate) fn target(&self) -> Result<Target> {
        if self.url.is_empty() {
            return Err(Error::Settings(
                "url is not set; kafka://host:9092 or sqlite:///path/broker.db".into(),
            ));
        }
        if let Some(servers) = self.url.strip_prefix("kafka://") {
            let servers = servers.trim_end_matches('/');
            if servers.is_empty() || servers.split(',').any(|server| !server.contains(':')) {
                return Err(Error::Settings(format!(
                    "url {} needs host:port,host:port",
                    self.url
                )));
            }
            return Ok(Target::Kafka(servers.into()));
        }
        let url =
            Url::parse(&self.url).map_err(|error| Error::Settings(format!("url {}: {error}", self.url)))?;
        match url.scheme() {
            "sqlite" => {
                match Url::parse(&self.url.replacen("sqlite", "file", 1)).map(|url| url.to_file_path()) {
                    Ok(Ok(path)) if path.file_name().is_some() => Ok(Target::Sqlite(path)),
                    _ => Err(Error::Settings(format!(
                        "url {} needs an absolute path",
                        self.url
                    ))),
                }
            }
            scheme => Err(Error::Settings(format!(
                "url scheme {scheme} is neither kafka nor sqlite"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_names_the_engine() {
        let kafka = Settings::url("kafka://a:9092,b:9092").target().unwrap();
        assert_eq!(kafka, Target::Kafka("a:9092,b:9092".into()));
        let sqlite = Settings::url("sqlite:///var/lib/x y/broker.db").target().unwrap();
        assert_eq!(sqlite, Target::Sqlite("/var/lib/x y/broker.db".into()));
        for wrong in ["", "kafka://", "kafka://host", "redis://a:1", "sqlite://"] {
            assert!(Settings::url(wrong).validate().is_err(), "{wrong}");
        }
    }

    #[test]
    fn nobody_is_taken_for_the_broker_without_a_word() {
        for (property, value, refused) in [
            ("enable.ssl.certificate.verification", "False", true),
            ("ssl.endpoint.identification.algorithm", "none", true),
            ("ssl.endpoint.identification.algorithm", "https", false),
        ] {
            let mut settings = Settings::url("kafka://a:9092");
            settings.librdkafka.insert(property.into(), value.into());
            let problems = settings.validate().err().unwrap_or_default().join("; ");
            assert_eq!(problems.contains("tls.unverified"), refused, "{problems}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let sasl = Sasl {
            password: Some(Secret::new("hunter2")),
            ..Sasl::default()
        };
        assert!(!format!("{sasl:?}").contains("hunter2"));
        assert!(!serde_json::to_string(&sasl).unwrap().contains("hunter2"));
    }
}
