//! Looks at how far the link is behind and how long the site's own broker holds that, and tells it: as gauges, as metrics,
//! and once a minute for the past.
//!
//! It needs this site's broker alone, so it goes on telling while the core is away, and while the link is paused. An
//! instance that stands by tells nothing, for it does not know how far the other one is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use common::broker::{self, Broker, Cleanup, Position, TopicDescription, Watermarks};
use common::budget::{Budget, Status};
use common::chassis::{Stop, now_ms};
use common::control::Control;
use common::telemetry;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::behind::{Behind, Here, Reached, count_key};
use crate::buffer::{Intake, Kept, Loss, losses};
use crate::checkpoint;
use crate::disk::Disk;
use crate::found::Found;
use crate::metrics::Metrics;
use crate::past::{Earlier, Figures, Past};
use crate::report::Board;
use crate::routes::{Direction, Lane};

/// How often it is told.
const TOLD: Duration = Duration::from_secs(2);
/// How often a topic's settings are read.
const DESCRIBED: Duration = Duration::from_secs(300);
/// How often the oldest record that waits is read while another one becomes it.
const AGED: Duration = Duration::from_secs(60);
/// How long the core may take to answer at first.
const SETTLED: Duration = Duration::from_secs(30);
/// How many records are read at a look.
const AT_ONCE: usize = 8;
const READ: Duration = Duration::from_secs(2);
/// A look at so many partitions costs what one may cost; at more of them one looks as much more seldom.
const PARTITIONS: u32 = 60;
/// How many topics are told of that would lose something.
const TOPICS: usize = 5;
/// How many routes have a past.
const ROUTES: usize = 32;

/// A topic of this site that is carried to the core.
#[derive(Debug, Default)]
struct Seen {
    described: Option<(Instant, TopicDescription)>,
    intake: Intake,
    /// Records a second.
    rate: Option<f64>,
    /// Bytes of a record.
    each: Option<u64>,
    /// What waits: in its order, and from outages.
    waits: [Waiting; 2],
}

/// What waits of a topic on one of the two ways that records of it go.
#[derive(Debug, Default)]
struct Waiting {
    /// Whether anything goes that way, as far as is known.
    known: bool,
    records: i64,
    /// When the oldest was made.
    since: Option<i64>,
    /// By partition: the offset that was looked at, when its record was made, and when that was read.
    oldest: BTreeMap<i32, (i64, i64, Instant)>,
}

/// Tells how the link is behind.
#[derive(Debug)]
pub(crate) struct Lookout {
    pub(crate) site: String,
    pub(crate) own: Broker,
    /// Those that go up.
    pub(crate) lanes: Vec<Lane>,
    pub(crate) found: Found,
    pub(crate) board: Arc<Board>,
    pub(crate) budget: Budget,
    pub(crate) control: Control,
    pub(crate) metrics: Metrics,
    /// How often the broker is looked at.
    pub(crate) refresh: Duration,
    /// Where the broker keeps its records.
    pub(crate) disk: Disk,
}

/// What the lookout remembers.
#[derive(Debug, Default)]
struct Memory {
    topics: BTreeMap<String, Seen>,
    losses: Vec<Loss>,
    /// The routes that go up.
    up: BTreeSet<String>,
}

impl Lookout {
    /// Looks and tells until it is told to stop, which is when no carrier is at work any more.
    pub(crate) async fn run(self, stop: Stop) -> anyhow::Result<()> {
        let (mut memory, mut past) = (Memory::default(), None);
        stop.run_until_cancelled(self.work(&mut memory, &mut past)).await;
        // The next process counts what waits from here on.
        if let Some(past) = past.as_mut().filter(|_| !self.board.stands_by()) {
            past.note(now_ms(), self.reached(&memory.up)).await;
        }
        Ok(())
    }

