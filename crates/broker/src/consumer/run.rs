//! The loop itself: poll, handle, commit, hand over.
//!
//! One task owns the member of the group and all state; handlers run in tasks of their own and report back. The loop
//! never waits for a handler: a partition whose records pile up is paused, and the group is polled all the same. When a
//! partition is revoked its running handlers are given the drain time, what they finished is committed, and the
//! partition is released. Stopping is the same for all partitions at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::ConsumerSettings;
use super::attempt::{Attempts, Finished, Outcome};
use super::lanes::{Assigned, Lane};
use crate::backoff::Backoff;
use crate::broker::Broker;
use crate::engine::{GroupEvent, Member};
use crate::error::{Error, Result};
use crate::handler::{Class, Classify, Failure, Handler};
use crate::record::{Record, TopicPartition};

const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// How long the last commit and the farewell may take: a broker that is down must not hold up a stop.
const FAREWELL: Duration = Duration::from_secs(5);

pub(super) struct Run<H> {
    member: Box<dyn Member>,
    attempts: Arc<Attempts<H>>,
    settings: ConsumerSettings,
    tasks: JoinSet<Finished>,
    partitions: HashMap<TopicPartition, Assigned>,
    assignments: u64,
    stopping: bool,
    failed: Option<Error>,
    poll: Backoff,
    poll_at: Instant,
}

impl<H: Handler> Run<H> {
    pub(super) fn new(
        broker: Broker,
        member: Box<dyn Member>,
        settings: ConsumerSettings,
        handler: Arc<H>,
    ) -> Self {
        let slots = Semaphore::new(settings.in_flight);
        Self {
            member,
            attempts: Arc::new(Attempts {
                broker,
                handler,
                slots,
                logged: Mutex::default(),
            }),
            settings,
            tasks: JoinSet::new(),
            partitions: HashMap::new(),
            assignments: 0,
            stopping: false,
            failed: None,
            poll: Backoff::default(),
            poll_at: Instant::now(),
        }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) -> Result<()> {
        let mut commits = interval(COMMIT_EVERY);
        commits.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !(self.stopping && self.tasks.is_empty()) {
            let deadline = self
                .partitions
                .values()
                .filter_map(|assigned| assigned.deadline)
                .min();
            tokio::select! {
                () = stop.cancelled(), if !self.stopping => self.stop(),
                Some(finished) = self.tasks.join_next() => match finished {
                    Ok(finished) => self.finished(finished).await,
                    // Handlers are guarded: only a task of this crate's own can end so.
                    Err(error) => self.fail(Error::Group {
                        operation: "handle",
                        group: self.settings.group.clone(),
                        source: error.into(),
                    }),
                },
                event = next(&mut *self.member, self.poll_at) => self.event(event).await,
                _ = commits.tick() => self.commit_due().await,
                () = at(deadline) => self.cancel_overdue().await,
            }
        }
        self.leave().await;
        self.failed.map_or(Ok(()), Err)
    }

    fn stop(&mut self) {
        tracing::info!(
            group = self.settings.group,
            unfinished = self.tasks.len(),
            "draining"
        );
        self.stopping = true;
        let deadline = Instant::now() + self.settings.drain;
        self.partitions
            .values_mut()
            .for_each(|assigned| assigned.drain(deadline));
    }

    fn fail(&mut self, error: Error) {
        if self.failed.is_none() {
            self.failed = Some(error);
        }
        if !self.stopping {
            self.stop();
        }
    }

    async fn event(&mut self, event: Result<GroupEvent>) {
        match event {
            Err(error) if error.class() == Class::Retry => {
                self.attempts
                    .broker
                    .metrics()
                    .retries
                    .with_label_values(&["poll"])
                    .inc();
                let pause = self.poll.next();
                self.poll_at = Instant::now() + pause;
                let reason = Failure::retry(error).chain();
                tracing::warn!(group = self.settings.group, reason, ?pause, "cannot poll");
                return;
            }
            // While stopping, the first error is the one to tell; the group is polled on until the handlers are done.
            Err(error) => {
                self.poll_at = Instant::now() + self.poll.next();
                self.fail(error);
                return;
            }
            Ok(GroupEvent::Assigned(partitions)) => self.assigned(partitions),
            Ok(GroupEvent::Revoked(partitions)) => self.revoked(partitions).await,
            Ok(GroupEvent::Lost(partitions)) => {
                for partition in partitions {
                    self.forget(&partition);
                }
            }
            Ok(GroupEvent::Records(records)) => self.records(records).await,
        }
        self.poll.reset();
    }

