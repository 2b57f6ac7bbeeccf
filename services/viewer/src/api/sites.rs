//! The edges that the core knows, what they asked for, enrolling one and cutting one off.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use common::broker::{self, Broker, Position, TopicSpec};
use common::chassis::now_ms;
use common::schemas::{self, AssetId, SiteId, SiteStatus, Topic, at_core, topic};
use common::table::{Row, Select, Value, Write};
use common::volume::ManifestEntry;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Site;
use super::input::{Input, Params, words};
use crate::app::{App, Kind, site_id};
use crate::problem::{Problem, ProblemBody, Result};
use crate::view::RequestView;
use crate::{headquarters, requests as asked};

/// The one partition of table `sites`.
const REALM: &str = "core";
const MAX_REQUESTS: usize = 10_000;
/// How many of the newest requests are listed unless told.
const NEWEST: usize = 100;
/// How many of a status topic's last records are looked at for the newest.
const TAIL: i64 = 50;
const ENTRIES: usize = 500;

/// An edge.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SiteRow {
    site: String,
    certificate_sha256: Option<String>,
    enrolled_at: Option<i64>,
    revoked_at: Option<i64>,
    revoked_reason: Option<String>,
    /// What it last said of itself; null until it has.
    status: Option<SiteWord>,
}

/// What an edge said of itself.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SiteWord {
    site: String,
    /// The release that it runs.
    version: String,
    /// When it said so, by its own clock.
    reported_at: i64,
    /// When this site's viewer heard it, by this site's clock. Of a word that was there when the viewer started that is not
    /// known: it is when the edge said so, or the start where that is later.
    heard_at: i64,
    /// Assets that it knows.
    assets: i64,
    /// Assets whose bytes it holds.
    mirrored: i64,
    /// Assets that it asked for and does not hold yet.
    pending: i64,
    /// What is wrong there, in words.
    problems: Vec<String>,
    /// Records that wait for its link, both ways; null where it does not know.
    lag: Option<i64>,
}

impl SiteWord {
    fn of(status: SiteStatus, heard_at: i64) -> Self {
        Self {
            heard_at,
            site: status.site.into(),
            version: status.version,
            reported_at: status.reported_at,
            assets: status.assets,
            mirrored: status.mirrored,
            pending: status.pending,
            problems: status.problems,
            lag: status.lag,
        }
    }
}

/// The edges.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SitesView {
    sites: Vec<SiteRow>,
}

async fn rows(app: &App) -> Result<Vec<Row>> {
    Ok(app
        .table
        .select(Select::from("sites").partition("realm", REALM))
        .await?)
}

async fn row(app: &App, site: &SiteId) -> Result<Option<Row>> {
    Ok(app
        .table
        .get(
            "sites",
            &[
                ("realm", Value::from(REALM)),
                ("site", Value::from(site.as_str())),
            ],
        )
        .await?)
}

/// The newest word of an edge, and when it was heard.
async fn status(app: &App, site: &SiteId) -> Result<Option<(SiteStatus, i64)>, broker::Error> {
    let newest = newest(&app.broker, site).await?;
    let place = newest
        .as_ref()
        .map(|(offset, status)| (*offset, status.reported_at));
    let heard_at = app.heard.look(site, place, now_ms());
    Ok(newest.map(|(_, status)| status).zip(heard_at))
}

/// The newest word of an edge, and where it lies.
async fn newest(broker: &Broker, site: &SiteId) -> Result<Option<(i64, SiteStatus)>, broker::Error> {
    let name = at_core(site, topic::SITE_STATUS);
    if broker.describe(&name).await?.is_none() {
        return Ok(None);
    }
    let marks = broker.watermarks(&name, 0).await?;
    let start = marks.low.max(marks.high - TAIL);
    if start >= marks.high {
        return Ok(None);
    }
    let mut reader = broker.reader(&[Position::at(&name, 0, start)]).await?;
    let mut newest = None;
    while reader
        .position(&name, 0)
        .is_none_or(|position| position < marks.high)
    {
        for record in reader.next(100, Duration::from_millis(500)).await? {
            let offset = record.offset;
            newest = record
                .value
                .and_then(|value| schemas::decode::<SiteStatus>(&value).ok())
                .map(|status| (offset, status))
                .or(newest);
        }
    }
    Ok(newest)
}

