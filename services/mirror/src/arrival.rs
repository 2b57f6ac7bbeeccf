//! What an arrived asset leaves behind, in this order: its row, the word that the row changed, the receipt.
//!
//! The receipt is last, for it closes the entry at the core: until it is in the topic, the manifest names the asset again
//! and all of this is repeated, with the same figures.

use std::collections::HashMap;

use common::broker::{Outgoing, Producer};
use common::chassis::now_ms;
use common::schemas::{
    self, AssetChange, AssetId, AssetReceipt, EdgeAsset, EdgeState, MIRROR_ORDERS, MIRROR_ORDERS_MOST,
    Record, topic,
};
use common::table::{Row, Select, Session, Value, Write};
use common::volume::ManifestEntry;

use crate::displace;
use crate::error::{Error, Result};

const COLUMNS: [&str; 14] = [
    "asset_id",
    "withdrawn_at",
    "attempt",
    "requesting_at",
    "cancelled_at",
    "requested_attempt",
    "response",
    "response_attempt",
    "responded_at",
    "mirrored_at",
    "mirrored_hash",
    "evicted_at",
    "displaced_at",
    "pinned_at",
];

/// Where arrivals are written down.
#[derive(Debug)]
pub struct Book {
    pub(crate) table: Session,
    pub(crate) producer: Producer,
}

pub(crate) fn number(row: &Row, column: &str) -> Option<i64> {
    match row.value(column) {
        Value::Int(number) => Some(i64::from(*number)),
        Value::BigInt(number) | Value::Timestamp(number) => Some(*number),
        _ => None,
    }
}

/// Whether the team still wants the asset, as far as this site knows. Whether its time is over is the core's to say: the
/// entry has a time of its own. What came and was evicted since is not fetched again while the entry is still open; it
/// takes another request.
pub(crate) fn wanted(facts: &EdgeAsset) -> bool {
    match facts.state(i64::MIN) {
        EdgeState::Cancelled | EdgeState::Refused | EdgeState::Withdrawn => false,
        EdgeState::Available => facts.evicted_at.is_none(),
        _ => true,
    }
}

impl Book {
    /// In this site's tables and topics.
    pub fn new(table: Session, producer: Producer) -> Self {
        Self { table, producer }
    }

    /// What this site knows of an entry's asset.
    pub(crate) async fn facts(&self, entry: &ManifestEntry) -> Result<EdgeAsset> {
        self.known(&entry.asset_id).await
    }

    /// What this site knows of an asset.
    pub(crate) async fn known(&self, asset_id: &AssetId) -> Result<EdgeAsset> {
        let select = Select::from("assets")
            .partition("bucket", asset_id.bucket())
            .prefix("asset_id", asset_id.as_str())
            .columns(&COLUMNS)
            .limit(1);
        let rows = self.table.select(select).await.map_err(table(asset_id, "read"))?;
        Ok(rows
            .first()
            .map(|row| EdgeAsset::read(|column| row.text(column), |column| number(row, column)))
            .unwrap_or_default())
    }

    /// What the team said of the order: the priority of each asset that it said something about.
    pub(crate) async fn orders(&self) -> Result<HashMap<AssetId, i32>> {
        let select = Select::from("mirror_orders")
            .partition("realm", MIRROR_ORDERS)
            .columns(&["asset_id", "priority"])
            .limit(MIRROR_ORDERS_MOST);
        let rows = self
            .table
            .select(select)
            .await
            .map_err(|source| Error::Orders { source })?;
        let orders = rows.iter().filter_map(|row| {
            let asset_id = row.text("asset_id")?.parse().ok()?;
            Some((asset_id, i32::try_from(number(row, "priority")?).ok()?))
        });
        Ok(orders.collect())
    }

    /// Whether an entry is to be fetched.
    pub async fn wants(&self, entry: &ManifestEntry) -> Result<bool> {
        Ok(wanted(&self.facts(entry).await?))
    }

    /// Writes down that the asset is here. Written before, it is the same again.
    pub async fn arrived(&self, entry: &ManifestEntry) -> Result<()> {
        self.write(entry, &self.facts(entry).await?).await
    }

