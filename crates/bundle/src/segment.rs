//! Records in a file: each with its offset, time, key, value and headers, one after the other, packed as one by zstd.
//!
//! A record is: offset behind the one before it (the first: behind the span's beginning) · time, counted from the one
//! before it · key · value · number of headers · for each its name and value. Numbers are LEB128, the time zigzag; bytes
//! have their length plus one before them, and nothing is 0.

use std::sync::Arc;

use bytes::Bytes;
use common::broker::{Headers, Record};

use crate::document::Segment;

/// A segment is closed when it has this many bytes.
const FULL: usize = 16 << 20;
/// The most bytes that a segment may have unpacked: a full one and one more record.
const LIMIT: u64 = 256 << 20;
/// zstd's own default.
const LEVEL: i32 = 3;

/// Writes a segment.
#[derive(Debug)]
pub(crate) struct Pen {
    begin: i64,
    next: i64,
    time: i64,
    records: u64,
    plain: Vec<u8>,
}

impl Pen {
    pub(crate) fn new(begin: i64) -> Self {
        Self {
            begin,
            next: begin,
            time: 0,
            records: 0,
            plain: Vec::new(),
        }
    }

    /// Adds the next record.
    pub(crate) fn put(&mut self, record: &Record) {
        let out = &mut self.plain;
        number(out, (record.offset - self.next).cast_unsigned());
        let apart = record.timestamp.wrapping_sub(self.time);
        number(out, ((apart << 1) ^ (apart >> 63)).cast_unsigned());
        part(out, record.key.as_deref());
        part(out, record.value.as_deref());
        number(out, record.headers.len() as u64);
        for (name, value) in &record.headers {
            part(out, Some(name.as_bytes()));
            part(out, Some(value));
        }
        self.next = record.offset + 1;
        self.time = record.timestamp;
        self.records += 1;
    }

    /// The offset behind the last record.
    pub(crate) fn next(&self) -> i64 {
        self.next
    }

    pub(crate) fn full(&self) -> bool {
        self.plain.len() >= FULL
    }

    /// The segment that ends before `end`, and its file.
    pub(crate) fn finish(self, end: i64) -> std::io::Result<(Segment, Vec<u8>)> {
        let file = zstd::bulk::compress(&self.plain, LEVEL)?;
        let segment = Segment {
            hash: blake3::hash(&file).into(),
            bytes: file.len() as u64,
            plain: self.plain.len() as u64,
            records: self.records,
            begin: self.begin,
            end,
        };
        Ok((segment, file))
    }
}

/// The records of a file that has the segment's hash. None when they are not what the segment says.
pub(crate) fn read(segment: &Segment, file: &[u8], topic: &str, partition: i32) -> Option<Vec<Record>> {
    if segment.plain > LIMIT {
        return None;
    }
    let plain = zstd::bulk::decompress(file, usize::try_from(segment.plain).ok()?).ok()?;
    let mut left = Bytes::from(plain);
    let topic: Arc<str> = topic.into();
    let (mut next, mut time) = (segment.begin, 0_i64);
    let mut records = Vec::new();
    while !left.is_empty() {
        let offset = next.checked_add_unsigned(take(&mut left)?)?;
        let apart = take(&mut left)?;
        time = time.wrapping_add((apart >> 1).cast_signed() ^ -(apart & 1).cast_signed());
        let (key, value) = (bytes(&mut left)?, bytes(&mut left)?);
        let mut headers = Headers::new();
        for _ in 0..take(&mut left)? {
            let name = String::from_utf8(bytes(&mut left)??.to_vec()).ok()?;
            headers.push((name, bytes(&mut left)??));
        }
        if offset >= segment.end {
            return None;
        }
        next = offset + 1;
        records.push(Record {
            topic: topic.clone(),
            partition,
            offset,
            timestamp: time,
            key,
            value,
            headers,
        });
    }
    (records.len() as u64 == segment.records).then_some(records)
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn part(out: &mut Vec<u8>, part: Option<&[u8]>) {
    number(out, part.map_or(0, |part| part.len() as u64 + 1));
    out.extend_from_slice(part.unwrap_or_default());
}

fn take(left: &mut Bytes) -> Option<u64> {
    let (mut value, mut shift) = (0_u64, 0);
    loop {
        let byte = *left.first()?;
        drop(left.split_to(1));
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
        shift += 7;
        (shift < 64).then_some(())?;
    }
}

fn bytes(left: &mut Bytes) -> Option<Option<Bytes>> {
    let Some(length) = take(left)?.checked_sub(1) else {
        return Some(None);
    };
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= left.len())?;
    Some(Some(left.split_to(length)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn some_records() -> impl Strategy<Value = Vec<Record>> {
        let blob = || prop::option::of(prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from));
        let header = (
            "[a-zé]{0,9}",
            prop::collection::vec(any::<u8>(), 0..9).prop_map(Bytes::from),
        );
        let record = (
            1_i64..1000,
            any::<i64>(),
            blob(),
            blob(),
            prop::collection::vec(header, 0..3),
        );
        prop::collection::vec(record, 0..50).prop_map(|rows| {
            let mut offset = 6;
            let record = |(step, timestamp, key, value, headers): (i64, i64, _, _, _)| {
                offset += step;
                Record {
                    topic: "t".into(),
                    partition: 2,
                    offset,
                    timestamp,
                    key,
                    value,
                    headers,
                }
            };
            rows.into_iter().map(record).collect()
        })
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(records in some_records()) {
            let mut pen = Pen::new(7);
            records.iter().for_each(|record| pen.put(record));
            let end = pen.next() + 5;
            let (segment, file) = pen.finish(end).unwrap();
            prop_assert_eq!((segment.begin, segment.end), (7, end));
            prop_assert_eq!(read(&segment, &file, "t", 2), Some(records));
        }

        #[test]
        fn whatever_a_signed_file_holds_reading_it_ends(plain in prop::collection::vec(any::<u8>(), 0..200)) {
            let file = zstd::bulk::compress(&plain, LEVEL).unwrap();
            let segment = Segment {
                hash: blake3::hash(&file).into(),
                bytes: file.len() as u64,
                plain: plain.len() as u64,
                records: 1,
                begin: 0,
                end: 10,
            };
            drop(read(&segment, &file, "t", 0));
        }
    }
}
