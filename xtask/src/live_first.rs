//! `cargo xtask live-first`: what comes in goes before a long backlog, behind a cap.

use anyhow::bail;
use clap::Args;

use crate::engines::Engines;
use crate::run::{cargo, succeed};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// For the program itself: `-- --help` says what there is, `-- --records 50000 --seconds 30` is a small run.
    #[arg(last = true)]
    more: Vec<String>,
}

/// Runs the program `live-first` of crate `e2e`, optimised, with nothing but two brokers beside it.
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
    let build = ["build", "--release", "--package", "e2e", "--bin", "live-first"];
    succeed(cargo(&build)).await?;
    let engines = Engines::brokers("live-first", &["core", "edge"]).await?;
    let run = [
        "run",
        "--release",
        "--package",
        "e2e",
        "--bin",
        "live-first",
        "--",
    ];
    let more = arguments.more.iter().map(String::as_str);
    let mut command = cargo(&run.into_iter().chain(more).collect::<Vec<_>>());
    command.envs(engines.environment());
    let outcome = succeed(command).await;
    engines.stop().await?;
    outcome
}
