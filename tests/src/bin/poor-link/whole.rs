//! As the whole link, from an edge on an embedded broker or on Kafka.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use broker::{Broker, Outgoing};
use e2e::installation::engine;
use e2e::pair;
use e2e::process::Process;
use schemas::{SiteId, at_core};
use tokio::time::Instant;

use crate::Line;

/// Which edge, and which link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edge<'a> {
    /// On Kafka, not embedded.
    pub(crate) kafka: bool,
    /// The link's program, if not the one that was built beside this.
    pub(crate) link: Option<&'a Path>,
}

/// A link at work between an edge of its own and the core.
struct Whole {
    process: Process,
    news: String,
    readings: String,
    /// Where they arrive.
    carried: String,
    /// The edge's broker, if others may look into it.
    edge: Option<Broker>,
    _directory: tempfile::TempDir,
}

impl Whole {
    /// Starts with so many records waiting each way.
    async fn start(line: &mut Line, edge: Edge<'_>, waiting: usize) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let site: SiteId = testkit::unique("edge").parse().context("no site's name")?;
        let url = if edge.kafka {
            engine("KAFKA_EDGE_URL")?
        } else {
            testkit::sqlite(directory.path(), "broker.db")
        };
        let (news, readings) = (testkit::unique("news"), testkit::unique("readings"));
        let carried = at_core(&site, &readings);
        // An embedded broker serves one process: what it is to have must be there before the link.
        let broker = pair::open(&url, "edge").await?;
        pair::enrol(&site, &line.near, &broker, &[&news, &carried], &[&readings], 3).await?;
        line.fill(&news, waiting).await?;
        let records = line.records(&readings, waiting);
        broker.producer()?.send_all(records).await?;
        let routes =
            pair::route("news", "down", &news, "same") + &pair::route("readings", "up", &readings, "prefix");
        let kept = edge.kafka.then_some(broker);
        let settings = pair::settings(&site, &url, &line.far, "", &routes);
        let process = pair::start_link(&settings, directory.path(), edge.link)?;
        Ok(Self {
            process,
            news,
            readings,
            carried,
            edge: kept,
            _directory: directory,
        })
    }

    async fn stop(mut self) -> Result<()> {
        if let Some(ended) = self.process.ended() {
            bail!("{ended}\n{}", self.process.last_lines(10));
        }
        self.process.stop(Duration::from_secs(30)).await
    }
}

/// The link with nothing to do, and with a record a second down.
pub(crate) async fn idle(line: &mut Line, time: Duration, edge: Edge<'_>) -> Result<()> {
    let whole = Whole::start(line, edge, 1).await?;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let waiting = async {
        tokio::time::sleep(time).await;
        Ok(())
    };
    line.watch("idle link", waiting).await?;
    let producer = line.near.producer()?;
    let steady = async {
        for number in 0..time.as_secs() {
            let record = Outgoing::new(&whole.news, number.to_string(), vec![7; crate::VALUE]);
            producer.send(record).await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    };
    line.watch("link with a record a second down", steady).await?;
    whole.stop().await
}

/// 3,000 records waiting each way, over the poor line.
pub(crate) async fn backlog(line: &mut Line, edge: Edge<'_>) -> Result<()> {
    let count = 3000;
    line.poor();
    let whole = Whole::start(line, edge, count).await?;
    let (before, began) = (line.proxy.carried(), Instant::now());
    line.frames.take();
    // Markers of transactions are counted in the ends, so the end is when nothing more comes.
    let (mut came, mut last) = ((0, 0), Instant::now());
    while began.elapsed() < Duration::from_secs(400) {
        let up = arrived(&line.near, &whole.carried).await;
        let down = match &whole.edge {
            Some(edge) => arrived(edge, &whole.news).await,
            None => 0,
        };
        if (up, down) != came {
            came = (up, down);
            last = Instant::now();
        }
        let all = i64::try_from(count)?;
        let enough = up >= all && (whole.edge.is_none() || down >= all);
        if enough && last.elapsed() > Duration::from_secs(20) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let carried = line.proxy.carried().since(&before);
    println!(
        "{count} records of {} and as many of {}: offsets reached {} up and {} down after {:.0} s; {} B up, {} B down{}",
        whole.readings,
        whole.news,
        came.0,
        came.1,
        (last - began).as_secs_f64(),
        carried.up,
        carried.down,
        if whole.edge.is_some() {
            ""
        } else {
            " (down is not looked at)"
        }
    );
    print!("{}", line.frames.table(8));
    whole.stop().await
}

async fn arrived(broker: &Broker, topic: &str) -> i64 {
    let mut sum = 0;
    for partition in 0..3 {
        // The link makes the topic when it gets there.
        sum += broker
            .watermarks(topic, partition)
            .await
            .map_or(0, |marks| marks.high);
    }
    sum
}
