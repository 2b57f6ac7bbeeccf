//! Rules of records, topics and readers.

use std::time::Duration;

use bytes::Bytes;

use super::{Lab, name, numbered, read, text};
use crate::error::Error;
use crate::murmur::partition_of;
use crate::record::{Outgoing, Placement, Position};
use crate::topics::{Cleanup, TopicSpec};

/// What was sent in order to a partition is read in order, at the offsets told.
pub async fn order_is_kept_within_a_partition(lab: &Lab) {
    let broker = lab.open().await;
    let topic = lab.topic(&broker, 1).await;
    let producer = broker.producer().unwrap();
    let placements = producer.send_all(numbered(&topic, "k", 0..200)).await.unwrap();
    let expected: Vec<_> = (0..200)
        .map(|offset| Placement { partition: 0, offset })
        .collect();
    assert_eq!(placements, expected);
    let senders = (200..210).map(|n| producer.send(Outgoing::new(&topic, "k", n.to_string().into_bytes())));
    let later = futures_util::future::join_all(senders).await;
    let records = read(lab, &broker, Position::beginning(&topic, 0), 210).await;
    for (index, record) in records.iter().enumerate() {
        assert_eq!(record.offset, index as i64);
        if index < 200 {
            assert_eq!(text(record), index.to_string());
        }
    }
    for (index, placement) in later.into_iter().enumerate() {
        assert_eq!(
            text(&records[placement.unwrap().offset as usize]),
            (200 + index).to_string()
        );
    }
}

/// A key's partition is the one that Java's clients choose.
pub async fn keys_go_where_java_puts_them(lab: &Lab) {
    let broker = lab.open().await;
    let topic = lab.topic(&broker, 7).await;
    let producer = broker.producer().unwrap();
    // murmur2 of Kafka's own test, positive, modulo 7.
    for (key, partition) in [
        ("21", 3),
        ("foobar", 0),
        ("a-little-bit-long-string", 1),
        ("abc", 4),
    ] {
        let java = partition_of(key.as_bytes(), 7);
        assert_eq!(java, partition, "{key}");
        let placement = producer.send(Outgoing::new(&topic, key, vec![1])).await.unwrap();
        assert_eq!(placement.partition, partition, "{key}");
    }
    for n in 0..50 {
        let key = format!("key-{n}");
        let placement = producer.send(Outgoing::new(&topic, &key, vec![1])).await.unwrap();
        assert_eq!(placement.partition, partition_of(key.as_bytes(), 7), "{key}");
    }
}

/// Creating twice is creating once, and a description says what was asked for.
pub async fn topics_are_made_once_and_described(lab: &Lab) {
    let broker = lab.open().await;
    let mut spec = TopicSpec::new(name("contract"), 3).retention(Duration::from_secs(3600));
    assert!(broker.create_topic(&spec).await.unwrap());
    assert!(!broker.create_topic(&spec).await.unwrap());
    let described = broker.describe(&spec.name).await.unwrap().unwrap();
    assert_eq!((described.partitions, described.cleanup), (3, Cleanup::Delete));
    assert_eq!(described.retention, Some(Duration::from_secs(3600)));
    spec = TopicSpec::new(name("contract"), 1).compacted();
    assert!(broker.create_topic(&spec).await.unwrap());
    let described = broker.describe(&spec.name).await.unwrap().unwrap();
    assert_eq!((described.partitions, described.cleanup), (1, Cleanup::Compact));
    assert!(broker.topics().await.unwrap().contains(&described));
    assert_eq!(broker.describe(&name("none")).await.unwrap(), None);
}

/// A topic deleted and made again can be told from the old one, and is empty.
pub async fn a_topic_made_again_has_another_id(lab: &Lab) {
    let broker = lab.open().await;
    let topic = lab.topic(&broker, 1).await;
    broker
        .producer()
        .unwrap()
        .send(Outgoing::new(&topic, "k", vec![1]))
        .await
        .unwrap();
    let first = broker.describe(&topic).await.unwrap().unwrap().id;
    broker.delete_topic(&topic).await.unwrap();
    lab.eventually(async || match broker.describe(&topic).await.unwrap() {
        None => Ok(()),
        Some(_) => Err("the topic is still there".to_owned()),
    })
    .await;
    lab.eventually(
        async || match broker.create_topic(&TopicSpec::new(&topic, 1)).await {
            Ok(true) => Ok(()),
            other => Err(format!("cannot make it again: {other:?}")),
        },
    )
    .await;
    let second = broker.describe(&topic).await.unwrap().unwrap().id;
    assert_ne!(first, second);
    assert_eq!(broker.watermarks(&topic, 0).await.unwrap().high, 0);
}

