//! How fast services work, from what they count in their own words.

use std::collections::VecDeque;

use common::schemas::ServiceStatus;

/// Over how long a rate is taken.
const SPAN_MS: i64 = 60_000;
/// How far apart what is kept must be.
const APART_MS: i64 = 2_000;
/// Silence between two words that is longer says nothing of a rate.
const GAP_MS: i64 = 15_000;
/// How many minutes of work are kept.
const MINUTES: usize = 60;

/// One instance's counters over the last minute.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    totals: VecDeque<(i64, i64)>,
}

impl Pace {
    /// Takes a word in.
    pub(crate) fn hear(&mut self, status: &ServiceStatus) {
        let counts = status.counters.iter().filter(|(name, _)| !name.contains("bytes"));
        let total = counts.map(|(_, count)| *count).sum();
        let at = status.reported_at;
        // A service that started again counts from zero.
        if self
            .totals
            .back()
            .is_some_and(|(before, more)| *more > total || *before > at)
        {
            self.totals.clear();
        }
        let near = self.totals.len() > 1
            && self
                .totals
                .iter()
                .nth_back(1)
                .is_some_and(|(before, _)| at - before < APART_MS);
        if near {
            self.totals.pop_back();
        }
        self.totals.push_back((at, total));
        while self
            .totals
            .front()
            .is_some_and(|(before, _)| at - before > SPAN_MS)
        {
            self.totals.pop_front();
        }
    }

    /// What was counted in a second; none without two words in the last minute.
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    pub(crate) fn rate(&self, now: i64) -> Option<f64> {
        let (first, last) = (self.totals.front()?, self.totals.back()?);
        let span = last.0 - first.0;
        (span > 0 && now - last.0 < SPAN_MS).then(|| (last.1 - first.1) as f64 * 1000.0 / span as f64)
    }
}

/// What the mirror has moved, and how long it took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Measured {
    pub(crate) bytes_per_second: f64,
    pub(crate) over_s: i64,
    /// When it last moved anything.
    pub(crate) as_of: i64,
}

#[derive(Debug)]
struct Minute {
    minute: i64,
    ms: i64,
    bytes: i64,
    last_at: i64,
}

/// The minutes in which the mirror moved bytes.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    minutes: VecDeque<Minute>,
}

impl Moved {
    /// Takes a word in, and the one before it.
    pub(crate) fn hear(&mut self, before: Option<&ServiceStatus>, status: &ServiceStatus) {
        let bytes =
            |status: &ServiceStatus| status.counters.get("bytes_received").copied().unwrap_or_default();
        let Some(before) = before else { return };
        let (ms, moved) = (
            status.reported_at - before.reported_at,
            bytes(status) - bytes(before),
        );
        if !(1..=GAP_MS).contains(&ms) || moved <= 0 {
            return;
        }
        let minute = status.reported_at / 60_000;
        if self.minutes.back().is_none_or(|last| last.minute != minute) {
            self.minutes.push_back(Minute {
                minute,
                ms: 0,
                bytes: 0,
                last_at: 0,
            });
        }
        if let Some(last) = self.minutes.back_mut() {
            last.ms += ms;
            last.bytes = last.bytes.saturating_add(moved);
            last.last_at = status.reported_at;
        }
        while self.minutes.len() > MINUTES {
            self.minutes.pop_front();
        }
    }

    /// The rate over all of them; none when nothing was ever moved.
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    pub(crate) fn measured(&self) -> Option<Measured> {
        let ms: i64 = self.minutes.iter().map(|minute| minute.ms).sum();
        let bytes: i64 = self.minutes.iter().map(|minute| minute.bytes).sum();
        Some(Measured {
            bytes_per_second: bytes as f64 * 1000.0 / ms as f64,
            over_s: (ms + 999) / 1000,
            as_of: self.minutes.back()?.last_at,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use common::schemas::ServiceState;

    use super::*;

    fn word(at: i64, name: &str, count: i64) -> ServiceStatus {
        ServiceStatus {
            service: "mirror".into(),
            instance: "0".into(),
            state: ServiceState::Running,
            detail: None,
            last_error: None,
            last_error_at: None,
            started_at: 0,
            reported_at: at,
            version: "1".into(),
            counters: BTreeMap::from([(name.to_owned(), count)]),
            gauges: BTreeMap::new(),
        }
    }

    #[test]
    fn rate_is_that_of_the_last_minute_and_starts_anew_with_the_service() {
        let mut pace = Pace::default();
        assert_eq!(pace.rate(0), None);
        for second in 0..200 {
            pace.hear(&word(second * 1000, "downloaded", second * 7));
        }
        assert_eq!(pace.rate(200_000), Some(7.0));
        assert_eq!(pace.rate(300_000), None, "silent");
        assert!(pace.totals.len() < 70);
        pace.hear(&word(200_000, "downloaded", 1));
        assert_eq!(pace.rate(200_000), None);
    }

    #[test]
    fn mirror_is_measured_while_it_moves_bytes() {
        let mut moved = Moved::default();
        let mut before: Option<ServiceStatus> = None;
        for (at, bytes) in [
            (0, 0),
            (5_000, 0),
            (10_000, 5_000),
            (15_000, 10_000),
            (9_000_000, 10_500),
        ] {
            let status = word(at, "bytes_received", bytes);
            moved.hear(before.as_ref(), &status);
            before = Some(status);
        }
        let measured = moved.measured().unwrap();
        assert_eq!(
            (measured.bytes_per_second, measured.over_s, measured.as_of),
            (1000.0, 10, 15_000)
        );
    }
}
