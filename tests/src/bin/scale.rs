//! Runs one real core with more and more small edges, and prints what each further edge costs the core.
//!
//! Every edge is one process on embedded engines; the core's services are processes of their own on real Kafka and
//! Cassandra. Measured while all is quiet, which is how most edges are most of the time, and over a burst of assets.

#![expect(clippy::print_stdout, reason = "the table is its result")]

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use e2e::catalogue::Catalogue;
use e2e::installation::{Installation, Plan, Shape, engine};
use e2e::process::{Usage, usage};
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
    /// How long the quiet time is measured, in seconds.
    #[arg(long, default_value_t = 60)]
    quiet: u64,
    /// How long a run may take until every edge knows everything, in seconds.
    #[arg(long, default_value_t = 600)]
    limit: u64,
}

/// One run's figures for one process of the core.
struct Row {
    edges: usize,
    process: String,
    quiet_cores: f64,
    burst_seconds: f64,
    resident_bytes: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let mut rows = Vec::new();
    for edges in &cli.edges {
        rows.extend(run(*edges, &cli).await?);
    }
    print(&rows, &cli);
    Ok(())
}

async fn run(edges: usize, cli: &Cli) -> Result<Vec<Row>> {
    let directory = tempfile::tempdir()?;
    let catalogue = Catalogue::made(directory.path(), cli.assets, cli.assets, 8).await?;
    let plan = Plan {
        catalogue: &catalogue,
        batch: 100,
        interval: "200ms",
        edges,
    };
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
    let before = read(&installation)?;
    tokio::time::sleep(Duration::from_secs(cli.quiet)).await;
    let after = read(&installation)?;
    println!(
        "{edges} edges: all knew {} assets {:.0} s after the last of them was up; then quiet for {} s",
        cli.assets,
        took.as_secs_f64(),
        cli.quiet
    );
    let rows = before
        .into_iter()
        .zip(after)
        .map(|((process, then), (_, now))| Row {
            edges,
            process,
            quiet_cores: (now.cpu_seconds - then.cpu_seconds) / cli.quiet as f64,
            burst_seconds: then.cpu_seconds,
            resident_bytes: now.resident_bytes,
        });
    let rows = rows.collect();
    installation.stop().await?;
    Ok(rows)
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
    for name in ["core", "cassandra"] {
        let file = Path::new(&engine("ENGINES_DIR")?).join(name).join("pid");
        let pid = std::fs::read_to_string(&file)
            .with_context(|| format!("cannot read {}", file.display()))?
            .trim()
            .parse()?;
        let shown = if name == "core" { "kafka" } else { name };
        all.push((shown.to_owned(), usage(pid)?));
    }
    all.push(("all edges".to_owned(), edges));
    Ok(all)
}

fn print(rows: &[Row], cli: &Cli) {
    let mebi = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "\n{:<18} {:>6} {:>14} {:>12} {:>10}",
        "process", "edges", "quiet, cores", "CPU-s before", "MiB"
    );
    let mut names: Vec<&str> = Vec::new();
    for row in rows {
        if !names.contains(&row.process.as_str()) {
            names.push(&row.process);
        }
    }
    for name in names {
        let own: Vec<&Row> = rows.iter().filter(|row| row.process == name).collect();
        for row in &own {
            println!(
                "{name:<18} {:>6} {:>14.4} {:>12.1} {:>10.1}",
                row.edges,
                row.quiet_cores,
                row.burst_seconds,
                mebi(row.resident_bytes)
            );
        }
        if let (Some(first), Some(last)) = (own.first(), own.last())
            && last.edges > first.edges
        {
            let more = (last.edges - first.edges) as f64;
            println!(
                "{:<18} {:>6} {:>14.4} {:>12.2} {:>10.2}",
                "  each further edge",
                "",
                (last.quiet_cores - first.quiet_cores) / more,
                (last.burst_seconds - first.burst_seconds) / more,
                (mebi(last.resident_bytes) - mebi(first.resident_bytes)) / more
            );
        }
    }
    println!(
        "\nCPU-s before: since the process began, {} assets to every edge included",
        cli.assets
    );
}
