//! How many dead letters wait for somebody: those that were not sent again.
//!
//! A dead letter stays where it lies, also when it was sent again; that it was is known from the audit, which is read
//! once at start as far back as the oldest dead letter, and from what this process sends. One that fails again is a dead
//! letter of its own.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::broker::{DeadLetter, Position, Watermarks};

use crate::api;
use crate::app::App;
use crate::audit::{self, Search};
use crate::problem::Result;

/// What the audit calls sending one again.
const ACTION: &str = "dead_letter.redrive";
/// How many that were sent again are remembered; beyond it they count as if they were not.
const MOST: usize = 100_000;
/// How many pages of the audit are read at start.
const PAGES: usize = 200;
const PAGE: usize = 1000;
/// How many dead letters are read at once, to count whose they are.
const AT_ONCE: usize = 200;
const WAIT: Duration = Duration::from_millis(100);

type Partition = (String, i32);

#[derive(Debug, Default)]
struct Known {
    /// Whether the audit was read.
    loaded: bool,
    /// Which comes next of each partition.
    heard: BTreeMap<Partition, i64>,
    /// By offset, when it was sent again.
    again: BTreeMap<Partition, BTreeMap<i64, i64>>,
    /// How many were sent again.
    count: usize,
}

/// The dead letters as they are counted.
#[derive(Debug, Default)]
pub(crate) struct Letters {
    known: Mutex<Known>,
}

impl Letters {
    /// How many of a partition were not sent again.
    pub(crate) fn waiting(&self, topic: &str, partition: i32, marks: &Watermarks) -> i64 {
        let mut known = self.known();
        let mut gone = 0;
        let again = known.again.get_mut(&(topic.to_owned(), partition));
        let again = again.map_or(0, |again| {
            let kept = again.split_off(&marks.low);
            gone = std::mem::replace(again, kept).len();
            again.range(..marks.high).count()
        });
        known.count -= gone;
        marks.high - marks.low - i64::try_from(again).unwrap_or_default()
    }

    /// When one was sent again, if it was.
    pub(crate) fn again_at(&self, topic: &str, partition: i32, offset: i64) -> Option<i64> {
        let known = self.known();
        let again = known.again.get(&(topic.to_owned(), partition))?;
        again.get(&offset).copied()
    }

    /// Notes that one was sent again. Whether it had been counted, and no longer counts.
    pub(crate) fn sent_again(&self, topic: &str, partition: i32, offset: i64, at: i64) -> bool {
        let mut known = self.known();
        if known.count >= MOST {
            return false;
        }
        let key = (topic.to_owned(), partition);
        let again = known.again.entry(key.clone()).or_default();
        let news = again.insert(offset, at).is_none();
        known.count += usize::from(news);
        news && known.heard.get(&key).is_some_and(|next| offset < *next)
    }

    /// Where to read on.
    fn next(&self, topic: &str, partition: i32, marks: &Watermarks) -> i64 {
        let mut known = self.known();
        let next = known
            .heard
            .entry((topic.to_owned(), partition))
            .or_insert(marks.low);
        // A topic that was made anew begins anew.
        if *next > marks.high {
            *next = marks.low;
        }
        (*next).max(marks.low)
    }

    /// Notes that one was read. Whether it counts.
    fn heard(&self, topic: &str, partition: i32, offset: i64) -> bool {
        let mut known = self.known();
        let key = (topic.to_owned(), partition);
        let counts = !known
            .again
            .get(&key)
            .is_some_and(|again| again.contains_key(&offset));
        known.heard.insert(key, offset + 1);
        counts
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts the dead letters of each service, each letter once, but those that were sent again.
pub(crate) async fn count(app: &App) -> Result<()> {
    load(app).await?;
    for (topic, partitions) in api::dead_letter_topics(app).await? {
        for partition in 0..partitions {
            let marks = app.broker.watermarks(&topic, partition).await?;
            let next = app.letters.next(&topic, partition, &marks);
            if next >= marks.high {
                continue;
            }
            let mut reader = app
                .broker
                .reader(&[Position::at(&topic, partition, next)])
                .await?;
            for record in reader.next(AT_ONCE, WAIT).await? {
                let counts = app.letters.heard(&topic, partition, record.offset);
                if let Some(letter) = DeadLetter::of(&record).filter(|_| counts) {
                    app.services.letter(&letter.service, 1);
                }
            }
        }
    }
    Ok(())
}

/// Reads from the audit what was sent again before this process began.
async fn load(app: &App) -> Result<()> {
    if app.letters.known().loaded {
        return Ok(());
    }
    let Some(oldest) = oldest(app).await? else {
        app.letters.known().loaded = true;
        return Ok(());
    };
    let mut search = Search {
        action: Some(ACTION.to_owned()),
        limit: PAGE,
        ..Search::default()
    };
    for _ in 0..PAGES {
        let (rows, next) = audit::search(app, &search).await?;
        for row in rows.iter().filter(|row| row.text("outcome") == Some("done")) {
            let mut target = row.text("target").unwrap_or_default().rsplitn(3, '/');
            let offset = target.next().and_then(|offset| offset.parse().ok());
            let partition = target.next().and_then(|partition| partition.parse().ok());
            if let (Some(topic), Some(partition), Some(offset)) = (target.next(), partition, offset) {
                let at = row.timestamp("at").unwrap_or_default();
                app.letters.sent_again(topic, partition, offset, at);
            }
        }
        match next {
            Some(place) if place.at() > oldest => search.before = Some(place),
            _ => break,
        }
    }
    app.letters.known().loaded = true;
    Ok(())
}

/// The time of the oldest dead letter there is.
async fn oldest(app: &App) -> Result<Option<i64>> {
    let mut oldest: Option<i64> = None;
    for (topic, partitions) in api::dead_letter_topics(app).await? {
        for partition in 0..partitions {
            let marks = app.broker.watermarks(&topic, partition).await?;
            if marks.high <= marks.low {
                continue;
            }
            let mut reader = app
                .broker
                .reader(&[Position::at(&topic, partition, marks.low)])
                .await?;
            let first = reader.next(1, Duration::from_secs(1)).await?;
            let at = first.first().map_or(0, |record| record.timestamp);
            oldest = Some(oldest.map_or(at, |oldest| oldest.min(at)));
        }
    }
    Ok(oldest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_again_waits_no_longer_and_is_forgotten_with_the_letter() {
        let letters = Letters::default();
        let marks = |low, high| Watermarks { low, high };
        assert_eq!(letters.next("a", 0, &marks(2, 9)), 2);
        assert!(letters.heard("a", 0, 2));
        assert!(letters.sent_again("a", 0, 2, 70), "it had been counted");
        assert!(!letters.sent_again("a", 0, 2, 80), "twice is once");
        assert!(!letters.sent_again("a", 0, 5, 80), "nobody has counted it yet");
        assert!(!letters.heard("a", 0, 5));
        assert_eq!(letters.waiting("a", 0, &marks(2, 9)), 5);
        assert_eq!(letters.waiting("b", 0, &marks(2, 9)), 7);
        assert_eq!(letters.again_at("a", 0, 2), Some(80));
        assert_eq!(letters.waiting("a", 0, &marks(3, 9)), 5);
        assert_eq!(letters.again_at("a", 0, 2), None);
        assert_eq!(letters.known().count, 1);
        assert_eq!(letters.next("a", 0, &marks(0, 1)), 0, "made anew");
    }
}
