//! One session of a direction: from taking over the transactional id to the first error.
//!
//! The order of its steps is the protocol, whatever carries:
//! 1. take over the transactional id, which fences whatever an earlier session left and settles its last commit;
//! 2. read the checkpoints at the destination to the end: only now do they tell the truth; and the newest mark among
//!    them, which says who may carry (see [`crate::holder`]);
//! 3. go on where they say, writing down first what is lost;
//! 4. carry batches: the records and the checkpoints that vouch for them in one transaction, opened when the whole
//!    batch is in hand.
//!
//! After any error, an unknown commit included, the session is over and everything of it is dropped; so it may be
//! dropped at any point. One transaction may carry several partitions: a reader of committed records sees all of it or
//! nothing, so each partition's records and its checkpoint still come and go together.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use common::broker::{Outgoing, Position, Start};
use common::chassis::Stop;
use common::schemas::{Checkpoint, OffsetSpan, PathHop};
use common::telemetry;
use tokio::time::Instant;

use crate::backlog::{self, Backlog};
use crate::batches::{self, Batches};
use crate::carrier::Carrier;
use crate::error::{Error, Result};
use crate::paths::Ways;
use crate::records::{self, Records};
use crate::routes::{Direction, Lane};
use crate::trouble::Trouble;
use crate::wire::{End, Wire};
use crate::{checkpoint, holder, lanes, paths};

/// Why a session ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was told to.
    Stopped,
    /// Something that was missing is to be looked for again.
    LookAgain,
    /// There is nothing to be carried, and nothing will come by itself.
    Nothing,
}

/// The partitions under way, by source topic and partition.
pub(crate) type Progress = HashMap<(String, i32), Checkpoint>;

/// Where partitions are not read any further: the ends of the spans of a backlog, the oldest first.
pub(crate) type Limits = HashMap<(String, i32), VecDeque<OffsetSpan>>;

/// What carries: chosen anew for each session.
#[derive(Debug)]
enum Carriage {
    /// Record by record, between any brokers.
    Records(Records),
    /// Batches, from or to a Kafka.
    Batches(Box<Batches>),
}

/// What is known of ways when a session begins.
struct Known {
    /// Those of the source's topics, and where word of others will be.
    source: Ways,
    end: Option<i64>,
    /// Those of the destination's, where they are to be told.
    told: Ways,
    tells: bool,
    news: HashMap<String, Option<Vec<PathHop>>>,
}

/// How long record by record goes on without a record before batches are tried again.
const QUIET: Duration = Duration::from_secs(30);

/// A running session.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    carrier: &'a Carrier,
    carriage: Carriage,
    progress: Progress,
    limits: Limits,
    /// What keeps some lanes from being carried, until it is looked at again.
    missing: Vec<String>,
    /// Lanes that would close a ring, until word comes of other ways.
    rings: Vec<String>,
}

impl<'a> Session<'a> {
    /// Steps 1 to 3.
    pub(crate) async fn open(carrier: &'a Carrier, trouble: &Trouble) -> Result<Self> {
        let leads_out = carrier.wire.as_ref().is_some_and(Wire::leads_out);
        carrier.report.detour(leads_out && !trouble.batches());
        let (carriage, found) = match carrier.wire.as_ref().filter(|_| trouble.batches()) {
            Some(wire) => {
                let (batches, found) = Box::pin(Batches::open(carrier, wire)).await?;
                (Carriage::Batches(Box::new(batches)), found)
            }
            None => {
                if carrier
                    .destination
                    .describe(&carrier.checkpoints)
                    .await?
                    .is_none()
                {
                    let (topic, site) = (carrier.checkpoints.clone(), carrier.site.to_string());
                    return Err(Error::NotEnrolled { topic, site });
                }
                let records = Records::take_over(carrier).await?;
                let found = match carrier.wire.as_ref().map(|wire| &wire.destination) {
                    Some(End::Kafka(cluster)) => batches::checkpoints(carrier, cluster).await?,
                    _ => checkpoint::find(&carrier.destination, &carrier.checkpoints).await?,
                };
                (Carriage::Records(records), found)
            }
        };
        let mut session = Self {
            carrier,
            carriage,
            progress: Progress::new(),
            limits: Limits::new(),
            missing: Vec::new(),
            rings: Vec::new(),
        };
        if let Some(own) = &carrier.holder {
            holder::confirm(found.holder(), own)?;
        }
        let found = found.all()?;
        carrier.found.hear(carrier.direction, found.values());
        session.resume(found, trouble).await?;
        Ok(session)
    }

