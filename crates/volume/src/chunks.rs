//! The list of an object's chunks, which proves itself against the object's own hash.
//!
//! A chunk is 64 KiB, aligned. Its value is the chaining value of that subtree in the object's BLAKE3 tree, so merging
//! the list gives the object's hash: a list from an untrusted peer is verified before a byte is fetched, and then each
//! chunk by itself. An object of one chunk has no subtree but its root: its list holds the object's hash itself.

use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt as _, Mode, merge_subtrees_non_root, merge_subtrees_root};
use bytes::Bytes;
use schemas::Hash;

use crate::error::{Error, Result};

/// The length of every chunk but the last.
pub const CHUNK: u64 = 64 * 1024;

const VALUE: usize = 32;

/// The values of an object's chunks in order; clones share their memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunks(Bytes);

/// How many chunks an object has. An empty object has one, which is empty.
fn count(size: u64) -> u64 {
    size.div_ceil(CHUNK).max(1)
}

impl Chunks {
    /// The list of an object of one chunk.
    pub fn single(hash: &Hash) -> Option<Self> {
        let hash = blake3::Hash::from_hex(hash.as_str()).ok()?;
        Some(Self(Bytes::copy_from_slice(hash.as_bytes())))
    }

    /// Takes a list as [`Chunks::to_bytes`] gives it. It says nothing until [`Chunks::verify`] has proved it.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Option<Self> {
        let bytes = bytes.into();
        (!bytes.is_empty() && bytes.len().is_multiple_of(VALUE)).then_some(Self(bytes))
    }

    /// The values one after the other, 32 bytes each.
    pub fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// How many bytes the list of an object of `size` has.
    pub fn bytes_of(size: u64) -> u64 {
        count(size) * VALUE as u64
    }

    /// Proves that this is the list of the object with that hash and size.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when it is not.
    pub fn verify(&self, hash: &Hash, size: u64) -> Result<()> {
        let proved = Self::bytes_of(size) == self.0.len() as u64
            && (size > 0 || blake3::Hash::from(self.value(0)) == blake3::hash(&[]))
            && self
                .root()
                .is_some_and(|root| root.to_hex().as_str() == hash.as_str());
        if proved {
            Ok(())
        } else {
            Err(Error::Corrupt {
                hash: hash.clone(),
                what: "the chunk list".into(),
            })
        }
    }

    /// Whether `bytes` are the chunk of that number, in an object of `size` bytes.
    pub fn holds(&self, number: u64, size: u64, bytes: &[u8]) -> bool {
        let start = number.saturating_mul(CHUNK);
        let length = size.saturating_sub(start).min(CHUNK);
        if number >= count(size)
            || Self::bytes_of(size) != self.0.len() as u64
            || bytes.len() as u64 != length
        {
            return false;
        }
        let value = if count(size) == 1 {
            *blake3::hash(bytes).as_bytes()
        } else {
            subtree(start, bytes)
        };
        value == self.value(number)
    }

    /// The values one by one.
    pub(crate) fn values(&self) -> &[ChainingValue] {
        self.0.as_chunks::<VALUE>().0
    }

    fn value(&self, number: u64) -> ChainingValue {
        let start = usize::try_from(number)
            .unwrap_or(usize::MAX)
            .saturating_mul(VALUE);
        let value = self
            .0
            .get(start..start.saturating_add(VALUE))
            .and_then(|value| value.try_into().ok());
        value.unwrap_or_default()
    }

    /// The hash of the object that this is the list of.
    fn root(&self) -> Option<blake3::Hash> {
        let (values, _) = self.0.as_chunks::<VALUE>();
        match values {
            [] => None,
            [root] => Some(blake3::Hash::from(*root)),
            _ => {
                let (left, right) = values.split_at(left(values.len()));
                Some(merge_subtrees_root(&merge(left), &merge(right), Mode::Hash))
            }
        }
    }
}

/// BLAKE3's left subtree is the largest power of two that leaves something for the right one.
fn left(count: usize) -> usize {
    count.div_ceil(2).next_power_of_two()
}

fn merge(values: &[ChainingValue]) -> ChainingValue {
    match values {
        [value] => *value,
        _ => {
            let (left, right) = values.split_at(left(values.len()));
            merge_subtrees_non_root(&merge(left), &merge(right), Mode::Hash)
        }
    }
}

fn subtree(start: u64, bytes: &[u8]) -> ChainingValue {
    Hasher::new()
        .set_input_offset(start)
        .update(bytes)
        .finalize_non_root()
}

