//! Looking at all topics of a cluster, at their settings, and at the disks beneath.

use std::collections::HashMap;
use std::time::Duration;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::{ApiKey, DescribeConfigsRequest, DescribeLogDirsRequest};
use kafka_protocol::protocol::StrBytes;

use crate::cluster::Cluster;
use crate::error::{Result, check};

/// `DescribeConfigs`: the resource is a topic.
const TOPIC: i8 = 2;

/// What the directories still take in which servers keep records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Free bytes of the fullest one.
    pub bytes: u64,
    /// How many there are, of all servers.
    pub directories: u32,
}

impl Cluster {
    /// Which cluster this is, whatever its address.
    pub async fn id(&self) -> Result<Option<String>> {
        let answer = self.metadata(Some(Vec::new())).await?;
        Ok(answer.cluster_id.map(|id| id.to_string()))
    }

    /// The names of all topics but the cluster's own, in order.
    pub async fn names(&self) -> Result<Vec<String>> {
        let answer = self.metadata(None).await?;
        let topics = answer.topics.iter().filter(|topic| !topic.is_internal);
        let names = topics.filter_map(|topic| topic.name.as_ref());
        let mut names: Vec<String> = names.map(|name| name.0.to_string()).collect();
        names.retain(|name| !name.starts_with("__"));
        names.sort_unstable();
        Ok(names)
    }

    /// What the disks of all servers still take; none where one does not know. It takes Kafka 3.3, and the right to
    /// describe the cluster.
    pub async fn room(&self) -> Result<Option<Room>> {
        let answer = self.metadata(Some(Vec::new())).await?;
        self.learn_addresses(&answer.brokers).await;
        // Of no topic: how large each of all partitions is would be much.
        let request = DescribeLogDirsRequest::default().with_topics(Some(Vec::new()));
        let mut room: Option<Room> = None;
        for server in &answer.brokers {
            let connection = self.connection(server.node_id.0).await?;
            let version = connection.speaks(ApiKey::DescribeLogDirs, "DescribeLogDirs", 4, 4)?;
            let answer = connection.call(&request, version, Duration::ZERO).await?;
            check("look at the disks", answer.error_code)?;
            // One that is broken takes nothing, and nothing is put there.
            for directory in answer.results.iter().filter(|one| one.error_code == 0) {
                let Ok(bytes) = u64::try_from(directory.usable_bytes) else {
                    return Ok(None);
                };
                let before = room.unwrap_or(Room {
                    bytes,
                    directories: 0,
                });
                room = Some(Room {
                    bytes: before.bytes.min(bytes),
                    directories: before.directories + 1,
                });
            }
        }
        Ok(room)
    }

    /// These settings of these topics, in the order asked for; what may not be looked at is left out.
    pub async fn properties(
        &self,
        names: &[&str],
        keys: &[&'static str],
    ) -> Result<Vec<HashMap<String, String>>> {
        let any = self.any().await?;
        let keys: Vec<StrBytes> = keys.iter().map(|key| StrBytes::from_static_str(key)).collect();
        let resources = names.iter().map(|name| {
            DescribeConfigsResource::default()
                .with_resource_type(TOPIC)
                .with_resource_name(StrBytes::from_string((*name).to_owned()))
                .with_configuration_keys(Some(keys.clone()))
        });
        let request = DescribeConfigsRequest::default().with_resources(resources.collect());
        let version = any.speaks(ApiKey::DescribeConfigs, "DescribeConfigs", 4, 4)?;
        let answer = any.call(&request, version, Duration::ZERO).await?;
        let of = |name: &&str| {
            let mut results = answer.results.iter();
            let result = results.find(|result| *result.resource_name == **name);
            let configs = result.into_iter().flat_map(|result| &result.configs);
            let known = configs.filter_map(|config| {
                let value = config.value.as_ref()?;
                Some((config.name.to_string(), value.to_string()))
            });
            known.collect()
        };
        Ok(names.iter().map(of).collect())
    }
}
