//! What a session asks before it carries: checkpoints, topics and their ends, in few questions for all lanes, since each
//! is a round trip to the core.

use std::collections::HashMap;
use std::time::Duration;

use common::broker::Watermarks;
use common::kafka::{Error as Wired, FetchLimits, Fetcher, Start, read};
use common::schemas::Checkpoint;

use super::{BYTES, Batches};
use crate::carrier::Carrier;
use crate::checkpoint;
use crate::error::Result;
use crate::lanes::Shape;
use crate::routes::Lane;

/// How long a poll waits at the destination, whose checkpoints are there already.
const BRIEF: Duration = Duration::from_millis(500);

impl Batches {
    /// Reads all checkpoints at the destination, to the end.
    pub(crate) async fn load_checkpoints(&self) -> Result<HashMap<String, Checkpoint>> {
        let topic = std::slice::from_ref(&self.checkpoints);
        let mut left: HashMap<i32, i64> = HashMap::new();
        let mut starts = Vec::new();
        for ((topic, partition), ends) in self.destination.ends(topic).await? {
            if ends.high > ends.low {
                left.insert(partition, ends.high);
                starts.push(Start {
                    topic,
                    partition,
                    offset: ends.low,
                });
            }
        }
        let mut found = checkpoint::Found::default();
        let limits = FetchLimits {
            wait: BRIEF,
            bytes: BYTES,
        };
        let mut fetcher = Fetcher::open(&self.destination, topic, &starts, limits).await?;
        while !left.is_empty() {
            for news in fetcher.next().await? {
                for batch in &news.batches {
                    let damaged = |source| Wired::Damaged {
                        topic: news.topic.to_string(),
                        partition: news.partition,
                        source,
                    };
                    for row in read(batch).map_err(damaged)? {
                        let at = (&*news.topic, news.partition, row.offset);
                        found.take(at, row.key.as_deref(), row.value.as_deref());
                    }
                }
                if left.get(&news.partition).is_some_and(|end| news.next >= *end) {
                    left.remove(&news.partition);
                }
            }
        }
        found.all()
    }

    /// Asks in a few questions for what a session needs to know of all lanes. What is decided later about a topic that
    /// was made again meanwhile ends with the first poll, which asks for the old one by its id.
    pub(crate) async fn look_around(&mut self, carrier: &Carrier) -> Result<()> {
        let lanes = &carrier.lanes;
        let sources: Vec<&str> = lanes.iter().map(|lane| lane.source.as_str()).collect();
        let destinations: Vec<&str> = lanes.iter().map(|lane| lane.destination.as_str()).collect();
        let found = tokio::try_join!(
            self.source.topics(&sources),
            self.destination.topics(&destinations)
        );
        let (sources, destinations) = found?;
        self.topics = sources.into_iter().flatten().collect();
        self.places = destinations
            .into_iter()
            .flatten()
            .map(|topic| (topic.name.clone(), topic.partitions()))
            .collect();
        self.marks = self.source.ends(&self.topics).await?;
        Ok(())
    }

    /// A lane's source, if source and destination are there and agree.
    pub(crate) fn seen(&self, lane: &Lane) -> Option<Shape> {
        let source = self.topics.iter().find(|topic| topic.name == lane.source)?;
        let same = self.places.get(&lane.destination) == Some(&source.partitions());
        same.then(|| Shape {
            partitions: i32::try_from(source.partitions()).unwrap_or(i32::MAX),
            id: source.id(),
        })
    }

    /// The ends of a source partition when the session began.
    pub(crate) fn marks(&self, topic: &str, partition: i32) -> Option<Watermarks> {
        let ends = self.marks.get(&(topic.to_owned(), partition))?;
        Some(Watermarks {
            low: ends.low,
            high: ends.high,
        })
    }
}
