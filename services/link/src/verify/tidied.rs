//! Comparing topics that keep the newest record of each key: both sides must have the same newest ones.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::letters::Letters;
use super::tape::{Tape, digest};
use super::{Compared, Span};
use crate::error::Result;
use crate::place::Place;

/// How many keys are kept in memory: some 60 MB for both sides.
const MOST_KEYS: usize = 200_000;

pub(super) type Key = [u8; 16];

/// The newest record of each key of one side.
#[derive(Default)]
pub(super) struct Newest {
    /// Offset and digest.
    pub(super) records: HashMap<Key, (i64, blake3::Hash)>,
    /// Keys whose newest record deletes them.
    pub(super) deleted: HashSet<Key>,
    /// Keys that changed behind the span: the side may have thrown away what they were in it.
    pub(super) moving: HashSet<Key>,
}

/// Compares the newest records that both sides have before the span's end.
pub(super) async fn compare(source: Place<'_>, destination: Place<'_>, span: &Span) -> Result<Compared> {
    let mut found = span.begin();
    let Some(end) = span.destination.1 else {
        return Ok(
            found.unsure("where the span ends at the destination is before what the offset map remembers")
        );
    };
    let (lane, partition) = (&span.lane, span.partition);
    // All of the topic counts, wherever the span begins: the newest of a key may be anywhere.
    found.source_offsets.0 = span.ends.0.low;
    found.destination_offsets = (span.ends.1.low, end);
    let here = newest(
        source,
        &lane.source,
        partition,
        (span.ends.0.low, span.source.1, span.ends.0.high),
    );
    let Some(mut here) = here.await? else {
        return Ok(found.unsure("more keys than fit in memory"));
    };
    let there = newest(
        destination,
        &lane.destination,
        partition,
        (span.ends.1.low, end, span.ends.1.high),
    );
    let Some(mut there) = there.await? else {
        return Ok(found.unsure("more keys than fit in memory"));
    };
    let moving: Vec<Key> = here.moving.union(&there.moving).copied().collect();
    for key in &moving {
        here.records.remove(key);
        there.records.remove(key);
    }
    let mut letters = Letters::new(source, destination, span);
    let keys: BTreeMap<Key, ()> = here
        .records
        .keys()
        .chain(there.records.keys())
        .map(|key| (*key, ()))
        .collect();
    let (mut source_digest, mut destination_digest) = (blake3::Hasher::new(), blake3::Hasher::new());
    let mut apart = Vec::new();
    for key in keys.keys() {
        let (left, right) = (here.records.get(key), there.records.get(key));
        if let Some((offset, _)) = left.filter(|left| right.is_none_or(|right| left.1 != right.1))
            && letters.explain(*offset, &mut found).await?
        {
            continue;
        }
        for (side, hasher, count) in [
            (left, &mut source_digest, &mut found.source_records),
            (right, &mut destination_digest, &mut found.destination_records),
        ] {
            if let Some((_, digest)) = side {
                hasher.update(key);
                hasher.update(digest.as_bytes());
                *count += 1;
            }
        }
        match (left, right) {
            (Some(left), Some(right)) if left.1 == right.1 => {}
            (left, right) => apart.push((left.map(|left| left.0), right.map(|right| right.0))),
        }
    }
    apart.sort_unstable();
    for (left, right) in apart {
        let what = match (left, right) {
            (Some(_), Some(_)) => "the newest record of a key is not the same",
            (Some(_), None) => "the destination lacks a key of the source",
            _ => "the destination has a key that the source has not",
        };
        found.differs(left, right, what);
    }
    found.source_digest = source_digest.finalize().to_hex().to_string();
    found.destination_digest = destination_digest.finalize().to_hex().to_string();
    Ok(letters.conclude(found))
}

/// The newest records of a side.
pub(super) async fn newest(
    broker: Place<'_>,
    topic: &str,
    partition: i32,
    (low, end, high): (i64, i64, i64),
) -> Result<Option<Newest>> {
    let mut found = Newest::default();
    let mut tape = Tape::open(broker, topic, partition, low, high).await?;
    while let Some(record) = tape.next().await? {
        let mut key = [0; 16];
        let hash = blake3::hash(record.key.as_deref().unwrap_or_default());
        key.copy_from_slice(&hash.as_bytes()[..16]);
        if record.offset >= end {
            found.moving.insert(key);
        } else if record.value.is_none() {
            // Sooner or later nothing is left of a key that was deleted.
            found.records.remove(&key);
            found.deleted.insert(key);
        } else {
            found.deleted.remove(&key);
            found.records.insert(key, (record.offset, digest(&record)));
        }
        if found.records.len() + found.deleted.len() + found.moving.len() > MOST_KEYS {
            return Ok(None);
        }
    }
    Ok(Some(found))
}
