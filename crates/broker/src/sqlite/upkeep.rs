//! What becomes of old records: retention, compaction, and the remains of deleted topics.
//!
//! Everything happens in small steps between other work: look at some rows on a reader, delete some on the writer.
//! Retention goes by the time a record arrived here, so that what a link carried late is not gone at once. Compaction
//! walks a partition's new records, remembers the newest offset of each key, then deletes older ones of these keys.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Weak;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rusqlite::params;

use super::Shared;
use super::schema::{offset_of, row_id};
use super::store::{failed, now_ms};
use crate::error::Result;

/// Rows that one step looks at or deletes.
const STEP: i64 = 1000;
/// Keys that one pass of compaction remembers: about 1 MiB.
const KEYS: usize = 32 * 1024;
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
/// How long a tombstone stays when its topic does not say.
const TOMBSTONES_MS: i64 = 24 * 60 * 60 * 1000;

#[derive(Debug, Clone)]
struct Partition {
    id: i64,
    deleted: bool,
    compacted: bool,
    retention_ms: Option<i64>,
    retention_bytes: Option<i64>,
    low: i64,
    high: i64,
    cleaned: i64,
    records: i64,
    bytes: i64,
}

struct Looked {
    offset: i64,
    arrived: i64,
    size: i64,
    key: u128,
    tombstone: bool,
}

/// Works until the engine is gone.
pub(super) fn run(shared: &Weak<Shared>, stopped: &Receiver<()>) {
    let mut pause = LONGEST_PAUSE;
    let hasher = std::hash::RandomState::new();
    while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        let Some(shared) = shared.upgrade() else { return };
        pause = match round(&shared, &hasher) {
            Ok(pause) => pause,
            Err(error) => {
                tracing::warn!(%error, "upkeep of the broker file failed");
                LONGEST_PAUSE
            }
        };
    }
}

fn round(shared: &Shared, hasher: &std::hash::RandomState) -> Result<Duration> {
    let partitions = shared
        .threads
        .read_blocking(|connection| partitions(connection).map_err(failed))?;
    let mut shortest = LONGEST_PAUSE;
    for partition in partitions {
        if partition.deleted {
            remove(shared, &partition)?;
        } else if partition.compacted {
            // A pass over a large partition is worth it when half of it is new.
            if (partition.high - partition.cleaned) * 2 >= partition.records
                && partition.high > partition.cleaned
            {
                compact(shared, &partition, hasher)?;
            }
        } else {
            if let Some(retention) = partition.retention_ms {
                let quarter = Duration::from_millis(u64::try_from(retention / 4).unwrap_or_default());
                shortest = shortest.min(quarter).max(SHORTEST_PAUSE);
            }
            expire(shared, partition)?;
        }
    }
    Ok(shortest)
}

fn partitions(connection: &rusqlite::Connection) -> rusqlite::Result<Vec<Partition>> {
    let mut select = connection.prepare_cached(
        "SELECT partition_id, p.topic_id IS NULL, ifnull(compacted, 0), retention_ms, retention_bytes, low, high,
         cleaned, records, bytes FROM partitions p LEFT JOIN topics t ON t.topic_id = p.topic_id
         WHERE p.topic_id IS NULL OR (compacted AND high > cleaned)
            OR (records > 0 AND NOT compacted AND (retention_ms NOTNULL OR retention_bytes NOTNULL))",
    )?;
    let rows = select.query_map([], |row| {
        Ok(Partition {
            id: row.get(0)?,
            deleted: row.get(1)?,
            compacted: row.get(2)?,
            retention_ms: row.get(3)?,
            retention_bytes: row.get(4)?,
            low: row.get(5)?,
            high: row.get(6)?,
            cleaned: row.get(7)?,
            records: row.get(8)?,
            bytes: row.get(9)?,
        })
    })?;
    rows.collect()
}

