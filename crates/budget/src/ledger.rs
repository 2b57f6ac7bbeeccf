//! What has crossed, by class, day and month: kept in a small file, so that a restart gives no new budget.
//!
//! The file is replaced as a whole, synced, a few seconds after bytes have crossed and when the budget is dropped. What a
//! killed process had counted since is lost.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use jiff::Zoned;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::class::Class;

/// The bytes of a span of time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counted {
    /// Its first day.
    since: Date,
    bytes: BTreeMap<Class, u64>,
}

impl Counted {
    pub(crate) fn total(&self) -> u64 {
        self.bytes.values().sum()
    }

    pub(crate) fn of(&self, class: Class) -> u64 {
        self.bytes.get(&class).copied().unwrap_or_default()
    }

    /// Starts over when a later span has begun. A clock that goes back gives no new budget.
    fn roll(&mut self, since: Date) {
        if since > self.since {
            self.since = since;
            self.bytes.clear();
        }
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
        self.day.roll(now.date());
        self.month.roll(now.date().first_of_month());
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
