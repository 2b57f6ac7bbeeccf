//! The embedded broker against the contract.

use broker::contract::Lab;
use broker::{Broker, Settings};
use tempfile::TempDir;

pub(crate) async fn open(directory: &std::path::Path) -> broker::Result<Broker> {
    let settings = Settings::url(format!("sqlite://{}/broker.db", directory.display()));
    Broker::open(&settings, "test", &prometheus::Registry::new()).await
}

async fn lab() -> (Lab, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    let lab = Lab::new(move || {
        let path = path.clone();
        async move { open(&path).await.unwrap() }
    });
    (lab, directory)
}

broker::contract_tests!(lab);

#[tokio::test]
async fn opening_twice_in_one_process_shares_the_engine() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = tokio::join!(open(directory.path()), open(directory.path()));
    let (first, second) = (first.unwrap(), second.unwrap());
    first.create_topic(&broker::TopicSpec::new("t", 1)).await.unwrap();
    assert!(second.describe("t").await.unwrap().is_some());
    drop((first, second));
    assert!(
        open(directory.path())
            .await
            .unwrap()
            .describe("t")
            .await
            .unwrap()
            .is_some()
    );
}

struct Picky;

impl broker::Handler for Picky {
    async fn handle(&self, record: broker::Record) -> Result<(), broker::Failure> {
        match record.offset {
            1 => Err(broker::Failure::poison("never")),
            _ => Ok(()),
        }
    }
}

#[tokio::test]
async fn the_loop_counts_what_it_does() {
    let directory = tempfile::tempdir().unwrap();
    let registry = prometheus::Registry::new();
    let settings = Settings::url(format!("sqlite://{}/broker.db", directory.path().display()));
    let broker = Broker::open(&settings, "listener", &registry).await.unwrap();
    broker
        .create_topic(&broker::TopicSpec::new("t", 1))
        .await
        .unwrap();
    let records = (0..3).map(|_| broker::Outgoing::new("t", "k", vec![1]));
    broker
        .producer()
        .unwrap()
        .send_all(records.collect())
        .await
        .unwrap();
    let subscription = broker::Subscription::topics(["t"]);
    let consumer = broker
        .consumer(subscription, broker::ConsumerSettings::group("g"))
        .unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn(consumer.run(std::sync::Arc::new(Picky), stop.clone()));
    let start = tokio::time::Instant::now();
    while broker.committed("g", "t").await.unwrap() != [(0, 3)] {
        assert!(start.elapsed().as_secs() < 30, "the records are not committed");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let counted: std::collections::BTreeMap<_, _> = registry
        .gather()
        .into_iter()
        .map(|family| {
            let metrics = family.get_metric();
            let sum = |m: &prometheus::proto::Metric| {
                m.get_counter().get_value()
                    + m.get_gauge().get_value()
                    + m.get_histogram().get_sample_count() as f64
            };
            (family.name().to_owned(), metrics.iter().map(sum).sum::<f64>())
        })
        .collect();
    stop.cancel();
    running.await.unwrap().unwrap();
    use broker::metrics::*;
    let expected = [
        (RECORDS_PRODUCED, 4.0),
        (RECORDS_CONSUMED, 3.0),
        (RECORD_PROCESS, 3.0),
        (DEAD_LETTERS, 1.0),
        (IN_FLIGHT, 0.0),
    ];
    for (name, value) in expected {
        assert_eq!(counted.get(name), Some(&value), "{name}");
    }
}
