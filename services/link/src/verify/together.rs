//! Comparing topics that keep the newest record of each key, where what waited from an outage went to a topic of its own.
//!
//! Each of the two keeps its own newest record of a key, and the newest of the source went to one of them: there it is the
//! newest too, for each is in the source's order. So each of the source's must be the newest of either. The other way round less
//! can be told: a key that was deleted may be left in the one topic when the deletion went to the other.

use std::collections::HashSet;

use super::letters::Letters;
use super::split::Behind;
use super::tidied::{Key, Newest, newest};
use super::{Compared, Span, Verdict};
use crate::error::Result;
use crate::place::Place;

/// Compares what the source has with what both topics have together.
pub(super) async fn compare(
    source: Place<'_>,
    destination: Place<'_>,
    span: &Span,
    behind: &Behind,
) -> Result<Compared> {
    let mut found = span.begin();
    let (lane, partition) = (&span.lane, span.partition);
    let (topic, offsets) = behind.all();
    let Some(end) = span.destination.1 else {
        return Ok(found.unsure("where the span ends at the destination cannot be told"));
    };
    found.source_offsets.0 = span.ends.0.low;
    found.destination_offsets = (span.ends.1.low, end);
    let here = (span.ends.0.low, span.source.1, span.ends.0.high);
    let live = (span.ends.1.low, end, span.ends.1.high);
    let mut sides = Vec::new();
    for (place, topic, offsets) in [
        (source, lane.source.as_str(), here),
        (destination, lane.destination.as_str(), live),
        (destination, topic, offsets),
    ] {
        match newest(place, topic, partition, offsets).await? {
            Some(newest) => sides.push(newest),
            None => return Ok(found.unsure("more keys than fit in memory")),
        }
    }
    let [here, there @ ..] = &sides[..] else {
        return Ok(found);
    };
    let moves = |key: &Key| sides.iter().any(|side| side.moving.contains(key));
    let mut letters = Letters::new(source, destination, span);
    let (mut source_digest, mut destination_digest) = (blake3::Hasher::new(), blake3::Hasher::new());
    let mut wanted: Vec<_> = here.records.iter().filter(|(key, _)| !moves(key)).collect();
    wanted.sort_unstable_by_key(|(_, (offset, _))| *offset);
    let (mut there_too, mut went_behind) = (HashSet::new(), 0_u64);
    for (key, (offset, digest)) in wanted {
        there_too.insert(*key);
        if behind.waits_for(*offset) {
            continue;
        }
        let heads: Vec<_> = there.iter().map(|side| side.records.get(key)).collect();
        let at = heads
            .iter()
            .position(|head| head.is_some_and(|head| head.1 == *digest));
        if at.is_none() && letters.explain(*offset, &mut found).await? {
            continue;
        }
        source_digest.update(key).update(digest.as_bytes());
        found.source_records += 1;
        match at {
            Some(at) => {
                destination_digest.update(key).update(digest.as_bytes());
                found.destination_records += 1;
                went_behind += u64::from(at == 1);
            }
            None => {
                let other = heads.iter().flatten().map(|head| head.0).next();
                let what = if other.is_some() {
                    "the newest record of a key is the newest of neither topic"
                } else {
                    "the destination lacks a key of the source"
                };
                found.differs(Some(*offset), other, what);
            }
        }
    }
    found.source_digest = source_digest.finalize().to_hex().to_string();
    found.destination_digest = destination_digest.finalize().to_hex().to_string();
    found.note = Some(format!("{went_behind} of them are in {topic}"));
    let deleted = |key: &Key| sides.iter().any(|side| side.deleted.contains(key));
    let more = |side: &Newest| -> usize {
        let keys = side.records.keys();
        keys.filter(|key| !there_too.contains(*key) && !moves(key) && !deleted(key))
            .count()
    };
    let more: usize = there.iter().map(more).sum();
    let found = letters.conclude(found);
    if more > 0 && found.verdict == Verdict::Same {
        return Ok(found.unsure(format!(
            "all that the source has is there; {more} keys more are in {} and {topic}, and whether they were deleted cannot be told",
            lane.destination
        )));
    }
    Ok(found)
}
