//! `cargo xtask chaos`: the fault scenarios, many rounds of them.

use anyhow::ensure;
use clap::Args;
use tokio::process::Command;

use crate::engines::{Brokers, Engines};
use crate::run::{cargo, say, succeed};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How often each process and each broker is killed.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// How many faults the lines and processes of two sites have to stand, in each of two shapes.
    #[arg(long, default_value_t = 200)]
    faults: u32,
    /// Where the random moments start from, to repeat a run; printed when not given.
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs the modules `crash` and `line` of crate `e2e`: first what embedded engines suffice for, then the rest on real
/// ones.
pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let seed = arguments
        .seed
        .unwrap_or_else(|| u64::from(now.subsec_nanos()))
        .to_string();
    say(&format!(
        "chaos: {} rounds, {} faults, seed {seed}",
        arguments.rounds, arguments.faults
    ));
    succeed(cargo(&["build", "--workspace", "--bins"])).await?;
    let scenarios = |more: &[&str]| {
        let flags = [
            "test",
            "--workspace",
            "--test",
            "scenarios",
            "--",
            "crash::",
            "line::",
            "--nocapture",
            "--test-threads=1",
        ];
        let mut command = cargo(&[flags.as_slice(), more].concat());
        command
            .env("FIELDLINE_CHAOS_ROUNDS", arguments.rounds.to_string())
            .env("FIELDLINE_FAULTS", arguments.faults.to_string())
            .env("FIELDLINE_SEED", &seed);
        command
    };
    succeed(scenarios(&[])).await?;
    succeed(suites(&[], arguments.rounds)).await?;
    let missing = Engines::missing().await;
    ensure!(
        missing.is_empty(),
        "chaos on real engines was left out; missing: {}",
        missing.join(", ")
    );
    Engines::during("chaos", Brokers::Killed, async |engines| {
        let suites = suites(&["kafka::crash::killed", "--ignored"], arguments.rounds);
        for mut command in [scenarios(&["--ignored"]), suites] {
            command.envs(engines.environment());
            succeed(command).await?;
        }
        Ok(())
    })
    .await
}

/// The crash suites of the crates that wrap an engine: without a filter those of the embedded engines.
fn suites(filter: &[&str], rounds: u32) -> Command {
    // Chosen of the whole workspace by their names: what packages alone would need is built with other features.
    let flags = ["test", "--workspace", "--test", "it", "--"];
    let embedded = ["sqlite_crash::", "survives_kill_9", "crash::a_killed"];
    let chosen = if filter.is_empty() {
        embedded.as_slice()
    } else {
        filter
    };
    let mut command = cargo(&[flags.as_slice(), chosen, &["--nocapture", "--test-threads=1"]].concat());
    command.env("FIELDLINE_CHAOS_ROUNDS", rounds.to_string());
    command
}
