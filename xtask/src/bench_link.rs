//! `cargo xtask bench-link`: the link against MirrorMaker 2 between the same two brokers.

use anyhow::bail;
use clap::Args;

use crate::engines::Engines;
use crate::run::{cargo, succeed};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// For the program itself: `-- --help` says what there is, `-- --records 100000 --idle 20` is a small run.
    #[arg(last = true)]
    more: Vec<String>,
}

/// Runs the program `bench-link` of crate `e2e`, optimised, with nothing but two brokers beside it.
pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let missing = Engines::missing().await;
    if !missing.is_empty() {
        bail!(
            "real engines are needed, and these are missing: {}",
            missing.join(", ")
        );
    }
    succeed(cargo(&[
        "build",
        "--release",
        "--package",
        "link",
        "--bin",
        "link",
    ]))
    .await?;
    let build = ["build", "--release", "--package", "e2e", "--bin", "bench-link"];
    succeed(cargo(&build)).await?;
    let run = [
        "run",
        "--release",
        "--package",
        "e2e",
        "--bin",
        "bench-link",
        "--",
    ];
    let more = arguments.more.iter().map(String::as_str);
    let mut command = cargo(&run.into_iter().chain(more).collect::<Vec<_>>());
    Engines::with("bench-link", &["core", "edge"], async |engines| {
        command.envs(engines.environment());
        succeed(command).await
    })
    .await
}
