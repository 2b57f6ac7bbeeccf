//! The metrics that every user of a broker has, emitted by this crate and by nobody else.
//!
//! They carry a label `client`, so that a service with two brokers (a link) can tell them apart; a client that opens
//! the same registry twice gets a number behind its name.

use std::collections::BTreeMap;

use prometheus::core::Collector;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::error::{Error, Result};
use crate::record::Outgoing;

/// Records read, by topic.
pub const RECORDS_CONSUMED: &str = "fieldline_records_consumed_total";
/// Records sent and durable, by topic.
pub const RECORDS_PRODUCED: &str = "fieldline_records_produced_total";
/// Seconds that a handler took for a record, by topic.
pub const RECORD_PROCESS: &str = "fieldline_record_process_seconds";
/// Records between the group's commit and the partition's end.
pub const CONSUMER_LAG: &str = "fieldline_consumer_lag_records";
/// Attempts that failed and are repeated, by what failed: `handler`, `dead_letter`, `commit`, `poll`.
pub const RETRIES: &str = "fieldline_retries_total";
/// Records put aside, by topic and reason.
pub const DEAD_LETTERS: &str = "fieldline_dead_letters_total";
/// Records that handlers work on at this moment.
pub const IN_FLIGHT: &str = "fieldline_in_flight_records";

pub(crate) struct Metrics {
    registry: Registry,
    consumed: IntCounterVec,
    produced: IntCounterVec,
    pub(crate) process: HistogramVec,
    pub(crate) lag: IntGaugeVec,
    pub(crate) retries: IntCounterVec,
    pub(crate) dead_letters: IntCounterVec,
    pub(crate) in_flight: IntGauge,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry, client: &str) -> Result<Self> {
        let mut name = client.to_owned();
        for again in 2.. {
            let metrics = Self::new(registry, &name).map_err(Error::Metrics)?;
            match metrics.register_all() {
                Ok(()) => return Ok(metrics),
                Err(prometheus::Error::AlreadyReg) => name = format!("{client}-{again}"),
                Err(error) => return Err(Error::Metrics(error)),
            }
            // What is registered belongs to the earlier one: dropping ours must not take it away.
            metrics.forget();
        }
        Err(Error::Metrics(prometheus::Error::AlreadyReg))
    }

    fn new(registry: &Registry, client: &str) -> prometheus::Result<Self> {
        let opts = |name: &str, help: &str| Opts::new(name, help).const_label("client", client);
        let process = HistogramOpts::new(RECORD_PROCESS, "Seconds that a handler took for a record")
            .const_label("client", client)
            .buckets(vec![0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 600.0]);
        Ok(Self {
            registry: registry.clone(),
            consumed: IntCounterVec::new(opts(RECORDS_CONSUMED, "Records read"), &["topic"])?,
            produced: IntCounterVec::new(opts(RECORDS_PRODUCED, "Records sent and durable"), &["topic"])?,
            process: HistogramVec::new(process, &["topic"])?,
            lag: IntGaugeVec::new(
                opts(CONSUMER_LAG, "Records between the group's commit and the end"),
                &["topic", "partition"],
            )?,
            retries: IntCounterVec::new(
                opts(RETRIES, "Attempts that failed and are repeated"),
                &["reason"],
            )?,
            dead_letters: IntCounterVec::new(
                opts(DEAD_LETTERS, "Records put aside as dead letters"),
                &["topic", "reason"],
            )?,
            in_flight: IntGauge::with_opts(opts(IN_FLIGHT, "Records that handlers work on"))?,
        })
    }

    fn collectors(&self) -> [Box<dyn Collector>; 7] {
        [
            Box::new(self.consumed.clone()),
            Box::new(self.produced.clone()),
            Box::new(self.process.clone()),
            Box::new(self.lag.clone()),
            Box::new(self.retries.clone()),
            Box::new(self.dead_letters.clone()),
            Box::new(self.in_flight.clone()),
        ]
    }

    fn register_all(&self) -> prometheus::Result<()> {
        // All have the same labels, so either the first is taken or none is.
        self.collectors()
            .into_iter()
            .try_for_each(|collector| self.registry.register(collector))
    }

    fn forget(mut self) {
        self.registry = Registry::new();
    }

    /// The sum of the lags; none while no partition is consumed.
    pub(crate) fn behind(&self) -> Option<f64> {
        let families = self.lag.collect();
        let lags = families.iter().flat_map(|family| family.get_metric());
        lags.map(|metric| metric.get_gauge().get_value())
            .reduce(|sum, lag| sum + lag)
    }

    pub(crate) fn consumed(&self, topic: &str, records: usize) {
        self.consumed.with_label_values(&[topic]).inc_by(records as u64);
    }

    pub(crate) fn count_topics(&self, records: &[Outgoing]) -> BTreeMap<String, u64> {
        let mut topics = BTreeMap::new();
        for record in records {
            if let Some(count) = topics.get_mut(&record.topic) {
                *count += 1;
            } else {
                topics.insert(record.topic.clone(), 1);
            }
        }
        topics
    }

    pub(crate) fn produced(&self, topics: BTreeMap<String, u64>) {
        for (topic, count) in topics {
            self.produced.with_label_values(&[&topic]).inc_by(count);
        }
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        for collector in self.collectors() {
            // Not registered (any more) is what is wanted.
            let _absent = self.registry.unregister(collector);
        }
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_brokers_of_one_service_share_a_registry() {
        let registry = Registry::new();
        let first = Metrics::register(&registry, "link").unwrap();
        let second = Metrics::register(&registry, "link").unwrap();
        first.consumed("t", 1);
        second.consumed("t", 2);
        let family = registry
            .gather()
            .into_iter()
            .find(|family| family.name() == RECORDS_CONSUMED)
            .unwrap();
        assert_eq!(family.get_metric().len(), 2);
        drop(second);
        let family = registry
            .gather()
            .into_iter()
            .find(|family| family.name() == RECORDS_CONSUMED)
            .unwrap();
        assert_eq!(family.get_metric().len(), 1);
    }
}
