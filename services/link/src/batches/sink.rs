//! Where a session of batches writes: a cluster, or the broker in this process. Either way records and the checkpoints
//! that vouch for them become visible together or not at all.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use common::broker::{Broker, Outgoing, Placement, Transactions, partition_of};
use common::chassis::now_ms;
use common::kafka::batch::Batch;
use common::kafka::{
    Cluster, Error as Wired, FetchLimits, Fetcher, Held, Partition, Producer, Read, Row, Skew, Start, Topic,
    pack,
};

use super::BYTES;
use crate::carrier::{Carrier, TIMEOUT};
use crate::checkpoint::{self, Found};
use crate::error::{Error, Result};
use crate::kept::Kept;
use crate::lanes::Shape;
use crate::pieces::{Form, Freight, Piece};
use crate::records::same;
use crate::wire::End;

/// How long a poll waits for checkpoints, which are there already.
const BRIEF: Duration = Duration::from_millis(500);

/// A destination of batches.
#[derive(Debug)]
pub(super) enum Sink {
    /// A cluster.
    Kafka {
        cluster: Arc<Cluster>,
        producer: Box<Producer>,
        checkpoints: Topic,
        kept: Kept,
        /// The transactional id.
        id: String,
        /// The largest batch that each topic takes.
        limits: HashMap<String, usize>,
    },
    /// The broker in this process.
    Embedded {
        broker: Broker,
        transactions: Transactions,
    },
}

impl Sink {
    /// Takes over the carrier's transactional id, and looks at the topics that it will write to; those that are not there
    /// are left out.
    pub(super) async fn take_over(
        carrier: &Carrier,
        end: &End,
        names: &[&str],
    ) -> Result<(Self, HashMap<String, Shape>)> {
        let missing = || Error::NotEnrolled {
            topic: carrier.checkpoints.clone(),
            site: carrier.site.to_string(),
        };
        let id = carrier.transactional_id();
        match end {
            End::Kafka(cluster) => {
                let all = [&[carrier.checkpoints.as_str()], names].concat();
                // Nothing of this changes with the holder of the id.
                let (mut producer, topics, limits) = tokio::try_join!(
                    Producer::take_over(cluster, &id, TIMEOUT),
                    cluster.topics(&all),
                    cluster.batch_limits(names)
                )?;
                let mut topics = topics.into_iter();
                let checkpoints = topics.next().flatten().ok_or_else(missing)?;
                let topics: Vec<Topic> = topics.flatten().collect();
                let places = topics
                    .iter()
                    .map(|topic| (topic.name.clone(), Shape::from(topic)));
                let places = places.collect();
                producer.learn(topics.into_iter().chain([checkpoints.clone()]));
                let sink = Self::Kafka {
                    cluster: cluster.clone(),
                    producer: Box::new(producer),
                    checkpoints,
                    kept: carrier.kept.clone(),
                    id,
                    limits: names.iter().map(|name| (*name).to_owned()).zip(limits).collect(),
                };
                Ok((sink, places))
            }
            End::Embedded => {
                let broker = carrier.destination.clone();
                broker.describe(&carrier.checkpoints).await?.ok_or_else(missing)?;
                let transactions = broker.transactions(&id).await?;
                let mut places = HashMap::new();
                for name in names {
                    let topic = broker.describe(name).await?;
                    places.extend(topic.map(|topic| (topic.name.clone(), Shape::from(&topic))));
                }
                Ok((Self::Embedded { broker, transactions }, places))
            }
        }
    }

    /// All checkpoints, to the end.
    pub(super) async fn checkpoints(&mut self, topic: &str) -> Result<Found> {
        match self {
            Self::Kafka {
                cluster,
                checkpoints,
                kept,
                id,
                ..
            } => kept.read(cluster, checkpoints, id).await,
            Self::Embedded { broker, .. } => checkpoint::find(broker, topic).await,
        }
    }

