//! Mirror and depot against rsync and rclone over a line that delays, limits and cuts.
//!
//! ```text
//! cargo run --release --package e2e --bin bench-mirror -- [--only large,far,small,cuts,big]
//! ```
//!
//! All of it takes about a quarter of an hour; rclone's many small files at 600 ms are a third of that.
//!
//! All three go through the same proxy, whose rate counts what TCP carries and not the headers of its packets. Mirror has
//! TLS, verifies every chunk, syncs every object and keeps its books, on embedded engines in this process. rsync (its daemon) and rclone (over
//! HTTP) have neither encryption nor books; rsync-fsync is rsync with `--fsync`. Bytes are random, so nobody can pack them.

#![expect(clippy::print_stdout, reason = "what it prints is its result")]

mod exchange;
mod rivals;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use testkit::proxy::{Carried, Conditions, Cut, Proxy, Way};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::exchange::Core;
use crate::rivals::{Rclone, Rsync};

const CASES: [&str; 5] = ["large", "far", "small", "cuts", "big"];
/// No case takes so long that works.
const LIMIT: Duration = Duration::from_secs(900);

/// Measures mirror against rsync and rclone.
#[derive(Debug, Parser)]
struct Cli {
    /// Kilobits in a second of the line, where it is thin.
    #[arg(long, default_value_t = 4000)]
    kbit: u64,
    /// Megabytes of the large file.
    #[arg(long, default_value_t = 10)]
    large: usize,
    /// How many small files.
    #[arg(long, default_value_t = 10_000)]
    files: usize,
    /// Megabytes of the big file.
    #[arg(long, default_value_t = 1000)]
    big: usize,
    /// Megabits in a second of the fast line, over which the big file goes.
    #[arg(long, default_value_t = 400)]
    fast: u64,
    /// How often the line is cut.
    #[arg(long, default_value_t = 20)]
    cuts: u64,
    /// Where what is random starts.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only these of mirror, rsync, rsync-fsync and rclone.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "mirror,rsync,rsync-fsync,rclone"
    )]
    tools: Vec<Tool>,
    /// Only these of large, far, small, cuts and big.
    #[arg(long, value_delimiter = ',', value_parser = known_case)]
    only: Vec<String>,
}

/// What is brought, and over what.
struct Case {
    name: String,
    files: Vec<Vec<u8>>,
    line: Conditions,
    cuts: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Tool {
    Mirror,
    Rsync,
    /// rsync that syncs each file before it gives it its name, as mirror does.
    RsyncFsync,
    Rclone,
}

impl Tool {
    fn name(self) -> &'static str {
        match self {
            Self::Mirror => "mirror",
            Self::Rsync => "rsync",
            Self::RsyncFsync => "rsync-fsync",
            Self::Rclone => "rclone",
        }
    }

    /// The program that it is, where it is not of this project.
    fn program(self) -> Option<&'static str> {
        match self {
            Self::Mirror => None,
            Self::Rsync | Self::RsyncFsync => Some("rsync"),
            Self::Rclone => Some("rclone"),
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let home = tempfile::tempdir().context("cannot make a directory")?;
    // rsync's daemon reads as nobody when root starts it.
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755))?;
    // Told before anything is measured, and not an hour later.
    for tool in &cli.tools {
        if let Some(program) = tool.program() {
            println!("{}", rivals::version(program).await?);
        }
    }
    println!(
        "seed {}; the line of {} kbit/s unless said otherwise",
        cli.seed, cli.kbit
    );
    println!(
        "{:<44} {:<11} {:>8}  {:>11}  {:>14}  {:>8}  {:>6}  {:>11}",
        "case", "tool", "seconds", "useful/line", "useful/carried", "down MB", "up MB", "connections"
    );
    for name in CASES {
        if !cli.only.is_empty() && !cli.only.iter().any(|only| only == name) {
            continue;
        }
        let places = home.path().join(name);
        for tool in &cli.tools {
            let case = case(name, &cli);
            let place = places.join(tool.name());
            // What fails is told, and the rest is measured all the same.
            let done = timeout(LIMIT, run(&case, *tool, &place, cli.seed)).await;
            if let Err(error) = done.map_err(anyhow::Error::from).flatten() {
                println!("{:<44} {:<11} NOT MEASURED: {error:#}", case.name, tool.name());
            }
        }
        // Not before: a file system may make new files slowly for as long as it remembers those that were just deleted.
        std::fs::remove_dir_all(places)?;
    }
    Ok(())
}

fn known_case(name: &str) -> Result<String, String> {
    if CASES.contains(&name) {
        Ok(name.to_owned())
    } else {
        Err(format!("one of {}", CASES.join(", ")))
    }
}

