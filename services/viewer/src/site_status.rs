//! The edge's word to the core: on change, and now and then, to topic `site-status`, which link carries.

use std::time::Duration;

use common::broker::Outgoing;
use common::chassis::{VERSION, now_ms};
use common::schemas::{self, SiteStatus, topic};
use common::telemetry;
use tokio::time::Instant;

use crate::api;
use crate::app::App;

/// How often the site is looked at.
const LOOK: Duration = Duration::from_secs(10);
/// How often it is told of although nothing changed.
const EVERY: Duration = Duration::from_secs(60);

/// Tells the core until the service stops. A broker that is away is tried again at the next look.
pub(crate) async fn run(app: &App) {
    let mut told: Option<(SiteStatus, Instant)> = None;
    loop {
        match status(app).await {
            Ok(status) => {
                let same = |(before, at): &(SiteStatus, Instant)| {
                    at.elapsed() < EVERY
                        && *before
                            == SiteStatus {
                                reported_at: before.reported_at,
                                ..status.clone()
                            }
                };
                if !told.as_ref().is_some_and(same) {
                    match send(app, &status).await {
                        Ok(()) => told = Some((status, Instant::now())),
                        Err(error) => {
                            tracing::warn!(error = %format!("{error:#}"), "site status is not sent")
                        }
                    }
                }
            }
            Err(error) => {
                tracing::debug!(error = %telemetry::chain(error.as_ref()), "site cannot be looked at")
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn status(app: &App) -> anyhow::Result<SiteStatus> {
    app.index.ready().await;
    let now = now_ms();
    let sum = |state| i64::try_from(app.index.sum(state, now).assets).unwrap_or(i64::MAX);
    let (troubles, _) = api::troubles(app, now).await?;
    Ok(SiteStatus {
        site: app.site.clone(),
        version: VERSION.to_owned(),
        reported_at: now,
        assets: i64::try_from(app.index.len()).unwrap_or(i64::MAX),
        mirrored: sum("mirrored"),
        pending: sum("requesting") + sum("requested") + sum("ready"),
        problems: troubles
            .into_iter()
            .filter(|trouble| trouble.severity != "info")
            .map(|trouble| trouble.what)
            .collect(),
    })
}

async fn send(app: &App, status: &SiteStatus) -> anyhow::Result<()> {
    let record = Outgoing::new(topic::SITE_STATUS, app.site.as_str(), schemas::encode(status)?);
    app.broker.producer()?.send(record).await?;
    Ok(())
}
