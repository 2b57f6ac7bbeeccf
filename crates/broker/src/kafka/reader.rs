//! Reading assigned partitions.
//!
//! The client's queue tells when it is no longer empty, so that no thread waits for records. A position is one past
//! the last record that was handed out; once the queue is drained it moves on to where the client itself is, which
//! is past the markers of transactions. (The client's own position is worthless for a while after a seek: it still
//! shows the old place. So it is believed only once it has changed.)

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::context::Context;
use super::failure::{self, patiently, settling};
use super::message::Decoder;
use super::{ANSWER, Shared, blocking, detach};
use crate::engine::ReaderEngine;
use crate::error::{Error, Result};
use crate::record::{Position, Record, Start, TopicPartition};

/// How many bytes one call hands out, at least when a single record is not larger.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// How long to trust the queue's wake-up before looking anyway.
const LOOK: Duration = Duration::from_millis(250);

/// Reads partitions without a group.
pub(super) struct Reader {
    shared: Arc<Shared>,
    consumer: Option<Arc<BaseConsumer<Context>>>,
    filled: Arc<Notify>,
    decoder: Decoder,
    places: HashMap<TopicPartition, Place>,
    /// An error that came behind records which were handed out first.
    behind: Option<KafkaError>,
}

/// Where reading of a partition is.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// The next offset to be read.
    next: i64,
    /// It began at the beginning and nothing was read yet: should that have moved, it may begin anew.
    from_beginning: bool,
    /// What the client said of its position before the last seek.
    stale: Option<i64>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("places", &self.places).finish()
    }
}

impl Reader {
    pub(super) fn open(shared: Arc<Shared>, positions: &[Position]) -> Result<Self> {
        check(&shared, positions)?;
        let mut consumer = shared.template.reader(shared.context.clone())?;
        let filled = Arc::new(Notify::new());
        let waker = Arc::clone(&filled);
        consumer.set_nonempty_callback(move || waker.notify_one());
        let starts = resolve(&shared, &consumer, positions)?;
        let mut decoder = Decoder::default();
        let places = positions.iter().zip(starts).map(|(position, next)| {
            let place = Place {
                next,
                from_beginning: position.start == Start::Beginning,
                stale: None,
            };
            (
                TopicPartition {
                    topic: decoder.topic(&position.topic),
                    partition: position.partition,
                },
                place,
            )
        });
        let places = places.collect();
        let reader = Self {
            shared,
            consumer: Some(Arc::new(consumer)),
            filled,
            decoder,
            places,
            behind: None,
        };
        reader.assign(reader.consumer()?)?;
        Ok(reader)
    }

    fn consumer(&self) -> Result<&Arc<BaseConsumer<Context>>> {
        self.consumer.as_ref().ok_or(Error::Closed)
    }

    /// Starts reading of all partitions at their places.
    fn assign(&self, consumer: &BaseConsumer<Context>) -> Result<()> {
        let mut list = TopicPartitionList::with_capacity(self.places.len());
        let failed = |error: KafkaError| Error::Read {
            topic: "assigned partitions".into(),
            source: error.into(),
        };
        for (partition, place) in &self.places {
            list.add_partition_offset(&partition.topic, partition.partition, Offset::Offset(place.next))
                .map_err(failed)?;
        }
        consumer.assign(&list).map_err(failed)
    }

    /// Takes what the queue holds.
    fn drain(
        &mut self,
        records: &mut Vec<Record>,
        bytes: &mut usize,
        max_records: usize,
    ) -> Option<KafkaError> {
        let consumer = self.consumer.clone()?;
        // An event that is no record ends a poll as an empty queue does, hence a second look.
        let (mut empty, mut down) = (0, None);
        while records.len() < max_records && *bytes < BATCH_BYTES && empty < 2 {
            match consumer.poll(Duration::ZERO) {
                None => empty += 1,
                Some(Ok(message)) => {
                    empty = 0;
                    let record = self.decoder.record(&message);
                    let partition = TopicPartition {
                        topic: Arc::clone(&record.topic),
                        partition: record.partition,
                    };
                    if let Some(place) = self
                        .places
                        .get_mut(&partition)
                        .filter(|place| record.offset >= place.next)
                    {
                        place.next = record.offset + 1;
                        place.from_beginning = false;
                        place.stale = None;
                        *bytes += record.size();
                        records.push(record);
                    }
                }
                // While the broker is away there is one of these every now and then; one is enough.
                Some(Err(error)) if error.rdkafka_error_code() == Some(Code::AllBrokersDown) => {
                    down = Some(error);
                }
                Some(Err(error)) => return Some(error),
            }
        }
        if empty > 0 {
            self.catch_up(&consumer);
        }
        down.filter(|_| records.is_empty())
    }

