//! Writing batches in transactions, under a transactional id.
//!
//! A transaction opens when its batches are in hand. Requests go out one behind the other without waiting; a server takes
//! at most one batch for a partition from each, and answers in order, so the order in a partition is that of the batches
//! given. What is much goes in several steps ([`Producer::put`]), so that no more of it than a step is in memory. Nothing
//! that may have been written is sent twice: after any error the producer is spent, and whoever takes over the id next finds
//! the transaction committed or aborted.
//!
//! What vouches for the batches (their seals) has to know their offsets. Who alone writes to a partition knows them before:
//! behind the last transaction's marker. So seals go out with the batches, and are written once more in the same
//! transaction should the offsets turn out to be others. Where a cluster has the transactions of KIP-890, partitions are
//! added by writing to them; so it takes two round trips from the first byte to the commit, and elsewhere three.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, ApiKey, EndTxnRequest, InitProducerIdRequest, InitProducerIdResponse,
    ProduceResponse, ProducerId, TopicName, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use crate::batch::Batch;
use crate::cluster::{Cluster, TRANSACTION, Topic};
use crate::connection::{Answer, Connection};
use crate::error::{Error, Result, check, fenced, passing};
use crate::frame::{Frame, put_compact, put_text, put_uvarint};
use crate::skew::Skew;

/// How long another transaction of the same id, or a server that has just come up, is waited for.
const SETTLE: Duration = Duration::from_secs(20);
const FIRST_STEP: Duration = Duration::from_millis(1);
const LAST_STEP: Duration = Duration::from_millis(50);

/// Since this version of Produce, writing to a partition adds it to the transaction.
const ADDS: i16 = 12;
/// Since this version of EndTxn, the epoch is another one afterwards.
const BUMPS: i16 = 5;

/// A place to write to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub index: i32,
}

/// What a cluster knows the newest holder of a transactional id by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The producer id.
    pub producer_id: i64,
    /// Its epoch.
    pub epoch: i16,
}

/// Where a transaction lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// The offset of the first record of each batch.
    pub batches: Vec<i64>,
    /// The offset of the last record of each seal, as they were written last.
    pub seals: Vec<(Partition, i64)>,
}

/// The holder of a transactional id.
#[derive(Debug)]
pub struct Producer {
    cluster: Arc<Cluster>,
    id: String,
    coordinator: Arc<Connection>,
    producer_id: i64,
    epoch: i16,
    sequences: HashMap<Partition, i32>,
    topics: HashMap<Arc<str>, Topic>,
    /// Where the next record will be, in partitions that were written to.
    behind: HashMap<Partition, i64>,
    /// What was written to in the open transaction.
    touched: HashSet<Partition>,
    /// Whether the open transaction can go on: its last step came to its end.
    goes_on: bool,
    /// Whether writing to a partition adds it to the transaction.
    implicit: bool,
    timeout: Duration,
    /// Since when a transaction is open.
    opened: Instant,
    spent: bool,
    /// As of the last answer that told the server's time.
    skew: Option<Skew>,
}

impl Producer {
    /// Takes over a transactional id: earlier holders are fenced, what they left open is settled. A transaction that
    /// is not ended within `timeout` is aborted by the server.
    pub async fn take_over(cluster: &Arc<Cluster>, id: &str, timeout: Duration) -> Result<Self> {
        let coordinator = cluster.coordinator(TRANSACTION, id).await?;
        let answer = initialised(&coordinator, id, timeout, None).await?;
        if fenced(answer.error_code) {
            return Err(Error::Fenced { id: id.to_owned() });
        }
        check("take over a transactional id", answer.error_code)?;
        let implicit = coordinator.has_newer_transactions()
            && coordinator.speaks(ApiKey::EndTxn, "EndTxn", 3, 5)? >= BUMPS;
        Ok(Self {
            cluster: cluster.clone(),
            id: id.to_owned(),
            coordinator,
            producer_id: answer.producer_id.0,
            epoch: answer.producer_epoch,
            sequences: HashMap::new(),
            topics: HashMap::new(),
            behind: HashMap::new(),
            touched: HashSet::new(),
            goes_on: false,
            implicit,
            timeout,
            opened: Instant::now(),
            spent: false,
            skew: None,
        })
    }

