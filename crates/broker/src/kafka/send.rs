//! Sending outside of transactions, through the one shared producer.

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Shared;
use super::context::{Ticket, lock};
use super::message::message;
use crate::error::{Error, Result};
use crate::record::{Outgoing, Placement};

/// How long to wait for room in a queue that other callers have filled, before looking again.
const FULL: Duration = Duration::from_millis(5);

/// Records from this size on are compared with their topic's limit before they are sent: Kafka compares what is left
/// of them after compression, and takes whatever shrinks.
const LARGE: usize = 512 * 1024;
/// How long a topic's limit is remembered.
const REMEMBER: Duration = Duration::from_secs(60);

impl Shared {
    /// Refuses records that are larger than their topic takes.
    pub(super) async fn check_sizes(&self, records: &[Outgoing]) -> Result<()> {
        for record in records.iter().filter(|record| record.size() >= LARGE) {
            let known = lock(&self.limits).get(&record.topic).copied();
            let limit = match known {
                Some((limit, at)) if at.elapsed() < REMEMBER => limit,
                _ => {
                    let Some(limit) = self.max_message_bytes(&record.topic).await else {
                        continue;
                    };
                    lock(&self.limits).insert(record.topic.clone(), (limit, Instant::now()));
                    limit
                }
            };
            if record.size() > limit {
                return Err(Error::TooLarge {
                    topic: record.topic.clone(),
                    size: record.size(),
                    limit,
                });
            }
        }
        Ok(())
    }

    /// Hands all records to the producer and waits for all deliveries. A full queue makes the caller wait, which
    /// ends at the latest when the delivery timeout empties the queue. The first failure is the one that is told.
    pub(super) async fn send_all(&self, records: &[Outgoing]) -> Result<Vec<Placement>> {
        self.check_sizes(records).await?;
        let producer = self.producer()?;
        let (to, mut news) = mpsc::unbounded_channel();
        let mut placements = vec![None; records.len()];
        let mut failed: Option<(usize, KafkaError)> = None;
        let mut waiting = 0_usize;
        let mut note =
            |(index, result): (usize, Result<Placement, KafkaError>), failed: &mut Option<_>| match result {
                Ok(placement) => placements[index] = Some(placement),
                Err(error) if failed.is_none() => *failed = Some((index, error)),
                Err(_) => {}
            };
        'records: for (index, record) in records.iter().enumerate() {
            while failed.is_none() {
                let sent = producer.send(message(
                    record,
                    Ticket {
                        index,
                        to: to.clone(),
                    },
                ));
                match sent.map_err(|(error, _)| error) {
                    Ok(()) => {
                        waiting += 1;
                        continue 'records;
                    }
                    Err(KafkaError::MessageProduction(Code::QueueFull)) if waiting > 0 => {
                        let arrived = news.recv().await.ok_or(Error::Closed)?;
                        waiting -= 1;
                        note(arrived, &mut failed);
                    }
                    Err(KafkaError::MessageProduction(Code::QueueFull)) => tokio::time::sleep(FULL).await,
                    Err(error) => failed = Some((index, error)),
                }
            }
            break;
        }
        drop(to);
        while let Some(arrived) = news.recv().await {
            note(arrived, &mut failed);
        }
        if let Some((index, error)) = failed {
            return Err(self.refused(&records[index], error).await);
        }
        // Every ticket came back with a placement, unless the producer was destroyed in between.
        placements
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .ok_or(Error::Closed)
    }

    /// The error for a record that was not delivered.
    pub(super) async fn refused(&self, record: &Outgoing, error: KafkaError) -> Error {
        let limit = match error.rdkafka_error_code() {
            Some(Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize) => {
                self.max_message_bytes(&record.topic).await.unwrap_or_default()
            }
            _ => 0,
        };
        self.undelivered(record, error, limit)
    }

    /// The same where nothing can be awaited, with the topic's limit.
    pub(super) fn undelivered(&self, record: &Outgoing, error: KafkaError, limit: usize) -> Error {
        let topic = record.topic.clone();
        match error.rdkafka_error_code() {
            Some(Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize) => {
                Error::TooLarge {
                    topic,
                    size: record.size(),
                    limit,
                }
            }
            Some(
                code @ (Code::InvalidRecord
                | Code::InvalidMessage
                | Code::InvalidTimestamp
                | Code::InvalidTopic
                | Code::PolicyViolation),
            ) => Error::Refused {
                topic,
                reason: code.to_string(),
            },
            _ => self
                .context
                .failure(error, &record.topic, record.partition, |source| Error::Send {
                    topic,
                    source,
                }),
        }
    }
}
