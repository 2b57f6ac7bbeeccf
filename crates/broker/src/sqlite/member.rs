//! A member of a group, and a reader without one: both read through cursors.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{OptionalExtension, params};
use tokio::sync::mpsc;

use super::Shared;
use super::fetch::{self, Cursors};
use super::groups::Seat;
use crate::consumer::StartWithout;
use crate::engine::{GroupEvent, Member, Membership, ReaderEngine};
use crate::error::{Error, Result};
use crate::record::{Position, Record, Start, TopicPartition};

const MEMBER_RECORDS: usize = 200;

#[derive(Debug)]
pub(super) struct SqliteReader {
    shared: Arc<Shared>,
    cursors: Cursors,
}

impl SqliteReader {
    pub(super) async fn open(shared: Arc<Shared>, positions: &[Position]) -> Result<Self> {
        let mut reader = Self {
            shared,
            cursors: Cursors::new(),
        };
        for position in positions {
            reader.seek(position.clone()).await?;
        }
        Ok(reader)
    }
}

#[async_trait]
impl ReaderEngine for SqliteReader {
    async fn next(&mut self, max_records: usize, max_wait: Duration) -> Result<Vec<Record>> {
        let next = self.cursors.next(&self.shared.threads, max_records);
        tokio::time::timeout(max_wait, next)
            .await
            .unwrap_or_else(|_| Ok(Vec::new()))
    }

    fn position(&self, topic: &str, partition: i32) -> Option<i64> {
        self.cursors.position(topic, partition)
    }

    async fn seek(&mut self, position: Position) -> Result<()> {
        let Position {
            topic,
            partition,
            start,
        } = position;
        let live = self.shared.live(&topic)?;
        let known = live.clone();
        let offset = self
            .shared
            .threads
            .read(move |connection| fetch::resolve(connection, &known, partition, start))
            .await?;
        self.cursors.add(live, partition, offset);
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct SqliteMember {
    shared: Arc<Shared>,
    membership: Membership,
    events: mpsc::UnboundedReceiver<GroupEvent>,
    cursors: Cursors,
    assigning: Vec<TopicPartition>,
    /// Which incarnation of a topic a partition belongs to, so that no commit reaches a later one.
    topic_ids: HashMap<TopicPartition, i64>,
    seat: Option<Seat>,
}

impl SqliteMember {
    pub(super) fn join(shared: Arc<Shared>, membership: Membership) -> Self {
        let (member, events) =
            shared
                .groups
                .join(&membership.group, membership.subscription.clone(), &shared.topics);
        let seat = Some(Seat {
            group: membership.group.clone(),
            member,
            shared: shared.clone(),
        });
        Self {
            shared,
            membership,
            events,
            cursors: Cursors::new(),
            assigning: Vec::new(),
            topic_ids: HashMap::new(),
            seat,
        }
    }

    fn forget(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.cursors.remove(&partition.topic, partition.partition);
        }
        self.assigning.retain(|partition| !partitions.contains(partition));
    }

    /// Finds out where the newly assigned partitions start. One that is gone again is skipped: the group will say so.
    async fn place(&mut self) -> Result<()> {
        while let Some(partition) = self.assigning.last().cloned() {
            if let Some(live) = self
                .shared
                .topics
                .get(&partition.topic)
                .filter(|_| self.membership.fetch)
            {
                let (group, from, known) =
                    (self.membership.group.clone(), self.membership.from, live.clone());
                let number = partition.partition;
                let start = self
                    .shared
                    .threads
                    .read(move |connection| {
                        let committed: Option<i64> = connection
                            .query_row(
                                "SELECT next_offset FROM commits
                                 WHERE group_name = ?1 AND topic_id = ?2 AND partition = ?3",
                                params![group, known.topic_id, number],
                                |row| row.get(0),
                            )
                            .optional()
                            .map_err(|source| Error::Group {
                                operation: "read commits",
                                group,
                                source: source.into(),
                            })?;
                        match (committed, from) {
                            (Some(offset), _) => Ok(offset),
                            (None, StartWithout::Beginning) => {
                                fetch::resolve(connection, &known, number, Start::Beginning)
                            }
                            (None, StartWithout::End) => {
                                fetch::resolve(connection, &known, number, Start::End)
                            }
                        }
                    })
                    .await;
                match start {
                    Ok(start) => {
                        self.topic_ids.insert(partition, live.topic_id);
                        self.cursors.add(live, number, start);
                    }
                    Err(Error::UnknownTopic { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            self.assigning.pop();
        }
        Ok(())
    }
}

#[async_trait]
impl Member for SqliteMember {
    async fn next(&mut self) -> Result<GroupEvent> {
        loop {
            self.place().await?;
            let event = tokio::select! {
                biased;
                event = self.events.recv() => event.ok_or(Error::Closed)?,
                records = self.cursors.next(&self.shared.threads, MEMBER_RECORDS) => match records {
                    Ok(records) => GroupEvent::Records(records),
                    // The topic was deleted: the group is about to say so.
                    Err(Error::UnknownTopic { topic }) => {
                        self.cursors.remove_topic(&topic);
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            match &event {
                GroupEvent::Assigned(partitions) => self.assigning.extend(partitions.iter().cloned()),
                GroupEvent::Revoked(partitions) | GroupEvent::Lost(partitions) => {
                    self.forget(partitions);
                    if matches!(event, GroupEvent::Lost(_)) {
                        self.topic_ids
                            .retain(|partition, _| !partitions.contains(partition));
                    }
                }
                GroupEvent::Records(_) => {}
            }
            return Ok(event);
        }
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        for partition in partitions {
            self.cursors.pause(&partition.topic, partition.partition, true);
        }
        Ok(())
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        for partition in partitions {
            self.cursors.pause(&partition.topic, partition.partition, false);
        }
        Ok(())
    }

    async fn commit(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<()> {
        let Some(seat) = &self.seat else {
            return Err(Error::Closed);
        };
        let group = seat.group.clone();
        let owned: Vec<_> = offsets
            .iter()
            .filter(|(partition, _)| self.shared.groups.owns(&group, seat.member, partition))
            .filter_map(|(partition, offset)| {
                Some((*self.topic_ids.get(partition)?, partition.partition, *offset))
            })
            .collect();
        if owned.is_empty() {
            return Ok(());
        }
        let name = group.clone();
        self.shared
            .threads
            .write(0, move |store| store.commit(&group, &owned))
            .await
            .map_err(|error| Error::Group {
                operation: "commit",
                group: name,
                source: error.into(),
            })
    }

    async fn release(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.forget(partitions);
        self.topic_ids
            .retain(|partition, _| !partitions.contains(partition));
        if let Some(seat) = &self.seat {
            self.shared
                .groups
                .release(&seat.group, seat.member, partitions, &self.shared.topics);
        }
        Ok(())
    }

    fn high(&self, partition: &TopicPartition) -> Option<i64> {
        self.cursors.high(&partition.topic, partition.partition)
    }

    async fn leave(&mut self) -> Result<()> {
        self.seat = None;
        Ok(())
    }
}
