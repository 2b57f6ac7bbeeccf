//! Reading partitions: committed batches, in order, by long polls in incremental sessions.
//!
//! One task for each server that leads some of the partitions, with a connection of its own where polls are long. A task reads ahead by one answer. The server is told only what changed since the last
//! request, so an idle poll is a few bytes. A topic that is deleted and made again is noticed by its id.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{FetchResponse, PartitionData};
use kafka_protocol::messages::{ApiKey, BrokerId, FetchRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use crate::batch::{Batch, Invalid, Marker, marker};
use crate::cluster::{Cluster, Topic, settling};
use crate::connection::Connection;
use crate::error::{Error, Result, check};
use crate::records::{Read, read};

/// Since this version topics go by id.
const BY_ID: i16 = 13;
/// Read committed.
const COMMITTED: i8 = 1;
/// An answer is asked to be at least this large when there is that much.
const LEAST_BYTES: usize = 64 * 1024;
/// Answers that come faster may be larger; those that come slower should be smaller.
const FAST: Duration = Duration::from_millis(300);
const SLOW: Duration = Duration::from_secs(2);
/// After so many polls in vain, a server waits longer.
const VAIN: u32 = 5;

/// Where to begin with a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The first offset to be read.
    pub offset: i64,
}

/// How much is asked for at a time.
#[derive(Debug, Clone, Copy)]
pub struct FetchLimits {
    /// How long the server may wait for the first record; twice as long when it has waited in vain some times.
    pub wait: Duration,
    /// The most bytes in one answer; a single larger batch still comes.
    pub bytes: usize,
    /// On a connection of its own: while a server waits, it answers nothing else on the same one.
    pub alone: bool,
    /// How often, between two polls, the topics are looked at over the connection of the polls, which is there in any case: one
    /// that has other partitions than it had ends the reading. Not at all where none is given; one that was made again is
    /// noticed by the polls themselves.
    pub look: Option<Duration>,
}

/// News of a partition.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// Where reading was; the first batch may begin before it.
    pub from: i64,
    /// Committed data, in order.
    pub batches: Vec<Batch>,
    /// Where reading goes on, behind markers and what was aborted.
    pub next: i64,
    /// The end of what is committed.
    pub stable: i64,
}

impl Fetched {
    /// Its records; the first batch may begin before [`Self::from`].
    ///
    /// # Errors
    /// With [`Error::Damaged`] when a batch cannot be read.
    pub fn rows(&self) -> Result<Vec<Read>> {
        let mut rows = Vec::new();
        for batch in &self.batches {
            rows.extend(read(batch).map_err(|source| Error::Damaged {
                topic: self.topic.to_string(),
                partition: self.partition,
                source,
            })?);
        }
        Ok(rows)
    }
}

/// Reads partitions. Dropping it ends that.
#[derive(Debug)]
pub struct Fetcher {
    answers: mpsc::Receiver<Result<Vec<Fetched>>>,
    _tasks: JoinSet<()>,
}

impl Fetcher {
    /// Begins to read. `topics` are those that the starts name, as they were when the starts were found.
    pub async fn open(
        cluster: &Arc<Cluster>,
        topics: &[Topic],
        starts: &[Start],
        limits: FetchLimits,
    ) -> Result<Self> {
        let mut leaders: BTreeMap<i32, Vec<Place>> = BTreeMap::new();
        for start in starts {
            let unknown = || Error::UnknownTopic {
                topic: start.topic.clone(),
            };
            let topic = topics
                .iter()
                .find(|topic| topic.name == start.topic)
                .ok_or_else(unknown)?;
            let leader = topic.leader(start.partition).ok_or_else(unknown)?;
            leaders.entry(leader).or_default().push(Place {
                topic: start.topic.as_str().into(),
                id: topic.id,
                partition: start.partition,
                next: start.offset,
            });
        }
        let (to, answers) = mpsc::channel(1);
        let mut tasks = JoinSet::new();
        for (leader, places) in leaders {
            let connection = if limits.alone {
                Arc::new(cluster.private(leader).await?)
            } else {
                cluster.connection(leader).await?
            };
            let version = connection.speaks(ApiKey::Fetch, "Fetch", 12, 16)?;
            let reads = |topic: &&Topic| places.iter().any(|place| *place.topic == *topic.name);
            let topics = topics.iter().filter(reads).cloned().collect();
            let changed = (0..places.len()).collect();
            let poll = Poll {
                connection,
                version,
                topics,
                places,
                limits,
                bytes: LEAST_BYTES.min(limits.bytes).max(1),
                session: (0, 0),
                changed,
                vain: 0,
                cluster: cluster.clone(),
                looked_at: Instant::now(),
            };
            tasks.spawn(poll.run(to.clone()));
        }
        if starts.is_empty() {
            // Nothing will ever come, which is not an error.
            tasks.spawn(async move {
                let _keeps = to;
                std::future::pending().await
            });
        }
        Ok(Self {
            answers,
            _tasks: tasks,
        })
    }