    fn assigned(&mut self, partitions: Vec<TopicPartition>) {
        for partition in partitions {
            tracing::info!(group = self.settings.group, topic = %partition.topic, partition = partition.partition, "assigned");
            self.forget(&partition);
            self.assignments += 1;
            let mut assigned = Assigned::new(self.assignments);
            if self.stopping {
                assigned.drain(Instant::now());
            }
            self.partitions.insert(partition, assigned);
        }
    }

    async fn revoked(&mut self, partitions: Vec<TopicPartition>) {
        let deadline = Instant::now() + self.settings.drain;
        let mut idle = Vec::new();
        for partition in partitions {
            tracing::info!(group = self.settings.group, topic = %partition.topic, partition = partition.partition, "revoked");
            match self.partitions.get_mut(&partition) {
                Some(assigned) => {
                    assigned.drain(deadline);
                    if assigned.idle() {
                        idle.push(partition);
                    }
                }
                None => idle.push(partition),
            }
        }
        self.release(idle).await;
    }

    /// Commits what was finished of drained partitions and hands them over.
    async fn release(&mut self, partitions: Vec<TopicPartition>) {
        if partitions.is_empty() {
            return;
        }
        if timeout(FAREWELL, self.commit(&partitions)).await.is_err() {
            tracing::warn!(
                group = self.settings.group,
                "partitions handed over without a last commit"
            );
        }
        for partition in &partitions {
            self.forget(partition);
        }
        if let Err(error) = self.member.release(&partitions).await {
            let reason = Failure::retry(error).chain();
            tracing::warn!(group = self.settings.group, reason, "cannot release partitions");
        }
    }

    fn forget(&mut self, partition: &TopicPartition) {
        if let Some(assigned) = self.partitions.remove(partition) {
            assigned.ending.cancel.cancel();
            let labels = [&*partition.topic, &partition.partition.to_string()];
            // Not there if nothing was ever read of it.
            drop(self.attempts.broker.metrics().lag.remove_label_values(&labels));
        }
    }

    async fn records(&mut self, records: Vec<Record>) {
        let mut full = Vec::new();
        for run in records.chunk_by(|a, b| a.topic == b.topic && a.partition == b.partition) {
            self.attempts.broker.metrics().consumed(&run[0].topic, run.len());
            let partition = TopicPartition {
                topic: run[0].topic.clone(),
                partition: run[0].partition,
            };
            for record in run {
                let Some(assigned) = self.partitions.get_mut(&partition) else {
                    break;
                };
                // What comes late for a partition that drains is read again by whoever has it next.
                if assigned.draining() {
                    break;
                }
                if let Some((lane, record)) = assigned.push(record.clone()) {
                    self.start(lane, record);
                }
            }
            if let Some(assigned) = self.partitions.get_mut(&partition)
                && !assigned.paused
                && assigned.full(self.settings.in_flight)
            {
                assigned.paused = true;
                full.push(partition);
            }
        }
        if !full.is_empty()
            && let Err(error) = self.member.pause(&full)
        {
            self.fail(error);
        }
    }

    fn start(&mut self, lane: Lane, record: Record) {
        let Some(assigned) = self.partitions.get(&lane.partition) else {
            return;
        };
        let attempt = self.attempts.clone().run(lane, record, assigned.ending.clone());
        self.tasks.spawn(attempt.in_current_span());
    }

