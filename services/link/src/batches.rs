//! Carrying whole batches, from or to a Kafka: what one broker stores goes to the other as it is, or is made of records
//! (and becomes records) where one side is the broker in this process.
//!
//! Reading goes on while a transaction commits. A transaction takes as much as the line carries in a moment, and what
//! does not fit waits for the next; on a line that carries more than is in hand at a time it takes several such steps,
//! since a commit costs brokers as much as some thousand records. Batches that cannot go as they are are written anew by
//! [`crate::pieces`]; what even that cannot do (an old format) ends the session, and the next one carries record by record
//! until it is past. A record that the destination refuses ends it too, and the next ones look for it in smaller and smaller
//! pieces ([`crate::trouble`]) and put it aside. The far side is asked for nothing while there is nothing to say:
//! one long poll.

mod apart;
mod opening;
mod sink;
mod source;

pub(crate) use sink::{checkpoints, each, from, mark};

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::broker::{Outgoing, Watermarks};
use common::chassis::{Stop, now_ms};
use common::kafka::{Error as Wired, Start};
use tokio::time::Instant;

use crate::carrier::Carrier;
use crate::error::{Error, Result};
use crate::lanes::Shape;
use crate::pieces::{self, Form, Freight, News};
use crate::refused::Refused;
use crate::routes::Direction;
use crate::session::{Ended, Limits, Progress};
use crate::trouble::Trouble;
use crate::{backlog, checkpoint, offsets, paths};

use sink::Sink;
use source::Source;

/// The most bytes in one answer of the source, and about as many in one step of a transaction.
const BYTES: usize = 1024 * 1024;
/// The most bytes of a transaction, in several steps.
const TOGETHER: usize = 8 * 1024 * 1024;
/// A transaction begins with this much, until it is known what the line carries: little, for a cut takes all of it away.
const LEAST_BYTES: usize = 32 * 1024;
/// The least that a transaction takes, where hardly anything more may cross: one that a limit cuts off has crossed for nothing.
const FEWEST_BYTES: usize = 4 * 1024;
/// What may still cross of a class, when a session begins, comes in at least so many answers of the core.
const ANSWERS: u64 = 8;
/// On a line that carries less than this in a moment, batches are cut for their size alone.
const WHOLE_BYTES: usize = 256 * 1024;
/// So many records are soon carried one by one, when a refused one is looked for among them.
const FEW: usize = 200;
/// Transactions that are faster may be larger; those that are slower should be smaller. On a long line that is so many
/// round trips, for two of each transaction carry nothing.
const FAST: (Duration, u32) = (Duration::from_millis(500), 10);
const SLOW: (Duration, u32) = (Duration::from_secs(4), 20);
/// The longest round trip that is taken into account.
const ROUND: Duration = Duration::from_secs(1);
/// About what a transaction takes on the line beside its records: the checkpoint, and two round trips.
const AROUND: u64 = 1500;
/// Behind a cap that is to be at most one part in so many, unless records waited longer than this for it.
const AROUND_PART: u64 = 8;
const LONGEST_LINGER: Duration = Duration::from_secs(1);
/// How long a transaction waits for what the source has and did not send yet.
const SOON: Duration = Duration::from_millis(100);
/// How often the core is looked at when nothing goes there.
const FAR_LOOK: Duration = Duration::from_secs(300);
/// How often the core's topics are looked at. Each poll shows that the core is there and the topics are what they were;
/// only new partitions have to be looked for.
const FAR_TOPICS: Duration = Duration::from_secs(900);

/// What carries batches.
#[derive(Debug)]
pub(crate) struct Batches {
    source: Source,
    sink: Sink,
    /// The source topics as they were before anything was decided about them, and where their partitions begin and end.
    shapes: HashMap<String, Shape>,
    marks: HashMap<(String, i32), Watermarks>,
    /// The destination topics as they were then.
    places: HashMap<String, Shape>,
    /// What came and is not carried yet.
    waiting: VecDeque<News>,
    /// The ends of the source partitions, as last heard.
    ends: HashMap<(Arc<str>, i32), i64>,
    /// How much a transaction takes.
    bytes: usize,
    /// When the last transaction began.
    begun: Option<Instant>,
    /// What of the transaction in hand is written.
    written: Written,
    /// The time of the newest record that was carried, by route.
    newest: HashMap<String, i64>,
}

