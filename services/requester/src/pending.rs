//! From the pending rows to the topic.
//!
//! For each batch: the requests are sent, then the rows of the assets say so, then the pending rows go, then pages are
//! told. A crash between any two steps leaves the pending rows, so all is done again: the same requests with the same
//! ids, which the core answers again, and the same columns.

use std::collections::{BTreeMap, BTreeSet};

use common::broker::{Outgoing, Producer};
use common::chassis::{Service as _, now_ms};
use common::control::Control;
use common::schemas::{
    self, AssetChange, AssetId, AssetRequest, Record as Schema, RequestAction, RequestId, SiteId, topic,
};
use common::table::{Row, Select, Session, Value, Write};

use crate::Requester;
use crate::error::{Error, Result};

/// The one partition of table `requests`.
const QUEUE: &str = "pending";
/// Rows of one step: as many as fit a batch of every engine.
const BATCH: usize = 100;

/// One pending row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pending {
    asset_id: AssetId,
    attempt: i32,
    action: RequestAction,
    asked_at: i64,
    asked_by: Option<String>,
}

impl Pending {
    fn read(row: &Row) -> Option<Self> {
        Some(Self {
            asset_id: row.text("asset_id")?.parse().ok()?,
            attempt: row.int("attempt").filter(|attempt| *attempt > 0)?,
            action: match row.text("action")? {
                "request" => RequestAction::Request,
                "cancel" => RequestAction::Cancel,
                _ => return None,
            },
            asked_at: row.timestamp("asked_at")?,
            asked_by: row.text("asked_by").map(str::to_owned),
        })
    }

    /// In the order of an asset's life, where a cancellation follows what it cancels; the table has it before, since
    /// its word does.
    fn order(&self) -> (AssetId, i32, bool) {
        (
            self.asset_id.clone(),
            self.attempt,
            self.action == RequestAction::Cancel,
        )
    }

    fn word(&self) -> &'static str {
        match self.action {
            RequestAction::Request => "request",
            RequestAction::Cancel => "cancel",
        }
    }

    fn key(&self) -> [(&'static str, Value); 4] {
        [
            ("queue", QUEUE.into()),
            ("asset_id", self.asset_id.as_str().into()),
            ("attempt", self.attempt.into()),
            ("action", self.word().into()),
        ]
    }
}

/// Publishes what is pending.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) site: SiteId,
    pub(crate) table: Session,
    pub(crate) producer: Producer,
    pub(crate) control: Control,
}

impl Publisher {
    /// Publishes everything that is pending, and returns how many requests that were.
    pub(crate) async fn publish_all(&self) -> Result<usize> {
        let mut after = None;
        let mut published = 0;
        loop {
            let mut page = Select {
                limit: BATCH,
                ..Select::from("requests").partition("queue", QUEUE)
            };
            page.after = after.take();
            let rows = self
                .table
                .select(page)
                .await
                .map_err(|source| Error::Read { source })?;
            let Some(last) = rows.last() else {
                return Ok(published);
            };
            after = Some(
                ["asset_id", "attempt", "action"]
                    .map(|column| last.value(column).clone())
                    .to_vec(),
            );
            let full = rows.len() == BATCH;
            let mut batch = Vec::with_capacity(rows.len());
            for row in &rows {
                match Pending::read(row) {
                    Some(pending) => batch.push(pending),
                    None => {
                        let asset_id = row.text("asset_id").unwrap_or_default();
                        tracing::warn!(asset_id, "a pending request cannot be read; it is left to expire");
                        self.control.error(format!(
                            "the pending request for asset {asset_id:?} cannot be read"
                        ));
                    }
                }
            }
            batch.sort_by_key(Pending::order);
            self.publish(&batch).await?;
            published += batch.len();
            if !full {
                return Ok(published);
            }
        }
    }

