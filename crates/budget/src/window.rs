//! The times of a week in which the link may be used.

use std::fmt::{self, Debug, Display, Formatter};
use std::str::FromStr;

use jiff::civil::{Date, DateTime, Weekday};
use jiff::{ToSpan as _, Zoned};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const DAY: u16 = 24 * 60;
const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A span of the day, on some days of the week: `22:00-06:00`, `mon-fri 12:00-13:00`, `sat,sun 00:00-24:00`. One that
/// goes over midnight belongs to the day on which it begins.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Window {
    days: [bool; 7],
    from: u16,
    to: u16,
}

fn place(day: Weekday) -> usize {
    usize::try_from(day.to_monday_zero_offset()).unwrap_or_default()
}

impl Window {
    /// Whether it is open at that time on the clock.
    pub fn contains(&self, at: DateTime) -> bool {
        let minute = minute(at);
        let today = place(at.weekday());
        let yesterday = (today + 6) % 7;
        if self.from < self.to {
            self.days[today] && (self.from..self.to).contains(&minute)
        } else {
            (self.days[today] && minute >= self.from) || (self.days[yesterday] && minute < self.to)
        }
    }

    /// When it opens next.
    pub(crate) fn opens_after(&self, now: &Zoned) -> Option<Zoned> {
        (0..=7).find_map(|days| {
            let date: Date = now.date().checked_add(i64::from(days).days()).ok()?;
            if !self.days[place(date.weekday())] {
                return None;
            }
            let (hour, minute) = (
                i8::try_from(self.from / 60).ok()?,
                i8::try_from(self.from % 60).ok()?,
            );
            let opens = date
                .at(hour, minute, 0, 0)
                .to_zoned(now.time_zone().clone())
                .ok()?;
            (&opens > now).then_some(opens)
        })
    }
}

fn minute(at: DateTime) -> u16 {
    u16::from(at.hour().unsigned_abs()) * 60 + u16::from(at.minute().unsigned_abs())
}

fn time(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let two = |text: &str| (text.len() == 2).then(|| text.parse::<u16>().ok()).flatten();
    let (hour, minute) = (two(hour)?, two(minute)?);
    let time = hour * 60 + minute;
    (minute < 60 && time <= DAY).then_some(time)
}

fn days(text: &str) -> Option<[bool; 7]> {
    let day = |name: &str| NAMES.iter().position(|known| *known == name);
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut at, last) = (day(first)?, day(last)?);
        days[at] = true;
        while at != last {
            at = (at + 1) % 7;
            days[at] = true;
        }
    }
    Some(days)
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let lower = text.trim().to_ascii_lowercase();
            let (named, span) = lower.rsplit_once(' ').unwrap_or(("mon-sun", &lower));
            let (from, to) = span.split_once('-')?;
            let (from, to) = (time(from)?, time(to)?);
            (from < DAY && from != to).then_some(Self {
                days: days(named.trim())?,
                from,
                to,
            })
        };
        parse().ok_or_else(|| {
            format!(
                "`{text}` is no window; write it as 22:00-06:00, mon-fri 12:00-13:00 or sat,sun 00:00-24:00"
            )
        })
    }
}

impl Display for Window {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.days != [true; 7] {
            let mut named = Vec::new();
            let mut at = 0;
            while at < NAMES.len() {
                let run = self.days[at..].iter().take_while(|on| **on).count();
                match &NAMES[at..at + run] {
                    [first, _, .., last] => named.push(format!("{first}-{last}")),
                    few => named.extend(few.iter().map(|name| (*name).to_owned())),
                }
                at += run.max(1);
            }
            write!(f, "{} ", named.join(","))?;
        }
        let (from, to) = (self.from, self.to);
        write!(
            f,
            "{:02}:{:02}-{:02}:{:02}",
            from / 60,
            from % 60,
            to / 60,
            to % 60
        )
    }
}

impl Debug for Window {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(window: &str, at: &str) -> bool {
        window.parse::<Window>().unwrap().contains(at.parse().unwrap())
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
        // 2026-11-20 is a Friday.
        assert!(open("22:00-06:00", "2026-11-20T23:00") && open("22:00-06:00", "2026-11-20T05:59:59"));
        assert!(!open("22:00-06:00", "2026-11-20T06:00"));
        assert!(open("fri 22:00-06:00", "2026-11-21T05:00"));
        assert!(!open("fri 22:00-06:00", "2026-11-20T05:00"));
        assert!(open("sat,sun 00:00-24:00", "2026-11-22T23:59"));
        assert!(!open("mon-fri 12:00-13:00", "2026-11-21T12:30"));
        assert!(open("sat-mon 12:00-13:00", "2026-11-23T12:30"));
    }

    #[test]
    fn what_is_printed_is_read_and_nonsense_is_refused_with_an_example() {
        for text in [
            "22:00-06:00",
            "fri 12:00-13:30",
            "sat,sun 00:00-24:00",
            "mon-fri 22:00-06:00",
            "mon,wed-fri,sun 01:00-02:00",
        ] {
            assert_eq!(text.parse::<Window>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "22-6",
            "25:00-26:00",
            "xyz 10:00-11:00",
            "10:00-10:00",
            "24:00-01:00",
        ] {
            assert!(text.parse::<Window>().unwrap_err().contains("mon-fri"), "{text}");
        }
    }

    #[test]
    fn the_next_opening_is_found_in_the_zone_and_over_a_change_of_clocks() {
        let now: Zoned = "2026-03-28T12:00[Europe/Berlin]".parse().unwrap();
        let opens = |text: &str| {
            text.parse::<Window>()
                .unwrap()
                .opens_after(&now)
                .unwrap()
                .to_string()
        };
        assert_eq!(opens("22:00-06:00"), "2026-03-28T22:00:00+01:00[Europe/Berlin]");
        assert_eq!(opens("11:00-12:00"), "2026-03-29T11:00:00+02:00[Europe/Berlin]");
        assert_eq!(
            opens("sat 11:00-12:00"),
            "2026-04-04T11:00:00+02:00[Europe/Berlin]"
        );
    }
}