    async fn resume(&mut self, mut found: HashMap<String, Checkpoint>, trouble: &Trouble) -> Result<()> {
        let Carrier { site, settings, .. } = self.carrier;
        let sides = self.carrier.sides();
        let (mut positions, mut lost, mut waits) = (Vec::new(), Vec::new(), false);
        let mut begun = Vec::new();
        let mut ways = self.ways().await?;
        for lane in &self.carrier.lanes {
            let has_spans = |live: &Checkpoint, route: &String| {
                live.route == *route && live.source_topic == lane.source && !live.backlog.is_empty()
            };
            // Most lanes never have put anything aside: they need no topic for it.
            if let Some(route) = &lane.backlog_of
                && !found.values().any(|live| has_spans(live, route))
            {
                continue;
            }
            let seen = match &self.carriage {
                Carriage::Batches(batches) => batches.seen(lane),
                Carriage::Records(_) => None,
            };
            let ready = match seen {
                Some(seen) => Ok(seen),
                // What is missing or differs is made or told in one way.
                None => lanes::ready(lane, site.as_str(), sides, *settings.retention).await?,
            };
            let topic = match ready {
                Ok(topic) => topic,
                Err(problem) => {
                    self.missing.push(problem);
                    continue;
                }
            };
            if let Err(ring) = self.lead(lane, &topic.id, &mut ways).await? {
                tracing::warn!(direction = %lane.direction, topic = %lane.source, "{ring}");
                self.rings.push(ring);
                continue;
            }
            let live_first = self.live_first(lane, topic.partitions, trouble).await?;
            for partition in 0..topic.partitions {
                let known = found.remove(&checkpoint::key(&lane.route, &lane.source, partition));
                // Only a checkpoint of this very topic can be ahead of it by accident. Of a backlog that of its lane is never
                // behind it.
                let of = lane.backlog_of.as_ref();
                let live = of.and_then(|route| found.get(&checkpoint::key(route, &lane.source, partition)));
                let next = live.or(known.as_ref());
                let next = next.filter(|known| checkpoint::topic_id(&known.source_epoch) == topic.id);
                let next = next.map_or(0, |known| known.next_offset);
                let seen = match &self.carriage {
                    Carriage::Batches(batches) => batches.marks(&lane.source, partition),
                    Carriage::Records(_) => None,
                };
                let marks = match seen.filter(|seen| next <= seen.high) {
                    Some(seen) => seen,
                    None => lanes::settled(sides.0, &lane.source, partition, next).await?,
                };
                if of.is_some() {
                    let resumed = backlog::resume(known, live, lane, partition, &topic.id, marks);
                    if let Some(backlog) = resumed {
                        lost.extend(self.begin_backlog(backlog, &mut positions));
                    }
                    continue;
                }
                let behind = found.get(&checkpoint::key(&lane.backlog().route, &lane.source, partition));
                // Who carries it tells more, once he may.
                behind
                    .into_iter()
                    .for_each(|behind| self.carrier.report.was(behind));
                let waited = known.as_ref().map_or(0, |known| backlog::waits(known, behind));
                let mut resumed = checkpoint::resume(known, lane, partition, &topic.id, marks);
                if resumed.anew {
                    let seen = self.carrier.report.seen(&lane.source, partition);
                    let from = resumed.lost.as_ref().map_or(0, |lost| lost.source);
                    let seen = seen.map(|end| (end - from).max(0));
                    let spans = (waited > 0).then_some(0);
                    resumed.count(seen.or(spans).map(|seen| seen + waited));
                    // What goes on with the backlog of before is to hear of it.
                    waits = true;
                }
                begun.push(((lane.source.clone(), partition), marks.high));
                backlog::prune(&mut resumed.checkpoint, behind);
                let most = i64::try_from(settings.backlog_after).unwrap_or(i64::MAX);
                if live_first && backlog::split(&mut resumed.checkpoint, marks.high, most) {
                    tracing::info!(
                        topic = %lane.source, partition, live = marks.high, "what waits goes to the backlog"
                    );
                    resumed.start = Start::Offset(marks.high);
                    if resumed.lost.is_none() {
                        lost.push(checkpoint::record(&self.carrier.checkpoints, &resumed.checkpoint));
                    }
                }
                waits |= !resumed.checkpoint.backlog.is_empty();
                positions.push(Position {
                    topic: lane.source.clone(),
                    partition,
                    start: resumed.start,
                });
                if let Some(range) = resumed.lost {
                    tracing::warn!(
                        topic = %lane.source, partition, offset = range.source, count = range.count,
                        reason = %range.reason, "records are lost to the other site"
                    );
                    self.carrier.report.lost(&lane.source, partition, &range);
                    lost.push(checkpoint::record(&self.carrier.checkpoints, &resumed.checkpoint));
                }
                self.carrier.report.losses(&resumed.checkpoint);
                self.progress
                    .insert((lane.source.clone(), partition), resumed.checkpoint);
            }
        }
        // Told before a record goes that way.
        paths::tell(&self.carrier.destination, site, &ways.told, ways.news).await?;
        if !lost.is_empty() {
            match &mut self.carriage {
                Carriage::Records(records) => records.note(lost).await?,
                Carriage::Batches(batches) => batches.note(self.carrier, lost).await?,
            }
        }
        // Until it is written down what of another incarnation is lost, its end is the one that is known.
        for (at, end) in begun {
            if let Some(known) = self.progress.get(&at) {
                self.carrier.report.begin(&at.0, at.1, &known.source_epoch, end);
            }
        }
        if waits {
            self.carrier.bell.ring();
        }
        match &mut self.carriage {
            Carriage::Records(records) => records.read(self.carrier, positions, ways.end).await,
            Carriage::Batches(batches) => batches.read(self.carrier, &self.progress).await,
        }
    }

