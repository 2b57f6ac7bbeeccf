//! What a site's request, or its cancellation, comes to.
//!
//! For `ready` the manifest entry comes first, then the rows, then a second look, then the answer: whoever reads the
//! answer finds the entry. A crash in between leaves a record that comes again and finds what is there: the entry is
//! create-only and named after the request, the rows are upserts, an answer that was found once is given again.
//!
//! Requests and cancellations of one asset come in order on one topic. Receipts and withdrawals come on others, at any
//! moment. Both first write their rows and then delete the entry; a request first writes the entry and then looks at
//! those rows again. So of two at the same time at least one sees the other, and no entry is left open.

use common::chassis::now_ms;
use common::schemas::{AssetRequest, AssetResponse, Outcome, RequestAction, RequestId, SiteId};

use crate::deliveries::Delivery;
use crate::desk::Desk;
use crate::error::Result;
use crate::verdict::{Refusal, Standing, judge};

impl Desk {
    pub(crate) async fn request(&self, site: &SiteId, request: AssetRequest) -> Result<()> {
        let AssetRequest {
            request_id,
            asset_id,
            attempt,
            ..
        } = &request;
        if *attempt < 1 || *request_id != RequestId::new(site, asset_id, *attempt) {
            // It is no attempt of this site, so there is no row to write; the answer alone says it.
            tracing::warn!(%site, %request_id, %asset_id, attempt, "a request's id is not its own");
            return self.answer(site, stranger(request)).await;
        }
        let before = self.delivery(asset_id, site, *attempt).await?;
        match request.action {
            RequestAction::Request => self.ask(site, request, before).await,
            RequestAction::Cancel => self.cancel(site, request, before).await,
        }
    }

    async fn ask(&self, site: &SiteId, request: AssetRequest, before: Option<Delivery>) -> Result<()> {
        let mut delivery = Delivery {
            requested_at: Some(request.requested_at),
            requested_by: request.requested_by.clone(),
            ..started(site, &request, before)
        };
        match delivery.outcome {
            // The bytes are there. An entry now would offer them again, to nobody.
            _ if delivery.delivered_at.is_some() => decide(&mut delivery, Outcome::Ready, None),
            Some(Outcome::Cancelled | Outcome::Refused) => {}
            Some(Outcome::Ready) | None => self.judge(&mut delivery).await?,
        }
        self.write(&delivery.asset_id, delivery.answered()).await?;
        if delivery.outcome == Some(Outcome::Ready) {
            self.look_again(&mut delivery).await?;
        }
        self.answer(site, response(&delivery)).await
    }

    /// Decides, and opens or closes the entry accordingly. What was found ready once is not measured again.
    async fn judge(&self, delivery: &mut Delivery) -> Result<()> {
        let standing = self.standing(&delivery.asset_id).await?;
        let enrolment = self.enrolment(&delivery.site, &delivery.asset_id).await?;
        let limit = if delivery.outcome.is_none() {
            self.limit(&delivery.site)
        } else {
            None
        };
        match judge(standing, enrolment, limit, now_ms()) {
            Ok(published) => {
                self.admit(delivery, &published).await?;
                decide(delivery, Outcome::Ready, None);
            }
            Err(refusal) => self.refuse(delivery, &refusal).await?,
        }
        Ok(())
    }

    /// Refuses, with no entry left: a crash may have left one from when the answer was another.
    pub(crate) async fn refuse(&self, delivery: &mut Delivery, refusal: &Refusal) -> Result<()> {
        self.bar(&delivery.site, &delivery.request_id()).await?;
        decide(delivery, Outcome::Refused, Some(refusal.to_string()));
        Ok(())
    }

    /// Looks whether a withdrawal or a receipt came between the first look and the entry.
    async fn look_again(&self, delivery: &mut Delivery) -> Result<()> {
        if let Standing::Withdrawn { reason } = self.standing(&delivery.asset_id).await? {
            self.refuse(delivery, &Refusal::Withdrawn { reason }).await?;
            return self.write(&delivery.asset_id, delivery.answered()).await;
        }
        let now = self
            .delivery(&delivery.asset_id, &delivery.site, delivery.attempt)
            .await?;
        if now.is_some_and(|now| now.delivered_at.is_some()) {
            self.bar(&delivery.site, &delivery.request_id()).await?;
        }
        Ok(())
    }

    async fn cancel(&self, site: &SiteId, request: AssetRequest, before: Option<Delivery>) -> Result<()> {
        let mut delivery = started(site, &request, before);
        if delivery.delivered_at.is_some() {
            // Too late: the bytes are there, and saying otherwise would not take them back.
            decide(&mut delivery, Outcome::Ready, None);
            return self.answer(site, response(&delivery)).await;
        }
        decide(&mut delivery, Outcome::Cancelled, None);
        self.write(&delivery.asset_id, delivery.answered()).await?;
        self.bar(site, &delivery.request_id()).await?;
        self.answer(site, response(&delivery)).await
    }
}

/// The attempt as its row has it, or as it starts.
fn started(site: &SiteId, request: &AssetRequest, before: Option<Delivery>) -> Delivery {
    before.unwrap_or_else(|| Delivery {
        asset_id: request.asset_id.clone(),
        site: site.clone(),
        attempt: request.attempt,
        requested_at: Some(request.requested_at),
        requested_by: request.requested_by.clone(),
        outcome: None,
        reason: None,
        responded_at: None,
        delivered_at: None,
    })
}

/// Notes an outcome; one that is found again keeps the time when it was found first.
pub(crate) fn decide(delivery: &mut Delivery, outcome: Outcome, reason: Option<String>) {
    if delivery.outcome != Some(outcome) || delivery.responded_at.is_none() {
        delivery.responded_at = Some(now_ms());
        delivery.outcome = Some(outcome);
        delivery.reason = reason;
    }
}

/// The answer that a row holds.
pub(crate) fn response(delivery: &Delivery) -> AssetResponse {
    AssetResponse {
        request_id: delivery.request_id(),
        asset_id: delivery.asset_id.clone(),
        attempt: delivery.attempt,
        outcome: delivery.outcome.unwrap_or(Outcome::Refused),
        reason: delivery.reason.clone(),
        responded_at: delivery.responded_at.unwrap_or_else(now_ms),
    }
}

fn stranger(request: AssetRequest) -> AssetResponse {
    AssetResponse {
        request_id: request.request_id,
        asset_id: request.asset_id,
        attempt: request.attempt,
        outcome: Outcome::Refused,
        reason: Some(Refusal::OtherRequest.to_string()),
        responded_at: now_ms(),
    }
}
