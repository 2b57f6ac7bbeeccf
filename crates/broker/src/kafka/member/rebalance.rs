//! What the client calls when partitions come and go. All of it runs in the member's thread, inside a poll.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::super::ANSWER;
use super::super::context::lock;
use super::super::failure::patiently;
use super::desk::{Command, Desk};
use super::thread;
use crate::consumer::StartWithout;
use crate::engine::GroupEvent;
use crate::record::TopicPartition;

/// How long the owner may take to hand partitions over. The group waits as long.
const HAND_OVER: Duration = Duration::from_secs(60);
/// How often to see whether the partitions are lost anyway.
const LOOK: Duration = Duration::from_millis(500);

/// The callbacks of a member's client.
pub(super) struct GroupContext(pub(super) Arc<Desk>);

impl ClientContext for GroupContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.0.shared.context.log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.shared.context.error(error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        self.0.lifeline.look(&statistics);
        let held = lock(&self.0.held);
        let mut highs = lock(&self.0.highs);
        for partition in held.keys() {
            let topic = statistics.topics.get(&*partition.topic);
            if let Some(seen) = topic.and_then(|topic| topic.partitions.get(&partition.partition)) {
                let high = if seen.ls_offset >= 0 {
                    seen.ls_offset
                } else {
                    seen.hi_offset
                };
                if high >= 0 {
                    highs.insert(partition.clone(), high);
                }
            }
        }
    }
}

impl ConsumerContext for GroupContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let desk = &*self.0;
        desk.flush();
        let partitions: Vec<_> = list
            .elements()
            .iter()
            .map(|element| TopicPartition::new(element.topic(), element.partition()))
            .collect();
        let assigned = what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        let done = match (assigned, desk.membership.fetch) {
            (true, _) if desk.closing() => consumer.unassign(),
            (true, true) => assign(desk, consumer, list, partitions),
            (true, false) => hold(desk, consumer, list, partitions),
            (false, fetch) => {
                if fetch {
                    hand_over(desk, consumer, &partitions);
                    desk.drop_held(&partitions);
                } else if desk.closing() || consumer.assignment_lost() {
                    desk.lose(partitions);
                }
                match consumer.rebalance_protocol() {
                    RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
                    _ => consumer.unassign(),
                }
            }
        };
        if let Err(error) = done {
            // Without an answer to the group the client would wait for ever.
            desk.lifeline.sever();
            desk.tell(Err(desk.failed("rebalance", error)));
        }
    }
}

/// Takes partitions: each starts at the group's commit, or where the membership says, and never anywhere else.
fn assign(
    desk: &Desk,
    consumer: &BaseConsumer<GroupContext>,
    list: &mut TopicPartitionList,
    partitions: Vec<TopicPartition>,
) -> KafkaResult<()> {
    let membership = &desk.membership;
    let mut starts = TopicPartitionList::with_capacity(partitions.len());
    let committed = if partitions.is_empty() {
        None
    } else {
        // Without an assignment the member would stay without one, so only what ends it ends the asking.
        let wait = |_: &KafkaError| !desk.closing() && !consumer.assignment_lost();
        Some(patiently(HAND_OVER, wait, || {
            consumer.committed_offsets(list.clone(), ANSWER)
        })?)
    };
    let without = match membership.from {
        StartWithout::Beginning => Offset::Beginning,
        StartWithout::End => Offset::End,
    };
    for partition in &partitions {
        let found = committed
            .as_ref()
            .and_then(|list| list.find_partition(&partition.topic, partition.partition));
        let start = match found.map(|element| element.offset()) {
            Some(Offset::Offset(offset)) => Offset::Offset(offset),
            _ => without,
        };
        starts.add_partition_offset(&partition.topic, partition.partition, start)?;
        let next = if let Offset::Offset(offset) = start {
            Some(offset)
        } else {
            None
        };
        lock(&desk.held).insert(partition.clone(), next);
    }
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(&starts)?,
        _ => consumer.assign(&starts)?,
    }
    if !partitions.is_empty() {
        tracing::info!(
            group = membership.group,
            count = partitions.len(),
            "partitions assigned"
        );
        desk.tell(Ok(GroupEvent::Assigned(partitions)));
    }
    Ok(())
}

/// Takes partitions whose records nobody reads. Every rebalance of such a group takes all partitions away and gives
/// them out again (see [`super::super::config::Template::member`]); the owner hears of what really changed only.
fn hold(
    desk: &Desk,
    consumer: &BaseConsumer<GroupContext>,
    list: &mut TopicPartitionList,
    partitions: Vec<TopicPartition>,
) -> KafkaResult<()> {
    list.set_all_offsets(Offset::End)?;
    consumer.assign(list)?;
    if !partitions.is_empty() {
        consumer.pause(list)?;
    }
    let before: Vec<_> = lock(&desk.held).keys().cloned().collect();
    let (kept, gone): (Vec<_>, Vec<_>) = before
        .into_iter()
        .partition(|partition| partitions.contains(partition));
    desk.lose(gone);
    let new: Vec<_> = partitions
        .into_iter()
        .filter(|partition| !kept.contains(partition))
        .collect();
    if !new.is_empty() {
        lock(&desk.held).extend(new.iter().map(|partition| (partition.clone(), None)));
        desk.tell(Ok(GroupEvent::Assigned(new)));
    }
    Ok(())
}

/// Tells the owner that partitions are to be handed over and waits, obeying its commits, until it has released them.
fn hand_over(desk: &Desk, consumer: &BaseConsumer<GroupContext>, partitions: &[TopicPartition]) {
    if partitions.is_empty() || desk.closing() {
        return;
    }
    if consumer.assignment_lost() {
        desk.tell(Ok(GroupEvent::Lost(partitions.to_vec())));
        return;
    }
    tracing::info!(
        group = desk.membership.group,
        count = partitions.len(),
        "partitions revoked"
    );
    desk.tell(Ok(GroupEvent::Revoked(partitions.to_vec())));
    // The owner may be waiting for a commit, and would never come to release anything.
    for commit in thread::take_waiting(desk) {
        thread::commit_now(desk, consumer, &commit.offsets, commit.reply);
    }
    let mut waiting: HashSet<_> = partitions.iter().cloned().collect();
    let deadline = Instant::now() + HAND_OVER;
    while !waiting.is_empty() {
        match desk.command(LOOK) {
            Some(Command::Release(released)) => released.iter().for_each(|partition| {
                waiting.remove(partition);
            }),
            Some(Command::Commit(offsets, reply)) => thread::commit_now(desk, consumer, &offsets, reply),
            Some(Command::Leave(reply)) => {
                desk.leave(reply);
                return;
            }
            // What is said about pausing concerns partitions that stay as well.
            Some(Command::Pause(partitions)) => thread::pause(desk, consumer, &partitions),
            Some(Command::Resume(partitions)) => thread::resume(desk, consumer, &partitions),
            Some(Command::Look) => {}
            None if consumer.assignment_lost() || Instant::now() > deadline => {
                desk.tell(Ok(GroupEvent::Lost(waiting.into_iter().collect())));
                return;
            }
            None => {}
        }
    }
}
