//! Carrying whole batches between two Kafkas: what one broker stores goes to the other as it is.
//!
//! Reading goes on while a transaction commits. A transaction takes as much as the line carries in a moment, and what
//! does not fit waits for the next. Batches that cannot go as they are were written anew by [`crate::pieces`]; what even
//! that cannot do (a record that the destination refuses, an old format) ends the session, and the next one carries
//! record by record until it is past. The far side is asked for nothing while there is nothing to say: one long poll.

mod opening;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::broker::{self, Outgoing, partition_of};
use common::chassis::{Stop, now_ms};
use common::kafka::{
    Cluster, Ends, Error as Wired, FetchLimits, Fetched, Fetcher, Partition, Producer, Row, Start, Topic,
};
use common::kafka::{batch::Batch, write};
use tokio::time::Instant;

use crate::carrier::Carrier;
use crate::error::{Error, Result};
use crate::pieces::{self, Piece};
use crate::routes::Direction;
use crate::session::{Ended, Progress};
use crate::wire::Wire;
use crate::{checkpoint, offsets};

/// The most bytes in one answer of the source, and about as many in a transaction.
const BYTES: usize = 4 * 1024 * 1024;
/// A transaction begins with this much, until it is known what the line carries.
const FIRST_BYTES: usize = 256 * 1024;
const LEAST_BYTES: usize = 32 * 1024;
/// So many records are soon carried one by one, when a refused one is looked for among them.
const FEW: usize = 200;
/// Transactions that are faster may be larger; those that are slower should be smaller.
const FAST: Duration = Duration::from_millis(500);
const SLOW: Duration = Duration::from_secs(4);
/// A transaction that its holder does not end in this time is aborted by the broker.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How long a poll waits at the source.
const WAIT: Duration = Duration::from_secs(60);
/// How often the core is looked at when it has nothing to say.
const FAR_LOOK: Duration = Duration::from_secs(300);

/// What carries batches.
#[derive(Debug)]
pub(crate) struct Batches {
    source: Arc<Cluster>,
    destination: Arc<Cluster>,
    producer: Producer,
    /// The source topics as they were before anything was decided about them.
    topics: Vec<Topic>,
    /// How many partitions each destination topic has, and where the source partitions begin and end.
    places: HashMap<String, usize>,
    marks: HashMap<(String, i32), Ends>,
    /// The largest batch that each destination topic takes.
    limits: HashMap<String, usize>,
    checkpoints: Topic,
    fetcher: Option<Fetcher>,
    /// What came and is not carried yet.
    waiting: VecDeque<Fetched>,
    /// The ends of the source partitions, as last heard.
    ends: HashMap<(Arc<str>, i32), i64>,
    /// How much a transaction takes.
    bytes: usize,
}

/// Pieces of one transaction, with the partition of each.
type Cargo = Vec<((String, i32), Piece)>;

impl Batches {
    /// Takes over the direction's transactional id.
    pub(crate) async fn take_over(carrier: &Carrier, wire: &Wire) -> Result<Self> {
        let Wire { source, destination } = wire.clone();
        let producer = Producer::take_over(&destination, &carrier.transactional_id(), TIMEOUT).await?;
        let missing = || Error::NotEnrolled {
            topic: carrier.checkpoints.clone(),
            site: carrier.site.to_string(),
        };
        let found = destination.topics(&[&carrier.checkpoints]).await?;
        let checkpoints = found.into_iter().flatten().next().ok_or_else(missing)?;
        Ok(Self {
            source,
            destination,
            producer,
            topics: Vec::new(),
            places: HashMap::new(),
            marks: HashMap::new(),
            limits: HashMap::new(),
            checkpoints,
            fetcher: None,
            waiting: VecDeque::new(),
            ends: HashMap::new(),
            bytes: carrier
                .pace
                .load(Ordering::Relaxed)
                .clamp(LEAST_BYTES, FIRST_BYTES),
        })
    }

    /// Begins to read where the checkpoints say.
    pub(crate) async fn read(&mut self, carrier: &Carrier, progress: &Progress) -> Result<()> {
        let names: HashSet<&str> = progress
            .values()
            .map(|at| at.destination_topic.as_str())
            .collect();
        let names: Vec<&str> = names.into_iter().collect();
        if !names.is_empty() {
            let limits = self.destination.batch_limits(&names).await?;
            self.limits = names.iter().map(|name| (*name).to_owned()).zip(limits).collect();
        }
        let mut starts: Vec<Start> = progress
            .iter()
            .map(|((topic, partition), at)| Start {
                topic: topic.clone(),
                partition: *partition,
                offset: at.next_offset,
            })
            .collect();
        starts.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        let limits = FetchLimits {
            wait: WAIT,
            bytes: BYTES,
        };
        self.fetcher = Some(Fetcher::open(&self.source, &self.topics, &starts, limits).await?);
        tracing::debug!(direction = %carrier.direction, partitions = starts.len(), "batches are carried as they are");
        Ok(())
    }

