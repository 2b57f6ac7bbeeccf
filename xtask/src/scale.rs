//! `cargo xtask scale`: what each further edge costs a real core.

use clap::Args;

use crate::engines::{Brokers, Engines};
use crate::run::{cargo, succeed};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// What the program `scale` of crate `e2e` is to do, as `--edges 10,25,50 --quiet 60`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs the program `scale` of crate `e2e`, optimised, on real engines.
pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    succeed(cargo(&["build", "--release", "--workspace", "--bins"])).await?;
    let missing = Engines::missing().await;
    anyhow::ensure!(
        missing.is_empty(),
        "the core needs real engines; missing: {}",
        missing.join(", ")
    );
    Engines::with("scale", &["core", "cassandra"], Brokers::Kept, async |engines| {
        let flags = ["run", "--release", "--package", "e2e", "--bin", "scale", "--"];
        let mut command = cargo(&flags);
        command.args(&arguments.arguments).envs(engines.environment());
        succeed(command).await
    })
    .await
}
