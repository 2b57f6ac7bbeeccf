//! What waits from an outage goes behind what comes in: the spans of a route with `live_first`.
//!
//! When a session of such a lane begins and many records of a partition wait, its checkpoint moves to the end seen at that
//! moment, and in the same record the span that it skips is written down; that is committed before a record of either
//! goes. From then on each source offset belongs to the topic or to one span, never to both: spans do not overlap, they
//! begin where the topic's checkpoint was and end where it is. Only the live lane writes spans and only the backlog's lane
//! writes how far it is, each in a record of its own, so neither can take back what the other has committed. The backlog's
//! lane carries spans from the oldest to the newest; what is behind its checkpoint is done, and the live lane forgets
//! spans of which that is true. When there are too many, no more are begun and what waits goes in its order.

use std::collections::BTreeMap;

use common::broker::{Record, Watermarks};
use common::schemas::{Checkpoint, LostRange, OffsetSpan};
use tokio::sync::watch;

use crate::checkpoint;
use crate::routes::Lane;
use crate::session::{Limits, Progress};

/// How many spans a partition has at most.
const MAX_SPANS: usize = 64;

/// What the live lanes of a direction tell who carries their backlogs: that there may be something.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bell(watch::Sender<u64>);

impl Bell {
    pub(crate) fn ring(&self) {
        self.0.send_modify(|rung| *rung += 1);
    }

