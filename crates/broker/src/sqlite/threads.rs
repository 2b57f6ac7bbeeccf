//! The threads that touch the file: one writer with group commit, and two readers.
//!
//! The writer takes everything that is queued, runs each piece of work in a savepoint of one transaction, commits, and
//! only then answers: acknowledged means synced. A piece that fails is undone alone; when SQLite itself gives up the
//! transaction (disk full, I/O error) or the commit fails, every piece of it is answered with that error.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rusqlite::Connection;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::groups::Groups;
use super::live::Topics;
use super::lock::Lock;
use super::schema;
use super::store::{Effects, Store};
use crate::error::{Error, Result, Source};

const QUEUE: usize = 1024;
const BATCH: usize = 256;
/// KiB of records that may wait for the writer.
const QUEUED_KIB: usize = 8 * 1024;
const READERS: usize = 2;

type Answer = Box<dyn FnOnce(Option<&str>) + Send>;
type Write = Box<dyn FnOnce(&mut Store<'_>) -> Answer + Send>;
type Read = Box<dyn FnOnce(&Connection) + Send>;

/// Handles to the threads; they end when this is dropped and their queues are empty.
#[derive(Debug)]
pub(super) struct Threads {
    writer: mpsc::Sender<Write>,
    readers: Vec<mpsc::Sender<Read>>,
    turn: AtomicUsize,
    room: Arc<Semaphore>,
}

impl Threads {
    pub(super) fn start(
        path: &Path,
        lock: Lock,
        topics: Arc<Topics>,
        groups: Arc<Groups>,
    ) -> Result<Self, Source> {
        let lock = Arc::new(lock);
        let connection = schema::open_writer(path)?;
        for live in Store::new(&connection, &mut Effects::default()).live_topics()? {
            topics.insert(live);
        }
        let (writer, queue) = mpsc::channel(QUEUE);
        let held = lock.clone();
        spawn("broker-writer", move || {
            write_loop(connection, queue, &topics, &groups);
            drop(held);
        })?;
        let mut readers = Vec::new();
        for _ in 0..READERS {
            let connection = schema::open_reader(path)?;
            let (reader, mut queue) = mpsc::channel::<Read>(QUEUE);
            let held = lock.clone();
            spawn("broker-reader", move || {
                while let Some(read) = queue.blocking_recv() {
                    read(&connection);
                }
                drop(connection);
                drop(held);
            })?;
            readers.push(reader);
        }
        Ok(Self {
            writer,
            readers,
            turn: AtomicUsize::new(0),
            room: Arc::new(Semaphore::new(QUEUED_KIB)),
        })
    }

    /// Queues work for the writer; the answer comes when it is durable. `bytes` is what the work holds in memory.
    pub(super) async fn submit<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce(&mut Store<'_>) -> Result<T> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T>>> {
        let kib = (bytes / 1024 + 1).min(QUEUED_KIB) as u32;
        let room = self
            .room
            .clone()
            .acquire_many_owned(kib)
            .await
            .map_err(|_| Error::Closed)?;
        let (write, answer) = write(work, room);
        self.writer.send(write).await.map_err(|_| Error::Closed)?;
        Ok(answer)
    }

    /// Runs work on the writer and waits until it is durable.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce(&mut Store<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.submit(bytes, work).await?.await.map_err(|_| Error::Closed)?
    }

    /// The same for a thread of its own.
    pub(super) fn write_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (write, answer) = write(work, ());
        self.writer.blocking_send(write).map_err(|_| Error::Closed)?;
        answer.blocking_recv().map_err(|_| Error::Closed)?
    }

    /// Queues work for a reader.
    pub(super) fn reader(&self) -> mpsc::Sender<Read> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.readers[turn % self.readers.len()].clone()
    }

    /// Runs work on a reader.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (read, answer) = read(work);
        self.reader().send(read).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }

    /// The same for a thread of its own.
    pub(super) fn read_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (read, answer) = read(work);
        self.reader().blocking_send(read).map_err(|_| Error::Closed)?;
        answer.blocking_recv().map_err(|_| Error::Closed)?
    }
}

/// Wraps work whose answer somebody waits for.
pub(super) fn read<T: Send + 'static>(
    work: impl FnOnce(&Connection) -> T + Send + 'static,
) -> (Read, oneshot::Receiver<T>) {
    let (tell, answer) = oneshot::channel();
    // Nobody may be waiting any more, which is the asker's right.
    let read = move |connection: &Connection| drop(tell.send(work(connection)));
    (Box::new(read), answer)
}

fn write<T: Send + 'static>(
    work: impl FnOnce(&mut Store<'_>) -> Result<T> + Send + 'static,
    room: impl Send + 'static,
) -> (Write, oneshot::Receiver<Result<T>>) {
    let (tell, answer) = oneshot::channel();
    let write: Write = Box::new(move |store| {
        let result = store.savepoint(work);
        Box::new(move |failed| {
            drop(room);
            let result = match failed {
                Some(text) if result.is_ok() => Err(store_error(text)),
                _ => result,
            };
            drop(tell.send(result));
        })
    });
    (write, answer)
}

fn store_error(text: &str) -> Error {
    Error::Send {
        topic: "the broker's file".into(),
        source: text.to_owned().into(),
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new()
        .name(name.into())
        .stack_size(512 * 1024)
        .spawn(work)
        .map(drop)
}

fn write_loop(connection: Connection, mut queue: mpsc::Receiver<Write>, topics: &Topics, groups: &Groups) {
    let mut batch = Vec::with_capacity(BATCH);
    while queue.blocking_recv_many(&mut batch, BATCH) > 0 {
        let mut effects = Effects::default();
        let mut answers = Vec::with_capacity(batch.len());
        let mut failed = connection.execute_batch("BEGIN IMMEDIATE").err();
        for work in batch.drain(..) {
            let mut store = Store::new(&connection, &mut effects);
            answers.push(work(&mut store));
        }
        if failed.is_none() {
            // After a full disk SQLite may have rolled everything back by itself; committing then fails too.
            failed = connection.execute_batch("COMMIT").err();
        }
        if failed.is_some()
            && !connection.is_autocommit()
            && let Err(error) = connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "broker file cannot be rolled back");
        }
        let failed = failed.map(|error| error.to_string());
        match &failed {
            None => effects.publish(topics, groups),
            Some(error) => tracing::error!(%error, "broker file cannot be written"),
        }
        for answer in answers {
            answer(failed.as_deref());
        }
    }
}
