//! The embedded broker's tables, and how its connections are set up.
//!
//! A record's rowid is its partition's number and its offset in one integer, so that reading a partition is a walk
//! along the table's own tree and no index is kept. Values come last in a row: looking at keys leaves them untouched.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

/// The first version without a rare corruption of the write-ahead log.
const OLDEST_SQLITE: i32 = 3_051_003;
const FORMAT: i32 = 1;
/// Bits of a rowid that hold the offset.
const OFFSET_BITS: u32 = 40;

const TABLES: &str = "
CREATE TABLE topics(
    topic_id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    incarnation TEXT NOT NULL,
    partitions INTEGER NOT NULL,
    compacted INTEGER NOT NULL,
    retention_ms INTEGER,
    retention_bytes INTEGER,
    max_message_bytes INTEGER NOT NULL
);
CREATE TABLE partitions(
    partition_id INTEGER PRIMARY KEY AUTOINCREMENT,
    topic_id INTEGER,
    partition INTEGER NOT NULL,
    low INTEGER NOT NULL DEFAULT 0,
    high INTEGER NOT NULL DEFAULT 0,
    cleaned INTEGER NOT NULL DEFAULT 0,
    records INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    UNIQUE(topic_id, partition)
);
CREATE TABLE records(
    id INTEGER PRIMARY KEY,
    timestamp INTEGER NOT NULL,
    arrived INTEGER NOT NULL,
    key BLOB,
    headers BLOB,
    value BLOB
);
CREATE TABLE commits(
    group_name TEXT NOT NULL,
    topic_id INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,
    PRIMARY KEY(group_name, topic_id, partition)
) WITHOUT ROWID;
CREATE TABLE epochs(
    transactional_id TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL
) WITHOUT ROWID;
";

/// The rowid of a record.
pub(super) fn row_id(partition_id: i64, offset: i64) -> i64 {
    (partition_id << OFFSET_BITS) | offset
}

/// The offset in a rowid.
pub(super) fn offset_of(row_id: i64) -> i64 {
    row_id & ((1 << OFFSET_BITS) - 1)
}

/// Opens the file for its one writer, and makes the tables of a new one.
pub(super) fn open_writer(path: &Path) -> Result<Connection, crate::error::Source> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        return Err(format!("sqlite {} is older than 3.51.3", rusqlite::version()).into());
    }
    let mut connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "journal_size_limit", 16 * 1024 * 1024)?;
    configure(&connection)?;
    let transaction = connection.transaction()?;
    let format: i32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match format {
        0 => {
            transaction.execute_batch(TABLES)?;
            transaction.pragma_update(None, "user_version", FORMAT)?;
        }
        FORMAT => {}
        other => return Err(format!("the file has format {other}, this program knows {FORMAT}").into()),
    }
    transaction.commit()?;
    Ok(connection)
}

/// Opens the file for reading, beside the writer.
pub(super) fn open_reader(path: &Path) -> Result<Connection, crate::error::Source> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    configure(&connection)?;
    Ok(connection)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    // A site of ten thousand assets has to fit in 64 MiB with everything else: the operating system caches the file.
    connection.pragma_update(None, "cache_size", -1024)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}
