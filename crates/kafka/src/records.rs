//! Records inside a batch, for when it cannot be carried as it is: offsets and times are written anew, and what a record
//! holds (key, value, headers) stays the bytes it was.

use bytes::{Bytes, BytesMut};
use kafka_protocol::compression::{self as codec, Compressor, Decompressor};

use crate::batch::{Batch, HEADER, Header, Invalid, Sealing, seal};
use crate::frame::put_uvarint;

/// The codec of what is written here: of those that brokers know, the one that makes the line's bytes fewest.
const ZSTD: i16 = 4;
/// Its level, which is its own usual one.
const LEVEL: i32 = zstd::DEFAULT_COMPRESSION_LEVEL;

/// A record as it stands in a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Raw<'a> {
    attributes: u8,
    time: i64,
    offset: i64,
    /// Key, value and headers, each with its length.
    content: &'a [u8],
}

impl<'a> Raw<'a> {
    pub(crate) fn take(bytes: &mut &'a [u8]) -> Option<Self> {
        let length = usize::try_from(varint(bytes)?).ok()?;
        let (mut record, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        let (attributes, rest) = record.split_first()?;
        record = rest;
        Some(Self {
            attributes: *attributes,
            time: varint(&mut record)?,
            offset: varint(&mut record)?,
            content: record,
        })
    }

    pub(crate) fn key(&self) -> Option<&'a [u8]> {
        let mut content = self.content;
        let length = usize::try_from(varint(&mut content)?).ok()?;
        content.get(..length)
    }

    fn put(&self, buf: &mut BytesMut, time: i64, offset: i64) {
        let mut front = BytesMut::with_capacity(24);
        front.extend_from_slice(&[self.attributes]);
        put_varint(&mut front, time);
        put_varint(&mut front, offset);
        put_varint(buf, (front.len() + self.content.len()) as i64);
        buf.extend_from_slice(&front);
        buf.extend_from_slice(self.content);
    }
}

/// A batch made of another one's records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// The batch.
    pub batch: Batch,
    /// The source offset of each of its records.
    pub offsets: Vec<i64>,
}

/// Writes batches of one partition anew, as one where they fit: without records before `from`, without gaps, each record
/// with its own time, in batches of at most `limit` bytes (a single larger record still makes one).
pub fn rebuild(batches: &[Batch], from: i64, limit: usize) -> Result<Vec<Rebuilt>, Invalid> {
    let Some(first) = batches.first() else {
        return Ok(Vec::new());
    };
    let compression = first.header.compression();
    let bodies = batches
        .iter()
        .map(|batch| decompressed(batch.header.compression(), batch.bytes.slice(HEADER..)));
    let bodies = bodies.collect::<Result<Vec<_>, _>>()?;
    let mut rows = Vec::new();
    for (batch, body) in batches.iter().zip(&bodies) {
        let header = batch.header;
        let mut left = &body[..];
        for _ in 0..header.count {
            let row = Raw::take(&mut left).ok_or(Invalid::Records)?;
            let time = if header.append_time() {
                header.max_timestamp
            } else {
                header.base_timestamp + row.time
            };
            let offset = header.base_offset + row.offset;
            if offset >= from {
                rows.push((offset, time, row));
            }
        }
    }
    let (mut built, mut start, mut size) = (Vec::new(), 0, HEADER);
    for at in 0..rows.len() {
        // Times and offsets may take more bytes than before.
        let room = rows[at].2.content.len() + 26;
        if at > start && size + room > limit {
            built.push(build(&rows[start..at], compression)?);
            (start, size) = (at, HEADER);
        }
        size += room;
    }
    if start < rows.len() {
        built.push(build(&rows[start..], compression)?);
    }
    Ok(built)
}

