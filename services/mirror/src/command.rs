//! What one command has seen, so that nothing is done twice and nothing is tried for ever.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet, VecDeque};

use common::schemas::{AssetId, Hash, RequestId};
use common::volume::ManifestEntry;

use crate::depot::Depot;
use crate::listing::Listing;

/// What is known of an entry.
#[derive(Debug, Clone, Copy)]
struct Known {
    standing: Standing,
    /// In which reading of the manifest it was named last.
    reading: u32,
}

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
    entries: HashMap<RequestId, Known>,
    tries: u32,
    /// When it was given, in milliseconds since 1970: what is mirrored since then is its own.
    pub(crate) given_at: i64,
    /// What was listed and not worked on yet: after a cut the manifest is not read again.
    pub(crate) queue: Queue,
    /// What there was no room for: it is tried again without being listed again.
    no_room: Vec<ManifestEntry>,
    pub(crate) listing: Listing,
    /// The connections of the last round, if nothing was wrong with them; else the next makes its own, with the
    /// certificates as they are then.
    pub(crate) depot: Option<Depot>,
}

/// The manifest is read on when fewer entries than this wait, and as many at once.
pub(crate) const LISTED: usize = 10_000;

impl Command {
    pub(crate) fn new(tries: u32, given_at: i64) -> Self {
        Self {
            entries: HashMap::new(),
            tries,
            given_at,
            queue: Queue::default(),
            no_room: Vec::new(),
            listing: Listing::default(),
            depot: None,
        }
    }

    /// Begins a round: has the manifest read when nothing is left of it or it is old, else what there was no room for
    /// is tried again.
    pub(crate) fn begin(&mut self) {
        // As long as there is no room even for what was read, reading it again is good for nothing.
        let stale = self.listing.stale() && self.no_room.len() < LISTED;
        if stale || (self.waiting() == 0 && self.listing.next().is_none()) {
            self.queue.clear();
            self.listing.begin();
        }
        // Before its first entries it is not known whether the manifest still names them.
        if self.listing.begun() {
            self.retry();
        }
    }

    fn retry(&mut self) {
        for entry in std::mem::take(&mut self.no_room) {
            self.wait(entry);
        }
    }

    /// Hears of a part of the manifest, before its entries; `unchanged` when it is still the one that was read before.
    pub(crate) fn hear(&mut self, unchanged: bool) {
        if unchanged {
            self.retry();
        } else if !self.listing.begun() {
            self.no_room.clear();
            self.listing.names();
        }
    }

    /// Whether an entry that the manifest names is to be worked on. `first` hears of one that is seen for the first time.
    pub(crate) fn open(&mut self, entry: &ManifestEntry, first: impl FnOnce()) -> bool {
        let known = self.entries.entry(entry.request_id.clone()).or_insert_with(|| {
            first();
            Known {
                standing: Standing::Open(0),
                reading: 0,
            }
        });
        known.reading = self.listing.reading();
        matches!(known.standing, Standing::Open(_))
    }

    /// The tag of a manifest that would bring nothing new: that of what was read last, when nothing of it is to be done
    /// but what there is no room for.
    pub(crate) fn known(&self) -> Option<String> {
        let last = |known: &&Known| known.reading == self.listing.reading();
        let open = |known: &&Known| matches!(known.standing, Standing::Open(_));
        let open = self.entries.values().filter(last).filter(open).count();
        if !self.listing.whole() || open != self.no_room.len() {
            return None;
        }
        let named = self.entries.iter().filter(|(_, known)| last(known));
        let mut named: Vec<_> = named.map(|(request_id, _)| request_id.as_str()).collect();
        named.sort_unstable();
        (!named.is_empty()).then(|| ManifestEntry::tag(named))
    }

    fn stands(&mut self, entry: &ManifestEntry, standing: Standing) {
        let reading = self.listing.reading();
        let known = self.entries.entry(entry.request_id.clone());
        known.or_insert(Known { standing, reading }).standing = standing;
    }

    pub(crate) fn done(&mut self, entry: &ManifestEntry) {
        self.stands(entry, Standing::Done);
    }

    /// There is no room for an entry; it is tried again in the next round.
    pub(crate) fn no_room(&mut self, entry: ManifestEntry) {
        self.no_room.push(entry);
    }

    fn waiting(&self) -> usize {
        self.queue.len() + self.no_room.len()
    }

    /// Behind which entry the manifest is read on, if it is to be read.
    pub(crate) fn read_on(&self) -> Option<Option<String>> {
        let next = self.listing.next().filter(|_| self.waiting() < LISTED)?;
        Some(next.map(str::to_owned))
    }

    /// Forgets the failed tries of an entry that has come further since: the link is bad, not the entry.
    pub(crate) fn moved(&mut self, entry: &ManifestEntry) {
        self.stands(entry, Standing::Open(0));
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
        self.stands(entry, standing);
        last
    }

