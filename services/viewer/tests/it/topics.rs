//! Topics, their records, and dead letters.

use common::broker::{Outgoing, TopicSpec};
use common::schemas::topic;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{announced, eventually};

use crate::rig::{LIMIT, Rig, nothing};

async fn lines(rig: &Rig, path: &str) -> Vec<Value> {
    let text = rig.call(Method::GET, path, None).await.text().await.unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_made_shown_and_deleted() {
    let rig = Rig::core().await;
    let new = json!({"name": "sensors", "partitions": 2, "retention_ms": 60000});
    assert_eq!(
        rig.post("/api/topics", new.clone()).await,
        (201, json!({"name": "sensors", "created": true}))
    );
    assert_eq!(
        rig.post("/api/topics", new).await,
        (200, json!({"name": "sensors", "created": false}))
    );
    let shown = rig.get("/api/topics/sensors").await;
    assert_eq!(
        (&shown["partitions"], &shown["retention_ms"]),
        (&json!(2), &json!(60000))
    );
    assert_eq!(shown["offsets"][1], json!({"partition": 1, "low": 0, "high": 0}));
    let all = rig.get("/api/topics").await;
    assert!(
        all["topics"]
            .as_array()
            .unwrap()
            .iter()
            .any(|topic| topic["cleanup"] == "compact")
    );
    assert_eq!(
        rig.answer(Method::DELETE, "/api/topics/sensors", None).await.0,
        200
    );
    assert_eq!(rig.answer(Method::GET, "/api/topics/sensors", None).await.0, 404);
    assert_eq!(
        rig.answer(Method::DELETE, "/api/topics/sensors", None).await.0,
        404
    );
    assert_eq!(rig.post("/api/topics", json!({"name": "a/b"})).await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_shown_decoded_from_anywhere_to_the_end() {
    let rig = Rig::core().await;
    for number in 0..30 {
        let asset = announced(number, "http://x/");
        rig.send(topic::ASSET_PIPELINE, asset.asset_id.as_str(), &asset)
            .await;
    }
    let path = format!("/api/topics/{}/records", topic::ASSET_PIPELINE);
    let all = lines(&rig, &format!("{path}?from=beginning")).await;
    assert_eq!(all.len(), 30);
    assert!(
        all.iter()
            .all(|record| record["schema"] == "asset" && record["key"] == record["value"]["asset_id"])
    );
    assert_eq!(lines(&rig, &format!("{path}?limit=7")).await.len(), 7);
    assert!(lines(&rig, &format!("{path}?from=end")).await.is_empty());
    let first = lines(&rig, &format!("{path}?partition=0&from=1")).await;
    assert!(
        first
            .iter()
            .all(|record| record["partition"] == 0 && record["offset"].as_i64() >= Some(1))
    );
    assert_eq!(
        rig.answer(Method::GET, &format!("{path}?from=5"), None).await.0,
        400
    );
    assert_eq!(
        rig.answer(Method::GET, &format!("{path}?from=500&partition=0"), None)
            .await
            .0,
        400
    );
    assert_eq!(
        rig.answer(Method::GET, "/api/topics/nothing/records", None)
            .await
            .0,
        404
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn following_shows_records_as_they_come() {
    let rig = Rig::core().await;
    let path = format!(
        "/api/topics/{}/records?follow=true&from=end",
        topic::ASSET_PIPELINE
    );
    let mut response = rig.call(Method::GET, &path, None).await;
    let asset = announced(1, "http://x/");
    rig.send(topic::ASSET_PIPELINE, asset.asset_id.as_str(), &asset)
        .await;
    let line = response.chunk().await.unwrap().unwrap();
    let record: Value = serde_json::from_slice(&line).unwrap();
    assert_eq!(record["value"]["native_id"], "entry-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_bounded_and_those_of_callers_who_left_are_closed() {
    let rig = Rig::core().await;
    let path = format!("/api/topics/{}/records?follow=true", topic::ASSET_PIPELINE);
    let mut open = Vec::new();
    loop {
        let response = rig.call(Method::GET, &path, None).await;
        if response.status().as_u16() == 503 {
            break;
        }
        open.push(response);
    }
    assert_eq!(open.len(), 32);
    drop(open);
    eventually(LIMIT, || async {
        let status = rig.call(Method::GET, &path, None).await.status().as_u16();
        if status == 200 {
            Ok(())
        } else {
            Err(status.to_string())
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_with_their_reason_and_sent_again() {
    let rig = Rig::core().await;
    rig.broker
        .create_topic(&TopicSpec::new("readings", 1))
        .await
        .unwrap();
    rig.broker
        .create_topic(&TopicSpec::new("readings.dead-letter", 1))
        .await
        .unwrap();
    let letter = Outgoing::new("readings.dead-letter", "key", b"broken".to_vec())
        .with_header("error", "it is broken")
        .with_header("service", "table-sink")
        .with_header("origin-topic", "readings")
        .with_header("origin-partition", "0")
        .with_header("origin-offset", "41");
    rig.broker.producer().unwrap().send(letter).await.unwrap();
    let list = rig.get("/api/dead-letters").await;
    let shown = &list["dead_letters"][0];
    assert_eq!(
        (&shown["error"], &shown["origin"]["offset"]),
        (&json!("it is broken"), &json!(41))
    );
    assert_eq!(
        (&shown["raw"], &list["more"]),
        (&json!("YnJva2Vu"), &json!(false))
    );
    assert_eq!(rig.get("/api/status").await["dead_letters"], 1);
    let (status, place) = rig
        .post("/api/dead-letters/readings.dead-letter/0/0/redrive", nothing())
        .await;
    assert_eq!(
        (status, place),
        (200, json!({"topic": "readings", "partition": 0, "offset": 0}))
    );
    let again = lines(&rig, "/api/topics/readings/records").await;
    assert_eq!(again[0]["headers"]["redriven"], "readings.dead-letter/0/0");
    assert_eq!(
        rig.post("/api/dead-letters/readings/0/0/redrive", nothing())
            .await
            .0,
        404
    );
}
