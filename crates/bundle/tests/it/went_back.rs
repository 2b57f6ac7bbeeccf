//! A site whose broker is put back from a copy between two sticks: its offsets went back, and no bundle hides that.

use std::path::PathBuf;

use bundle::{Imported, Stick, Wish, import};
use common::broker::{self, Broker};
use testkit::Backup;

use crate::records::copy;
use crate::rig::{Rig, contents, one, record, what};

/// What the edge had before, at the core already: 90 readings and 60 more, which are gone at the edge.
async fn put_back() -> Rig {
    let mut rig = Rig::new().await;
    rig.send(90).await;
    rig.export_up().await;
    rig.import_up().await;
    let saved = rig.exchange(async |file| Backup::of(&file).await).await;
    rig.send(60).await;
    rig.export_up().await;
    rig.import_up().await;
    rig.exchange(async |_| saved.put_back().await).await;
    rig
}

impl Rig {
    /// Lets go of the edge's broker, so that its file can be exchanged; and opens it again.
    async fn exchange<T>(&mut self, exchange: impl AsyncFnOnce(PathBuf) -> T) -> T {
        let file = self.directory.path().join("edge/broker.db");
        let settings = broker::Settings::url(testkit::sqlite(file.parent().unwrap(), "broker.db"));
        self.edge.broker = self.core.broker.clone();
        let done = exchange(file).await;
        let registry = prometheus::Registry::new();
        self.edge.broker = Broker::open(&settings, "bundle", &registry).await.unwrap();
        done
    }

    async fn read(&self, count: i64) {
        let new = (1_000..1_000 + count).map(|number| record(&self.readings, number));
        self.edge
            .broker
            .producer()
            .unwrap()
            .send_all(new.collect())
            .await
            .unwrap();
    }

    async fn import_at_core(&self, root: &std::path::Path, wish: Wish) -> Imported {
        one(import(&self.core, &mut Stick::at(root), wish, &|_| {}).await)
    }

    /// Behind what came before, the core has all that the edge has now, in order, as of that turn, and says what is lost.
    async fn begins_anew(&self, before: usize, turn: u64) {
        let id = self
            .edge
            .broker
            .describe(&self.readings)
            .await
            .unwrap()
            .unwrap()
            .id;
        let (here, there) = (
            contents(&self.edge.broker, &self.readings).await,
            contents(&self.core.broker, &self.readings_at_core()).await,
        );
        let sum = |all: &std::collections::BTreeMap<i32, Vec<broker::Record>>| {
            all.values().map(Vec::len).sum::<usize>()
        };
        assert_eq!(sum(&there), before + sum(&here));
        for (partition, records) in &here {
            let all = &there[partition];
            let last = all[all.len() - records.len()..].to_vec();
            let (wanted, found) = ([(*partition, records.clone())], [(*partition, last)]);
            assert!(what(&wanted.into()) == what(&found.into()), "in {partition}");
            let key = format!("readings/{}/{partition}", self.readings);
            let checkpoint = self.checkpoint(&self.core.broker, &key).await.unwrap();
            assert_eq!(checkpoint.source_epoch, format!("{id}#{turn}"));
            assert_eq!(checkpoint.next_offset, records.last().unwrap().offset + 1);
            assert_eq!(checkpoint.lost.len(), usize::try_from(turn).unwrap());
            assert!(
                checkpoint.lost[0].reason.contains("offsets went back"),
                "{checkpoint:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_that_went_back_are_another_turn_that_the_source_signs_and_the_destination_writes_down() {
    let rig = put_back().await;
    let old = rig.directory.path().join("old");
    copy(&rig.root(), &old);
    rig.read(3).await;
    let exported = rig.export_up().await;
    assert_eq!((exported.records, exported.notes.len()), (93, 3), "{exported:?}");
    assert!(
        exported.notes[0].contains("its offsets went back"),
        "{:?}",
        exported.notes
    );
    let imported = rig.import_up().await;
    assert_eq!(
        (imported.records, imported.problems.len()),
        (93, 0),
        "{imported:?}"
    );
    assert!(
        imported.notes[0].contains("its offsets went back"),
        "{:?}",
        imported.notes
    );
    rig.begins_anew(150, 1).await;
    // It is taken in once, and what comes then follows, also past where it was before.
    let again = rig.import_up().await;
    assert_eq!((again.records, again.known, again.notes.len()), (0, 93, 0));
    rig.read(200).await;
    assert_eq!(rig.export_up().await.records, 200);
    assert_eq!(rig.import_up().await.records, 200);
    rig.begins_anew(150, 1).await;
    // One of before is left out.
    let older = rig.import_at_core(&old, Wish::default()).await;
    assert_eq!((older.records, older.problems.len()), (0, 3), "{older:?}");
    assert!(older.problems[0].contains("offsets went back"), "{older:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_is_on_the_stick_counts_when_the_source_has_grown_past_where_it_was() {
    let rig = put_back().await;
    rig.read(3).await;
    rig.export_up().await;
    rig.read(300).await;
    assert_eq!(rig.export_up().await.records, 393);
    let imported = rig.import_up().await;
    assert_eq!((imported.records, imported.notes.len()), (393, 3), "{imported:?}");
    rig.begins_anew(150, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_without_the_receipt_of_what_came_before_is_left_out_and_the_next_one_is_not() {
    let rig = put_back().await;
    // A stick that was at the core before the last one.
    std::fs::remove_dir_all(rig.root()).unwrap();
    rig.read(3).await;
    rig.export_up().await;
    let first = rig.import_up().await;
    assert_eq!((first.records, first.problems.len()), (0, 3), "{first:?}");
    assert!(
        first.problems[0].contains("its offsets went back, or a clock is wrong"),
        "{first:?}"
    );
    rig.export_up().await;
    let next = rig.import_up().await;
    assert_eq!((next.records, next.problems.len()), (93, 0), "{next:?}");
    rig.begins_anew(150, 1).await;
}
