//! What the edge changes takes effect within a second, both ways, while large transactions are on a slow line; and
//! afterwards nothing is lost or twice.

use std::time::Duration;

use common::broker::{Broker, Outgoing, TopicSpec};
use common::budget::Class;
use common::control;
use common::schemas::{Desired, ServiceState, topic};
use link::{Direction, Route};
use testkit::proxy::{Conditions, Proxy};
use testkit::{eventually, tried};

use crate::kafka::{Port, line, told};
use crate::limits::days_apart;
use crate::rig::{LIMIT, Rig, contents, record};

/// What the line carries in a second, and what the edge lets through of that.
const LINE: u64 = 80_000;
const CAP: u64 = 40_000;
/// A change is in effect after this.
const SECOND: Duration = Duration::from_secs(1);
/// How long is looked at what crosses then: of what is held nothing does, and a cap is seen over a while.
const LOOK: Duration = Duration::from_secs(2);
const RATE: Duration = Duration::from_secs(3);
/// How often a change is tried again that did not seem to be in effect while the machine was busy with something else.
const TRIES: usize = 6;
/// How long that may keep anything from crossing.
const BUSY: Duration = Duration::from_secs(180);
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

/// Records that no compression makes smaller, in batches of some 20 KB, or of one record that is larger.
pub(crate) async fn random(broker: &Broker, topic: &str, count: usize, bytes: usize) {
    let large = |number| Outgoing {
        value: Some((0..bytes).map(|_| rand::random::<u8>()).collect()),
        ..record(topic, number)
    };
    let producer = broker.producer().unwrap();
    for from in (0..count).step_by(60) {
        let records = (from..count.min(from + 60)).map(large).collect();
        producer.send_all(records).await.unwrap();
    }
}

/// Waits until so many more bytes have crossed up and down, so that transactions are in hand.
async fn flows(line: &Proxy, up: u64, down: u64) {
    let before = line.carried();
    eventually(BUSY, || async {
        let crossed = line.carried().since(&before);
        (crossed.up > up && crossed.down >= down)
            .then_some(())
            .ok_or_else(|| format!("{crossed:?}, not {up} and {down} bytes"))
    })
    .await;
}

/// Bytes that cross from a second after now.
async fn crossing(line: &Proxy, time: Duration) -> u64 {
    tokio::time::sleep(SECOND).await;
    let before = line.carried();
    tokio::time::sleep(time).await;
    line.carried().since(&before).bytes()
}

/// An edge whose readings, and the core's news for it, are of a class that wants to cross a slow line.
async fn slow(mut rig: Rig, class: Class) -> (Rig, Proxy, Port) {
    let (guard, line) = line().await;
    rig.settings.core.url = format!("kafka://{}", line.address());
    for route in &mut rig.settings.extra_routes {
        route.class = Some(class);
    }
    rig.settings.budget.cap = Some(format!("{CAP}B").parse().unwrap());
    line.set(Conditions::slow(LINE * 8, Duration::from_millis(100)));
    (rig, line, guard)
}

