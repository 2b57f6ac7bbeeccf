//! Which objects of a volume have chunks in common with one that is to be copied.
//!
//! Values of chunks are kept, and whose they are. An index of every chunk of a large volume would be more than what a small edge
//! has; so when there are many, only the smallest of every 2 in a row are kept, then of every 4, up to 32, and the eight
//! smallest of each object. Rows begin at the same places in all lists, so two that have a whole row in common
//! have what is kept of it in common, and then the whole list of the other object is read and compared. A chunk's value is
//! bound to its place, so what is found is chunks at the same place: another version of a file, or one that begins alike. What
//! is taken from another object is verified as if it had come over the network.

use std::collections::HashMap;
use std::ops::Range;

use schemas::Hash;

use crate::chunks::{CHUNK, Chunks};
use crate::error::Result;
use crate::partial::Partial;
use crate::volume::Volume;

/// So many values are kept before rows become longer: some 9 MB, all chunks of 16 GiB.
const MOST: usize = 1 << 18;
/// The longest rows that all objects have, as the power of two: 32 chunks, 2 MiB.
const LONGEST: u8 = 5;
/// The longest rows that a large object has.
const LONGEST_OF_ONE: u8 = 20;
/// And so many are kept of the whole list.
const SMALLEST: usize = 8;
/// What is kept however long rows are.
const ALWAYS: u8 = u8::MAX;
/// The most values that are kept of one object.
const MARKS: usize = 4096;
/// The most objects that are looked at for one copy.
const DONORS: usize = 4;

/// The index; it knows what it was told of.
#[derive(Debug)]
pub struct Kin {
    /// Whose a value is, and in how long a row it is the smallest.
    marks: HashMap<u64, (u32, u8)>,
    objects: Vec<Hash>,
    /// How long rows are, as the power of two.
    row: u8,
    /// How many values are kept before rows become longer.
    most: usize,
}

impl Default for Kin {
    fn default() -> Self {
        Self {
            marks: HashMap::new(),
            objects: Vec::new(),
            row: 0,
            most: MOST,
        }
    }
}

/// The beginning of a chunk's value, enough to find candidates by.
fn mark(value: &[u8; 32]) -> u64 {
    let (first, _) = value.split_at(8);
    first.try_into().map_or(0, u64::from_le_bytes)
}

/// What may be kept of a list, each with how long a row it is the smallest of, as the power of two.
fn marks(list: &Chunks) -> Vec<(u64, u8)> {
    let values: Vec<u64> = list.values().iter().map(mark).collect();
    if values.len() < 2 {
        return Vec::new();
    }
    let mut marks: Vec<(u64, u8)> = values.iter().map(|value| (*value, 0)).collect();
    // The smallest of each row, by their places; rows of two of these make the next.
    let mut smallest: Vec<usize> = (0..values.len()).collect();
    for length in 1..=LONGEST_OF_ONE {
        let of_pair = |pair: &[usize]| pair.iter().copied().min_by_key(|at| values[*at]);
        smallest = smallest.chunks(2).filter_map(of_pair).collect();
        for at in &smallest {
            marks[*at].1 = length;
        }
        if smallest.len() < 2 {
            break;
        }
    }
    let least = (0..LONGEST_OF_ONE).find(|length| values.len() >> length <= MARKS);
    marks.sort_unstable();
    for mark in marks.iter_mut().take(SMALLEST) {
        mark.1 = ALWAYS;
    }
    marks.retain(|(_, length)| Some(*length) >= least);
    marks.dedup_by_key(|mark| mark.0);
    marks
}

impl Kin {
    /// Reads the chunk lists of all objects that are here.
    ///
    /// # Errors
    /// When the volume cannot be listed. An object whose list cannot be read is left out.
    pub async fn of(volume: &Volume) -> Result<Self> {
        let mut kin = Self::default();
        for hash in volume.listed().await? {
            match volume.chunks(&hash).await {
                Ok(Some(list)) => kin.add(&hash, &list),
                Ok(None) => {}
                Err(error) => tracing::debug!(%hash, %error, "an object's chunk list cannot be used"),
            }
        }
        Ok(kin)
    }

