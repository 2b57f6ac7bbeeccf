//! What is measured of each contender.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use broker::{Broker, Outgoing, Position};
use e2e::carried::compare;
use e2e::frames::Frames;
use e2e::installation::{engine, tell_engine};
use e2e::{carried, pair};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use testkit::proxy::Carried;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::contender::{Contender, Setup};
use crate::table::Figures;
use crate::watch::{Cpu, drained, end, settled_end, share};
use crate::{Cli, PARTITIONS, VALUE, say};

const LIMIT: Duration = Duration::from_secs(900);
const STOP: Duration = Duration::from_secs(60);

/// Sends records of the usual size, in batches as large as they come.
pub(crate) async fn fill(broker: &Broker, topic: &str, count: usize) -> Result<()> {
    let mut random = StdRng::seed_from_u64(1);
    let producer = broker.producer()?;
    let mut left = count;
    while left > 0 {
        let part = left.min(20_000);
        let records = (0..part).map(|at| {
            let mut value = vec![0; VALUE];
            random.fill(&mut value[..]);
            Outgoing::new(topic, format!("sw-{:04}", (left - at) % 1000), value)
        });
        producer.send_all(records.collect()).await?;
        left -= part;
    }
    Ok(())
}

/// What there is to be carried: the steady rate of who came before is in it as well.
async fn held(setup: &Setup, topic: &str) -> Result<i64> {
    end(&setup.edge, topic, PARTITIONS).await
}

/// A drain of the whole topic from a cold start, then what it takes at a steady rate.
pub(crate) async fn drain_and_steady(
    contender: Contender,
    setup: &Setup,
    cli: &Cli,
    topic: &str,
    figures: &mut Figures,
) -> Result<()> {
    let id = testkit::unique("b").replace('-', "x");
    contender.enrol(setup, &id, topic).await?;
    let count = held(setup, topic).await?;
    let began = Instant::now();
    let mut run = contender.start(setup, &id, topic, &setup.core_url)?;
    let drain = drained(
        &setup.core,
        &run.destination,
        PARTITIONS,
        0..count,
        &mut run.process,
        LIMIT,
    )
    .await?;
    let used = run.process.usage();
    let (low, high) = drain.warm;
    let millions = (high.count - low.count) as f64 / 1e6;
    let cpu = high.cpu.since(&low.cpu).divided(millions);
    figures.cpu_mirror = Some(cpu.mirror);
    figures.cpu_source = Some(cpu.edge);
    figures.cpu_destination = Some(cpu.core);
    figures.cpu_whole = Some(used.cpu_seconds / (count as f64 / 1e6));
    figures.rate = Some(millions * 1e6 / (high.at - low.at).as_secs_f64());
    figures.rate_whole = Some(count as f64 / (drain.last - began).as_secs_f64());
    figures.first = Some((drain.first - began).as_secs_f64());
    figures.peak = Some(used.peak_bytes as f64 / f64::from(1 << 20));
    check(setup, topic, &run.destination, "drain").await?;
    if cli.measures("steady") {
        steady(setup, cli, topic, &run.destination, &mut run.process, figures).await?;
    }
    run.process.stop(STOP).await.or_else(forgiven)
}

/// MirrorMaker 2 ends with 143 when it is told to.
fn forgiven(error: anyhow::Error) -> Result<()> {
    if error.to_string().contains("143") {
        return Ok(());
    }
    Err(error)
}

async fn check(setup: &Setup, topic: &str, destination: &str, what: &str) -> Result<(usize, usize)> {
    let (edge, core) = (
        carried::open(&setup.edge_url).await?,
        carried::open(&setup.core_url).await?,
    );
    let verdicts = compare(&edge, topic, &core, destination).await?;
    let lost = verdicts.iter().map(|verdict| verdict.lost).sum();
    let twice = verdicts.iter().map(|verdict| verdict.twice).sum();
    let other: usize = verdicts
        .iter()
        .map(|verdict| verdict.strange + verdict.disordered)
        .sum();
    say(&format!(
        "  {what}: {lost} lost, {twice} twice, {other} strange or out of order"
    ));
    Ok((lost, twice))
}