/// When each edge that is not revoked was last heard.
pub(crate) async fn reports(app: &App) -> Result<Vec<(String, Option<i64>)>> {
    let mut found = Vec::new();
    for row in rows(app)
        .await?
        .iter()
        .filter(|row| row.timestamp("revoked_at").is_none())
    {
        let Some(Ok(site)) = row.text("site").map(str::parse::<SiteId>) else {
            continue;
        };
        let status = status(app, &site).await?;
        found.push((site.to_string(), status.map(|(_, heard_at)| heard_at)));
    }
    Ok(found)
}

/// Lists the edges (core).
#[utoipa::path(get, path = "/api/sites", responses((status = 200, body = SitesView), (status = 404, body = ProblemBody)))]
pub(crate) async fn list(State(app): Site) -> Result<Json<SitesView>> {
    app.only(Kind::Core)?;
    Ok(Json(edges(&app).await?))
}

/// The edges as the core knows them.
pub(crate) async fn edges(app: &App) -> Result<SitesView> {
    let mut sites = Vec::new();
    for row in rows(app).await? {
        let Some(Ok(site)) = row.text("site").map(str::parse::<SiteId>) else {
            continue;
        };
        sites.push(SiteRow {
            status: status(app, &site)
                .await?
                .map(|(status, heard_at)| SiteWord::of(status, heard_at)),
            site: site.into(),
            certificate_sha256: row.text("certificate_sha256").map(str::to_owned),
            enrolled_at: row.timestamp("enrolled_at"),
            revoked_at: row.timestamp("revoked_at"),
            revoked_reason: row.text("revoked_reason").map(str::to_owned),
        });
    }
    Ok(SitesView { sites })
}

/// An edge to enrol.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Enrolment {
    /// Its name.
    site: String,
    /// SHA-256 of its certificate in DER, in 64 lower-case hexadecimal digits.
    certificate_sha256: String,
    /// Partitions of its topics, as the edge has them.
    partitions: Option<i32>,
    /// Replicas of its topics.
    replication: Option<i32>,
}

/// An edge that is enrolled.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EnrolledView {
    site: String,
    certificate_sha256: String,
    /// The topics that were made now.
    topics: Vec<String>,
}

/// Enrols an edge (core): its topics, and its right to use the depot with this certificate. One that was revoked is
/// enrolled anew.
#[utoipa::path(post, path = "/api/sites", request_body = Enrolment,
    responses((status = 201, body = EnrolledView), (status = 200, body = EnrolledView), (status = 400, body = ProblemBody),
        (status = 404, body = ProblemBody)))]
pub(crate) async fn enrol(
    State(app): Site,
    Input(enrolment): Input<Enrolment>,
) -> Result<(StatusCode, Json<EnrolledView>)> {
    app.only(Kind::Core)?;
    let site = site_id(&enrolment.site)?;
    if site == app.site {
        return Err(Problem::bad_request(format!("{site} is this core itself")));
    }
    let certificate = enrolment.certificate_sha256;
    if certificate.len() != 64
        || !certificate
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    {
        return Err(Problem::bad_request(
            "certificate_sha256 must be 64 lower-case hexadecimal digits",
        ));
    }
    let partitions = enrolment.partitions.unwrap_or(app.settings.partitions);
    let replication = enrolment.replication.unwrap_or(app.settings.replication);
    if !(1..=1000).contains(&partitions) || !(1..=10).contains(&replication) {
        return Err(Problem::bad_request(
            "partitions must be 1 to 1000, replication 1 to 10",
        ));
    }
    let mut topics = Vec::new();
    for topic in Topic::core_for(&site) {
        if app
            .broker
            .create_topic(&TopicSpec::of(&topic, partitions, replication))
            .await?
        {
            topics.push(topic.name);
        }
    }
    let _one_at_a_time = app.asking.lock().await;
    let before = row(&app, &site).await?;
    let held = |row: &Row| {
        row.text("certificate_sha256") == Some(certificate.as_str()) && row.timestamp("revoked_at").is_none()
    };
    let same = before.as_ref().is_some_and(held);
    if !same {
        let write = Write::to("sites")
            .set("realm", REALM)
            .set("site", site.as_str())
            .set("certificate_sha256", &*certificate)
            .set("enrolled_at", Value::timestamp(now_ms()))
            .set("revoked_at", Value::Null)
            .set("revoked_reason", Value::Null);
        app.table.upsert(write).await?;
        tracing::info!(%site, "edge enrolled");
    }
    let status = if same { StatusCode::OK } else { StatusCode::CREATED };
    Ok((
        status,
        Json(EnrolledView {
            site: site.into(),
            certificate_sha256: certificate,
            topics,
        }),
    ))
}