    /// What the cluster knows it by, until its next transaction.
    pub fn held(&self) -> Held {
        let (producer_id, epoch) = (self.producer_id, self.epoch);
        Held { producer_id, epoch }
    }

    /// Asks whether nobody has taken over an id since, when no transaction is open under it; what the cluster knows its
    /// holder by from now on (KIP-360). None when somebody has, or the cluster knows no more.
    pub async fn still_held(
        cluster: &Cluster,
        id: &str,
        timeout: Duration,
        held: Held,
    ) -> Result<Option<Held>> {
        let coordinator = cluster.coordinator(TRANSACTION, id).await?;
        let answer = initialised(&coordinator, id, timeout, Some(held)).await?;
        if passing(answer.error_code) {
            check("ask for the holder of a transactional id", answer.error_code)?;
        }
        Ok((answer.error_code == 0).then_some(Held {
            producer_id: answer.producer_id.0,
            epoch: answer.producer_epoch,
        }))
    }

    /// How long a round trip to the cluster takes, as far as is known.
    pub fn round_trip(&self) -> Duration {
        self.coordinator.round_trip()
    }

    /// How far the clocks are apart, once something was written to a topic whose records have the server's time
    /// (`message.timestamp.type` is `LogAppendTime`): no other answer tells it.
    pub fn skew(&self) -> Option<Skew> {
        self.skew
    }

    /// Takes note of topics that it will write to, so that it need not ask for them.
    pub fn learn(&mut self, topics: impl IntoIterator<Item = Topic>) {
        let known = topics
            .into_iter()
            .map(|topic| (topic.name.as_str().into(), topic));
        self.topics.extend(known);
    }

    /// Writes batches in a transaction that stays open, until [`Self::carry`] writes more and commits all of it. Nothing
    /// of it vouches for anything before that. Returns the offset of each one's first record.
    pub async fn put(&mut self, batches: &[(Partition, Batch)]) -> Result<Vec<i64>> {
        self.open(batches.iter().map(|(at, _)| at)).await?;
        let offsets = self.write(batches).await?;
        self.goes_on = true;
        Ok(offsets)
    }

    /// Writes batches, and what `seal` makes of the offset of each one's first record, in one transaction: when this
    /// returns, readers of committed records will see all of it. `places` are where seals will go.
    pub async fn carry(
        &mut self,
        batches: &[(Partition, Batch)],
        places: &[Partition],
        mut seal: impl FnMut(&[i64]) -> Vec<(Partition, Batch)> + Send,
    ) -> Result<Carried> {
        self.open(batches.iter().map(|(at, _)| at).chain(places)).await?;
        let (offsets, seals) = match self.foreseen(batches) {
            Some(foreseen) => {
                let mut seals = seal(&foreseen);
                let mut offsets = self.write(&[batches, &seals].concat()).await?;
                let mut sealed = offsets.split_off(batches.len());
                if offsets != foreseen {
                    tracing::debug!(id = %self.id, "somebody else writes here as well");
                    seals = seal(&offsets);
                    sealed = self.write(&seals).await?;
                }
                (offsets, lasts(seals, &sealed))
            }
            None => {
                let offsets = self.write(batches).await?;
                let seals = seal(&offsets);
                let sealed = self.write(&seals).await?;
                (offsets, lasts(seals, &sealed))
            }
        };
        self.commit().await?;
        Ok(Carried {
            batches: offsets,
            seals,
        })
    }

