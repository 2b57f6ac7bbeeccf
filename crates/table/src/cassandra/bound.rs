//! Values on their way to the driver and back.

use scylla::cluster::metadata::ColumnType;
use scylla::serialize::SerializationError;
use scylla::serialize::value::SerializeValue;
use scylla::serialize::writers::{CellWriter, WrittenCellProof};
use scylla::value::{CqlTimestamp, CqlValue};

use crate::plan::{Change, Mutation, Scan};
use crate::value::Value;

/// What is bound to one mark of a statement.
#[derive(Debug)]
pub(super) enum Bound<'a> {
    Value(&'a Value),
    /// Leaves the cell, or the option, as it is.
    Unset,
    BigInt(i64),
    Int(i32),
}

impl SerializeValue for Bound<'_> {
    fn serialize<'b>(
        &self,
        kind: &ColumnType<'_>,
        writer: CellWriter<'b>,
    ) -> Result<WrittenCellProof<'b>, SerializationError> {
        match self {
            Self::Unset => Ok(writer.set_unset()),
            Self::BigInt(int) => int.serialize(kind, writer),
            Self::Int(int) => int.serialize(kind, writer),
            Self::Value(value) => match value {
                Value::Null => Ok(writer.set_null()),
                Value::Text(text) => text.serialize(kind, writer),
                Value::Int(int) => int.serialize(kind, writer),
                Value::BigInt(int) => int.serialize(kind, writer),
                Value::Double(double) => double.serialize(kind, writer),
                Value::Boolean(boolean) => boolean.serialize(kind, writer),
                Value::Blob(blob) => blob.as_ref().serialize(kind, writer),
                Value::Timestamp(ms) => CqlTimestamp(*ms).serialize(kind, writer),
            },
        }
    }
}

/// What a write binds to the statement of its kind.
pub(super) fn mutation(mutation: &Mutation) -> Vec<Bound<'_>> {
    let timestamp = Bound::BigInt(mutation.timestamp);
    let key = mutation.key.iter().map(Bound::Value);
    match &mutation.change {
        Change::Delete => std::iter::once(timestamp).chain(key).collect(),
        Change::Upsert { cells, ttl } => {
            let mut bound = key.collect::<Vec<_>>();
            bound.resize_with(mutation.definition.columns.len(), || Bound::Unset);
            for (place, value) in cells {
                bound[*place] = Bound::Value(value);
            }
            bound.push(timestamp);
            bound.push(ttl.map_or(Bound::Unset, Bound::Int));
            bound
        }
    }
}

/// What a read binds to its statement.
pub(super) fn scan(scan: &Scan) -> Vec<Bound<'_>> {
    let values = scan
        .partition
        .iter()
        .chain(&scan.prefix)
        .chain(scan.after.iter().flatten());
    let limit = Bound::Int(i32::try_from(scan.limit).unwrap_or(i32::MAX));
    values.map(Bound::Value).chain([limit]).collect()
}

/// A value that was read.
pub(super) fn value(found: Option<CqlValue>) -> Result<Value, String> {
    Ok(match found {
        None | Some(CqlValue::Empty) => Value::Null,
        Some(CqlValue::Text(text) | CqlValue::Ascii(text)) => Value::Text(text),
        Some(CqlValue::Int(int)) => Value::Int(int),
        Some(CqlValue::BigInt(int)) => Value::BigInt(int),
        Some(CqlValue::Double(double)) => Value::Double(double),
        Some(CqlValue::Boolean(boolean)) => Value::Boolean(boolean),
        Some(CqlValue::Blob(blob)) => Value::Blob(blob.into()),
        Some(CqlValue::Timestamp(CqlTimestamp(ms))) => Value::Timestamp(ms),
        Some(other) => return Err(format!("a value of a type that no definition has: {other:?}")),
    })
}