    /// By which ways the source's topics came there, and what this site's link has told of its own.
    async fn ways(&mut self) -> Result<Known> {
        let (source, end) = match &mut self.carriage {
            Carriage::Batches(batches) => (batches.ways(self.carrier).await?, None),
            Carriage::Records(_) => {
                let loaded = paths::load(&self.carrier.source).await;
                let unseen = loaded.is_err().then_some(paths::UNSEEN);
                self.carrier
                    .report
                    .remark(paths::about(self.carrier.direction), unseen);
                match loaded {
                    Ok(Some((ways, end))) => (ways, Some(end)),
                    Ok(None) => (Ways::default(), None),
                    Err(error) => {
                        tracing::debug!(error = %telemetry::chain(&error), "ways at the source cannot be read");
                        (Ways::default(), None)
                    }
                }
            }
        };
        let mut known = Known {
            source,
            end,
            told: Ways::default(),
            tells: false,
            news: HashMap::new(),
        };
        // What goes up has its way in its name.
        if self.carrier.direction == Direction::Down
            && let Some((told, _)) = paths::load(&self.carrier.destination).await?
        {
            (known.told, known.tells) = (told, true);
        }
        Ok(known)
    }

    /// Whether a lane may be carried: not if it would close a ring.
    async fn lead(
        &mut self,
        lane: &Lane,
        from: &str,
        ways: &mut Known,
    ) -> Result<std::result::Result<(), String>> {
        let site = &self.carrier.site;
        let seen = match &self.carriage {
            Carriage::Batches(batches) => batches.place(lane),
            Carriage::Records(_) => None,
        };
        let to = match seen {
            Some(seen) => seen.to_owned(),
            // One that was made a moment ago is on nobody's way.
            None if !ways.source.lead_to(&lane.source) => String::new(),
            None => {
                let found = self.carrier.sides().1.look(&lane.destination).await?;
                found.map(|(shape, _)| shape.id).unwrap_or_default()
            }
        };
        let told = ways.told.told(site, &lane.destination);
        let led = ways.source.lead(site, lane, (from, &to), told);
        if ways.tells {
            let way = led.as_ref().ok().cloned();
            ways.news.insert(lane.destination.clone(), way);
        }
        Ok(led.map(drop))
    }

    /// Whether what waits of a lane may go behind what comes in: only where that has a topic, and not while a record is
    /// looked for that the destination refuses.
    async fn live_first(&mut self, lane: &Lane, partitions: i32, trouble: &Trouble) -> Result<bool> {
        if !lane.live_first || !trouble.over() || self.carrier.class.is_none() {
            return Ok(false);
        }
        let backlog = lane.backlog();
        let found = self.carrier.found.lanes(lane.direction);
        if let Some(other) = found
            .iter()
            .find(|other| other.destination == backlog.destination)
        {
            self.missing.push(format!(
                "what waits goes in its order: route {} carries to {}",
                other.route, other.destination
            ));
            return Ok(false);
        }
        if let Carriage::Batches(batches) = &self.carriage
            && batches.leads_to(&backlog, partitions)
        {
            return Ok(true);
        }
        let Carrier { site, settings, .. } = self.carrier;
        let made = lanes::ready(&backlog, site.as_str(), self.carrier.sides(), *settings.retention).await?;
        if let Err(problem) = &made {
            self.missing
                .push(format!("what waits goes in its order: {problem}"));
        }
        Ok(made.is_ok())
    }

    /// Begins with a partition's backlog; the record of what is lost of it.
    fn begin_backlog(&mut self, backlog: Backlog, positions: &mut Vec<Position>) -> Option<Outgoing> {
        let Backlog {
            checkpoint,
            spans,
            lost,
        } = backlog;
        let (topic, partition) = (checkpoint.source_topic.clone(), checkpoint.partition);
        self.carrier.report.losses(&checkpoint);
        let lost = lost.map(|range| {
            self.carrier.report.lost(&topic, partition, &range);
            checkpoint::record(&self.carrier.checkpoints, &checkpoint)
        });
        if !spans.is_empty() {
            positions.push(Position {
                topic: topic.clone(),
                partition,
                start: Start::Offset(checkpoint.next_offset),
            });
            self.limits.insert((topic.clone(), partition), spans.into());
            self.progress.insert((topic, partition), checkpoint);
        }
        lost
    }

