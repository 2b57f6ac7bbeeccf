//! A small picture of every asset in memory, so that ten thousand of them are filtered, sorted and counted at once.
//!
//! An entry takes some 150 bytes and its title. What the index does not hold is read from the table, for one page.

use std::collections::{BTreeMap, HashMap};
use std::sync::{PoisonError, RwLock};

use common::schemas::AssetId;
use tokio::sync::watch;

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

/// Which assets to list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    /// Only in this state.
    pub(crate) state: Option<String>,
    /// Only with this text in the title, whatever its case.
    pub(crate) words: Option<String>,
    /// Only behind this one.
    pub(crate) after: Option<(i64, Id)>,
    /// At most so many.
    pub(crate) limit: usize,
}

/// One page of a listing.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Page {
    /// The assets, newest first.
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

/// The index.
#[derive(Debug)]
pub(crate) struct Index {
    entries: RwLock<HashMap<Id, Entry>>,
    loaded: watch::Sender<bool>,
    limit: usize,
}

impl Index {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            entries: RwLock::default(),
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
        entries.insert(id, entry);
        true
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

    pub(crate) fn page(&self, filter: &Filter, now: i64) -> Page {
        let words = filter
            .words
            .as_ref()
            .map(|words| words.to_lowercase())
            .filter(|words| !words.is_empty());
        let mut page = Page::default();
        let mut found: Vec<(i64, Id)> = Vec::new();
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
                    if filter.after.is_none_or(|after| (entry.at, *id) < after) {
                        found.push((entry.at, *id));
                    }
                }
            }
        });
        found.sort_unstable_by(|a, b| b.cmp(a));
        let more = found.len() > filter.limit;
        found.truncate(filter.limit);
        page.next = found
            .last()
            .filter(|_| more)
            .map(|(at, id)| format!("{at}.{}", hex(id)));
        page.ids = found.iter().filter_map(|(_, id)| hex(id).parse().ok()).collect();
        page
    }

    fn read<T>(&self, look: impl FnOnce(&HashMap<Id, Entry>) -> T) -> T {
        look(&self.entries.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Reads where a page goes on.
pub(crate) fn cursor(text: &str) -> Option<(i64, Id)> {
    let (at, id) = text.split_once('.')?;
    Some((at.parse().ok()?, pack(&id.parse().ok()?)))
}

/// The id in 16 bytes.
pub(crate) fn pack(id: &AssetId) -> Id {
    let number = u128::from_str_radix(id.as_str(), 16).unwrap_or_default();
    number.to_be_bytes()
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
            filter.after = Some(cursor(&next).unwrap());
        }
        let times: Vec<_> = all.iter().map(|id| index.get(id).unwrap().at).collect();
        assert!(times.is_sorted_by(|a, b| a >= b));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 100);
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
