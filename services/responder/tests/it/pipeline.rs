//! From a site's request to its answer and back from its receipt; and what takes it back.

use common::broker::Outgoing;
use common::chassis::{ByteSize, now_ms};
use common::schemas::{
    self, AssetBroadcast, AssetChange, AssetReceipt, AssetRequest, AssetResponse, Outcome, RequestId, topic,
};
use common::table::{Row, Value, Write};
use common::volume::ManifestEntry;
use responder::SiteSettings;
use testkit::{asset_id, broadcast, cancel, eventually, hash, receipt, request, site};

use crate::site::{LIMIT, Site};

const REQUESTS: &str = "north.ASSET_REQUEST";
const RECEIPTS: &str = "north.ASSET_RECEIPT";
const RESPONSES: &str = "north.ASSET_RESPONSE";
const BYTES: &[u8] = b"the bytes of an asset";

impl Site {
    /// A core that has enrolled site north and published asset 1, its responder at work.
    async fn ready() -> Self {
        let mut core = Self::prepared().await;
        core.start();
        core
    }

    async fn prepared() -> Self {
        let core = Self::new().await;
        core.enrol("north", None).await;
        core.publish(1, None).await;
        core
    }

    async fn enrol(&self, name: &str, revoked_at: Option<i64>) {
        let row = Write::to("sites").set("realm", "core").set("site", name);
        let row = row
            .set("enrolled_at", Value::timestamp(1))
            .set("revoked_at", Value::timestamp(revoked_at));
        self.table.upsert(row).await.unwrap();
    }

    fn published(number: u32) -> Write {
        let id = asset_id(number);
        Write::to("published")
            .set("bucket", id.bucket())
            .set("asset_id", id.as_str())
    }

    async fn publish(&self, number: u32, expires_at: Option<i64>) {
        let row = Self::published(number)
            .set("title", "a title")
            .set("hash", hash(BYTES).as_str())
            .set("size", i64::try_from(BYTES.len()).unwrap())
            .set("media_type", "image/png")
            .set("file_name", "a.png")
            .set("broadcast_at", Value::timestamp(1))
            .set("expires_at", Value::timestamp(expires_at));
        self.table.upsert(row).await.unwrap();
    }

    /// As broadcaster does it: first the row, then the word.
    async fn withdraw(&self, number: u32) {
        let row = Self::published(number).set("withdrawn_at", Value::timestamp(now_ms()));
        self.table
            .upsert(row.set("withdrawn_reason", "wrong picture"))
            .await
            .unwrap();
        let reason = Some("wrong picture".to_owned());
        let word = AssetBroadcast {
            withdrawn_at: Some(now_ms()),
            reason,
            ..broadcast(number, BYTES)
        };
        self.send(topic::ASSET_BROADCAST, &word.asset_id, &word).await;
    }

    async fn ask(&self, request: &AssetRequest) {
        self.send(REQUESTS, &request.asset_id, request).await;
    }

    async fn confirm(&self, receipt: &AssetReceipt) {
        self.send(RECEIPTS, &receipt.asset_id, receipt).await;
    }

    async fn answers(&self, wanted: usize) -> Vec<AssetResponse> {
        eventually(LIMIT, || async {
            let answers = self.records::<AssetResponse>(RESPONSES).await;
            if answers.len() < wanted {
                Err(format!("{} answers", answers.len()))
            } else {
                Ok(answers)
            }
        })
        .await
    }

    async fn last_answer(&self, wanted: usize) -> (Outcome, String) {
        let last = self.answers(wanted).await.pop().unwrap();
        (last.outcome, last.reason.unwrap_or_default())
    }

    async fn entry(&self, number: u32, attempt: i32) -> Option<ManifestEntry> {
        let request_id = RequestId::new(&site("north"), &asset_id(number), attempt);
        let entry = self
            .volume
            .get_entry(&ManifestEntry::path(&site("north"), &request_id))
            .await
            .unwrap();
        entry.map(|body| ManifestEntry::from_json(&body).unwrap())
    }

