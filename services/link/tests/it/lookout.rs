//! What the link tells of how far it is behind, also when nothing is carried.

use std::collections::BTreeMap;
use std::time::Duration;

use common::broker::TopicSpec;
use common::schemas::{self, ServiceHistory, ServiceStatus, topic};
use link::Route;
use testkit::eventually;

use crate::rig::{LIMIT, Rig, record};

const HOURS: u64 = 10;

/// The site's history, the newest of each key.
async fn past(rig: &Rig) -> BTreeMap<String, ServiceHistory> {
    let mut found = BTreeMap::new();
    rig.edge
        .read_to_end(topic::SERVICE_HISTORY, |record| {
            let key = String::from_utf8_lossy(record.key.as_deref().unwrap()).into_owned();
            found.insert(key, schemas::decode(record.value.as_deref().unwrap()).unwrap());
        })
        .await
        .unwrap();
    found
}

/// How far carriers had come in a route, as it is noted: the sum of its partitions.
async fn noted(rig: &Rig, route: &str) -> f64 {
    let past = past(rig).await;
    let Some(reached) = past.get(&format!("link/reached/{}", rig.site)) else {
        return 0.0;
    };
    let own = reached.figures.iter();
    let own = own.filter(|(key, _)| key.starts_with(&format!("{route}/")));
    own.map(|(_, next)| next).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_here_and_how_long_it_is_held_is_told_also_when_nothing_is_carried() {
    told(Rig::embedded().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_URL"]
async fn the_same_is_told_by_a_link_between_two_kafkas() {
    told(Rig::two_kafkas().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn the_same_is_told_by_an_embedded_edge_of_a_kafka() {
    told(Rig::small_edge().await).await;
}

async fn told(mut rig: Rig) {
    let ore = testkit::unique("ore");
    let kept = TopicSpec::new(&ore, 2).retention(Duration::from_secs(HOURS * 3600));
    rig.edge.create_topic(&kept).await.unwrap();
    rig.core
        .create_topic(&TopicSpec::new(format!("{}.{ore}", rig.site), 2))
        .await
        .unwrap();
    let readings = rig.settings.extra_routes[1].clone();
    rig.settings.extra_routes.push(Route {
        // Of its own too: on a Kafka that tests share, what was set for a route stays.
        name: ore.clone(),
        topics: vec![ore.clone()],
        ..readings
    });
    let send = async |from: usize, count: usize| {
        let records = (from..from + count).map(|number| record(&ore, number)).collect();
        rig.edge.producer().unwrap().send_all(records).await.unwrap();
    };

    let running = rig.start();
    send(0, 40).await;
    let gauge = |name: &str| format!("route.{ore}.{name}");
    let status = rig
        .reports("one", |status| {
            status.gauges.get(&gauge("carried_records")) == Some(&40.0)
        })
        .await;
    assert!(status.gauges[&gauge("carried_bytes")] > 40.0 * 10.0);
    rig.reports("one", |status| {
        let is = |name: &str, value: f64| status.gauges.get(&gauge(name)) == Some(&value);
        is("lag_records", 0.0) && is("lag_seconds", 0.0) && is("catch_up_seconds", 0.0)
    })
    .await;
    eventually(LIMIT, || async {
        let noted = noted(&rig, &ore).await;
        (noted == 40.0)
            .then_some(())
            .ok_or_else(|| format!("{noted} of 40 are noted"))
    })
    .await;
    assert!(past(&rig).await.keys().any(|key| key.starts_with("link/minute/")));
    running.tear().await;

    // A link that carries nothing of the route, and knows from the past alone how far it was.
    rig.settings.paused = vec![ore.clone()];
    let running = rig.start_as("two");
    send(40, 30).await;
    let status = rig
        .reports("two", |status| {
            status.gauges.get(&gauge("lag_records")) == Some(&30.0)
        })
        .await;
    assert!(status.gauges[&gauge("lag_bytes")] > 30.0 * 10.0);
    assert!(status.gauges["lag_records_up"] >= 30.0);
    // Records were made an hour ago.
    assert!((3_590.0..3_700.0).contains(&status.gauges[&gauge("lag_seconds")]));
    assert!(!status.gauges.contains_key(&gauge("catch_up_seconds")));
    let hours = HOURS as f64;
    let status = rig
        .reports("two", |status| {
            let left = status.gauges.get("buffer_hours");
            left.is_some_and(|left| (hours - 1.1..hours - 0.9).contains(left))
        })
        .await;
    assert_eq!(
        status.gauges[&format!("buffer.{ore}.hours")],
        status.gauges["buffer_hours"]
    );
    assert_eq!(status.gauges[&format!("buffer.{ore}.by")], 0.0);
    assert_eq!(running.metrics("fieldline_link_lag_records")[&ore], 30.0);
    let left = running.metrics("fieldline_link_buffer_seconds")[&ore];
    assert!((left / 3600.0 - (hours - 1.0)).abs() < 0.1, "{left}");
    assert!(
        running
            .metrics("fieldline_link_day_bytes")
            .contains_key("sensors")
    );

    // Told to go on, it catches up and says so.
    common::control::set(
        &rig.edge,
        "link",
        &format!("route/{ore}"),
        Some("\"running\"".into()),
        None,
    )
    .await
    .unwrap();
    rig.reports("two", |status| {
        status.gauges.get(&gauge("lag_records")) == Some(&0.0)
            && status
                .gauges
                .get("buffer_hours")
                .is_some_and(|left| *left > hours - 0.1)
    })
    .await;

    // The next process knows what waits, however soon after the last record this one was told to stop.
    send(70, 5).await;
    let carried = |status: &ServiceStatus| status.gauges.get(&gauge("carried_records")) == Some(&35.0);
    rig.reports("two", carried).await;
    running.stop().await;
    assert_eq!(noted(&rig, &ore).await, 75.0);
}
