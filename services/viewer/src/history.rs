//! The link's past as it wrote it down in `service-history`, in memory: two rings of figures. And what the mirror moved, as
//! this service noted it there.
//!
//! The topic is read from its beginning at start, which is some thousand small records, and followed. A point's place is
//! told by its time, so what comes twice or late is put where it belongs.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::broker::{self, Record};
use common::schemas::{self, ServiceHistory, topic};
use serde::Serialize;

use crate::api::CONTACT_MS;
use crate::app::App;
use crate::pace::{Measured, Minute};
use crate::tape;

/// More figures than a link with many routes has; beyond it none is added.
const MAX_SERIES: usize = 200;
const MINUTE_MS: i64 = 60_000;
/// Over how many minutes in which the core answered it is looked for the busiest.
const MINUTES: usize = 60;
/// Points that are farther apart say nothing of a minute.
const GAP_MS: i64 = 3 * MINUTE_MS;

/// Says that there is a new point.
#[derive(Debug, Serialize)]
struct News {
    at: i64,
}

/// Figures at times that are so far apart, as many as there are slots.
#[derive(Debug)]
struct Ring {
    every_ms: i64,
    /// When the point of each slot was made; 0 is never.
    at: Vec<i64>,
    /// By name, a figure for each slot.
    series: BTreeMap<String, Vec<f64>>,
}

impl Ring {
    fn new(every_ms: i64, slots: usize) -> Self {
        Self {
            every_ms,
            at: vec![0; slots],
            series: BTreeMap::new(),
        }
    }

    fn put(&mut self, at: i64, figures: BTreeMap<String, f64>) {
        let slots = self.at.len();
        let slot = usize::try_from(at / self.every_ms).unwrap_or_default() % slots;
        if at < self.at[slot] {
            return;
        }
        self.at[slot] = at;
        for values in self.series.values_mut() {
            values[slot] = f64::NAN;
        }
        for (name, figure) in figures {
            if let Some(values) = self.series.get_mut(&name) {
                values[slot] = figure;
            } else if self.series.len() < MAX_SERIES && name.len() <= 300 {
                let mut values = vec![f64::NAN; slots];
                values[slot] = figure;
                self.series.insert(name, values);
            }
        }
    }
}

/// The points of a time.
#[derive(Debug, Default)]
pub(crate) struct Points {
    /// When each was made, the oldest first.
    pub(crate) at: Vec<i64>,
    /// By name, a figure for each of them; what is not known is no number.
    pub(crate) series: BTreeMap<String, Vec<f64>>,
}

/// The rings.
#[derive(Debug)]
pub(crate) struct History {
    rings: Mutex<[Ring; 2]>,
}

impl Default for History {
    fn default() -> Self {
        let rings = [
            Ring::new(MINUTE_MS, 24 * 60),
            Ring::new(15 * MINUTE_MS, 30 * 24 * 4),
        ];
        Self {
            rings: Mutex::new(rings),
        }
    }
}

impl History {
    /// Takes a record; when its point was made, if it is one of every minute.
    fn hear(&self, record: &Record) -> Option<i64> {
        let key = record.key.as_deref().map(String::from_utf8_lossy)?;
        let key = key.strip_prefix("link/")?;
        let point = schemas::decode::<ServiceHistory>(record.value.as_deref()?).ok()?;
        let ring = match key.split_once('/')?.0 {
            "minute" => 0,
            "quarter" => 1,
            _ => return None,
        };
        if point.at <= 0 {
            return None;
        }
        self.rings()[ring].put(point.at, point.figures);
        (ring == 0).then_some(point.at)
    }

