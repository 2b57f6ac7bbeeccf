//! How the client library behaves on a poor line: as a reader, as a transactional producer, and as the whole link.
//!
//! ```text
//! deploy/engines/engines start core --lines --dir DIR && set -a && . DIR/env && set +a
//! cargo run --package e2e --bin poor-link -- [--only idle,fetch,pause,recover,commit,cuts,link,backlog]
//! ```

#![expect(clippy::print_stdout, reason = "what it prints is its result")]

mod reading;
mod whole;
mod writing;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use broker::{Broker, Outgoing, TopicSpec};
use clap::Parser;
use e2e::frames::Frames;
use e2e::installation::engine;
use e2e::pair;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use testkit::proxy::{Conditions, Proxy};
use tokio::time::Instant;

/// The size of every record's value.
const VALUE: usize = 200;

/// Measures the client library and the link on a poor line.
#[derive(Debug, Parser)]
struct Cli {
    /// Seconds that an idle client is watched.
    #[arg(long, default_value_t = 60)]
    idle: u64,
    /// Where what is random starts.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only these, in this order.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The link to be measured, instead of the one that was built beside this program.
    #[arg(long)]
    link: Option<PathBuf>,
    /// The edge of the whole link is on Kafka (start the engine `edge` as well) instead of embedded.
    #[arg(long)]
    kafka_edge: bool,
}

/// A broker, near and at the end of a line.
struct Line {
    proxy: Proxy,
    frames: Arc<Frames>,
    near: Broker,
    far: String,
    random: StdRng,
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let frames = Arc::new(Frames::default());
    let mut line = Line {
        proxy: pair::line("KAFKA", false, cli.seed, Some(frames.clone())).await?,
        frames,
        near: pair::open(&engine("KAFKA_URL")?, "near").await?,
        far: format!("kafka://{}", engine("KAFKA_LINE")?),
        random: StdRng::seed_from_u64(cli.seed),
    };
    let all = [
        "idle", "fetch", "pause", "recover", "commit", "cuts", "link", "backlog",
    ];
    let chosen: Vec<&str> = if cli.only.is_empty() {
        all.to_vec()
    } else {
        cli.only.iter().map(String::as_str).collect()
    };
    let idle = Duration::from_secs(cli.idle);
    let edge = whole::Edge {
        kafka: cli.kafka_edge,
        link: cli.link.as_deref(),
    };
    for name in chosen {
        println!("\n== {name} (seed {})", cli.seed);
        line.proxy.set(Conditions::default());
        match name {
            "idle" => reading::idle(&mut line, idle).await?,
            "fetch" => reading::fetch(&mut line).await?,
            "pause" => reading::pause(&mut line).await?,
            "recover" => reading::recover(&mut line).await?,
            "commit" => writing::commit(&mut line).await?,
            "cuts" => writing::cuts(&mut line).await?,
            "link" => whole::idle(&mut line, idle, edge).await?,
            "backlog" => whole::backlog(&mut line, edge).await?,
            other => anyhow::bail!("{other} is none of {}", all.join(", ")),
        }
    }
    Ok(())
}

impl Line {
    /// 64 kbit/s and 600 ms.
    fn poor(&self) {
        self.proxy
            .set(Conditions::slow(64_000, Duration::from_millis(600)));
    }

    fn clean(&self) {
        self.proxy.set(Conditions::default());
    }

    async fn far(&self) -> Result<Broker> {
        pair::open(&self.far, "link").await
    }

    async fn topic(&self, partitions: i32) -> Result<String> {
        let topic = testkit::unique("poor");
        self.near
            .create_topic(&TopicSpec::new(&topic, partitions))
            .await?;
        Ok(topic)
    }

    fn records(&mut self, topic: &str, count: usize) -> Vec<Outgoing> {
        (0..count)
            .map(|number| {
                let mut value = vec![0; VALUE];
                self.random.fill(&mut value[..]);
                Outgoing::new(topic, format!("key-{}", number % 97), value)
            })
            .collect()
    }

    async fn fill(&mut self, topic: &str, count: usize) -> Result<()> {
        let mut left = count;
        while left > 0 {
            let part = left.min(5000);
            let records = self.records(topic, part);
            self.near.producer()?.send_all(records).await?;
            left -= part;
        }
        Ok(())
    }

    /// Prints what goes over the line in `during`, as bytes an hour.
    async fn watch(&self, what: &str, during: impl Future<Output = Result<()>>) -> Result<()> {
        self.frames.take();
        let (before, began) = (self.proxy.carried(), Instant::now());
        during.await?;
        let (carried, seconds) = (self.proxy.carried().since(&before), began.elapsed().as_secs_f64());
        let hourly = |bytes: u64| bytes as f64 / seconds * 3600.0 / 1e6;
        println!(
            "{what}: {:.2} MB an hour up, {:.2} down ({:.1} MB a day); {} connections",
            hourly(carried.up),
            hourly(carried.down),
            hourly(carried.bytes()) * 24.0,
            carried.connections
        );
        print!("{}", self.frames.table(6));
        Ok(())
    }
}
