//! What one command has seen, so that nothing is done twice and nothing is tried for ever.

use std::collections::{HashMap, HashSet, VecDeque};

use common::schemas::{Hash, RequestId};
use common::volume::ManifestEntry;

/// How an entry stands in this command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// So many tries have failed.
    Open(u32),
    /// Nothing more to do: it is here, or not wanted.
    Done,
    /// Tried often enough.
    GivenUp,
}

/// The entries of one command, from the word to start until nothing is left.
#[derive(Debug)]
pub(crate) struct Command {
    entries: HashMap<RequestId, Standing>,
    tries: u32,
}

impl Command {
    pub(crate) fn new(tries: u32) -> Self {
        Self {
            entries: HashMap::new(),
            tries,
        }
    }

    /// Whether an entry is to be worked on. `first` hears of one that is seen for the first time.
    pub(crate) fn open(&mut self, entry: &ManifestEntry, first: impl FnOnce()) -> bool {
        let standing = self.entries.entry(entry.request_id.clone()).or_insert_with(|| {
            first();
            Standing::Open(0)
        });
        matches!(standing, Standing::Open(_))
    }

    pub(crate) fn done(&mut self, entry: &ManifestEntry) {
        self.entries.insert(entry.request_id.clone(), Standing::Done);
    }

    /// Forgets the failed tries of an entry that has come further since: the link is bad, not the entry.
    pub(crate) fn moved(&mut self, entry: &ManifestEntry) {
        self.entries.insert(entry.request_id.clone(), Standing::Open(0));
    }

    /// Counts a failed try; whether it was the last.
    pub(crate) fn failed(&mut self, entry: &ManifestEntry) -> bool {
        let failed = self.failures(entry) + 1;
        let last = failed >= self.tries;
        let standing = if last {
            Standing::GivenUp
        } else {
            Standing::Open(failed)
        };
        self.entries.insert(entry.request_id.clone(), standing);
        last
    }

    fn failures(&self, entry: &ManifestEntry) -> u32 {
        match self.entries.get(&entry.request_id) {
            Some(Standing::Open(failed)) => *failed,
            _ => 0,
        }
    }

    /// How many entries were given up.
    pub(crate) fn given_up(&self) -> usize {
        self.entries
            .values()
            .filter(|standing| **standing == Standing::GivenUp)
            .count()
    }

    /// The order of work: what has failed before comes last.
    pub(crate) fn queue(&self, mut entries: Vec<ManifestEntry>) -> Queue {
        entries.sort_by_key(|entry| self.failures(entry));
        Queue {
            waiting: entries.into(),
            busy: HashSet::new(),
        }
    }
}

/// Entries in the order of work, two of one object never at once: the second finds it here.
#[derive(Debug)]
pub(crate) struct Queue {
    waiting: VecDeque<ManifestEntry>,
    busy: HashSet<Hash>,
}

impl Queue {
    /// The next entry whose object nobody works on.
    pub(crate) fn take(&mut self) -> Option<ManifestEntry> {
        let place = self
            .waiting
            .iter()
            .position(|entry| !self.busy.contains(&entry.hash))?;
        let entry = self.waiting.remove(place)?;
        self.busy.insert(entry.hash.clone());
        Some(entry)
    }

    /// Says that nobody works on the entry any more.
    pub(crate) fn give_back(&mut self, entry: &ManifestEntry) {
        self.busy.remove(&entry.hash);
    }
}

#[cfg(test)]
mod tests {
    use common::schemas::AssetId;
    use testkit::{asset_id, hash, site};

    use super::*;

    fn entry(number: u32, bytes: &[u8]) -> ManifestEntry {
        let asset_id: AssetId = asset_id(number);
        ManifestEntry {
            request_id: RequestId::new(&site("north"), &asset_id, 1),
            asset_id,
            hash: hash(bytes),
            size: bytes.len() as u64,
            media_type: "text/plain".into(),
            file_name: "x".into(),
            entered_at: 0,
            expires_at: None,
        }
    }

    #[test]
    fn an_entry_is_worked_on_until_it_is_done_or_given_up() {
        let mut command = Command::new(2);
        let (good, bad) = (entry(1, b"good"), entry(2, b"bad"));
        let mut seen = 0;
        for entry in [&good, &bad, &good, &bad] {
            assert!(command.open(entry, || seen += 1));
        }
        assert_eq!(seen, 2);
        command.done(&good);
        assert!(!command.failed(&bad));
        command.moved(&bad);
        assert!(!command.failed(&bad));
        assert!(!command.open(&good, || {}) && command.open(&bad, || {}));
        assert!(command.failed(&bad));
        assert!(!command.open(&bad, || {}));
        assert_eq!(command.given_up(), 1);
    }

    #[test]
    fn what_failed_comes_last_and_one_object_is_copied_once_at_a_time() {
        let mut command = Command::new(3);
        let (bad, first, twin) = (entry(1, b"bad"), entry(2, b"same"), entry(3, b"same"));
        command.failed(&bad);
        let mut queue = command.queue(vec![bad.clone(), first.clone(), twin.clone()]);
        assert_eq!(queue.take(), Some(first.clone()));
        assert_eq!(queue.take(), Some(bad));
        assert_eq!(queue.take(), None);
        queue.give_back(&first);
        assert_eq!(queue.take(), Some(twin));
    }
}
