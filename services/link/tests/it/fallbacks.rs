//! From a Kafka to another, and to an edge's embedded broker: what cannot be carried as it is arrives just as exactly.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::broker::{Broker, DeadLetter, Outgoing, Record, TopicSpec};
use common::chassis::now_ms;
use common::kafka;
use testkit::eventually;

use crate::kafka::url;
use crate::kafka_rules::set_property;
use crate::rig::{LIMIT, Rig, contents, record};

/// Each rule from a Kafka to another one, and to an embedded broker.
macro_rules! rules {
    ($($name:ident)*) => {
        mod to_a_kafka {
            $(
                #[tokio::test(flavor = "multi_thread")]
                #[ignore = "needs KAFKA_URL and KAFKA_EDGE_URL"]
                async fn $name() {
                    super::$name(crate::rig::Rig::two_kafkas().await).await;
                }
            )*
        }

        mod to_an_embedded_broker {
            $(
                #[tokio::test(flavor = "multi_thread")]
                #[ignore = "needs KAFKA_URL"]
                async fn $name() {
                    super::$name(crate::rig::Rig::small_edge().await).await;
                }
            )*
        }
    };
}

rules! {
    batches_that_compaction_left_gaps_in_arrive_without_them
    records_of_aborted_transactions_and_markers_stay_behind
    times_of_arrival_at_the_source_are_the_times_at_the_destination
    compressed_batches_are_the_same_and_a_destination_that_takes_less_gets_smaller_ones
    record_that_is_too_large_for_the_destination_is_put_aside_and_the_rest_goes_on
    topic_made_again_while_it_is_carried_is_noticed_by_its_id
    checkpoint_in_the_middle_of_a_batch_is_gone_on_from
    one_record_among_many_that_the_destination_refuses_is_found_and_put_aside
    what_retention_took_at_the_source_is_a_counted_gap
}

/// Makes the news anew at the core, before a link has seen them.
async fn news(rig: &Rig, config: &[(&str, &str)]) {
    rig.core.delete_topic(&rig.news).await.unwrap();
    let mut spec = TopicSpec::new(&rig.news, 3);
    for (name, value) in config {
        spec.config.insert((*name).to_owned(), (*value).to_owned());
    }
    rig.core.create_topic(&spec).await.unwrap();
}

async fn send(rig: &Rig, from: usize, count: usize) {
    let records = (from..from + count)
        .map(|number| record(&rig.news, number))
        .collect();
    rig.core.producer().unwrap().send_all(records).await.unwrap();
}

/// What may differ between two sites is where a record is; all else must not.
type Contents = BTreeMap<i32, Vec<(Option<Bytes>, Option<Bytes>, Vec<(String, Bytes)>, i64)>>;

async fn seen(broker: &Broker, topic: &str) -> Contents {
    let what = |record: Record| (record.key, record.value, record.headers, record.timestamp);
    let found = contents(broker, topic).await;
    let partitions = found.into_iter().filter(|(_, records)| !records.is_empty());
    partitions
        .map(|(partition, records)| (partition, records.into_iter().map(what).collect()))
        .collect()
}

/// The records' own numbers, by partition.
fn numbers(contents: &Contents) -> Vec<Vec<String>> {
    let number = |headers: &[(String, Bytes)]| String::from_utf8_lossy(&headers[1].1).into_owned();
    contents
        .values()
        .map(|all| all.iter().map(|(_, _, headers, _)| number(headers)).collect())
        .collect()
}

/// Waits until so many records of the news are at the edge.
async fn arrive(rig: &Rig, wanted: usize) {
    eventually(LIMIT, || async {
        let found: usize = contents(&rig.edge, &rig.news).await.values().map(Vec::len).sum();
        if found == wanted {
            Ok(())
        } else {
            Err(format!("{found} of {wanted}"))
        }
    })
    .await;
}