    /// The attempt's row by asset, after a look that the row by site says the same.
    async fn delivery(&self, number: u32, attempt: i32) -> Option<Row> {
        let id = asset_id(number);
        let by_asset = self.table_delivery(number, attempt).await;
        let key = [
            ("site", "north".into()),
            ("bucket", id.bucket().into()),
            ("asset_id", id.as_str().into()),
            ("attempt", attempt.into()),
        ];
        let by_site = self.table.get("site_requests", &key).await.unwrap();
        let columns = [
            "request_id",
            "requested_at",
            "requested_by",
            "outcome",
            "reason",
            "responded_at",
            "delivered_at",
        ];
        let facts = |row: &Option<Row>| {
            row.as_ref()
                .map(|row| columns.map(|column| row.value(column).clone()))
        };
        assert_eq!(facts(&by_asset), facts(&by_site));
        by_asset
    }

    async fn delivered(&self, number: u32, attempt: i32) {
        eventually(LIMIT, || async {
            let row = self.table_delivery(number, attempt).await;
            let delivered = row.is_some_and(|row| row.timestamp("delivered_at").is_some());
            if delivered && self.entry(number, attempt).await.is_none() {
                Ok(())
            } else {
                Err("not delivered")
            }
        })
        .await;
    }

    async fn table_delivery(&self, number: u32, attempt: i32) -> Option<Row> {
        let id = asset_id(number);
        let key = [
            ("asset_id", id.as_str().into()),
            ("site", "north".into()),
            ("attempt", attempt.into()),
        ];
        self.table.get("deliveries", &key).await.unwrap()
    }
}

#[tokio::test]
async fn a_request_is_answered_with_an_entry() {
    let core = Site::ready().await;
    core.ask(&request(&site("north"), 1, 1)).await;
    assert_eq!(core.answers(1).await[0].outcome, Outcome::Ready);
    let entry = core.entry(1, 1).await.unwrap();
    assert_eq!((entry.hash, entry.size), (hash(BYTES), BYTES.len() as u64));
    let row = core.delivery(1, 1).await.unwrap();
    assert_eq!(
        (row.text("outcome"), row.text("requested_by")),
        (Some("ready"), Some("test"))
    );
    core.caught_up(REQUESTS).await;
    let changes = core.records::<AssetChange>(topic::ASSET_CHANGES).await;
    assert!(changes.iter().any(|change| change.writer == "responder"));
}

#[tokio::test]
async fn a_repeated_request_gets_the_same_answer_and_no_second_entry() {
    let core = Site::ready().await;
    core.ask(&request(&site("north"), 1, 1)).await;
    core.answers(1).await;
    let entry = core.entry(1, 1).await;
    core.ask(&request(&site("north"), 1, 1)).await;
    let answers = core.answers(2).await;
    assert_eq!(answers[0], answers[1]);
    assert_eq!(core.entry(1, 1).await, entry);
    let entries = core.volume.list_entries("mirror/north", None, 10).await.unwrap();
    assert_eq!(entries.len(), 1);
}

#[tokio::test]
async fn a_crash_between_entry_and_rows_is_made_good() {
    let mut core = Site::prepared().await;
    core.start();
    core.ask(&request(&site("north"), 1, 1)).await;
    core.answers(1).await;
    core.stop().await;
    let id = asset_id(1);
    let key = [
        ("asset_id", id.as_str().into()),
        ("site", "north".into()),
        ("attempt", 1.into()),
    ];
    core.table
        .delete("deliveries", &key, now_ms() * 1000 + 999)
        .await
        .unwrap();
    core.ask(&request(&site("north"), 1, 1)).await;
    core.start();
    assert_eq!(core.last_answer(2).await.0, Outcome::Ready);
    assert_eq!(core.delivery(1, 1).await.unwrap().text("outcome"), Some("ready"));
    assert!(core.entry(1, 1).await.is_some());
}

