//! Rules of what an operator's tools ask and change.

use std::time::Duration;

use tokio::time::timeout;

use super::probe::{Probe, finish, start};
use super::{Lab, name, numbered, read};
use crate::error::Error;
use crate::record::{Outgoing, Position};

/// A group's position can be set while nobody is in the group, and who joins then goes on there.
pub async fn commits_for_a_group_are_taken_only_while_it_is_empty(lab: &Lab) {
    let (broker, group) = (lab.open().await, name("group"));
    let topic = lab.topic(&broker, 1).await;
    let producer = broker.producer().unwrap();
    producer.send_all(numbered(&topic, "k", 0..10)).await.unwrap();
    broker.commit_for(&group, &topic, &[(0, 7)]).await.unwrap();
    assert_eq!(broker.committed(&group, &topic).await.unwrap(), [(0, 7)]);
    let known = || async {
        let groups = broker.groups().await.unwrap();
        let found = groups.into_iter().find(|found| found.name == group);
        found.map(|found| found.members)
    };
    assert_eq!(known().await, Some(Vec::new()));
    let probe = Probe::new(|_, _| Ok(()));
    let running = start(&broker, &topic, &group, &probe);
    probe.reached(lab, 3).await;
    assert_eq!(probe.texts(), ["7", "8", "9"]);
    let refused = broker.commit_for(&group, &topic, &[(0, 1)]).await;
    let Err(Error::GroupInUse { members, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(members.len(), 1, "{members:?}");
    assert_eq!(known().await.map(|members| members.len()), Some(1));
    finish(lab, running).await;
    lab.eventually(async || {
        broker
            .commit_for(&group, &topic, &[(0, 2)])
            .await
            .map_err(|error| error.to_string())
    })
    .await;
    assert_eq!(broker.committed(&group, &topic).await.unwrap(), [(0, 2)]);
    let nowhere = broker.commit_for(&group, &topic, &[(1, 2)]).await;
    assert!(
        matches!(nowhere, Err(Error::UnknownPartition { .. })),
        "{nowhere:?}"
    );
}

/// A topic that is given partitions keeps what it has; who reads it goes on, and the new ones can be written to.
pub async fn partitions_are_added_and_never_taken_away(lab: &Lab) {
    let broker = lab.open().await;
    let topic = lab.topic(&broker, 1).await;
    let producer = broker.producer().unwrap();
    producer.send_all(numbered(&topic, "k", 0..3)).await.unwrap();
    let before = broker.describe(&topic).await.unwrap().unwrap();
    let mut reader = broker.reader(&[Position::beginning(&topic, 0)]).await.unwrap();
    let mut seen = 0;
    let mut reach = async |count: usize| {
        while seen < count {
            seen += reader.next(10, Duration::from_millis(200)).await.unwrap().len();
        }
    };
    timeout(lab.limit, reach(3)).await.expect("the first three");
    for partitions in [3, 2] {
        broker.add_partitions(&topic, partitions).await.unwrap();
        let after = broker.describe(&topic).await.unwrap().unwrap();
        assert_eq!((after.partitions, &after.id), (3, &before.id));
    }
    let at = |partition| Outgoing {
        partition: Some(partition),
        ..Outgoing::new(&topic, "k", b"new".to_vec())
    };
    // A client may know the topic as it was for a moment.
    lab.eventually(async || {
        producer
            .send(at(2))
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    })
    .await;
    producer.send(at(0)).await.unwrap();
    timeout(lab.limit, reach(4)).await.expect("who reads goes on");
    let new = read(lab, &broker, Position::beginning(&topic, 2), 1).await;
    assert_eq!(new[0].offset, 0);
    assert!(broker.topic_names().await.unwrap().contains(&topic));
    let nowhere = broker.add_partitions(&name("nowhere"), 2).await;
    assert!(matches!(nowhere, Err(Error::UnknownTopic { .. })), "{nowhere:?}");
}

/// The first record of a time or later is found, whatever is around it.
pub async fn offsets_are_found_by_time(lab: &Lab) {
    let broker = lab.open().await;
    let topic = lab.topic(&broker, 1).await;
    let now = 1_000 * (std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64);
    let records = [10, 20, 15, 30].map(|at| Outgoing {
        timestamp: Some(now + at),
        ..Outgoing::new(&topic, "k", at.to_string().into_bytes())
    });
    broker
        .producer()
        .unwrap()
        .send_all(records.to_vec())
        .await
        .unwrap();
    for (at, offset) in [
        (0, Some(0)),
        (10, Some(0)),
        (12, Some(1)),
        (25, Some(3)),
        (31, None),
    ] {
        assert_eq!(
            broker.offset_at(&topic, 0, now + at).await.unwrap(),
            offset,
            "{at}"
        );
    }
}
