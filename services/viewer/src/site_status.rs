//! The edge's word to the core: on change, and now and then, to topic `site-status`, which link carries.
//!
//! Each word crosses a link that may be metered. So a site that goes on changing, as one whose mirror works, is told of once
//! a minute after the first few changes, and one that has nothing to say every quarter of an hour.

use std::time::Duration;

use common::broker::Outgoing;
use common::chassis::{VERSION, now_ms};
use common::schemas::{self, SiteStatus, topic};
use common::telemetry;
use tokio::time::Instant;

use crate::api::{self, LinkView};
use crate::app::App;

/// How often the site is looked at.
const LOOK: Duration = Duration::from_secs(10);
/// How often it is told of although nothing changed. The core takes an edge for silent some minutes after it.
pub(crate) const EVERY: Duration = Duration::from_secs(15 * 60);
/// How soon a further change is told, after so many that were told at once.
const CHANGES: Duration = Duration::from_secs(60);
const AT_ONCE: u32 = 5;

/// Changes that may be told now: each takes one, and each [`CHANGES`] gives one back.
#[derive(Debug)]
struct Allowance {
    left: u32,
    since: Instant,
}

impl Allowance {
    fn take(&mut self, now: Instant) -> bool {
        let back = u32::try_from((now - self.since).as_secs() / CHANGES.as_secs()).unwrap_or(AT_ONCE);
        self.since += CHANGES * back;
        self.left = self.left.saturating_add(back).min(AT_ONCE);
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

/// Tells the core until the service stops. A broker that is away is tried again at the next look.
pub(crate) async fn run(app: &App) {
    let mut told: Option<(SiteStatus, Instant)> = None;
    let mut allowance = Allowance {
        left: AT_ONCE,
        since: Instant::now(),
    };
    loop {
        match status(app).await {
            Ok(status) => {
                let due = told.as_ref().is_none_or(|(before, at)| {
                    let same = *before
                        == SiteStatus {
                            reported_at: before.reported_at,
                            // It is told along, for it is another one at each look.
                            lag: before.lag,
                            ..status.clone()
                        };
                    at.elapsed() >= EVERY || (!same && allowance.take(Instant::now()))
                });
                if due {
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
        lag: lag(app, now),
    })
}

#[expect(clippy::cast_possible_truncation, reason = "a count, as a gauge has it")]
fn lag(app: &App, now: i64) -> Option<i64> {
    LinkView::of(app, now).lag.records().map(|lag| lag as i64)
}

async fn send(app: &App, status: &SiteStatus) -> anyhow::Result<()> {
    let record = Outgoing::new(topic::SITE_STATUS, app.site.as_str(), schemas::encode(status)?);
    app.broker.producer()?.send(record).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_changes_are_told_at_once_and_further_ones_once_a_minute() {
        let start = Instant::now();
        let mut allowance = Allowance {
            left: AT_ONCE,
            since: start,
        };
        let told = |allowance: &mut Allowance, seconds: u64| {
            (0..seconds / 10)
                .filter(|look| allowance.take(start + LOOK * u32::try_from(*look).unwrap()))
                .count()
        };
        let hour = told(&mut allowance, 3600);
        assert!((60..=65).contains(&hour), "{hour}");
        assert!((0..AT_ONCE).all(|_| allowance.take(start + Duration::from_secs(7200))));
        assert!(!allowance.take(start + Duration::from_secs(7201)));
    }
}