    /// Writes checkpoints that vouch for no record.
    pub(crate) async fn note(&mut self, checkpoints: Vec<Outgoing>) -> Result<()> {
        let seals = self.seals(&checkpoints);
        let places: Vec<Partition> = seals.iter().map(|(at, _)| at.clone()).collect();
        self.producer.begin(&[], &places).await?;
        self.producer.commit(&seals).await?;
        Ok(())
    }

    /// Carries until `stop`.
    pub(crate) async fn carry(
        &mut self,
        carrier: &Carrier,
        progress: &mut Progress,
        missing: bool,
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
            self.carry_waiting(carrier, progress, stop).await?;
            if stop.is_cancelled() {
                return Ok(Ended::Stopped);
            }
            self.report(carrier, progress);
            if near.elapsed() < refresh {
                continue;
            }
            if missing && since.elapsed() >= again {
                carrier
                    .again
                    .store((again * 2).min(FAR_LOOK).as_secs(), Ordering::Relaxed);
                return Ok(Ended::LookAgain);
            }
            let with_core = far.elapsed() >= FAR_LOOK.max(refresh);
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
        let Some(fetcher) = self.fetcher.as_mut() else {
            return std::future::pending().await;
        };
        if self.waiting.is_empty() {
            self.waiting.extend(fetcher.next().await?);
            if carrier.direction == Direction::Down {
                carrier.report.contact();
            }
        }
        let linger = Instant::now() + *carrier.settings.linger;
        loop {
            let bytes: usize = self
                .waiting
                .iter()
                .flat_map(|news| &news.batches)
                .map(|batch| batch.bytes.len())
                .sum();
            // What fills a poll is no trickle.
            if bytes == 0 || bytes >= self.bytes.min(FIRST_BYTES) {
                return Ok(());
            }
            match tokio::time::timeout_at(linger, fetcher.next()).await {
                Ok(news) => self.waiting.extend(news?),
                Err(_) => return Ok(()),
            }
        }
    }

    /// Carries what is waiting, in as many transactions as that takes.
    async fn carry_waiting(&mut self, carrier: &Carrier, progress: &mut Progress, stop: &Stop) -> Result<()> {
        let (mut cargo, mut bytes) = (Cargo::new(), 0);
        while let Some(news) = self.waiting.pop_front() {
            let at = (news.topic.to_string(), news.partition);
            let stray = || Error::Stray {
                topic: at.0.clone(),
                partition: at.1,
            };
            let known = progress.get_mut(&at).ok_or_else(stray)?;
            self.ends
                .insert((news.topic.clone(), news.partition), news.stable);
            let (from, behind, empty) = (
                known.next_offset.max(news.from),
                news.next,
                news.batches.is_empty(),
            );
            let limit = self
                .limits
                .get(&known.destination_topic)
                .copied()
                .unwrap_or(BYTES);
            // Only on a line that is known to be slow is a batch cut for its size alone.
            let limit = if self.bytes < FIRST_BYTES {
                limit.min(self.bytes)
            } else {
                limit
            };
            let damaged = |source| Wired::Damaged {
                topic: at.0.clone(),
                partition: at.1,
                source,
            };
            for piece in pieces::cut(news, from, limit).map_err(damaged)? {
                if bytes > 0 && bytes + piece.batch.bytes.len() > self.bytes {
                    self.commit(carrier, progress, std::mem::take(&mut cargo)).await?;
                    bytes = 0;
                    if stop.is_cancelled() {
                        return Ok(());
                    }
                }
                bytes += piece.batch.bytes.len();
                cargo.push((at.clone(), piece));
            }
            // Markers and aborted records are passed by; the next checkpoint says so.
            if let Some(known) = progress
                .get_mut(&at)
                .filter(|known| empty && behind > known.next_offset)
            {
                known.next_offset = behind;
            }
        }
        if !cargo.is_empty() {
            self.commit(carrier, progress, cargo).await?;
        }
        Ok(())
    }

