//! The core's assets: the newest record of each in `asset-pipeline`, indexed as it comes; and who asked for them.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use common::broker::{Outgoing, Position, Record};
use common::schemas::{self, Asset, AssetId, AssetState, SiteId, topic};
use common::table::{self, Row, Select, Value};

use crate::app::App;
use crate::index::{Entry, Id, pack};
use crate::problem::{Problem, Result};
use crate::view::{CoreView, RequestView};

/// How often a record is looked for again that was compacted away under the index's feet.
const ATTEMPTS: u32 = 5;

/// What a listing shows of an asset beyond the index, and where the whole record lies.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    partition: i32,
    offset: i64,
    reason: Option<Box<str>>,
    media_type: Option<Box<str>>,
    hash: Option<Box<str>>,
    size: Option<i64>,
}

/// The places of all assets.
pub(crate) type Places = RwLock<HashMap<Id, Place>>;

fn state(state: AssetState) -> &'static str {
    match state {
        AssetState::Announced => "announced",
        AssetState::Downloaded => "downloaded",
        AssetState::Broadcast => "broadcast",
        AssetState::Failed => "failed",
        AssetState::Withdrawn => "withdrawn",
    }
}

fn hear(app: &App, record: &Record) {
    let Some(Ok(asset)) = record.value.as_deref().map(schemas::decode::<Asset>) else {
        return;
    };
    let id = pack(&asset.asset_id);
    let now = state(asset.state);
    app.lanes.hear(&asset, now, record.timestamp);
    let entry = Entry {
        at: asset.announced_at,
        state: now,
        expired: if asset.state == AssetState::Broadcast {
            "expired"
        } else {
            now
        },
        expires_at: asset.expires_at,
        size: asset.size.unwrap_or_default(),
        title: asset.title.into(),
    };
    if !app.index.put(id, entry) {
        return;
    }
    let place = Place {
        partition: record.partition,
        offset: record.offset,
        reason: asset.reason.map(Into::into),
        media_type: asset.media_type.map(Into::into),
        hash: asset.hash.map(|hash| hash.as_str().into()),
        size: asset.size,
    };
    app.places
        .write()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(id, place);
}

/// Reads the pipeline from its beginning on, until an error.
pub(crate) async fn follow(app: &App) -> anyhow::Result<()> {
    let name = topic::ASSET_PIPELINE;
    let partitions = app
        .broker
        .describe(name)
        .await?
        .map_or(0, |topic| topic.partitions);
    anyhow::ensure!(partitions > 0, "topic {name} is missing: run `fieldline init`");
    let mut ends = Vec::new();
    for partition in 0..partitions {
        let marks = app.broker.watermarks(name, partition).await?;
        if marks.high > marks.low {
            ends.push((partition, marks.high));
        }
    }
    let positions: Vec<_> = (0..partitions)
        .map(|partition| Position::beginning(name, partition))
        .collect();
    let mut reader = app.broker.reader(&positions).await?;
    let mut wait = Duration::from_millis(200);
    loop {
        let reached =
            |(partition, end): &(i32, i64)| reader.position(name, *partition).is_some_and(|at| at >= *end);
        if ends.iter().all(reached) {
            app.index.loaded();
            ends.clear();
            wait = Duration::from_secs(10);
        }
        for record in reader.next(500, wait).await? {
            hear(app, &record);
        }
    }
}

fn place(app: &App, id: &AssetId) -> Option<Place> {
    app.places
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&pack(id))
        .cloned()
}

/// The hash, media type of an asset whose bytes the core has.
pub(crate) fn content(app: &App, id: &AssetId) -> Option<(String, Option<String>)> {
    let place = place(app, id)?;
    Some((place.hash?.into(), place.media_type.map(Into::into)))
}

/// Reads the newest record of an asset.
pub(crate) async fn record(app: &App, id: &AssetId) -> Result<Asset> {
    let unknown = || Problem::not_found(format!("{} knows no asset {id}", app.site));
    for _ in 0..ATTEMPTS {
        let place = place(app, id).ok_or_else(unknown)?;
        let position = Position::at(topic::ASSET_PIPELINE, place.partition, place.offset);
        let mut reader = app.broker.reader(&[position]).await?;
        let found = reader.next(1, Duration::from_secs(5)).await?;
        let mine = found.first().filter(|record| record.offset == place.offset);
        if let Some(value) = mine.and_then(|record| record.value.as_deref()) {
            return Ok(schemas::decode(value)?);
        }
        // Compaction has it only when a newer one is there, which the index is about to hear of.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(Problem::unavailable(format!(
        "the record of asset {id} changes faster than it can be read"
    )))
}