async fn same(rig: &Rig) {
    eventually(LIMIT, || async {
        let (wanted, found) = (seen(&rig.core, &rig.news).await, seen(&rig.edge, &rig.news).await);
        let count = |all: &Contents| all.values().map(Vec::len).sum::<usize>();
        if wanted == found {
            return Ok(());
        }
        if count(&found) > count(&wanted) {
            panic!(
                "something came twice: {} of {}: {:?}",
                count(&found),
                count(&wanted),
                numbers(&found)
            );
        }
        Err(format!("{} of {}", count(&found), count(&wanted)))
    })
    .await;
}

/// The newest of each key, for a cleaner goes on at both sides.
async fn same_newest(rig: &Rig) {
    let newest = |all: Contents| {
        let records = all
            .into_iter()
            .flat_map(|(partition, records)| records.into_iter().map(move |record| (partition, record)));
        records
            .filter(|(_, (key, ..))| key.is_some())
            .map(|(partition, (key, value, ..))| ((partition, key), value))
            .collect::<BTreeMap<_, _>>()
    };
    eventually(LIMIT, || async {
        let (wanted, found) = (seen(&rig.core, &rig.news).await, seen(&rig.edge, &rig.news).await);
        if newest(wanted) == newest(found) {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    })
    .await;
}

async fn batches_that_compaction_left_gaps_in_arrive_without_them(rig: Rig) {
    let often = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("max.compaction.lag.ms", "100"),
    ];
    news(&rig, &often).await;
    // 17 keys: of each batch little is left when the cleaner has been there.
    for round in 0..4 {
        send(&rig, round * 60, 60).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    eventually(LIMIT, || async {
        send(&rig, 0, 3).await;
        let left: usize = contents(&rig.core, &rig.news).await.values().map(Vec::len).sum();
        if left < 200 {
            Ok(())
        } else {
            Err(format!("{left} records are left"))
        }
    })
    .await;
    let running = rig.start();
    same_newest(&rig).await;
    let status = rig
        .reports("one", |status| status.counters.contains_key("carried_down"))
        .await;
    assert_eq!(status.counters.get("lost"), None);
    running.stop().await;
}

async fn records_of_aborted_transactions_and_markers_stay_behind(rig: Rig) {
    news(&rig, &[]).await;
    let id = testkit::unique("writer");
    let running = rig.start();
    for round in 0..4 {
        let records = |from: usize| {
            (from..from + 40)
                .map(|number| record(&rig.news, number))
                .collect::<Vec<_>>()
        };
        let mut writer = rig.core.transactions(&id).await.unwrap();
        writer.commit(records(round * 100), |_| Vec::new()).await.unwrap();
        // Sealed with a record to no topic, a transaction fails with its records already written.
        let nowhere = vec![Outgoing::new(testkit::unique("nowhere"), "k", b"v".to_vec())];
        writer
            .commit(records(round * 100 + 50), |_| nowhere)
            .await
            .unwrap_err();
        send(&rig, round * 1_000 + 500, 20).await;
    }
    // A new holder settles what the last one left.
    let _settled = rig.core.transactions(&id).await.unwrap();
    let wanted: usize = contents(&rig.core, &rig.news).await.values().map(Vec::len).sum();
    assert_eq!(wanted, 4 * 60);
    same(&rig).await;
    running.stop().await;
}

async fn what_retention_took_at_the_source_is_a_counted_gap(rig: Rig) {
    news(&rig, &[]).await;
    let running = rig.start();
    send(&rig, 0, 30).await;
    let carried = async |wanted: usize| {
        eventually(LIMIT, || async {
            let found: usize = contents(&rig.edge, &rig.news).await.values().map(Vec::len).sum();
            (found == wanted)
                .then_some(())
                .ok_or_else(|| format!("{found} of {wanted}"))
        })
        .await;
    };
    carried(30).await;
    running.stop().await;
    send(&rig, 30, 20).await;
    // Records are of an hour ago. What comes later is to stay.
    let core = url("KAFKA_URL");
    let core = core.strip_prefix("kafka://").unwrap();
    set_property(core, &rig.news, "retention.ms", "1000").await;
    eventually(LIMIT, || async {
        let left: usize = contents(&rig.core, &rig.news).await.values().map(Vec::len).sum();
        (left == 0)
            .then_some(())
            .ok_or_else(|| format!("{left} are left"))
    })
    .await;
    set_property(core, &rig.news, "retention.ms", "604800000").await;
    let running = rig.start_as("two");
    let told = rig
        .reports("two", |status| status.counters.get("lost") == Some(&20))
        .await;
    let remark = format!("lost to the other site: 20 records of {}", rig.news);
    assert_eq!(told.detail.as_deref(), Some(&*remark));
    send(&rig, 50, 10).await;
    carried(40).await;
    running.stop().await;
}

async fn times_of_arrival_at_the_source_are_the_times_at_the_destination(rig: Rig) {
    news(&rig, &[("message.timestamp.type", "LogAppendTime")]).await;
    let running = rig.start();
    send(&rig, 0, 300).await;
    same(&rig).await;
    running.stop().await;
}

async fn compressed_batches_are_the_same_and_a_destination_that_takes_less_gets_smaller_ones(rig: Rig) {
    for codec in ["gzip", "snappy", "lz4", "zstd", "uncompressed"] {
        news(&rig, &[("compression.type", codec)]).await;
        let mut spec = TopicSpec::new(&rig.news, 3);
        spec.max_message_bytes = 4_000;
        drop(rig.edge.delete_topic(&rig.news).await);
        rig.edge.create_topic(&spec).await.unwrap();
        for part in 0..3 {
            send(&rig, part * 400, 400).await;
        }
        let running = rig.start();
        same(&rig).await;
        running.stop().await;
    }
}

async fn record_that_is_too_large_for_the_destination_is_put_aside_and_the_rest_goes_on(rig: Rig) {
    let mut spec = TopicSpec::new(&rig.news, 3);
    spec.max_message_bytes = 10_000;
    rig.edge.create_topic(&spec).await.unwrap();
    send(&rig, 0, 50).await;
    let mut large = record(&rig.news, 50);
    // Nothing that compression makes small.
    large.value = Some((0..20_000).map(|_| rand::random::<u8>()).collect());
    rig.core.producer().unwrap().send(large).await.unwrap();
    send(&rig, 51, 50).await;
    let running = rig.start();
    arrive(&rig, 100).await;
    let letters = contents(&rig.core, &format!("{}.dead-letter", rig.news)).await;
    let letters: Vec<DeadLetter> = letters.values().flatten().filter_map(DeadLetter::of).collect();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].topic, rig.news);
    // And it goes on by batches.
    send(&rig, 200, 50).await;
    arrive(&rig, 150).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_URL"]
