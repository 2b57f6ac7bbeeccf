//! Reading partitions of the file: cursors that wait for growth and fetch a bounded piece at a time.

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::{Notify, oneshot};

use super::headers;
use super::live::Live;
use super::schema::{offset_of, row_id};
use super::threads::{Threads, read};
use crate::broker::unknown;
use crate::error::{Error, Result};
use crate::record::{Record, Start, TopicPartition, Watermarks};

/// Bytes that one fetch reads at most, unless its first record alone is larger.
const FETCH_BYTES: usize = 512 * 1024;

#[derive(Debug)]
struct Fetched {
    records: Vec<Record>,
    next: i64,
}

/// One partition and how far it has been read.
#[derive(Debug)]
struct Cursor {
    live: Arc<Live>,
    partition: i32,
    position: i64,
    paused: bool,
}

/// Partitions that are read in turn. At most one fetch is under way; dropping a future leaves it for the next call.
#[derive(Debug)]
pub(super) struct Cursors {
    list: Vec<Cursor>,
    turn: usize,
    grown: Arc<Notify>,
    under_way: Option<UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    partition: TopicPartition,
    start: i64,
    answer: oneshot::Receiver<Result<Fetched>>,
}

impl Cursors {
    pub(super) fn new() -> Self {
        Self {
            list: Vec::new(),
            turn: 0,
            grown: Arc::new(Notify::new()),
            under_way: None,
        }
    }

    pub(super) fn add(&mut self, live: Arc<Live>, partition: i32, position: i64) {
        live.wake(&self.grown);
        self.remove(&live.name, partition);
        self.list.push(Cursor {
            live,
            partition,
            position,
            paused: false,
        });
        self.grown.notify_one();
    }

    pub(super) fn remove(&mut self, topic: &str, partition: i32) {
        self.list
            .retain(|cursor| *cursor.live.name != *topic || cursor.partition != partition);
    }

    pub(super) fn remove_topic(&mut self, topic: &str) {
        self.list.retain(|cursor| *cursor.live.name != *topic);
    }

    pub(super) fn position(&self, topic: &str, partition: i32) -> Option<i64> {
        self.find(topic, partition).map(|cursor| cursor.position)
    }

    pub(super) fn high(&self, topic: &str, partition: i32) -> Option<i64> {
        let cursor = self.find(topic, partition)?;
        cursor
            .live
            .partition(partition)
            .map(super::live::LivePartition::high)
    }

    pub(super) fn pause(&mut self, topic: &str, partition: i32, paused: bool) {
        for cursor in &mut self.list {
            if *cursor.live.name == *topic && cursor.partition == partition {
                cursor.paused = paused;
            }
        }
        self.grown.notify_one();
    }

    fn find(&self, topic: &str, partition: i32) -> Option<&Cursor> {
        self.list
            .iter()
            .find(|cursor| *cursor.live.name == *topic && cursor.partition == partition)
    }

    /// The next records of some partition, as soon as one has any.
    pub(super) async fn next(&mut self, threads: &Threads, max_records: usize) -> Result<Vec<Record>> {
        loop {
            if self.under_way.is_none() && !self.start(threads, max_records).await? {
                self.grown.notified().await;
                continue;
            }
            let Some(under_way) = &mut self.under_way else {
                continue;
            };
            let answer = (&mut under_way.answer).await;
            let Some(UnderWay { partition, start, .. }) = self.under_way.take() else {
                continue;
            };
            // A seek, a pause or a hand-over in between makes the answer worthless.
            let cursor = self.list.iter_mut().find(|cursor| {
                cursor.live.name == partition.topic
                    && cursor.partition == partition.partition
                    && cursor.position == start
                    && !cursor.paused
            });
            let Some(cursor) = cursor else { continue };
            let mut fetched = answer.map_err(|_| Error::Closed)??;
            // An earlier call that was dropped may have asked for more.
            if let Some(beyond) = fetched.records.get(max_records) {
                fetched.next = beyond.offset;
                fetched.records.truncate(max_records);
            }
            cursor.position = fetched.next;
            if !fetched.records.is_empty() {
                return Ok(fetched.records);
            }
        }
    }