    /// The points from a time to another, of every minute or of every quarter of an hour.
    pub(crate) fn points(&self, quarters: bool, from: i64, until: i64) -> Points {
        let rings = self.rings();
        let ring = &rings[usize::from(quarters)];
        let slots = ring.at.iter().enumerate();
        let mut slots: Vec<(i64, usize)> = slots
            .filter(|(_, at)| (from..until).contains(*at) && **at > 0)
            .map(|(slot, at)| (*at, slot))
            .collect();
        slots.sort_unstable();
        Points {
            at: slots.iter().map(|(at, _)| *at).collect(),
            series: ring
                .series
                .iter()
                .map(|(name, values)| {
                    (
                        name.clone(),
                        slots.iter().map(|(_, slot)| values[*slot]).collect(),
                    )
                })
                .collect(),
        }
    }

    /// When the core last answered, as far as it was written down: a link that has just started does not know.
    pub(crate) fn contact(&self) -> Option<i64> {
        let rings = self.rings();
        let contacts = rings.iter().filter_map(|ring| ring.series.get("last_contact_at"));
        let newest = contacts.flatten().copied().reduce(f64::max)?;
        #[expect(clippy::cast_possible_truncation, reason = "milliseconds since 1970")]
        (newest > 0.0).then_some(newest as i64)
    }

    /// What crossed in the busiest minute of the last hour in which the core answered: a link can do at least so much. None
    /// where nothing crossed.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a rate, and milliseconds since 1970 stay below 2^53"
    )]
    pub(crate) fn busiest(&self) -> Option<Measured> {
        let rings = self.rings();
        let ring = &rings[0];
        let classes = ring.series.iter();
        let classes: Vec<&Vec<f64>> = classes
            .filter(|(name, _)| name.starts_with("class.") && name.ends_with(".month_bytes"))
            .map(|(_, totals)| totals)
            .collect();
        let contacts = ring.series.get("last_contact_at")?;
        let mut slots: Vec<usize> = (0..ring.at.len()).filter(|slot| ring.at[*slot] > 0).collect();
        slots.sort_unstable_by_key(|slot| std::cmp::Reverse(ring.at[*slot]));
        let (mut over_ms, mut as_of, mut busiest) = (0, None, 0.0_f64);
        let minutes = slots.windows(2).filter(|pair| {
            let at = ring.at[pair[0]];
            let reached = at as f64 - contacts[pair[0]] < CONTACT_MS as f64;
            reached && (1..=GAP_MS).contains(&(at - ring.at[pair[1]]))
        });
        for pair in minutes.take(MINUTES) {
            let (at, before) = (pair[0], pair[1]);
            let ms = ring.at[at] - ring.at[before];
            let grown = |totals: &&Vec<f64>| {
                let (now, before) = (totals[at], totals[before]);
                // What begins anew, as a month does, begins at nothing.
                let from = if now >= before { before } else { 0.0 };
                let more = now - from;
                if more.is_finite() { more } else { 0.0 }
            };
            let bytes: f64 = classes.iter().map(grown).sum();
            busiest = busiest.max(bytes * 1000.0 / ms as f64);
            over_ms += ms;
            as_of = as_of.or(Some(ring.at[at]));
        }
        (busiest > 0.0).then_some(Measured {
            bytes_per_second: busiest,
            over_s: over_ms / 1000,
            as_of: as_of?,
        })
    }

    fn rings(&self) -> MutexGuard<'_, [Ring; 2]> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows the site's history from its beginning until an error; a site made before there was any is waited for.