    /// Adds an object.
    pub fn add(&mut self, hash: &Hash, list: &Chunks) {
        let marks = marks(list);
        if marks.is_empty() {
            return;
        }
        let Ok(place) = u32::try_from(self.objects.len()) else {
            return;
        };
        self.objects.push(hash.clone());
        for (mark, length) in marks {
            if length >= self.row {
                self.marks.insert(mark, (place, length));
            }
        }
        while self.marks.len() > self.most && self.row < LONGEST {
            self.row += 1;
            self.marks.retain(|_, (_, length)| *length >= self.row);
            self.marks.shrink_to(self.most);
        }
    }

    /// The objects that have most in common with a list, as far as is known.
    fn candidates(&self, list: &Chunks) -> Vec<&Hash> {
        let mut shared: HashMap<u32, usize> = HashMap::new();
        // All of them: one that is kept of the other object need not be the smallest of its row here.
        for value in list.values() {
            if let Some((place, _)) = self.marks.get(&mark(value)) {
                *shared.entry(*place).or_default() += 1;
            }
        }
        let mut shared: Vec<_> = shared.into_iter().collect();
        shared.sort_unstable_by_key(|(place, count)| (std::cmp::Reverse(*count), *place));
        let of = |(place, _)| self.objects.get(usize::try_from(place).ok()?);
        shared.into_iter().take(DONORS).filter_map(of).collect()
    }

    /// The objects that have most in common with a list, with their own lists.
    pub async fn donors(&self, volume: &Volume, hash: &Hash, list: &Chunks) -> Donors {
        let mut donors = Donors {
            wanted: list.clone(),
            lists: Vec::new(),
            outdated: false,
        };
        for donor in self.candidates(list) {
            if donor == hash {
                continue;
            }
            match volume.chunks(donor).await {
                Ok(Some(list)) => donors.lists.push((donor.clone(), list)),
                Ok(None) => donors.outdated = true,
                Err(error) => tracing::debug!(%donor, %error, "an object's chunk list cannot be used"),
            }
        }
        donors
    }
}

/// Objects of the same volume that some chunks of a copy can be taken from.
#[derive(Debug)]
pub struct Donors {
    wanted: Chunks,
    lists: Vec<(Hash, Chunks)>,
    outdated: bool,
}

impl Donors {
    /// Whether the index led to an object that was removed since: it knows one place for each value, so that others, which
    /// are here, may stand behind it. An index made anew finds them.
    pub fn outdated(&self) -> bool {
        self.outdated
    }

    fn of(&self, number: u64) -> Option<&Hash> {
        let number = usize::try_from(number).ok()?;
        let wanted = self.wanted.values().get(number)?;
        let found = self
            .lists
            .iter()
            .find(|(_, list)| list.values().get(number) == Some(wanted));
        found.map(|(hash, _)| hash)
    }

    /// How much of a range is to be fetched before a chunk comes that is here. The range must not be empty.
    pub fn gap(&self, missing: Range<u64>) -> Range<u64> {
        if self.lists.is_empty() {
            return missing;
        }
        let first = missing.start / CHUNK + 1;
        let last = missing.end.div_ceil(CHUNK);
        let next = (first..last).find(|number| self.of(*number).is_some());
        missing.start..next.map_or(missing.end, |number| number * CHUNK)
    }

