//! `cargo xtask bench-mirror`: mirror against rsync and rclone over a poor line.

use clap::Args;

use crate::run::{cargo, succeed};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// For the program itself: `-- --help` says what there is, `-- --only far --large 2` is a small run.
    #[arg(last = true)]
    more: Vec<String>,
}

/// Runs the program `bench-mirror` of crate `e2e`, optimised. It needs rsync and rclone, and no engine.
pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let run = [
        "run",
        "--release",
        "--package",
        "e2e",
        "--bin",
        "bench-mirror",
        "--",
    ];
    let more = arguments.more.iter().map(String::as_str);
    succeed(cargo(&run.into_iter().chain(more).collect::<Vec<_>>())).await
}
