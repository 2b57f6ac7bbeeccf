//! Consumer groups that move to the other side go on where they were.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use common::broker::{
    self, Broker, ConsumerSettings, Failure, Handler, Outgoing, Record, Subscription, TopicSpec,
};
use common::chassis::Stop;
use common::schemas::{self, topic};
use link::moves::{self, Side, Sides, Survey};
use link::{Direction, Far, Lane};
use testkit::eventually;

use crate::kafka::{line, url};
use crate::live_first::{all_is_placed, live_first};
use crate::rig::{LIMIT, Rig, contents, record};

/// Remembers what a group has read.
#[derive(Default)]
struct Reads(Mutex<Vec<(i32, String)>>);

impl Handler for Reads {
    async fn handle(&self, record: Record) -> Result<(), Failure> {
        let value = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned();
        self.0.lock().unwrap().push((record.partition, value));
        Ok(())
    }
}

impl Reads {
    fn all(&self) -> Vec<(i32, String)> {
        self.0.lock().unwrap().clone()
    }
}

/// Lets a group read everything of a topic, and leave.
async fn read(broker: &Broker, topic: &str, group: &str, count: usize) -> Vec<(i32, String)> {
    let reads = Arc::new(Reads::default());
    let consumer = broker
        .consumer(Subscription::topics([topic]), ConsumerSettings::group(group))
        .unwrap();
    let stop = Stop::new();
    let running = tokio::spawn(consumer.run(reads.clone(), stop.clone()));
    eventually(LIMIT, || async {
        match reads.all().len() {
            found if found >= count => Ok(()),
            found => Err(format!("{found} of {count}")),
        }
    })
    .await;
    stop.cancel();
    running.await.unwrap().unwrap();
    reads.all()
}

/// What is found, by way of the budget where there is one; it is the same without.
async fn look(rig: &Rig, lanes: &[Lane], from: Side, group: Option<&str>) -> Survey {
    let found = moves::survey(&rig.sides(None), lanes, from, group).await.unwrap();
    if let Some(far) = Far::open(&rig.settings, false).await.unwrap() {
        let sides = rig.sides(Some(far.clone()));
        let counted = moves::survey(&sides, lanes, from, group).await.unwrap();
        let of_group = |survey: &Survey| {
            let moves = survey.moves.iter();
            let moves = moves.filter(|found| group.is_some_and(|group| found.group == group));
            moves.cloned().collect::<Vec<_>>()
        };
        assert_eq!(of_group(&counted), of_group(&found));
        assert!(far.crossed() > 0, "it crosses there");
        return counted;
    }
    found
}

/// Commits by way of the budget, where there is one.
async fn commit(rig: &Rig, from: Side, survey: &Survey) -> link::Result<usize> {
    let far = Far::open(&rig.settings, false).await.unwrap();
    moves::apply(&rig.sides(far), from, survey).await
}

/// A group reads half on one side and the rest on the other, both ways: each record once.
async fn groups_move(rig: &Rig) {
    let lanes = link::expand(&rig.site, &rig.settings.routes()).unwrap();
    let (group, at_core) = (testkit::unique("group"), rig.readings_at_core());
    // Several transactions, and so several ranges in the map.
    let running = rig.start();
    for part in 0..4 {
        rig.send(part * 30, 30).await;
        rig.all_is_carried().await;
    }
    let mut seen = BTreeSet::new();
    let mut new = |records: Vec<(i32, String)>| {
        let count = records.len();
        assert_eq!(
            records
                .into_iter()
                .filter(|record| seen.insert(record.clone()))
                .count(),
            count
        );
        seen.len()
    };
    // Up: the source's group goes on at the destination.
    new(read(&rig.edge, &rig.readings, &group, 120).await);
    let survey = look(rig, &lanes, Side::Edge, Some(&group)).await;
    assert_eq!(survey.moves.len(), 3);
    assert!(survey.moves.iter().all(|found| found.exact), "{survey:?}");
    assert_eq!(commit(rig, Side::Edge, &survey).await.unwrap(), 3);
    rig.send(120, 60).await;
    rig.all_is_carried().await;
    new(read(&rig.core, &at_core, &group, 60).await);
    // And back again.
    let back = look(rig, &lanes, Side::Core, Some(&group)).await;
    assert!(back.moves.iter().all(|found| found.exact), "{back:?}");
    commit(rig, Side::Core, &back).await.unwrap();
    rig.send(180, 20).await;
    assert_eq!(new(read(&rig.edge, &rig.readings, &group, 20).await), 200);
    running.stop().await;
    // What is not carried yet is told, and nothing of it is skipped.
    rig.send(200, 10).await;
    new(read(&rig.edge, &rig.readings, &group, 10).await);
    let ahead = look(rig, &lanes, Side::Edge, None).await;
    let of_group = || ahead.moves.iter().filter(|found| found.group == group);
    assert!(of_group().any(|found| !found.exact && found.note.as_ref().unwrap().contains("seen again")));
    let marks = rig.core.watermarks(&at_core, 0).await.unwrap();
    assert!(of_group().all(|found| found.partition != 0 || found.position.unwrap() <= marks.high));
}

