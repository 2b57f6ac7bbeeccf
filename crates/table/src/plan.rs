//! Checks what callers ask for against the definitions, once for both engines.

use std::sync::Arc;

use crate::definition::{Column, Definition};
use crate::error::{Error, Result};
use crate::value::Value;
use crate::write::{Select, Write};

/// The largest page that a read returns, whatever it asks for.
const LARGEST_PAGE: usize = 10_000;
/// What Cassandra allows, about 20 years.
const LONGEST_TTL: u64 = 20 * 365 * 24 * 3600;
/// The longest part of a key, as in Cassandra.
const LONGEST_KEY: usize = 65_535;

/// One checked write.
#[derive(Debug, Clone)]
pub(crate) struct Mutation {
    pub(crate) definition: Arc<Definition>,
    /// The whole primary key, in the definition's order.
    pub(crate) key: Vec<Value>,
    pub(crate) timestamp: i64,
    pub(crate) change: Change,
}

/// What a checked write does to its row.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// Columns by their place in the definition, ascending; seconds to live.
    Upsert {
        cells: Vec<(usize, Value)>,
        ttl: Option<i32>,
    },
    Delete,
}

impl Mutation {
    pub(crate) fn upsert(
        definition: &Arc<Definition>,
        write: Write,
        now: impl FnOnce() -> i64,
    ) -> Result<Self> {
        let mut slots = vec![None; definition.columns.len()];
        for (name, value) in write.cells {
            let at = place(definition, name)?;
            let value = checked(definition, at, value)?;
            if slots[at].replace(value).is_some() {
                return Err(key_fault(definition, format!("column {name} is set twice")));
            }
        }
        let mut cells = Vec::new();
        let mut key = Vec::with_capacity(definition.key_columns());
        for (at, value) in slots.into_iter().enumerate() {
            match value {
                Some(value) if at < definition.key_columns() => key.push(value),
                Some(value) => cells.push((at, value)),
                None => {}
            }
        }
        whole(definition, key.len())?;
        let ttl = match write.ttl {
            Some(ttl) => {
                let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
                let fits = (1..=LONGEST_TTL).contains(&seconds);
                let seconds = i32::try_from(seconds).ok().filter(|_| fits);
                let fault = || {
                    key_fault(
                        definition,
                        format!("a ttl of {ttl:?} is not between 1 s and 20 years"),
                    )
                };
                Some(seconds.ok_or_else(fault)?)
            }
            None => None,
        };
        let timestamp = write.timestamp.unwrap_or_else(now);
        Ok(Self {
            definition: definition.clone(),
            key,
            timestamp,
            change: Change::Upsert { cells, ttl },
        })
    }

    pub(crate) fn delete(
        definition: &Arc<Definition>,
        key: &[(&str, Value)],
        timestamp: i64,
    ) -> Result<Self> {
        let key = ordered(definition, 0..definition.key_columns(), key)?;
        Ok(Self {
            definition: definition.clone(),
            key,
            timestamp,
            change: Change::Delete,
        })
    }

    /// The partition key.
    pub(crate) fn partition(&self) -> &[Value] {
        &self.key[..self.definition.partition_columns]
    }

    /// Roughly how many bytes it takes on the wire.
    pub(crate) fn size(&self) -> usize {
        let cells = match &self.change {
            Change::Upsert { cells, .. } => cells.iter().map(|(_, value)| value.size() + 4).sum(),
            Change::Delete => 0,
        };
        32 + cells + self.key.iter().map(|value| value.size() + 4).sum::<usize>()
    }
}

/// One checked read: of one row when `prefix` is the whole clustering key.
#[derive(Debug, Clone)]
pub(crate) struct Scan {
    pub(crate) definition: Arc<Definition>,
    pub(crate) partition: Vec<Value>,
    pub(crate) prefix: Vec<Value>,
    /// The clustering columns after the prefix, of the row to begin behind.
    pub(crate) after: Option<Vec<Value>>,
    pub(crate) limit: usize,
    /// Whether to read against the table's clustering order.
    pub(crate) backwards: bool,
    /// Columns by their place in the definition.
    pub(crate) columns: Vec<usize>,
    /// Their names.
    pub(crate) names: Arc<[String]>,
}

impl Scan {
    pub(crate) fn row(definition: &Arc<Definition>, key: &[(&str, Value)]) -> Result<Self> {
        let mut partition = ordered(definition, 0..definition.key_columns(), key)?;
        let prefix = partition.split_off(definition.partition_columns);
        let (columns, names) = columns(definition, None)?;
        let definition = definition.clone();
        Ok(Self {
            definition,
            partition,
            prefix,
            after: None,
            limit: 1,
            backwards: false,
            columns,
            names,
        })
    }