/// The steps of a transaction that is not committed yet. The checkpoints are as if it were: should it not come to that,
/// the session is over.
#[derive(Debug, Default)]
struct Written {
    /// Whose checkpoints will go with it.
    places: BTreeSet<(String, i32)>,
    /// The route, how many records, how many bytes, and the time of the newest one.
    loads: Vec<(String, usize, usize, i64)>,
}

impl Written {
    fn bytes(&self) -> usize {
        self.loads.iter().map(|(_, _, bytes, _)| bytes).sum()
    }

    fn records(&self) -> usize {
        self.loads.iter().map(|(_, records, ..)| records).sum()
    }
}

/// What was seen of topics: the sources, where their partitions begin and end, and the destinations.
type Seen = (
    HashMap<String, Shape>,
    HashMap<(String, i32), Watermarks>,
    HashMap<String, Shape>,
);

impl Batches {
    fn new(carrier: &Carrier, source: Source, sink: Sink, (shapes, marks, places): Seen) -> Self {
        Self {
            source,
            sink,
            shapes,
            marks,
            places,
            waiting: VecDeque::new(),
            ends: HashMap::new(),
            bytes: carrier
                .pace
                .load(Ordering::Relaxed)
                .clamp(LEAST_BYTES, WHOLE_BYTES),
            begun: None,
            written: Written::default(),
            newest: HashMap::new(),
        }
    }

    /// Begins to read where the checkpoints say.
    pub(crate) async fn read(&mut self, carrier: &Carrier, progress: &Progress) -> Result<()> {
        let mut starts: Vec<Start> = progress
            .iter()
            .map(|((topic, partition), at)| Start {
                topic: topic.clone(),
                partition: *partition,
                offset: at.next_offset,
            })
            .collect();
        starts.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        // Word of other ways is read along where that costs nothing.
        if let Some(marks) = self.marks(paths::TOPIC, 0) {
            let ways = Start {
                topic: paths::TOPIC.to_owned(),
                partition: 0,
                offset: marks.high,
            };
            if starts.is_empty() || self.source.goes_along(&ways, &starts) {
                starts.push(ways);
            }
        }
        // What becomes records takes many times its room.
        let mut most = self.sink.most_bytes(carrier);
        // What a limit cuts off of an answer has crossed for nothing.
        let left = carrier.budget.left(carrier.crosses());
        if let (Direction::Down, Some(left)) = (carrier.direction, left) {
            let part = usize::try_from(left / ANSWERS).unwrap_or(most);
            most = most.min(part.max(FEWEST_BYTES));
        }
        // The core's topics are looked at over the connection of the polls: any other would have to be opened for it, since
        // brokers close one on which nothing is said for ten minutes.
        let look = (carrier.direction == Direction::Down).then_some(FAR_TOPICS);
        self.source.open(&starts, most, look).await?;
        tracing::debug!(direction = %carrier.direction, partitions = starts.len(), "batches are carried as they are");
        Ok(())
    }

    /// Writes checkpoints that vouch for no record.
    pub(crate) async fn note(&mut self, carrier: &Carrier, checkpoints: Vec<Outgoing>) -> Result<()> {
        self.sink.note(checkpoints).await?;
        carrier.report.skew(self.sink.skew());
        Ok(())
    }

