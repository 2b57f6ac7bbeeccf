//! A side's topics: asked for over the link's own connections, which are under the budget, wherever there are any.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use common::broker::{self, Broker, Cleanup, GroupDescription, Outgoing, Record, TopicSpec, Watermarks};
use common::chassis::now_ms;
use common::kafka::{self, Cluster, Producer};

use crate::batches;
use crate::carrier::TIMEOUT;
use crate::error::{Error, Result};
use crate::lanes::{KEEPING, Keeping, Shape};
use crate::wire::End;

/// Compacted topics are read from their beginning, so old segments are made compactable early.
const COMPACTED_SEGMENT_BYTES: &str = "16777216";

/// A topic as it is, and where its partitions begin and end.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) shape: Shape,
    pub(crate) marks: Vec<Watermarks>,
}

/// A side of the link.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place<'a> {
    /// A cluster, by the link's own connections.
    Kafka(&'a Arc<Cluster>),
    /// The broker in this process, or a cluster by way of librdkafka.
    Broker(&'a Broker),
}

impl<'a> Place<'a> {
    /// A side with the connections that a carrier has there, if it has some.
    pub(crate) fn of(end: Option<&'a End>, broker: &'a Broker) -> Self {
        match end {
            Some(End::Kafka(cluster)) => Self::Kafka(cluster),
            Some(End::Embedded) | None => Self::Broker(broker),
        }
    }

    /// A topic as it is, and what it keeps; none when it is not there.
    pub(crate) async fn look(self, topic: &str) -> Result<Option<(Shape, Keeping)>> {
        match self {
            Self::Kafka(cluster) => {
                let (found, keeps) = tokio::try_join!(
                    cluster.topics(std::slice::from_ref(&topic)),
                    cluster.properties(std::slice::from_ref(&topic), &KEEPING)
                )?;
                let Some(found) = found.into_iter().flatten().next() else {
                    return Ok(None);
                };
                let shape = Shape::from(&found);
                let keeps = keeps.into_iter().next().unwrap_or_default();
                Ok(Some((shape, Keeping::from(keeps))))
            }
            Self::Broker(broker) => {
                let found = broker.describe(topic).await?;
                Ok(found.map(|found| (Shape::from(&found), Keeping::from(found))))
            }
        }
    }

    /// Makes a topic.
    pub(crate) async fn make(self, spec: &TopicSpec) -> Result<()> {
        match self {
            Self::Kafka(cluster) => {
                cluster
                    .make_topic(&spec.name, spec.partitions, &settings(spec))
                    .await?;
            }
            Self::Broker(broker) => {
                broker.create_topic(spec).await?;
            }
        }
        Ok(())
    }

    /// Writes a record; to the first partition of a cluster's topic, in a transaction under `id`.
    pub(crate) async fn put(self, id: &str, record: Outgoing) -> Result<()> {
        match self {
            Self::Kafka(cluster) => {
                let at = kafka::Partition {
                    topic: record.topic.as_str().into(),
                    index: 0,
                };
                let row = kafka::Row {
                    timestamp: record.timestamp.unwrap_or_else(now_ms),
                    key: record.key.as_deref(),
                    value: record.value.as_deref(),
                    headers: &record.headers,
                };
                let batches: Vec<_> = kafka::pack(&[row]).map(|batch| (at, batch)).into_iter().collect();
                let mut producer = Producer::take_over(cluster, id, TIMEOUT).await?;
                producer.carry(&batches, &[], |_| Vec::new()).await?;
            }
            Self::Broker(broker) => {
                broker.producer()?.send(record).await?;
            }
        }
        Ok(())
    }

    /// Gives a topic more partitions.
    pub(crate) async fn widen(self, topic: &str, partitions: i32) -> Result<()> {
        match self {
            Self::Kafka(cluster) => Ok(cluster.add_partitions(topic, partitions).await?),
            Self::Broker(broker) => Ok(broker.add_partitions(topic, partitions).await?),
        }
    }

    /// Where a partition begins and ends.
    pub(crate) async fn marks(self, topic: &str, partition: i32) -> Result<Watermarks> {
        match self {
            Self::Kafka(cluster) => {
                let found = cluster.topics(&[topic]).await?;
                let found: Vec<kafka::Topic> = found.into_iter().flatten().collect();
                let ends: HashMap<_, _> = cluster.ends(&found).await?;
                let ends = ends.get(&(topic.to_owned(), partition));
                let ends = ends.ok_or_else(|| kafka::Error::UnknownTopic {
                    topic: topic.to_owned(),
                })?;
                Ok(Watermarks {
                    low: ends.low,
                    high: ends.high,
                })
            }
            Self::Broker(broker) => Ok(broker.watermarks(topic, partition).await?),
        }
    }
}

impl Place<'_> {
    /// All topics.
    pub(crate) async fn names(self) -> Result<Vec<String>> {
        match self {
            Self::Kafka(cluster) => Ok(cluster.names().await?),
            Self::Broker(broker) => Ok(broker.topic_names().await?),
        }
    }

    /// Reads a topic to its end; nothing where there is none.
    pub(crate) async fn each(self, topic: &str, mut visit: impl FnMut(Record) + Send) -> Result<()> {
        match self {
            Self::Kafka(cluster) => {
                let Some(found) = cluster.topics(&[topic]).await?.into_iter().flatten().next() else {
                    return Ok(());
                };
                let name: Arc<str> = topic.into();
                let take = |partition, row| visit(record(&name, partition, row));
                batches::each(cluster, &found, take).await
            }
            Self::Broker(broker) => match broker.read_to_end(topic, visit).await {
                Ok(()) | Err(broker::Error::UnknownTopic { .. }) => Ok(()),
                Err(error) => Err(error.into()),
            },
        }
    }

    /// A topic as it is, and where its partitions begin and end; none when it is not there.
    pub(crate) async fn ends(self, topic: &str) -> Result<Option<Ends>> {
        match self {
            Self::Kafka(cluster) => {
                let Some(found) = cluster.topics(&[topic]).await?.into_iter().flatten().next() else {
                    return Ok(None);
                };
                let ends = cluster.ends(std::slice::from_ref(&found)).await?;
                let shape = Shape::from(&found);
                // Their place is their partition's number.
                let marks = (0..shape.partitions).map_while(|partition| {
                    let ends = ends.get(&(topic.to_owned(), partition))?;
                    Some(Watermarks {
                        low: ends.low,
                        high: ends.high,
                    })
                });
                let marks = marks.collect();
                Ok(Some(Ends { shape, marks }))
            }
            Self::Broker(broker) => {
                let Some(found) = broker.describe(topic).await? else {
                    return Ok(None);
                };
                let shape = Shape::from(&found);
                let mut marks = Vec::new();
                for partition in 0..shape.partitions {
                    marks.push(broker.watermarks(topic, partition).await?);
                }
                Ok(Some(Ends { shape, marks }))
            }
        }
    }

    /// All consumer groups.
    pub(crate) async fn groups(self) -> Result<Vec<GroupDescription>> {
        match self {
            Self::Kafka(cluster) => {
                let groups = cluster.groups().await?.into_iter();
                Ok(groups
                    .map(|group| GroupDescription {
                        name: group.name,
                        members: group.members,
                    })
                    .collect())
            }
            Self::Broker(broker) => Ok(broker.groups().await?),
        }
    }

    /// What a group has committed in these topics, all of which are there: the next offset to be read.
    pub(crate) async fn committed(
        self,
        group: &str,
        topics: &BTreeSet<String>,
    ) -> Result<HashMap<(String, i32), i64>> {
        match self {
            Self::Kafka(cluster) => {
                let mut found = cluster.committed(group).await?;
                found.retain(|(topic, _), _| topics.contains(topic));
                Ok(found)
            }
            Self::Broker(broker) => {
                let mut found = HashMap::new();
                for topic in topics {
                    let committed = broker.committed(group, topic).await?.into_iter();
                    found.extend(committed.map(|(partition, offset)| ((topic.clone(), partition), offset)));
                }
                Ok(found)
            }
        }
    }

    /// Commits positions for a group that has no members.
    ///
    /// # Errors
    /// With [`broker::Error::GroupInUse`] when it has some.
    pub(crate) async fn commit_for(self, group: &str, topic: &str, positions: &[(i32, i64)]) -> Result<()> {
        match self {
            Self::Kafka(cluster) => {
                if cluster.commit(group, topic, positions).await? {
                    return Ok(());
                }
                let groups = cluster.groups().await?.into_iter();
                let members = groups.filter(|found| found.name == group);
                Err(broker::Error::GroupInUse {
                    group: group.to_owned(),
                    members: members.flat_map(|found| found.members).collect(),
                }
                .into())
            }
            Self::Broker(broker) => Ok(broker.commit_for(group, topic, positions).await?),
        }
    }

    /// The first offset of this time or later; none behind the last record.
    pub(crate) async fn offset_at(self, topic: &str, partition: i32, time: i64) -> Result<Option<i64>> {
        match self {
            Self::Kafka(cluster) => {
                let found = cluster.topics(&[topic]).await?.into_iter().flatten().next();
                let found = found.ok_or_else(|| kafka::Error::UnknownTopic {
                    topic: topic.to_owned(),
                })?;
                Ok(cluster.offset_at(&found, partition, time).await?)
            }
            Self::Broker(broker) => Ok(broker.offset_at(topic, partition, time).await?),
        }
    }

    /// Where a partition begins and ends; nowhere where there is none.
    pub(crate) async fn marks_if_any(self, topic: &str, partition: i32) -> Result<Watermarks> {
        use broker::Error as B;
        match self.marks(topic, partition).await {
            Err(
                Error::Broker(B::UnknownTopic { .. } | B::UnknownPartition { .. })
                | Error::Wire(kafka::Error::UnknownTopic { .. }),
            ) => Ok(Watermarks { low: 0, high: 0 }),
            other => other,
        }
    }
}

/// A record of a cluster as one of any broker.
pub(crate) fn record(topic: &Arc<str>, partition: i32, row: kafka::Read) -> Record {
    Record {
        topic: topic.clone(),
        partition,
        offset: row.offset,
        timestamp: row.timestamp,
        key: row.key,
        value: row.value,
        headers: row.headers,
    }
}

/// What a topic is made with, by Kafka's names.
fn settings(spec: &TopicSpec) -> Vec<(&str, String)> {
    let mut settings = vec![("max.message.bytes", spec.max_message_bytes.to_string())];
    match spec.cleanup {
        Cleanup::Delete => {
            settings.push(("cleanup.policy", "delete".into()));
            let retention = spec
                .retention
                .map(|time| ("retention.ms", time.as_millis().to_string()));
            settings.extend(retention);
        }
        Cleanup::Compact => {
            settings.push(("cleanup.policy", "compact".into()));
            settings.push(("segment.bytes", COMPACTED_SEGMENT_BYTES.into()));
        }
    }
    let further = spec.config.iter();
    settings.extend(further.map(|(key, value)| (key.as_str(), value.clone())));
    settings
}
