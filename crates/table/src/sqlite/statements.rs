//! The SQL that definitions turn into, and values on their way in and out.

use std::fmt::Write;

use rusqlite::types::{FromSqlError, ToSql, ToSqlOutput, ValueRef};

use crate::definition::{Column, Definition, Kind};
use crate::plan::Scan;
use crate::value::Value;

/// Which migrations were applied, as on Cassandra.
pub(super) const MIGRATIONS_TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (
    name TEXT PRIMARY KEY, statement TEXT NOT NULL, applied_at TIMESTAMP NOT NULL
)";

/// `CREATE TABLE` and the index of the rows that are to be swept. The types are CQL's own names: SQLite reads from them
/// the storage that we want, and whoever looks at the file reads what the column is.
pub(super) fn create(definition: &Definition) -> String {
    let mut sql = format!("CREATE TABLE \"{}\" (", definition.name);
    for (at, column) in definition.columns.iter().enumerate() {
        let required = if at < definition.key_columns() {
            " NOT NULL"
        } else {
            ""
        };
        push(&mut sql, format_args!("{}{required}, ", typed(column)));
    }
    push(
        &mut sql,
        format_args!("\"_stamps\" TEXT NOT NULL, \"_due\" BIGINT, PRIMARY KEY ("),
    );
    for (at, column) in definition.columns[..definition.key_columns()].iter().enumerate() {
        let comma = if at > 0 { ", " } else { "" };
        let order = if definition.descending && at >= definition.partition_columns {
            " DESC"
        } else {
            ""
        };
        push(&mut sql, format_args!("{comma}\"{}\"{order}", column.name));
    }
    let name = &definition.name;
    push(
        &mut sql,
        format_args!(")); CREATE INDEX \"{name}__due\" ON \"{name}\" (\"_due\") WHERE \"_due\" IS NOT NULL;"),
    );
    sql
}

pub(super) fn add(table: &str, column: &Column) -> String {
    format!("ALTER TABLE \"{table}\" ADD COLUMN {}", typed(column))
}

fn typed(column: &Column) -> String {
    format!(
        "\"{}\" {}",
        column.name,
        column.kind.to_string().to_ascii_uppercase()
    )
}

/// Finds a row by its key.
pub(super) fn find(definition: &Definition) -> String {
    let mut sql = format!("SELECT rowid, \"_stamps\" FROM \"{}\" WHERE ", definition.name);
    equal(&mut sql, &definition.columns[..definition.key_columns()]);
    sql
}

pub(super) fn value_of(definition: &Definition, place: usize) -> String {
    format!(
        "SELECT \"{}\" FROM \"{}\" WHERE rowid = ?",
        definition.columns[place].name, definition.name
    )
}

/// Binds the key, the changed values, the stamps and the second to sweep it.
pub(super) fn insert(definition: &Definition, changed: impl Iterator<Item = usize>) -> String {
    let mut sql = format!("INSERT INTO \"{}\" (", definition.name);
    let mut marks = String::new();
    for place in (0..definition.key_columns()).chain(changed) {
        push(&mut sql, format_args!("\"{}\", ", definition.columns[place].name));
        marks.push_str("?, ");
    }
    push(
        &mut sql,
        format_args!("\"_stamps\", \"_due\") VALUES ({marks}?, ?)"),
    );
    sql
}

/// Binds the changed values, the stamps, the second to sweep it, and the row.
pub(super) fn update(definition: &Definition, changed: impl Iterator<Item = usize>) -> String {
    let mut sql = format!("UPDATE \"{}\" SET ", definition.name);
    for place in changed {
        push(
            &mut sql,
            format_args!("\"{}\" = ?, ", definition.columns[place].name),
        );
    }
    sql.push_str("\"_stamps\" = ?, \"_due\" = ? WHERE rowid = ?");
    sql
}

/// Binds the partition key, the prefix and what follows it of the row to begin behind. There is no limit in it: rows
/// that are no longer there are skipped by the reader, which stops when it has enough.
pub(super) fn select(scan: &Scan) -> String {
    let definition = &scan.definition;
    let mut sql = "SELECT \"_stamps\"".to_owned();
    for place in &scan.columns {
        push(
            &mut sql,
            format_args!(", \"{}\"", definition.columns[*place].name),
        );
    }
    push(&mut sql, format_args!(" FROM \"{}\" WHERE ", definition.name));
    let fixed = definition.partition_columns + scan.prefix.len();
    equal(&mut sql, &definition.columns[..fixed]);
    let rest = &definition.columns[fixed..definition.key_columns()];
    if scan.after.is_some() {
        let names = rest
            .iter()
            .map(|column| format!("\"{}\"", column.name))
            .collect::<Vec<_>>()
            .join(", ");
        let marks = vec!["?"; rest.len()].join(", ");
        let than = if scan.ascending() { '>' } else { '<' };
        push(&mut sql, format_args!(" AND ({names}) {than} ({marks})"));
    }
    let direction = if scan.ascending() { "" } else { " DESC" };
    for (at, column) in rest.iter().enumerate() {
        let word = if at == 0 { " ORDER BY " } else { ", " };
        push(&mut sql, format_args!("{word}\"{}\"{direction}", column.name));
    }
    sql
}

fn equal(sql: &mut String, columns: &[Column]) {
    for (at, column) in columns.iter().enumerate() {
        let and = if at > 0 { " AND " } else { "" };
        push(sql, format_args!("{and}\"{}\" = ?", column.name));
    }
}

fn push(sql: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    sql.write_fmt(text).unwrap_or_default();
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Int(int) => ValueRef::Integer(i64::from(*int)),
            Self::BigInt(int) | Self::Timestamp(int) => ValueRef::Integer(*int),
            Self::Double(double) => ValueRef::Real(*double),
            Self::Boolean(boolean) => ValueRef::Integer(i64::from(*boolean)),
            Self::Blob(blob) => ValueRef::Blob(blob),
        }))
    }
}

/// Reads a value of a column back.
pub(super) fn value(kind: Kind, stored: ValueRef<'_>) -> rusqlite::Result<Value> {
    Ok(match (kind, stored) {
        (_, ValueRef::Null) => Value::Null,
        (Kind::Text, stored) => Value::Text(stored.as_str()?.to_owned()),
        (Kind::Int, stored) => {
            let wide = stored.as_i64()?;
            Value::Int(i32::try_from(wide).map_err(|_| FromSqlError::OutOfRange(wide))?)
        }
        (Kind::BigInt, stored) => Value::BigInt(stored.as_i64()?),
        (Kind::Timestamp, stored) => Value::Timestamp(stored.as_i64()?),
        (Kind::Boolean, stored) => Value::Boolean(stored.as_i64()? != 0),
        (Kind::Double, ValueRef::Integer(int)) => Value::Double(int as f64),
        (Kind::Double, stored) => Value::Double(stored.as_f64()?),
        (Kind::Blob, stored) => Value::Blob(stored.as_blob()?.to_vec().into()),
    })
}
