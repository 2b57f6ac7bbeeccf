//! `cargo xtask test`: every test there is, and a loud word about those left out.

use std::collections::BTreeMap;

use anyhow::bail;
use clap::Args;
use tokio::process::Command;

use crate::bucket::Bucket;
use crate::engines::{Brokers, Engines};
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
    let (own, together) = (!arguments.only_scenarios(), arguments.scenarios());
    if !arguments.engines && own {
        crates(arguments, &[], None).await?;
    }
    if !arguments.engines && together {
        scenarios(arguments, &[], None).await?;
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
    if own {
        Engines::during("test", Brokers::Kept, async |engines| {
            let bucket = Bucket::start().await?;
            let mut environment = engines.environment().clone();
            environment.extend(bucket.environment().map(|(name, value)| (name.to_owned(), value)));
            crates(arguments, &["--ignored"], Some(&environment)).await
        })
        .await?;
    }
    if together {
        Engines::during("scenarios", Brokers::Killed, async |engines| {
            scenarios(arguments, &["--ignored"], Some(engines.environment())).await
        })
        .await?;
    }
    Ok(())
}

/// What tests are told of engines; none where they need none.
type Environment<'a> = Option<&'a BTreeMap<String, String>>;

fn command(selection: &[&str], test_flags: &[&str], environment: Environment<'_>) -> Command {
    let mut command = cargo(&[&["test"], selection, &["--no-fail-fast", "--"], test_flags].concat());
    command.envs(environment.into_iter().flatten());
    command
}

/// The tests of each crate by itself.
async fn crates(arguments: &Arguments, flags: &[&str], environment: Environment<'_>) -> anyhow::Result<()> {
    let crates = arguments.crates();
    // They mostly wait, for engines and for lines that are slow.
    let flags = &[flags, &["--test-threads=4"]].concat();
    let own = [&crates, ["--lib", "--bins", "--test", "it"].as_slice()].concat();
    succeed(command(&own, flags, environment)).await?;
    if environment.is_none() {
        succeed(command(
            &[&crates, ["--doc"].as_slice()].concat(),
            flags,
            environment,
        ))
        .await?;
    }
    Ok(())
}

/// Those of all together.
async fn scenarios(
    arguments: &Arguments,
    flags: &[&str],
    environment: Environment<'_>,
) -> anyhow::Result<()> {
    let selection = [&arguments.crates(), SCENARIOS.as_slice()].concat();
    // One at a time: each is many processes, and those that kill engines kill them for all.
    let flags = [flags, &["--test-threads=1"]].concat();
    succeed(command(&selection, &flags, environment)).await
}
