//! One record of the core: into the row, then the word that the row changed.

use common::broker::{Failure, Handler, Outgoing, Producer, Record};
use common::chassis::{Service as _, now_ms};
use common::control::Control;
use common::schemas::{self, AssetChange, Record as Schema, topic};
use common::table::Session;

use crate::Listener;
use crate::error::{Error, Result};
use crate::row;

/// Fills the edge's table with what the core says.
#[derive(Debug)]
pub(crate) struct Taker {
    pub(crate) table: Session,
    pub(crate) producer: Producer,
    pub(crate) control: Control,
}

impl Handler for Taker {
    async fn handle(&self, record: Record) -> Result<(), Failure> {
        self.take(&record).await?;
        Ok(())
    }
}

impl Taker {
    async fn take(&self, record: &Record) -> Result<()> {
        let (counter, (asset_id, write)) = match &*record.topic {
            topic::ASSET_PREVIEW => ("previews", row::preview(decode(record)?, record.timestamp)?),
            topic::ASSET_RESPONSE => ("responses", row::response(decode(record)?, record.timestamp)),
            _ => ("broadcasts", row::broadcast(decode(record)?, record.timestamp)),
        };
        let written = self.table.upsert(write).await;
        written.map_err(|source| Error::Table {
            asset_id: asset_id.clone(),
            source,
        })?;
        let change = AssetChange {
            asset_id: asset_id.clone(),
            writer: Listener::NAME.to_owned(),
            changed_at: now_ms(),
        };
        let value = schemas::encode(&change);
        let value = value.map_err(|source| Error::Encode {
            asset_id: asset_id.clone(),
            source,
        })?;
        let sent = self
            .producer
            .send(Outgoing::new(topic::ASSET_CHANGES, asset_id.as_str(), value))
            .await;
        sent.map_err(|source| Error::Send { asset_id, source })?;
        self.control.count(counter, 1);
        Ok(())
    }
}

fn decode<R: Schema>(record: &Record) -> Result<R> {
    let value = record.value.as_ref().ok_or(Error::NoValue)?;
    schemas::decode(value).map_err(|source| Error::Decode { source })
}