    async fn finished(&mut self, finished: Finished) {
        let Finished {
            lane,
            offset,
            size,
            outcome,
        } = finished;
        let Some(assigned) = self.partitions.get_mut(&lane.partition) else {
            return;
        };
        if assigned.assignment != lane.assignment {
            return;
        }
        match outcome {
            Outcome::Done => assigned.tracker.finish(offset),
            Outcome::Abandoned => {}
            Outcome::Failed(error) => self.fail(error),
        }
        let Some(assigned) = self.partitions.get_mut(&lane.partition) else {
            return;
        };
        let next = assigned.next(&lane, size);
        let resume = assigned.paused && !assigned.draining() && assigned.hungry(self.settings.in_flight);
        if resume {
            assigned.paused = false;
        }
        let handed_over = assigned.draining() && assigned.idle() && !self.stopping;
        let partition = lane.partition.clone();
        if let Some(record) = next {
            self.start(lane, record);
        }
        if resume && let Err(error) = self.member.resume(std::slice::from_ref(&partition)) {
            self.fail(error);
        }
        if handed_over {
            self.release(vec![partition]).await;
        }
    }

    async fn cancel_overdue(&mut self) {
        let now = Instant::now();
        for (partition, assigned) in &mut self.partitions {
            if assigned.deadline.is_some_and(|deadline| deadline <= now)
                && !assigned.ending.cancel.is_cancelled()
            {
                tracing::warn!(topic = %partition.topic, partition = partition.partition, "handlers given up");
                assigned.ending.cancel.cancel();
            }
            if assigned.ending.cancel.is_cancelled() {
                // They report any moment now; there is nothing more to wait for.
                assigned.deadline = assigned.deadline.map(|_| now + Duration::from_secs(3600));
            }
        }
    }

    async fn commit_due(&mut self) {
        let partitions: Vec<_> = self.partitions.keys().cloned().collect();
        self.commit(&partitions).await;
        let metrics = self.attempts.broker.metrics();
        for (partition, assigned) in &self.partitions {
            let (Some(high), Some(position)) = (self.member.high(partition), assigned.tracker.position())
            else {
                continue;
            };
            let labels = [&*partition.topic, &partition.partition.to_string()];
            metrics
                .lag
                .with_label_values(&labels)
                .set((high - position).max(0));
        }
    }

    async fn commit(&mut self, partitions: &[TopicPartition]) {
        let due: Vec<(TopicPartition, i64)> = partitions
            .iter()
            .filter_map(|partition| Some((partition.clone(), self.partitions.get(partition)?.tracker.due()?)))
            .collect();
        if due.is_empty() {
            return;
        }
        match self.member.commit(&due).await {
            Ok(()) => {
                for (partition, offset) in due {
                    if let Some(assigned) = self.partitions.get_mut(&partition) {
                        assigned.tracker.committed(offset);
                    }
                }
            }
            Err(error) if error.class() == Class::Fatal => self.fail(error),
            // The next tick commits again, by then perhaps more.
            Err(error) => {
                self.attempts
                    .broker
                    .metrics()
                    .retries
                    .with_label_values(&["commit"])
                    .inc();
                let reason = Failure::retry(error).chain();
                tracing::warn!(group = self.settings.group, reason, "cannot commit");
            }
        }
    }

    async fn leave(&mut self) {
        let partitions: Vec<_> = self.partitions.keys().cloned().collect();
        let farewell = async {
            self.commit(&partitions).await;
            self.member.leave().await
        };
        match timeout(FAREWELL, farewell).await {
            Ok(Ok(())) => tracing::info!(group = self.settings.group, "left"),
            Ok(Err(error)) => {
                let reason = Failure::retry(error).chain();
                tracing::warn!(group = self.settings.group, reason, "left without farewell");
            }
            Err(_) => tracing::warn!(group = self.settings.group, "left without farewell"),
        }
        for partition in partitions {
            self.forget(&partition);
        }
    }
}

async fn next(member: &mut dyn Member, not_before: Instant) -> Result<GroupEvent> {
    if not_before > Instant::now() {
        sleep_until(not_before).await;
    }
    member.next().await
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
