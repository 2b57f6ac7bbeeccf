//! What a read returns.

use std::sync::Arc;

use crate::value::{NULL, Value};

/// One row: the columns that were asked for. A cell that was never written, was deleted or has expired reads as null.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    columns: Arc<[String]>,
    values: Vec<Value>,
}

impl Row {
    pub(crate) fn new(columns: Arc<[String]>, values: Vec<Value>) -> Self {
        debug_assert_eq!(columns.len(), values.len());
        Self { columns, values }
    }

    /// The value of a column; null when it has none, or when it was not asked for.
    pub fn value(&self, column: &str) -> &Value {
        let at = self.columns.iter().position(|name| name == column);
        at.and_then(|at| self.values.get(at)).unwrap_or(&NULL)
    }

    /// Every column that was asked for, with its value.
    pub fn cells(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.columns.iter().map(String::as_str).zip(&self.values)
    }

    /// A `text` column.
    pub fn text(&self, column: &str) -> Option<&str> {
        match self.value(column) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// An `int` column.
    pub fn int(&self, column: &str) -> Option<i32> {
        match self.value(column) {
            Value::Int(int) => Some(*int),
            _ => None,
        }
    }

    /// A `bigint` column.
    pub fn bigint(&self, column: &str) -> Option<i64> {
        match self.value(column) {
            Value::BigInt(int) => Some(*int),
            _ => None,
        }
    }

    /// A `double` column.
    pub fn double(&self, column: &str) -> Option<f64> {
        match self.value(column) {
            Value::Double(double) => Some(*double),
            _ => None,
        }
    }

    /// A `boolean` column.
    pub fn boolean(&self, column: &str) -> Option<bool> {
        match self.value(column) {
            Value::Boolean(boolean) => Some(*boolean),
            _ => None,
        }
    }

    /// A `blob` column.
    pub fn blob(&self, column: &str) -> Option<&[u8]> {
        match self.value(column) {
            Value::Blob(blob) => Some(blob),
            _ => None,
        }
    }

    /// A `timestamp` column, in milliseconds since 1970.
    pub fn timestamp(&self, column: &str) -> Option<i64> {
        match self.value(column) {
            Value::Timestamp(ms) => Some(*ms),
            _ => None,
        }
    }
}
