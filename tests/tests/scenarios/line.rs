//! Two routes each way and a mirror at work at once, over a line that fails in every way, between sites that are killed.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use broker::{Broker, TopicSpec};
use e2e::catalogue::Catalogue;
use e2e::installation::{Installation, Plan, Shape, engine};
use e2e::load::{self, Load};
use e2e::process::{Process, program};
use e2e::site::Site;
use e2e::storm::{Fault, Storm, strike};
use e2e::under_way::{Count, End, UnderWay};
use e2e::{faults, pair, scenario};
use testkit::proxy::Conditions;

const LIMIT: Duration = Duration::from_secs(300);
const QUIET: Duration = Duration::from_secs(10);
/// A long poll, the patience of whoever waits for its answer, and connecting again.
const DEAD: Duration = Duration::from_secs(120);
const EDGE: &str = "edge-1";
/// Records that go into each of a small edge's topics while it lies dead, for nobody else may write to them: over its line
/// they are under way until about the next time.
const FILLING: usize = 2000;
/// What that line takes up in a second, in bytes.
const THIN: u64 = 40_000;
/// Assets that are asked for, half of them while faults come: more to copy than there is time for before the last fault.
const ASSETS: usize = 20;
const EARLY: usize = ASSETS / 2;

/// What is carried each way: its names where it is written, and where it arrives.
const DOWN: [(&str, &str); 3] = [
    ("news", "news"),
    ("edge-1.orders", "orders"),
    ("edge-1.ASSET_RESPONSE", "ASSET_RESPONSE"),
];
const UP: [(&str, &str); 4] = [
    ("readings", "edge-1.readings"),
    ("events", "edge-1.events"),
    ("ASSET_REQUEST", "edge-1.ASSET_REQUEST"),
    ("ASSET_RECEIPT", "edge-1.ASSET_RECEIPT"),
];

/// How many faults: `FIELDLINE_FAULTS`, or 20.
fn count() -> usize {
    std::env::var_os("FIELDLINE_FAULTS")
        .and_then(|text| text.to_str()?.parse().ok())
        .unwrap_or(20)
}

/// The topics of the routes under test, by their names where they are written.
fn at_core() -> Vec<String> {
    vec!["news".into(), format!("{EDGE}.orders")]
}

fn at_edge() -> Vec<String> {
    vec!["readings".into(), "events".into()]
}

fn routes() -> String {
    pair::route("news", "down", "news", "same")
        + &pair::route("orders", "down", "orders", "strip")
        + &pair::route("readings", "up", "readings", "prefix")
        + &pair::route("events", "up", "events", "prefix")
}

async fn make(broker: &Broker, topics: &[String]) -> Result<()> {
    for topic in topics {
        broker.create_topic(&TopicSpec::new(topic, 3)).await?;
    }
    Ok(())
}

/// Who counts what faults meet on its way, from now on.
async fn watch(installation: &Installation, core: &str, edge: &str) -> Result<UnderWay> {
    let far: Vec<String> = at_edge().iter().map(|topic| format!("{EDGE}.{topic}")).collect();
    let near = vec!["news".to_owned(), "orders".to_owned()];
    let (from, to) = if edge.starts_with("sqlite") {
        (End::Filled(0), End::Site(installation.edges[0].clone(), near))
    } else {
        let from = Count::start(edge, &at_edge()).await?;
        (End::Broker(from), End::Broker(Count::start(edge, &near).await?))
    };
    let up = [from, End::Broker(Count::start(core, &far).await?)];
    let down = [End::Broker(Count::start(core, &at_core()).await?), to];
    Ok(UnderWay::new(up, down, &installation.edge_volumes[0]))
}

