//! What an operator can set.

use common::chassis::{Span, prefixed};
use common::{broker, chassis, table};
use serde::{Deserialize, Serialize};

/// The settings of requester.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The edge's broker.
    pub broker: broker::Settings,
    /// The edge's tables.
    pub table: table::Settings,
    /// How often the pending requests are looked at when nothing wakes it: the limit on how long a request waits
    /// whose wake-up was lost.
    pub poll: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            broker: broker::Settings::default(),
            table: table::Settings::default(),
            poll: Span::seconds(10),
        }
    }
}

impl chassis::Settings for Settings {
    fn validate(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        problems.extend(prefixed("broker", self.broker.validate()));
        problems.extend(prefixed("table", self.table.validate()));
        if self.poll.is_zero() {
            problems.push("poll: must not be zero".to_owned());
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }
}
