//! Consumer groups of one process: who has which partition, and how it changes hands.
//!
//! Partitions of a topic are split into ranges among the members that read it, in the order in which they joined, so
//! the oldest member always has partition 0. A partition changes hands in two steps: its owner is told, drains,
//! commits and releases; only then the next one gets it. A member that leaves or is dropped releases everything.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::live::Topics;
use crate::consumer::Subscription;
use crate::engine::GroupEvent;
use crate::record::TopicPartition;

/// All groups that have members.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: Mutex<HashMap<String, Group>>,
}

#[derive(Debug, Default)]
struct Group {
    next_member: u64,
    members: BTreeMap<u64, Enrolled>,
    owners: BTreeMap<TopicPartition, Owner>,
}

#[derive(Debug)]
struct Enrolled {
    subscription: Subscription,
    // Bounded by the number of changes to the group between two polls of a member.
    events: mpsc::UnboundedSender<GroupEvent>,
}

#[derive(Debug, Clone, Copy)]
struct Owner {
    member: u64,
    revoking: bool,
}

impl Groups {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Group>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn join(
        &self,
        group: &str,
        subscription: Subscription,
        topics: &Topics,
    ) -> (u64, mpsc::UnboundedReceiver<GroupEvent>) {
        let (events, receiver) = mpsc::unbounded_channel();
        let mut groups = self.lock();
        let group = groups.entry(group.into()).or_default();
        group.next_member += 1;
        let member = group.next_member;
        group.members.insert(member, Enrolled { subscription, events });
        group.rebalance(topics);
        (member, receiver)
    }

    pub(super) fn leave(&self, name: &str, member: u64, topics: &Topics) {
        let mut groups = self.lock();
        let Some(group) = groups.get_mut(name) else { return };
        group.members.remove(&member);
        group.owners.retain(|_, owner| owner.member != member);
        group.rebalance(topics);
        if group.members.is_empty() {
            groups.remove(name);
        }
    }

    /// How many members each group has that has any.
    pub(super) fn sizes(&self) -> BTreeMap<String, usize> {
        let groups = self.lock();
        let sizes = groups
            .iter()
            .map(|(name, group)| (name.clone(), group.members.len()));
        sizes.filter(|(_, members)| *members > 0).collect()
    }

    pub(super) fn release(&self, name: &str, member: u64, partitions: &[TopicPartition], topics: &Topics) {
        let mut groups = self.lock();
        let Some(group) = groups.get_mut(name) else { return };
        group
            .owners
            .retain(|partition, owner| owner.member != member || !partitions.contains(partition));
        group.rebalance(topics);
    }

    /// Whether the member may commit this partition.
    pub(super) fn owns(&self, name: &str, member: u64, partition: &TopicPartition) -> bool {
        let groups = self.lock();
        let owner = groups.get(name).and_then(|group| group.owners.get(partition));
        owner.is_some_and(|owner| owner.member == member)
    }

    /// To be called when topics came or went.
    pub(super) fn rebalance(&self, topics: &Topics) {
        self.lock().values_mut().for_each(|group| group.rebalance(topics));
    }
}

impl Group {
    fn rebalance(&mut self, topics: &Topics) {
        let wanted = self.wanted(topics);
        let mut lost: BTreeMap<u64, Vec<TopicPartition>> = BTreeMap::new();
        let mut revoked: BTreeMap<u64, Vec<TopicPartition>> = BTreeMap::new();
        let mut assigned: BTreeMap<u64, Vec<TopicPartition>> = BTreeMap::new();
        self.owners
            .retain(|partition, owner| match wanted.get(partition) {
                None => {
                    lost.entry(owner.member).or_default().push(partition.clone());
                    false
                }
                Some(member) => {
                    if *member != owner.member && !owner.revoking {
                        owner.revoking = true;
                        revoked.entry(owner.member).or_default().push(partition.clone());
                    }
                    true
                }
            });
        for (partition, member) in wanted {
            self.owners.entry(partition).or_insert_with_key(|partition| {
                assigned.entry(member).or_default().push(partition.clone());
                Owner {
                    member,
                    revoking: false,
                }
            });
        }
        let lost = lost
            .into_iter()
            .map(|(member, list)| (member, GroupEvent::Lost(list)));
        let revoked = revoked
            .into_iter()
            .map(|(member, list)| (member, GroupEvent::Revoked(list)));
        let assigned = assigned
            .into_iter()
            .map(|(member, list)| (member, GroupEvent::Assigned(list)));
        for (member, event) in lost.chain(revoked).chain(assigned) {
            if let Some(enrolled) = self.members.get(&member) {
                // A member that is being dropped is about to leave.
                drop(enrolled.events.send(event));
            }
        }
    }

    fn wanted(&self, topics: &Topics) -> BTreeMap<TopicPartition, u64> {
        let mut wanted = BTreeMap::new();
        for live in topics.all() {
            let readers: Vec<u64> = self
                .members
                .iter()
                .filter(|(_, enrolled)| enrolled.subscription.matches(&live.name))
                .map(|(member, _)| *member)
                .collect();
            let (count, partitions) = (readers.len(), live.partitions.len());
            if count == 0 {
                continue;
            }
            let (each, more) = (partitions / count, partitions % count);
            let mut next = 0;
            for (index, member) in readers.into_iter().enumerate() {
                for _ in 0..each + usize::from(index < more) {
                    wanted.insert(
                        TopicPartition {
                            topic: live.name.clone(),
                            partition: next,
                        },
                        member,
                    );
                    next += 1;
                }
            }
        }
        wanted
    }
}

/// What a member tells its group when it is gone.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) group: String,
    pub(super) member: u64,
    pub(super) shared: Arc<super::Shared>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shared
            .groups
            .leave(&self.group, self.member, &self.shared.topics);
    }
}
