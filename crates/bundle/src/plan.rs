//! Which of a partition's records an export brings, and which of them are on the stick already.

use common::broker::Watermarks;

use crate::document::{Part, Place, Segment};

/// How far a partition was, and in which turn of its offsets: as far as the other site is, or what is on the stick, if
/// that is of a later turn or nothing else is known.
pub(crate) fn before(there: Option<&Place>, old: Option<&Part>) -> (u64, i64) {
    let place = there.map(|place| (place.turn, place.next));
    let stick = old.map(|old| (old.turn, old.end()));
    let later = stick.filter(|(turn, _)| place.is_none_or(|(known, _)| *turn > known));
    later.or(place).unwrap_or_default()
}

/// How often its offsets went back, by its end now.
pub(crate) fn turn((turn, next): (u64, i64), high: i64) -> u64 {
    if next > high { turn + 1 } else { turn }
}

/// Where a partition begins, and what of it is on the stick and stays, of the same turn.
pub(crate) fn plan(
    turn: u64,
    wanted: Option<i64>,
    marks: Watermarks,
    old: Option<&Part>,
    whole: impl Fn(&Segment) -> bool,
) -> Part {
    // Where nothing is known of the other site, it may want all that is on the stick, although the source has less by now.
    let old = old.filter(|old| old.turn == turn);
    let wanted = wanted.unwrap_or_else(|| old.map_or(marks.low, |old| old.begin.min(marks.low)));
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
            turn,
            segments: kept,
        },
        _ => Part {
            low: marks.low,
            begin: wanted.max(marks.low),
            turn,
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
            turn: 0,
            segments: ends.iter().map(segment).collect(),
        }
    }

    fn place(turn: u64, next: i64) -> Place {
        Place {
            route: "r".into(),
            topic: "t".into(),
            partition: 0,
            next,
            epoch: "one".into(),
            turn,
            aside: Vec::new(),
        }
    }

    fn planned(wanted: Option<i64>, (low, high): (i64, i64), old: Option<&Part>) -> (i64, i64, i64) {
        let there = wanted.map(|next| place(0, next));
        let turn = turn(before(there.as_ref(), old), high);
        let wanted = wanted.filter(|_| turn == 0);
        let part = plan(turn, wanted, Watermarks { low, high }, old, |segment| {
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
    fn offsets_that_ended_behind_the_end_are_of_the_turn_before() {
        let stick = |turn, end| Part {
            turn,
            ..part(0, &[end])
        };
        let turn = |there: Option<&Place>, high, old: Option<&Part>| turn(before(there, old), high);
        assert_eq!(turn(None, 50, None), 0);
        assert_eq!(turn(Some(&place(2, 50)), 50, None), 2);
        assert_eq!(turn(Some(&place(2, 51)), 50, None), 3);
        assert_eq!(turn(None, 50, Some(&stick(0, 60))), 1);
        // It has gone on from the stick by another way, or not yet.
        assert_eq!(turn(Some(&place(0, 40)), 50, Some(&stick(0, 60))), 0);
        assert_eq!(turn(Some(&place(2, 40)), 50, Some(&stick(1, 60))), 2);
        // It is not there yet, and the source has grown past where it is.
        assert_eq!(turn(Some(&place(0, 40)), 50, Some(&stick(1, 30))), 1);
        assert_eq!(turn(Some(&place(0, 40)), 50, Some(&stick(1, 60))), 2);
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