    /// The largest batch that a topic is known to take.
    pub(super) fn limit(&self, topic: &str) -> Option<usize> {
        match self {
            Self::Kafka { limits, .. } => limits.get(topic).copied(),
            Self::Embedded { .. } => None,
        }
    }

    /// What pieces for a topic are to be like, on a line that is to take no more than `bytes` at a time.
    pub(super) fn form(&self, carrier: &Carrier, topic: &str, bytes: usize) -> Form {
        match self {
            Self::Kafka { .. } => Form::Batches(self.limit(topic).unwrap_or(BYTES).min(bytes)),
            Self::Embedded { .. } => Form::Records(self.most_records(carrier), self.most_bytes(carrier)),
        }
    }

    /// How long a round trip takes.
    pub(super) fn round_trip(&self) -> Duration {
        match self {
            Self::Kafka { producer, .. } => producer.round_trip(),
            Self::Embedded { .. } => Duration::ZERO,
        }
    }

    /// How far this site's clock is off, as far as is known.
    pub(super) fn skew(&self) -> Option<Skew> {
        match self {
            Self::Kafka { producer, .. } => producer.skew(),
            Self::Embedded { .. } => None,
        }
    }

    /// The most bytes of a transaction.
    pub(super) fn most_bytes(&self, carrier: &Carrier) -> usize {
        match self {
            Self::Kafka { .. } => BYTES,
            Self::Embedded { .. } => {
                usize::try_from(carrier.settings.max_bytes.bytes()).map_or(BYTES, |most| most.min(BYTES))
            }
        }
    }

    /// The most records of a transaction.
    pub(super) fn most_records(&self, carrier: &Carrier) -> usize {
        match self {
            Self::Kafka { .. } => usize::MAX,
            Self::Embedded { .. } => carrier.settings.max_records,
        }
    }

    /// Writes checkpoints that vouch for no record.
    pub(super) async fn note(&mut self, checkpoints: Vec<Outgoing>) -> Result<()> {
        match self {
            Self::Kafka {
                producer,
                checkpoints: topic,
                kept,
                id,
                ..
            } => {
                let sealing = addressed(topic, checkpoints);
                let seals = seals(&sealing);
                let places: Vec<Partition> = seals.iter().map(|(at, _)| at.clone()).collect();
                kept.begin(id);
                let carried = producer.carry(&[], &places, |_| seals.clone()).await?;
                kept.committed(id, &sealing, &carried.seals);
            }
            Self::Embedded { transactions, .. } => {
                transactions.commit(Vec::new(), |_| checkpoints).await?;
            }
        }
        Ok(())
    }

    /// Whether a transaction takes more than what is in hand at a time.
    pub(super) fn takes_steps(&self) -> bool {
        matches!(self, Self::Kafka { .. })
    }

    /// Writes pieces in a transaction that [`Self::carry`] goes on with. Returns the offset of each one's first record.
    pub(super) async fn put(&mut self, cargo: &[Freight]) -> Result<Vec<i64>> {
        match self {
            Self::Kafka {
                producer, kept, id, ..
            } => {
                kept.begin(id);
                Ok(producer.put(&parcels(cargo)).await?)
            }
            Self::Embedded { .. } => Ok(Vec::new()),
        }
    }

