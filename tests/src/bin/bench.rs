//! Sends small assets through the exchange and prints what each process used for it.

#![expect(clippy::print_stdout, reason = "the table is its result")]

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use e2e::catalogue::Catalogue;
use e2e::installation::{Installation, Plan, Shape};
use e2e::scenario;
use e2e::site::eventually;

/// Measures the asset exchange.
#[derive(Debug, Parser)]
struct Cli {
    /// How many assets, each a picture of a few hundred bytes.
    #[arg(long, default_value_t = 10_000)]
    assets: usize,
    /// On real Kafka and Cassandra, each service its own process, instead of embedded engines.
    #[arg(long)]
    engines: bool,
    /// How long it may take, in seconds.
    #[arg(long, default_value_t = 900)]
    limit: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let shapes: &[Shape] = if cli.engines {
        &[Shape::SmallEdges, Shape::EachService]
    } else {
        &[Shape::OneProcess]
    };
    for shape in shapes {
        run(*shape, &cli).await?;
    }
    Ok(())
}

async fn run(shape: Shape, cli: &Cli) -> Result<()> {
    let limit = Duration::from_secs(cli.limit);
    let directory = tempfile::tempdir()?;
    let catalogue = Catalogue::made(directory.path(), cli.assets, cli.assets, 8).await?;
    let payload: usize = catalogue.pictures.values().map(Vec::len).sum();
    let plan = Plan {
        catalogue: &catalogue,
        batch: 500,
        interval: "50ms",
        edges: 1,
    };
    let began = Instant::now();
    let mut installation = Installation::start(shape, directory.path(), &plan).await?;
    let wanted = u64::try_from(cli.assets)?;
    for edge in &installation.edges {
        eventually(limit, "the edge knows every asset", || async {
            let known = edge.total().await?;
            ensure!(known == wanted, "{} knows {known} of {wanted}", edge.name);
            Ok(())
        })
        .await?;
    }
    let took = began.elapsed().as_secs_f64();
    let asked = scenario::request(&installation).await?;
    scenario::answered(&installation, &asked, limit).await?;
    scenario::mirror(&installation, &asked, limit).await?;
    installation.nothing_has_ended()?;

    println!(
        "\n{shape:?}: {wanted} assets of {} bytes, {} edge",
        payload / cli.assets,
        installation.edges.len()
    );
    println!(
        "{:.0} assets/s from the first announcement until the edge knew all",
        f64::from(u32::try_from(wanted)?) / took
    );
    println!(
        "{:<22} {:>14} {:>10} {:>10} {:>12}",
        "process", "CPU-s/1,000", "peak MiB", "now MiB", "I/O MiB"
    );
    let mebi = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let mut sum = 0.0;
    for process in &installation.processes {
        let used = process.usage();
        let each = used.cpu_seconds * 1000.0 / wanted as f64;
        sum += each;
        println!(
            "{:<22} {each:>14.3} {:>10.1} {:>10.1} {:>12.1}",
            process.name,
            mebi(used.peak_bytes),
            mebi(used.resident_bytes),
            mebi(used.io_bytes)
        );
    }
    println!("{:<22} {sum:>14.3}", "all");
    installation.stop().await
}
