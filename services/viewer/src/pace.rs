//! How fast services work, from what they count in their own words.
//!
//! What the mirror moved is also noted, by the minute, in `service-history`: `service-status` is compacted, and after a
//! restart has no more than the last word. A minute's note lies under the key of its slot, so that there are sixty at most.

use std::collections::{BTreeMap, VecDeque};

use common::broker::{Outgoing, Record};
use common::schemas::{self, ServiceHistory, ServiceStatus, topic};

/// Over how long a rate is taken.
const SPAN_MS: i64 = 60_000;
/// How far apart what is kept must be.
const APART_MS: i64 = 2_000;
/// Silence between two words that is longer says nothing of a rate.
const GAP_MS: i64 = 15_000;
/// How many minutes of work are kept.
const MINUTES: usize = 60;
const SLOTS: i64 = 60;
/// What the keys of notes begin with.
const NOTE: &str = "viewer/moved/";

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

/// How fast bytes were moved, and over how long that was looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Measured {
    pub(crate) bytes_per_second: f64,
    pub(crate) over_s: i64,
    /// When that was.
    pub(crate) as_of: i64,
}

/// What was moved in a minute, and how much of it that took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Minute {
    ms: i64,
    bytes: i64,
    last_at: i64,
}

impl Minute {
    /// Reads a note.
    pub(crate) fn noted(record: &Record) -> Option<Self> {
        let key = std::str::from_utf8(record.key.as_deref()?).ok()?;
        key.strip_prefix(NOTE)?;
        let note = schemas::decode::<ServiceHistory>(record.value.as_deref()?).ok()?;
        #[expect(clippy::cast_possible_truncation, reason = "was whole, and below 2^53")]
        let figure = |name: &str| note.figures.get(name).map(|figure| *figure as i64);
        let minute = Self {
            ms: figure("ms")?,
            bytes: figure("bytes")?,
            last_at: note.at,
        };
        (minute.ms > 0 && minute.bytes > 0 && minute.last_at > 0).then_some(minute)
    }

    /// The note of it.
    #[expect(clippy::cast_precision_loss, reason = "bytes of a minute stay below 2^53")]
    pub(crate) fn note(&self) -> Result<Outgoing, schemas::Error> {
        let figures = [("ms", self.ms as f64), ("bytes", self.bytes as f64)];
        let note = ServiceHistory {
            service: "viewer".to_owned(),
            at: self.last_at,
            every_s: 0,
            figures: figures.map(|(name, figure)| (name.to_owned(), figure)).into(),
        };
        let key = format!("{NOTE}{}", self.number() % SLOTS);
        Ok(Outgoing::new(
            topic::SERVICE_HISTORY,
            key,
            schemas::encode(&note)?,
        ))
    }

    /// When it last moved anything.
    pub(crate) fn last_at(&self) -> i64 {
        self.last_at
    }

    fn number(&self) -> i64 {
        self.last_at / 60_000
    }
}

/// The minutes in which the mirror moved bytes.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    minutes: BTreeMap<i64, Minute>,
    /// The same as an earlier process noted it.
    noted: BTreeMap<i64, Minute>,
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
        let minute = self.minutes.entry(status.reported_at / 60_000).or_default();
        minute.ms += ms;
        minute.bytes = minute.bytes.saturating_add(moved);
        minute.last_at = minute.last_at.max(status.reported_at);
        newest(&mut self.minutes);
    }

    /// Takes a note in.
    pub(crate) fn remember(&mut self, minute: Minute) {
        self.noted.insert(minute.number(), minute);
        newest(&mut self.noted);
    }

    /// The minutes in which anything was moved after a time, as far as it was heard.
    pub(crate) fn since(&self, at: i64) -> Vec<Minute> {
        let later = self.minutes.values().filter(|minute| minute.last_at > at);
        later.copied().collect()
    }

    /// The rate over the newest of them; none when nothing was ever moved.
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    pub(crate) fn measured(&self) -> Option<Measured> {
        let mut all = self.noted.clone();
        for (number, minute) in &self.minutes {
            let known = all.entry(*number).or_default();
            // Of the same minute, whoever listened longer knows more.
            if minute.ms >= known.ms {
                *known = *minute;
            }
        }
        newest(&mut all);
        let ms: i64 = all.values().map(|minute| minute.ms).sum();
        let bytes: i64 = all.values().map(|minute| minute.bytes).sum();
        Some(Measured {
            bytes_per_second: bytes as f64 * 1000.0 / ms as f64,
            over_s: (ms + 999) / 1000,
            as_of: all.values().next_back()?.last_at,
        })
    }
}

fn newest(minutes: &mut BTreeMap<i64, Minute>) {
    while minutes.len() > MINUTES {
        minutes.pop_first();
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn what_was_noted_counts_where_nothing_more_was_heard() {
        let minute = |number: i64, ms: i64, bytes: i64| Minute {
            ms,
            bytes,
            last_at: number * 60_000 + ms,
        };
        let mut moved = Moved::default();
        for number in 0..200 {
            moved.remember(minute(number, 10_000, 20_000));
        }
        let measured = moved.measured().unwrap();
        assert_eq!((measured.bytes_per_second, measured.over_s), (2_000.0, 600));
        // A process that began within a minute has heard a part of it.
        let before = word(199 * 60_000, "bytes_received", 0);
        moved.hear(
            Some(&before),
            &word(199 * 60_000 + 5_000, "bytes_received", 5_000),
        );
        assert_eq!(moved.measured(), Some(measured));
        let last = moved.since(199 * 60_000);
        assert_eq!((last.len(), last[0].ms, last[0].bytes), (1, 5_000, 5_000));
        assert!(moved.since(last[0].last_at).is_empty());
    }
}
