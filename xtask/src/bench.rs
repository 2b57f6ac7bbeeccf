//! `cargo xtask bench`: what the exchange takes, in CPU-seconds, memory and bytes.

use clap::Args;

use crate::engines::{Brokers, Engines};
use crate::run::{cargo, say, succeed};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How many assets go through the exchange.
    #[arg(long, default_value_t = 10_000)]
    assets: u32,
}

/// Runs the program `bench` of crate `e2e`, optimised, on embedded engines and then on real ones.
pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    succeed(cargo(&["build", "--release", "--workspace", "--bins"])).await?;
    let assets = arguments.assets.to_string();
    let bench = |more: &[&str]| {
        let flags = [
            "run",
            "--release",
            "--package",
            "e2e",
            "--bin",
            "bench",
            "--",
            "--assets",
            &assets,
        ];
        cargo(&[flags.as_slice(), more].concat())
    };
    succeed(bench(&[])).await?;
    let missing = Engines::missing().await;
    if !missing.is_empty() {
        say(&format!(
            "LEFT OUT: the same on real engines; missing: {}",
            missing.join(", ")
        ));
        return Ok(());
    }
    Engines::during("bench", Brokers::Kept, async |engines| {
        let mut command = bench(&["--engines"]);
        command.envs(engines.environment());
        succeed(command).await
    })
    .await
}
