//! What is set for every service alike, and what a service's own settings must be able to do.

use std::net::SocketAddr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use units::Span;

/// The settings of a service: serde with `#[serde(default, deny_unknown_fields)]` on every struct, and no `flatten`.
///
/// The known keys are those of the serialised default, so every field is serialised, `None` included.
pub trait Settings: DeserializeOwned + Serialize + Default + Send + 'static {
    /// What is wrong, each problem with its key: `interval: must not be zero`.
    fn validate(&self) -> Result<(), Vec<String>>;
}

/// The problems that a part of the settings found in itself, with the key of that part before theirs.
pub fn prefixed(key: &str, checked: Result<(), Vec<String>>) -> Vec<String> {
    let problems = checked.err().unwrap_or_default();
    problems
        .into_iter()
        .map(|problem| format!("{key}.{problem}"))
        .collect()
}

/// What the host itself needs; these keys are set in `[common]` or in the service's section.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostSettings {
    /// The site this process belongs to. There is no default.
    pub site: String,
    /// What tells this instance from others of the service at the site; the machine's name when unset.
    pub instance: Option<String>,
    /// Where the admin port listens, as `127.0.0.1:9090`; there is none when unset.
    pub admin: Option<SocketAddr>,
    /// How long a stop may take before the process ends all the same.
    pub grace: Span,
    /// Logs.
    pub log: telemetry::Log,
    /// Traces.
    pub traces: telemetry::Traces,
}

impl Default for HostSettings {
    fn default() -> Self {
        Self {
            site: String::new(),
            instance: None,
            admin: None,
            grace: Span::seconds(25),
            log: telemetry::Log::default(),
            traces: telemetry::Traces::default(),
        }
    }
}

impl HostSettings {
    /// The settings for logs and traces.
    pub fn telemetry(&self) -> telemetry::Settings {
        telemetry::Settings {
            log: self.log.clone(),
            traces: self.traces.clone(),
        }
    }

    pub(crate) fn validate(&self) -> Result<(), Vec<String>> {
        let mut problems = self.telemetry().validate().err().unwrap_or_default();
        if self.site.is_empty() {
            problems.push("site: not set; name the site, as core or edge-1".into());
        } else if !name(&self.site) {
            problems.push("site: must be at most 40 lower-case letters, digits and dashes, a letter first, no dash last".into());
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }

    /// The instance's name, from the machine when it has none of its own.
    pub(crate) fn instance(&self) -> String {
        let machine = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let name = self
            .instance
            .clone()
            .filter(|name| !name.is_empty())
            .or_else(machine);
        name.map_or_else(|| "local".to_owned(), |name| name.trim().to_owned())
    }
}

fn name(text: &str) -> bool {
    text.len() <= 40
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}