fn look(
    shared: &Shared,
    partition: i64,
    from: i64,
    to: i64,
    hasher: Option<&std::hash::RandomState>,
) -> Result<Vec<Looked>> {
    let hasher = hasher.cloned();
    let look = move |connection: &rusqlite::Connection| {
        let mut select = connection.prepare_cached(
            "SELECT id, arrived, ifnull(length(key), 0) + ifnull(length(headers), 0) + ifnull(length(value), 0),
             value IS NULL, key FROM records WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT ?3",
        )?;
        let rows = select.query_map(
            params![row_id(partition, from), row_id(partition, to), STEP],
            |row| {
                let key = match &hasher {
                    Some(hasher) => {
                        let key = row.get_ref(4)?.as_blob_or_null()?;
                        // Twice 64 bits: two keys taken for one would cost a record.
                        u128::from(hasher.hash_one(key)) << 64 | u128::from(hasher.hash_one((key, "again")))
                    }
                    None => 0,
                };
                let offset = offset_of(row.get(0)?);
                Ok(Looked {
                    offset,
                    arrived: row.get(1)?,
                    size: row.get(2)?,
                    tombstone: row.get(3)?,
                    key,
                })
            },
        )?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    shared
        .threads
        .read_blocking(move |connection| look(connection).map_err(failed))
}

/// Deletes from the front what is too old or too much.
fn expire(shared: &Shared, mut partition: Partition) -> Result<()> {
    let oldest = partition.retention_ms.map(|retention| now_ms() - retention);
    loop {
        let rows = look(shared, partition.id, partition.low, partition.high, None)?;
        let (mut low, mut bytes, mut records) = (partition.low, 0, 0);
        for row in &rows {
            let old = oldest.is_some_and(|oldest| row.arrived < oldest);
            let much = partition
                .retention_bytes
                .is_some_and(|limit| partition.bytes - bytes > limit);
            if !old && !much {
                break;
            }
            low = row.offset + 1;
            bytes += row.size;
            records += 1;
        }
        if low == partition.low {
            return Ok(());
        }
        let (id, from) = (partition.id, partition.low);
        shared.threads.write_blocking(move |store| {
            let delete = || {
                let connection = store.connection();
                connection.execute(
                    "DELETE FROM records WHERE id >= ?1 AND id < ?2",
                    [row_id(id, from), row_id(id, low)],
                )?;
                connection.execute(
                    "UPDATE partitions SET low = ?2, records = records - ?3, bytes = max(0, bytes - ?4)
                     WHERE partition_id = ?1",
                    [id, low, records, bytes],
                )
            };
            delete().map(drop).map_err(failed)
        })?;
        partition.low = low;
        partition.bytes -= bytes;
    }
}

/// Clears away what a deleted topic left.
fn remove(shared: &Shared, partition: &Partition) -> Result<()> {
    let id = partition.id;
    loop {
        let gone = shared.threads.write_blocking(move |store| {
            let delete = || {
                let connection = store.connection();
                let rows = connection.execute(
                    "DELETE FROM records WHERE id IN (SELECT id FROM records WHERE id >= ?1 AND id < ?2 LIMIT ?3)",
                    [row_id(id, 0), row_id(id + 1, 0), STEP],
                )?;
                if rows == 0 {
                    connection.execute("DELETE FROM partitions WHERE partition_id = ?1", [id])?;
                }
                Ok(rows == 0)
            };
            delete().map_err(failed)
        })?;
        if gone {
            return Ok(());
        }
    }
}

/// One or more passes over a partition, until everything that was in it at the start has been looked at.
fn compact(shared: &Shared, partition: &Partition, hasher: &std::hash::RandomState) -> Result<()> {
    let mut cleaned = partition.cleaned;
    while cleaned < partition.high {
        let mut newest: HashMap<u128, i64> = HashMap::new();
        let mut end = cleaned;
        while end < partition.high && newest.len() < KEYS {
            let rows = look(shared, partition.id, end, partition.high, Some(hasher))?;
            for row in &rows {
                newest.insert(row.key, row.offset);
            }
            end = rows.last().map_or(partition.high, |row| row.offset + 1);
        }
        let tombstones = now_ms() - partition.retention_ms.unwrap_or(TOMBSTONES_MS);
        let mut from = partition.low;
        while from < end {
            let rows = look(shared, partition.id, from, end, Some(hasher))?;
            from = rows.last().map_or(end, |row| row.offset + 1);
            let superseded = |row: &&Looked| {
                newest.get(&row.key).is_some_and(|offset| *offset > row.offset)
                    || (row.tombstone && row.arrived < tombstones)
            };
            let old: Vec<(i64, i64)> = rows
                .iter()
                .filter(superseded)
                .map(|row| (row.offset, row.size))
                .collect();
            if !old.is_empty() {
                delete(shared, partition.id, old)?;
            }
        }
        cleaned = end;
        let id = partition.id;
        shared.threads.write_blocking(move |store| {
            let update = "UPDATE partitions SET cleaned = ?2 WHERE partition_id = ?1";
            store
                .connection()
                .execute(update, [id, end])
                .map(drop)
                .map_err(failed)
        })?;
    }
    Ok(())
}

fn delete(shared: &Shared, id: i64, old: Vec<(i64, i64)>) -> Result<()> {
    shared.threads.write_blocking(move |store| {
        let delete = || {
            let connection = store.connection();
            let mut delete = connection.prepare_cached("DELETE FROM records WHERE id = ?1")?;
            for (offset, _) in &old {
                delete.execute([row_id(id, *offset)])?;
            }
            let bytes: i64 = old.iter().map(|(_, size)| size).sum();
            connection.execute(
                "UPDATE partitions SET records = records - ?2, bytes = max(0, bytes - ?3) WHERE partition_id = ?1",
                [id, old.len() as i64, bytes],
            )
        };
        delete().map(drop).map_err(failed)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::record::Outgoing;
    use crate::topics::TopicSpec;

    type Kept = Vec<(i64, Vec<u8>, Option<Vec<u8>>)>;

    async fn kept(shared: &Shared) -> Kept {
        let select = |connection: &rusqlite::Connection| {
            let mut select = connection.prepare("SELECT id, key, value FROM records ORDER BY id")?;
            let rows = select.query_map([], |row| Ok((offset_of(row.get(0)?), row.get(1)?, row.get(2)?)))?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        shared
            .threads
            .read(move |connection| select(connection).map_err(failed))
            .await
            .unwrap()
    }

    async fn now(shared: &Arc<Shared>) {
        let shared = shared.clone();
        tokio::task::spawn_blocking(move || round(&shared, &std::hash::RandomState::new()))
            .await
            .unwrap()
            .unwrap();
    }

    async fn append(shared: &Shared, records: Vec<Outgoing>) {
        shared
            .threads
            .write(0, move |store| store.append(&records))
            .await
            .unwrap();
    }

    /// More records than a step, keys that come once and keys that come often, tombstones old enough to go.
    #[tokio::test]
    async fn compaction_keeps_exactly_the_newest_of_each_key() {
        let directory = tempfile::tempdir().unwrap();
        let shared = super::super::open_shared(&directory.path().join("broker.db"))
            .await
            .unwrap();
        let spec = TopicSpec::new("t", 1).compacted().retention(Duration::ZERO);
        shared
            .threads
            .write(0, move |store| store.create_topic(&spec))
            .await
            .unwrap();
        let mut newest = BTreeMap::new();
        let mut offset = 0;
        for _ in 0..3 {
            let mut records = Vec::new();
            for _ in 0..2500 {
                let key = format!("k{}", rand::random_range(0..900));
                let value = rand::random_bool(0.9).then(|| offset.to_string().into_bytes());
                let record = match &value {
                    Some(value) => Outgoing::new("t", &key, value.clone()),
                    None => Outgoing::tombstone("t", &key),
                };
                records.push(record);
                newest.insert(key.into_bytes(), (offset, value));
                offset += 1;
            }
            append(&shared, records).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
            now(&shared).await;
            let mut expected: Kept = newest
                .iter()
                .filter(|(_, (_, value))| value.is_some())
                .map(|(key, (offset, value))| (*offset, key.clone(), value.clone()))
                .collect();
            expected.sort();
            assert_eq!(kept(&shared).await, expected);
        }
        let rows = shared.threads.read(partitions_and_count).await.unwrap();
        assert_eq!(rows.0, rows.1, "the partition's count of records is right");
    }

    fn partitions_and_count(connection: &rusqlite::Connection) -> Result<(i64, i64)> {
        let select = "SELECT (SELECT records FROM partitions), (SELECT count(*) FROM records)";
        connection
            .query_row(select, [], |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(failed)
    }

    #[tokio::test]
    async fn retention_by_bytes_keeps_the_newest() {
        let directory = tempfile::tempdir().unwrap();
        let shared = super::super::open_shared(&directory.path().join("broker.db"))
            .await
            .unwrap();
        let mut spec = TopicSpec::new("t", 1);
        spec.retention_bytes = Some(100_000);
        shared
            .threads
            .write(0, move |store| store.create_topic(&spec))
            .await
            .unwrap();
        append(
            &shared,
            (0..3000)
                .map(|_| Outgoing::new("t", "key", vec![0; 97]))
                .collect(),
        )
        .await;
        now(&shared).await;
        let rows = kept(&shared).await;
        assert_eq!((rows.len(), rows.first().map(|row| row.0)), (1000, Some(2000)));
        shared
            .threads
            .write(0, |store| store.delete_topic("t"))
            .await
            .unwrap();
        now(&shared).await;
        let left = shared
            .threads
            .read(|connection| partitions(connection).map_err(failed))
            .await
            .unwrap();
        assert!(left.is_empty(), "{left:?}");
        let rows = shared.threads.read(|connection| {
            connection
                .query_row("SELECT count(*) FROM records", [], |row| row.get::<_, i64>(0))
                .map_err(failed)
        });
        assert_eq!(rows.await.unwrap(), 0);
    }
}
