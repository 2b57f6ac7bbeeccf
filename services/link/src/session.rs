//! One session of a direction: from taking over the transactional id to the first error.
//!
//! The order of its steps is the protocol:
//! 1. take over the transactional id, which fences whatever an earlier session left and settles its last commit;
//! 2. read the checkpoints at the destination to the end: only now do they tell the truth;
//! 3. go on where they say, writing down first what is lost;
//! 4. carry batches: the records and the checkpoints that vouch for them in one transaction, opened when the whole
//!    batch is in hand.
//!
//! After any error, an unknown commit included, the session is over and everything of it is dropped; so it may be
//! dropped at any point. One transaction may carry several partitions: a reader of committed records sees all of it or
//! nothing, so each partition's records and its checkpoint still come and go together.

use std::collections::HashMap;
use std::time::Duration;

use common::broker::{self, Outgoing, Placement, Position, Reader, Record, Transactions};
use common::chassis::{Stop, now_ms};
use common::schemas::Checkpoint;
use tokio::time::Instant;

use crate::carrier::{Carrier, Trouble};
use crate::error::{Error, Result};
use crate::{checkpoint, lanes, offsets};

/// Why a session ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was told to.
    Stopped,
    /// Something that was missing is to be looked for again.
    LookAgain,
}

/// The partitions under way, by source topic and partition.
type Progress = HashMap<(String, i32), Checkpoint>;

/// A running session.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    carrier: &'a Carrier,
    transactions: Transactions,
    reader: Option<Reader>,
    progress: Progress,
    /// What keeps some lanes from being carried.
    missing: Vec<String>,
}

impl<'a> Session<'a> {
    /// Steps 1 to 3.
    pub(crate) async fn open(carrier: &'a Carrier) -> Result<Self> {
        if carrier
            .destination
            .describe(&carrier.checkpoints)
            .await?
            .is_none()
        {
            let (topic, site) = (carrier.checkpoints.clone(), carrier.site.to_string());
            return Err(Error::NotEnrolled { topic, site });
        }
        let transactions = carrier
            .destination
            .transactions(&carrier.transactional_id())
            .await?;
        let found = checkpoint::load(&carrier.destination, &carrier.checkpoints).await?;
        let mut session = Self {
            carrier,
            transactions,
            reader: None,
            progress: Progress::new(),
            missing: Vec::new(),
        };
        session.resume(found).await?;
        Ok(session)
    }

    async fn resume(&mut self, mut found: HashMap<String, Checkpoint>) -> Result<()> {
        let Carrier {
            source,
            destination,
            site,
            settings,
            ..
        } = self.carrier;
        let (mut positions, mut lost) = (Vec::new(), Vec::new());
        for lane in &self.carrier.lanes {
            let topic =
                match lanes::ready(lane, site.as_str(), source, destination, *settings.retention).await? {
                    Ok(topic) => topic,
                    Err(problem) => {
                        self.missing.push(problem);
                        continue;
                    }
                };
            for partition in 0..topic.partitions {
                let known = found.remove(&checkpoint::key(&lane.route, &lane.source, partition));
                // Only a checkpoint of this very topic can be ahead of it by accident.
                let next = known.as_ref().filter(|known| known.source_epoch == topic.id);
                let next = next.map_or(0, |known| known.next_offset);
                let marks = lanes::settled(source, &lane.source, partition, next).await?;
                let resumed = checkpoint::resume(known, lane, partition, &topic.id, marks);
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
                self.progress
                    .insert((lane.source.clone(), partition), resumed.checkpoint);
            }
        }
        if !lost.is_empty() {
            self.transactions.commit(Vec::new(), |_| lost).await?;
        }
        if !positions.is_empty() {
            self.reader = Some(source.reader(&positions).await?);
        }
        Ok(())
    }

    /// What keeps some of the topics from being carried.
    pub(crate) fn missing(&self) -> Option<String> {
        (!self.missing.is_empty()).then(|| self.missing.join("; "))
    }

    /// Step 4, until `stop`.
    pub(crate) async fn carry(&mut self, trouble: &mut Trouble, stop: &Stop) -> Result<Ended> {
        let refresh = *self.carrier.settings.refresh;
        look(self.carrier, &self.progress).await?;
        let mut looked = Instant::now();
        loop {
            if looked.elapsed() >= refresh {
                if !self.missing.is_empty() {
                    return Ok(Ended::LookAgain);
                }
                look(self.carrier, &self.progress).await?;
                looked = Instant::now();
            }
            let records = tokio::select! {
                () = stop.cancelled() => return Ok(Ended::Stopped),
                records = self.gather() => records?,
            };
            for batch in self.batches(records, trouble) {
                self.commit(batch, trouble).await?;
                if stop.is_cancelled() {
                    return Ok(Ended::Stopped);
                }
            }
        }
    }

