//! What an operator can set.

use std::collections::BTreeMap;

use common::chassis::{ByteSize, prefixed};
use common::schemas::SiteId;
use common::{broker, chassis, table, volume};
use serde::{Deserialize, Serialize};

/// The settings of responder.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The core's broker.
    pub broker: broker::Settings,
    /// The core's tables.
    pub table: table::Settings,
    /// The core's volume, which holds the manifests.
    pub volume: volume::Settings,
    /// The largest asset that any site is given; without, there is no limit.
    pub max_bytes: Option<ByteSize>,
    /// What differs for a site, by its name.
    pub sites: BTreeMap<SiteId, SiteSettings>,
    /// How many records are worked on at once.
    pub in_flight: usize,
}

/// What differs for one site.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SiteSettings {
    /// The largest asset that this site is given, instead of the limit for all.
    pub max_bytes: Option<ByteSize>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            broker: broker::Settings::default(),
            table: table::Settings::default(),
            volume: volume::Settings::default(),
            max_bytes: None,
            sites: BTreeMap::new(),
            in_flight: 64,
        }
    }
}

impl chassis::Settings for Settings {
    fn validate(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        problems.extend(prefixed("broker", self.broker.validate()));
        problems.extend(prefixed("table", self.table.validate()));
        problems.extend(prefixed("volume", self.volume.validate()));
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
