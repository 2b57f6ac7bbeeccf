//! From an edge's embedded broker to a core on Kafka: what is lost, made again or refused on the way up.

use std::time::Duration;

use common::broker::{Broker, DeadLetter, TopicSpec};
use testkit::eventually;

use crate::rig::{KEPT, LIMIT, Rig, contents, record, too_much};

async fn send(rig: &Rig, from: usize, count: usize) {
    let records = (from..from + count)
        .map(|number| record(&rig.readings, number))
        .collect();
    rig.edge.producer().unwrap().send_all(records).await.unwrap();
}

async fn count(broker: &Broker, topic: &str) -> usize {
    contents(broker, topic).await.values().map(Vec::len).sum()
}

async fn arrive(rig: &Rig, wanted: usize) {
    let topic = rig.readings_at_core();
    eventually(LIMIT, || async {
        match count(&rig.core, &topic).await {
            found if found == wanted => Ok(()),
            found => Err(format!("{found} of {wanted}")),
        }
    })
    .await;
}

/// Makes the readings' topic at the core anew.
async fn at_core(rig: &Rig, spec: impl FnOnce(&mut TopicSpec)) {
    let topic = rig.readings_at_core();
    rig.core.delete_topic(&topic).await.unwrap();
    let mut wanted = TopicSpec::new(&topic, 3);
    spec(&mut wanted);
    rig.core.create_topic(&wanted).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn what_the_edges_retention_took_is_a_counted_gap() {
    let rig = Rig::small_edge().await;
    rig.edge.delete_topic(&rig.readings).await.unwrap();
    // By bytes, not by time: what is to be carried stays however long that takes.
    let mut spec = TopicSpec::new(&rig.readings, 3);
    spec.retention_bytes = Some(KEPT);
    rig.edge.create_topic(&spec).await.unwrap();
    let running = rig.start();
    send(&rig, 0, 30).await;
    arrive(&rig, 30).await;
    running.stop().await;
    send(&rig, 30, 27).await;
    let last = (0..3).map(|partition| common::broker::Outgoing {
        partition: Some(partition),
        ..too_much(&rig.readings, 57)
    });
    rig.edge
        .producer()
        .unwrap()
        .send_all(last.collect())
        .await
        .unwrap();
    let low = async || {
        let mut low = 0;
        for partition in 0..3 {
            low += rig.edge.watermarks(&rig.readings, partition).await.unwrap().low;
        }
        low
    };
    eventually(LIMIT, || async {
        match low().await {
            60 => Ok(()),
            low => Err(format!("{low} of 60 are gone")),
        }
    })
    .await;
    let running = rig.start();
    send(&rig, 60, 20).await;
    arrive(&rig, 50).await;
    let mut lost = 0;
    for partition in 0..3 {
        let key = format!("readings/{}/{partition}", rig.readings);
        let checkpoint = rig.checkpoint(&rig.core, &key).await.unwrap();
        lost += checkpoint.lost.iter().map(|range| range.count).sum::<i64>();
    }
    assert_eq!(lost, 30);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn topic_made_again_at_the_edge_is_carried_from_its_beginning() {
    let rig = Rig::small_edge().await;
    let running = rig.start();
    send(&rig, 0, 100).await;
    arrive(&rig, 100).await;
    rig.edge.delete_topic(&rig.readings).await.unwrap();
    rig.edge
        .create_topic(&TopicSpec::new(&rig.readings, 3))
        .await
        .unwrap();
    send(&rig, 100, 70).await;
    arrive(&rig, 170).await;
    let mut lost = 0;
    for partition in 0..3 {
        let key = format!("readings/{}/{partition}", rig.readings);
        let checkpoint = rig.checkpoint(&rig.core, &key).await;
        lost += checkpoint.map_or(0, |found| found.lost.len());
    }
    assert!(lost > 0, "it is written down");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn records_that_the_core_refuses_are_put_aside_at_the_edge_and_the_rest_goes_on() {
    let rig = Rig::small_edge().await;
    // It takes little, and as a compacted topic no record without a key.
    at_core(&rig, |spec| {
        *spec = spec.clone().compacted();
        spec.max_message_bytes = 10_000;
    })
    .await;
    send(&rig, 0, 300).await;
    let mut large = record(&rig.readings, 300);
    // Nothing that compression makes small.
    large.value = Some((0..20_000).map(|_| rand::random::<u8>()).collect());
    let mut nameless = record(&rig.readings, 301);
    nameless.key = None;
    nameless.partition = Some(1);
    let producer = rig.edge.producer().unwrap();
    producer.send_all(vec![large, nameless]).await.unwrap();
    send(&rig, 302, 300).await;
    let running = rig.start();
    let letters = format!("{}.dead-letter", rig.readings);
    eventually(LIMIT, || async {
        match count(&rig.edge, &letters).await {
            2 => Ok(()),
            found => Err(format!("{found} of 2 are put aside")),
        }
    })
    .await;
    let found = contents(&rig.edge, &letters).await;
    let found: Vec<DeadLetter> = found.values().flatten().filter_map(DeadLetter::of).collect();
    assert!(found.len() == 2 && found.iter().all(|letter| letter.topic == rig.readings));
    // What compaction leaves of them is no measure; the last one of all is the newest of its key.
    send(&rig, 1_000, 1).await;
    let topic = rig.readings_at_core();
    eventually(LIMIT, || async {
        let all = contents(&rig.core, &topic).await;
        let last = |record: &common::broker::Record| record.value.as_deref() == Some(b"value 1000");
        if all.values().flatten().any(last) {
            Ok(())
        } else {
            Err("the last one is not there".to_owned())
        }
    })
    .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn large_and_small_records_arrive_at_a_core_that_takes_small_batches() {
    let rig = Rig::small_edge().await;
    at_core(&rig, |spec| spec.max_message_bytes = 4_000).await;
    send(&rig, 0, 900).await;
    let mut large: Vec<_> = (900..930).map(|number| record(&rig.readings, number)).collect();
    for (index, record) in large.iter_mut().enumerate() {
        record.value = Some(vec![b'x'; index * 300].into());
    }
    rig.edge.producer().unwrap().send_all(large).await.unwrap();
    let running = rig.start();
    // Byte for byte, in order, and where the offset map says.
    rig.all_is_carried().await;
    running.stop().await;
}

/// Whatever one side does not keep as the other has it is told, in words of both sides.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn what_the_two_sides_keep_differently_is_told() {
    let rig = Rig::small_edge().await;
    at_core(&rig, |spec| {
        spec.retention = Some(Duration::from_secs(2 * 3600));
        spec.max_message_bytes = 100_000;
        spec.config.insert("compression.type".into(), "gzip".into());
        spec.config
            .insert("message.timestamp.type".into(), "LogAppendTime".into());
    })
    .await;
    // The core keeps the newest of each key, and this site keeps all for a time.
    rig.core.delete_topic(&rig.news).await.unwrap();
    let compacted = TopicSpec::new(&rig.news, 3).compacted();
    rig.core.create_topic(&compacted).await.unwrap();
    rig.edge
        .create_topic(&TopicSpec::new(&rig.news, 3))
        .await
        .unwrap();
    let running = rig.start();
    let (ours, core) = (&rig.readings, rig.readings_at_core());
    for wanted in [
        format!("{core} keeps records for 2 hours, {ours} for longer"),
        format!("and {core} of 100000: larger ones become dead letters"),
        format!("{core} gives records the time of their arrival there"),
        format!("{core} stores records gzip and {ours} producer"),
        format!(
            "{0} keeps the newest of each key and {0} all records for a time",
            rig.news
        ),
    ] {
        rig.tells("one", &wanted).await;
    }
    running.stop().await;
}
