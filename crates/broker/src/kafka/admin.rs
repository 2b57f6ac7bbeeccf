//! Topics: made, deleted, described; and what the broker knows of partitions and groups.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
    TopicResult,
};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::metadata::MetadataTopic;
use rdkafka::producer::Producer;
use rdkafka::types::RDKafkaRespErr;
use tokio::time::Instant;

use super::context::{Quiet, lock};
use super::failure::{patiently, settling};
use super::lifeline::Lifeline;
use super::{ANSWER, Admin, Shared, blocking};
use crate::error::{Error, Result, Source};
use crate::record::Watermarks;
use crate::topics::{Cleanup, TopicDescription, TopicSpec};

/// How long a topic may take to come or go everywhere.
const SETTLE: Duration = Duration::from_secs(15);
/// How long until a cluster with too few brokers is asked again.
const AGAIN: Duration = Duration::from_millis(500);
/// How long a ping may take.
const PING: Duration = Duration::from_secs(4);
/// How long the id of a topic may take from the log, once its metadata is here.
const ID: Duration = Duration::from_secs(1);
/// Compacted topics are read from their beginning at each start, so old segments are made compactable early.
const COMPACTED_SEGMENT_BYTES: &str = "16777216";

/// A topic as metadata has it.
struct Shape {
    name: String,
    partitions: i32,
    replication: i32,
    ready: bool,
}

impl From<&MetadataTopic> for Shape {
    fn from(topic: &MetadataTopic) -> Self {
        let partitions = topic.partitions();
        Self {
            name: topic.name().to_owned(),
            partitions: i32::try_from(partitions.len()).unwrap_or(i32::MAX),
            replication: partitions
                .first()
                .map_or(1, |first| i32::try_from(first.replicas().len()).unwrap_or(1)),
            ready: !partitions.is_empty() && partitions.iter().all(|partition| partition.leader() >= 0),
        }
    }
}

pub(super) fn topic_error(operation: &'static str, topic: &str) -> impl FnOnce(Source) -> Error {
    let topic = topic.to_owned();
    move |source| Error::Topic {
        operation,
        topic,
        source,
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(ANSWER))
        .operation_timeout(Some(ANSWER))
}

/// An admin operation keeps its code where [`KafkaError::rdkafka_error_code`] does not look.
fn plain(error: KafkaError) -> KafkaError {
    match error {
        KafkaError::AdminOp(code) => KafkaError::Global(code),
        other => other,
    }
}

impl Shared {
    fn admin(&self) -> Result<Arc<AdminClient<Quiet>>> {
        let mut slot = lock(&self.admin);
        if let Some(admin) = slot.as_ref().filter(|admin| !admin.lifeline.cut()) {
            return Ok(Arc::clone(&admin.client));
        }
        let lifeline = Lifeline::default();
        let client = Arc::new(self.template.admin(Quiet(lifeline.clone()))?);
        let new = Admin {
            client: Arc::clone(&client),
            lifeline,
        };
        let old = slot.replace(new);
        drop(slot);
        super::detach("kafka-close", move || drop(old));
        Ok(client)
    }

    pub(super) fn ping(&self) -> Result<()> {
        match self.producer()?.client().fetch_metadata(None, PING) {
            Ok(_) => {
                self.context.up();
                Ok(())
            }
            Err(error) => Err(self.context.or_unreachable(error, topic_error("list", "all"))),
        }
    }