    /// Adds the chunks that come next and are here; says how many bytes.
    ///
    /// # Errors
    /// When the copy cannot be written.
    pub async fn give(&self, volume: &Volume, copy: &mut Partial) -> Result<u64> {
        let mut given = 0;
        while let Some(range) = copy.next_chunk() {
            let Some(donor) = self.of(range.start / CHUNK) else {
                break;
            };
            let length = range.end - range.start;
            let Ok(bytes) = volume.read(donor, range).await else {
                break;
            };
            match copy.append(&bytes).await {
                Ok(()) => given += length,
                // The other object is damaged on the disk: this chunk comes over the network.
                Err(crate::Error::Corrupt { .. }) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(given)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::contract::bytes;

    async fn stored(volume: &Volume, bytes: &[u8]) -> (Hash, Chunks) {
        let mut writer = volume.writer().await.unwrap();
        writer.write(bytes).await.unwrap();
        let hash = writer.finish().await.unwrap().hash;
        let list = volume.chunks(&hash).await.unwrap().unwrap();
        (hash, list)
    }

    async fn volume(home: &testkit::TempDir) -> Volume {
        let settings = crate::Settings {
            url: testkit::directory(home.path(), "volume"),
            ..crate::Settings::default()
        };
        Volume::open(&settings).await.unwrap()
    }

    #[tokio::test]
    async fn chunks_of_another_version_are_found_and_only_the_rest_is_missing() {
        let home = testkit::temp_dir();
        let volume = volume(&home).await;
        for (size, from) in [(10 << 20, 5 << 20), (200_000, 70_000)] {
            let old = bytes(size, size as u64);
            let mut new = old.clone();
            new[from..from + 10].fill(0);
            new.extend_from_slice(b"and more");
            stored(&volume, &old).await;
            stored(&volume, &bytes(3 << 20, 1)).await;
            let (hash, list) = stored(&volume, &new).await;
            volume.delete(&hash).await.unwrap();

            let kin = Kin::of(&volume).await.unwrap();
            let donors = kin.donors(&volume, &hash, &list).await;
            let mut copy = volume
                .partial(&hash, new.len() as u64, list.clone())
                .await
                .unwrap();
            let mut fetched = 0;
            loop {
                donors.give(&volume, &mut copy).await.unwrap();
                let missing = copy.missing();
                if missing.is_empty() {
                    break;
                }
                let gap = donors.gap(missing);
                fetched += gap.end - gap.start;
                let part = &new[usize::try_from(gap.start).unwrap()..usize::try_from(gap.end).unwrap()];
                copy.take(part).await.unwrap();
            }
            copy.publish().await.unwrap();
            assert!(fetched <= 2 * CHUNK, "{fetched} of {size}");
            assert_eq!(volume.stat(&hash).await.unwrap(), Some(new.len() as u64));
        }
    }

    /// In how many of a hundred cases so many chunks in a row, at a place by chance, are found of an object of 64 MiB.
    fn found(most: usize, run: usize) -> usize {
        let values = |seed: usize| -> Vec<[u8; 32]> {
            let value = |at: usize| blake3::hash(format!("{seed} {at}").as_bytes());
            (0..1024).map(|at| *value(at).as_bytes()).collect()
        };
        let list = |values: &[[u8; 32]]| Chunks::from_bytes(values.concat()).unwrap();
        let old = values(0);
        let mut kin = Kin {
            most,
            ..Kin::default()
        };
        kin.add(&Hash::from(blake3::hash(b"old")), &list(&old));
        let cases = (1..=100).filter(|case| {
            let from = case * 7 % (1024 - run);
            let mut other = values(*case);
            other[from..from + run].copy_from_slice(&old[from..from + run]);
            !kin.candidates(&list(&other)).is_empty()
        });
        cases.count()
    }

    #[test]
    #[expect(clippy::print_stdout, reason = "figures for the documents")]
    fn every_chunk_is_found_of_a_small_volume_and_long_runs_of_a_large_one() {
        for (most, wanted) in [(MOST, [100, 100, 100, 100]), (1, [0, 5, 40, 75])] {
            let mut shares = Vec::new();
            for run in [1, 4, 16, 32] {
                shares.push(found(most, run));
            }
            println!("runs of 1, 4, 16 and 32 chunks are found in {shares:?} of 100 cases");
            assert!(
                shares.iter().zip(wanted).all(|(found, wanted)| *found >= wanted),
                "{shares:?}"
            );
        }
        assert_eq!(found(1, 63), 100, "a whole row is in it");
    }

    #[tokio::test]
    async fn a_damaged_or_removed_donor_gives_nothing_and_harms_nothing() {
        let home = testkit::temp_dir();
        let volume = volume(&home).await;
        let old = bytes(300_000, 1);
        let mut new = old.clone();
        new[299_999] ^= 1;
        let (donor, _) = stored(&volume, &old).await;
        let (hash, list) = stored(&volume, &new).await;
        volume.delete(&hash).await.unwrap();
        let kin = Kin::of(&volume).await.unwrap();
        let path = home
            .path()
            .join("volume/objects")
            .join(&donor.as_str()[..2])
            .join(donor.as_str());
        let mut damaged = old.clone();
        damaged[10] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        let donors = kin.donors(&volume, &hash, &list).await;
        let mut copy = volume.partial(&hash, 300_000, list.clone()).await.unwrap();
        assert_eq!(donors.give(&volume, &mut copy).await.unwrap(), 0);
        volume.delete(&donor).await.unwrap();
        assert!(kin.donors(&volume, &hash, &list).await.lists.is_empty());
    }

    #[tokio::test]
    async fn a_removed_version_hides_no_older_one_for_long() {
        let home = testkit::temp_dir();
        let volume = volume(&home).await;
        let first = bytes(300_000, 1);
        let [mut second, mut third] = [first.clone(), first.clone()];
        second[299_999] ^= 1;
        third[299_999] ^= 2;
        let (first, _) = stored(&volume, &first).await;
        let mut kin = Kin::of(&volume).await.unwrap();
        let (second, list) = stored(&volume, &second).await;
        kin.add(&second, &list);
        let (hash, list) = stored(&volume, &third).await;
        volume.delete(&hash).await.unwrap();
        let donors = kin.donors(&volume, &hash, &list).await;
        assert!(!donors.outdated() && donors.lists[0].0 == second);
        volume.delete(&second).await.unwrap();
        assert!(kin.donors(&volume, &hash, &list).await.outdated());
        let donors = Kin::of(&volume)
            .await
            .unwrap()
            .donors(&volume, &hash, &list)
            .await;
        assert!(!donors.outdated() && donors.lists[0].0 == first);
    }

    #[tokio::test]
    async fn the_beginning_of_a_chunk_is_kept_and_a_wrong_one_is_forgotten() {
        let home = testkit::temp_dir();
        let volume = volume(&home).await;
        let all = bytes(200_000, 9);
        let (hash, list) = stored(&volume, &all).await;
        volume.delete(&hash).await.unwrap();
        let open = || volume.partial(&hash, 200_000, list.clone());
        let mut copy = open().await.unwrap();
        assert_eq!(copy.take(&all[..100_000]).await.unwrap(), Some(CHUNK));
        copy.keep().await.unwrap();
        let mut copy = open().await.unwrap();
        assert_eq!(copy.missing(), 100_000..200_000);
        copy.take(b"wrong").await.unwrap();
        copy.keep().await.unwrap();
        let mut copy = open().await.unwrap();
        assert_eq!(copy.missing(), 100_005..200_000);
        assert_eq!(copy.take(&all[100_005..]).await.unwrap(), None);
        assert_eq!(copy.missing(), CHUNK..200_000);
        copy.take(&all[65_536..]).await.unwrap();
        copy.publish().await.unwrap();
        let small = b"one chunk";
        let name = Hash::from(blake3::hash(small));
        assert!(volume.put(&name, Bytes::from_static(b"another")).await.is_err());
        volume.put(&name, Bytes::from_static(small)).await.unwrap();
        volume.put(&name, Bytes::from_static(small)).await.unwrap();
        assert_eq!(volume.read(&name, 0..9).await.unwrap(), &small[..]);
        assert_eq!(volume.usage().await.unwrap().bytes, 200_009 + 4 * 32);
    }
}
