//! A link and a mirror that goes through its door have one budget: what both put on two lines together is what it allows.
//!
//! The bytes are counted by a proxy and on the disk, so by neither of those who are judged.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::catalogue::Catalogue;
use e2e::installation::{Installation, Plan, Shape, engine};
use e2e::process::Process;
use e2e::site::eventually;
use e2e::{load, pair, scenario};
use serde_json::{Value, json};
use testkit::proxy::Proxy;

const LIMIT: Duration = Duration::from_secs(180);
const EDGE: &str = "edge-1";
/// Bytes per second.
const CAP: u64 = 60_000;
const WINDOW: Duration = Duration::from_secs(40);
const ALONE: Duration = Duration::from_secs(15);
/// Assets of this size, and records of more than that: more than crosses while it is looked at.
const ASSETS: usize = 4;
const SIZE: usize = 900_000;
const RECORDS: usize = 40_000;

/// What arrives in a time: records at the line to the core, files in the edge's volume, for what lies in the buffers of a line that
/// comes down is counted there before it has crossed.
async fn arriving(lines: &[Proxy; 2], volume: &Path, time: Duration) -> (u64, u64) {
    let files = || {
        testkit::files(volume)
            .iter()
            .filter_map(|file| file.metadata().ok())
            .map(|file| file.len())
            .sum::<u64>()
    };
    let before = (lines[0].carried(), files());
    tokio::time::sleep(time).await;
    (
        lines[0].carried().since(&before.0).bytes(),
        files().saturating_sub(before.1),
    )
}

/// What crossed while both records and files wait.
#[derive(Debug)]
struct Shares {
    records: u64,
    /// In chunks of 64 KiB.
    files: u64,
    of_cap: f64,
    /// Records, of what they have while no file may cross.
    of_alone: f64,
}

impl Shares {
    /// While records wait for an answer, files have the line: how much that is, the brokers' speed decides. What it takes from
    /// records is their share, and what is on its way when records go on.
    fn right(&self) -> bool {
        (0.85..=1.06).contains(&self.of_cap)
            && self.of_alone > 0.85
            && self.records > 2 * self.files
            && self.files > 0
    }
}

async fn set(installation: &Installation, what: Value) -> Result<()> {
    installation.edges[0].post("/api/link", what).await?;
    // A change takes effect within a second.
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(())
}

async fn share_one_cap(shape: Shape) -> Result<()> {
    let directory = e2e::kept_on_failure()?;
    let path = directory.path().to_owned();
    let catalogue = Catalogue::heavy(&path, ASSETS, ASSETS, 100, SIZE).await?;
    let plan = Plan {
        catalogue: &catalogue,
        batch: 10,
        interval: "200ms",
        edges: 1,
    };
    let mut installation = Installation::start(shape, &path, &plan).await?;
    scenario::all_is_known(&installation, &catalogue, LIMIT).await?;
    // Set before there is anything to carry; it stays set when the edge starts again.
    set(&installation, json!({"budget": {"cap": format!("{CAP}B")}})).await?;
    installation.of(EDGE).for_each(Process::kill);
    let routes = pair::route("readings", "up", "readings", "prefix");
    let lines = pair::lay_lines(&path, EDGE, &routes, 1).await?;
    let small = shape == Shape::SmallEdges;
    let edge = pair::open(&pair::edge_broker(shape, &path, EDGE)?, "edge").await?;
    let core = pair::open(&engine("KAFKA_URL")?, "core").await?;
    let topics = ["readings".to_owned()];
    for (broker, name) in [
        (&edge, "readings".to_owned()),
        (&core, format!("{EDGE}.readings")),
    ] {
        broker.create_topic(&broker::TopicSpec::new(&name, 3)).await?;
    }
    load::fill(&edge, &topics, RECORDS, 1).await?;
    drop(edge);
    if small {
        pair::let_go(&path, EDGE, LIMIT).await?;
    }
    installation.of(EDGE).try_for_each(Process::again)?;
    installation.answers(LIMIT).await?;
    let asked = scenario::request(&installation).await?;
    scenario::answered(&installation, &asked, LIMIT).await?;
    installation.edges[0].ask_mirror().await?;
    eventually(LIMIT, "both are under way", || async {
        let (records, files) = (lines[0].carried().up, lines[1].carried().down);
        ensure!(records > 100_000 && files > 10_000, "{records} and {files} bytes");
        Ok(())
    })
    .await?;
    let volume = installation.edge_volumes[0].clone();

    set(&installation, json!({"budget": {"metered": true}})).await?;
    let before = lines[1].carried();
    let (alone, _) = arriving(&lines, &volume, ALONE).await;
    let files = lines[1].carried().since(&before).bytes();
    println!("metered: {alone} bytes of records and {files} of files");
    ensure!(files < 2_000, "{files} bytes of files cross a metered link");
    ensure!(
        alone > CAP * ALONE.as_secs() / 5,
        "{alone} bytes of records on a metered link"
    );
    set(&installation, json!({"budget": {"metered": false}})).await?;

    let once = async || {
        let (records, files) = arriving(&lines, &volume, WINDOW).await;
        Shares {
            records,
            files,
            of_cap: (records + files) as f64 / (CAP * WINDOW.as_secs()) as f64,
            of_alone: records as f64 / WINDOW.as_secs_f64() / (alone as f64 / ALONE.as_secs_f64()),
        }
    };
    testkit::tried(2, once, Shares::right).await;

    set(
        &installation,
        json!({"as_configured": ["budget/metered", "budget/cap"]}),
    )
    .await?;
    scenario::mirror(&installation, &asked, LIMIT).await?;
    scenario::all_is_right(&installation, &catalogue, &asked).await?;
    installation.keeps(directory);
    installation.stop().await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn files_and_records_share_one_cap_and_what_goes_first_does() -> Result<()> {
    share_one_cap(Shape::EachService).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn files_and_records_of_a_small_edge_share_one_cap() -> Result<()> {
    share_one_cap(Shape::SmallEdges).await
}
