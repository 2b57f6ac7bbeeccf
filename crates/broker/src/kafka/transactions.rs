//! Transactions: one producer for one transactional id.
//!
//! The order is librdkafka's: begin, send, wait for the places, send the seal, wait, commit. Nothing is retried
//! here: after any error the owner drops the handle, which aborts what is open as far as that is possible, and takes
//! the id anew, which aborts it in any case.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, Producer};
use tokio::sync::mpsc;

use super::config::TRANSACTION_TIMEOUT;
use super::context::{Context, Ticket};
use super::failure::fenced;
use super::message::message;
use super::{Shared, blocking, detach};
use crate::engine::TransactionsEngine;
use crate::error::{Error, Result};
use crate::record::{Outgoing, Placement};

/// How long taking the id may take; an earlier holder's open transaction is aborted in this time.
const INIT: Duration = Duration::from_secs(20);
/// How long an abort may take at the end of a handle.
const ABORT: Duration = Duration::from_secs(5);

/// One holder of a transactional id.
pub(super) struct Transactions {
    holder: Option<Arc<Holder>>,
    /// Since when a transaction is open.
    open: Option<Instant>,
}

struct Holder {
    id: String,
    shared: Arc<Shared>,
    producer: BaseProducer<Context>,
}

/// Why a step of a transaction failed: the client's error, and the record if it was about one.
type Failed = (KafkaError, Option<usize>);

impl Transactions {
    pub(super) fn init(shared: &Arc<Shared>, id: String) -> Result<Self> {
        let producer = shared.template.transactions(&id, shared.context.clone())?;
        let holder = Holder {
            id,
            shared: Arc::clone(shared),
            producer,
        };
        holder
            .producer
            .init_transactions(INIT)
            .map_err(|error| holder.failure("init", error, None))?;
        shared.context.up();
        Ok(Self {
            holder: Some(Arc::new(holder)),
            open: None,
        })
    }

    fn holder(&self) -> Result<Arc<Holder>> {
        self.holder.clone().ok_or(Error::Closed)
    }
}

impl fmt::Debug for Transactions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.holder.as_ref().map(|holder| holder.id.as_str());
        f.debug_struct("Transactions")
            .field("id", &id)
            .field("open", &self.open)
            .finish()
    }
}

impl Holder {
    /// Sends records and waits until the broker has them, each with its offset.
    fn send(&self, records: &[Outgoing], deadline: Instant) -> Result<Vec<Placement>, Failed> {
        let (to, mut news) = mpsc::unbounded_channel();
        for (index, record) in records.iter().enumerate() {
            loop {
                match self.producer.send(message(
                    record,
                    Ticket {
                        index,
                        to: to.clone(),
                    },
                )) {
                    Ok(()) => break,
                    Err((KafkaError::MessageProduction(Code::QueueFull), _)) if Instant::now() < deadline => {
                        self.producer.poll(Duration::from_millis(20));
                    }
                    Err((error, _)) => return Err((error, Some(index))),
                }
            }
        }
        drop(to);
        // Not `flush`, which looks up only every tenth of a second.
        let mut placements = vec![None; records.len()];
        let mut missing = records.len();
        while missing > 0 {
            match news.try_recv() {
                Ok((index, result)) => {
                    placements[index] = Some(result.map_err(|error| (error, Some(index)))?);
                    missing -= 1;
                }
                Err(_) if Instant::now() < deadline => self.producer.poll(Duration::from_millis(1)),
                Err(_) => break,
            }
        }
        let all = placements.into_iter().collect::<Option<Vec<_>>>();
        all.ok_or((KafkaError::Flush(Code::OperationTimedOut), None))
    }

    /// Tells whether another holder has come. The broker also refuses the holder of a transaction that it has timed
    /// out itself, in the same words; after so long an error is taken for that, and a new handle will find out.
    fn failure(&self, operation: &'static str, error: KafkaError, open: Option<Instant>) -> Error {
        let fatal = self.producer.client().fatal_error();
        let codes = [error.rdkafka_error_code(), fatal.map(|(code, _)| code)];
        let timed_out = open.is_some_and(|open| open.elapsed() > TRANSACTION_TIMEOUT * 8 / 10);
        let transactional_id = self.id.clone();
        if codes.into_iter().flatten().any(fenced) && !timed_out {
            return Error::Fenced { transactional_id };
        }
        let otherwise = |source| Error::Transaction {
            operation,
            transactional_id,
            source,
        };
        if operation == "init" {
            return self.shared.context.or_unreachable(error, otherwise);
        }
        otherwise(error.into())
    }

