//! When this process heard each edge's newest word, by its own clock: the edge's clock may be wrong, and the word was on its
//! way.
//!
//! Of a word that was there when this process first looked nobody knows when it came: it counts as heard when the edge says
//! that it spoke, and where that is still to come, at that first look.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use common::schemas::SiteId;

/// The newest word of each edge: where it lies in its topic, and when it was heard. None where there was no word yet.
#[derive(Debug, Default)]
pub(crate) struct Heard(Mutex<BTreeMap<SiteId, Option<(i64, i64)>>>);

impl Heard {
    /// When a word was heard, by where it lies and when its edge says that it spoke.
    pub(crate) fn look(&self, site: &SiteId, newest: Option<(i64, i64)>, now: i64) -> Option<i64> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let heard = newest.map(|(offset, spoken_at)| match known.get(site) {
            Some(Some((seen, heard_at))) if *seen == offset => (offset, *heard_at),
            Some(_) => (offset, now),
            None => (offset, spoken_at.min(now)),
        });
        known.insert(site.clone(), heard);
        heard.map(|(_, heard_at)| heard_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_heard_when_it_comes_whatever_its_edge_says_of_the_time() {
        let heard = Heard::default();
        let edge = "edge-1".parse().unwrap();
        assert_eq!(heard.look(&edge, None, 1_000), None);
        assert_eq!(heard.look(&edge, Some((0, 5)), 2_000), Some(2_000));
        assert_eq!(heard.look(&edge, Some((0, 5)), 3_000), Some(2_000));
        assert_eq!(heard.look(&edge, Some((1, 9_999)), 4_000), Some(4_000));
        // As after a restart.
        let heard = Heard::default();
        assert_eq!(heard.look(&edge, Some((1, 700)), 5_000), Some(700));
        let heard = Heard::default();
        assert_eq!(heard.look(&edge, Some((1, 9_999)), 5_000), Some(5_000));
        assert_eq!(heard.look(&edge, Some((1, 9_999)), 6_000), Some(5_000));
    }
}
