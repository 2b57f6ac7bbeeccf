//! What the API answers with. Times are milliseconds since 1970; a field without value is null.

use std::collections::BTreeMap;

use common::schemas::EdgeAsset;
use common::table::Row;
use serde::Serialize;
use utoipa::ToSchema;

/// An asset as an edge knows it.
// That it has no other fields tells its schema from the core's.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EdgeView {
    pub(crate) asset_id: String,
    /// available, requesting, requested, ready, mirrored, refused, cancelled, expired or withdrawn.
    pub(crate) state: &'static str,
    pub(crate) title: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) credit: Option<String>,
    pub(crate) hash: Option<String>,
    pub(crate) size: Option<i64>,
    pub(crate) media_type: Option<String>,
    pub(crate) file_name: Option<String>,
    pub(crate) created_at: Option<i64>,
    pub(crate) broadcast_at: Option<i64>,
    pub(crate) expires_at: Option<i64>,
    pub(crate) withdrawn_at: Option<i64>,
    /// Why it was refused or withdrawn.
    pub(crate) reason: Option<String>,
    pub(crate) attempt: Option<i32>,
    pub(crate) requesting_at: Option<i64>,
    pub(crate) requested_by: Option<String>,
    pub(crate) cancelled_at: Option<i64>,
    pub(crate) requested_at: Option<i64>,
    pub(crate) responded_at: Option<i64>,
    pub(crate) mirrored_at: Option<i64>,
    /// When its bytes were last given back.
    pub(crate) evicted_at: Option<i64>,
    /// Since when its bytes stay here whatever the quota says; null when they do not.
    pub(crate) pinned_at: Option<i64>,
    pub(crate) has_preview: bool,
}

impl EdgeView {
    pub(crate) fn of(facts: EdgeAsset, now: i64) -> Self {
        let state = facts.state(now).as_str();
        let reason = match state {
            "withdrawn" => facts.withdrawn_reason.clone(),
            "refused" => facts.response_reason.clone(),
            _ => None,
        };
        Self {
            asset_id: facts.asset_id.map(String::from).unwrap_or_default(),
            state,
            title: facts.title,
            description: facts.description,
            credit: facts.credit,
            hash: facts.hash.map(String::from),
            size: facts.size,
            media_type: facts.media_type,
            file_name: facts.file_name,
            created_at: facts.created_at,
            broadcast_at: facts.broadcast_at,
            expires_at: facts.expires_at,
            withdrawn_at: facts.withdrawn_at,
            reason,
            attempt: facts.attempt,
            requesting_at: facts.requesting_at,
            requested_by: facts.requested_by,
            cancelled_at: facts.cancelled_at,
            requested_at: facts.requested_at,
            responded_at: facts.responded_at,
            mirrored_at: facts.mirrored_at,
            evicted_at: facts.evicted_at,
            pinned_at: facts.pinned_at,
            has_preview: facts.preview_media_type.is_some(),
        }
    }
}

/// An asset as the core knows it. In a listing, what only one asset's page shows is null.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct CoreView {
    pub(crate) asset_id: String,
    /// announced, downloaded, broadcast, failed, withdrawn or expired.
    pub(crate) state: &'static str,
    pub(crate) title: String,
    pub(crate) reason: Option<String>,
    pub(crate) size: Option<i64>,
    pub(crate) media_type: Option<String>,
    pub(crate) hash: Option<String>,
    pub(crate) announced_at: i64,
    pub(crate) expires_at: Option<i64>,
    pub(crate) description: Option<String>,
    pub(crate) credit: Option<String>,
    pub(crate) link: Option<String>,
    pub(crate) catalogue: Option<String>,
    pub(crate) native_id: Option<String>,
    pub(crate) file_name: Option<String>,
    pub(crate) created_at: Option<i64>,
    pub(crate) downloaded_at: Option<i64>,
    pub(crate) broadcast_at: Option<i64>,
    pub(crate) withdrawn_at: Option<i64>,
    pub(crate) has_preview: bool,
    /// Who asked for it, and what became of that.
    pub(crate) deliveries: Vec<RequestView>,
}

