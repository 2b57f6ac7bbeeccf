//! One struct for each record in `schemas/`, field for field. Times are milliseconds since the Unix epoch.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{AssetId, Hash, RequestId, SiteId};
use crate::wire::Record;

macro_rules! record {
    ($type:ty, $file:literal) => {
        record!($type, $file, "v1");
    };
    ($type:ty, $file:literal, $version:literal) => {
        impl Record for $type {
            const NAME: &'static str = $file;
            const SCHEMA: &'static str =
                include_str!(concat!("../../../schemas/", $file, ".", $version, ".avsc"));
        }
    };
}

/// Where an asset is in its life at the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AssetState {
    /// Its catalogue has it; feed has said so.
    Announced,
    /// Its bytes are whole in the core's volume.
    Downloaded,
    /// Every edge can know of it.
    Broadcast,
    /// Its bytes cannot be had; `reason` says why.
    Failed,
    /// The core offers it no longer; `reason` says why.
    Withdrawn,
}

/// One step in the life of an asset at the core.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each field's text is in schemas/asset.v1.avsc")]
pub struct Asset {
    pub asset_id: AssetId,
    pub state: AssetState,
    pub catalogue: String,
    pub native_id: String,
    pub title: String,
    pub description: String,
    pub link: Option<String>,
    pub credit: Option<String>,
    pub created_at: Option<i64>,
    pub announced_at: i64,
    pub downloaded_at: Option<i64>,
    pub expires_at: Option<i64>,
    pub hash: Option<Hash>,
    pub size: Option<i64>,
    pub media_type: Option<String>,
    pub file_name: Option<String>,
    pub reason: Option<String>,
}
record!(Asset, "asset");

/// What every edge is told of an asset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "each field's text is in schemas/asset_broadcast.v1.avsc"
)]
pub struct AssetBroadcast {
    pub asset_id: AssetId,
    pub title: String,
    pub description: String,
    pub credit: Option<String>,
    pub hash: Hash,
    pub size: i64,
    pub media_type: String,
    pub file_name: String,
    pub created_at: Option<i64>,
    pub broadcast_at: i64,
    pub expires_at: Option<i64>,
    pub withdrawn_at: Option<i64>,
    pub reason: Option<String>,
}
record!(AssetBroadcast, "asset_broadcast");

/// A small picture of an asset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "each field's text is in schemas/asset_preview.v1.avsc"
)]
pub struct AssetPreview {
    pub asset_id: AssetId,
    pub media_type: String,
    pub width: i32,
    pub height: i32,
    #[serde(with = "apache_avro::serde::bytes")]
    pub picture: Vec<u8>,
}
record!(AssetPreview, "asset_preview");

/// What an edge asks of the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestAction {
    /// To be given the asset.
    Request,
    /// To forget that it asked.
    Cancel,
}

/// An edge asks for an asset, or takes its request back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "each field's text is in schemas/asset_request.v1.avsc"
)]
pub struct AssetRequest {
    pub request_id: RequestId,
    pub asset_id: AssetId,
    pub attempt: i32,
    pub action: RequestAction,
    pub requested_at: i64,
    pub requested_by: Option<String>,
}
record!(AssetRequest, "asset_request");

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The manifest has an entry for it: the mirror may fetch the bytes.
    Ready,
    /// It will not be given; the reason says why.
    Refused,
    /// The edge took it back.
    Cancelled,
}

/// The core's answer to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "each field's text is in schemas/asset_response.v1.avsc"
)]
pub struct AssetResponse {
    pub request_id: RequestId,
    pub asset_id: AssetId,
    pub attempt: i32,
    pub outcome: Outcome,
    pub reason: Option<String>,
    pub responded_at: i64,
}
record!(AssetResponse, "asset_response");

/// An edge's word that an asset arrived whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "each field's text is in schemas/asset_receipt.v1.avsc"
)]
pub struct AssetReceipt {
    pub request_id: RequestId,
    pub asset_id: AssetId,
    pub hash: Hash,
    pub size: i64,
    pub mirrored_at: i64,
}
record!(AssetReceipt, "asset_receipt");

/// Says that a row changed, after it did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each field's text is in schemas/asset_change.v1.avsc")]
pub struct AssetChange {
    pub asset_id: AssetId,
    pub writer: String,
    pub changed_at: i64,
}
record!(AssetChange, "asset_change");

