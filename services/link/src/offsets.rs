//! The offset map: which source offsets became which destination offsets.
//!
//! A map is a list of ranges, oldest first, in which both offsets grow by one from record to record. Neighbours that
//! continue each other are one range. Within the newest [`EXACT`] ranges a map translates a consumer's position exactly, both
//! ways. Of older ones it keeps samples, the fewer the older they are: what was carried behind a sample and is not listed is
//! a fifth more than was carried since at most (after 200,000 ranges; twice as much after many millions). There a position becomes an
//! earlier one, and nothing is skipped.

use common::schemas::{Checkpoint, OffsetRange};

/// How many ranges a map remembers.
pub const MAX_RANGES: usize = 64;
/// So many of them, the newest, are all that there were.
pub const EXACT: usize = 48;

/// Adds a carried record to a map. Records come in order, so both offsets are larger than any in the map; a destination
/// that was made again begins anew, and so does the map.
pub fn push(known: &mut Checkpoint, source: i64, destination: i64) {
    push_run(known, source, destination, 1);
}

/// Adds carried records whose offsets follow one another on both sides.
pub fn push_run(known: &mut Checkpoint, source: i64, destination: i64, count: i64) {
    let ranges = &mut known.ranges;
    if ranges
        .last()
        .is_some_and(|last| destination < last.destination + last.count)
    {
        ranges.clear();
        known.sampled = 0;
    }
    if let Some(last) = ranges.last_mut() {
        debug_assert!(source >= last.source + last.count);
        if source == last.source + last.count && destination == last.destination + last.count {
            last.count += count;
            return;
        }
    }
    ranges.push(OffsetRange {
        source,
        destination,
        count,
    });
    if ranges.len() > MAX_RANGES {
        let sampled = ranges.len() - EXACT;
        ranges.remove(least_missed(ranges, sampled));
        known.sampled = i32::try_from(sampled - 1).unwrap_or(i32::MAX);
    }
}

/// The sample without which least is missed, by how much that is of what was carried since; never the first one.
fn least_missed(ranges: &[OffsetRange], sampled: usize) -> usize {
    let head = ranges.last().map_or(0, |last| last.source + last.count);
    let misses = |at: usize| {
        let (before, behind) = (&ranges[at - 1], &ranges[at + 1]);
        let gap = behind.source - (before.source + before.count);
        (i128::from(gap), i128::from(head - behind.source).max(1))
    };
    let less = |one: &usize, other: &usize| {
        let ((gap, since), (other_gap, other_since)) = (misses(*one), misses(*other));
        (gap * other_since).cmp(&(other_gap * since))
    };
    (1..sampled).min_by(less).unwrap_or(0)
}

/// The ranges within which positions are translated exactly.
pub fn exact(known: &Checkpoint) -> &[OffsetRange] {
    &known.ranges[samples(known).len()..]
}

/// The ranges that are samples of what was carried before those.
pub fn samples(known: &Checkpoint) -> &[OffsetRange] {
    let sampled = usize::try_from(known.sampled).unwrap_or_default();
    &known.ranges[..sampled.min(known.ranges.len())]
}

/// Near where a consumer that would read `source` next goes on at the destination, by the samples, and how many records it
/// has read that it will see again at most. None before the first sample.
pub fn near_destination(known: &Checkpoint, source: i64) -> Option<(i64, i64)> {
    near(known, source, |range| range.source, |range| range.destination)
}

/// Near where a consumer that would read `destination` next goes on at the source; the same.
pub fn near_source(known: &Checkpoint, destination: i64) -> Option<(i64, i64)> {
    near(
        known,
        destination,
        |range| range.destination,
        |range| range.source,
    )
}

fn near(
    known: &Checkpoint,
    offset: i64,
    from: impl Fn(&OffsetRange) -> i64,
    to: impl Fn(&OffsetRange) -> i64,
) -> Option<(i64, i64)> {
    let samples = samples(known);
    let behind = samples.partition_point(|range| from(range) <= offset);
    let sample = samples.get(behind.checked_sub(1)?)?;
    let within = (offset - from(sample)).min(sample.count);
    Some((to(sample) + within, offset - from(sample) - within))
}

/// Where a consumer that would read `source` next goes on at the destination: the place of the first carried record at
/// or after that offset. None before what the map remembers, and past what was carried.
pub fn to_destination(ranges: &[OffsetRange], source: i64) -> Option<i64> {
    translate(ranges, source, |range| range.source, |range| range.destination)
}

/// Where a consumer that would read `destination` next goes on at the source.
pub fn to_source(ranges: &[OffsetRange], destination: i64) -> Option<i64> {
    translate(
        ranges,
        destination,
        |range| range.destination,
        |range| range.source,
    )
}

