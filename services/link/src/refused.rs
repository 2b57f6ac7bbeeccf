//! Records that the destination will not take: put among the source site's dead letters, so that the rest goes on; among this
//! edge's own where the core does not let an edge write its dead letters.

use bytes::Bytes;

use common::broker::{self, Broker, Outgoing, Record, TopicSpec, dead_letter_topic};
use common::chassis::now_ms;
use common::{kafka, telemetry};

use crate::carrier::Carrier;
use crate::error::{Error, Result};
use crate::place::Place;
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

    /// Puts the record aside for a carrier that carries to `destination`: at the site that it comes from, or, where the core
    /// does not let this edge write there, among the dead letters of the edge's own topic that it was for. Whether it is
    /// there. A crash before the checkpoint moves on repeats it: the copy names the same origin.
    pub(crate) async fn put_aside(
        &self,
        carrier: &Carrier,
        destination: &str,
        record: &Record,
    ) -> Result<bool> {
        if carrier.direction == Direction::Up {
            return self.bury(&carrier.source, record).await.map(|()| false);
        }
        let (core, _) = carrier.sides();
        let id = format!("{}.letters", carrier.transactional_id());
        match self.put(core, &id, &record.topic, record).await {
            Err(error) if forbidden(&error) => {
                tracing::info!(error = %telemetry::chain(&error), "the core takes no dead letters of this site");
                let edge = Place::Broker(&carrier.destination);
                self.put(edge, &id, destination, record).await?;
                Ok(true)
            }
            put => put.map(|()| false),
        }
    }

    /// Puts the record aside at a broker of this site.
    pub async fn bury(&self, broker: &Broker, record: &Record) -> Result<()> {
        self.put(Place::Broker(broker), "", &record.topic, record).await
    }

    async fn put(&self, place: Place<'_>, id: &str, origin: &str, record: &Record) -> Result<()> {
        let topic = dead_letter_topic(origin);
        let mut spec = TopicSpec::new(&topic, 1);
        spec.max_message_bytes = spec.max_message_bytes.saturating_add(HEADER_ROOM);
        match place.make(&spec).await {
            // Who may not make it may yet write it.
            Err(error) if forbidden(&error) && matches!(place.look(&topic).await, Ok(Some(_))) => {}
            made => made?,
        }
        let mut letter = self.letter(topic, origin, record);
        let size = match place.put(id, letter.clone()).await {
            Err(Error::Broker(broker::Error::TooLarge { size, .. })) => size,
            // Its time, which that topic does not take either, or its size.
            Err(Error::Wire(kafka::Error::Refused { .. }) | Error::Broker(broker::Error::Refused { .. })) => {
                let own = letter.timestamp.replace(now_ms()).unwrap_or_default();
                letter
                    .headers
                    .push(("origin-timestamp".into(), Bytes::from(own.to_string())));
                match place.put(id, letter.clone()).await {
                    Err(Error::Wire(kafka::Error::Refused { .. })) => {
                        letter.value.as_ref().map_or(0, Bytes::len)
                    }
                    put => return put,
                }
            }
            put => return put,
        };
        letter.value = None;
        letter
            .headers
            .push(("value-dropped".into(), Bytes::from(size.to_string())));
        place.put(id, letter).await
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

/// Whether a Kafka's rules are in the way, in the words of either client.
fn forbidden(error: &Error) -> bool {
    let words = telemetry::chain(error).to_ascii_lowercase().replace(' ', "");
    words.contains("authorizationfailed")
}
