//! What every handler holds: the site, its engines, and what is kept in memory.

use std::sync::Arc;
use std::time::Duration;

use common::broker::Broker;
use common::chassis::Stop;
use common::schemas::{AssetId, SiteId};
use common::table::Session;
use common::volume::Volume;
use serde::Serialize;
use utoipa::ToSchema;

use crate::events;
use crate::index::{Index, pack};
use crate::problem::{Problem, Result};
use crate::requests::Requests;
use crate::services::Services;
use crate::settings::Settings;
use crate::sign_in::SignIn;

/// How long a request waits for the index's first reading.
const INDEX_LIMIT: Duration = Duration::from_secs(10);
/// How many assets' requests may be changed at the same time.
const TURNS: usize = 64;

/// What a site is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Headquarters.
    Core,
    /// A field site.
    Edge,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Edge => "edge",
        }
    }
}

/// The state behind the API.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) site: SiteId,
    pub(crate) kind: Kind,
    pub(crate) started_at: i64,
    pub(crate) broker: Broker,
    pub(crate) table: Session,
    pub(crate) volume: Volume,
    pub(crate) index: Index,
    /// Where the core's newest record of each asset lies; empty at an edge.
    pub(crate) places: crate::headquarters::Places,
    /// Where the core's previews lie; empty at an edge.
    pub(crate) previews: crate::previews::Previews,
    pub(crate) services: Services,
    /// Their last log lines.
    pub(crate) logs: crate::logs::Logs,
    /// How the link was.
    pub(crate) history: crate::history::History,
    /// What is told to the pages that are open.
    pub(crate) hub: events::Hub,
    pub(crate) lanes: events::Lanes,
    /// What edges asked for last; empty at an edge.
    pub(crate) requests: Requests,
    /// At the core: how far edges were followed.
    pub(crate) followed: tokio::sync::Mutex<events::Followed>,
    /// When the newest word of each edge was heard; empty at an edge.
    pub(crate) heard: crate::heard::Heard,
    pub(crate) usage: events::Usage,
    pub(crate) settings: Settings,
    pub(crate) page: crate::page::Page,
    pub(crate) sign_in: SignIn,
    /// Whether anything was written into the audit since pages were told.
    pub(crate) audited: std::sync::atomic::AtomicBool,
    /// Which dead letters were sent again.
    pub(crate) letters: crate::letters::Letters,
    pub(crate) strangers: crate::audit::Strangers,
    pub(crate) turns: Turns,
    /// When somebody last changed the mirror's order, as far as this process knows; 0 is never.
    pub(crate) ordered_at: std::sync::atomic::AtomicI64,
    /// Held while a site is enrolled or revoked, or bytes are given back.
    pub(crate) asking: tokio::sync::Mutex<()>,
    /// Held while a set-up is tested or kept: one at a time is enough for people.
    pub(crate) setting_up: Arc<tokio::sync::Mutex<()>>,
    /// How many streams of records may be open.
    pub(crate) streams: Arc<tokio::sync::Semaphore>,
    pub(crate) stop: Stop,
}

/// Whose turn it is to look at an asset's request and change it, so that two clicks are one request. Assets share few
/// turns, and those that share none are changed at the same time: their writes go into one commit.
#[derive(Debug)]
pub(crate) struct Turns([tokio::sync::Mutex<()>; TURNS]);

impl Default for Turns {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Default::default()))
    }
}

impl Turns {
    /// Waits for an asset's turn.
    pub(crate) async fn of(&self, id: &AssetId) -> tokio::sync::MutexGuard<'_, ()> {
        let turn = usize::from(pack(id)[0]) % TURNS;
        self.0[turn].lock().await
    }
}

impl App {
    /// Refuses a route that only the other kind of site has.
    pub(crate) fn only(&self, kind: Kind) -> Result<()> {
        if self.kind == kind {
            return Ok(());
        }
        let (own, other) = (self.kind.as_str(), kind.as_str());
        Err(Problem::not_found(format!(
            "{} is a site of kind {own}; this is there at a site of kind {other}",
            self.site
        )))
    }

    /// Waits until it is known what edges asked for.
    pub(crate) async fn requested(&self) -> Result<&Requests> {
        match tokio::time::timeout(INDEX_LIMIT, self.requests.ready()).await {
            Ok(()) => Ok(&self.requests),
            Err(_) => {
                Err(Problem::unavailable("the requests are still being read").hint("try again in a moment"))
            }
        }
    }

    /// Waits for the index's first reading.
    pub(crate) async fn indexed(&self) -> Result<&Index> {
        match tokio::time::timeout(INDEX_LIMIT, self.index.ready()).await {
            Ok(()) => Ok(&self.index),
            Err(_) => {
                Err(Problem::unavailable("the assets are still being read").hint("try again in a moment"))
            }
        }
    }
}

/// Reads an asset id from a path.
pub(crate) fn asset_id(text: &str) -> Result<AssetId> {
    text.parse()
        .map_err(|error: common::schemas::IdError| Problem::not_found(error.to_string()))
}

/// Reads a site's name from a path or body.
pub(crate) fn site_id(text: &str) -> Result<SiteId> {
    text.parse()
        .map_err(|error: common::schemas::IdError| Problem::bad_request(error.to_string()))
}
