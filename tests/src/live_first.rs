//! A link behind a cap with a long backlog: what comes in goes first, the backlog gets the rest, and the cap holds.
//! When what comes in would fill the cap alone, the backlog gets its share all the same.
//!
//! The bytes are counted by the proxy between the link and the core, so by neither of those who are judged; whose they
//! are, the link alone knows.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use broker::{Broker, Outgoing, Position, TopicSpec};
use common::budget::Class;
use common::chassis::{Config, Host, Stop, run_in};
use common::telemetry::Telemetry;
use link::Link;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use schemas::{ServiceStatus, SiteId};
use testkit::proxy::Proxy;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::installation::{engine, mutual_tls};
use crate::pair;
use crate::process::Process;

const PARTITIONS: i32 = 3;
/// The size of a record's value; nothing makes it smaller.
const VALUE: usize = 200;
/// How long a link may take until its first record of the backlog is at the core.
const BEGIN: Duration = Duration::from_secs(90);
/// How long it is watched from its start, when it finds out what waits.
const BEGINNING: Duration = Duration::from_secs(20);
/// How long the cap is watched at a time.
const WINDOW: Duration = Duration::from_secs(10);
const STOP: Duration = Duration::from_secs(60);

/// What is done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Records that wait when the link begins.
    pub records: usize,
    /// Bytes per second.
    pub cap: u64,
    /// How long it is watched.
    pub time: Duration,
    /// How many records come in meanwhile, in a second.
    pub rate: u32,
    /// How long it is watched after that, while twice as much comes in as may cross.
    pub pressed: Duration,
    /// Mutual TLS on the way.
    pub encrypted: bool,
    /// The edge's broker is an embedded one, which one process has: so the link is in this one.
    pub embedded: bool,
}

/// What became of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How long after the link's start the first record that came in was at the core, and how old those of the first
    /// twenty seconds were that came in first, in seconds. What came in before the session began goes behind.
    pub first: f64,
    /// See `first`.
    pub begin: Vec<f64>,
    /// How old records were that came in after that, in seconds, the youngest first.
    pub ages: Vec<f64>,
    /// How many of those came in and did not arrive.
    pub missing: usize,
    /// Bytes per second of both directions, in each window of ten seconds.
    pub rates: Vec<f64>,
    /// Records of the backlog that arrived in the time.
    pub backlog: i64,
    /// What of the bytes was values of those.
    pub share: f64,
    /// What became of the backlog while more came in than may cross; none when that was not watched.
    pub pressed: Option<Pressed>,
}

/// What the backlog got while what came in would have filled the cap alone.
#[derive(Debug, Clone)]
pub struct Pressed {
    /// Its part of the bytes that crossed, as the link counts its classes.
    pub share: f64,
    /// Its records that arrived.
    pub backlog: i64,
    /// Bytes per second of both directions, in each window of ten seconds.
    pub rates: Vec<f64>,
}

fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or(f64::INFINITY)
}

/// How far the worst window was from the cap, in percent.
fn off(rates: &[f64], cap: u64) -> f64 {
    let off = |rate: &f64| (rate / cap as f64 - 1.0).abs() * 100.0;
    rates.iter().map(off).fold(0.0, f64::max)
}

impl Pressed {
    /// How far the worst window was from the cap, in percent.
    pub fn off(&self, cap: u64) -> f64 {
        off(&self.rates, cap)
    }
}

impl Outcome {
    /// The age that so many of a hundred records did not exceed.
    pub fn percentile(&self, percent: usize) -> f64 {
        percentile(&self.ages, percent)
    }

    /// The same of those that came in while the link began.
    pub fn begin_percentile(&self, percent: usize) -> f64 {
        percentile(&self.begin, percent)
    }

    /// How far the worst window was from the cap, in percent.
    pub fn off(&self, cap: u64) -> f64 {
        off(&self.rates, cap)
    }

    /// How far the worst window was above the cap, in percent.
    pub fn above(&self, cap: u64) -> f64 {
        let above = |rate: &f64| (rate / cap as f64 - 1.0) * 100.0;
        self.rates.iter().map(above).fold(0.0, f64::max)
    }

    /// How much of the cap all windows together had, in percent.
    pub fn used(&self, cap: u64) -> f64 {
        let mean = self.rates.iter().sum::<f64>() / self.rates.len() as f64;
        mean / cap as f64 * 100.0
    }
}

fn values(seed: u64) -> impl FnMut() -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(seed);
    move || {
        let mut value = vec![0; VALUE];
        random.fill(&mut value[..]);
        value
    }
}

async fn fill(broker: &Broker, topic: &str, count: usize) -> Result<()> {
    let (producer, mut value, mut left) = (broker.producer()?, values(1), count);
    while left > 0 {
        let part = left.min(20_000);
        let record = |at: usize| Outgoing::new(topic, format!("sw-{:04}", at % 1000), value());
        producer.send_all((0..part).map(record).collect()).await?;
        left -= part;
    }
    Ok(())
}

