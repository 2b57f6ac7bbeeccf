//! What became of a record of the source that is not at the destination: it was put aside, or it is missing.
//!
//! An offset map passes a record by for either reason, so what is put aside is what the dead letters list. Where older ones of
//! these are gone, a record that was passed by may have been among them, and nobody can tell.

use std::collections::{BTreeSet, HashSet};

use common::broker::{DeadLetter, Record, dead_letter_topic};

use super::split::Behind;
use super::{Compared, Span};
use crate::error::{Error, Result};
use crate::history::History;
use crate::place::Place;

/// What an offset map says of a record of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// It is there.
    There,
    /// It is not, though the link is past it.
    PassedBy,
    /// The map does not reach it.
    Nothing,
}

/// What an offset map says of a record of the source.
pub(super) fn told(history: Option<&History>, offset: i64) -> Told {
    let ranges = history.map_or(&[][..], History::ranges);
    let at = ranges.partition_point(|range| range.source + range.count <= offset);
    let next = history.map_or(i64::MIN, |history| history.checkpoint().next_offset);
    match ranges.get(at) {
        Some(range) if range.source <= offset => Told::There,
        Some(_) if at > 0 => Told::PassedBy,
        None if at > 0 && offset < next => Told::PassedBy,
        _ => Told::Nothing,
    }
}

/// What became of a record that is not where it belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is among the dead letters.
    PutAside,
    /// It may have been among those that are gone.
    Forgotten,
    /// Neither.
    Missing,
}

/// The dead letters of a span's partition, which are read when one is asked for.
pub(super) struct Letters<'a> {
    source: Place<'a>,
    destination: Place<'a>,
    span: &'a Span,
    found: Option<Found>,
    /// How many records may have been put aside, and the first of them.
    forgotten: Option<(u64, i64)>,
}

#[derive(Default)]
struct Found {
    /// Offsets of the source.
    offsets: HashSet<i64>,
    /// Whether older ones are gone.
    gone: bool,
}

impl<'a> Letters<'a> {
    pub(super) fn new(source: Place<'a>, destination: Place<'a>, span: &'a Span) -> Self {
        Self {
            source,
            destination,
            span,
            found: None,
            forgotten: None,
        }
    }

    /// Reads them, unless they are known.
    pub(super) async fn read(&mut self) -> Result<()> {
        if self.found.is_some() {
            return Ok(());
        }
        let (mut found, lane) = (Found::default(), &self.span.lane);
        // The link puts them at the source, or at the edge where the core does not let it; a bundle where it is taken in.
        for (place, topic) in [
            (self.source, lane.source.as_str()),
            (self.destination, lane.destination.as_str()),
        ] {
            match found.take(place, topic, self.span.partition).await {
                // Who may not see them did not write there.
                Err(Error::Wire(error)) if error.hides() => {}
                taken => taken?,
            }
        }
        self.found = Some(found);
        Ok(())
    }

    /// What became of a record of the source, once they are read.
    pub(super) fn fate(&self, offset: i64) -> Fate {
        let Some(found) = &self.found else {
            return Fate::Missing;
        };
        let behind = self.span.behind.as_ref().and_then(Behind::history);
        let maps = [self.span.history.as_ref(), behind].into_iter().flatten();
        let mut said = maps.map(|map| told(Some(map), offset));
        if said.clone().any(|said| said == Told::There) {
            Fate::Missing
        } else if found.offsets.contains(&offset) {
            Fate::PutAside
        } else if found.gone && said.any(|said| said == Told::PassedBy) {
            // Of what went behind, the other map may not reach back.
            Fate::Forgotten
        } else {
            Fate::Missing
        }
    }

    /// Whether a record of the source need not be at the destination; counted, if so.
    pub(super) async fn explain(&mut self, offset: i64, found: &mut Compared) -> Result<bool> {
        self.read().await?;
        match self.fate(offset) {
            Fate::Missing => return Ok(false),
            Fate::PutAside => found.put_aside += 1,
            Fate::Forgotten => {
                let (count, first) = self.forgotten.unwrap_or((0, offset));
                self.forgotten = Some((count + 1, first.min(offset)));
            }
        }
        Ok(true)
    }

    /// What was found, not sure where it rests on dead letters that are gone.
    pub(super) fn conclude(&self, found: Compared) -> Compared {
        let Some((count, first)) = self.forgotten else {
            return found;
        };
        let note = format!(
            "{count} records that were not carried, the first at {first}, are not among the dead letters, of which older ones are gone"
        );
        let note = found.note.iter().chain([&note]).map(String::as_str);
        let note = note.collect::<Vec<_>>().join("; ");
        found.unsure(note)
    }
}

impl Found {
    async fn take(&mut self, place: Place<'_>, origin: &str, partition: i32) -> Result<()> {
        let topic = dead_letter_topic(origin);
        let mut partitions = BTreeSet::from([0]);
        let take = |record: Record| {
            partitions.insert(record.partition);
            if let Some(letter) = DeadLetter::of(&record)
                && letter.service == "link"
                && letter.topic == origin
                && letter.partition == partition
            {
                self.offsets.insert(letter.offset);
            }
        };
        place.each(&topic, take).await?;
        for partition in partitions {
            self.gone |= place.marks_if_any(&topic, partition).await?.low > 0;
        }
        Ok(())
    }
}