fn build(rows: &[(i64, i64, Raw<'_>)], compression: i16) -> Result<Rebuilt, Invalid> {
    let base = rows.first().map_or(0, |(_, time, _)| *time);
    let newest = rows.iter().map(|(_, time, _)| *time).max().unwrap_or(base);
    let mut records = BytesMut::new();
    for (index, (_, time, row)) in (0_i64..).zip(rows) {
        row.put(&mut records, time - base, index);
    }
    let count = i32::try_from(rows.len()).map_err(|_| Invalid::Records)?;
    let sealing = Sealing {
        base_offset: 0,
        last_delta: count - 1,
        compression,
        base_timestamp: base,
        max_timestamp: newest,
        count,
    };
    Ok(Rebuilt {
        batch: seal(sealing, &compressed(compression, &records)?),
        offsets: rows.iter().map(|(offset, ..)| *offset).collect(),
    })
}

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Its place.
    pub offset: i64,
    /// Its time, in milliseconds since 1970.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Its headers, in order; a value that is null is empty.
    pub headers: Vec<(String, Bytes)>,
}

/// The records of a batch.
pub fn read(batch: &Batch) -> Result<Vec<Read>, Invalid> {
    let header = batch.header;
    let body = decompressed(header.compression(), batch.bytes.slice(HEADER..))?;
    let mut left = &body[..];
    let mut all = Vec::new();
    for _ in 0..header.count {
        let row = Raw::take(&mut left).ok_or(Invalid::Records)?;
        all.push(whole(&row, header).ok_or(Invalid::Records)?);
    }
    Ok(all)
}

fn whole(row: &Raw<'_>, header: Header) -> Option<Read> {
    let mut content = row.content;
    let (key, value) = (part(&mut content)?, part(&mut content)?);
    let mut headers = Vec::new();
    for _ in 0..varint(&mut content)? {
        let name = part(&mut content)??;
        let name = std::str::from_utf8(name).ok()?.to_owned();
        let value = part(&mut content)?.unwrap_or_default();
        headers.push((name, Bytes::copy_from_slice(value)));
    }
    Some(Read {
        offset: header.base_offset + row.offset,
        timestamp: if header.append_time() {
            header.max_timestamp
        } else {
            header.base_timestamp + row.time
        },
        key: key.map(Bytes::copy_from_slice),
        value: value.map(Bytes::copy_from_slice),
        headers,
    })
}

/// Bytes with their length before them; a length below zero is null.
fn part<'a>(content: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let Ok(length) = usize::try_from(varint(content)?) else {
        return Some(None);
    };
    let (part, rest) = content.split_at_checked(length)?;
    *content = rest;
    Some(Some(part))
}

/// A record to be written.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Its time, in milliseconds since 1970.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: &'a [(String, Bytes)],
}

