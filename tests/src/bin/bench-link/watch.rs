//! Looking at the two brokers and at /proc while somebody else works.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use broker::Broker;
use e2e::installation::engine;
use e2e::process::{Process, usage};
use tokio::time::Instant;

/// How often the destination is asked.
const LOOK: Duration = Duration::from_millis(25);
/// How long a question may go unanswered.
const PATIENCE: Duration = Duration::from_secs(15);
/// Nothing has come for so long: all has come.
const QUIET: Duration = Duration::from_secs(4);

/// CPU-seconds of the mirroring process and of the two brokers.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cpu {
    pub(crate) mirror: f64,
    pub(crate) edge: f64,
    pub(crate) core: f64,
}

impl Cpu {
    pub(crate) fn of(process: &Process) -> Result<Self> {
        let broker = |name: &str| -> Result<f64> {
            let file = Path::new(&engine("ENGINES_DIR")?).join(name).join("pid");
            let pid = std::fs::read_to_string(&file).with_context(|| format!("no {}", file.display()))?;
            Ok(usage(pid.trim().parse()?)?.cpu_seconds)
        };
        Ok(Self {
            mirror: process.usage().cpu_seconds,
            edge: broker("edge")?,
            core: broker("core")?,
        })
    }

    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self {
            mirror: self.mirror - earlier.mirror,
            edge: self.edge - earlier.edge,
            core: self.core - earlier.core,
        }
    }

    pub(crate) fn divided(&self, by: f64) -> Self {
        Self {
            mirror: self.mirror / by,
            edge: self.edge / by,
            core: self.core / by,
        }
    }
}

/// How far readers of committed records can read, all partitions together; markers of transactions are counted in.
pub(crate) async fn end(broker: &Broker, topic: &str, partitions: i32) -> Result<i64> {
    let mut sum = 0;
    for partition in 0..partitions {
        sum += broker.watermarks(topic, partition).await?.high;
    }
    Ok(sum)
}

/// The same, asked again for a while: a topic that was just made has no leader at first.
pub(crate) async fn settled_end(broker: &Broker, topic: &str, partitions: i32) -> Result<i64> {
    let began = Instant::now();
    loop {
        match end(broker, topic, partitions).await {
            Err(_) if began.elapsed() < PATIENCE => tokio::time::sleep(LOOK).await,
            outcome => return outcome,
        }
    }
}

/// A moment of a drain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) at: Instant,
    pub(crate) count: i64,
    pub(crate) cpu: Cpu,
}

/// What a drain looked like.
#[derive(Debug)]
pub(crate) struct Drain {
    pub(crate) first: Instant,
    pub(crate) last: Instant,
    /// When a tenth was there, and when nine tenths were: warm, and without the tail.
    pub(crate) warm: (Mark, Mark),
}

/// Watches until the destination's end has gone over `span`, markers counted in, and nothing more comes.
pub(crate) async fn drained(
    broker: &Broker,
    topic: &str,
    partitions: i32,
    span: Range<i64>,
    process: &mut Process,
    limit: Duration,
) -> Result<Drain> {
    let began = Instant::now();
    let count = span.end - span.start;
    let (mut first, mut last, mut seen) = (None, began, 0);
    let (mut low, mut high) = (None, None);
    loop {
        let now = settled_end(broker, topic, partitions).await? - span.start;
        let mark = || -> Result<Mark> {
            Ok(Mark {
                at: Instant::now(),
                count: now,
                cpu: Cpu::of(process)?,
            })
        };
        if now > seen {
            last = Instant::now();
            seen = now;
            first.get_or_insert(last);
            if low.is_none() && now * 10 >= count {
                low = Some(mark()?);
            }
            if high.is_none() && now * 10 >= count * 9 {
                high = Some(mark()?);
            }
        }
        if seen >= count && last.elapsed() > QUIET {
            break;
        }
        if let Some(ended) = process.ended() {
            bail!("{ended}\n{}", process.last_lines(12));
        }
        if began.elapsed() > limit {
            bail!(
                "only {seen} of {count} after {limit:?}\n{}",
                process.last_lines(12)
            );
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(Drain {
        first: first.context("nothing came")?,
        last,
        warm: (low.context("no tenth")?, high.context("no nine tenths")?),
    })
}

/// The value below which this share of the sorted values is.
pub(crate) fn share(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted
        .get(((sorted.len() as f64 * share) as usize).min(last))
        .copied()
        .unwrap_or(f64::NAN)
}