async fn end(broker: &Broker, topic: &str) -> Result<i64> {
    let mut sum = 0;
    if broker.describe(topic).await?.is_some() {
        for partition in 0..PARTITIONS {
            sum += broker.watermarks(topic, partition).await?.high;
        }
    }
    Ok(sum)
}

/// A time in which records come in. Their values begin with when they were sent, as microseconds since `base`, and which
/// time it was.
#[derive(Debug, Clone, Copy)]
struct Coming {
    number: u8,
    base: Instant,
    until: Instant,
}

/// Sends at a rate.
async fn come_in(broker: Broker, topic: String, rate: u32, coming: Coming) -> Result<usize> {
    let (producer, mut value) = (broker.producer()?, values(2));
    let began = Instant::now();
    let mut sent = 0;
    while Instant::now() < coming.until {
        let mut value = value();
        let now = u64::try_from(coming.base.elapsed().as_micros()).unwrap_or(u64::MAX);
        value[..8].copy_from_slice(&now.to_be_bytes());
        value[8] = coming.number;
        let key = format!("sw-{:04}", sent % 1000);
        producer.send(Outgoing::new(&topic, key, value)).await?;
        sent += 1;
        sleep_until(began + Duration::from_secs_f64(sent as f64 / f64::from(rate))).await;
    }
    Ok(sent)
}

/// How old each record is when it can be read at the core; and when the first could be, in seconds since `base`.
async fn ages(broker: Broker, topic: String, coming: Coming) -> Result<(f64, Vec<f64>)> {
    let positions = (0..PARTITIONS).map(|partition| Position::end(&topic, partition));
    let positions: Vec<Position> = positions.collect();
    let mut reader = broker.reader(&positions).await?;
    let (mut first, mut ages) = (f64::INFINITY, Vec::new());
    while Instant::now() < coming.until + WINDOW {
        for record in reader.next(1000, Duration::from_millis(200)).await? {
            let value = record.value.as_deref().unwrap_or_default();
            let Some((sent, [number, ..])) = value.split_first_chunk() else {
                bail!("{topic} has a record that nobody sent");
            };
            if *number == coming.number {
                let sent = coming.base + Duration::from_micros(u64::from_be_bytes(*sent));
                ages.push(sent.elapsed().as_secs_f64());
                first = first.min(coming.base.elapsed().as_secs_f64());
            }
        }
    }
    ages.sort_by(f64::total_cmp);
    Ok((first, ages))
}

async fn rates(line: &Proxy, until: Instant) -> Vec<f64> {
    let mut rates = Vec::new();
    let (mut before, mut began) = (line.carried(), Instant::now());
    while began + WINDOW <= until {
        sleep_until(began + WINDOW).await;
        let (now, at) = (line.carried(), Instant::now());
        rates.push(now.since(&before).bytes() as f64 / (at - began).as_secs_f64());
        (before, began) = (now, at);
    }
    rates
}

/// Sends twice as much as may cross.
async fn flood(broker: Broker, topic: String, cap: u64, until: Instant) -> Result<()> {
    let each = usize::try_from(2 * cap)? / VALUE;
    while Instant::now() < until {
        let next = Instant::now() + Duration::from_secs(1);
        fill(&broker, &topic, each).await?;
        sleep_until(next).await;
    }
    Ok(())
}

/// What the link says has crossed: of the backlog, and of all classes.
async fn crossed(edge: &Broker) -> Result<(f64, f64)> {
    let mut newest: Option<ServiceStatus> = None;
    let visit = |record: broker::Record| {
        let status = record.value.and_then(|value| schemas::decode(&value).ok());
        let Some(status) = status else { return };
        let status: ServiceStatus = status;
        let known = newest.as_ref().map(|newest| newest.reported_at);
        if status.service == "link" && known.is_none_or(|known| known <= status.reported_at) {
            newest = Some(status);
        }
    };
    edge.read_to_end(schemas::topic::SERVICE_STATUS, visit).await?;
    let gauges = newest.context("the link reports nothing")?.gauges;
    let of = |class: Class| {
        let bytes = gauges.get(&format!("class.{class}.month_bytes"));
        bytes.copied().unwrap_or_default()
    };
    Ok((of(Class::Backlog), Class::ALL.into_iter().map(of).sum()))
}

/// Lets more come in than may cross, and watches what the backlog gets.
async fn press(
    plan: &Plan,
    (edge, topic): (&Broker, &str),
    (core, behind): (&Broker, &str),
    line: &Proxy,
) -> Result<Pressed> {
    let until = Instant::now() + WINDOW + plan.pressed;
    let coming = tokio::spawn(flood(edge.clone(), topic.to_owned(), plan.cap, until));
    // Until what comes in waits for its turn.
    sleep(WINDOW).await;
    let (before, arrived) = (crossed(edge).await?, end(core, behind).await?);
    let rates = rates(line, until).await;
    sleep_until(until).await;
    let after = crossed(edge).await?;
    coming.await??;
    Ok(Pressed {
        share: (after.0 - before.0) / (after.1 - before.1),
        backlog: end(core, behind).await? - arrived,
        rates,
    })
}

