//! How long the site's own broker still holds what the link has not carried, and what would go first.
//!
//! Estimated as if the core were away from this moment on and records came in as they did today: the oldest record that
//! waits goes when it is older than its topic keeps records; a topic that keeps so many bytes lets the oldest go when it
//! is full; and a disk that is full takes no more. Compacted topics keep the newest of each key, which is what is carried.

use std::time::Duration;

/// A topic of this site that is carried to the core.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Kept {
    pub(crate) topic: String,
    /// How long it keeps records; none is for ever.
    pub(crate) retention: Option<Duration>,
    /// How many bytes all of its partitions keep; none is no limit.
    pub(crate) most_bytes: Option<u64>,
    /// How old the oldest record is that waits; none when none does.
    pub(crate) oldest: Option<Duration>,
    /// What waits, estimated.
    pub(crate) waiting_bytes: u64,
    /// What came in today, estimated; none when that is not known yet.
    pub(crate) bytes_per_second: Option<f64>,
}

/// What ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// Records become too old.
    Age,
    /// The topic becomes too large.
    Size,
    /// The disk becomes full.
    Disk,
}

impl By {
    /// As a number, for gauges.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Age => 0,
            Self::Size => 1,
            Self::Disk => 2,
        }
    }
}

/// When something would be lost.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Loss {
    /// Of which topic; none is what comes in, of whichever.
    pub(crate) topic: Option<String>,
    pub(crate) seconds: f64,
    pub(crate) by: By,
}

/// What would be lost when, the soonest first: at most one loss for each topic, and one for the disk.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
pub(crate) fn losses(topics: &[Kept], free: Option<u64>) -> Vec<Loss> {
    let mut losses: Vec<(Loss, f64)> = Vec::new();
    for kept in topics {
        let rate = kept.bytes_per_second.unwrap_or_default();
        let age = kept.retention.map(|retention| {
            let left = retention.saturating_sub(kept.oldest.unwrap_or_default());
            (left.as_secs_f64(), By::Age)
        });
        let size = kept.most_bytes.filter(|_| rate > 0.0).map(|most| {
            let left = most.saturating_sub(kept.waiting_bytes);
            (left as f64 / rate, By::Size)
        });
        let soonest = [age, size]
            .into_iter()
            .flatten()
            .min_by(|a, b| a.0.total_cmp(&b.0));
        if let Some((seconds, by)) = soonest {
            let topic = Some(kept.topic.clone());
            losses.push((Loss { topic, seconds, by }, rate));
        }
    }
    let rate: f64 = topics.iter().filter_map(|kept| kept.bytes_per_second).sum();
    if let Some(free) = free.filter(|_| rate > 0.0) {
        let seconds = free as f64 / rate;
        losses.push((
            Loss {
                topic: None,
                seconds,
                by: By::Disk,
            },
            rate,
        ));
    }
    // Of those that go at the same time the one with the most is named.
    losses.sort_by(|(a, more), (b, less)| a.seconds.total_cmp(&b.seconds).then(less.total_cmp(more)));
    losses.into_iter().map(|(loss, _)| loss).collect()
}

/// How many records came in a second, by how many there were at times of the last day.
#[derive(Debug, Default)]
pub(crate) struct Intake(Vec<(i64, i64)>);

/// How far apart samples are, and how many make a day.
pub(crate) const SAMPLE_MS: i64 = 15 * 60 * 1000;
const SAMPLES: usize = 96;
/// Less tells nothing of a day.
const LEAST_MS: i64 = 5 * 60 * 1000;