    /// Opens a transaction, or goes on with the one that is open.
    async fn open<'a>(&mut self, places: impl Iterator<Item = &'a Partition>) -> Result<()> {
        let goes_on = std::mem::take(&mut self.goes_on);
        if self.spent && !goes_on {
            let id = self.id.clone();
            return Err(Error::Spent { id });
        }
        if !goes_on {
            self.touched.clear();
            self.opened = Instant::now();
            // Servers end connections on which nothing was said for some minutes; nothing is open there now.
            if !self.coordinator.alive() {
                self.coordinator = self.cluster.coordinator(TRANSACTION, &self.id).await?;
            }
        }
        // From here on it is spent, until a commit says otherwise; so is one whose future was dropped.
        self.spent = true;
        if self.implicit {
            return Ok(());
        }
        let new: BTreeSet<&Partition> = places.filter(|place| !self.touched.contains(*place)).collect();
        if new.is_empty() {
            return Ok(());
        }
        self.add(&new).await
    }

    /// The offsets that the batches will have if nobody else writes to their partitions.
    fn foreseen(&self, batches: &[(Partition, Batch)]) -> Option<Vec<i64>> {
        let mut ends: HashMap<&Partition, i64> = HashMap::new();
        let mut offset = |(at, batch): &'_ (Partition, Batch)| {
            let known = self.behind.get_key_value(at)?;
            let next = ends.entry(known.0).or_insert(*known.1);
            let offset = *next;
            *next += i64::from(batch.header.count);
            Some(offset)
        };
        batches.iter().map(&mut offset).collect()
    }

    async fn commit(&mut self) -> Result<()> {
        let version = if self.implicit { BUMPS } else { 4 };
        let version = self.coordinator.speaks(ApiKey::EndTxn, "EndTxn", 3, version)?;
        let request = EndTxnRequest::default()
            .with_transactional_id(name(&self.id))
            .with_producer_id(ProducerId(self.producer_id))
            .with_producer_epoch(self.epoch)
            .with_committed(true);
        let mut patience = Patience::new();
        loop {
            let answer = self.coordinator.call(&request, version, Duration::ZERO).await?;
            if passing(answer.error_code) && patience.wait().await {
                continue;
            }
            self.judge("commit", answer.error_code)?;
            if version >= BUMPS && answer.producer_id.0 >= 0 {
                // Each transaction has an epoch of its own, and its sequences begin anew.
                (self.producer_id, self.epoch) = (answer.producer_id.0, answer.producer_epoch);
                self.sequences.clear();
            }
            for at in self.touched.drain() {
                // There is the marker now.
                self.behind.entry(at).and_modify(|behind| *behind += 1);
            }
            self.spent = false;
            return Ok(());
        }
    }

    /// The server refuses the holder of a transaction that it has timed out itself in the same words as one that was
    /// taken over from; after so long an error is taken for that, and a new holder will find out.
    fn judge(&self, operation: &'static str, code: i16) -> Result<()> {
        if fenced(code) && self.opened.elapsed() < self.timeout * 8 / 10 {
            let id = self.id.clone();
            return Err(Error::Fenced { id });
        }
        check(operation, code)
    }

    /// Makes partitions part of the transaction.
    async fn add(&self, partitions: &BTreeSet<&Partition>) -> Result<()> {
        let version = self
            .coordinator
            .speaks(ApiKey::AddPartitionsToTxn, "AddPartitionsToTxn", 3, 3)?;
        let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for partition in partitions {
            topics.entry(&partition.topic).or_default().push(partition.index);
        }
        let topics = topics.into_iter().map(|(topic, partitions)| {
            AddPartitionsToTxnTopic::default()
                .with_name(topic_name(topic))
                .with_partitions(partitions)
        });
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(name(&self.id))
            .with_v3_and_below_producer_id(ProducerId(self.producer_id))
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(topics.collect());
        let mut patience = Patience::new();
        loop {
            let answer = self.coordinator.call(&request, version, Duration::ZERO).await?;
            let results = answer.results_by_topic_v3_and_below.iter();
            let codes = results.flat_map(|topic| &topic.results_by_partition);
            let code = codes
                .map(|result| result.partition_error_code)
                .find(|code| *code != 0)
                .unwrap_or(0);
            if !(passing(code) && patience.wait().await) {
                return self.judge("open a transaction", code);
            }
        }
    }

    /// Writes batches and waits until the servers have them.
    async fn write(&mut self, batches: &[(Partition, Batch)]) -> Result<Vec<i64>> {
        let mut parcels = Vec::with_capacity(batches.len());
        let mut rounds: Vec<BTreeMap<i32, Vec<usize>>> = Vec::new();
        let mut seen: HashMap<&Partition, usize> = HashMap::new();
        for (index, (at, batch)) in batches.iter().enumerate() {
            let leader = self.leader(at).await?;
            let round = seen.entry(at).or_default();
            if rounds.len() == *round {
                rounds.push(BTreeMap::new());
            }
            if let Some(round) = rounds.get_mut(*round) {
                round.entry(leader).or_default().push(index);
            }
            *round += 1;
            let sequence = self.sequences.entry(at.clone()).or_default();
            parcels.push(Parcel {
                at,
                batch,
                sequence: *sequence,
                offset: -1,
            });
            // After the largest sequence comes zero.
            *sequence = sequence.wrapping_add(batch.header.count) & i32::MAX;
        }
        let mut rounds = rounds.into_iter();
        if self.implicit
            && batches.iter().any(|(at, _)| !self.touched.contains(at))
            && let Some(first) = rounds.next()
        {
            self.begin(&mut parcels, first).await?;
        }
        let mut due = Vec::new();
        for (leader, indices) in rounds.flatten() {
            due.push((self.send(leader, &parcels, &indices).await?, indices));
        }
        for (answer, indices) in due {
            if !self.take(answer, &mut parcels, &indices).await?.is_empty() {
                return Err(Error::Malformed { what: "produce" });
            }
        }
        for parcel in &parcels {
            let count = i64::from(parcel.batch.header.count);
            self.behind.insert(parcel.at.clone(), parcel.offset + count);
            self.touched.insert(parcel.at.clone());
        }
        Ok(parcels.iter().map(|parcel| parcel.offset).collect())
    }

    /// Writes the first batch of each partition, which makes it part of the transaction: that has to wait until the last
    /// one's markers are written, and until then nothing is.
    async fn begin(&mut self, parcels: &mut [Parcel<'_>], first: BTreeMap<i32, Vec<usize>>) -> Result<()> {
        let mut left: Vec<(i32, Vec<usize>)> = first.into_iter().collect();
        let mut patience = Patience::new();
        loop {
            let mut due = Vec::new();
            for (leader, indices) in left {
                due.push((self.send(leader, parcels, &indices).await?, leader, indices));
            }
            left = Vec::new();
            for (answer, leader, indices) in due {
                let again = self.take(answer, parcels, &indices).await?;
                if !again.is_empty() {
                    left.push((leader, again));
                }
            }
            if left.is_empty() {
                return Ok(());
            }
            if !patience.wait().await {
                return check("produce", ResponseError::ConcurrentTransactions.code());
            }
        }
    }

    async fn send(&self, leader: i32, parcels: &[Parcel<'_>], indices: &[usize]) -> Result<Due> {
        let connection = self.cluster.connection(leader).await?;
        let (lowest, highest) = if self.implicit { (ADDS, ADDS) } else { (9, 11) };
        let version = connection.speaks(ApiKey::Produce, "Produce", lowest, highest)?;
        let frame = self.frame(&connection, version, parcels, indices)?;
        let sent = Instant::now();
        let answer = connection.send(frame, Duration::ZERO).await?;
        Ok(Due {
            answer,
            version,
            sent,
        })
    }

    /// Takes an answer; returns what was not written because of the transaction before.
    async fn take(&mut self, due: Due, parcels: &mut [Parcel<'_>], indices: &[usize]) -> Result<Vec<usize>> {
        let answer: ProduceResponse = due.answer.decode(due.version).await?;
        let (took, now) = (due.sent.elapsed(), SystemTime::now());
        let mut again = Vec::new();
        for index in indices {
            let Parcel { at, batch, .. } = &parcels[*index];
            let mut topics = answer.responses.iter();
            let topic = topics.find(|topic| *topic.name.0 == *at.topic);
            let mut places = topic.iter().flat_map(|topic| &topic.partition_responses);
            let place = places
                .find(|place| place.index == at.index)
                .ok_or(Error::Malformed { what: "produce" })?;
            if self.implicit && place.error_code == ResponseError::ConcurrentTransactions.code() {
                again.push(*index);
                continue;
            }
            if let Some(code) = ResponseError::try_from_code(place.error_code).filter(|code| refuses(*code)) {
                let said = place.error_message.as_ref().map(|said| said.to_string());
                return Err(Error::Refused {
                    topic: at.topic.to_string(),
                    partition: at.index,
                    index: *index,
                    reason: said.unwrap_or_else(|| format!("{code:?} ({} bytes)", batch.bytes.len())),
                });
            }
            self.judge("produce", place.error_code)?;
            if place.log_append_time_ms >= 0 {
                self.skew = Some(Skew::measured(place.log_append_time_ms, now, took));
            }
            parcels[*index].offset = place.base_offset;
        }
        Ok(again)
    }

    async fn leader(&mut self, at: &Partition) -> Result<i32> {
        if !self.topics.contains_key(&at.topic) {
            let found = self.cluster.topic(&at.topic).await?;
            self.topics.insert(at.topic.clone(), found);
        }
        let leader = self
            .topics
            .get(&at.topic)
            .and_then(|topic| topic.leader(at.index));
        leader.ok_or_else(|| Error::UnknownTopic {
            topic: at.topic.to_string(),
        })
    }

    /// A request with one batch for each of its partitions, written by hand so that records are not copied.
    fn frame(
        &self,
        connection: &Connection,
        version: i16,
        parcels: &[Parcel<'_>],
        indices: &[usize],
    ) -> Result<Frame> {
        let (mut head, mut parts) = (BytesMut::with_capacity(256), Vec::<Bytes>::new());
        put_text(&mut head, &self.id);
        head.put_i16(-1);
        head.put_i32(i32::try_from(self.timeout.as_millis()).unwrap_or(i32::MAX));
        put_compact(&mut head, indices.len());
        let mut front = head;
        for index in indices {
            let Parcel {
                at, batch, sequence, ..
            } = &parcels[*index];
            let (own, records) = batch.under(self.producer_id, self.epoch, *sequence);
            put_text(&mut front, &at.topic);
            put_compact(&mut front, 1);
            front.put_i32(at.index);
            put_compact(&mut front, batch.bytes.len());
            front.put_slice(&own);
            parts.push(front.split().freeze());
            parts.push(records);
            // No tagged fields: of the partition, of the topic.
            put_uvarint(&mut front, 0);
            put_uvarint(&mut front, 0);
        }
        put_uvarint(&mut front, 0);
        parts.push(front.freeze());
        Frame::raw(ApiKey::Produce as i16, version, connection.client(), &[], parts)
    }
}

/// An answer that is waited for.
struct Due {
    answer: Answer,
    version: i16,
    sent: Instant,
}

/// A batch on its way.
struct Parcel<'a> {
    at: &'a Partition,
    batch: &'a Batch,
    sequence: i32,
    /// Of its first record, once it is known.
    offset: i64,
}

/// Pauses that grow, up to a limit in all.
struct Patience {
    since: Instant,
    step: Duration,
}

impl Patience {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            step: FIRST_STEP,
        }
    }

    /// False when it is at its end.
    async fn wait(&mut self) -> bool {
        if self.since.elapsed() > SETTLE {
            return false;
        }
        tokio::time::sleep(self.step).await;
        self.step = (self.step * 2).min(LAST_STEP);
        true
    }
}

