//! Confluent wire format: a zero byte, the schema id in four big-endian bytes, the Avro datum.

use std::collections::HashMap;
use std::sync::OnceLock;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{Schema, types::Value};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

/// The format's first byte.
const MAGIC: u8 = 0;
const HEADER_BYTES: usize = 5;

/// Every schema that this program reads, oldest version first; the last of a name is the one it writes.
const FILES: &[(&str, &str)] = &[
    ("asset", include_str!("../../../schemas/asset.v1.avsc")),
    (
        "asset_broadcast",
        include_str!("../../../schemas/asset_broadcast.v1.avsc"),
    ),
    (
        "asset_change",
        include_str!("../../../schemas/asset_change.v1.avsc"),
    ),
    (
        "asset_preview",
        include_str!("../../../schemas/asset_preview.v1.avsc"),
    ),
    (
        "asset_receipt",
        include_str!("../../../schemas/asset_receipt.v1.avsc"),
    ),
    (
        "asset_request",
        include_str!("../../../schemas/asset_request.v1.avsc"),
    ),
    (
        "asset_response",
        include_str!("../../../schemas/asset_response.v1.avsc"),
    ),
    ("checkpoint", include_str!("../../../schemas/checkpoint.v1.avsc")),
    ("checkpoint", include_str!("../../../schemas/checkpoint.v2.avsc")),
    ("checkpoint", include_str!("../../../schemas/checkpoint.v3.avsc")),
    ("link_path", include_str!("../../../schemas/link_path.v1.avsc")),
    (
        "service_control",
        include_str!("../../../schemas/service_control.v1.avsc"),
    ),
    (
        "service_history",
        include_str!("../../../schemas/service_history.v1.avsc"),
    ),
    (
        "service_log",
        include_str!("../../../schemas/service_log.v1.avsc"),
    ),
    (
        "service_setting",
        include_str!("../../../schemas/service_setting.v1.avsc"),
    ),
    (
        "service_status",
        include_str!("../../../schemas/service_status.v1.avsc"),
    ),
    (
        "site_status",
        include_str!("../../../schemas/site_status.v1.avsc"),
    ),
    (
        "site_status",
        include_str!("../../../schemas/site_status.v2.avsc"),
    ),
];

/// A record type that has a schema in `schemas/`.
pub trait Record: Serialize + DeserializeOwned {
    /// The schema file's name without version.
    const NAME: &'static str;
    /// The newest version's text, which is what is written.
    const SCHEMA: &'static str;
}

/// Bytes that are not a record of the wanted kind.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("{length} bytes are too short for Confluent wire format, which starts with five")]
    TooShort { length: usize },
    #[error("the first byte is {found:#04x}; Confluent wire format starts with 0x00")]
    Magic { found: u8 },
    #[error("schema id {id} is none of this program's; it may be newer than this program")]
    UnknownSchema { id: u32 },
    #[error("schema id {id} is a record of {found}; this topic holds {wanted}")]
    OtherRecord {
        id: u32,
        found: &'static str,
        wanted: &'static str,
    },
    #[error("the datum is not what schema {name} says")]
    Datum {
        name: &'static str,
        source: Box<apache_avro::Error>,
    },
    #[error("{extra} bytes follow the datum of schema {name}")]
    TrailingBytes { name: &'static str, extra: usize },
}

struct Known {
    name: &'static str,
    schema: Schema,
}

struct Registry {
    by_id: HashMap<u32, Known>,
    newest: HashMap<&'static str, u32>,
}

fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    #[expect(
        clippy::expect_used,
        reason = "the files are compiled in, and a test parses each"
    )]
    REGISTRY.get_or_init(|| {
        let mut registry = Registry {
            by_id: HashMap::new(),
            newest: HashMap::new(),
        };
        for (name, text) in FILES {
            let schema = Schema::parse_str(text).expect("each schema in schemas/ parses");
            let id = id_of(&schema);
            registry.newest.insert(name, id);
            registry.by_id.insert(id, Known { name, schema });
        }
        registry
    })
}

/// The first 31 bits of the SHA-256 of the schema's Parsing Canonical Form: positive in every language's `int`.
fn id_of(schema: &Schema) -> u32 {
    let digest = Sha256::digest(canonical_form(schema).as_bytes());
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]) & 0x7fff_ffff
}

/// The Parsing Canonical Form of Avro's specification. The library stops short of its first rule where a primitive had
/// a logical type: it leaves `{"type":"long"}` where the form has `"long"`.
fn canonical_form(schema: &Schema) -> String {
    let mut text = schema.canonical_form();
    for primitive in [
        "null", "boolean", "int", "long", "float", "double", "bytes", "string",
    ] {
        text = text.replace(
            &format!("{{\"type\":\"{primitive}\"}}"),
            &format!("\"{primitive}\""),
        );
    }
    text
}

/// The id that records of this type are written with.
pub fn schema_id<R: Record>() -> u32 {
    registry().newest[R::NAME]
}

/// Encodes a record with its newest schema.
///
/// # Errors
/// When a value does not fit its schema, which only a bug in this crate can cause.
pub fn encode<R: Record>(record: &R) -> Result<Vec<u8>, Error> {
    let id = schema_id::<R>();
    let mut bytes = Vec::with_capacity(256);
    bytes.push(MAGIC);
    bytes.extend_from_slice(&id.to_be_bytes());
    GenericDatumWriter::builder(&registry().by_id[&id].schema)
        .build()
        .and_then(|writer| writer.write_ser(&mut bytes, record))
        .map_err(|source| Error::Datum {
            name: R::NAME,
            source: Box::new(source),
        })?;
    Ok(bytes)
}

