//! What can be set for a viewer.

use std::net::SocketAddr;
use std::path::PathBuf;

use common::chassis::{Span, prefixed};
use common::{broker, chassis, table, volume};
use serde::{Deserialize, Serialize};

use crate::sign_in::{Mode, Proxies};

/// The settings of a viewer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The site's broker.
    pub broker: broker::Settings,
    /// The site's tables; what they were made for says whether the site is a core or an edge.
    pub table: table::Settings,
    /// The site's volume.
    pub volume: volume::Settings,
    /// The file of the site's enrolment, usually in `[common]`: what the set-up writes, and link and mirror read.
    pub enrolment: Option<PathBuf>,
    /// Where the API listens.
    pub listen: SocketAddr,
    /// Whether callers sign in: `users`, or `off`, where whoever reaches the address can do everything.
    pub sign_in: Mode,
    /// A file whose content makes its bearer an operator, for the command line; made when it is missing.
    pub token_file: Option<PathBuf>,
    /// Addresses and networks of proxies, whose `x-forwarded-for` and `x-forwarded-proto` count.
    pub trusted_proxies: Vec<String>,
    /// How long it is kept who did what.
    pub audit_retention: Span,
    /// Lets `listen` be an address that others can reach.
    pub allow_remote: bool,
    /// Host names, beside the loopback's, under which the API may be called.
    pub allowed_hosts: Vec<String>,
    /// The most assets in the index; those beyond are not listed, and that is said.
    pub max_assets: usize,
    /// Partitions of topics that are made for a new edge, where their kind leaves it open.
    pub partitions: i32,
    /// Replicas of topics that are made.
    pub replication: i32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            broker: broker::Settings::default(),
            table: table::Settings::default(),
            volume: volume::Settings::default(),
            enrolment: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            sign_in: Mode::Users,
            token_file: None,
            trusted_proxies: Vec::new(),
            audit_retention: Span::seconds(400 * 24 * 3600),
            allow_remote: false,
            allowed_hosts: Vec::new(),
            max_assets: 200_000,
            partitions: 3,
            replication: 1,
        }
    }
}

impl chassis::Settings for Settings {
    fn validate(&self) -> Result<(), Vec<String>> {
        let mut problems = prefixed("broker", self.broker.validate());
        problems.extend(prefixed("table", self.table.validate()));
        problems.extend(prefixed("volume", self.volume.validate()));
        if !self.listen.ip().is_loopback() {
            if !self.allow_remote {
                problems.push(format!(
                    "listen: {} can be reached by others; use 127.0.0.1, or set allow_remote = true",
                    self.listen
                ));
            } else if self.allowed_hosts.is_empty() {
                problems.push(
                    "allowed_hosts: name the hosts under which remote callers reach this address".into(),
                );
            }
        }
        if let Err(problem) = Proxies::parse(&self.trusted_proxies) {
            problems.push(format!("trusted_proxies: {problem}"));
        }
        if *self.audit_retention < std::time::Duration::from_secs(24 * 3600) {
            problems.push("audit_retention: must be at least 1day".into());
        }
        if self.max_assets == 0 || self.partitions < 1 || self.replication < 1 {
            problems.push("max_assets, partitions, replication: must be at least 1".into());
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

    fn problems(change: impl FnOnce(&mut Settings)) -> Vec<String> {
        let mut settings = Settings::default();
        change(&mut settings);
        settings.validate().err().unwrap_or_default()
    }

    #[test]
    fn address_that_others_reach_is_refused_unless_allowed() {
        let remote = |settings: &mut Settings| settings.listen = "0.0.0.0:8080".parse().unwrap();
        assert!(
            problems(remote)
                .iter()
                .any(|problem| problem.starts_with("listen:"))
        );
        let allowed = problems(|settings| {
            remote(settings);
            settings.allow_remote = true;
            settings.allowed_hosts = vec!["viewer.example".into()];
        });
        assert!(
            !allowed
                .iter()
                .any(|problem| problem.starts_with("listen:") || problem.starts_with("allowed"))
        );
    }
}