    /// Carries until `stop`.
    pub(crate) async fn carry(
        &mut self,
        carrier: &Carrier,
        (progress, limits): (&mut Progress, &mut Limits),
        missing: bool,
        trouble: &mut Trouble,
        stop: &Stop,
    ) -> Result<Ended> {
        let refresh = *carrier.settings.refresh;
        let since = Instant::now();
        let (mut near, mut far) = (since, since);
        // What is missing is looked for less and less often: each time all of the opening crosses the link.
        let again = Duration::from_secs(carrier.again.load(Ordering::Relaxed)).max(refresh);
        if !missing {
            carrier.again.store(0, Ordering::Relaxed);
        }
        loop {
            let due = (near + refresh).saturating_duration_since(Instant::now());
            tokio::select! {
                () = stop.cancelled() => return Ok(Ended::Stopped),
                gathered = self.gather(carrier) => gathered?,
                () = tokio::time::sleep(due) => {}
            }
            self.carry_waiting(carrier, progress, limits, trouble, stop)
                .await?;
            if stop.is_cancelled() {
                return Ok(Ended::Stopped);
            }
            let done = backlog::done(progress, limits);
            if !done.is_empty() {
                let records = done
                    .iter()
                    .map(|done| checkpoint::record(&carrier.checkpoints, done));
                self.note(carrier, records.collect()).await?;
                done.iter().for_each(|done| carrier.report.was(done));
                if progress.is_empty() {
                    self.report(carrier, progress, limits);
                    return Ok(if missing { Ended::LookAgain } else { Ended::Nothing });
                }
                self.waiting.clear();
                self.read(carrier, progress).await?;
            }
            self.report(carrier, progress, limits);
            if near.elapsed() < refresh {
                continue;
            }
            if missing && since.elapsed() >= again {
                carrier
                    .again
                    .store((again * 2).min(FAR_LOOK).as_secs(), Ordering::Relaxed);
                return Ok(Ended::LookAgain);
            }
            let with_core = carrier.direction == Direction::Up && far.elapsed() >= FAR_LOOK.max(refresh);
            self.look(carrier, with_core).await?;
            near = Instant::now();
            if with_core {
                far = near;
            }
        }
    }

    /// Waits for news, then a moment for more, so that a slow trickle does not become a transaction each. Safe to
    /// drop: what came is kept.
    async fn gather(&mut self, carrier: &Carrier) -> Result<()> {
        if self.waiting.is_empty() {
            let news = self.source.next().await?;
            self.take(carrier, news);
            if carrier.direction == Direction::Down {
                carrier.report.contact();
            }
        }
        // What came while the last transaction went its way has waited long enough.
        let soon = Instant::now() + *carrier.settings.linger / 4;
        let linger = linger(carrier);
        let until = self.begun.map_or(soon, |begun| soon.max(begun + linger));
        // What fills a poll is no trickle.
        let enough = if self.source.at_home() {
            self.bytes
        } else {
            self.bytes.min(WHOLE_BYTES)
        };
        loop {
            let bytes: usize = self.waiting.iter().map(News::bytes).sum();
            if bytes == 0 || bytes >= enough {
                return Ok(());
            }
            match tokio::time::timeout_at(until, self.source.next()).await {
                Ok(news) => self.take(carrier, news?),
                Err(_) => return Ok(()),
            }
        }
    }

    /// Takes what came; word of other ways is for all carriers.
    fn take(&mut self, carrier: &Carrier, mut news: Vec<News>) {
        news.retain(|news| {
            let path = *news.topic == *paths::TOPIC;
            if path {
                news.keys().iter().for_each(|key| carrier.paths.ring(key));
            }
            !path
        });
        News::join(&mut self.waiting, news);
    }

    /// How much a step of a transaction takes now: what the line was seen to carry in a moment.
    fn room(&self, carrier: &Carrier) -> usize {
        self.bytes
            .max(LEAST_BYTES)
            .min(self.most(carrier))
            .max(FEWEST_BYTES)
    }

