//! What the edge changes takes effect within a second, while a large transaction is on a slow line; and afterwards nothing
//! is lost or twice.

use std::time::Duration;

use common::broker::{Broker, Outgoing};
use common::budget::Class;
use common::control;
use common::schemas::{Desired, ServiceState, topic};
use testkit::eventually;
use testkit::proxy::{Conditions, Proxy};
use tokio::sync::MutexGuard;

use crate::kafka::line;
use crate::limits::days_apart;
use crate::rig::{LIMIT, Rig, contents, record};

/// What the line carries in a second, and what the edge lets through of that.
const LINE: u64 = 80_000;
const CAP: u64 = 40_000;
/// A change is in effect after this.
const SECOND: Duration = Duration::from_secs(1);
/// How often a change is tried that did not seem to be in effect: other work may keep the machine busy for a second.
const TRIES: usize = 3;
/// How long is looked at what crosses then.
const LOOK: Duration = Duration::from_secs(3);
/// Whatever is not of a held class meanwhile: what settles the transaction that was left, by way of requests.
const SETTLING: u64 = 8_000;

async fn set(rig: &Rig, key: &str, value: Option<&str>) {
    control::set(&rig.edge, "link", key, value.map(Into::into), Some("test"))
        .await
        .unwrap();
}

async fn ask(rig: &Rig, desired: Desired) {
    control::ask(&rig.edge, "link", desired, Some("test"))
        .await
        .unwrap();
}

/// Records that no compression makes smaller.
pub(crate) async fn random(broker: &Broker, topic: &str, count: usize, bytes: usize) {
    let large = |number| Outgoing {
        value: Some((0..bytes).map(|_| rand::random::<u8>()).collect()),
        ..record(topic, number)
    };
    let records = (0..count).map(large).collect();
    broker.producer().unwrap().send_all(records).await.unwrap();
}

/// Waits until so many more bytes have crossed, so that a transaction is in hand.
async fn flows(line: &Proxy, bytes: u64) {
    let before = line.carried().bytes();
    eventually(LIMIT, || async {
        let crossed = line.carried().bytes() - before;
        (crossed > bytes)
            .then_some(())
            .ok_or_else(|| format!("{crossed} of {bytes} bytes have crossed"))
    })
    .await;
}

/// Bytes in a second, from a second after now.
async fn rate(line: &Proxy) -> u64 {
    tokio::time::sleep(SECOND).await;
    let before = line.carried();
    tokio::time::sleep(LOOK).await;
    line.carried().since(&before).bytes() / LOOK.as_secs()
}

/// An edge whose readings are bulk that wants to go up a slow line.
async fn bulky(class: Class) -> (Rig, Proxy, MutexGuard<'static, ()>) {
    let (guard, line) = line().await;
    let mut rig = Rig::small_edge().await;
    rig.settings.core.url = format!("kafka://{}", line.address());
    rig.settings.extra_routes[1].class = Some(class);
    rig.settings.budget.cap = Some(format!("{CAP}B").parse().unwrap());
    line.set(Conditions::slow(LINE * 8, Duration::from_millis(100)));
    (rig, line, guard)
}