/// Makes the list, and with it the hash, of bytes as they come.
#[derive(Debug, Default)]
pub(crate) struct Lister {
    size: u64,
    /// Of whole chunks that more bytes have followed.
    values: Vec<u8>,
    chunk: Hasher,
    filled: u64,
}

impl Lister {
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.filled == CHUNK {
                self.values.extend_from_slice(&self.chunk.finalize_non_root());
                self.chunk = Hasher::new();
                self.chunk.set_input_offset(self.size);
                self.filled = 0;
            }
            let room = usize::try_from(CHUNK - self.filled).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.chunk.update(now);
            self.filled += now.len() as u64;
            self.size += now.len() as u64;
            bytes = later;
        }
    }

    /// The object's hash and list.
    pub(crate) fn finish(mut self) -> (Hash, Chunks) {
        if self.values.is_empty() {
            let hash = self.chunk.finalize();
            return (hash.into(), Chunks(Bytes::copy_from_slice(hash.as_bytes())));
        }
        self.values.extend_from_slice(&self.chunk.finalize_non_root());
        let chunks = Chunks(self.values.into());
        // There are two values at least, so there is a root.
        (chunks.root().unwrap_or_else(|| blake3::hash(&[])).into(), chunks)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn listed(bytes: &[u8], piece: usize) -> (Hash, Chunks) {
        let mut lister = Lister::default();
        bytes.chunks(piece.max(1)).for_each(|piece| lister.update(piece));
        assert_eq!(lister.size(), bytes.len() as u64);
        lister.finish()
    }

    fn bytes(size: usize, seed: u64) -> Vec<u8> {
        let mut bytes = vec![0; size];
        Hasher::new()
            .update(&seed.to_le_bytes())
            .finalize_xof()
            .fill(&mut bytes);
        bytes
    }

    fn check(size: usize, seed: u64) {
        let bytes = bytes(size, seed);
        let (hash, chunks) = listed(&bytes, 10_000);
        assert_eq!(
            hash,
            blake3::hash(&bytes).into(),
            "the list's root is the hash, size {size}"
        );
        let size = size as u64;
        chunks.verify(&hash, size).unwrap();
        for (number, chunk) in (0..).zip(bytes.chunks(CHUNK as usize)) {
            assert!(chunks.holds(number, size, chunk));
            assert!(!chunks.holds(number + 1, size, chunk));
        }
    }

    #[test]
    fn list_proves_itself_at_every_boundary() {
        for size in [
            0,
            1,
            1024,
            1025,
            65_535,
            65_536,
            65_537,
            131_072,
            131_073,
            196_609,
            10 << 20,
        ] {
            check(size, 7);
        }
    }

    #[test]
    fn list_of_another_size_proves_nothing() {
        let (hash, chunks) = listed(&bytes(200_000, 1), 65_536);
        assert!(chunks.verify(&hash, 200_000).is_ok());
        assert!(chunks.verify(&hash, 300_000).is_err());
        let (empty, list) = listed(&[], 1);
        assert!(list.verify(&empty, 0).is_ok());
        let (other, list) = listed(b"x", 1);
        assert!(
            list.verify(&other, 0).is_err(),
            "no bytes cannot have the hash of some"
        );
    }

    #[test]
    fn only_whole_values_are_a_list() {
        assert!(Chunks::from_bytes(vec![0; 33]).is_none());
        assert!(Chunks::from_bytes(vec![]).is_none());
        let (_, chunks) = listed(&bytes(200_000, 1), 1);
        assert_eq!(Chunks::from_bytes(chunks.to_bytes()).unwrap(), chunks);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_flipped_bit_is_noticed(size in 1usize..400_000, seed: u64, bit: u64) {
            let mut bytes = bytes(size, seed);
            let (hash, chunks) = listed(&bytes, 65_536);
            prop_assert!(chunks.verify(&hash, size as u64).is_ok());

            let flipped = (bit % (size as u64 * 8)) as usize;
            bytes[flipped / 8] ^= 1 << (flipped % 8);
            for (number, chunk) in (0..).zip(bytes.chunks(CHUNK as usize)) {
                let touched = flipped as u64 / 8 / CHUNK == number;
                prop_assert_eq!(chunks.holds(number, size as u64, chunk), !touched);
            }

            let mut list = chunks.to_bytes().to_vec();
            let flipped = (bit % (list.len() as u64 * 8)) as usize;
            list[flipped / 8] ^= 1 << (flipped % 8);
            prop_assert!(Chunks::from_bytes(list).unwrap().verify(&hash, size as u64).is_err());
        }
    }
}
