//! Finding where a span is at the destination when the offset map does not tell: by its first record.

use super::Span;
use super::tape::{Tape, digest};
use crate::error::Result;
use crate::place::Place;

/// How many records are looked through for the first one.
const LOOK_THROUGH: usize = 20_000;

/// Where to begin on both sides.
pub(super) async fn starts(
    source: Place<'_>,
    destination: Place<'_>,
    span: &Span,
) -> Result<Option<(i64, i64)>> {
    if let Some(at) = span.destination.0 {
        return Ok(Some((span.source.0, at)));
    }
    let (from, to) = span.source;
    let (topic, partition) = (&span.lane.source, span.partition);
    let mut tape = Tape::open(source, topic, partition, from, to).await?;
    let end = span.destination.1.unwrap_or(span.ends.1.high);
    if let Some(first) = tape.next().await?
        && let Some(at) = find(destination, &span.lane.destination, partition, &first, end).await?
    {
        return Ok(Some((first.offset, at)));
    }
    // Or the source reaches further back than the destination, which holds records for a shorter time.
    let (topic, low) = (&span.lane.destination, span.ends.1.low);
    let mut tape = Tape::open(destination, topic, partition, low, end).await?;
    let Some(first) = tape.next().await? else {
        return Ok(None);
    };
    let found = find(source, &span.lane.source, partition, &first, to).await?;
    Ok(found.filter(|at| *at >= from).map(|at| (at, first.offset)))
}

/// The offset of the same record on the other side.
async fn find(
    broker: Place<'_>,
    topic: &str,
    partition: i32,
    wanted: &common::broker::Record,
    end: i64,
) -> Result<Option<i64>> {
    let Some(from) = broker.offset_at(topic, partition, wanted.timestamp).await? else {
        return Ok(None);
    };
    let wanted = digest(wanted);
    let mut tape = Tape::open(broker, topic, partition, from, end).await?;
    for _ in 0..LOOK_THROUGH {
        match tape.next().await? {
            Some(record) if digest(&record) == wanted => return Ok(Some(record.offset)),
            Some(_) => {}
            None => break,
        }
    }
    Ok(None)
}
