//! The offset map of a partition as far back as its checkpoints still tell: each checkpoint remembers its newest ranges,
//! and earlier ones that compaction has not taken yet reach further.
//!
//! A position that the ranges reach is translated so that whoever goes on there sees exactly the records that were still
//! to come. Where they do not reach, that is said, and the samples of the newest checkpoint tell of a place nearby.

use std::collections::HashMap;

use common::broker::Record;
use common::schemas::{self, Checkpoint, OffsetRange};

use crate::checkpoint::keyed;
use crate::error::{Error, Result};
use crate::holder;
use crate::offsets::{MAX_RANGES, exact};
use crate::place::Place as Reach;

/// How many ranges are remembered of a partition: some 2 MB.
const MOST_RANGES: usize = 100_000;

/// What all checkpoints of a partition tell together.
#[derive(Debug, Clone)]
pub struct History {
    newest: Checkpoint,
    ranges: Vec<OffsetRange>,
    /// Whether nothing was carried before the first range.
    whole: bool,
}

/// Where a position is on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// There, and nowhere else.
    Exact(i64),
    /// The position is ahead of what was carried: there the records behind it will come, after some that it has passed.
    Ahead(i64),
    /// The position is before what the map remembers.
    Forgotten,
    /// Nothing of the partition was carried.
    Nothing,
}

/// The source offsets around a position at the destination.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Around {
    /// Behind the last record that was seen.
    pub(crate) seen: Option<i64>,
    /// Of the first record that was carried and not seen.
    pub(crate) next: Option<i64>,
}

impl History {
    /// What one checkpoint tells.
    pub fn of(checkpoint: Checkpoint) -> Self {
        Self {
            ranges: exact(&checkpoint).to_vec(),
            whole: is_whole(&checkpoint),
            newest: checkpoint,
        }
    }

    /// Takes the next checkpoint of the same partition.
    fn then(&mut self, next: Checkpoint) {
        let end = self.ranges.last().map_or(0, |last| last.source + last.count);
        let whole = is_whole(&next);
        // What was lost, or carried from another incarnation, may have begun the map anew.
        let same = next.source_epoch == self.newest.source_epoch
            && next.lost == self.newest.lost
            && next.next_offset >= self.newest.next_offset;
        let joins = same && (whole || exact(&next).first().is_some_and(|first| first.source <= end));
        if !joins || next.ranges.is_empty() {
            *self = Self::of(next);
            return;
        }
        // Two checkpoints of one transaction may tell of different places, when somebody else wrote at the destination
        // between them: the newer one knows.
        if let Some(first) = exact(&next).first() {
            self.forget_from(first.source);
        }
        for range in exact(&next) {
            match self.ranges.last_mut() {
                Some(last)
                    if last.source + last.count == range.source
                        && last.destination + last.count == range.destination =>
                {
                    last.count += range.count;
                }
                _ => self.ranges.push(range.clone()),
            }
        }
        if self.ranges.len() > MOST_RANGES {
            self.ranges.drain(..self.ranges.len() - MOST_RANGES);
            self.whole = false;
        }
        self.newest = next;
    }

    /// Forgets where source offsets from this one on came to lie.
    fn forget_from(&mut self, source: i64) {
        let kept = self.ranges.partition_point(|range| range.source < source);
        self.ranges.truncate(kept);
        if let Some(last) = self.ranges.last_mut() {
            last.count = last.count.min(source - last.source);
        }
    }

