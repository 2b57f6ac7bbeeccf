//! Writing batches in transactions, under a transactional id.
//!
//! A transaction opens when its batches are in hand. Requests go out one behind the other without waiting; a server takes
//! at most one batch for a partition from each, and answers in order, so the order in a partition is that of the batches
//! given. Nothing is sent twice: after any error the producer is spent, and whoever takes over the id next finds the
//! transaction committed or aborted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, ApiKey, EndTxnRequest, InitProducerIdRequest, ProduceResponse, ProducerId,
    TopicName, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use crate::batch::Batch;
use crate::cluster::{Cluster, Topic};
use crate::connection::{Answer, Connection};
use crate::error::{Error, Result, check, fenced, passing};
use crate::frame::{Frame, put_compact, put_text, put_uvarint};

/// How long another transaction of the same id, or a server that has just come up, is waited for.
const SETTLE: Duration = Duration::from_secs(20);
const FIRST_STEP: Duration = Duration::from_millis(1);
const LAST_STEP: Duration = Duration::from_millis(50);

/// A place to write to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub index: i32,
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
    timeout: Duration,
    /// Since when a transaction is open.
    opened: Instant,
    spent: bool,
}

impl Producer {
    /// Takes over a transactional id: earlier holders are fenced, what they left open is settled. A transaction that
    /// is not ended within `timeout` is aborted by the server.
    pub async fn take_over(cluster: &Arc<Cluster>, id: &str, timeout: Duration) -> Result<Self> {
        let coordinator = cluster.coordinator(id).await?;
        let version = coordinator.speaks(ApiKey::InitProducerId, "InitProducerId", 3, 4)?;
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(name(id)))
            .with_transaction_timeout_ms(i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX))
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        let mut patience = Patience::new();
        let answer = loop {
            let answer = coordinator.call(&request, version, Duration::ZERO).await?;
            if !(passing(answer.error_code) && patience.wait().await) {
                break answer;
            }
        };
        if fenced(answer.error_code) {
            return Err(Error::Fenced { id: id.to_owned() });
        }
        check("take over a transactional id", answer.error_code)?;
        Ok(Self {
            cluster: cluster.clone(),
            id: id.to_owned(),
            coordinator,
            producer_id: answer.producer_id.0,
            epoch: answer.producer_epoch,
            sequences: HashMap::new(),
            topics: HashMap::new(),
            timeout,
            opened: Instant::now(),
            spent: false,
        })
    }

    /// Opens a transaction, writes the batches and tells the offset of each one's first record. `seals` are the
    /// partitions that [`Self::commit`] will write to as well.
    pub async fn begin(&mut self, batches: &[(Partition, Batch)], seals: &[Partition]) -> Result<Vec<i64>> {
        self.use_up()?;
        self.opened = Instant::now();
        let all: BTreeSet<&Partition> = batches.iter().map(|(at, _)| at).chain(seals).collect();
        self.add(&all).await?;
        self.write(batches).await
    }

    /// Writes the last batches and commits: when this returns, readers of committed records will see all of it.
    pub async fn commit(&mut self, seals: &[(Partition, Batch)]) -> Result<()> {
        self.write(seals).await?;
        let version = self.coordinator.speaks(ApiKey::EndTxn, "EndTxn", 3, 4)?;
        let request = EndTxnRequest::default()
            .with_transactional_id(name(&self.id))
            .with_producer_id(ProducerId(self.producer_id))
            .with_producer_epoch(self.epoch)
            .with_committed(true);
        let mut patience = Patience::new();
        loop {
            let answer = self.coordinator.call(&request, version, Duration::ZERO).await?;
            if !(passing(answer.error_code) && patience.wait().await) {
                self.judge("commit", answer.error_code)?;
                self.spent = false;
                return Ok(());
            }
        }
    }

    /// From here on the producer is spent, until a commit says otherwise; so is one whose future was dropped.
    fn use_up(&mut self) -> Result<()> {
        if self.spent {
            let id = self.id.clone();
            return Err(Error::Spent { id });
        }
        self.spent = true;
        Ok(())
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
        let mut rounds: Vec<BTreeMap<i32, Vec<usize>>> = Vec::new();
        let mut seen: HashMap<&Partition, usize> = HashMap::new();
        for (index, (at, _)) in batches.iter().enumerate() {
            let leader = self.leader(at).await?;
            let round = seen.entry(at).or_default();
            if rounds.len() == *round {
                rounds.push(BTreeMap::new());
            }
            if let Some(round) = rounds.get_mut(*round) {
                round.entry(leader).or_default().push(index);
            }
            *round += 1;
        }
        let mut due: Vec<(Answer, i16, Vec<usize>)> = Vec::new();
        for (leader, indices) in rounds.into_iter().flatten() {
            let connection = self.cluster.connection(leader).await?;
            let version = connection.speaks(ApiKey::Produce, "Produce", 9, 11)?;
            let frame = self.frame(&connection, version, batches, &indices)?;
            due.push((connection.send(frame, Duration::ZERO).await?, version, indices));
        }
        let mut offsets = vec![-1; batches.len()];
        for (answer, version, indices) in due {
            let answer: ProduceResponse = answer.decode(version).await?;
            for index in indices {
                let (at, batch) = &batches[index];
                let mut topics = answer.responses.iter();
                let topic = topics.find(|topic| *topic.name.0 == *at.topic);
                let mut places = topic.iter().flat_map(|topic| &topic.partition_responses);
                let place = places
                    .find(|place| place.index == at.index)
                    .ok_or(Error::Malformed { what: "produce" })?;
                if let Some(code) =
                    ResponseError::try_from_code(place.error_code).filter(|code| refuses(*code))
                {
                    let said = place.error_message.as_ref().map(|said| said.to_string());
                    return Err(Error::Refused {
                        topic: at.topic.to_string(),
                        partition: at.index,
                        index,
                        reason: said.unwrap_or_else(|| format!("{code:?} ({} bytes)", batch.bytes.len())),
                    });
                }
                self.judge("produce", place.error_code)?;
                offsets[index] = place.base_offset;
            }
        }
        Ok(offsets)
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
        &mut self,
        connection: &Connection,
        version: i16,
        batches: &[(Partition, Batch)],
        indices: &[usize],
    ) -> Result<Frame> {
        let (mut head, mut parts) = (BytesMut::with_capacity(256), Vec::<Bytes>::new());
        put_text(&mut head, &self.id);
        head.put_i16(-1);
        head.put_i32(i32::try_from(self.timeout.as_millis()).unwrap_or(i32::MAX));
        put_compact(&mut head, indices.len());
        let mut front = head;
        for index in indices {
            let (at, batch) = &batches[*index];
            let sequence = self.sequences.entry(at.clone()).or_default();
            let (own, records) = batch.under(self.producer_id, self.epoch, *sequence);
            // After the largest sequence comes zero.
            *sequence = sequence.wrapping_add(batch.header.count) & i32::MAX;
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

fn name(id: &str) -> TransactionalId {
    TransactionalId(StrBytes::from_string(id.to_owned()))
}

fn topic_name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}