async fn record_of_a_time_that_no_other_topic_takes_is_put_aside_and_the_rest_goes_on() {
    let rig = Rig::two_kafkas().await;
    news(&rig, &[("message.timestamp.after.max.ms", "604800000")]).await;
    send(&rig, 0, 10).await;
    let mut ahead = record(&rig.news, 10);
    ahead.timestamp = Some(now_ms() + 86_400_000);
    let (value, time) = (ahead.value.clone(), ahead.timestamp);
    rig.core.producer().unwrap().send(ahead).await.unwrap();
    send(&rig, 11, 10).await;
    let running = rig.start();
    arrive(&rig, 20).await;
    let letters = contents(&rig.core, &format!("{}.dead-letter", rig.news)).await;
    let letters: Vec<&Record> = letters.values().flatten().collect();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].value, value);
    let own = String::from_utf8_lossy(letters[0].header("origin-timestamp").unwrap());
    assert_eq!(own.parse().ok(), time);
    running.stop().await;
}

async fn topic_made_again_while_it_is_carried_is_noticed_by_its_id(rig: Rig) {
    let running = rig.start();
    send(&rig, 0, 100).await;
    same(&rig).await;
    news(&rig, &[]).await;
    send(&rig, 100, 70).await;
    arrive(&rig, 170).await;
    let mut lost = 0;
    for partition in 0..3 {
        let key = format!("news/{}/{partition}", rig.news);
        lost += rig
            .checkpoint(&rig.edge, &key)
            .await
            .map_or(0, |found| found.lost.len());
    }
    assert!(lost > 0, "it is written down");
    running.stop().await;
}