    /// The newest checkpoint.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.newest
    }

    /// The ranges, oldest first.
    pub fn ranges(&self) -> &[OffsetRange] {
        &self.ranges
    }

    /// Where who would read `source` next goes on at the destination.
    pub fn to_destination(&self, source: i64) -> Place {
        let Some((first, last)) = self.ranges.first().zip(self.ranges.last()) else {
            return Place::Nothing;
        };
        let behind = last.source + last.count;
        if source < first.source && !self.whole {
            return Place::Forgotten;
        }
        if source > self.newest.next_offset.max(behind) {
            return Place::Ahead(last.destination + last.count);
        }
        let at = self
            .ranges
            .partition_point(|range| range.source + range.count <= source);
        Place::Exact(match self.ranges.get(at) {
            Some(range) => range.destination + (source - range.source).max(0),
            None => last.destination + last.count,
        })
    }

    /// Where who would read `destination` next goes on at the source: also before what is there and was not carried, for
    /// that was never seen.
    pub fn to_source(&self, destination: i64) -> Place {
        let Some(first) = self.ranges.first() else {
            return Place::Nothing;
        };
        if destination < first.destination && !self.whole {
            return Place::Forgotten;
        }
        let at = self
            .ranges
            .partition_point(|range| range.destination + range.count <= destination);
        let before = at.checked_sub(1).and_then(|before| self.ranges.get(before));
        let seen = before.map_or(first.source, |before| before.source + before.count);
        Place::Exact(match self.ranges.get(at) {
            Some(range) if destination > range.destination => {
                range.source + (destination - range.destination)
            }
            _ => seen,
        })
    }
}

impl History {
    /// What who would read `destination` next has seen, and has not; none when that is before what is remembered.
    pub(crate) fn around(&self, destination: i64) -> Option<Around> {
        let Some(first) = self.ranges.first() else {
            return Some(Around::default());
        };
        if destination < first.destination && !self.whole {
            return None;
        }
        let at = self
            .ranges
            .partition_point(|range| range.destination + range.count <= destination);
        let before = at.checked_sub(1).and_then(|before| self.ranges.get(before));
        let before = before.map(|before| before.source + before.count);
        let next = self
            .ranges
            .get(at)
            .map(|range| (range.source, (destination - range.destination).max(0)));
        Some(Around {
            seen: next
                .filter(|(_, within)| *within > 0)
                .map(|(source, within)| source + within)
                .or(before),
            next: next.map(|(source, within)| source + within),
        })
    }
}

/// Whether a checkpoint's map lists all that was carried.
fn is_whole(checkpoint: &Checkpoint) -> bool {
    checkpoint.sampled == 0 && checkpoint.ranges.len() < MAX_RANGES
}

/// Reads all checkpoints at a destination, by route, source topic and partition; none where they have no topic.
pub(crate) async fn load(destination: Reach<'_>, topic: &str) -> Result<HashMap<String, History>> {
    let mut found: HashMap<String, History> = HashMap::new();
    let mut broken = None;
    let visit = |record: Record| {
        if record.key.as_deref() == Some(holder::KEY.as_bytes()) {
            return;
        }
        let Some(value) = record.value.as_deref() else {
            let key = record.key.as_deref().map(String::from_utf8_lossy);
            found.remove(&*key.unwrap_or_default());
            return;
        };
        match schemas::decode::<Checkpoint>(value) {
            Ok(checkpoint) => match found.get_mut(&keyed(&checkpoint)) {
                Some(history) => history.then(checkpoint),
                None => drop(found.insert(keyed(&checkpoint), History::of(checkpoint))),
            },
            Err(source) => {
                broken = Some(Error::Checkpoint {
                    topic: record.topic.to_string(),
                    partition: record.partition,
                    offset: record.offset,
                    source,
                });
            }
        }
    };
    destination.each(topic, visit).await?;
    broken.map_or(Ok(found), Err)
}

#[cfg(test)]
mod tests {
    use common::schemas::LostRange;
    use proptest::prelude::*;

    use super::*;
    use crate::offsets::push;

    fn at(next: i64, ranges: Vec<OffsetRange>) -> Checkpoint {
        Checkpoint {
            route: "r".into(),
            source_topic: "t".into(),
            destination_topic: "edge.t".into(),
            partition: 0,
            next_offset: next,
            source_epoch: "one".into(),
            ranges,
            ..Checkpoint::default()
        }
    }

    fn range(source: i64, destination: i64, count: i64) -> OffsetRange {
        OffsetRange {
            source,
            destination,
            count,
        }
    }

    #[test]
    fn earlier_checkpoints_reach_further_than_the_newest() {
        let (mut map, mut history) = (at(0, Vec::new()), None::<History>);
        for n in 0..500 {
            push(&mut map, n, n * 2);
            map.next_offset = n + 1;
            let next = map.clone();
            match &mut history {
                Some(history) => history.then(next),
                None => history = Some(History::of(next)),
            }
        }
        let history = history.unwrap();
        assert_eq!(history.ranges().len(), 500);
        assert_eq!(history.to_destination(3), Place::Exact(6));
        assert_eq!(history.to_source(7), Place::Exact(4));
        assert_eq!(History::of(map).to_destination(300), Place::Forgotten);
    }

