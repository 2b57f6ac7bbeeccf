//! `cargo xtask test-browser`, `bench-page` and `screenshots`: what people do with the pages, in a real Chromium.

use clap::{Args, ValueEnum};

use crate::engines::{Brokers, Engines};
use crate::run::{cargo, program, root, say, succeed};

/// Two at once: pages wait more than they work. What says how long something may take comes behind.
const TOGETHER: [&str; 6] = ["-n", "2", "--dist", "loadgroup", "-m", "not alone"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// The demo, in one process.
    Embedded,
    /// Each service its own process, on Kafka and Cassandra.
    Real,
    /// The same at the core; the edge is one process on embedded engines.
    Small,
}

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// What the installation runs on that most tests look at.
    #[arg(long, value_enum, default_value_t = Kind::Embedded)]
    engines: Kind,
    /// An optimised build.
    #[arg(long)]
    release: bool,
    /// More words for pytest, as `-- -k keyboard`.
    #[arg(last = true)]
    pytest: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Of how many assets.
    #[arg(long, default_value_t = 10_000)]
    assets: u32,
    /// A debug build, which keeps no promise.
    #[arg(long)]
    debug: bool,
    /// More words for pytest, as `-- -k frames`.
    #[arg(last = true)]
    pytest: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Screenshots {
    /// An optimised build.
    #[arg(long)]
    release: bool,
    /// Only these, as `down edges`; the other pictures stay.
    names: Vec<String>,
}

/// Builds the programs, and runs the browser tests; they start and stop the installations that they need.
pub(crate) async fn test(arguments: &Arguments) -> anyhow::Result<()> {
    let kind = match arguments.engines {
        Kind::Embedded => None,
        Kind::Real => Some("real"),
        Kind::Small => Some("small"),
    };
    let real = kind.is_some();
    build(arguments.release, real).await?;
    let tests = |more: &[&str]| {
        let words = ["-m", "pytest", "tests/python/browser"];
        let own = arguments.pytest.iter().map(String::as_str);
        let words: Vec<&str> = words.into_iter().chain(more.iter().copied()).chain(own).collect();
        python(&words, arguments.release)
    };
    if !real && arguments.pytest.is_empty() {
        succeed(tests(&TOGETHER)).await?;
        return succeed(tests(&["-m", "alone"])).await;
    }
    let mut command = tests(&[]);
    let Some(kind) = kind else {
        return succeed(command).await;
    };
    Engines::during("browser", Brokers::Kept, async |engines| {
        command.envs(engines.environment()).env("FIELDLINE_ENGINES", kind);
        succeed(command).await
    })
    .await
}

/// Builds the programs, and measures frames, answers and memory; what was measured is printed.
pub(crate) async fn bench(arguments: &Bench) -> anyhow::Result<()> {
    build(!arguments.debug, false).await?;
    let mut words = vec!["-m", "pytest", "-s", "tests/python/browser/test_performance.py"];
    words.extend(arguments.pytest.iter().map(String::as_str));
    let mut command = python(&words, !arguments.debug);
    command.env("FIELDLINE_BROWSER_ASSETS", arguments.assets.to_string());
    succeed(command).await
}

/// Builds the programs, and takes a picture of every page and state.
pub(crate) async fn screenshots(arguments: &Screenshots) -> anyhow::Result<()> {
    build(arguments.release, false).await?;
    let mut words = vec!["browser/screenshots.py"];
    words.extend(arguments.names.iter().map(String::as_str));
    succeed(python(&words, arguments.release)).await?;
    say("the pictures are in target/screenshots");
    Ok(())
}

async fn build(release: bool, all: bool) -> anyhow::Result<()> {
    // Of the whole workspace, for cargo compiles what they need once more for some crates alone.
    let mut words = vec!["build", "--locked", "--workspace"];
    if release {
        words.push("--release");
    }
    if all {
        words.push("--bins");
    } else {
        // viewer alone is for the measure of its memory.
        words.extend(["--bin", "fieldline", "--bin", "viewer"]);
    }
    succeed(cargo(&words)).await
}

fn python(words: &[&str], release: bool) -> tokio::process::Command {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into);
    let mut command = program("tests/python/run", words);
    command
        .env(
            "FIELDLINE_PROGRAMS",
            target.join(if release { "release" } else { "debug" }),
        )
        .env("FIELDLINE_RESULTS", root().join("target/browser"));
    command
}