    async fn work(&self, memory: &mut Memory, past: &mut Option<Past>) {
        let begun = Instant::now();
        let (mut next_look, mut next_try) = (begun, begun);
        let mut told = interval(TOLD);
        told.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            told.tick().await;
            if self.board.stands_by() {
                self.control.retain_gauges(|name| !ours(name));
                continue;
            }
            if past.is_none() && Instant::now() >= next_try {
                next_try = Instant::now() + AGED;
                *past = self.remember(memory).await;
            }
            let mut looked = false;
            if Instant::now() >= next_look {
                let partitions = match self.look(memory).await {
                    Ok(partitions) => partitions,
                    Err(error) => {
                        tracing::debug!(error = %telemetry::chain(&error), "what waits here cannot be looked at");
                        0
                    }
                };
                next_look = Instant::now() + self.refresh * (partitions / PARTITIONS + 1);
                looked = true;
            }
            if let Some(past) = past.as_mut().filter(|past| looked || past.knows_nothing()) {
                past.note(now_ms(), self.reached(&memory.up)).await;
            }
            let now = now_ms();
            let behind = self.board.routes(|routes| routes.behind(Instant::now(), now));
            let status = self.budget.status();
            let contact = self.board.contact();
            self.tell(memory, &behind);
            self.metrics.tell(
                &behind,
                &self.board.lost(),
                &memory.losses[..memory.losses.len().min(TOPICS)],
                &status,
                contact,
                self.board.skew(),
            );
            // Before the core had time to answer there is nothing to say of it.
            let settled = contact.is_some() || begun.elapsed() >= SETTLED;
            if let Some(past) = past.as_mut().filter(|past| settled && past.due(now)) {
                let point = point(&behind, &memory.losses, &status, contact);
                past.write(now, point, memory.made()).await;
            }
        }
    }

    async fn remember(&self, memory: &mut Memory) -> Option<Past> {
        match Past::open(&self.own, &self.site, now_ms()).await {
            Ok((past, earlier)) => {
                let Earlier { reached, made } = earlier;
                self.board.routes(|routes| routes.remember(reached));
                for (topic, samples) in made {
                    let seen = memory.topics.entry(topic).or_default();
                    for (at, made) in samples {
                        seen.intake.see(at, made);
                    }
                }
                Some(past)
            }
            Err(error) => {
                tracing::debug!(error = %telemetry::chain(&error), "the past cannot be read");
                None
            }
        }
    }

    /// Looks at this site's broker; how many partitions there were.
    async fn look(&self, memory: &mut Memory) -> broker::Result<u32> {
        let mut lanes: Vec<Lane> = self.lanes.clone();
        lanes.extend(self.found.lanes(Direction::Up));
        memory.up = lanes.iter().map(|lane| lane.route.clone()).collect();
        let reached = self.reached(&memory.up);
        let names: BTreeSet<&str> = lanes.iter().map(|lane| lane.source.as_str()).collect();
        memory.topics.retain(|topic, _| names.contains(topic.as_str()));
        let (now, mut here, mut partitions, mut reads) = (now_ms(), BTreeMap::new(), 0, AT_ONCE);
        for lane in &lanes {
            let seen = memory.topics.entry(lane.source.clone()).or_default();
            partitions += self.look_at(lane, seen, &reached, now, &mut reads).await?;
            for (route, waits) in [&lane.route, &lane.backlog().route].into_iter().zip(&seen.waits) {
                if !waits.known {
                    continue;
                }
                let sum: &mut Here = here.entry(route.clone()).or_default();
                sum.records += waits.records;
                sum.oldest = [sum.oldest, waits.since].into_iter().flatten().min();
                sum.each = seen.each.or(sum.each);
            }
        }
        self.board.routes(|routes| routes.look(here));
        let kept: Vec<Kept> = memory
            .topics
            .iter()
            .filter_map(|(topic, seen)| seen.kept(topic, now))
            .collect();
        memory.losses = losses(&kept, self.disk.takes(memory.copies()).await);
        Ok(partitions)
    }

    /// Where the carriers of these routes are, or were last.
    fn reached(&self, routes: &BTreeSet<String>) -> Reached {
        let mut reached = self.board.routes(|routes| routes.everywhere());
        reached.retain(|key, _| {
            let route = key.split_once('/').map_or("", |(route, _)| route);
            routes.contains(live(route))
        });
        reached
    }

    async fn look_at(
        &self,
        lane: &Lane,
        seen: &mut Seen,
        reached: &Reached,
        now: i64,
        reads: &mut usize,
    ) -> broker::Result<u32> {
        for (waits, known) in seen.waits.iter_mut().zip([true, false]) {
            (waits.known, waits.records, waits.since) = (known, 0, None);
        }
        if seen
            .described
            .as_ref()
            .is_none_or(|(at, _)| at.elapsed() >= DESCRIBED)
        {
            seen.described = match self.own.describe(&lane.source).await? {
                Some(found) => Some((Instant::now(), found)),
                None => return Ok(0),
            };
        }
        let (partitions, id) = seen.described.as_ref().map_or((0, String::new()), |(_, found)| {
            (found.partitions, found.id.clone())
        });
        let mut made = 0;
        for partition in 0..partitions {
            let marks = self.own.watermarks(&lane.source, partition).await?;
            made += marks.high;
            self.board.sees(&lane.source, partition, &id, marks.high);
            let found = waiting(reached, lane, partition, marks);
            for (waits, found) in seen.waits.iter_mut().zip(found) {
                let Some((oldest, records)) = found else { continue };
                waits.known = true;
                waits.records = waits.records.saturating_add(records);
                if records == 0 {
                    waits.oldest.remove(&partition);
                    continue;
                }
                let known = waits.oldest.get(&partition);
                let stale = known.is_none_or(|(offset, _, at)| *offset != oldest && at.elapsed() >= AGED);
                if stale && *reads > 0 {
                    *reads -= 1;
                    if let Some((timestamp, size)) = self.read(&lane.source, partition, oldest).await? {
                        seen.each = Some(seen.each.map_or(size, |each| (each * 7 + size) / 8));
                        waits
                            .oldest
                            .insert(partition, (oldest, timestamp, Instant::now()));
                    }
                }
                let made_at = waits.oldest.get(&partition).map(|(_, made_at, _)| *made_at);
                waits.since = [waits.since, made_at].into_iter().flatten().min();
            }
        }
        seen.rate = seen.intake.see(now, made);
        Ok(u32::try_from(partitions).unwrap_or_default())
    }

    /// When a record was made, and how large it is.
    async fn read(&self, topic: &str, partition: i32, offset: i64) -> broker::Result<Option<(i64, u64)>> {
        let position = Position::at(topic, partition, offset);
        let mut reader = self.own.reader(&[position]).await?;
        let found = reader.next(1, READ).await?;
        Ok(found
            .first()
            .map(|record| (record.timestamp, record.size() as u64)))
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn tell(&self, memory: &Memory, behind: &BTreeMap<String, Behind>) {
        let losses = &memory.losses;
        let mut told = Figures::new();
        for (route, sum) in self.board.lost() {
            told.insert(format!("route.{route}.lost_records"), sum.records as f64);
        }
        for (route, behind) in behind {
            let mut gauge = |what: &str, value: f64| told.insert(format!("route.{route}.{what}"), value);
            gauge("lag_records", behind.records as f64);
            gauge("lag_bytes", behind.bytes as f64);
            gauge("lag_seconds", behind.seconds as f64);
            gauge("carried_records", behind.carried.0 as f64);
            gauge("carried_bytes", behind.carried.1 as f64);
            if let Some(seconds) = behind.catch_up {
                gauge("catch_up_seconds", seconds);
            }
        }
        if let Some(first) = losses.first() {
            told.insert("buffer_hours".to_owned(), hours(first));
        }
        for loss in losses.iter().take(TOPICS) {
            match &loss.topic {
                Some(topic) => {
                    told.insert(format!("buffer.{topic}.hours"), hours(loss));
                    told.insert(format!("buffer.{topic}.by"), f64::from(loss.by.code()));
                }
                None => drop(told.insert("buffer_disk_hours".to_owned(), hours(loss))),
            }
        }
        let up = behind.iter().filter(|(route, _)| memory.up.contains(live(route)));
        let up: Vec<i64> = up.map(|(_, behind)| behind.records).collect();
        if !up.is_empty() {
            told.insert("lag_records_up".to_owned(), up.iter().sum::<i64>() as f64);
        }
        self.control
            .retain_gauges(|name| !ours(name) || told.contains_key(name));
        for (name, value) in told {
            self.control.gauge(name, value);
        }
    }
}

