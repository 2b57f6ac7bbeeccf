//! Programs of crate `e2e` that watch the link between two real brokers, with nothing else beside it.

use anyhow::ensure;
use clap::Args;

use crate::engines::{Brokers, Engines};
use crate::run::{cargo, succeed};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// For the program itself: `-- --help` says what there is, `-- --records 100000` is a small run.
    #[arg(last = true)]
    more: Vec<String>,
}

/// Runs one, optimised, and the link with it.
pub(crate) async fn run(program: &str, brokers: Brokers, arguments: &Arguments) -> anyhow::Result<()> {
    let missing = Engines::missing().await;
    ensure!(
        missing.is_empty(),
        "real engines are needed, and these are missing: {}",
        missing.join(", ")
    );
    // A crate alone: what others add to its dependencies would be in the figures.
    for (package, name) in [("link", "link"), ("e2e", program)] {
        let build = ["build", "--release", "--package", package, "--bin", name];
        succeed(cargo(&build)).await?;
    }
    let run = ["run", "--release", "--package", "e2e", "--bin", program, "--"];
    let mut command = cargo(&run);
    command.args(&arguments.more);
    Engines::with(program, &["core", "edge"], brokers, async |engines| {
        command.envs(engines.environment());
        succeed(command).await
    })
    .await
}
