//! What the writer does to the file: topics, records, commits and epochs, inside the transaction it has open.
//!
//! Nothing is cached between pieces of work, so undoing a savepoint undoes all of it. What others shall learn after
//! the commit is collected as [`Effects`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::groups::Groups;
use super::headers;
use super::live::{Live, LivePartition, Topics};
use super::schema::row_id;
use crate::broker::unknown;
use crate::error::{Error, Result};
use crate::murmur::partition_of;
use crate::record::{Outgoing, Placement};
use crate::topics::{Cleanup, TopicSpec};

/// What the commit makes true.
#[derive(Debug, Default)]
pub(super) struct Effects(Vec<Effect>);

#[derive(Debug)]
enum Effect {
    Created(Live),
    Deleted(String),
    Widened(String, Vec<LivePartition>),
    Grown(Arc<str>, i32, i64),
}

impl Effects {
    pub(super) fn publish(self, topics: &Topics, groups: &Groups) {
        let mut grown: Vec<Arc<Live>> = Vec::new();
        for effect in self.0 {
            match effect {
                Effect::Created(live) => {
                    topics.insert(live);
                    groups.rebalance(topics);
                }
                Effect::Deleted(name) => {
                    topics.remove(&name);
                    groups.rebalance(topics);
                }
                Effect::Widened(name, more) => {
                    topics.widen(&name, more);
                    groups.rebalance(topics);
                }
                Effect::Grown(topic, partition, high) => {
                    if let Some(live) = topics.get(&topic) {
                        live.grow(partition, high);
                        if !grown.iter().any(|known| Arc::ptr_eq(known, &live)) {
                            grown.push(live);
                        }
                    }
                }
            }
        }
        grown.iter().for_each(|live| live.wake_all());
    }
}

/// The file inside the writer's transaction.
#[derive(Debug)]
pub(super) struct Store<'a> {
    connection: &'a Connection,
    effects: &'a mut Effects,
}

struct Topic {
    name: Arc<str>,
    compacted: bool,
    limit: usize,
    partitions: Vec<Partition>,
}

#[derive(Clone, Copy)]
struct Partition {
    partition_id: i64,
    start: i64,
    high: i64,
    bytes: i64,
}

pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn failed(error: rusqlite::Error) -> Error {
    Error::Send {
        topic: "the broker's file".into(),
        source: error.into(),
    }
}

impl<'a> Store<'a> {
    pub(super) fn new(connection: &'a Connection, effects: &'a mut Effects) -> Self {
        Self { connection, effects }
    }

    pub(super) fn connection(&self) -> &Connection {
        self.connection
    }

