//! What a withdrawal comes to: no site fetches the asset any more, and each that could is told.
//!
//! It is heard from `ASSET_BROADCAST`, not from `asset-pipeline`: broadcaster writes the withdrawal to table
//! `published` before it broadcasts it, so a request that is handled meanwhile sees either that row, or this does see
//! the request's row.

use common::chassis::now_ms;
use common::schemas::{AssetBroadcast, AssetId, Outcome};
use common::table::{Row, Select};

use crate::answer::response;
use crate::deliveries::Delivery;
use crate::desk::Desk;
use crate::error::{Error, Result};
use crate::verdict::Refusal;

const PAGE: usize = 200;

impl Desk {
    pub(crate) async fn broadcast(&self, broadcast: AssetBroadcast) -> Result<()> {
        if broadcast.withdrawn_at.is_none() {
            return Ok(());
        }
        let refusal = Refusal::Withdrawn {
            reason: broadcast.reason,
        };
        let mut after = None;
        loop {
            let rows = self.page(&broadcast.asset_id, after.take()).await?;
            for delivery in rows.iter().filter_map(Delivery::read).filter(Delivery::open) {
                self.end(delivery, &refusal).await?;
            }
            match rows.last() {
                Some(last) if rows.len() == PAGE => after = Some(last.clone()),
                _ => return Ok(()),
            }
        }
    }

    async fn end(&self, mut delivery: Delivery, refusal: &Refusal) -> Result<()> {
        // First of all the bytes stop being served; the row still says `ready`, so after a crash this is done again.
        self.bar(&delivery.site, &delivery.request_id()).await?;
        delivery.outcome = Some(Outcome::Refused);
        delivery.reason = Some(refusal.to_string());
        delivery.responded_at = Some(now_ms());
        self.write(&delivery.asset_id, delivery.answered()).await?;
        self.answer(&delivery.site, response(&delivery)).await
    }

    async fn page(&self, asset_id: &AssetId, after: Option<Row>) -> Result<Vec<Row>> {
        let after = after.map(|row| {
            ["site", "attempt"]
                .map(|column| row.value(column).clone())
                .to_vec()
        });
        let partition = Select::from("deliveries").partition("asset_id", asset_id.as_str());
        let rows = self
            .table
            .select(Select {
                after,
                limit: PAGE,
                ..partition
            })
            .await;
        rows.map_err(|source| Error::Table {
            operation: "read who asked",
            asset_id: asset_id.clone(),
            source,
        })
    }
}
