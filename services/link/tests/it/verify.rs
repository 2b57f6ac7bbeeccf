//! What was carried is the same on both sides, or it is said where it is not.

use common::broker::{Broker, Outgoing, TopicSpec};
use link::verify::{self, Compared, Point, Verdict};
use link::{Direction, Far};

use crate::kafka::url;
use crate::live_first::{all_is_placed, live_first};
use crate::rig::{Rig, record};

/// What is found; by way of the budget, where there is one, it is the same.
async fn compare(rig: &Rig, topic: &str, from: Option<Point>, to: Option<Point>) -> Vec<Compared> {
    let found = compare_by(rig, None, topic, from, to).await;
    // What nobody knows of yet may be known a moment later.
    let still = !found.is_empty() && found.iter().all(|found| found.waiting == 0);
    if let Some(far) = Far::open(&rig.settings, false).await.unwrap().filter(|_| still) {
        let counted = compare_by(rig, Some(far.clone()), topic, from, to).await;
        assert_eq!(counted, found);
        assert!(far.crossed() > 0, "it crosses there");
    }
    found
}

async fn compare_by(
    rig: &Rig,
    far: Option<Far>,
    topic: &str,
    from: Option<Point>,
    to: Option<Point>,
) -> Vec<Compared> {
    let (sides, mut found) = (rig.sides(far), Vec::new());
    for lane in link::expand(&rig.site, &rig.settings.routes()).unwrap() {
        if lane.source != topic && lane.destination != topic {
            continue;
        }
        let histories = sides.histories(lane.direction).await.unwrap();
        let spans = verify::spans(&sides, &lane, &histories, from, to).await.unwrap();
        let weight = verify::weigh(&sides, &spans).await.unwrap();
        let mut records = 0;
        for span in &spans {
            let compared = verify::compare(&sides, span).await.unwrap();
            records += match lane.direction {
                Direction::Up => compared.source_records,
                Direction::Down => compared.destination_records,
            };
            found.push(compared);
        }
        // What waits to go behind what comes in is not read at the far side; of each key all are read, and one counts.
        let waits = found
            .iter()
            .any(|found| found.waiting > 0 || found.newest_of_each_key);
        assert!(
            weight.records == records || (waits && weight.records > records),
            "what it costs is known before: {} and {records}",
            weight.records
        );
    }
    found
}

async fn put(broker: &Broker, topic: &str, partition: i32, number: usize) {
    let record = Outgoing {
        partition: Some(partition),
        ..record(topic, number)
    };
    broker.producer().unwrap().send(record).await.unwrap();
}

/// Both ways are the same; then something is changed behind the link's back, and found.
async fn differences_are_found(rig: &Rig) {
    let at_core = rig.readings_at_core();
    let running = rig.start();
    for part in 0..3 {
        rig.send(part * 60, 60).await;
        rig.all_is_carried().await;
    }
    for topic in [&rig.news, &rig.readings] {
        let found = compare(rig, topic, None, None).await;
        assert_eq!(found.len(), 3);
        assert_eq!(found.iter().map(|found| found.source_records).sum::<u64>(), 180);
        for found in found {
            assert_eq!((found.verdict, found.waiting), (Verdict::Same, 0), "{found:?}");
            assert_eq!(found.source_digest, found.destination_digest);
        }
        let part = compare(rig, topic, Some(Point::Offset(5)), Some(Point::Offset(15))).await;
        assert!(
            part.iter()
                .all(|found| found.verdict == Verdict::Same && found.source_records == 10),
            "{part:?}"
        );
    }
    running.stop().await;
    // Not carried yet is not different.
    put(&rig.edge, &rig.readings, 0, 1000).await;
    let found = compare(rig, &rig.readings, None, None).await;
    assert_eq!((found[0].verdict, found[0].waiting), (Verdict::Same, 1));
    // Somebody else wrote at the destination, and the link goes on behind it.
    put(&rig.core, &at_core, 0, 2000).await;
    let before = found[0].source_offsets.1;
    let running = rig.start();
    testkit::eventually(crate::rig::LIMIT, || async {
        let found = compare(rig, &rig.readings, None, None).await;
        if found[0].waiting == 0 {
            Ok(())
        } else {
            Err("not carried yet".to_owned())
        }
    })
    .await;
    running.stop().await;
    let found = compare(rig, &rig.readings, None, None).await;
    let first = found[0].first.clone().unwrap();
    assert_eq!(
        (found[0].verdict, found[0].differences),
        (Verdict::Different, 1),
        "{found:?}"
    );
    assert_eq!(first.source_offset, Some(before));
    assert!(first.what.contains("the source has not"), "{first:?}");
    assert!(found[1..].iter().all(|found| found.verdict == Verdict::Same));
}