impl Intake {
    /// So many records have come in all in all. Answers records a second, over a day at most.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub(crate) fn see(&mut self, now_ms: i64, made: i64) -> Option<f64> {
        // A topic that was made again, or a clock that was set back.
        if self
            .0
            .last()
            .is_some_and(|(at, before)| made < *before || now_ms < *at)
        {
            self.0.clear();
        }
        let day = i64::try_from(SAMPLES).unwrap_or_default() * SAMPLE_MS;
        self.0.retain(|(at, _)| now_ms - at <= day);
        if self.0.last().is_none_or(|(at, _)| now_ms - at >= SAMPLE_MS) {
            self.0.push((now_ms, made));
        }
        let (at, before) = *self.0.first()?;
        let passed = now_ms - at;
        (passed >= LEAST_MS).then(|| (made - before) as f64 * 1000.0 / passed as f64)
    }

    /// The newest sample.
    pub(crate) fn newest(&self) -> Option<(i64, i64)> {
        self.0.last().copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn kept(topic: &str) -> Kept {
        Kept {
            topic: topic.into(),
            ..Kept::default()
        }
    }

    #[test]
    fn the_first_to_go_is_named_and_why() {
        let old = Kept {
            retention: Some(DAY),
            oldest: Some(DAY / 2),
            ..kept("old")
        };
        let large = Kept {
            most_bytes: Some(3_600_000),
            waiting_bytes: 1_800_000,
            bytes_per_second: Some(100.0),
            ..kept("large")
        };
        let found = losses(
            &[kept("for ever"), old.clone(), large.clone()],
            Some(1_000_000_000),
        );
        let said: Vec<_> = found
            .iter()
            .map(|loss| (loss.topic.as_deref(), loss.seconds, loss.by))
            .collect();
        assert_eq!(
            said,
            [
                (Some("large"), 18_000.0, By::Size),
                (Some("old"), 43_200.0, By::Age),
                (None, 10_000_000.0, By::Disk),
            ]
        );
        assert_eq!(losses(&[large, old], Some(1_000))[0].by, By::Disk);
        assert!(losses(&[kept("for ever")], Some(1_000)).is_empty());
    }

    #[test]
    fn of_topics_that_go_together_the_busiest_is_named() {
        let of = |topic: &str, rate| Kept {
            retention: Some(DAY),
            bytes_per_second: Some(rate),
            ..kept(topic)
        };
        let found = losses(&[of("a", 0.0), of("b", 9.0), of("c", 1.0)], None);
        assert_eq!(found[0].topic.as_deref(), Some("b"));
    }

    #[test]
    fn the_rate_is_todays_and_begins_anew_with_a_topic() {
        let mut intake = Intake::default();
        assert_eq!(intake.see(0, 1_000), None);
        assert_eq!(intake.see(LEAST_MS, 1_300), Some(1.0));
        for hour in 1..=48 {
            intake.see(
                hour * 3_600_000,
                1_000 + hour * 3_600 * if hour > 24 { 2 } else { 0 },
            );
        }
        let rate = intake.see(48 * 3_600_000, 1_000 + 48 * 7_200).unwrap();
        assert!((2.0..=4.1).contains(&rate), "{rate}");
        assert!(intake.0.len() <= SAMPLES + 1);
        assert_eq!(intake.see(48 * 3_600_000 + 1, 10), None);
    }

    proptest! {
        #[test]
        fn nothing_goes_before_its_time(
            topics in prop::collection::vec((prop::option::of(0_u64..10_000_000), prop::option::of(0_u64..1 << 40),
                prop::option::of(0_u64..20_000_000), 0_u64..1 << 40, prop::option::of(0.0..1e9)), 0..8),
            free in prop::option::of(0_u64..1 << 50),
        ) {
            let topics: Vec<Kept> = topics.into_iter().map(|(retention, most_bytes, oldest, waiting_bytes, bytes_per_second)| Kept {
                retention: retention.map(Duration::from_secs),
                most_bytes,
                oldest: oldest.map(Duration::from_secs),
                waiting_bytes,
                bytes_per_second,
                ..kept("t")
            }).collect();
            let found = losses(&topics, free);
            prop_assert!(found.len() <= topics.len() + 1);
            prop_assert!(found.iter().all(|loss| loss.seconds >= 0.0 && !loss.seconds.is_nan()));
            prop_assert!(found.windows(2).all(|pair| pair[0].seconds <= pair[1].seconds));
        }
    }
}