/// What is left crosses without any limit, once and in order.
async fn ends_well(rig: &Rig, line: &Proxy) {
    line.set(Conditions::default());
    set(rig, "budget/cap", Some("null")).await;
    rig.send(5_000, 30).await;
    rig.all_is_carried().await;
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

/// Both ways at once.
async fn what_is_held_crosses_no_more(rig: Rig) {
    let (mut rig, line, _guard) = slow(rig, Class::Previews).await;
    rig.settings.budget.zone = days_apart().0.into();
    // Each one takes a transaction several seconds.
    random(&rig.edge, &rig.readings, 10, 150_000).await;
    random(&rig.core, &rig.news, 10, 150_000).await;
    let running = rig.start();
    let paused = "\"paused\"";
    let changes: [(&[(&str, &str)], bool); 4] = [
        (&[("budget/metered", "true")], true),
        (&[("route/readings", paused), ("route/news", paused)], true),
        (&[("budget/per_day", "\"1KB\"")], false),
        (&[("budget/windows", "[\"mon 00:00-00:01\"]")], false),
    ];
    for (number, (change, others)) in changes.into_iter().enumerate() {
        println!("{change:?}: bytes that cross in {LOOK:?}");
        let once = async || {
            // To what was configured, which lets it cross.
            for &(key, _) in change {
                set(&rig, key, None).await;
            }
            flows(&line, 20_000, 20_000).await;
            for &(key, value) in change {
                set(&rig, key, Some(value)).await;
            }
            crossing(&line, LOOK).await
        };
        tried(TRIES, once, |left| *left <= SETTLING).await;
        if others {
            requests_pass(&rig, 10_000 + number).await;
        }
        for &(key, _) in change {
            set(&rig, key, None).await;
        }
    }
    ends_well(&rig, &line).await;
    running.stop().await;
}

/// As a whole, in the middle of transactions both ways.
async fn paused_nothing_crosses_and_nothing_is_left_open(rig: Rig) {
    let (rig, line, _guard) = slow(rig, Class::Previews).await;
    random(&rig.edge, &rig.readings, 10, 150_000).await;
    random(&rig.core, &rig.news, 10, 150_000).await;
    let running = rig.start();
    println!("paused: bytes that cross in {LOOK:?}");
    let once = async || {
        ask(&rig, Desired::Running).await;
        flows(&line, 20_000, 20_000).await;
        ask(&rig, Desired::Paused).await;
        crossing(&line, LOOK).await
    };
    tried(TRIES, once, |left| *left <= SETTLING).await;
    rig.reports("one", |status| status.state == ServiceState::Paused)
        .await;
    // Who reads what is committed is not held up by what was under way.
    let at_core = rig.readings_at_core();
    let seen = async |number| {
        let beside = record(&at_core, number);
        let wanted = beside.value.clone();
        rig.core.producer().unwrap().send(beside).await.unwrap();
        eventually(Duration::from_secs(20), || async {
            let found = contents(&rig.core, &at_core).await;
            let mut all = found.values().flatten();
            all.any(|record| record.value == wanted)
                .then_some(())
                .ok_or_else(|| "it waits behind an open transaction".to_owned())
        })
        .await;
    };
    for number in 7_000..7_006 {
        seen(number).await;
    }
    line.set(Conditions::default());
    set(&rig, "budget/cap", Some("null")).await;
    ask(&rig, Desired::Running).await;
    eventually(LIMIT, || async {
        let found: usize = contents(&rig.core, &at_core).await.values().map(Vec::len).sum();
        (found == 16)
            .then_some(())
            .ok_or_else(|| format!("{found} of 16"))
    })
    .await;
    running.stop().await;
}

/// What is allowed on a metered link, both ways.
async fn what_is_allowed_crosses(rig: Rig) {
    const BYTES: u64 = 300_000;
    let (mut rig, line, _guard) = slow(rig, Class::Previews).await;
    rig.settings.budget.metered = true;
    random(&rig.edge, &rig.readings, 10, 150_000).await;
    random(&rig.core, &rig.news, 10, 150_000).await;
    let running = rig.start();
    requests_pass(&rig, 1).await;
    println!("{BYTES} bytes are allowed: bytes that cross in {LOOK:?}");
    let once = async || {
        // What was allowed before has crossed.
        eventually(BUSY, || async {
            let left = crossing(&line, LOOK).await;
            (left <= SETTLING)
                .then_some(())
                .ok_or_else(|| format!("{left} bytes more"))
        })
        .await;
        set(&rig, "allow", Some(&BYTES.to_string())).await;
        crossing(&line, LOOK).await
    };
    tried(TRIES, once, |crossed| *crossed > CAP * LOOK.as_secs() / 2).await;
    set(&rig, "budget/metered", Some("false")).await;
    ends_well(&rig, &line).await;
    running.stop().await;
}

/// Of what goes up: what comes down lies in buffers of the line, which count it before it has crossed.
async fn rate_follows_the_cap(rig: Rig) {
    let (rig, line, _guard) = slow(rig, Class::Sensors).await;
    random(&rig.edge, &rig.readings, 1_500, 1_000).await;
    let running = rig.start();
    flows(&line, 100_000, 0).await;
    let mut before = CAP;
    for cap in [8_000, CAP, 16_000] {
        // What the cap saves up, 200 ms of it, is 7 % of three seconds.
        let follows = |rate: &u64| (cap / 2..=cap * 110 / 100).contains(rate);
        println!("bytes/s under a cap of {cap}");
        let once = async || {
            set(&rig, "budget/cap", Some(&format!("\"{before}B\""))).await;
            flows(&line, 30_000, 0).await;
            set(&rig, "budget/cap", Some(&format!("\"{cap}B\""))).await;
            crossing(&line, RATE).await / RATE.as_secs()
        };
        tried(TRIES, once, follows).await;
        before = cap;
    }
    ends_well(&rig, &line).await;
    running.stop().await;
}

/// A route that is resumed while another one of its class has a transaction on the line: what has crossed of that one is
/// not thrown away, and what is resumed does not wait for all that the other has.
async fn what_is_resumed_comes_next(rig: Rig) {
    let (mut rig, line, _guard) = slow(rig, Class::Sensors).await;
    let (ore, at_core) = (testkit::unique("ore"), rig.readings_at_core());
    let ore_at_core = format!("{}.{ore}", rig.site);
    rig.edge.create_topic(&TopicSpec::new(&ore, 1)).await.unwrap();
    rig.core
        .create_topic(&TopicSpec::new(&ore_at_core, 1))
        .await
        .unwrap();
    let up = rig
        .settings
        .extra_routes
        .iter()
        .find(|route| route.direction == Direction::Up);
    let route = Route {
        name: "ore".into(),
        topics: vec![ore.clone()],
        ..up.unwrap().clone()
    };
    rig.settings.extra_routes.push(route);
    set(&rig, "route/ore", Some("\"paused\"")).await;
    random(&rig.edge, &ore, 5, 100).await;
    random(&rig.edge, &rig.readings, 20, 150_000).await;
    let running = rig.start();
    let count =
        async |topic: &str| -> usize { contents(&rig.core, topic).await.values().map(Vec::len).sum() };
    flows(&line, 200_000, 0).await;
    let (before, crossed) = (count(&at_core).await, line.carried());
    set(&rig, "route/ore", None).await;
    let (meanwhile, bytes) = eventually(LIMIT, || async {
        match count(&ore_at_core).await {
            5 => Ok((count(&at_core).await - before, line.carried().since(&crossed).up)),
            found => Err(format!("{found} of 5")),
        }
    })
    .await;
    println!("{meanwhile} of the other route came meanwhile, and {bytes} bytes went up");
    // The one in hand, and one that began before the machine had read the word.
    assert!((1..=3).contains(&meanwhile), "{meanwhile}");
    let carried = u64::try_from(meanwhile).unwrap() * 150_000;
    assert!(bytes < carried + 100_000, "{bytes} bytes for {carried}");
    ends_well(&rig, &line).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_LINE and KAFKA_FAR"]
async fn what_is_resumed_follows_the_transaction_in_hand() {
    what_is_resumed_comes_next(Rig::small_edge().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_EDGE_2_URL, KAFKA_LINE and KAFKA_FAR"]
async fn between_two_kafkas_what_is_resumed_follows_the_transaction_in_hand() {
    let (rig, _told) = told().await;
    what_is_resumed_comes_next(rig).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_LINE and KAFKA_FAR"]
async fn paused_as_a_whole_nothing_crosses_within_a_second_and_nothing_is_left_open() {
    paused_nothing_crosses_and_nothing_is_left_open(Rig::small_edge().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_EDGE_2_URL, KAFKA_LINE and KAFKA_FAR"]
async fn between_two_kafkas_paused_as_a_whole_nothing_crosses_within_a_second() {
    let (rig, _told) = told().await;
    paused_nothing_crosses_and_nothing_is_left_open(rig).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_LINE and KAFKA_FAR"]
async fn what_is_held_crosses_no_more_within_a_second_and_others_go_on() {
    what_is_held_crosses_no_more(Rig::small_edge().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_EDGE_2_URL, KAFKA_LINE and KAFKA_FAR"]
async fn between_two_kafkas_what_is_held_crosses_no_more_within_a_second() {
    let (rig, _told) = told().await;
    what_is_held_crosses_no_more(rig).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_LINE and KAFKA_FAR"]
async fn what_is_allowed_on_a_metered_link_crosses_within_a_second() {
    what_is_allowed_crosses(Rig::small_edge().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_EDGE_2_URL, KAFKA_LINE and KAFKA_FAR"]
async fn between_two_kafkas_what_is_allowed_crosses_within_a_second() {
    let (rig, _told) = told().await;
    what_is_allowed_crosses(rig).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_LINE and KAFKA_FAR"]
async fn rate_follows_the_cap_within_a_second() {
    rate_follows_the_cap(Rig::small_edge().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_EDGE_2_URL, KAFKA_LINE and KAFKA_FAR"]
async fn between_two_kafkas_the_rate_follows_the_cap_within_a_second() {
    let (rig, _told) = told().await;
    rate_follows_the_cap(rig).await;
}
