//! How writes to one row are merged: Cassandra's rules, as a pure function of what the row holds and what comes.
//!
//! Each cell keeps a stamp: the write timestamp, and when it expires or was deleted. The larger stamp wins; of two with
//! the same timestamp a tombstone beats an expiring cell, which beats a lasting one; of two alike the larger value wins.
//! A row's deletion swallows every cell and marker that is not younger. So the outcome does not depend on the order in
//! which writes arrive, and applying one twice changes nothing. Tombstones, without which a late write would bring
//! deleted cells back, are kept for [`GRACE`], as long as Cassandra keeps them.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::plan::{Change, Mutation};
use crate::value::Value;

/// How long a tombstone or an expired cell is remembered, in seconds: Cassandra's `gc_grace_seconds`.
pub(crate) const GRACE: i64 = 10 * 24 * 3600;

/// What is known of one cell, or of the row's marker, beside its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    /// The write timestamp, in microseconds.
    #[serde(rename = "t")]
    at: i64,
    /// The second from which it no longer counts.
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    expires: Option<i64>,
    /// The second in which it was deleted: then it is a tombstone.
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    deleted: Option<i64>,
}

impl Stamp {
    /// What decides between two stamps of one cell.
    fn rank(self) -> (i64, u8, i64) {
        match (self.deleted, self.expires) {
            (Some(second), _) => (self.at, 2, second),
            (None, Some(second)) => (self.at, 1, second),
            (None, None) => (self.at, 0, 0),
        }
    }

    fn live(self, now: i64) -> bool {
        self.deleted.is_none() && self.expires.is_none_or(|second| now < second)
    }

    /// The second in which it may be forgotten; `None` for what lasts.
    fn forgotten(self) -> Option<i64> {
        self.deleted.or(self.expires).map(|second| second + GRACE)
    }
}

/// The deletion of a whole row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Deletion {
    #[serde(rename = "t")]
    at: i64,
    #[serde(rename = "d")]
    second: i64,
}

/// What is known of a row beside its values: kept in one column, as JSON, so that it can be looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamps {
    /// Written by every upsert: while it lives the row is there, whatever became of its cells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    marker: Option<Stamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deleted: Option<Deletion>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    cells: BTreeMap<String, Stamp>,
}

/// The columns whose value changes, by their place in the definition.
pub(crate) type Changes = Vec<(usize, Value)>;

impl Stamps {
    /// Whether the row is there.
    pub(crate) fn present(&self, now: i64) -> bool {
        self.marker
            .iter()
            .chain(self.cells.values())
            .any(|stamp| stamp.live(now))
    }

    /// Whether the cell has a value.
    pub(crate) fn live(&self, column: &str, now: i64) -> bool {
        self.cells.get(column).is_some_and(|stamp| stamp.live(now))
    }

    /// Whether nothing is left to remember.
    pub(crate) fn empty(&self) -> bool {
        *self == Self::default()
    }

    /// Merges one write at second `now`. `current` reads the value of a column: asked only to settle a tie.
    pub(crate) fn apply<E>(
        &mut self,
        mutation: &Mutation,
        now: i64,
        mut current: impl FnMut(usize) -> Result<Value, E>,
    ) -> Result<Changes, E> {
        let at = mutation.timestamp;
        let mut changes = Changes::new();
        match &mutation.change {
            Change::Delete => self.delete(Deletion { at, second: now }, mutation, &mut changes),
            Change::Upsert { .. } if self.deleted.is_some_and(|deletion| deletion.at >= at) => {}
            Change::Upsert { cells, ttl } => {
                let expires = ttl.map(|seconds| now + i64::from(seconds));
                let stamp = Stamp {
                    at,
                    expires,
                    deleted: None,
                };
                if self.marker.is_none_or(|marker| marker.rank() < stamp.rank()) {
                    self.marker = Some(stamp);
                }
                for (place, value) in cells {
                    let name = &mutation.definition.columns[*place].name;
                    let stamp = if value.null() {
                        Stamp {
                            at,
                            expires: None,
                            deleted: Some(now),
                        }
                    } else {
                        stamp
                    };
                    let wins = match self.cells.get(name) {
                        None => true,
                        Some(known) => match known.rank().cmp(&stamp.rank()) {
                            Ordering::Less => true,
                            Ordering::Greater => false,
                            Ordering::Equal if value.null() => false,
                            Ordering::Equal => current(*place)?.wire() < value.wire(),
                        },
                    };
                    if wins {
                        self.cells.insert(name.clone(), stamp);
                        changes.push((*place, value.clone()));
                    }
                }
            }
        }
        Ok(changes)
    }

    fn delete(&mut self, deletion: Deletion, mutation: &Mutation, changes: &mut Changes) {
        let at = deletion.at;
        self.deleted = self.deleted.max(Some(deletion));
        self.marker = self.marker.filter(|marker| marker.at > at);
        self.cells.retain(|name, stamp| {
            let stays = stamp.at > at;
            if !stays {
                changes.extend(
                    mutation
                        .definition
                        .position(name)
                        .map(|place| (place, Value::Null)),
                );
            }
            stays
        });
    }

    /// Forgets what is older than the grace; returns the columns whose values have expired and can be emptied.
    pub(crate) fn sweep(&mut self, now: i64) -> Vec<String> {
        let keep = |stamp: &Stamp| stamp.forgotten().is_none_or(|second| now < second);
        self.deleted = self.deleted.filter(|deletion| now < deletion.second + GRACE);
        self.marker = self.marker.filter(keep);
        let expired = self
            .cells
            .iter()
            .filter(|(_, stamp)| !stamp.live(now))
            .map(|(name, _)| name.clone())
            .collect();
        self.cells.retain(|_, stamp| keep(stamp));
        expired
    }

    /// The second in which [`Stamps::sweep`] next has something to do.
    pub(crate) fn due(&self, now: i64) -> Option<i64> {
        let stamps = self.marker.iter().map(|marker| marker.forgotten());
        let cells = self.cells.values().map(|stamp| match stamp.expires {
            Some(second) if now < second => Some(second),
            _ => stamp.forgotten(),
        });
        let row = self.deleted.map(|deletion| deletion.second + GRACE);
        stamps.chain(cells).chain([row]).flatten().min()
    }
}

#[cfg(test)]
mod tests;
