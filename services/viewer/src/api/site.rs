//! The site itself, and what is wrong at it.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use common::chassis::{VERSION, now_ms};
use serde::Serialize;
use utoipa::ToSchema;

use super::dead_letters::{self, Counted};
use super::{Site, sites};
use crate::app::{App, Kind};
use crate::health::{self, Disk, Signs};
use crate::index::Filter;
use crate::problem::Result;
use crate::sign_in::Mode;
use crate::view::{Service, Trouble};

/// A site.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SiteView {
    site: String,
    kind: Kind,
    version: &'static str,
    started_at: i64,
    now: i64,
}

/// Says which site this is.
#[utoipa::path(get, path = "/api/site", responses((status = 200, body = SiteView)))]
pub(crate) async fn site(State(app): Site) -> Json<SiteView> {
    Json(SiteView {
        site: app.site.to_string(),
        kind: app.kind,
        version: VERSION,
        started_at: app.started_at,
        now: now_ms(),
    })
}

/// Counts of assets.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Counts {
    total: usize,
    by_state: BTreeMap<&'static str, usize>,
}

/// A whole site at a glance.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StatusView {
    site: String,
    kind: Kind,
    version: &'static str,
    /// What is wrong, errors first.
    problems: Vec<Trouble>,
    services: Vec<Service>,
    assets: Counts,
    /// Records that could not be processed, and were not sent again.
    dead_letters: i64,
}

/// Says what is wrong, what runs and what there is.
#[utoipa::path(get, path = "/api/status", responses((status = 200, body = StatusView)))]
pub(crate) async fn status(State(app): Site) -> Result<Json<StatusView>> {
    let now = now_ms();
    let page = app.indexed().await?.page(&Filter::default(), now);
    let (problems, dead_letters) = troubles(&app, now).await?;
    Ok(Json(StatusView {
        site: app.site.to_string(),
        kind: app.kind,
        version: VERSION,
        problems,
        services: app.services.list(None, now),
        assets: Counts {
            total: page.by_state.values().sum(),
            by_state: page.by_state,
        },
        dead_letters: dead_letters.waiting,
    }))
}

/// What is wrong, and how many dead letters there are.
pub(crate) async fn troubles(app: &App, now: i64) -> Result<(Vec<Trouble>, Counted)> {
    let services = app.services.list(None, now);
    let dead_letters = dead_letters::count(app).await?;
    let edges = match app.kind {
        Kind::Edge => Vec::new(),
        Kind::Core => sites::reports(app).await?,
    };
    let index_full = app.index.full();
    let signs = Signs {
        kind: app.kind,
        services: &services,
        dead_letters: dead_letters.waiting,
        index_full,
        failed: app.index.sum("failed", now).assets,
        ready_bytes: u64::try_from(app.index.sum("ready", now).bytes).unwrap_or_default(),
        disk: app
            .usage
            .disk(app)
            .await
            .map(|(free, total)| Disk { free, total }),
        open_to_all: app.settings.sign_in == Mode::Off,
        edges: &edges,
        now,
    };
    Ok((health::troubles(&signs), dead_letters))
}
