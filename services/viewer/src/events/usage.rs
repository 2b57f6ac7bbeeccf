//! What the volume takes, measured now and then and kept, since counting reads the whole directory.

use std::time::Duration;

use common::chassis::now_ms;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::app::App;
use crate::problem::Result;

/// How old a measurement may be.
const FRESH: Duration = Duration::from_secs(15);

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
    /// What the volume may take; null without a limit.
    quota_bytes: Option<u64>,
    /// When it was measured.
    as_of: i64,
}

/// The last measurement.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    last: Mutex<Option<(Instant, UsageView)>>,
}

impl Usage {
    /// Measures, if the last time is too long ago. Who comes meanwhile waits for the same.
    pub(crate) async fn look(&self, app: &App) -> Result<UsageView> {
        let mut last = self.last.lock().await;
        if let Some((at, view)) = &*last
            && at.elapsed() < FRESH
        {
            return Ok(view.clone());
        }
        let usage = app.volume.usage().await?;
        let view = UsageView {
            used_bytes: usage.bytes,
            objects: usage.objects,
            free_bytes: usage.free,
            total_bytes: usage.total,
            quota_bytes: None,
            as_of: now_ms(),
        };
        *last = Some((Instant::now(), view.clone()));
        Ok(view)
    }

    /// Measures anew next time.
    pub(crate) async fn forget(&self) {
        *self.last.lock().await = None;
    }
}