    /// What keeps some of the topics from being carried.
    pub(crate) fn missing(&self) -> Option<String> {
        let all = [&self.missing[..], &self.rings].concat();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// Step 4, until `stop`.
    pub(crate) async fn carry(&mut self, trouble: &mut Trouble, stop: &Stop) -> Result<Ended> {
        let Self {
            carrier,
            carriage,
            progress,
            limits,
            missing,
            rings,
        } = self;
        if progress.is_empty() && missing.is_empty() && rings.is_empty() {
            carrier.report.behind(BTreeMap::new(), progress);
            return Ok(Ended::Nothing);
        }
        let ended = match carriage {
            Carriage::Records(records) => {
                by_records(carrier, records, (progress, limits), missing, trouble, stop).await
            }
            Carriage::Batches(batches) => {
                let missing = !missing.is_empty();
                batches
                    .carry(carrier, (progress, limits), missing, trouble, stop)
                    .await
            }
        };
        carrier.report.here(progress);
        ended
    }
}

async fn by_records(
    carrier: &Carrier,
    records: &mut Records,
    (progress, limits): (&mut Progress, &mut Limits),
    missing: &[String],
    trouble: &mut Trouble,
    stop: &Stop,
) -> Result<Ended> {
    let refresh = *carrier.settings.refresh;
    look(carrier, progress).await?;
    let (mut looked, mut busy) = (Instant::now(), Instant::now());
    loop {
        if looked.elapsed() >= refresh {
            if !missing.is_empty() {
                return Ok(Ended::LookAgain);
            }
            look(carrier, progress).await?;
            looked = Instant::now();
        }
        let found = tokio::select! {
            () = stop.cancelled() => return Ok(Ended::Stopped),
            found = records.gather(carrier) => found?,
        };
        if !found.is_empty() {
            busy = Instant::now();
        }
        let (found, behind) = backlog::within(found, limits);
        for batch in records::cut(carrier, found, trouble) {
            records.commit(carrier, progress, batch, trouble).await?;
            if stop.is_cancelled() {
                return Ok(Ended::Stopped);
            }
        }
        for at in behind {
            if let (Some(known), Some(span)) =
                (progress.get_mut(&at), limits.get(&at).and_then(VecDeque::front))
            {
                known.next_offset = span.until;
            }
        }
        let done = backlog::done(progress, limits);
        if !done.is_empty() {
            let noted = done
                .iter()
                .map(|done| checkpoint::record(&carrier.checkpoints, done));
            records.note(noted.collect()).await?;
            done.iter().for_each(|done| carrier.report.was(done));
            return Ok(Ended::LookAgain);
        }
        if carrier.wire.is_some() && (trouble.batches() || busy.elapsed() > QUIET) {
            *trouble = Trouble::default();
            return Ok(Ended::LookAgain);
        }
    }
}

/// Asks both sides whether they are what they were, and how much is waiting.
async fn look(carrier: &Carrier, progress: &Progress) -> Result<()> {
    let (mut lag, mut routes) = (0, BTreeMap::new());
    let mut epochs: HashMap<&str, String> = HashMap::new();
    for ((topic, partition), checkpoint) in progress {
        if !epochs.contains_key(topic.as_str()) {
            let changed = || Error::Changed { topic: topic.clone() };
            let found = carrier.source.describe(topic).await?.ok_or_else(changed)?;
            // Partitions that were added are carried by the next session.
            let more = (topic.clone(), found.partitions - 1);
            if !carrier.carries_backlogs() && !progress.contains_key(&more) {
                return Err(changed());
            }
            epochs.insert(topic, found.id);
        }
        let id = checkpoint::topic_id(&checkpoint.source_epoch);
        if epochs.get(topic.as_str()).is_none_or(|known| known != id) {
            return Err(Error::Changed { topic: topic.clone() });
        }
        let marks = carrier.source.watermarks(topic, *partition).await?;
        carrier.report.sees(topic, *partition, id, marks.high);
        let wait = (marks.high - checkpoint.next_offset).max(0);
        lag += wait;
        routes.entry(checkpoint.route.clone()).or_insert((0, 0)).0 += wait;
    }
    carrier.report.behind(routes, progress);
    carrier.destination.ping().await?;
    carrier.report.looked(lag);
    Ok(())
}

/// How long a stop waits for the transaction in hand.
pub(crate) const DRAIN: Duration = Duration::from_secs(5);
