//! Runs one real core with more and more small edges, and prints what each further edge costs the core.
//!
//! Every edge is one process on embedded engines; the core's services are processes of their own on real Kafka and
//! Cassandra. Measured while all is quiet, which is how most edges are most of the time, and over a burst of assets.

#![expect(clippy::print_stdout, reason = "the table is its result")]

mod table;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use e2e::catalogue::Catalogue;
use e2e::installation::{Installation, Plan, Shape, engine};
use e2e::process::{Usage, connections_to, usage};
use e2e::site::eventually;

/// Measures what an edge costs the core.
#[derive(Debug, Parser)]
struct Cli {
    /// How many edges, one run for each number.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 25, 50])]
    edges: Vec<usize>,
    /// How many assets each edge hears of.
    #[arg(long, default_value_t = 500)]
    assets: usize,
    /// How long it is waited after that, for what is still on its way and for retries, in seconds.
    #[arg(long, default_value_t = 20)]
    settle: u64,
    /// How long the quiet time is measured, in seconds.
    #[arg(long, default_value_t = 60)]
    quiet: u64,
    /// How long a run may take until every edge knows everything, in seconds.
    #[arg(long, default_value_t = 600)]
    limit: u64,
}

/// One run's figures.
struct Round {
    edges: usize,
    /// Until every edge knew everything.
    took: Duration,
    rows: Vec<Row>,
    /// The edges' to the core's broker, when all knew everything and at the end of the quiet time.
    connections: [usize; 2],
}

/// Those of one process.
struct Row {
    process: String,
    quiet_cores: f64,
    burst_seconds: f64,
    resident_bytes: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let mut rounds = Vec::new();
    let mut outcome = Ok(());
    for edges in &cli.edges {
        match run(*edges, &cli).await {
            Ok(round) => rounds.push(round),
            // What was measured before is told all the same.
            Err(error) => {
                outcome = Err(error.context(format!("with {edges} edges")));
                break;
            }
        }
    }
    println!("{}", table::processes(&rounds, cli.assets));
    println!("{}", table::for_the_document(&rounds, cli.assets)?);
    outcome
}

async fn run(edges: usize, cli: &Cli) -> Result<Round> {
    let directory = tempfile::tempdir()?;
    let catalogue = Catalogue::made(directory.path(), cli.assets, cli.assets, 8).await?;
    let plan = Plan {
        catalogue: &catalogue,
        batch: 100,
        interval: "200ms",
        edges,
    };
    // The node goes on from run to run; the broker is a new one each time.
    let spent = engine_usage("cassandra")?.cpu_seconds;
    println!("{edges} edges: starting");
    let installation = Installation::start(Shape::SmallEdges, directory.path(), &plan).await?;
    let began = Instant::now();
    for edge in &installation.edges {
        let what = format!("{} knows every asset", edge.name);
        eventually(Duration::from_secs(cli.limit), &what, || async {
            let known = edge.total().await?;
            ensure!(known == cli.assets as u64, "{known} of {}", cli.assets);
            Ok(())
        })
        .await?;
    }
    let took = began.elapsed();
    println!(
        "{edges} edges: all knew {} assets {:.0} s after the last of them was up; now quiet for {} s, the first {} not counted",
        cli.assets,
        took.as_secs_f64(),
        cli.settle + cli.quiet,
        cli.settle
    );
    let burst = read(&installation)?;
    let begun = connections()?;
    tokio::time::sleep(Duration::from_secs(cli.settle)).await;
    let before = read(&installation)?;
    tokio::time::sleep(Duration::from_secs(cli.quiet)).await;
    let after = read(&installation)?;
    let rows = burst
        .into_iter()
        .zip(before)
        .zip(after)
        .map(|(((process, burst), (_, then)), (_, now))| Row {
            quiet_cores: (now.cpu_seconds - then.cpu_seconds) / cli.quiet as f64,
            burst_seconds: burst.cpu_seconds - if process == "cassandra" { spent } else { 0.0 },
            resident_bytes: now.resident_bytes,
            process,
        });
    let round = Round {
        edges,
        took,
        rows: rows.collect(),
        connections: [begun, connections()?],
    };
    if let Err(error) = installation.stop().await {
        println!("{edges} edges: not stopped as it should be: {error:#}");
    }
    Ok(round)
}

/// What each process of the core has used so far, its broker and its Cassandra node included, and the edges together.
fn read(installation: &Installation) -> Result<Vec<(String, Usage)>> {
    let mut all = Vec::new();
    let mut edges = Usage::default();
    for process in &installation.processes {
        let used = process.usage();
        if process.name.starts_with("core.") {
            all.push((process.name.clone(), used));
        } else {
            edges.cpu_seconds += used.cpu_seconds;
            edges.resident_bytes += used.resident_bytes;
        }
    }
    all.push(("kafka".to_owned(), engine_usage("core")?));
    all.push(("cassandra".to_owned(), engine_usage("cassandra")?));
    all.push(("all edges".to_owned(), edges));
    Ok(all)
}

/// Nobody but edges comes to the core's broker with a certificate.
fn connections() -> Result<usize> {
    let url = engine("KAFKA_TLS_URL")?;
    let port = url.rsplit(':').next().unwrap_or_default();
    connections_to(port.parse().context("KAFKA_TLS_URL")?)
}

fn engine_usage(name: &str) -> Result<Usage> {
    let file = Path::new(&engine("ENGINES_DIR")?).join(name).join("pid");
    let pid = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    usage(pid.trim().parse()?)
}
