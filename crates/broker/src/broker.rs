//! The handle that everything at a broker starts from.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::consumer::{Consumer, ConsumerSettings, Subscription};
use crate::engine::{Engine, Membership};
use crate::error::{Error, Result};
use crate::group::GroupDescription;
use crate::lease::Lease;
use crate::metrics::Metrics;
use crate::producer::{Producer, Transactions};
use crate::reader::Reader;
use crate::record::{Position, Record, Watermarks};
use crate::settings::{Settings, Target};
use crate::topics::{TopicDescription, TopicSpec};
use crate::{kafka, sqlite};

const LEASE_SESSION: Duration = Duration::from_secs(6);
const READ_RECORDS: usize = 500;
const READ_WAIT: Duration = Duration::from_millis(500);

/// A broker, of either engine. Cheap to clone.
#[derive(Clone)]
pub struct Broker {
    engine: Arc<dyn Engine>,
    client: Arc<str>,
    metrics: Arc<Metrics>,
}

impl Broker {
    /// Opens the broker that the settings name; `client` is how this user shows up in its logs, in metrics and in
    /// dead letters. Opening an embedded broker again in the same process shares it; another process that holds its
    /// file is [`Error::Locked`]. Kafka need not answer yet: see [`Broker::ping`].
    pub async fn open(settings: &Settings, client: &str, registry: &prometheus::Registry) -> Result<Self> {
        Self::opened(settings, client, registry, true).await
    }

    /// The same, but nobody connects to a Kafka before it is asked for something.
    pub async fn open_at_need(
        settings: &Settings,
        client: &str,
        registry: &prometheus::Registry,
    ) -> Result<Self> {
        Self::opened(settings, client, registry, false).await
    }

    async fn opened(
        settings: &Settings,
        client: &str,
        registry: &prometheus::Registry,
        at_once: bool,
    ) -> Result<Self> {
        settings
            .validate()
            .map_err(|problems| Error::Settings(problems.join("; ")))?;
        let engine = match settings.target()? {
            Target::Kafka(servers) => kafka::open(settings, &servers, client, at_once)?,
            Target::Sqlite(path) => sqlite::open(&path).await?,
        };
        let metrics = Arc::new(Metrics::register(registry, client)?);
        Ok(Self {
            engine,
            client: client.into(),
            metrics,
        })
    }

    /// Asks whether the broker answers.
    pub async fn ping(&self) -> Result<()> {
        self.engine.ping().await
    }

    /// Creates a topic; false if it existed.
    pub async fn create_topic(&self, spec: &TopicSpec) -> Result<bool> {
        let letters = |c: char| c.is_ascii_alphanumeric() || ['.', '_', '-'].contains(&c);
        if spec.name.is_empty()
            || spec.name.len() > 249
            || !spec.name.chars().all(letters)
            || spec.partitions < 1
        {
            let reason =
                "a topic needs a name of letters, digits, dots, dashes, underscores, and a partition".into();
            return Err(Error::Refused {
                topic: spec.name.clone(),
                reason,
            });
        }
        self.engine.create_topic(spec).await
    }

    /// Asks whether this client may create such a topic, and creates nothing.
    pub async fn rehearse_topic(&self, spec: &TopicSpec) -> Result<()> {
        self.engine.rehearse_topic(spec).await
    }

    /// Deletes a topic with its records and the groups' commits in it.
    pub async fn delete_topic(&self, topic: &str) -> Result<()> {
        self.engine.delete_topic(topic).await
    }

    /// All topics, by name.
    pub async fn topics(&self) -> Result<Vec<TopicDescription>> {
        self.engine.topics().await
    }

    /// One topic, or none.
    pub async fn describe(&self, topic: &str) -> Result<Option<TopicDescription>> {
        self.engine.describe(topic).await
    }

    /// The names of all topics: one question, whatever their number.
    pub async fn topic_names(&self) -> Result<Vec<String>> {
        self.engine.topic_names().await
    }

    /// Gives a topic more partitions, so many in all. It never takes any away.
    pub async fn add_partitions(&self, topic: &str, partitions: i32) -> Result<()> {
        self.engine.add_partitions(topic, partitions).await
    }

    /// The first offset whose record was made at this time (milliseconds since 1970) or later; none when there is no
    /// such record.
    pub async fn offset_at(&self, topic: &str, partition: i32, timestamp: i64) -> Result<Option<i64>> {
        self.engine.offset_at(topic, partition, timestamp).await
    }

