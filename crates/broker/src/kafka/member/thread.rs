//! The thread that polls a member's client and does what its owner says.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::oneshot;

use super::super::context::lock;
use super::super::failure::unreachable;
use super::super::message::Decoder;
use super::desk::{Command, Desk, Waiting};
use super::rebalance::GroupContext;
use crate::error::{Error, Result};
use crate::record::TopicPartition;

/// Bounds of a batch.
const BATCH_RECORDS: usize = 500;
const BATCH_BYTES: usize = 1024 * 1024;
/// How many batches may wait for the owner.
const AHEAD: usize = 2;
/// How long to trust the queue's wake-up before looking anyway.
const LOOK: Duration = Duration::from_millis(200);
/// How long a commit may wait for a rebalance to end.
const COMMIT: Duration = Duration::from_secs(10);
/// How long to wait before a client that is beyond help is replaced.
const RECONNECT: Duration = Duration::from_millis(500);
/// How soon such a commit is tried again.
const AGAIN: Duration = Duration::from_millis(50);

/// Works until the owner leaves. A client that is beyond help is replaced: librdkafka gives up a static member whose
/// session timed out while the broker was away, since the broker takes its return for another's; and see `Lifeline`.
pub(super) fn run(
    consumer: BaseConsumer<GroupContext>,
    connect: impl Fn() -> Result<BaseConsumer<GroupContext>>,
    desk: &Desk,
) {
    let mut consumer = Some(consumer);
    while !desk.closing() {
        match consumer.take().map_or_else(&connect, Ok) {
            Ok(client) => serve(&client, desk),
            Err(error) => desk.tell(Err(error)),
        }
        if !desk.closing() {
            let gone = lock(&desk.held).keys().cloned().collect();
            desk.lose(gone);
            // Not at once again, and not deaf to the owner meanwhile.
            pass_time(desk, RECONNECT);
        }
    }
    let leaver = lock(&desk.leaver).take();
    if leaver.is_some_and(|leaver| leaver.send(()).is_err()) {
        tracing::trace!("nobody waits for a member that left");
    }
}

/// Polls until the owner leaves or the client is beyond help.
fn serve(consumer: &BaseConsumer<GroupContext>, desk: &Desk) {
    let mut decoder = Decoder::default();
    let mut more = false;
    while !desk.closing() {
        let wait = match (more, lock(&desk.waiting).is_empty()) {
            (true, _) => Duration::ZERO,
            (false, false) => AGAIN,
            (false, true) => LOOK,
        };
        let mut command = desk.command(wait);
        while let Some(order) = command {
            obey(desk, consumer, order);
            command = desk.command(Duration::ZERO);
        }
        for commit in take_waiting(desk) {
            try_commit(desk, consumer, commit);
        }
        more = !desk.closing()
            && desk.untaken.load(Ordering::Acquire) < AHEAD
            && poll(desk, consumer, &mut decoder);
        if let Some((code, reason)) = consumer.client().fatal_error() {
            tracing::warn!(group = desk.membership.group, %code, reason, "member joins anew");
            return;
        }
        if desk.lifeline.cut() {
            tracing::warn!(
                group = desk.membership.group,
                "member has lost all brokers and joins anew"
            );
            desk.lifeline.renew();
            return;
        }
    }
}

/// Lets time pass while there is no client: what the owner asks for concerns partitions that are gone.
fn pass_time(desk: &Desk, time: Duration) {
    let until = Instant::now() + time;
    for commit in take_waiting(desk) {
        answer(commit.reply, Ok(()));
    }
    while !desk.closing() {
        match desk.command(until.saturating_duration_since(Instant::now())) {
            Some(Command::Commit(_, reply)) => answer(reply, Ok(())),
            Some(Command::Leave(reply)) => desk.leave(reply),
            Some(_) => {}
            None => return,
        }
    }
}

fn obey(desk: &Desk, consumer: &BaseConsumer<GroupContext>, order: Command) {
    match order {
        Command::Look => {}
        Command::Pause(partitions) => pause(desk, consumer, &partitions),
        Command::Resume(partitions) => resume(desk, consumer, &partitions),
        Command::Commit(offsets, reply) => {
            let commit = Waiting {
                offsets,
                reply,
                until: Instant::now() + COMMIT,
            };
            try_commit(desk, consumer, commit);
        }
        // Nobody waits for it any more: the partitions were lost meanwhile.
        Command::Release(_) => {}
        Command::Leave(reply) => desk.leave(reply),
    }
}

/// Makes one batch of what the client's queue holds; true if it may hold more.
fn poll(desk: &Desk, consumer: &BaseConsumer<GroupContext>, decoder: &mut Decoder) -> bool {
    let (mut records, mut bytes, mut empty) = (0, 0, 0);
    // An event that is no record ends a poll as an empty queue does, hence a second look.
    while empty < 2 && records < BATCH_RECORDS && bytes < BATCH_BYTES && !desk.closing() {
        match consumer.poll(Duration::ZERO) {
            None => empty += 1,
            Some(Ok(message)) => {
                empty = 0;
                let record = decoder.record(&message);
                let partition = TopicPartition {
                    topic: record.topic.clone(),
                    partition: record.partition,
                };
                // A record of a partition that was given up meanwhile, or of a lease, is none of ours.
                if let Some(next) = lock(&desk.held)
                    .get_mut(&partition)
                    .filter(|_| desk.membership.fetch)
                {
                    *next = Some(record.offset + 1);
                    records += 1;
                    bytes += record.size();
                    desk.add(record);
                }
            }
            Some(Err(error)) => {
                empty = 0;
                desk.flush();
                trouble(desk, error);
            }
        }
    }
    if records > 0 {
        desk.shared.context.up();
    }
    desk.flush();
    empty < 2
}

