//! From a pending row to the topic, and what a crash in between comes to.

use std::time::Duration;

use common::chassis::{Span, now_ms};
use common::schemas::{AssetChange, AssetRequest, RequestAction, RequestId, topic};
use common::table::{Row, Select, Value, Write};
use testkit::{asset_id, eventually, site};

use crate::site::{LIMIT, Site};

impl Site {
    async fn ask(&self, number: u32, attempt: i32, action: &str) {
        let asked_at = now_ms();
        let row = Write::to("requests")
            .set("queue", "pending")
            .set("asset_id", asset_id(number).as_str())
            .set("attempt", attempt)
            .set("action", action)
            .set("asked_at", Value::timestamp(asked_at))
            .set("asked_by", "ada")
            .ttl(Duration::from_secs(30 * 24 * 60 * 60));
        self.table.upsert(row).await.unwrap();
    }

    async fn ring(&self, number: u32, writer: &str) {
        let change = AssetChange {
            asset_id: asset_id(number),
            writer: writer.to_owned(),
            changed_at: now_ms(),
        };
        self.send(topic::ASSET_CHANGES, &asset_id(number), &change).await;
    }

    async fn pending(&self) -> Vec<Row> {
        self.table
            .select(Select::from("requests").partition("queue", "pending"))
            .await
            .unwrap()
    }

    /// The requests, once all pending rows are gone.
    async fn requests(&self, wanted: usize) -> Vec<AssetRequest> {
        eventually(LIMIT, || async {
            let requests = self.records::<AssetRequest>(topic::ASSET_REQUEST).await;
            let pending = self.pending().await.len();
            if requests.len() < wanted || pending > 0 {
                Err(format!("{} requests, {pending} pending", requests.len()))
            } else {
                Ok(requests)
            }
        })
        .await
    }
}

#[tokio::test]
async fn what_is_pending_at_the_start_is_published() {
    let mut edge = Site::new().await;
    edge.settings.poll = Span::seconds(3600);
    edge.ask(1, 1, "request").await;
    edge.start();
    let request = edge.requests(1).await.remove(0);
    assert_eq!(
        request.request_id,
        RequestId::new(&site("north"), &asset_id(1), 1)
    );
    assert_eq!(
        (request.action, request.requested_by.as_deref()),
        (RequestAction::Request, Some("ada"))
    );
    let row = edge.row("assets", &asset_id(1)).await.unwrap();
    assert_eq!(row.int("requested_attempt"), Some(1));
    assert!(row.timestamp("requested_at").is_some());
    eventually(LIMIT, || async {
        let changes = edge.records::<AssetChange>(topic::ASSET_CHANGES).await;
        let told = changes.iter().any(|change| change.writer == "requester");
        if told { Ok(()) } else { Err("pages were not told") }
    })
    .await;
}

#[tokio::test]
async fn a_changed_row_wakes_it() {
    let mut edge = Site::new().await;
    edge.settings.poll = Span::seconds(3600);
    edge.start();
    // Rung until heard: the group starts at the end of the topic, and has to join it first.
    edge.ask(1, 1, "request").await;
    eventually(LIMIT, || async {
        edge.ring(1, "viewer").await;
        let pending = edge.pending().await.len();
        if pending > 0 { Err("still pending") } else { Ok(()) }
    })
    .await;
    assert_eq!(edge.requests(1).await.len(), 1);
}

#[tokio::test]
async fn a_lost_wake_up_costs_a_poll() {
    let mut edge = Site::new().await;
    edge.settings.poll = Span::millis(50);
    edge.start();
    edge.ask(1, 1, "request").await;
    assert_eq!(edge.requests(1).await.len(), 1);
}

#[tokio::test]
async fn a_cancellation_follows_its_request() {
    let mut edge = Site::new().await;
    edge.ask(1, 1, "cancel").await;
    edge.ask(1, 1, "request").await;
    edge.ask(1, 2, "request").await;
    edge.start();
    let requests = edge.requests(3).await;
    let order: Vec<_> = requests
        .iter()
        .map(|request| (request.attempt, request.action))
        .collect();
    let (request, cancel) = (RequestAction::Request, RequestAction::Cancel);
    assert_eq!(order, [(1, request), (1, cancel), (2, request)]);
    let row = edge.row("assets", &asset_id(1)).await.unwrap();
    assert_eq!(row.int("requested_attempt"), Some(2));
}

#[tokio::test]
async fn a_crash_before_the_pending_row_went_repeats_the_same_request() {
    let mut edge = Site::new().await;
    edge.ask(1, 1, "request").await;
    edge.start();
    let first = edge.requests(1).await.remove(0);
    edge.stop().await;
    edge.ask(1, 1, "request").await;
    edge.start();
    let requests = edge.requests(2).await;
    assert_eq!(requests.len(), 2);
    assert!(
        requests
            .iter()
            .all(|request| request.request_id == first.request_id)
    );
}

#[tokio::test]
async fn many_requests_are_published_page_by_page() {
    let mut edge = Site::new().await;
    for number in 0..250 {
        edge.ask(number, 1, "request").await;
    }
    edge.start();
    assert_eq!(edge.requests(250).await.len(), 250);
}

#[tokio::test]
async fn a_pending_row_that_cannot_be_read_stops_nothing() {
    let mut edge = Site::new().await;
    edge.ask(1, 1, "fetch").await;
    edge.ask(2, 1, "request").await;
    edge.start();
    eventually(LIMIT, || async {
        let requests = edge.records::<AssetRequest>(topic::ASSET_REQUEST).await.len();
        let pending = edge.pending().await.len();
        if (requests, pending) == (1, 1) {
            Ok(())
        } else {
            Err(format!("{requests} requests, {pending} pending"))
        }
    })
    .await;
}

#[tokio::test]
async fn a_row_written_by_a_clock_that_is_ahead_goes_too() {
    let mut edge = Site::new().await;
    let ahead = now_ms() + 60_000;
    let row = Write::to("requests")
        .set("queue", "pending")
        .set("asset_id", asset_id(1).as_str())
        .set("attempt", 1)
        .set("action", "request")
        .set("asked_at", Value::timestamp(ahead))
        .at(ahead * 1000);
    edge.table.upsert(row).await.unwrap();
    edge.start();
    assert_eq!(edge.requests(1).await.len(), 1);
}