#[tokio::test]
async fn each_refusal_says_why() {
    let mut core = Site::prepared().await;
    let limit = SiteSettings {
        max_bytes: Some(ByteSize(10)),
    };
    core.settings.max_bytes = Some(ByteSize::mib(1));
    core.settings.sites.insert(site("south"), limit);
    core.enrol("south", None).await;
    core.publish(2, Some(now_ms() - 1)).await;
    core.publish(3, None).await;
    let row = Site::published(3).set("withdrawn_at", Value::timestamp(1));
    core.table.upsert(row).await.unwrap();
    core.start();
    for number in [2, 3, 4] {
        core.ask(&request(&site("north"), number, 1)).await;
    }
    // Another site's request id, on this site's topic.
    core.ask(&request(&site("south"), 1, 7)).await;
    let answers = core.answers(4).await;
    let reason = |number: u32| {
        let answer = answers
            .iter()
            .find(|answer| answer.asset_id == asset_id(number))
            .unwrap();
        assert_eq!(answer.outcome, Outcome::Refused);
        answer
            .reason
            .clone()
            .unwrap()
            .split_once(": ")
            .unwrap()
            .0
            .to_owned()
    };
    assert_eq!(
        [reason(1), reason(2), reason(3), reason(4)],
        ["not_allowed", "expired", "withdrawn", "unknown"]
    );
    assert_eq!(
        core.delivery(2, 1).await.unwrap().text("outcome"),
        Some("refused")
    );
    assert!(core.delivery(1, 7).await.is_none());
    let large = request(&site("south"), 1, 1);
    core.send("south.ASSET_REQUEST", &large.asset_id, &large).await;
    let answer = eventually(LIMIT, || async {
        core.records::<AssetResponse>("south.ASSET_RESPONSE")
            .await
            .pop()
            .ok_or("no answer")
    });
    assert!(answer.await.reason.unwrap().starts_with("too_large: "));
    assert_eq!(
        core.volume.list_entries("mirror", None, 10).await.unwrap(),
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn who_is_not_enrolled_or_revoked_is_given_nothing() {
    let core = Site::ready().await;
    core.enrol("north", Some(5)).await;
    core.ask(&request(&site("north"), 1, 1)).await;
    let (outcome, reason) = core.last_answer(1).await;
    assert_eq!(outcome, Outcome::Refused);
    assert!(reason.starts_with("not_allowed: ") && reason.contains("revoked"));
    let stranger = request(&site("south"), 1, 1);
    core.send("south.ASSET_REQUEST", &stranger.asset_id, &stranger)
        .await;
    let answer = eventually(LIMIT, || async {
        core.records::<AssetResponse>("south.ASSET_RESPONSE")
            .await
            .pop()
            .ok_or("no answer")
    });
    assert!(answer.await.reason.unwrap().starts_with("not_allowed: "));
}

#[tokio::test]
async fn a_refused_asset_can_be_asked_for_again() {
    let core = Site::ready().await;
    core.ask(&request(&site("north"), 2, 1)).await;
    assert_eq!(core.last_answer(1).await.0, Outcome::Refused);
    core.publish(2, None).await;
    core.ask(&request(&site("north"), 2, 1)).await;
    assert_eq!(
        core.last_answer(2).await.0,
        Outcome::Refused,
        "the same attempt has the same answer"
    );
    core.ask(&request(&site("north"), 2, 2)).await;
    assert_eq!(core.last_answer(3).await.0, Outcome::Ready);
}

#[tokio::test]
async fn a_cancellation_ends_the_entry() {
    let core = Site::ready().await;
    core.ask(&request(&site("north"), 1, 1)).await;
    core.answers(1).await;
    core.ask(&cancel(&site("north"), 1, 1)).await;
    assert_eq!(core.last_answer(2).await.0, Outcome::Cancelled);
    assert!(core.entry(1, 1).await.is_none());
    core.ask(&cancel(&site("north"), 1, 1)).await;
    let answers = core.answers(3).await;
    assert_eq!(answers[1], answers[2]);
    core.ask(&request(&site("north"), 1, 2)).await;
    assert_eq!(core.last_answer(4).await.0, Outcome::Ready);
}

#[tokio::test]
async fn a_request_that_comes_after_its_cancellation_stays_cancelled() {
    let core = Site::ready().await;
    core.ask(&cancel(&site("north"), 1, 1)).await;
    core.ask(&request(&site("north"), 1, 1)).await;
    assert!(
        core.answers(2)
            .await
            .iter()
            .all(|answer| answer.outcome == Outcome::Cancelled)
    );
    assert!(core.entry(1, 1).await.is_none());
    assert_eq!(
        core.delivery(1, 1).await.unwrap().text("outcome"),
        Some("cancelled")
    );
}

#[tokio::test]
async fn a_receipt_makes_it_delivered_and_ends_the_entry() {
    let core = Site::ready().await;
    let north = site("north");
    core.ask(&request(&north, 1, 1)).await;
    core.answers(1).await;
    core.confirm(&receipt(&north, 1, 1, BYTES)).await;
    core.confirm(&receipt(&north, 1, 1, BYTES)).await;
    core.delivered(1, 1).await;
    core.caught_up(RECEIPTS).await;
    let row = core.delivery(1, 1).await.unwrap();
    assert_eq!(
        row.timestamp("delivered_at"),
        Some(receipt(&north, 1, 1, BYTES).mirrored_at)
    );
    // The request again, and a cancellation too late: the answer is ready, and nothing is offered anew.
    core.ask(&request(&north, 1, 1)).await;
    assert_eq!(core.last_answer(2).await.0, Outcome::Ready);
    core.ask(&cancel(&north, 1, 1)).await;
    assert_eq!(core.last_answer(3).await.0, Outcome::Ready);
    assert!(core.entry(1, 1).await.is_none());
    assert_eq!(core.delivery(1, 1).await.unwrap().text("outcome"), Some("ready"));
}

#[tokio::test]
async fn a_receipt_that_is_not_of_this_site_and_these_bytes_is_put_aside() {
    let core = Site::ready().await;
    core.ask(&request(&site("north"), 1, 1)).await;
    core.answers(1).await;
    core.confirm(&receipt(&site("north"), 1, 1, b"other bytes")).await;
    core.confirm(&receipt(&site("south"), 1, 1, BYTES)).await;
    core.confirm(&receipt(&site("north"), 1, 2, BYTES)).await;
    let reasons = core.dead_letters(RECEIPTS, 3).await;
    for part in ["other bytes", "no request of it", "never asked"] {
        assert!(
            reasons.iter().any(|reason| reason.contains(part)),
            "{part}: {reasons:?}"
        );
    }
    assert!(
        core.delivery(1, 1)
            .await
            .unwrap()
            .timestamp("delivered_at")
            .is_none()
    );
    assert!(core.entry(1, 1).await.is_some());
}

#[tokio::test]
async fn a_receipt_waits_for_the_row_of_its_request() {
    let core = Site::ready().await;
    let north = site("north");
    let path = ManifestEntry::path(&north, &request(&north, 1, 1).request_id);
    core.volume.put_entry(&path, b"{}".to_vec().into()).await.unwrap();
    core.confirm(&receipt(&north, 1, 1, BYTES)).await;
    core.ask(&request(&north, 1, 1)).await;
    core.delivered(1, 1).await;
    assert_eq!(core.delivery(1, 1).await.unwrap().text("outcome"), Some("ready"));
}

#[tokio::test]
async fn a_withdrawal_ends_open_entries_and_leaves_what_was_delivered() {
    let core = Site::ready().await;
    let north = site("north");
    core.ask(&request(&north, 1, 1)).await;
    core.answers(1).await;
    core.confirm(&receipt(&north, 1, 1, BYTES)).await;
    core.delivered(1, 1).await;
    core.ask(&request(&north, 1, 2)).await;
    core.answers(2).await;
    core.withdraw(1).await;
    let (outcome, reason) = core.last_answer(3).await;
    assert_eq!(outcome, Outcome::Refused);
    assert!(reason.starts_with("withdrawn: ") && reason.contains("wrong picture"));
    assert!(core.entry(1, 2).await.is_none());
    core.withdraw(1).await;
    core.caught_up(topic::ASSET_BROADCAST).await;
    assert_eq!(core.answers(3).await.len(), 3, "told once");
    assert_eq!(core.delivery(1, 1).await.unwrap().text("outcome"), Some("ready"));
    core.ask(&request(&north, 1, 2)).await;
    assert_eq!(core.last_answer(4).await.0, Outcome::Refused);
    assert!(core.entry(1, 2).await.is_none());
}

#[tokio::test]
async fn what_cannot_be_read_is_put_aside_and_the_rest_goes_on() {
    let core = Site::ready().await;
    core.send_bytes(REQUESTS, &asset_id(1), b"nonsense".to_vec())
        .await;
    let tombstone = Outgoing::tombstone(REQUESTS, asset_id(1).as_str());
    core.broker.producer().unwrap().send(tombstone).await.unwrap();
    let wrong_kind = schemas::encode(&broadcast(1, BYTES)).unwrap();
    core.send_bytes(REQUESTS, &asset_id(1), wrong_kind).await;
    core.ask(&request(&site("north"), 1, 1)).await;
    assert_eq!(core.last_answer(1).await.0, Outcome::Ready);
    assert_eq!(core.dead_letters(REQUESTS, 3).await.len(), 3);
}
