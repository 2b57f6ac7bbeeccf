//! Room for what is asked for now, from what has been here longest.
//!
//! With `evict = "oldest"`, when the quota leaves no room, the longest-mirrored assets give theirs: never one that is
//! pinned, never one that the same command brought, and none for an asset that would not fit all the same. The row first
//! (`displaced_at`), then the bytes, one object after the other: so a crash leaves one object at most that nobody names, that
//! of the row displaced last, and the next search for room finds it. An asset whose bytes another one has that must stay
//! stays too: its room could not be given.

use std::collections::{BinaryHeap, HashSet};

use common::chassis::{ByteSize, now_ms};
use common::schemas::{AssetId, EdgeAsset, Hash};
use common::table::{Row, Select, Value, Write};

use crate::arrival::number;
use crate::error::{Error, Result};
use crate::pass::Worker;
use crate::settings::Evict;

/// The most assets that one search considers.
const CONSIDERED: usize = 1000;
const PAGE: usize = 500;
const COLUMNS: [&str; 8] = [
    "asset_id",
    "size",
    "hash",
    "mirrored_at",
    "mirrored_hash",
    "evicted_at",
    "displaced_at",
    "pinned_at",
];

/// An asset that may give its room; the youngest is the greatest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Old {
    mirrored_at: i64,
    asset_id: AssetId,
    hash: Hash,
    size: u64,
}

/// What a look at all rows found.
#[derive(Debug, Default)]
struct Found {
    oldest: BinaryHeap<Old>,
    /// The bytes that must stay, by the beginning of their hash: one that begins like another stays as well.
    staying: HashSet<u64>,
    /// The asset displaced last, and the bytes it had.
    last: Option<(i64, Hash)>,
}

fn facts(row: &Row) -> EdgeAsset {
    EdgeAsset::read(|column| row.text(column), |column| number(row, column))
}

impl Found {
    fn look(&mut self, row: &Row, before: i64) {
        let facts = facts(row);
        if let Some(displaced_at) = number(row, "displaced_at")
            && facts.mirrored_at.is_none()
            && let Some(Ok(hash)) = row.text("mirrored_hash").map(str::parse)
            && self.last.as_ref().is_none_or(|(at, _)| *at < displaced_at)
        {
            self.last = Some((displaced_at, hash));
        }
        self.weigh(facts, before);
    }

    /// Whether an asset may give its room, or its bytes stay.
    fn weigh(&mut self, facts: EdgeAsset, before: i64) {
        let (Some(mirrored_at), Some(hash)) = (facts.mirrored_at, facts.mirrored_hash.or(facts.hash)) else {
            return;
        };
        let may_go = facts.pinned_at.is_none() && mirrored_at < before;
        let Some(asset_id) = facts.asset_id.filter(|_| may_go) else {
            self.staying.insert(beginning(&hash));
            return;
        };
        self.oldest.push(Old {
            mirrored_at,
            asset_id,
            hash,
            size: u64::try_from(facts.size.unwrap_or_default()).unwrap_or(0),
        });
        if self.oldest.len() > CONSIDERED
            && let Some(younger) = self.oldest.pop()
        {
            self.staying.insert(beginning(&younger.hash));
        }
    }

    /// Whether all that name these bytes may go.
    fn may_go(&self, hash: &Hash) -> bool {
        !self.staying.contains(&beginning(hash))
    }
}

fn beginning(hash: &Hash) -> u64 {
    u64::from_str_radix(&hash.as_str()[..16], 16).unwrap_or_default()
}

/// The room to make for what was refused, in its order: what cannot fit is passed over.
fn needed(refused: &[u64], most: u64) -> u64 {
    refused.iter().fold(0, |sum: u64, size| {
        Some(sum.saturating_add(*size))
            .filter(|more| *more <= most)
            .unwrap_or(sum)
    })
}

impl Worker {
    /// Makes room for what was refused. Nothing may be on its way. `before` is when the command was given. True when there
    /// is more room than before.
    pub(crate) async fn displace(&self, refused: &[u64], before: i64) -> Result<bool> {
        let Some(quota) = self.settings.quota.map(ByteSize::bytes) else {
            return Ok(false);
        };
        if self.settings.evict == Evict::None || refused.is_empty() {
            return Ok(false);
        }
        let mut found = Found::default();
        self.rows(|row| found.look(row, before)).await?;
        let oldest = std::mem::take(&mut found.oldest).into_sorted_vec();
        let mut freed = 0;
        if let Some((_, hash)) = &found.last
            && found.may_go(hash)
            && oldest.iter().all(|old| old.hash != *hash)
        {
            freed += self.delete(hash).await?;
        }
        let mut objects: Vec<(Hash, Vec<Old>)> = Vec::new();
        for old in oldest {
            match objects.iter_mut().find(|(hash, _)| *hash == old.hash) {
                Some((_, namings)) => namings.push(old),
                None => objects.push((old.hash.clone(), vec![old])),
            }
        }
        objects.retain(|(hash, _)| found.may_go(hash));
        let local = |source| Error::Volume { source };
        let used = self.copier.volume.usage().await.map_err(local)?.bytes;
        let free = quota.saturating_sub(used);
        let size = |namings: &[Old]| namings.first().map_or(0, |old| old.size);
        let most = objects
            .iter()
            .fold(free, |sum, (_, namings)| sum.saturating_add(size(namings)));
        let needed = needed(refused, most.min(quota));
        let mut given = free;
        for (hash, namings) in &objects {
            if given >= needed {
                break;
            }
            if self.leave(namings).await? {
                let bytes = self.delete(hash).await?;
                given = given.saturating_add(bytes);
                freed += bytes;
            }
        }
        Ok(freed > 0)
    }

