//! The link against MirrorMaker 2, between the same two Kafka brokers, in one run.
//!
//! Started by `make bench-link`. Both carry the same topic of incompressible 200-byte values up to the core, each run
//! under a name of its own and so from the beginning; what arrived is compared record by record outside the measured
//! time. MirrorMaker 2 is set up as deploy/engines/mirror.properties has it.

mod contender;
mod phases;
mod table;
mod watch;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use broker::TopicSpec;
use clap::Parser;
use e2e::installation::engine;
use e2e::pair;

use contender::{Contender, Setup};
use table::Figures;

/// The size of a record's value.
const VALUE: usize = 200;
const PARTITIONS: i32 = 3;

/// Measures the link against MirrorMaker 2.
#[derive(Debug, Parser)]
struct Cli {
    /// Records to be drained.
    #[arg(long, default_value_t = 2_000_000)]
    records: usize,
    /// Records per second for the delay.
    #[arg(long, default_value_t = 1000)]
    rate: u32,
    /// Seconds at that rate.
    #[arg(long, default_value_t = 30)]
    steady: u64,
    /// Seconds that the wire is watched, idle and at a record a second.
    #[arg(long, default_value_t = 120)]
    idle: u64,
    /// Seconds that the core's broker is away.
    #[arg(long, default_value_t = 60)]
    away: u64,
    /// Who takes part; ratios are to the first.
    #[arg(long, value_delimiter = ',', default_value = "mm2-exactly,mm2-at-least,link")]
    contenders: Vec<Contender>,
    /// What is measured; `steady` comes with `drain`.
    #[arg(long, value_delimiter = ',', default_value = "drain,steady,wire,kill,away")]
    measure: Vec<String>,
    /// The link's program, instead of the one that was built beside this one.
    #[arg(long)]
    link: Option<PathBuf>,
    /// TOML for section `[link]`.
    #[arg(long, default_value = "")]
    link_settings: String,
}

impl Cli {
    fn measures(&self, what: &str) -> bool {
        self.measure.iter().any(|chosen| chosen == what)
    }
}

#[expect(clippy::print_stdout, reason = "what it prints is its result")]
fn say(text: &str) {
    println!("{text}");
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let (edge_url, core_url) = (engine("KAFKA_EDGE_URL")?, engine("KAFKA_URL")?);
    let directory = tempfile::tempdir()?;
    let setup = Setup {
        edge: pair::open(&edge_url, "bench").await?,
        core: pair::open(&core_url, "bench").await?,
        edge_url,
        core_url,
        link: cli.link.clone().map_or_else(contender::built_link, Ok)?,
        link_settings: cli.link_settings.clone(),
        directory: directory.path().to_path_buf(),
    };
    let topic = testkit::unique("bench");
    setup
        .edge
        .create_topic(&TopicSpec::new(&topic, PARTITIONS))
        .await?;
    say(&format!("filling {} records of {VALUE} B", cli.records));
    phases::fill(&setup.edge, &topic, cli.records).await?;
    // The destination's broker has compiled what it needs as well, whoever comes first.
    let warm = testkit::unique("warm");
    setup
        .core
        .create_topic(&TopicSpec::new(&warm, PARTITIONS))
        .await?;
    phases::fill(&setup.core, &warm, cli.records / 4).await?;
    setup.core.delete_topic(&warm).await?;

    let mut all: Vec<(Contender, Figures)> = Vec::new();
    let mut whole = true;
    for contender in &cli.contenders {
        let mut figures = Figures::default();
        // How others fare is no fault of the link's.
        whole &=
            measure(*contender, &setup, &cli, &topic, &mut figures).await || *contender != Contender::Link;
        all.push((*contender, figures));
        say(&table::table(&all));
    }
    let cores = std::thread::available_parallelism().context("no processors")?;
    say(&format!(
        "{} records of {VALUE} B, {PARTITIONS} partitions, {cores} cores for all; MirrorMaker 2 with a heap of {}",
        cli.records,
        engine("ENGINES_MIRROR_HEAP").unwrap_or_else(|_| "512m".to_owned())
    ));
    let mut link = all.iter().filter(|(contender, _)| *contender == Contender::Link);
    ensure!(
        link.all(|(_, figures)| figures.once()),
        "the link lost records, or brought some twice"
    );
    ensure!(whole, "not all was measured of the link");
    Ok(())
}

/// What fails is told, and the rest is measured all the same. Whether all was.
async fn measure(contender: Contender, setup: &Setup, cli: &Cli, topic: &str, figures: &mut Figures) -> bool {
    let mut whole = true;
    for what in ["drain", "wire", "kill", "away"] {
        if !cli.measures(what) {
            continue;
        }
        say(&format!("{}: {what}", contender.name()));
        let outcome = match what {
            "drain" => phases::drain_and_steady(contender, setup, cli, topic, figures).await,
            "wire" => phases::wire(contender, setup, cli, figures).await,
            "kill" => phases::killed(contender, setup, topic, figures).await,
            _ => phases::away(contender, setup, cli, figures).await,
        };
        if let Err(error) = outcome {
            say(&format!("  NOT MEASURED: {error:#}"));
            whole = false;
        }
    }
    whole
}
