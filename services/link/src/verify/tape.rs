//! A partition's records in order, up to an offset, a few in memory at a time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use common::broker::{Position, Reader, Record};
use common::kafka::{FetchLimits, Fetcher, Start};

use crate::error::Result;
use crate::place::{Place, record};

const RECORDS: usize = 200;
const WAIT: Duration = Duration::from_millis(500);

/// The most bytes of an answer of a cluster: so much more than is wanted may cross at the end.
const BYTES: usize = 256 * 1024;

/// What brings records.
enum From {
    Broker(Reader),
    Kafka {
        fetcher: Fetcher,
        at: i64,
        name: Arc<str>,
    },
}

/// Records of a partition, one after the other.
pub(super) struct Tape {
    from: Option<From>,
    topic: String,
    partition: i32,
    end: i64,
    ahead: VecDeque<Record>,
}

impl Tape {
    /// Records from `from` on that are before `end`.
    pub(super) async fn open(
        place: Place<'_>,
        topic: &str,
        partition: i32,
        from: i64,
        end: i64,
    ) -> Result<Self> {
        let from = match place {
            _ if from >= end => None,
            Place::Broker(broker) => {
                let reader = broker.reader(&[Position::at(topic, partition, from)]).await?;
                Some(From::Broker(reader))
            }
            Place::Kafka(cluster) => {
                let found = cluster.topics(&[topic]).await?;
                let found: Vec<_> = found.into_iter().flatten().collect();
                let start = Start {
                    topic: topic.to_owned(),
                    partition,
                    offset: from,
                };
                let limits = FetchLimits {
                    wait: WAIT,
                    bytes: BYTES,
                    alone: false,
                    look: None,
                };
                Some(From::Kafka {
                    fetcher: Fetcher::open(cluster, &found, &[start], limits).await?,
                    at: from,
                    name: topic.into(),
                })
            }
        };
        Ok(Self {
            from,
            topic: topic.to_owned(),
            partition,
            end,
            ahead: VecDeque::new(),
        })
    }

    /// Up to so many of the records that are next.
    pub(super) async fn peek(&mut self, count: usize) -> Result<&[Record]> {
        while self.ahead.len() < count {
            let Some(from) = self.from.as_mut() else {
                break;
            };
            let at = match from {
                From::Broker(reader) => reader.position(&self.topic, self.partition),
                From::Kafka { at, .. } => Some(*at),
            };
            if at.is_some_and(|at| at >= self.end) {
                self.from = None;
                break;
            }
            let records = match from {
                From::Broker(reader) => reader.next(RECORDS, WAIT).await?,
                From::Kafka { fetcher, at, name } => fetched(fetcher, at, name).await?,
            };
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

/// What comes next from a cluster.
async fn fetched(fetcher: &mut Fetcher, at: &mut i64, name: &Arc<str>) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for news in fetcher.next().await? {
        // A batch may begin before what was asked for.
        let rows = news.rows()?.into_iter().filter(|row| row.offset >= *at);
        records.extend(rows.map(|row| record(name, news.partition, row)));
        *at = news.next.max(*at);
    }
    Ok(records)
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
