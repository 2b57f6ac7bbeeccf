//! Where a session of batches reads: a cluster, whose batches come as they lie there, or the broker in this process.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use common::broker::{Broker, Position, Reader, TopicDescription, Watermarks};
use common::kafka::{Cluster, FetchLimits, Fetcher, Read, Start, Topic};

use super::sink;
use crate::error::{Error, Result};
use crate::lanes::Shape;
use crate::paths::{self, Ways};
use crate::pieces::News;
use crate::wire::End;

/// How long a poll waits at a cluster.
const WAIT: Duration = Duration::from_secs(60);
/// How many records of the broker in this process come at a time, at most; it has a limit in bytes of its own.
const RECORDS: usize = 10_000;

/// A source of batches.
#[derive(Debug)]
pub(super) enum Source {
    /// A cluster, its topics as they were before anything was decided about them.
    Kafka {
        cluster: Arc<Cluster>,
        topics: Vec<Topic>,
        fetcher: Option<Fetcher>,
    },
    /// The broker in this process.
    Embedded {
        broker: Broker,
        topics: Vec<TopicDescription>,
        reader: Option<Reader>,
    },
}

impl Source {
    pub(super) fn new(end: &End, broker: &Broker) -> Self {
        match end {
            End::Kafka(cluster) => Self::Kafka {
                cluster: cluster.clone(),
                topics: Vec::new(),
                fetcher: None,
            },
            End::Embedded => Self::Embedded {
                broker: broker.clone(),
                topics: Vec::new(),
                reader: None,
            },
        }
    }

    /// Looks at topics, of which some may not be there.
    pub(super) async fn look_at(&mut self, names: &[&str]) -> Result<HashMap<String, Shape>> {
        Ok(match self {
            Self::Kafka { cluster, topics, .. } => {
                *topics = cluster.topics(names).await?.into_iter().flatten().collect();
                let shapes = topics
                    .iter()
                    .map(|topic| (topic.name.clone(), Shape::from(topic)));
                shapes.collect()
            }
            Self::Embedded { broker, topics, .. } => {
                topics.clear();
                for name in names {
                    topics.extend(broker.describe(name).await?);
                }
                let shapes = topics
                    .iter()
                    .map(|topic| (topic.name.clone(), Shape::from(topic)));
                shapes.collect()
            }
        })
    }

    /// Where the partitions of these topics begin and end.
    pub(super) async fn marks(&mut self) -> Result<HashMap<(String, i32), Watermarks>> {
        let mut found = HashMap::new();
        match self {
            Self::Kafka { cluster, topics, .. } => {
                let ends = cluster.ends(topics).await?.into_iter();
                found.extend(ends.map(|(at, ends)| {
                    let (low, high) = (ends.low, ends.high);
                    (at, Watermarks { low, high })
                }));
            }
            Self::Embedded { broker, topics, .. } => {
                for topic in topics {
                    for partition in 0..topic.partitions {
                        let marks = broker.watermarks(&topic.name, partition).await?;
                        found.insert((topic.name.clone(), partition), marks);
                    }
                }
            }
        }
        Ok(found)
    }

    /// Reads by which ways the topics there came, if one of those looked at tells that.
    pub(super) async fn ways(&mut self) -> Result<Ways> {
        let mut ways = Ways::default();
        match self {
            Self::Kafka { cluster, topics, .. } => {
                if let Some(topic) = topics.iter().find(|topic| topic.name == paths::TOPIC) {
                    let take = |_, row: Read| ways.take(row.key.as_deref(), row.value.as_deref());
                    sink::each(cluster, topic, take).await?;
                }
            }
            Self::Embedded { broker, .. } => {
                if let Some((found, _)) = paths::load(broker).await? {
                    ways = found;
                }
            }
        }
        Ok(ways)
    }

    /// Whether a partition is read over the connection that another one is read over in any case.
    pub(super) fn goes_along(&self, start: &Start, others: &[Start]) -> bool {
        match self {
            Self::Kafka { topics, .. } => {
                let leader = |start: &Start| {
                    let topic = topics.iter().find(|topic| topic.name == start.topic)?;
                    topic.leader(start.partition)
                };
                let leader_of_it = leader(start);
                leader_of_it.is_some() && others.iter().any(|other| leader(other) == leader_of_it)
            }
            Self::Embedded { .. } => true,
        }
    }

    /// Begins to read; of a cluster at most so many bytes at a time, and with a `look` at its topics now and then, over the
    /// same connections.
    pub(super) async fn open(
        &mut self,
        starts: &[Start],
        bytes: usize,
        look: Option<Duration>,
    ) -> Result<()> {
        match self {
            Self::Kafka {
                cluster,
                topics,
                fetcher,
            } => {
                let limits = FetchLimits {
                    wait: WAIT,
                    bytes,
                    alone: true,
                    look,
                };
                *fetcher = Some(Fetcher::open(cluster, topics, starts, limits).await?);
            }
            Self::Embedded { broker, reader, .. } => {
                let at = |start: &Start| Position::at(&start.topic, start.partition, start.offset);
                let positions: Vec<Position> = starts.iter().map(at).collect();
                if !positions.is_empty() {
                    *reader = Some(broker.reader(&positions).await?);
                }
                // A topic that was made again before it was opened would be read in the old one's place.
                self.is_the_same().await?;
            }
        }
        Ok(())
    }

    /// What came; nothing when it was waited for in vain. Safe to drop.
    pub(super) async fn next(&mut self) -> Result<Vec<News>> {
        match self {
            Self::Kafka {
                fetcher: Some(fetcher),
                ..
            } => Ok(fetcher.next().await?.into_iter().map(News::from).collect()),
            Self::Embedded {
                reader: Some(reader), ..
            } => Ok(News::of_records(reader.next(RECORDS, WAIT).await?)),
            _ => std::future::pending().await,
        }
    }

    /// What came already.
    pub(super) async fn ready(&mut self) -> Result<Vec<News>> {
        match self {
            Self::Kafka {
                fetcher: Some(fetcher),
                ..
            } => match fetcher.ready() {
                Some(fetched) => Ok(fetched?.into_iter().map(News::from).collect()),
                None => Ok(Vec::new()),
            },
            Self::Embedded {
                reader: Some(reader), ..
            } => Ok(News::of_records(reader.next(RECORDS, Duration::ZERO).await?)),
            _ => Ok(Vec::new()),
        }
    }

    /// Fails when one of the topics is not what it was.
    pub(super) async fn is_the_same(&mut self) -> Result<()> {
        let changed = |topic: &str| Error::Changed { topic: topic.into() };
        match self {
            Self::Kafka { cluster, topics, .. } => {
                let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
                if let Some(topic) = Topic::changed(topics, &cluster.topics(&names).await?) {
                    return Err(changed(&topic.name));
                }
            }
            Self::Embedded { broker, topics, .. } => {
                for known in topics {
                    let found = broker.describe(&known.name).await?;
                    let same = |found: TopicDescription| {
                        found.id == known.id && found.partitions == known.partitions
                    };
                    if !found.is_some_and(same) {
                        return Err(changed(&known.name));
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether reading costs the link nothing.
    pub(super) fn at_home(&self) -> bool {
        matches!(self, Self::Embedded { .. })
    }
}