/// A group reads what came in and what waited, on one side and the other, both ways: each record once.
async fn groups_move_beside_a_backlog(rig: Rig) {
    let rig = live_first(rig);
    let lanes = link::expand(&rig.site, &rig.settings.routes()).unwrap();
    let (group, at_core) = (testkit::unique("group"), rig.readings_at_core());
    let behind = format!("{at_core}.backlog");
    let move_from = async |side, wanted: usize| {
        let survey = look(&rig, &lanes, side, Some(&group)).await;
        assert_eq!(survey.moves.len(), wanted, "{survey:?}");
        assert!(survey.moves.iter().all(|found| found.exact), "{survey:?}");
        assert_eq!(commit(&rig, side, &survey).await.unwrap(), wanted);
    };
    rig.send(0, 300).await;
    let running = rig.start();
    all_is_placed(&rig).await;
    rig.send(300, 60).await;
    assert_eq!(all_is_placed(&rig).await, (120, 600));
    let mut seen: BTreeSet<_> = read(&rig.edge, &rig.readings, &group, 360)
        .await
        .into_iter()
        .collect();
    assert_eq!(seen.len(), 360);
    move_from(Side::Edge, 6).await;
    running.stop().await;
    rig.send(360, 90).await;
    let running = rig.start();
    all_is_placed(&rig).await;
    rig.send(450, 30).await;
    all_is_placed(&rig).await;
    for (topic, count) in [(&behind, 90), (&at_core, 30)] {
        for record in read(&rig.core, topic, &group, count).await {
            assert!(seen.insert(record.clone()), "{record:?} came twice");
        }
    }
    move_from(Side::Core, 3).await;
    rig.send(480, 20).await;
    for record in read(&rig.edge, &rig.readings, &group, 20).await {
        assert!(seen.insert(record.clone()), "{record:?} came twice");
    }
    assert_eq!(seen.len(), 500);
    // Who has not read what waited goes back to that.
    let other = testkit::unique("other");
    all_is_placed(&rig).await;
    read(&rig.core, &at_core, &other, 110).await;
    let survey = look(&rig, &lanes, Side::Core, Some(&other)).await;
    assert!(
        survey
            .moves
            .iter()
            .all(|found| found.position == Some(0) && !found.exact),
        "{survey:?}"
    );
    // And who has read only that goes on with the first that came in.
    let third = testkit::unique("third");
    let waited = contents(&rig.core, &behind).await.values().map(Vec::len).sum();
    read(&rig.core, &behind, &third, waited).await;
    let survey = look(&rig, &lanes, Side::Core, Some(&third)).await;
    assert_eq!(survey.moves.len(), 3, "{survey:?}");
    assert!(
        survey.moves.iter().all(|found| found.position > Some(0)),
        "{survey:?}"
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_that_move_beside_a_backlog_see_each_record_once() {
    groups_move_beside_a_backlog(Rig::embedded().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn groups_that_move_beside_a_backlog_from_an_embedded_edge_to_kafka_see_each_record_once() {
    groups_move_beside_a_backlog(Rig::small_edge().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_that_move_see_each_record_once() {
    groups_move(&Rig::embedded().await).await;
}

async fn members_are_left_alone(rig: Rig) {
    let running = rig.start();
    rig.send(0, 20).await;
    rig.all_is_carried().await;
    let group = testkit::unique("group");
    read(&rig.edge, &rig.readings, &group, 20).await;
    let consumer = rig
        .core
        .consumer(
            Subscription::topics([rig.readings_at_core()]),
            ConsumerSettings::group(&group),
        )
        .unwrap();
    let stop = Stop::new();
    let member = tokio::spawn(consumer.run(Arc::new(Reads::default()), stop.clone()));
    let lanes = link::expand(&rig.site, &rig.settings.routes()).unwrap();
    let survey = eventually(LIMIT, || async {
        let survey = look(&rig, &lanes, Side::Edge, Some(&group)).await;
        if survey.in_use.contains_key(&group) {
            Ok(survey)
        } else {
            Err("nobody is in the group yet")
        }
    })
    .await;
    let refused = commit(&rig, Side::Edge, &survey).await;
    assert!(
        matches!(&refused, Err(link::Error::Broker(broker::Error::GroupInUse { members, .. })) if members.len() == 1),
        "{refused:?}"
    );
    stop.cancel();
    member.await.unwrap().unwrap();
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_with_members_are_left_alone_and_the_members_named() {
    members_are_left_alone(Rig::embedded().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn groups_with_members_at_a_core_on_kafka_are_left_alone_and_the_members_named() {
    members_are_left_alone(Rig::small_edge().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_URL"]
async fn groups_with_members_between_two_kafkas_are_left_alone_and_the_members_named() {
    members_are_left_alone(Rig::two_kafkas().await).await;
}

/// A group that was away for longer than the newest checkpoint's exact ranges reach, when compaction has left nothing else.
async fn group_was_away_for_long(rig: Rig) {
    let lanes = link::expand(&rig.site, &rig.settings.routes()).unwrap();
    let (group, at_core) = (testkit::unique("group"), rig.readings_at_core());
    let running = rig.start();
    // Each is a transaction, and so a range.
    for part in 0..100 {
        rig.send(part * 9, 9).await;
        rig.readings_are_carried().await;
    }
    running.stop().await;
    let topic = schemas::at_core(&rig.site, topic::CHECKPOINTS);
    let found = contents(&rig.core, &topic).await.into_values().flatten();
    let newest: BTreeMap<_, _> = found.map(|record| (record.key, record.value)).collect();
    rig.core.delete_topic(&topic).await.unwrap();
    rig.core
        .create_topic(&TopicSpec::new(&topic, 1).compacted())
        .await
        .unwrap();
    let newest = newest.into_iter().map(|(key, value)| Outgoing {
        key,
        value,
        ..record(&topic, 0)
    });
    rig.core
        .producer()
        .unwrap()
        .send_all(newest.collect())
        .await
        .unwrap();

    let (source, carried) = (
        contents(&rig.edge, &rig.readings).await,
        contents(&rig.core, &at_core).await,
    );
    let committed: Vec<_> = source
        .iter()
        .map(|(partition, records)| (*partition, records[records.len() / 6].offset))
        .collect();
    rig.edge
        .commit_for(&group, &rig.readings, &committed)
        .await
        .unwrap();
    let survey = look(&rig, &lanes, Side::Edge, Some(&group)).await;
    assert_eq!(survey.moves.len(), committed.len());
    for (found, (partition, committed)) in survey.moves.iter().zip(committed) {
        let records = &source[&partition];
        let unseen = records.iter().filter(|record| record.offset >= committed).count();
        let comes = carried[&partition]
            .iter()
            .filter(|record| Some(record.offset) >= found.position)
            .count();
        let again = comes - unseen;
        println!(
            "{partition}: {unseen} of {} unseen, {again} come again: {found:?}",
            records.len()
        );
        assert!(
            found.position > Some(0) && comes >= unseen && again <= unseen,
            "{found:?}"
        );
        assert!(again < records.len() / 6, "it is not the beginning");
        assert!(found.exact || found.note.as_ref().unwrap().contains("seen again"));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn group_that_was_away_for_long_goes_on_not_much_earlier() {
    group_was_away_for_long(Rig::small_edge().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_URL"]
async fn between_two_kafkas_a_group_that_was_away_for_long_goes_on_not_much_earlier() {
    group_was_away_for_long(Rig::two_kafkas().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_LINE and KAFKA_FAR"]
async fn what_moving_a_group_takes_of_the_core_is_asked_for_and_counted() {
    let (_guard, line) = line().await;
    let mut rig = Rig::small_edge().await;
    let lanes = link::expand(&rig.site, &rig.settings.routes()).unwrap();
    let (group, at_core) = (testkit::unique("group"), rig.readings_at_core());
    let running = rig.start();
    rig.send(0, 60).await;
    rig.all_is_carried().await;
    running.stop().await;
    read(&rig.edge, &rig.readings, &group, 60).await;
    rig.settings.core.url = format!("kafka://{}", line.address());
    rig.settings.budget.metered = true;
    let by = async |asked| {
        let far = Far::open(&rig.settings, asked).await.unwrap().unwrap();
        let registry = prometheus::Registry::new();
        let core = Broker::open_at_need(&rig.settings.core, "test", &registry);
        let core = core.await.unwrap();
        let sides = Sides {
            core,
            ..rig.sides(Some(far.clone()))
        };
        (far, sides)
    };
    let (far, sides) = by(false).await;
    assert!(far.held().is_some());
    let unasked = moves::survey(&sides, &lanes, Side::Edge, Some(&group)).await;
    assert!(unasked.is_err(), "{unasked:?}");
    assert_eq!(line.carried().bytes(), 0);
    let (far, sides) = by(true).await;
    let weight = sides.weight_of_histories(Direction::Up).await.unwrap();
    let before = far.crossed();
    sides.histories(Direction::Up).await.unwrap();
    let crossed = far.crossed() - before;
    assert!(
        weight > 0 && crossed < weight + 2_000,
        "{crossed} of at most {weight} bytes"
    );
    let survey = moves::survey(&sides, &lanes, Side::Edge, Some(&group))
        .await
        .unwrap();
    assert_eq!(moves::apply(&sides, Side::Edge, &survey).await.unwrap(), 3);
    assert_eq!(far.crossed(), line.carried().bytes());
    let ends = rig.core.committed(&group, &at_core).await.unwrap();
    assert_eq!(ends.len(), 3);
    let found = contents(&rig.core, &at_core).await;
    for (partition, next) in ends {
        assert_eq!(found[&partition].last().unwrap().offset + 1, next);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_URL"]
async fn groups_that_move_between_two_kafkas_see_each_record_once() {
    groups_move(&Rig::new(&url("KAFKA_URL"), &url("KAFKA_EDGE_URL"), None).await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn groups_that_move_between_an_embedded_edge_and_kafka_see_each_record_once() {
    let dir = testkit::temp_dir();
    let edge = testkit::sqlite(dir.path(), "edge.db");
    groups_move(&Rig::new(&url("KAFKA_URL"), &edge, Some(dir)).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn position_in_a_destination_that_was_made_again_is_not_exact_until_it_is_carried_anew() {
    let rig = Rig::embedded().await;
    let lanes = link::expand(&rig.site, &rig.settings.routes()).unwrap();
    let (group, at_core) = (testkit::unique("group"), rig.readings_at_core());
    let running = rig.start();
    rig.send(0, 90).await;
    rig.all_is_carried().await;
    running.stop().await;
    read(&rig.edge, &rig.readings, &group, 90).await;
    let survey = async || look(&rig, &lanes, Side::Edge, Some(&group)).await;
    assert!(survey().await.moves.iter().all(|found| found.exact));
    rig.core.delete_topic(&at_core).await.unwrap();
    rig.core.create_topic(&TopicSpec::new(&at_core, 3)).await.unwrap();
    for found in survey().await.moves {
        assert!(!found.exact && found.position == Some(0), "{found:?}");
        assert!(found.note.as_ref().unwrap().contains("made again"), "{found:?}");
    }
    // What is carried from now on is known where it is now.
    let running = rig.start();
    rig.send(90, 90).await;
    eventually(LIMIT, || async {
        let found: usize = contents(&rig.core, &at_core).await.values().map(Vec::len).sum();
        (found == 90)
            .then_some(())
            .ok_or_else(|| format!("{found} of 90"))
    })
    .await;
    running.stop().await;
    for found in survey().await.moves {
        assert!(found.exact && found.position == Some(0), "{found:?}");
    }
}
