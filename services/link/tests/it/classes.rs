//! A route goes in another class while the link works, and still each record goes once.

use std::time::Duration;

use common::budget::Class;
use common::control;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::kafka::told;
use crate::live_first::{all_is_placed, live_first};
use crate::rig::{Rig, contents};

async fn set(rig: &Rig, key: &str, value: Option<String>) {
    control::set(&rig.edge, "link", key, value, Some("test"))
        .await
        .unwrap();
}

/// A route goes in this class from now on, or in the one that it is configured with.
async fn class(rig: &Rig, route: &str, class: Option<Class>) {
    set(
        rig,
        &format!("class/{route}"),
        class.map(|class| format!("\"{class}\"")),
    )
    .await;
}

/// Classes change at random moments, also where another of them is just coming into force, or the link is torn off.
async fn classes_change_while_records_come(mut rig: Rig, rounds: usize) {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let first = random.random_range(0..=Class::ALL.len());
    // What a pattern finds has a class too.
    let readings = &mut rig.settings.extra_routes[1];
    readings.pattern = readings.topics.pop();
    let mut running = rig.start();
    for round in 0..rounds {
        rig.send(round * 60, 60).await;
        // Each has each class once, beginning anywhere.
        let place = (first + round / 2) % (Class::ALL.len() + 1);
        let route = ["news", "readings"][round % 2];
        class(&rig, route, Class::ALL.get(place).copied()).await;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..600))).await;
        if random.random_bool(0.1) {
            running.tear().await;
            running = rig.start();
        }
    }
    rig.all_is_carried().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_comes_twice_or_out_of_order_when_classes_change() {
    classes_change_while_records_come(Rig::embedded().await, 20).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn from_a_small_edge_nothing_comes_twice_when_classes_change() {
    classes_change_while_records_come(Rig::small_edge().await, 20).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_2_URL"]
async fn between_two_kafkas_nothing_comes_twice_when_classes_change() {
    let (rig, _told) = told().await;
    classes_change_while_records_come(rig, 20).await;
}

/// On a metered link what is bulk waits until somebody allows it: so a route is as soon as it goes in such a class.
async fn class_decides_what_may_cross(mut rig: Rig) {
    rig.settings.budget.metered = true;
    let running = rig.start();
    rig.send(0, 30).await;
    rig.all_is_carried().await;
    let is = async |wanted: Class| {
        let place = Class::ALL.iter().position(|one| *one == wanted).unwrap();
        let place = f64::from(u8::try_from(place).unwrap());
        rig.reports("one", |status| {
            status.gauges.get("route.readings.class") == Some(&place)
        })
        .await;
    };
    class(&rig, "readings", Some(Class::Previews)).await;
    is(Class::Previews).await;
    // What is promised: a change takes effect within a second.
    tokio::time::sleep(Duration::from_secs(1)).await;
    rig.send(30, 30).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let at_core = rig.readings_at_core();
    let arrived = async || {
        let found = contents(&rig.core, &at_core).await;
        found.values().map(Vec::len).sum::<usize>()
    };
    assert_eq!(arrived().await, 30, "nobody has allowed it");
    class(&rig, "readings", None).await;
    is(Class::Sensors).await;
    rig.all_is_carried().await;
    assert_eq!(arrived().await, 60);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn from_a_small_edge_the_class_that_is_set_decides_what_may_cross() {
    class_decides_what_may_cross(Rig::small_edge().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_2_URL"]
async fn between_two_kafkas_the_class_that_is_set_decides_what_may_cross() {
    let (rig, _told) = told().await;
    class_decides_what_may_cross(rig).await;
}

/// What waits behind on a route that then goes in class backlog itself, in its order: nothing of it is forgotten, and what
/// comes in does not meet it.
async fn left_behind_is_carried_when_its_route_goes_in_class_backlog(rig: Rig) {
    let mut rig = live_first(rig);
    rig.settings.budget.metered = true;
    // Also where a pattern found it, and nobody else is in the class that it then has.
    let readings = &mut rig.settings.extra_routes[1];
    readings.pattern = readings.topics.pop();
    rig.send(0, 150).await;
    let running = rig.start();
    rig.reports("one", |status| {
        status.gauges.get("route.readings.backlog.lag_records") == Some(&150.0)
    })
    .await;
    for route in ["news", "readings"] {
        set(&rig, &format!("live_first/{route}"), Some("false".into())).await;
        class(&rig, route, Some(Class::Backlog)).await;
    }
    rig.send(150, 150).await;
    set(&rig, "allow", Some("10000000".into())).await;
    assert_eq!(all_is_placed(&rig).await, (300, 300));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn from_a_small_edge_what_is_left_behind_is_carried_when_its_route_goes_in_class_backlog() {
    left_behind_is_carried_when_its_route_goes_in_class_backlog(Rig::small_edge().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_2_URL"]
async fn between_two_kafkas_what_is_left_behind_is_carried_when_its_route_goes_in_class_backlog() {
    let (rig, _told) = told().await;
    left_behind_is_carried_when_its_route_goes_in_class_backlog(rig).await;
}
