//! Records that the destination will not take: put among the source site's dead letters, so that the rest goes on; among this
//! edge's own where the core does not let an edge write its dead letters.

use bytes::Bytes;

use common::broker::{self, Broker, Outgoing, Record, TopicSpec, dead_letter_topic};
use common::telemetry;

use crate::carrier::Carrier;
use crate::error::Result;
use crate::routes::Direction;

/// What a dead letter's headers may add to the size of its record.
const HEADER_ROOM: u32 = 64 * 1024;

/// A record that was refused, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Where it is: source topic, partition and offset.
    pub at: (String, i32, i64),
    /// What the destination said.
    pub reason: String,
}

impl Refused {
    /// Whether it is what lies there.
    pub(crate) fn is(&self, (topic, partition): &(String, i32), offset: i64) -> bool {
        (&self.at.0, self.at.1, self.at.2) == (topic, *partition, offset)
    }

    /// Puts the record aside for a carrier that carries to `destination`. Whether it is among this edge's dead letters instead
    /// of the core's.
    pub(crate) async fn put_aside(
        &self,
        carrier: &Carrier,
        destination: &str,
        record: &Record,
    ) -> Result<bool> {
        match carrier.direction {
            Direction::Up => self.bury(&carrier.source, record).await.map(|()| false),
            Direction::Down => {
                let edge = (&carrier.destination, destination);
                self.bury_for(&carrier.source, edge, record).await
            }
        }
    }

    /// Puts the record aside at the site it comes from. A crash before the checkpoint moves on repeats it: the copy
    /// names the same origin.
    pub async fn bury(&self, source: &Broker, record: &Record) -> Result<()> {
        Ok(self.put(source, &record.topic, record).await?)
    }

    /// The same, but where the core does not let this edge write its dead letters, among those of the edge's own topic that
    /// the record was for: says so by true.
    async fn bury_for(&self, core: &Broker, edge: (&Broker, &str), record: &Record) -> Result<bool> {
        match self.put(core, &record.topic, record).await {
            Err(error) if forbidden(&error) => {
                tracing::info!(error = %telemetry::chain(&error), "the core takes no dead letters of this site");
                self.put(edge.0, edge.1, record).await?;
                Ok(true)
            }
            put => Ok(put.map(|()| false)?),
        }
    }

    async fn put(&self, broker: &Broker, origin: &str, record: &Record) -> broker::Result<()> {
        let topic = dead_letter_topic(origin);
        let mut spec = TopicSpec::new(&topic, 1);
        spec.max_message_bytes = spec.max_message_bytes.saturating_add(HEADER_ROOM);
        match broker.create_topic(&spec).await {
            // Who may not make it may yet write it.
            Err(error) if forbidden(&error) && matches!(broker.describe(&topic).await, Ok(Some(_))) => {}
            made => drop(made?),
        }
        let mut letter = self.letter(topic, origin, record);
        let producer = broker.producer()?;
        if let Err(error) = producer.send(letter.clone()).await {
            let broker::Error::TooLarge { size, .. } = error else {
                return Err(error);
            };
            letter.value = None;
            letter
                .headers
                .push(("value-dropped".into(), Bytes::from(size.to_string())));
            producer.send(letter).await?;
        }
        Ok(())
    }

    fn letter(&self, topic: String, origin: &str, record: &Record) -> Outgoing {
        let mut headers = record.headers.clone();
        for (name, value) in [
            ("error", self.reason.clone()),
            ("service", "link".to_owned()),
            ("origin-topic", origin.to_owned()),
            ("origin-partition", record.partition.to_string()),
            ("origin-offset", record.offset.to_string()),
        ] {
            headers.retain(|(own, _)| own != name);
            headers.push((name.to_owned(), Bytes::from(value)));
        }
        Outgoing {
            topic,
            partition: None,
            timestamp: Some(record.timestamp),
            key: record.key.clone(),
            value: record.value.clone(),
            headers,
        }
    }
}

/// Whether a Kafka's rules are in the way, in the words of its client.
fn forbidden(error: &broker::Error) -> bool {
    telemetry::chain(error)
        .to_ascii_lowercase()
        .contains("authorization failed")
}

#[cfg(test)]
mod tests {
    use common::broker::DeadLetter;

    use super::*;

    #[test]
    fn a_refused_record_is_a_dead_letter_like_any_other() {
        let record = Record {
            topic: "ASSET_REQUEST".into(),
            partition: 2,
            offset: 7,
            timestamp: 1,
            key: None,
            value: Some(Bytes::from_static(b"v")),
            headers: vec![("own".into(), Bytes::from_static(b"kept"))],
        };
        let refused = Refused {
            at: ("ASSET_REQUEST".into(), 2, 7),
            reason: "too large".into(),
        };
        assert!(refused.is(&(record.topic.to_string(), record.partition), record.offset));
        let letter = refused.letter("ASSET_REQUEST.dead-letter".into(), "ASSET_REQUEST", &record);
        let read = Record {
            headers: letter.headers,
            value: letter.value,
            ..record
        };
        let found = DeadLetter::of(&read).unwrap();
        assert_eq!(
            (found.topic.as_str(), found.partition, found.offset),
            ("ASSET_REQUEST", 2, 7)
        );
        assert_eq!(
            (found.error.as_str(), found.service.as_str()),
            ("too large", "link")
        );
        assert!(read.header("own").is_some());
    }
}
