//! Apache Kafka against the contract, plain and with mutual TLS, and against processes that die in the middle.
//!
//! The brokers are given by `KAFKA_URL` and `KAFKA_TLS_URL`; `deploy/engines/engines up` starts some and prints both.

mod crash;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::contract::Lab;
use broker::{
    Broker, ConsumerSettings, Error, Failure, Handler, Outgoing, Position, Record, Settings, Subscription,
    Tls, TopicSpec,
};
use testkit::proxy::{Cut, Proxy};
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(30);

#[expect(
    clippy::disallowed_methods,
    reason = "tests are told by the environment where the engines are"
)]
fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; deploy/engines/engines up prints it"))
}

pub(crate) fn plain() -> Settings {
    Settings::url(env("KAFKA_URL"))
}

fn tls() -> Settings {
    let file = |name| Some(PathBuf::from(env(name)));
    Settings {
        tls: Tls {
            ca: file("ENGINES_TLS_CA"),
            certificate: file("ENGINES_TLS_CERTIFICATE"),
            key: file("ENGINES_TLS_KEY"),
            unverified: false,
        },
        ..Settings::url(env("KAFKA_TLS_URL"))
    }
}

pub(crate) async fn open(settings: &Settings) -> Broker {
    Broker::open(settings, "test", &prometheus::Registry::new())
        .await
        .unwrap()
}

/// A name that no other test has.
pub(crate) fn unique(name: &str) -> String {
    format!("{name}-{:016x}", rand::random::<u64>())
}

/// Reads a partition from its beginning until it has so many records.
pub(crate) async fn read(broker: &Broker, topic: &str, count: usize, limit: Duration) -> Vec<Record> {
    let mut reader = broker.reader(&[Position::beginning(topic, 0)]).await.unwrap();
    let (mut records, begun) = (Vec::new(), Instant::now());
    while records.len() < count {
        assert!(
            begun.elapsed() < limit,
            "{} of {count} records of {topic} after {limit:?}",
            records.len()
        );
        records.extend(reader.next(1000, Duration::from_millis(500)).await.unwrap());
    }
    records
}

/// Polls until something holds.
async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn plain_lab() -> (Lab, ()) {
    let settings = plain();
    (Lab::new(move || owned(settings.clone())), ())
}

async fn tls_lab() -> (Lab, ()) {
    let settings = tls();
    (Lab::new(move || owned(settings.clone())), ())
}

async fn owned(settings: Settings) -> Broker {
    open(&settings).await
}

