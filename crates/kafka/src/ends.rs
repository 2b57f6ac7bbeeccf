//! Where partitions begin and end, for many at once.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{ApiKey, BrokerId, ListOffsetsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use crate::cluster::{Cluster, Topic};
use crate::error::{Error, Result, check};

/// Asked for in place of a time: the first offset, and the one behind the last.
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;
/// Read committed: the end is that of what is committed.
const COMMITTED: i8 = 1;
/// Read uncommitted: the end is that of what is written.
const WRITTEN: i8 = 0;

/// The first offset of a partition and the one behind the last that is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The first offset that is there.
    pub low: i64,
    /// The end of what is committed.
    pub high: i64,
}

impl Cluster {
    /// The ends of all partitions of these topics, by topic and partition: two questions to each leader.
    pub async fn ends(&self, topics: &[Topic]) -> Result<HashMap<(String, i32), Ends>> {
        self.look_at_ends(topics, COMMITTED).await
    }

    /// The same with the end of what is written, committed or not. Whoever reads what is committed up to there has seen
    /// all that was committed before, though others have transactions open; until those end it has to wait.
    pub async fn written(&self, topics: &[Topic]) -> Result<HashMap<(String, i32), Ends>> {
        self.look_at_ends(topics, WRITTEN).await
    }

    /// The first committed offset of a partition whose record is of this time or later, in milliseconds since 1970.
    pub async fn offset_at(&self, topic: &Topic, partition: i32, time: i64) -> Result<Option<i64>> {
        let leader = topic.leader(partition).ok_or_else(|| Error::UnknownTopic {
            topic: topic.name.clone(),
        })?;
        let connection = self.connection(leader).await?;
        let version = connection.speaks(ApiKey::ListOffsets, "ListOffsets", 6, 7)?;
        let asked = BTreeMap::from([(topic.name.as_str(), vec![partition])]);
        // Below zero are no times, but words.
        let request = request(&asked, time.max(0), COMMITTED);
        let answer = connection.call(&request, version, Duration::ZERO).await?;
        let mut places = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let place = places.next().ok_or(Error::Malformed { what: "offsets" })?;
        check("look at offsets", place.error_code)?;
        Ok((place.offset >= 0).then_some(place.offset))
    }

    async fn look_at_ends(&self, topics: &[Topic], isolation: i8) -> Result<HashMap<(String, i32), Ends>> {
        let mut leaders: BTreeMap<i32, BTreeMap<&str, Vec<i32>>> = BTreeMap::new();
        for topic in topics {
            for (partition, leader) in (0_i32..).zip(&topic.leaders) {
                let of = leaders.entry(*leader).or_default();
                of.entry(topic.name.as_str()).or_default().push(partition);
            }
        }
        let mut found = HashMap::new();
        for (leader, topics) in leaders {
            let connection = self.connection(leader).await?;
            let version = connection.speaks(ApiKey::ListOffsets, "ListOffsets", 6, 7)?;
            let (low, high) = (
                request(&topics, EARLIEST, isolation),
                request(&topics, LATEST, isolation),
            );
            let (low, high) = tokio::try_join!(
                connection.call(&low, version, Duration::ZERO),
                connection.call(&high, version, Duration::ZERO),
            )?;
            let mut lows = HashMap::new();
            for (answer, last) in [(low, false), (high, true)] {
                for topic in answer.topics {
                    for place in topic.partitions {
                        check("look at offsets", place.error_code)?;
                        let at = (topic.name.0.to_string(), place.partition_index);
                        if last {
                            let low = lows.get(&at).copied().unwrap_or_default();
                            found.insert(
                                at,
                                Ends {
                                    low,
                                    high: place.offset,
                                },
                            );
                        } else {
                            lows.insert(at, place.offset);
                        }
                    }
                }
            }
        }
        Ok(found)
    }
}

fn request(topics: &BTreeMap<&str, Vec<i32>>, time: i64, isolation: i8) -> ListOffsetsRequest {
    let partition = |index: &i32| {
        ListOffsetsPartition::default()
            .with_partition_index(*index)
            .with_current_leader_epoch(-1)
            .with_timestamp(time)
    };
    let topics = topics.iter().map(|(name, partitions)| {
        ListOffsetsTopic::default()
            .with_name(TopicName(StrBytes::from_string((*name).to_owned())))
            .with_partitions(partitions.iter().map(partition).collect())
    });
    ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_isolation_level(isolation)
        .with_topics(topics.collect())
}
