//! What one command has seen, so that nothing is done twice and nothing is tried for ever.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use common::schemas::{AssetId, Hash, RequestId};
use common::volume::ManifestEntry;

use crate::batch::small;
use crate::depot::Depot;

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
    /// When it was given, in milliseconds since 1970: what is mirrored since then is its own.
    pub(crate) given_at: i64,
    /// What was listed and not worked on yet: after a cut the manifest is not read again.
    pub(crate) queue: Queue,
    pub(crate) listing: Listing,
    /// The connections of the last round, if nothing was wrong with them; else the next makes its own, with the
    /// certificates as they are then.
    pub(crate) depot: Option<Depot>,
}

/// How far the manifest was read.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    begun_at: Option<Instant>,
    after: Option<String>,
    pages: u32,
    size: usize,
}

/// For how long a listing is good.
const LISTING_AGE: Duration = Duration::from_secs(600);
/// Entries of the first page. A page that came soon is followed by a larger one, since each costs a round trip, and one that
/// took long by a smaller one, since a cut loses it.
const FIRST_PAGE: usize = 100;
const LARGEST_PAGE: usize = 5000;
const SOON: Duration = Duration::from_secs(2);

impl Listing {
    /// Whether it was never begun, or is too old.
    pub(crate) fn stale(&self) -> bool {
        self.begun_at
            .is_none_or(|begun_at| begun_at.elapsed() > LISTING_AGE)
    }

    /// Starts at the first page.
    pub(crate) fn begin(&mut self) {
        *self = Self {
            begun_at: Some(Instant::now()),
            // What the way was good for at last.
            size: self.size.max(FIRST_PAGE),
            ..Self::default()
        };
    }

    /// Where the next page begins and how long it is; none when the last was read.
    pub(crate) fn next(&self) -> Option<(Option<String>, usize)> {
        (self.pages == 0 || self.after.is_some()).then(|| (self.after.clone(), self.size))
    }

    /// A page was read.
    pub(crate) fn read(&mut self, next: Option<String>, took: Duration) {
        self.pages += 1;
        self.after = next.filter(|next| self.after.as_ref() != Some(next));
        let size = if took < SOON { self.size * 4 } else { self.size / 4 };
        self.size = size.clamp(FIRST_PAGE, LARGEST_PAGE);
    }
}

impl Command {
    pub(crate) fn new(tries: u32, given_at: i64) -> Self {
        Self {
            entries: HashMap::new(),
            tries,
            given_at,
            queue: Queue::default(),
            listing: Listing::default(),
            depot: None,
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

    /// The tag of a manifest that would bring nothing new: that of all that was seen, when nothing of it is to be done.
    pub(crate) fn known(&self) -> Option<String> {
        let settled = |standing: &Standing| !matches!(standing, Standing::Open(_));
        (!self.entries.is_empty() && self.entries.values().all(settled)).then(|| {
            let mut seen: Vec<_> = self.entries.keys().map(RequestId::as_str).collect();
            seen.sort_unstable();
            ManifestEntry::tag(seen)
        })
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

    /// Puts an entry in the queue: what has failed before comes last, and by itself.
    pub(crate) fn wait(&mut self, entry: ManifestEntry) {
        if self.failures(&entry) > 0 {
            self.queue.later.push_back(entry);
        } else {
            self.queue.put(entry, false);
        }
    }

    /// Puts an entry back that was begun: it is the first of its priority.
    pub(crate) fn again(&mut self, entry: ManifestEntry) {
        if self.failures(&entry) > 0 {
            self.queue.later.push_front(entry);
        } else {
            self.queue.put(entry, true);
        }
    }
}

/// What is worked on at once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Work {
    One(ManifestEntry),
    /// Small ones.
    Many(Vec<ManifestEntry>),
}

/// Entries in the order of work, two of one object never at once: the second finds it here.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: VecDeque<ManifestEntry>,
    later: VecDeque<ManifestEntry>,
    busy: HashSet<Hash>,
    /// What the team said of the order; the highest comes first, none is 0.
    orders: HashMap<AssetId, i32>,
}

impl Queue {
    fn put(&mut self, entry: ManifestEntry, first: bool) {
        let priority = self.priority(&entry.asset_id);
        let before = |other: &ManifestEntry| {
            let others = self.priority(&other.asset_id);
            others > priority || (others == priority && !first)
        };
        // Mostly it belongs to the end, and there are many.
        let place = if self.waiting.back().is_none_or(before) {
            self.waiting.len()
        } else {
            self.waiting.partition_point(before)
        };
        self.waiting.insert(place, entry);
    }

    /// Takes the team's order. Among those of the same priority it stays as it was.
    pub(crate) fn order(&mut self, orders: HashMap<AssetId, i32>) {
        if orders == self.orders {
            return;
        }
        self.orders = orders;
        let orders = &self.orders;
        let key = |entry: &ManifestEntry| {
            std::cmp::Reverse(orders.get(&entry.asset_id).copied().unwrap_or_default())
        };
        self.waiting.make_contiguous().sort_by_key(key);
    }