    /// Writes pieces, and what `seal` makes of the offset of each one's first record, in one transaction. `keys` are the
    /// keys of what it will make. Returns the offsets.
    pub(super) async fn carry(
        &mut self,
        cargo: &[Freight],
        keys: &[String],
        mut seal: impl FnMut(&[i64]) -> Vec<Outgoing> + Send,
    ) -> Result<Vec<i64>> {
        match self {
            Self::Kafka {
                producer,
                checkpoints,
                kept,
                id,
                ..
            } => {
                let places: Vec<Partition> = keys.iter().map(|key| seal_of(checkpoints, key)).collect();
                let mut sealing = Vec::new();
                let sealed = |bases: &[i64]| {
                    sealing = addressed(checkpoints, seal(bases));
                    seals(&sealing)
                };
                kept.begin(id);
                let carried = producer.carry(&parcels(cargo), &places, sealed).await?;
                kept.committed(id, &sealing, &carried.seals);
                Ok(carried.batches)
            }
            Self::Embedded { transactions, .. } => {
                let (mut batch, mut firsts) = (Vec::new(), Vec::with_capacity(cargo.len()));
                for freight in cargo {
                    firsts.push(batch.len());
                    let records = freight.piece.contents().iter();
                    batch.extend(records.map(|record| same(record, &freight.to)));
                }
                // What a transaction writes to a partition lies there without gaps.
                let mut bases = Vec::new();
                let sealed = transactions.commit(batch, |placed: &[Placement]| {
                    let base = |first: &usize| placed.get(*first).map_or(-1, |place| place.offset);
                    bases = firsts.iter().map(base).collect();
                    seal(&bases)
                });
                sealed.await?;
                Ok(bases)
            }
        }
    }

    /// Asks whether it answers.
    pub(super) async fn ping(&mut self) -> Result<()> {
        match self {
            Self::Kafka { cluster, .. } => Ok(cluster.ping().await?),
            Self::Embedded { broker, .. } => Ok(broker.ping().await?),
        }
    }
}

/// Reads a topic of a cluster to the end of what is written there.
pub(crate) async fn each(
    cluster: &Arc<Cluster>,
    topic: &Topic,
    take: impl FnMut(i32, Read) + Send,
) -> Result<()> {
    from(cluster, topic, &HashMap::new(), take).await.map(drop)
}

/// The same from some offsets on, by partition. Returns the ends.
pub(crate) async fn from(
    cluster: &Arc<Cluster>,
    topic: &Topic,
    offsets: &HashMap<i32, i64>,
    mut take: impl FnMut(i32, Read) + Send,
) -> Result<HashMap<i32, i64>> {
    let topic = std::slice::from_ref(topic);
    let (mut left, mut found) = (HashMap::new(), HashMap::new());
    let mut starts = Vec::new();
    for ((topic, partition), ends) in cluster.written(topic).await? {
        let offset = offsets
            .get(&partition)
            .map_or(ends.low, |from| ends.low.max(*from));
        found.insert(partition, ends.high);
        if ends.high > offset {
            left.insert(partition, ends.high);
            starts.push(Start {
                topic,
                partition,
                offset,
            });
        }
    }
    if left.is_empty() {
        return Ok(found);
    }
    let limits = FetchLimits {
        wait: BRIEF,
        bytes: BYTES,
        alone: false,
        look: None,
    };
    let mut fetcher = Fetcher::open(cluster, topic, &starts, limits).await?;
    while !left.is_empty() {
        for news in fetcher.next().await? {
            for row in news.rows()? {
                take(news.partition, row);
            }
            if left.get(&news.partition).is_some_and(|end| news.next >= *end) {
                left.remove(&news.partition);
            }
        }
    }
    Ok(found)
}

/// The checkpoints for who carries record by record, and says nothing of what it commits.
pub(crate) async fn checkpoints(carrier: &Carrier, cluster: &Arc<Cluster>) -> Result<Found> {
    let topic = cluster.topics(&[carrier.checkpoints.as_str()]).await?;
    let Some(topic) = topic.into_iter().flatten().next() else {
        return Ok(Found::default());
    };
    let id = carrier.transactional_id();
    let found = carrier.kept.read(cluster, &topic, &id).await?;
    carrier.kept.begin(&id);
    Ok(found)
}

