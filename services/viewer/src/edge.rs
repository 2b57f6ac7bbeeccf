//! An edge's assets: rows of table `assets`, indexed and followed by `asset-changes`.

use std::collections::BTreeSet;
use std::time::Duration;

use common::broker::{Outgoing, Position};
use common::chassis::now_ms;
use common::schemas::{self, AssetChange, AssetId, EdgeAsset, Hash, RequestAction, RequestId, topic};
use common::table::{self, Row, Select, Value, Write};

use crate::app::App;
use crate::index::{Entry, pack};
use crate::problem::{Problem, Result};

/// How long a request may wait to be published before it is forgotten.
const PENDING: Duration = Duration::from_secs(30 * 24 * 3600);
const PAGE: usize = 500;

/// What the index needs of a row.
const INDEXED: [&str; 15] = [
    "asset_id",
    "title",
    "size",
    "broadcast_at",
    "expires_at",
    "withdrawn_at",
    "attempt",
    "requesting_at",
    "cancelled_at",
    "requested_attempt",
    "response",
    "response_attempt",
    "mirrored_at",
    "evicted_at",
    "displaced_at",
];

fn facts(row: &Row) -> EdgeAsset {
    let number = |column: &str| match row.value(column) {
        Value::Int(number) => Some(i64::from(*number)),
        Value::BigInt(number) | Value::Timestamp(number) => Some(*number),
        _ => None,
    };
    EdgeAsset::read(|column| row.text(column), number)
}

fn entry(facts: &EdgeAsset) -> Entry {
    Entry {
        at: facts.broadcast_at.unwrap_or_default(),
        state: facts.state(i64::MIN).as_str(),
        expired: facts.state(i64::MAX).as_str(),
        expires_at: facts.expires_at,
        size: facts.size.unwrap_or_default(),
        title: facts.title.as_deref().unwrap_or_default().into(),
    }
}

/// Reads one row's facts; none for an asset that was never broadcast here.
pub(crate) async fn asset(app: &App, id: &AssetId) -> Result<Option<EdgeAsset>, table::Error> {
    read(app, id, &EdgeAsset::COLUMNS).await
}

async fn read(app: &App, id: &AssetId, columns: &[&'static str]) -> Result<Option<EdgeAsset>, table::Error> {
    let select = Select::from("assets")
        .partition("bucket", id.bucket())
        .prefix("asset_id", id.as_str());
    let rows = app.table.select(select.columns(columns).limit(1)).await?;
    Ok(rows.first().map(facts).filter(EdgeAsset::known))
}

/// Reads the preview's media type and bytes.
pub(crate) async fn preview(app: &App, id: &AssetId) -> Result<Option<(String, Vec<u8>)>, table::Error> {
    let select = Select::from("assets")
        .partition("bucket", id.bucket())
        .prefix("asset_id", id.as_str());
    let rows = app
        .table
        .select(select.columns(&["preview", "preview_media_type"]).limit(1))
        .await?;
    Ok(rows.first().and_then(|row| {
        Some((
            row.text("preview_media_type")?.to_owned(),
            row.blob("preview")?.to_vec(),
        ))
    }))
}

fn index(app: &App, facts: &EdgeAsset) {
    if let Some(id) = facts.asset_id.as_ref().filter(|_| facts.known())
        && !app.index.put(pack(id), entry(facts))
    {
        tracing::debug!(asset_id = %id, "asset left out of the full index");
    }
}

/// Reads one row again, after a change.
pub(crate) async fn refresh(app: &App, id: &AssetId) -> Result<(), table::Error> {
    if let Some(facts) = read(app, id, &INDEXED).await? {
        index(app, &facts);
        // The preview, and who asked, are shown and not in the index.
        app.index.touch(pack(id));
    }
    Ok(())
}

/// Reads every row once, then those that change, until an error. What changes while the rows are read comes after.
pub(crate) async fn follow(app: &App) -> anyhow::Result<()> {
    let name = topic::ASSET_CHANGES;
    let partitions = app
        .broker
        .describe(name)
        .await?
        .map_or(0, |topic| topic.partitions);
    anyhow::ensure!(partitions > 0, "topic {name} is missing: run `fieldline init`");
    let mut positions = Vec::new();
    for partition in 0..partitions {
        positions.push(Position::at(
            name,
            partition,
            app.broker.watermarks(name, partition).await?.high,
        ));
    }
    let mut reader = app.broker.reader(&positions).await?;
    walk(app, &INDEXED, |facts| {
        index(app, &facts);
        false
    })
    .await?;
    app.index.loaded();
    loop {
        let records = reader.next(500, Duration::from_secs(10)).await?;
        let changed = records
            .iter()
            .filter_map(|record| schemas::decode::<AssetChange>(record.value.as_deref()?).ok());
        let changed: BTreeSet<AssetId> = changed.map(|change| change.asset_id).collect();
        for id in changed {
            refresh(app, &id).await?;
        }
    }
}

/// What became of a wish.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) attempt: i32,
    pub(crate) request_id: RequestId,
    pub(crate) state: &'static str,
}

