//! A record batch's header: read, judged, and written anew for another producer.
//!
//! A batch is carried as it is when its records are all there, one offset after the other, with times of their own, and
//! nobody has to leave some of them out. Then only the producer's part of the header changes: producer id, epoch, first
//! sequence and the mark of a transaction; the checksum is brought into line without reading the records twice.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::old;

/// Bytes before the length counts.
pub(crate) const BEFORE_LENGTH: usize = 12;
/// Bytes of a whole header.
pub(crate) const HEADER: usize = 61;
const MAGIC: usize = 16;
const CRC: usize = 17;
/// The first byte that the checksum covers.
pub(crate) const COVERED: usize = 21;
const PRODUCER: usize = 43;

const COMPRESSION: i16 = 0x07;
const APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;
const DELETE_HORIZON: i16 = 0x40;

/// What is wrong with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It ends before its own length says.
    #[error("it is cut short")]
    Short,
    /// The checksum is another one.
    #[error("its checksum is wrong")]
    Checksum,
    /// Its fields contradict each other.
    #[error("its header makes no sense")]
    Header,
    /// Its records cannot be read.
    #[error("its records cannot be read")]
    Records,
}

/// The fields of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The offset of its first record (there may be none there any more).
    pub base_offset: i64,
    /// The last offset it stands for, counted from the first.
    pub last_delta: i32,
    /// Compression and marks.
    pub attributes: i16,
    /// The time that the records' times are counted from.
    pub base_timestamp: i64,
    /// The newest of the records' times.
    pub max_timestamp: i64,
    /// Who wrote it; -1 is nobody in particular.
    pub producer_id: i64,
    /// How many records it has.
    pub count: i32,
}

impl Header {
    /// The offset behind it.
    pub fn next_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_delta) + 1
    }

    /// Whether it is of a transaction.
    pub fn transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether it is a marker, not data.
    pub fn control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Whether its records have the time of their arrival.
    pub fn append_time(&self) -> bool {
        self.attributes & APPEND_TIME != 0
    }

    /// How its records are compressed: 0 not, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    pub fn compression(&self) -> i16 {
        self.attributes & COMPRESSION
    }

    /// Whether a producer may have written it just so, which is what a broker takes.
    pub fn plain(&self) -> bool {
        self.attributes & (APPEND_TIME | CONTROL | DELETE_HORIZON) == 0
            && self.count > 0
            && self.count - 1 == self.last_delta
    }
}

/// A whole batch of the format since Kafka 0.11, its checksum right; one of an older format is written anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Its header's fields.
    pub header: Header,
    /// All of it.
    pub bytes: Bytes,
    /// The checksum of what follows the header.
    rest: u32,
}

impl Batch {
    /// Takes the first batch off the bytes of an answer; none when what is left is cut short, as answers may be.
    pub fn take(bytes: &mut Bytes) -> Result<Option<Self>, Invalid> {
        if bytes.len() < BEFORE_LENGTH {
            return Ok(None);
        }
        let length = (&bytes[8..BEFORE_LENGTH]).get_i32();
        let length = usize::try_from(length).map_err(|_| Invalid::Header)? + BEFORE_LENGTH;
        if bytes.len() < length {
            return Ok(None);
        }
        if length <= MAGIC {
            return Err(Invalid::Header);
        }
        match bytes[MAGIC] {
            2 if length >= HEADER => Self::of(bytes.split_to(length)).map(Some),
            0 | 1 => old::renewed(bytes.split_to(length)).map(Some),
            _ => Err(Invalid::Header),
        }
    }

    /// One whole batch.
    pub(crate) fn of(bytes: Bytes) -> Result<Self, Invalid> {
        let mut at = &bytes[..HEADER];
        let base_offset = at.get_i64();
        at.advance(CRC - 8);
        let crc = at.get_u32();
        let header = Header {
            base_offset,
            attributes: at.get_i16(),
            last_delta: at.get_i32(),
            base_timestamp: at.get_i64(),
            max_timestamp: at.get_i64(),
            producer_id: at.get_i64(),
            count: {
                at.advance(6);
                at.get_i32()
            },
        };
        let rest = crc32c::crc32c(&bytes[HEADER..]);
        if combined(&bytes[COVERED..HEADER], rest, bytes.len() - HEADER) != crc {
            return Err(Invalid::Checksum);
        }
        if header.base_offset < 0 || header.last_delta < 0 || header.count < 0 {
            return Err(Invalid::Header);
        }
        Ok(Self { header, bytes, rest })
    }

    /// The header that another producer would have written: its part of the header before, the records after it.
    pub(crate) fn under(&self, producer_id: i64, epoch: i16, sequence: i32) -> (Bytes, Bytes) {
        let mut head = BytesMut::from(&self.bytes[..HEADER]);
        // The offset within a request, and no leader's epoch.
        head[..8].fill(0);
        head[BEFORE_LENGTH..MAGIC].fill(0xff);
        let attributes = self.header.attributes | TRANSACTIONAL;
        head[COVERED..COVERED + 2].copy_from_slice(&attributes.to_be_bytes());
        let mut producer = &mut head[PRODUCER..PRODUCER + 14];
        producer.put_i64(producer_id);
        producer.put_i16(epoch);
        producer.put_i32(sequence);
        let crc = combined(&head[COVERED..], self.rest, self.bytes.len() - HEADER);
        head[CRC..COVERED].copy_from_slice(&crc.to_be_bytes());
        (head.freeze(), self.bytes.slice(HEADER..))
    }
}

