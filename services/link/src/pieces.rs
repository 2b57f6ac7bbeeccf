//! What becomes of fetched batches: each goes as it is, or is written anew where it cannot.
//!
//! As it is goes a batch whose records are all there and all wanted, of a size that the destination and the line take.
//! Written anew, record by record but each byte of a record as it was: what compaction left gaps in, what the source
//! stamped with times of arrival, what begins before the checkpoint, what is too large, and many small ones in a row.

use std::mem;

use common::kafka::batch::{Batch, Invalid};
use common::kafka::{Fetched, rebuild};

/// Batches below this size go together, when several of a partition follow one another.
const SMALL: usize = 8 * 1024;

/// A batch to be written.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) batch: Batch,
    /// Where reading goes on behind it.
    pub(crate) next: i64,
    /// The source offsets of its records.
    offsets: Offsets,
}

#[derive(Debug)]
enum Offsets {
    /// One after the other, from here.
    From(i64),
    Each(Vec<i64>),
}

impl Piece {
    pub(crate) fn records(&self) -> usize {
        usize::try_from(self.batch.header.count).unwrap_or_default()
    }

    /// The source offset of its last record.
    pub(crate) fn last(&self) -> i64 {
        match &self.offsets {
            Offsets::From(first) => first + i64::from(self.batch.header.count) - 1,
            Offsets::Each(each) => each.last().copied().unwrap_or_default(),
        }
    }

    /// Runs of source offsets without gaps: the first, how many, and how many records come before it in the batch.
    pub(crate) fn runs(&self) -> Vec<(i64, i64, i64)> {
        match &self.offsets {
            Offsets::From(first) => vec![(*first, i64::from(self.batch.header.count), 0)],
            Offsets::Each(each) => {
                let mut runs: Vec<(i64, i64, i64)> = Vec::new();
                for (before, offset) in (0_i64..).zip(each) {
                    match runs.last_mut() {
                        Some((first, count, _)) if *first + *count == *offset => *count += 1,
                        _ => runs.push((*offset, 1, before)),
                    }
                }
                runs
            }
        }
    }
}

/// Cuts what was fetched of a partition into pieces of at most `limit` bytes; a single larger record still is one.
pub(crate) fn cut(fetched: Fetched, from: i64, limit: usize) -> Result<Vec<Piece>, Invalid> {
    let mut pieces = Vec::new();
    let mut small: Vec<Batch> = Vec::new();
    let mut bytes = 0;
    for batch in fetched.batches {
        let whole = batch.header.plain() && batch.header.base_offset >= from && batch.bytes.len() <= limit;
        let joins = small
            .first()
            .is_none_or(|first| first.header.compression() == batch.header.compression());
        if !joins || bytes + batch.bytes.len() > limit {
            flush(&mut small, from, limit, &mut pieces)?;
            bytes = 0;
        }
        if whole && batch.bytes.len() >= SMALL {
            flush(&mut small, from, limit, &mut pieces)?;
            bytes = 0;
            pieces.push(as_it_is(batch));
        } else {
            bytes += batch.bytes.len();
            small.push(batch);
        }
    }
    flush(&mut small, from, limit, &mut pieces)?;
    Ok(pieces)
}

fn as_it_is(batch: Batch) -> Piece {
    Piece {
        next: batch.header.next_offset(),
        offsets: Offsets::From(batch.header.base_offset),
        batch,
    }
}

fn flush(small: &mut Vec<Batch>, from: i64, limit: usize, pieces: &mut Vec<Piece>) -> Result<(), Invalid> {
    let batches = mem::take(small);
    match &batches[..] {
        [] => {}
        [one] if one.header.plain() && one.header.base_offset >= from && one.bytes.len() <= limit => {
            pieces.extend(batches.into_iter().map(as_it_is));
        }
        [.., last] => {
            let next = last.header.next_offset();
            let built = rebuild(&batches, from, limit)?;
            pieces.extend(built.into_iter().map(|built| Piece {
                next: built.offsets.last().map_or(next, |last| last + 1),
                offsets: Offsets::Each(built.offsets),
                batch: built.batch,
            }));
            // What compaction took from the end of a batch is behind its last record.
            if let Some(piece) = pieces.last_mut() {
                piece.next = piece.next.max(next);
            }
        }
    }
    Ok(())
}