impl Memory {
    /// How many copies there are of what comes in: of the topic with the most.
    fn copies(&self) -> u32 {
        let described = self.topics.values().filter_map(|seen| seen.described.as_ref());
        let most = described.map(|(_, topic)| topic.replication).max();
        u32::try_from(most.unwrap_or_default()).unwrap_or_default()
    }

    /// How many records each topic has taken in.
    #[expect(clippy::cast_precision_loss, reason = "offsets stay below 2^53")]
    fn made(&self) -> Figures {
        let topics = self.topics.iter();
        topics
            .filter_map(|(topic, seen)| Some((topic.clone(), seen.intake.newest()?.1 as f64)))
            .collect()
    }
}

impl Seen {
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn kept(&self, topic: &str, now: i64) -> Option<Kept> {
        let (_, found) = self.described.as_ref()?;
        if found.cleanup == Cleanup::Compact {
            return None;
        }
        let each = self.each;
        let waits: i64 = self.waits.iter().map(|waits| waits.records).sum();
        let waits = u64::try_from(waits).unwrap_or_default();
        let since = self.waits.iter().filter_map(|waits| waits.since).min();
        let age = |since: i64| Duration::from_millis(u64::try_from(now - since).unwrap_or_default());
        Some(Kept {
            topic: topic.to_owned(),
            retention: found.retention,
            most_bytes: found
                .retention_bytes
                .map(|most| most.saturating_mul(u64::from(found.partitions.unsigned_abs()))),
            oldest: since.map(age),
            waiting_bytes: waits.saturating_mul(each.unwrap_or_default()),
            bytes_per_second: self.rate.zip(each).map(|(rate, each)| rate * each as f64),
        })
    }
}

