//! What has crossed, by class, day and month: kept in a small file, so that a restart gives no new budget.
//!
//! The file is replaced as a whole, synced, a few seconds after bytes have crossed and when the budget is dropped. What a
//! killed process had counted since is lost.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan as _, Zoned};
use serde::{Deserialize, Serialize};

use crate::class::Class;

/// By how much a clock may be ahead and still be set back without being called wrong.
const AHEAD_MS: i64 = 24 * 3600 * 1000;

/// The bytes of a span of time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counted {
    /// Its first day.
    since: Date,
    /// What was its first day before the clock went back by more than a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    was: Option<Date>,
    bytes: BTreeMap<Class, u64>,
}

impl Counted {
    pub(crate) fn total(&self) -> u64 {
        self.bytes.values().sum()
    }

    pub(crate) fn of(&self, class: Class) -> u64 {
        self.bytes.get(&class).copied().unwrap_or_default()
    }

    /// Starts over when a later span has begun. A clock that goes back gives no new budget: its bytes go on counting. Where
    /// the span would begin behind `latest`, the clock is wrong or was: they count to the span that it is now, and are still
    /// there when the clock says again what it said. Whether that was so.
    fn roll(&mut self, since: Date, latest: Date) -> bool {
        if self.was == Some(since) {
            self.since = since;
            self.was = None;
        } else if since > self.since {
            self.since = since;
            self.was = None;
            self.bytes.clear();
        } else if self.since > latest {
            self.was.get_or_insert(self.since);
            self.since = since;
            return true;
        }
        false
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Ledger {
    pub(crate) day: Counted,
    pub(crate) month: Counted,
    /// Bytes of bulk that somebody has confirmed and that have not crossed yet.
    pub(crate) confirmed: u64,
    /// The newest order that confirmed bytes, so that it counts once.
    pub(crate) ordered: i64,
}

impl Ledger {
    /// Reads what was kept; none when there is no file.
    pub(crate) fn read(path: &Path) -> io::Result<Option<Self>> {
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the file. Blocks.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let directory = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or_else(|| Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(&serde_json::to_vec(self).map_err(io::Error::other)?)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        fs::File::open(directory)?.sync_all()
    }

    /// Begins the day and the month that it is now.
    pub(crate) fn roll(&mut self, now: &Zoned) {
        let today = now.date();
        // A clock may be set back over the end of a day.
        let latest = today.tomorrow().unwrap_or(today);
        let (before, this_month) = (self.day.since, today.first_of_month());
        let day = self.day.roll(today, latest);
        let month = self.month.roll(this_month, latest);
        if today > before && self.month.was == this_month.checked_add(1.month()).ok() {
            // Days pass: so it is right now, and the next month is another than the one that it said before.
            self.month.was = None;
        }
        if day || month {
            tracing::warn!(%today, "the clock went back by days: what was counted counts to this day and month");
        }
    }

    /// Whether an order of that time is newer than the last one that counted; then it is the last. One that was given by a
    /// clock which was ahead does not make all that follow old ones.
    pub(crate) fn hear(&mut self, order: i64, now: Timestamp) -> bool {
        let ahead = self.ordered > now.as_millisecond().saturating_add(AHEAD_MS);
        let counts = order > self.ordered || (ahead && order != self.ordered);
        if counts {
            if ahead {
                tracing::warn!("the clock was ahead when bytes were confirmed last");
            }
            self.ordered = order;
        }
        counts
    }

    pub(crate) fn add(&mut self, class: Class, bytes: u64, metered: bool) {
        for counted in [&mut self.day, &mut self.month] {
            *counted.bytes.entry(class).or_default() += bytes;
        }
        if metered && class.bulk() {
            self.confirmed = self.confirmed.saturating_sub(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Zoned {
        text.parse().unwrap()
    }

    #[test]
    fn days_and_months_end_in_their_zone_and_never_begin_again() {
        let mut ledger = Ledger::default();
        ledger.roll(&at("2026-11-30T23:59[Europe/Berlin]"));
        ledger.add(Class::Assets, 10, false);
        ledger.roll(&at("2026-12-01T00:01[Europe/Berlin]"));
        ledger.add(Class::Requests, 1, false);
        assert_eq!((ledger.day.total(), ledger.month.total()), (1, 1));
        ledger.roll(&at("2026-11-30T23:59[Europe/Berlin]"));
        assert_eq!(ledger.day.of(Class::Requests), 1, "the clock went back");
        ledger.roll(&at("2026-12-02T00:01[Europe/Berlin]"));
        assert_eq!((ledger.day.total(), ledger.month.total()), (0, 1));
    }

    #[test]
    fn a_clock_that_was_ahead_for_years_holds_nothing_up() {
        let mut ledger = Ledger::default();
        ledger.roll(&at("2031-05-20T10:00[UTC]"));
        ledger.add(Class::Assets, 100, false);
        assert!(ledger.hear(
            at("2031-05-20T10:00[UTC]").timestamp().as_millisecond(),
            Timestamp::UNIX_EPOCH
        ));
        // It is set right: what was spent stays spent, for as long as the day and the month really last.
        let right = at("2026-11-29T23:50[UTC]");
        ledger.roll(&right);
        assert_eq!((ledger.day.total(), ledger.month.total()), (100, 100));
        ledger.roll(&at("2026-11-30T00:00[UTC]"));
        assert_eq!((ledger.day.total(), ledger.month.total()), (0, 100));
        ledger.roll(&at("2026-12-01T00:00[UTC]"));
        assert_eq!(ledger.month.total(), 0);

        // What is confirmed from then on counts, once.
        let (order, now) = (right.timestamp().as_millisecond(), right.timestamp());
        assert!(ledger.hear(order, now) && !ledger.hear(order, now));
        assert!(!ledger.hear(order - 1, now) && ledger.hear(order + 1, now));
    }

    #[test]
    fn a_month_that_has_not_come_is_none_either() {
        let mut ledger = Ledger::default();
        ledger.roll(&at("2026-12-04T10:00[UTC]"));
        ledger.add(Class::Assets, 100, false);
        ledger.roll(&at("2026-11-04T10:00[UTC]"));
        ledger.add(Class::Assets, 10, false);
        assert_eq!((ledger.day.total(), ledger.month.total()), (110, 110));
        ledger.roll(&at("2026-11-05T10:00[UTC]"));
        assert_eq!((ledger.day.total(), ledger.month.total()), (0, 110));
        ledger.roll(&at("2026-12-01T10:00[UTC]"));
        assert_eq!((ledger.day.total(), ledger.month.total()), (0, 0));
    }

    #[test]
    fn a_box_that_forgets_the_time_gets_no_new_budget_when_it_starts() {
        let mut ledger = Ledger::default();
        ledger.roll(&at("2026-11-20T10:00[UTC]"));
        ledger.add(Class::Assets, 100, false);
        for _ in 0..2 {
            ledger.roll(&at("1970-01-01T00:00[UTC]"));
            ledger.add(Class::Assets, 1, false);
            ledger.roll(&at("2026-11-20T11:00[UTC]"));
        }
        assert_eq!((ledger.day.total(), ledger.month.total()), (102, 102));
        ledger.roll(&at("1970-01-01T00:00[UTC]"));
        ledger.roll(&at("2026-11-21T07:00[UTC]"));
        assert_eq!((ledger.day.total(), ledger.month.total()), (0, 102));
    }

    #[test]
    fn an_order_that_is_heard_again_counts_once_wherever_the_clock_is() {
        let mut ledger = Ledger::default();
        let (order, now) = (at("2031-05-20T10:00[UTC]"), at("2026-11-29T23:50[UTC]"));
        let order = order.timestamp().as_millisecond();
        assert!(ledger.hear(order, now.timestamp()) && !ledger.hear(order, now.timestamp()));
    }

    #[test]
    fn what_was_kept_is_read_and_damage_is_told() {
        let home = testkit::temp_dir();
        let path = home.path().join("budget.json");
        assert_eq!(Ledger::read(&path).unwrap(), None);
        let mut ledger = Ledger {
            confirmed: 100,
            ..Ledger::default()
        };
        ledger.roll(&at("2026-12-01T00:01[UTC]"));
        ledger.add(Class::Assets, 30, true);
        ledger.write(&path).unwrap();
        let read = Ledger::read(&path).unwrap().unwrap();
        assert_eq!(read, ledger);
        assert_eq!(read.confirmed, 70);
        fs::write(&path, b"{").unwrap();
        assert!(Ledger::read(&path).is_err());
    }
}