/// Sends an asset into the pipeline again, changed.
pub(crate) async fn send(app: &App, asset: &Asset) -> Result<()> {
    let record = Outgoing::new(
        topic::ASSET_PIPELINE,
        asset.asset_id.as_str(),
        schemas::encode(asset)?,
    );
    app.broker.producer()?.send(record).await?;
    Ok(())
}

/// One asset in a listing.
pub(crate) async fn listed(app: &App, id: &AssetId, now: i64) -> Result<Option<CoreView>> {
    let (Some(entry), Some(place)) = (app.index.get(id), place(app, id)) else {
        return Ok(None);
    };
    Ok(Some(CoreView {
        asset_id: id.to_string(),
        state: entry.state_at(now),
        title: entry.title.into(),
        reason: place.reason.map(Into::into),
        size: place.size,
        media_type: place.media_type.map(Into::into),
        hash: place.hash.map(Into::into),
        announced_at: entry.at,
        expires_at: entry.expires_at,
        has_preview: app.previews.has(id),
        deliveries: deliveries(app, id).await?,
        ..CoreView::default()
    }))
}

/// One asset with everything that is known of it.
pub(crate) async fn whole(app: &App, id: &AssetId, now: i64) -> Result<CoreView> {
    let asset = record(app, id).await?;
    let key = [
        ("bucket", Value::from(id.bucket())),
        ("asset_id", Value::from(id.as_str())),
    ];
    let published = app.table.get("published", &key).await?;
    let at = |column| published.as_ref().and_then(|row: &Row| row.timestamp(column));
    let expired = asset.state == AssetState::Broadcast && asset.expires_at.is_some_and(|at| at <= now);
    Ok(CoreView {
        asset_id: id.to_string(),
        state: if expired { "expired" } else { state(asset.state) },
        title: asset.title,
        reason: asset.reason,
        size: asset.size,
        media_type: asset.media_type,
        hash: asset.hash.map(String::from),
        announced_at: asset.announced_at,
        expires_at: asset.expires_at,
        description: Some(asset.description),
        credit: asset.credit,
        link: asset.link,
        catalogue: Some(asset.catalogue),
        native_id: Some(asset.native_id),
        file_name: asset.file_name,
        created_at: asset.created_at,
        downloaded_at: asset.downloaded_at,
        broadcast_at: at("broadcast_at"),
        withdrawn_at: at("withdrawn_at"),
        has_preview: app.previews.has(id),
        deliveries: deliveries(app, id).await?,
    })
}

/// Who asked for an asset, and what became of that.
pub(crate) async fn deliveries(app: &App, id: &AssetId) -> Result<Vec<RequestView>, table::Error> {
    let rows = app
        .table
        .select(Select::from("deliveries").partition("asset_id", id.as_str()))
        .await?;
    Ok(rows.iter().map(RequestView::of).collect())
}

/// Requests of a site behind a cursor `<bucket>.<asset id>.<attempt>`, and where the next page goes on.
pub(crate) async fn requests(
    app: &App,
    site: &SiteId,
    after: Option<(i32, AssetId, i32)>,
    limit: usize,
) -> Result<(Vec<RequestView>, Option<String>), table::Error> {
    let mut found: Vec<RequestView> = Vec::new();
    let first = after.as_ref().map_or(0, |(bucket, ..)| *bucket);
    for bucket in first..AssetId::BUCKETS {
        let mut select = Select::from("site_requests")
            .partition("site", site.as_str())
            .partition("bucket", bucket);
        select.after = after
            .as_ref()
            .filter(|(of, ..)| *of == bucket)
            .map(|(_, asset, attempt)| vec![Value::from(asset.as_str()), Value::from(*attempt)]);
        let left = limit - found.len();
        let rows = app.table.select(select.limit(left)).await?;
        found.extend(rows.iter().map(RequestView::of));
        if rows.len() == left {
            let last = rows.last();
            let next = last.and_then(|row| {
                Some(format!(
                    "{bucket}.{}.{}",
                    row.text("asset_id")?,
                    row.int("attempt")?
                ))
            });
            return Ok((found, next));
        }
    }
    Ok((found, None))
}
