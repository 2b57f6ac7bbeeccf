//! `cargo xtask idle`: what an edge moves that has nothing to say, and that it is not more than it may be.

use anyhow::ensure;
use clap::Args;

use crate::engines::{Brokers, Engines};
use crate::run::{cargo, succeed};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Fail when it would be more than so many bytes a day.
    #[arg(long, default_value_t = 1_000_000)]
    most: u64,
    /// For the program itself, `idle-edge`: `-- --help` says what there is.
    #[arg(last = true)]
    more: Vec<String>,
}

/// Runs the program `idle-edge` of crate `e2e`, optimised, with a core on real engines.
pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let missing = Engines::missing().await;
    ensure!(
        missing.is_empty(),
        "the core needs real engines; missing: {}",
        missing.join(", ")
    );
    succeed(cargo(&["build", "--release", "--workspace", "--bins"])).await?;
    // A small edge needs none of its own.
    let small = !arguments.more.iter().any(|word| word == "--services");
    let names: &[&str] = if small { &["core", "cassandra"] } else { &[] };
    Engines::with("idle", names, Brokers::Kept, async |engines| {
        let mut command = cargo(&["run", "--release", "--package", "e2e", "--bin", "idle-edge", "--"]);
        command.args(["--most", &arguments.most.to_string()]);
        command.args(&arguments.more).envs(engines.environment());
        succeed(command).await
    })
    .await
}
