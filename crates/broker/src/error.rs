//! What can go wrong at a broker, told apart as far as a caller can act on it.

use std::path::PathBuf;

use crate::handler::{Class, Classify};

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of another crate, kept as the source of one of ours.
pub(crate) type Source = Box<dyn std::error::Error + Send + Sync>;

/// An operation on a broker that failed. The text never includes the source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The settings cannot work.
    #[error("broker settings: {0}")]
    Settings(String),
    /// Another process has the embedded broker's file.
    #[error("{} is held by {holder}", path.display())]
    Locked {
        /// The broker's file.
        path: PathBuf,
        /// The process that holds it, as it wrote itself down: program and pid.
        holder: String,
    },
    /// The broker's file or client could not be opened.
    #[error("cannot open broker {url}")]
    Open {
        /// Where it should be.
        url: String,
        /// Why not.
        #[source]
        source: Source,
    },
    /// No broker answers; trying again may help.
    #[error("cannot reach kafka at {servers}")]
    Unreachable {
        /// The servers that were tried.
        servers: String,
        /// The client's own words.
        #[source]
        source: Source,
    },
    /// The topic does not exist; nothing creates one by accident.
    #[error("unknown topic {topic}")]
    UnknownTopic {
        /// The topic.
        topic: String,
    },
    /// The topic has no such partition.
    #[error("topic {topic} has no partition {partition}")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// A position that the partition does not have (any more): records in between would be skipped unseen.
    #[error("offset {offset} of {topic}/{partition} is outside {low}..={high}")]
    OffsetOutOfRange {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset asked for.
        offset: i64,
        /// The first offset that is there.
        low: i64,
        /// The offset that the next record will get.
        high: i64,
    },
    /// A record is larger than its topic takes.
    #[error("record of {size} bytes is too large for {topic}, which takes {limit}")]
    TooLarge {
        /// The topic.
        topic: String,
        /// The record's size: key, value and headers.
        size: usize,
        /// What the topic takes.
        limit: usize,
    },
    /// The broker will not take this record, ever.
    #[error("record refused by {topic}: {reason}")]
    Refused {
        /// The topic.
        topic: String,
        /// Why.
        reason: String,
    },
    /// Another holder of the transactional id has taken over.
    #[error("transactional id {transactional_id} was taken over by another instance")]
    Fenced {
        /// The id.
        transactional_id: String,
    },
    /// The handle has seen an error and can only be replaced by a new one.
    #[error("transactions of {transactional_id} ended with an earlier error")]
    Spent {
        /// The id.
        transactional_id: String,
    },
    /// A transaction failed; whether it was committed is not known.
    #[error("cannot {operation} transaction of {transactional_id}")]
    Transaction {
        /// The step: init, begin, send, commit.
        operation: &'static str,
        /// The id.
        transactional_id: String,
        /// Why.
        #[source]
        source: Source,
    },
    /// A record could not be made durable.
    #[error("cannot send to {topic}")]
    Send {
        /// The topic.
        topic: String,
        /// Why.
        #[source]
        source: Source,
    },
    /// Records could not be read.
    #[error("cannot read {topic}")]
    Read {
        /// The topic, with the partition where it is known.
        topic: String,
        /// Why.
        #[source]
        source: Source,
    },
    /// A topic could not be looked at or changed.
    #[error("cannot {operation} topic {topic}")]
    Topic {
        /// What was tried: create, delete, describe, list.
        operation: &'static str,
        /// The topic.
        topic: String,
        /// Why.
        #[source]
        source: Source,
    },
    /// A consumer group could not be joined, committed or looked at.
    #[error("cannot {operation} as group {group}")]
    Group {
        /// What was tried: join, poll, commit, read commits.
        operation: &'static str,
        /// The group.
        group: String,
        /// Why.
        #[source]
        source: Source,
    },
    /// Somebody is in the group, who would overwrite or not heed what is committed in its place.
    #[error("group {group} is in use by {}", if members.is_empty() { "members that are not named".to_owned() } else { members.join(", ") })]
    GroupInUse {
        /// The group.
        group: String,
        /// Its members, as far as they are named.
        members: Vec<String>,
    },
    /// A handler said that it cannot go on, or panicked.
    #[error("handler failed at {topic}/{partition}/{offset}")]
    Handler {
        /// The record's topic.
        topic: String,
        /// The record's partition.
        partition: i32,
        /// The record's offset.
        offset: i64,
        /// What the handler said.
        #[source]
        source: Source,
    },
    /// The record is no dead letter, or not there.
    #[error("no dead letter at {topic}/{partition}/{offset}")]
    NoDeadLetter {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset.
        offset: i64,
    },
    /// The metrics could not be registered.
    #[error("cannot register metrics")]
    Metrics(#[source] prometheus::Error),
    /// The engine has stopped.
    #[error("broker is closed")]
    Closed,
}

impl Classify for Error {
    fn class(&self) -> Class {
        match self {
            Self::Settings(_)
            | Self::Locked { .. }
            | Self::OffsetOutOfRange { .. }
            | Self::Fenced { .. }
            | Self::GroupInUse { .. }
            | Self::Spent { .. }
            | Self::Handler { .. }
            | Self::Metrics(_)
            | Self::Closed => Class::Fatal,
            Self::TooLarge { .. } | Self::Refused { .. } => Class::Poison,
            _ => Class::Retry,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_answer_what_the_loop_should_do() {
        let fenced = Error::Fenced {
            transactional_id: "link".into(),
        };
        assert_eq!(fenced.class(), Class::Fatal);
        let large = Error::TooLarge {
            topic: "t".into(),
            size: 2,
            limit: 1,
        };
        assert_eq!(large.class(), Class::Poison);
        let unreachable = Error::Unreachable {
            servers: "localhost:9092".into(),
            source: "refused".into(),
        };
        assert_eq!(unreachable.class(), Class::Retry);
        assert_eq!(unreachable.to_string(), "cannot reach kafka at localhost:9092");
    }
}
