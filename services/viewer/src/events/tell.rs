//! Looks at what changed and tells it: assets at most ten times a second, what services say twice a second by this
//! site's own clock, what must be read from engines every few seconds.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::chassis::now_ms;
use common::telemetry;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use tokio::time::Instant;

use super::RESET;
use crate::api::{self, LinkView, MirrorView};
use crate::app::{App, Kind};
use crate::index::pack;
use crate::letters;
use crate::problem::Result;
use crate::view::{AssetView, Service, Trouble};

/// How far apart batches of assets are.
const BATCH: Duration = Duration::from_millis(100);
/// The most assets in one.
const ASSETS: usize = 100;
const AT_ONCE: usize = 16;
const SERVICES: Duration = Duration::from_millis(500);
const PROBLEMS: Duration = Duration::from_secs(3);
const VOLUME: Duration = Duration::from_secs(15);
/// How often it is noted what the mirror moved.
const MOVED: Duration = Duration::from_secs(3);

#[derive(Debug, Serialize)]
struct Assets {
    assets: Vec<AssetView>,
    by_state: BTreeMap<&'static str, usize>,
}

#[derive(Debug, Serialize)]
struct Services {
    services: Vec<Service>,
}

#[derive(Debug, Serialize)]
struct Problems {
    problems: Vec<Trouble>,
}

/// Says that the audit has new entries: who may read it reads them there.
#[derive(Debug, Serialize)]
struct Audited {
    at: i64,
}

/// Says that there are other dead letters than before.
#[derive(Debug, Serialize)]
struct DeadLetters {
    /// How many there are.
    kept: i64,
    /// How many of them were not sent again.
    waiting: i64,
}

/// Tells until it is dropped. What cannot be read is tried again at the next look.
pub(crate) async fn run(app: &App) {
    let assets = async {
        app.index.ready().await;
        loop {
            app.index.changed().await;
            log(assets(app).await, "assets");
            tokio::time::sleep(BATCH).await;
        }
    };
    let services = async {
        let mut looked_at = now_ms();
        loop {
            let now = now_ms();
            services(app, now);
            if app.audited.swap(false, Ordering::Relaxed) {
                app.hub.publish("audit", &Audited { at: now });
            }
            app.index.expire(looked_at, now);
            looked_at = now;
            tokio::time::sleep(SERVICES).await;
        }
    };
    let problems = async {
        app.index.ready().await;
        loop {
            log(letters::count(app).await, "dead letters");
            log(problems(app).await, "problems");
            tokio::time::sleep(PROBLEMS).await;
        }
    };
    let volume = async {
        let mut next = Instant::now();
        loop {
            if app.hub.listeners.available_permits() < super::MAX_LISTENERS && Instant::now() >= next {
                match app.usage.look(app).await {
                    Ok(usage) => app.hub.changed("volume", &usage),
                    Err(error) => log(Err(error), "volume"),
                }
                next = Instant::now() + VOLUME;
            }
            tokio::time::sleep(SERVICES).await;
        }
    };
    let moved = async {
        // What was moved before this process began was noted then.
        let mut noted = app.started_at;
        if app.kind == Kind::Edge {
            loop {
                log(note(app, &mut noted).await, "what the mirror moved");
                tokio::time::sleep(MOVED).await;
            }
        }
    };
    tokio::join!(assets, services, problems, volume, moved);
}

fn log(result: Result<()>, what: &str) {
    if let Err(error) = result {
        tracing::debug!(what, error = %telemetry::chain(&error), "cannot be looked at");
    }
}

/// Notes what the mirror moved since it was noted last.
async fn note(app: &App, noted: &mut i64) -> Result<()> {
    for minute in app.services.moved_since(*noted) {
        app.broker.producer()?.send(minute.note()?).await?;
        *noted = minute.last_at();
    }
    Ok(())
}

async fn assets(app: &App) -> Result<()> {
    let Some(ids) = app.index.take(ASSETS) else {
        app.hub.publish(RESET, &serde_json::json!({}));
        return Ok(());
    };
    let now = now_ms();
    let read = stream::iter(ids.clone())
        .map(|id| async move { api::asset_view(app, &id, now).await })
        .buffered(AT_ONCE)
        .try_filter_map(|asset| async move { Ok(asset) })
        .try_collect()
        .await;
    if read.is_err() {
        // They are still to be told.
        ids.iter().for_each(|id| app.index.touch(pack(id)));
    }
    let assets: Vec<AssetView> = read?;
    if !assets.is_empty() {
        let by_state = app.index.by_state(now);
        app.hub.publish("assets", &Assets { assets, by_state });
    }
    Ok(())
}

fn services(app: &App, now: i64) {
    let services = app.services.list(None, now);
    let seen: Vec<_> = services.iter().map(Service::seen).collect();
    app.hub.changed_in("services", &Services { services }, &seen);
    match app.kind {
        Kind::Core => app
            .hub
            .changed("lanes", &app.lanes.view(|id| app.previews.has(id))),
        Kind::Edge => {
            let (link, mirror) = (LinkView::of(app, now), MirrorView::of(app, now));
            app.hub.changed_in("link", &link, &link.seen());
            app.hub.changed_in("mirror", &mirror, &mirror.seen());
        }
    }
}

async fn problems(app: &App) -> Result<()> {
    let (problems, letters) = api::troubles(app, now_ms()).await?;
    app.hub.changed("problems", &Problems { problems });
    let (kept, waiting) = (letters.kept, letters.waiting);
    app.hub.changed("dead_letters", &DeadLetters { kept, waiting });
    if app.kind == Kind::Core {
        app.hub.changed("sites", &api::edges(app).await?);
    }
    Ok(())
}
