//! What answering needs from outside: the core's tables, the manifests, the topics.

use bytes::Bytes;
use common::broker::{Failure, Handler, Outgoing, Producer, Record};
use common::chassis::{Service as _, now_ms};
use common::control::Control;
use common::schemas::{
    self, AssetBroadcast, AssetChange, AssetId, AssetReceipt, AssetRequest, AssetResponse, Outcome,
    Record as Schema, RequestId, SiteId, at_core, split_site, topic,
};
use common::table::{Row, Session, Value, Write};
use common::volume::{ManifestEntry, Volume};

use crate::Responder;
use crate::deliveries::Delivery;
use crate::error::{Error, Result};
use crate::settings::Settings;
use crate::verdict::{Enrolment, Published, Standing};

/// The one partition of table `sites`.
const REALM: &str = "core";

/// Answers requests, takes receipts, and ends what is withdrawn.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) table: Session,
    pub(crate) volume: Volume,
    pub(crate) producer: Producer,
    pub(crate) control: Control,
    pub(crate) settings: Settings,
}

impl Handler for Desk {
    async fn handle(&self, record: Record) -> Result<(), Failure> {
        self.take(&record).await?;
        Ok(())
    }
}

impl Desk {
    async fn take(&self, record: &Record) -> Result<()> {
        if &*record.topic == topic::ASSET_BROADCAST {
            return self.broadcast(decode::<AssetBroadcast>(record)?).await;
        }
        let foreign = || Error::Topic {
            topic: record.topic.to_string(),
        };
        // The site is whose topic it is: only that site can write to it, whatever a record says.
        let (site, name) = split_site(&record.topic).ok_or_else(foreign)?;
        match name {
            topic::ASSET_REQUEST => self.request(&site, decode::<AssetRequest>(record)?).await,
            topic::ASSET_RECEIPT => self.receipt(&site, decode::<AssetReceipt>(record)?).await,
            _ => Err(foreign()),
        }
    }

    /// The limit on what a site is given.
    pub(crate) fn limit(&self, site: &SiteId) -> Option<u64> {
        let own = self.settings.sites.get(site).and_then(|site| site.max_bytes);
        own.or(self.settings.max_bytes).map(|size| size.bytes())
    }

    pub(crate) async fn standing(&self, asset_id: &AssetId) -> Result<Standing> {
        let key = [
            ("bucket", asset_id.bucket().into()),
            ("asset_id", asset_id.as_str().into()),
        ];
        let row = self.get("published", &key, asset_id).await?;
        Ok(Standing::read(row.as_ref()))
    }

    pub(crate) async fn enrolment(&self, site: &SiteId, asset_id: &AssetId) -> Result<Enrolment> {
        let key = [("realm", REALM.into()), ("site", site.as_str().into())];
        let row = self.get("sites", &key, asset_id).await?;
        Ok(match row {
            Some(row) if row.timestamp("revoked_at").is_some() => Enrolment::Revoked,
            Some(row) if row.timestamp("enrolled_at").is_some() => Enrolment::Enrolled,
            _ => Enrolment::NotEnrolled,
        })
    }

    pub(crate) async fn delivery(
        &self,
        asset_id: &AssetId,
        site: &SiteId,
        attempt: i32,
    ) -> Result<Option<Delivery>> {
        let key = [
            ("asset_id", asset_id.as_str().into()),
            ("site", site.as_str().into()),
            ("attempt", attempt.into()),
        ];
        let row = self.get("deliveries", &key, asset_id).await?;
        Ok(row.as_ref().and_then(Delivery::read))
    }

    async fn get(
        &self,
        table: &'static str,
        key: &[(&str, Value)],
        asset_id: &AssetId,
    ) -> Result<Option<Row>> {
        let operation = match table {
            "published" => "read table published",
            "sites" => "read table sites",
            _ => "read table deliveries",
        };
        let row = self.table.get(table, key).await;
        row.map_err(|source| Error::Table {
            operation,
            asset_id: asset_id.clone(),
            source,
        })
    }

