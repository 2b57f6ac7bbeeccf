//! A small picture of every asset in memory, so that ten thousand of them are filtered, sorted and counted at once.
//!
//! An entry takes some 150 bytes and its title. What the index does not hold is read from the table, for one page.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use common::schemas::AssetId;
use serde::Deserialize;
use tokio::sync::{Notify, watch};
use utoipa::ToSchema;

/// Changed assets that wait to be told; beyond it pages are told to look at everything again.
const MAX_CHANGED: usize = 5000;

/// An asset id in 16 bytes.
pub(crate) type Id = [u8; 16];

/// What the index knows of an asset.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// When it appeared; the newest are listed first.
    pub(crate) at: i64,
    /// Its state until it expires.
    pub(crate) state: &'static str,
    /// Its state from then on.
    pub(crate) expired: &'static str,
    /// When it expires.
    pub(crate) expires_at: Option<i64>,
    /// Bytes of its content.
    pub(crate) size: i64,
    /// Its title.
    pub(crate) title: Box<str>,
}

impl Entry {
    pub(crate) fn state_at(&self, now: i64) -> &'static str {
        if self.expires_at.is_some_and(|expires_at| expires_at <= now) {
            self.expired
        } else {
            self.state
        }
    }
}

/// What a listing is sorted by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sort {
    /// When it appeared.
    #[default]
    At,
    /// Its title, whatever its case.
    Title,
    /// Its bytes.
    Size,
    /// Its state.
    State,
}

/// An asset's place in a sorted listing, before its id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Number(i64),
    Text(String),
}

impl Sort {
    fn key(self, entry: &Entry, now: i64) -> Key {
        match self {
            Self::At => Key::Number(entry.at),
            Self::Title => Key::Text(entry.title.to_lowercase()),
            Self::Size => Key::Number(entry.size),
            Self::State => Key::Text(entry.state_at(now).to_owned()),
        }
    }
}

/// Which assets to list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    /// Only in this state.
    pub(crate) state: Option<String>,
    /// Only with this text in the title, whatever its case.
    pub(crate) words: Option<String>,
    /// Only behind this one.
    pub(crate) after: Option<(Key, Id)>,
    /// At most so many.
    pub(crate) limit: usize,
    /// In this order.
    pub(crate) sort: Sort,
    /// The least first.
    pub(crate) ascending: bool,
}

/// One page of a listing.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Page {
    /// The assets, in the order that was asked for.
    pub(crate) ids: Vec<AssetId>,
    /// Where the next page goes on, if there is more.
    pub(crate) next: Option<String>,
    /// How many match, on all pages.
    pub(crate) total: usize,
    /// How many assets there are in each state, whatever was asked for.
    pub(crate) by_state: BTreeMap<&'static str, usize>,
}

/// Assets and bytes in one state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) assets: usize,
    pub(crate) bytes: i64,
}

/// Assets that changed since pages were told.
#[derive(Debug, Default)]
struct Changed {
    ids: BTreeSet<Id>,
    too_many: bool,
}

/// The index.
#[derive(Debug)]
pub(crate) struct Index {
    entries: RwLock<HashMap<Id, Entry>>,
    changed: Mutex<Changed>,
    notify: Notify,
    loaded: watch::Sender<bool>,
    limit: usize,
}

