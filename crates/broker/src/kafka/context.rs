//! What librdkafka says on its own: its log, its errors, and the ids of topics.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::statistics::Statistics;
use tokio::sync::mpsc::UnboundedSender;

use super::lifeline::Lifeline;
use crate::record::Placement;

/// What all clients of one engine tell to the same place.
#[derive(Debug, Clone)]
pub(super) struct Context(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    servers: String,
    down: AtomicBool,
    reason: Mutex<String>,
    ids: Mutex<HashMap<String, String>>,
    told: Condvar,
    lifeline: Lifeline,
}

/// Locks even after a panic elsewhere: what is kept here is never half written.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Context {
    pub(super) fn new(servers: &str) -> Self {
        Self(Arc::new(Inner {
            servers: servers.to_owned(),
            down: AtomicBool::new(false),
            reason: Mutex::default(),
            ids: Mutex::default(),
            told: Condvar::new(),
            lifeline: Lifeline::default(),
        }))
    }

    /// Whether the shared producer, the one of these clients that tells statistics, still knows a broker.
    pub(super) fn lifeline(&self) -> &Lifeline {
        &self.0.lifeline
    }

    pub(super) fn servers(&self) -> &str {
        &self.0.servers
    }

    /// What a connection last failed with; librdkafka's error codes do not say.
    pub(super) fn reason(&self) -> String {
        lock(&self.0.reason).clone()
    }

    /// Whether a connection could not be opened, or kept, since a broker last answered after an outage.
    ///
    /// When its last connection ends, librdkafka says that all brokers are down, be it that one was restarted or closed
    /// what was idle. It connects again at once; what that meets it tells first, and then once more that all are down.
    pub(super) fn failed(&self) -> bool {
        !lock(&self.0.reason).is_empty()
    }

    /// Notes that a broker answered.
    pub(super) fn up(&self) {
        if self.0.down.swap(false, Ordering::Relaxed) {
            lock(&self.0.reason).clear();
            tracing::info!(servers = self.servers(), "kafka answers again");
        }
    }

    /// The topic's id, which the broker gives each topic anew when it is created.
    ///
    /// librdkafka knows it, but neither it nor rdkafka hands it out to a client that may not call C: only the debug
    /// log (`debug=topic`) names it, when metadata with an id that is new to the client arrives. So the log is read.
    /// Another thread writes it, about when the metadata is answered; hence the wait, a short one when an id is known
    /// already and might only be replaced.
    pub(super) fn topic_id(&self, topic: &str, wait: Duration) -> Option<String> {
        let ids = lock(&self.0.ids);
        let ids = if ids.contains_key(topic) {
            self.0
                .told
                .wait_timeout(ids, wait / 50)
                .unwrap_or_else(PoisonError::into_inner)
                .0
        } else {
            let waited = self
                .0
                .told
                .wait_timeout_while(ids, wait, |ids| !ids.contains_key(topic));
            waited.unwrap_or_else(PoisonError::into_inner).0
        };
        ids.get(topic).cloned()
    }

    /// Forgets the id of a topic that is gone.
    pub(super) fn forget(&self, topic: &str) {
        lock(&self.0.ids).remove(topic);
    }

    fn learn(&self, line: &str) {
        if let Some((topic, id)) = changed_id(line) {
            lock(&self.0.ids).insert(topic.to_owned(), id.to_owned());
            self.0.told.notify_all();
        }
    }
}

/// Reads `Topic NAME changed id from OLD to NEW`, which may stand behind a prefix.
fn changed_id(line: &str) -> Option<(&str, &str)> {
    let (before, ids) = line.split_once(" changed id from ")?;
    let (_, topic) = before.rsplit_once("Topic ")?;
    let (_, id) = ids.split_once(" to ")?;
    Some((topic, id.trim()))
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        match level {
            RDKafkaLogLevel::Debug => {
                self.learn(text);
                tracing::trace!(facility, text, "librdkafka");
            }
            // A lost connection is told once, by `error`; librdkafka says it again at every attempt, and that it
            // will try something again.
            _ if matches!(facility, "FAIL" | "ERROR" | "REQTMOUT" | "MAXPOLL" | "GETPID") => {
                tracing::debug!(facility, text, "librdkafka");
            }
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Notice => tracing::debug!(facility, text, "librdkafka"),
            _ => tracing::warn!(facility, text, "librdkafka"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => {
                if self.failed() && !self.0.down.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        servers = self.servers(),
                        reason = self.reason(),
                        "kafka does not answer"
                    );
                }
            }
            Some(
                RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::SSL
                | RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::OperationTimedOut,
            ) => {
                tracing::debug!(%error, reason, "librdkafka");
                reason.clone_into(&mut lock(&self.0.reason));
            }
            // The end of a partition and the like are no errors of the client.
            _ => tracing::debug!(%error, reason, "librdkafka"),
        }
    }

    fn stats(&self, statistics: Statistics) {
        self.0.lifeline.look(&statistics);
    }
}

/// Where the news of one record's delivery goes: its place in the caller's list, and the caller.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) index: usize,
    pub(super) to: UnboundedSender<(usize, Result<Placement, KafkaError>)>,
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, delivery: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        let news = match delivery {
            Ok(message) => {
                self.up();
                Ok(Placement {
                    partition: message.partition(),
                    offset: message.offset(),
                })
            }
            Err((error, _)) => Err(error.clone()),
        };
        if ticket.to.send((ticket.index, news)).is_err() {
            tracing::trace!("nobody waits for a delivery any more");
        }
    }
}

impl ConsumerContext for Context {}

/// The context of clients whose only news is the answer that somebody waits for.
#[derive(Debug, Clone, Default)]
pub(super) struct Quiet(pub(super) Lifeline);

impl ClientContext for Quiet {
    fn stats(&self, statistics: Statistics) {
        self.0.look(&statistics);
    }

    fn log(&self, _: RDKafkaLogLevel, facility: &str, text: &str) {
        tracing::trace!(facility, text, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
    }
}

impl ConsumerContext for Quiet {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_ids_are_read_from_the_log() {
        let context = Context::new("127.0.0.1:1");
        let line =
            "[thrd:main]: Topic a.b-c changed id from AAAAAAAAAAAAAAAAAAAAAA to 7vH9xqQ1T0-_Hs0yM8fXWg";
        context.log(RDKafkaLogLevel::Debug, "METADATA", line);
        assert_eq!(
            context.topic_id("a.b-c", Duration::ZERO).as_deref(),
            Some("7vH9xqQ1T0-_Hs0yM8fXWg")
        );
        assert_eq!(context.topic_id("other", Duration::ZERO), None);
        context.forget("a.b-c");
        assert_eq!(context.topic_id("a.b-c", Duration::ZERO), None);
    }
}
