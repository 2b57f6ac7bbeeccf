//! Why a class may not cross now.

use std::fmt::{self, Display, Formatter};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A reason to wait. Times are in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Hold {
    /// It is outside the link's windows.
    Window {
        /// When the next one opens.
        until: Option<i64>,
    },
    /// The day's bytes are spent.
    Day {
        /// When the next day begins.
        until: i64,
    },
    /// The month's bytes are spent.
    Month {
        /// When the next month begins.
        until: i64,
    },
    /// The link is metered, and nobody has confirmed that bulk may cross.
    Unconfirmed,
    /// The link is paused as a whole.
    Paused,
}

impl Hold {
    /// Until when, if that is known.
    pub fn until(&self) -> Option<i64> {
        match self {
            Self::Window { until } => *until,
            Self::Day { until } | Self::Month { until } => Some(*until),
            Self::Unconfirmed | Self::Paused => None,
        }
    }
}

impl Display for Hold {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Window { .. } => "outside the link's time windows",
            Self::Day { .. } => "the link's bytes of this day are spent",
            Self::Month { .. } => "the link's bytes of this month are spent",
            Self::Unconfirmed => "the link is metered and nobody has confirmed that this may cross",
            Self::Paused => "the link is paused",
        })?;
        match self
            .until()
            .and_then(|until| Timestamp::from_millisecond(until).ok())
        {
            Some(until) => write!(f, ", until {until:.0}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Hold {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_says_why_and_until_when() {
        let hold = Hold::Day {
            until: 1_700_000_000_000,
        };
        assert_eq!(
            hold.to_string(),
            "the link's bytes of this day are spent, until 2023-11-14T22:13:20Z"
        );
        assert!(Hold::Unconfirmed.to_string().ends_with("may cross"));
    }
}
