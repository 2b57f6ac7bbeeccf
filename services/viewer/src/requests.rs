//! Who asked for what last: the newest requests of all edges, in memory, in the order in which they were made.
//!
//! It is a bounded picture of table `site_requests`, which is walked once in bounded reads, and of what edges ask while
//! this process runs. It says which requests there are; what became of one is read from its row when it is shown. Those
//! beyond the newest are left out, and that is said.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::schemas::{AssetId, RequestId, SiteId, split_site, topic};
use common::table::{self, Select, Value};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::watch;

use crate::app::App;
use crate::view::RequestView;

/// How many are kept.
pub(crate) const KEPT: usize = 2000;
const PAGE: usize = 500;
/// How many partitions, or rows, are read at once.
const AT_ONCE: usize = 16;

/// A request's place among the others: when it was made, and which it is.
pub(crate) type Place = (i64, RequestId);

#[derive(Debug, Default)]
struct Known {
    by_time: BTreeSet<Place>,
    /// When each was made, and by whom.
    of: HashMap<RequestId, (i64, Option<Box<str>>)>,
    /// Whether there are older ones than are kept.
    older: bool,
}

/// The newest requests.
#[derive(Debug)]
pub(crate) struct Requests {
    known: Mutex<Known>,
    loaded: watch::Sender<bool>,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            loaded: watch::Sender::new(false),
        }
    }
}

/// Some of the newest requests.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Newest {
    pub(crate) requests: Vec<RequestId>,
    /// Where the next page goes on; none on the last.
    pub(crate) next: Option<Place>,
    /// Whether there are older ones than any page has.
    pub(crate) older: bool,
}

impl Requests {
    /// Notes a request, or that one was made at another time than it was thought.
    pub(crate) fn note(&self, id: RequestId, at: i64, by: Option<&str>) {
        let mut known = self.known();
        let known = &mut *known;
        if let Some((before, _)) = known.of.insert(id.clone(), (at, by.map(Into::into))) {
            known.by_time.remove(&(before, id.clone()));
        }
        known.by_time.insert((at, id));
        while known.by_time.len() > KEPT {
            known.older = true;
            if let Some((_, oldest)) = known.by_time.pop_first() {
                known.of.remove(&oldest);
            }
        }
    }

    /// The newest, or those behind a place.
    pub(crate) fn newest(&self, after: Option<&Place>, limit: usize) -> Newest {
        let known = self.known();
        let behind = |place: &&Place| after.is_none_or(|after| *place < after);
        let mut found: Vec<&Place> = known
            .by_time
            .iter()
            .rev()
            .filter(behind)
            .take(limit + 1)
            .collect();
        let more = found.len() > limit;
        found.truncate(limit);
        Newest {
            next: found.last().filter(|_| more).map(|place| (*place).clone()),
            requests: found.into_iter().map(|(_, id)| id.clone()).collect(),
            older: known.older,
        }
    }

    /// Waits until the table was walked.
    pub(crate) async fn ready(&self) {
        let mut loaded = self.loaded.subscribe();
        // The sender lives as long as the list.
        drop(loaded.wait_for(|loaded| *loaded).await);
    }

