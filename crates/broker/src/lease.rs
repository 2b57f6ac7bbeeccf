//! Group membership as a lock: one works, the others wait.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::backoff::Backoff;
use crate::engine::{GroupEvent, Member};
use crate::record::TopicPartition;

const RELEASE_LIMIT: Duration = Duration::from_secs(5);

/// A place in the queue for a lock. The lock is advisory: a holder that is cut off may work for a moment beside the
/// next one, so what must not happen twice needs a transactional id as well, which fences. Dropping it gives it up.
#[derive(Debug)]
pub struct Lease {
    held: watch::Receiver<bool>,
    ended: watch::Receiver<bool>,
    _leave: DropGuard,
}

impl Lease {
    pub(crate) fn start(member: Box<dyn Member>, topic: &str) -> Self {
        let (hold, held) = watch::channel(false);
        let (end, ended) = watch::channel(false);
        let leave = CancellationToken::new();
        let stop = leave.clone();
        let partition = TopicPartition::new(topic, 0);
        // The task ends itself when the lease is dropped: it has to say goodbye to the group first.
        tokio::spawn(async move {
            keep(member, &partition, &hold, stop).await;
            hold.send_replace(false);
            end.send_replace(true);
        });
        Self {
            held,
            ended,
            _leave: leave.drop_guard(),
        }
    }

    /// Waits until this lease is the holder.
    pub async fn acquired(&self) {
        let mut held = self.held.clone();
        if held.wait_for(|held| *held).await.is_err() {
            // The task is gone only when the runtime is: nothing will ever be acquired.
            std::future::pending::<()>().await;
        }
    }

    /// Waits until this lease is not the holder (any more).
    pub async fn lost(&self) {
        let mut held = self.held.clone();
        let _gone = held.wait_for(|held| !*held).await;
    }

    /// Gives the lease up and waits, a few seconds at most, until the group knows.
    pub async fn release(self) {
        let mut ended = self.ended.clone();
        drop(self);
        let _late = tokio::time::timeout(RELEASE_LIMIT, ended.wait_for(|ended| *ended)).await;
    }
}

async fn keep(
    mut member: Box<dyn Member>,
    partition: &TopicPartition,
    hold: &watch::Sender<bool>,
    stop: CancellationToken,
) {
    let mut backoff = Backoff::default();
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => break,
            event = member.next() => event,
        };
        let failed = match event {
            Ok(GroupEvent::Assigned(partitions)) => {
                if partitions.contains(partition) {
                    hold.send_replace(true);
                }
                None
            }
            Ok(GroupEvent::Revoked(partitions)) => {
                if partitions.contains(partition) {
                    hold.send_replace(false);
                }
                member.release(&partitions).await.err()
            }
            Ok(GroupEvent::Lost(partitions)) => {
                if partitions.contains(partition) {
                    hold.send_replace(false);
                }
                None
            }
            Ok(GroupEvent::Records(_)) => None,
            Err(error) => Some(error),
        };
        match failed {
            None => backoff.reset(),
            Some(error) => {
                let pause = backoff.next();
                tracing::warn!(topic = %partition.topic, %error, "lease cannot be kept up");
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
    }
    // Dropping the member after a failed goodbye leaves the group by time-out, as a crash would.
    if let Err(error) = member.leave().await {
        tracing::debug!(topic = %partition.topic, %error, "lease left by time-out");
    }
}