    /// Waits for a record, then a moment for more, so that a slow trickle does not become a transaction each.
    async fn gather(&mut self) -> Result<Vec<Record>> {
        let settings = &self.carrier.settings;
        let Some(reader) = self.reader.as_mut() else {
            tokio::time::sleep(*settings.poll).await;
            return Ok(Vec::new());
        };
        let mut records = reader.next(settings.max_records, *settings.poll).await?;
        let since = Instant::now();
        while !records.is_empty() && records.len() < settings.max_records {
            let bytes: u64 = records.iter().map(|record| record.size() as u64).sum();
            let left = settings.linger.saturating_sub(since.elapsed());
            if left.is_zero() || bytes >= settings.max_bytes.bytes() {
                break;
            }
            records.extend(reader.next(settings.max_records - records.len(), left).await?);
        }
        Ok(records)
    }

    /// Cuts records into transactions. While a refused record is looked for, each goes alone.
    fn batches(&self, records: Vec<Record>, trouble: &Trouble) -> Vec<Vec<Record>> {
        let settings = &self.carrier.settings;
        let mut batches: Vec<Vec<Record>> = Vec::new();
        let mut bytes = 0_u64;
        for (at, record) in records.into_iter().enumerate() {
            bytes += record.size() as u64;
            match batches.last_mut() {
                Some(batch)
                    if at >= trouble.one_by_one
                        && batch.len() < settings.max_records
                        && bytes <= settings.max_bytes.bytes() =>
                {
                    batch.push(record);
                }
                _ => {
                    bytes = record.size() as u64;
                    batches.push(vec![record]);
                }
            }
        }
        batches
    }

    /// Carries one batch in one transaction.
    async fn commit(&mut self, batch: Vec<Record>, trouble: &mut Trouble) -> Result<()> {
        let (mut outgoing, mut places) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        let mut touched = Progress::new();
        for record in &batch {
            let at = (record.topic.to_string(), record.partition);
            let stray = || Error::Stray {
                topic: at.0.clone(),
                partition: at.1,
            };
            let known = self.progress.get(&at).ok_or_else(stray)?;
            let checkpoint = touched.entry(at.clone()).or_insert_with(|| known.clone());
            if record.offset < checkpoint.next_offset {
                continue;
            }
            checkpoint.next_offset = record.offset + 1;
            checkpoint.carried_at = now_ms();
            if trouble.refused.as_ref().is_some_and(|refused| refused.is(record)) {
                if let Some(refused) = trouble.refused.take() {
                    refused.bury(&self.carrier.source, record).await?;
                    self.carrier.report.refused(&refused);
                }
                continue;
            }
            outgoing.push(same(record, &checkpoint.destination_topic));
            places.push((at, record.offset));
        }
        let carried = outgoing.len();
        let topic = &self.carrier.checkpoints;
        let sealed = self.transactions.commit(outgoing, |placed: &[Placement]| {
            for ((at, source), place) in places.into_iter().zip(placed) {
                if let Some(checkpoint) = touched.get_mut(&at) {
                    offsets::push(&mut checkpoint.ranges, source, place.offset);
                }
            }
            touched
                .values()
                .map(|checkpoint| checkpoint::record(topic, checkpoint))
                .collect()
        });
        match sealed.await {
            Ok(_) => {}
            Err(source @ (broker::Error::TooLarge { .. } | broker::Error::Refused { .. })) => {
                let last = batch
                    .last()
                    .map(|last| (last.topic.to_string(), last.partition, last.offset));
                return Err(Error::Refused {
                    records: batch.len(),
                    last: last.unwrap_or_default(),
                    source,
                });
            }
            Err(error) => return Err(error.into()),
        }
        self.progress.extend(touched);
        trouble.one_by_one = trouble.one_by_one.saturating_sub(batch.len());
        tracing::debug!(direction = %self.carrier.direction, records = carried, "carried");
        self.carrier.report.carried(self.carrier.direction, carried);
        Ok(())
    }
}

/// Asks both sides whether they are what they were, and how much is waiting.
async fn look(carrier: &Carrier, progress: &Progress) -> Result<()> {
    let mut lag = 0;
    let mut epochs: HashMap<&str, String> = HashMap::new();
    for ((topic, partition), checkpoint) in progress {
        if !epochs.contains_key(topic.as_str()) {
            let changed = || Error::Changed { topic: topic.clone() };
            epochs.insert(
                topic,
                carrier.source.describe(topic).await?.ok_or_else(changed)?.id,
            );
        }
        if epochs.get(topic.as_str()) != Some(&checkpoint.source_epoch) {
            return Err(Error::Changed { topic: topic.clone() });
        }
        let marks = carrier.source.watermarks(topic, *partition).await?;
        lag += (marks.high - checkpoint.next_offset).max(0);
    }
    carrier.destination.ping().await?;
    carrier.report.looked(carrier.direction, lag);
    Ok(())
}

/// The record as it is, for the other side.
fn same(record: &Record, destination: &str) -> Outgoing {
    Outgoing {
        topic: destination.to_owned(),
        partition: Some(record.partition),
        timestamp: Some(record.timestamp),
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record.headers.clone(),
    }
}

/// How long a stop waits for the transaction in hand.
pub(crate) const DRAIN: Duration = Duration::from_secs(5);