async fn survives(shape: Shape) -> Result<()> {
    let (seed, count) = (faults::seed(), count());
    println!("FIELDLINE_SEED={seed} FIELDLINE_FAULTS={count}");
    let directory = e2e::kept_on_failure()?;
    let path = directory.path().to_owned();
    let small = shape == Shape::SmallEdges;
    // What the mirror's line takes in a second, in bytes: one copy after the other, or several at once.
    let files = if small { 50_000 } else { 160_000 };
    let size = files * (120 + 6 * count) / ASSETS;
    let catalogue = Catalogue::heavy(&path, 30, 24, 100, size).await?;
    let plan = Plan {
        catalogue: &catalogue,
        batch: 10,
        interval: "200ms",
        edges: 1,
    };
    let mut installation = Installation::start(shape, &path, &plan).await?;
    scenario::all_is_known(&installation, &catalogue, LIMIT).await?;
    installation.of(EDGE).for_each(Process::kill);
    let lines = pair::lay_lines(&path, EDGE, &routes(), seed).await?;
    lines[0].change(|line| line.up.rate = small.then_some(THIN));
    lines[1].change(|line| line.down.rate = Some(files as u64));
    let core_url = engine("KAFKA_URL")?;
    let edge_url = pair::edge_broker(shape, &path, EDGE)?;
    {
        let (core, edge) = (
            pair::open(&core_url, "core").await?,
            pair::open(&edge_url, "edge").await?,
        );
        make(&core, &at_core()).await?;
        let arriving: Vec<String> = at_edge().iter().map(|topic| format!("{EDGE}.{topic}")).collect();
        make(&core, &arriving).await?;
        make(&edge, &at_edge()).await?;
        load::fill(&edge, &at_edge(), 2 * FILLING, seed).await?;
    }
    let mut filled = 2 * FILLING * at_edge().len();
    if small {
        pair::let_go(&path, EDGE, LIMIT).await?;
    }
    installation.of(EDGE).try_for_each(Process::again)?;
    installation.answers(LIMIT).await?;

    let mut loads = vec![Load::start(&core_url, at_core(), seed ^ 2).await?];
    if !small {
        loads.push(Load::start(&edge_url, at_edge(), seed ^ 3).await?);
    }
    let mut ids: Vec<String> = installation.edges[0]
        .assets()
        .await?
        .iter()
        .filter_map(|asset| asset["asset_id"].as_str().map(str::to_owned))
        .collect();
    ids.sort();
    ids.truncate(ASSETS);
    for id in &ids[..EARLY] {
        installation.edges[0].ask(id, "request").await?;
    }
    scenario::answered(&installation, &[ids[..EARLY].to_vec()], LIMIT).await?;
    let mut asked = EARLY;
    let mut storm = if small {
        Storm::new(seed, &[EDGE, "core.depot"], &["core"])
    } else {
        let services = ["edge-1.link", "edge-1.mirror", "core.depot"];
        Storm::new(seed, &services, &["core", "edge"])
    };
    let mut under_way = watch(&installation, &core_url, &edge_url).await?;
    under_way.filled(filled);
    let mut dirty = 0;
    for number in 1..=count {
        // One after the other, so that the mirror has something to do to the end.
        let due = ids[asked..EARLY + (number * (ASSETS - EARLY)).div_ceil(count)].to_vec();
        asked += due.len();
        for id in due {
            installation.edges[0].ask(&id, "request").await?;
        }
        // Told again and again: a command that came when nothing was ready yet has ended.
        let _told_later = installation.edges[0]
            .post("/api/mirror/start", serde_json::json!({}))
            .await;
        under_way.strikes().await?;
        let fault = storm.next_fault();
        dirty += usize::from(matches!(fault, Fault::Dirty(_)));
        println!("fault {number} of {count}: {fault:?}");
        if small && fault == Fault::Process(EDGE.to_owned()) {
            installation.process(EDGE)?.kill();
            let edge = pair::open(&edge_url, "edge").await?;
            load::fill(&edge, &at_edge(), FILLING, seed + number as u64).await?;
            filled += FILLING * at_edge().len();
            under_way.filled(FILLING * at_edge().len());
            drop(edge);
            pair::let_go(&path, EDGE, LIMIT).await?;
            installation.process(EDGE)?.again()?;
        } else {
            strike(&fault, &lines, &mut installation).await?;
        }
        tokio::time::sleep(storm.pause()).await;
        installation.nothing_has_ended()?;
    }
    let enough = under_way.enough().await;
    println!("{under_way}");
    enough?;
    let carried = lines.iter().map(testkit::proxy::Proxy::carried);
    let (cut, flipped) = carried.fold((0, 0), |sum, of| (sum.0 + of.cut, sum.1 + of.flipped));
    println!("{cut} connections were cut, and {flipped} bits flipped");
    // One that is ordered waits for its byte, and may find none before the next one.
    ensure!(
        usize::try_from(cut)? * 20 >= count,
        "{cut} connections were cut in {count} faults"
    );
    // A line may have nothing to carry once.
    ensure!(dirty < 2 || flipped > 0, "no bit was flipped in {dirty} faults");
    for load in loads {
        load.stop().await;
    }
    for line in &lines {
        line.set(Conditions::default());
    }
    installation.answers(LIMIT).await?;
    let asked = vec![ids];
    scenario::answered(&installation, &asked, LIMIT).await?;
    scenario::mirror(&installation, &asked, LIMIT).await?;
    scenario::all_is_right(&installation, &catalogue, &asked).await?;
    let pipeline = scenario::pipeline(&installation.core).await?;
    let hashes: Vec<&str> = asked[0]
        .iter()
        .filter_map(|id| pipeline.get(id)?["hash"].as_str())
        .collect();
    ensure!(hashes.len() == ASSETS, "{} assets have a hash", hashes.len());

    if small {
        // The embedded broker can be read when its process has ended; so all must have been carried before.
        settled(&core_url, &installation.edges[0], filled).await?;
        installation.process(EDGE)?.stop(Duration::from_secs(60)).await?;
    }
    check(&core_url, &edge_url, &DOWN, &[], &[])?;
    let volumes = &installation.edge_volumes;
    check(&edge_url, &core_url, &UP, volumes, &hashes)?;
    installation.keeps(directory);
    installation.stop().await
}