    /// All consumer groups that have commits or members, by name.
    pub async fn groups(&self) -> Result<Vec<GroupDescription>> {
        self.engine.groups().await
    }

    /// Commits next offsets of a topic for a group, in its place: only one that has no members, else
    /// [`Error::GroupInUse`].
    pub async fn commit_for(&self, group: &str, topic: &str, offsets: &[(i32, i64)]) -> Result<()> {
        self.engine.commit_for(group, topic, offsets).await
    }

    /// The ends of a partition.
    pub async fn watermarks(&self, topic: &str, partition: i32) -> Result<Watermarks> {
        self.engine.watermarks(topic, partition).await
    }

    /// What a group has committed of a topic: partition and next offset.
    pub async fn committed(&self, group: &str, topic: &str) -> Result<Vec<(i32, i64)>> {
        self.engine.committed(group, topic).await
    }

    /// The producer; all of one broker share one.
    pub fn producer(&self) -> Result<Producer> {
        Ok(Producer::new(self.engine.clone(), self.metrics.clone()))
    }

    /// How many records the consumers of this handle and its clones are behind the ends of their partitions; none while
    /// they have no partition.
    pub fn consumer_lag(&self) -> Option<f64> {
        self.metrics.behind()
    }

    /// Takes over a transactional id: an earlier holder is fenced, what it left open is aborted.
    pub async fn transactions(&self, transactional_id: &str) -> Result<Transactions> {
        let engine = self.engine.transactions(transactional_id).await?;
        Ok(Transactions::new(engine, transactional_id, self.metrics.clone()))
    }

    /// Reads given partitions, outside any group.
    pub async fn reader(&self, positions: &[Position]) -> Result<Reader> {
        let engine = self.engine.reader(positions).await?;
        Ok(Reader::new(engine, self.metrics.clone()))
    }

    /// Shows every record of a topic, from the start to the end as it is at the call, partition by partition in order.
    pub async fn read_to_end(&self, topic: &str, mut visit: impl FnMut(Record) + Send) -> Result<()> {
        let description = self.describe(topic).await?.ok_or_else(|| unknown(topic))?;
        let mut ends = Vec::new();
        for partition in 0..description.partitions {
            let marks = self.watermarks(topic, partition).await?;
            if marks.high > marks.low {
                ends.push((partition, marks.high));
            }
        }
        if ends.is_empty() {
            return Ok(());
        }
        let positions: Vec<_> = ends
            .iter()
            .map(|(partition, _)| Position::beginning(topic, *partition))
            .collect();
        let mut reader = self.reader(&positions).await?;
        let end_of = |partition| {
            ends.iter()
                .find(|(p, _)| *p == partition)
                .map_or(0, |(_, high)| *high)
        };
        while ends
            .iter()
            .any(|(p, high)| reader.position(topic, *p).is_none_or(|next| next < *high))
        {
            for record in reader.next(READ_RECORDS, READ_WAIT).await? {
                if record.offset < end_of(record.partition) {
                    visit(record);
                }
            }
        }
        Ok(())
    }

    /// A consumer of a group; it joins when it runs.
    pub fn consumer(&self, subscription: Subscription, settings: ConsumerSettings) -> Result<Consumer> {
        settings.validate()?;
        if subscription.topics.is_empty() && subscription.suffixes.is_empty() {
            return Err(Error::Settings(format!(
                "group {} subscribes to nothing",
                settings.group
            )));
        }
        Ok(Consumer::new(self.clone(), subscription, settings))
    }

    /// Membership of a group as a lock: who has partition 0 of the topic has the lease; the others wait.
    pub async fn lease(&self, topic: &str, group: &str) -> Result<Lease> {
        if self.describe(topic).await?.is_none() {
            return Err(unknown(topic));
        }
        let membership = Membership {
            group: group.into(),
            instance: None,
            subscription: Subscription {
                topics: vec![topic.into()],
                suffixes: Vec::new(),
            },
            from: crate::StartWithout::End,
            fetch: false,
            session_timeout: Some(LEASE_SESSION),
        };
        Ok(Lease::start(self.engine.join(membership).await?, topic))
    }

    pub(crate) fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    pub(crate) fn client(&self) -> &str {
        &self.client
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }
}

pub(crate) fn unknown(topic: &str) -> Error {
    Error::UnknownTopic { topic: topic.into() }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("client", &self.client)
            .field("engine", &self.engine)
            .finish()
    }
}
