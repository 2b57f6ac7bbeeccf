//! What is left to announce, and in which order.

use std::collections::HashSet;

use common::broker::{self, Broker};
use common::schemas::{AssetId, topic};
use rand::RngExt as _;
use serde::{Deserialize, Serialize};

use crate::entry::Entry;

/// In which order assets are announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// At random.
    #[default]
    Random,
    /// As the catalogue has them.
    Catalogue,
}

/// The assets that `asset-pipeline` knows, whatever became of them: 16 bytes each.
#[derive(Debug, Default)]
pub struct Known(HashSet<u128>);

impl Known {
    /// Reads `asset-pipeline` to its end, so that a restart neither repeats an announcement nor undoes a state.
    pub async fn read(broker: &Broker) -> broker::Result<Self> {
        let mut known = HashSet::new();
        broker
            .read_to_end(topic::ASSET_PIPELINE, |record| {
                let id = record
                    .key
                    .as_deref()
                    .and_then(|key| std::str::from_utf8(key).ok())
                    .and_then(number);
                // A tombstone deletes the asset: it may be announced again.
                match (id, record.value.is_some()) {
                    (Some(id), true) => drop(known.insert(id)),
                    (Some(id), false) => drop(known.remove(&id)),
                    (None, _) => {}
                }
            })
            .await?;
        Ok(Self(known))
    }

    /// Whether the asset was announced.
    pub fn contains(&self, asset_id: &AssetId) -> bool {
        number(asset_id.as_str()).is_some_and(|id| self.0.contains(&id))
    }

    /// Remembers that the asset was announced.
    pub fn insert(&mut self, asset_id: &AssetId) {
        self.0.extend(number(asset_id.as_str()));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn number(asset_id: &str) -> Option<u128> {
    u128::from_str_radix(asset_id, 16).ok()
}

/// Entries with their ids that nobody has announced yet.
#[derive(Debug, Default)]
pub struct Backlog(Vec<(AssetId, Entry)>);

impl Backlog {
    /// What of a catalogue is left. From the second round on each entry is another asset, with the round in its id.
    pub fn new(entries: Vec<Entry>, catalogue: &str, round: u32, known: &Known, order: Order) -> Self {
        let mut seen = HashSet::new();
        let mut left: Vec<_> = entries
            .into_iter()
            .map(|mut entry| {
                if round > 1 {
                    entry.native_id = format!("{}#{round}", entry.native_id);
                }
                (AssetId::derive(catalogue, &entry.native_id), entry)
            })
            .filter(|(asset_id, _)| !known.contains(asset_id) && seen.insert(asset_id.clone()))
            .collect();
        if order == Order::Catalogue {
            // Taken from the end.
            left.reverse();
        }
        Self(left)
    }

    /// Takes the next one.
    pub fn next(&mut self, order: Order) -> Option<(AssetId, Entry)> {
        match order {
            Order::Catalogue => self.0.pop(),
            Order::Random if self.0.is_empty() => None,
            Order::Random => Some(self.0.swap_remove(rand::rng().random_range(0..self.0.len()))),
        }
    }

    /// How many are left.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none are left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn take_all(mut backlog: Backlog, order: Order) -> Vec<String> {
        std::iter::from_fn(|| backlog.next(order))
            .map(|(_, entry)| entry.native_id)
            .collect()
    }

    #[test]
    fn each_entry_is_taken_once_in_either_order() {
        let wanted: Vec<_> = sample::entries()
            .into_iter()
            .map(|entry| entry.native_id)
            .collect();
        let twice = [sample::entries(), sample::entries()].concat();
        for order in [Order::Catalogue, Order::Random] {
            let mut taken = take_all(
                Backlog::new(twice.clone(), "sample", 1, &Known::default(), order),
                order,
            );
            if order == Order::Random {
                taken.sort();
                let mut sorted = wanted.clone();
                sorted.sort();
                assert_eq!(taken, sorted);
            } else {
                assert_eq!(taken, wanted);
            }
        }
    }

    #[test]
    fn known_assets_are_left_out_until_the_next_round() {
        let mut known = Known::default();
        for entry in sample::entries() {
            known.insert(&AssetId::derive("sample", &entry.native_id));
        }
        assert_eq!(known.len(), sample::COUNT);
        assert!(Backlog::new(sample::entries(), "sample", 1, &known, Order::Random).is_empty());
        let second = Backlog::new(sample::entries(), "sample", 2, &known, Order::Catalogue);
        assert_eq!(take_all(second, Order::Catalogue)[0], "mountains-01.jpg#2");
        assert_eq!(
            Backlog::new(sample::entries(), "other", 1, &known, Order::Random).len(),
            sample::COUNT
        );
    }
}
