//! The log lines of one test, to look into.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

use crate::levels::{Kept, Levels};
use crate::lines::{Lines, Sink};
use crate::service::Services;
use crate::tail::Tails;
use crate::{Result, Telemetry};

/// Collects what the current thread logs until it is dropped; a test's tasks belong on a current-thread runtime.
#[derive(Debug)]
pub struct Capture {
    lines: Arc<Mutex<Vec<String>>>,
    telemetry: Telemetry,
    _guard: DefaultGuard,
}

impl Capture {
    /// Starts to collect lines of `level`, as `debug` or `info,feed=trace`.
    pub fn start(level: &str) -> Result<Self> {
        let levels = Levels::new(level)?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let tails = Tails::default();
        let sink = Sink::Memory(Arc::clone(&lines));
        let layer = Lines::new(sink, tails.clone(), levels.clone()).with_filter(Kept(levels.clone()));
        let guard = tracing::subscriber::set_default(Registry::default().with(Services).with(layer));
        // Another test's subscriber may have let callsites remember that nobody listens.
        tracing::callsite::rebuild_interest_cache();
        Ok(Self {
            lines,
            telemetry: Telemetry {
                levels,
                tails,
                exporter: None,
            },
            _guard: guard,
        })
    }

    /// The handle that changes what is collected.
    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// The lines so far.
    pub fn lines(&self) -> Vec<Value> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// The lines so far that have this message.
    pub fn with_message(&self, message: &str) -> Vec<Value> {
        self.lines()
            .into_iter()
            .filter(|line| line["message"] == message)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service_span;

    #[test]
    fn line_has_owner_message_and_the_fields_of_its_spans() {
        let capture = Capture::start("info").unwrap();
        service_span("core", "feed").in_scope(|| {
            tracing::info_span!("process", topic = "asset-pipeline", offset = 7).in_scope(|| {
                tracing::info!(asset_id = "a1", offset = 8, "announced");
            });
        });
        let line = &capture.with_message("announced")[0];
        assert_eq!(
            (&line["site"], &line["service"], &line["level"]),
            (&"core".into(), &"feed".into(), &"INFO".into())
        );
        assert_eq!(
            (&line["topic"], &line["asset_id"]),
            (&"asset-pipeline".into(), &"a1".into())
        );
        assert_eq!(line["offset"], 8, "the nearest field is the one that counts");
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
        assert!(line["target"].as_str().unwrap().starts_with("telemetry"));
    }

    #[test]
    fn level_of_one_service_leaves_the_others_alone() {
        let capture = Capture::start("info").unwrap();
        let log = |service| service_span("core", service).in_scope(|| tracing::debug!("detail"));
        log("feed");
        capture
            .telemetry()
            .set_service_level("core", "feed", Some("debug"))
            .unwrap();
        log("feed");
        log("link");
        let lines = capture.with_message("detail");
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["service"], "feed");
        capture
            .telemetry()
            .set_service_level("core", "feed", None)
            .unwrap();
        log("feed");
        assert_eq!(capture.with_message("detail").len(), 1);
    }
}
