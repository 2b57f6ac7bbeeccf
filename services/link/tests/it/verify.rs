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

/// A broker may take its time to let go of the topic that was there.
async fn make_anew(broker: &Broker, spec: &TopicSpec) {
    broker.delete_topic(&spec.name).await.unwrap();
    testkit::eventually(crate::rig::LIMIT, || async {
        let text = |error: common::broker::Error| error.to_string();
        broker.create_topic(spec).await.map_err(text)?;
        let found = broker.describe(&spec.name).await.map_err(text)?;
        found.map(drop).ok_or_else(|| "not there yet".to_owned())
    })
    .await;
}

/// The same of topics that keep the newest record of each key: each of the source's is the newest of either topic.
async fn newest_of_each_key_is_found_in_either_topic(rig: Rig) {
    make_anew(&rig.core, &TopicSpec::new(&rig.news, 3).compacted()).await;
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
    compared(rig, &rig.news).await.remove(0)
}

/// What is found of a topic once nothing of it waits.
async fn carried(rig: &Rig, topic: &str) -> Vec<Compared> {
    testkit::eventually(crate::rig::LIMIT, || async {
        let found = compared(rig, topic).await;
        (!found.is_empty() && found.iter().all(|found| found.waiting == 0))
            .then_some(found)
            .ok_or_else(|| "not carried yet".to_owned())
    })
    .await
}

async fn compared(rig: &Rig, topic: &str) -> Vec<Compared> {
    let (sides, mut found) = (rig.sides(None), Vec::new());
    for lane in link::expand(&rig.site, &rig.settings.routes()).unwrap() {
        if lane.source == topic {
            let histories = sides.histories(lane.direction).await.unwrap();
            for span in verify::spans(&sides, &lane, &histories, None, None)
                .await
                .unwrap()
            {
                found.push(verify::compare(&sides, &span).await.unwrap());
            }
        }
    }
    found
}

