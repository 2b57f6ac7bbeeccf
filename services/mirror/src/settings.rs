//! What an operator can set.

use std::net::SocketAddr;
use std::path::PathBuf;

use common::chassis::{self, ByteSize, Span};
use common::volume::CHUNK;
use common::{broker, table, volume};
use reqwest::Url;
use serde::{Deserialize, Serialize};

/// The settings of mirror.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The edge's broker.
    pub broker: broker::Settings,
    /// The edge's tables.
    pub table: table::Settings,
    /// The edge's volume.
    pub volume: volume::Settings,
    /// Where the core's depot is, as `https://host:7443`; without it, the site's enrolment says so.
    pub depot: String,
    /// The file of the site's enrolment, usually in `[common]`; it counts where `depot` is not set.
    pub enrolment: Option<PathBuf>,
    /// This site's certificate, and whom it trusts.
    pub tls: Tls,
    /// The door of the site's link, as "127.0.0.1:7450": connections go through it, under the link's budget; straight to
    /// the depot when unset.
    pub door: Option<SocketAddr>,
    /// Assets copied at once on a fat link; on a thin one (less than 128 KiB/s) it is one.
    pub parallel: usize,
    /// The most bytes that the volume may hold; no limit when unset.
    pub quota: Option<ByteSize>,
    /// What gives its room when the quota leaves none: "none" or "oldest", what was mirrored longest ago and is not pinned.
    pub evict: Evict,
    /// The most bytes in a second, of all copies together; no limit when unset.
    pub bytes_per_second: Option<ByteSize>,
    /// The most bytes that one request asks for.
    pub request_bytes: ByteSize,
    /// How long it may take to connect.
    pub connect_timeout: Span,
    /// How long the depot may be silent within an answer.
    pub idle_timeout: Span,
    /// The first pause after a failure; each further one is twice as long.
    pub backoff: Span,
    /// The longest pause.
    pub backoff_max: Span,
    /// How often an asset that the depot cannot give whole is tried for one command.
    pub tries: u32,
}

/// What gives its room when the quota leaves none for what is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evict {
    /// Nothing: what does not fit waits.
    #[default]
    None,
    /// What was mirrored longest ago and is not pinned.
    Oldest,
}

/// PEM files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The authority that issued the depot's certificate.
    pub ca: PathBuf,
    /// This site's certificate.
    pub certificate: PathBuf,
    /// The key of that certificate.
    pub key: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            broker: broker::Settings::default(),
            table: table::Settings::default(),
            volume: volume::Settings::default(),
            depot: String::new(),
            enrolment: None,
            tls: Tls::default(),
            door: None,
            parallel: 4,
            quota: None,
            evict: Evict::None,
            bytes_per_second: None,
            request_bytes: ByteSize::mib(64),
            connect_timeout: Span::seconds(10),
            idle_timeout: Span::seconds(30),
            backoff: Span::millis(200),
            backoff_max: Span::seconds(10),
            tries: 3,
        }
    }
}

impl Settings {
    /// The depot's host and port, as a door allows them; none where an enrolment is to say it.
    pub fn depot_server(&self) -> Option<String> {
        let address = self.address()?;
        Some(format!(
            "{}:{}",
            address.host_str()?,
            address.port_or_known_default()?
        ))
    }

    /// The depot's address, if it is one.
    pub(crate) fn address(&self) -> Option<Url> {
        let url = Url::parse(&self.depot).ok()?;
        (url.scheme() == "https" && url.has_host() && matches!(url.path(), "" | "/")).then_some(url)
    }
}

impl chassis::Settings for Settings {
    fn validate(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        for (key, found) in [
            ("broker", self.broker.validate()),
            ("table", self.table.validate()),
            ("volume", self.volume.validate()),
        ] {
            problems.extend(
                found
                    .err()
                    .into_iter()
                    .flatten()
                    .map(|problem| format!("{key}.{problem}")),
            );
        }
        let enrolled = self.enrolment.is_some() && self.depot.is_empty();
        if self.address().is_none() && !enrolled {
            problems.push(format!(
                "depot: {:?} is no address of a depot; write it as https://host:7443",
                self.depot
            ));
        }
        for (key, path) in [
            ("ca", &self.tls.ca),
            ("certificate", &self.tls.certificate),
            ("key", &self.tls.key),
        ] {
            if path.as_os_str().is_empty() && !enrolled {
                problems.push(format!("tls.{key}: name a PEM file; `fieldline certs` makes it"));
            }
        }
        if self.parallel == 0 || self.tries == 0 {
            problems.push("parallel, tries: must not be zero".to_owned());
        }
        if self.bytes_per_second.is_some_and(|size| size.bytes() == 0) {
            problems.push("bytes_per_second: must not be zero; leave it out for no limit".to_owned());
        }
        if self.evict != Evict::None && self.quota.is_none() {
            problems.push("evict: has no effect without a quota; set quota".to_owned());
        }
        if self.request_bytes.bytes() < CHUNK {
            problems.push(format!(
                "request_bytes: must be a chunk at least, {}KiB",
                CHUNK >> 10
            ));
        }
        if self.connect_timeout.is_zero() || self.idle_timeout.is_zero() || self.backoff.is_zero() {
            problems.push("connect_timeout, idle_timeout, backoff: must not be zero".to_owned());
        }
        if self.backoff_max < self.backoff {
            problems.push("backoff_max: must not be shorter than backoff".to_owned());
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_depot_is_reached_by_https_only() {
        let address = |depot: &str| {
            Settings {
                depot: depot.to_owned(),
                ..Settings::default()
            }
            .address()
        };
        assert!(address("https://127.0.0.1:7443").is_some() && address("https://depot.example/").is_some());
        for wrong in ["", "http://127.0.0.1:7443", "depot:7443", "https://depot/v1"] {
            assert!(address(wrong).is_none(), "{wrong:?} must be refused");
        }
    }
}