    /// Asks for one topic; none if the broker does not have it.
    fn shape(&self, topic: &str) -> Result<Option<Shape>> {
        let metadata = match self.producer()?.client().fetch_metadata(Some(topic), ANSWER) {
            Ok(metadata) => metadata,
            Err(error) => {
                return match self
                    .context
                    .failure(error, topic, None, topic_error("describe", topic))
                {
                    Error::UnknownTopic { .. } => Ok(None),
                    other => Err(other),
                };
            }
        };
        self.context.up();
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Ok(None);
        };
        match found.error() {
            None | Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE) => {
                Ok(Some(Shape::from(found)))
            }
            Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) => Ok(None),
            Some(other) => Err(topic_error("describe", topic)(
                KafkaError::MetadataFetch(other.into()).into(),
            )),
        }
    }

    /// How many partitions a topic has.
    pub(super) fn partitions(&self, topic: &str) -> Result<i32> {
        let shape = self.shape(topic)?.ok_or_else(|| Error::UnknownTopic {
            topic: topic.to_owned(),
        })?;
        Ok(shape.partitions)
    }

    async fn shape_of(self: &Arc<Self>, topic: &str) -> Result<Option<Shape>> {
        let (shared, topic) = (Arc::clone(self), topic.to_owned());
        blocking(move || shared.shape(&topic)).await
    }

    /// Waits until metadata shows a topic as it is wanted.
    async fn settle(
        self: &Arc<Self>,
        operation: &'static str,
        topic: &str,
        done: impl Fn(Option<&Shape>) -> bool + Send,
    ) -> Result<()> {
        let deadline = Instant::now() + SETTLE;
        while !done(self.shape_of(topic).await?.as_ref()) {
            if Instant::now() > deadline {
                return Err(topic_error(operation, topic)(
                    "the broker did not show it in time".into(),
                ));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    pub(super) async fn create_topic(self: &Arc<Self>, spec: &TopicSpec) -> Result<bool> {
        let created = self.ask_for_topic(spec, &options()).await?;
        self.settle("create", &spec.name, |shape| {
            shape.is_some_and(|shape| shape.ready)
        })
        .await?;
        Ok(created)
    }

    pub(super) async fn rehearse_topic(&self, spec: &TopicSpec) -> Result<()> {
        let only = options().validate_only(true);
        self.ask_for_topic(spec, &only).await.map(drop)
    }

    /// Whether there was no such topic.
    async fn ask_for_topic(&self, spec: &TopicSpec, options: &AdminOptions) -> Result<bool> {
        let config = configuration(spec);
        let replication = TopicReplication::Fixed(spec.replication);
        let topic = config.iter().fold(
            NewTopic::new(&spec.name, spec.partitions, replication),
            |topic, (key, value)| topic.set(key, value),
        );
        let deadline = Instant::now() + SETTLE;
        loop {
            let admin = self.admin()?;
            let answer = admin.create_topics([&topic], options);
            match self.one("create", &spec.name, answer.await)? {
                Ok(()) => return Ok(true),
                Err(Code::TopicAlreadyExists) => return Ok(false),
                // A cluster says so too while a broker of it has just started or is fenced for a moment.
                Err(Code::InvalidReplicationFactor) if Instant::now() < deadline => {
                    tokio::time::sleep(AGAIN).await;
                }
                Err(code) => {
                    let otherwise = topic_error("create", &spec.name);
                    return Err(self.context.or_unreachable(KafkaError::Global(code), otherwise));
                }
            }
        }
    }

    pub(super) async fn delete_topic(self: &Arc<Self>, topic: &str) -> Result<()> {
        let admin = self.admin()?;
        let answer = admin.delete_topics(&[topic], &options());
        if let Err(code) = self.one("delete", topic, answer.await)? {
            let otherwise = topic_error("delete", topic);
            return Err(self
                .context
                .failure(KafkaError::Global(code), topic, None, otherwise));
        }
        self.settle("delete", topic, |shape| shape.is_none()).await?;
        self.context.forget(topic);
        Ok(())
    }

    pub(super) async fn add_partitions(self: &Arc<Self>, topic: &str, partitions: i32) -> Result<()> {
        let wide = |shape: &Shape| shape.partitions >= partitions && shape.ready;
        let unknown = || Error::UnknownTopic {
            topic: topic.to_owned(),
        };
        if wide(&self.shape_of(topic).await?.ok_or_else(unknown)?) {
            return Ok(());
        }
        let admin = self.admin()?;
        let more = NewPartitions::new(topic, usize::try_from(partitions).unwrap_or_default());
        let answer = admin.create_partitions([&more], &options());
        match self.one("widen", topic, answer.await)? {
            // Somebody else was faster, which the metadata will show.
            Ok(()) | Err(Code::InvalidPartitions) => {}
            Err(code) => {
                let otherwise = topic_error("widen", topic);
                return Err(self
                    .context
                    .failure(KafkaError::Global(code), topic, None, otherwise));
            }
        }
        self.settle("widen", topic, |shape| shape.is_some_and(wide)).await
    }

    /// The one result of an operation on one topic.
    fn one(
        &self,
        operation: &'static str,
        topic: &str,
        answer: Result<Vec<TopicResult>, KafkaError>,
    ) -> Result<std::result::Result<(), Code>> {
        let results = answer.map_err(|error| {
            self.context
                .or_unreachable(plain(error), topic_error(operation, topic))
        })?;
        self.context.up();
        match results.into_iter().next() {
            Some(Ok(_)) => Ok(Ok(())),
            Some(Err((_, code))) => Ok(Err(code)),
            None => Err(topic_error(operation, topic)(
                "the broker's answer is empty".into(),
            )),
        }
    }

    pub(super) async fn topics(self: &Arc<Self>) -> Result<Vec<TopicDescription>> {
        let shared = Arc::clone(self);
        let shapes = blocking(move || {
            let producer = shared.producer()?;
            let listed = producer
                .client()
                .fetch_metadata(None, ANSWER)
                .map_err(|error| shared.context.or_unreachable(error, topic_error("list", "all")))?;
            let names = listed
                .topics()
                .iter()
                .map(MetadataTopic::name)
                .filter(|name| !name.starts_with("__"));
            let mut shapes = Vec::new();
            // One by one, since only a question for a topic by name tells its id; see `Context::topic_id`.
            for name in names {
                shapes.extend(shared.shape(name)?);
            }
            Ok(shapes)
        })
        .await?;
        let mut topics = self.describe_all(shapes).await?;
        topics.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(topics)
    }

    pub(super) async fn describe(self: &Arc<Self>, topic: &str) -> Result<Option<TopicDescription>> {
        let Some(shape) = self.shape_of(topic).await? else {
            return Ok(None);
        };
        Ok(self.describe_all(vec![shape]).await?.pop())
    }

    async fn describe_all(self: &Arc<Self>, shapes: Vec<Shape>) -> Result<Vec<TopicDescription>> {
        if shapes.is_empty() {
            return Ok(Vec::new());
        }
        let resources: Vec<_> = shapes
            .iter()
            .map(|shape| ResourceSpecifier::Topic(&shape.name))
            .collect();
        let admin = self.admin()?;
        let answer = admin.describe_configs(&resources, &options());
        let configs = answer.await.map_err(|error| {
            self.context
                .or_unreachable(plain(error), topic_error("describe", &shapes[0].name))
        })?;
        let mut topics = Vec::with_capacity(shapes.len());
        for (shape, config) in shapes.into_iter().zip(configs) {
            let config = match config {
                Ok(config) => config,
                // It was deleted between the two questions.
                Err(Code::UnknownTopicOrPartition) => continue,
                Err(code) => {
                    return Err(topic_error("describe", &shape.name)(
                        KafkaError::Global(code).into(),
                    ));
                }
            };
            let shared = Arc::clone(self);
            let name = shape.name.clone();
            let id = blocking(move || Ok(shared.context.topic_id(&name, ID))).await?;
            topics.push(description(shape, &config, id.unwrap_or_default()));
        }
        Ok(topics)
    }

    /// The largest batch of records that a topic takes, as its configuration says.
    pub(super) async fn max_message_bytes(&self, topic: &str) -> Option<usize> {
        let resource = [ResourceSpecifier::Topic(topic)];
        let admin = self.admin().ok()?;
        let answer = admin.describe_configs(&resource, &options());
        let config = answer.await.ok()?.pop()?.ok()?;
        config.get("max.message.bytes")?.value.as_deref()?.parse().ok()
    }

    /// The ends of a partition; clients read committed records, so the upper one is the last stable offset.
    pub(super) fn watermarks(&self, topic: &str, partition: i32) -> Result<Watermarks> {
        let producer = self.producer()?;
        let ask = || producer.client().fetch_watermarks(topic, partition, ANSWER);
        match patiently(ANSWER, settling, ask) {
            Ok((low, high)) => Ok(Watermarks { low, high }),
            // The client's answer is the same for a topic and for a partition that is not there.
            Err(error) => {
                match self
                    .context
                    .failure(error, topic, Some(partition), topic_error("describe", topic))
                {
                    Error::UnknownTopic { .. } | Error::UnknownPartition { .. } => {
                        let partitions = self.partitions(topic)?;
                        if (0..partitions).contains(&partition) {
                            return Err(topic_error("describe", topic)(
                                "its partitions have no leader yet".into(),
                            ));
                        }
                        Err(Error::UnknownPartition {
                            topic: topic.to_owned(),
                            partition,
                        })
                    }
                    other => Err(other),
                }
            }
        }
    }
}

/// The topic's configuration as Kafka names it; what the specification says in Kafka's words goes over the rest.
fn configuration(spec: &TopicSpec) -> BTreeMap<&str, String> {
    let mut config = BTreeMap::from([("max.message.bytes", spec.max_message_bytes.to_string())]);
    let retention = match spec.cleanup {
        Cleanup::Delete => {
            config.insert("cleanup.policy", "delete".into());
            config.extend(
                spec.retention_bytes
                    .map(|bytes| ("retention.bytes", bytes.to_string())),
            );
            "retention.ms"
        }
        Cleanup::Compact => {
            config.insert("cleanup.policy", "compact".into());
            config.insert("segment.bytes", COMPACTED_SEGMENT_BYTES.into());
            "delete.retention.ms"
        }
    };
    config.extend(
        spec.retention
            .map(|time| (retention, time.as_millis().to_string())),
    );
    config.extend(
        spec.config
            .iter()
            .map(|(key, value)| (key.as_str(), value.clone())),
    );
    config
}

fn description(shape: Shape, config: &ConfigResource, id: String) -> TopicDescription {
    let value = |name| config.get(name).and_then(|entry| entry.value.as_deref());
    let compacted = value("cleanup.policy").is_some_and(|policy| policy.contains("compact"));
    let retention = value(if compacted {
        "delete.retention.ms"
    } else {
        "retention.ms"
    });
    TopicDescription {
        name: shape.name,
        partitions: shape.partitions,
        replication: shape.replication,
        cleanup: if compacted {
            Cleanup::Compact
        } else {
            Cleanup::Delete
        },
        // -1, which is for ever, is no number of milliseconds.
        retention: retention
            .and_then(|millis| millis.parse().ok())
            .map(Duration::from_millis),
        // So is -1 no number of bytes.
        retention_bytes: value("retention.bytes")
            .and_then(|bytes| bytes.parse().ok())
            .filter(|_| !compacted),
        max_message_bytes: value("max.message.bytes").and_then(|bytes| bytes.parse().ok()),
        id,
    }
}