/// The same, again for a minute while something is missing: what is late is not lost.
async fn check_at_rest(setup: &Setup, topic: &str, destination: &str, what: &str) -> Result<(usize, usize)> {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let (lost, twice) = check(setup, topic, destination, what).await?;
        if lost == 0 || Instant::now() > end {
            return Ok((lost, twice));
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

/// Sends at a rate until it is dropped; a value begins with its time.
struct Sender(JoinHandle<()>);

impl Sender {
    fn start(setup: &Setup, topic: &str, rate: u32, base: Instant) -> Result<Self> {
        let (producer, topic) = (setup.edge.producer()?, topic.to_owned());
        Ok(Self(tokio::spawn(async move {
            let began = Instant::now();
            for number in 0_u32.. {
                tokio::time::sleep_until(
                    began + Duration::from_secs_f64(f64::from(number) / f64::from(rate)),
                )
                .await;
                let mut value = vec![b'.'; VALUE];
                let now = u64::try_from(base.elapsed().as_micros()).unwrap_or(u64::MAX);
                value[..8].copy_from_slice(&now.to_be_bytes());
                let record = Outgoing::new(&topic, format!("sw-{:04}", number % 1000), value);
                let producer = producer.clone();
                // Not waited for: the next one is due.
                tokio::spawn(async move { producer.send(record).await });
            }
        })))
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reads from now on, and tells how old each record was.
fn ages(
    broker: Broker,
    topic: String,
    base: Instant,
    from: Instant,
    until: Instant,
) -> JoinHandle<Result<Vec<f64>>> {
    tokio::spawn(async move {
        let positions: Vec<Position> = (0..PARTITIONS)
            .map(|partition| Position::end(&topic, partition))
            .collect();
        let mut reader = broker.reader(&positions).await?;
        let mut ages = Vec::new();
        while Instant::now() < until {
            for record in reader.next(1000, Duration::from_millis(200)).await? {
                let sent = record
                    .value
                    .as_deref()
                    .and_then(|value| value.get(..8)?.try_into().ok());
                let sent = base + Duration::from_micros(sent.map_or(0, u64::from_be_bytes));
                if sent >= from {
                    ages.push(sent.elapsed().as_secs_f64() * 1000.0);
                }
            }
        }
        ages.sort_by(f64::total_cmp);
        Ok(ages)
    })
}

async fn steady(
    setup: &Setup,
    cli: &Cli,
    topic: &str,
    destination: &str,
    process: &mut e2e::process::Process,
    figures: &mut Figures,
) -> Result<()> {
    let base = Instant::now();
    let from = base + Duration::from_secs(5);
    let until = from + Duration::from_secs(cli.steady);
    let floor = ages(setup.edge.clone(), topic.to_owned(), base, from, until);
    let through = ages(setup.core.clone(), destination.to_owned(), base, from, until);
    // The readers must stand before the first record that counts.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let sender = Sender::start(setup, topic, cli.rate, base)?;
    tokio::time::sleep_until(from).await;
    let before = Cpu::of(process)?;
    let (floor, through) = (floor.await??, through.await??);
    let used = Cpu::of(process)?.since(&before);
    drop(sender);
    ensure!(!through.is_empty(), "nothing came at the steady rate");
    figures.floor_p50 = Some(share(&floor, 0.5));
    figures.delay_p50 = Some(share(&through, 0.5));
    figures.delay_p99 = Some(share(&through, 0.99));
    figures.steady_cpu = Some(used.mirror / cli.steady as f64 * 100.0);
    Ok(())
}

/// Bytes on the wire to the core, with nothing to do and with a record a second.
pub(crate) async fn wire(
    contender: Contender,
    setup: &Setup,
    cli: &Cli,
    figures: &mut Figures,
) -> Result<()> {
    let frames = Arc::new(Frames::default());
    let proxy = pair::line("KAFKA", false, 1, Some(frames.clone())).await?;
    let far = format!("kafka://{}", engine("KAFKA_LINE")?);
    let topic = testkit::unique("wire");
    setup
        .edge
        .create_topic(&broker::TopicSpec::new(&topic, PARTITIONS))
        .await?;
    let id = testkit::unique("w").replace('-', "x");
    contender.enrol(setup, &id, &topic).await?;
    fill(&setup.edge, &topic, 300).await?;
    let mut run = contender.start(setup, &id, &topic, &far)?;
    drained(
        &setup.core,
        &run.destination,
        PARTITIONS,
        0..300,
        &mut run.process,
        LIMIT,
    )
    .await?;
    tokio::time::sleep(Duration::from_secs(15)).await;
    let hourly = |carried: Carried, began: Instant| {
        carried.bytes() as f64 / began.elapsed().as_secs_f64() * 3600.0 / 1e6
    };
    let time = Duration::from_secs(cli.idle);
    frames.take();
    let (before, began) = (proxy.carried(), Instant::now());
    tokio::time::sleep(time).await;
    figures.wire_idle = Some(hourly(proxy.carried().since(&before), began));
    say(&format!("  idle, by request:\n{}", frames.table(6)));
    let sender = Sender::start(setup, &topic, 1, Instant::now())?;
    let (before, began) = (proxy.carried(), Instant::now());
    tokio::time::sleep(time).await;
    figures.wire_one = Some(hourly(proxy.carried().since(&before), began));
    drop(sender);
    run.process.stop(STOP).await.or_else(forgiven)
}

/// Killed half-way through a drain, started again at once.
pub(crate) async fn killed(
    contender: Contender,
    setup: &Setup,
    topic: &str,
    figures: &mut Figures,
) -> Result<()> {
    let id = testkit::unique("k").replace('-', "x");
    contender.enrol(setup, &id, topic).await?;
    let count = held(setup, topic).await?;
    let mut run = contender.start(setup, &id, topic, &setup.core_url)?;
    let began = Instant::now();
    while settled_end(&setup.core, &run.destination, PARTITIONS).await? * 2 < count {
        ensure!(began.elapsed() < LIMIT, "the half was never reached");
        if let Some(ended) = run.process.ended() {
            bail!("{ended}\n{}", run.process.last_lines(12));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    run.process.kill();
    let killed = Instant::now();
    run.process.again()?;
    let arrived = settled_end(&setup.core, &run.destination, PARTITIONS).await?;
    if arrived < count {
        let drain = drained(
            &setup.core,
            &run.destination,
            PARTITIONS,
            arrived..count,
            &mut run.process,
            LIMIT,
        )
        .await;
        // At least once, or with markers, the count is reached early and the rest comes in the quiet time.
        figures.kill_resume = Some((drain?.last - killed).as_secs_f64());
    }
    let (lost, twice) = check_at_rest(setup, topic, &run.destination, "kill -9 half-way").await?;
    figures.kill_lost = Some(lost as f64);
    figures.kill_twice = Some(twice as f64);
    run.process.stop(STOP).await.or_else(forgiven)
}

/// The core's broker is away; records keep coming at the edge.
pub(crate) async fn away(
    contender: Contender,
    setup: &Setup,
    cli: &Cli,
    figures: &mut Figures,
) -> Result<()> {
    let topic = testkit::unique("away");
    setup
        .edge
        .create_topic(&broker::TopicSpec::new(&topic, PARTITIONS))
        .await?;
    let id = testkit::unique("a").replace('-', "x");
    contender.enrol(setup, &id, &topic).await?;
    fill(&setup.edge, &topic, 1000).await?;
    let mut run = contender.start(setup, &id, &topic, &setup.core_url)?;
    drained(
        &setup.core,
        &run.destination,
        PARTITIONS,
        0..1000,
        &mut run.process,
        LIMIT,
    )
    .await?;
    let sender = Sender::start(setup, &topic, 200, Instant::now())?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let engines =
        async |word: &'static str| tokio::task::spawn_blocking(move || tell_engine(word, "core")).await;
    engines("stop").await??;
    tokio::time::sleep(Duration::from_secs(cli.away)).await;
    engines("start").await??;
    let back = Instant::now();
    let mut before = None;
    loop {
        // A client of its own each time: one that waited through the outage has a pause of its own to sit out.
        let core = pair::open(&setup.core_url, "probe").await?;
        if let Ok(now) = end(&core, &run.destination, PARTITIONS).await {
            let was = *before.get_or_insert(now);
            if now > was {
                break;
            }
        }
        ensure!(back.elapsed() < LIMIT, "it never came back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    figures.away_resume = Some(back.elapsed().as_secs_f64());
    drop(sender);
    tokio::time::sleep(Duration::from_secs(5)).await;
    if let Some(ended) = run.process.ended() {
        bail!("{ended}\n{}", run.process.last_lines(12));
    }
    let (lost, _) = check_at_rest(setup, &topic, &run.destination, "core's broker away").await?;
    figures.away_lost = Some(lost as f64);
    run.process
        .stop(STOP)
        .await
        .or_else(forgiven)
        .context("after the outage")
}
