//! What an operator can set.

use common::chassis::{Span, prefixed};
use common::{broker, chassis, table};
use serde::{Deserialize, Serialize};

/// The settings of broadcaster.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The core's broker.
    pub broker: broker::Settings,
    /// The core's tables.
    pub table: table::Settings,
    /// How long an asset is offered whose catalogue names no end; for ever when unset.
    pub expires_after: Option<Span>,
    /// How many assets are worked on at once.
    pub in_flight: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            broker: broker::Settings::default(),
            table: table::Settings::default(),
            expires_after: None,
            in_flight: 64,
        }
    }
}

impl chassis::Settings for Settings {
    fn validate(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        problems.extend(prefixed("broker", self.broker.validate()));
        problems.extend(prefixed("table", self.table.validate()));
        if self.expires_after.is_some_and(|span| span.is_zero()) {
            problems.push(
                "expires_after: must not be zero; leave it out for assets that never expire".to_owned(),
            );
        }
        if self.in_flight == 0 {
            problems.push("in_flight: must not be zero".to_owned());
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }
}
