//! Whether a client still knows any broker.
//!
//! A single broker that is fenced for a moment, as after a pause of its process, lists no broker in its metadata.
//! librdkafka then drops all that it knows, the configured ones too, and starts over from the configured ones; but it
//! may meet the dropped ones while they are still going, take them for those it wants, and be left with none. It
//! never looks again (`rd_kafka_metadata_decommission_unavailable_brokers` and `rd_kafka_rebootstrap_tmr_cb` of
//! librdkafka 2.12). Its statistics show that, and such a client is replaced.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rdkafka::statistics::Statistics;

/// How often a client tells its statistics, in milliseconds.
pub(super) const INTERVAL: &str = "5000";
/// Once may be in the middle of a change.
const LOOKS: u32 = 2;

/// One client's; clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Lifeline(Arc<AtomicU32>);

impl Lifeline {
    /// Takes in what the client says of itself.
    pub(super) fn look(&self, statistics: &Statistics) {
        // Logical brokers stand for one that is yet to be found, and the internal one is none.
        let known = |source: &str| matches!(source, "learned" | "configured");
        if statistics.brokers.values().any(|broker| known(&broker.source)) {
            self.0.store(0, Ordering::Relaxed);
        } else {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Gives the client up for another reason.
    pub(super) fn sever(&self) {
        self.0.store(LOOKS, Ordering::Relaxed);
    }

    /// Whether the client is beyond help.
    pub(super) fn cut(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= LOOKS
    }

    /// Starts over with a new client.
    pub(super) fn renew(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::statistics::Broker;

    use super::*;

    fn said(sources: &[&str]) -> Statistics {
        let mut statistics = Statistics::default();
        for source in sources {
            let broker = Broker {
                source: (*source).to_owned(),
                ..Broker::default()
            };
            statistics.brokers.insert((*source).to_owned(), broker);
        }
        statistics
    }

    #[test]
    fn client_without_brokers_is_given_up_at_the_second_look() {
        let lifeline = Lifeline::default();
        lifeline.look(&said(&["logical", "internal"]));
        assert!(!lifeline.cut());
        lifeline.look(&said(&["logical", "configured"]));
        lifeline.look(&said(&[]));
        assert!(!lifeline.cut());
        lifeline.look(&said(&["internal"]));
        assert!(lifeline.cut());
        lifeline.renew();
        assert!(!lifeline.cut());
    }
}
