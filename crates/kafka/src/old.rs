//! Messages of the formats from before Kafka 0.11 (magic 0 and 1), written anew as a batch of today's.
//!
//! Brokers keep and hand out what was written in them as it is, also those that take none any more. A message stands for
//! itself, or is compressed and holds others: their offsets are counted from the first (magic 1; it bears the last one's
//! itself) or are what they are (magic 0). Records of magic 0 have no time, which is -1 in any format. Source:
//! <https://kafka.apache.org/documentation/#messageset>.

use bytes::{Buf, Bytes, BytesMut};
use twox_hash::XxHash32;

use crate::batch::{Batch, Invalid};
use crate::records::{Row, decompressed, sparse};

/// Offset and length.
const FRONT: usize = 12;
const COMPRESSION: u8 = 0x07;
const LZ4: i16 = 3;
/// The time of a compressed message is that of its arrival, and of all within.
const APPEND_TIME: u8 = 0x08;
const NO_TIME: i64 = -1;

/// A message as it stands in a set.
struct Message {
    magic: u8,
    attributes: u8,
    offset: i64,
    timestamp: i64,
    key: Option<Bytes>,
    value: Option<Bytes>,
}

/// The message that these bytes are, and all that it holds.
pub(crate) fn renewed(mut bytes: Bytes) -> Result<Batch, Invalid> {
    let outer = Message::take(&mut bytes)?;
    let compression = i16::from(outer.attributes & COMPRESSION);
    let messages = match compression {
        0 => vec![outer],
        _ => outer.within(compression)?,
    };
    let rows = messages.iter().map(|message| {
        let row = Row {
            timestamp: message.timestamp,
            key: message.key.as_deref(),
            value: message.value.as_deref(),
            headers: &[],
        };
        (message.offset, row)
    });
    sparse(&rows.collect::<Vec<_>>(), compression)
}

impl Message {
    fn take(bytes: &mut Bytes) -> Result<Self, Invalid> {
        let mut front = bytes.get(..FRONT).ok_or(Invalid::Records)?;
        let offset = front.get_i64();
        let length = usize::try_from(front.get_i32()).map_err(|_| Invalid::Header)?;
        bytes.advance(FRONT);
        if length > bytes.len() {
            return Err(Invalid::Records);
        }
        let mut body = bytes.split_to(length);
        let crc = body.try_get_u32().map_err(|_| Invalid::Header)?;
        if crc32fast::hash(&body) != crc {
            return Err(Invalid::Checksum);
        }
        let short = |_| Invalid::Header;
        let magic = body.try_get_u8().map_err(short)?;
        let attributes = body.try_get_u8().map_err(short)?;
        let timestamp = match magic {
            0 => NO_TIME,
            1 => body.try_get_i64().map_err(short)?,
            _ => return Err(Invalid::Header),
        };
        Ok(Self {
            magic,
            attributes,
            offset,
            timestamp,
            key: part(&mut body)?,
            value: part(&mut body)?,
        })
    }

    /// The messages that a compressed one holds.
    fn within(self, compression: i16) -> Result<Vec<Self>, Invalid> {
        let mut packed = self.value.ok_or(Invalid::Records)?;
        if self.magic == 0 && compression == LZ4 {
            packed = mended(&packed)?;
        }
        let mut plain = decompressed(compression, packed)?;
        let mut messages = Vec::new();
        while !plain.is_empty() {
            let mut message = Self::take(&mut plain)?;
            if message.attributes & COMPRESSION != 0 || message.magic != self.magic {
                return Err(Invalid::Records);
            }
            if self.magic == 1 && self.attributes & APPEND_TIME != 0 {
                message.timestamp = self.timestamp;
            }
            messages.push(message);
        }
        let last = messages.last().ok_or(Invalid::Records)?.offset;
        if self.magic == 1 {
            for message in &mut messages {
                message.offset += self.offset - last;
            }
        }
        Ok(messages)
    }
}

/// Bytes with their length before them; a length of -1 is null.
fn part(body: &mut Bytes) -> Result<Option<Bytes>, Invalid> {
    let length = body.try_get_i32().map_err(|_| Invalid::Header)?;
    if length == -1 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| Invalid::Header)?;
    if length > body.len() {
        return Err(Invalid::Header);
    }
    Ok(Some(body.split_to(length)))
}

