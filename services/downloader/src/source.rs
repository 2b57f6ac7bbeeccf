//! An asset in the volume as the seekable reader that decoders want, with a deadline.

use std::io::{self, BufRead, Read, Seek, SeekFrom};

use bytes::{Buf, Bytes};
use common::schemas::Hash;
use common::volume::Volume;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// How much is read at once.
const WINDOW: u64 = 128 * 1024;

/// Reads an object piece by piece. Only for threads that may block.
#[derive(Debug)]
pub(crate) struct ObjectReader {
    runtime: Handle,
    volume: Volume,
    hash: Hash,
    size: u64,
    /// Where the window ends.
    next: u64,
    window: Bytes,
    deadline: Instant,
}

impl ObjectReader {
    /// Reads the object until the deadline; after it every read fails, which ends a decoder that takes too long.
    pub(crate) fn new(runtime: Handle, volume: Volume, hash: Hash, size: u64, deadline: Instant) -> Self {
        Self {
            runtime,
            volume,
            hash,
            size,
            next: 0,
            window: Bytes::new(),
            deadline,
        }
    }

    fn position(&self) -> u64 {
        self.next - self.window.len() as u64
    }
}

impl BufRead for ObjectReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.window.is_empty() && self.next < self.size {
            if Instant::now() >= self.deadline {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the time for decoding is over",
                ));
            }
            let end = (self.next + WINDOW).min(self.size);
            let read = self
                .runtime
                .block_on(self.volume.read(&self.hash, self.next..end));
            self.window = read.map_err(io::Error::other)?;
            if self.window.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.next += self.window.len() as u64;
        }
        Ok(&self.window)
    }

    fn consume(&mut self, amount: usize) {
        self.window.advance(amount.min(self.window.len()));
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl Seek for ObjectReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let wanted = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(by) => self.position().checked_add_signed(by),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
        };
        let wanted = wanted.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let ahead = wanted
            .checked_sub(self.position())
            .and_then(|ahead| usize::try_from(ahead).ok());
        match ahead {
            Some(ahead) if ahead <= self.window.len() => self.window.advance(ahead),
            _ => {
                self.window.clear();
                self.next = wanted;
            }
        }
        Ok(wanted)
    }
}