/// A batch of these records, not compressed. None of none.
pub fn write(rows: &[Row<'_>]) -> Option<Batch> {
    written(rows, |_| None)
}

/// A batch of these records, compressed if that makes it smaller. None of none.
pub fn pack(rows: &[Row<'_>]) -> Option<Batch> {
    written(rows, |records| {
        let packed = compressed(ZSTD, records).ok()?;
        (packed.len() < records.len()).then_some((ZSTD, packed))
    })
}

/// A batch of records with offsets of their own, which grow.
pub(crate) fn sparse(rows: &[(i64, Row<'_>)], compression: i16) -> Result<Batch, Invalid> {
    let (first, last) = rows.first().zip(rows.last()).ok_or(Invalid::Records)?;
    if rows.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
        return Err(Invalid::Records);
    }
    let (records, sealing) = encoded(rows, compression).ok_or(Invalid::Records)?;
    let sealing = Sealing {
        base_offset: first.0,
        last_delta: i32::try_from(last.0 - first.0).map_err(|_| Invalid::Records)?,
        ..sealing
    };
    Ok(seal(sealing, &compressed(compression, &records)?))
}

fn written(rows: &[Row<'_>], pack: impl FnOnce(&[u8]) -> Option<(i16, Bytes)>) -> Option<Batch> {
    let rows: Vec<_> = (0_i64..).zip(rows.iter().copied()).collect();
    let (records, mut sealing) = encoded(&rows, 0)?;
    let packed = pack(&records);
    sealing.compression = packed.as_ref().map_or(0, |(compression, _)| *compression);
    Some(seal(
        sealing,
        packed.as_ref().map_or(&records, |(_, packed)| packed),
    ))
}

/// Records as they stand in a batch, each behind its offset, and what its header is to say. None of none.
fn encoded(rows: &[(i64, Row<'_>)], compression: i16) -> Option<(BytesMut, Sealing)> {
    let (from, base) = rows.first().map(|(offset, row)| (*offset, row.timestamp))?;
    let mut records = BytesMut::new();
    let mut content = BytesMut::new();
    for (offset, row) in rows {
        content.clear();
        for part in [row.key, row.value] {
            put_varint(&mut content, part.map_or(-1, |part| part.len() as i64));
            content.extend_from_slice(part.unwrap_or_default());
        }
        put_varint(&mut content, row.headers.len() as i64);
        for (name, value) in row.headers {
            for part in [name.as_bytes(), value] {
                put_varint(&mut content, part.len() as i64);
                content.extend_from_slice(part);
            }
        }
        let raw = Raw {
            attributes: 0,
            time: 0,
            offset: 0,
            content: &content,
        };
        raw.put(&mut records, row.timestamp - base, offset - from);
    }
    let count = i32::try_from(rows.len()).ok()?;
    let sealing = Sealing {
        base_offset: 0,
        last_delta: count - 1,
        compression,
        base_timestamp: base,
        max_timestamp: rows.iter().map(|(_, row)| row.timestamp).max()?,
        count,
    };
    Some((records, sealing))
}

fn varint(bytes: &mut &[u8]) -> Option<i64> {
    let (mut value, mut shift) = (0_u64, 0);
    loop {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
        shift += 7;
        (shift < 64).then_some(())?;
    }
}

fn put_varint(buf: &mut BytesMut, value: i64) {
    put_uvarint(buf, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

pub(crate) fn decompressed(compression: i16, mut body: Bytes) -> Result<Bytes, Invalid> {
    let all = |buf: &mut Bytes| Ok(buf.split_to(buf.len()));
    let plain = match compression {
        0 => Ok(body),
        1 => codec::Gzip::decompress(&mut body, all),
        2 => codec::Snappy::decompress(&mut body, all),
        3 => codec::Lz4::decompress(&mut body, all),
        4 => codec::Zstd::decompress(&mut body, all),
        _ => return Err(Invalid::Records),
    };
    plain.map_err(|_| Invalid::Records)
}

pub(crate) fn compressed(compression: i16, records: &[u8]) -> Result<Bytes, Invalid> {
    let mut out = BytesMut::new();
    let fill = |buf: &mut BytesMut| {
        buf.extend_from_slice(records);
        Ok(())
    };
    let done = match compression {
        0 => return Ok(Bytes::copy_from_slice(records)),
        1 => codec::Gzip::compress(&mut out, fill),
        2 => codec::Snappy::compress(&mut out, fill),
        3 => codec::Lz4::compress(&mut out, fill),
        // Who compresses without knowing how much sets up several megabytes; a checkpoint is some hundred bytes.
        4 => {
            return zstd::bulk::compress(records, LEVEL)
                .map_or(Err(Invalid::Records), |done| Ok(done.into()));
        }
        _ => return Err(Invalid::Records),
    };
    done.map_err(|_| Invalid::Records)?;
    Ok(out.freeze())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A batch as a compacted topic has it: rows at these offsets, behind this base.
    fn compacted(base: i64, offsets: &[i64], compression: i16) -> Batch {
        let values: Vec<_> = offsets.iter().map(|offset| format!("value {offset}")).collect();
        let rows = offsets.iter().zip(&values).map(|(offset, value)| {
            let row = Row {
                timestamp: 1_000 + offset,
                key: None,
                value: Some(value.as_bytes()),
                headers: &[],
            };
            (*offset, row)
        });
        // Compaction leaves a batch where it began.
        let gone = Row {
            timestamp: 1_000,
            key: None,
            value: None,
            headers: &[],
        };
        let first = (offsets[0] > base).then_some((base, gone));
        let whole = sparse(&first.into_iter().chain(rows).collect::<Vec<_>>(), 0).unwrap();
        let mut left = &whole.bytes[HEADER..];
        if first.is_some() {
            Raw::take(&mut left).unwrap();
        }
        let sealing = Sealing {
            base_offset: base,
            last_delta: whole.header.last_delta,
            compression,
            base_timestamp: whole.header.base_timestamp,
            max_timestamp: whole.header.max_timestamp,
            count: offsets.len() as i32,
        };
        seal(sealing, &compressed(compression, left).unwrap())
    }

    fn rows(batch: &Batch) -> Vec<(i64, i64, Vec<u8>)> {
        let plain = decompressed(batch.header.compression(), batch.bytes.slice(HEADER..)).unwrap();
        let mut left = &plain[..];
        let mut rows = Vec::new();
        while let Some(row) = Raw::take(&mut left) {
            rows.push((
                row.offset,
                batch.header.base_timestamp + row.time,
                row.content.to_vec(),
            ));
        }
        rows
    }

    #[test]
    fn batch_with_gaps_is_written_without_them_and_its_records_stay_what_they_were() {
        for compression in 0..=4 {
            let batch = compacted(10, &[11, 12, 15, 19], compression);
            assert!(!batch.header.plain());
            let built = rebuild(std::slice::from_ref(&batch), 12, usize::MAX).unwrap();
            assert_eq!(built.len(), 1);
            assert_eq!(built[0].offsets, [12, 15, 19]);
            let mut bytes = built[0].batch.bytes.clone();
            let read = Batch::take(&mut bytes).unwrap().unwrap();
            assert!(read.header.plain() && read.header.compression() == compression);
            let (before, after) = (rows(&batch), rows(&read));
            for (index, (offset, time, content)) in after.iter().enumerate() {
                assert_eq!(*offset, index as i64);
                assert_eq!((time, content), (&before[index + 1].1, &before[index + 1].2));
            }
        }
    }

    #[test]
    fn batch_is_cut_where_it_would_be_too_large() {
        let offsets: Vec<i64> = (0..100).collect();
        let built = rebuild(&[compacted(0, &offsets, 0)], 0, 400).unwrap();
        assert!(built.len() > 5);
        assert!(built.iter().all(|one| one.batch.bytes.len() <= 400));
        let all: Vec<i64> = built.iter().flat_map(|one| one.offsets.clone()).collect();
        assert_eq!(all, offsets);
        assert_eq!(rebuild(&[compacted(0, &offsets, 0)], 0, 1).unwrap().len(), 100);
    }

    #[test]
    fn records_with_the_time_of_arrival_keep_it_as_their_own() {
        let mut batch = compacted(0, &[0, 1], 0);
        batch.header.attributes |= 0x08;
        batch.header.max_timestamp = 7_777;
        let built = rebuild(&[batch], 0, usize::MAX).unwrap();
        assert!(rows(&built[0].batch).iter().all(|(_, time, _)| *time == 7_777));
        assert!(!built[0].batch.header.append_time());
    }

    #[test]
    fn what_was_written_is_read() {
        let row = |key, value| Row {
            timestamp: 1,
            key,
            value,
            headers: &[],
        };
        let batch = write(&[row(Some(b"k".as_slice()), None), row(None, Some(b"v".as_slice()))]).unwrap();
        let found: Vec<_> = read(&batch)
            .unwrap()
            .into_iter()
            .map(|row| (row.offset, row.key, row.value))
            .collect();
        let bytes = |text: &'static [u8]| Some(Bytes::from_static(text));
        assert_eq!(found, [(0, bytes(b"k"), None), (1, None, bytes(b"v"))]);
    }

    #[test]
    fn what_was_packed_is_read_whole_and_is_small_only_when_that_helps() {
        let headers = [
            ("same".to_owned(), Bytes::from_static(b"1")),
            ("same".to_owned(), Bytes::new()),
        ];
        let long = [b'x'; 2_000];
        for (value, headers, compression) in [(&b"v"[..], &[][..], 0), (&long, &headers, ZSTD)] {
            let row = |timestamp| Row {
                timestamp,
                key: None,
                value: Some(value),
                headers,
            };
            let batch = pack(&[row(5), row(3)]).unwrap();
            assert_eq!(batch.header.compression(), compression);
            assert!(batch.bytes.len() < 200);
            let found = read(&batch).unwrap();
            assert_eq!((found[0].timestamp, found[1].timestamp), (5, 3));
            assert!(found.iter().all(|found| found.headers == headers));
            assert!(found.iter().all(|found| found.value.as_deref() == Some(value)));
        }
    }

    #[test]
    fn nonsense_inside_a_batch_is_an_error() {
        let sealing = Sealing {
            base_offset: 0,
            last_delta: 1,
            compression: 0,
            base_timestamp: 0,
            max_timestamp: 0,
            count: 2,
        };
        assert_eq!(
            rebuild(&[seal(sealing, b"\x7f\x01")], 0, 100),
            Err(Invalid::Records)
        );
    }

    proptest! {
        #[test]
        fn varints_are_what_they_were(value: i64) {
            let mut buf = BytesMut::new();
            put_varint(&mut buf, value);
            prop_assert_eq!(varint(&mut &buf[..]), Some(value));
        }

        #[test]
        fn no_bytes_make_reading_panic(bytes: Vec<u8>) {
            let mut left = &bytes[..];
            while Raw::take(&mut left).is_some() {}
            let _any = Batch::take(&mut Bytes::from(bytes));
        }
    }
}
