//! What a caller asks for: a write of one row, a read of one partition.

use std::time::Duration;

use crate::value::Value;

/// An upsert of one row: its key, and the columns to set. Columns that are not named stay as they are.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    /// The table.
    pub table: &'static str,
    /// The whole primary key and any other columns, in any order. A null deletes the cell.
    pub cells: Vec<(&'static str, Value)>,
    /// The write timestamp in microseconds since 1970; `None` is now. Give the record's own where a replay could
    /// overwrite something newer.
    pub timestamp: Option<i64>,
    /// How long the cells and the row's marker live, in whole seconds (rounded up), from when the engine applies the
    /// write; `None` is for ever.
    pub ttl: Option<Duration>,
}

impl Write {
    /// An upsert to `table`, of nothing yet.
    pub fn to(table: &'static str) -> Self {
        Self {
            table,
            cells: Vec::new(),
            timestamp: None,
            ttl: None,
        }
    }

    /// Sets a column, of the key or not.
    #[must_use]
    pub fn set(mut self, column: &'static str, value: impl Into<Value>) -> Self {
        self.cells.push((column, value.into()));
        self
    }

    /// Gives the write timestamp, in microseconds since 1970.
    #[must_use]
    pub fn at(mut self, micros: i64) -> Self {
        self.timestamp = Some(micros);
        self
    }

    /// Lets the cells and the row's marker expire.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }
}

/// A read of one partition, or of a part of it, in clustering order.
#[derive(Debug, Clone, PartialEq)]
pub struct Select {
    /// The table.
    pub table: &'static str,
    /// The whole partition key, in any order.
    pub partition: Vec<(&'static str, Value)>,
    /// The first clustering columns, where only the rows with these values are wanted; in the order of the key.
    pub clustering_prefix: Vec<(&'static str, Value)>,
    /// The clustering key of the last row of the page before: only what follows it is read. The full clustering key,
    /// the values of the prefix included.
    pub after: Option<Vec<Value>>,
    /// How many rows at most: 1,000 unless told.
    pub limit: usize,
    /// Whether to read the clustering order backwards.
    pub descending: bool,
    /// The columns to read; `None` is all.
    pub columns: Option<Vec<&'static str>>,
}

impl Select {
    /// A read of `table`, whose partition is to be named.
    pub fn from(table: &'static str) -> Self {
        Self {
            table,
            partition: Vec::new(),
            clustering_prefix: Vec::new(),
            after: None,
            limit: 1000,
            descending: false,
            columns: None,
        }
    }

    /// Gives one column of the partition key.
    #[must_use]
    pub fn partition(mut self, column: &'static str, value: impl Into<Value>) -> Self {
        self.partition.push((column, value.into()));
        self
    }

    /// Gives the next clustering column: only rows with this value are read.
    #[must_use]
    pub fn prefix(mut self, column: &'static str, value: impl Into<Value>) -> Self {
        self.clustering_prefix.push((column, value.into()));
        self
    }

    /// Reads only what follows the row with this full clustering key.
    #[must_use]
    pub fn after(mut self, clustering_key: Vec<Value>) -> Self {
        self.after = Some(clustering_key);
        self
    }

    /// Reads at most this many rows.
    #[must_use]
    pub fn limit(mut self, rows: usize) -> Self {
        self.limit = rows;
        self
    }

    /// Reads the clustering order backwards.
    #[must_use]
    pub fn descending(mut self) -> Self {
        self.descending = true;
        self
    }

    /// Reads only these columns.
    #[must_use]
    pub fn columns(mut self, columns: &[&'static str]) -> Self {
        self.columns = Some(columns.to_vec());
        self
    }
}
