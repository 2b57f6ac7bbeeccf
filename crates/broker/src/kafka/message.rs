//! Records from and to librdkafka's messages.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message, OwnedHeaders};
use rdkafka::producer::BaseRecord;

use super::context::Ticket;
use crate::record::{Headers, Outgoing, Record};

/// Turns messages to records that share the names of their topics.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    topics: HashSet<Arc<str>>,
}

impl Decoder {
    pub(super) fn topic(&mut self, name: &str) -> Arc<str> {
        if let Some(topic) = self.topics.get(name) {
            return Arc::clone(topic);
        }
        let topic: Arc<str> = name.into();
        self.topics.insert(Arc::clone(&topic));
        topic
    }

    pub(super) fn record(&mut self, message: &BorrowedMessage<'_>) -> Record {
        let headers = message.headers().map_or_else(Headers::new, |headers| {
            headers
                .iter()
                .map(|header| {
                    (
                        header.key.to_owned(),
                        Bytes::copy_from_slice(header.value.unwrap_or_default()),
                    )
                })
                .collect()
        });
        Record {
            topic: self.topic(message.topic()),
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis().unwrap_or(0),
            key: message.key().map(Bytes::copy_from_slice),
            value: message.payload().map(Bytes::copy_from_slice),
            headers,
        }
    }
}

/// A message for librdkafka, which copies what it borrows.
pub(super) fn message(record: &Outgoing, ticket: Ticket) -> BaseRecord<'_, [u8], [u8], Box<Ticket>> {
    let headers = (!record.headers.is_empty()).then(|| {
        record.headers.iter().fold(
            OwnedHeaders::new_with_capacity(record.headers.len()),
            |headers, (key, value)| {
                headers.insert(Header {
                    key,
                    value: Some(value.as_ref()),
                })
            },
        )
    });
    BaseRecord {
        topic: &record.topic,
        partition: record.partition,
        payload: record.value.as_deref(),
        key: record.key.as_deref(),
        timestamp: record.timestamp,
        headers,
        delivery_opaque: Box::new(ticket),
    }
}
