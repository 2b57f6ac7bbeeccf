//! The same promises between real brokers, and between an embedded edge and a real core.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use common::broker::{self, Outgoing, TopicSpec};
use common::kafka::{Error, FetchLimits, Fetcher, Start};
use common::schemas::topic;
use testkit::eventually;
use testkit::proxy::Proxy;
use tokio::sync::{Mutex, MutexGuard, Semaphore, SemaphorePermit};

use crate::compression;
use crate::exactly_once::survives;
use crate::instances::one_works;
use crate::rig::{LIMIT, Rig, contents};

#[expect(clippy::disallowed_methods, reason = "tests are told where the engines are")]
pub(crate) fn url(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; make engines-up tells what to set"))
}

/// The ports at which the core's clients are told to go through a line: of each, one test at a time has it.
static PORTS: [Mutex<()>; 3] = [const { Mutex::const_new(()) }; 3];
static FREE: Semaphore = Semaphore::const_new(PORTS.len());

/// One of those ports, and the core's own behind it.
pub(crate) struct Port {
    pub(crate) line: String,
    pub(crate) far: String,
    // In this order: what is free can be taken.
    _one: MutexGuard<'static, ()>,
    _permit: SemaphorePermit<'static>,
}

impl Port {
    /// The first that is free.
    pub(crate) async fn free() -> Self {
        let permit = FREE.acquire().await.unwrap();
        let free = PORTS.iter().enumerate();
        let (at, one) = free
            .filter_map(|(at, port)| Some((at, port.try_lock().ok()?)))
            .next()
            .unwrap();
        let of = ["", "_2", "_3"][at];
        Self {
            line: url(&format!("KAFKA_LINE{of}")),
            far: url(&format!("KAFKA_FAR{of}")),
            _one: one,
            _permit: permit,
        }
    }
}

/// A line to the core, to be used as its address.
pub(crate) async fn line() -> (Port, Proxy) {
    let port = Port::free().await;
    // The one before takes a moment to close.
    let line = eventually(LIMIT, || async {
        let line = Proxy::start(&port.line, &port.far, 1).await;
        line.map_err(|error| error.to_string())
    });
    let line = line.await;
    (port, line)
}

/// The one port for clients with certificates.
static ENCRYPTED: Mutex<()> = Mutex::const_new(());

/// A line to the core for clients with certificates, to be used as its address.
pub(crate) async fn encrypted_line() -> (MutexGuard<'static, ()>, Proxy) {
    let guard = ENCRYPTED.lock().await;
    let line = Proxy::start(&url("KAFKA_LINE_TLS"), &url("KAFKA_FAR_TLS"), 1).await;
    (guard, line.unwrap())
}

/// What a client shows to the core.
pub(crate) fn mutual_tls() -> broker::Tls {
    let file = |name: &str| Some(PathBuf::from(url(name)));
    broker::Tls {
        ca: file("ENGINES_TLS_CA"),
        certificate: file("ENGINES_TLS_CERTIFICATE"),
        key: file("ENGINES_TLS_KEY"),
        unverified: false,
    }
}

/// A Kafka whose link is told what it may do: one test at a time has it, for that is told to all links of a broker.
static TOLD: Mutex<()> = Mutex::const_new(());