/// Writes a record among a cluster's checkpoints, under an id that is taken over for it, and tells what that is held by now;
/// none when they have no topic.
pub(crate) async fn mark(
    cluster: &Arc<Cluster>,
    id: &str,
    topic: &str,
    mark: Outgoing,
) -> Result<Option<Held>> {
    let Some(topic) = cluster.topics(&[topic]).await?.into_iter().flatten().next() else {
        return Ok(None);
    };
    let mut producer = Producer::take_over(cluster, id, TIMEOUT).await?;
    producer.learn([topic.clone()]);
    let seals = seals(&addressed(&topic, vec![mark]));
    let places: Vec<Partition> = seals.iter().map(|(at, _)| at.clone()).collect();
    producer.carry(&[], &places, |_| seals.clone()).await?;
    Ok(Some(producer.held()))
}

/// The batches of pieces, with their places at a cluster.
pub(super) fn parcels(cargo: &[Freight]) -> Vec<(Partition, Batch)> {
    let batch = |freight: &Freight| {
        let to = Partition {
            topic: freight.to.as_str().into(),
            index: freight.at.1,
        };
        Some((to, freight.piece.batch()?.clone()))
    };
    cargo.iter().filter_map(batch).collect()
}

/// Where a checkpoint goes.
fn seal_of(checkpoints: &Topic, key: &str) -> Partition {
    let partitions = i32::try_from(checkpoints.partitions()).unwrap_or(1);
    Partition {
        topic: checkpoints.name.as_str().into(),
        index: if partitions > 1 {
            partition_of(key.as_bytes(), partitions)
        } else {
            0
        },
    }
}

/// Checkpoints with their places.
fn addressed(topic: &Topic, checkpoints: Vec<Outgoing>) -> Vec<(Partition, Outgoing)> {
    let place = |checkpoint: Outgoing| {
        let key = checkpoint.key.as_deref().unwrap_or_default();
        (seal_of(topic, &String::from_utf8_lossy(key)), checkpoint)
    };
    checkpoints.into_iter().map(place).collect()
}

/// One batch for each partition.
fn seals(checkpoints: &[(Partition, Outgoing)]) -> Vec<(Partition, Batch)> {
    let mut places: HashMap<&Partition, Vec<Row<'_>>> = HashMap::new();
    for (at, checkpoint) in checkpoints {
        places.entry(at).or_default().push(Row {
            timestamp: now_ms(),
            key: checkpoint.key.as_deref(),
            value: checkpoint.value.as_deref(),
            headers: &checkpoint.headers,
        });
    }
    let batch = |(at, rows): (&Partition, Vec<Row<'_>>)| Some((at.clone(), pack(&rows)?));
    places.into_iter().filter_map(batch).collect()
}

/// The destination's word on one of the pieces, as the next session is to hear it.
pub(super) fn refused(error: Error, cargo: &[Freight], records: usize) -> Error {
    let (index, source) = match error {
        Error::Wire(Wired::Refused {
            topic, index, reason, ..
        }) => (Some(index), common::broker::Error::Refused { topic, reason }),
        Error::Broker(
            source @ (common::broker::Error::TooLarge { .. } | common::broker::Error::Refused { .. }),
        ) => (None, source),
        other => return other,
    };
    let known = index.and_then(|index| cargo.get(index));
    // What is refused without being one of the pieces is a checkpoint.
    let Some(freight) = known.or_else(|| cargo.last().filter(|_| index.is_none())) else {
        return Error::Broker(source);
    };
    let (topic, partition) = freight.at.clone();
    let alone = known.map_or(records, |freight| freight.piece.records()) == 1;
    Error::Refused {
        // A piece of one record is the one; else it is looked for among all.
        records: if alone { 1 } else { records },
        bytes: known.map_or(0, |freight| freight.piece.bytes()),
        last: (topic, partition, freight.piece.last()),
        source,
    }
}

/// A piece that the destination would not take, before it is asked.
pub(super) fn too_large(freight: &Freight, limit: usize) -> Error {
    let Freight { at, to, piece } = freight;
    Error::Refused {
        records: piece.records(),
        bytes: piece.bytes(),
        last: (at.0.clone(), at.1, Piece::last(piece)),
        source: common::broker::Error::TooLarge {
            topic: to.clone(),
            size: piece.bytes(),
            limit,
        },
    }
}