/// One attempt of a site to get an asset.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct RequestView {
    pub(crate) request_id: Option<String>,
    pub(crate) site: Option<String>,
    pub(crate) asset_id: Option<String>,
    /// The asset's title; null among an asset's own `deliveries`.
    pub(crate) title: Option<String>,
    pub(crate) attempt: Option<i32>,
    pub(crate) requested_at: Option<i64>,
    pub(crate) requested_by: Option<String>,
    /// ready, refused or cancelled; null until it is answered.
    pub(crate) outcome: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) responded_at: Option<i64>,
    pub(crate) delivered_at: Option<i64>,
}

impl RequestView {
    /// Reads a row of `deliveries` or `site_requests`.
    pub(crate) fn of(row: &Row) -> Self {
        let text = |column| row.text(column).map(str::to_owned);
        Self {
            request_id: text("request_id"),
            site: text("site"),
            asset_id: text("asset_id"),
            title: None,
            attempt: row.int("attempt"),
            requested_at: row.timestamp("requested_at"),
            requested_by: text("requested_by"),
            outcome: text("outcome"),
            reason: text("reason"),
            responded_at: row.timestamp("responded_at"),
            delivered_at: row.timestamp("delivered_at"),
        }
    }
}

/// An asset of either kind of site.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum AssetView {
    /// At an edge.
    Edge(Box<EdgeView>),
    /// At the core.
    Core(Box<CoreView>),
}

/// A page of assets, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AssetPage {
    pub(crate) assets: Vec<AssetView>,
    /// What to give as `after` for the next page; null on the last.
    pub(crate) next: Option<String>,
    /// How many match, on all pages.
    pub(crate) total: usize,
    /// How many assets there are in each state, whatever was asked for.
    pub(crate) by_state: BTreeMap<&'static str, usize>,
}

/// What one instance of a service says of itself.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Service {
    pub(crate) service: String,
    pub(crate) instance: String,
    /// starting, running, waiting, paused, draining, stopped, failed; or silent after ten seconds without a word.
    pub(crate) state: &'static str,
    /// The state it last reported.
    pub(crate) reported_state: &'static str,
    pub(crate) detail: Option<String>,
    pub(crate) last_error: Option<String>,
    pub(crate) last_error_at: Option<i64>,
    pub(crate) started_at: i64,
    pub(crate) reported_at: i64,
    pub(crate) version: String,
    pub(crate) counters: BTreeMap<String, i64>,
    pub(crate) gauges: BTreeMap<String, f64>,
    /// What it was told to do last: running or paused; null when nobody has.
    pub(crate) desired: Option<&'static str>,
    /// What it was told to log; null when it logs as its settings say.
    pub(crate) log_level: Option<String>,
    /// What it counted in a second, over the last minute; null when it says nothing.
    pub(crate) rate: Option<f64>,
    /// How many records it is behind; null where it does not say.
    pub(crate) lag: Option<f64>,
    /// Records that it could not process, since they are kept, but those that were sent again.
    pub(crate) dead_letters: i64,
    /// How long it has run; null when it does not.
    pub(crate) uptime_s: Option<i64>,
}

impl Service {
    /// What a reader sees change: all but how the time passes, which a page tells by itself.
    pub(crate) fn seen(&self) -> Self {
        let mut gauges = self.gauges.clone();
        gauges.retain(|name, _| !name.ends_with("_at"));
        Self {
            reported_at: 0,
            uptime_s: None,
            gauges,
            ..self.clone()
        }
    }
}

/// Something that is wrong, in words, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Trouble {
    /// error: a person must act; warning: it may pass, or has time; info: nothing is wrong, it is only good to know.
    pub(crate) severity: &'static str,
    pub(crate) what: String,
    pub(crate) remedy: String,
}
