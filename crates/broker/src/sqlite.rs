//! The embedded broker: one SQLite file, owned by one process, complete and durable.
//!
//! Acknowledged means synced. One thread writes and commits in groups; two read. Groups are of this process and live in
//! memory, their commits in the file. Opening the file again in the process shares the engine; another process is told
//! who has it. It is small on purpose: no network, no replication.

mod fetch;
mod groups;
mod headers;
mod live;
mod lock;
mod look;
mod member;
mod schema;
mod store;
mod threads;
mod transactions;
mod upkeep;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{OptionalExtension, Row};

use crate::broker::unknown;
use crate::engine::{Engine, Member, Membership, ReaderEngine, TransactionsEngine};
use crate::error::{Error, Result};
use crate::group::GroupDescription;
use crate::record::{Outgoing, Placement, Position, Watermarks};
use crate::topics::{Cleanup, TopicDescription, TopicSpec};
use groups::Groups;
use live::{Live, Topics};
use lock::{Lock, Refused};
use threads::Threads;

/// How long a new opening waits for an earlier one of this process to close.
const CLOSING_LIMIT: Duration = Duration::from_secs(10);

/// The engines of this process, by file. A file has one owner, so this cannot be anything but global.
static ENGINES: LazyLock<Mutex<HashMap<PathBuf, Arc<Slot>>>> = LazyLock::new(Mutex::default);

type Slot = tokio::sync::Mutex<Weak<Shared>>;

/// What all that was opened from one file shares.
#[derive(Debug)]
pub(crate) struct Shared {
    topics: Arc<Topics>,
    groups: Arc<Groups>,
    threads: Threads,
    // Dropped with the engine, which ends upkeep.
    _upkeep: std::sync::mpsc::Sender<()>,
}

/// Opens the embedded broker.
pub(crate) async fn open(path: &Path) -> Result<Arc<dyn Engine>> {
    Ok(Arc::new(Sqlite(open_shared(path).await?)))
}

async fn open_shared(path: &Path) -> Result<Arc<Shared>> {
    let failed = |source: crate::error::Source| Error::Open {
        url: format!("sqlite://{}", path.display()),
        source,
    };
    let path = canonical(path).map_err(|error| failed(error.into()))?;
    let slot = {
        let mut engines = ENGINES.lock().unwrap_or_else(PoisonError::into_inner);
        engines.retain(|_, slot| {
            Arc::strong_count(slot) > 1 || slot.try_lock().is_ok_and(|s| s.strong_count() > 0)
        });
        engines.entry(path.clone()).or_default().clone()
    };
    // Held while opening, so that two who open at once share.
    let mut known = slot.lock().await;
    if let Some(shared) = known.upgrade() {
        return Ok(shared);
    }
    let lock = take_lock(&path).await?;
    let topics = Arc::new(Topics::default());
    let groups = Arc::new(Groups::default());
    let (file, live, members) = (path.clone(), topics.clone(), groups.clone());
    let threads = tokio::task::spawn_blocking(move || Threads::start(&file, lock, live, members))
        .await
        .map_err(|error| failed(error.into()))?
        .map_err(failed)?;
    let (keep, stopped) = std::sync::mpsc::channel();
    let shared = Arc::new(Shared {
        topics,
        groups,
        threads,
        _upkeep: keep,
    });
    let weak = Arc::downgrade(&shared);
    std::thread::Builder::new()
        .name("broker-upkeep".into())
        .stack_size(512 * 1024)
        .spawn(move || upkeep::run(&weak, &stopped))
        .map_err(|error| failed(error.into()))?;
    *known = Arc::downgrade(&shared);
    Ok(shared)
}

fn canonical(path: &Path) -> std::io::Result<PathBuf> {
    let directory = path.parent().unwrap_or_else(|| Path::new("/"));
    std::fs::create_dir_all(directory)?;
    Ok(directory
        .canonicalize()?
        .join(path.file_name().unwrap_or_default()))
}

