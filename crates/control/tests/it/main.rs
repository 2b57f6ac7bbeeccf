//! A service's line to its site, over the embedded broker.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod enrolled;
mod line;
mod logs;
mod supervise;

use std::time::Duration;

use broker::{Broker, Cleanup, TopicSpec};
use chassis::Host;
use schemas::{ServiceStatus, topic};
use testkit::TempDir;

pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// A broker of its own with no topics yet.
pub(crate) async fn bare() -> (TempDir, Broker) {
    let dir = testkit::temp_dir();
    let settings = broker::Settings::url(testkit::sqlite(dir.path(), "broker.db"));
    let broker = Broker::open(&settings, "test", &prometheus::Registry::new())
        .await
        .unwrap();
    (dir, broker)
}

pub(crate) async fn make_topics(broker: &Broker) {
    for name in [topic::SERVICE_CONTROL, topic::SERVICE_STATUS, topic::SERVICE_LOG] {
        let spec = TopicSpec {
            cleanup: Cleanup::Compact,
            ..TopicSpec::new(name, 1)
        };
        broker.create_topic(&spec).await.unwrap();
    }
}

pub(crate) async fn ready() -> (TempDir, Broker) {
    let (dir, broker) = bare().await;
    make_topics(&broker).await;
    (dir, broker)
}

/// What a service reported, oldest first.
pub(crate) async fn reports(broker: &Broker, host: &Host) -> Vec<ServiceStatus> {
    let key = format!("{}/{}", host.service(), host.instance());
    let mut reports = Vec::new();
    let visit = |record: broker::Record| {
        if record.key.as_deref() == Some(key.as_bytes()) {
            reports.push(schemas::decode(&record.value.unwrap()).unwrap());
        }
    };
    broker.read_to_end(topic::SERVICE_STATUS, visit).await.unwrap();
    reports
}
