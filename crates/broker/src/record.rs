//! Records as they are read and as they are sent, and where in a partition they are.

use std::sync::Arc;

use bytes::Bytes;

/// A record's headers, in order; names may repeat.
pub type Headers = Vec<(String, Bytes)>;

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The topic it is in.
    pub topic: Arc<str>,
    /// The partition it is in.
    pub partition: i32,
    /// Its place in the partition.
    pub offset: i64,
    /// When it was made, in milliseconds since 1970.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; none is a tombstone in a compacted topic.
    pub value: Option<Bytes>,
    /// Its headers.
    pub headers: Headers,
}

impl Record {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&Bytes> {
        self.headers
            .iter()
            .find(|(header, _)| header == name)
            .map(|(_, value)| value)
    }

    /// Bytes of key, value and headers.
    pub fn size(&self) -> usize {
        size_of(self.key.as_ref(), self.value.as_ref(), &self.headers)
    }
}

/// A record to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The topic, which must exist.
    pub topic: String,
    /// The partition; none derives it from the key, as Java's clients do.
    pub partition: Option<i32>,
    /// When it was made, in milliseconds since 1970; none is now.
    pub timestamp: Option<i64>,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; none is a tombstone in a compacted topic.
    pub value: Option<Bytes>,
    /// Its headers.
    pub headers: Headers,
}

impl Outgoing {
    /// A record with key and value, its partition derived from the key, made now.
    pub fn new(topic: impl Into<String>, key: impl AsRef<[u8]>, value: Vec<u8>) -> Self {
        Self {
            topic: topic.into(),
            partition: None,
            timestamp: None,
            key: Some(Bytes::copy_from_slice(key.as_ref())),
            value: Some(Bytes::from(value)),
            headers: Headers::new(),
        }
    }

    /// The record that deletes a key from a compacted topic.
    pub fn tombstone(topic: impl Into<String>, key: impl AsRef<[u8]>) -> Self {
        Self {
            value: None,
            ..Self::new(topic, key, Vec::new())
        }
    }

    /// The same record with one more header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Bytes of key, value and headers.
    pub fn size(&self) -> usize {
        size_of(self.key.as_ref(), self.value.as_ref(), &self.headers)
    }
}

fn size_of(key: Option<&Bytes>, value: Option<&Bytes>, headers: &Headers) -> usize {
    let headers: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    key.map_or(0, Bytes::len) + value.map_or(0, Bytes::len) + headers
}

/// Where a sent record came to lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// The partition.
    pub partition: i32,
    /// The offset in it.
    pub offset: i64,
}

/// A partition and where in it to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Where to start.
    pub start: Start,
}

impl Position {
    /// A partition from its first record on.
    pub fn beginning(topic: impl Into<String>, partition: i32) -> Self {
        Self {
            topic: topic.into(),
            partition,
            start: Start::Beginning,
        }
    }

    /// A partition from an offset on.
    pub fn at(topic: impl Into<String>, partition: i32, offset: i64) -> Self {
        Self {
            topic: topic.into(),
            partition,
            start: Start::Offset(offset),
        }
    }

    /// A partition from its end on.
    pub fn end(topic: impl Into<String>, partition: i32) -> Self {
        Self {
            topic: topic.into(),
            partition,
            start: Start::End,
        }
    }
}

/// Where to start in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The first record that is still there.
    Beginning,
    /// After the last record, as of the call.
    End,
    /// This offset. One that the partition does not have is an error when it is read, never "latest".
    Offset(i64),
}

/// The ends of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// The first offset that is still there.
    pub low: i64,
    /// The end that readers of committed records can reach: the last stable offset.
    pub high: i64,
}

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TopicPartition {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
}

impl TopicPartition {
    pub(crate) fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }
}