/// Requests still arrive while something else is held.
pub(crate) async fn requests_pass(rig: &Rig, number: usize) {
    let topic = topic::ASSET_REQUEST;
    let at_core = format!("{}.{topic}", rig.site);
    let sent = record(topic, number);
    let wanted = sent.value.clone();
    rig.edge.producer().unwrap().send(sent).await.unwrap();
    eventually(LIMIT, || async {
        let found = contents(&rig.core, &at_core).await;
        let mut all = found.values().flatten();
        all.any(|record| record.value == wanted)
            .then_some(())
            .ok_or_else(|| "a request waits".to_owned())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_LINE and KAFKA_FAR"]
async fn what_is_held_crosses_no_more_within_a_second_and_others_go_on() {
    let (mut rig, line, _guard) = bulky(Class::Previews).await;
    rig.settings.budget.zone = days_apart().0.into();
    // Each one is a transaction of several seconds.
    random(&rig.edge, &rig.readings, 20, 150_000).await;
    let running = rig.start();
    let (route, pause) = ("route/readings", Some("\"paused\""));
    let changes = [
        ("budget/metered", Some("true"), true),
        (route, pause, true),
        ("budget/per_day", Some("\"1KB\""), false),
        ("budget/windows", Some("[\"mon 00:00-00:01\"]"), false),
    ];
    for (number, (key, value, others)) in changes.into_iter().enumerate() {
        let held = |rate: &u64| rate * LOOK.as_secs() <= SETTLING;
        let mut rates = Vec::new();
        while rates.len() < TRIES && !rates.last().is_some_and(held) {
            // To what was configured, which lets it cross.
            set(&rig, key, None).await;
            flows(&line, 60_000).await;
            set(&rig, key, value).await;
            rates.push(rate(&line).await);
        }
        println!("{key}: {rates:?} bytes/s are left");
        assert!(rates.last().is_some_and(held), "{key}: {rates:?} bytes/s");
        if others {
            requests_pass(&rig, 10_000 + number).await;
        }
        set(&rig, key, None).await;
    }
    flows(&line, 60_000).await;
    line.set(Conditions::default());
    set(&rig, "budget/cap", Some("null")).await;
    rig.send(5_000, 30).await;
    rig.all_is_carried().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_LINE and KAFKA_FAR"]
async fn paused_as_a_whole_nothing_crosses_within_a_second_and_nothing_is_left_open() {
    let (rig, line, _guard) = bulky(Class::Previews).await;
    random(&rig.edge, &rig.readings, 20, 150_000).await;
    let running = rig.start();
    flows(&line, 60_000).await;
    ask(&rig, Desired::Paused).await;
    let rate = rate(&line).await;
    println!("paused: {rate} bytes/s are left");
    assert!(rate * LOOK.as_secs() <= SETTLING, "{rate} bytes/s");
    rig.reports("one", |status| status.state == ServiceState::Paused)
        .await;
    // Who reads what is committed is not held up by what was under way.
    let beside = record(&rig.readings_at_core(), 7_000);
    let wanted = beside.value.clone();
    rig.core.producer().unwrap().send(beside).await.unwrap();
    let seen = eventually(Duration::from_secs(10), || async {
        let found = contents(&rig.core, &rig.readings_at_core()).await;
        let mut all = found.values().flatten();
        all.any(|record| record.value == wanted)
            .then_some(())
            .ok_or_else(|| "it waits behind an open transaction".to_owned())
    });
    seen.await;
    line.set(Conditions::default());
    set(&rig, "budget/cap", Some("null")).await;
    ask(&rig, Desired::Running).await;
    eventually(LIMIT, || async {
        let found: usize = contents(&rig.core, &rig.readings_at_core())
            .await
            .values()
            .map(Vec::len)
            .sum();
        (found == 21)
            .then_some(())
            .ok_or_else(|| format!("{found} of 21"))
    })
    .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_LINE and KAFKA_FAR"]
async fn rate_follows_the_cap_within_a_second() {
    let (rig, line, _guard) = bulky(Class::Sensors).await;
    random(&rig.edge, &rig.readings, 1_500, 1_000).await;
    let running = rig.start();
    flows(&line, 100_000).await;
    let mut before = CAP;
    for cap in [8_000, CAP, 16_000] {
        let follows = |rate: &u64| (cap / 2..=cap * 105 / 100).contains(rate);
        let mut rates = Vec::new();
        while rates.len() < TRIES && !rates.last().is_some_and(follows) {
            set(&rig, "budget/cap", Some(&format!("\"{before}B\""))).await;
            flows(&line, 30_000).await;
            set(&rig, "budget/cap", Some(&format!("\"{cap}B\""))).await;
            rates.push(rate(&line).await);
        }
        println!("cap {cap}: {rates:?} bytes/s");
        assert!(
            rates.last().is_some_and(follows),
            "{rates:?} bytes/s under a cap of {cap}"
        );
        before = cap;
    }
    line.set(Conditions::default());
    set(&rig, "budget/cap", Some("null")).await;
    rig.send(5_000, 30).await;
    rig.all_is_carried().await;
    running.stop().await;
}
