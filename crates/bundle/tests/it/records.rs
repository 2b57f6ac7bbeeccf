//! Records: each once and in order, whatever brought the others.

use bundle::{Error, Since, Wish, export, import};
use common::broker::TopicSpec;
use common::schemas::{Checkpoint, OffsetSpan, SiteId};
use common::table::{self, Write};

use crate::rig::{Rig, contents, one, record, site};

#[tokio::test(flavor = "multi_thread")]
async fn records_go_both_ways_on_one_stick_each_once_and_in_order() {
    let rig = Rig::new().await;
    for round in 0..4 {
        rig.send(100 + round).await;
        let down = rig.export_down().await;
        assert!(down.whole);
        assert_eq!(rig.import_down().await.problems, Vec::<String>::new());
        let up = rig.export_up().await;
        assert!(up.whole);
        assert_eq!(rig.import_up().await.problems, Vec::<String>::new());
        rig.all_is_carried().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn importing_twice_has_no_effect() {
    twice(&Rig::new().await).await;
}

pub(crate) async fn twice(rig: &Rig) {
    rig.send(500).await;
    rig.export_down().await;
    let first = rig.import_down().await;
    assert_eq!((first.records, first.known), (500, 0));
    // Beside them is the mark of who imported.
    let checkpoints = format!("{}.checkpoints", rig.edge.site);
    let found = async || {
        link::checkpoint::load(&rig.edge.broker, &checkpoints)
            .await
            .unwrap()
    };
    let before = found().await;
    let second = rig.import_down().await;
    assert_eq!((second.records, second.known), (0, 500));
    let after = found().await;
    assert_eq!(before, after);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receipt_lets_the_next_export_begin_where_the_last_import_ended() {
    let rig = Rig::new().await;
    rig.send(300).await;
    assert_eq!(rig.export_down().await.records, 300);
    // Nothing was imported: what is there stays, and what is new is added.
    rig.send(50).await;
    let again = rig.export_down().await;
    assert_eq!((again.records, again.kept), (350, 300));
    rig.import_down().await;
    rig.send(20).await;
    let next = rig.export_down().await;
    assert_eq!((next.records, next.kept), (20, 0));
    assert_eq!(rig.import_down().await.records, 20);
}

async fn link_carried(rig: &Rig, upto: usize) {
    link_carried_at(rig, upto, 0, &[]).await;
}

/// As an edge whose clock says `carried_at` does it; with spans that it has put aside.
async fn link_carried_at(rig: &Rig, upto: usize, carried_at: i64, backlog: &[OffsetSpan]) {
    // As the link does it: records and checkpoints in one transaction.
    let id = link::transactional_id(
        &rig.edge.site,
        link::Direction::Down,
        Some(common::budget::Class::Sensors),
    );
    let mut transactions = rig.edge.broker.transactions(&id).await.unwrap();
    rig.edge
        .broker
        .create_topic(&TopicSpec::new(&rig.news, 3))
        .await
        .unwrap();
    let epoch = rig.core.broker.describe(&rig.news).await.unwrap().unwrap().id;
    for (partition, records) in contents(&rig.core.broker, &rig.news).await {
        let some = &records[..upto.min(records.len())];
        let outgoing = some.iter().map(|record| common::broker::Outgoing {
            topic: rig.news.clone(),
            partition: Some(partition),
            timestamp: Some(record.timestamp),
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
        });
        let checkpoint = Checkpoint {
            route: "news".into(),
            source_topic: rig.news.clone(),
            destination_topic: rig.news.clone(),
            partition,
            next_offset: some.last().unwrap().offset + 1,
            source_epoch: epoch.clone(),
            carried_at,
            backlog: backlog.to_vec(),
            ..Checkpoint::default()
        };
        let topic = format!("{}.checkpoints", rig.edge.site);
        let seal = |placed: &[common::broker::Placement]| {
            let mut checkpoint = checkpoint;
            for (record, place) in some.iter().zip(placed) {
                link::offsets::push(&mut checkpoint, record.offset, place.offset);
            }
            vec![link::checkpoint::record(&topic, &checkpoint)]
        };
        transactions.commit(outgoing.collect(), seal).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_link_carried_before_is_passed_over() {
    let rig = Rig::new().await;
    rig.send(400).await;
    link_carried(&rig, 70).await;
    rig.export_down().await;
    let imported = rig.import_down().await;
    assert_eq!((imported.records, imported.known), (400 - 3 * 70, 3 * 70));
    rig.export_up().await;
    rig.import_up().await;
    rig.all_is_carried().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_the_link_that_was_under_way_is_fenced() {
    the_link_is_kept_out(&Rig::new().await).await;
}

/// A session of the link that has its transactional id is fenced by an import; one that was held up before it had it finds
/// another mark than its own, whatever id it takes over.
pub(crate) async fn the_link_is_kept_out(rig: &Rig) {
    rig.send(10).await;
    let (broker, checkpoints) = (&rig.core.broker, format!("{}.checkpoints", rig.edge.site));
    let own = link::holder::anew();
    let mark = link::holder::mark(&checkpoints, &own).unwrap();
    let id = link::transactional_id(&rig.edge.site, link::Direction::Up, None);
    let mut marking = broker.transactions(&id).await.unwrap();
    marking.commit(Vec::new(), |_| vec![mark]).await.unwrap();
    // Waits until the mark can be read.
    broker.transactions(&id).await.unwrap();
    let held = async || link::checkpoint::load_held(broker, &checkpoints, &own).await;
    assert!(held().await.unwrap().is_empty());
    let mut ids = vec![None];
    ids.extend(common::budget::Class::ALL.map(Some));
    let mut sessions = Vec::new();
    for class in ids {
        let id = link::transactional_id(&rig.edge.site, link::Direction::Up, class);
        sessions.push(rig.core.broker.transactions(&id).await.unwrap());
    }
    rig.export_up().await;
    rig.import_up().await;
    for mut session in sessions {
        let late = session
            .commit(vec![record(&rig.readings_at_core(), 1)], |_| Vec::new())
            .await;
        assert!(
            matches!(late, Err(common::broker::Error::Fenced { .. })),
            "{late:?}"
        );
    }
    let late = held().await;
    assert!(matches!(late, Err(link::Error::Superseded)), "{late:?}");
    // Nor is it let in by an import that has nothing to take in.
    rig.import_up().await;
    assert!(held().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_says_that_the_link_is_at_work() {
    let rig = Rig::new().await;
    rig.send(10).await;
    rig.export_down().await;
    let topic = format!("{}.checkpoints", rig.edge.site);
    let lease = rig
        .edge
        .broker
        .lease(&topic, &format!("{}.link", rig.edge.site))
        .await
        .unwrap();
    lease.acquired().await;
    let imported = import(&rig.edge, &mut rig.stick(), Wish::default(), &|_| {}).await;
    assert!(matches!(imported, Err(Error::LinkAtWork)), "{imported:?}");
    lease.release().await;
    assert_eq!(rig.import_down().await.records, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_is_refused_and_named_and_a_loss_that_is_accepted_is_written_down() {
    let rig = Rig::new().await;
    rig.send(300).await;
    rig.export_down().await;
    rig.import_down().await;
    rig.send(60).await;
    // This one is taken out of the first stick's receipt, and lost with a second stick.
    rig.export_down().await;
    rig.import_down().await;
    let receipt = rig.directory.path().join("receipt");
    std::fs::copy(rig.down().join("receipt.jsonl"), &receipt).unwrap();

    // An edge that lost its broker, and a core that goes on from the receipt.
    let fresh = rig.edge_again("fresh").await;
    rig.send(30).await;
    let since = Since::File(receipt);
    export(&rig.core, &rig.edge.site, &mut rig.stick(), &since, &|_| {})
        .await
        .unwrap();
    let refused = one(import(&fresh, &mut rig.stick(), Wish::default(), &|_| {}).await);
    assert_eq!(refused.records, 0);
    assert_eq!(refused.problems.len(), 3, "{:?}", refused.problems);
    let problem = &refused.problems[0];
    assert!(
        problem.contains("begins at offset") && problem.contains("0 to "),
        "{problem}"
    );

    let wish = Wish { accept_loss: true };
    let accepted = one(import(&fresh, &mut rig.stick(), wish, &|_| {}).await);
    assert_eq!((accepted.records, accepted.lost), (30, 360));
    let key = format!("news/{}/0", rig.news);
    let checkpoint = rig.checkpoint(&fresh.broker, &key).await.unwrap();
    assert_eq!((checkpoint.lost[0].source, checkpoint.lost.len()), (0, 1));
    assert!(checkpoint.lost[0].reason.contains("accepted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_again_is_carried_from_its_beginning_and_an_older_bundle_of_it_is_left_out() {
    let rig = Rig::new().await;
    rig.send(200).await;
    rig.export_down().await;
    let old = rig.directory.path().join("old");
    copy(&rig.root(), &old);
    rig.import_down().await;
    rig.core.broker.delete_topic(&rig.news).await.unwrap();
    rig.core
        .broker
        .create_topic(&TopicSpec::new(&rig.news, 3))
        .await
        .unwrap();
    rig.send(90).await;
    rig.export_down().await;
    let again = rig.import_down().await;
    assert_eq!((again.records, again.problems.len()), (90, 0));
    let key = format!("news/{}/0", rig.news);
    let checkpoint = rig.checkpoint(&rig.edge.broker, &key).await.unwrap();
    assert!(checkpoint.lost[0].reason.contains("made again"));

    let mut stick = bundle::Stick::at(&old);
    let older = one(import(&rig.edge, &mut stick, Wish::default(), &|_| {}).await);
    assert_eq!(older.records, 0);
    assert_eq!(older.problems.len(), 3);
    assert!(older.problems[0].contains("made again"), "{:?}", older.problems);
}

async fn made_again(rig: &Rig) {
    rig.core.broker.delete_topic(&rig.news).await.unwrap();
    let spec = TopicSpec::new(&rig.news, 3);
    rig.core.broker.create_topic(&spec).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_bundle_of_a_topic_that_was_made_again_is_left_out_whatever_the_clocks_say() {
    let rig = Rig::new().await;
    rig.send(200).await;
    rig.export_down().await;
    made_again(&rig).await;
    rig.send(90).await;
    // The link of an edge whose clock is behind that of the core.
    link_carried_at(&rig, usize::MAX, 1_000_000, &[]).await;
    let older = rig.import_down().await;
    assert_eq!((older.records, older.problems.len()), (0, 3), "{older:?}");
    assert!(
        older.problems[0].contains("does not say whether"),
        "{:?}",
        older.problems
    );
    rig.send(10).await;
    rig.export_down().await;
    let next = rig.import_down().await;
    assert_eq!((next.records, next.problems.len()), (10, 0), "{next:?}");
    rig.export_up().await;
    rig.import_up().await;
    rig.all_is_carried().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_says_it_is_of_the_later_topic_is_taken_in_whatever_the_clocks_say() {
    let rig = Rig::new().await;
    rig.send(200).await;
    // An edge whose clock is ahead of the core's.
    link_carried_at(&rig, usize::MAX, i64::MAX / 2, &[]).await;
    made_again(&rig).await;
    rig.send(90).await;
    // A stick on which nothing says what the edge has.
    rig.export_down().await;
    let first = rig.import_down().await;
    assert_eq!((first.records, first.problems.len()), (0, 3), "{first:?}");
    // Now the edge's receipt does.
    rig.export_down().await;
    let next = rig.import_down().await;
    assert_eq!((next.records, next.problems.len()), (90, 0), "{next:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_cannot_tell_whether_it_is_the_later_one_is_taken_in_when_a_person_says_so() {
    let rig = Rig::new().await;
    rig.send(200).await;
    link_carried_at(&rig, usize::MAX, 1, &[]).await;
    made_again(&rig).await;
    rig.send(90).await;
    rig.export_down().await;
    let wish = Wish { accept_loss: true };
    let taken = one(import(&rig.edge, &mut rig.stick(), wish, &|_| {}).await);
    assert_eq!((taken.records, taken.problems.len()), (90, 0), "{taken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_link_has_put_aside_comes_behind_what_came_in() {
    let rig = Rig::new().await;
    rig.send(400).await;
    let spans = [(10, 30), (50, 60)].map(|(from, until)| OffsetSpan { from, until });
    link_carried_at(&rig, 70, 0, &spans).await;
    // Without a receipt the core does not know of spans, and sends all.
    rig.export_down().await;
    let imported = rig.import_down().await;
    assert_eq!(
        (imported.records, imported.known),
        (190 + 90, 120),
        "{imported:?}"
    );
    assert_eq!((&imported.notes, &imported.problems), (&Vec::new(), &Vec::new()));
    is_behind(&rig, &spans).await;
    let again = rig.import_down().await;
    assert_eq!((again.records, again.known), (0, 400), "{again:?}");
    is_behind(&rig, &spans).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receipt_asks_for_what_the_link_has_put_aside() {
    let rig = Rig::new().await;
    rig.send(400).await;
    let all = rig.export_down().await;
    assert_eq!(rig.import_down().await.records, 400);
    // The link works for a while, and puts aside what waits of an outage.
    rig.send(100).await;
    let ends =
        async |broker| -> Vec<usize> { contents(broker, &rig.news).await.values().map(Vec::len).collect() };
    let before = ends(&rig.edge.broker).await;
    let key = |partition: usize| format!("news/{}/{partition}", rig.news);
    let id = link::transactional_id(
        &rig.edge.site,
        link::Direction::Down,
        Some(common::budget::Class::Sensors),
    );
    let mut transactions = rig.edge.broker.transactions(&id).await.unwrap();
    let topic = format!("{}.checkpoints", rig.edge.site);
    let after = ends(&rig.core.broker).await;
    let mut spans = Vec::new();
    for (partition, (from, until)) in before.iter().zip(&after).enumerate() {
        let span = OffsetSpan {
            from: i64::try_from(*from).unwrap(),
            until: i64::try_from(*until).unwrap(),
        };
        let known = rig.checkpoint(&rig.edge.broker, &key(partition)).await.unwrap();
        let moved = Checkpoint {
            next_offset: span.until,
            backlog: vec![span.clone()],
            ..known
        };
        let record = link::checkpoint::record(&topic, &moved);
        transactions.commit(Vec::new(), |_| vec![record]).await.unwrap();
        spans.push(span);
    }
    // An old bundle does not have it, says so, and leaves a receipt that asks for it.
    let old = rig.import_down().await;
    assert_eq!((old.records, old.notes.len()), (0, 3), "{old:?}");
    assert!(old.notes[0].contains("the next one"), "{:?}", old.notes);
    rig.send(30).await;
    let next = rig.export_down().await;
    assert_eq!((next.records, next.whole), (130, true), "{all:?} {next:?}");
    let imported = rig.import_down().await;
    assert_eq!((imported.records, imported.notes.len()), (130, 0), "{imported:?}");
    let backlog = contents(&rig.edge.broker, &format!("{}.backlog", rig.news)).await;
    assert_eq!(backlog.values().map(Vec::len).sum::<usize>(), 100);
    // Then there is nothing more to ask for.
    let last = rig.export_down().await;
    assert_eq!((last.records, last.whole), (0, true), "{last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_put_aside_waits_where_a_file_is_damaged_and_comes_when_it_is_mended() {
    let rig = Rig::new().await;
    rig.send(400).await;
    let spans = [(10, 30), (50, 60)].map(|(from, until)| OffsetSpan { from, until });
    link_carried_at(&rig, 70, 0, &spans).await;
    rig.export_down().await;
    let kept = tempfile::tempdir().unwrap();
    copy(&rig.root(), kept.path());
    for file in testkit::files(&rig.down()) {
        if file.extension().is_some_and(|extension| extension == "segment") {
            std::fs::write(file, b"damaged").unwrap();
        }
    }
    let wish = Wish { accept_loss: true };
    let damaged = one(import(&rig.edge, &mut rig.stick(), wish, &|_| {}).await);
    assert_eq!((damaged.records, damaged.problems.len()), (0, 3), "{damaged:?}");
    assert!(damaged.notes[0].contains("30 records"), "{:?}", damaged.notes);
    copy(kept.path(), &rig.root());
    rig.import_down().await;
    is_behind(&rig, &spans).await;
}

/// Of each partition these spans are beside the topic, in their order, once.
async fn is_behind(rig: &Rig, spans: &[OffsetSpan]) {
    let source = contents(&rig.core.broker, &rig.news).await;
    let backlog = contents(&rig.edge.broker, &format!("{}.backlog", rig.news)).await;
    for (partition, records) in source {
        let within = |offset: i64| spans.iter().any(|span| (span.from..span.until).contains(&offset));
        let wanted = records.iter().filter(|record| within(record.offset));
        let wanted: Vec<_> = wanted
            .map(|record| (&record.key, &record.value, record.timestamp))
            .collect();
        let found = &backlog[&partition];
        let found: Vec<_> = found
            .iter()
            .map(|record| (&record.key, &record.value, record.timestamp))
            .collect();
        assert_eq!(wanted, found, "partition {partition}");
        let key = format!("news.backlog/{}/{partition}", rig.news);
        let at = rig.checkpoint(&rig.edge.broker, &key).await.unwrap();
        assert_eq!(at.next_offset, spans.last().unwrap().until);
    }
}

pub(crate) fn copy(from: &std::path::Path, to: &std::path::Path) {
    for file in testkit::files(from) {
        let there = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(there.parent().unwrap()).unwrap();
        std::fs::copy(file, there).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_the_destination_refuses_is_put_aside_and_the_others_go_on() {
    refused_is_put_aside(&Rig::new().await).await;
}

pub(crate) async fn refused_is_put_aside(rig: &Rig) {
    let mut small = TopicSpec::new(&rig.news, 3);
    small.max_message_bytes = 1000;
    rig.edge.broker.create_topic(&small).await.unwrap();
    rig.send(50).await;
    let mut large = record(&rig.news, 1);
    large.partition = Some(1);
    // Nothing makes it smaller.
    large.value = Some((0..2000).map(|_| rand::random::<u8>()).collect());
    rig.core.broker.producer().unwrap().send(large).await.unwrap();
    rig.send(50).await;
    rig.export_down().await;
    let imported = rig.import_down().await;
    // Beside them there is what other tests let all edges know, where they share a broker.
    assert!(imported.records >= 100 && imported.refused == 1, "{imported:?}");
    let came = async || -> usize {
        let found = contents(&rig.edge.broker, &rig.news).await;
        found.values().map(Vec::len).sum()
    };
    assert_eq!(came().await, 100);
    let letters = contents(&rig.edge.broker, &format!("{}.dead-letter", rig.news)).await;
    assert_eq!(letters[&0].len(), 1);
    let again = rig.import_down().await;
    assert_eq!((again.records, again.refused, came().await), (0, 0, 100));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_on_a_route_here_is_taken_in() {
    let mut rig = Rig::new().await;
    rig.send(10).await;
    rig.export_down().await;
    rig.edge.routes.retain(|route| route.name != "news");
    let imported = rig.import_down().await;
    assert_eq!(imported.records, 0);
    assert!(
        imported.problems[0].contains("no route"),
        "{:?}",
        imported.problems
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_enrolled_or_was_revoked_is_refused_both_ways() {
    let rig = Rig::new().await;
    rig.send(10).await;
    rig.export_up().await;
    let revoked = Write::to("sites")
        .set("realm", "core")
        .set("site", rig.edge.site.as_str())
        .set("revoked_at", table::Value::timestamp(1));
    rig.core.table.upsert(revoked).await.unwrap();
    let imported = import(&rig.core, &mut rig.stick(), Wish::default(), &|_| {}).await;
    assert!(matches!(imported, Err(Error::Revoked { .. })), "{imported:?}");
    let to: SiteId = site("nobody");
    let exported = export(&rig.core, &to, &mut rig.stick(), &Since::Receipt, &|_| {}).await;
    assert!(matches!(exported, Err(Error::NotEnrolled { .. })), "{exported:?}");
}