    /// The priority of an asset.
    pub(crate) fn priority(&self, asset_id: &AssetId) -> i32 {
        self.orders.get(asset_id).copied().unwrap_or_default()
    }

    /// The highest priority of what waits and nobody works on.
    pub(crate) fn highest(&self) -> Option<i32> {
        let first = self.waiting.iter().find(|entry| !self.busy.contains(&entry.hash));
        first.map(|entry| self.priority(&entry.asset_id))
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.later.len()
    }

    /// Forgets what waits; it is listed again.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
        self.later.clear();
    }

    /// The next entry whose object nobody works on, with others if it is small, `most` in all.
    pub(crate) fn take(&mut self, most: usize) -> Option<Work> {
        if let Some(first) = next(&mut self.waiting, &mut self.busy, |_| true) {
            if !small(&first) {
                return Some(Work::One(first));
            }
            let mut many = vec![first];
            while many.len() < most
                && let Some(entry) = next(&mut self.waiting, &mut self.busy, small)
            {
                many.push(entry);
            }
            return Some(Work::Many(many));
        }
        next(&mut self.later, &mut self.busy, |_| true).map(Work::One)
    }

    /// Says that nobody works on the object any more.
    pub(crate) fn give_back(&mut self, hash: &Hash) {
        self.busy.remove(hash);
    }
}

fn next(
    waiting: &mut VecDeque<ManifestEntry>,
    busy: &mut HashSet<Hash>,
    fits: impl Fn(&ManifestEntry) -> bool,
) -> Option<ManifestEntry> {
    let free = |entry: &ManifestEntry| !busy.contains(&entry.hash) && fits(entry);
    let place = waiting.iter().position(free)?;
    let entry = waiting.remove(place)?;
    busy.insert(entry.hash.clone());
    Some(entry)
}

#[cfg(test)]
mod tests {
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
        let mut command = Command::new(2, 0);
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
        let mut command = Command::new(3, 0);
        let large = vec![1; 70_000];
        let (bad, first, twin) = (entry(1, b"bad"), entry(2, &large), entry(3, &large));
        let (small, smaller) = (entry(4, b"small"), entry(5, b"smaller"));
        command.failed(&bad);
        for entry in [&bad, &first, &small, &twin, &smaller] {
            command.wait(entry.clone());
        }
        let queue = &mut command.queue;
        assert_eq!(queue.take(9), Some(Work::One(first.clone())));
        assert_eq!(queue.take(9), Some(Work::Many(vec![small, smaller])));
        assert_eq!(queue.take(9), Some(Work::One(bad)));
        assert_eq!(queue.take(9), None);
        queue.give_back(&first.hash);
        assert_eq!(queue.take(9), Some(Work::One(twin)));
    }

    #[test]
    fn a_manifest_is_known_when_nothing_of_it_is_to_be_done() {
        let mut command = Command::new(2, 0);
        assert!(command.known().is_none());
        let (second, first) = (entry(2, b"second"), entry(1, b"first"));
        for entry in [&second, &first] {
            command.open(entry, || {});
            assert!(command.known().is_none());
            command.done(entry);
        }
        let mut seen = [first.request_id.as_str(), second.request_id.as_str()];
        seen.sort_unstable();
        assert_eq!(command.known(), Some(ManifestEntry::tag(seen)));
        command.failed(&first);
        assert!(command.known().is_none());
    }

    #[test]
    fn the_team_says_what_comes_first() {
        let mut command = Command::new(3, 0);
        let entries: Vec<_> = (1..=4)
            .map(|number| entry(number, &vec![number as u8; 70_000]))
            .collect();
        for entry in &entries[..3] {
            command.wait(entry.clone());
        }
        let said = |number: usize, priority| (entries[number].asset_id.clone(), priority);
        command
            .queue
            .order(HashMap::from([said(2, 5), said(0, -1), said(3, 1)]));
        assert_eq!(command.queue.highest(), Some(5));
        command.wait(entries[3].clone());
        command.queue.take(9);
        command.queue.give_back(&entries[2].hash);
        command.again(entries[2].clone());
        let mut taken = Vec::new();
        while let Some(Work::One(entry)) = command.queue.take(9) {
            taken.push(entry);
        }
        assert_eq!(taken, [2, 3, 1, 0].map(|number| entries[number].clone()));
    }

    #[test]
    fn a_listing_goes_on_where_it_was() {
        let mut listing = Listing::default();
        assert!(listing.stale());
        listing.begin();
        assert_eq!(listing.next(), Some((None, 100)));
        listing.read(Some("a".into()), Duration::ZERO);
        assert_eq!(listing.next(), Some((Some("a".into()), 400)));
        listing.read(Some("b".into()), SOON);
        assert_eq!(listing.next(), Some((Some("b".into()), 100)));
        listing.read(None, SOON);
        assert!(listing.next().is_none() && !listing.stale());
    }
}