fn case(name: &str, cli: &Cli) -> Case {
    let mut random = StdRng::seed_from_u64(cli.seed);
    let mut bytes = |size: usize| {
        let mut bytes = vec![0; size];
        random.fill_bytes(&mut bytes);
        bytes
    };
    let line = |millis| Conditions::slow(cli.kbit * 1000, Duration::from_millis(millis));
    let large = |cli: &Cli| cli.large * 1_000_000;
    match name {
        "large" => Case {
            name: format!("one file of {} MB, 20 ms", cli.large),
            files: vec![bytes(large(cli))],
            line: line(20),
            cuts: 0,
        },
        "far" => Case {
            name: format!("one file of {} MB, 600 ms", cli.large),
            files: vec![bytes(large(cli))],
            line: line(600),
            cuts: 0,
        },
        "small" => {
            let mut sizes = StdRng::seed_from_u64(cli.seed);
            Case {
                name: format!("{} files of 200 to 4000 B, 600 ms", cli.files),
                files: (0..cli.files)
                    .map(|_| bytes(sizes.random_range(200..4000)))
                    .collect(),
                line: line(600),
                cuts: 0,
            }
        }
        "cuts" => Case {
            name: format!("one file of {} MB, 20 ms, {} cuts", cli.large, cli.cuts),
            files: vec![bytes(large(cli))],
            line: line(20),
            cuts: cli.cuts,
        },
        _ => Case {
            name: format!("one file of {} MB, 20 ms, {} Mbit/s", cli.big, cli.fast),
            files: vec![bytes(cli.big * 1_000_000)],
            line: Conditions::slow(cli.fast * 1_000_000, Duration::from_millis(20)),
            cuts: 0,
        },
    }
}

async fn run(case: &Case, tool: Tool, place: &Path, seed: u64) -> Result<()> {
    let (from, to) = (place.join("from"), place.join("to"));
    std::fs::create_dir_all(&from)?;
    std::fs::create_dir_all(&to)?;
    let useful: u64 = case.files.iter().map(|bytes| bytes.len() as u64).sum();
    let (seconds, carried) = match tool {
        Tool::Mirror => {
            let core = Core::open(&from).await?;
            for (number, bytes) in (0..).zip(&case.files) {
                core.offer(number, bytes).await?;
            }
            let proxy = line(case, &core.address(), seed).await?;
            let edge = core.edge(&to, proxy.address()).await?;
            let (took, carried) = over(&proxy, case, useful, edge.mirror()).await?;
            edge.check(&case.files).await?;
            (took, carried)
        }
        Tool::Rsync | Tool::RsyncFsync | Tool::Rclone => {
            for (number, bytes) in case.files.iter().enumerate() {
                std::fs::write(from.join(format!("{number:05}.bin")), bytes)?;
            }
            let (took, carried) = if tool.program() == Some("rsync") {
                let server = Rsync::serve(place, &from).await?;
                let proxy = line(case, &server.address(), seed).await?;
                let synced = tool == Tool::RsyncFsync;
                over(&proxy, case, useful, Rsync::copy(proxy.address(), &to, synced)).await?
            } else {
                let server = Rclone::serve(&from).await?;
                let proxy = line(case, &server.address(), seed).await?;
                over(
                    &proxy,
                    case,
                    useful,
                    Rclone::copy(proxy.address(), &to, case.files.len()),
                )
                .await?
            };
            rivals::check(&to, &case.files)?;
            (took, carried)
        }
    };
    report(case, tool, useful, seconds, &carried);
    Ok(())
}

async fn line(case: &Case, server: &str, seed: u64) -> Result<Arc<Proxy>> {
    let proxy = Proxy::start("127.0.0.1:0", server, seed).await?;
    proxy.set(case.line);
    Ok(Arc::new(proxy))
}

/// Does the work while the line is cut now and then; how long it took, and what was carried.
async fn over(
    proxy: &Arc<Proxy>,
    case: &Case,
    useful: u64,
    work: impl Future<Output = Result<()>>,
) -> Result<(Duration, Carried)> {
    let mut cutter = JoinSet::new();
    if case.cuts > 0 {
        let (proxy, cuts, every) = (Arc::clone(proxy), case.cuts, useful / (case.cuts + 1));
        cutter.spawn(async move {
            for cut in 0..cuts {
                proxy.cut_after(Way::Down, every, Cut::Reset);
                while proxy.carried().cut <= cut {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        });
    }
    let began = Instant::now();
    work.await?;
    Ok((began.elapsed(), proxy.carried()))
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn report(case: &Case, tool: Tool, useful: u64, took: Duration, carried: &Carried) {
    let rate = case.line.down.rate.unwrap_or(u64::MAX) as f64;
    let seconds = took.as_secs_f64();
    let mega = |bytes: u64| bytes as f64 / 1e6;
    println!(
        "{:<44} {:<11} {seconds:>8.1}  {:>11.3}  {:>14.3}  {:>8.2}  {:>6.2}  {:>11}",
        case.name,
        tool.name(),
        useful as f64 / seconds / rate,
        useful as f64 / carried.down as f64,
        mega(carried.down),
        mega(carried.up),
        carried.connections,
    );
    if case.cuts > 0 {
        let more = carried.down.saturating_sub(useful) as f64 / 1e3;
        println!(
            "{:<44} {:<11} {} cuts; {more:.1} kB down beyond the file: {:.1} kB a cut, handshakes included",
            "",
            "",
            carried.cut,
            more / carried.cut.max(1) as f64
        );
    }
}

/// Where a program of Debian's is.
fn program(name: &str) -> Result<PathBuf> {
    let found = ["/usr/bin", "/usr/local/bin", "/bin"]
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.exists());
    found.with_context(|| format!("{name} is not here; apt-get install {name}"))
}
