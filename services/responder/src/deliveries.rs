//! Who asked for what and what became of it: the same facts by asset and by site, so every row is written twice.

use common::schemas::{AssetId, Outcome, RequestId, SiteId};
use common::table::{Row, Value, Write};

/// One attempt of one site to get one asset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub(crate) asset_id: AssetId,
    pub(crate) site: SiteId,
    pub(crate) attempt: i32,
    pub(crate) requested_at: Option<i64>,
    pub(crate) requested_by: Option<String>,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) reason: Option<String>,
    pub(crate) responded_at: Option<i64>,
    pub(crate) delivered_at: Option<i64>,
}

impl Delivery {
    /// Reads a row of table `deliveries`; none if its key is no attempt's.
    pub(crate) fn read(row: &Row) -> Option<Self> {
        Some(Self {
            asset_id: row.text("asset_id")?.parse().ok()?,
            site: row.text("site")?.parse().ok()?,
            attempt: row.int("attempt")?,
            requested_at: row.timestamp("requested_at"),
            requested_by: row.text("requested_by").map(str::to_owned),
            outcome: match row.text("outcome") {
                Some("ready") => Some(Outcome::Ready),
                Some("refused") => Some(Outcome::Refused),
                Some("cancelled") => Some(Outcome::Cancelled),
                _ => None,
            },
            reason: row.text("reason").map(str::to_owned),
            responded_at: row.timestamp("responded_at"),
            delivered_at: row.timestamp("delivered_at"),
        })
    }

    pub(crate) fn request_id(&self) -> RequestId {
        RequestId::new(&self.site, &self.asset_id, self.attempt)
    }

    /// Whether the site can still fetch the bytes for this attempt.
    pub(crate) fn open(&self) -> bool {
        self.outcome == Some(Outcome::Ready) && self.delivered_at.is_none()
    }

    /// The writes that note who asked and what was answered. They leave `delivered_at` to the receipt.
    pub(crate) fn answered(&self) -> Vec<Write> {
        let fill = |row: Write| {
            row.set("request_id", self.request_id().as_str())
                .set("requested_at", Value::timestamp(self.requested_at))
                .set("requested_by", self.requested_by.clone())
                .set("outcome", self.outcome.map(word))
                .set("reason", self.reason.clone())
                .set("responded_at", Value::timestamp(self.responded_at))
        };
        self.rows().map(fill).into()
    }

    /// The writes that note the arrival.
    pub(crate) fn arrived(&self, delivered_at: i64) -> Vec<Write> {
        let fill = |row: Write| row.set("delivered_at", Value::timestamp(delivered_at));
        self.rows().map(fill).into()
    }

    fn rows(&self) -> [Write; 2] {
        let by_asset = Write::to("deliveries")
            .set("asset_id", self.asset_id.as_str())
            .set("site", self.site.as_str())
            .set("attempt", self.attempt);
        let by_site = Write::to("site_requests")
            .set("site", self.site.as_str())
            .set("bucket", self.asset_id.bucket())
            .set("asset_id", self.asset_id.as_str())
            .set("attempt", self.attempt);
        [by_asset, by_site]
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ready => "ready",
        Outcome::Refused => "refused",
        Outcome::Cancelled => "cancelled",
    }
}
