//! The embedded engine: one SQLite file, owned by one process.
//!
//! One thread writes: it takes whatever writes are waiting, merges each into its row and commits them together, so a
//! write is acknowledged when it is on the disk and many waiting ones cost one sync. Another thread reads. The tables
//! have the columns of the CQL files under their own names, and two more: `_stamps`, what [`crate::merge`] remembers of
//! each cell, and `_due`, the second in which the row is to be swept. Other programs may read the file while it is in
//! use, and must not write it.

mod lock;
mod reader;
mod statements;
mod sweep;
mod writer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::definition::Catalogue;
use crate::error::{Error, Result};
use crate::plan::{Mutation, Scan};
use crate::row::Row;
use lock::Lock;

/// How many requests wait for each thread before callers do.
const QUEUE: usize = 256;
/// How many writes of one call go into one transaction, and how many bytes.
const CHUNK: (usize, usize) = (256, 1 << 20);
/// The first version without the rare corruption of the write-ahead log.
const SQLITE: (i32, &str) = (3_051_003, "3.51.3");
/// How long a second open waits for an engine that this process is about to close.
const CLOSING: Duration = Duration::from_secs(5);

/// The engines of this process, so that a second open of a file finds the first.
static ENGINES: Mutex<BTreeMap<PathBuf, Weak<Sqlite>>> = Mutex::new(BTreeMap::new());

/// An open file. Its threads end, and the lock is given back, when the last clone is dropped and its work is done.
#[derive(Debug)]
pub(crate) struct Sqlite {
    writer: mpsc::Sender<writer::Job>,
    reader: mpsc::Sender<reader::Job>,
}

/// Where a thread sends what became of a request.
type Reply<T> = oneshot::Sender<Result<T>>;

impl Sqlite {
    pub(crate) async fn open(path: PathBuf, client: &str) -> Result<Arc<Self>> {
        let deadline = Instant::now() + CLOSING;
        loop {
            let (path, client) = (path.clone(), client.to_owned());
            let opened = tokio::task::spawn_blocking(move || open(&path, &client)).await;
            match opened.map_err(|_| Error::Stopped)? {
                // The threads of an engine that was just dropped have work to finish.
                Err(Error::Locked { holder, .. }) if lock::ours(&holder) && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                other => return other,
            }
        }
    }

    pub(crate) async fn ping(&self) -> Result<()> {
        self.write(|reply| writer::Job::Apply {
            operation: "ping",
            mutations: Vec::new(),
            reply,
        })
        .await
    }

    pub(crate) async fn migrate(&self, catalogue: &Catalogue) -> Result<Vec<&'static str>> {
        let catalogue = catalogue.clone();
        self.write(|reply| writer::Job::Migrate { catalogue, reply })
            .await
    }

    pub(crate) async fn applied(&self) -> Result<BTreeMap<String, String>> {
        self.read(|reply| reader::Job::Applied { reply }).await
    }

    pub(crate) async fn apply(&self, operation: &'static str, mutations: Vec<Mutation>) -> Result<()> {
        let mut chunk = Vec::new();
        let mut bytes = 0;
        for mutation in mutations {
            bytes += mutation.size();
            chunk.push(mutation);
            if chunk.len() >= CHUNK.0 || bytes >= CHUNK.1 {
                let mutations = std::mem::take(&mut chunk);
                self.write(|reply| writer::Job::Apply {
                    operation,
                    mutations,
                    reply,
                })
                .await?;
                bytes = 0;
            }
        }
        if chunk.is_empty() {
            return Ok(());
        }
        self.write(|reply| writer::Job::Apply {
            operation,
            mutations: chunk,
            reply,
        })
        .await
    }

    pub(crate) async fn scan(&self, operation: &'static str, scan: Scan) -> Result<Vec<Row>> {
        self.read(|reply| reader::Job::Scan {
            operation,
            scan,
            reply,
        })
        .await
    }

    async fn write<T>(&self, job: impl FnOnce(Reply<T>) -> writer::Job) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.writer.send(job(reply)).await.map_err(|_| Error::Stopped)?;
        answer.await.map_err(|_| Error::Stopped)?
    }

    async fn read<T>(&self, job: impl FnOnce(Reply<T>) -> reader::Job) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.reader.send(job(reply)).await.map_err(|_| Error::Stopped)?;
        answer.await.map_err(|_| Error::Stopped)?
    }
}

fn open(path: &Path, client: &str) -> Result<Arc<Sqlite>> {
    let fault = |source| Error::Open {
        path: path.to_owned(),
        source,
    };
    if rusqlite::version_number() < SQLITE.0 {
        return Err(fault(
            format!("sqlite {} is older than {}", rusqlite::version(), SQLITE.1).into(),
        ));
    }
    let path = canonical(path).map_err(|error| fault(error.into()))?;
    let mut engines = ENGINES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(engine) = engines.get(&path).and_then(Weak::upgrade) {
        return Ok(engine);
    }
    let lock = Arc::new(Lock::take(&path, client)?);
    let connections = connect(&path).and_then(|writer| Ok((prepare(writer)?, connect(&path)?)));
    let (writer, reader) = connections.map_err(|error| fault(error.into()))?;
    reader
        .pragma_update(None, "query_only", true)
        .map_err(|error| fault(error.into()))?;
    let (write, writes) = mpsc::channel(QUEUE);
    let (read, reads) = mpsc::channel(QUEUE);
    // Both threads hold the lock: it is free when the last connection is closed.
    let held = lock.clone();
    thread("table-writer", move || {
        writer::run(writer, writes);
        drop(held);
    })
    .map_err(|error| fault(error.into()))?;
    thread("table-reader", move || {
        reader::run(reader, reads);
        drop(lock);
    })
    .map_err(|error| fault(error.into()))?;
    let engine = Arc::new(Sqlite {
        writer: write,
        reader: read,
    });
    engines.retain(|_, engine| engine.strong_count() > 0);
    engines.insert(path, Arc::downgrade(&engine));
    Ok(engine)
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map(drop)
}

/// One spelling of the path, its directory made where it is missing.
fn canonical(path: &Path) -> std::io::Result<PathBuf> {
    let parent = path.parent().unwrap_or_else(|| Path::new("/"));
    std::fs::create_dir_all(parent)?;
    path.canonicalize()
        .or_else(|_| Ok(parent.canonicalize()?.join(path.file_name().unwrap_or_default())))
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    // Another program may hold the file for a moment, to read or to copy it.
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "cache_size", -1024)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// Readies the file: acknowledged means synced, and the log does not grow without bound.
fn prepare(connection: Connection) -> rusqlite::Result<Connection> {
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "journal_size_limit", 8 << 20)?;
    connection.execute_batch(statements::MIGRATIONS_TABLE)?;
    Ok(connection)
}

/// An operation's failure: worth another try when the file was busy or the disk had no room.
fn failed(operation: &'static str, table: &str, error: rusqlite::Error) -> Error {
    let retryable = retryable(&error);
    Error::Operation {
        operation,
        table: table.to_owned(),
        retryable,
        source: error.into(),
    }
}

fn retryable(error: &rusqlite::Error) -> bool {
    use ErrorCode::{DatabaseBusy, DatabaseLocked, DiskFull, SystemIoFailure};
    matches!(
        error.sqlite_error_code(),
        Some(DatabaseBusy | DatabaseLocked | DiskFull | SystemIoFailure)
    )
}