    /// Moves positions to where the client is, past what readers never see.
    fn catch_up(&mut self, consumer: &BaseConsumer<Context>) {
        let Ok(list) = consumer.position() else { return };
        for element in list.elements() {
            let Offset::Offset(offset) = element.offset() else {
                continue;
            };
            let partition = TopicPartition {
                topic: self.decoder.topic(element.topic()),
                partition: element.partition(),
            };
            if let Some(place) = self.places.get_mut(&partition)
                && place.stale != Some(offset)
                && offset > place.next
            {
                place.next = offset;
                place.stale = None;
            }
        }
    }

    /// Finds out which partition an out-of-range error is about, which the client does not say. None if it was a
    /// beginning that moved, and reading goes on there.
    async fn out_of_range(&mut self) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let partitions: Vec<_> = self.places.keys().cloned().collect();
        let marks = blocking(move || {
            let mark = |partition: TopicPartition| {
                shared
                    .watermarks(&partition.topic, partition.partition)
                    .map(|mark| (partition, mark))
            };
            partitions.into_iter().map(mark).collect::<Result<Vec<_>>>()
        })
        .await?;
        for (partition, mark) in marks {
            let Some(place) = self.places.get_mut(&partition) else {
                continue;
            };
            if place.next < mark.low && place.from_beginning {
                place.next = mark.low;
            } else if !(mark.low..=mark.high).contains(&place.next) {
                return Err(Error::OffsetOutOfRange {
                    topic: partition.topic.to_string(),
                    partition: partition.partition,
                    offset: place.next,
                    low: mark.low,
                    high: mark.high,
                });
            }
        }
        // Above the last stable offset, where a transaction is still open, is not out of range for long.
        self.restart().await
    }

    /// Assigns again, which forgets what was read ahead.
    async fn restart(&mut self) -> Result<()> {
        let consumer = self.consumer()?;
        let list = consumer.position().map_err(|error| self.failed(error))?;
        for element in list.elements() {
            if let Offset::Offset(offset) = element.offset() {
                let topic = self.decoder.topic(element.topic());
                if let Some(place) = self.places.get_mut(&TopicPartition {
                    topic,
                    partition: element.partition(),
                }) {
                    place.stale = Some(offset);
                }
            }
        }
        self.assign(self.consumer()?)
    }

    fn failed(&self, error: KafkaError) -> Error {
        let first = self.places.keys().next();
        let topic = first
            .map(|partition| partition.topic.to_string())
            .unwrap_or_default();
        self.shared
            .context
            .or_unreachable(error, |source| Error::Read { topic, source })
    }

    /// What an error on the queue means. None: the client deals with it by itself.
    async fn trouble(&mut self, error: KafkaError) -> Result<()> {
        match error.rdkafka_error_code() {
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => self.out_of_range().await,
            Some(Code::AllBrokersDown) if self.shared.context.failed() => Err(self.failed(error)),
            Some(
                Code::UnknownTopicOrPartition
                | Code::UnknownTopic
                | Code::UnknownPartition
                | Code::UnknownTopicId,
            ) => {
                let shared = Arc::clone(&self.shared);
                let positions: Vec<_> = self
                    .places
                    .keys()
                    .map(|partition| Position::beginning(&*partition.topic, partition.partition))
                    .collect();
                blocking(move || check(&shared, &positions)).await
            }
            _ if failure::unreachable(&error) => Ok(()),
            _ => Err(self.failed(error)),
        }
    }
}

/// Refuses topics and partitions that are not there.
fn check(shared: &Shared, positions: &[Position]) -> Result<()> {
    let mut known: HashMap<&str, i32> = HashMap::new();
    for position in positions {
        let partitions = match known.get(position.topic.as_str()) {
            Some(partitions) => *partitions,
            None => {
                let partitions = shared.partitions(&position.topic)?;
                known.insert(&position.topic, partitions);
                partitions
            }
        };
        if !(0..partitions).contains(&position.partition) {
            return Err(Error::UnknownPartition {
                topic: position.topic.clone(),
                partition: position.partition,
            });
        }
    }
    Ok(())
}

