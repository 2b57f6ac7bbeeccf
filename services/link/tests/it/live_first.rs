//! What waits from an outage goes behind what comes in, and still each record goes once.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use common::broker::Record;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use testkit::eventually;

use crate::rig::{LIMIT, Rig, contents};

/// A rig whose readings go first as they come.
pub(crate) fn live_first(mut rig: Rig) -> Rig {
    for route in &mut rig.settings.extra_routes {
        route.live_first = true;
    }
    rig.settings.backlog_after = 10;
    rig
}

fn number(record: &Record) -> usize {
    let value = String::from_utf8_lossy(record.value.as_deref().unwrap()).into_owned();
    value.strip_prefix("value ").unwrap().parse().unwrap()
}

/// Where each record of the source is at the destination's two topics; fails when one is there twice, is no record of the
/// source, or comes out of order.
async fn placed(rig: &Rig) -> (usize, usize, usize) {
    let mut all = (0, 0, 0);
    for (source, topic, destination, carried) in [
        (&rig.core, rig.news.clone(), &rig.edge, rig.news.clone()),
        (&rig.edge, rig.readings.clone(), &rig.core, rig.readings_at_core()),
    ] {
        let wanted = contents(source, &topic).await;
        let live = contents(destination, &carried).await;
        let backlog = contents(destination, &format!("{carried}.backlog")).await;
        let mut seen: HashMap<usize, u32> = HashMap::new();
        for found in [&live, &backlog] {
            in_order(&wanted, found);
            for record in found.values().flatten() {
                *seen.entry(number(record)).or_default() += 1;
            }
        }
        let twice: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "more than once in {topic}: {twice:?}");
        let count = |records: &BTreeMap<i32, Vec<Record>>| records.values().map(Vec::len).sum::<usize>();
        all.0 += count(&wanted);
        all.1 += count(&live);
        all.2 += count(&backlog);
    }
    all
}

/// Each partition's records are some of the source's, byte for byte and in its order.
fn in_order(wanted: &BTreeMap<i32, Vec<Record>>, found: &BTreeMap<i32, Vec<Record>>) {
    for (partition, records) in found {
        let mut source = wanted.get(partition).unwrap().iter();
        for record in records {
            let same = source.any(|own| {
                (&own.key, &own.value, &own.headers, own.timestamp)
                    == (&record.key, &record.value, &record.headers, record.timestamp)
            });
            assert!(
                same,
                "{}/{partition}: {} is out of order",
                record.topic,
                number(record)
            );
        }
    }
}

pub(crate) async fn all_is_placed(rig: &Rig) -> (usize, usize) {
    eventually(LIMIT, || async {
        let (wanted, live, backlog) = placed(rig).await;
        (wanted == live + backlog)
            .then_some((live, backlog))
            .ok_or_else(|| format!("{live} and {backlog} of {wanted}"))
    })
    .await
}

pub(crate) async fn waiting_goes_behind(rig: Rig) {
    let rig = live_first(rig);
    rig.send(0, 300).await;
    let running = rig.start();
    assert_eq!(all_is_placed(&rig).await, (0, 600), "all of it waited");
    rig.send(300, 90).await;
    assert_eq!(all_is_placed(&rig).await, (180, 600), "it came in");
    running.stop().await;
    rig.send(390, 300).await;
    let running = rig.start();
    assert_eq!(all_is_placed(&rig).await, (180, 1200));
    running.stop().await;
}

pub(crate) async fn survives(rig: Rig, rounds: usize, longest_ms: u64) {
    let rig = live_first(rig);
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut next = 0;
    for _ in 0..rounds {
        // What waits when it begins, and what comes in while it works.
        for _ in 0..random.random_range(0..4) {
            rig.send(next, 40).await;
            next += 40;
        }
        let running = rig.start();
        for _ in 0..3 {
            rig.send(next, 20).await;
            next += 20;
            tokio::time::sleep(Duration::from_millis(random.random_range(0..longest_ms))).await;
        }
        placed(&rig).await;
        if random.random_bool(0.7) {
            running.tear().await;
        } else {
            running.stop().await;
        }
    }
    let running = rig.start();
    let (live, backlog) = all_is_placed(&rig).await;
    println!("{live} came in, {backlog} waited");
    assert!(live > 0 && backlog > 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_at_a_connect_goes_to_the_backlog_and_what_comes_in_to_the_topic() {
    waiting_goes_behind(Rig::embedded().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_record_goes_once_to_the_topic_or_to_the_backlog_when_the_link_is_torn_off() {
    survives(Rig::embedded().await, 12, 120).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_URL"]
async fn what_waits_goes_behind_between_two_kafkas() {
    waiting_goes_behind(Rig::two_kafkas().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_URL"]
async fn each_record_goes_once_between_two_kafkas_when_the_link_is_torn_off() {
    survives(Rig::two_kafkas().await, 8, 1500).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn each_record_goes_once_from_an_embedded_edge_to_kafka_when_the_link_is_torn_off() {
    survives(Rig::small_edge().await, 8, 1500).await;
}