    /// The most that all of a transaction takes now: no more than its cap allows, and of what may still cross of its class
    /// so much that it comes to its end.
    fn most(&self, carrier: &Carrier) -> usize {
        let cap = carrier.budget.cap();
        let cap = cap.map(|cap| cap.saturating_mul(self.span(SLOW).as_secs()));
        let left = carrier.budget.left(carrier.crosses()).map(|left| left / 4 * 3);
        let most = cap.into_iter().chain(left).min();
        let most = most.and_then(|most| usize::try_from(most).ok());
        most.map_or(TOGETHER, |most| most.min(TOGETHER))
    }

    /// A time, or so many round trips if they are longer.
    fn span(&self, (time, rounds): (Duration, u32)) -> Duration {
        time.max(self.sink.round_trip().min(ROUND) * rounds)
    }

    /// Carries what is waiting, in as many transactions as that takes.
    async fn carry_waiting(
        &mut self,
        carrier: &Carrier,
        progress: &mut Progress,
        limits: &Limits,
        trouble: &mut Trouble,
        stop: &Stop,
    ) -> Result<()> {
        let (mut cargo, mut bytes, mut records) = (Vec::new(), 0, 0);
        // Partitions of which the source has more than what came.
        let mut ahead = HashSet::new();
        let most_records = self.sink.most_records(carrier);
        while let Some(mut news) = self.waiting.pop_front() {
            let at = (news.topic.to_string(), news.partition);
            let damaged = |source| Wired::Damaged {
                topic: at.0.clone(),
                partition: at.1,
                source,
            };
            if let Some(span) = limits.get(&at).and_then(VecDeque::front) {
                news = news.before(span.until).map_err(damaged)?;
            }
            let stray = || Error::Stray {
                topic: at.0.clone(),
                partition: at.1,
            };
            let known = progress.get_mut(&at).ok_or_else(stray)?;
            // As much as goes at a time, for the rest may find that the line carries more, or less.
            let mut room = self.room(carrier);
            if let Some(rest) = news.split(room) {
                self.waiting.push_front(rest);
            }
            if let Some(stable) = news.stable {
                let of = (news.topic.clone(), news.partition);
                if stable > news.next {
                    ahead.insert(of.clone());
                } else {
                    ahead.remove(&of);
                }
                self.ends.insert(of, stable);
            }
            let (from, behind, empty) = (known.next_offset.max(news.from), news.next, news.is_empty());
            let largest = if room < WHOLE_BYTES {
                room
            } else {
                self.most(carrier).max(room)
            };
            let to = known.destination_topic.clone();
            let form = trouble.form(self.sink.form(carrier, &to, largest));
            // Who does not say which of them he refused gets one at a time.
            let alone = trouble.seeks() && matches!(form, Form::Records(..));
            for piece in pieces::cut(news, from, form).map_err(damaged)? {
                let found = |refused: &mut Refused| piece.records() == 1 && refused.is(&at, piece.last());
                if let Some(refused) = trouble.refused.take_if(found) {
                    self.write(carrier, progress, std::mem::take(&mut cargo), trouble, false)
                        .await?;
                    (bytes, records) = (0, 0);
                    self.put_aside(carrier, progress, (&at, piece), refused).await?;
                    trouble.carried(1);
                    continue;
                }
                let full = alone
                    || bytes + piece.bytes() > room
                    || piece.records().saturating_add(records) > most_records;
                if full && !cargo.is_empty() {
                    let step = std::mem::take(&mut cargo);
                    let more = self.takes_more(carrier, bytes) && !stop.is_cancelled();
                    self.write(carrier, progress, step, trouble, more).await?;
                    (bytes, records) = (0, 0);
                    room = self.room(carrier);
                    if stop.is_cancelled() && self.written.places.is_empty() {
                        return Ok(());
                    }
                }
                bytes += piece.bytes();
                records += piece.records();
                let (at, to) = (at.clone(), to.clone());
                cargo.push(Freight { at, to, piece });
            }
            // Markers and aborted records are passed by; the next checkpoint says so.
            if let Some(known) = progress
                .get_mut(&at)
                .filter(|known| empty && behind > known.next_offset)
            {
                known.next_offset = behind;
            }
            if self.waiting.is_empty() && !cargo.is_empty() && self.takes_more(carrier, bytes) {
                let news = self.source.ready().await?;
                self.take(carrier, news);
                if self.waiting.is_empty() && !ahead.is_empty() && !stop.is_cancelled() {
                    // It comes while this step is on its way.
                    let step = std::mem::take(&mut cargo);
                    self.write(carrier, progress, step, trouble, true).await?;
                    (bytes, records) = (0, 0);
                    if let Ok(news) = tokio::time::timeout(SOON, self.source.next()).await {
                        self.take(carrier, news?);
                    }
                }
            }
        }
        self.write(carrier, progress, cargo, trouble, false).await
    }

