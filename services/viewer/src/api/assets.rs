//! Listing assets, and looking at one.

use axum::Json;
use axum::extract::{Path, State};
use common::chassis::now_ms;
use common::schemas::AssetId;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::Site;
use super::input::Params;
use crate::app::{App, Kind, asset_id};
use crate::index::{Filter, Sort, cursor};
use crate::problem::{Problem, ProblemBody, Result};
use crate::view::{AssetPage, AssetView, EdgeView};
use crate::{edge, headquarters};

const LIMIT: usize = 50;
const MAX_LIMIT: usize = 1000;
/// How many rows of a page are read at once.
const AT_ONCE: usize = 16;

/// What to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// `next` of the page before.
    after: Option<String>,
    /// At most so many: 50 unless told, 1000 at most.
    limit: Option<usize>,
    /// Only assets in this state.
    state: Option<String>,
    /// Only assets whose title has this text.
    q: Option<String>,
    /// By what: at (unless told), title, size or state.
    #[serde(default)]
    #[param(inline)]
    sort: Sort,
    /// asc or desc; the newest first, and all else the least first, unless told.
    #[param(inline)]
    order: Option<Order>,
}

/// Which way a listing is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// The least first.
    Asc,
    /// The greatest first.
    Desc,
}

/// Lists assets, newest first unless told.
#[utoipa::path(get, path = "/api/assets", params(ListQuery), responses((status = 200, body = AssetPage), (status = 400, body = ProblemBody)))]
pub(crate) async fn list(State(app): Site, Params(query): Params<ListQuery>) -> Result<Json<AssetPage>> {
    let after = query.after.filter(|after| !after.is_empty());
    let wrong = || Problem::bad_request("after is not the `next` of a page");
    let filter = Filter {
        state: query.state.filter(|state| !state.is_empty()),
        words: query.q,
        after: after
            .map(|after| cursor(&after, query.sort).ok_or_else(wrong))
            .transpose()?,
        limit: query.limit.unwrap_or(LIMIT).clamp(1, MAX_LIMIT),
        sort: query.sort,
        ascending: query
            .order
            .map_or(query.sort != Sort::At, |order| order == Order::Asc),
    };
    let now = now_ms();
    let page = app.indexed().await?.page(&filter, now);
    let assets = stream::iter(page.ids)
        .map(|id| {
            let app = app.clone();
            async move { view(&app, &id, now).await }
        })
        .buffered(AT_ONCE)
        .try_filter_map(|asset| async move { Ok(asset) })
        .try_collect()
        .await?;
    Ok(Json(AssetPage {
        assets,
        next: page.next,
        total: page.total,
        by_state: page.by_state,
    }))
}

/// One asset as a listing shows it.
pub(crate) async fn view(app: &App, id: &AssetId, now: i64) -> Result<Option<AssetView>> {
    Ok(match app.kind {
        Kind::Edge => edge::asset(app, id)
            .await?
            .map(|facts| AssetView::Edge(Box::new(EdgeView::of(facts, now)))),
        Kind::Core => headquarters::listed(app, id, now)
            .await?
            .map(|view| AssetView::Core(Box::new(view))),
    })
}

/// Shows one asset.
#[utoipa::path(get, path = "/api/assets/{id}", params(("id" = String, Path)), responses((status = 200, body = AssetView), (status = 404, body = ProblemBody)))]
pub(crate) async fn one(State(app): Site, Path(id): Path<String>) -> Result<Json<AssetView>> {
    let id = asset_id(&id)?;
    let now = now_ms();
    if app.kind == Kind::Core {
        app.indexed().await?;
        return Ok(Json(AssetView::Core(Box::new(
            headquarters::whole(&app, &id, now).await?,
        ))));
    }
    let unknown = || Problem::not_found(format!("{} knows no asset {id}", app.site));
    Ok(Json(view(&app, &id, now).await?.ok_or_else(unknown)?))
}