    /// The same, of an asset whose row was read before.
    pub(crate) async fn write(&self, entry: &ManifestEntry, facts: &EdgeAsset) -> Result<()> {
        let asset_id = &entry.asset_id;
        let before = facts
            .mirrored_at
            .filter(|_| facts.mirrored_hash.as_ref() == Some(&entry.hash));
        let mirrored_at = before.unwrap_or_else(now_ms);
        if before.is_none() {
            let row = Write::to("assets")
                .set("bucket", asset_id.bucket())
                .set("asset_id", asset_id.as_str())
                .set("mirrored_at", Value::timestamp(mirrored_at))
                .set("mirrored_hash", entry.hash.as_str());
            self.table.upsert(row).await.map_err(table(asset_id, "mark"))?;
        }
        let receipt = AssetReceipt {
            request_id: entry.request_id.clone(),
            asset_id: asset_id.clone(),
            hash: entry.hash.clone(),
            size: i64::try_from(entry.size).unwrap_or(i64::MAX),
            mirrored_at,
        };
        let records = vec![
            change(asset_id, mirrored_at)?,
            record(topic::ASSET_RECEIPT, asset_id, &receipt)?,
        ];
        self.send(asset_id, records).await
    }

    /// Writes down that an asset's room was given to others.
    pub(crate) async fn displaced(&self, asset_id: &AssetId, mirrored_at: i64) -> Result<()> {
        let (row, displaced_at) = displace::row(asset_id, mirrored_at);
        self.table
            .upsert(row)
            .await
            .map_err(table(asset_id, "displace"))?;
        self.send(asset_id, vec![change(asset_id, displaced_at)?]).await
    }

    async fn send(&self, asset_id: &AssetId, records: Vec<Outgoing>) -> Result<()> {
        let sent = self.producer.send_all(records).await;
        sent.map(drop).map_err(|source| Error::Send {
            asset_id: asset_id.clone(),
            source,
        })
    }
}

/// That the asset's row has changed.
fn change(asset_id: &AssetId, changed_at: i64) -> Result<Outgoing> {
    let change = AssetChange {
        asset_id: asset_id.clone(),
        writer: "mirror".to_owned(),
        changed_at,
    };
    record(topic::ASSET_CHANGES, asset_id, &change)
}

fn record<R: Record>(topic: &str, asset_id: &AssetId, record: &R) -> Result<Outgoing> {
    let value = schemas::encode(record).map_err(|source| Error::Encode {
        asset_id: asset_id.clone(),
        source,
    })?;
    Ok(Outgoing::new(topic, asset_id.as_str(), value))
}

fn table(asset_id: &AssetId, operation: &'static str) -> impl FnOnce(common::table::Error) -> Error {
    let asset_id = asset_id.clone();
    move |source| Error::Table {
        operation,
        asset_id,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_back_or_refused_is_not_fetched() {
        let ready = EdgeAsset {
            attempt: Some(2),
            requesting_at: Some(10),
            response: Some("ready".to_owned()),
            response_attempt: Some(2),
            ..EdgeAsset::default()
        };
        assert!(wanted(&ready));
        // The row may be lost, or the answer be slower than the manifest.
        assert!(wanted(&EdgeAsset::default()));
        assert!(wanted(&EdgeAsset {
            response_attempt: Some(1),
            ..ready.clone()
        }));
        assert!(wanted(&EdgeAsset {
            cancelled_at: Some(9),
            ..ready.clone()
        }));
        assert!(!wanted(&EdgeAsset {
            cancelled_at: Some(11),
            ..ready.clone()
        }));
        assert!(!wanted(&EdgeAsset {
            withdrawn_at: Some(11),
            ..ready.clone()
        }));
        for answer in ["refused", "cancelled"] {
            assert!(!wanted(&EdgeAsset {
                response: Some(answer.to_owned()),
                ..ready.clone()
            }));
        }
        assert!(!wanted(&EdgeAsset {
            evicted_at: Some(12),
            ..ready.clone()
        }));
        assert!(wanted(&EdgeAsset {
            evicted_at: Some(9),
            ..ready.clone()
        }));
        // The entry is open, so the core has no receipt.
        assert!(wanted(&EdgeAsset {
            mirrored_at: Some(12),
            cancelled_at: Some(11),
            ..ready
        }));
    }
}
