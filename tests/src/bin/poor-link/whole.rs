//! As the whole link, from an embedded edge.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use broker::Outgoing;
use e2e::pair;
use schemas::SiteId;

use crate::Line;

/// The link with nothing to do, and with a record a second up.
pub(crate) async fn idle(line: &mut Line, time: Duration, binary: Option<&Path>) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let site: SiteId = testkit::unique("edge").parse().context("no site's name")?;
    // The embedded broker serves one process, so its topics are made before the link has it, and records by the core.
    let url = testkit::sqlite(directory.path(), "broker.db");
    let news = testkit::unique("news");
    {
        let edge = pair::open(&url, "edge").await?;
        pair::enrol(&site, &line.near, &edge, &[&news], &[], 3).await?;
    }
    let routes = pair::route("news", "down", &news, "same");
    let settings = pair::settings(&site, &url, &line.far, "", &routes);
    let mut process = pair::start_link(&settings, directory.path(), binary)?;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let waiting = async {
        tokio::time::sleep(time).await;
        Ok(())
    };
    line.watch("idle link", waiting).await?;
    let producer = line.near.producer()?;
    let steady = async {
        for number in 0..time.as_secs() {
            let record = Outgoing::new(&news, number.to_string(), vec![7; crate::VALUE]);
            producer.send(record).await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    };
    line.watch("link with a record a second down", steady).await?;
    if let Some(ended) = process.ended() {
        anyhow::bail!("{ended}\n{}", process.last_lines(10));
    }
    process.stop(Duration::from_secs(30)).await
}
