//! What an operator sets for a link.

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use units::ByteSize;

use crate::error::{Error, Result};
use crate::window::Window;

/// The limits of one link. Without any, everything crosses at once and is only counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The most bytes that TCP carries in a second, its packets' headers not counted, both directions together, as "32KB"; no
    /// cap when unset.
    pub cap: Option<ByteSize>,
    /// The time zone of windows, days and months, as "Europe/Berlin".
    pub zone: String,
    /// When the link may be used, as "mon-fri 22:00-06:00"; always when there is none.
    pub windows: Vec<Window>,
    /// The most bytes in a day; no limit when unset.
    pub per_day: Option<ByteSize>,
    /// The most bytes in a calendar month; no limit when unset.
    pub per_month: Option<ByteSize>,
    /// How much of a byte budget is kept for what is no bulk, in percent.
    pub reserve: u8,
    /// Bytes cost money here: previews, backlog and assets wait until somebody confirms how many may cross.
    pub metered: bool,
    /// What each lower class gets while a higher one could take everything, in percent of the cap.
    pub share: u8,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cap: None,
            zone: "UTC".to_owned(),
            windows: Vec::new(),
            per_day: None,
            per_month: None,
            reserve: 10,
            metered: false,
            share: 5,
        }
    }
}

/// The least cap: with less, a TLS handshake would take longer than peers wait.
const LEAST_CAP: u64 = 1000;

impl Settings {
    /// Whether this can work.
    ///
    /// # Errors
    /// Every problem, with its key.
    pub fn validate(&self) -> std::result::Result<(), Vec<String>> {
        let mut problems = Vec::new();
        if self.cap.is_some_and(|cap| cap.bytes() < LEAST_CAP) {
            problems.push(format!(
                "cap: {LEAST_CAP} bytes per second at least; leave it out for no cap"
            ));
        }
        if self.zone().is_none() {
            problems.push(format!(
                "zone: `{}` is no time zone; write it as Europe/Berlin or UTC",
                self.zone
            ));
        }
        for (key, size) in [("per_day", self.per_day), ("per_month", self.per_month)] {
            if size.is_some_and(|size| size.bytes() == 0) {
                problems.push(format!("{key}: must not be zero; leave it out for no limit"));
            }
        }
        if self.reserve > 90 {
            problems.push("reserve: 0 to 90 percent".to_owned());
        }
        if !(1..=15).contains(&self.share) {
            problems.push("share: 1 to 15 percent, for there are six lower classes".to_owned());
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }

    /// These settings with one of them as JSON says, null for none.
    ///
    /// # Errors
    /// When there is no such key, or it cannot have this value, in a user's words.
    pub fn with(&self, key: &str, value: serde_json::Value) -> std::result::Result<Self, String> {
        let mut all = serde_json::to_value(self).map_err(|error| error.to_string())?;
        match all.get_mut(key) {
            Some(place) => *place = value,
            None => return Err(format!("{key}: there is no such setting")),
        }
        let changed: Self = serde_json::from_value(all).map_err(|error| format!("{key}: {error}"))?;
        match changed.validate() {
            Ok(()) => Ok(changed),
            Err(problems) => Err(problems.join("; ")),
        }
    }

    pub(crate) fn zone(&self) -> Option<TimeZone> {
        TimeZone::get(&self.zone).ok()
    }
}

/// Settings that were checked.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) settings: Settings,
    pub(crate) zone: TimeZone,
}

impl Plan {
    pub(crate) fn new(settings: Settings) -> Result<Self> {
        settings.validate().map_err(Error::Settings)?;
        let zone = settings.zone().unwrap_or(TimeZone::UTC);
        Ok(Self { settings, zone })
    }

    /// What bulk may use of a byte budget.
    pub(crate) fn without_reserve(&self, limit: u64) -> u64 {
        limit - limit / 100 * u64::from(self.settings.reserve)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_problem_names_its_key() {
        let settings = Settings {
            cap: Some(ByteSize(10)),
            zone: "Mars/Olympus".into(),
            per_day: Some(ByteSize(0)),
            reserve: 100,
            share: 20,
            ..Settings::default()
        };
        let problems = settings.validate().unwrap_err().join("\n");
        for key in ["cap", "zone", "per_day", "reserve", "share"] {
            assert!(problems.contains(key), "{key} in {problems}");
        }
        assert_eq!(Settings::default().validate(), Ok(()));
    }

    #[test]
    fn one_setting_is_changed_by_its_name() {
        let settings = Settings::default();
        let capped = settings.with("cap", "32KB".into()).unwrap();
        assert_eq!(capped.cap, Some(ByteSize(32_000)));
        assert_eq!(capped.with("cap", serde_json::Value::Null).unwrap(), settings);
        let windows = serde_json::json!(["22:00-06:00"]);
        assert_eq!(settings.with("windows", windows).unwrap().windows.len(), 1);
        for (key, value) in [("cap", "fast"), ("speed", "1MB"), ("metered", "perhaps")] {
            assert!(
                settings.with(key, value.into()).unwrap_err().starts_with(key),
                "{key}"
            );
        }
    }

    #[test]
    fn the_reserve_is_kept_from_bulk() {
        let plan = Plan::new(Settings::default()).unwrap();
        assert_eq!(plan.without_reserve(1000), 900);
    }
}
