//! A partition's records in order, up to an offset, a few in memory at a time.

use std::collections::VecDeque;
use std::time::Duration;

use common::broker::{Broker, Position, Reader, Record};

use crate::error::Result;

const RECORDS: usize = 200;
const WAIT: Duration = Duration::from_millis(500);

/// Records of a partition, one after the other.
pub(super) struct Tape {
    reader: Option<Reader>,
    topic: String,
    partition: i32,
    end: i64,
    ahead: VecDeque<Record>,
}

impl Tape {
    /// Records from `from` on that are before `end`.
    pub(super) async fn open(
        broker: &Broker,
        topic: &str,
        partition: i32,
        from: i64,
        end: i64,
    ) -> Result<Self> {
        let reader = if from < end {
            Some(broker.reader(&[Position::at(topic, partition, from)]).await?)
        } else {
            None
        };
        Ok(Self {
            reader,
            topic: topic.to_owned(),
            partition,
            end,
            ahead: VecDeque::new(),
        })
    }

    /// Up to so many of the records that are next.
    pub(super) async fn peek(&mut self, count: usize) -> Result<&[Record]> {
        while self.ahead.len() < count {
            let Some(reader) = self.reader.as_mut() else {
                break;
            };
            let at = reader.position(&self.topic, self.partition);
            if at.is_some_and(|at| at >= self.end) {
                self.reader = None;
                break;
            }
            let records = reader.next(RECORDS, WAIT).await?;
            self.ahead
                .extend(records.into_iter().filter(|record| record.offset < self.end));
        }
        let ahead = self.ahead.make_contiguous();
        Ok(&ahead[..ahead.len().min(count)])
    }

    /// The next record; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Record>> {
        self.peek(1).await?;
        Ok(self.ahead.pop_front())
    }
}

/// The digest of a record: what a link must not change.
pub(super) fn digest(record: &Record) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: Option<&[u8]>| {
        // Lengths keep one field's end from being taken for another's beginning; none is not empty.
        hasher.update(&bytes.map_or(u64::MAX, |bytes| bytes.len() as u64).to_le_bytes());
        hasher.update(bytes.unwrap_or_default());
    };
    part(Some(&record.timestamp.to_le_bytes()));
    part(record.key.as_deref());
    part(record.value.as_deref());
    for (name, value) in &record.headers {
        part(Some(name.as_bytes()));
        part(Some(value));
    }
    hasher.finalize()
}
