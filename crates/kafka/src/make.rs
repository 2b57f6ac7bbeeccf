//! Making topics, and giving them more partitions.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::{ApiKey, CreatePartitionsRequest, CreateTopicsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use crate::cluster::{Cluster, Topic};
use crate::connection::Connection;
use crate::error::{Error, Result};

/// How long the servers may take among themselves.
const HELD: Duration = Duration::from_secs(10);
/// How long a topic may take to be seen as it was made.
const SETTLE: Duration = Duration::from_secs(15);
/// The first pause between two looks; it doubles, for each look may be a round trip to another continent.
const STEP: Duration = Duration::from_millis(50);
/// As many copies as the cluster makes by itself.
const BY_ITSELF: i16 = -1;

pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn name(topic: &str) -> TopicName {
    TopicName(text(topic))
}

impl Cluster {
    /// Makes a topic with these settings and as many copies as the cluster makes by itself, and waits until it can be used;
    /// false when it was there already.
    pub async fn make_topic(
        &self,
        topic: &str,
        partitions: i32,
        settings: &[(&str, String)],
    ) -> Result<bool> {
        let configs = settings.iter().map(|(key, value)| {
            CreatableTopicConfig::default()
                .with_name(text(key))
                .with_value(Some(text(value)))
        });
        let wanted = CreatableTopic::default()
            .with_name(name(topic))
            .with_num_partitions(partitions)
            .with_replication_factor(BY_ITSELF)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default()
            .with_topics(vec![wanted])
            .with_timeout_ms(i32::try_from(HELD.as_millis()).unwrap_or(i32::MAX));
        let controller = self.controller().await?;
        let version = controller.speaks(ApiKey::CreateTopics, "CreateTopics", 5, 7)?;
        let answer = controller.call(&request, version, HELD).await?;
        let result = answer.topics.first();
        let result = result.ok_or(Error::Malformed {
            what: "create topics",
        })?;
        let made = match ResponseError::try_from_code(result.error_code) {
            None => true,
            Some(ResponseError::TopicAlreadyExists) => false,
            Some(code) => return Err(refused("make", topic, code, result.error_message.as_ref())),
        };
        self.shows(topic, partitions.max(1)).await?;
        Ok(made)
    }

    /// Gives a topic more partitions, so that there are so many, and waits until they can be used.
    pub async fn add_partitions(&self, topic: &str, partitions: i32) -> Result<()> {
        let wanted = CreatePartitionsTopic::default()
            .with_name(name(topic))
            .with_count(partitions)
            .with_assignments(None);
        let request = CreatePartitionsRequest::default()
            .with_topics(vec![wanted])
            .with_timeout_ms(i32::try_from(HELD.as_millis()).unwrap_or(i32::MAX));
        let controller = self.controller().await?;
        let version = controller.speaks(ApiKey::CreatePartitions, "CreatePartitions", 0, 3)?;
        let answer = controller.call(&request, version, HELD).await?;
        let result = answer.results.first();
        let result = result.ok_or(Error::Malformed {
            what: "create partitions",
        })?;
        match ResponseError::try_from_code(result.error_code) {
            // Somebody else was faster, which will show.
            None | Some(ResponseError::InvalidPartitions) => self.shows(topic, partitions).await,
            Some(code) => Err(refused("widen", topic, code, result.error_message.as_ref())),
        }
    }

    /// The server that decides about topics; where any may be asked, one of them.
    async fn controller(&self) -> Result<Arc<Connection>> {
        let answer = self.metadata(Some(Vec::new())).await?;
        self.learn_addresses(&answer.brokers).await;
        self.connection(answer.controller_id.0).await
    }

    /// Waits until a topic has so many partitions, each of them with a leader.
    async fn shows(&self, topic: &str, partitions: i32) -> Result<()> {
        let (since, mut step) = (Instant::now(), STEP);
        let wide = |found: &Topic| {
            let count = i32::try_from(found.partitions()).unwrap_or(i32::MAX);
            count >= partitions && found.leaders.iter().all(|leader| *leader >= 0)
        };
        loop {
            let found = self.topics(&[topic]).await?.into_iter().flatten().next();
            if found.as_ref().is_some_and(wide) {
                return Ok(());
            }
            if since.elapsed() > SETTLE {
                return Err(Error::Topic {
                    operation: "make",
                    topic: topic.to_owned(),
                    reason: "it did not show in time".to_owned(),
                });
            }
            tokio::time::sleep(step).await;
            step *= 2;
        }
    }
}

fn refused(operation: &'static str, topic: &str, code: ResponseError, message: Option<&StrBytes>) -> Error {
    use ResponseError as E;
    // What passes by itself is no word on the topic.
    if matches!(
        code,
        E::NotController | E::RequestTimedOut | E::ThrottlingQuotaExceeded
    ) {
        return Error::Answer { operation, code };
    }
    let said = message.map(ToString::to_string);
    Error::Topic {
        operation,
        topic: topic.to_owned(),
        reason: said.unwrap_or_else(|| format!("{code:?}")),
    }
}
