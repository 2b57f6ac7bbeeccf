//! Logs, traces and metrics text, for one service in a process or for many services of many sites.
//!
//! [`init`] installs the one subscriber of the process. A host enters [`service_span`] around all that a service does;
//! that span gives each log line its `site` and `service`, and lets a level be set for one service alone. Logs are JSON
//! lines on standard output (text on a terminal). Traces go out by OTLP when an endpoint is set and cost nothing when
//! none is. Each service's last lines are kept in memory, bounded, to be asked for. Metrics have no global: each host owns a registry, and [`metrics::text`] renders several as one page.

pub mod capture;
mod levels;
mod lines;
pub mod metrics;
mod service;
mod settings;
mod tail;
mod traces;

use std::io::IsTerminal;
use std::sync::Arc;

use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer as _, Registry};

use levels::{Kept, Levels};
use lines::{Lines, Sink};
use service::Services;
pub use service::service_span;
pub use settings::{Format, Log, Settings, Traces};
use tail::Tails;
pub use tail::{Line, MAX_BYTES, MAX_LINES, Tail, untold};
use traces::Exporter;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Telemetry that could not be set up. The text never includes the source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text names no levels.
    #[error("`{text}` is no log level; write info, debug or feed=trace,info")]
    Level {
        /// The text.
        text: String,
    },
    /// The process has a subscriber already.
    #[error("telemetry is set up already")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
    /// The traces' endpoint cannot be used.
    #[error("cannot send traces to {endpoint}")]
    Traces {
        /// The endpoint.
        endpoint: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The handle to the process's telemetry; clones are the same.
#[derive(Debug, Clone)]
pub struct Telemetry {
    levels: Levels,
    tails: Tails,
    exporter: Option<Arc<Exporter>>,
}

/// Installs the process's subscriber and the W3C propagator; `name` is how traces call this process.
pub fn init(settings: &Settings, name: &str) -> Result<Telemetry> {
    let levels = Levels::new(&settings.log.level)?;
    let exporter = Exporter::start(&settings.traces, name)?.map(Arc::new);
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let terminal = match settings.log.format {
        Format::Auto => std::io::stdout().is_terminal(),
        Format::Pretty => true,
        Format::Json => false,
    };
    let tails = Tails::default();
    let sink = if terminal { Sink::Nowhere } else { Sink::Stdout };
    let lines = Lines::new(sink, tails.clone(), levels.clone()).with_filter(Kept(levels.clone()));
    let text = terminal.then(|| tracing_subscriber::fmt::layer().with_filter(levels.clone()));
    let traces = exporter.as_deref().map(Exporter::layer);
    Registry::default()
        .with(Services)
        .with(lines)
        .with(text)
        .with(traces)
        .try_init()
        .map_err(Error::Twice)?;
    Ok(Telemetry {
        levels,
        tails,
        exporter,
    })
}

impl Telemetry {
    /// A handle that no subscriber listens to, for tests of what holds one.
    pub fn detached() -> Self {
        Self {
            levels: Levels::default(),
            tails: Tails::default(),
            exporter: None,
        }
    }

    /// Sets what is logged by all services that have no level of their own: `info`, or `info,broker=debug`.
    pub fn set_level(&self, level: &str) -> Result<()> {
        self.levels.set(level)
    }

    /// Sets what one service of one site logs; `None` gives it the process's level again.
    pub fn set_service_level(&self, site: &str, service: &str, level: Option<&str>) -> Result<()> {
        self.levels.set_service(site, service, level)
    }

    /// The level of a service, as it was set for it or for all.
    pub fn level(&self, site: &str, service: &str) -> String {
        self.levels.get(site, service)
    }

    /// The level of all services that have none of their own.
    pub fn process_level(&self) -> String {
        self.levels.process()
    }

    /// A service's last lines, unless there are no others than the `count` that were ever kept when one last asked.
    pub fn tail(&self, site: &str, service: &str, count: u64) -> Option<Tail> {
        self.tails.beyond(site, service, count)
    }

    /// Sends what traces are still held; blocks for a few seconds at most.
    pub fn shutdown(&self) {
        if let Some(exporter) = &self.exporter {
            exporter.shutdown();
        }
    }
}

/// An error and all its sources in one line: `cannot send to assets: broker is closed`.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_names_every_source_once() {
        let error = Error::Traces {
            endpoint: "http://x".into(),
            source: std::io::Error::other("refused").into(),
        };
        assert_eq!(chain(&error), "cannot send traces to http://x: refused");
    }
}