    fn failures(&self, entry: &ManifestEntry) -> u32 {
        match self.entries.get(&entry.request_id).map(|known| known.standing) {
            Some(Standing::Open(failed)) => failed,
            _ => 0,
        }
    }

    /// How many entries were given up.
    pub(crate) fn given_up(&self) -> usize {
        self.entries
            .values()
            .filter(|known| known.standing == Standing::GivenUp)
            .count()
    }

    /// Puts an entry in the queue: what has failed before comes last, and by itself.
    pub(crate) fn wait(&mut self, entry: ManifestEntry) {
        if self.failures(&entry) > 0 {
            self.queue.later.push_back(entry);
        } else {
            self.queue.put(entry);
        }
    }

    /// Puts an entry back that was begun.
    pub(crate) fn again(&mut self, entry: ManifestEntry) {
        if self.failures(&entry) > 0 {
            self.queue.later.push_front(entry);
        } else {
            self.queue.put(entry);
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
    /// By priority, and then as the manifest has them, also those that were begun and come back.
    waiting: VecDeque<ManifestEntry>,
    later: VecDeque<ManifestEntry>,
    busy: HashSet<Hash>,
    /// What the team said of the order; the highest comes first, none is 0.
    orders: HashMap<AssetId, i32>,
}

impl Queue {
    fn put(&mut self, entry: ManifestEntry) {
        let before = |other: &ManifestEntry| place(&self.orders, other) <= place(&self.orders, &entry);
        // Mostly it belongs to the end, and there are many.
        let place = if self.waiting.back().is_none_or(before) {
            self.waiting.len()
        } else {
            self.waiting.partition_point(before)
        };
        self.waiting.insert(place, entry);
    }

    /// Takes the team's order. Among those of the same priority it is that of the manifest.
    pub(crate) fn order(&mut self, orders: HashMap<AssetId, i32>) {
        if orders == self.orders {
            return;
        }
        self.orders = orders;
        let orders = &self.orders;
        let waiting = self.waiting.make_contiguous();
        waiting.sort_by(|one, other| place(orders, one).cmp(&place(orders, other)));
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

    /// The next entry whose object nobody works on, with others if it can be one of many: `most` in all, and no more
    /// once they have so many `bytes`.
    pub(crate) fn take(
        &mut self,
        most: usize,
        bytes: u64,
        together: impl Fn(&ManifestEntry) -> bool,
    ) -> Option<Work> {
        if let Some(first) = next(&mut self.waiting, &mut self.busy, |_| true) {
            if !together(&first) {
                return Some(Work::One(first));
            }
            let mut left = bytes.saturating_sub(first.size);
            let mut many = vec![first];
            while many.len() < most
                && left > 0
                && let Some(entry) = next(&mut self.waiting, &mut self.busy, &together)
            {
                left = left.saturating_sub(entry.size);
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

/// Where an entry belongs: the manifest is in the order of its requests.
fn place<'a>(orders: &HashMap<AssetId, i32>, entry: &'a ManifestEntry) -> (Reverse<i32>, &'a RequestId) {
    let priority = orders.get(&entry.asset_id).copied().unwrap_or_default();
    (Reverse(priority), &entry.request_id)
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
    use testkit::{hash, site};

    use super::*;
    use crate::batch::small;

    /// The manifest has them in the order of their numbers.
    fn entry(number: u32, bytes: &[u8]) -> ManifestEntry {
        let asset_id: AssetId = format!("{number:032x}").parse().unwrap();
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

    fn take(queue: &mut Queue) -> Option<Work> {
        queue.take(9, u64::MAX, small)
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
        assert_eq!(take(queue), Some(Work::One(first.clone())));
        assert_eq!(take(queue), Some(Work::Many(vec![small, smaller])));
        assert_eq!(take(queue), Some(Work::One(bad)));
        assert_eq!(take(queue), None);
        queue.give_back(&first.hash);
        assert_eq!(take(queue), Some(Work::One(twin)));
    }

    #[test]
    fn what_comes_back_keeps_the_order_of_the_manifest() {
        let mut command = Command::new(3, 0);
        let entries: Vec<_> = (1..=6).map(|number| entry(number, &[number as u8])).collect();
        for entry in &entries {
            command.wait(entry.clone());
        }
        let taken = taken(&mut command);
        assert_eq!(taken, entries);
        command
            .queue
            .order(HashMap::from([(entries[4].asset_id.clone(), 1)]));
        for number in [3, 0, 4, 5, 1, 2] {
            command.again(taken[number].clone());
        }
        let order = [4, 0, 1, 2, 3, 5].map(|number| entries[number].clone());
        assert_eq!(self::taken(&mut command), order);
    }

    #[test]
    fn many_have_no_more_bytes_than_are_here_soon_but_for_the_last() {
        let mut command = Command::new(3, 0);
        let entries: Vec<_> = (1..=6)
            .map(|number| entry(number, &[number as u8; 1000]))
            .collect();
        for entry in &entries {
            command.wait(entry.clone());
        }
        let queue = &mut command.queue;
        let (first, second, third) = (&entries[0], &entries[1], &entries[2]);
        let many = |entries: &[&ManifestEntry]| {
            Some(Work::Many(entries.iter().map(|entry| (*entry).clone()).collect()))
        };
        assert_eq!(queue.take(9, 500, small), many(&[first]), "one at least");
        assert_eq!(queue.take(9, 1500, small), many(&[second, third]));
        let alone = |entry: &ManifestEntry| small(entry) && entry.hash != entries[4].hash;
        assert_eq!(queue.take(9, u64::MAX, alone), many(&[&entries[3], &entries[5]]));
        assert_eq!(
            queue.take(9, u64::MAX, alone),
            Some(Work::One(entries[4].clone()))
        );
    }

    #[test]
    fn a_manifest_is_known_when_nothing_of_it_is_to_be_done() {
        let mut command = Command::new(2, 0);
        assert!(command.known().is_none());
        let (second, first) = (entry(2, b"second"), entry(1, b"first"));
        command.begin();
        list(&mut command, &[&second], Some("more"));
        command.done(&second);
        assert!(command.known().is_none(), "it was not read to its end");
        list(&mut command, &[&first], None);
        assert!(command.known().is_none());
        command.done(&first);
        assert_eq!(command.known(), Some(tag(&[&first, &second])));
        command.failed(&first);
        assert!(command.known().is_none());
    }

    /// An answer comes.
    fn list(command: &mut Command, entries: &[&ManifestEntry], next: Option<&str>) {
        command.hear(false);
        for entry in entries {
            if command.open(entry, || {}) {
                command.wait((*entry).clone());
            }
        }
        command
            .listing
            .read(entries.last().map(|entry| entry.request_id.to_string()));
        command.listing.ended(None, next.map(Into::into));
    }

    fn tag(entries: &[&ManifestEntry]) -> String {
        let mut named: Vec<_> = entries.iter().map(|entry| entry.request_id.as_str()).collect();
        named.sort_unstable();
        ManifestEntry::tag(named)
    }

    fn taken(command: &mut Command) -> Vec<ManifestEntry> {
        let taken = match take(&mut command.queue) {
            Some(Work::Many(entries)) => entries,
            Some(Work::One(entry)) => vec![entry],
            None => Vec::new(),
        };
        for entry in &taken {
            command.queue.give_back(&entry.hash);
        }
        taken
    }

    #[test]
    fn what_there_is_no_room_for_is_tried_again_without_another_listing() {
        let mut command = Command::new(2, 0);
        let (here, first, second) = (entry(1, b"here"), entry(2, b"first"), entry(3, b"second"));
        command.begin();
        list(&mut command, &[&here, &first, &second], None);
        for _ in 0..3 {
            let tried = taken(&mut command);
            assert_eq!(tried.last(), Some(&second));
            command.done(&here);
            command.no_room(first.clone());
            command.no_room(second.clone());
            assert_eq!(command.known(), Some(tag(&[&here, &first, &second])));
            command.begin();
            assert_eq!(command.read_on(), None, "nothing is read");
        }
        taken(&mut command);
        command.no_room(first.clone());
        command.no_room(second.clone());

        // Asked for something, it looks whether the manifest is another.
        command.listing.outdate();
        command.begin();
        assert_eq!(command.read_on(), Some(None));
        assert_eq!(command.known(), Some(tag(&[&here, &first, &second])));
        assert_eq!(taken(&mut command), []);
        // It is not.
        command.hear(true);
        command.listing.ended(None, None);
        assert_eq!(taken(&mut command), [first.clone(), second.clone()]);
        command.no_room(first);
        command.no_room(second.clone());

        // It is: what it does not name any more is not tried, and what was here before is no part of its tag.
        command.listing.outdate();
        command.begin();
        list(&mut command, &[&second], None);
        assert_eq!(taken(&mut command), std::slice::from_ref(&second));
        command.no_room(second.clone());
        assert_eq!(command.known(), Some(tag(&[&second])));
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
        take(&mut command.queue);
        command.queue.give_back(&entries[2].hash);
        command.again(entries[2].clone());
        let mut taken = Vec::new();
        while let Some(Work::One(entry)) = take(&mut command.queue) {
            taken.push(entry);
        }
        assert_eq!(taken, [2, 3, 1, 0].map(|number| entries[number].clone()));
    }
}
