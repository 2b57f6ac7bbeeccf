//! Records that could not be processed: kept aside with their reason, and sent back when the reason is gone.

use bytes::Bytes;

use crate::broker::{Broker, unknown};
use crate::error::{Error, Result};
use crate::record::{Headers, Outgoing, Placement, Position, Record};
use crate::topics::TopicSpec;

const SUFFIX: &str = ".dead-letter";
const ERROR: &str = "error";
const SERVICE: &str = "service";
const ORIGIN_TOPIC: &str = "origin-topic";
const ORIGIN_PARTITION: &str = "origin-partition";
const ORIGIN_OFFSET: &str = "origin-offset";
const VALUE_DROPPED: &str = "value-dropped";
const REDRIVEN: &str = "redriven";
const OURS: [&str; 6] = [
    ERROR,
    SERVICE,
    ORIGIN_TOPIC,
    ORIGIN_PARTITION,
    ORIGIN_OFFSET,
    VALUE_DROPPED,
];
const ERROR_BYTES: usize = 4096;
const HEADER_ROOM: u32 = 64 * 1024;

/// The topic that keeps the dead letters of a topic.
pub fn dead_letter_topic(topic: &str) -> String {
    format!("{topic}{SUFFIX}")
}

/// What a dead letter says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Why the record could not be processed.
    pub error: String,
    /// Who tried.
    pub service: String,
    /// The topic it was read from.
    pub topic: String,
    /// The partition it was read from.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// The value was too large to be kept: it can be looked up at its origin, not redriven.
    pub value_dropped: bool,
}

impl DeadLetter {
    /// Reads the headers of a dead letter; none if the record is not one.
    pub fn of(record: &Record) -> Option<Self> {
        let text = |name| Some(String::from_utf8_lossy(record.header(name)?).into_owned());
        Some(Self {
            error: text(ERROR)?,
            service: text(SERVICE)?,
            topic: text(ORIGIN_TOPIC)?,
            partition: text(ORIGIN_PARTITION)?.parse().ok()?,
            offset: text(ORIGIN_OFFSET)?.parse().ok()?,
            value_dropped: record.header(VALUE_DROPPED).is_some(),
        })
    }
}

impl Broker {
    /// Sends a dead letter back to the topic and partition it came from, with a header that tells from where. The
    /// dead letter stays; redriving it twice sends it twice.
    pub async fn redrive(&self, topic: &str, partition: i32, offset: i64) -> Result<Placement> {
        let none = || Error::NoDeadLetter {
            topic: topic.into(),
            partition,
            offset,
        };
        let mut reader = self.reader(&[Position::at(topic, partition, offset)]).await?;
        let high = self.watermarks(topic, partition).await?.high;
        let record = loop {
            let records = reader.next(1, std::time::Duration::from_secs(1)).await?;
            if let Some(record) = records.into_iter().next() {
                break record;
            }
            if reader
                .position(topic, partition)
                .is_some_and(|position| position >= high)
            {
                return Err(none());
            }
        };
        let letter =
            DeadLetter::of(&record).filter(|letter| record.offset == offset && !letter.value_dropped);
        let letter = letter.ok_or_else(none)?;
        let mut headers = without_ours(&record.headers);
        headers.push((
            REDRIVEN.into(),
            Bytes::from(format!("{topic}/{partition}/{offset}")),
        ));
        let outgoing = Outgoing {
            topic: letter.topic,
            partition: Some(letter.partition),
            timestamp: Some(record.timestamp),
            key: record.key,
            value: record.value,
            headers,
        };
        self.producer()?.send(outgoing).await
    }

    /// Puts a record aside. Safe to repeat: a second copy tells the same origin.
    pub(crate) async fn bury(&self, record: &Record, error: &str) -> Result<()> {
        let topic = dead_letter_topic(&record.topic);
        let letter = letter(record, &topic, error, self.client());
        let producer = self.producer()?;
        match producer.send(letter.clone()).await {
            Err(Error::UnknownTopic { .. }) => {
                let origin = self
                    .describe(&record.topic)
                    .await?
                    .ok_or_else(|| unknown(&record.topic))?;
                let mut spec = TopicSpec::new(&topic, 1);
                spec.replication = origin.replication;
                spec.max_message_bytes = spec.max_message_bytes.saturating_add(HEADER_ROOM);
                self.create_topic(&spec).await?;
                producer.send(letter).await?;
            }
            Err(Error::TooLarge { size, .. }) => {
                let mut letter = letter;
                letter.value = None;
                letter
                    .headers
                    .push((VALUE_DROPPED.into(), Bytes::from(size.to_string())));
                producer.send(letter).await?;
            }
            other => drop(other?),
        }
        Ok(())
    }
}

fn letter(record: &Record, topic: &str, error: &str, service: &str) -> Outgoing {
    let mut end = error.len().min(ERROR_BYTES);
    while !error.is_char_boundary(end) {
        end -= 1;
    }
    let mut headers = without_ours(&record.headers);
    for (name, value) in [
        (ERROR, error[..end].to_owned()),
        (SERVICE, service.to_owned()),
        (ORIGIN_TOPIC, record.topic.to_string()),
        (ORIGIN_PARTITION, record.partition.to_string()),
        (ORIGIN_OFFSET, record.offset.to_string()),
    ] {
        headers.push((name.into(), Bytes::from(value)));
    }
    Outgoing {
        topic: topic.into(),
        partition: None,
        timestamp: Some(record.timestamp),
        key: record.key.clone(),
        value: record.value.clone(),
        headers,
    }
}

fn without_ours(headers: &Headers) -> Headers {
    headers
        .iter()
        .filter(|(name, _)| !OURS.contains(&name.as_str()))
        .cloned()
        .collect()
}
