//! What can go wrong, and whether asking again may help.

use std::path::PathBuf;
use std::time::Duration;

use crate::definition::Kind;

/// The cause below an error, from SQLite, the driver or the system.
pub(crate) type Source = Box<dyn std::error::Error + Send + Sync>;

/// The result of an operation on a table.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed operation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting has no usable value.
    #[error("table settings: {problem}")]
    Settings {
        /// What is wrong, and what to set.
        problem: String,
    },
    /// Another process has the file.
    #[error("{} is held by {holder}; stop it, or use its API", path.display())]
    Locked {
        /// The database file.
        path: PathBuf,
        /// The process that holds it: its id and program.
        holder: String,
    },
    /// The file cannot be opened, or is not what it should be.
    #[error("cannot open {}", path.display())]
    Open {
        /// The database file.
        path: PathBuf,
        /// Why.
        source: Source,
    },
    /// No node answered in time.
    #[error("cannot reach cassandra at {hosts} within {within:?} (hint: is it up? make engines-up)")]
    Unreachable {
        /// The contact points.
        hosts: String,
        /// The setting `connect_timeout`.
        within: Duration,
        /// The last attempt's error.
        source: Source,
    },
    /// A node answered, and did not let this session in.
    #[error("cassandra at {hosts} refuses the session (hint: check username and password)")]
    Refused {
        /// The contact points.
        hosts: String,
        /// The node's answer.
        source: Source,
    },
    /// A migration is not of the CQL subset that both engines understand.
    #[error("migration {migration}, line {line}: {problem}")]
    Definition {
        /// The migration's name.
        migration: String,
        /// The line, from 1.
        line: usize,
        /// What was found and what was expected.
        problem: String,
    },
    /// Tables are missing.
    #[error("migration {migration} is not applied (hint: run `fieldline init`)")]
    NotMigrated {
        /// The first migration that is missing.
        migration: String,
    },
    /// A migration that was applied has another text now.
    #[error(
        "migration {migration} was applied with another text (hint: restore it, and write a new migration)"
    )]
    MigrationChanged {
        /// The migration's name.
        migration: String,
    },
    /// Applying, or looking up, migrations failed.
    #[error("cannot apply {migration}")]
    Migrate {
        /// The migration's name, or what was being looked up.
        migration: String,
        /// Whether asking again may help.
        retryable: bool,
        /// Why.
        source: Source,
    },
    /// The session was not prepared for this table.
    #[error("unknown table {table}")]
    UnknownTable {
        /// The table.
        table: String,
    },
    /// The table has no such column.
    #[error("table {table} has no column {column}")]
    UnknownColumn {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// A value is not of its column's type.
    #[error("{table}.{column} is {expected}, not {found}")]
    Mismatch {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// The column's type.
        expected: Kind,
        /// The value's type, or what else is wrong with it.
        found: String,
    },
    /// The key is not whole, or a part of it cannot be a key.
    #[error("table {table}: {problem}")]
    Key {
        /// The table.
        table: String,
        /// What is wrong with the key.
        problem: String,
    },
    /// An operation failed.
    #[error("{operation} of table {table} failed")]
    Operation {
        /// `upsert`, `get`, `select`, `delete` or `ping`.
        operation: &'static str,
        /// The table.
        table: String,
        /// Whether asking again may help.
        retryable: bool,
        /// Why.
        source: Source,
    },
    /// The embedded engine's thread has ended.
    #[error("the embedded table engine has stopped")]
    Stopped,
}

impl Error {
    /// Whether the same call may succeed later: the engine was out of reach, overloaded or too slow. Everything else
    /// is a fault of the schema, the settings or the program, and comes back the same.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Locked { .. } | Self::Unreachable { .. } => true,
            Self::Migrate { retryable, .. } | Self::Operation { retryable, .. } => *retryable,
            _ => false,
        }
    }
}
