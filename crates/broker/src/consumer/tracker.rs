//! Which offset of a partition may be committed: the lowest whose effect is not durable yet.

use std::collections::BTreeSet;

/// Follows the records of one assigned partition.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    unfinished: BTreeSet<i64>,
    next: Option<i64>,
    committed: Option<i64>,
}

impl Tracker {
    /// A record came in.
    pub(super) fn begin(&mut self, offset: i64) {
        self.unfinished.insert(offset);
        self.next = Some(offset + 1);
    }

    /// Its effect is durable.
    pub(super) fn finish(&mut self, offset: i64) {
        self.unfinished.remove(&offset);
    }

    /// How many records came in and are not finished.
    pub(super) fn unfinished(&self) -> usize {
        self.unfinished.len()
    }

    /// What may be committed, if that is more than what was.
    pub(super) fn due(&self) -> Option<i64> {
        let offset = self.unfinished.first().copied().or(self.next)?;
        // The first record's own offset is where the partition started: committing that says nothing new, but it is
        // also what makes a group's start durable.
        (self.committed != Some(offset)).then_some(offset)
    }

    /// It was committed.
    pub(super) fn committed(&mut self, offset: i64) {
        self.committed = Some(offset);
    }

    /// Where the commit stands, for the lag.
    pub(super) fn position(&self) -> Option<i64> {
        self.committed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lowest_unfinished_offset_is_committed() {
        let mut tracker = Tracker::default();
        assert_eq!(tracker.due(), None);
        for offset in [5, 6, 9] {
            tracker.begin(offset);
        }
        tracker.finish(6);
        assert_eq!(tracker.due(), Some(5));
        tracker.finish(5);
        assert_eq!(tracker.due(), Some(9));
        tracker.committed(9);
        assert_eq!(tracker.due(), None);
        tracker.finish(9);
        assert_eq!(tracker.due(), Some(10));
    }

    proptest! {
        /// Whatever the order of finishing, nothing unfinished is ever below the commit, and in the end all is.
        #[test]
        fn commit_never_passes_an_unfinished_record(
            gaps in prop::collection::vec(1..4_i64, 1..60),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..200),
        ) {
            let mut offset = 0;
            let offsets: Vec<i64> = gaps.iter().map(|gap| { offset += gap; offset }).collect();
            let mut tracker = Tracker::default();
            offsets.iter().for_each(|offset| tracker.begin(*offset));
            let mut left = offsets.clone();
            let mut last = i64::MIN;
            for index in order {
                if left.is_empty() {
                    break;
                }
                tracker.finish(left.remove(index.index(left.len())));
                if let Some(due) = tracker.due() {
                    prop_assert!(left.iter().all(|offset| *offset >= due));
                    prop_assert!(due >= last);
                    last = due;
                    tracker.committed(due);
                }
            }
            for offset in left {
                tracker.finish(offset);
            }
            let end = offsets.last().copied().unwrap_or_default() + 1;
            prop_assert!(tracker.due().is_none_or(|due| due == end));
            prop_assert_eq!(tracker.due().or_else(|| tracker.position()), Some(end));
        }
    }
}