/// What waits of a partition in its order, and what of outages where there is any of that: the oldest offset, and how many records.
/// Where the carrier never was, as far as anybody knows, all of it waits.
fn waiting(reached: &Reached, lane: &Lane, partition: i32, marks: Watermarks) -> [Option<(i64, i64)>; 2] {
    let key = |route: &str| checkpoint::key(route, &lane.source, partition);
    let next = reached.get(&key(&lane.route)).copied().unwrap_or(marks.low);
    let next = next.max(marks.low);
    let backlog = key(&lane.backlog().route);
    let behind = reached.get(&backlog).zip(reached.get(&count_key(&backlog)));
    let behind = behind.map(|(oldest, records)| {
        let oldest = marks.low.max(*oldest);
        // What retention took of it waits no more.
        (oldest, (*records).min(next - oldest).max(0))
    });
    [Some((next, (marks.high - next).max(0))), behind]
}

/// The route whose backlog this is, or itself.
fn live(route: &str) -> &str {
    route.strip_suffix(".backlog").unwrap_or(route)
}

/// Whether the lookout tells this gauge.
fn ours(name: &str) -> bool {
    name.starts_with("buffer")
        || (name.starts_with("route.")
            && ![".paused", ".live_first", ".class", ".up"]
                .iter()
                .any(|rule| name.ends_with(rule)))
}

/// In hours, as finely as it is news: pages are told of every change.
fn hours(loss: &Loss) -> f64 {
    let hours = loss.seconds / 3600.0;
    let step = match hours {
        ..1.0 => 1.0 / 60.0,
        ..48.0 => 0.1,
        ..1000.0 => 1.0,
        _ => 10_f64.powf(hours.log10().floor() - 1.0),
    };
    (hours / step + 1e-6).floor() * step
}

/// What the past keeps of this moment.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn point(
    behind: &BTreeMap<String, Behind>,
    losses: &[Loss],
    status: &Status,
    contact: Option<i64>,
) -> Figures {
    let mut point = Figures::new();
    for (route, behind) in behind.iter().take(ROUTES) {
        let mut keep = |what: &str, value: f64| point.insert(format!("route.{route}.{what}"), value);
        keep("lag_records", behind.records as f64);
        keep("lag_bytes", behind.bytes as f64);
        keep("lag_seconds", behind.seconds as f64);
        if let Some(seconds) = behind.catch_up {
            keep("catch_up_seconds", seconds.round());
        }
    }
    for class in &status.classes {
        point.insert(format!("class.{}.month_bytes", class.class), class.month as f64);
    }
    if let Some(first) = losses.first() {
        point.insert("buffer_hours".to_owned(), hours(first));
    }
    if let Some(contact) = contact {
        point.insert("last_contact_at".to_owned(), contact as f64);
    }
    point
}

#[cfg(test)]
mod tests {
    use common::budget::Class;

    use super::*;

    #[test]
    fn what_waits_is_all_that_nobody_carried_and_what_went_behind() {
        let lane = Lane {
            route: "r".into(),
            direction: Direction::Up,
            source: "t".into(),
            destination: "edge.t".into(),
            class: Class::Sensors,
            live_first: true,
            backlog_of: None,
        };
        let of = |reached: &[(&str, i64)], low, high| {
            let reached = reached.iter().map(|(key, at)| ((*key).to_owned(), *at));
            waiting(&reached.collect(), &lane, 1, Watermarks { low, high })
        };
        assert_eq!(of(&[], 20, 100), [Some((20, 80)), None], "nobody was there");
        assert_eq!(of(&[("r/t/0", 90)], 20, 100)[0], Some((20, 80)));
        assert_eq!(of(&[("r/t/1", 90)], 20, 100), [Some((90, 10)), None]);
        assert_eq!(of(&[("r/t/1", 10)], 20, 100)[0], Some((20, 80)), "retention");
        let both = [
            ("r/t/1", 90),
            ("r.backlog/t/1", 30),
            ("r.backlog/t/1/records", 40),
        ];
        assert_eq!(of(&both, 20, 100), [Some((90, 10)), Some((30, 40))]);
        assert_eq!(of(&both, 60, 100), [Some((90, 10)), Some((60, 30))]);
        assert_eq!(of(&both, 95, 100), [Some((95, 5)), Some((95, 0))]);
    }
}