impl Index {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            entries: RwLock::default(),
            changed: Mutex::default(),
            notify: Notify::new(),
            loaded: watch::Sender::new(false),
            limit,
        }
    }

    /// Says that the index has read everything once.
    pub(crate) fn loaded(&self) {
        self.loaded.send_replace(true);
    }

    /// Waits until it has.
    pub(crate) async fn ready(&self) {
        let mut loaded = self.loaded.subscribe();
        // The sender lives as long as the index.
        drop(loaded.wait_for(|loaded| *loaded).await);
    }

    /// Puts an asset in, or a newer picture of it. False when there is no room.
    pub(crate) fn put(&self, id: Id, entry: Entry) -> bool {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= self.limit && !entries.contains_key(&id) {
            return false;
        }
        let same = entries.get(&id) == Some(&entry);
        entries.insert(id, entry);
        drop(entries);
        if !same {
            self.touch(id);
        }
        true
    }

    /// Says that an asset changed, in the index or in what is shown beyond it. What is read at first is no change.
    pub(crate) fn touch(&self, id: Id) {
        if !*self.loaded.borrow() {
            return;
        }
        let mut changed = self.changes();
        if changed.ids.len() < MAX_CHANGED {
            changed.ids.insert(id);
        } else {
            changed.too_many = true;
        }
        drop(changed);
        self.notify.notify_one();
    }

    /// Waits for a change.
    pub(crate) async fn changed(&self) {
        self.notify.notified().await;
    }

    /// Takes changed assets, at most so many; none when there were more than are kept.
    pub(crate) fn take(&self, most: usize) -> Option<Vec<AssetId>> {
        let mut changed = self.changes();
        if std::mem::take(&mut changed.too_many) {
            changed.ids.clear();
            return None;
        }
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(id) = changed.ids.pop_first()
        {
            taken.extend(hex(&id).parse::<AssetId>().ok());
        }
        if !changed.ids.is_empty() {
            self.notify.notify_one();
        }
        Some(taken)
    }

    /// Says that those changed whose time was over within a span.
    pub(crate) fn expire(&self, after: i64, until: i64) {
        let within = |entry: &Entry| entry.expires_at.is_some_and(|at| after < at && at <= until);
        let over: Vec<Id> = self.read(|entries| {
            let over = entries.iter().filter(|(_, entry)| within(entry));
            over.map(|(id, _)| *id).collect()
        });
        over.into_iter().for_each(|id| self.touch(id));
    }

    /// How many assets there are in each state.
    pub(crate) fn by_state(&self, now: i64) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        self.read(|entries| {
            for entry in entries.values() {
                *counts.entry(entry.state_at(now)).or_default() += 1;
            }
        });
        counts
    }

    fn changes(&self) -> MutexGuard<'_, Changed> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn len(&self) -> usize {
        self.read(HashMap::len)
    }

    /// Whether there is room for no more assets.
    pub(crate) fn full(&self) -> bool {
        self.read(|entries| entries.len() >= self.limit)
    }

    pub(crate) fn get(&self, id: &AssetId) -> Option<Entry> {
        self.read(|entries| entries.get(&pack(id)).cloned())
    }

    pub(crate) fn sum(&self, state: &str, now: i64) -> Sum {
        self.read(|entries| {
            entries
                .values()
                .filter(|entry| entry.state_at(now) == state)
                .fold(Sum::default(), |sum, entry| Sum {
                    assets: sum.assets + 1,
                    bytes: sum.bytes.saturating_add(entry.size),
                })
        })
    }

    /// The assets in one state, with their bytes.
    pub(crate) fn of_state(&self, state: &str, now: i64) -> Vec<(Id, i64)> {
        self.read(|entries| {
            let of = entries.iter().filter(|(_, entry)| entry.state_at(now) == state);
            of.map(|(id, entry)| (*id, entry.size)).collect()
        })
    }

    pub(crate) fn page(&self, filter: &Filter, now: i64) -> Page {
        let words = filter
            .words
            .as_ref()
            .map(|words| words.to_lowercase())
            .filter(|words| !words.is_empty());
        let mut page = Page::default();
        let mut found: Vec<(Key, Id)> = Vec::new();
        let behind = |place: &(Key, Id)| match &filter.after {
            None => true,
            Some(after) if filter.ascending => place > after,
            Some(after) => place < after,
        };
        self.read(|entries| {
            for (id, entry) in entries {
                let state = entry.state_at(now);
                *page.by_state.entry(state).or_default() += 1;
                let wanted = filter.state.as_ref().is_none_or(|wanted| wanted == state)
                    && words
                        .as_ref()
                        .is_none_or(|words| entry.title.to_lowercase().contains(words));
                if wanted {
                    page.total += 1;
                    let place = (filter.sort.key(entry, now), *id);
                    if behind(&place) {
                        found.push(place);
                    }
                }
            }
        });
        found.sort_unstable();
        if !filter.ascending {
            found.reverse();
        }
        let more = found.len() > filter.limit;
        found.truncate(filter.limit);
        page.next = found.last().filter(|_| more).map(|(key, id)| {
            let id = hex(id);
            match key {
                Key::Number(number) => format!("{number}.{id}"),
                Key::Text(text) => format!("{text}.{id}"),
            }
        });
        page.ids = found.iter().filter_map(|(_, id)| hex(id).parse().ok()).collect();
        page
    }

    fn read<T>(&self, look: impl FnOnce(&HashMap<Id, Entry>) -> T) -> T {
        look(&self.entries.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Reads where a page goes on.
pub(crate) fn cursor(text: &str, sort: Sort) -> Option<(Key, Id)> {
    let (key, id) = text.rsplit_once('.')?;
    let key = match sort {
        Sort::At | Sort::Size => Key::Number(key.parse().ok()?),
        Sort::Title | Sort::State => Key::Text(key.to_owned()),
    };
    Some((key, pack(&id.parse().ok()?)))
}

/// The id in 16 bytes.
pub(crate) fn pack(id: &AssetId) -> Id {
    let number = u128::from_str_radix(id.as_str(), 16).unwrap_or_default();
    number.to_be_bytes()
}

/// The id that was packed.
pub(crate) fn unpack(id: &Id) -> Option<AssetId> {
    hex(id).parse().ok()
}

fn hex(id: &Id) -> String {
    format!("{:032x}", u128::from_be_bytes(*id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(count: u32) -> Index {
        let index = Index::new(20_000);
        for number in 0..count {
            let entry = Entry {
                at: i64::from(number / 3),
                state: if number % 2 == 0 { "available" } else { "ready" },
                expired: "expired",
                expires_at: (number % 10 == 0).then_some(100),
                size: 10,
                title: format!("Picture {number} of the Moon").into(),
            };
            assert!(index.put(pack(&testkit::asset_id(number)), entry));
        }
        index
    }

    #[test]
    fn pages_list_each_asset_once_newest_first() {
        let index = index(100);
        let mut filter = Filter {
            limit: 7,
            ..Filter::default()
        };
        let mut all = Vec::new();
        loop {
            let page = index.page(&filter, 0);
            assert_eq!(page.total, 100);
            all.extend(page.ids);
            let Some(next) = page.next else { break };
            filter.after = Some(cursor(&next, filter.sort).unwrap());
        }
        let times: Vec<_> = all.iter().map(|id| index.get(id).unwrap().at).collect();
        assert!(times.is_sorted_by(|a, b| a >= b));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 100);
    }

    #[test]
    fn every_order_lists_each_asset_once_also_over_pages() {
        let index = index(100);
        for sort in [Sort::At, Sort::Title, Sort::Size, Sort::State] {
            for ascending in [true, false] {
                let mut filter = Filter {
                    limit: 9,
                    sort,
                    ascending,
                    ..Filter::default()
                };
                let mut all = Vec::new();
                loop {
                    let page = index.page(&filter, 0);
                    all.extend(page.ids);
                    let Some(next) = page.next else { break };
                    filter.after = Some(cursor(&next, sort).unwrap());
                }
                let keys: Vec<_> = all
                    .iter()
                    .map(|id| sort.key(&index.get(id).unwrap(), 0))
                    .collect();
                assert!(
                    keys.is_sorted_by(|a, b| if ascending { a <= b } else { a >= b }),
                    "{sort:?}"
                );
                all.sort();
                all.dedup();
                assert_eq!(all.len(), 100, "{sort:?}");
            }
        }
    }

    #[test]
    fn changes_after_the_first_reading_are_told_once() {
        let index = index(10);
        assert_eq!(index.take(5), Some(Vec::new()));
        index.loaded();
        let id = testkit::asset_id(3);
        let entry = index.get(&id).unwrap();
        index.put(pack(&id), entry.clone());
        assert_eq!(index.take(5), Some(Vec::new()), "nothing changed");
        index.put(pack(&id), Entry { size: 11, ..entry });
        index.touch(pack(&id));
        assert_eq!(index.take(5), Some(vec![id]));
        index.expire(99, 100);
        assert_eq!(index.take(5), Some(vec![testkit::asset_id(0)]));
        index.expire(100, 200);
        assert_eq!(index.take(5), Some(Vec::new()));
    }

    #[test]
    fn filters_go_by_state_as_of_now_and_by_words_of_the_title() {
        let index = index(100);
        let filter = Filter {
            state: Some("expired".into()),
            limit: 100,
            ..Filter::default()
        };
        assert_eq!(index.page(&filter, 99).total, 0);
        assert_eq!(index.page(&filter, 100).total, 10);
        assert_eq!(index.page(&filter, 100).by_state["available"], 40);
        let filter = Filter {
            words: Some("PICTURE 42 ".into()),
            limit: 100,
            ..Filter::default()
        };
        assert_eq!(index.page(&filter, 0).ids, [testkit::asset_id(42)]);
        assert_eq!(
            index.sum("ready", 0),
            Sum {
                assets: 50,
                bytes: 500
            }
        );
    }

    #[test]
    fn index_is_bounded_and_says_so() {
        let small = Index::new(1);
        let entry = index(1).get(&testkit::asset_id(0)).unwrap();
        assert!(
            small.put([0; 16], entry.clone())
                && !small.put([1; 16], entry.clone())
                && small.put([0; 16], entry)
        );
        assert!(small.full());
    }
}
