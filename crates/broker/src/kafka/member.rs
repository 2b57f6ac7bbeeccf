//! Members of consumer groups.
//!
//! A thread of its own polls the client, since its calls about rebalances must be answered before it goes on: when
//! partitions are to be handed over, the thread tells the owner, obeys commits until the owner releases them, and
//! only then lets the client unassign them. Heartbeats are the client's own and never wait for any of this.
//! The thread talks to its owner over two channels; it takes at most two batches ahead of what the owner has taken.
//!
//! A static member (one with an instance) does not tell the group when it leaves, as Kafka has it: another member
//! takes over after the session timeout, unless the same instance comes back before.

mod desk;
mod rebalance;
mod thread;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use tokio::sync::{mpsc as async_mpsc, oneshot};

use self::desk::{Command, Desk};
use super::Shared;
use super::context::lock;
use crate::consumer::Subscription;
use crate::engine::{GroupEvent, Member, Membership};
use crate::error::{Error, Result, Source};
use crate::record::TopicPartition;

/// How long leaving may take.
const LEAVE: Duration = Duration::from_secs(15);

/// The owner's end of a membership.
pub(super) struct GroupMember {
    desk: Arc<Desk>,
    commands: mpsc::Sender<Command>,
    events: async_mpsc::UnboundedReceiver<Result<GroupEvent>>,
}

impl fmt::Debug for GroupMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupMember")
            .field("group", &self.desk.membership.group)
            .finish()
    }
}

fn failed(group: &str, operation: &'static str) -> impl FnOnce(Source) -> Error {
    let group = group.to_owned();
    move |source| Error::Group {
        operation,
        group,
        source,
    }
}

impl GroupMember {
    pub(super) fn join(shared: &Arc<Shared>, membership: Membership) -> Result<Self> {
        let (commands, orders) = mpsc::channel();
        let (news, events) = async_mpsc::unbounded_channel();
        let names = patterns(&membership.subscription);
        let desk = Arc::new(Desk::new(Arc::clone(shared), membership, orders, news));
        let (worker, waker) = (Arc::clone(&desk), commands.clone());
        let connect = move || connect(&worker, &names, waker.clone());
        let consumer = connect()?;
        let worker = Arc::clone(&desk);
        std::thread::Builder::new()
            .name("kafka-member".into())
            .spawn(move || thread::run(consumer, connect, &worker))
            .map_err(|error| failed(&desk.membership.group, "join")(error.into()))?;
        Ok(Self {
            desk,
            commands,
            events,
        })
    }

    fn order(&self, command: Command) -> Result<()> {
        self.commands.send(command).map_err(|_| Error::Closed)
    }
}

/// Makes a client that joins the group and wakes the thread when it has something.
fn connect(
    desk: &Arc<Desk>,
    names: &[String],
    waker: mpsc::Sender<Command>,
) -> Result<BaseConsumer<rebalance::GroupContext>> {
    let context = rebalance::GroupContext(Arc::clone(desk));
    let mut consumer = desk.shared.template.member(&desk.membership, context)?;
    // The thread may have ended already.
    consumer.set_nonempty_callback(move || waker.send(Command::Look).unwrap_or_default());
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let join = |error: KafkaError| failed(&desk.membership.group, "join")(error.into());
    consumer.subscribe(&names).map_err(join)?;
    Ok(consumer)
}

/// Names of topics for the client, to which `^` marks a regular expression.
fn patterns(subscription: &Subscription) -> Vec<String> {
    let suffixes = subscription
        .suffixes
        .iter()
        .map(|suffix| format!("^.+{}$", suffix.replace('.', "\\.")));
    subscription.topics.iter().cloned().chain(suffixes).collect()
}

#[async_trait]
impl Member for GroupMember {
    async fn next(&mut self) -> Result<GroupEvent> {
        let event = self.events.recv().await.ok_or(Error::Closed)?;
        if matches!(event, Ok(GroupEvent::Records(_))) {
            self.desk.untaken.fetch_sub(1, Ordering::AcqRel);
            self.order(Command::Look)?;
        }
        event
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.order(Command::Pause(partitions.to_vec()))
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.order(Command::Resume(partitions.to_vec()))
    }

    async fn commit(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<()> {
        let (reply, done) = oneshot::channel();
        self.order(Command::Commit(offsets.to_vec(), reply))?;
        done.await.map_err(|_| Error::Closed)?
    }

    async fn release(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.order(Command::Release(partitions.to_vec()))
    }

    fn high(&self, partition: &TopicPartition) -> Option<i64> {
        lock(&self.desk.highs).get(partition).copied()
    }

    async fn leave(&mut self) -> Result<()> {
        let (reply, done) = oneshot::channel();
        self.order(Command::Leave(Some(reply)))?;
        match tokio::time::timeout(LEAVE, done).await {
            Ok(_) => Ok(()),
            Err(_) => Err(failed(&self.desk.membership.group, "leave")(
                "the client did not end in time".into(),
            )),
        }
    }
}

/// The client can only be ended in order, so even a dropped member leaves its group.
impl Drop for GroupMember {
    fn drop(&mut self) {
        if self.order(Command::Leave(None)).is_err() {
            tracing::trace!("member has left already");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_become_patterns_of_whole_names() {
        let subscription = Subscription {
            topics: vec!["a".into()],
            suffixes: vec![".ASSET_REQUEST".into()],
        };
        assert_eq!(patterns(&subscription), ["a", r"^.+\.ASSET_REQUEST$"]);
    }
}