async fn take_lock(path: &Path) -> Result<Lock> {
    let start = tokio::time::Instant::now();
    loop {
        match Lock::take(path) {
            Ok(lock) => return Ok(lock),
            Err(Refused::Own) if start.elapsed() < CLOSING_LIMIT => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(Refused::Own) => {
                return Err(Error::Locked {
                    path: path.into(),
                    holder: "this process, which is closing it".into(),
                });
            }
            Err(Refused::Other(error)) => return Err(error),
        }
    }
}

impl Shared {
    fn live(&self, topic: &str) -> Result<Arc<Live>> {
        self.topics.get(topic).ok_or_else(|| unknown(topic))
    }
}

#[derive(Debug)]
struct Sqlite(Arc<Shared>);

#[async_trait]
impl Engine for Sqlite {
    async fn ping(&self) -> Result<()> {
        self.0.threads.write(0, |_| Ok(())).await
    }

    async fn create_topic(&self, spec: &TopicSpec) -> Result<bool> {
        let spec = spec.clone();
        let name = spec.name.clone();
        let created = self
            .0
            .threads
            .write(0, move |store| store.create_topic(&spec))
            .await;
        created.map_err(|error| topic_error("create", &name, error))
    }

    async fn delete_topic(&self, topic: &str) -> Result<()> {
        let name = topic.to_owned();
        let deleted = self
            .0
            .threads
            .write(0, move |store| store.delete_topic(&name))
            .await;
        deleted.map_err(|error| topic_error("delete", topic, error))
    }

    async fn topics(&self) -> Result<Vec<TopicDescription>> {
        let select = |connection: &rusqlite::Connection| {
            let mut select = connection.prepare_cached(
                "SELECT name, partitions, compacted, retention_ms, incarnation, max_message_bytes, retention_bytes FROM topics ORDER BY name",
            )?;
            select
                .query_map([], describe)?
                .collect::<rusqlite::Result<Vec<_>>>()
        };
        self.0
            .threads
            .read(move |connection| {
                select(connection).map_err(|source| Error::Topic {
                    operation: "list",
                    topic: "*".into(),
                    source: source.into(),
                })
            })
            .await
    }

    async fn describe(&self, topic: &str) -> Result<Option<TopicDescription>> {
        let topic = topic.to_owned();
        self.0
            .threads
            .read(move |connection| {
                connection
                    .query_row(
                        "SELECT name, partitions, compacted, retention_ms, incarnation, max_message_bytes, retention_bytes FROM topics WHERE name = ?1",
                        [&topic],
                        describe,
                    )
                    .optional()
                    .map_err(|source| Error::Topic { operation: "describe", topic, source: source.into() })
            })
            .await
    }

    async fn topic_names(&self) -> Result<Vec<String>> {
        self.0.topic_names().await
    }

    async fn add_partitions(&self, topic: &str, partitions: i32) -> Result<()> {
        let name = topic.to_owned();
        let add = move |store: &mut store::Store<'_>| store.add_partitions(&name, partitions);
        let added = self.0.threads.write(0, add).await;
        added.map_err(|error| topic_error("widen", topic, error))
    }

    async fn offset_at(&self, topic: &str, partition: i32, timestamp: i64) -> Result<Option<i64>> {
        self.0.offset_at(topic, partition, timestamp).await
    }

    async fn groups(&self) -> Result<Vec<GroupDescription>> {
        self.0.groups().await
    }

    async fn commit_for(&self, group: &str, topic: &str, offsets: &[(i32, i64)]) -> Result<()> {
        self.0.commit_for(group, topic, offsets).await
    }

    async fn watermarks(&self, topic: &str, partition: i32) -> Result<Watermarks> {
        let live = self.0.live(topic)?;
        self.0
            .threads
            .read(move |connection| fetch::watermarks(connection, &live, partition))
            .await
    }

