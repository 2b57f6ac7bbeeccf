//! What the mirror will fetch, in its order, and the team's word on that order.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use common::chassis::now_ms;
use common::schemas::{AssetId, MIRROR_ORDERS, MIRROR_ORDERS_MOST};
use common::table::{Select, Value, Write};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Site;
use super::glance::MirrorView;
use super::input::{Input, Params, name};
use crate::app::{App, Kind, asset_id};
use crate::index::{Id, pack, unpack};
use crate::problem::{Problem, ProblemBody, Result};

/// How long a word on the order holds for an asset that never comes.
const HOLDS: Duration = Duration::from_secs(30 * 24 * 3600);
const LIMIT: usize = 50;
const MAX_LIMIT: usize = 500;
/// Beyond it nobody needs a place, and sums stay far from overflowing.
const FARTHEST: i32 = 1_000_000_000;

/// Where an asset goes in the mirror's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Place {
    /// Before all others.
    First,
    /// Before those that have its priority.
    Up,
    /// Behind those that have its priority.
    Down,
    /// Behind all others.
    Last,
    /// Where it is when nobody says anything.
    Usual,
}

impl Place {
    fn priority(self, now: i32, others: impl Iterator<Item = i32> + Clone) -> i32 {
        let highest = others.clone().max().unwrap_or(0).max(0);
        let least = others.min().unwrap_or(0).min(0);
        let priority = match self {
            Self::First => now.max(highest + 1),
            Self::Up => now + 1,
            Self::Down => now - 1,
            Self::Last => now.min(least - 1),
            Self::Usual => 0,
        };
        priority.clamp(-FARTHEST, FARTHEST)
    }
}

/// A word on the order: a place or a priority.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrderChange {
    /// Where it goes.
    to: Option<Place>,
    /// Its priority: the highest comes first, none is 0.
    priority: Option<i32>,
    /// Who says so; counts from the command line alone.
    #[serde(default)]
    by: Option<String>,
}

/// An asset's priority from now on.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OrderedView {
    asset_id: String,
    priority: i32,
}

/// What the team said: the priority of each asset that it said something about.
async fn orders(app: &App) -> Result<HashMap<Id, i32>> {
    let select = Select::from("mirror_orders")
        .partition("realm", MIRROR_ORDERS)
        .columns(&["asset_id", "priority"])
        .limit(MIRROR_ORDERS_MOST);
    let rows = app.table.select(select).await?;
    let said = rows.iter().filter_map(|row| {
        let id: AssetId = row.text("asset_id")?.parse().ok()?;
        Some((pack(&id), row.int("priority")?))
    });
    Ok(said.collect())
}

async fn forget(app: &App, id: &AssetId) -> Result<()> {
    let key = [
        ("realm", Value::from(MIRROR_ORDERS)),
        ("asset_id", Value::from(id.as_str())),
    ];
    app.table.delete("mirror_orders", &key, now_ms() * 1000).await?;
    Ok(())
}

/// Says when the mirror fetches an asset (edge): also while it works, and before the answer of the core is there.
#[utoipa::path(post, path = "/api/assets/{id}/order", params(("id" = String, Path)), request_body = OrderChange,
    responses((status = 200, body = OrderedView), (status = 400, body = ProblemBody), (status = 404, body = ProblemBody),
        (status = 409, body = ProblemBody)))]
pub(crate) async fn order(
    State(app): Site,
    Path(id): Path<String>,
    Input(order): Input<OrderChange>,
) -> Result<Json<OrderedView>> {
    app.only(Kind::Edge)?;
    let id = asset_id(&id)?;
    // Who says so is in the audit.
    name("by", order.by.as_ref())?;
    let _one_at_a_time = app.asking.lock().await;
    let now = now_ms();
    let index = app.indexed().await?;
    let state = |id: &AssetId| index.get(id).map(|entry| entry.state_at(now));
    let coming = |id: &AssetId| matches!(state(id), Some("requesting" | "requested" | "ready"));
    match state(&id) {
        None => return Err(Problem::not_found(format!("{} knows no asset {id}", app.site))),
        Some(_) if coming(&id) => {}
        Some(state) => {
            return Err(
                Problem::conflict(format!("asset {id} is {state}: nothing of it is to come"))
                    .hint("what is requested has a place in the mirror's order"),
            );
        }
    }
    let mut said = orders(&app).await?;
    for gone in said.keys().copied().collect::<Vec<_>>() {
        if let Some(gone_id) = unpack(&gone)
            && !coming(&gone_id)
        {
            forget(&app, &gone_id).await?;
            said.remove(&gone);
        }
    }
    let before = said.remove(&pack(&id));
    let priority = match (order.to, order.priority) {
        (Some(place), None) => place.priority(before.unwrap_or(0), said.values().copied()),
        (None, Some(priority)) => priority.clamp(-FARTHEST, FARTHEST),
        _ => {
            return Err(Problem::bad_request(
                "say either to (first, up, down, last, usual) or priority",
            ));
        }
    };
    if priority == 0 {
        forget(&app, &id).await?;
    } else if said.len() >= MIRROR_ORDERS_MOST {
        return Err(Problem::conflict(format!(
            "{MIRROR_ORDERS_MOST} assets have a place of their own already"
        )));
    } else {
        let row = Write::to("mirror_orders")
            .set("realm", MIRROR_ORDERS)
            .set("asset_id", id.as_str())
            .set("priority", priority)
            .ttl(HOLDS);
        app.table.upsert(row).await?;
    }
    app.ordered_at.store(now, Ordering::Relaxed);
    let mirror = MirrorView::of(&app, now_ms());
    app.hub.changed_in("mirror", &mirror, &mirror.seen());
    Ok(Json(OrderedView {
        asset_id: id.into(),
        priority,
    }))
}

