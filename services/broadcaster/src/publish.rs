//! What becomes of a record of `asset-pipeline`.
//!
//! The row comes first: an edge can only ask for what it was told of, so its request always finds the row. Then the
//! broadcast, then the asset's new state, then the word that the row changed. All of them are sent again when the
//! record comes again; each is keyed by the asset and says the same, so again is harmless.
//!
//! A withdrawal is final. It is a cell of the row that nothing clears, and it is looked at before anything is
//! published: records of one asset are handled in order, so no other handler is between the look and the effect.

use common::broker::{Failure, Handler, Outgoing, Producer, Record};
use common::chassis::{Span, now_ms};
use common::control::Control;
use common::schemas::{
    self, Asset, AssetBroadcast, AssetChange, AssetId, AssetState, Hash, Record as Schema, topic,
};
use common::table::{Row, Session, Value, Write};

use crate::Broadcaster;
use crate::error::{Error, Result};

/// The reason of a withdrawal that was given none.
const NO_REASON: &str = "withdrawn by the core";

/// Publishes downloaded assets and takes withdrawn ones back.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) table: Session,
    pub(crate) producer: Producer,
    pub(crate) control: Control,
    pub(crate) expires_after: Option<Span>,
}

/// What table `published` holds of an asset.
#[derive(Debug, Default)]
struct Published {
    title: Option<String>,
    hash: Option<Hash>,
    size: Option<i64>,
    media_type: Option<String>,
    file_name: Option<String>,
    broadcast_at: Option<i64>,
    expires_at: Option<i64>,
    withdrawn_at: Option<i64>,
    withdrawn_reason: Option<String>,
}

impl Published {
    fn read(row: &Row) -> Self {
        let text = |column| row.text(column).map(str::to_owned);
        Self {
            title: text("title"),
            hash: row.text("hash").and_then(|hash| hash.parse().ok()),
            size: row.bigint("size"),
            media_type: text("media_type"),
            file_name: text("file_name"),
            broadcast_at: row.timestamp("broadcast_at"),
            expires_at: row.timestamp("expires_at"),
            withdrawn_at: row.timestamp("withdrawn_at"),
            withdrawn_reason: text("withdrawn_reason"),
        }
    }
}

impl Handler for Publisher {
    async fn handle(&self, record: Record) -> Result<(), Failure> {
        let value = record.value.as_ref().ok_or(Error::NoValue)?;
        let asset: Asset = schemas::decode(value).map_err(|source| Error::Decode { source })?;
        match asset.state {
            AssetState::Downloaded => self.publish(asset, record.timestamp).await?,
            AssetState::Withdrawn => self.withdraw(asset, record.timestamp).await?,
            AssetState::Announced | AssetState::Broadcast | AssetState::Failed => {}
        }
        Ok(())
    }
}

impl Publisher {
    async fn publish(&self, asset: Asset, timestamp: i64) -> Result<()> {
        let before = self.published(&asset.asset_id).await?;
        if before.withdrawn_at.is_some() {
            return self.stay_withdrawn(asset, before).await;
        }
        // Kept from the first time, so that a record that comes again says the same as before.
        let broadcast_at = before.broadcast_at.unwrap_or_else(now_ms);
        let expires_at = asset.expires_at.or_else(|| self.end_of(broadcast_at));
        let broadcast = AssetBroadcast {
            expires_at,
            ..complete(&asset, broadcast_at)?
        };
        let row = self
            .row(&broadcast.asset_id)
            .set("title", &broadcast.title)
            .set("hash", broadcast.hash.as_str())
            .set("size", broadcast.size)
            .set("media_type", &broadcast.media_type)
            .set("file_name", &broadcast.file_name)
            .set("broadcast_at", Value::timestamp(broadcast_at))
            .set("expires_at", Value::timestamp(expires_at))
            .at(timestamp.saturating_mul(1000));
        self.write(&broadcast.asset_id, row).await?;
        let asset_id = asset.asset_id.clone();
        let state = Asset {
            state: AssetState::Broadcast,
            expires_at,
            ..asset
        };
        let records = vec![
            told_at(
                timestamp,
                outgoing(topic::ASSET_BROADCAST, &asset_id, &broadcast)?,
            ),
            outgoing(topic::ASSET_PIPELINE, &asset_id, &state)?,
            change(&asset_id)?,
        ];
        self.send(&asset_id, records).await?;
        self.control.count("broadcast", 1);
        Ok(())
    }