/// Nothing creates a topic by accident.
pub async fn unknown_topics_and_partitions_are_told(lab: &Lab) {
    let broker = lab.open().await;
    let topic = lab.topic(&broker, 1).await;
    let none = name("none");
    let producer = broker.producer().unwrap();
    let sent = producer.send(Outgoing::new(&none, "k", vec![1])).await;
    assert!(matches!(sent, Err(Error::UnknownTopic { topic }) if topic == none));
    let mut record = Outgoing::new(&topic, "k", vec![1]);
    record.partition = Some(5);
    let sent = producer.send(record).await;
    assert!(
        matches!(sent, Err(Error::UnknownPartition { partition: 5, .. })),
        "{sent:?}"
    );
    assert!(matches!(
        broker.delete_topic(&none).await,
        Err(Error::UnknownTopic { .. })
    ));
    assert!(matches!(
        broker.read_to_end(&none, |_| ()).await,
        Err(Error::UnknownTopic { .. })
    ));
    assert!(matches!(
        broker.watermarks(&none, 0).await,
        Err(Error::UnknownTopic { .. })
    ));
    assert_eq!(broker.describe(&none).await.unwrap(), None);
}

/// A record is the same when it is read as when it was sent.
pub async fn headers_timestamps_and_bytes_come_back_exactly(lab: &Lab) {
    let broker = lab.open().await;
    // Records as old as these are gone at the engine's first look at its retention.
    let spec = TopicSpec::new(name("contract"), 1).retention(Duration::from_secs(100 * 365 * 24 * 3600));
    assert!(broker.create_topic(&spec).await.unwrap());
    let topic = spec.name;
    let every_byte: Vec<u8> = (0..=255).collect();
    let headers = vec![
        ("twice".to_owned(), Bytes::from_static(b"one")),
        ("empty".to_owned(), Bytes::new()),
        ("twice".to_owned(), Bytes::from(every_byte.clone())),
        ("näme".to_owned(), Bytes::from_static(b"two")),
    ];
    let sent = Outgoing {
        topic: topic.clone(),
        partition: Some(0),
        timestamp: Some(1_234_567_890_123),
        key: Some(Bytes::from(every_byte.clone())),
        value: Some(Bytes::from(every_byte)),
        headers,
    };
    let bare = Outgoing {
        topic: topic.clone(),
        partition: Some(0),
        timestamp: Some(1),
        key: None,
        value: Some(Bytes::new()),
        headers: Vec::new(),
    };
    let tombstone = Outgoing {
        partition: Some(0),
        timestamp: Some(2),
        ..Outgoing::tombstone(&topic, "k")
    };
    let sent = vec![sent, bare, tombstone];
    broker.producer().unwrap().send_all(sent.clone()).await.unwrap();
    let records = read(lab, &broker, Position::beginning(&topic, 0), 3).await;
    for (record, sent) in records.into_iter().zip(sent) {
        assert_eq!(Some(record.timestamp), sent.timestamp);
        assert_eq!(record.key, sent.key);
        assert_eq!(record.value, sent.value);
        assert_eq!(record.headers, sent.headers);
    }
}

