//! Groups in topics of which some records went to `<topic>.backlog`: who moves to the destination goes on in both topics,
//! each from its own position; who moves to the source goes on with the first record that it has seen in neither.

use common::schemas::{Checkpoint, OffsetSpan};

use crate::backlog;
use crate::history::{Around, History, Place};

/// The two ways that a source partition's records went.
#[derive(Debug)]
pub(super) struct Waited<'a> {
    live: &'a History,
    backlog: Option<&'a History>,
    /// What is still to go to the backlog.
    spans: Vec<OffsetSpan>,
}

impl<'a> Waited<'a> {
    /// None when nothing ever went to the backlog, as far as is known.
    pub(super) fn of(live: &'a History, backlog: Option<&'a History>) -> Option<Self> {
        let known: &Checkpoint = live.checkpoint();
        let backlog = backlog.filter(|backlog| backlog.checkpoint().source_epoch == known.source_epoch);
        if backlog.is_none() && known.backlog.is_empty() {
            return None;
        }
        let next = backlog.map_or(i64::MIN, |backlog| backlog.checkpoint().next_offset);
        Some(Self {
            live,
            backlog,
            spans: backlog::left(&known.backlog, next),
        })
    }

    /// Where in the backlog who would read `source` next goes on, and how many records there it has seen that are yet to
    /// come.
    pub(super) fn to_backlog(&self, source: i64) -> (Place, i64) {
        let seen = |span: &OffsetSpan| (span.until.min(source) - span.from).max(0);
        let again = self.spans.iter().map(seen).sum();
        let place = self
            .backlog
            .map_or(Place::Nothing, |map| map.to_destination(source));
        match place {
            Place::Ahead(end) if again == 0 => (Place::Exact(end), 0),
            place => (place, again),
        }
    }

    /// Where at the source who would read `live` and `backlog` next goes on, and whether it has seen nothing that comes
    /// there; none when that is forgotten.
    pub(super) fn to_source(&self, live: i64, backlog: i64) -> Option<(i64, bool)> {
        let Around { seen, next } = self.live.around(live)?;
        let of = match self.backlog {
            Some(map) => map.around(backlog)?,
            None => Around::default(),
        };
        let next = next.unwrap_or_else(|| self.live.checkpoint().next_offset);
        let waits = of.next.or_else(|| self.spans.first().map(|span| span.from));
        let at = waits.map_or(next, |waits| waits.min(next));
        Some((at, at >= seen.max(of.seen).unwrap_or(i64::MIN)))
    }
}

#[cfg(test)]
mod tests {
    use common::schemas::OffsetRange;
    use proptest::prelude::*;

    use super::*;
    use crate::offsets::push;

    fn history(next: i64, ranges: Vec<OffsetRange>, backlog: Vec<OffsetSpan>) -> History {
        History::of(Checkpoint {
            route: "r".into(),
            source_topic: "t".into(),
            destination_topic: "u".into(),
            partition: 0,
            next_offset: next,
            source_epoch: "one".into(),
            ranges,
            backlog,
            ..Checkpoint::default()
        })
    }

    proptest! {
        /// Records that went to the topic or waited, in turns, and of the latter some still do: who moves skips none, and is told
        /// exactly when it sees some again.
        #[test]
        fn nobody_who_moves_skips_a_record(
            turns in prop::collection::vec((1_i64..6, 1_i64..6), 1..20), carried in 0_usize..60,
            position in 0_i64..140, read in (0_usize..100, 0_usize..100)
        ) {
            let (mut live, mut waited, mut spans, mut end) = (Vec::new(), Vec::new(), Vec::new(), 0);
            for (waits, comes) in turns {
                spans.push(OffsetSpan { from: end, until: end + waits });
                waited.extend(end..end + waits);
                live.extend(end + waits..end + waits + comes);
                end += waits + comes;
            }
            let carried = carried.min(waited.len());
            let next = waited.get(carried).copied().unwrap_or(end);
            let map = |went: &[i64]| {
                let mut known = history(0, Vec::new(), Vec::new()).checkpoint().clone();
                for (at, source) in (0_i64..).zip(went) {
                    push(&mut known, *source, at * 2);
                }
                known.ranges
            };
            let ranges = [map(&live), map(&waited[..carried])];
            // A map that forgets is another matter.
            prop_assume!(ranges.iter().all(|ranges| ranges.len() < crate::offsets::MAX_RANGES));
            let [first, second] = ranges;
            let of_topic = history(end, first, spans);
            let of_backlog = history(next, second, Vec::new());
            let ways = Waited::of(&of_topic, Some(&of_backlog)).unwrap();

            let (place, again) = ways.to_backlog(position);
            prop_assert_eq!(again, waited[carried..].iter().filter(|offset| **offset < position).count() as i64);
            if carried > 0 {
                let (Place::Exact(at) | Place::Ahead(at)) = place else {
                    return Err(TestCaseError::fail("forgotten"));
                };
                prop_assert_eq!(matches!(place, Place::Exact(_)), again == 0);
                let unseen = waited[..carried].iter().filter(|offset| **offset >= position).count();
                prop_assert_eq!((0..carried as i64).filter(|place| place * 2 >= at).count(), unseen);
            }

            let read = (read.0.min(live.len()), read.1.min(carried));
            let (at, exact) = ways.to_source(read.0 as i64 * 2, read.1 as i64 * 2).unwrap();
            let unseen = live[read.0..].iter().chain(&waited[read.1..]);
            prop_assert_eq!(at, unseen.min().copied().unwrap_or(end));
            let seen = live[..read.0].iter().chain(&waited[..read.1]);
            prop_assert_eq!(exact, seen.copied().all(|seen| seen < at));
        }
    }
}