    async fn committed(&self, group: &str, topic: &str) -> Result<Vec<(i32, i64)>> {
        let (live, group) = (self.0.live(topic)?, group.to_owned());
        self.0
            .threads
            .read(move |connection| {
                let select = || {
                    let mut select = connection.prepare_cached(
                        "SELECT partition, next_offset FROM commits WHERE group_name = ?1 AND topic_id = ?2",
                    )?;
                    let rows = select.query_map(rusqlite::params![group, live.topic_id], |row| {
                        Ok((row.get(0)?, row.get(1)?))
                    })?;
                    rows.collect::<rusqlite::Result<Vec<_>>>()
                };
                select().map_err(|source| Error::Group {
                    operation: "read commits",
                    group: group.clone(),
                    source: source.into(),
                })
            })
            .await
    }

    async fn send_all(&self, records: Vec<Outgoing>) -> Result<Vec<Placement>> {
        let bytes = records.iter().map(Outgoing::size).sum();
        self.0
            .threads
            .write(bytes, move |store| store.append(&records))
            .await
    }

    async fn transactions(&self, transactional_id: &str) -> Result<Box<dyn TransactionsEngine>> {
        let opened = transactions::SqliteTransactions::init(self.0.clone(), transactional_id).await?;
        Ok(Box::new(opened))
    }

    async fn reader(&self, positions: &[Position]) -> Result<Box<dyn ReaderEngine>> {
        Ok(Box::new(
            member::SqliteReader::open(self.0.clone(), positions).await?,
        ))
    }

    async fn join(&self, membership: Membership) -> Result<Box<dyn Member>> {
        Ok(Box::new(member::SqliteMember::join(self.0.clone(), membership)))
    }
}

fn topic_error(operation: &'static str, topic: &str, error: Error) -> Error {
    match error {
        Error::Send { source, .. } => Error::Topic {
            operation,
            topic: topic.into(),
            source,
        },
        other => other,
    }
}

fn describe(row: &Row<'_>) -> rusqlite::Result<TopicDescription> {
    let retention: Option<i64> = row.get(3)?;
    Ok(TopicDescription {
        name: row.get(0)?,
        partitions: row.get(1)?,
        replication: 1,
        cleanup: if row.get(2)? {
            Cleanup::Compact
        } else {
            Cleanup::Delete
        },
        retention: retention.map(|ms| Duration::from_millis(ms.unsigned_abs())),
        id: row.get(4)?,
        max_message_bytes: row.get(5)?,
        retention_bytes: row
            .get::<_, Option<i64>>(6)?
            .and_then(|bytes| bytes.try_into().ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(n: usize) -> Outgoing {
        Outgoing::new("t", n.to_string(), vec![0; 4000])
    }

    /// SQLite's own page limit fails as a full disk does, in the middle of a group's transaction.
    #[tokio::test]
    async fn full_disk_fails_the_send_and_loses_nothing_acknowledged() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("broker.db");
        let topics = Arc::new(Topics::default());
        let lock = Lock::take(&path).ok().unwrap();
        let threads = Threads::start(&path, lock, topics.clone(), Arc::default()).unwrap();
        threads
            .write(0, |store| store.create_topic(&TopicSpec::new("t", 1)))
            .await
            .unwrap();
        let limit = |pages: i64| {
            move |store: &mut store::Store<'_>| {
                let set = store.connection().pragma_update(None, "max_page_count", pages);
                set.map_err(store::failed)
            }
        };
        threads.write(0, limit(60)).await.unwrap();
        let sends = (0..100).map(|n| threads.write(0, move |store| store.append(&[outgoing(n)])));
        let results = futures_util::future::join_all(sends).await;
        assert!(results.iter().any(Result::is_err));
        threads.write(0, limit(100_000)).await.unwrap();
        let last = threads
            .write(0, |store| store.append(&[outgoing(100)]))
            .await
            .unwrap()[0]
            .offset;
        let kept: i64 = threads
            .read(|connection| {
                let count = "SELECT count(*) FROM records";
                connection
                    .query_row(count, [], |row| row.get(0))
                    .map_err(store::failed)
            })
            .await
            .unwrap();
        let acknowledged = results.iter().filter(|result| result.is_ok()).count() as i64;
        assert_eq!((last, kept), (acknowledged, acknowledged + 1));
        assert_eq!(topics.get("t").unwrap().partition(0).unwrap().high(), kept);
    }
}