/// How far a route has carried one source partition.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each field's text is in schemas/checkpoint.v3.avsc")]
pub struct Checkpoint {
    pub route: String,
    pub source_topic: String,
    pub destination_topic: String,
    pub partition: i32,
    pub next_offset: i64,
    pub source_epoch: String,
    pub ranges: Vec<OffsetRange>,
    pub lost: Vec<LostRange>,
    pub carried_at: i64,
    pub backlog: Vec<OffsetSpan>,
    pub sampled: i32,
}
record!(Checkpoint, "checkpoint", "v3");

/// By which way a topic of this site came here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each field's text is in schemas/link_path.v1.avsc")]
pub struct LinkPath {
    pub topic: String,
    pub hops: Vec<PathHop>,
}
record!(LinkPath, "link_path");

/// A topic that another one came through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each field's text is in schemas/link_path.v1.avsc")]
pub struct PathHop {
    pub site: String,
    pub topic: String,
    pub id: String,
}

/// Source offsets that go another way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each field's text is in schemas/checkpoint.v2.avsc")]
pub struct OffsetSpan {
    pub from: i64,
    pub until: i64,
}

/// Source offsets and what they became at the destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each field's text is in schemas/checkpoint.v1.avsc")]
pub struct OffsetRange {
    pub source: i64,
    pub destination: i64,
    pub count: i64,
}

/// Source offsets that were gone before they could be carried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each field's text is in schemas/checkpoint.v1.avsc")]
pub struct LostRange {
    pub source: i64,
    pub count: i64,
    pub reason: String,
}

/// What one instance of a service is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    /// Connecting.
    Starting,
    /// At work.
    Running,
    /// Able to work, but something it needs is away, or another instance is at work; `detail` says which.
    Waiting,
    /// Told to pause; it holds nothing.
    Paused,
    /// Finishing what it holds.
    Draining,
    /// Ended as it was asked to.
    Stopped,
    /// Ended by an error.
    Failed,
}

/// The state of one instance of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "each field's text is in schemas/service_status.v1.avsc"
)]
pub struct ServiceStatus {
    pub service: String,
    pub instance: String,
    pub state: ServiceState,
    pub detail: Option<String>,
    pub last_error: Option<String>,
    pub last_error_at: Option<i64>,
    pub started_at: i64,
    pub reported_at: i64,
    pub version: String,
    pub counters: BTreeMap<String, i64>,
    pub gauges: BTreeMap<String, f64>,
}
record!(ServiceStatus, "service_status");

/// Figures of a service at a moment: a slot of a ring, or a note.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "each field's text is in schemas/service_history.v1.avsc"
)]
pub struct ServiceHistory {
    pub service: String,
    pub at: i64,
    pub every_s: i32,
    pub figures: BTreeMap<String, f64>,
}
record!(ServiceHistory, "service_history");

/// One log line of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each field's text is in schemas/service_log.v1.avsc")]
pub struct LogLine {
    pub at: i64,
    pub level: String,
    pub target: String,
    pub message: String,
    pub fields: BTreeMap<String, String>,
}

/// The last log lines of one instance of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each field's text is in schemas/service_log.v1.avsc")]
pub struct ServiceLog {
    pub service: String,
    pub instance: String,
    pub as_of: i64,
    pub lines: Vec<LogLine>,
}
record!(ServiceLog, "service_log");

/// What a service should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// Work.
    Running,
    /// Finish what is in hand, leave the group, stay up.
    Paused,
}

/// What a service should be doing, and who said so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "each field's text is in schemas/service_control.v1.avsc"
)]
pub struct ServiceControl {
    pub service: String,
    pub desired: Desired,
    pub log_level: Option<String>,
    pub asked_by: Option<String>,
    pub asked_at: i64,
}
record!(ServiceControl, "service_control");

/// What is set for a service while it runs, above its configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "each field's text is in schemas/service_setting.v1.avsc"
)]
pub struct ServiceSetting {
    pub service: String,
    pub key: String,
    pub value: String,
    pub asked_by: Option<String>,
    pub asked_at: i64,
}
record!(ServiceSetting, "service_setting");

/// What the core hears of an edge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each field's text is in schemas/site_status.v2.avsc")]
pub struct SiteStatus {
    pub site: SiteId,
    pub version: String,
    pub reported_at: i64,
    pub assets: i64,
    pub mirrored: i64,
    pub pending: i64,
    pub problems: Vec<String>,
    pub lag: Option<i64>,
}
record!(SiteStatus, "site_status", "v2");