#[tokio::test(flavor = "multi_thread")]
async fn differences_are_found_where_they_are() {
    differences_are_found(&Rig::embedded().await).await;
}

/// What came in went to the topic, what waited to another, and the two together are what the source has.
async fn both_ways_are_compared(rig: Rig) {
    let rig = live_first(rig);
    let backlog = format!("{}.backlog", rig.readings_at_core());
    let mut sent = 0;
    for _ in 0..3 {
        rig.send(sent, 300).await;
        if sent > 0 {
            let found = compare(&rig, &rig.readings, None, None).await;
            assert_eq!(found.iter().map(|found| found.waiting).sum::<i64>(), 300);
            assert!(
                found.iter().all(|found| found.verdict == Verdict::Same),
                "{found:?}"
            );
        }
        let running = rig.start();
        all_is_placed(&rig).await;
        rig.send(sent + 300, 90).await;
        all_is_placed(&rig).await;
        running.stop().await;
        sent += 390;
    }
    for topic in [&rig.news, &rig.readings] {
        let found = compare(&rig, topic, None, None).await;
        assert_eq!(
            found.iter().map(|found| found.source_records).sum::<u64>(),
            sent as u64
        );
        for found in found {
            assert_eq!((found.verdict, found.waiting), (Verdict::Same, 0), "{found:?}");
            assert_eq!(found.source_digest, found.destination_digest);
            assert!(found.note.unwrap().contains(".backlog"));
        }
        let part = (Some(Point::Offset(50)), Some(Point::Offset(150)));
        let part = compare(&rig, topic, part.0, part.1).await;
        assert!(
            part.iter()
                .all(|found| found.verdict == Verdict::Same && found.source_records == 100),
            "{part:?}"
        );
    }
    // Somebody else wrote to either, and the link goes on behind it.
    put(&rig.core, &backlog, 0, 5000).await;
    put(&rig.core, &rig.readings_at_core(), 1, 5001).await;
    rig.send(sent, 300).await;
    let running = rig.start();
    let done = async |wanted: &str| {
        testkit::eventually(crate::rig::LIMIT, || async {
            let found = compare(&rig, &rig.readings, None, None).await;
            (found.iter().all(|found| found.waiting == 0))
                .then_some(found)
                .ok_or_else(|| wanted.to_owned())
        })
        .await
    };
    done("the backlog").await;
    rig.send(sent + 300, 30).await;
    let found = done("what comes in").await;
    running.stop().await;
    let differ: Vec<u64> = found.iter().map(|found| found.differences).collect();
    assert_eq!(differ, [1, 1, 0], "{found:?}");
    for found in &found[..2] {
        assert!(found.first.clone().unwrap().what.contains("the source has not"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_and_what_came_in_are_compared_together() {
    both_ways_are_compared(Rig::embedded().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn what_waited_and_what_came_in_are_compared_together_at_a_core_on_kafka() {
    both_ways_are_compared(Rig::small_edge().await).await;
}

/// The same of topics that keep the newest record of each key: each of the source's is the newest of either topic.
async fn newest_of_each_key_is_found_in_either_topic(rig: Rig) {
    rig.core.delete_topic(&rig.news).await.unwrap();
    let spec = TopicSpec::new(&rig.news, 3).compacted();
    testkit::eventually(crate::rig::LIMIT, || async {
        rig.core
            .create_topic(&spec)
            .await
            .map_err(|error| error.to_string())?;
        let found = rig
            .core
            .describe(&rig.news)
            .await
            .map_err(|error| error.to_string())?;
        found.map(drop).ok_or_else(|| "not there yet".to_owned())
    })
    .await;
    let rig = live_first(rig);
    let backlog = format!("{}.backlog", rig.news);
    rig.send(0, 300).await;
    let running = rig.start();
    let carried = async |newest: usize| {
        testkit::eventually(crate::rig::LIMIT, || async {
            let mut last = false;
            for topic in [&rig.news, &backlog] {
                let found = crate::rig::contents(&rig.edge, topic).await;
                let value = format!("value {newest}");
                last |= found
                    .values()
                    .flatten()
                    .any(|record| record.value.as_deref() == Some(value.as_bytes()));
            }
            let found = compare(&rig, &rig.news, None, None).await;
            (last && found.iter().all(|found| found.waiting == 0))
                .then_some(found)
                .ok_or_else(|| format!("{newest} is not there yet"))
        })
        .await
    };
    carried(299).await;
    // Some keys are renewed by what comes in; the newest of the others stay behind.
    rig.send(300, 5).await;
    let found = carried(304).await;
    for found in &found {
        assert_eq!(found.verdict, Verdict::Same, "{found:?}");
        assert!(found.newest_of_each_key && found.note.as_ref().unwrap().contains(".backlog"));
        assert_eq!(found.source_digest, found.destination_digest);
    }
    assert_eq!(found.iter().map(|found| found.source_records).sum::<u64>(), 17);
    // A deletion goes one way, and what was deleted is left on the other.
    let deletion = Outgoing::tombstone(&rig.news, "key-9");
    rig.core.producer().unwrap().send(deletion).await.unwrap();
    rig.send(306, 1).await;
    let found = carried(306).await;
    assert!(
        found.iter().all(|found| found.verdict == Verdict::Same),
        "{found:?}"
    );
    running.stop().await;
    // Somebody else wrote there what is not the source's, and the link goes on behind it.
    let live = crate::rig::contents(&rig.edge, &rig.news).await;
    let mut live = live.values().flatten();
    let renewed = live.find(|record| record.key.as_deref() == Some(b"key-12".as_slice()));
    let partition = renewed.unwrap().partition;
    let there = async |broker: &Broker, key: &str, number: usize| {
        let record = Outgoing {
            key: Some(key.to_owned().into()),
            partition: Some(partition),
            ..record(&rig.news, number)
        };
        broker.producer().unwrap().send(record).await.unwrap();
    };
    there(&rig.edge, "key-12", 5000).await;
    there(&rig.edge, "nobody's", 5001).await;
    let running = rig.start();
    there(&rig.core, "mate", 400).await;
    let found = carried(400).await;
    let found = found.iter().find(|found| found.partition == partition).unwrap();
    assert_eq!(
        (found.verdict, found.differences),
        (Verdict::Different, 1),
        "{found:?}"
    );
    assert!(
        found.first.as_ref().unwrap().what.contains("neither"),
        "{found:?}"
    );
    there(&rig.core, "key-12", 401).await;
    let found = carried(401).await;
    running.stop().await;
    let found = found.iter().find(|found| found.partition == partition).unwrap();
    assert_eq!(found.verdict, Verdict::Unsure, "{found:?}");
    assert!(found.note.as_ref().unwrap().contains("1 keys more"), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn newest_of_each_key_is_found_in_the_topic_or_what_went_behind() {
    newest_of_each_key_is_found_in_either_topic(Rig::embedded().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_URL"]
async fn newest_of_each_key_is_found_in_the_topic_or_what_went_behind_between_two_kafkas() {
    newest_of_each_key_is_found_in_either_topic(Rig::two_kafkas().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_topics_that_keep_the_newest_of_each_key_these_are_compared() {
    let rig = Rig::embedded().await;
    rig.core.delete_topic(&rig.news).await.unwrap();
    rig.core
        .create_topic(&TopicSpec::new(&rig.news, 1).compacted())
        .await
        .unwrap();
    let running = rig.start();
    let mut records: Vec<_> = (0..100).map(|number| record(&rig.news, number)).collect();
    records.push(Outgoing::tombstone(&rig.news, "key-3"));
    rig.core.producer().unwrap().send_all(records).await.unwrap();
    testkit::eventually(crate::rig::LIMIT, || async {
        if rig.edge.describe(&rig.news).await.unwrap().is_none() {
            return Err("no topic yet".to_owned());
        }
        let found = compare_keys(&rig).await;
        if found.waiting == 0 && found.verdict == Verdict::Same && found.source_records == 16 {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    })
    .await;
    running.stop().await;
    put(&rig.edge, &rig.news, 0, 5).await;
    let running = rig.start();
    rig.core
        .producer()
        .unwrap()
        .send(record(&rig.news, 200))
        .await
        .unwrap();
    testkit::eventually(crate::rig::LIMIT, || async {
        let found = compare_keys(&rig).await;
        match found.first {
            Some(first) if first.what.contains("newest") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    running.stop().await;
}

async fn compare_keys(rig: &Rig) -> Compared {
    let (sides, lanes) = (
        rig.sides(None),
        link::expand(&rig.site, &rig.settings.routes()).unwrap(),
    );
    let lane = lanes.iter().find(|lane| lane.source == rig.news).unwrap();
    let histories = sides.histories(lane.direction).await.unwrap();
    let spans = verify::spans(&sides, lane, &histories, None, None).await.unwrap();
    verify::compare(&sides, &spans[0]).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_among_the_dead_letters_are_no_difference() {
    let rig = Rig::embedded().await;
    let mut spec = TopicSpec::new(&rig.news, 3);
    spec.max_message_bytes = 2000;
    rig.edge.create_topic(&spec).await.unwrap();
    let mut records: Vec<_> = (0..40).map(|number| record(&rig.news, number)).collect();
    records[21].value = Some(vec![b'x'; 5000].into());
    rig.core.producer().unwrap().send_all(records).await.unwrap();
    let running = rig.start();
    let all = async || {
        let sides = rig.sides(None);
        let histories = sides.histories(Direction::Down).await.unwrap();
        let lanes = link::expand(&rig.site, &rig.settings.routes()).unwrap();
        let lane = lanes.iter().find(|lane| lane.source == rig.news).unwrap();
        let mut found = Vec::new();
        for span in verify::spans(&sides, lane, &histories, None, None).await.unwrap() {
            found.push(verify::compare(&sides, &span).await.unwrap());
        }
        found
    };
    let found = testkit::eventually(crate::rig::LIMIT, || async {
        let found = all().await;
        if found.iter().map(|found| found.waiting).sum::<i64>() == 0 && !found.is_empty() {
            Ok(found)
        } else {
            Err("not carried yet".to_owned())
        }
    })
    .await;
    running.stop().await;
    assert!(
        found.iter().all(|found| found.verdict == Verdict::Same),
        "{found:?}"
    );
    assert_eq!(found.iter().map(|found| found.put_aside).sum::<u64>(), 1);
    assert_eq!(found.iter().map(|found| found.source_records).sum::<u64>(), 39);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_URL"]
async fn differences_between_two_kafkas_are_found() {
    differences_are_found(&Rig::new(&url("KAFKA_URL"), &url("KAFKA_EDGE_URL"), None).await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn differences_between_an_embedded_edge_and_kafka_are_found() {
    let dir = testkit::temp_dir();
    let edge = testkit::sqlite(dir.path(), "edge.db");
    differences_are_found(&Rig::new(&url("KAFKA_URL"), &edge, Some(dir)).await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn on_a_metered_link_the_cores_records_are_read_when_somebody_was_asked() {
    let mut rig = Rig::small_edge().await;
    let running = rig.start();
    rig.send(0, 60).await;
    rig.all_is_carried().await;
    running.stop().await;
    rig.settings.budget.metered = true;
    let far = Far::open(&rig.settings, false).await.unwrap().unwrap();
    assert!(far.held().is_some());
    let unasked = rig.sides(Some(far.clone())).histories(Direction::Up).await;
    assert!(unasked.is_err());
    assert_eq!(far.crossed(), 0);
    let asked = Far::open(&rig.settings, true).await.unwrap().unwrap();
    assert_eq!(asked.held(), None);
    let found = compare_by(&rig, Some(asked), &rig.readings, None, None).await;
    assert!(
        found.iter().all(|found| found.verdict == Verdict::Same),
        "{found:?}"
    );
}
