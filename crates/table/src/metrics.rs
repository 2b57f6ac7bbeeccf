//! What every operation leaves in the registry.

use std::time::Instant;

use prometheus::core::Collector;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

use crate::error::{Error, Result};

const SECONDS: (&str, &str) = (
    "table_operation_seconds",
    "how long operations on tables took, failed ones included",
);
const ERRORS: (&str, &str) = ("table_errors_total", "operations on tables that failed");

/// The metrics of one session.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    seconds: HistogramVec,
    errors: IntCounterVec,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self> {
        let buckets = vec![0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0];
        let seconds = HistogramOpts::new(SECONDS.0, SECONDS.1).buckets(buckets);
        let seconds = HistogramVec::new(seconds, &["operation"]).map_err(unusable)?;
        let errors = IntCounterVec::new(Opts::new(ERRORS.0, ERRORS.1), &["operation"]).map_err(unusable)?;
        register(registry, &seconds)?;
        register(registry, &errors)?;
        Ok(Self { seconds, errors })
    }

    /// Runs one operation and counts it.
    pub(crate) async fn observe<T>(
        &self,
        operation: &str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let started = Instant::now();
        let result = work.await;
        self.seconds
            .with_label_values(&[operation])
            .observe(started.elapsed().as_secs_f64());
        if result.is_err() {
            self.errors.with_label_values(&[operation]).inc();
        }
        result
    }
}

/// A registry does not hand out what it holds, so a session opened later on the same one takes the series over: a
/// counter that begins again, which readers of counters expect.
fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: &C) -> Result<()> {
    match registry.register(Box::new(collector.clone())) {
        Err(prometheus::Error::AlreadyReg) => {
            registry
                .unregister(Box::new(collector.clone()))
                .map_err(unusable)?;
            registry.register(Box::new(collector.clone())).map_err(unusable)
        }
        other => other.map_err(unusable),
    }
}

fn unusable(error: prometheus::Error) -> Error {
    Error::Settings {
        problem: format!("metrics: {error}"),
    }
}
