//! What an operator can set.

use common::chassis::prefixed;
use common::{broker, chassis, table};
use serde::{Deserialize, Serialize};

/// The settings of listener.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The edge's broker.
    pub broker: broker::Settings,
    /// The edge's tables.
    pub table: table::Settings,
    /// How many records are worked on at once. Writes that meet at the engine are synced together, so this is what
    /// makes a long backlog quick.
    pub in_flight: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            broker: broker::Settings::default(),
            table: table::Settings::default(),
            in_flight: 256,
        }
    }
}

impl chassis::Settings for Settings {
    fn validate(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        problems.extend(prefixed("broker", self.broker.validate()));
        problems.extend(prefixed("table", self.table.validate()));
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
