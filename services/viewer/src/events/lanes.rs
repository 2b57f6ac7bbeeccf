//! The last assets to pass each stage at the core.

use std::sync::{Mutex, MutexGuard, PoisonError};

use common::schemas::{Asset, AssetId, AssetState};
use serde::Serialize;
use utoipa::ToSchema;

/// How many each lane shows.
const SHOWN: usize = 12;

/// An asset as it passed a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Passed {
    /// feed, downloader, broadcaster or responder.
    pub(crate) lane: &'static str,
    pub(crate) asset_id: String,
    pub(crate) title: String,
    /// What became of it there: announced; downloaded or failed; broadcast or withdrawn; ready, refused or cancelled.
    pub(crate) state: &'static str,
    pub(crate) at: i64,
    /// The edge that asked, in the responder's lane.
    pub(crate) site: Option<String>,
    /// Whether there is a small picture of it.
    pub(crate) has_preview: bool,
}

/// The last assets to pass each stage, newest first.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(crate) struct LanesOf {
    feed: Vec<Passed>,
    downloader: Vec<Passed>,
    broadcaster: Vec<Passed>,
    responder: Vec<Passed>,
}

/// The lanes.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(crate) struct LanesView {
    lanes: LanesOf,
}

/// A stage.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lane {
    Feed,
    Downloader,
    Broadcaster,
    Responder,
}

impl Lane {
    fn as_str(self) -> &'static str {
        match self {
            Self::Feed => "feed",
            Self::Downloader => "downloader",
            Self::Broadcaster => "broadcaster",
            Self::Responder => "responder",
        }
    }
}

/// The lanes as they are followed.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    view: Mutex<LanesView>,
}

impl Lanes {
    /// The lanes as they are; of which assets there is a preview is known elsewhere.
    pub(crate) fn view(&self, has_preview: impl Fn(&AssetId) -> bool) -> LanesView {
        let mut view = self.lock().clone();
        let LanesOf {
            feed,
            downloader,
            broadcaster,
            responder,
        } = &mut view.lanes;
        for passed in [feed, downloader, broadcaster, responder].into_iter().flatten() {
            passed.has_preview = passed.asset_id.parse().is_ok_and(|id| has_preview(&id));
        }
        view
    }

    /// Notes an asset's newest record: a step that it says of counts, also where the step's own record is gone.
    pub(crate) fn hear(&self, asset: &Asset, state: &'static str, recorded_at: i64) {
        let note = |lane, state, at| {
            self.note(
                lane,
                Passed {
                    lane: "",
                    asset_id: asset.asset_id.to_string(),
                    title: asset.title.clone(),
                    state,
                    at,
                    site: None,
                    has_preview: false,
                },
            );
        };
        note(Lane::Feed, "announced", asset.announced_at);
        match (asset.state, asset.downloaded_at) {
            (AssetState::Failed, _) => note(Lane::Downloader, state, recorded_at),
            (_, Some(at)) => note(Lane::Downloader, "downloaded", at),
            _ => {}
        }
        if matches!(asset.state, AssetState::Broadcast | AssetState::Withdrawn) {
            note(Lane::Broadcaster, state, recorded_at);
        }
    }

    /// Notes that an asset passed a stage.
    pub(crate) fn note(&self, lane: Lane, passed: Passed) {
        let mut view = self.lock();
        let all = match lane {
            Lane::Feed => &mut view.lanes.feed,
            Lane::Downloader => &mut view.lanes.downloader,
            Lane::Broadcaster => &mut view.lanes.broadcaster,
            Lane::Responder => &mut view.lanes.responder,
        };
        all.retain(|other| (&other.asset_id, &other.site) != (&passed.asset_id, &passed.site));
        let place = all.partition_point(|other| other.at > passed.at);
        if place < SHOWN {
            let lane = lane.as_str();
            all.insert(place, Passed { lane, ..passed });
            all.truncate(SHOWN);
        }
    }

    fn lock(&self) -> MutexGuard<'_, LanesView> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_shows_the_newest_twelve_each_asset_once() {
        let lanes = Lanes::default();
        for number in [5, 3, 40, 1, 2] {
            for more in 0..4 {
                let asset = testkit::announced(number + more, "http://x/");
                let asset = Asset {
                    announced_at: i64::from(number + more),
                    ..asset
                };
                lanes.hear(&asset, "announced", 0);
            }
        }
        let feed = lanes.view(|_| false).lanes.feed;
        let times: Vec<_> = feed.iter().map(|passed| passed.at).collect();
        assert_eq!(times, [43, 42, 41, 40, 8, 7, 6, 5, 4, 3, 2, 1]);
        assert!(lanes.view(|_| false).lanes.downloader.is_empty());
    }
}
