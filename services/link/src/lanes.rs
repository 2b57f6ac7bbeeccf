//! What must be true of a lane's topics before it can be carried.

use std::time::Duration;

use common::broker::{Broker, Cleanup, TopicDescription, TopicSpec, Watermarks};

use crate::error::Result;
use crate::routes::{Direction, Lane};

/// How long a partition that seems to end before its checkpoint is watched: a broker that just came up may still be
/// catching up with itself.
const SETTLE: Duration = Duration::from_secs(5);
const SETTLE_STEP: Duration = Duration::from_millis(500);

/// A lane's source, as far as a session needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) partitions: i32,
    /// Which incarnation this is.
    pub(crate) id: String,
}

/// A lane's source as it is, or what keeps the lane from being carried, in an operator's words.
pub(crate) async fn ready(
    lane: &Lane,
    site: &str,
    source: &Broker,
    destination: &Broker,
    retention: Duration,
) -> Result<std::result::Result<Shape, String>> {
    let Some(from) = source.describe(&lane.source).await? else {
        return Ok(Err(match lane.direction {
            Direction::Up => format!(
                "this site has no topic {}: run `fieldline init` here",
                lane.source
            ),
            Direction::Down if lane.source == lane.destination => {
                format!(
                    "the core has no topic {}: run `fieldline init` there",
                    lane.source
                )
            }
            Direction::Down => format!(
                "the core has no topic {}: run `fieldline site add {site}` there",
                lane.source
            ),
        }));
    };
    let to = match destination.describe(&lane.destination).await? {
        Some(to) => to.partitions,
        None if lane.direction == Direction::Up && lane.backlog_of.is_none() => {
            return Ok(Err(format!(
                "the core has no topic {}: run `fieldline site add {site}` there",
                lane.destination
            )));
        }
        None => {
            destination
                .create_topic(&like(&from, &lane.destination, retention))
                .await?;
            tracing::info!(topic = %lane.destination, partitions = from.partitions, "topic created");
            from.partitions
        }
    };
    if from.partitions != to {
        return Ok(Err(format!(
            "{} has {} partitions and {} has {to}: make them equal, for a partition keeps its number",
            lane.source, from.partitions, lane.destination
        )));
    }
    Ok(Ok(Shape {
        partitions: from.partitions,
        id: from.id,
    }))
}

/// The topic that receives what `from` has. It keeps records longer than the longest outage.
fn like(from: &TopicDescription, name: &str, retention: Duration) -> TopicSpec {
    let spec = TopicSpec::new(name, from.partitions);
    match from.cleanup {
        Cleanup::Compact => spec.compacted(),
        Cleanup::Delete => spec.retention(from.retention.unwrap_or_default().max(retention)),
    }
}

/// The ends of a source partition, once they are past `next` or have stayed before it for a while.
pub(crate) async fn settled(source: &Broker, topic: &str, partition: i32, next: i64) -> Result<Watermarks> {
    let mut waited = Duration::ZERO;
    loop {
        let marks = source.watermarks(topic, partition).await?;
        if next <= marks.high || waited >= SETTLE {
            return Ok(marks);
        }
        tokio::time::sleep(SETTLE_STEP).await;
        waited += SETTLE_STEP;
    }
}
