//! Says whether everything that was carried is there: once, in order, byte for byte.
//!
//! It reads two brokers, and volumes, and nothing else: neither checkpoints nor anything that a link or a mirror says.
//! An embedded broker can be read when nobody else has it open. Exit code 1: something is not as it must be.
//!
//! ```text
//! check-carried --source kafka://127.0.0.1:21873 --destination kafka://127.0.0.1:21870 \
//!     --topic readings=edge-1.readings --volume /var/lib/edge/volume --hash 58c0…
//! ```

#![expect(clippy::print_stdout, reason = "what it prints is its result")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use e2e::carried::{Verdict, compare, open};
use e2e::scenario::objects;

/// Compares what was carried with what was sent.
#[derive(Debug, Parser)]
struct Cli {
    /// Where records came from.
    #[arg(long, requires = "destination")]
    source: Option<String>,
    /// Where they went.
    #[arg(long)]
    destination: Option<String>,
    /// A topic, and its name at the destination: `t=site.t`, or `t` where it is the same.
    #[arg(long = "topic")]
    topics: Vec<String>,
    /// A volume, all of whose objects must be what their names say.
    #[arg(long = "volume")]
    volumes: Vec<PathBuf>,
    /// An object that every volume must have.
    #[arg(long = "hash")]
    hashes: Vec<String>,
    /// Seconds to try again while something is missing.
    #[arg(long, default_value_t = 0)]
    wait: u64,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    let end = Instant::now() + Duration::from_secs(cli.wait);
    let mut right = loop {
        let verdicts = records(&cli).await;
        // A broker that is just starting is asked again, too.
        let waiting = match &verdicts {
            Ok(verdicts) => verdicts.iter().any(|verdict| verdict.lost > 0),
            Err(_) => true,
        };
        if waiting && Instant::now() < end {
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        }
        let verdicts = verdicts?;
        for verdict in &verdicts {
            println!("{verdict}");
        }
        break verdicts.iter().all(Verdict::same);
    };
    for volume in &cli.volumes {
        let held = objects(volume)?;
        let missing: Vec<&String> = cli.hashes.iter().filter(|hash| !held.contains(*hash)).collect();
        println!(
            "{}: {} objects, all whole; {} of {} wanted are missing",
            volume.display(),
            held.len(),
            missing.len(),
            cli.hashes.len()
        );
        right &= missing.is_empty();
    }
    Ok(if right {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn records(cli: &Cli) -> Result<Vec<Verdict>> {
    let (Some(source), Some(destination)) = (&cli.source, &cli.destination) else {
        return Ok(Vec::new());
    };
    let (source, destination) = (open(source).await?, open(destination).await?);
    let mut verdicts = Vec::new();
    for topic in &cli.topics {
        let (topic, carried) = topic.split_once('=').unwrap_or((topic, topic));
        let found = compare(&source, topic, &destination, carried)
            .await
            .with_context(|| format!("{topic} cannot be compared"))?;
        verdicts.extend(found);
    }
    Ok(verdicts)
}