    /// What is noted of one that has no row yet.
    fn unanswered(&self, id: &RequestId) -> Option<RequestView> {
        let known = self.known();
        let (at, by) = known.of.get(id)?;
        Some(RequestView {
            requested_at: Some(*at),
            requested_by: by.as_deref().map(str::to_owned),
            ..RequestView::default()
        })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads `<time>.<request id>`.
pub(crate) fn place(text: &str) -> Option<Place> {
    let (at, id) = text.split_once('.')?;
    Some((at.parse().ok()?, id.parse().ok()?))
}

/// Whose it is, of which asset, and which attempt.
fn parts(id: &RequestId) -> Option<(SiteId, AssetId, i32)> {
    let mut parts = id.as_str().split('.');
    Some((
        parts.next()?.parse().ok()?,
        parts.next()?.parse().ok()?,
        parts.next()?.parse().ok()?,
    ))
}

/// A request as its row has it, or as it was heard while there is none; none where there never was one.
pub(crate) async fn look(app: &App, id: &RequestId) -> Result<Option<RequestView>, table::Error> {
    let Some((site, asset_id, attempt)) = parts(id) else {
        return Ok(None);
    };
    let key = [
        ("asset_id", Value::from(asset_id.as_str())),
        ("site", Value::from(site.as_str())),
        ("attempt", Value::from(attempt)),
    ];
    let found = match app.table.get("deliveries", &key).await? {
        Some(row) => {
            let view = RequestView::of(&row);
            // A row that only says of an arrival is of a request that came before there was a time in it.
            if let Some(at) = view.requested_at.or(view.responded_at) {
                app.requests.note(id.clone(), at, view.requested_by.as_deref());
            }
            Some(view)
        }
        None => app.requests.unanswered(id),
    };
    Ok(found.map(|view| RequestView {
        request_id: Some(id.to_string()),
        title: app.index.get(&asset_id).map(|entry| entry.title.into()),
        site: Some(site.into()),
        asset_id: Some(asset_id.into()),
        attempt: Some(attempt),
        ..view
    }))
}

/// Reads many, in their order.
pub(crate) async fn look_at_all(app: &App, ids: Vec<RequestId>) -> Result<Vec<RequestView>, table::Error> {
    stream::iter(ids)
        .map(|id| async move { look(app, &id).await })
        .buffered(AT_ONCE)
        .try_filter_map(|view| async move { Ok(view) })
        .try_collect()
        .await
}

/// Walks what every edge ever asked for, so that the newest are known.
pub(crate) async fn walk(app: &App) -> anyhow::Result<()> {
    let mut sites = BTreeSet::new();
    for found in app.broker.topics().await? {
        if let Some((site, topic::ASSET_REQUEST)) = split_site(&found.name) {
            sites.insert(site);
        }
    }
    let partitions = sites
        .into_iter()
        .flat_map(|site| (0..AssetId::BUCKETS).map(move |bucket| (site.clone(), bucket)));
    stream::iter(partitions)
        .map(|(site, bucket)| async move { walk_one(app, &site, bucket).await })
        .buffer_unordered(AT_ONCE)
        .try_for_each(|()| async { Ok(()) })
        .await?;
    app.requests.loaded.send_replace(true);
    Ok(())
}

async fn walk_one(app: &App, site: &SiteId, bucket: i32) -> Result<(), table::Error> {
    let mut after: Option<Vec<Value>> = None;
    loop {
        let mut select = Select::from("site_requests")
            .partition("site", site.as_str())
            .partition("bucket", bucket)
            .columns(&[
                "asset_id",
                "attempt",
                "requested_at",
                "requested_by",
                "responded_at",
            ])
            .limit(PAGE);
        select.after = after.take();
        let rows = app.table.select(select).await?;
        for row in &rows {
            let asset_id = row.text("asset_id").and_then(|id| id.parse().ok());
            let at = row
                .timestamp("requested_at")
                .or_else(|| row.timestamp("responded_at"));
            if let (Some(asset_id), Some(attempt), Some(at)) = (asset_id, row.int("attempt"), at) {
                let id = RequestId::new(site, &asset_id, attempt);
                app.requests.note(id, at, row.text("requested_by"));
            }
        }
        match rows.last() {
            Some(last) if rows.len() == PAGE => {
                after = Some(vec![
                    last.value("asset_id").clone(),
                    last.value("attempt").clone(),
                ]);
            }
            _ => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> RequestId {
        RequestId::new(&testkit::site("edge-1"), &testkit::asset_id(number), 1)
    }

    #[test]
    fn the_newest_come_page_by_page_and_older_ones_are_said_to_be_left_out() {
        let requests = Requests::default();
        let count = u32::try_from(KEPT).unwrap();
        for number in 0..count {
            requests.note(id(number), i64::from(number), None);
        }
        // What was made at another time than it was thought is one request all the same.
        requests.note(id(0), 5_000, Some("kim"));
        assert!(!requests.newest(None, 1).older);
        requests.note(id(count), 4_000, None);
        let first = requests.newest(None, 3);
        assert_eq!(first.requests, [id(0), id(count), id(count - 1)]);
        assert!(first.older);
        let mut all = 3;
        let mut next = first.next;
        while let Some(place_) = next {
            assert_eq!(place(&format!("{}.{}", place_.0, place_.1)), Some(place_.clone()));
            let page = requests.newest(Some(&place_), 700);
            all += page.requests.len();
            next = page.next;
        }
        assert_eq!(all, KEPT);
        assert_eq!(requests.known().of.len(), KEPT);
        assert_eq!(
            requests.unanswered(&id(0)).unwrap().requested_by.as_deref(),
            Some("kim")
        );
    }
}
