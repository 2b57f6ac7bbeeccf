//! What the volume takes, measured now and then and kept, since counting reads the whole directory.

use std::time::Duration;

use common::chassis::now_ms;
use common::telemetry;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::app::App;
use crate::index::Sum;
use crate::problem::Result;

/// How old a measurement may be.
const FRESH: Duration = Duration::from_secs(15);
/// How old it may be where nobody looks, and only a disk that fills up is watched for.
const FRESH_ENOUGH: Duration = Duration::from_secs(60);

/// The site's volume.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct UsageView {
    /// What assets take, with what is on its way.
    used_bytes: u64,
    /// Files that it holds.
    objects: u64,
    /// What the disk has left; null in a bucket.
    free_bytes: Option<u64>,
    /// What the disk holds; null in a bucket.
    total_bytes: Option<u64>,
    /// What mirror may fill of it, as mirror says; null without a limit, and at a core.
    quota_bytes: Option<u64>,
    /// When it was measured.
    as_of: i64,
}

/// The limit that the newest word of mirror tells.
fn quota(app: &App) -> Option<u64> {
    let mirrors = app.services.list(Some("mirror"), now_ms());
    let newest = mirrors.iter().max_by_key(|one| one.reported_at)?;
    let quota = newest.gauges.get("quota_bytes")?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number of bytes"
    )]
    Some(*quota as u64)
}

#[derive(Debug)]
struct Measured {
    at: Instant,
    /// What was mirrored then: where that is another sum now, so is what the volume takes.
    mirrored: Sum,
    view: UsageView,
}

/// The last measurement.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    last: Mutex<Option<Measured>>,
}

impl Usage {
    /// Measures, if the last time is too long ago. Who comes meanwhile waits for the same.
    pub(crate) async fn look(&self, app: &App) -> Result<UsageView> {
        let mirrored = app.index.sum("mirrored", now_ms());
        let mut last = self.last.lock().await;
        if let Some(last) = &*last
            && last.at.elapsed() < FRESH
            && last.mirrored == mirrored
        {
            return Ok(last.view.clone());
        }
        let usage = app.volume.usage().await?;
        let view = UsageView {
            used_bytes: usage.bytes,
            objects: usage.objects,
            free_bytes: usage.free,
            total_bytes: usage.total,
            quota_bytes: quota(app),
            as_of: now_ms(),
        };
        *last = Some(Measured {
            at: Instant::now(),
            mirrored,
            view: view.clone(),
        });
        Ok(view)
    }

    /// What the disk has left, and what it holds, not long ago; none in a bucket, or where it cannot be measured.
    pub(crate) async fn disk(&self, app: &App) -> Option<(u64, u64)> {
        let known = {
            let last = self.last.lock().await;
            // A bucket has no disk, and is not listed to learn that again.
            let fresh =
                |last: &&Measured| last.view.total_bytes.is_none() || last.at.elapsed() < FRESH_ENOUGH;
            last.as_ref().filter(fresh).map(|last| last.view.clone())
        };
        let view = match known {
            Some(view) => view,
            None => match self.look(app).await {
                Ok(view) => view,
                Err(error) => {
                    tracing::debug!(error = %telemetry::chain(&error), "volume cannot be measured");
                    return None;
                }
            },
        };
        view.free_bytes.zip(view.total_bytes)
    }

    /// Measures anew next time.
    pub(crate) async fn forget(&self) {
        *self.last.lock().await = None;
    }
}