    pub(crate) fn partition(definition: &Arc<Definition>, select: &Select) -> Result<Self> {
        let first = definition.partition_columns;
        let partition = ordered(definition, 0..first, &select.partition)?;
        let length = select.clustering_prefix.len();
        if length > definition.clustering_columns {
            return Err(key_fault(
                definition,
                "the prefix is longer than the clustering key".to_owned(),
            ));
        }
        let prefix = ordered(definition, first..first + length, &select.clustering_prefix)?;
        let after = match &select.after {
            Some(after) => Some(tail(definition, &prefix, after)?),
            None => None,
        };
        let (columns, names) = columns(definition, select.columns.as_deref())?;
        Ok(Self {
            definition: definition.clone(),
            partition,
            prefix,
            after,
            limit: select.limit.min(LARGEST_PAGE),
            backwards: select.descending,
            columns,
            names,
        })
    }

    /// Whether rows come from the smallest clustering key up.
    pub(crate) fn ascending(&self) -> bool {
        self.definition.descending == self.backwards
    }

    /// Whether it cannot have a row.
    pub(crate) fn empty(&self) -> bool {
        self.limit == 0 || self.after.as_ref().is_some_and(Vec::is_empty)
    }
}

/// Checks the clustering key of the row before and takes the prefix off.
fn tail(definition: &Definition, prefix: &[Value], after: &[Value]) -> Result<Vec<Value>> {
    if after.len() != definition.clustering_columns || !after.starts_with(prefix) {
        let problem = "`after` must be a full clustering key that begins with the prefix";
        return Err(key_fault(definition, problem.to_owned()));
    }
    let first = definition.partition_columns;
    let values = after.iter().enumerate().skip(prefix.len());
    values
        .map(|(at, value)| checked(definition, first + at, value.clone()))
        .collect()
}

/// The values of the columns in `range`, in the definition's order, each named once and nothing else named.
fn ordered(
    definition: &Definition,
    range: std::ops::Range<usize>,
    key: &[(&str, Value)],
) -> Result<Vec<Value>> {
    let mut values = Vec::with_capacity(range.len());
    for at in range.clone() {
        let name = &definition.columns[at].name;
        let given = key.iter().find(|(given, _)| given == name);
        let fault = || key_fault(definition, format!("{name} is missing in the key"));
        let (_, value) = given.ok_or_else(fault)?;
        values.push(checked(definition, at, value.clone())?);
    }
    for (name, _) in key {
        if !range.contains(&place(definition, name)?) {
            return Err(key_fault(
                definition,
                format!("{name} does not belong in the key here"),
            ));
        }
    }
    if key.len() == range.len() {
        Ok(values)
    } else {
        Err(key_fault(definition, "a column is named twice".to_owned()))
    }
}

fn columns(definition: &Definition, names: Option<&[&str]>) -> Result<(Vec<usize>, Arc<[String]>)> {
    let places = match names {
        Some(names) => names
            .iter()
            .map(|name| place(definition, name))
            .collect::<Result<Vec<_>>>()?,
        None => (0..definition.columns.len()).collect(),
    };
    let names = places
        .iter()
        .map(|at| definition.columns[*at].name.clone())
        .collect();
    Ok((places, names))
}

fn place(definition: &Definition, column: &str) -> Result<usize> {
    definition.position(column).ok_or_else(|| Error::UnknownColumn {
        table: definition.name.clone(),
        column: column.to_owned(),
    })
}

fn checked(definition: &Definition, at: usize, value: Value) -> Result<Value> {
    let Column { name, kind } = &definition.columns[at];
    let mismatch = |found: String| Error::Mismatch {
        table: definition.name.clone(),
        column: name.clone(),
        expected: *kind,
        found,
    };
    let in_key = at < definition.key_columns();
    let alone = definition.partition_columns == 1 && at == 0;
    match &value {
        Value::Null if in_key => Err(key_fault(
            definition,
            format!("{name} is null, and part of the key"),
        )),
        Value::Null => Ok(value),
        _ if value.kind() != Some(*kind) => Err(mismatch(
            value.kind().map_or_else(String::new, |found| found.to_string()),
        )),
        // SQLite would store it as null.
        Value::Double(double) if double.is_nan() => Err(mismatch("not-a-number".to_owned())),
        // There is one zero: SQLite does not keep its sign.
        Value::Double(double) => Ok(Value::Double(double + 0.0)),
        _ if in_key && value.size() > LONGEST_KEY => {
            Err(key_fault(definition, format!("{name} is too long")))
        }
        // Cassandra has no partition with an empty key.
        _ if alone && value.size() == 0 => Err(key_fault(definition, format!("{name} is empty"))),
        _ => Ok(value),
    }
}

fn whole(definition: &Definition, given: usize) -> Result<()> {
    if given == definition.key_columns() {
        return Ok(());
    }
    Err(key_fault(
        definition,
        format!(
            "{given} of {} columns of the key are set",
            definition.key_columns()
        ),
    ))
}

fn key_fault(definition: &Definition, problem: String) -> Error {
    Error::Key {
        table: definition.name.clone(),
        problem,
    }
}
