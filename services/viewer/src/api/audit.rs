//! Reading who did what.

use axum::Json;
use axum::extract::State;
use common::table::Row;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Site;
use super::input::Params;
use crate::app::App;
use crate::audit::{self, Place, Search};
use crate::problem::{Problem, ProblemBody, Result};

const LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;

/// What to search for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditQuery {
    /// Only what came before this time, or `next` of the page before.
    before: Option<String>,
    /// Only what this user asked.
    user: Option<String>,
    /// Only this action, as `asset.request`.
    action: Option<String>,
    /// Only entries with this text, or about an asset with it in its title.
    q: Option<String>,
    /// At most so many: 100 unless told, 1000 at most.
    limit: Option<usize>,
}

/// Something that somebody asked for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EntryView {
    at: i64,
    id: String,
    /// Null when nobody had signed in.
    user: Option<String>,
    role: Option<String>,
    /// The address it came from.
    from: Option<String>,
    action: Option<String>,
    target: Option<String>,
    /// The title of the asset that it is about.
    title: Option<String>,
    /// asked, until it is done, `refused: …` or `failed: …`.
    outcome: Option<String>,
    detail: Option<String>,
}

impl EntryView {
    fn of(app: &App, row: &Row) -> Self {
        let text = |column| row.text(column).map(str::to_owned);
        Self {
            at: row.timestamp("at").unwrap_or_default(),
            id: text("id").unwrap_or_default(),
            user: text("user_name"),
            role: text("role"),
            from: text("address"),
            action: text("action"),
            target: text("target"),
            title: audit::title(app, row).map(Into::into),
            outcome: text("outcome"),
            detail: text("detail"),
        }
    }
}

/// Entries, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditPage {
    entries: Vec<EntryView>,
    /// What to give as `before` to go on; a page may be empty although there is more. Null at the end.
    next: Option<String>,
}

/// Searches who did what, newest first, at most 31 days at once.
#[utoipa::path(get, path = "/api/audit", params(AuditQuery),
    responses((status = 200, body = AuditPage), (status = 400, body = ProblemBody), (status = 403, body = ProblemBody)))]
pub(crate) async fn list(State(app): Site, Params(query): Params<AuditQuery>) -> Result<Json<AuditPage>> {
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let wrong = || Problem::bad_request("before is no time in milliseconds and not the `next` of a page");
    let search = Search {
        before: given(query.before)
            .map(|before| Place::parse(&before).ok_or_else(wrong))
            .transpose()?,
        user: given(query.user),
        action: given(query.action),
        words: given(query.q),
        limit: query.limit.unwrap_or(LIMIT).clamp(1, MAX_LIMIT),
    };
    let (rows, next) = audit::search(&app, &search).await?;
    Ok(Json(AuditPage {
        entries: rows.iter().map(|row| EntryView::of(&app, row)).collect(),
        next: next.map(|place| place.to_string()),
    }))
}
