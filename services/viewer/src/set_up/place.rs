//! Where the site keeps its enrolment.

use std::path::Path;
use std::time::UNIX_EPOCH;

use common::identity::{self, Enrolment};
use common::schemas::SiteId;
use common::telemetry;

/// What lies there.
#[derive(Debug)]
pub(crate) enum Kept {
    /// No file.
    Nothing,
    /// This site's enrolment, since then.
    Enrolment(Box<Enrolment>, Option<i64>),
    /// Something else, and why it is of no use.
    Unusable(String),
}

/// Looks.
pub(crate) async fn look(path: &Path, site: &SiteId) -> Kept {
    let (path, site) = (path.to_owned(), site.clone());
    let look = move || match Enrolment::read(&path) {
        Ok(None) => Kept::Nothing,
        Ok(Some(found)) if *found.site() == site => {
            let since = std::fs::metadata(&path).and_then(|about| about.modified()).ok();
            let since = since.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            Kept::Enrolment(
                Box::new(found),
                since.and_then(|at| i64::try_from(at.as_millis()).ok()),
            )
        }
        Ok(Some(found)) => Kept::Unusable(format!("it is the enrolment of {}", found.site())),
        Err(error) => Kept::Unusable(telemetry::chain(&error)),
    };
    tokio::task::spawn_blocking(look)
        .await
        .unwrap_or_else(|error| Kept::Unusable(error.to_string()))
}

/// Keeps an enrolment, durably and whole, in the place of an earlier one.
pub(crate) async fn keep(path: &Path, enrolment: Enrolment) -> Result<(), String> {
    let path = path.to_owned();
    let write = move || -> identity::Result<()> { enrolment.replace(&path) };
    match tokio::task::spawn_blocking(write).await {
        Ok(written) => written.map_err(|error| telemetry::chain(&error)),
        Err(error) => Err(error.to_string()),
    }
}