/// The checksum of a header's covered part and of what follows it.
fn combined(head: &[u8], rest: u32, length: usize) -> u32 {
    crc32c::crc32c_combine(crc32c::crc32c(head), rest, length)
}

/// What a new batch needs beside its records.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sealing {
    pub(crate) base_offset: i64,
    pub(crate) last_delta: i32,
    pub(crate) compression: i16,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) count: i32,
}

/// A batch around encoded records.
pub(crate) fn seal(sealing: Sealing, records: &[u8]) -> Batch {
    let mut bytes = BytesMut::with_capacity(HEADER + records.len());
    bytes.put_i64(sealing.base_offset);
    bytes.put_i32(i32::try_from(HEADER - BEFORE_LENGTH + records.len()).unwrap_or(i32::MAX));
    bytes.put_i32(-1);
    bytes.put_i8(2);
    bytes.put_u32(0);
    bytes.put_i16(sealing.compression);
    bytes.put_i32(sealing.last_delta);
    bytes.put_i64(sealing.base_timestamp);
    bytes.put_i64(sealing.max_timestamp);
    bytes.put_i64(-1);
    bytes.put_i16(-1);
    bytes.put_i32(-1);
    bytes.put_i32(sealing.count);
    bytes.put_slice(records);
    let rest = crc32c::crc32c(records);
    let crc = combined(&bytes[COVERED..HEADER], rest, records.len());
    bytes[CRC..COVERED].copy_from_slice(&crc.to_be_bytes());
    Batch {
        header: Header {
            base_offset: sealing.base_offset,
            last_delta: sealing.last_delta,
            attributes: sealing.compression,
            base_timestamp: sealing.base_timestamp,
            max_timestamp: sealing.max_timestamp,
            producer_id: -1,
            count: sealing.count,
        },
        bytes: bytes.freeze(),
        rest,
    }
}

/// What a marker says; none when it is another kind of control record.
pub(crate) fn marker(batch: &Batch) -> Option<Marker> {
    let mut records = &batch.bytes[HEADER..];
    let row = crate::records::Raw::take(&mut records)?;
    let mut key = row.key()?;
    (key.len() >= 4).then_some(())?;
    key.advance(2);
    match key.get_i16() {
        0 => Some(Marker::Aborted),
        1 => Some(Marker::Committed),
        _ => None,
    }
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marker {
    Aborted,
    Committed,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{Row, write};

    fn batch() -> Batch {
        let row = |value| Row {
            timestamp: 5,
            key: Some(b"k"),
            value: Some(value),
            headers: &[],
        };
        write(&[row(b"one".as_slice()), row(b"two")]).unwrap()
    }

    fn whole(parts: (Bytes, Bytes)) -> Bytes {
        [parts.0, parts.1].concat().into()
    }

    #[test]
    fn another_producers_header_is_valid_and_the_records_are_the_same_bytes() {
        let batch = batch();
        let mut bytes = whole(batch.under(77, 3, 1_000));
        assert_eq!(bytes[HEADER..], batch.bytes[HEADER..]);
        assert_eq!(
            crc32c::crc32c(&bytes[COVERED..]),
            (&bytes[CRC..COVERED]).get_u32()
        );
        assert_eq!((&bytes[PRODUCER + 10..]).get_i32(), 1_000);
        let read = Batch::take(&mut bytes).unwrap().unwrap();
        assert!(read.header.transactional() && read.header.plain());
        assert_eq!((read.header.producer_id, read.header.count), (77, 2));
        assert!(bytes.is_empty());
    }

    #[test]
    fn flipped_bit_is_noticed() {
        let bytes = batch().bytes;
        for at in [COVERED, 30, PRODUCER, HEADER, bytes.len() - 1] {
            let mut flipped = BytesMut::from(&bytes[..]);
            flipped[at] ^= 0x04;
            let taken = Batch::take(&mut flipped.freeze());
            assert_eq!(taken, Err(Invalid::Checksum), "at {at}");
        }
    }

    #[test]
    fn batch_that_is_cut_short_is_left_and_one_of_tomorrow_is_named() {
        let bytes = batch().bytes;
        for length in [0, 11, 12, 60, bytes.len() - 1] {
            assert_eq!(Batch::take(&mut bytes.slice(..length)), Ok(None));
        }
        let mut other = BytesMut::from(&bytes[..]);
        other[MAGIC] = 3;
        assert_eq!(Batch::take(&mut other.freeze()), Err(Invalid::Header));
    }

    #[test]
    fn only_whole_data_with_times_of_its_own_goes_as_it_is() {
        let plain = batch().header;
        assert!(plain.plain());
        for attributes in [APPEND_TIME, CONTROL, DELETE_HORIZON] {
            assert!(!Header { attributes, ..plain }.plain());
        }
        assert!(
            !Header {
                last_delta: 2,
                ..plain
            }
            .plain()
        );
        assert!(
            !Header {
                count: 0,
                last_delta: -1,
                ..plain
            }
            .plain()
        );
        assert!(
            Header {
                attributes: TRANSACTIONAL | 4,
                ..plain
            }
            .plain()
        );
    }
}
