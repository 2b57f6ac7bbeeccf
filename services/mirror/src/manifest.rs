//! A manifest as it comes, a line for each entry.

use std::io::Write as _;

use common::volume::{ManifestEnd, ManifestEntry};
use flate2::write::GzDecoder;
use serde::Deserialize;

use crate::depot::Body;
use crate::error::{Error, Result};

/// The longest line.
const LINE: usize = 64 << 10;
/// So much is unpacked at once: a thousand times as much may come of it.
const PIECE: usize = 4096;

/// Some of its entries.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pub(crate) entries: Vec<ManifestEntry>,
    /// Lines that cannot be read.
    pub(crate) unreadable: usize,
    /// There are no more in this answer, and behind which entry the next one begins, if there is more.
    pub(crate) end: Option<Option<String>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Entry(ManifestEntry),
    End(ManifestEnd),
}

/// An answer that is being read.
#[derive(Debug)]
pub(crate) struct Manifest<'a> {
    body: Body<'a>,
    lines: Unpacked,
}

impl<'a> Manifest<'a> {
    pub(crate) fn new(body: Body<'a>, packed: bool) -> Self {
        Self {
            body,
            lines: Unpacked::new(packed),
        }
    }

    /// The next entries, as many as have come.
    pub(crate) async fn part(&mut self) -> Result<Part> {
        let mut part = Part::default();
        while part.entries.is_empty() && part.unreadable == 0 && part.end.is_none() {
            let bytes = self.body.next().await?;
            self.lines.take(&bytes, &mut part)?;
        }
        if part.end.is_some() {
            self.body.finish().await;
        }
        Ok(part)
    }
}

/// What has come and is no whole line yet.
#[derive(Debug)]
struct Unpacked {
    unpacker: Option<GzDecoder<Vec<u8>>>,
    rest: Vec<u8>,
}

impl Unpacked {
    fn new(packed: bool) -> Self {
        Self {
            unpacker: packed.then(|| GzDecoder::new(Vec::new())),
            rest: Vec::new(),
        }
    }

    fn take(&mut self, bytes: &[u8], part: &mut Part) -> Result<()> {
        for piece in bytes.chunks(PIECE) {
            match &mut self.unpacker {
                None => self.rest.extend_from_slice(piece),
                Some(unpacker) => {
                    let unpacked = unpacker.write_all(piece).and_then(|()| unpacker.flush());
                    unpacked.map_err(|error| Error::Answer {
                        what: format!("its manifest cannot be unpacked: {error}"),
                    })?;
                    self.rest.append(unpacker.get_mut());
                }
            }
            self.lines(part);
            if self.rest.len() > LINE {
                return Err(Error::Answer {
                    what: format!("a line of its manifest is longer than {LINE} bytes"),
                });
            }
        }
        Ok(())
    }

    fn lines(&mut self, part: &mut Part) {
        let Some(last) = self.rest.iter().rposition(|byte| *byte == b'\n') else {
            return;
        };
        let rest = self.rest.split_off(last + 1);
        let lines = std::mem::replace(&mut self.rest, rest);
        let lines = lines.split(|byte| *byte == b'\n');
        for line in lines.filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(Line::Entry(entry)) => part.entries.push(entry),
                Ok(Line::End(end)) => part.end = Some(end.next),
                Err(_) => part.unreadable += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use common::schemas::RequestId;
    use flate2::write::GzEncoder;
    use testkit::{asset_id, hash, site};

    use super::*;

    fn entry(number: u32) -> ManifestEntry {
        let asset_id = asset_id(number);
        ManifestEntry {
            request_id: RequestId::new(&site("north"), &asset_id, 1),
            asset_id,
            hash: hash(b"x"),
            size: 1,
            media_type: "text/plain".into(),
            file_name: "x".into(),
            entered_at: 0,
            expires_at: None,
        }
    }

    fn lines(count: u32, end: &str) -> Vec<u8> {
        let mut lines = Vec::new();
        for number in 0..count {
            serde_json::to_writer(&mut lines, &entry(number)).unwrap();
            lines.push(b'\n');
        }
        lines.extend_from_slice(end.as_bytes());
        lines
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut packer = GzEncoder::new(Vec::new(), flate2::Compression::default());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    #[test]
    fn lines_are_read_wherever_they_are_broken_packed_or_not() {
        let all = lines(50, "{\"next\":\"north.1\"}\n");
        for (how, bytes) in [(false, all.clone()), (true, packed(&all))] {
            for pieces in [1, 7, 4096, 1 << 20] {
                let (mut unpacked, mut part) = (Unpacked::new(how), Part::default());
                for piece in bytes.chunks(pieces) {
                    unpacked.take(piece, &mut part).unwrap();
                }
                let expected: Vec<_> = (0..50).map(entry).collect();
                assert_eq!(part.entries, expected);
                assert_eq!(part.end, Some(Some("north.1".to_owned())));
                assert_eq!(part.unreadable, 0);
            }
        }
    }

    #[test]
    fn the_end_is_told_and_what_is_no_line_is_none() {
        let (mut unpacked, mut part) = (Unpacked::new(false), Part::default());
        unpacked.take(&lines(1, "{}\nnonsense\n"), &mut part).unwrap();
        assert_eq!((part.entries.len(), part.unreadable), (1, 2));
        assert_eq!(part.end, None);
        unpacked.take(b"{\"next\":null}\n", &mut part).unwrap();
        assert_eq!(part.end, Some(None));
        assert!(unpacked.take(&vec![b'x'; LINE + 1], &mut part).is_err());
    }

    #[test]
    fn little_that_is_packed_is_not_unpacked_into_much() {
        let bomb = packed(&vec![b'x'; 64 << 20]);
        let (mut unpacked, mut part) = (Unpacked::new(true), Part::default());
        assert!(unpacked.take(&bomb, &mut part).is_err());
        assert!(unpacked.rest.capacity() < 16 << 20);
    }
}
