//! What an operator can set about logs and traces.

use serde::{Deserialize, Serialize};

/// How logs are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// Text for people.
    Pretty,
}

/// Logs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// How lines look.
    pub format: Format,
    /// What is logged: `info`, or `info,broker=debug`.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: Format::Auto,
            level: "info".into(),
        }
    }
}

/// Traces.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Traces {
    /// Where traces go by OTLP over HTTP, as `http://collector:4318`; none are made without it.
    pub endpoint: Option<String>,
    /// The share of traces that is kept, from 0 to 1.
    pub ratio: f64,
}

impl Default for Traces {
    fn default() -> Self {
        Self {
            endpoint: None,
            ratio: 1.0,
        }
    }
}

/// Logs and traces.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Logs.
    pub log: Log,
    /// Traces.
    pub traces: Traces,
}

impl Settings {
    /// What is wrong with these settings, each with its key.
    pub fn validate(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        if let Err(error) = crate::levels::Levels::new(&self.log.level) {
            problems.push(format!("log.level: {error}"));
        }
        if !(0.0..=1.0).contains(&self.traces.ratio) {
            problems.push("traces.ratio: must be between 0 and 1".into());
        }
        if self
            .traces
            .endpoint
            .as_ref()
            .is_some_and(|url| !url.starts_with("http"))
        {
            problems.push("traces.endpoint: must be an http url".into());
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }
}