pub(crate) async fn follow(app: &App) -> Result<(), broker::Error> {
    let mut reader = tape::from_the_beginning(&app.broker, topic::SERVICE_HISTORY).await?;
    loop {
        for record in reader.next(500, Duration::from_secs(10)).await? {
            if let Some(minute) = Minute::noted(&record) {
                app.services.remember(minute);
            }
            if let Some(at) = app.history.hear(&record)
                && at >= app.started_at - MINUTE_MS
            {
                app.hub.publish("history", &News { at });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_comes_round_again_holds_the_newest_and_nothing_of_before() {
        let mut ring = Ring::new(MINUTE_MS, 10);
        let of = |name: &str, value: f64| BTreeMap::from([(name.to_owned(), value)]);
        ring.put(MINUTE_MS, of("a", 1.0));
        ring.put(11 * MINUTE_MS, of("b", 2.0));
        assert!(ring.series["a"][1].is_nan());
        assert_eq!((ring.series["b"][1], ring.at[1]), (2.0, 11 * MINUTE_MS));
        // A record that compaction left over from before is none.
        ring.put(MINUTE_MS, of("a", 9.0));
        assert!(ring.series["a"][1].is_nan());
    }

    #[test]
    fn the_last_contact_is_the_newest_that_was_written_down() {
        let history = History::default();
        assert_eq!(history.contact(), None);
        let point = |contact: f64| BTreeMap::from([("last_contact_at".to_owned(), contact)]);
        history.rings()[1].put(MINUTE_MS, point(50_000.0));
        history.rings()[0].put(2 * MINUTE_MS, point(110_000.0));
        // A link that started again and reached nobody says nothing of it.
        history.rings()[0].put(3 * MINUTE_MS, BTreeMap::from([("buffer_hours".to_owned(), 3.0)]));
        assert_eq!(history.contact(), Some(110_000));
    }

    #[test]
    fn the_busiest_minute_is_one_in_which_the_core_answered() {
        let history = History::default();
        assert_eq!(history.busiest(), None);
        let minute = |number: i64, sensors: f64, assets: f64, contact: i64| {
            #[expect(clippy::cast_precision_loss, reason = "a test")]
            let figures = [
                ("class.sensors.month_bytes", sensors),
                ("class.assets.month_bytes", assets),
                ("class.assets.day_bytes", 1e9),
                ("last_contact_at", (contact * MINUTE_MS) as f64),
            ];
            let figures = figures.map(|(name, figure)| (name.to_owned(), figure));
            history.rings()[0].put(number * MINUTE_MS, figures.into());
        };
        let rate = || history.busiest().map(|busiest| busiest.bytes_per_second);
        minute(100, 0.0, 0.0, 100);
        assert_eq!(rate(), None, "from when is not known");
        minute(101, 0.0, 0.0, 101);
        assert_eq!(rate(), None, "nothing crossed");
        minute(102, 600.0, 5_400.0, 102);
        minute(103, 1_200.0, 5_400.0, 103);
        // Nobody answered, and then link did not run.
        minute(104, 1_200.0, 99_000.0, 101);
        minute(110, 1_200.0, 200_000.0, 110);
        let found = Measured {
            bytes_per_second: 100.0,
            over_s: 180,
            as_of: 103 * MINUTE_MS,
        };
        assert_eq!(history.busiest(), Some(found));
        // A new month, and the busy minute is no longer among the last.
        minute(111, 60.0, 0.0, 111);
        assert_eq!(rate(), Some(100.0));
        for number in 112..175 {
            minute(number, 60.0, 0.0, number);
        }
        assert_eq!(rate(), None, "idle for an hour");
    }

    #[test]
    fn points_of_a_time_come_in_its_order_and_series_are_bounded() {
        let history = History::default();
        for minute in [3_i64, 1, 2, 9] {
            #[expect(clippy::cast_precision_loss, reason = "a test")]
            let figures = BTreeMap::from([("a".to_owned(), minute as f64)]);
            history.rings()[0].put(minute * MINUTE_MS, figures);
        }
        let points = history.points(false, MINUTE_MS, 9 * MINUTE_MS);
        assert_eq!(points.at, [1, 2, 3].map(|minute| minute * MINUTE_MS));
        assert_eq!(points.series["a"], [1.0, 2.0, 3.0]);
        assert!(history.points(true, 0, i64::MAX).at.is_empty());
        for name in 0..2 * MAX_SERIES {
            history.rings()[0].put(10 * MINUTE_MS, BTreeMap::from([(name.to_string(), 1.0)]));
        }
        assert_eq!(history.rings()[0].series.len(), MAX_SERIES);
    }
}
