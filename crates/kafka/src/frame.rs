//! Requests as they go over a connection: parts that are written one after the other, so that batches are not copied.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::RequestHeader;
use kafka_protocol::protocol::{Encodable, HeaderVersion, Request, StrBytes};

use crate::error::{Error, Result};

/// A request without its length and correlation id, which the connection fills in.
#[derive(Debug)]
pub(crate) struct Frame {
    /// Begins with four bytes for the length; the correlation id follows the key and the version.
    pub(crate) parts: Vec<Bytes>,
    head: BytesMut,
}

/// Where the correlation id is: behind length, key and version.
const CORRELATION: usize = 8;

impl Frame {
    /// A request of any kind.
    pub(crate) fn of<R: Request>(request: &R, version: i16, client: &StrBytes) -> Result<Self> {
        let mut head = start(
            R::KEY,
            version,
            <R as HeaderVersion>::header_version(version),
            client,
        )?;
        request
            .encode(&mut head, version)
            .map_err(|_| Error::Malformed { what: "request" })?;
        Ok(Self {
            parts: Vec::new(),
            head,
        })
    }

    /// A request whose body is written by hand: `head` continues the header, `parts` follow it.
    pub(crate) fn raw(
        key: i16,
        version: i16,
        client: &StrBytes,
        head: &[u8],
        parts: Vec<Bytes>,
    ) -> Result<Self> {
        // All versions that are written by hand have the flexible header.
        let mut all = start(key, version, 2, client)?;
        all.put_slice(head);
        Ok(Self { parts, head: all })
    }

    /// The whole, with its length and this correlation id.
    pub(crate) fn seal(mut self, correlation: i32) -> Vec<Bytes> {
        let length = self.head.len() - 4 + self.parts.iter().map(Bytes::len).sum::<usize>();
        let length = i32::try_from(length).unwrap_or(i32::MAX);
        self.head[..4].copy_from_slice(&length.to_be_bytes());
        self.head[CORRELATION..CORRELATION + 4].copy_from_slice(&correlation.to_be_bytes());
        let mut all = Vec::with_capacity(self.parts.len() + 1);
        all.push(self.head.freeze());
        all.append(&mut self.parts);
        all
    }
}

fn start(key: i16, version: i16, header: i16, client: &StrBytes) -> Result<BytesMut> {
    let mut head = BytesMut::with_capacity(256);
    head.put_i32(0);
    let fields = RequestHeader::default()
        .with_request_api_key(key)
        .with_request_api_version(version)
        .with_client_id(Some(client.clone()));
    fields
        .encode(&mut head, header)
        .map_err(|_| Error::Malformed { what: "request" })?;
    Ok(head)
}

/// Compact lengths: one more than they are, seven bits to a byte.
pub(crate) fn put_compact(buf: &mut BytesMut, length: usize) {
    put_uvarint(buf, length as u64 + 1);
}

pub(crate) fn put_uvarint(buf: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        buf.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    buf.put_u8(value as u8);
}

/// A text with its compact length.
pub(crate) fn put_text(buf: &mut BytesMut, text: &str) {
    put_compact(buf, text.len());
    buf.put_slice(text.as_bytes());
}