/// The link that is watched.
enum Watched {
    Process(Process),
    Here(Host, JoinHandle<Result<()>>),
}

impl Watched {
    fn start(plan: &Plan, settings: &str, directory: &Path, binary: Option<&Path>) -> Result<Self> {
        if !plan.embedded {
            return Ok(Self::Process(pair::start_link(settings, directory, binary)?));
        }
        let loaded = Config::parse(settings)?.load::<Link>()?;
        let host = Host::new("link", loaded.host, Telemetry::detached(), Stop::new());
        let task = tokio::spawn(run_in::<Link>(host.clone(), loaded.settings));
        Ok(Self::Here(host, task))
    }

    /// What it said before it ended, if it has.
    fn ended(&mut self) -> Option<String> {
        match self {
            Self::Process(process) => process.ended().map(|_| process.last_lines(20)),
            Self::Here(_, task) => task.is_finished().then(|| "the link has ended".to_owned()),
        }
    }

    async fn stop(self) -> Result<()> {
        match self {
            Self::Process(mut process) => process.stop(STOP).await,
            Self::Here(host, task) => {
                host.stop().cancel();
                timeout(STOP, task).await.context("the link does not stop")??
            }
        }
    }
}

fn settings(
    site: &SiteId,
    plan: &Plan,
    line: &Proxy,
    (edge, topic): (&str, &str),
    directory: &Path,
) -> Result<String> {
    let core = format!("kafka://{}", line.address());
    let route = pair::route("readings", "up", topic, "prefix") + "live_first = true\n";
    let more = format!("state = {:?}\n[link.budget]\ncap = \"{}B\"", directory, plan.cap);
    let tls = if plan.encrypted {
        mutual_tls()?
    } else {
        String::new()
    };
    Ok(pair::settings(site, edge, &core, &more, &(tls + &route)))
}

/// Lets records wait, starts a link, lets more come in, and watches.
///
/// # Errors
/// When an engine does not do its part, or the link carries nothing.
pub async fn run(plan: &Plan, directory: &Path, binary: Option<&Path>) -> Result<Outcome> {
    let site: SiteId = testkit::unique("edge").parse()?;
    let edge_url = if plan.embedded {
        format!("sqlite://{}", directory.join("edge.db").display())
    } else {
        engine("KAFKA_EDGE_URL")?
    };
    let (edge, core) = (
        pair::open(&edge_url, "live-first").await?,
        pair::open(&engine("KAFKA_URL")?, "live-first").await?,
    );
    let topic = testkit::unique("readings");
    let (carried, behind) = (format!("{site}.{topic}"), format!("{site}.{topic}.backlog"));
    pair::enrol(&site, &core, &edge, &[&carried], &[&topic], PARTITIONS).await?;
    core.create_topic(&TopicSpec::new(&behind, PARTITIONS)).await?;
    fill(&edge, &topic, plan.records).await?;
    let line = pair::line("KAFKA", plan.encrypted, 1, None).await?;
    let settings = settings(&site, plan, &line, (&edge_url, &topic), directory)?;
    let began = Instant::now();
    let beginning = Coming {
        number: 1,
        base: began,
        until: began + BEGINNING,
    };
    let reading = tokio::spawn(ages(core.clone(), carried.clone(), beginning));
    let sending = tokio::spawn(come_in(edge.clone(), topic.clone(), plan.rate, beginning));
    let mut link = Watched::start(plan, &settings, directory, binary)?;
    while end(&core, &behind).await? == 0 {
        if let Some(said) = link.ended() {
            bail!("the link has ended: {said}");
        }
        ensure!(began.elapsed() < BEGIN, "nothing of the backlog came");
        sleep(Duration::from_millis(200)).await;
    }
    sending.await?.context("what comes in")?;
    let (first, begin) = reading.await?.context("what arrives")?;
    // What systems' buffers took in at the beginning has crossed.
    let base = Instant::now();
    let until = base + plan.time;
    let coming = Coming {
        number: 2,
        base,
        until,
    };
    let reading = tokio::spawn(ages(core.clone(), carried, coming));
    sleep(Duration::from_secs(1)).await;
    let sending = tokio::spawn(come_in(edge.clone(), topic.clone(), plan.rate, coming));
    let before = end(&core, &behind).await?;
    let counted = line.carried();
    let rates = rates(&line, until).await;
    sleep_until(until).await;
    let backlog = end(&core, &behind).await? - before;
    let bytes = line.carried().since(&counted).bytes();
    let sent = sending.await?.context("what comes in")?;
    let (_, ages) = reading.await?.context("what arrives")?;
    let pressed = if plan.pressed.is_zero() {
        None
    } else {
        Some(press(plan, (&edge, &topic), (&core, &behind), &line).await?)
    };
    link.stop().await?;
    Ok(Outcome {
        missing: sent.saturating_sub(ages.len()),
        first,
        begin,
        ages,
        rates,
        backlog,
        share: backlog as f64 * VALUE as f64 / bytes as f64,
        pressed,
    })
}