async fn checkpoint_in_the_middle_of_a_batch_is_gone_on_from(mut rig: Rig) {
    send(&rig, 0, 600).await;
    // Record by record first, in small transactions, torn off where it stands.
    rig.settings.whole_batches = false;
    rig.settings.max_records = 7;
    let running = rig.start();
    eventually(LIMIT, || async {
        let found: usize = contents(&rig.edge, &rig.news).await.values().map(Vec::len).sum();
        if found >= 20 {
            Ok(())
        } else {
            Err(format!("{found}"))
        }
    })
    .await;
    running.tear().await;
    rig.settings.whole_batches = true;
    let running = rig.start();
    same(&rig).await;
    running.stop().await;
}

#[tokio::test]
#[ignore = "needs KAFKA_URL"]
async fn producer_that_was_fenced_can_write_nothing_and_what_it_left_open_is_not_seen() {
    use kafka::{Cluster, Partition, Producer, Row, Settings, Tcp, write};
    let core = url("KAFKA_URL");
    let (settings, registry) = (common::broker::Settings::url(&core), prometheus::Registry::new());
    let broker = Broker::open(&settings, "test", &registry).await.unwrap();
    let (topic, id) = (testkit::unique("fenced"), testkit::unique("holder"));
    broker.create_topic(&TopicSpec::new(&topic, 1)).await.unwrap();
    eventually(LIMIT, || async {
        let led = broker.watermarks(&topic, 0).await;
        led.map_err(|error| error.to_string())
    })
    .await;
    let settings = Settings::new(core.strip_prefix("kafka://").unwrap(), "test");
    let cluster = Arc::new(Cluster::new(settings, Arc::new(Tcp)));
    let at = Partition {
        topic: topic.as_str().into(),
        index: 0,
    };
    let batch = |value: &[u8]| {
        let row = Row {
            timestamp: now_ms(),
            key: None,
            value: Some(value),
            headers: &[],
        };
        write(&[row]).unwrap()
    };
    let wait = Duration::from_secs(20);
    // A cluster that has just come up does not know yet who coordinates transactions.
    let mut first = eventually(LIMIT, || async {
        let taken = Producer::take_over(&cluster, &id, wait).await;
        taken.map_err(|error| error.to_string())
    })
    .await;
    {
        // Let go between what is sealed and its commit.
        let left = [(at.clone(), batch(b"left open"))];
        let (tell, told) = tokio::sync::oneshot::channel();
        let mut tell = Some(tell);
        let carried = first.carry(&left, &[], |_| {
            if let Some(tell) = tell.take() {
                tell.send(()).unwrap();
            }
            left.to_vec()
        });
        tokio::select! {
            biased;
            told = told => told.unwrap(),
            carried = carried => panic!("it is not let go: {carried:?}"),
        }
    }
    let spent = first.carry(&[], &[], |_| Vec::new()).await;
    assert!(matches!(spent, Err(kafka::Error::Spent { .. })), "{spent:?}");
    let mut second = Producer::take_over(&cluster, &id, wait).await.unwrap();
    for value in [b"one".as_slice(), b"two"] {
        let batches = [(at.clone(), batch(value)), (at.clone(), batch(b"more"))];
        let seal = |bases: &[i64]| vec![(at.clone(), batch(format!("{bases:?}").as_bytes()))];
        let placed = second.carry(&batches, &[], seal).await.unwrap().batches;
        assert_eq!(placed[1], placed[0] + 1);
    }
    let held = second.held();
    let still = Producer::still_held(&cluster, &id, wait, held).await.unwrap();
    assert!(still.is_some_and(|still| still != held));
    // An answer that was lost on the way is asked for once more.
    assert_eq!(
        Producer::still_held(&cluster, &id, wait, held).await.unwrap(),
        still
    );
    let mut third = Producer::take_over(&cluster, &id, wait).await.unwrap();
    let gone = Producer::still_held(&cluster, &id, wait, still.unwrap()).await;
    assert_eq!(gone.unwrap(), None);
    let late = [(at.clone(), batch(b"late"))];
    let late = second.carry(&late, &[], |_| Vec::new()).await;
    assert!(matches!(late, Err(kafka::Error::Fenced { .. })), "{late:?}");
    // Another one writes in between, so offsets are not those that were foreseen.
    let batches = [(at.clone(), batch(b"three"))];
    let seal = |bases: &[i64]| vec![(at.clone(), batch(format!("at {bases:?}").as_bytes()))];
    third.carry(&batches, &[], seal).await.unwrap();
    let mut other = Outgoing::new(&topic, "key", b"other".to_vec());
    other.headers = vec![("traceparent".into(), "none".into())];
    broker.producer().unwrap().send(other).await.unwrap();
    let placed = third.carry(&batches, &[], seal).await.unwrap().batches;
    let found = contents(&broker, &topic).await;
    let values: Vec<_> = found[&0]
        .iter()
        .map(|record| record.value.clone().unwrap())
        .collect();
    let values: Vec<String> = values
        .iter()
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .collect();
    assert_eq!(values[..2], ["one", "more"]);
    assert_eq!(values[3..5], ["two", "more"]);
    assert_eq!(values[6], "three");
    assert_eq!(values[8..10], ["other", "three"]);
    // Sealed for what was foreseen, and once more for what it is.
    assert_eq!(values.len(), 12);
    assert_eq!(values[11], format!("at {placed:?}"));
    assert_eq!(placed, [found[&0][9].offset]);
    assert!(cluster.traffic().sent() > 500 && cluster.traffic().received() > 500);
}

