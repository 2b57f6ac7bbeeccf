//! Rules of transactions.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::timeout;

use super::{Lab, name, numbered, read, text};
use crate::error::Error;
use crate::record::{Outgoing, Position, Start};

/// A batch and its seal are in one transaction, over topics, at the places told; readers pass what marks its end.
pub async fn a_transaction_is_seen_whole(lab: &Lab) {
    let broker = lab.open().await;
    let (data, map) = (lab.topic(&broker, 1).await, lab.topic(&broker, 1).await);
    let mut transactions = broker.transactions(&name("id")).await.unwrap();
    for round in 0..3_usize {
        let batch = numbered(&data, "k", round * 10..round * 10 + 10);
        let mut last = 0;
        let placements = transactions
            .commit(batch, |placements| {
                assert_eq!(placements.len(), 10);
                last = placements[9].offset;
                vec![Outgoing::new(&map, "k", last.to_string().into_bytes())]
            })
            .await
            .unwrap();
        assert_eq!((placements.len(), placements[9].offset), (11, last));
        let sealed = read(lab, &broker, Position::at(&map, 0, placements[10].offset), 1).await;
        assert_eq!(text(&sealed[0]), last.to_string());
        let record = read(lab, &broker, Position::at(&data, 0, last), 1).await;
        assert_eq!(text(&record[0]), (round * 10 + 9).to_string());
    }
    let mut seen = Vec::new();
    broker
        .read_to_end(&data, |record| seen.push(text(&record)))
        .await
        .unwrap();
    assert_eq!(seen, (0..30).map(|n| n.to_string()).collect::<Vec<_>>());
    // A transaction may consist of its seal alone.
    transactions
        .commit(Vec::new(), |_| vec![Outgoing::new(&map, "k", b"alone".to_vec())])
        .await
        .unwrap();
    let mut reader = broker.reader(&[Position::beginning(&data, 0)]).await.unwrap();
    let high = broker.watermarks(&data, 0).await.unwrap().high;
    let end = async {
        while reader.position(&data, 0).is_none_or(|position| position < high) {
            reader.next(100, Duration::from_millis(200)).await.unwrap();
        }
    };
    timeout(lab.limit, end)
        .await
        .expect("the reader passes the end markers");
}

/// What fails in the middle, or is dropped, leaves nothing to see, and the handle is spent.
pub async fn a_transaction_given_up_is_never_seen(lab: &Lab) {
    let broker = lab.open().await;
    let (topic, id) = (lab.topic(&broker, 1).await, name("id"));
    let mut transactions = broker.transactions(&id).await.unwrap();
    let none = name("none");
    let failed = transactions
        .commit(numbered(&topic, "k", 0..5), |_| {
            vec![Outgoing::new(&none, "k", vec![1])]
        })
        .await;
    assert!(failed.is_err());
    let spent = transactions
        .commit(numbered(&topic, "k", 5..6), |_| Vec::new())
        .await;
    assert!(matches!(spent, Err(Error::Spent { .. })), "{spent:?}");
    let mut dropped = broker.transactions(&id).await.unwrap();
    // The future ends between the batch and the commit; the panic is only the surest way to end it there.
    let unsealed = dropped.commit(numbered(&topic, "k", 6..8), |_| panic!("the seal cannot be made"));
    assert!(AssertUnwindSafe(unsealed).catch_unwind().await.is_err());
    let spent = dropped.commit(Vec::new(), |_| Vec::new()).await;
    assert!(matches!(spent, Err(Error::Spent { .. })), "{spent:?}");
    let mut transactions = broker.transactions(&id).await.unwrap();
    transactions
        .commit(numbered(&topic, "k", 8..10), |_| Vec::new())
        .await
        .unwrap();
    let mut seen = Vec::new();
    broker
        .read_to_end(&topic, |record| seen.push(text(&record)))
        .await
        .unwrap();
    assert_eq!(seen, ["8", "9"]);
}

/// Taking over an id ends what its earlier holder may do; the error says so.
pub async fn a_later_holder_fences_the_earlier(lab: &Lab) {
    let broker = lab.open().await;
    let (topic, id) = (lab.topic(&broker, 1).await, name("id"));
    let mut earlier = broker.transactions(&id).await.unwrap();
    earlier
        .commit(numbered(&topic, "k", 0..1), |_| Vec::new())
        .await
        .unwrap();
    let mut later = broker.transactions(&id).await.unwrap();
    let fenced = earlier.commit(numbered(&topic, "k", 1..2), |_| Vec::new()).await;
    assert!(matches!(fenced, Err(Error::Fenced { .. })), "{fenced:?}");
    later
        .commit(numbered(&topic, "k", 2..3), |_| Vec::new())
        .await
        .unwrap();
    let position = Position {
        topic: topic.clone(),
        partition: 0,
        start: Start::Beginning,
    };
    let records = read(lab, &broker, position, 2).await;
    assert_eq!(records.iter().map(text).collect::<Vec<_>>(), ["0", "2"]);
}
