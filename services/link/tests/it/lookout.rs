//! What the link tells of how far it is behind, also when nothing is carried.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use common::broker::{Outgoing, TopicSpec};
use common::schemas::{self, ServiceHistory, ServiceStatus, topic};
use link::Route;
use testkit::eventually;

use crate::live_first::live_first;
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

/// As an earlier link would have noted it: of less than some minutes nobody knows how much comes in.
async fn had_none_an_hour_ago(rig: &Rig, topic: &str) {
    let made = ServiceHistory {
        service: "link".into(),
        at: common::chassis::now_ms() - 3_600_000,
        every_s: 0,
        figures: [(topic.to_owned(), 0.0)].into(),
    };
    let key = format!("link/made/{topic}");
    let record = Outgoing::new(topic::SERVICE_HISTORY, key, schemas::encode(&made).unwrap());
    rig.edge.producer().unwrap().send_all(vec![record]).await.unwrap();
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

    let state = testkit::temp_dir();
    rig.settings.state = Some(state.path().to_owned());
    rig.settings.budget.per_day = Some("1GB".parse().unwrap());

    had_none_an_hour_ago(&rig, &ore).await;
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
    // Some bytes a second, for which there is more room than for these hours.
    assert!(status.gauges["buffer_disk_hours"] > hours);
    let metric = |name: &str| running.metrics(&format!("fieldline_link_{name}"));
    assert_eq!(metric("lag_records")[&ore], 30.0);
    assert!(metric("lag_bytes")[&ore] > 30.0 * 10.0);
    assert!((3_590.0..3_700.0).contains(&metric("lag_seconds")[&ore]));
    assert!(!metric("catch_up_seconds").contains_key(&ore), "for ever");
    assert_eq!(metric("limit_bytes")["day"], 1e9);
    assert_eq!(metric("limit_bytes").get("month"), None);
    assert_eq!(metric("lost_records").get(&ore), None);
    let left = metric("buffer_seconds")[&ore];
    assert!((left / 3600.0 - (hours - 1.0)).abs() < 0.1, "{left}");
    for span in ["day", "month"] {
        assert!(metric(&format!("{span}_bytes")).contains_key("sensors"), "{span}");
    }

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
    eventually(LIMIT, || async {
        let metric = |name: &str| {
            running
                .metrics(&format!("fieldline_link_{name}"))
                .get(&ore)
                .copied()
        };
        let told = ["lag_records", "lag_seconds", "catch_up_seconds"].map(metric);
        let contact = running.metrics("fieldline_link_last_contact_timestamp_seconds")[""];
        let ago = common::chassis::now_ms() as f64 / 1000.0 - contact;
        (told == [Some(0.0); 3] && (-1.0..60.0).contains(&ago))
            .then_some(())
            .ok_or_else(|| format!("{told:?}, {ago} s ago"))
    })
    .await;

    // The next process knows what waits, however soon after the last record this one was told to stop.
    send(70, 5).await;
    let carried = |status: &ServiceStatus| status.gauges.get(&gauge("carried_records")) == Some(&35.0);
    rig.reports("two", carried).await;
    running.stop().await;
    assert_eq!(noted(&rig, &ore).await, 75.0);
}

/// Waits until it is told that so many records of a route wait, which came in an hour ago, and how long that can go on.
async fn waits(rig: &Rig, instance: &str, route: &str, records: f64) {
    let lag = format!("route.{route}.lag_records");
    let hours = HOURS as f64;
    rig.reports(instance, |status| {
        let gauge = |name: &str| status.gauges.get(name).copied().unwrap_or(-1.0);
        gauge(&lag) == records
            && gauge("lag_records_up") >= records
            && (hours - 1.1..hours - 0.9).contains(&gauge("buffer_hours"))
    })
    .await;
}

/// Puts so many records into a topic of the edge, into one partition or any.
async fn put(rig: &Rig, topic: &str, partition: Option<i32>, numbers: Range<usize>) {
    let record = |number| Outgoing {
        partition,
        ..record(topic, number)
    };
    let records = numbers.map(record).collect();
    rig.edge.producer().unwrap().send_all(records).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_carried_waits_too() {
    let mut rig = Rig::embedded().await;
    let ore = testkit::unique("ore");
    let kept = TopicSpec::new(&ore, 1).retention(Duration::from_secs(HOURS * 3600));
    rig.edge.create_topic(&kept).await.unwrap();
    let readings = rig.settings.extra_routes[1].clone();
    rig.settings.extra_routes.push(Route {
        name: "ore".into(),
        topics: vec![ore.clone()],
        ..readings
    });
    // To this route that is an outage.
    rig.settings.paused = vec!["ore".into()];
    let running = rig.start();
    put(&rig, &ore, Some(0), 0..20).await;
    waits(&rig, "one", "ore", 20.0).await;
    running.stop().await;

    rig.settings.paused.clear();
    let running = rig.start_as("two");
    rig.reports("two", |status| {
        status.gauges.get("route.ore.carried_records") == Some(&20.0)
    })
    .await;
    running.stop().await;

    // A partition that is added in the next one.
    rig.settings.paused = vec!["ore".into()];
    rig.edge.add_partitions(&ore, 2).await.unwrap();
    put(&rig, &ore, Some(1), 0..30).await;
    let running = rig.start_as("three");
    waits(&rig, "three", "ore", 30.0).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_went_behind_what_comes_in_waits_too_while_it_is_held_and_after_a_restart() {
    let mut rig = live_first(Rig::embedded().await);
    rig.edge.delete_topic(&rig.readings).await.unwrap();
    let kept = TopicSpec::new(&rig.readings, 3).retention(Duration::from_secs(HOURS * 3600));
    rig.edge.create_topic(&kept).await.unwrap();
    put(&rig, &rig.readings, None, 0..300).await;
    // Nobody lets backlogs cross.
    rig.settings.budget.metered = true;
    let running = rig.start();
    waits(&rig, "one", "readings.backlog", 300.0).await;
    put(&rig, &rig.readings, None, 300..330).await;
    rig.reports("one", |status| {
        status.gauges.get("route.readings.carried_records") == Some(&30.0)
    })
    .await;
    running.stop().await;

    // As in an outage, it is known from the past alone.
    rig.settings.paused = vec!["readings".into()];
    let running = rig.start_as("two");
    waits(&rig, "two", "readings.backlog", 300.0).await;
    running.stop().await;

    (rig.settings.paused, rig.settings.budget.metered) = (Vec::new(), false);
    let running = rig.start_as("three");
    rig.reports("three", |status| {
        status.gauges.get("route.readings.backlog.carried_records") == Some(&300.0)
            && status.gauges.get("lag_records_up") == Some(&0.0)
            && status
                .gauges
                .get("buffer_hours")
                .is_some_and(|left| *left > HOURS as f64 - 0.1)
    })
    .await;
    running.stop().await;
}
