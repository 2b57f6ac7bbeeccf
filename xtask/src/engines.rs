//! Real Kafka and Cassandra for a run, stopped whatever becomes of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, ensure};
use tokio::process::Command;

use crate::run::{program, root, say, succeed};

const SCRIPT: &str = "deploy/engines/engines";
/// Away from the ports of `make engines-up`, whose engines a run must not meet.
const FIRST_PORT: &str = "22870";

/// What becomes of brokers in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Brokers {
    /// They are killed and come back at once: their controller must give them up before that.
    Killed,
    /// Nobody kills them: on a machine that is taken away for seconds their controller waits for them.
    Kept,
}

impl Brokers {
    /// Milliseconds after which a broker that gives no sign is fenced.
    fn session(self) -> &'static str {
        match self {
            Self::Killed => "2000",
            Self::Kept => "9000",
        }
    }
}

/// Whether an engine's line tells of trouble; one that does is no warning to Kafka: that a transaction's marker is lost.
fn warns(line: &str) -> bool {
    [" WARN ", " ERROR ", "hence can be skipped"]
        .iter()
        .any(|word| line.contains(word))
}

/// Engines that run.
#[derive(Debug)]
pub(crate) struct Engines {
    dir: PathBuf,
    brokers: Brokers,
    environment: BTreeMap<String, String>,
}

impl Engines {
    /// What is missing for real engines, if anything.
    pub(crate) async fn missing() -> Vec<&'static str> {
        let mut missing = Vec::new();
        for (name, flag) in [("java", "-version"), ("mvn", "-version")] {
            let mut command = program(name, &[flag]);
            let quiet = command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            if !quiet.status().await.is_ok_and(|status| status.success()) {
                missing.push(name);
            }
        }
        missing
    }

    /// Does `work` with all of them, which begin with empty data in a directory named after `purpose`.
    pub(crate) async fn during(
        purpose: &str,
        brokers: Brokers,
        work: impl AsyncFnOnce(&Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        Self::with(purpose, &[], brokers, work).await
    }

    /// The same with these brokers alone; with all engines when none is named.
    pub(crate) async fn with(
        purpose: &str,
        names: &[&str],
        brokers: Brokers,
        work: impl AsyncFnOnce(&Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let engines = Self::start(purpose, names, brokers).await?;
        let outcome = work(&engines).await;
        if outcome.is_err() {
            engines.keep_logs();
        }
        engines.stop().await?;
        outcome
    }

    /// What engines said, for somebody who asks why something failed: their own directory goes with them.
    fn keep_logs(&self) {
        let kept = self.dir.with_extension("logs");
        let keep = |engine: &std::fs::DirEntry| -> std::io::Result<()> {
            let to = kept.join(engine.file_name());
            for name in ["log", "log.before"] {
                let from = engine.path().join(name);
                if from.exists() {
                    std::fs::create_dir_all(&to)?;
                    std::fs::copy(from, to.join(name))?;
                }
            }
            Ok(())
        };
        let engines = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        for engine in engines {
            if let Err(error) = keep(&engine) {
                say(&format!(
                    "cannot keep the log of {}: {error}",
                    engine.path().display()
                ));
            }
        }
        say(&format!("what the engines said is in {}", kept.display()));
        // All that a machine far away shows of it.
        for engine in std::fs::read_dir(&kept).into_iter().flatten().flatten() {
            let text = std::fs::read_to_string(engine.path().join("log")).unwrap_or_default();
            let warned: Vec<&str> = text.lines().filter(|line| warns(line)).collect();
            for line in &warned[warned.len().saturating_sub(5)..] {
                say(&format!("{}: {line}", engine.file_name().display()));
            }
        }
    }

    async fn start(purpose: &str, names: &[&str], brokers: Brokers) -> anyhow::Result<Self> {
        let dir = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
        let mut engines = Self {
            dir: dir.join(format!("engines-{purpose}")),
            brokers,
            environment: BTreeMap::new(),
        };
        engines.stop().await?;
        say("starting real engines");
        let started = async {
            if names.is_empty() {
                let mut command = engines.script("up");
                command.arg("--lines");
                succeed(command).await?;
            }
            for name in names {
                let mut command = engines.script("start");
                command.args([name, "--lines"]);
                succeed(command).await?;
            }
            let file = engines.dir.join("env");
            let text =
                std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            anyhow::Ok(parse(&text))
        };
        match started.await {
            Ok(environment) if environment.contains_key("KAFKA_URL") => engines.environment = environment,
            Ok(_) => {
                engines.stop().await?;
                anyhow::bail!("the engines named no KAFKA_URL");
            }
            Err(error) => {
                engines.stop().await?;
                return Err(error);
            }
        }
        Ok(engines)
    }

    /// What tests and services need to find them.
    pub(crate) fn environment(&self) -> &BTreeMap<String, String> {
        &self.environment
    }

    /// Stops them and forgets their data.
    async fn stop(&self) -> anyhow::Result<()> {
        let mut command = self.script("down");
        let status = command
            .arg("--wipe")
            .status()
            .await
            .with_context(|| format!("cannot start {SCRIPT}"))?;
        ensure!(
            status.success(),
            "the engines in {} could not be stopped: {status}",
            self.dir.display()
        );
        Ok(())
    }

    fn script(&self, word: &str) -> Command {
        let mut command = program(SCRIPT, &[word, "--dir", &self.dir.to_string_lossy()]);
        command.env("ENGINES_SESSION", self.brokers.session());
        if std::env::var_os("ENGINES_PORT").is_none() {
            command.env("ENGINES_PORT", FIRST_PORT);
        }
        command
    }
}

fn parse(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.strip_prefix("export ").unwrap_or(line).split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.trim_matches(['"', '\'']).to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_file_is_read_line_by_line() {
        let read = parse("# urls\nKAFKA_URL=kafka://a:1\nexport X='y=z'\n\n");
        assert_eq!(read["KAFKA_URL"], "kafka://a:1");
        assert_eq!(read["X"], "y=z");
        assert_eq!(read.len(), 2);
    }
}
