//! How a topic is asked for and described.

use std::collections::BTreeMap;
use std::time::Duration;

/// The size of the largest record a topic takes when its specification does not say.
pub const MAX_MESSAGE_BYTES: u32 = 8 * 1024 * 1024;

/// Records that travel over a link are kept longer than the longest outage that is planned for.
const RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);
/// Pages that were away for longer read the whole table again.
const CHANGES_RETENTION: Duration = Duration::from_secs(24 * 3600);

/// What happens to old records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cleanup {
    /// They are deleted when older than the retention.
    #[default]
    Delete,
    /// The newest of each key stays.
    Compact,
}

/// A topic to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// How many partitions.
    pub partitions: i32,
    /// How many copies; the embedded broker has one whatever is asked.
    pub replication: i32,
    /// What happens to old records.
    pub cleanup: Cleanup,
    /// How long records stay (`Delete`), or tombstones (`Compact`); none is the engine's default: for ever in the
    /// embedded broker, the server's own in Kafka.
    pub retention: Option<Duration>,
    /// How many bytes a partition keeps; none is no limit. Ignored for `Compact`.
    pub retention_bytes: Option<u64>,
    /// The largest record: key, value and headers.
    pub max_message_bytes: u32,
    /// Further properties of a Kafka topic (`segment.ms`), by Kafka's names; the embedded broker has none.
    pub config: BTreeMap<String, String>,
}

impl TopicSpec {
    /// A topic with defaults: one replica, records deleted by the engine's default retention.
    pub fn new(name: impl Into<String>, partitions: i32) -> Self {
        Self {
            name: name.into(),
            partitions,
            replication: 1,
            cleanup: Cleanup::Delete,
            retention: None,
            retention_bytes: None,
            max_message_bytes: MAX_MESSAGE_BYTES,
            config: BTreeMap::new(),
        }
    }

    /// A topic that every site has, with these partitions where their number is the site's choice.
    pub fn of(topic: &schemas::Topic, partitions: i32, replication: i32) -> Self {
        let mut made = Self::new(topic.name.clone(), topic.partitions.unwrap_or(partitions));
        made.replication = replication;
        if schemas::split_site(&topic.name).is_some_and(|(_, name)| name == schemas::topic::CHECKPOINTS) {
            // Whoever writes one is told the broker's time, and so how far its own clock is off.
            let stamps = ("message.timestamp.type".to_owned(), "LogAppendTime".to_owned());
            made.config.extend([stamps]);
        }
        if topic.compacted {
            made.compacted()
        } else if topic.name == schemas::topic::ASSET_CHANGES {
            made.retention(CHANGES_RETENTION)
        } else {
            made.retention(RETENTION)
        }
    }

    /// The same topic, compacted.
    #[must_use]
    pub fn compacted(mut self) -> Self {
        self.cleanup = Cleanup::Compact;
        self
    }

    /// The same topic with a retention.
    #[must_use]
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = Some(retention);
        self
    }
}

/// A topic as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// How many partitions.
    pub partitions: i32,
    /// How many copies.
    pub replication: i32,
    /// What happens to old records.
    pub cleanup: Cleanup,
    /// How long records stay; none is for ever.
    pub retention: Option<Duration>,
    /// How many bytes a partition keeps; none is no limit.
    pub retention_bytes: Option<u64>,
    /// The largest record it takes, where the engine says so: Kafka's is that of a batch.
    pub max_message_bytes: Option<u32>,
    /// Which incarnation this is: a topic deleted and created again has another.
    pub id: String,
}
