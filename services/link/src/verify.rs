//! Comparing what a link carried: source and destination over a span, record by record in order.
//!
//! Nothing but the two brokers is asked: checkpoints say which offsets belong together, and both sides' records are
//! digested (BLAKE3 over key, value, headers and time, in order). The far side's records have to cross the link for
//! that, so what it will cost is measured at the near side first ([`weigh`]). Topics that keep the newest of each key
//! are compared by that, for each side throws away older ones when it likes.

mod align;
mod letters;
mod ordered;
mod split;
mod tape;
mod tidied;
mod together;

use std::collections::HashMap;

use common::broker::Watermarks;
use serde::Serialize;

use crate::checkpoint::{began_anew, key, topic_id};
use crate::error::Result;
use crate::history::{History, Place};
use crate::moves::{Side, Sides};
use crate::place::Place as Reach;
use crate::routes::{Direction, Lane};

use split::Behind;
use tape::Tape;

/// Where a span begins or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// At this offset of the source.
    Offset(i64),
    /// With the first record of this time (milliseconds since 1970) or later.
    Time(i64),
}

/// What is to be compared of one partition.
#[derive(Debug, Clone)]
pub struct Span {
    lane: Lane,
    partition: i32,
    /// Whether only the newest of each key has to be there.
    tidied: bool,
    /// Source offsets, the last one excluded.
    source: (i64, i64),
    /// Where that is at the destination, as far as the offset map tells.
    destination: (Option<i64>, Option<i64>),
    ends: (Watermarks, Watermarks),
    history: Option<History>,
    /// Records that wait to be carried.
    waiting: i64,
    /// What waited from an outage and went to a topic of its own.
    behind: Option<Behind>,
    unsure: Option<String>,
}

/// What is different first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The source's offset, where there is a record.
    pub source_offset: Option<i64>,
    /// The destination's.
    pub destination_offset: Option<i64>,
    /// What is wrong.
    pub what: &'static str,
}

/// What a comparison found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// What was carried is the same on both sides.
    Same,
    /// It is not.
    Different,
    /// It could not be told.
    Unsure,
}

/// One partition, compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// The route that carries it.
    pub route: String,
    /// Which way.
    pub direction: Direction,
    /// The topic at the source.
    pub source: String,
    /// The topic at the destination.
    pub destination: String,
    /// The partition, the same on both sides.
    pub partition: i32,
    /// What was found.
    pub verdict: Verdict,
    /// Whether the newest record of each key was compared, and not each record in order.
    pub newest_of_each_key: bool,
    /// The source's offsets that were compared, the last one excluded.
    pub source_offsets: (i64, i64),
    /// The destination's.
    pub destination_offsets: (i64, i64),
    /// Records (or keys) at the source.
    pub source_records: u64,
    /// At the destination.
    pub destination_records: u64,
    /// The digest of what the source has.
    pub source_digest: String,
    /// Of what the destination has.
    pub destination_digest: String,
    /// Records of the source that the destination refused: among the dead letters, and in no digest.
    pub put_aside: u64,
    /// Records that wait to be carried.
    pub waiting: i64,
    /// How many records differ.
    pub differences: u64,
    /// The first of them.
    pub first: Option<Difference>,
    /// Why it could not be told, or not for all of the span; or which part went another way.
    pub note: Option<String>,
}

/// What a comparison will cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Weight {
    /// Records on the near side.
    pub records: u64,
    /// Their bytes before compression: about what the far side's will take on the link.
    pub bytes: u64,
}

/// Finds the spans of a lane, one for each partition. Only ends and offsets are asked for.
///
/// # Errors
/// With a broker's, or when a checkpoint cannot be read.
pub async fn spans(
    sides: &Sides,
    lane: &Lane,
    histories: &HashMap<String, History>,
    from: Option<Point>,
    to: Option<Point>,
) -> Result<Vec<Span>> {
    let (source, destination) = (side(sides, lane, true), side(sides, lane, false));
    let (Some((at_source, keeps)), Some((_, kept))) = (
        source.look(&lane.source).await?,
        destination.look(&lane.destination).await?,
    ) else {
        return Ok(Vec::new());
    };
    let tidied = keeps.compacted() || kept.compacted();
    let mut found = Vec::new();
    for partition in 0..at_source.partitions {
        let ends = (
            source.marks(&lane.source, partition).await?,
            destination.marks_if_any(&lane.destination, partition).await?,
        );
        let history = histories.get(&key(&lane.route, &lane.source, partition)).cloned();
        let carried = history
            .as_ref()
            .map_or(ends.0.low, |history| history.checkpoint().next_offset);
        let behind = split::behind(destination, lane, partition, histories).await?;
        let mut span = Span {
            lane: lane.clone(),
            partition,
            tidied,
            source: (ends.0.low, carried.min(ends.0.high).max(ends.0.low)),
            destination: (None, None),
            waiting: (ends.0.high - carried).max(0) + behind.as_ref().map_or(0, Behind::waits),
            behind,
            unsure: None,
            ends,
            history,
        };
        if span.history.as_ref().is_some_and(|history| {
            let epoch = topic_id(&history.checkpoint().source_epoch);
            !epoch.is_empty() && !at_source.id.is_empty() && epoch != at_source.id
        }) {
            span.unsure = Some(format!(
                "{} was made again, and the link has not carried the new one yet",
                lane.source
            ));
        }
        if let Some(from) = from {
            let from = offset(source, &lane.source, partition, from, ends.0.high).await?;
            span.source.0 = span.source.0.max(from).min(span.source.1);
        }
        if let Some(to) = to {
            let to = offset(source, &lane.source, partition, to, ends.0.high).await?;
            span.source.1 = span.source.1.min(to).max(span.source.0);
        }
        if span.behind.is_some() {
            split::place(&mut span);
        } else {
            span.place();
        }
        found.push(span);
    }
    Ok(found)
}