fn known(bytes: &[u8]) -> Result<(u32, &'static Known, &[u8]), Error> {
    let Some((header, datum)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Err(Error::TooShort { length: bytes.len() });
    };
    if header[0] != MAGIC {
        return Err(Error::Magic { found: header[0] });
    }
    let id = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
    let known = registry().by_id.get(&id).ok_or(Error::UnknownSchema { id })?;
    Ok((id, known, datum))
}

fn whole(name: &'static str, rest: &[u8]) -> Result<(), Error> {
    if rest.is_empty() {
        Ok(())
    } else {
        Err(Error::TrailingBytes {
            name,
            extra: rest.len(),
        })
    }
}

/// Decodes a record that any known version of its schema wrote.
///
/// # Errors
/// When the bytes are not such a record; each variant says what they are instead.
pub fn decode<R: Record>(bytes: &[u8]) -> Result<R, Error> {
    let (id, writer, mut datum) = known(bytes)?;
    if writer.name != R::NAME {
        return Err(Error::OtherRecord {
            id,
            found: writer.name,
            wanted: R::NAME,
        });
    }
    let newest = schema_id::<R>();
    let reader_schema = (id != newest).then(|| &registry().by_id[&newest].schema);
    let record = GenericDatumReader::builder(&writer.schema)
        .maybe_reader_schema(reader_schema)
        .build()
        .and_then(|reader| reader.read_deser(&mut datum))
        .map_err(|source| Error::Datum {
            name: R::NAME,
            source: Box::new(source),
        })?;
    whole(R::NAME, datum)?;
    Ok(record)
}

/// Decodes a record of any known kind for people and scripts: its schema's name and its fields.
///
/// # Errors
/// As [`decode`].
pub fn decode_json(bytes: &[u8]) -> Result<(&'static str, serde_json::Value), Error> {
    let (_, writer, mut datum) = known(bytes)?;
    let name = writer.name;
    let read = || -> Result<Value, apache_avro::Error> {
        GenericDatumReader::builder(&writer.schema)
            .build()?
            .read_value(&mut datum)
    };
    let value = {
        let mut read = read;
        read()
    }
    .map_err(|source| Error::Datum {
        name,
        source: Box::new(source),
    })?;
    whole(name, datum)?;
    Ok((name, json(value)))
}

fn json(value: Value) -> serde_json::Value {
    use serde_json::Value as Json;
    match value {
        Value::Null => Json::Null,
        Value::Boolean(flag) => flag.into(),
        Value::Int(number) => number.into(),
        Value::Long(number) | Value::TimestampMillis(number) => number.into(),
        Value::Float(number) => f64::from(number).into(),
        Value::Double(number) => number.into(),
        Value::String(text) | Value::Enum(_, text) => text.into(),
        Value::Bytes(bytes) => format!("{} bytes", bytes.len()).into(),
        Value::Union(_, inner) => json(*inner),
        Value::Array(items) => items.into_iter().map(json).collect(),
        Value::Map(entries) => Json::Object(
            entries
                .into_iter()
                .map(|(key, value)| (key, json(value)))
                .collect(),
        ),
        Value::Record(fields) => Json::Object(
            fields
                .into_iter()
                .map(|(key, value)| (key, json(value)))
                .collect(),
        ),
        other => format!("{other:?}").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked out by another implementation (Python's fastavro and hashlib), which must find the same id.
    #[test]
    fn ids_are_those_that_other_languages_derive() {
        let form = r#"{"name":"fieldline.AssetChange","type":"record","fields":[{"name":"asset_id","type":"string"},{"name":"writer","type":"string"},{"name":"changed_at","type":"long"}]}"#;
        let schema = &registry().by_id[&schema_id::<crate::AssetChange>()].schema;
        assert_eq!(canonical_form(schema), form);
        assert_eq!(schema_id::<crate::AssetChange>(), 1_391_988_920);
    }

    #[test]
    fn what_is_no_record_is_refused_with_its_reason() {
        use crate::AssetChange;
        let change = AssetChange {
            asset_id: crate::AssetId::derive("catalogue", "1"),
            writer: "test".into(),
            changed_at: 5,
        };
        let bytes = encode(&change).unwrap();
        assert_eq!(decode::<AssetChange>(&bytes).unwrap(), change);
        assert_eq!(decode_json(&bytes).unwrap().1["writer"], "test");
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(matches!(
            decode::<AssetChange>(&longer),
            Err(Error::TrailingBytes { extra: 1, .. })
        ));
        assert!(matches!(
            decode::<AssetChange>(&bytes[..bytes.len() - 3]),
            Err(Error::Datum { .. })
        ));
        assert!(matches!(
            decode::<AssetChange>(&bytes[..4]),
            Err(Error::TooShort { length: 4 })
        ));
        assert!(matches!(
            decode::<AssetChange>(b"{\"a\": 1}"),
            Err(Error::Magic { found: b'{' })
        ));
        assert!(matches!(
            decode::<AssetChange>(&[0, 0, 0, 0, 1, 2]),
            Err(Error::UnknownSchema { id: 1 })
        ));
        assert!(matches!(
            decode::<crate::SiteStatus>(&bytes),
            Err(Error::OtherRecord {
                wanted: "site_status",
                ..
            })
        ));
    }
}
