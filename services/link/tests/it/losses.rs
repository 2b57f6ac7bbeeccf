//! What cannot be carried is counted, written down and gone around.

use common::broker::{DeadLetter, TopicSpec};
use common::control;
use common::schemas::ServiceState;
use testkit::eventually;

use crate::rig::{KEPT, LIMIT, Rig, contents, record, too_much};

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_took_is_a_counted_gap() {
    let rig = Rig::embedded().await;
    rig.core.delete_topic(&rig.news).await.unwrap();
    // By bytes, not by time: what is to be carried stays however long that takes.
    let mut spec = TopicSpec::new(&rig.news, 1);
    spec.retention_bytes = Some(KEPT);
    rig.core.create_topic(&spec).await.unwrap();
    let running = rig.start();
    let send = async |from: usize, count: usize| {
        let records = (from..from + count)
            .map(|number| record(&rig.news, number))
            .collect();
        rig.core.producer().unwrap().send_all(records).await.unwrap();
    };
    send(0, 10).await;
    let carried = async |wanted: usize| {
        eventually(LIMIT, || async {
            let found = contents(&rig.edge, &rig.news).await.get(&0).map_or(0, Vec::len);
            if found == wanted {
                Ok(())
            } else {
                Err(format!("{found} of {wanted}"))
            }
        })
        .await;
    };
    carried(10).await;
    running.stop().await;
    send(10, 6).await;
    rig.core
        .producer()
        .unwrap()
        .send(too_much(&rig.news, 16))
        .await
        .unwrap();
    eventually(LIMIT, || async {
        let low = rig.core.watermarks(&rig.news, 0).await.unwrap().low;
        if low >= 17 {
            Ok(())
        } else {
            Err(format!("low is {low}"))
        }
    })
    .await;
    let running = rig.start();
    rig.tells("one", "7 records").await;
    send(17, 5).await;
    carried(15).await;
    let checkpoint = rig
        .checkpoint(&rig.edge, &format!("news/{}/0", rig.news))
        .await
        .unwrap();
    assert_eq!(checkpoint.lost.len(), 1);
    assert_eq!((checkpoint.lost[0].source, checkpoint.lost[0].count), (10, 7));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_seen_to_wait_in_a_topic_made_again_is_counted_and_told_until_somebody_knows() {
    let rig = Rig::embedded().await;
    let set = async |key: &str, value: &str| {
        control::set(&rig.edge, "link", key, Some(value.to_owned()), None)
            .await
            .unwrap();
    };
    let running = rig.start();
    rig.send(0, 30).await;
    rig.all_is_carried().await;
    rig.reports("one", |status| {
        let is = |name: &str, value: f64| status.gauges.get(name) == Some(&value);
        is("route.readings.carried_records", 30.0) && is("route.readings.lag_records", 0.0)
    })
    .await;
    set("route/readings", "\"paused\"").await;
    rig.send(30, 20).await;
    rig.reports("one", |status| {
        status.gauges.get("route.readings.lag_records") == Some(&20.0)
    })
    .await;
    rig.edge.delete_topic(&rig.readings).await.unwrap();
    rig.edge
        .create_topic(&TopicSpec::new(&rig.readings, 3))
        .await
        .unwrap();
    set("route/readings", "\"running\"").await;
    let told = rig
        .reports("one", |status| status.counters.get("lost") == Some(&20))
        .await;
    let remark = format!("lost to the other site: 20 records of {}", rig.readings);
    assert_eq!(told.detail.as_deref(), Some(&*remark));
    eventually(LIMIT, || async {
        let found = running.metrics("fieldline_link_lost_records");
        (found.get("readings") == Some(&20.0))
            .then_some(())
            .ok_or_else(|| format!("{found:?}"))
    })
    .await;
    running.stop().await;

    // Also after a restart, as long as nobody has said that it is known.
    let running = rig.start_as("two");
    let told = rig
        .reports("two", |status| {
            status.counters.get("lost") == Some(&20) && status.gauges.contains_key("lost_ranges")
        })
        .await;
    assert_eq!(told.detail.as_deref(), Some(&*remark));
    let known = format!(
        "\"{}/{}\"",
        told.gauges["lost_records"], told.gauges["lost_ranges"]
    );
    set("lost", &known).await;
    let told = rig.reports("two", |status| status.detail.is_none()).await;
    assert_eq!(told.gauges["lost_unknown"], 0.0);
    assert_eq!(told.counters["lost"], 20);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topic_that_was_made_again_is_carried_from_its_beginning_and_that_is_written_down() {
    let rig = Rig::embedded().await;
    let running = rig.start();
    rig.send(0, 30).await;
    rig.all_is_carried().await;
    let before = contents(&rig.edge, &rig.news)
        .await
        .values()
        .map(Vec::len)
        .sum::<usize>();
    rig.core.delete_topic(&rig.news).await.unwrap();
    rig.core
        .create_topic(&TopicSpec::new(&rig.news, 3))
        .await
        .unwrap();
    let records = (100..150).map(|number| record(&rig.news, number)).collect();
    rig.core.producer().unwrap().send_all(records).await.unwrap();
    eventually(LIMIT, || async {
        let found = contents(&rig.edge, &rig.news)
            .await
            .values()
            .map(Vec::len)
            .sum::<usize>();
        if found == before + 50 {
            Ok(())
        } else {
            Err(format!("{found} of {}", before + 50))
        }
    })
    .await;
    let checkpoint = rig
        .checkpoint(&rig.edge, &format!("news/{}/0", rig.news))
        .await
        .unwrap();
    assert!(checkpoint.lost[0].reason.contains("made again"), "{checkpoint:?}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn record_that_the_destination_refuses_is_a_dead_letter_and_the_rest_goes_on() {
    let rig = Rig::embedded().await;
    let mut spec = TopicSpec::new(&rig.news, 3);
    spec.max_message_bytes = 2000;
    rig.edge.create_topic(&spec).await.unwrap();
    let mut records: Vec<_> = (0..60).map(|number| record(&rig.news, number)).collect();
    records[31].value = Some(vec![b'x'; 5000].into());
    records[44].value = Some(vec![b'y'; 5000].into());
    rig.core.producer().unwrap().send_all(records).await.unwrap();
    let running = rig.start();
    eventually(LIMIT, || async {
        let found = contents(&rig.edge, &rig.news)
            .await
            .values()
            .map(Vec::len)
            .sum::<usize>();
        if found == 58 {
            Ok(())
        } else {
            Err(format!("{found} of 58"))
        }
    })
    .await;
    rig.reports("one", |status| {
        status.state == ServiceState::Running && status.counters.get("refused") == Some(&2)
    })
    .await;
    let letters = contents(&rig.core, &format!("{}.dead-letter", rig.news)).await;
    let letters: Vec<_> = letters
        .values()
        .flatten()
        .map(|record| DeadLetter::of(record).unwrap())
        .collect();
    assert_eq!(letters.len(), 2);
    assert!(
        letters
            .iter()
            .all(|letter| letter.service == "link" && letter.error.contains("too large"))
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_differ_are_an_error_that_names_both_and_other_topics_go_on() {
    let rig = Rig::embedded().await;
    rig.edge
        .create_topic(&TopicSpec::new(&rig.news, 5))
        .await
        .unwrap();
    let running = rig.start();
    rig.waits("one", &["3 partitions"]).await;
    rig.send(0, 20).await;
    eventually(LIMIT, || async {
        let found = contents(&rig.core, &rig.readings_at_core())
            .await
            .values()
            .map(Vec::len)
            .sum::<usize>();
        if found == 20 {
            Ok(())
        } else {
            Err(format!("{found} of 20"))
        }
    })
    .await;
    running.stop().await;
}