    async fn start(&mut self, threads: &Threads, max_records: usize) -> Result<bool> {
        let count = self.list.len();
        let ready = (0..count).map(|step| (self.turn + step) % count).find(|index| {
            let cursor = &self.list[*index];
            let high = cursor
                .live
                .partition(cursor.partition)
                .map(super::live::LivePartition::high);
            // A position beyond the end is fetched too, and a deleted topic: that is how it is found out.
            !cursor.paused && (high.is_none_or(|high| high != cursor.position) || cursor.live.gone())
        });
        let Some(index) = ready else { return Ok(false) };
        self.turn = index + 1;
        let cursor = &self.list[index];
        let (live, partition, position) = (cursor.live.clone(), cursor.partition, cursor.position);
        let name = TopicPartition {
            topic: live.name.clone(),
            partition,
        };
        let (work, answer) =
            read(move |connection| fetch(connection, &live, partition, position, max_records));
        threads.reader().send(work).await.map_err(|_| Error::Closed)?;
        self.under_way = Some(UnderWay {
            partition: name,
            start: position,
            answer,
        });
        Ok(true)
    }
}

/// The ends of a partition, or the error that it is not there.
pub(super) fn watermarks(connection: &Connection, live: &Live, partition: i32) -> Result<Watermarks> {
    let missing = || Error::UnknownPartition {
        topic: live.name.to_string(),
        partition,
    };
    let partition_id = live.partition(partition).ok_or_else(missing)?.partition_id;
    connection
        .prepare_cached("SELECT low, high FROM partitions WHERE partition_id = ?1 AND topic_id IS NOT NULL")
        .and_then(|mut select| {
            select
                .query_row([partition_id], |row| {
                    Ok(Watermarks {
                        low: row.get(0)?,
                        high: row.get(1)?,
                    })
                })
                .optional()
        })
        .map_err(|error| failed(live, partition, error))?
        .ok_or_else(|| unknown(&live.name))
}

/// The offset that a start means now.
pub(super) fn resolve(connection: &Connection, live: &Live, partition: i32, start: Start) -> Result<i64> {
    let marks = watermarks(connection, live, partition)?;
    Ok(match start {
        Start::Beginning => marks.low,
        Start::End => marks.high,
        Start::Offset(offset) => offset,
    })
}

fn fetch(connection: &Connection, live: &Live, partition: i32, from: i64, max: usize) -> Result<Fetched> {
    // One snapshot for the ends and the records, so that retention cannot pass in between.
    let snapshot = connection
        .unchecked_transaction()
        .map_err(|error| failed(live, partition, error))?;
    let Watermarks { low, high } = watermarks(&snapshot, live, partition)?;
    if from < low || from > high {
        return Err(Error::OffsetOutOfRange {
            topic: live.name.to_string(),
            partition,
            offset: from,
            low,
            high,
        });
    }
    let partition_id = live.partition(partition).map_or(0, |known| known.partition_id);
    let read = || {
        let mut select = snapshot.prepare_cached(
            "SELECT id, timestamp, key, headers, value FROM records WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT ?3",
        )?;
        let limit = i64::try_from(max).unwrap_or(i64::MAX);
        let mut rows = select.query(params![
            row_id(partition_id, from),
            row_id(partition_id, high),
            limit
        ])?;
        let (mut records, mut bytes, mut next) = (Vec::new(), 0, high);
        while let Some(row) = rows.next()? {
            let offset = offset_of(row.get(0)?);
            let column = |index| {
                row.get_ref(index)?
                    .as_blob_or_null()
                    .map(|blob| blob.map(Bytes::copy_from_slice))
                    .map_err(rusqlite::Error::from)
            };
            let encoded = row.get_ref(3)?.as_blob_or_null()?;
            let record = Record {
                topic: live.name.clone(),
                partition,
                offset,
                timestamp: row.get(1)?,
                key: column(2)?,
                value: column(4)?,
                headers: encoded
                    .map_or_else(|| Some(Vec::new()), headers::decode)
                    .unwrap_or_default(),
            };
            bytes += record.size();
            records.push(record);
            if bytes >= FETCH_BYTES || records.len() >= max {
                next = offset + 1;
                break;
            }
        }
        Ok(Fetched { records, next })
    };
    read().map_err(|error: rusqlite::Error| failed(live, partition, error))
}

fn failed(live: &Live, partition: i32, error: rusqlite::Error) -> Error {
    Error::Read {
        topic: format!("{}/{partition}", live.name),
        source: error.into(),
    }
}
