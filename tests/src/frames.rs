//! Kafka's requests and answers, counted as they go over a line that is not encrypted.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use testkit::proxy::{Tap, Way};

/// Length, then api key, version, correlation id, and the client id with its length.
const HEAD: usize = 4 + 10 + 256;

/// Counts requests and answers by client and kind.
#[derive(Debug, Default)]
pub struct Frames(Mutex<State>);

/// What was said of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests.
    pub requests: u64,
    /// Their bytes.
    pub request_bytes: u64,
    /// Answers; one that was cut short counts whole.
    pub answers: u64,
    /// Their bytes.
    pub answer_bytes: u64,
    /// The longest of them.
    pub largest: u64,
}

#[derive(Debug, Default)]
struct State {
    pipes: HashMap<(u64, Way), Pipe>,
    asked: HashMap<(u64, i32), (String, i16)>,
    tallies: BTreeMap<(String, String), Tally>,
}

/// One direction of a connection: the head of the frame under way, and how much of it is to come.
#[derive(Debug, Default)]
struct Pipe {
    head: Vec<u8>,
    left: usize,
}

impl Frames {
    /// What was counted since the last call, by client id and kind of request.
    pub fn take(&self) -> BTreeMap<(String, String), Tally> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut state.tallies)
    }

    /// The same as text, what had most bytes first, one line for each kind, `most` lines.
    pub fn table(&self, most: usize) -> String {
        let mut rows: Vec<_> = self.take().into_iter().collect();
        rows.sort_by_key(|(_, tally)| std::cmp::Reverse(tally.request_bytes + tally.answer_bytes));
        let mut text = String::new();
        for ((client, kind), tally) in rows.into_iter().take(most) {
            // Writing to a string does not fail.
            let _written = writeln!(
                text,
                "    {client}/{kind}: {} requests of {} B, answers of {} B (largest {})",
                tally.requests,
                tally.request_bytes / tally.requests.max(1),
                tally.answer_bytes / tally.answers.max(1),
                tally.largest
            );
        }
        text
    }
}

impl Tap for Frames {
    fn saw(&self, connection: u64, way: Way, mut bytes: &[u8]) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        let pipe = state.pipes.entry((connection, way)).or_default();
        while !bytes.is_empty() {
            if pipe.left > 0 {
                let skipped = pipe.left.min(bytes.len());
                pipe.left -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            pipe.head.push(bytes[0]);
            bytes = &bytes[1..];
            let Some(length) = number(&pipe.head, 0).and_then(|length| usize::try_from(length).ok()) else {
                continue;
            };
            if pipe.head.len() < HEAD.min(4 + length) {
                continue;
            }
            let head = std::mem::take(&mut pipe.head);
            pipe.left = 4 + length - head.len();
            frame(
                &mut state.asked,
                &mut state.tallies,
                connection,
                way,
                &head,
                4 + length as u64,
            );
        }
    }
}

fn number(head: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_be_bytes(head.get(at..at + 4)?.try_into().ok()?))
}

fn short(head: &[u8], at: usize) -> Option<i16> {
    Some(i16::from_be_bytes(head.get(at..at + 2)?.try_into().ok()?))
}

fn frame(
    asked: &mut HashMap<(u64, i32), (String, i16)>,
    tallies: &mut BTreeMap<(String, String), Tally>,
    connection: u64,
    way: Way,
    head: &[u8],
    bytes: u64,
) {
    if way == Way::Up {
        let (key, correlation) = (short(head, 4).unwrap_or(-1), number(head, 8).unwrap_or(-1));
        let length = usize::try_from(short(head, 12).unwrap_or(0)).unwrap_or(0);
        let client = String::from_utf8_lossy(head.get(14..14 + length).unwrap_or_default()).into_owned();
        let tally = tallies.entry((client.clone(), kind(key))).or_default();
        tally.requests += 1;
        tally.request_bytes += bytes;
        asked.insert((connection, correlation), (client, key));
    } else {
        let correlation = number(head, 4).unwrap_or(-1);
        let (client, key) = asked.remove(&(connection, correlation)).unwrap_or_default();
        let tally = tallies.entry((client, kind(key))).or_default();
        tally.answers += 1;
        tally.answer_bytes += bytes;
        tally.largest = tally.largest.max(bytes);
    }
}

fn kind(key: i16) -> String {
    let name = match key {
        0 => "Produce",
        1 => "Fetch",
        2 => "ListOffsets",
        3 => "Metadata",
        8 => "OffsetCommit",
        9 => "OffsetFetch",
        10 => "FindCoordinator",
        11 => "JoinGroup",
        12 => "Heartbeat",
        14 => "SyncGroup",
        17 | 36 => "Sasl",
        18 => "ApiVersions",
        22 => "InitProducerId",
        24 => "AddPartitionsToTxn",
        25 => "AddOffsetsToTxn",
        26 => "EndTxn",
        28 => "TxnOffsetCommit",
        32 => "DescribeConfigs",
        71 | 72 => "Telemetry",
        other => return format!("api {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(key: i16, correlation: i32, payload: usize) -> Vec<u8> {
        let mut body = key.to_be_bytes().to_vec();
        body.extend(1_i16.to_be_bytes());
        body.extend(correlation.to_be_bytes());
        body.extend(4_i16.to_be_bytes());
        body.extend(b"link");
        body.extend(vec![0; payload]);
        framed(body)
    }

    fn framed(body: Vec<u8>) -> Vec<u8> {
        let mut bytes = i32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend(body);
        bytes
    }

    #[test]
    fn frames_are_counted_however_they_are_cut_into_pieces() {
        let mut up = request(1, 7, 1000);
        up.extend(request(3, 8, 0));
        let down = framed([7_i32.to_be_bytes().to_vec(), vec![0; 5000]].concat());
        for piece in [1, 3, 100, 10_000] {
            let frames = Frames::default();
            for bytes in up.chunks(piece) {
                frames.saw(1, Way::Up, bytes);
            }
            for bytes in down.chunks(piece) {
                frames.saw(1, Way::Down, bytes);
            }
            let counted = frames.take();
            let fetch = counted[&("link".into(), "Fetch".into())];
            assert_eq!((fetch.requests, fetch.request_bytes), (1, 1018));
            assert_eq!((fetch.answers, fetch.largest), (1, 5008));
            assert_eq!(counted[&("link".into(), "Metadata".into())].requests, 1);
        }
    }
}
