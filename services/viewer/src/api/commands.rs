//! What people ask of an asset: at an edge to have it, at the core to offer it no longer.

use axum::Json;
use axum::extract::{Path, State};
use common::schemas::{AssetState, RequestAction};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Site;
use super::input::{By, Input, name, words};
use crate::app::{App, Kind, asset_id};
use crate::problem::{Problem, ProblemBody, Result};
use crate::sign_in::Identity;
use crate::{edge, headquarters};

/// What became of a wish.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AskedView {
    asset_id: String,
    request_id: String,
    attempt: i32,
    state: &'static str,
}

async fn ask(
    app: &App,
    identity: &Identity,
    id: &str,
    by: &By,
    action: RequestAction,
) -> Result<Json<AskedView>> {
    app.only(Kind::Edge)?;
    let id = asset_id(id)?;
    let by = identity.by(name("by", by.by.as_ref())?);
    let asked = edge::ask(app, &id, action, Some(&by)).await?;
    Ok(Json(AskedView {
        asset_id: id.into(),
        request_id: asked.request_id.into(),
        attempt: asked.attempt,
        state: asked.state,
    }))
}

/// Asks the core for an asset (edge). Asking again for what is asked for says the same.
#[utoipa::path(post, path = "/api/assets/{id}/request", params(("id" = String, Path)), request_body = By,
    responses((status = 200, body = AskedView), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody)))]
pub(crate) async fn request(
    State(app): Site,
    identity: Identity,
    Path(id): Path<String>,
    Input(by): Input<By>,
) -> Result<Json<AskedView>> {
    ask(&app, &identity, &id, &by, RequestAction::Request).await
}

/// Takes a request back (edge).
#[utoipa::path(post, path = "/api/assets/{id}/cancel", params(("id" = String, Path)), request_body = By,
    responses((status = 200, body = AskedView), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody)))]
pub(crate) async fn cancel(
    State(app): Site,
    identity: Identity,
    Path(id): Path<String>,
    Input(by): Input<By>,
) -> Result<Json<AskedView>> {
    ask(&app, &identity, &id, &by, RequestAction::Cancel).await
}

/// Why an asset is withdrawn.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Withdrawal {
    /// Why; every edge is told.
    reason: String,
    /// Who says so; counts from the command line alone.
    #[serde(default)]
    by: Option<String>,
}

/// An asset's new state.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WithdrawnView {
    asset_id: String,
    state: &'static str,
}

/// Offers an asset no longer (core). It cannot be taken back.
#[utoipa::path(post, path = "/api/assets/{id}/withdraw", params(("id" = String, Path)), request_body = Withdrawal,
    responses((status = 200, body = WithdrawnView), (status = 404, body = ProblemBody)))]
pub(crate) async fn withdraw(
    State(app): Site,
    identity: Identity,
    Path(id): Path<String>,
    Input(withdrawal): Input<Withdrawal>,
) -> Result<Json<WithdrawnView>> {
    app.only(Kind::Core)?;
    let id = asset_id(&id)?;
    let reason = words("reason", &withdrawal.reason)?;
    let by = identity.by(name("by", withdrawal.by.as_ref())?);
    app.indexed().await?;
    let _turn = app.turns.of(&id).await;
    let mut asset = headquarters::record(&app, &id).await?;
    if asset.state != AssetState::Withdrawn {
        tracing::info!(asset_id = %id, %by, reason = %reason, "asset is withdrawn");
        asset.state = AssetState::Withdrawn;
        asset.reason = Some(reason);
        headquarters::send(&app, &asset).await?;
    }
    Ok(Json(WithdrawnView {
        asset_id: id.into(),
        state: "withdrawn",
    }))
}

/// When an asset's time is over.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expiry {
    /// Milliseconds since 1970; null gives it the core's usual time.
    expires_at: Option<i64>,
}

/// When an asset's time is over.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExpiryView {
    asset_id: String,
    expires_at: Option<i64>,
}

/// Sets when an asset expires (core); every edge is told.
#[utoipa::path(post, path = "/api/assets/{id}/expiry", params(("id" = String, Path)), request_body = Expiry,
    responses((status = 200, body = ExpiryView), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody)))]
pub(crate) async fn expiry(
    State(app): Site,
    Path(id): Path<String>,
    Input(expiry): Input<Expiry>,
) -> Result<Json<ExpiryView>> {
    app.only(Kind::Core)?;
    let id = asset_id(&id)?;
    if expiry.expires_at.is_some_and(|at| at < 0) {
        return Err(Problem::bad_request("expires_at must be milliseconds since 1970"));
    }
    app.indexed().await?;
    let _turn = app.turns.of(&id).await;
    let mut asset = headquarters::record(&app, &id).await?;
    if !matches!(asset.state, AssetState::Downloaded | AssetState::Broadcast) {
        return Err(Problem::conflict(format!(
            "asset {id} is not on offer, so it cannot expire"
        )));
    }
    // Broadcaster tells the edges again of what is downloaded.
    asset.state = AssetState::Downloaded;
    asset.expires_at = expiry.expires_at;
    headquarters::send(&app, &asset).await?;
    Ok(Json(ExpiryView {
        asset_id: id.into(),
        expires_at: expiry.expires_at,
    }))
}
