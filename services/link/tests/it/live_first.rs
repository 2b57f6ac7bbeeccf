//! What waits from an outage goes behind what comes in, and still each record goes once.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use common::broker::Record;
use common::control;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use testkit::eventually;
use testkit::proxy::Conditions;

use crate::kafka::{line, told};
use crate::rig::{LIMIT, Rig, contents, record};

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

/// Both routes carry what comes in first from now on, or in its order, or as is configured.
async fn switch(rig: &Rig, first: Option<bool>) {
    for route in ["news", "readings"] {
        let key = format!("live_first/{route}");
        let value = first.map(|first| first.to_string());
        control::set(&rig.edge, "link", &key, value, Some("test"))
            .await
            .unwrap();
    }
}

async fn switched_on_and_off(mut rig: Rig) {
    rig.settings.backlog_after = 10;
    switch(&rig, Some(true)).await;
    rig.send(0, 300).await;
    let running = rig.start();
    assert_eq!(
        all_is_placed(&rig).await,
        (0, 600),
        "it is wanted since before the start"
    );
    rig.reports("one", |status| {
        status.gauges.get("route.readings.live_first") == Some(&1.0)
    })
    .await;
    switch(&rig, None).await;
    rig.reports("one", |status| {
        status.gauges.get("route.readings.live_first") == Some(&0.0)
    })
    .await;
    running.tear().await;
    rig.send(300, 300).await;
    let running = rig.start();
    assert_eq!(all_is_placed(&rig).await, (600, 600), "all in its order");
    running.stop().await;
}

/// While all that a thin line carries is old.
async fn switched_on_while_it_carries(mut rig: Rig) {
    const OLD: usize = 20_000;
    let (_guard, line) = line().await;
    rig.settings.core.url = format!("kafka://{}", line.address());
    rig.settings.budget.cap = Some("20KB".parse().unwrap());
    rig.settings.backlog_after = 10;
    line.set(Conditions::slow(400_000, Duration::from_millis(50)));
    rig.send(0, OLD).await;
    let running = rig.start();
    let at_core = rig.readings_at_core();
    let arrived = async || -> usize { contents(&rig.core, &at_core).await.values().map(Vec::len).sum() };
    eventually(LIMIT, || async {
        let count = arrived().await;
        (count > 0).then_some(()).ok_or("nothing has come")
    })
    .await;
    switch(&rig, Some(true)).await;
    // The transaction in hand is left; whatever of it crosses once more goes behind.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let in_order = arrived().await;
    // The session that begins with it takes the line some round trips; what comes in before goes behind.
    let mut sent = OLD;
    eventually(LIMIT, || {
        let news = record(&rig.readings, sent);
        sent += 1;
        async {
            rig.edge.producer().unwrap().send(news).await.unwrap();
            let found = contents(&rig.core, &at_core).await;
            let mut all = found.values().flatten();
            all.any(|record| number(record) >= OLD)
                .then_some(())
                .ok_or("what comes in does not go first")
        }
    })
    .await;
    let before = arrived().await
        + contents(&rig.core, &format!("{at_core}.backlog"))
            .await
            .values()
            .map(Vec::len)
            .sum::<usize>();
    assert!(before < OLD, "{before} went before what came in");
    let found = contents(&rig.core, &at_core).await;
    let old = found.values().flatten().filter(|record| number(record) < OLD);
    let late = old.count() - in_order;
    println!("{late} of what waited came in its order from a second after it was switched on");
    // One that was committed while a busy machine had not read the word.
    assert!(late < OLD / 20, "{late}");
    line.set(Conditions::default());
    control::set(&rig.edge, "link", "budget/cap", Some("null".into()), Some("test"))
        .await
        .unwrap();
    let (live, backlog) = all_is_placed(&rig).await;
    assert!(live > 0 && backlog > 0, "{live} and {backlog}");
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
async fn it_is_switched_on_and_off_while_the_link_works_and_stays_so_over_a_restart() {
    switched_on_and_off(Rig::embedded().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_go_first_is_told_and_goes_in_its_order() {
    let mut rig = Rig::embedded().await;
    rig.settings.whole_batches = false;
    rig.settings.backlog_after = 10;
    switch(&rig, Some(true)).await;
    rig.send(0, 60).await;
    let running = rig.start();
    rig.all_is_carried().await;
    rig.reports("one", |status| {
        let said = status.detail.as_deref().unwrap_or_default();
        said.contains("live_first is not in force")
    })
    .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_URL"]
async fn switched_on_while_a_thin_line_is_busy_what_comes_in_goes_first_between_two_kafkas() {
    let (rig, _told) = told().await;
    switched_on_while_it_carries(rig).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn switched_on_while_a_thin_line_is_busy_what_comes_in_goes_first_from_a_small_edge() {
    switched_on_while_it_carries(Rig::small_edge().await).await;
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
