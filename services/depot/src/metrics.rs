//! The metrics that only depot has. A site is a label: there are no more than were enrolled.

use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

/// What was served, to whom, and how it was answered.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) sent: IntCounterVec,
    pub(crate) answers: IntCounterVec,
    pub(crate) connections: IntGauge,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            sent: IntCounterVec::new(
                Opts::new(
                    "fieldline_depot_sent_bytes_total",
                    "Bytes of manifests and objects that sites were sent",
                ),
                &["to"],
            )?,
            answers: IntCounterVec::new(
                Opts::new("fieldline_depot_answers_total", "Answers by status code"),
                &["status"],
            )?,
            connections: IntGauge::new("fieldline_depot_connections", "Open connections of sites")?,
        };
        registry.register(Box::new(metrics.sent.clone()))?;
        registry.register(Box::new(metrics.answers.clone()))?;
        registry.register(Box::new(metrics.connections.clone()))?;
        Ok(metrics)
    }
}