/// Why an edge is cut off.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Revocation {
    /// Why.
    reason: String,
}

/// An edge that is cut off.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RevokedView {
    site: String,
    revoked_at: i64,
    entries_deleted: usize,
}

/// Ends an edge's rights (core): its certificate is refused, and nothing is open for it any more.
#[utoipa::path(post, path = "/api/sites/{site}/revoke", params(("site" = String, Path)), request_body = Revocation,
    responses((status = 200, body = RevokedView), (status = 404, body = ProblemBody)))]
pub(crate) async fn revoke(
    State(app): Site,
    Path(site): Path<String>,
    Input(revocation): Input<Revocation>,
) -> Result<Json<RevokedView>> {
    app.only(Kind::Core)?;
    let site = site_id(&site)?;
    let reason = words("reason", &revocation.reason)?;
    let unknown = || Problem::not_found(format!("{} has not enrolled {site}", app.site));
    let _one_at_a_time = app.asking.lock().await;
    let before = row(&app, &site).await?.ok_or_else(unknown)?;
    let revoked_at = before.timestamp("revoked_at").unwrap_or_else(now_ms);
    // The row first: from here on no new entry is made and none is served.
    let write = Write::to("sites")
        .set("realm", REALM)
        .set("site", site.as_str())
        .set("revoked_at", Value::timestamp(revoked_at))
        .set("revoked_reason", reason);
    app.table.upsert(write).await?;
    tracing::warn!(%site, "edge revoked");
    let mut entries_deleted = 0;
    loop {
        let entries = app
            .volume
            .list_entries(&ManifestEntry::prefix(&site), None, ENTRIES)
            .await?;
        if entries.is_empty() {
            break;
        }
        for entry in entries {
            app.volume.delete_entry(&entry).await?;
            entries_deleted += 1;
        }
    }
    Ok(Json(RevokedView {
        site: site.into(),
        revoked_at,
        entries_deleted,
    }))
}

/// Whose requests to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct RequestsQuery {
    /// Only this edge: all that it ever asked for, in the order of the assets' ids.
    site: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// At most so many: 100 unless told; 10,000 of one edge.
    limit: Option<usize>,
}

/// Requests.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RequestsView {
    requests: Vec<RequestView>,
    /// What to give as `after` for the next page; null on the last.
    next: Option<String>,
    /// Whether there are older ones than the pages have: of all edges together only the newest 2,000 are listed.
    older: bool,
}

/// Lists who asked for what, newest first, or all that one edge asked for; and what became of it (core).
#[utoipa::path(get, path = "/api/requests", params(RequestsQuery),
    responses((status = 200, body = RequestsView), (status = 400, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub(crate) async fn requests(
    State(app): Site,
    Params(query): Params<RequestsQuery>,
) -> Result<Json<RequestsView>> {
    app.only(Kind::Core)?;
    let wrong = || Problem::bad_request("after is not the `next` of a page");
    let after = query.after.filter(|after| !after.is_empty());
    let Some(site) = query.site.filter(|site| !site.is_empty()) else {
        let place = after.map(|after| asked::place(&after).ok_or_else(wrong));
        let limit = query.limit.unwrap_or(NEWEST).clamp(1, asked::KEPT);
        app.indexed().await?;
        let newest = app.requested().await?.newest(place.transpose()?.as_ref(), limit);
        return Ok(Json(RequestsView {
            requests: asked::look_at_all(&app, newest.requests).await?,
            next: newest.next.map(|(at, id)| format!("{at}.{id}")),
            older: newest.older,
        }));
    };
    let site = site_id(&site)?;
    let after = after.map(|after| cursor(&after).ok_or_else(wrong)).transpose()?;
    let limit = query.limit.unwrap_or(MAX_REQUESTS).clamp(1, MAX_REQUESTS);
    let (mut requests, next) = headquarters::requests(&app, &site, after, limit).await?;
    for request in &mut requests {
        let id = request.asset_id.as_deref().and_then(|id| id.parse().ok());
        let entry = id.and_then(|id| app.index.get(&id));
        request.title = entry.map(|entry| entry.title.into());
    }
    Ok(Json(RequestsView {
        requests,
        next,
        older: false,
    }))
}

fn cursor(text: &str) -> Option<(i32, AssetId, i32)> {
    let mut parts = text.splitn(3, '.');
    Some((
        parts.next()?.parse().ok()?,
        parts.next()?.parse().ok()?,
        parts.next()?.parse().ok()?,
    ))
}