    /// Carries pieces in one transaction.
    async fn commit(&mut self, carrier: &Carrier, progress: &mut Progress, cargo: Cargo) -> Result<()> {
        let begun = Instant::now();
        let mut touched = Progress::new();
        let (mut batches, mut taken, mut records, mut bytes) = (Vec::new(), Vec::new(), 0, 0);
        for (at, piece) in cargo {
            let stray = || Error::Stray {
                topic: at.0.clone(),
                partition: at.1,
            };
            let known = progress.get(&at).ok_or_else(stray)?;
            let checkpoint = touched.entry(at.clone()).or_insert_with(|| known.clone());
            checkpoint.next_offset = piece.next;
            checkpoint.carried_at = now_ms();
            let to = Partition {
                topic: checkpoint.destination_topic.as_str().into(),
                index: at.1,
            };
            let limit = self
                .limits
                .get(&checkpoint.destination_topic)
                .copied()
                .unwrap_or(usize::MAX);
            if piece.batch.bytes.len() > limit {
                return Err(Error::Refused {
                    records: piece.records(),
                    last: (at.0, at.1, piece.last()),
                    source: broker::Error::TooLarge {
                        topic: to.topic.to_string(),
                        size: piece.batch.bytes.len(),
                        limit,
                    },
                });
            }
            records += piece.records();
            bytes += piece.batch.bytes.len();
            batches.push((to, piece.batch.clone()));
            taken.push((at, piece));
        }
        // Should it not come to its end, the next session begins with less.
        carrier.pace.store(self.bytes / 2, Ordering::Relaxed);
        let keys: Vec<Partition> = touched
            .values()
            .map(|checkpoint| self.seal_of(&checkpoint::keyed(checkpoint)))
            .collect();
        let bases = match self.producer.begin(&batches, &keys).await {
            Ok(bases) => bases,
            Err(error @ Wired::Refused { .. }) if records > FEW && self.bytes > LEAST_BYTES => {
                // In smaller transactions there will be fewer to look among.
                carrier.pace.store(LEAST_BYTES, Ordering::Relaxed);
                return Err(error.into());
            }
            Err(error) => return Err(refused(error, &taken, records)),
        };
        for ((at, piece), base) in taken.iter().zip(bases) {
            let Some(checkpoint) = touched.get_mut(at) else {
                continue;
            };
            for (source, count, before) in piece.runs() {
                offsets::push_run(&mut checkpoint.ranges, source, base + before, count);
            }
        }
        let sealed: Vec<Outgoing> = touched
            .values()
            .map(|checkpoint| checkpoint::record(&carrier.checkpoints, checkpoint))
            .collect();
        let seals = self.seals(&sealed);
        self.producer.commit(&seals).await?;
        progress.extend(touched);
        tracing::debug!(direction = %carrier.direction, records, bytes, "carried");
        carrier.report.carried(carrier.direction, records);
        let took = begun.elapsed();
        if took > SLOW {
            self.bytes = (self.bytes / 2).max(LEAST_BYTES);
        } else if took < FAST && bytes >= self.bytes / 2 {
            self.bytes = (self.bytes * 2).min(BYTES);
        }
        carrier.pace.store(self.bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Where a checkpoint goes.
    fn seal_of(&self, key: &str) -> Partition {
        let partitions = i32::try_from(self.checkpoints.partitions()).unwrap_or(1);
        Partition {
            topic: self.checkpoints.name.as_str().into(),
            index: if partitions > 1 {
                partition_of(key.as_bytes(), partitions)
            } else {
                0
            },
        }
    }

    fn seals(&self, checkpoints: &[Outgoing]) -> Vec<(Partition, Batch)> {
        let mut places: HashMap<Partition, Vec<Row<'_>>> = HashMap::new();
        for checkpoint in checkpoints {
            let key = checkpoint.key.as_deref().unwrap_or_default();
            let row = Row {
                timestamp: now_ms(),
                key: checkpoint.key.as_deref(),
                value: checkpoint.value.as_deref(),
                headers: &checkpoint.headers,
            };
            places
                .entry(self.seal_of(&String::from_utf8_lossy(key)))
                .or_default()
                .push(row);
        }
        let batch = |(at, rows): (Partition, Vec<Row<'_>>)| Some((at, write(&rows)?));
        places.into_iter().filter_map(batch).collect()
    }

    fn report(&self, carrier: &Carrier, progress: &Progress) {
        let lag = |((topic, partition), end): (&(Arc<str>, i32), &i64)| {
            let next = progress
                .get(&(topic.to_string(), *partition))
                .map_or(*end, |known| known.next_offset);
            (end - next).max(0)
        };
        carrier
            .report
            .lag(carrier.direction, self.ends.iter().map(lag).sum());
    }

    /// Asks the sides whether they are what they were; the core seldom.
    async fn look(&mut self, carrier: &Carrier, with_core: bool) -> Result<()> {
        let (source, destination) = match carrier.direction {
            Direction::Down => (with_core, true),
            Direction::Up => (true, with_core),
        };
        if source {
            let names: Vec<&str> = self.topics.iter().map(|topic| topic.name.as_str()).collect();
            for (known, found) in self.topics.iter().zip(self.source.topics(&names).await?) {
                if !found.is_some_and(|found| found.same(known)) {
                    return Err(Error::Changed {
                        topic: known.name.clone(),
                    });
                }
            }
        }
        if destination {
            self.destination.ping().await?;
        }
        if with_core {
            carrier.report.contact();
        }
        Ok(())
    }
}

/// The destination's word on one of the pieces, as the next session is to hear it.
fn refused(error: Wired, taken: &Cargo, records: usize) -> Error {
    let Wired::Refused {
        topic, index, reason, ..
    } = error
    else {
        return error.into();
    };
    let Some(((source, partition), piece)) = taken.get(index) else {
        return Error::Broker(broker::Error::Refused { topic, reason });
    };
    Error::Refused {
        // A piece of one record is the one; else it is looked for among all.
        records: if piece.records() == 1 { 1 } else { records },
        last: (source.clone(), *partition, piece.last()),
        source: broker::Error::Refused { topic, reason },
    }
}
