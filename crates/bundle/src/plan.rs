//! Which of a partition's records an export brings, and which of them are on the stick already.

use common::broker::Watermarks;

use crate::document::{Part, Segment};

/// Where a partition begins, and what of it is on the stick and stays.
pub(crate) fn plan(
    wanted: Option<i64>,
    marks: Watermarks,
    old: Option<&Part>,
    whole: impl Fn(&Segment) -> bool,
) -> Part {
    // A position beyond the end is of a time before the offsets went back. Where nothing is known of the other site, it
    // may want all that is on the stick, although the source has less by now.
    let known = wanted.filter(|wanted| *wanted <= marks.high);
    let wanted = known.unwrap_or_else(|| old.map_or(marks.low, |old| old.begin.min(marks.low)));
    let kept: Vec<Segment> = (old.iter())
        .flat_map(|old| &old.segments)
        .filter(|segment| segment.end > wanted)
        .take_while(|segment| whole(segment))
        .cloned()
        .collect();
    match (
        kept.first().map(|first| first.begin),
        kept.last().map(|last| last.end),
    ) {
        // Neither a hole before it nor behind it, and of offsets that there still are.
        (Some(begin), Some(end)) if begin <= wanted && marks.low <= end && end <= marks.high => Part {
            low: marks.low.min(begin),
            begin,
            segments: kept,
        },
        _ => Part {
            low: marks.low,
            begin: wanted.max(marks.low),
            segments: Vec::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    fn part(begin: i64, ends: &[i64]) -> Part {
        let mut from = begin;
        let segment = |end: &i64| {
            let begin = std::mem::replace(&mut from, *end);
            Segment {
                hash: blake3::hash(&end.to_be_bytes()).into(),
                bytes: 1,
                plain: 1,
                records: 1,
                begin,
                end: *end,
            }
        };
        Part {
            low: begin,
            begin,
            segments: ends.iter().map(segment).collect(),
        }
    }

    fn planned(wanted: Option<i64>, (low, high): (i64, i64), old: Option<&Part>) -> (i64, i64, i64) {
        let part = plan(wanted, Watermarks { low, high }, old, |segment| {
            segment.bytes == 1
        });
        (part.low, part.begin, part.end())
    }

    #[test]
    fn without_a_receipt_all_is_sent_and_with_one_what_follows() {
        assert_eq!(planned(None, (5, 90), None), (5, 5, 5));
        assert_eq!(planned(Some(40), (5, 90), None), (5, 40, 40));
        assert_eq!(planned(Some(90), (5, 90), None), (5, 90, 90));
    }

    #[test]
    fn what_is_gone_or_went_back_is_sent_from_the_beginning_that_is_left() {
        assert_eq!(planned(Some(3), (5, 90), None), (5, 5, 5));
        assert_eq!(planned(Some(91), (5, 90), None), (5, 5, 5));
    }

    #[test]
    fn what_is_on_the_stick_stays_as_long_as_it_is_wanted() {
        let old = part(0, &[30, 60]);
        assert_eq!(planned(None, (0, 90), Some(&old)), (0, 0, 60));
        assert_eq!(planned(Some(30), (0, 90), Some(&old)), (0, 30, 60));
        assert_eq!(planned(Some(31), (0, 90), Some(&old)), (0, 30, 60));
        assert_eq!(planned(Some(60), (0, 90), Some(&old)), (0, 60, 60));
        // It can still be had here when the source has it no more.
        assert_eq!(planned(Some(20), (50, 90), Some(&old)), (0, 0, 60));
        assert_eq!(planned(None, (50, 90), Some(&old)), (0, 0, 60));
    }

    #[test]
    fn what_is_on_the_stick_goes_where_it_would_leave_a_hole_or_is_of_offsets_that_are_no_more() {
        let old = part(30, &[60]);
        assert_eq!(planned(None, (0, 90), Some(&old)), (0, 0, 0));
        assert_eq!(planned(Some(30), (70, 90), Some(&old)), (70, 70, 70));
        assert_eq!(planned(Some(30), (0, 50), Some(&old)), (0, 30, 30));
        let mut damaged = part(0, &[30, 60]);
        damaged.segments[1].bytes = 2;
        assert_eq!(planned(None, (0, 90), Some(&damaged)), (0, 0, 30));
        assert_eq!(planned(None, (40, 90), Some(&damaged)), (40, 40, 40));
    }
}
