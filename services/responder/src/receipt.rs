//! What a receipt comes to: the rows say delivered, the entry goes.

use common::schemas::{AssetReceipt, RequestId, SiteId};

use crate::deliveries::Delivery;
use crate::desk::Desk;
use crate::error::{Error, Result};
use crate::verdict::{Published, Standing};

impl Desk {
    pub(crate) async fn receipt(&self, site: &SiteId, receipt: AssetReceipt) -> Result<()> {
        let AssetReceipt {
            request_id, asset_id, ..
        } = &receipt;
        let foreign = || Error::ForeignReceipt {
            site: site.clone(),
            request_id: request_id.clone(),
        };
        let attempt = attempt(request_id).ok_or_else(foreign)?;
        if *request_id != RequestId::new(site, asset_id, attempt) {
            return Err(foreign());
        }
        let Some(delivery) = self.delivery(asset_id, site, attempt).await? else {
            // A request's entry is there before its row, and a quick edge can be done in between.
            return Err(if self.admitted(site, request_id).await? {
                Error::Unsettled {
                    request_id: request_id.clone(),
                }
            } else {
                Error::UnknownReceipt {
                    site: site.clone(),
                    request_id: request_id.clone(),
                }
            });
        };
        // A withdrawn asset's bytes may have arrived before the word of it did; they are not compared any more.
        if let Standing::Published(published) = self.standing(asset_id).await?
            && !same(&published, &receipt)
        {
            return Err(Error::OtherBytes {
                site: site.clone(),
                request_id: request_id.clone(),
            });
        }
        self.arrived(&delivery, receipt.mirrored_at).await
    }

    async fn arrived(&self, delivery: &Delivery, mirrored_at: i64) -> Result<()> {
        let delivered_at = delivery.delivered_at.unwrap_or(mirrored_at);
        self.write(&delivery.asset_id, delivery.arrived(delivered_at))
            .await?;
        self.bar(&delivery.site, &delivery.request_id()).await?;
        self.changed(&delivery.asset_id).await?;
        self.control.count("delivered", 1);
        Ok(())
    }
}

fn attempt(request_id: &RequestId) -> Option<i32> {
    request_id.as_str().rsplit('.').next()?.parse().ok()
}

fn same(published: &Published, receipt: &AssetReceipt) -> bool {
    published.hash == receipt.hash && i64::try_from(published.size) == Ok(receipt.size)
}