    pub(crate) async fn write(&self, asset_id: &AssetId, rows: Vec<Write>) -> Result<()> {
        let written = self.table.upsert_all(rows).await;
        written.map_err(|source| Error::Table {
            operation: "write what became of a request",
            asset_id: asset_id.clone(),
            source,
        })
    }

    /// Lets the site fetch the bytes. An entry that is there already stays as it is.
    pub(crate) async fn admit(&self, delivery: &Delivery, published: &Published) -> Result<()> {
        let request_id = delivery.request_id();
        let entry = ManifestEntry {
            request_id: request_id.clone(),
            asset_id: delivery.asset_id.clone(),
            hash: published.hash.clone(),
            size: published.size,
            media_type: published.media_type.clone(),
            file_name: published.file_name.clone(),
            entered_at: now_ms(),
            expires_at: published.expires_at,
        };
        let path = ManifestEntry::path(&delivery.site, &request_id);
        let put = self.volume.put_entry(&path, Bytes::from(entry.to_json())).await;
        put.map_err(|source| Error::Manifest {
            operation: "write",
            request_id,
            source: Box::new(source),
        })?;
        Ok(())
    }

    /// Ends the site's right to fetch the bytes for this attempt, if it has it.
    pub(crate) async fn bar(&self, site: &SiteId, request_id: &RequestId) -> Result<()> {
        let deleted = self
            .volume
            .delete_entry(&ManifestEntry::path(site, request_id))
            .await;
        deleted.map_err(|source| Error::Manifest {
            operation: "delete",
            request_id: request_id.clone(),
            source: Box::new(source),
        })?;
        Ok(())
    }

    /// Whether the site has that right.
    pub(crate) async fn admitted(&self, site: &SiteId, request_id: &RequestId) -> Result<bool> {
        let entry = self
            .volume
            .get_entry(&ManifestEntry::path(site, request_id))
            .await;
        let entry = entry.map_err(|source| Error::Manifest {
            operation: "read",
            request_id: request_id.clone(),
            source: Box::new(source),
        })?;
        Ok(entry.is_some())
    }

    /// Answers a site, and says that the core's rows changed. The answer is dated when it was found, so at the edge
    /// an answer that comes again does not win over a newer one.
    pub(crate) async fn answer(&self, site: &SiteId, response: AssetResponse) -> Result<()> {
        let asset_id = response.asset_id.clone();
        let mut answer = outgoing(at_core(site, topic::ASSET_RESPONSE), &asset_id, &response)?;
        answer.timestamp = Some(response.responded_at);
        self.send(&asset_id, vec![answer, change(&asset_id)?]).await?;
        self.control.count(
            match response.outcome {
                Outcome::Ready => "ready",
                Outcome::Refused => "refused",
                Outcome::Cancelled => "cancelled",
            },
            1,
        );
        Ok(())
    }

    /// Says that the core's rows changed.
    pub(crate) async fn changed(&self, asset_id: &AssetId) -> Result<()> {
        self.send(asset_id, vec![change(asset_id)?]).await
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

fn change(asset_id: &AssetId) -> Result<Outgoing> {
    let change = AssetChange {
        asset_id: asset_id.clone(),
        writer: Responder::NAME.to_owned(),
        changed_at: now_ms(),
    };
    outgoing(topic::ASSET_CHANGES.to_owned(), asset_id, &change)
}

fn outgoing<R: Schema>(topic: String, asset_id: &AssetId, record: &R) -> Result<Outgoing> {
    let value = schemas::encode(record);
    let value = value.map_err(|source| Error::Encode {
        asset_id: asset_id.clone(),
        source,
    })?;
    Ok(Outgoing::new(topic, asset_id.as_str(), value))
}

fn decode<R: Schema>(record: &Record) -> Result<R> {
    let value = record.value.as_ref().ok_or(Error::NoValue)?;
    schemas::decode(value).map_err(|source| Error::Decode { source })
}
