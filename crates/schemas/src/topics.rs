//! The names of topics, and what each keeps.

use crate::ids::SiteId;

/// The topics' names inside a site.
#[expect(
    missing_docs,
    reason = "the names of DESIGN's table of services, explained by ALL"
)]
pub mod names {
    pub const ASSET_PIPELINE: &str = "asset-pipeline";
    pub const ASSET_BROADCAST: &str = "ASSET_BROADCAST";
    pub const ASSET_PREVIEW: &str = "ASSET_PREVIEW";
    pub const ASSET_REQUEST: &str = "ASSET_REQUEST";
    pub const ASSET_RESPONSE: &str = "ASSET_RESPONSE";
    pub const ASSET_RECEIPT: &str = "ASSET_RECEIPT";
    pub const ASSET_CHANGES: &str = "asset-changes";
    pub const SERVICE_STATUS: &str = "service-status";
    pub const SERVICE_CONTROL: &str = "service-control";
    pub const SERVICE_LOG: &str = "service-log";
    pub const SERVICE_HISTORY: &str = "service-history";
    pub const SITE_STATUS: &str = "site-status";
    pub const CHECKPOINTS: &str = "checkpoints";
    pub const LINK_PATHS: &str = "link-paths";
}

/// A topic that a site needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Keeps the newest record of each key instead of the newest days.
    pub compacted: bool,
    /// How many partitions it must have, where that is not the site's choice.
    pub partitions: Option<i32>,
}

fn topic(name: impl Into<String>, compacted: bool, partitions: Option<i32>) -> Topic {
    Topic {
        name: name.into(),
        compacted,
        partitions,
    }
}

impl Topic {
    /// What the core has whatever edges it has.
    pub fn core() -> Vec<Self> {
        vec![
            topic(names::ASSET_PIPELINE, true, None),
            topic(names::ASSET_BROADCAST, true, None),
            topic(names::ASSET_PREVIEW, true, None),
            topic(names::ASSET_CHANGES, false, None),
            topic(names::SERVICE_STATUS, true, Some(1)),
            topic(names::SERVICE_CONTROL, true, Some(1)),
            topic(names::SERVICE_LOG, true, Some(1)),
            topic(names::LINK_PATHS, true, Some(1)),
        ]
    }

    /// What the core has for one edge. Their partitions match the edge's topics of the same kind.
    pub fn core_for(edge: &SiteId) -> Vec<Self> {
        vec![
            topic(at_core(edge, names::ASSET_REQUEST), false, None),
            topic(at_core(edge, names::ASSET_RECEIPT), false, None),
            topic(at_core(edge, names::ASSET_RESPONSE), false, None),
            topic(at_core(edge, names::SITE_STATUS), true, Some(1)),
            topic(at_core(edge, names::CHECKPOINTS), true, Some(1)),
        ]
    }

    /// What an edge has.
    pub fn edge(edge: &SiteId) -> Vec<Self> {
        vec![
            topic(names::ASSET_BROADCAST, true, None),
            topic(names::ASSET_PREVIEW, true, None),
            topic(names::ASSET_REQUEST, false, None),
            topic(names::ASSET_RESPONSE, false, None),
            topic(names::ASSET_RECEIPT, false, None),
            topic(names::ASSET_CHANGES, false, None),
            topic(names::SERVICE_STATUS, true, Some(1)),
            topic(names::SERVICE_CONTROL, true, Some(1)),
            topic(names::SERVICE_LOG, true, Some(1)),
            topic(names::SERVICE_HISTORY, true, Some(1)),
            topic(names::SITE_STATUS, true, Some(1)),
            topic(names::LINK_PATHS, true, Some(1)),
            topic(at_core(edge, names::CHECKPOINTS), true, Some(1)),
        ]
    }
}

/// The name that an edge's own topic has at the core.
pub fn at_core(edge: &SiteId, name: &str) -> String {
    format!("{edge}.{name}")
}

/// Takes `<edge>.<name>` apart.
pub fn split_site(topic: &str) -> Option<(SiteId, &str)> {
    let (site, name) = topic.split_once('.')?;
    Some((site.parse().ok()?, name))
}
