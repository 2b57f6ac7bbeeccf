//! Consumer groups: which there are, what they have committed, and commits for those that nobody is in.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    ApiKey, DescribeGroupsRequest, GroupId, ListGroupsRequest, OffsetCommitRequest, OffsetFetchRequest,
    TopicName,
};
use kafka_protocol::protocol::Request;
use tokio::time::Instant;

use crate::cluster::{Cluster, GROUP};
use crate::connection::Connection;
use crate::error::{Error, Result, check, passing};
use crate::make::text;

/// How long a coordinator that moves, or a transaction with commits of its own, is waited for.
const SETTLE: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(200);
/// Commits from nobody who is in the group.
const NO_GENERATION: i32 = -1;
/// The states in which nobody is in a group.
const VACANT: [&str; 2] = [EMPTY, "Dead"];
const EMPTY: &str = "Empty";
/// Who is in a group that a server only tells its own kind of client about.
const UNNAMED: &str = "members that the broker does not name";

/// A consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Who is in it now; a group without members only has commits.
    pub members: Vec<String>,
}

/// Codes after which the same question is to be asked again, perhaps of another server.
fn moves(code: i16) -> bool {
    use ResponseError as E;
    let code_of = ResponseError::try_from_code(code);
    passing(code) || matches!(code_of, Some(E::NotCoordinator | E::UnstableOffsetCommit))
}

/// Codes by which a coordinator refuses a commit because somebody is in the group.
fn occupied(code: i16) -> bool {
    use ResponseError as E;
    matches!(
        ResponseError::try_from_code(code),
        Some(
            E::UnknownMemberId
                | E::IllegalGeneration
                | E::RebalanceInProgress
                | E::StaleMemberEpoch
                | E::FencedMemberEpoch
        )
    )
}

impl Cluster {
    /// All groups that this client may see, by name.
    pub async fn groups(&self) -> Result<Vec<Group>> {
        let answer = self.metadata(Some(Vec::new())).await?;
        self.learn_addresses(&answer.brokers).await;
        let mut found = Vec::new();
        // Each server knows those that it coordinates.
        for server in &answer.brokers {
            let connection = self.connection(server.node_id.0).await?;
            found.extend(listed(&connection).await?);
        }
        found.sort_unstable_by(|one: &Group, other| one.name.cmp(&other.name));
        Ok(found)
    }

    /// What a group has committed, by topic and partition: the next offset to be read. Commits of transactions that are
    /// open are waited for.
    pub async fn committed(&self, group: &str) -> Result<HashMap<(String, i32), i64>> {
        let request = OffsetFetchRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_topics(None)
            .with_require_stable(true);
        let versions = (ApiKey::OffsetFetch, "OffsetFetch", 7, 7);
        let (answer, code) = self
            .ask_coordinator(group, versions, &request, |answer| {
                let places = answer.topics.iter().flat_map(|topic| &topic.partitions);
                first_error(places.map(|place| place.error_code).chain([answer.error_code]))
            })
            .await?;
        check("read what a group has committed", code)?;
        let places = answer.topics.iter().flat_map(|topic| {
            let places = topic.partitions.iter();
            places.map(|place| {
                (
                    (topic.name.0.to_string(), place.partition_index),
                    place.committed_offset,
                )
            })
        });
        Ok(places.filter(|(_, offset)| *offset >= 0).collect())
    }

    /// Commits positions in a topic for a group that nobody is in; false, and nothing is committed, when somebody is.
    pub async fn commit(&self, group: &str, topic: &str, positions: &[(i32, i64)]) -> Result<bool> {
        let partitions = positions.iter().map(|(partition, offset)| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(*partition)
                .with_committed_offset(*offset)
                .with_committed_leader_epoch(-1)
        });
        let of = OffsetCommitRequestTopic::default()
            .with_name(TopicName(text(topic)))
            .with_partitions(partitions.collect());
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_generation_id_or_member_epoch(NO_GENERATION)
            .with_topics(vec![of]);
        let versions = (ApiKey::OffsetCommit, "OffsetCommit", 8, 9);
        let (_, code) = self
            .ask_coordinator(group, versions, &request, |answer| {
                let places = answer.topics.iter().flat_map(|topic| &topic.partitions);
                first_error(places.map(|place| place.error_code))
            })
            .await?;
        if occupied(code) {
            return Ok(false);
        }
        if ResponseError::try_from_code(code) == Some(ResponseError::UnknownTopicOrPartition) {
            let topic = topic.to_owned();
            return Err(Error::UnknownTopic { topic });
        }
        check("commit for a group", code).map(|()| true)
    }

    /// Asks a group's coordinator, and again while it moves. The answer, and the first error's code in it.
    async fn ask_coordinator<R: Request>(
        &self,
        group: &str,
        (api, name, lowest, highest): (ApiKey, &'static str, i16, i16),
        request: &R,
        code: impl Fn(&R::Response) -> i16,
    ) -> Result<(R::Response, i16)> {
        let since = Instant::now();
        loop {
            let coordinator = self.coordinator(GROUP, group).await?;
            let version = coordinator.speaks(api, name, lowest, highest)?;
            let answer = coordinator.call(request, version, Duration::ZERO).await?;
            let code = code(&answer);
            if !moves(code) || since.elapsed() >= SETTLE {
                return Ok((answer, code));
            }
            tokio::time::sleep(STEP).await;
        }
    }
}

fn first_error(mut codes: impl Iterator<Item = i16>) -> i16 {
    codes.find(|code| *code != 0).unwrap_or(0)
}

/// The groups that one server coordinates, with their members.
async fn listed(connection: &Arc<Connection>) -> Result<Vec<Group>> {
    let version = connection.speaks(ApiKey::ListGroups, "ListGroups", 4, 5)?;
    let request = ListGroupsRequest::default();
    let answer = connection.call(&request, version, Duration::ZERO).await?;
    check("list groups", answer.error_code)?;
    let taken = answer.groups.iter();
    let taken = taken.filter(|group| !VACANT.contains(&group.group_state.as_str()));
    let taken: Vec<GroupId> = taken.map(|group| group.group_id.clone()).collect();
    let mut members = HashMap::new();
    if !taken.is_empty() {
        let request = DescribeGroupsRequest::default().with_groups(taken);
        let version = connection.speaks(ApiKey::DescribeGroups, "DescribeGroups", 5, 6)?;
        let described = connection.call(&request, version, Duration::ZERO).await?;
        for group in described.groups {
            members.insert(group.group_id.0.clone(), named(&group));
        }
    }
    let groups = answer.groups.into_iter().map(|group| Group {
        members: members.remove(&group.group_id.0).unwrap_or_default(),
        name: group.group_id.0.to_string(),
    });
    Ok(groups.collect())
}

/// Who is in a group that was not vacant when it was listed.
fn named(group: &DescribedGroup) -> Vec<String> {
    let members = group.members.iter().map(|member| {
        let host = member.client_host.trim_start_matches('/');
        format!("{} at {host}", member.client_id)
    });
    let members: Vec<String> = members.collect();
    // Of a group of KIP-848 this question learns nothing; it has members all the same.
    let left = group.error_code == 0 && group.group_state.as_str() == EMPTY;
    if members.is_empty() && !left {
        return vec![UNNAMED.to_owned()];
    }
    members
}
