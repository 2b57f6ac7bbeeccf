//! A session: the tables of one site, on whichever engine its URL names.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use crate::cassandra::Cassandra;
use crate::definition::{Catalogue, Definition};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::plan::{Mutation, Scan};
use crate::row::Row;
use crate::settings::{Address, Settings};
use crate::sqlite::Sqlite;
use crate::value::Value;
use crate::write::{Select, Write};

/// The tables of one site. Cheap to clone; all clones share the engine.
#[derive(Debug, Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    engine: Engine,
    metrics: Metrics,
    tables: RwLock<BTreeMap<String, Arc<Definition>>>,
    clock: Clock,
}

#[derive(Debug)]
enum Engine {
    Sqlite(Arc<Sqlite>),
    Cassandra(Box<Cassandra>),
}

impl Session {
    /// Opens the engine that the URL names. An SQLite file belongs to one process: opened twice in it, both share
    /// one engine; another process is told who has it. `client` is the name that the engine shows for this session.
    pub async fn open(settings: &Settings, client: &str, registry: &prometheus::Registry) -> Result<Self> {
        let engine = match settings.checked()? {
            Address::Sqlite(path) => Engine::Sqlite(Sqlite::open(path, client).await?),
            Address::Cassandra { hosts, keyspace } => Engine::Cassandra(Box::new(
                Box::pin(Cassandra::open(settings, hosts, keyspace, client)).await?,
            )),
        };
        let metrics = Metrics::register(registry)?;
        let (tables, clock) = (RwLock::default(), Clock::default());
        Ok(Self {
            inner: Arc::new(Inner {
                engine,
                metrics,
                tables,
                clock,
            }),
        })
    }

    /// Whether the engine answers.
    pub async fn ping(&self) -> Result<()> {
        let answer = async {
            match &self.inner.engine {
                Engine::Sqlite(sqlite) => sqlite.ping().await,
                Engine::Cassandra(cassandra) => cassandra.ping().await,
            }
        };
        self.inner.metrics.observe("ping", answer).await
    }

    /// Applies what of `migrations` is not applied yet, in order, and returns its names. Creates the keyspace where it
    /// is missing. Each one is recorded in table `schema_migrations` with its text; one whose text has changed since
    /// (comments and spacing apart) is an error, before anything is applied. The tables are then known as after
    /// [`Session::prepare`].
    pub async fn migrate(&self, migrations: &[schemas::Migration]) -> Result<Vec<&'static str>> {
        let catalogue = Catalogue::read(migrations)?;
        let apply = async {
            match &self.inner.engine {
                Engine::Sqlite(sqlite) => sqlite.migrate(&catalogue).await,
                Engine::Cassandra(cassandra) => Box::pin(cassandra.migrate(&catalogue)).await,
            }
        };
        let applied = self.inner.metrics.observe("migrate", apply).await?;
        self.know(catalogue);
        Ok(applied)
    }

    /// Learns the tables of `migrations`; fails when one is not applied. Services call it before they work.
    pub async fn prepare(&self, migrations: &[schemas::Migration]) -> Result<()> {
        let catalogue = Catalogue::read(migrations)?;
        let look = async {
            let applied = match &self.inner.engine {
                Engine::Sqlite(sqlite) => sqlite.applied().await?,
                Engine::Cassandra(cassandra) => cassandra.applied().await?,
            };
            match catalogue.missing(&applied)?.first() {
                Some(step) => Err(Error::NotMigrated {
                    migration: step.name.to_owned(),
                }),
                None => Ok(()),
            }
        };
        self.inner.metrics.observe("prepare", look).await?;
        self.know(catalogue);
        Ok(())
    }

    /// Writes one row; durable when it returns.
    pub async fn upsert(&self, write: Write) -> Result<()> {
        self.apply("upsert", vec![self.mutation(write)?]).await
    }

    /// Writes many rows, in bounded batches by partition. Nothing is written when one of them is malformed. After any
    /// other error some may be written; writing all again, with the same timestamps, is harmless.
    pub async fn upsert_all(&self, writes: Vec<Write>) -> Result<()> {
        let mutations = writes
            .into_iter()
            .map(|write| self.mutation(write))
            .collect::<Result<Vec<_>>>()?;
        self.apply("upsert_all", mutations).await
    }

    /// Reads one row by its whole primary key.
    pub async fn get(&self, table: &str, key: &[(&str, Value)]) -> Result<Option<Row>> {
        let scan = Scan::row(&self.definition(table)?, key)?;
        Ok(self.scan("get", scan).await?.pop())
    }

    /// Reads rows of one partition, in clustering order: at most [`Select::limit`], and never more than 10,000.
    pub async fn select(&self, select: Select) -> Result<Vec<Row>> {
        let scan = Scan::partition(&self.definition(select.table)?, &select)?;
        self.scan("select", scan).await
    }

    /// Deletes one row, as of `timestamp` in microseconds: what was written later stays, or comes.
    pub async fn delete(&self, table: &str, key: &[(&str, Value)], timestamp: i64) -> Result<()> {
        let mutation = Mutation::delete(&self.definition(table)?, key, timestamp)?;
        self.apply("delete", vec![mutation]).await
    }

    async fn apply(&self, operation: &'static str, mutations: Vec<Mutation>) -> Result<()> {
        let work = async {
            match &self.inner.engine {
                Engine::Sqlite(sqlite) => sqlite.apply(operation, mutations).await,
                Engine::Cassandra(cassandra) => Box::pin(cassandra.apply(operation, mutations)).await,
            }
        };
        self.inner.metrics.observe(operation, work).await
    }

    async fn scan(&self, operation: &'static str, scan: Scan) -> Result<Vec<Row>> {
        if scan.empty() {
            return Ok(Vec::new());
        }
        let work = async {
            match &self.inner.engine {
                Engine::Sqlite(sqlite) => sqlite.scan(operation, scan).await,
                Engine::Cassandra(cassandra) => Box::pin(cassandra.scan(operation, scan)).await,
            }
        };
        self.inner.metrics.observe(operation, work).await
    }

    fn mutation(&self, write: Write) -> Result<Mutation> {
        let definition = self.definition(write.table)?;
        Mutation::upsert(&definition, write, || self.inner.clock.next())
    }

    fn definition(&self, table: &str) -> Result<Arc<Definition>> {
        let tables = self.inner.tables.read().unwrap_or_else(PoisonError::into_inner);
        tables.get(table).cloned().ok_or_else(|| Error::UnknownTable {
            table: table.to_owned(),
        })
    }

    fn know(&self, catalogue: Catalogue) {
        let mut tables = self.inner.tables.write().unwrap_or_else(PoisonError::into_inner);
        tables.extend(catalogue.tables);
    }
}

/// Write timestamps for writes that bring none: the time, and never the same twice.
#[derive(Debug, Default)]
struct Clock {
    last: AtomicI64,
}

impl Clock {
    fn next(&self) -> i64 {
        let now = since_1970().as_micros();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let next = |last: i64| now.max(last.saturating_add(1));
        let last = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
        next(last.unwrap_or_else(|last| last))
    }
}

/// The time of day, for timestamps and expiry only.
pub(crate) fn since_1970() -> std::time::Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}