fn translate(
    ranges: &[OffsetRange],
    offset: i64,
    from: impl Fn(&OffsetRange) -> i64,
    to: impl Fn(&OffsetRange) -> i64,
) -> Option<i64> {
    if offset < ranges.first().map(&from)? {
        return None;
    }
    // The end of the last range counts as its own: a consumer that has read everything goes on behind it.
    let last = ranges.last()?;
    let behind = from(last) + last.count;
    if offset == behind {
        return Some(to(last) + last.count);
    }
    let range = ranges.iter().find(|range| offset < from(range) + range.count)?;
    Some(to(range) + (offset - from(range)).max(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn checkpoint() -> Checkpoint {
        Checkpoint {
            route: "r".into(),
            source_topic: "t".into(),
            destination_topic: "u".into(),
            partition: 0,
            next_offset: 0,
            source_epoch: "one".into(),
            ..Checkpoint::default()
        }
    }

    fn known(pairs: &[(i64, i64)]) -> Checkpoint {
        let mut known = checkpoint();
        for (source, destination) in pairs {
            push(&mut known, *source, *destination);
        }
        known
    }

    fn map(pairs: &[(i64, i64)]) -> Vec<OffsetRange> {
        exact(&known(pairs)).to_vec()
    }

    #[test]
    fn records_that_continue_each_other_are_one_range() {
        let ranges = map(&[(0, 10), (1, 11), (2, 13), (4, 14)]);
        assert_eq!(
            ranges.iter().map(|range| range.count).collect::<Vec<_>>(),
            [2, 1, 1]
        );
    }

    #[test]
    fn map_of_a_destination_that_was_made_again_knows_the_new_one_only() {
        let ranges = map(&[(0, 10), (1, 11), (2, 0), (3, 1)]);
        assert_eq!(to_destination(&ranges, 2), Some(0));
        assert_eq!(to_destination(&ranges, 1), None);
        assert_eq!(to_source(&ranges, 1), Some(3));
        assert_eq!(to_source(&ranges, 11), None);
    }

    #[test]
    fn map_is_bounded_and_exact_for_the_newest() {
        let known = known(&(0..500).map(|n| (n, n * 2)).collect::<Vec<_>>());
        assert_eq!((known.ranges.len(), exact(&known).len()), (MAX_RANGES, EXACT));
        assert_eq!(known.ranges.last().unwrap().source, 499);
        assert_eq!(to_destination(exact(&known), 0), None);
    }

    /// However long ago: nothing is skipped, and what is seen again is not much more than what came since.
    #[test]
    fn a_position_of_long_ago_becomes_one_that_is_not_much_earlier() {
        let mut known = checkpoint();
        for n in 0_i64..200_000 {
            push_run(&mut known, n * 10, n * 11, 10);
        }
        assert_eq!(known.ranges.len(), MAX_RANGES);
        assert_eq!(known.ranges[0].source, 0);
        let (head, first) = (2_000_000, exact(&known)[0].source);
        for source in (0..first).step_by(997) {
            let destination = source / 10 * 11 + source % 10;
            let (there, again) = near_destination(&known, source).unwrap();
            let since = head - source;
            assert!(
                there <= destination && again <= since * 6 / 5,
                "{source}: {again} of {since}"
            );
            let read_again = destination / 11 * 10 + destination % 11 - (there / 11 * 10 + there % 11);
            assert_eq!(read_again, again);
            let (back, again) = near_source(&known, destination).unwrap();
            assert!(back <= source && source - back <= again, "{destination}: {back}");
        }
        assert_eq!(near_destination(&known, -1), None);
    }

    #[test]
    fn within_a_sample_a_position_is_exact() {
        let mut known = checkpoint();
        for n in 0..100 {
            push_run(&mut known, n * 10, n * 20, 10);
        }
        assert_eq!(near_destination(&known, 7), Some((7, 0)));
        assert_eq!(near_source(&known, 10), Some((10, 0)));
        assert!(known.sampled > 0 && exact(&known)[0].source > 7);
    }

    #[test]
    fn position_in_a_hole_goes_on_with_the_next_record() {
        let ranges = map(&[(0, 10), (5, 11), (6, 13)]);
        assert_eq!(to_destination(&ranges, 3), Some(11));
        assert_eq!(to_source(&ranges, 12), Some(6));
        assert_eq!(to_destination(&ranges, 7), Some(14));
        assert_eq!(to_destination(&ranges, 8), None);
        assert_eq!(to_destination(&[], 0), None);
    }

    proptest! {
        #[test]
        fn every_remembered_record_is_found_both_ways(steps in prop::collection::vec((1_i64..4, 1_i64..4), 1..300)) {
            let (mut source, mut destination) = (0, 0);
            let pairs: Vec<_> = steps.iter().map(|(a, b)| {
                source += a;
                destination += b;
                (source, destination)
            }).collect();
            let known = known(&pairs);
            prop_assert!(known.ranges.len() <= MAX_RANGES);
            for (source, destination) in pairs.iter().filter(|(source, _)| *source < exact(&known)[0].source) {
                let (there, again) = near_destination(&known, *source).unwrap();
                let repeated = pairs.iter().filter(|pair| pair.1 >= there && pair.0 < *source).count() as i64;
                prop_assert!(there <= *destination && repeated <= again);
                let (back, again) = near_source(&known, *destination).unwrap();
                let repeated = pairs.iter().filter(|pair| pair.0 >= back && pair.1 < *destination).count() as i64;
                prop_assert!(back <= *source && repeated <= again);
            }
            let ranges = exact(&known);
            let first = ranges[0].source;
            for (source, destination) in pairs.into_iter().filter(|(source, _)| *source >= first) {
                prop_assert_eq!(to_destination(ranges, source), Some(destination));
                prop_assert_eq!(to_source(ranges, destination), Some(source));
            }
            let apart = ranges.windows(2).all(|pair| {
                pair[0].source + pair[0].count <= pair[1].source
                    && pair[0].destination + pair[0].count <= pair[1].destination
                    && (pair[0].source + pair[0].count, pair[0].destination + pair[0].count)
                        != (pair[1].source, pair[1].destination)
            });
            prop_assert!(apart, "ranges overlap, or should be one");
        }
    }
}
