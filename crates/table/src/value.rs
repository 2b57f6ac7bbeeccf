//! The values that cells hold.

use bytes::Bytes;

use crate::definition::Kind;

/// What a cell holds, or would hold.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing; written, it deletes the cell.
    Null,
    /// CQL `text`.
    Text(String),
    /// CQL `int`.
    Int(i32),
    /// CQL `bigint`.
    BigInt(i64),
    /// CQL `double`; not-a-number is refused when written.
    Double(f64),
    /// CQL `boolean`.
    Boolean(bool),
    /// CQL `blob`.
    Blob(Bytes),
    /// CQL `timestamp`, in milliseconds since 1970.
    Timestamp(i64),
}

/// What [`crate::Row`] answers for a column that it does not have.
pub(crate) const NULL: Value = Value::Null;

impl Value {
    /// A `timestamp` from milliseconds since 1970, or null.
    pub fn timestamp(ms: impl Into<Option<i64>>) -> Self {
        ms.into().map_or(Self::Null, Self::Timestamp)
    }

    /// Whether this is [`Value::Null`].
    pub fn null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The column type that holds this value; `None` for null, which fits every type.
    pub fn kind(&self) -> Option<Kind> {
        Some(match self {
            Self::Null => return None,
            Self::Text(_) => Kind::Text,
            Self::Int(_) => Kind::Int,
            Self::BigInt(_) => Kind::BigInt,
            Self::Double(_) => Kind::Double,
            Self::Boolean(_) => Kind::Boolean,
            Self::Blob(_) => Kind::Blob,
            Self::Timestamp(_) => Kind::Timestamp,
        })
    }

    /// How many bytes the value takes on the wire.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Null => 0,
            Self::Text(text) => text.len(),
            Self::Blob(blob) => blob.len(),
            Self::Int(_) => 4,
            Self::Boolean(_) => 1,
            Self::BigInt(_) | Self::Double(_) | Self::Timestamp(_) => 8,
        }
    }

    /// The bytes that Cassandra compares, unsigned, to settle a tie of timestamps: the value as it is on the wire. So
    /// -1 is larger than 1; what matters is that every replica, and every engine, settles it alike.
    pub(crate) fn wire(&self) -> Vec<u8> {
        match self {
            Self::Null => Vec::new(),
            Self::Text(text) => text.as_bytes().to_vec(),
            Self::Int(int) => int.to_be_bytes().to_vec(),
            Self::BigInt(int) | Self::Timestamp(int) => int.to_be_bytes().to_vec(),
            Self::Double(double) => double.to_be_bytes().to_vec(),
            Self::Boolean(boolean) => vec![u8::from(*boolean)],
            Self::Blob(blob) => blob.to_vec(),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<i32> for Value {
    fn from(int: i32) -> Self {
        Self::Int(int)
    }
}

impl From<i64> for Value {
    fn from(int: i64) -> Self {
        Self::BigInt(int)
    }
}

impl From<f64> for Value {
    fn from(double: f64) -> Self {
        Self::Double(double)
    }
}

impl From<bool> for Value {
    fn from(boolean: bool) -> Self {
        Self::Boolean(boolean)
    }
}

impl From<Vec<u8>> for Value {
    fn from(blob: Vec<u8>) -> Self {
        Self::Blob(blob.into())
    }
}

impl From<Bytes> for Value {
    fn from(blob: Bytes) -> Self {
        Self::Blob(blob)
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
