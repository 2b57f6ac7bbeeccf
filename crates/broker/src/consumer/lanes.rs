//! The records of the assigned partitions that wait for their turn: one lane per key, one record of a lane at a time.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use tokio::time::Instant;

use super::attempt::Ending;
use super::tracker::Tracker;
use crate::record::{Record, TopicPartition};

/// Bytes of a partition's unfinished records above which it is paused.
const PARTITION_BYTES: usize = 512 * 1024;

/// A lane, and for which assignment of the partition it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lane {
    pub(super) partition: TopicPartition,
    pub(super) assignment: u64,
    key: u64,
}

/// An assigned partition.
#[derive(Debug)]
pub(super) struct Assigned {
    pub(super) assignment: u64,
    pub(super) tracker: Tracker,
    pub(super) ending: Ending,
    /// When the partition is to be handed over: how long its handlers may go on.
    pub(super) deadline: Option<Instant>,
    pub(super) paused: bool,
    running: usize,
    bytes: usize,
    // A lane is here while one of its records is being handled; the queue holds what waits behind it.
    lanes: HashMap<u64, VecDeque<Record>>,
}

impl Assigned {
    pub(super) fn new(assignment: u64) -> Self {
        Self {
            assignment,
            tracker: Tracker::default(),
            ending: Ending::default(),
            deadline: None,
            paused: false,
            running: 0,
            bytes: 0,
            lanes: HashMap::new(),
        }
    }

    /// Takes a record in; gives it back with its lane if it can be handled now.
    pub(super) fn push(&mut self, record: Record) -> Option<(Lane, Record)> {
        let mut hasher = DefaultHasher::new();
        record.key.hash(&mut hasher);
        let key = hasher.finish();
        self.tracker.begin(record.offset);
        self.bytes += record.size();
        if let Some(waiting) = self.lanes.get_mut(&key) {
            waiting.push_back(record);
            return None;
        }
        self.lanes.insert(key, VecDeque::new());
        self.running += 1;
        let partition = TopicPartition {
            topic: record.topic.clone(),
            partition: record.partition,
        };
        Some((
            Lane {
                partition,
                assignment: self.assignment,
                key,
            },
            record,
        ))
    }

    /// A record of a lane has left its handler; gives the next of the lane.
    pub(super) fn next(&mut self, lane: &Lane, size: usize) -> Option<Record> {
        self.bytes = self.bytes.saturating_sub(size);
        let next = if self.draining() {
            None
        } else {
            self.lanes.get_mut(&lane.key).and_then(VecDeque::pop_front)
        };
        if next.is_none() {
            self.lanes.remove(&lane.key);
            self.running -= 1;
        }
        next
    }

    /// Begins nothing new; running handlers have until the deadline.
    pub(super) fn drain(&mut self, deadline: Instant) {
        self.ending.drain.cancel();
        self.deadline.get_or_insert(deadline);
        self.lanes.values_mut().for_each(VecDeque::clear);
    }

    pub(super) fn draining(&self) -> bool {
        self.deadline.is_some()
    }

    /// No handler is running.
    pub(super) fn idle(&self) -> bool {
        self.running == 0
    }

    /// Holds enough that no more should be read.
    pub(super) fn full(&self, in_flight: usize) -> bool {
        self.tracker.unfinished() >= 2 * in_flight || self.bytes >= PARTITION_BYTES
    }

    /// Holds so little that more should be read.
    pub(super) fn hungry(&self, in_flight: usize) -> bool {
        self.tracker.unfinished() <= in_flight && self.bytes <= PARTITION_BYTES / 2
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn record(offset: i64, key: &'static str) -> Record {
        Record {
            topic: "t".into(),
            partition: 0,
            offset,
            timestamp: 0,
            key: Some(Bytes::from_static(key.as_bytes())),
            value: None,
            headers: Vec::new(),
        }
    }

    #[test]
    fn records_of_one_key_wait_for_each_other_and_others_do_not() {
        let mut assigned = Assigned::new(1);
        let (lane, first) = assigned.push(record(0, "a")).unwrap();
        assert!(assigned.push(record(1, "a")).is_none());
        assert!(assigned.push(record(2, "b")).is_some());
        assigned.tracker.finish(first.offset);
        assert_eq!(assigned.next(&lane, first.size()).unwrap().offset, 1);
        assert!(!assigned.idle());
    }

    #[test]
    fn draining_begins_nothing_new() {
        let mut assigned = Assigned::new(1);
        let (lane, first) = assigned.push(record(0, "a")).unwrap();
        assert!(assigned.push(record(1, "a")).is_none());
        assigned.drain(Instant::now());
        assigned.tracker.finish(0);
        assert!(assigned.next(&lane, first.size()).is_none());
        assert!(assigned.idle());
        assert_eq!(assigned.tracker.due(), Some(1));
    }
}