    fn end_of(&self, broadcast_at: i64) -> Option<i64> {
        let span = self.expires_after?;
        Some(broadcast_at.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }

    /// The newest record of a compacted topic is the asset's state, and that must be the withdrawal again.
    async fn stay_withdrawn(&self, asset: Asset, before: Published) -> Result<()> {
        tracing::debug!(asset_id = %asset.asset_id, "downloaded after it was withdrawn; it stays withdrawn");
        let asset_id = asset.asset_id.clone();
        let state = Asset {
            state: AssetState::Withdrawn,
            reason: before.withdrawn_reason,
            ..asset
        };
        self.send(
            &asset_id,
            vec![outgoing(topic::ASSET_PIPELINE, &asset_id, &state)?],
        )
        .await
    }

    async fn withdraw(&self, asset: Asset, timestamp: i64) -> Result<()> {
        let asset_id = asset.asset_id.clone();
        let before = self.published(&asset_id).await?;
        let withdrawn_at = before.withdrawn_at.unwrap_or(timestamp);
        let reason = before.withdrawn_reason.clone();
        let reason = reason
            .or_else(|| asset.reason.clone())
            .unwrap_or_else(|| NO_REASON.to_owned());
        if before.withdrawn_at.is_none() {
            // What was published before may lie behind this record in the compacted topic, as `broadcast`, and the newest
            // must be the withdrawal. Before the row, which says that it is done: handled again it sends none more.
            if before.broadcast_at.is_some() {
                let state = Asset {
                    reason: Some(reason.clone()),
                    ..asset.clone()
                };
                self.send(
                    &asset_id,
                    vec![outgoing(topic::ASSET_PIPELINE, &asset_id, &state)?],
                )
                .await?;
            }
            let row = self
                .row(&asset_id)
                .set("withdrawn_at", Value::timestamp(withdrawn_at))
                .set("withdrawn_reason", &reason)
                .at(timestamp.saturating_mul(1000));
            self.write(&asset_id, row).await?;
            self.control.count("withdrawn", 1);
        }
        let mut records = Vec::new();
        // No edge was told of an asset that was never broadcast, so there is nothing to take back.
        if let Some(broadcast_at) = before.broadcast_at {
            let broadcast = AssetBroadcast {
                withdrawn_at: Some(withdrawn_at),
                reason: Some(reason),
                expires_at: before.expires_at,
                ..complete(&filled(asset, before), broadcast_at)?
            };
            records.push(told_at(
                timestamp,
                outgoing(topic::ASSET_BROADCAST, &asset_id, &broadcast)?,
            ));
        }
        records.push(change(&asset_id)?);
        self.send(&asset_id, records).await
    }

    async fn published(&self, asset_id: &AssetId) -> Result<Published> {
        let key = [
            ("bucket", asset_id.bucket().into()),
            ("asset_id", asset_id.as_str().into()),
        ];
        let row = self.table.get("published", &key).await;
        let row = row.map_err(|source| Error::Table {
            operation: "read",
            asset_id: asset_id.clone(),
            source,
        })?;
        Ok(row.as_ref().map(Published::read).unwrap_or_default())
    }

    fn row(&self, asset_id: &AssetId) -> Write {
        Write::to("published")
            .set("bucket", asset_id.bucket())
            .set("asset_id", asset_id.as_str())
    }

    async fn write(&self, asset_id: &AssetId, row: Write) -> Result<()> {
        let written = self.table.upsert(row).await;
        written.map_err(|source| Error::Table {
            operation: "write",
            asset_id: asset_id.clone(),
            source,
        })
    }

    async fn send(&self, asset_id: &AssetId, records: Vec<Outgoing>) -> Result<()> {
        let sent = self.producer.send_all(records).await;
        sent.map_err(|source| Error::Send {
            asset_id: asset_id.clone(),
            source,
        })?;
        Ok(())
    }
}

/// The asset as edges are told of it, which needs all that downloading finds out.
fn complete(asset: &Asset, broadcast_at: i64) -> Result<AssetBroadcast> {
    let lacks = |field| Error::Incomplete {
        asset_id: asset.asset_id.clone(),
        field,
    };
    Ok(AssetBroadcast {
        asset_id: asset.asset_id.clone(),
        title: asset.title.clone(),
        description: asset.description.clone(),
        credit: asset.credit.clone(),
        hash: asset.hash.clone().ok_or_else(|| lacks("hash"))?,
        size: asset
            .size
            .filter(|size| *size >= 0)
            .ok_or_else(|| lacks("size"))?,
        media_type: asset.media_type.clone().ok_or_else(|| lacks("media_type"))?,
        file_name: asset.file_name.clone().ok_or_else(|| lacks("file_name"))?,
        created_at: asset.created_at,
        broadcast_at,
        expires_at: asset.expires_at,
        withdrawn_at: None,
        reason: None,
    })
}

/// Who withdraws an asset may know no more of it than its id: the rest is as it was published.
fn filled(asset: Asset, before: Published) -> Asset {
    let title = if asset.title.is_empty() {
        before.title.unwrap_or_default()
    } else {
        asset.title
    };
    Asset {
        title,
        hash: before.hash.or(asset.hash),
        size: before.size.or(asset.size),
        media_type: before.media_type.or(asset.media_type),
        file_name: before.file_name.or(asset.file_name),
        ..asset
    }
}

fn outgoing<R: Schema>(topic: &str, asset_id: &AssetId, record: &R) -> Result<Outgoing> {
    let value = schemas::encode(record);
    let value = value.map_err(|source| Error::Encode {
        asset_id: asset_id.clone(),
        source,
    })?;
    Ok(Outgoing::new(topic, asset_id.as_str(), value))
}

/// Edges let the newer of two broadcasts win by their timestamps: what comes again keeps its place in time.
fn told_at(timestamp: i64, record: Outgoing) -> Outgoing {
    Outgoing {
        timestamp: Some(timestamp),
        ..record
    }
}

fn change(asset_id: &AssetId) -> Result<Outgoing> {
    let change = AssetChange {
        asset_id: asset_id.clone(),
        writer: <Broadcaster as common::chassis::Service>::NAME.to_owned(),
        changed_at: now_ms(),
    };
    outgoing(topic::ASSET_CHANGES, asset_id, &change)
}