/// A topic takes what it says, and refuses more by a clear error.
pub async fn large_records_pass_and_larger_are_refused(lab: &Lab) {
    let broker = lab.open().await;
    let topic = lab.topic(&broker, 1).await;
    let producer = broker.producer().unwrap();
    let value: Vec<u8> = (0..6 * 1024 * 1024_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    producer
        .send(Outgoing::new(&topic, "k", value.clone()))
        .await
        .unwrap();
    let sent = producer
        .send(Outgoing::new(&topic, "k", vec![0; 12 * 1024 * 1024]))
        .await;
    assert!(
        matches!(sent, Err(Error::TooLarge { .. })),
        "{:?}",
        sent.map(drop)
    );
    producer
        .send(Outgoing::new(&topic, "k", b"after".to_vec()))
        .await
        .unwrap();
    let records = read(lab, &broker, Position::beginning(&topic, 0), 2).await;
    assert!(records[0].value.as_deref() == Some(&value[..]));
    assert_eq!(text(&records[1]), "after");
}

/// A reader is woken by new records, keeps its position and can be moved.
pub async fn a_reader_waits_for_records_and_seeks(lab: &Lab) {
    let broker = lab.open().await;
    let topic = lab.topic(&broker, 2).await;
    let producer = broker.producer().unwrap();
    let mut reader = broker
        .reader(&[Position::end(&topic, 0), Position::beginning(&topic, 1)])
        .await
        .unwrap();
    assert!(
        reader
            .next(10, Duration::from_millis(50))
            .await
            .unwrap()
            .is_empty()
    );
    lab.eventually(async || match reader.position(&topic, 0) {
        Some(0) => Ok(()),
        other => {
            // Positions become known while reading.
            Err(format!("position {other:?}"))
        }
    })
    .await;
    let sending = async {
        for n in 0..3 {
            let mut record = Outgoing::new(&topic, "k", format!("{n}").into_bytes());
            record.partition = Some(0);
            producer.send(record).await.unwrap();
        }
    };
    let mut records = Vec::new();
    let reading = async {
        while records.len() < 3 {
            records.extend(reader.next(2, lab.limit).await.unwrap());
        }
    };
    tokio::join!(sending, reading);
    assert_eq!(records.iter().map(text).collect::<Vec<_>>(), ["0", "1", "2"]);
    assert_eq!(reader.position(&topic, 0), Some(3));
    reader.seek(Position::at(&topic, 0, 1)).await.unwrap();
    let again = reader.next(1, lab.limit).await.unwrap();
    assert_eq!((again.len(), again[0].offset), (1, 1));
    assert_eq!(reader.position(&topic, 0), Some(2));
    assert_eq!(reader.position(&topic, 9), None);
}

/// A position that is not there is an error, never "latest".
pub async fn offsets_outside_a_partition_are_errors(lab: &Lab) {
    let broker = lab.open().await;
    let topic = lab.topic(&broker, 1).await;
    broker
        .producer()
        .unwrap()
        .send_all(numbered(&topic, "k", 0..3))
        .await
        .unwrap();
    let mut reader = broker.reader(&[Position::at(&topic, 0, 17)]).await.unwrap();
    let start = tokio::time::Instant::now();
    let error = loop {
        match reader.next(10, Duration::from_secs(1)).await {
            Err(error) => break error,
            Ok(records) => assert!(records.is_empty() && start.elapsed() < lab.limit, "{records:?}"),
        }
    };
    assert!(
        matches!(
            error,
            Error::OffsetOutOfRange {
                offset: 17,
                low: 0,
                high: 3,
                ..
            }
        ),
        "{error:?}"
    );
    reader.seek(Position::at(&topic, 0, 3)).await.unwrap();
    assert!(
        reader
            .next(10, Duration::from_millis(300))
            .await
            .unwrap()
            .is_empty()
    );
}

/// Reading to the end shows every record of every partition once.
pub async fn read_to_end_sees_all(lab: &Lab) {
    let broker = lab.open().await;
    let topic = lab.topic(&broker, 3).await;
    broker
        .read_to_end(&topic, |record| panic!("{record:?}"))
        .await
        .unwrap();
    let records = (0..500).map(|n| Outgoing::new(&topic, format!("k{n}"), n.to_string().into_bytes()));
    broker
        .producer()
        .unwrap()
        .send_all(records.collect())
        .await
        .unwrap();
    let mut seen = Vec::new();
    broker
        .read_to_end(&topic, |record| {
            seen.push(text(&record).parse::<usize>().unwrap())
        })
        .await
        .unwrap();
    seen.sort_unstable();
    assert_eq!(seen, (0..500).collect::<Vec<_>>());
}

/// What was acknowledged is there when the broker is opened again.
pub async fn records_survive_reopening(lab: &Lab) {
    let broker = lab.open().await;
    let topic = lab.topic(&broker, 1).await;
    broker
        .producer()
        .unwrap()
        .send_all(numbered(&topic, "k", 0..10))
        .await
        .unwrap();
    drop(broker);
    let broker = lab.open().await;
    let records = read(lab, &broker, Position::beginning(&topic, 0), 10).await;
    assert!(
        records
            .iter()
            .enumerate()
            .all(|(index, record)| text(record) == index.to_string())
    );
    let placement = broker
        .producer()
        .unwrap()
        .send(Outgoing::new(&topic, "k", vec![]))
        .await
        .unwrap();
    assert_eq!(placement.offset, 10);
}
