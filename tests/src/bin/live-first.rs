//! Live first: a long backlog behind a cap, and records that come in meanwhile.
//!
//! Started by `make live-first`. It fails when records that come in are older than 3 s at the 99th percentile, when the
//! backlog gets nothing, or when the bytes of any ten seconds are more than 5 % from the cap. Then twice as much comes in
//! as may cross, and it fails when the backlog gets less than its share of the bytes, or no record of it arrives.

#![expect(clippy::print_stdout, reason = "what it prints is its result")]

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use e2e::live_first::{Plan, run};
use testkit::Machine;

/// The age that 99 of 100 records do not exceed, in seconds.
const OLDEST: f64 = 3.0;
/// How far any ten seconds may be from the cap, in percent.
const OFF: f64 = 5.0;
/// What the backlog gets at least while higher classes wait, of all bytes.
const SHARE: f64 = 0.05;
/// What of that it may miss, for figures are told every few seconds.
const NEARLY: f64 = 0.9;

/// Measures a link with `live_first` behind a cap.
#[derive(Debug, Parser)]
struct Cli {
    /// Records that wait when the link begins.
    #[arg(long, default_value_t = 1_000_000)]
    records: usize,
    /// Kilobits per second.
    #[arg(long, default_value_t = 256)]
    kilobits: u64,
    /// How long it is watched.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// Records that come in, in a second.
    #[arg(long, default_value_t = 10)]
    rate: u32,
    /// How long it is watched after that, while twice as much comes in as may cross; 0 for not at all.
    #[arg(long, default_value_t = 120)]
    pressed: u64,
    /// An edge on its embedded broker, whose link is in this process.
    #[arg(long, conflicts_with = "link")]
    embedded: bool,
    /// Plain connections, instead of mutual TLS.
    #[arg(long)]
    plain: bool,
    /// The link's program, instead of the one that was built beside this one.
    #[arg(long)]
    link: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let plan = Plan {
        records: cli.records,
        cap: cli.kilobits * 1000 / 8,
        time: Duration::from_secs(cli.seconds),
        rate: cli.rate,
        pressed: Duration::from_secs(cli.pressed),
        encrypted: !cli.plain,
        embedded: cli.embedded,
    };
    let directory = tempfile::tempdir()?;
    let machine = Machine::now();
    let outcome = run(&plan, directory.path(), cli.link.as_deref()).await?;
    let (off, oldest) = (outcome.off(plan.cap), outcome.percentile(99));
    println!(
        "{} records waited behind {} B/s, {} came in at {}/s\n\
         from the link's start: the first after {:.2} s; of {} that came in first then, p99 {:.2} s\n\
         live: p50 {:.2} s, p99 {oldest:.2} s, oldest {:.2} s; {} did not arrive\n\
         backlog: {} records in {} s, {:.0} % of the bytes\n\
         cap: any 10 s within {off:.1} % ({:?})\n\
         other machines had {:.0} % of the processors' time",
        plan.records,
        plan.cap,
        outcome.ages.len(),
        plan.rate,
        outcome.first,
        outcome.begin.len(),
        outcome.begin_percentile(99),
        outcome.percentile(50),
        outcome.percentile(100),
        outcome.missing,
        outcome.backlog,
        cli.seconds,
        outcome.share * 100.0,
        outcome.rates.iter().map(|rate| rate.round()).collect::<Vec<_>>(),
        machine.others(),
    );
    ensure!(outcome.missing == 0, "records that came in did not arrive");
    ensure!(
        oldest.max(outcome.begin_percentile(99)) < OLDEST,
        "records that come in are too old"
    );
    ensure!(outcome.share > SHARE, "the backlog does not get its share");
    ensure!(off < OFF, "the cap does not hold");
    let Some(pressed) = &outcome.pressed else {
        return Ok(());
    };
    let off = pressed.off(plan.cap);
    println!(
        "while twice as much came in as may cross, for {} s: the backlog got {:.1} % of the bytes, and {} records of it \
         arrived; any 10 s within {off:.1} % of the cap",
        cli.pressed,
        pressed.share * 100.0,
        pressed.backlog,
    );
    ensure!(
        pressed.share > SHARE * NEARLY && pressed.backlog > 0,
        "the backlog does not get its share while more comes in than may cross"
    );
    ensure!(
        off < OFF,
        "the cap does not hold while more comes in than may cross"
    );
    Ok(())
}
