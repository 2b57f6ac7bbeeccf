//! Comparing what went two ways: to the topic as it came in, or to the topic of what waited from an outage.
//!
//! Each of the two is in the source's order, so the source's records are theirs, merged. Which way a record went is told
//! by the offset maps of both as far as they reach, and before that by the records themselves.

use std::collections::HashMap;

use blake3::{Hash, Hasher};
use common::broker::{Record, Watermarks};
use common::schemas::{Checkpoint, OffsetSpan};

use super::letters::{Letters, Told, told};
use super::tape::{Tape, digest};
use super::{Compared, Span, Verdict};
use crate::checkpoint::key;
use crate::error::Result;
use crate::history::{History, Place};
use crate::place::Place as Reach;
use crate::routes::Lane;

/// How far is looked ahead for a record.
const AHEAD: usize = 100;

/// What of a partition went behind what came in.
#[derive(Debug, Clone)]
pub(super) struct Behind {
    /// The topic that it went to.
    topic: String,
    history: Option<History>,
    ends: Watermarks,
    /// Where the span is there.
    offsets: (i64, i64),
    /// Spans of the source that wait to go there.
    waiting: Vec<OffsetSpan>,
}

impl Behind {
    /// How many records wait.
    pub(super) fn waits(&self) -> i64 {
        self.waiting.iter().map(|span| span.until - span.from).sum()
    }

    /// The topic; where it begins, where the span ends there, and where it ends.
    pub(super) fn all(&self) -> (&str, (i64, i64, i64)) {
        (&self.topic, (self.ends.low, self.offsets.1, self.ends.high))
    }

    /// What checkpoints tell of it.
    pub(super) fn history(&self) -> Option<&History> {
        self.history.as_ref()
    }

    /// Whether a record of the source waits to go there.
    pub(super) fn waits_for(&self, offset: i64) -> bool {
        let mut waiting = self.waiting.iter();
        waiting.any(|span| (span.from..span.until).contains(&offset))
    }

    /// The topic, and where the span is there.
    pub(super) fn place(&self) -> (&str, i64, i64) {
        (&self.topic, self.offsets.0, self.offsets.1)
    }
}

/// What of a lane's partition is behind, if any of it ever went there.
pub(super) async fn behind(
    destination: Reach<'_>,
    lane: &Lane,
    partition: i32,
    histories: &HashMap<String, History>,
) -> Result<Option<Behind>> {
    let of = lane.backlog();
    let Some(live) = histories.get(&key(&lane.route, &lane.source, partition)) else {
        return Ok(None);
    };
    let live: &Checkpoint = live.checkpoint();
    let history = histories.get(&key(&of.route, &lane.source, partition));
    let history = history.filter(|history| history.checkpoint().source_epoch == live.source_epoch);
    if history.is_none() && live.backlog.is_empty() {
        return Ok(None);
    }
    let next = history.map_or(i64::MIN, |history| history.checkpoint().next_offset);
    let waiting = live.backlog.iter().filter(|span| span.until > next);
    let waiting = waiting.map(|span| OffsetSpan {
        from: span.from.max(next),
        until: span.until,
    });
    let ends = destination.marks_if_any(&of.destination, partition).await?;
    Ok(Some(Behind {
        topic: of.destination,
        history: history.cloned(),
        waiting: waiting.collect(),
        offsets: (ends.high, ends.high),
        ends,
    }))
}

/// Says where a span is at both topics. It begins where both offset maps reach and both topics still have what these
/// tell, which may be later than asked.
pub(super) fn place(span: &mut Span) {
    let (Some(live), Some(behind)) = (&span.history, &mut span.behind) else {
        return;
    };
    let maps = [
        (Some(live), span.ends.1.low),
        (behind.history.as_ref(), behind.ends.low),
    ];
    let maps = maps.into_iter().filter_map(|(map, low)| Some((map?, low)));
    let from = span.source.0;
    for (map, low) in maps {
        let first = map.ranges().first().map_or(i64::MIN, |first| first.source);
        if map.to_destination(from) == Place::Forgotten {
            span.source.0 = span.source.0.max(first);
        }
        // What its retention took cannot be compared.
        if let Place::Exact(there) = map.to_destination(span.source.0)
            && there < low
            && let Place::Exact(there) = map.to_source(low)
        {
            span.source.0 = span.source.0.max(there);
        }
    }
    if span.source.0 >= span.source.1 && from < span.source.1 {
        span.unsure = Some(
            "it is before what the offset maps remember, or before what both topics still have".to_owned(),
        );
    }
    span.source.0 = span.source.0.min(span.source.1);
    let at = |map: &History, source: i64, ends: Watermarks| match map.to_destination(source) {
        Place::Exact(at) | Place::Ahead(at) => at.max(ends.low),
        Place::Forgotten | Place::Nothing => ends.low,
    };
    let (begin, end) = span.source;
    let ends = span.ends.1;
    span.destination = (Some(at(live, begin, ends)), Some(at(live, end, ends)));
    if let Some(map) = &behind.history {
        behind.offsets = (at(map, begin, behind.ends), at(map, end, behind.ends));
    }
}