/// Which part of the queue.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueueQuery {
    /// `next` of the page before.
    after: Option<String>,
    /// At most so many: 50 unless told, 500 at most.
    limit: Option<usize>,
}

/// An asset that the mirror has yet to fetch.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QueuedView {
    asset_id: String,
    title: String,
    size: i64,
    /// What the team said; 0 when it said nothing.
    priority: i32,
    /// Bytes of all that comes before it.
    bytes_before: i64,
}

/// What the mirror has yet to fetch, in its order.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QueueView {
    queue: Vec<QueuedView>,
    /// What to give as `after` for the next page; null on the last.
    next: Option<String>,
    /// How many there are on all pages.
    total: usize,
    /// Their bytes.
    bytes: i64,
}

/// Lists what the mirror has yet to fetch, in its order (edge). What failed before comes last whatever its place.
#[utoipa::path(get, path = "/api/mirror/queue", params(QueueQuery),
    responses((status = 200, body = QueueView), (status = 400, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub(crate) async fn queue(State(app): Site, Params(query): Params<QueueQuery>) -> Result<Json<QueueView>> {
    app.only(Kind::Edge)?;
    let wrong = || Problem::bad_request("after is not the `next` of a page");
    let after = query.after.filter(|after| !after.is_empty());
    let after = after.map(|after| cursor(&after).ok_or_else(wrong)).transpose()?;
    let limit = query.limit.unwrap_or(LIMIT).clamp(1, MAX_LIMIT);
    let said = orders(&app).await?;
    let ready = app.indexed().await?.of_state("ready", now_ms());
    let mut places: Vec<(i32, Id, i64)> = ready
        .into_iter()
        .map(|(id, size)| (-said.get(&id).copied().unwrap_or(0), id, size))
        .collect();
    // As mirror does: the highest priority first, and among equals as the manifest lists them.
    places.sort_unstable();
    let (total, mut bytes) = (places.len(), 0_i64);
    let mut queue = Vec::new();
    let mut next = None;
    for (place, id, size) in places {
        let behind = after.is_none_or(|after| (place, id) > after);
        if behind && queue.len() == limit {
            next = next.or_else(|| queue.last().map(cursor_of));
        } else if behind
            && let Some(asset_id) = unpack(&id)
            && let Some(entry) = app.index.get(&asset_id)
        {
            queue.push(QueuedView {
                asset_id: asset_id.into(),
                title: entry.title.into(),
                size,
                priority: -place,
                bytes_before: bytes,
            });
        }
        bytes = bytes.saturating_add(size);
    }
    Ok(Json(QueueView {
        queue,
        next,
        total,
        bytes,
    }))
}

fn cursor_of(last: &QueuedView) -> String {
    format!("{}.{}", last.priority, last.asset_id)
}

fn cursor(text: &str) -> Option<(i32, Id)> {
    let (priority, id) = text.rsplit_once('.')?;
    Some((
        priority.parse::<i32>().ok()?.checked_neg()?,
        pack(&id.parse().ok()?),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_and_last_are_beyond_all_others_and_stay_there() {
        let others = [3, -2, 0];
        let place = |place: Place, now| place.priority(now, others.iter().copied());
        assert_eq!((place(Place::First, 0), place(Place::First, 4)), (4, 4));
        assert_eq!((place(Place::Last, 0), place(Place::Last, -9)), (-3, -9));
        assert_eq!((place(Place::Up, 3), place(Place::Down, 0)), (4, -1));
        assert_eq!(place(Place::Usual, 7), 0);
        assert_eq!(Place::First.priority(0, std::iter::empty()), 1);
        assert_eq!(place(Place::Up, FARTHEST), FARTHEST);
    }
}
