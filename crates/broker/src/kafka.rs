//! Apache Kafka, through librdkafka.
//!
//! One producer serves all sends, and all questions about metadata: it is the one client that lives as long as the
//! engine. Readers, members of groups and holders of transactional ids have clients of their own, since librdkafka
//! ties a configuration to each. What blocks in librdkafka runs on blocking threads.

mod admin;
mod config;
mod context;
mod failure;
mod groups;
mod lifeline;
mod member;
mod message;
mod reader;
mod send;
mod transactions;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::admin::AdminClient;
use rdkafka::producer::{Producer, ThreadedProducer};
use tokio::time::Instant;

use self::config::Template;
use self::context::{Context, Quiet, lock};
use self::lifeline::Lifeline;
use crate::engine::{Engine, Member, Membership, ReaderEngine, TransactionsEngine};
use crate::error::{Error, Result};
use crate::group::GroupDescription;
use crate::record::{Outgoing, Placement, Position, Watermarks};
use crate::settings::Settings;
use crate::topics::{TopicDescription, TopicSpec};

/// How long a question to the broker may take.
const ANSWER: Duration = Duration::from_secs(10);

/// Makes the engine. Settings that librdkafka refuses are told here; whether a broker answers is told by the first
/// operation, so that a service can start before its broker.
pub(crate) fn open(
    settings: &Settings,
    servers: &str,
    client: &str,
    at_once: bool,
) -> Result<Arc<dyn Engine>> {
    let template = Template::new(settings, servers, client)?;
    let context = Context::new(servers);
    // It connects when it is made.
    let producer = at_once.then(|| template.producer(context.clone()).map(Arc::new));
    let producer = Mutex::new(producer.transpose()?);
    let (admin, limits) = (Mutex::default(), Mutex::default());
    Ok(Arc::new(Kafka {
        shared: Arc::new(Shared {
            template,
            context,
            producer,
            admin,
            limits,
        }),
    }))
}

struct Kafka {
    shared: Arc<Shared>,
}

/// What all operations share.
struct Shared {
    template: Template,
    context: Context,
    /// Made at need, if not at once.
    producer: Mutex<Option<Arc<ThreadedProducer<Context>>>>,
    /// Made at need.
    admin: Mutex<Option<Admin>>,
    /// The largest record of each topic that large ones were sent to, and since when that is known.
    limits: Mutex<HashMap<String, (usize, Instant)>>,
}

/// The client of operations on topics, and whether it still knows a broker.
struct Admin {
    client: Arc<AdminClient<Quiet>>,
    lifeline: Lifeline,
}

impl Shared {
    /// The producer; a new one if an error has ended it or it knows no broker any more: librdkafka never gets over
    /// either by itself.
    fn producer(&self) -> Result<Arc<ThreadedProducer<Context>>> {
        let mut slot = lock(&self.producer);
        let Some(producer) = slot.as_ref() else {
            let new = Arc::new(self.template.producer(self.context.clone())?);
            *slot = Some(Arc::clone(&new));
            return Ok(new);
        };
        match producer.client().fatal_error() {
            Some((code, reason)) => tracing::warn!(%code, reason, "producer has ended and is replaced"),
            None if self.context.lifeline().cut() => {
                tracing::warn!("producer has lost all brokers and is replaced");
            }
            None => return Ok(Arc::clone(producer)),
        }
        self.context.lifeline().renew();
        let new = Arc::new(self.template.producer(self.context.clone())?);
        let old = slot.replace(Arc::clone(&new));
        detach("kafka-close", move || drop(old));
        Ok(new)
    }
}

/// Destroying a client waits for its threads, which must not hold up a runtime's thread.
impl Drop for Shared {
    fn drop(&mut self) {
        let clients = (lock(&self.producer).take(), lock(&self.admin).take());
        detach("kafka-close", move || drop(clients));
    }
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kafka")
            .field("servers", &self.shared.context.servers())
            .finish()
    }
}

/// Runs something that blocks on a blocking thread of the runtime.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Error::Closed)?
}

/// Runs something that blocks on a thread of its own and waits for nothing.
fn detach(name: &str, work: impl FnOnce() + Send + 'static) {
    if let Err(error) = std::thread::Builder::new().name(name.into()).spawn(work) {
        tracing::warn!(%error, "no thread to close a kafka client");
    }
}

#[async_trait]
impl Engine for Kafka {
    async fn ping(&self) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.ping()).await
    }

    async fn create_topic(&self, spec: &TopicSpec) -> Result<bool> {
        self.shared.create_topic(spec).await
    }

    async fn rehearse_topic(&self, spec: &TopicSpec) -> Result<()> {
        self.shared.rehearse_topic(spec).await
    }

    async fn delete_topic(&self, topic: &str) -> Result<()> {
        self.shared.delete_topic(topic).await
    }

    async fn topics(&self) -> Result<Vec<TopicDescription>> {
        self.shared.topics().await
    }

    async fn describe(&self, topic: &str) -> Result<Option<TopicDescription>> {
        self.shared.describe(topic).await
    }

    async fn topic_names(&self) -> Result<Vec<String>> {
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.topic_names()).await
    }

    async fn add_partitions(&self, topic: &str, partitions: i32) -> Result<()> {
        self.shared.add_partitions(topic, partitions).await
    }

    async fn offset_at(&self, topic: &str, partition: i32, timestamp: i64) -> Result<Option<i64>> {
        let (shared, topic) = (Arc::clone(&self.shared), topic.to_owned());
        blocking(move || shared.offset_at(&topic, partition, timestamp)).await
    }

    async fn groups(&self) -> Result<Vec<GroupDescription>> {
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.groups()).await
    }

    async fn commit_for(&self, group: &str, topic: &str, offsets: &[(i32, i64)]) -> Result<()> {
        let (shared, group, topic) = (Arc::clone(&self.shared), group.to_owned(), topic.to_owned());
        let offsets = offsets.to_vec();
        blocking(move || shared.commit_for(&group, &topic, &offsets)).await
    }

    async fn watermarks(&self, topic: &str, partition: i32) -> Result<Watermarks> {
        let (shared, topic) = (Arc::clone(&self.shared), topic.to_owned());
        blocking(move || shared.watermarks(&topic, partition)).await
    }

    async fn committed(&self, group: &str, topic: &str) -> Result<Vec<(i32, i64)>> {
        let (shared, group, topic) = (Arc::clone(&self.shared), group.to_owned(), topic.to_owned());
        blocking(move || shared.committed(&group, &topic)).await
    }

    async fn send_all(&self, records: Vec<Outgoing>) -> Result<Vec<Placement>> {
        self.shared.send_all(&records).await
    }

    async fn transactions(&self, transactional_id: &str) -> Result<Box<dyn TransactionsEngine>> {
        let (shared, id) = (Arc::clone(&self.shared), transactional_id.to_owned());
        Ok(Box::new(
            blocking(move || transactions::Transactions::init(&shared, id)).await?,
        ))
    }

    async fn reader(&self, positions: &[Position]) -> Result<Box<dyn ReaderEngine>> {
        let (shared, positions) = (Arc::clone(&self.shared), positions.to_vec());
        Ok(Box::new(
            blocking(move || reader::Reader::open(shared, &positions)).await?,
        ))
    }

    async fn join(&self, membership: Membership) -> Result<Box<dyn Member>> {
        let shared = Arc::clone(&self.shared);
        Ok(Box::new(
            blocking(move || member::GroupMember::join(&shared, membership)).await?,
        ))
    }
}