/// The LZ4 frame with a right header: with magic 0, Kafka's clients counted the frame's own magic bytes into the checksum of
/// its header (KAFKA-3160).
fn mended(packed: &Bytes) -> Result<Bytes, Invalid> {
    const MAGIC: usize = 4;
    const HAS_SIZE: u8 = 0x08;
    let flags = *packed.get(MAGIC).ok_or(Invalid::Records)?;
    let end = MAGIC + 2 + if flags & HAS_SIZE == 0 { 0 } else { 8 };
    let header = packed.get(MAGIC..end).ok_or(Invalid::Records)?;
    let [.., checksum, _] = XxHash32::oneshot(0, header).to_be_bytes();
    let mut mended = BytesMut::from(&packed[..]);
    *mended.get_mut(end).ok_or(Invalid::Records)? = checksum;
    Ok(mended.freeze())
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;

    use super::*;
    use crate::records::{Read, compressed, read};

    fn put_part(body: &mut BytesMut, part: Option<&[u8]>) {
        body.put_i32(part.map_or(-1, |part| part.len() as i32));
        body.put_slice(part.unwrap_or_default());
    }

    fn message(
        magic: u8,
        (offset, time): (i64, i64),
        attributes: u8,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Bytes {
        let mut body = BytesMut::new();
        body.put_u8(magic);
        body.put_u8(attributes);
        if magic == 1 {
            body.put_i64(time);
        }
        put_part(&mut body, key);
        put_part(&mut body, value);
        let mut whole = BytesMut::new();
        whole.put_i64(offset);
        whole.put_i32(body.len() as i32 + 4);
        whole.put_u32(crc32fast::hash(&body));
        whole.put_slice(&body);
        whole.freeze()
    }

    /// Three messages with a gap between them, in a compressed one.
    fn holding(magic: u8, compression: i16, attributes: u8) -> Bytes {
        let places = if magic == 1 { [0, 1, 4] } else { [100, 101, 104] };
        let mut inner = BytesMut::new();
        for (at, value) in places.iter().zip([&b"one"[..], b"two", b"three"]) {
            inner.put_slice(&message(magic, (*at, 1_000 + at), 0, Some(b"k"), Some(value)));
        }
        let mut packed = BytesMut::from(&compressed(compression, &inner).unwrap()[..]);
        if magic == 0 && compression == LZ4 {
            // As its clients wrote it.
            let end = 6 + if packed[4] & 0x08 == 0 { 0 } else { 8 };
            packed[end] = (XxHash32::oneshot(0, &packed[..end]) >> 8) as u8;
        }
        let attributes = attributes | u8::try_from(compression).unwrap();
        message(magic, (104, 7_777), attributes, None, Some(&packed))
    }

    fn rows(mut bytes: Bytes) -> (Batch, Vec<Read>) {
        let batch = Batch::take(&mut bytes).unwrap().unwrap();
        let rows = read(&batch).unwrap();
        (batch, rows)
    }

    #[test]
    fn a_message_is_a_batch_of_one_record() {
        for (magic, time) in [(0, NO_TIME), (1, 1_234)] {
            let (batch, rows) = rows(message(magic, (77, 1_234), 0, None, Some(b"v")));
            assert!(batch.header.plain() && batch.header.next_offset() == 78);
            let wanted = Read {
                offset: 77,
                timestamp: time,
                key: None,
                value: Some(Bytes::from_static(b"v")),
                headers: Vec::new(),
            };
            assert_eq!(rows, [wanted]);
        }
    }

    #[test]
    fn what_a_compressed_message_holds_keeps_its_offsets_times_and_codec() {
        for magic in [0, 1] {
            for compression in [1, 2, LZ4] {
                let (batch, rows) = rows(holding(magic, compression, 0));
                assert_eq!(batch.header.compression(), compression);
                assert!(!batch.header.plain() && batch.header.next_offset() == 105);
                let found: Vec<_> = rows.iter().map(|row| (row.offset, row.timestamp)).collect();
                let time = |time| if magic == 0 { NO_TIME } else { time };
                assert_eq!(
                    found,
                    [(100, time(1_000)), (101, time(1_001)), (104, time(1_004))]
                );
                assert_eq!(rows[2].value.as_deref(), Some(&b"three"[..]));
            }
        }
        let (_, rows) = rows(holding(1, 1, APPEND_TIME));
        assert!(rows.iter().all(|row| row.timestamp == 7_777));
    }

    #[test]
    fn what_is_renewed_is_carried_as_any_other_batch() {
        let (batch, wanted) = rows(holding(1, 1, 0));
        let built = crate::rebuild(&[batch], 101, usize::MAX).unwrap();
        assert_eq!(built[0].offsets, [101, 104]);
        let found = read(&built[0].batch).unwrap();
        assert!(built[0].batch.header.plain());
        for (found, wanted) in found.iter().zip(&wanted[1..]) {
            assert_eq!((&found.value, found.timestamp), (&wanted.value, wanted.timestamp));
        }
        let (one, _) = rows(message(1, (77, 1_234), 0, None, Some(b"v")));
        let (head, rest) = one.under(7, 1, 0);
        let taken = Batch::take(&mut Bytes::from([head, rest].concat()))
            .unwrap()
            .unwrap();
        assert!(taken.header.plain() && taken.header.transactional());
    }

    #[test]
    fn flipped_bits_and_nonsense_are_errors() {
        let whole = message(1, (77, 1_234), 0, None, Some(b"value"));
        for at in 12..whole.len() {
            let mut flipped = BytesMut::from(&whole[..]);
            flipped[at] ^= 0x10;
            let taken = Batch::take(&mut flipped.freeze());
            assert!(taken.is_err(), "at {at}: {taken:?}");
        }
        for value in [None, Some(&b"nothing compressed"[..]), Some(b"")] {
            for compression in 1..=3 {
                let taken = Batch::take(&mut message(0, (1, 1), compression, None, value));
                assert_eq!(taken, Err(Invalid::Records), "{compression}: {value:?}");
            }
        }
    }
}