    /// Why records were thrown away, where it is that the broker does not let this client write: the client itself only
    /// says that it threw them away, and tells why to whoever begins another transaction, which it refuses by then.
    fn forbidden(&self, error: KafkaError) -> KafkaError {
        if !matches!(
            error.rdkafka_error_code(),
            Some(Code::PurgeQueue | Code::PurgeInflight)
        ) {
            return error;
        }
        let refused = Code::TopicAuthorizationFailed;
        match self.producer.begin_transaction() {
            Err(cause) if cause.rdkafka_error_code() == Some(refused) => cause,
            _ => error,
        }
    }

    /// The error for records that were not sent: one that is to blame itself, or the transaction.
    fn unsent(&self, records: &[Outgoing], (error, index): Failed, open: Instant) -> Error {
        match index.map(|index| self.shared.undelivered(&records[index], error.clone(), 0)) {
            Some(blamed @ (Error::TooLarge { .. } | Error::Refused { .. })) => blamed,
            Some(blamed @ (Error::UnknownTopic { .. } | Error::UnknownPartition { .. })) => blamed,
            _ => self.failure("send", self.forbidden(error), Some(open)),
        }
    }
}

impl Transactions {
    /// Puts the topic's limit into an error about a record's size.
    async fn with_limit(&self, error: Error) -> Error {
        match (error, &self.holder) {
            (Error::TooLarge { topic, size, .. }, Some(holder)) => {
                let limit = holder.shared.max_message_bytes(&topic).await.unwrap_or_default();
                Error::TooLarge { topic, size, limit }
            }
            (other, _) => other,
        }
    }
}

#[async_trait]
impl TransactionsEngine for Transactions {
    async fn begin(&mut self, batch: Vec<Outgoing>) -> Result<Vec<Placement>> {
        let holder = self.holder()?;
        holder.shared.check_sizes(&batch).await?;
        let open = Instant::now();
        self.open = Some(open);
        let sent = blocking(move || {
            holder
                .producer
                .begin_transaction()
                .map_err(|error| holder.failure("begin", error, None))?;
            holder
                .send(&batch, open + TRANSACTION_TIMEOUT)
                .map_err(|failed| holder.unsent(&batch, failed, open))
        })
        .await;
        match sent {
            Ok(placements) => Ok(placements),
            Err(error) => Err(self.with_limit(error).await),
        }
    }

    async fn commit(&mut self, sealed: Vec<Outgoing>) -> Result<Vec<Placement>> {
        let holder = self.holder()?;
        let open = self.open.ok_or(Error::Closed)?;
        holder.shared.check_sizes(&sealed).await?;
        let deadline = open + TRANSACTION_TIMEOUT;
        let committed = blocking(move || {
            let placements = holder
                .send(&sealed, deadline)
                .map_err(|failed| holder.unsent(&sealed, failed, open))?;
            // A commit that was sent is waited for beyond the deadline: its outcome is worth knowing.
            let wait = deadline.saturating_duration_since(Instant::now()) + ABORT;
            let committed = holder.producer.commit_transaction(wait);
            committed.map_err(|error| holder.failure("commit", error, Some(open)))?;
            Ok(placements)
        })
        .await;
        match committed {
            Ok(placements) => {
                self.open = None;
                Ok(placements)
            }
            Err(error) => Err(self.with_limit(error).await),
        }
    }
}

/// Aborts what is open, so that readers need not wait for the broker to do it, and ends the client. It waits for
/// nobody: whoever takes the id next does not depend on it.
impl Drop for Transactions {
    fn drop(&mut self) {
        let (holder, open) = (self.holder.take(), self.open.is_some());
        detach("kafka-abort", move || {
            if let Some(holder) = holder
                && open
                && holder.producer.client().fatal_error().is_none()
                && let Err(error) = holder.producer.abort_transaction(ABORT)
            {
                tracing::debug!(%error, transactional_id = holder.id, "transaction is left to the broker");
            }
        });
    }
}