    /// What came; nothing when the server waited in vain. Safe to drop.
    pub async fn next(&mut self) -> Result<Vec<Fetched>> {
        let gone = || Err(Error::Malformed { what: "fetch" });
        self.answers.recv().await.unwrap_or_else(gone)
    }

    /// What has come already, without waiting.
    pub fn ready(&mut self) -> Option<Result<Vec<Fetched>>> {
        self.answers.try_recv().ok()
    }
}

#[derive(Debug)]
struct Place {
    topic: Arc<str>,
    id: [u8; 16],
    partition: i32,
    next: i64,
}

/// The polls of one server.
struct Poll {
    cluster: Arc<Cluster>,
    connection: Arc<Connection>,
    version: i16,
    /// As they were when the starts were found.
    topics: Vec<Topic>,
    looked_at: Instant,
    places: Vec<Place>,
    limits: FetchLimits,
    bytes: usize,
    /// Id and epoch of the incremental session.
    session: (i32, i32),
    /// Places that the server does not know of as they are now.
    changed: HashSet<usize>,
    /// How many times in a row it has waited in vain.
    vain: u32,
}

impl Poll {
    async fn run(mut self, to: mpsc::Sender<Result<Vec<Fetched>>>) {
        // A place for the answer first: no more than one is read ahead.
        while let Ok(permit) = to.reserve().await {
            let news = self.poll().await;
            let failed = news.is_err();
            permit.send(news);
            if failed {
                return;
            }
        }
    }

    async fn poll(&mut self) -> Result<Vec<Fetched>> {
        if self
            .limits
            .look
            .is_some_and(|every| self.looked_at.elapsed() >= every)
        {
            self.look().await?;
        }
        loop {
            let asked = Instant::now();
            // Each poll crosses a line that may be metered; on one that is in use, what is broken is noticed sooner.
            let wait = if self.vain < VAIN {
                self.limits.wait
            } else {
                self.limits.wait * 2
            };
            let request = self.request(wait);
            let answer = self.connection.call(&request, self.version, wait).await?;
            match ResponseError::try_from_code(answer.error_code) {
                Some(ResponseError::FetchSessionIdNotFound | ResponseError::InvalidFetchSessionEpoch) => {
                    self.session = (0, 0);
                    self.changed = (0..self.places.len()).collect();
                    continue;
                }
                Some(ResponseError::FetchSessionTopicIdError) => return Err(self.changed_topic()),
                _ => check("fetch", answer.error_code)?,
            }
            if answer.session_id == 0 {
                // The server keeps no session for this client: everything is told each time.
                self.session = (0, 0);
                self.changed = (0..self.places.len()).collect();
            } else {
                let epoch = self.session.1.checked_add(1).unwrap_or(1);
                self.session = (answer.session_id, epoch);
                self.changed.clear();
            }
            return self.take(answer, asked.elapsed());
        }
    }

    /// Fails when a topic is not what it was.
    async fn look(&mut self) -> Result<()> {
        self.looked_at = Instant::now();
        let names: Vec<&str> = self.topics.iter().map(|topic| topic.name.as_str()).collect();
        let found = match self.cluster.look_over(&self.connection, &names).await {
            // Whatever it is, it is over by the next look.
            Err(Error::Answer { code, .. }) if settling(code) => return Ok(()),
            found => found?,
        };
        match Topic::changed(&self.topics, &found) {
            None => Ok(()),
            Some(topic) => Err(Error::Changed {
                topic: topic.name.clone(),
            }),
        }
    }

    fn changed_topic(&self) -> Error {
        let first = self.places.first();
        Error::Changed {
            topic: first.map(|place| place.topic.to_string()).unwrap_or_default(),
        }
    }

    fn request(&self, wait: Duration) -> FetchRequest {
        let mut topics: Vec<FetchTopic> = Vec::new();
        for (index, place) in self.places.iter().enumerate() {
            if !self.changed.contains(&index) {
                continue;
            }
            let partition = FetchPartition::default()
                .with_partition(place.partition)
                .with_current_leader_epoch(-1)
                .with_fetch_offset(place.next)
                .with_last_fetched_epoch(-1)
                .with_log_start_offset(-1)
                .with_partition_max_bytes(i32::try_from(self.limits.bytes).unwrap_or(i32::MAX));
            let same = topics
                .last_mut()
                .filter(|topic| topic.topic_id.as_bytes() == &place.id);
            if let Some(topic) = same {
                topic.partitions.push(partition);
                continue;
            }
            let mut topic = FetchTopic::default().with_partitions(vec![partition]);
            // Both are set: the version says which one goes.
            topic.topic = TopicName(StrBytes::from_string(place.topic.to_string()));
            topic.topic_id = Uuid::from_bytes(place.id);
            topics.push(topic);
        }
        FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(i32::try_from(wait.as_millis()).unwrap_or(i32::MAX))
            .with_min_bytes(1)
            .with_max_bytes(i32::try_from(self.bytes).unwrap_or(i32::MAX))
            .with_isolation_level(COMMITTED)
            .with_session_id(self.session.0)
            .with_session_epoch(self.session.1)
            .with_topics(topics)
    }