/// What an error on the queue means. The client gets over most of them by itself.
fn trouble(desk: &Desk, error: KafkaError) {
    // The client is about to be replaced.
    if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
        return;
    }
    match error.rdkafka_error_code() {
        Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => out_of_range(desk, error),
        // A topic that does not exist yet is waited for.
        Some(
            Code::UnknownTopicOrPartition
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicId,
        ) => {
            tracing::debug!(group = desk.membership.group, %error, "a topic is not there yet");
        }
        // The client joins again.
        Some(Code::PollExceeded) => {
            tracing::warn!(
                group = desk.membership.group,
                "member was too slow to poll and joins again"
            );
        }
        Some(Code::Fatal) => {}
        _ if unreachable(&error) => {}
        _ => desk.tell(Err(desk.failed("poll", error))),
    }
}

/// Finds out which partition an out-of-range error is about, which the client does not say.
fn out_of_range(desk: &Desk, error: KafkaError) {
    let held: Vec<_> = lock(&desk.held)
        .iter()
        .filter_map(|(at, next)| Some((at.clone(), (*next)?)))
        .collect();
    for (partition, offset) in held {
        let TopicPartition { topic, partition } = partition;
        match desk.shared.watermarks(&topic, partition) {
            Ok(mark) if (mark.low..=mark.high).contains(&offset) => {}
            Ok(mark) => {
                let topic = topic.to_string();
                let (low, high) = (mark.low, mark.high);
                return desk.tell(Err(Error::OffsetOutOfRange {
                    topic,
                    partition,
                    offset,
                    low,
                    high,
                }));
            }
            Err(unknown) => return desk.tell(Err(unknown)),
        }
    }
    desk.tell(Err(desk.failed("poll", error)));
}

fn list(partitions: &[TopicPartition]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(&partition.topic, partition.partition);
    }
    list
}

fn own(desk: &Desk, partitions: &[TopicPartition]) -> Vec<TopicPartition> {
    let held = lock(&desk.held);
    partitions
        .iter()
        .filter(|partition| held.contains_key(partition))
        .cloned()
        .collect()
}

pub(super) fn pause(desk: &Desk, consumer: &BaseConsumer<GroupContext>, partitions: &[TopicPartition]) {
    if let Err(error) = consumer.pause(&list(&own(desk, partitions))) {
        desk.tell(Err(desk.failed("pause", error)));
    }
}

pub(super) fn resume(desk: &Desk, consumer: &BaseConsumer<GroupContext>, partitions: &[TopicPartition]) {
    if let Err(error) = consumer.resume(&list(&own(desk, partitions))) {
        desk.tell(Err(desk.failed("resume", error)));
    }
}

fn commit(
    desk: &Desk,
    consumer: &BaseConsumer<GroupContext>,
    offsets: &[(TopicPartition, i64)],
) -> Result<(), KafkaError> {
    let own = desk.own(offsets.to_vec());
    if own.is_empty() {
        return Ok(());
    }
    let mut list = TopicPartitionList::with_capacity(own.len());
    for (partition, offset) in &own {
        list.add_partition_offset(&partition.topic, partition.partition, Offset::Offset(*offset))?;
    }
    consumer.commit(&list, CommitMode::Sync)
}

/// What came of a commit, for the owner; none if it is worth trying again after the rebalance. By then the member may
/// have lost partitions, which are left out.
fn outcome(desk: &Desk, result: Result<(), KafkaError>) -> Option<Result<()>> {
    let Err(error) = result else { return Some(Ok(())) };
    match error.rdkafka_error_code() {
        Some(
            Code::RebalanceInProgress
            | Code::IllegalGeneration
            | Code::UnknownMemberId
            | Code::UnstableOffsetCommit
            | Code::CoordinatorLoadInProgress
            | Code::WaitingForCoordinator,
        ) => None,
        Some(Code::NoOffset) => Some(Ok(())),
        // The client is about to be replaced, and the owner to hear that the partitions are lost.
        Some(Code::Fatal | Code::FencedInstanceId) => None,
        _ => Some(Err(desk.failed("commit", error))),
    }
}

fn answer(reply: oneshot::Sender<Result<()>>, result: Result<()>) {
    if reply.send(result).is_err() {
        tracing::trace!("nobody waits for a commit any more");
    }
}

fn late(desk: &Desk) -> Result<()> {
    Err(desk.failed("commit", KafkaError::ConsumerCommit(Code::RebalanceInProgress)))
}

fn try_commit(desk: &Desk, consumer: &BaseConsumer<GroupContext>, waiting: Waiting) {
    let result = commit(desk, consumer, &waiting.offsets);
    match outcome(desk, result) {
        Some(result) => answer(waiting.reply, result),
        None if Instant::now() < waiting.until => lock(&desk.waiting).push(waiting),
        None => answer(waiting.reply, late(desk)),
    }
}

/// Commits while a rebalance waits for it, when trying again later is not possible.
pub(super) fn commit_now(
    desk: &Desk,
    consumer: &BaseConsumer<GroupContext>,
    offsets: &[(TopicPartition, i64)],
    reply: oneshot::Sender<Result<()>>,
) {
    let result = commit(desk, consumer, offsets);
    answer(reply, outcome(desk, result).unwrap_or_else(|| late(desk)));
}

pub(super) fn take_waiting(desk: &Desk) -> Vec<Waiting> {
    std::mem::take(&mut *lock(&desk.waiting))
}
