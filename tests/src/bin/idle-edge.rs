//! What an edge with its link up and nothing to say moves: all of its services together, both lines counted.
//!
//! Started by `make idle`.

#![expect(clippy::print_stdout, reason = "what it prints is its result")]

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use e2e::catalogue::Catalogue;
use e2e::installation::{Installation, Plan, Shape};
use e2e::{pair, scenario};
use testkit::Machine;

const EDGE: &str = "edge-1";
const LIMIT: Duration = Duration::from_secs(300);

/// Watches an idle edge.
#[derive(Debug, Parser)]
struct Cli {
    /// How long: what an edge does each quarter of an hour, and what brokers end after ten minutes, is in it twice.
    #[arg(long, default_value_t = 1800)]
    seconds: u64,
    /// How long it is let come to rest before.
    #[arg(long, default_value_t = 60)]
    rest: u64,
    /// Each service its own process, on Kafka and Cassandra, instead of one process on embedded engines.
    #[arg(long)]
    services: bool,
    /// Fail when it would be more than so many bytes a day.
    #[arg(long)]
    most: Option<u64>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let directory = e2e::kept_on_failure()?;
    let catalogue = Catalogue::made(directory.path(), 12, 12, 100).await?;
    let plan = Plan {
        catalogue: &catalogue,
        batch: 12,
        // Each time some of them are announced; then there are no more.
        interval: "1s",
        edges: 1,
    };
    let shape = if cli.services {
        Shape::EachService
    } else {
        Shape::SmallEdges
    };
    let mut installation = Installation::start(shape, directory.path(), &plan).await?;
    scenario::all_is_known(&installation, &catalogue, LIMIT).await?;
    let lines = pair::lay_lines(directory.path(), EDGE, "", 1).await?;
    for process in installation.of(EDGE) {
        process.stop(Duration::from_secs(60)).await?;
        process.again()?;
    }
    installation.answers(LIMIT).await?;
    tokio::time::sleep(Duration::from_secs(cli.rest)).await;
    let machine = Machine::now();
    let before: Vec<_> = lines.iter().map(|line| line.carried()).collect();
    tokio::time::sleep(Duration::from_secs(cli.seconds)).await;
    let mut day = 0;
    for ((line, before), name) in lines.iter().zip(&before).zip(["core's broker", "depot"]) {
        let carried = line.carried().since(before);
        let daily = carried.bytes() * 86_400 / cli.seconds;
        println!(
            "{name}: {} B up, {} B down in {} s, {} pieces, {} connections: {:.2} MB a day",
            carried.up,
            carried.down,
            cli.seconds,
            carried.pieces,
            carried.connections,
            daily as f64 / 1e6
        );
        day += daily;
    }
    println!(
        "{shape:?}: {:.2} MB a day, as TCP carries it with TLS; other machines had {:.0} % of the processors' time",
        day as f64 / 1e6,
        machine.others()
    );
    installation.nothing_has_ended()?;
    installation.keeps(directory);
    installation.stop().await?;
    ensure!(cli.most.is_none_or(|most| day <= most), "more than asked for");
    Ok(())
}
