//! The project's own commands: what needs a decision, and so is no line of the Makefile.

mod bench;
mod bench_mirror;
mod between;
mod browser;
mod bucket;
mod chaos;
mod engines;
mod idle;
mod run;
mod scale;
mod test;

use clap::{Parser, Subcommand};

use crate::engines::Brokers;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "The project's own commands")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run all tests: embedded engines always, real ones where Java and Maven are there.
    Test(test::Arguments),
    /// Run the long fault tests.
    Chaos(chaos::Arguments),
    /// Measure what the exchange takes.
    Bench(bench::Arguments),
    /// Do with the pages what people do, in a real Chromium.
    TestBrowser(browser::Arguments),
    /// Measure the pages with many assets that change.
    BenchPage(browser::Bench),
    /// Take a picture of every page and state, and let axe-core look at each.
    Screenshots(browser::Screenshots),
    /// Measure what each further edge costs a real core.
    Scale(scale::Arguments),
    /// Measure the link against MirrorMaker 2.
    BenchLink(between::Arguments),
    /// Measure mirror against rsync and rclone.
    BenchMirror(bench_mirror::Arguments),
    /// Watch a link behind a cap whose live records pass a long backlog.
    LiveFirst(between::Arguments),
    /// Watch what an edge moves that has nothing to say, and fail where that is too much.
    Idle(idle::Arguments),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Test(arguments) => test::run(&arguments).await,
        Command::Chaos(arguments) => chaos::run(&arguments).await,
        Command::Bench(arguments) => bench::run(&arguments).await,
        Command::TestBrowser(arguments) => browser::test(&arguments).await,
        Command::BenchPage(arguments) => browser::bench(&arguments).await,
        Command::Screenshots(arguments) => browser::screenshots(&arguments).await,
        Command::Scale(arguments) => scale::run(&arguments).await,
        Command::BenchLink(arguments) => between::run("bench-link", Brokers::Killed, &arguments).await,
        Command::BenchMirror(arguments) => bench_mirror::run(&arguments).await,
        Command::LiveFirst(arguments) => between::run("live-first", Brokers::Kept, &arguments).await,
        Command::Idle(arguments) => idle::run(&arguments).await,
    }
}