mod over_plain_text {
    broker::contract_tests!(super::plain_lab, #[ignore = "needs KAFKA_URL"]);
}

mod over_mutual_tls {
    broker::contract_tests!(super::tls_lab, #[ignore = "needs KAFKA_URL"]);
}

#[tokio::test]
async fn broker_that_is_down_is_unreachable_and_says_where() {
    let broker = open(&Settings::url("kafka://127.0.0.1:1")).await;
    let error = broker.ping().await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}

#[tokio::test]
#[ignore = "needs KAFKA_URL"]
async fn client_without_a_certificate_is_turned_away_not_left_hanging() {
    let mut settings = tls();
    settings.tls = Tls {
        certificate: None,
        key: None,
        ..settings.tls
    };
    let error = open(&settings).await.ping().await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
#[ignore = "needs KAFKA_URL"]
async fn topic_that_is_made_again_has_another_id() {
    let (broker, observer) = (open(&plain()).await, open(&plain()).await);
    let spec = TopicSpec::new(unique("again"), 1);
    assert!(broker.create_topic(&spec).await.unwrap());
    assert!(!broker.create_topic(&spec).await.unwrap());
    let id = broker.describe(&spec.name).await.unwrap().unwrap().id;
    assert_eq!(id.len(), 22, "a topic id, as Kafka prints it: {id}");
    assert_eq!(observer.describe(&spec.name).await.unwrap().unwrap().id, id);
    broker.delete_topic(&spec.name).await.unwrap();
    assert!(broker.create_topic(&spec).await.unwrap());
    let again = broker.describe(&spec.name).await.unwrap().unwrap().id;
    assert_ne!(id, again);
    assert_eq!(
        observer.describe(&spec.name).await.unwrap().unwrap().id,
        again,
        "as others see it"
    );
    let listed = broker.topics().await.unwrap();
    assert!(
        listed
            .iter()
            .any(|topic| topic.name == spec.name && topic.id == again)
    );
}

#[tokio::test]
#[ignore = "needs KAFKA_URL"]
async fn position_moves_past_markers_and_aborted_records() {
    let broker = open(&plain()).await;
    let topic = unique("markers");
    broker.create_topic(&TopicSpec::new(&topic, 1)).await.unwrap();
    let mut transactions = broker.transactions(&unique("t")).await.unwrap();
    let batch = (0..10).map(|n| Outgoing::new(&topic, "k", vec![n])).collect();
    transactions.commit(batch, |_| Vec::new()).await.unwrap();
    let aborted = transactions.commit(vec![Outgoing::new(&topic, "k", vec![99])], |_| {
        vec![Outgoing::new("no-such-topic-anywhere", "k", Vec::new())]
    });
    aborted.await.unwrap_err();
    let end = eventually("abort", async || {
        let high = broker.watermarks(&topic, 0).await.unwrap().high;
        (high == 13).then_some(high)
    });
    let end = end.await;
    let mut reader = broker.reader(&[Position::beginning(&topic, 0)]).await.unwrap();
    let mut values = Vec::new();
    eventually("the end", async || {
        let records = reader.next(4, Duration::from_millis(200)).await.unwrap();
        values.extend(records.iter().map(|record| record.value.clone().unwrap()[0]));
        (reader.position(&topic, 0) == Some(end)).then_some(())
    })
    .await;
    assert_eq!(values, (0..10).collect::<Vec<u8>>());
    // Back again, which must not be taken for where the client was.
    reader.seek(Position::at(&topic, 0, 7)).await.unwrap();
    assert_eq!(reader.position(&topic, 0), Some(7));
    let records = reader.next(100, Duration::from_secs(5)).await.unwrap();
    assert_eq!(
        records.iter().map(|record| record.offset).collect::<Vec<_>>(),
        [7, 8, 9]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs KAFKA_LINE and KAFKA_FAR"]
async fn connection_that_ends_is_opened_again_and_no_outage_to_a_reader() {
    let line = Proxy::start(&env("KAFKA_LINE"), &env("KAFKA_FAR"), 1)
        .await
        .unwrap();
    let broker = open(&Settings::url(format!("kafka://{}", line.address()))).await;
    let topic = unique("ends");
    broker.create_topic(&TopicSpec::new(&topic, 1)).await.unwrap();
    let mut reader = broker.reader(&[Position::beginning(&topic, 0)]).await.unwrap();
    let straight = open(&plain()).await;
    let producer = straight.producer().unwrap();
    for (n, cut) in [(0, Cut::Fin), (1, Cut::Reset), (2, Cut::Fin)] {
        producer.send(Outgoing::new(&topic, "k", vec![n])).await.unwrap();
        let read = eventually("the record", async || {
            let records = reader.next(10, Duration::from_millis(200)).await.unwrap();
            (!records.is_empty()).then_some(records)
        });
        assert_eq!(read.await.len(), 1);
        line.cut(cut);
        assert!(reader.next(10, Duration::from_secs(2)).await.unwrap().is_empty());
    }
    drop(line);
    let told = eventually("the outage", async || {
        reader.next(10, Duration::from_millis(200)).await.err()
    });
    assert!(matches!(told.await, Error::Unreachable { .. }));
}

struct Nothing;

impl Handler for Nothing {
    async fn handle(&self, _: Record) -> Result<(), Failure> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs KAFKA_URL"]
async fn many_records_through_a_group_are_all_committed() {
    const COUNT: usize = 20_000;
    let broker = open(&plain()).await;
    let topic = unique("many");
    broker.create_topic(&TopicSpec::new(&topic, 3)).await.unwrap();
    let records = (0..COUNT)
        .map(|n| Outgoing::new(&topic, n.to_string(), vec![0; 200]))
        .collect();
    let places = broker.producer().unwrap().send_all(records).await.unwrap();
    assert_eq!(places.len(), COUNT);
    let group = unique("group");
    let stop = CancellationToken::new();
    let consumer = broker
        .consumer(Subscription::topics([&topic]), ConsumerSettings::group(&group))
        .unwrap();
    let running = tokio::spawn(consumer.run(Arc::new(Nothing), stop.clone()));
    eventually("commits", async || {
        let committed = broker.committed(&group, &topic).await.unwrap();
        let sum: i64 = committed.iter().map(|(_, offset)| offset).sum();
        (sum == i64::try_from(COUNT).unwrap()).then_some(())
    })
    .await;
    stop.cancel();
    running.await.unwrap().unwrap();
}