/// Two Kafkas, and nothing that links of the edge's were told, or said, before.
pub(crate) async fn told() -> (Rig, MutexGuard<'static, ()>) {
    let guard = TOLD.lock().await;
    let dir = testkit::temp_dir();
    let state = dir.path().to_owned();
    let mut rig = Rig::new(&url("KAFKA_URL"), &url("KAFKA_EDGE_2_URL"), Some(dir)).await;
    rig.settings.state = Some(state);
    for topic in [topic::SERVICE_CONTROL, topic::SERVICE_STATUS] {
        let records = contents(&rig.edge, topic).await.into_values().flatten();
        let keys: BTreeSet<_> = records.filter_map(|record| record.key).collect();
        let gone = keys.into_iter().map(|key| Outgoing::tombstone(topic, key));
        let producer = rig.edge.producer().unwrap();
        producer.send_all(gone.collect()).await.unwrap();
    }
    (rig, guard)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_URL"]
async fn records_are_carried_once_and_in_order_between_two_kafkas() {
    let rig = Rig::two_kafkas().await;
    survives(&rig, 6, 900).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn records_are_carried_once_and_in_order_between_an_embedded_edge_and_kafka() {
    let rig = Rig::small_edge().await;
    survives(&rig, 6, 900).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_URL"]
async fn of_two_links_between_two_kafkas_one_works_and_one_waits() {
    one_works(&Rig::two_kafkas().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn of_two_links_from_an_embedded_edge_to_kafka_one_works_and_one_waits() {
    one_works(&Rig::small_edge().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn clocks_of_one_machine_are_not_apart_as_far_as_link_can_tell() {
    let rig = Rig::small_edge().await;
    let running = rig.start();
    rig.send(0, 50).await;
    let status = rig
        .reports("one", |status| status.gauges.contains_key("clock_skew_ms"))
        .await;
    let (ahead, within) = (
        status.gauges["clock_skew_ms"],
        status.gauges["clock_skew_within_ms"],
    );
    assert!(ahead.abs() <= within, "{ahead} ms ahead, within {within}");
    rig.all_is_carried().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_LINE and KAFKA_FAR"]
async fn link_from_a_cluster_to_itself_carries_nothing_and_says_so() {
    let (_guard, line) = line().await;
    let other = format!("kafka://{}", line.address());
    let rig = Rig::new(&url("KAFKA_URL"), &other, None).await;
    let running = rig.start();
    rig.waits("one", &["are one cluster"]).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_URL"]
async fn what_is_kept_for_ever_is_kept_so_at_the_destination_and_one_that_changes_times_is_told() {
    let rig = Rig::two_kafkas().await;
    rig.core.delete_topic(&rig.news).await.unwrap();
    let mut spec = TopicSpec::new(&rig.news, 3);
    spec.config.insert("retention.ms".into(), "-1".into());
    rig.core.create_topic(&spec).await.unwrap();
    let at_core = rig.readings_at_core();
    rig.core.delete_topic(&at_core).await.unwrap();
    let mut spec = TopicSpec::new(&at_core, 3);
    let stamps = ("message.timestamp.type".to_owned(), "LogAppendTime".to_owned());
    spec.config.extend([stamps]);
    rig.core.create_topic(&spec).await.unwrap();
    let running = rig.start();
    let wanted = format!("{at_core} gives records the time of their arrival there");
    rig.tells("one", &wanted).await;
    let made = eventually(LIMIT, || async {
        let found = rig.edge.describe(&rig.news).await.unwrap();
        found.ok_or("not made yet")
    })
    .await;
    assert_eq!(made.retention, None);
    running.stop().await;
}

/// Brokers close connections on which nothing is said for minutes, and each new one is a handshake on the line: while nothing
/// happens there is one for each reader, and it does for all.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_LINE and KAFKA_FAR"]
async fn partitions_that_are_added_are_noticed_over_the_connection_of_the_polls() {
    let (_guard, line) = line().await;
    let rig = Rig::small_edge().await;
    let cluster = compression::at(&line.address().to_string());
    let topics = cluster.topics(&[rig.news.as_str()]).await.unwrap();
    let topics: Vec<_> = topics.into_iter().flatten().collect();
    let start = Start {
        topic: rig.news.clone(),
        partition: 0,
        offset: 0,
    };
    let limits = FetchLimits {
        wait: Duration::from_millis(300),
        bytes: 1 << 20,
        alone: true,
        look: Some(Duration::from_secs(1)),
    };
    let mut fetcher = Fetcher::open(&cluster, &topics, &[start], limits).await.unwrap();
    cluster.hang_up().await;
    let polls = async |fetcher: &mut Fetcher, time| {
        let changed = async {
            loop {
                if let Err(error) = fetcher.next().await {
                    return error;
                }
            }
        };
        tokio::time::timeout(time, changed).await
    };
    let before = line.carried();
    let early = polls(&mut fetcher, Duration::from_secs(3)).await;
    assert!(early.is_err(), "{early:?}");
    rig.core.add_partitions(&rig.news, 5).await.unwrap();
    let changed = polls(&mut fetcher, LIMIT).await.unwrap();
    assert!(
        matches!(&changed, Error::Changed { topic } if *topic == rig.news),
        "{changed:?}"
    );
    assert_eq!(line.carried().since(&before).connections, 0);
}
