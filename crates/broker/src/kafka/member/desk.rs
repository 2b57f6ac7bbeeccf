//! What a member's thread and its owner share, and what they say to one another.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use super::super::Shared;
use super::super::context::lock;
use super::super::lifeline::Lifeline;
use crate::engine::{GroupEvent, Membership};
use crate::error::{Error, Result};
use crate::record::{Record, TopicPartition};

/// What the owner asks of the thread.
#[derive(Debug)]
pub(super) enum Command {
    /// There may be something in the client's queue, or room for it.
    Look,
    Pause(Vec<TopicPartition>),
    Resume(Vec<TopicPartition>),
    Commit(Vec<(TopicPartition, i64)>, oneshot::Sender<Result<()>>),
    Release(Vec<TopicPartition>),
    Leave(Option<oneshot::Sender<()>>),
}

/// A commit that came in the middle of a rebalance.
pub(super) struct Waiting {
    pub(super) offsets: Vec<(TopicPartition, i64)>,
    pub(super) reply: oneshot::Sender<Result<()>>,
    pub(super) until: Instant,
}

/// The table between thread and owner.
pub(super) struct Desk {
    pub(super) shared: Arc<Shared>,
    pub(super) membership: Membership,
    commands: Mutex<Receiver<Command>>,
    events: UnboundedSender<Result<GroupEvent>>,
    /// Batches of records that the owner has not taken.
    pub(super) untaken: AtomicUsize,
    /// Records that make up the next batch.
    batch: Mutex<Vec<Record>>,
    /// The partitions this member has, with the next offset of each as far as it is known.
    pub(super) held: Mutex<HashMap<TopicPartition, Option<i64>>>,
    /// Commits to be tried again.
    pub(super) waiting: Mutex<Vec<Waiting>>,
    /// The ends of partitions, from the client's statistics.
    pub(super) highs: Mutex<HashMap<TopicPartition, i64>>,
    /// Whether the client still knows a broker.
    pub(super) lifeline: Lifeline,
    /// The member is leaving: nothing is handed over in order any more.
    pub(super) closing: AtomicBool,
    pub(super) leaver: Mutex<Option<oneshot::Sender<()>>>,
}

impl Desk {
    pub(super) fn new(
        shared: Arc<Shared>,
        membership: Membership,
        commands: Receiver<Command>,
        events: UnboundedSender<Result<GroupEvent>>,
    ) -> Self {
        Self {
            shared,
            membership,
            commands: Mutex::new(commands),
            events,
            untaken: AtomicUsize::new(0),
            batch: Mutex::default(),
            held: Mutex::default(),
            waiting: Mutex::default(),
            highs: Mutex::default(),
            lifeline: Lifeline::default(),
            closing: AtomicBool::new(false),
            leaver: Mutex::default(),
        }
    }

    /// The next command; none after the wait. An owner that is gone has said `Leave`.
    pub(super) fn command(&self, wait: Duration) -> Option<Command> {
        match lock(&self.commands).recv_timeout(wait) {
            Ok(command) => Some(command),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Command::Leave(None)),
        }
    }

    pub(super) fn leave(&self, reply: Option<oneshot::Sender<()>>) {
        self.closing.store(true, Ordering::Release);
        if reply.is_some() {
            *lock(&self.leaver) = reply;
        }
    }

    pub(super) fn closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Adds a record to the next batch.
    pub(super) fn add(&self, record: Record) {
        lock(&self.batch).push(record);
    }

    /// Hands the batch over, so that whatever is told next comes behind its records.
    pub(super) fn flush(&self) {
        let batch = std::mem::take(&mut *lock(&self.batch));
        if !batch.is_empty() {
            self.untaken.fetch_add(1, Ordering::AcqRel);
            self.tell(Ok(GroupEvent::Records(batch)));
        }
    }

    pub(super) fn tell(&self, event: Result<GroupEvent>) {
        if self.events.send(event).is_err() {
            tracing::trace!("the owner of a member is gone");
        }
    }

    /// Those of the offsets that this member may commit.
    pub(super) fn own(&self, offsets: Vec<(TopicPartition, i64)>) -> Vec<(TopicPartition, i64)> {
        let held = lock(&self.held);
        offsets
            .into_iter()
            .filter(|(partition, _)| held.contains_key(partition))
            .collect()
    }

    pub(super) fn drop_held(&self, partitions: &[TopicPartition]) {
        let gone: HashSet<_> = partitions.iter().collect();
        lock(&self.held).retain(|partition, _| !gone.contains(partition));
        lock(&self.highs).retain(|partition, _| !gone.contains(partition));
    }

    /// Tells the owner that partitions are gone.
    pub(super) fn lose(&self, partitions: Vec<TopicPartition>) {
        self.drop_held(&partitions);
        if !partitions.is_empty() {
            self.tell(Ok(GroupEvent::Lost(partitions)));
        }
    }

    /// The error for something the client said while it was polled.
    pub(super) fn failed(&self, operation: &'static str, error: rdkafka::error::KafkaError) -> Error {
        self.shared
            .context
            .or_unreachable(error, super::failed(&self.membership.group, operation))
    }
}