    /// Whether the transaction that so many bytes are going to may take yet more: only on a line that is fast.
    fn takes_more(&self, carrier: &Carrier, bytes: usize) -> bool {
        self.sink.takes_steps()
            && self.room(carrier) >= self.sink.most_bytes(carrier)
            && self.written.bytes() + bytes + BYTES <= self.most(carrier)
            && (self.written.places.is_empty()
                || self
                    .begun
                    .is_some_and(|begun| begun.elapsed() < self.span(FAST) / 2))
    }

    /// Carries pieces in the transaction in hand, and commits it unless there is `more` to come.
    async fn write(
        &mut self,
        carrier: &Carrier,
        progress: &mut Progress,
        cargo: Vec<Freight>,
        trouble: &mut Trouble,
        more: bool,
    ) -> Result<()> {
        if cargo.is_empty() && self.written.places.is_empty() {
            return Ok(());
        }
        if self.written.places.is_empty() {
            self.begun = Some(Instant::now());
        }
        let begun = self.begun.unwrap_or_else(Instant::now);
        let mut touched = Progress::new();
        for at in &self.written.places {
            touched.extend(progress.get(at).map(|known| (at.clone(), known.clone())));
        }
        let (mut records, mut bytes) = (self.written.records(), self.written.bytes());
        for freight in &cargo {
            let (at, piece) = (&freight.at, &freight.piece);
            let stray = || Error::Stray {
                topic: at.0.clone(),
                partition: at.1,
            };
            let known = progress.get(at).ok_or_else(stray)?;
            let checkpoint = touched.entry(at.clone()).or_insert_with(|| known.clone());
            checkpoint.next_offset = piece.next;
            checkpoint.carried_at = now_ms();
            if let Some(limit) = self
                .sink
                .limit(&freight.to)
                .filter(|limit| piece.bytes() > *limit)
            {
                return Err(sink::too_large(freight, limit));
            }
            records += piece.records();
            bytes += piece.bytes();
        }
        *carrier.in_hand() = touched.values().map(|known| known.route.clone()).collect();
        // Should it not come to its end, the next session begins with less.
        carrier.pace.store(self.bytes / 2, Ordering::Relaxed);
        let keys: Vec<String> = touched.values().map(checkpoint::keyed).collect();
        // Asked again when the destination gave other offsets than it was thought to.
        let seal = |bases: &[i64]| -> Vec<Outgoing> {
            let placed = placed(&touched, &cargo, bases);
            let sealed = placed.values();
            sealed
                .map(|checkpoint| checkpoint::record(&carrier.checkpoints, checkpoint))
                .collect()
        };
        let carried = if more && self.sink.takes_steps() {
            self.sink.put(&cargo).await
        } else {
            self.sink.carry(&cargo, &keys, seal).await
        };
        let touched = match carried {
            Ok(bases) => placed(&touched, &cargo, &bases),
            Err(error @ Error::Wire(Wired::Refused { .. })) if records > FEW && self.bytes > LEAST_BYTES => {
                // In smaller transactions there will be fewer to look among.
                carrier.pace.store(LEAST_BYTES, Ordering::Relaxed);
                return Err(error);
            }
            Err(error) => return Err(sink::refused(error, &cargo, records)),
        };
        for freight in &cargo {
            if let Some(known) = touched.get(&freight.at) {
                let piece = &freight.piece;
                let load = (
                    known.route.clone(),
                    piece.records(),
                    piece.bytes(),
                    piece.newest(),
                );
                self.written.loads.push(load);
            }
        }
        if more {
            self.written.places.extend(touched.keys().cloned());
        }
        progress.extend(touched);
        if more {
            return Ok(());
        }
        carrier.in_hand().clear();
        trouble.carried(records);
        for (route, records, bytes, newest) in std::mem::take(&mut self.written).loads {
            carrier.report.route(&route, records, bytes, newest);
            self.newest.insert(route, newest);
        }
        tracing::debug!(direction = %carrier.direction, records, bytes, round_trip = ?self.sink.round_trip(), "carried");
        carrier.report.carried(records);
        carrier.report.skew(self.sink.skew());
        let took = begun.elapsed();
        if took > self.span(SLOW) {
            self.bytes = (self.bytes / 2).max(LEAST_BYTES);
        } else if took < self.span(FAST) && bytes >= self.bytes / 2 {
            self.bytes = (self.bytes * 2)
                .min(self.sink.most_bytes(carrier))
                .max(LEAST_BYTES);
        }
        carrier.pace.store(self.bytes, Ordering::Relaxed);
        Ok(())
    }

