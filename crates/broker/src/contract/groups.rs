//! Rules of groups and leases.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::probe::{Probe, finish, start};
use super::{Lab, name, numbered};
use crate::consumer::{ConsumerSettings, Subscription};
use crate::record::Outgoing;

/// Two members share the partitions, each record goes to one of them, and who stays takes over.
pub async fn members_share_partitions_and_hand_over(lab: &Lab) {
    let (broker, group) = (lab.open().await, name("group"));
    let topic = lab.topic(&broker, 4).await;
    let producer = broker.producer().unwrap();
    let (a, b) = (Probe::new(|_, _| Ok(())), Probe::new(|_, _| Ok(())));
    let first = start(&broker, &topic, &group, &a);
    let mut sent = 0;
    let mut send = async |count: usize| {
        let records = (sent..sent + count).map(|n| Outgoing {
            partition: Some((n % 4) as i32),
            ..Outgoing::new(&topic, "k", n.to_string().into_bytes())
        });
        producer.send_all(records.collect()).await.unwrap();
        sent += count;
        sent
    };
    let all = send(40).await;
    a.reached(lab, all).await;
    let second = start(&broker, &topic, &group, &b);
    let start_at = tokio::time::Instant::now();
    let mut all = all;
    while b.count() == 0 {
        assert!(
            start_at.elapsed() < lab.limit,
            "the second member gets no partition"
        );
        all = send(4).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    finish(lab, first).await;
    all = all.max(send(40).await);
    lab.eventually(async || match a.count() + b.count() {
        reached if reached >= all => Ok(()),
        reached => Err(format!("{reached} of {all} handled")),
    })
    .await;
    finish(lab, second).await;
    // Each member drained before it handed over, so nothing came twice.
    let mut seen: HashMap<String, usize> = HashMap::new();
    a.texts()
        .into_iter()
        .chain(b.texts())
        .for_each(|text| *seen.entry(text).or_default() += 1);
    assert!((0..all).all(|n| seen.get(&n.to_string()) == Some(&1)), "{seen:?}");
}

/// A group goes on where it committed.
pub async fn commits_survive_reopening(lab: &Lab) {
    let (broker, group) = (lab.open().await, name("group"));
    let topic = lab.topic(&broker, 1).await;
    broker
        .producer()
        .unwrap()
        .send_all(numbered(&topic, "k", 0..10))
        .await
        .unwrap();
    let probe = Probe::new(|_, _| Ok(()));
    let running = start(&broker, &topic, &group, &probe);
    probe.reached(lab, 10).await;
    finish(lab, running).await;
    drop(broker);
    let broker = lab.open().await;
    assert_eq!(broker.committed(&group, &topic).await.unwrap(), [(0, 10)]);
    assert!(broker.committed(&name("other"), &topic).await.unwrap().is_empty());
    broker
        .producer()
        .unwrap()
        .send_all(numbered(&topic, "k", 10..12))
        .await
        .unwrap();
    let probe = Probe::new(|_, _| Ok(()));
    let running = start(&broker, &topic, &group, &probe);
    probe.reached(lab, 2).await;
    finish(lab, running).await;
    assert_eq!(probe.texts(), ["10", "11"]);
}

/// A subscription by suffix finds topics that are made later.
pub async fn topics_that_appear_are_found_by_suffix(lab: &Lab) {
    let (broker, group) = (lab.open().await, name("group"));
    let suffix = format!(".{}", name("SUFFIX"));
    let subscription = Subscription::suffixes([suffix.as_str()]);
    let consumer = broker
        .consumer(subscription, ConsumerSettings::group(&group))
        .unwrap();
    let probe = Probe::new(|_, _| Ok(()));
    let stop = CancellationToken::new();
    let running = tokio::spawn(consumer.run(probe.clone(), stop.clone()));
    for site in ["north", "south"] {
        let topic = format!("{site}{suffix}");
        broker
            .create_topic(&crate::topics::TopicSpec::new(&topic, 2))
            .await
            .unwrap();
        broker
            .producer()
            .unwrap()
            .send(Outgoing::new(&topic, "k", site.as_bytes().to_vec()))
            .await
            .unwrap();
        lab.eventually(async || {
            if probe.texts().contains(&site.to_owned()) {
                Ok(())
            } else {
                Err(format!("{site} not found"))
            }
        })
        .await;
    }
    finish(lab, (stop, running)).await;
}

/// A lease has one holder; when it goes, the next one gets it.
pub async fn one_holds_the_lease_and_the_next_takes_over(lab: &Lab) {
    let (broker, group) = (lab.open().await, name("lease"));
    let topic = lab.topic(&broker, 1).await;
    let first = broker.lease(&topic, &group).await.unwrap();
    timeout(lab.limit, first.acquired())
        .await
        .expect("the first gets it");
    let second = broker.lease(&topic, &group).await.unwrap();
    let too_early = timeout(Duration::from_millis(500), second.acquired()).await;
    assert!(too_early.is_err(), "both hold it");
    assert!(
        timeout(Duration::from_millis(10), first.lost()).await.is_err(),
        "the first lost it"
    );
    first.release().await;
    timeout(lab.limit, second.acquired())
        .await
        .expect("the second takes over");
}