async fn one_record_among_many_that_the_destination_refuses_is_found_and_put_aside(rig: Rig) {
    // A compacted topic takes no record without a key.
    rig.edge
        .create_topic(&TopicSpec::new(&rig.news, 3).compacted())
        .await
        .unwrap();
    send(&rig, 0, 700).await;
    let mut nameless = record(&rig.news, 700);
    nameless.key = None;
    nameless.partition = Some(1);
    rig.core.producer().unwrap().send(nameless).await.unwrap();
    send(&rig, 701, 700).await;
    let running = rig.start();
    same_newest(&rig).await;
    let letters = contents(&rig.core, &format!("{}.dead-letter", rig.news)).await;
    assert_eq!(letters.values().map(Vec::len).sum::<usize>(), 1);
    running.stop().await;
}

#[tokio::test]
#[ignore = "needs KAFKA_TLS_URL and the certificates beside it"]
async fn certificates_are_shown_and_checked() {
    use kafka::{Cluster, Settings, Tcp, Tls};
    let path = |name: &str| std::path::PathBuf::from(url(name));
    let mut settings = Settings::new(url("KAFKA_TLS_URL").strip_prefix("kafka://").unwrap(), "test");
    let identity = (path("ENGINES_TLS_CERTIFICATE"), path("ENGINES_TLS_KEY"));
    settings.tls = Some(Tls {
        ca: Some(path("ENGINES_TLS_CA")),
        identity: Some(identity.clone()),
        ..Tls::default()
    });
    let cluster = |settings: &Settings| Cluster::new(settings.clone(), Arc::new(Tcp));
    cluster(&settings).ping().await.unwrap();
    // Without one's own certificate the broker ends the connection, and says why; a stranger's authority is named.
    settings.tls = Some(Tls {
        ca: Some(path("ENGINES_TLS_CA")),
        ..Tls::default()
    });
    let refused = cluster(&settings).ping().await.unwrap_err();
    assert!(refused.to_string().contains("certificate"), "{refused}");
    settings.tls = Some(Tls {
        identity: Some(identity.clone()),
        ..Tls::default()
    });
    let stranger = cluster(&settings).ping().await.unwrap_err();
    let source = std::error::Error::source(&stranger).unwrap().to_string();
    assert!(source.contains("certificate"), "{source}");
    // Unless it is told to take anybody.
    settings.tls = Some(Tls {
        identity: Some(identity),
        unverified: true,
        ..Tls::default()
    });
    cluster(&settings).ping().await.unwrap();
}
