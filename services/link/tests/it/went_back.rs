//! An edge's broker that is put back from a copy: its offsets go back, and what was carried from behind them is of a time
//! that is no more.

use common::broker::{Broker, Outgoing};
use common::schemas::{self, ServiceStatus};
use testkit::{Backup, eventually};

use crate::rig::{LIMIT, Rig, contents, record, same};

async fn count(broker: &Broker, topic: &str) -> usize {
    contents(broker, topic).await.values().map(Vec::len).sum()
}

async fn put_back(mut rig: Rig) {
    let running = rig.start();
    rig.send(0, 60).await;
    rig.all_is_carried().await;
    running.stop().await;
    let copy = rig.exchange(async |file| Backup::of(file).await).await;
    rig.send(60, 60).await;
    let running = rig.start();
    rig.all_is_carried().await;
    running.stop().await;

    rig.exchange(async |_| copy.put_back().await).await;
    // Fewer than are gone of each partition.
    let new = (200..203).map(|number| record(&rig.readings, number)).collect();
    rig.edge.producer().unwrap().send_all(new).await.unwrap();
    let running = rig.start_as("two");
    let gauge = |status: &ServiceStatus, name: &str| status.gauges.get(name).copied();
    let told = rig
        .reports("two", |status| gauge(status, "lost_ranges") == Some(3.0))
        .await;
    assert_eq!(gauge(&told, "lost_unknown"), Some(3.0));
    let remark = format!(
        "lost to the other site: an unknown number of records of {}",
        rig.readings
    );
    assert_eq!(told.detail.as_deref(), Some(&*remark));
    // All that there is comes once more, behind what came before.
    let at_core = rig.readings_at_core();
    eventually(LIMIT, || async {
        match count(&rig.core, &at_core).await {
            183 => Ok(()),
            found => Err(format!("{found} of 120 and 63")),
        }
    })
    .await;
    let id = rig.edge.describe(&rig.readings).await.unwrap().unwrap().id;
    let found = contents(&rig.edge, &rig.readings).await;
    let carried = contents(&rig.core, &at_core).await;
    for (partition, records) in &found {
        let key = format!("readings/{}/{partition}", rig.readings);
        let checkpoint = eventually(LIMIT, || async {
            let found = rig.checkpoint(&rig.core, &key).await.unwrap();
            let end = records.last().unwrap().offset + 1;
            (found.next_offset == end)
                .then_some(found.clone())
                .ok_or_else(|| format!("{found:?} does not end at {end}"))
        })
        .await;
        assert_eq!(checkpoint.source_epoch, format!("{id}#1"));
        assert_eq!(checkpoint.lost.len(), 1);
        assert!(
            checkpoint.lost[0].reason.contains("offsets went back"),
            "{checkpoint:?}"
        );
        let all = &carried[partition];
        let last = all[all.len() - records.len()..].to_vec();
        same(
            &[(*partition, records.clone())].into(),
            &[(*partition, last)].into(),
        );
    }
    // What comes down goes on where the copy was, for its checkpoint is in it.
    rig.send(300, 20).await;
    eventually(LIMIT, || async {
        let (wanted, found) = (
            contents(&rig.core, &rig.news).await,
            contents(&rig.edge, &rig.news).await,
        );
        if found.values().map(Vec::len).sum::<usize>() < 140 {
            return Err(format!("{} of 140 news", count(&rig.edge, &rig.news).await));
        }
        same(&wanted, &found);
        Ok(())
    })
    .await;
    eventually(LIMIT, || async {
        match count(&rig.core, &at_core).await {
            203 => Ok(()),
            found => Err(format!("{found} of 203")),
        }
    })
    .await;
    running.stop().await;
}

/// Where nobody can take a Kafka's newest records back: the checkpoints are put as far ahead as they would be then.
async fn ahead_of_the_source(rig: Rig) {
    let running = rig.start();
    rig.send(0, 60).await;
    rig.all_is_carried().await;
    let key = |partition: i32| format!("readings/{}/{partition}", rig.readings);
    let found = contents(&rig.edge, &rig.readings).await;
    for (partition, records) in &found {
        eventually(LIMIT, || async {
            let checkpoint = rig.checkpoint(&rig.core, &key(*partition)).await;
            let end = records.last().unwrap().offset + 1;
            let there = checkpoint.filter(|checkpoint| checkpoint.next_offset == end);
            there.map(drop).ok_or("not all is settled")
        })
        .await;
    }
    running.stop().await;
    for partition in found.keys() {
        let mut checkpoint = rig.checkpoint(&rig.core, &key(*partition)).await.unwrap();
        checkpoint.next_offset += 7;
        checkpoint.ranges.last_mut().unwrap().count += 7;
        let topic = format!("{}.checkpoints", rig.site);
        let ahead = Outgoing::new(topic, key(*partition), schemas::encode(&checkpoint).unwrap());
        rig.core.producer().unwrap().send(ahead).await.unwrap();
    }
    let running = rig.start_as("two");
    let told = rig
        .reports("two", |status| status.gauges.get("lost_ranges") == Some(&3.0))
        .await;
    assert!(told.detail.unwrap().contains(&rig.readings));
    // All that there is comes once more, in its order, behind what came before.
    let at_core = rig.readings_at_core();
    eventually(LIMIT, || async {
        match count(&rig.core, &at_core).await {
            120 => Ok(()),
            found => Err(format!("{found} of 60 and 60")),
        }
    })
    .await;
    for (partition, records) in contents(&rig.core, &at_core).await {
        let sent = &found[&partition];
        let (first, again) = records.split_at(sent.len());
        for half in [first, again] {
            same(
                &[(partition, sent.clone())].into(),
                &[(partition, half.to_vec())].into(),
            );
        }
        let checkpoint = rig.checkpoint(&rig.core, &key(partition)).await.unwrap();
        assert!(
            checkpoint.lost[0].reason.contains("offsets went back"),
            "{checkpoint:?}"
        );
    }
    rig.send(300, 20).await;
    eventually(LIMIT, || async {
        match count(&rig.core, &at_core).await {
            140 => Ok(()),
            found => Err(format!("{found} of 140")),
        }
    })
    .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_URL"]
async fn offsets_of_an_edge_on_kafka_that_went_back_are_another_turn_too() {
    ahead_of_the_source(Rig::two_kafkas().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_of_an_edge_that_went_back_are_another_turn_that_is_written_down_and_told() {
    put_back(Rig::embedded().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn the_same_is_so_at_a_core_on_kafka() {
    put_back(Rig::small_edge().await).await;
}
