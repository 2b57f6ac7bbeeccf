//! Rules of retention and compaction.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Lab, name, numbered, text, within};
use crate::error::Error;
use crate::record::{Outgoing, Position};
use crate::topics::TopicSpec;

/// Properties that make Kafka look after a topic at once instead of in days.
fn eager() -> BTreeMap<String, String> {
    [
        ("segment.ms", "500"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("max.compaction.lag.ms", "1000"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// Records older than the retention go, from the front; their offsets are never given again and reading them is an
/// error.
pub async fn old_records_are_deleted_and_offsets_go_on(lab: &Lab) {
    let broker = lab.open().await;
    let mut spec = TopicSpec::new(name("contract"), 1).retention(Duration::from_secs(1));
    spec.config = eager();
    broker.create_topic(&spec).await.unwrap();
    let topic = &spec.name;
    let producer = broker.producer().unwrap();
    producer.send_all(numbered(topic, "k", 0..10)).await.unwrap();
    within(
        lab.retention,
        &mut async || match broker.watermarks(topic, 0).await.unwrap().low {
            low if low >= 10 => Ok(()),
            low => Err(format!("the first offset is still {low}")),
        },
    )
    .await;
    let placement = producer
        .send(Outgoing::new(topic, "k", b"new".to_vec()))
        .await
        .unwrap();
    assert_eq!(placement.offset, 10);
    let mut reader = broker.reader(&[Position::at(topic, 0, 2)]).await.unwrap();
    let start = tokio::time::Instant::now();
    let error = loop {
        match reader.next(10, Duration::from_secs(1)).await {
            Err(error) => break error,
            Ok(records) => assert!(records.is_empty() && start.elapsed() < lab.limit, "{records:?}"),
        }
    };
    assert!(
        matches!(error, Error::OffsetOutOfRange { offset: 2, .. }),
        "{error:?}"
    );
}

/// Of each key the newest record stays, in its place; older ones go.
pub async fn the_newest_record_of_a_key_stays(lab: &Lab) {
    let broker = lab.open().await;
    let mut spec = TopicSpec::new(name("contract"), 1).compacted();
    spec.config = eager();
    broker.create_topic(&spec).await.unwrap();
    let topic = &spec.name;
    let producer = broker.producer().unwrap();
    let round = |round: usize| {
        let record =
            move |key| Outgoing::new(topic, format!("k{key}"), format!("{key}/{round}").into_bytes());
        (0..20).map(record).collect::<Vec<_>>()
    };
    for n in 0..5 {
        producer.send_all(round(n)).await.unwrap();
    }
    // Kafka leaves the newest segment alone: time passes, and another record closes it.
    tokio::time::sleep(Duration::from_millis(700)).await;
    producer
        .send(Outgoing::new(topic, "last", b"last".to_vec()))
        .await
        .unwrap();
    let seen = async || {
        let mut seen = Vec::new();
        broker
            .read_to_end(topic, |record| seen.push((record.offset, text(&record))))
            .await
            .unwrap();
        seen
    };
    let newest: Vec<(i64, String)> = (0..20).map(|key| (80 + key, format!("{key}/4"))).collect();
    if let Some(limit) = lab.compaction {
        within(limit, &mut async || match seen().await.len() {
            21 => Ok(()),
            count => Err(format!("{count} records are left of 101")),
        })
        .await;
    }
    let seen = seen().await;
    assert_eq!(seen.last(), Some(&(100, "last".to_owned())));
    assert!(newest.iter().all(|record| seen.contains(record)), "{seen:?}");
}
