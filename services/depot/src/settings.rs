//! What an operator can set.

use std::net::SocketAddr;
use std::path::PathBuf;

use common::chassis::{Span, prefixed};
use common::{broker, chassis, table, volume};
use serde::{Deserialize, Serialize};

/// The settings of depot.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The core's broker, for status and commands.
    pub broker: broker::Settings,
    /// The core's tables: who is enrolled.
    pub table: table::Settings,
    /// The core's volume.
    pub volume: volume::Settings,
    /// Where sites connect.
    pub listen: SocketAddr,
    /// Who this server is, and whose sites it knows.
    pub tls: Tls,
    /// How often the certificate's files are looked at for changes.
    pub tls_reload: Span,
    /// The most connections at once; more wait until one ends.
    pub connections: usize,
    /// The most requests that one site has answered at once; more are told to come again.
    pub requests_per_site: usize,
    /// How long the TLS handshake may take.
    pub handshake_timeout: Span,
    /// How long a connection may be idle, or take to send the head of a request.
    pub idle_timeout: Span,
    /// How long an answer may take to begin.
    pub request_timeout: Span,
    /// How long a site may take none of the bytes that wait for it. Buffers of slow links take minutes to drain.
    pub stall_timeout: Span,
    /// For how long what the table says of a site is believed, 2 s at most.
    pub standing_max_age: Span,
    /// How often entries and bytes that are of no use any more are looked for.
    pub sweep: Span,
}

/// PEM files.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The authority that issued the sites' certificates.
    pub ca: Option<PathBuf>,
    /// The server's certificate chain.
    pub certificate: Option<PathBuf>,
    /// The server's private key.
    pub key: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            broker: broker::Settings::default(),
            table: table::Settings::default(),
            volume: volume::Settings::default(),
            listen: SocketAddr::from(([127, 0, 0, 1], 7443)),
            tls: Tls::default(),
            tls_reload: Span::seconds(10),
            connections: 256,
            requests_per_site: 8,
            handshake_timeout: Span::seconds(30),
            idle_timeout: Span::seconds(90),
            request_timeout: Span::seconds(30),
            stall_timeout: Span::seconds(300),
            standing_max_age: Span::seconds(1),
            sweep: Span::seconds(3600),
        }
    }
}

impl chassis::Settings for Settings {
    fn validate(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        problems.extend(prefixed("broker", self.broker.validate()));
        problems.extend(prefixed("table", self.table.validate()));
        problems.extend(prefixed("volume", self.volume.validate()));
        for (key, file) in [
            ("ca", &self.tls.ca),
            ("certificate", &self.tls.certificate),
            ("key", &self.tls.key),
        ] {
            if file.is_none() {
                problems.push(format!("tls.{key}: not set; `fieldline certs` makes it"));
            }
        }
        for (key, count) in [
            ("connections", self.connections),
            ("requests_per_site", self.requests_per_site),
        ] {
            if !(1..=100_000).contains(&count) {
                problems.push(format!("{key}: 1 to 100000"));
            }
        }
        let times = [
            ("tls_reload", self.tls_reload),
            ("handshake_timeout", self.handshake_timeout),
            ("idle_timeout", self.idle_timeout),
            ("request_timeout", self.request_timeout),
            ("stall_timeout", self.stall_timeout),
            ("sweep", self.sweep),
        ];
        for (key, _) in times.iter().filter(|(_, time)| time.is_zero()) {
            problems.push(format!("{key}: more than 0s"));
        }
        if self.standing_max_age > Span::seconds(2) {
            problems.push("standing_max_age: 2s at most, so that a revoked site is cut off soon".into());
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
    use common::chassis::Settings as _;

    use super::*;

    #[test]
    fn a_depot_without_certificates_or_that_believes_too_long_is_refused() {
        let settings = Settings {
            standing_max_age: Span::seconds(3),
            ..Settings::default()
        };
        let problems = settings.validate().unwrap_err().join("\n");
        for wanted in [
            "tls.ca",
            "tls.certificate",
            "tls.key",
            "standing_max_age",
            "volume.url",
        ] {
            assert!(problems.contains(wanted), "{wanted} in {problems}");
        }
    }
}
