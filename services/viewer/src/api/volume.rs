//! What the volume takes, and giving an asset's room back.

use axum::Json;
use axum::extract::{Path, State};
use common::chassis::now_ms;
use serde::Serialize;
use utoipa::ToSchema;

use super::Site;
use super::input::{By, Input, name};
use crate::app::{App, Kind, asset_id};
use crate::edge;
use crate::events::UsageView;
use crate::problem::{ProblemBody, Result};

/// Says what the volume takes, as of some seconds ago.
#[utoipa::path(get, path = "/api/volume", responses((status = 200, body = UsageView)))]
pub(crate) async fn volume(State(app): Site) -> Result<Json<UsageView>> {
    Ok(Json(app.usage.look(&app).await?))
}

/// An asset whose bytes are gone from this site.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EvictedView {
    asset_id: String,
    /// As it is now: available, unless it is no longer on offer.
    state: &'static str,
    /// What the volume got back: 0 where another asset has the same bytes.
    freed_bytes: i64,
}

/// Deletes a mirrored asset's bytes from this site (edge). It can be requested again. Only what is mirrored can be
/// evicted.
#[utoipa::path(post, path = "/api/assets/{id}/evict", params(("id" = String, Path)), request_body = By,
    responses((status = 200, body = EvictedView), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody)))]
pub(crate) async fn evict(
    State(app): Site,
    Path(id): Path<String>,
    Input(by): Input<By>,
) -> Result<Json<EvictedView>> {
    app.only(Kind::Edge)?;
    let id = asset_id(&id)?;
    // Who evicts is in the audit.
    name("by", by.by.as_ref())?;
    let (state, freed_bytes) = edge::evict(&app, &id).await?;
    app.usage.forget().await;
    Ok(Json(EvictedView {
        asset_id: id.into(),
        state,
        freed_bytes,
    }))
}

/// Whether an asset's bytes stay here.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PinnedView {
    asset_id: String,
    state: &'static str,
    /// Since when; null when it is not pinned.
    pinned_at: Option<i64>,
}

async fn set(app: &App, id: &str, by: &By, pinned: bool) -> Result<Json<PinnedView>> {
    app.only(Kind::Edge)?;
    let id = asset_id(id)?;
    name("by", by.by.as_ref())?;
    let facts = edge::pin(app, &id, pinned).await?;
    Ok(Json(PinnedView {
        asset_id: id.into(),
        state: facts.state(now_ms()).as_str(),
        pinned_at: facts.pinned_at,
    }))
}

/// Keeps an asset's bytes at this site whatever the quota says, now or when they come (edge).
#[utoipa::path(post, path = "/api/assets/{id}/pin", params(("id" = String, Path)), request_body = By,
    responses((status = 200, body = PinnedView), (status = 404, body = ProblemBody)))]
pub(crate) async fn pin(
    State(app): Site,
    Path(id): Path<String>,
    Input(by): Input<By>,
) -> Result<Json<PinnedView>> {
    set(&app, &id, &by, true).await
}

/// Lets the mirror give an asset's room to others again, when the quota is reached (edge).
#[utoipa::path(post, path = "/api/assets/{id}/unpin", params(("id" = String, Path)), request_body = By,
    responses((status = 200, body = PinnedView), (status = 404, body = ProblemBody)))]
pub(crate) async fn unpin(
    State(app): Site,
    Path(id): Path<String>,
    Input(by): Input<By>,
) -> Result<Json<PinnedView>> {
    set(&app, &id, &by, false).await
}