    fn report(&self, carrier: &Carrier, progress: &Progress, limits: &Limits) {
        let mut routes: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        let mut sum = 0;
        for ((topic, partition), end) in &self.ends {
            let Some(known) = progress.get(&(topic.to_string(), *partition)) else {
                continue;
            };
            let lag = (end - known.next_offset).max(0);
            carrier.report.sees(topic, *partition, &known.source_epoch, *end);
            let newest = self.newest.get(&known.route).copied().unwrap_or_default();
            routes.entry(known.route.clone()).or_insert((0, newest)).0 += lag;
            sum += lag;
        }
        if carrier.carries_backlogs() {
            (sum, routes) = backlog::behind(progress, limits, |route| {
                self.newest.get(route).copied().unwrap_or_default()
            });
        }
        carrier.report.lag(sum);
        carrier.report.behind(routes, progress);
    }

    /// Asks the sides whether they are what they were; the core seldom, and of what comes from there each poll says it.
    async fn look(&mut self, carrier: &Carrier, with_core: bool) -> Result<()> {
        let down = carrier.direction == Direction::Down;
        if !down || self.source.at_home() {
            self.source.is_the_same().await?;
        }
        if self.source.at_home() {
            let marks = self.source.marks().await?.into_iter();
            self.ends = marks
                .map(|((topic, partition), marks)| ((topic.into(), partition), marks.high))
                .collect();
        }
        if down || with_core {
            self.sink.ping().await?;
        }
        if with_core {
            carrier.report.contact();
        }
        Ok(())
    }
}

/// How long after the beginning of a transaction the next one waits for more records: behind a cap so long that what
/// transactions take beside their records is a small part of what crosses.
fn linger(carrier: &Carrier) -> Duration {
    let least = *carrier.settings.linger;
    match (carrier.direction, carrier.budget.cap()) {
        (Direction::Up, Some(cap)) => {
            let seconds = (AROUND * AROUND_PART) as f64 / cap.max(1) as f64;
            least.max(Duration::from_secs_f64(seconds).min(LONGEST_LINGER))
        }
        _ => least,
    }
}

/// Checkpoints that know where the cargo came to lie.
fn placed(touched: &Progress, cargo: &[Freight], bases: &[i64]) -> Progress {
    let mut placed = touched.clone();
    for (freight, base) in cargo.iter().zip(bases) {
        if let Some(checkpoint) = placed.get_mut(&freight.at) {
            for (source, count, before) in freight.piece.runs() {
                offsets::push_run(checkpoint, source, base + before, count);
            }
        }
    }
    placed
}