    fn take(&mut self, answer: FetchResponse, took: Duration) -> Result<Vec<Fetched>> {
        let (mut news, mut bytes) = (Vec::new(), 0);
        for topic in answer.responses {
            for data in topic.partitions {
                let by_id = self.version >= BY_ID;
                let mut places = self.places.iter_mut().enumerate();
                let found = places.find(|(_, place)| {
                    let same = if by_id {
                        topic.topic_id.as_bytes() == &place.id
                    } else {
                        *topic.topic.0 == *place.topic
                    };
                    same && place.partition == data.partition_index
                });
                let Some((index, place)) = found else {
                    return Err(Error::Malformed { what: "fetch" });
                };
                bytes += data.records.as_ref().map_or(0, Bytes::len);
                let fetched = place.take(data)?;
                if fetched.next > fetched.from {
                    self.changed.insert(index);
                }
                news.push(fetched);
            }
        }
        self.vain = if bytes == 0 {
            self.vain.saturating_add(1)
        } else {
            0
        };
        // As much at a time as the line carries in a moment.
        if bytes >= self.bytes / 2 {
            if took < FAST {
                self.bytes = (self.bytes * 2).min(self.limits.bytes);
            } else if took > SLOW {
                self.bytes = (self.bytes / 2).max(LEAST_BYTES);
            }
        }
        Ok(news)
    }
}

impl Place {
    fn take(&mut self, data: PartitionData) -> Result<Fetched> {
        use ResponseError as E;
        let (topic, partition) = (self.topic.to_string(), self.partition);
        match E::try_from_code(data.error_code) {
            None => {}
            Some(E::OffsetOutOfRange) => {
                let offset = self.next;
                return Err(Error::OutOfRange {
                    topic,
                    partition,
                    offset,
                });
            }
            Some(E::UnknownTopicId | E::InconsistentTopicId | E::UnknownTopicOrPartition) => {
                return Err(Error::Changed { topic });
            }
            Some(code) => {
                return Err(Error::Answer {
                    operation: "fetch",
                    code,
                });
            }
        }
        let damaged = |source| Error::Damaged {
            topic: topic.clone(),
            partition,
            source,
        };
        let mut aborted: Vec<(i64, i64)> = data
            .aborted_transactions
            .unwrap_or_default()
            .iter()
            .map(|transaction| (transaction.first_offset, transaction.producer_id.0))
            .collect();
        aborted.sort_unstable();
        let mut fetched = Fetched {
            topic: self.topic.clone(),
            partition,
            from: self.next,
            batches: Vec::new(),
            next: self.next,
            stable: data.last_stable_offset,
        };
        let mut left = data.records.unwrap_or_default();
        let some = !left.is_empty();
        let mut sieve = Sieve {
            aborted: aborted.into_iter().peekable(),
            open: HashSet::new(),
        };
        while let Some(batch) = Batch::take(&mut left).map_err(damaged)? {
            let next = batch.header.next_offset();
            let passes = sieve.passes(&batch);
            if next > fetched.next {
                fetched.next = next;
                if passes {
                    fetched.batches.push(batch);
                }
            }
        }
        if some && fetched.next == fetched.from {
            return Err(damaged(Invalid::Short));
        }
        self.next = fetched.next;
        Ok(fetched)
    }
}

/// Lets committed data through.
struct Sieve {
    /// Aborted transactions to come: first offset and producer.
    aborted: std::iter::Peekable<std::vec::IntoIter<(i64, i64)>>,
    /// Producers whose transaction will turn out to be aborted.
    open: HashSet<i64>,
}

impl Sieve {
    fn passes(&mut self, batch: &Batch) -> bool {
        let header = batch.header;
        while let Some((_, producer)) = self.aborted.next_if(|(first, _)| *first < header.next_offset()) {
            self.open.insert(producer);
        }
        if header.control() {
            if marker(batch) == Some(Marker::Aborted) {
                self.open.remove(&header.producer_id);
            }
            return false;
        }
        let aborted = header.transactional() && self.open.contains(&header.producer_id);
        // Compaction leaves empty batches, so that a producer's sequence is not forgotten.
        !aborted && header.count > 0
    }
}