    async fn publish(&self, batch: &[Pending]) -> Result<()> {
        let requests = batch
            .iter()
            .map(|pending| self.request(pending))
            .collect::<Result<Vec<_>>>()?;
        self.producer
            .send_all(requests)
            .await
            .map_err(|source| Error::Send { source })?;

        let writes = noted(batch, now_ms());
        self.table
            .upsert_all(writes)
            .await
            .map_err(|source| Error::Note { source })?;

        for pending in batch {
            // As of when it was asked at least: the writer's clock may be ahead of this one.
            let timestamp = now_ms()
                .max(pending.asked_at)
                .saturating_mul(1000)
                .saturating_add(999);
            let deleted = self.table.delete("requests", &pending.key(), timestamp).await;
            deleted.map_err(|source| Error::Delete { source })?;
        }

        let assets: BTreeSet<&AssetId> = batch.iter().map(|pending| &pending.asset_id).collect();
        let changes = assets.into_iter().map(change).collect::<Result<Vec<_>>>()?;
        self.producer
            .send_all(changes)
            .await
            .map_err(|source| Error::Tell { source })?;
        for pending in batch {
            let counter = match pending.action {
                RequestAction::Request => "requests",
                RequestAction::Cancel => "cancellations",
            };
            self.control.count(counter, 1);
        }
        Ok(())
    }

    fn request(&self, pending: &Pending) -> Result<Outgoing> {
        let request = AssetRequest {
            request_id: RequestId::new(&self.site, &pending.asset_id, pending.attempt),
            asset_id: pending.asset_id.clone(),
            attempt: pending.attempt,
            action: pending.action,
            requested_at: pending.asked_at,
            requested_by: pending.asked_by.clone(),
        };
        outgoing(topic::ASSET_REQUEST, &pending.asset_id, &request)
    }
}

/// What the assets' rows say of requests that are on their way: of each asset its newest attempt.
fn noted(batch: &[Pending], now: i64) -> Vec<Write> {
    let mut newest = BTreeMap::new();
    for pending in batch
        .iter()
        .filter(|pending| pending.action == RequestAction::Request)
    {
        newest.insert(&pending.asset_id, pending.attempt);
    }
    let write = |(asset_id, attempt): (&AssetId, i32)| {
        Write::to("assets")
            .set("bucket", asset_id.bucket())
            .set("asset_id", asset_id.as_str())
            .set("requested_attempt", attempt)
            .set("requested_at", Value::timestamp(now))
    };
    newest.into_iter().map(write).collect()
}

fn change(asset_id: &AssetId) -> Result<Outgoing> {
    let change = AssetChange {
        asset_id: asset_id.clone(),
        writer: Requester::NAME.to_owned(),
        changed_at: now_ms(),
    };
    outgoing(topic::ASSET_CHANGES, asset_id, &change)
}

fn outgoing<R: Schema>(topic: &str, asset_id: &AssetId, record: &R) -> Result<Outgoing> {
    let value = schemas::encode(record).map_err(|source| Error::Encode { source })?;
    Ok(Outgoing::new(topic, asset_id.as_str(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(attempt: i32, action: RequestAction) -> Pending {
        let asset_id = AssetId::derive("c", "1");
        Pending {
            asset_id,
            attempt,
            action,
            asked_at: 1,
            asked_by: None,
        }
    }

    #[test]
    fn a_cancellation_follows_its_request() {
        let (request, cancel) = (RequestAction::Request, RequestAction::Cancel);
        let mut batch = [pending(2, request), pending(1, cancel), pending(1, request)];
        batch.sort_by_key(Pending::order);
        assert_eq!(
            batch,
            [pending(1, request), pending(1, cancel), pending(2, request)]
        );
    }

    #[test]
    fn the_row_names_the_newest_attempt_that_was_sent() {
        let batch = [
            pending(1, RequestAction::Request),
            pending(2, RequestAction::Request),
            pending(2, RequestAction::Cancel),
        ];
        let writes = noted(&batch, 5);
        assert_eq!(writes.len(), 1);
        assert!(writes[0].cells.contains(&("requested_attempt", Value::Int(2))));
    }
}