/// One record of the news is too large for the edge. It is put aside as long as the dead letters list it; when they do not, it
/// is missing, and when older ones are gone, who knows.
async fn put_aside_is_what_the_dead_letters_list(rig: Rig, tidied: bool) {
    let topic = |name: &str, most: Option<u32>| {
        let mut spec = TopicSpec::new(name, 3);
        spec.max_message_bytes = most.unwrap_or(spec.max_message_bytes);
        if tidied { spec.compacted() } else { spec }
    };
    if tidied {
        make_anew(&rig.core, &topic(&rig.news, None)).await;
    }
    for name in [rig.news.clone(), format!("{}.backlog", rig.news)] {
        rig.edge.create_topic(&topic(&name, Some(2000))).await.unwrap();
    }
    let send = async |numbers: std::ops::Range<usize>, large: Option<usize>| {
        let mut records: Vec<_> = numbers.map(|number| record(&rig.news, number)).collect();
        if let Some(large) = large {
            records[large].key = Some("large".into());
            // Nothing that compression makes small.
            records[large].value = Some((0..5000).map(|_| rand::random::<u8>()).collect());
        }
        rig.core.producer().unwrap().send_all(records).await.unwrap();
    };
    let running = rig.start();
    rig.runs("one").await;
    // Before it and behind it others come in, and with live_first those around it go another way.
    send(0..60, None).await;
    carried(&rig, &rig.news).await;
    running.stop().await;
    send(60..120, Some(30)).await;
    let running = rig.start();
    carried(&rig, &rig.news).await;
    send(120..180, None).await;
    let found = carried(&rig, &rig.news).await;
    running.stop().await;
    let aside = found.iter().find(|found| found.put_aside > 0).unwrap().partition;
    assert_eq!(found.iter().map(|found| found.put_aside).sum::<u64>(), 1);
    assert!(
        found.iter().all(|found| found.verdict == Verdict::Same),
        "{found:?}"
    );

    let letters = format!("{}.dead-letter", rig.news);
    rig.core.delete_topic(&letters).await.unwrap();
    testkit::eventually(crate::rig::LIMIT, || async {
        let found = rig.core.describe(&letters).await.unwrap();
        found.is_none().then_some(()).ok_or("still there")
    })
    .await;
    let contents = crate::rig::contents(&rig.core, &rig.news).await;
    let mut large = contents[&aside].iter();
    let large = large.find(|record| record.key.as_deref() == Some(b"large".as_slice()));
    let found = compared(&rig, &rig.news).await;
    for found in &found {
        let wanted = match found.partition == aside {
            true => (Verdict::Different, 1, Some(large.unwrap().offset)),
            false => (Verdict::Same, 0, None),
        };
        let first = found.first.as_ref().and_then(|first| first.source_offset);
        assert_eq!((found.verdict, found.differences, first), wanted, "{found:?}");
    }

    if !rig.settings.core.url.starts_with("sqlite:") {
        // There retention takes its time.
        return;
    }
    let mut spec = TopicSpec::new(&letters, 1);
    spec.retention_bytes = Some(crate::rig::KEPT);
    rig.core.create_topic(&spec).await.unwrap();
    for number in 0..2 {
        let letter = crate::rig::too_much(&letters, number);
        rig.core.producer().unwrap().send(letter).await.unwrap();
    }
    testkit::eventually(crate::rig::LIMIT, || async {
        let low = rig.core.watermarks(&letters, 0).await.unwrap().low;
        (low > 0).then_some(()).ok_or_else(|| "all are kept".to_owned())
    })
    .await;
    let found = compared(&rig, &rig.news).await;
    for found in &found {
        let verdict = match found.partition == aside {
            true => Verdict::Unsure,
            false => Verdict::Same,
        };
        assert_eq!((found.verdict, found.put_aside), (verdict, 0), "{found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_dead_letters_list_is_put_aside() {
    put_aside_is_what_the_dead_letters_list(Rig::embedded().await, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_dead_letters_list_is_put_aside_where_what_waited_went_behind() {
    put_aside_is_what_the_dead_letters_list(live_first(Rig::embedded().await), false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_newest_of_each_key_only_what_the_dead_letters_list_is_put_aside() {
    put_aside_is_what_the_dead_letters_list(Rig::embedded().await, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_newest_of_each_key_in_two_topics_only_what_the_dead_letters_list_is_put_aside() {
    put_aside_is_what_the_dead_letters_list(live_first(Rig::embedded().await), true).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_URL"]
async fn only_what_the_dead_letters_list_is_put_aside_between_two_kafkas() {
    put_aside_is_what_the_dead_letters_list(Rig::two_kafkas().await, false).await;
    put_aside_is_what_the_dead_letters_list(live_first(Rig::two_kafkas().await), false).await;
    put_aside_is_what_the_dead_letters_list(Rig::two_kafkas().await, true).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn only_what_the_dead_letters_list_is_put_aside_between_an_embedded_edge_and_kafka() {
    put_aside_is_what_the_dead_letters_list(Rig::small_edge().await, false).await;
    put_aside_is_what_the_dead_letters_list(live_first(Rig::small_edge().await), true).await;
}

/// Where a bundle is taken in, for it cannot reach where it comes from.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_bundle_put_aside_is_among_the_dead_letters_of_the_other_site() {
    let rig = Rig::embedded().await;
    let at_core = rig.readings_at_core();
    rig.core.delete_topic(&at_core).await.unwrap();
    let mut spec = TopicSpec::new(&at_core, 3);
    spec.max_message_bytes = 2000;
    rig.core.create_topic(&spec).await.unwrap();
    let mut records: Vec<_> = (0..40).map(|number| record(&rig.readings, number)).collect();
    records[21].value = Some(vec![b'x'; 5000].into());
    rig.edge.producer().unwrap().send_all(records).await.unwrap();
    let running = rig.start();
    carried(&rig, &rig.readings).await;
    running.stop().await;
    let letters = format!("{}.dead-letter", rig.readings);
    let letter = crate::rig::contents(&rig.edge, &letters).await;
    let mut letter = letter.into_values().flatten().next().unwrap();
    rig.edge.delete_topic(&letters).await.unwrap();
    let verdicts = async || -> Vec<Verdict> {
        let found = compared(&rig, &rig.readings).await;
        found.into_iter().map(|found| found.verdict).collect()
    };
    assert!(verdicts().await.contains(&Verdict::Different));
    letter.headers.retain(|(name, _)| name != "origin-topic");
    let origin = ("origin-topic".into(), at_core.clone().into());
    letter.headers.push(origin);
    let letters = format!("{at_core}.dead-letter");
    rig.core.create_topic(&TopicSpec::new(&letters, 1)).await.unwrap();
    let letter = Outgoing {
        value: letter.value,
        headers: letter.headers,
        ..Outgoing::new(&letters, "", Vec::new())
    };
    rig.core.producer().unwrap().send(letter).await.unwrap();
    assert_eq!(verdicts().await, [Verdict::Same; 3]);
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