fn side<'a>(sides: &'a Sides, lane: &Lane, source: bool) -> Reach<'a> {
    let edge = (lane.direction == Direction::Up) == source;
    sides.place(if edge { Side::Edge } else { Side::Core })
}

async fn offset(source: Reach<'_>, topic: &str, partition: i32, point: Point, high: i64) -> Result<i64> {
    Ok(match point {
        Point::Offset(offset) => offset,
        Point::Time(at) => source.offset_at(topic, partition, at).await?.unwrap_or(high),
    })
}

impl Span {
    /// Says where the span is at the destination, as far as the offset map tells.
    fn place(&mut self) {
        let Some(history) = self.history.as_ref() else {
            return;
        };
        let low = self.ends.1.low;
        if let Place::Exact(at) = history.to_destination(self.source.0) {
            self.destination.0 = Some(at.max(low));
            // What the destination's retention took cannot be compared.
            if let Place::Exact(from) = history.to_source(low)
                && at < low
                && from > self.source.0
            {
                self.source.0 = from.min(self.source.1);
            }
        } else if self.source.0 == 0 && low == 0 && !history.checkpoint().lost.iter().any(began_anew) {
            // Both still have all they ever had.
            self.destination.0 = Some(0);
        }
        if let Place::Exact(at) = history.to_destination(self.source.1) {
            self.destination.1 = Some(at.max(low));
        }
    }

    /// Whether there is nothing to be read.
    fn is_empty(&self) -> bool {
        self.source.0 >= self.source.1 || self.unsure.is_some()
    }

    fn begin(&self) -> Compared {
        Compared {
            route: self.lane.route.clone(),
            direction: self.lane.direction,
            source: self.lane.source.clone(),
            destination: self.lane.destination.clone(),
            partition: self.partition,
            verdict: if self.unsure.is_some() {
                Verdict::Unsure
            } else {
                Verdict::Same
            },
            newest_of_each_key: self.tidied,
            source_offsets: self.source,
            destination_offsets: (
                self.destination.0.unwrap_or_default(),
                self.destination.1.unwrap_or_default(),
            ),
            source_records: 0,
            destination_records: 0,
            source_digest: String::new(),
            destination_digest: String::new(),
            put_aside: 0,
            waiting: self.waiting,
            differences: 0,
            first: None,
            note: self.unsure.clone(),
        }
    }
}

impl Compared {
    fn differs(&mut self, source_offset: Option<i64>, destination_offset: Option<i64>, what: &'static str) {
        self.differences += 1;
        self.verdict = Verdict::Different;
        self.first.get_or_insert(Difference {
            source_offset,
            destination_offset,
            what,
        });
    }

    fn unsure(mut self, note: impl Into<String>) -> Self {
        if self.verdict == Verdict::Same {
            self.verdict = Verdict::Unsure;
        }
        self.note = Some(note.into());
        self
    }
}

/// Reads the near side of the spans, which costs the link nothing, to learn how much the far side is.
///
/// # Errors
/// With a broker's.
pub async fn weigh(sides: &Sides, spans: &[Span]) -> Result<Weight> {
    let mut weight = Weight::default();
    for span in spans.iter().filter(|span| !span.is_empty()) {
        let (topic, from, to) = match span.lane.direction {
            Direction::Up if span.tidied => (&span.lane.source, span.ends.0.low, span.ends.0.high),
            Direction::Up => (&span.lane.source, span.source.0, span.source.1),
            Direction::Down if span.tidied => (&span.lane.destination, span.ends.1.low, span.ends.1.high),
            Direction::Down => (
                &span.lane.destination,
                span.destination.0.unwrap_or(span.ends.1.low),
                span.destination.1.unwrap_or(span.ends.1.high),
            ),
        };
        let behind = span.behind.as_ref().map(|behind| match behind.all() {
            (topic, (low, _, high)) if span.tidied => (topic, low, high),
            _ => behind.place(),
        });
        let behind = behind.filter(|_| span.lane.direction == Direction::Down);
        for (topic, from, to) in [(topic.as_str(), from, to)].into_iter().chain(behind) {
            let mut tape = Tape::open(sides.place(Side::Edge), topic, span.partition, from, to).await?;
            while let Some(record) = tape.next().await? {
                weight.records += 1;
                weight.bytes += record.size() as u64 + 8;
            }
        }
    }
    Ok(weight)
}

/// Compares a span.
///
/// # Errors
/// With a broker's.
pub async fn compare(sides: &Sides, span: &Span) -> Result<Compared> {
    if span.is_empty() {
        return Ok(span.begin());
    }
    let (source, destination) = (side(sides, &span.lane, true), side(sides, &span.lane, false));
    if let Some(behind) = span.behind.as_ref().filter(|_| span.tidied) {
        together::compare(source, destination, span, behind).await
    } else if span.behind.is_some() {
        split::compare(source, destination, span).await
    } else if span.tidied {
        tidied::compare(source, destination, span).await
    } else {
        ordered::compare(source, destination, span).await
    }
}