    #[test]
    fn what_compaction_took_in_between_is_not_bridged() {
        let ranges = |from: i64| (from..from + 64).map(|n| range(n, n * 2, 1)).collect::<Vec<_>>();
        let mut history = History::of(at(64, ranges(0)));
        history.then(at(300, ranges(236)));
        assert_eq!(history.to_destination(10), Place::Forgotten);
        assert_eq!(history.to_destination(236), Place::Exact(472));
        history.then(at(330, ranges(266)));
        assert_eq!(history.to_destination(236), Place::Exact(472));
    }

    #[test]
    fn newer_checkpoint_of_the_same_transaction_knows_where_its_records_lie() {
        let mut history = History::of(at(30, vec![range(0, 0, 30)]));
        history.then(at(35, vec![range(0, 0, 30), range(30, 31, 5)]));
        history.then(at(35, vec![range(0, 0, 30), range(30, 32, 5)]));
        assert_eq!(history.ranges(), [range(0, 0, 30), range(30, 32, 5)]);
        assert_eq!(history.to_destination(35), Place::Exact(37));
        // Also where they were thought to continue what was there.
        history.then(at(40, vec![range(30, 32, 10)]));
        history.then(at(40, vec![range(30, 32, 5), range(35, 39, 5)]));
        assert_eq!(
            history.ranges(),
            [range(0, 0, 30), range(30, 32, 5), range(35, 39, 5)]
        );
    }

    #[test]
    fn another_incarnation_begins_a_map_of_its_own() {
        let mut history = History::of(at(10, vec![range(0, 0, 10)]));
        let mut next = at(30, vec![range(0, 11, 30)]);
        next.source_epoch = "two".into();
        next.lost = vec![LostRange {
            source: 10,
            count: 0,
            reason: "made again".into(),
        }];
        history.then(next);
        assert_eq!(history.to_destination(5), Place::Exact(16));
        assert_eq!(history.to_source(5), Place::Exact(0));
    }

    #[test]
    fn position_ahead_of_what_was_carried_waits_at_its_end() {
        let history = History::of(at(12, vec![range(0, 0, 10)]));
        assert_eq!(history.to_destination(12), Place::Exact(10));
        assert_eq!(history.to_destination(13), Place::Ahead(10));
        assert_eq!(history.to_source(11), Place::Exact(10));
        assert_eq!(History::of(at(0, Vec::new())).to_source(0), Place::Nothing);
    }

    proptest! {
        /// Source records that were carried or not, destination offsets with markers between: whoever moves sees what it
        /// had not seen, and nothing else that was carried.
        #[test]
        fn nobody_who_moves_skips_a_record_or_sees_one_again(
            steps in prop::collection::vec((1_i64..3, 1_i64..3), 1..200), position in 0_i64..600
        ) {
            let (mut source, mut destination, mut map, mut pairs) = (0, 0, at(0, Vec::new()), Vec::new());
            let mut history = None::<History>;
            for (a, b) in steps {
                source += a;
                destination += b;
                pairs.push((source, destination));
                push(&mut map, source, destination);
                map.next_offset = source + 1;
                let next = map.clone();
                match &mut history {
                    Some(history) => history.then(next),
                    None => history = Some(History::of(next)),
                }
            }
            let history = history.unwrap();
            let unseen = |side: fn(&(i64, i64)) -> i64, from: i64| pairs.iter().filter(|pair| side(pair) >= from).count();
            let (Place::Exact(there) | Place::Ahead(there)) = history.to_destination(position) else {
                return Err(TestCaseError::fail("forgotten"));
            };
            prop_assert_eq!(unseen(|pair| pair.0, position), unseen(|pair| pair.1, there));
            let Place::Exact(back) = history.to_source(position) else {
                return Err(TestCaseError::fail("forgotten"));
            };
            prop_assert_eq!(unseen(|pair| pair.1, position), unseen(|pair| pair.0, back));
        }
    }
}
