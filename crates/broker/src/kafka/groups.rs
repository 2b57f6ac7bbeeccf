//! What the broker knows of groups, and offsets by time: what an operator's tools ask.

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::metadata::MetadataTopic;
use rdkafka::producer::Producer;
use rdkafka::{Offset, TopicPartitionList};

use super::admin::topic_error;
use super::failure::{coordinator_moves, patiently, settling};
use super::{ANSWER, Shared};
use crate::error::{Error, Result, Source};
use crate::group::GroupDescription;

/// Who asks for offsets by time: no group, but librdkafka wants a name.
const NO_GROUP: &str = "fieldline-look";

fn group_error(operation: &'static str, group: &str) -> impl FnOnce(Source) -> Error {
    let group = group.to_owned();
    move |source| Error::Group {
        operation,
        group,
        source,
    }
}

/// Whether the coordinator refuses a commit because the group has members of its own.
fn occupied(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::UnknownMemberId
                | Code::IllegalGeneration
                | Code::RebalanceInProgress
                | Code::StaleMemberEpoch
                | Code::FencedMemberEpoch
        )
    )
}

impl Shared {
    pub(super) fn topic_names(&self) -> Result<Vec<String>> {
        let listed = self.producer()?.client().fetch_metadata(None, ANSWER);
        let listed =
            listed.map_err(|error| self.context.or_unreachable(error, topic_error("list", "all")))?;
        self.context.up();
        let names = listed.topics().iter().map(MetadataTopic::name);
        let own = names.filter(|name| !name.starts_with("__"));
        let mut names: Vec<String> = own.map(str::to_owned).collect();
        names.sort_unstable();
        Ok(names)
    }

    pub(super) fn offset_at(&self, topic: &str, partition: i32, timestamp: i64) -> Result<Option<i64>> {
        let failed = |error| {
            self.context
                .failure(error, topic, Some(partition), topic_error("look into", topic))
        };
        let mut asked = TopicPartitionList::new();
        asked
            .add_partition_offset(topic, partition, Offset::Offset(timestamp))
            .map_err(failed)?;
        let observer = self.template.observer(NO_GROUP)?;
        let found = patiently(ANSWER, settling, || {
            observer.offsets_for_times(asked.clone(), ANSWER)
        })
        .map_err(failed)?;
        let Some(element) = found.find_partition(topic, partition) else {
            return Ok(None);
        };
        element.error().map_err(failed)?;
        Ok(match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        })
    }

    pub(super) fn groups(&self) -> Result<Vec<GroupDescription>> {
        self.list_groups(None)
    }

    fn list_groups(&self, group: Option<&str>) -> Result<Vec<GroupDescription>> {
        let listed = self.producer()?.client().fetch_group_list(group, ANSWER);
        let failed = |error| {
            self.context
                .or_unreachable(error, group_error("list", group.unwrap_or("*")))
        };
        let listed = listed.map_err(failed)?;
        self.context.up();
        let described = listed.groups().iter().map(|group| {
            let members = group.members().iter();
            let members = members.map(|member| {
                format!(
                    "{} at {}",
                    member.client_id(),
                    member.client_host().trim_start_matches('/')
                )
            });
            GroupDescription {
                name: group.name().to_owned(),
                members: members.collect(),
            }
        });
        let mut described: Vec<_> = described.collect();
        described.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(described)
    }

    /// The coordinator itself refuses what is not from a member while there are members.
    pub(super) fn commit_for(&self, group: &str, topic: &str, offsets: &[(i32, i64)]) -> Result<()> {
        let members = || -> Result<Vec<String>> {
            let found = self.list_groups(Some(group))?.into_iter();
            let of = found.filter(|found| found.name == group);
            Ok(of.flat_map(|found| found.members).collect())
        };
        let in_use = |members| Error::GroupInUse {
            group: group.to_owned(),
            members,
        };
        let present = members()?;
        if !present.is_empty() {
            return Err(in_use(present));
        }
        let partitions = self.partitions(topic)?;
        let failed = |error| self.context.or_unreachable(error, group_error("commit", group));
        let mut next = TopicPartitionList::new();
        for (partition, offset) in offsets {
            if !(0..partitions).contains(partition) {
                return Err(Error::UnknownPartition {
                    topic: topic.to_owned(),
                    partition: *partition,
                });
            }
            next.add_partition_offset(topic, *partition, Offset::Offset(*offset))
                .map_err(failed)?;
        }
        let observer = self.template.observer(group)?;
        match observer.commit(&next, CommitMode::Sync) {
            Ok(()) => Ok(()),
            Err(error) if occupied(&error) => Err(in_use(members().unwrap_or_default())),
            Err(error) => Err(failed(error)),
        }
    }

    pub(super) fn committed(&self, group: &str, topic: &str) -> Result<Vec<(i32, i64)>> {
        let mut asked = TopicPartitionList::new();
        for partition in 0..self.partitions(topic)? {
            asked.add_partition(topic, partition);
        }
        let observer = self.template.observer(group)?;
        let failed = |error| {
            let source = |source| Error::Group {
                operation: "read commits",
                group: group.to_owned(),
                source,
            };
            self.context.or_unreachable(error, source)
        };
        let found = patiently(ANSWER, coordinator_moves, || {
            observer.committed_offsets(asked.clone(), ANSWER)
        })
        .map_err(failed)?;
        let offsets = found
            .elements()
            .into_iter()
            .filter_map(|element| match element.offset() {
                Offset::Offset(offset) => Some((element.partition(), offset)),
                _ => None,
            });
        Ok(offsets.collect())
    }
}
