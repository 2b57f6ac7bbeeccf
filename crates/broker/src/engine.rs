//! What an engine does; everything else in this crate is written once, above these traits.
//!
//! An engine knows nothing of handlers, retries, dead letters, traces or metrics. It keeps records, hands them out in
//! order, and tells a member of a group which partitions it has. All futures must be safe to drop: a dropped `send`
//! may or may not have sent, a dropped `next` loses nothing.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;

use crate::consumer::{StartWithout, Subscription};
use crate::error::Result;
use crate::group::GroupDescription;
use crate::record::{Outgoing, Placement, Position, Record, TopicPartition, Watermarks};
use crate::topics::{TopicDescription, TopicSpec};

/// A broker's engine, shared by everything that was opened from one [`crate::Broker`].
#[async_trait]
pub(crate) trait Engine: Debug + Send + Sync {
    /// Asks whether the engine answers, within a few seconds.
    async fn ping(&self) -> Result<()>;
    /// Creates a topic; false if it existed (its settings are then left alone). Returns when it can be used.
    async fn create_topic(&self, spec: &TopicSpec) -> Result<bool>;
    /// Asks whether this client may create such a topic, and creates nothing. An engine without rules lets everybody.
    async fn rehearse_topic(&self, _spec: &TopicSpec) -> Result<()> {
        Ok(())
    }
    /// Deletes a topic. Unknown is [`crate::Error::UnknownTopic`].
    async fn delete_topic(&self, topic: &str) -> Result<()>;
    /// All topics but the engine's own, by name.
    async fn topics(&self) -> Result<Vec<TopicDescription>>;
    /// One topic, or none.
    async fn describe(&self, topic: &str) -> Result<Option<TopicDescription>>;
    /// The names of all topics but the engine's own, in order: one question, whatever their number.
    async fn topic_names(&self) -> Result<Vec<String>>;
    /// Gives a topic more partitions, so many in all; nothing when it has as many or more. Returns when they can be
    /// used.
    async fn add_partitions(&self, topic: &str, partitions: i32) -> Result<()>;
    /// The first offset whose record was made at this time (milliseconds since 1970) or later.
    async fn offset_at(&self, topic: &str, partition: i32, timestamp: i64) -> Result<Option<i64>>;
    /// All groups that have commits or members, by name.
    async fn groups(&self) -> Result<Vec<GroupDescription>>;
    /// Commits next offsets of a topic for a group that has no members; else [`crate::Error::GroupInUse`].
    async fn commit_for(&self, group: &str, topic: &str, offsets: &[(i32, i64)]) -> Result<()>;
    /// The ends of a partition; `high` is the last stable offset.
    async fn watermarks(&self, topic: &str, partition: i32) -> Result<Watermarks>;
    /// What a group has committed of a topic, by partition; partitions without a commit are left out.
    async fn committed(&self, group: &str, topic: &str) -> Result<Vec<(i32, i64)>>;
    /// Sends records; returns their places, in the order given, when all are durable. Records of one call to one
    /// partition keep their order. Never creates a topic. No partition: murmur2 of the key as Java does; no key
    /// either: any. On Err some may have been kept.
    async fn send_all(&self, records: Vec<Outgoing>) -> Result<Vec<Placement>>;
    /// Takes over a transactional id: earlier holders are fenced, what they left open is aborted.
    async fn transactions(&self, transactional_id: &str) -> Result<Box<dyn TransactionsEngine>>;
    /// Reads partitions (assigned, no group), committed records only. Unknown topics and partitions may be told here
    /// or by the first `next`.
    async fn reader(&self, positions: &[Position]) -> Result<Box<dyn ReaderEngine>>;
    /// Joins a consumer group.
    async fn join(&self, membership: Membership) -> Result<Box<dyn Member>>;
}

/// One holder of a transactional id. The caller drops it after any error, and calls `begin` and `commit` in turn.
#[async_trait]
pub(crate) trait TransactionsEngine: Debug + Send {
    /// Opens a transaction and sends the batch in it; returns the places the records will have. When the handle is
    /// dropped, or the next call does not come, nothing of it may ever be seen.
    async fn begin(&mut self, batch: Vec<Outgoing>) -> Result<Vec<Placement>>;
    /// Adds the last records and commits; returns their places when everything is durable.
    async fn commit(&mut self, sealed: Vec<Outgoing>) -> Result<Vec<Placement>>;
}

/// Reads given partitions.
#[async_trait]
pub(crate) trait ReaderEngine: Debug + Send {
    /// Up to `max_records` records (bounded in bytes too) as soon as there are any; empty after `max_wait`. A position
    /// outside the partition is [`crate::Error::OffsetOutOfRange`]. Positions move past what readers never see
    /// (markers, aborted or compacted records), also when nothing is returned.
    async fn next(&mut self, max_records: usize, max_wait: Duration) -> Result<Vec<Record>>;
    /// The next offset to be read, once known: `Beginning` and `End` are known after the first `next` at the latest.
    fn position(&self, topic: &str, partition: i32) -> Option<i64>;
    /// Moves one of the partitions; records read ahead of it are forgotten.
    async fn seek(&mut self, position: Position) -> Result<()>;
}

/// How to join a group.
#[derive(Debug, Clone)]
pub(crate) struct Membership {
    /// The group.
    pub(crate) group: String,
    /// Who joins, across restarts (static membership).
    pub(crate) instance: Option<String>,
    /// What it reads. A topic that does not exist yet is waited for.
    pub(crate) subscription: Subscription,
    /// Where a partition without a commit starts.
    pub(crate) from: StartWithout,
    /// False: only the assignment matters and no record is read (a lease).
    pub(crate) fetch: bool,
    /// How long the group waits for a member that fell silent; none is the engine's default.
    pub(crate) session_timeout: Option<Duration>,
}

/// What a member of a group is told.
#[derive(Debug)]
pub(crate) enum GroupEvent {
    /// These partitions are this member's now, in addition to those it has.
    Assigned(Vec<TopicPartition>),
    /// These are to be handed over: no record of them comes any more; another member gets them after
    /// [`Member::release`] (or when the engine loses patience and says `Lost`).
    Revoked(Vec<TopicPartition>),
    /// These are gone: nothing of them can be committed any more.
    Lost(Vec<TopicPartition>),
    /// Records, in order within each partition.
    Records(Vec<Record>),
}

/// A member of a group. It is a member as long as its owner keeps calling `next`. Dropped without `leave` it
/// leaves as a crashed process would.
#[async_trait]
pub(crate) trait Member: Debug + Send {
    /// The next event. Safe to drop.
    async fn next(&mut self) -> Result<GroupEvent>;
    /// Stops records of these partitions; a few that were on their way may still come.
    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<()>;
    /// Goes on with these partitions where they stopped.
    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<()>;
    /// Commits next offsets durably. Partitions that are not this member's any more are left out silently.
    async fn commit(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<()>;
    /// Hands over revoked partitions.
    async fn release(&mut self, partitions: &[TopicPartition]) -> Result<()>;
    /// The end of a partition as last seen, for the lag.
    fn high(&self, partition: &TopicPartition) -> Option<i64>;
    /// Leaves the group at once, so that others take over.
    async fn leave(&mut self) -> Result<()>;
}