/// Turns beginnings and ends to offsets, with one question for all of them.
fn resolve(shared: &Shared, consumer: &BaseConsumer<Context>, positions: &[Position]) -> Result<Vec<i64>> {
    let mut asked = TopicPartitionList::new();
    for position in positions {
        let offset = match position.start {
            Start::Beginning => Offset::Beginning,
            Start::End => Offset::End,
            Start::Offset(_) => continue,
        };
        let failed = |error: KafkaError| Error::Read {
            topic: position.topic.clone(),
            source: error.into(),
        };
        asked
            .add_partition_offset(&position.topic, position.partition, offset)
            .map_err(failed)?;
    }
    if asked.count() > 0 {
        let topic = positions[0].topic.clone();
        let ask = || consumer.offsets_for_times(asked.clone(), ANSWER);
        asked = patiently(ANSWER, settling, ask).map_err(|error| {
            shared.context.failure(error, &topic, None, |source| Error::Read {
                topic: topic.clone(),
                source,
            })
        })?;
    }
    positions
        .iter()
        .map(|position| match position.start {
            Start::Offset(offset) => Ok(offset),
            Start::Beginning | Start::End => {
                let found = asked.find_partition(&position.topic, position.partition);
                match found.map(|element| (element.error(), element.offset())) {
                    Some((Ok(()), Offset::Offset(offset))) => Ok(offset),
                    Some((Err(error), _)) => {
                        let topic = position.topic.clone();
                        let read = |source| Error::Read { topic, source };
                        Err(shared
                            .context
                            .failure(error, &position.topic, Some(position.partition), read))
                    }
                    // The broker had no answer for this one: ask for it alone.
                    _ => {
                        let mark = shared.watermarks(&position.topic, position.partition)?;
                        Ok(if position.start == Start::End {
                            mark.high
                        } else {
                            mark.low
                        })
                    }
                }
            }
        })
        .collect()
}

#[async_trait]
impl ReaderEngine for Reader {
    async fn next(&mut self, max_records: usize, max_wait: Duration) -> Result<Vec<Record>> {
        let deadline = Instant::now() + max_wait;
        let (mut records, mut bytes) = (Vec::new(), 0);
        loop {
            // Nothing is awaited between taking records and handing them out, so a dropped call loses none.
            let trouble = match self.behind.take() {
                Some(error) => Some(error),
                None => self.drain(&mut records, &mut bytes, max_records),
            };
            if !records.is_empty() {
                self.behind = trouble;
                self.shared.context.up();
                return Ok(records);
            }
            if let Some(error) = trouble {
                self.trouble(error).await?;
            }
            let now = Instant::now();
            if now >= deadline {
                return Ok(records);
            }
            let wake = (now + LOOK).min(deadline);
            // Either way the queue is looked at.
            tokio::time::timeout_at(wake, self.filled.notified())
                .await
                .unwrap_or_default();
        }
    }

    fn position(&self, topic: &str, partition: i32) -> Option<i64> {
        self.places
            .get(&TopicPartition::new(topic, partition))
            .map(|place| place.next)
    }

    async fn seek(&mut self, position: Position) -> Result<()> {
        let partition = TopicPartition::new(position.topic.as_str(), position.partition);
        if !self.places.contains_key(&partition) {
            return Err(Error::UnknownPartition {
                topic: position.topic,
                partition: position.partition,
            });
        }
        let next = match position.start {
            Start::Offset(offset) => offset,
            Start::Beginning | Start::End => {
                let (shared, topic) = (Arc::clone(&self.shared), position.topic.clone());
                let mark = blocking(move || shared.watermarks(&topic, position.partition)).await?;
                if position.start == Start::End {
                    mark.high
                } else {
                    mark.low
                }
            }
        };
        let from_beginning = position.start == Start::Beginning;
        self.places.insert(
            partition,
            Place {
                next,
                from_beginning,
                stale: None,
            },
        );
        self.restart().await
    }
}

/// Destroying a client waits for its threads.
impl Drop for Reader {
    fn drop(&mut self) {
        let consumer = self.consumer.take();
        detach("kafka-close", move || drop(consumer));
    }
}
