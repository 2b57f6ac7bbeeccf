//! `cargo xtask test`: every test there is, and a loud word about those left out.

use anyhow::bail;
use clap::Args;

use crate::bucket::Bucket;
use crate::engines::Engines;
use crate::run::{cargo, say, succeed};

/// Set to 1 where real engines are expected: their absence is an error then.
const REQUIRE: &str = "FIELDLINE_REQUIRE_ENGINES";

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only the tests that need real engines.
    #[arg(long)]
    engines: bool,
    /// Only these crates.
    #[arg(long, short)]
    package: Vec<String>,
}

/// The tests of crate `e2e`. They are chosen by name and not by crate: cargo compiles what they need once more for one
/// crate alone than for all together.
const SCENARIOS: [&str; 6] = ["--test", "scenarios", "--test", "settings", "--test", "workspace"];

impl Arguments {
    fn crates(&self) -> Vec<&str> {
        if self.package.is_empty() {
            return vec!["--workspace"];
        }
        self.package
            .iter()
            .flat_map(|name| ["--package", name.as_str()])
            .collect()
    }

    fn only_scenarios(&self) -> bool {
        !self.package.is_empty() && self.package.iter().all(|name| name == "e2e")
    }

    fn scenarios(&self) -> bool {
        self.package.is_empty() || self.package.iter().any(|name| name == "e2e")
    }
}

pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    // Scenarios start the services' programs. All is built before engines start, which would share the processors.
    succeed(cargo(&["build", "--workspace", "--bins"])).await?;
    succeed(cargo(&["test", "--workspace", "--no-run"])).await?;
    if !arguments.engines {
        tests(arguments, &["--no-fail-fast"], &[], None).await?;
    }
    let missing = Engines::missing().await;
    if !missing.is_empty() {
        let required = std::env::var_os(REQUIRE).is_some_and(|value| value == "1");
        if required || arguments.engines {
            bail!(
                "real engines are required, and these are missing: {}",
                missing.join(", ")
            );
        }
        say("==================================================================");
        say(&format!(
            "LEFT OUT: all tests against real Kafka and Cassandra; missing: {}",
            missing.join(", ")
        ));
        say("Debian: apt-get install openjdk-17-jdk-headless maven");
        say("==================================================================");
        return Ok(());
    }
    Engines::during("test", async |engines| {
        let bucket = Bucket::start().await?;
        let with = Some((engines, &bucket));
        tests(arguments, &["--no-fail-fast"], &["--ignored"], with).await
    })
    .await
}

async fn tests(
    arguments: &Arguments,
    cargo_flags: &[&str],
    test_flags: &[&str],
    engines: Option<(&Engines, &Bucket)>,
) -> anyhow::Result<()> {
    let command = |selection: &[&str], more: &[&str]| {
        let mut command = cargo(&[&["test"], selection, cargo_flags, &["--"], test_flags, more].concat());
        if let Some((engines, bucket)) = engines {
            command.envs(engines.environment()).envs(bucket.environment());
        }
        command
    };
    let crates = arguments.crates();
    if !arguments.only_scenarios() {
        succeed(command(
            &[&crates, ["--lib", "--bins", "--test", "it"].as_slice()].concat(),
            &[],
        ))
        .await?;
        if engines.is_none() {
            succeed(command(&[&crates, ["--doc"].as_slice()].concat(), &[])).await?;
        }
    }
    if arguments.scenarios() {
        // One at a time: each is many processes, and those that kill engines kill them for all.
        succeed(command(
            &[&crates, SCENARIOS.as_slice()].concat(),
            &["--test-threads=1"],
        ))
        .await?;
    }
    Ok(())
}