    /// Runs work that is undone alone when it fails.
    pub(super) fn savepoint<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.connection.is_autocommit() {
            // SQLite gave up the transaction: a savepoint now would commit by itself.
            return Err(Error::Send {
                topic: "the broker's file".into(),
                source: "the transaction was rolled back".into(),
            });
        }
        let effects = self.effects.0.len();
        self.connection.execute_batch("SAVEPOINT work").map_err(failed)?;
        let result = work(self).and_then(|value| {
            self.connection.execute_batch("RELEASE work").map_err(failed)?;
            Ok(value)
        });
        if result.is_err() {
            self.effects.0.truncate(effects);
            if !self.connection.is_autocommit() {
                self.connection
                    .execute_batch("ROLLBACK TO work; RELEASE work")
                    .map_err(failed)?;
            }
        }
        result
    }

    /// Appends records; each topic's and partition's rows are read and written once.
    pub(super) fn append(&mut self, records: &[Outgoing]) -> Result<Vec<Placement>> {
        let arrived = now_ms();
        let mut topics: HashMap<&str, Topic> = HashMap::new();
        let mut placements = Vec::with_capacity(records.len());
        let mut insert = self
            .connection
            .prepare_cached(
                "INSERT INTO records(id, timestamp, arrived, key, headers, value) VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
            )
            .map_err(failed)?;
        for record in records {
            if !topics.contains_key(record.topic.as_str()) {
                topics.insert(&record.topic, self.topic(&record.topic)?);
            }
            let Some(topic) = topics.get_mut(record.topic.as_str()) else {
                continue;
            };
            let partition = place(topic, record)?;
            let slot = &mut topic.partitions[partition as usize];
            insert
                .execute(params![
                    row_id(slot.partition_id, slot.high),
                    record.timestamp.unwrap_or(arrived),
                    arrived,
                    record.key.as_deref(),
                    headers::encode(&record.headers),
                    record.value.as_deref(),
                ])
                .map_err(|error| Error::Send {
                    topic: record.topic.clone(),
                    source: error.into(),
                })?;
            placements.push(Placement {
                partition,
                offset: slot.high,
            });
            slot.high += 1;
            slot.bytes += record.size() as i64;
        }
        drop(insert);
        for topic in topics.values() {
            self.advance(topic)?;
        }
        Ok(placements)
    }

    fn topic(&self, name: &str) -> Result<Topic> {
        let (topic_id, compacted, limit) = self
            .connection
            .prepare_cached("SELECT topic_id, compacted, max_message_bytes FROM topics WHERE name = ?1")
            .and_then(|mut select| {
                select
                    .query_row([name], |row| {
                        Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get::<_, u32>(2)?))
                    })
                    .optional()
            })
            .map_err(failed)?
            .ok_or_else(|| unknown(name))?;
        let partitions = self
            .connection
            .prepare_cached(
                "SELECT partition_id, high FROM partitions WHERE topic_id = ?1 ORDER BY partition",
            )
            .and_then(|mut select| {
                let row = |row: &Row<'_>| {
                    let high = row.get(1)?;
                    Ok(Partition {
                        partition_id: row.get(0)?,
                        start: high,
                        high,
                        bytes: 0,
                    })
                };
                select.query_map([topic_id], row)?.collect()
            })
            .map_err(failed)?;
        Ok(Topic {
            name: name.into(),
            compacted,
            limit: limit as usize,
            partitions,
        })
    }

    fn advance(&mut self, topic: &Topic) -> Result<()> {
        let mut update = self
            .connection
            .prepare_cached(
                "UPDATE partitions SET high = ?2, records = records + ?3, bytes = bytes + ?4 WHERE partition_id = ?1",
            )
            .map_err(failed)?;
        for (number, slot) in topic
            .partitions
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.high > slot.start)
        {
            update
                .execute(params![
                    slot.partition_id,
                    slot.high,
                    slot.high - slot.start,
                    slot.bytes
                ])
                .map_err(failed)?;
            self.effects
                .0
                .push(Effect::Grown(topic.name.clone(), number as i32, slot.high));
        }
        Ok(())
    }

    pub(super) fn create_topic(&mut self, spec: &TopicSpec) -> Result<bool> {
        let retention = spec
            .retention
            .map(|retention| i64::try_from(retention.as_millis()).unwrap_or(i64::MAX));
        let bytes = spec
            .retention_bytes
            .map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
        let incarnation = format!("{:032x}", rand::random::<u128>());
        let inserted = self
            .connection
            .execute(
                "INSERT INTO topics(name, incarnation, partitions, compacted, retention_ms, retention_bytes,
                 max_message_bytes) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT(name) DO NOTHING",
                params![
                    spec.name,
                    incarnation,
                    spec.partitions,
                    spec.cleanup == Cleanup::Compact,
                    retention,
                    bytes,
                    spec.max_message_bytes
                ],
            )
            .map_err(failed)?;
        if inserted == 0 {
            return Ok(false);
        }
        let topic_id = self.connection.last_insert_rowid();
        let partitions = (0..spec.partitions).map(|partition| self.add_partition(topic_id, partition));
        let partitions = partitions.collect::<Result<_>>()?;
        self.effects
            .0
            .push(Effect::Created(Live::new(topic_id, &spec.name, partitions)));
        Ok(true)
    }

    /// Gives a topic as many partitions as asked for, if it has fewer.
    pub(super) fn add_partitions(&mut self, name: &str, partitions: i32) -> Result<()> {
        let (topic_id, known): (i64, i32) = self
            .connection
            .query_row(
                "SELECT topic_id, partitions FROM topics WHERE name = ?1",
                [name],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()
            .map_err(failed)?
            .ok_or_else(|| unknown(name))?;
        if partitions <= known {
            return Ok(());
        }
        self.connection
            .execute(
                "UPDATE topics SET partitions = ?2 WHERE topic_id = ?1",
                params![topic_id, partitions],
            )
            .map_err(failed)?;
        let more = (known..partitions).map(|partition| self.add_partition(topic_id, partition));
        let more = more.collect::<Result<_>>()?;
        self.effects.0.push(Effect::Widened(name.into(), more));
        Ok(())
    }

    fn add_partition(&self, topic_id: i64, partition: i32) -> Result<LivePartition> {
        self.connection
            .execute(
                "INSERT INTO partitions(topic_id, partition) VALUES(?1, ?2)",
                [topic_id, partition.into()],
            )
            .map_err(failed)?;
        Ok(LivePartition::new(self.connection.last_insert_rowid(), 0))
    }

    /// The records stay behind without a topic until upkeep clears them away.
    pub(super) fn delete_topic(&mut self, name: &str) -> Result<()> {
        let topic_id: i64 = self
            .connection
            .query_row(
                "DELETE FROM topics WHERE name = ?1 RETURNING topic_id",
                [name],
                |row| row.get(0),
            )
            .optional()
            .map_err(failed)?
            .ok_or_else(|| unknown(name))?;
        self.connection
            .execute(
                "UPDATE partitions SET topic_id = NULL WHERE topic_id = ?1",
                [topic_id],
            )
            .map_err(failed)?;
        self.connection
            .execute("DELETE FROM commits WHERE topic_id = ?1", [topic_id])
            .map_err(failed)?;
        self.effects.0.push(Effect::Deleted(name.into()));
        Ok(())
    }

    /// Commits of topics that are gone are left out.
    pub(super) fn commit(&mut self, group: &str, offsets: &[(i64, i32, i64)]) -> Result<()> {
        let mut upsert = self
            .connection
            .prepare_cached(
                "INSERT INTO commits(group_name, topic_id, partition, next_offset)
                 SELECT ?1, topic_id, ?3, ?4 FROM topics WHERE topic_id = ?2
                 ON CONFLICT(group_name, topic_id, partition) DO UPDATE SET next_offset = excluded.next_offset",
            )
            .map_err(failed)?;
        for (topic_id, partition, offset) in offsets {
            upsert
                .execute(params![group, topic_id, partition, offset])
                .map_err(failed)?;
        }
        Ok(())
    }

    /// The next epoch of a transactional id.
    pub(super) fn next_epoch(&mut self, transactional_id: &str) -> Result<i64> {
        self.connection
            .query_row(
                "INSERT INTO epochs(transactional_id, epoch) VALUES(?1, 1)
                 ON CONFLICT(transactional_id) DO UPDATE SET epoch = epoch + 1 RETURNING epoch",
                [transactional_id],
                |row| row.get(0),
            )
            .map_err(failed)
    }

    pub(super) fn check_epoch(&self, transactional_id: &str, epoch: i64) -> Result<()> {
        let current: i64 = self
            .connection
            .prepare_cached("SELECT epoch FROM epochs WHERE transactional_id = ?1")
            .and_then(|mut select| select.query_row([transactional_id], |row| row.get(0)))
            .map_err(failed)?;
        if current == epoch {
            Ok(())
        } else {
            Err(Error::Fenced {
                transactional_id: transactional_id.into(),
            })
        }
    }

    /// Every topic, as it is when the file is opened.
    pub(super) fn live_topics(&self) -> rusqlite::Result<Vec<Live>> {
        let mut select = self.connection.prepare("SELECT topic_id, name FROM topics")?;
        let mut partitions = self
            .connection
            .prepare("SELECT partition_id, high FROM partitions WHERE topic_id = ?1 ORDER BY partition")?;
        let named: Vec<(i64, String)> = select
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        named
            .into_iter()
            .map(|(topic_id, name)| {
                let rows = partitions
                    .query_map([topic_id], |row| Ok(LivePartition::new(row.get(0)?, row.get(1)?)))?;
                Ok(Live::new(topic_id, &name, rows.collect::<rusqlite::Result<_>>()?))
            })
            .collect()
    }
}

fn place(topic: &Topic, record: &Outgoing) -> Result<i32> {
    let size = record.size();
    if size > topic.limit {
        return Err(Error::TooLarge {
            topic: record.topic.clone(),
            size,
            limit: topic.limit,
        });
    }
    if topic.compacted && record.key.is_none() {
        let reason = "a compacted topic needs a key".into();
        return Err(Error::Refused {
            topic: record.topic.clone(),
            reason,
        });
    }
    let partitions = topic.partitions.len() as i32;
    match (record.partition, &record.key) {
        (Some(partition), _) if (0..partitions).contains(&partition) => Ok(partition),
        (Some(partition), _) => Err(Error::UnknownPartition {
            topic: record.topic.clone(),
            partition,
        }),
        (None, Some(key)) => Ok(partition_of(key, partitions)),
        (None, None) => Ok(rand::random_range(0..partitions.max(1))),
    }
}