/// Requests an asset, or takes the request back. Asking again for what was asked for says the same, and repairs what a
/// crash between the writes left.
pub(crate) async fn ask(app: &App, id: &AssetId, action: RequestAction, by: Option<&str>) -> Result<Asked> {
    let _one_at_a_time = app.turns.of(id).await;
    let unknown = || Problem::not_found(format!("{} knows no asset {id}", app.site));
    let facts = asset(app, id).await?.ok_or_else(unknown)?;
    let now = now_ms();
    let state = facts.state(now).as_str();
    let row = Write::to("assets")
        .set("bucket", id.bucket())
        .set("asset_id", id.as_str());
    // A cancellation counts when it is not older than the request, so the two must not share a moment.
    let later = |than: Option<i64>| now.max(than.map_or(now, |than| than.saturating_add(1)));
    let (attempt, row) = match (action, state) {
        (RequestAction::Request, _) if facts.may_request(now) => {
            // Likewise an eviction ends every attempt that is not younger.
            let requesting_at = later(facts.cancelled_at).max(later(facts.evicted_at));
            let row = row
                .set("attempt", facts.next_attempt())
                .set("requesting_at", Value::timestamp(requesting_at))
                .set("requested_by", by);
            (facts.next_attempt(), Some(row))
        }
        (RequestAction::Request, "requesting" | "requested" | "ready" | "mirrored") => {
            (facts.attempt.unwrap_or(1), None)
        }
        (RequestAction::Cancel, _) if facts.may_cancel(now) => {
            let at = now.max(facts.requesting_at.unwrap_or(now));
            (
                facts.attempt.unwrap_or(1),
                Some(row.set("cancelled_at", Value::timestamp(at))),
            )
        }
        (RequestAction::Cancel, "cancelled") => (facts.attempt.unwrap_or(1), None),
        (RequestAction::Request, _) => {
            return Err(Problem::conflict(format!(
                "asset {id} is {state} and cannot be requested"
            )));
        }
        (RequestAction::Cancel, _) => {
            return Err(Problem::conflict(format!(
                "asset {id} is {state}: there is no open request to take back"
            )));
        }
    };
    let asked = |state| Asked {
        attempt,
        request_id: RequestId::new(&app.site, id, attempt),
        state,
    };
    // A request that is on its way, or answered, needs nothing more; one that is not may have lost its pending row.
    if row.is_none() && !matches!(state, "requesting" | "cancelled") {
        return Ok(asked(state));
    }
    // The pending row first: after a crash in between, asking again repeats the same attempt.
    app.table.upsert(pending(id, attempt, action, by, now)).await?;
    if let Some(row) = row {
        app.table.upsert(row).await?;
    }
    changed(app, id, now).await?;
    refresh(app, id).await?;
    Ok(asked(match action {
        RequestAction::Request => "requesting",
        RequestAction::Cancel => "cancelled",
    }))
}

