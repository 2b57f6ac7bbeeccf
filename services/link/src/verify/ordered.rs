//! Comparing each record in order.

use blake3::Hasher;

use super::letters::{Fate, Letters};
use super::tape::{Tape, digest};
use super::{Compared, Span, Verdict, align};
use crate::error::Result;
use crate::place::Place;

/// How far is looked ahead on both sides for where they agree again.
const AHEAD: usize = 100;

/// Compares both sides, a few records of each in memory.
pub(super) async fn compare(source: Place<'_>, destination: Place<'_>, span: &Span) -> Result<Compared> {
    let mut found = span.begin();
    let Some((from, at)) = align::starts(source, destination, span).await? else {
        return Ok(found.unsure("where the span begins at the destination cannot be found: it is before what the offset map remembers"));
    };
    let end = span.destination.1.unwrap_or(span.ends.1.high);
    found.source_offsets.0 = from;
    found.destination_offsets = (at, end);
    let mut here = Tape::open(source, &span.lane.source, span.partition, from, span.source.1).await?;
    let mut there = Tape::open(destination, &span.lane.destination, span.partition, at, end).await?;
    let (mut source_digest, mut destination_digest) = (Hasher::new(), Hasher::new());
    let mut letters = Letters::new(source, destination, span);
    loop {
        let left = here
            .peek(1)
            .await?
            .first()
            .map(|record| (record.offset, digest(record)));
        let right = there
            .peek(1)
            .await?
            .first()
            .map(|record| (record.offset, digest(record)));
        let same = left.zip(right).is_some_and(|(left, right)| left.1 == right.1);
        let (take_left, take_right) = if same {
            (1, 1)
        } else if let Some((offset, _)) = left {
            if letters.explain(offset, &mut found).await? {
                here.next().await?;
                continue;
            }
            apart(&mut here, &mut there, &letters, &mut found).await?
        } else if let Some((offset, _)) = right {
            if span.destination.1.is_none() {
                // Where the span ends there is not known: what is behind belongs to what comes after it.
                found.destination_offsets.1 = offset;
                break;
            }
            found.differs(
                None,
                Some(offset),
                "the destination has a record that the source has not",
            );
            (0, 1)
        } else {
            break;
        };
        for _ in 0..take_left {
            if let Some(record) = here.next().await? {
                source_digest.update(digest(&record).as_bytes());
                found.source_records += 1;
            }
        }
        for _ in 0..take_right {
            if let Some(record) = there.next().await? {
                destination_digest.update(digest(&record).as_bytes());
                found.destination_records += 1;
            }
        }
    }
    found.source_digest = source_digest.finalize().to_hex().to_string();
    found.destination_digest = destination_digest.finalize().to_hex().to_string();
    debug_assert!((found.source_digest == found.destination_digest) == (found.verdict == Verdict::Same));
    Ok(letters.conclude(found))
}

/// Says what is different, and how many records of each side to pass until they agree again.
async fn apart(
    here: &mut Tape,
    there: &mut Tape,
    letters: &Letters<'_>,
    found: &mut Compared,
) -> Result<(usize, usize)> {
    let offsets_and_digests = |records: &[common::broker::Record]| -> Vec<_> {
        records
            .iter()
            .map(|record| (record.offset, digest(record)))
            .collect()
    };
    let left = offsets_and_digests(here.peek(AHEAD).await?);
    let right = offsets_and_digests(there.peek(AHEAD).await?);
    let (at_source, at_destination) = (
        left.first().map(|record| record.0),
        right.first().map(|record| record.0),
    );
    let missing = right
        .first()
        .and_then(|first| left.iter().position(|record| record.1 == first.1));
    let more = left
        .first()
        .and_then(|first| right.iter().position(|record| record.1 == first.1));
    Ok(match (missing, more) {
        (Some(missing), more) if more.is_none_or(|more| missing <= more) => {
            let lacks = |record: &&(i64, _)| letters.fate(record.0) == Fate::Missing;
            let missing = left[..missing].iter().take_while(lacks).count();
            for (offset, _) in &left[..missing] {
                found.differs(
                    Some(*offset),
                    at_destination,
                    "the destination lacks a record of the source",
                );
            }
            (missing, 0)
        }
        (_, Some(more)) => {
            for (offset, _) in &right[..more] {
                found.differs(
                    at_source,
                    Some(*offset),
                    "the destination has a record that the source has not",
                );
            }
            (0, more)
        }
        _ if right.is_empty() => {
            found.differs(at_source, None, "the destination lacks a record of the source");
            (1, 0)
        }
        _ => {
            found.differs(
                at_source,
                at_destination,
                "key, value, headers or time are not the same",
            );
            (1, 1)
        }
    })
}