/// Codes that are about a batch itself, so that sending it again would not help.
fn refuses(code: ResponseError) -> bool {
    use ResponseError as E;
    matches!(
        code,
        E::MessageTooLarge
            | E::RecordListTooLarge
            | E::InvalidRecord
            | E::InvalidTimestamp
            | E::UnsupportedCompressionType
            | E::PolicyViolation
    )
}

/// Where the last record of each batch is.
fn lasts(batches: Vec<(Partition, Batch)>, firsts: &[i64]) -> Vec<(Partition, i64)> {
    let last =
        |((at, batch), first): ((Partition, Batch), &i64)| (at, first + i64::from(batch.header.count) - 1);
    batches.into_iter().zip(firsts).map(last).collect()
}

/// Asks for a new epoch of a transactional id: as whoever comes, or only as the one that holds it.
async fn initialised(
    coordinator: &Connection,
    id: &str,
    timeout: Duration,
    held: Option<Held>,
) -> Result<InitProducerIdResponse> {
    let version = coordinator.speaks(ApiKey::InitProducerId, "InitProducerId", 3, 4)?;
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(name(id)))
        .with_transaction_timeout_ms(i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX))
        .with_producer_id(ProducerId(held.map_or(-1, |held| held.producer_id)))
        .with_producer_epoch(held.map_or(-1, |held| held.epoch));
    let mut patience = Patience::new();
    loop {
        let answer = coordinator.call(&request, version, Duration::ZERO).await?;
        if !(passing(answer.error_code) && patience.wait().await) {
            return Ok(answer);
        }
    }
}

fn name(id: &str) -> TransactionalId {
    TransactionalId(StrBytes::from_string(id.to_owned()))
}

fn topic_name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}