    /// Marks the assets of one object; false when one of them was pinned or changed meanwhile.
    async fn leave(&self, namings: &[Old]) -> Result<bool> {
        for old in namings {
            let now = self.book.known(&old.asset_id).await?;
            if now.pinned_at.is_some() || now.mirrored_at != Some(old.mirrored_at) {
                return Ok(false);
            }
        }
        for old in namings {
            self.book.displaced(&old.asset_id, old.mirrored_at).await?;
            self.control.count("assets_evicted", 1);
            tracing::info!(asset_id = %old.asset_id, bytes = old.size, mirrored_at = old.mirrored_at, "evicted for the quota");
        }
        Ok(true)
    }

    /// Deletes an object; its bytes, or 0 when it was not here.
    async fn delete(&self, hash: &Hash) -> Result<u64> {
        let local = |source| Error::Volume { source };
        let volume = &self.copier.volume;
        let Some(size) = volume.stat(hash).await.map_err(local)? else {
            return Ok(0);
        };
        volume.delete(hash).await.map_err(local)?;
        self.control
            .count("bytes_evicted", i64::try_from(size).unwrap_or(i64::MAX));
        Ok(size)
    }

    /// Looks at the rows of all assets, page by page.
    async fn rows(&self, mut look: impl FnMut(&Row)) -> Result<()> {
        for bucket in 0..AssetId::BUCKETS {
            let mut after: Option<Value> = None;
            loop {
                let mut select = Select::from("assets")
                    .partition("bucket", bucket)
                    .columns(&COLUMNS)
                    .limit(PAGE);
                select.after = after.take().map(|id| vec![id]);
                let rows = self.book.table.select(select).await;
                let rows = rows.map_err(|source| Error::Assets { source })?;
                rows.iter().for_each(&mut look);
                match rows.last() {
                    Some(last) if rows.len() == PAGE => after = Some(last.value("asset_id").clone()),
                    _ => break,
                }
            }
        }
        Ok(())
    }
}

/// The row that says that an asset's room was given to others.
pub(crate) fn row(asset_id: &AssetId, mirrored_at: i64) -> (Write, i64) {
    let displaced_at = now_ms().max(mirrored_at);
    let row = Write::to("assets")
        .set("bucket", asset_id.bucket())
        .set("asset_id", asset_id.as_str())
        .set("displaced_at", Value::timestamp(displaced_at));
    (row, displaced_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stay_as_long_as_one_that_names_them_must() {
        let mut found = Found::default();
        let row = |number: u32, mirrored_at, bytes: &[u8]| EdgeAsset {
            asset_id: Some(testkit::asset_id(number)),
            mirrored_at: Some(mirrored_at),
            mirrored_hash: Some(testkit::hash(bytes)),
            ..EdgeAsset::default()
        };
        let pinned = EdgeAsset {
            pinned_at: Some(1),
            ..row(3, 3, b"pinned")
        };
        for facts in [
            row(1, 1, b"free"),
            row(2, 2, b"pinned"),
            pinned,
            row(4, 4, b"new"),
            row(5, 9, b"new"),
            row(6, 6, b"free"),
        ] {
            found.weigh(facts, 9);
        }
        let may_go = |bytes: &[u8]| found.may_go(&testkit::hash(bytes));
        assert!(may_go(b"free") && !may_go(b"pinned") && !may_go(b"new"));
        assert_eq!(found.oldest.len(), 4);
        for number in 0..1000 {
            found.weigh(row(number, 0, b"older"), 9);
        }
        assert!(
            !found.may_go(&testkit::hash(b"free")),
            "it is not considered any more"
        );
    }

    #[test]
    fn room_is_made_for_what_fits_and_for_nothing_else() {
        assert_eq!(needed(&[30, 90, 40], 100), 70);
        assert_eq!(needed(&[101], 100), 0);
        assert_eq!(needed(&[], 100), 0);
    }
}
