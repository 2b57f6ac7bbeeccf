//! As a transactional producer.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::time::Duration;

use anyhow::Result;
use testkit::proxy::{End, Flow, Way};
use tokio::time::Instant;

use crate::Line;

/// The error and what caused it, with what differs from time to time left out.
fn told(error: &broker::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// Transactions of several sizes over the poor line.
pub(crate) async fn commit(line: &mut Line) -> Result<()> {
    let topic = line.topic(3).await?;
    line.poor();
    let far = line.far().await?;
    let began = Instant::now();
    drop(far.transactions(&format!("{topic}.id")).await?);
    println!(
        "the id is taken after {:.1} s, its client's first connection included",
        began.elapsed().as_secs_f64()
    );
    for count in [1, 10, 100, 300, 1000] {
        for _ in 0..2 {
            let began = Instant::now();
            let mut transactions = match far.transactions(&format!("{topic}.id")).await {
                Ok(transactions) => transactions,
                Err(error) => {
                    println!("{count} records: taking the id failed: {}", told(&error));
                    continue;
                }
            };
            let taken = began.elapsed();
            let before = line.proxy.carried();
            line.frames.take();
            let began = Instant::now();
            let batch = line.records(&topic, count);
            let outcome = transactions.commit(batch, |_| Vec::new()).await;
            let carried = line.proxy.carried().since(&before);
            println!(
                "{count} records ({} B): {} after {:.1} s, {} B up; the id took {:.1} s",
                count * crate::VALUE,
                outcome.map_or_else(|error| told(&error), |_| "committed".to_owned()),
                began.elapsed().as_secs_f64(),
                carried.up,
                taken.as_secs_f64()
            );
            if count == 10 {
                print!("{}", line.frames.table(8));
            }
        }
    }
    Ok(())
}

/// Batches of 20 over a poor line that is cut in one of 20,000 bytes each way; then a stall, then a half-open one.
pub(crate) async fn cuts(line: &mut Line) -> Result<()> {
    let topic = line.topic(3).await?;
    line.poor();
    for way in [Way::Up, Way::Down] {
        line.proxy.change(|now| now.lane_mut(way).cut = Some(20_000));
    }
    run(line, &topic, "cuts", Duration::from_secs(180), &[]).await?;
    line.poor();
    let stall = [(Duration::from_secs(10), Fault::Stall(Duration::from_secs(20)))];
    run(line, &topic, "a stall of 20 s", Duration::from_secs(60), &stall).await?;
    let half_open = [(Duration::from_secs(10), Fault::HalfOpen)];
    run(line, &topic, "half open", Duration::from_secs(120), &half_open).await
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Stall(Duration),
    HalfOpen,
}

async fn run(
    line: &mut Line,
    topic: &str,
    name: &str,
    time: Duration,
    faults: &[(Duration, Fault)],
) -> Result<()> {
    let far = line.far().await?;
    let before = line.proxy.carried();
    let began = Instant::now();
    let (mut committed, mut errors) = (0_u64, BTreeMap::<String, u32>::new());
    let mut gaps: Vec<Duration> = Vec::new();
    let mut good_at = Instant::now();
    let mut failed = false;
    let mut transactions = None;
    let mut faults = faults.iter();
    let mut fault = faults.next();
    while began.elapsed() < time {
        if let Some((_, what)) = fault.filter(|(at, _)| began.elapsed() >= *at) {
            match *what {
                Fault::HalfOpen => line.proxy.half_open(End::Client),
                Fault::Stall(long) => {
                    line.proxy.change(|now| now.flow = Flow::Stalled);
                    tokio::time::sleep(long).await;
                    line.proxy.change(|now| now.flow = Flow::Open);
                }
            }
            fault = faults.next();
        }
        let mut holder = match transactions.take() {
            Some(holder) => holder,
            None => match far.transactions(&format!("{topic}.{name}")).await {
                Ok(holder) => holder,
                Err(error) => {
                    *errors.entry(told(&error)).or_default() += 1;
                    failed = true;
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                }
            },
        };
        let batch = line.records(topic, 20);
        match holder.commit(batch, |_| Vec::new()).await {
            Ok(_) => {
                committed += 20;
                if failed {
                    gaps.push(good_at.elapsed());
                }
                failed = false;
                good_at = Instant::now();
                transactions = Some(holder);
            }
            Err(error) => {
                *errors.entry(told(&error)).or_default() += 1;
                failed = true;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
    gaps.sort();
    let carried = line.proxy.carried().since(&before);
    println!(
        "{name}: {committed} records in {:.0} s, {} connections cut, {} B up ({:.2} of them records), {} B down",
        began.elapsed().as_secs_f64(),
        carried.cut,
        carried.up,
        committed as f64 * crate::VALUE as f64 / carried.up.max(1) as f64,
        carried.down
    );
    println!(
        "    from the last good commit to the next, over {} failures: median {:.1} s, longest {:.1} s",
        gaps.len(),
        gaps.get(gaps.len() / 2)
            .copied()
            .unwrap_or_default()
            .as_secs_f64(),
        gaps.last().copied().unwrap_or_default().as_secs_f64()
    );
    for (error, times) in errors {
        println!("    {times} × {error}");
    }
    Ok(())
}