/// One of the two topics, as it is read.
struct Way {
    tape: Tape,
    history: Option<History>,
    taken: u64,
}

impl Way {
    async fn head(&mut self) -> Result<Option<Hash>> {
        Ok(self.tape.peek(1).await?.first().map(digest))
    }

    /// Passes so many records that the source has not, or one that it has.
    async fn take(&mut self, hasher: &mut Hasher, found: &mut Compared) -> Result<Option<Record>> {
        let record = self.tape.next().await?;
        if let Some(record) = &record {
            hasher.update(digest(record).as_bytes());
            found.destination_records += 1;
            self.taken += 1;
        }
        Ok(record)
    }
}

/// Compares a span that went two ways.
pub(super) async fn compare(source: Reach<'_>, destination: Reach<'_>, span: &Span) -> Result<Compared> {
    let mut found = span.begin();
    let Some(behind) = &span.behind else {
        return Ok(found);
    };
    let partition = span.partition;
    let mut here = Tape::open(source, &span.lane.source, partition, span.source.0, span.source.1).await?;
    let (from, to) = (found.destination_offsets.0, found.destination_offsets.1);
    let live = Tape::open(destination, &span.lane.destination, partition, from, to).await?;
    let (topic, from, to) = behind.place();
    let waited = Tape::open(destination, topic, partition, from, to).await?;
    let way = |tape, history: &Option<History>| Way {
        tape,
        history: history.clone(),
        taken: 0,
    };
    let mut ways = [way(live, &span.history), way(waited, &behind.history)];
    let (mut at_source, mut at_destination) = (Hasher::new(), Hasher::new());
    let (mut last, mut guessed) = (0, false);
    let mut letters = Letters::new(source, destination, span);
    while let Some(record) = here.next().await? {
        let offset = record.offset;
        if behind.waits_for(offset) {
            continue;
        }
        let wanted = digest(&record);
        let heads = [ways[0].head().await?, ways[1].head().await?];
        let same = heads.map(|head| head == Some(wanted));
        let said = [0, 1].map(|way| told(ways[way].history.as_ref(), offset));
        let there = said.iter().position(|said| *said == Told::There);
        let which = match (there, same) {
            (Some(way), same) if same[way] => Some(way),
            (None, [true, true]) => {
                // Two records that are the same in all: whichever, unless something differs later.
                guessed = true;
                Some(last)
            }
            (None, [true, false]) => Some(0),
            (None, [false, true]) => Some(1),
            _ => None,
        };
        if let Some(way) = which {
            ways[way].take(&mut at_destination, &mut found).await?;
            last = way;
        } else {
            if letters.explain(offset, &mut found).await? {
                continue;
            }
            missing(&mut ways, wanted, offset, &mut at_destination, &mut found).await?;
        }
        at_source.update(wanted.as_bytes());
        found.source_records += 1;
    }
    for way in &mut ways {
        while let Some(record) = way.take(&mut at_destination, &mut found).await? {
            found.differs(
                None,
                Some(record.offset),
                "the destination has a record that the source has not",
            );
        }
    }
    found.source_digest = at_source.finalize().to_hex().to_string();
    found.destination_digest = at_destination.finalize().to_hex().to_string();
    found.note = Some(format!("{} of them are in {topic}", ways[1].taken));
    if guessed && found.verdict == Verdict::Different {
        found.verdict = Verdict::Unsure;
        found.note = Some(format!(
            "records that are the same in all went to {} and to {topic}, and which is which is before what the offset map remembers",
            span.lane.destination
        ));
    }
    Ok(letters.conclude(found))
}

/// A record that comes next in neither topic: there are others before it, or it is not there.
async fn missing(
    ways: &mut [Way; 2],
    wanted: Hash,
    offset: i64,
    hasher: &mut Hasher,
    found: &mut Compared,
) -> Result<()> {
    for way in ways.iter_mut() {
        let ahead = way.tape.peek(AHEAD).await?;
        let Some(before) = ahead.iter().position(|record| digest(record) == wanted) else {
            continue;
        };
        for _ in 0..before {
            if let Some(record) = way.take(hasher, found).await? {
                found.differs(
                    Some(offset),
                    Some(record.offset),
                    "the destination has a record that the source has not",
                );
            }
        }
        way.take(hasher, found).await?;
        return Ok(());
    }
    found.differs(Some(offset), None, "the destination lacks a record of the source");
    Ok(())
}
