//! The offset map: which source offsets became which destination offsets.
//!
//! A map is a list of ranges, oldest first, in which both offsets grow by one from record to record. Neighbours that
//! continue each other are one range; when there are too many, the oldest are forgotten. Within what it remembers, a
//! map translates a consumer's position exactly, both ways.

use common::schemas::OffsetRange;

/// How many ranges a map remembers.
pub const MAX_RANGES: usize = 64;

/// Adds a carried record to a map. Records come in order, so both offsets are larger than any in the map; a destination
/// that was made again begins anew, and so does the map.
pub fn push(ranges: &mut Vec<OffsetRange>, source: i64, destination: i64) {
    push_run(ranges, source, destination, 1);
}

/// Adds carried records whose offsets follow one another on both sides.
pub fn push_run(ranges: &mut Vec<OffsetRange>, source: i64, destination: i64, count: i64) {
    if ranges
        .last()
        .is_some_and(|last| destination < last.destination + last.count)
    {
        ranges.clear();
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
        ranges.drain(..ranges.len() - MAX_RANGES);
    }
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

    fn map(pairs: &[(i64, i64)]) -> Vec<OffsetRange> {
        let mut ranges = Vec::new();
        for (source, destination) in pairs {
            push(&mut ranges, *source, *destination);
        }
        ranges
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
    fn map_is_bounded_and_forgets_the_oldest() {
        let ranges = map(&(0..500).map(|n| (n, n * 2)).collect::<Vec<_>>());
        assert_eq!(ranges.len(), MAX_RANGES);
        assert_eq!(ranges.last().unwrap().source, 499);
        assert_eq!(to_destination(&ranges, 0), None);
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
            let ranges = map(&pairs);
            prop_assert!(ranges.len() <= MAX_RANGES);
            let first = ranges[0].source;
            for (source, destination) in pairs.into_iter().filter(|(source, _)| *source >= first) {
                prop_assert_eq!(to_destination(&ranges, source), Some(destination));
                prop_assert_eq!(to_source(&ranges, destination), Some(source));
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