    pub(crate) fn hear(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

/// Up to where spans are done, as the backlog's own checkpoint says. What it says of offsets of another incarnation, or from
/// before they went back, is nothing here.
fn done_until(live: &Checkpoint, backlog: Option<&Checkpoint>) -> i64 {
    let same = backlog.filter(|backlog| backlog.source_epoch == live.source_epoch);
    same.map_or(i64::MIN, |backlog| backlog.next_offset)
}

/// Forgets spans that are done.
pub(crate) fn prune(live: &mut Checkpoint, backlog: Option<&Checkpoint>) {
    let done = done_until(live, backlog);
    live.backlog.retain(|span| span.until > done);
}

/// How many offsets of its spans are not carried.
pub(crate) fn waits(live: &Checkpoint, backlog: Option<&Checkpoint>) -> i64 {
    count(&left(&live.backlog, done_until(live, backlog)))
}

/// How many offsets there are in spans.
pub(crate) fn count(spans: &[OffsetSpan]) -> i64 {
    spans.iter().map(|span| span.until - span.from).sum()
}

/// Lets what waits go behind what comes in, if it is more than `most` records; whether it does.
pub(crate) fn split(live: &mut Checkpoint, end: i64, most: i64) -> bool {
    if end - live.next_offset <= most || live.backlog.len() >= MAX_SPANS {
        return false;
    }
    let from = live.next_offset;
    match live.backlog.last_mut() {
        // Nothing came between them.
        Some(last) if last.until == from => last.until = end,
        _ => live.backlog.push(OffsetSpan { from, until: end }),
    }
    live.next_offset = end;
    true
}

/// What is left of the spans behind an offset.
pub(crate) fn left(spans: &[OffsetSpan], next: i64) -> Vec<OffsetSpan> {
    let cut = |span: &OffsetSpan| OffsetSpan {
        from: span.from.max(next),
        until: span.until,
    };
    spans.iter().filter(|span| span.until > next).map(cut).collect()
}

/// A partition's backlog, as far as it is known and not carried.
#[derive(Debug, PartialEq)]
pub(crate) struct Backlog {
    /// The checkpoint to go on from: its offset is in the first span.
    pub(crate) checkpoint: Checkpoint,
    /// What is still to go, the oldest first; never empty unless something is lost.
    pub(crate) spans: Vec<OffsetSpan>,
    /// What cannot be carried any more; the checkpoint lists it, and must be written before anything else.
    pub(crate) lost: Option<LostRange>,
}

/// Decides where to go on with a partition's backlog; none when there is nothing, and none before the live lane has seen that
/// the source ends before where it was: its spans are of records that are no more.
pub(crate) fn resume(
    found: Option<Checkpoint>,
    live: Option<&Checkpoint>,
    lane: &Lane,
    partition: i32,
    epoch: &str,
    marks: Watermarks,
) -> Option<Backlog> {
    let live = live.filter(|live| checkpoint::topic_id(&live.source_epoch) == epoch)?;
    if live.next_offset > marks.high {
        return None;
    }
    let known = found.filter(|found| found.source_epoch == live.source_epoch);
    let fresh = || checkpoint::resume(None, lane, partition, &live.source_epoch, marks).checkpoint;
    let next = known.as_ref().map_or(i64::MIN, |known| known.next_offset);
    let spans = left(&live.backlog, next);
    let mut checkpoint = known.unwrap_or_else(fresh);
    let first = spans.first()?.from;
    let there = left(&spans, marks.low);
    let gone = count(&spans) - count(&there);
    let lost = (gone > 0).then(|| LostRange {
        source: first,
        count: gone,
        reason: "the source's retention passed before they were carried".to_owned(),
    });
    checkpoint.next_offset = match there.first() {
        Some(span) => span.from,
        None => spans.last()?.until,
    };
    if let Some(lost) = &lost {
        checkpoint::add_lost(&mut checkpoint, lost.clone());
    }
    Some(Backlog {
        checkpoint,
        spans: there,
        lost,
    })
}

/// Goes over to the next spans where one is done, and leaves out partitions of which all are; their checkpoints, which say
/// so.
pub(crate) fn done(progress: &mut Progress, limits: &mut Limits) -> Vec<Checkpoint> {
    let mut done = Vec::new();
    limits.retain(|at, spans| {
        let Some(known) = progress.get_mut(at) else {
            return false;
        };
        let until = spans.front().map_or(i64::MAX, |span| span.until);
        if known.next_offset < until {
            return true;
        }
        spans.pop_front();
        done.push(known.clone());
        match spans.front() {
            Some(next) => known.next_offset = next.from,
            None => drop(progress.remove(at)),
        }
        !spans.is_empty()
    });
    done
}

/// The records that are within the spans of their partitions, and the partitions of which there were others.
pub(crate) fn within(records: Vec<Record>, limits: &Limits) -> (Vec<Record>, Vec<(String, i32)>) {
    if limits.is_empty() {
        return (records, Vec::new());
    }
    let (mut inside, mut behind) = (Vec::with_capacity(records.len()), Vec::new());
    for record in records {
        let at = (record.topic.to_string(), record.partition);
        let span = limits.get(&at).and_then(|spans| spans.front());
        if span.is_some_and(|span| record.offset >= span.until) {
            behind.push(at);
        } else {
            inside.push(record);
        }
    }
    (inside, behind)
}

/// How many records of backlogs wait, all in all and by route, with what `newest` says of each route.
pub(crate) fn behind(
    progress: &Progress,
    limits: &Limits,
    newest: impl Fn(&str) -> i64,
) -> (i64, BTreeMap<String, (i64, i64)>) {
    let (mut sum, mut routes) = (0, BTreeMap::new());
    for (at, known) in progress {
        let spans = limits.get(at).into_iter().flatten();
        let wait: i64 = spans
            .map(|span| (span.until - span.from.max(known.next_offset)).max(0))
            .sum();
        sum += wait;
        routes
            .entry(known.route.clone())
            .or_insert_with(|| (0, newest(&known.route)))
            .0 += wait;
    }
    (sum, routes)
}

#[cfg(test)]
mod tests {
    use common::budget::Class;
    use proptest::prelude::*;

    use super::*;
    use crate::routes::Direction;

    const MARKS: Watermarks = Watermarks { low: 0, high: 1000 };

    fn lane() -> Lane {
        Lane {
            route: "r".into(),
            direction: Direction::Up,
            source: "t".into(),
            destination: "edge.t".into(),
            class: Class::Sensors,
            live_first: true,
            backlog_of: None,
        }
    }

    fn live(next: i64) -> Checkpoint {
        let fresh = checkpoint::resume(None, &lane(), 0, "one", MARKS).checkpoint;
        Checkpoint {
            next_offset: next,
            ..fresh
        }
    }

    fn at(found: Option<Checkpoint>, live: &Checkpoint, low: i64) -> Option<Backlog> {
        let marks = Watermarks { low, ..MARKS };
        resume(found, Some(live), &lane().backlog(), 0, "one", marks)
    }

    fn pairs(spans: &[OffsetSpan]) -> Vec<(i64, i64)> {
        spans.iter().map(|span| (span.from, span.until)).collect()
    }

    #[test]
    fn what_waits_becomes_a_span_and_spans_that_touch_are_one() {
        let mut live = live(10);
        assert!(!split(&mut live, 60, 50));
        assert!(split(&mut live, 61, 50));
        assert_eq!((live.next_offset, pairs(&live.backlog)), (61, vec![(10, 61)]));
        assert!(split(&mut live, 200, 50));
        live.next_offset = 250;
        assert!(split(&mut live, 400, 50));
        assert_eq!(pairs(&live.backlog), [(10, 200), (250, 400)]);
    }

    #[test]
    fn spans_are_bounded_and_then_what_waits_goes_in_its_order() {
        let mut live = live(0);
        for end in (0..1000).map(|n| n * 10 + 5) {
            split(&mut live, end, 0);
            live.next_offset += 5;
        }
        assert_eq!(live.backlog.len(), MAX_SPANS);
    }

    #[test]
    fn backlog_goes_on_in_the_oldest_span_that_is_not_done() {
        let mut known = live(500);
        known.backlog = vec![
            OffsetSpan { from: 10, until: 100 },
            OffsetSpan {
                from: 200,
                until: 300,
            },
        ];
        let fresh = at(None, &known, 0).unwrap();
        assert_eq!((fresh.checkpoint.next_offset, fresh.spans.len()), (10, 2));
        assert_eq!(fresh.checkpoint.route, "r.backlog");
        let of = |next| Checkpoint {
            next_offset: next,
            ..fresh.checkpoint.clone()
        };
        assert_eq!(at(Some(of(50)), &known, 0).unwrap().checkpoint.next_offset, 50);
        assert_eq!(at(Some(of(100)), &known, 0).unwrap().checkpoint.next_offset, 200);
        assert_eq!(at(Some(of(300)), &known, 0), None);
        prune(&mut known, Some(&of(100)));
        assert_eq!(pairs(&known.backlog), [(200, 300)]);
    }

    #[test]
    fn what_retention_took_from_spans_is_counted_and_only_that() {
        let mut known = live(500);
        known.backlog = vec![
            OffsetSpan { from: 10, until: 100 },
            OffsetSpan {
                from: 200,
                until: 300,
            },
        ];
        let resumed = at(None, &known, 250).unwrap();
        let lost = resumed.lost.unwrap();
        assert_eq!((lost.source, lost.count), (10, 90 + 50));
        assert_eq!(
            (resumed.checkpoint.next_offset, pairs(&resumed.spans)),
            (250, vec![(250, 300)])
        );
        let all = at(None, &known, 900).unwrap();
        assert_eq!((all.checkpoint.next_offset, all.spans.len()), (300, 0));
        assert_eq!(all.lost.unwrap().count, 190);
    }

    #[test]
    fn another_incarnation_has_no_backlog_of_the_old_one() {
        let mut known = live(500);
        known.backlog = vec![OffsetSpan { from: 10, until: 100 }];
        let backlog = lane().backlog();
        assert_eq!(resume(None, Some(&known), &backlog, 0, "two", MARKS), None);
        let anew = checkpoint::resume(Some(known), &lane(), 0, "two", MARKS);
        assert_eq!(anew.checkpoint.backlog, []);
    }

    proptest! {
        /// Live lanes and backlogs that stop and go on at any point, and offsets that go back while the topic stays the same:
        /// each record of what the source has is carried by one of them, once, and what was not of those before is counted.
        #[test]
        fn each_offset_goes_one_way_once(steps in prop::collection::vec((0_u8..6, 1_i64..40), 1..160)) {
            let (mut end, mut live, mut backlog) = (0, live(0), None::<Checkpoint>);
            let (mut went, mut behind) = (Vec::new(), Vec::new());
            // The backlog's session that is under way. It hears late of what the live lane finds.
            let mut session = None::<Backlog>;
            let begin = |found: &Option<Checkpoint>, live: &Checkpoint, end| {
                let marks = Watermarks { low: 0, high: end };
                resume(found.clone(), Some(live), &lane().backlog(), 0, "one", marks)
            };
            for (what, many) in steps {
                match what {
                    // Records come in.
                    0 => end += many,
                    // Offsets go back: by what was not carried, which nobody can know, or by more.
                    1 => end = (end - many).max(0),
                    // It carries.
                    2 => {
                        let until = (live.next_offset + many).min(end);
                        went.extend(live.next_offset..until);
                        live.next_offset = until;
                    }
                    // A session of the backlog's lane begins.
                    3 => session = begin(&backlog, &live, end),
                    // It carries some of its first span.
                    4 => if let Some(found) = &mut session {
                        let from = found.checkpoint.next_offset;
                        let until = (from + many).min(found.spans[0].until);
                        found.checkpoint.next_offset = until;
                        backlog = Some(found.checkpoint.clone());
                        // Else it was carried once more, or is not there at all.
                        if found.checkpoint.source_epoch == live.source_epoch {
                            behind.extend(from..until);
                        }
                        if until == found.spans[0].until {
                            session = None;
                        }
                    },
                    _ => {}
                }
                // A session of the live lane begins; before it has seen that offsets went back, none of the backlog's does.
                let back = live.next_offset > end;
                if back || what == 5 {
                    prop_assert!(!back || begin(&backlog, &live, end).is_none());
                    let waited = waits(&live, backlog.as_ref());
                    let marks = Watermarks { low: 0, high: end };
                    let mut resumed = checkpoint::resume(Some(live), &lane(), 0, "one", marks);
                    prop_assert_eq!(resumed.anew, back);
                    if back {
                        resumed.count(Some(waited));
                        prop_assert_eq!(resumed.checkpoint.lost.iter().map(|lost| lost.count).max(), Some(waited));
                        // From here on the offsets are those of other records.
                        (went, behind) = (Vec::new(), Vec::new());
                        resumed.checkpoint.lost.clear();
                    }
                    live = resumed.checkpoint;
                    prune(&mut live, backlog.as_ref());
                    split(&mut live, end, 5);
                }
            }
            while let Some(found) = begin(&backlog, &live, end) {
                let (from, until) = (found.checkpoint.next_offset, found.spans[0].until);
                behind.extend(from..until);
                backlog = Some(Checkpoint { next_offset: until, ..found.checkpoint });
            }
            went.extend(live.next_offset..end);
            prop_assert!(went.is_sorted() && behind.is_sorted());
            let mut all = [went, behind].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..end).collect::<Vec<_>>());
        }
    }
}