/// Gives an asset's room back: its state, and the bytes that were freed. The row first, so that nobody is shown bytes that
/// are being deleted; after a crash in between, evicting again deletes them.
pub(crate) async fn evict(app: &App, id: &AssetId) -> Result<(&'static str, i64)> {
    let _one_at_a_time = app.asking.lock().await;
    let _turn = app.turns.of(id).await;
    let unknown = || Problem::not_found(format!("{} knows no asset {id}", app.site));
    let facts = asset(app, id).await?.ok_or_else(unknown)?;
    let now = now_ms();
    if let Some(mirrored_at) = facts.mirrored_at {
        let row = Write::to("assets")
            .set("bucket", id.bucket())
            .set("asset_id", id.as_str())
            .set("evicted_at", Value::timestamp(now.max(mirrored_at)));
        app.table.upsert(row).await?;
        changed(app, id, now).await?;
        refresh(app, id).await?;
    } else if facts.evicted_at.is_none() {
        let state = facts.state(now).as_str();
        return Err(
            Problem::conflict(format!("asset {id} is {state}: its bytes are not here"))
                .hint("only what is mirrored can be evicted"),
        );
    }
    let after = asset(app, id).await?.ok_or_else(unknown)?;
    let mut freed = 0;
    if let Some(hash) = facts.mirrored_hash.or(facts.hash)
        && !named(app, &hash).await?
        && let Some(size) = app.volume.stat(&hash).await?
    {
        app.volume.delete(&hash).await?;
        freed = i64::try_from(size).unwrap_or(i64::MAX);
    }
    Ok((after.state(now).as_str(), freed))
}

/// Says whether mirror may give an asset's room to others, when the volume's quota is reached.
pub(crate) async fn pin(app: &App, id: &AssetId, pinned: bool) -> Result<EdgeAsset> {
    let _one_at_a_time = app.asking.lock().await;
    let unknown = || Problem::not_found(format!("{} knows no asset {id}", app.site));
    let facts = asset(app, id).await?.ok_or_else(unknown)?;
    if facts.pinned_at.is_some() == pinned {
        return Ok(facts);
    }
    let now = now_ms();
    let pinned_at = pinned.then_some(now);
    let row = Write::to("assets")
        .set("bucket", id.bucket())
        .set("asset_id", id.as_str())
        .set("pinned_at", Value::timestamp(pinned_at));
    app.table.upsert(row).await?;
    changed(app, id, now).await?;
    app.index.touch(pack(id));
    Ok(EdgeAsset { pinned_at, ..facts })
}

/// Whether any asset that is mirrored has these bytes.
async fn named(app: &App, hash: &Hash) -> Result<bool, table::Error> {
    let columns = [
        "asset_id",
        "hash",
        "mirrored_at",
        "mirrored_hash",
        "evicted_at",
        "displaced_at",
    ];
    walk(app, &columns, |facts| {
        facts.mirrored_at.is_some() && facts.mirrored_hash.or(facts.hash).as_ref() == Some(hash)
    })
    .await
}

/// Shows `enough` these columns, `asset_id` among them, of every row, in bounded reads, until it says so. Whether it did.
async fn walk(
    app: &App,
    columns: &[&'static str],
    mut enough: impl FnMut(EdgeAsset) -> bool + Send,
) -> Result<bool, table::Error> {
    for bucket in 0..AssetId::BUCKETS {
        let mut after: Option<Value> = None;
        loop {
            let mut select = Select::from("assets")
                .partition("bucket", bucket)
                .columns(columns)
                .limit(PAGE);
            select.after = after.take().map(|id| vec![id]);
            let rows = app.table.select(select).await?;
            if rows.iter().any(|row| enough(facts(row))) {
                return Ok(true);
            }
            match rows.last() {
                Some(last) if rows.len() == PAGE => after = Some(last.value("asset_id").clone()),
                _ => break,
            }
        }
    }
    Ok(false)
}

fn pending(id: &AssetId, attempt: i32, action: RequestAction, by: Option<&str>, now: i64) -> Write {
    let action = match action {
        RequestAction::Request => "request",
        RequestAction::Cancel => "cancel",
    };
    Write::to("requests")
        .set("queue", "pending")
        .set("asset_id", id.as_str())
        .set("attempt", attempt)
        .set("action", action)
        .set("asked_at", Value::timestamp(now))
        .set("asked_by", by)
        .ttl(PENDING)
}

async fn changed(app: &App, id: &AssetId, now: i64) -> Result<()> {
    let change = AssetChange {
        asset_id: id.clone(),
        writer: "viewer".to_owned(),
        changed_at: now,
    };
    let record = Outgoing::new(topic::ASSET_CHANGES, id.as_str(), schemas::encode(&change)?);
    app.broker.producer()?.send(record).await?;
    Ok(())
}
