//! One record through a handler: attempts, back-off, and putting aside what cannot be processed.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::lanes::Lane;
use crate::backoff::Backoff;
use crate::broker::Broker;
use crate::error::Error;
use crate::handler::{Class, Failure, Handler};
use crate::record::Record;
use crate::trace;

/// How often a consumer logs why records are retried: often enough to see, not once per attempt.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// What became of a record.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Its effect is durable, or it is a dead letter.
    Done,
    /// Its partition is handed over or the consumer stops: whoever comes next does it.
    Abandoned,
    /// The consumer cannot go on.
    Failed(Error),
}

/// An outcome and whose it is.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) lane: Lane,
    pub(super) offset: i64,
    pub(super) size: usize,
    pub(super) outcome: Outcome,
}

/// How a partition's records are told to end early.
#[derive(Debug, Clone, Default)]
pub(super) struct Ending {
    /// Begin nothing new, and wait for no further attempt.
    pub(super) drain: CancellationToken,
    /// Stop in the middle.
    pub(super) cancel: CancellationToken,
}

/// What all attempts of a consumer share.
#[derive(Debug)]
pub(super) struct Attempts<H> {
    pub(super) broker: Broker,
    pub(super) handler: Arc<H>,
    pub(super) slots: Semaphore,
    pub(super) logged: Mutex<Option<Instant>>,
}

/// Counts a record as in flight while it lives.
struct InFlight<'a>(&'a prometheus::IntGauge);

impl<'a> InFlight<'a> {
    fn enter(gauge: &'a prometheus::IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl<H: Handler> Attempts<H> {
    pub(super) async fn run(self: Arc<Self>, lane: Lane, record: Record, ending: Ending) -> Finished {
        let (offset, size) = (record.offset, record.size());
        let outcome = tokio::select! {
            biased;
            () = ending.cancel.cancelled() => Outcome::Abandoned,
            outcome = self.process(record, &ending.drain) => outcome,
        };
        Finished {
            lane,
            offset,
            size,
            outcome,
        }
    }

    async fn process(&self, record: Record, drain: &CancellationToken) -> Outcome {
        let mut backoff = Backoff::default();
        loop {
            let failure = {
                let slot = tokio::select! {
                    biased;
                    () = drain.cancelled() => return Outcome::Abandoned,
                    slot = self.slots.acquire() => slot,
                };
                let result = self.attempt(&record).await;
                drop(slot);
                match result {
                    Ok(Ok(())) => return Outcome::Done,
                    Ok(Err(failure)) => failure,
                    Err(panic) => return self.fatal(&record, format!("handler panicked: {panic}").into()),
                }
            };
            match failure.class() {
                Class::Fatal => return self.fatal(&record, failure.into_source()),
                Class::Poison => return self.put_aside(&record, &failure, drain).await,
                Class::Retry => self.retry(&record, "handler", &failure.chain()),
            }
            if !pause(&mut backoff, drain).await {
                return Outcome::Abandoned;
            }
        }
    }

    async fn attempt(&self, record: &Record) -> Result<Result<(), Failure>, String> {
        let metrics = self.broker.metrics();
        let _in_flight = InFlight::enter(&metrics.in_flight);
        let timer = metrics.process.with_label_values(&[&*record.topic]).start_timer();
        // Called inside the guarded future, so that a panic before the first await is caught as well.
        let handled = async { self.handler.handle(record.clone()).await };
        let handled = AssertUnwindSafe(handled)
            .catch_unwind()
            .instrument(trace::process_span(record))
            .await;
        timer.observe_duration();
        handled.map_err(|panic| {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            text.or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "no message".into())
        })
    }

    async fn put_aside(&self, record: &Record, failure: &Failure, drain: &CancellationToken) -> Outcome {
        let reason = failure.chain();
        let mut backoff = Backoff::default();
        loop {
            match self.broker.bury(record, &reason).await {
                Ok(()) => break,
                Err(error) => self.retry(record, "dead_letter", &Failure::retry(error).chain()),
            }
            if !pause(&mut backoff, drain).await {
                return Outcome::Abandoned;
            }
        }
        let topic = &*record.topic;
        self.broker
            .metrics()
            .dead_letters
            .with_label_values(&[topic, Class::Poison.as_str()])
            .inc();
        tracing::warn!(
            topic,
            partition = record.partition,
            offset = record.offset,
            reason,
            "record put aside"
        );
        Outcome::Done
    }

    fn retry(&self, record: &Record, what: &str, reason: &str) {
        self.broker.metrics().retries.with_label_values(&[what]).inc();
        let now = Instant::now();
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_none_or(|last| now.duration_since(last) >= LOG_EVERY) {
            *logged = Some(now);
            let topic = &*record.topic;
            tracing::warn!(
                topic,
                partition = record.partition,
                offset = record.offset,
                what,
                reason,
                "retrying"
            );
        }
    }

    fn fatal(&self, record: &Record, source: crate::error::Source) -> Outcome {
        Outcome::Failed(Error::Handler {
            topic: record.topic.to_string(),
            partition: record.partition,
            offset: record.offset,
            source,
        })
    }
}

/// Waits before the next attempt; false if there shall be none.
async fn pause(backoff: &mut Backoff, drain: &CancellationToken) -> bool {
    tokio::select! {
        biased;
        () = drain.cancelled() => false,
        () = tokio::time::sleep(backoff.next()) => true,
    }
}