/// How many records each site lacks: the edge of those that the core has for it, the core of those that the edge was filled
/// with.
async fn behind(core: &Broker, edge: &Site, filled: i64) -> Result<(i64, i64)> {
    let (mut down, mut up) = (0, filled);
    for (from, to) in DOWN {
        core.read_to_end(from, |_| down += 1).await?;
        down -= edge.length(to).await?;
    }
    for topic in at_edge() {
        core.read_to_end(&format!("{EDGE}.{topic}"), |_| up -= 1).await?;
    }
    Ok((down, up))
}

/// Waits until both sites have what is for them, and nothing more arrives; or for as long as it may take to notice that
/// a connection on which nothing is said is dead.
async fn settled(core: &str, edge: &Site, filled: usize) -> Result<()> {
    let core = pair::open(core, "core").await?;
    let filled = i64::try_from(filled)?;
    let mut before = (i64::MAX, i64::MAX);
    let mut since = Instant::now();
    let mut wanted = DEAD;
    while since.elapsed() < wanted {
        let now = behind(&core, edge, filled).await?;
        wanted = if now.0 > 0 || now.1 > 0 { DEAD } else { QUIET };
        if now != before {
            (before, since) = (now, Instant::now());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// By a program of its own, which reads brokers and volumes only.
fn check(
    source: &str,
    destination: &str,
    topics: &[(&str, &str)],
    volumes: &[PathBuf],
    hashes: &[&str],
) -> Result<()> {
    let mut command = Command::new(program("check-carried")?);
    let wait = if source.starts_with("kafka") && destination.starts_with("kafka") {
        "120"
    } else {
        "0"
    };
    command.args(["--source", source, "--destination", destination, "--wait", wait]);
    for (from, to) in topics {
        command.args(["--topic", &format!("{from}={to}")]);
    }
    for volume in volumes {
        command.arg("--volume").arg(volume);
    }
    for hash in hashes {
        command.args(["--hash", hash]);
    }
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    ensure!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn all_is_carried_once_over_a_line_that_fails_between_two_kafkas() -> Result<()> {
    survives(Shape::EachService).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn all_is_carried_once_over_a_line_that_fails_from_a_small_edge() -> Result<()> {
    survives(Shape::SmallEdges).await
}
