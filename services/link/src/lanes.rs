//! What must be true of a lane's topics before it can be carried.

use std::collections::HashMap;
use std::time::Duration;

use common::broker::{self, Cleanup, TopicDescription, TopicSpec, Watermarks};
use common::kafka;
use common::schemas::Topic;
use common::telemetry;

use crate::error::{Error, Result};
use crate::place::Place;
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

impl From<&kafka::Topic> for Shape {
    fn from(topic: &kafka::Topic) -> Self {
        Self {
            partitions: i32::try_from(topic.partitions()).unwrap_or(i32::MAX),
            id: topic.id(),
        }
    }
}

impl From<&TopicDescription> for Shape {
    fn from(topic: &TopicDescription) -> Self {
        Self {
            partitions: topic.partitions,
            id: topic.id.clone(),
        }
    }
}

/// A lane's source as it is, or what keeps the lane from being carried, in an operator's words.
pub(crate) async fn ready(
    lane: &Lane,
    site: &str,
    (source, destination): (Place<'_>, Place<'_>),
    retention: Duration,
) -> Result<std::result::Result<Shape, String>> {
    let Some((shape, keeping)) = source.look(&lane.source).await? else {
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
    let partitions = shape.partitions;
    let to = match destination.look(&lane.destination).await? {
        // Partitions are added where the source got more, and never taken away.
        Some((to, _)) if to.partitions < partitions => {
            if let Err(error) = destination.widen(&lane.destination, partitions).await {
                return told(error, |reason| {
                    format!(
                        "{} has {partitions} partitions and {} has {}, which cannot be given more: {reason}",
                        lane.source, lane.destination, to.partitions
                    )
                });
            }
            tracing::info!(topic = %lane.destination, partitions, "partitions added");
            partitions
        }
        Some((to, _)) => to.partitions,
        None if enrolment_makes(lane, site) => {
            return Ok(Err(format!(
                "the core has no topic {}: run `fieldline site add {site}` there",
                lane.destination
            )));
        }
        None => {
            let spec = like(partitions, &keeping, &lane.destination, retention);
            if let Err(error) = destination.make(&spec).await {
                return told(error, |reason| {
                    format!(
                        "topic {} cannot be made at the other side: {reason}",
                        lane.destination
                    )
                });
            }
            tracing::info!(topic = %lane.destination, partitions, "topic created");
            partitions
        }
    };
    if partitions != to {
        return Ok(Err(format!(
            "{} has {partitions} partitions and {} has {to}: make them equal, for a partition keeps its number",
            lane.source, lane.destination
        )));
    }
    Ok(Ok(shape))
}

/// What the other side refuses keeps one lane from being carried; when it does not answer, that is no word on the lane.
fn told<T>(error: Error, problem: impl FnOnce(String) -> String) -> Result<std::result::Result<T, String>> {
    match error {
        Error::Broker(broker::Error::Topic { .. } | broker::Error::Refused { .. })
        | Error::Wire(kafka::Error::Topic { .. }) => Ok(Err(problem(telemetry::chain(&error)))),
        other => Err(other),
    }
}

/// Whether the topic at the core is one that enrolling the edge makes.
fn enrolment_makes(lane: &Lane, site: &str) -> bool {
    let topics = site
        .parse()
        .map(|site| Topic::core_for(&site))
        .unwrap_or_default();
    lane.direction == Direction::Up && topics.iter().any(|topic| topic.name == lane.destination)
}

/// How a topic keeps what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keeping {
    compacted: bool,
    /// None is for ever, unless it is hidden from us.
    retention: Option<Duration>,
    hidden: bool,
    /// The most bytes of a partition; none is no limit.
    most: Option<u64>,
    largest: Option<u32>,
    /// Whether records get the time of their arrival there in place of their own.
    stamps: bool,
    /// How a Kafka compresses them, whoever sent them.
    compression: Option<&'static str>,
}

/// What leaves them as they come.
const AS_SENT: &str = "producer";
/// How a Kafka may compress, by its names.
const COMPRESSION: [&str; 6] = [AS_SENT, "uncompressed", "gzip", "snappy", "lz4", "zstd"];

impl Keeping {
    /// Whether only the newest of each key has to be there.
    pub(crate) fn compacted(&self) -> bool {
        self.compacted
    }
}

/// Kafka's names of what [`Keeping`] is made of.
pub(crate) const KEEPING: [&str; 6] = [
    "cleanup.policy",
    "retention.ms",
    "max.message.bytes",
    "retention.bytes",
    "message.timestamp.type",
    "compression.type",
];

impl From<TopicDescription> for Keeping {
    fn from(topic: TopicDescription) -> Self {
        Self {
            compacted: topic.cleanup == Cleanup::Compact,
            retention: topic.retention,
            hidden: false,
            most: topic.retention_bytes,
            largest: topic.max_message_bytes,
            // The broker in this process does not; of a Kafka nothing says so here.
            stamps: false,
            compression: None,
        }
    }
}

impl From<HashMap<String, String>> for Keeping {
    fn from(values: HashMap<String, String>) -> Self {
        let value = |key: &str| values.get(key).map(String::as_str);
        Self {
            compacted: value(KEEPING[0]).is_some_and(|policy| policy.contains("compact")),
            retention: value(KEEPING[1])
                .and_then(|millis| millis.parse().ok())
                .map(Duration::from_millis),
            hidden: value(KEEPING[1]).is_none(),
            most: value(KEEPING[3]).and_then(|bytes| bytes.parse().ok()),
            stamps: value(KEEPING[4]) == Some("LogAppendTime"),
            largest: value(KEEPING[2]).and_then(|bytes| bytes.parse().ok()),
            compression: value(KEEPING[5])
                .and_then(|found| COMPRESSION.into_iter().find(|known| *known == found)),
        }
    }
}

/// How the destination will not keep what the source has, in an operator's words.
pub(crate) fn differences(lane: &Lane, from: &Keeping, to: &Keeping) -> Vec<String> {
    let (source, destination) = (&lane.source, &lane.destination);
    let kept = |compacted| {
        if compacted {
            "the newest of each key"
        } else {
            "all records for a time"
        }
    };
    let mut found = Vec::new();
    if from.compacted != to.compacted {
        found.push(format!(
            "{source} keeps {} and {destination} {}",
            kept(from.compacted),
            kept(to.compacted)
        ));
    }
    if let (Some(most), Some(takes)) = (from.largest, to.largest)
        && takes < most
    {
        found.push(format!(
            "{source} takes records of {most} bytes and {destination} of {takes}: larger ones become dead letters"
        ));
    }
    if to.stamps {
        found.push(format!(
            "{destination} gives records the time of their arrival there: their own is not kept"
        ));
    }
    if let Some(packs) = to.compression.filter(|packs| *packs != AS_SENT)
        && from.compression != Some(packs)
    {
        let sent = from.compression.unwrap_or(AS_SENT);
        found.push(format!(
            "{destination} stores records {packs} and {source} {sent}: the broker there unpacks each batch and packs it anew"
        ));
    }
    if let Some(most) = to.most.filter(|_| !from.compacted && !to.compacted)
        && from.most.is_none_or(|bytes| most < bytes)
    {
        found.push(format!(
            "{destination} keeps at most {most} bytes of a partition, {source} more"
        ));
    }
    if let Some(keeps) = to.retention.filter(|_| !from.compacted && !to.compacted)
        && from.retention.is_none_or(|retention| keeps < retention)
    {
        let hours = keeps.as_secs() / 3600;
        found.push(format!(
            "{destination} keeps records for {hours} hours, {source} for longer"
        ));
    }
    found
}

/// The topic that receives what one with so many partitions, that keeps so much, has. It keeps records longer than the
/// longest outage, and for ever where the source does: a Kafka goes by the records' own time, and would take old ones at once.
fn like(partitions: i32, keeping: &Keeping, name: &str, retention: Duration) -> TopicSpec {
    let mut spec = TopicSpec::new(name, partitions);
    spec.max_message_bytes = spec.max_message_bytes.max(keeping.largest.unwrap_or_default());
    // Whatever a Kafka does with topics of which nothing is said.
    let packs = keeping
        .compression
        .map(|packs| (KEEPING[5].to_owned(), packs.to_owned()));
    spec.config.extend(packs);
    if keeping.compacted {
        return spec.compacted();
    }
    match keeping.retention {
        None if !keeping.hidden => {
            // Without a word a Kafka has a retention of its own.
            spec.config.insert(KEEPING[1].to_owned(), "-1".to_owned());
            spec
        }
        kept => spec.retention(kept.unwrap_or_default().max(retention)),
    }
}

/// The ends of a source partition, once they are past `next` or have stayed before it for a while.
pub(crate) async fn settled(source: Place<'_>, topic: &str, partition: i32, next: i64) -> Result<Watermarks> {
    let mut waited = Duration::ZERO;
    loop {
        let marks = source.marks(topic, partition).await?;
        if next <= marks.high || waited >= SETTLE {
            return Ok(marks);
        }
        tokio::time::sleep(SETTLE_STEP).await;
        waited += SETTLE_STEP;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_destination_will_not_keep_is_told() {
        let site = "edge-1".parse().unwrap();
        let lanes = crate::expand(&site, &crate::builtin()).unwrap();
        let like = |policy: &str, hours: u64, largest: u32| {
            let values = [
                (KEEPING[0], policy.to_owned()),
                (KEEPING[1], (hours * 3_600_000).to_string()),
                (KEEPING[2], largest.to_string()),
            ];
            Keeping::from(
                values
                    .map(|(key, value)| (key.to_owned(), value))
                    .into_iter()
                    .collect::<HashMap<_, _>>(),
            )
        };
        let tell = |from: &Keeping, to: &Keeping| differences(&lanes[0], from, to);
        let usual = like("delete", 24, 1000);
        assert!(tell(&usual, &usual).is_empty());
        assert!(tell(&usual, &like("delete", 48, 2000)).is_empty());
        assert!(tell(&usual, &like("compact", 24, 1000))[0].contains("newest of each key"));
        assert!(tell(&usual, &like("delete", 24, 999))[0].contains("dead letters"));
        assert!(tell(&usual, &like("delete", 12, 1000))[0].contains("12 hours"));
        let for_ever = Keeping {
            retention: None,
            ..usual
        };
        let day = like("delete", 24, 1000);
        assert!(tell(&day, &for_ever).is_empty());
        assert_eq!(tell(&for_ever, &day).len(), 1);
        let stamps = Keeping {
            stamps: true,
            ..usual
        };
        assert!(tell(&usual, &stamps)[0].contains("their own is not kept"));
        let packs = |name: &str| {
            let value = (KEEPING[5].to_owned(), name.to_owned());
            Keeping::from(HashMap::from([value])).compression
        };
        let packed = |name: &str| Keeping {
            compression: packs(name),
            ..usual
        };
        assert!(tell(&packed("producer"), &packed("zstd"))[0].contains("packs it anew"));
        assert!(tell(&packed("zstd"), &packed("gzip"))[0].contains("packs it anew"));
        assert!(tell(&usual, &packed("lz4"))[0].contains("packs it anew"));
        for (from, to) in [("zstd", "producer"), ("zstd", "zstd"), ("producer", "producer")] {
            assert!(tell(&packed(from), &packed(to)).is_empty());
        }
        let of = |most| Keeping { most, ..usual };
        assert!(tell(&of(None), &of(Some(9)))[0].contains("at most 9 bytes"));
        assert!(tell(&of(Some(8)), &of(Some(9))).is_empty() && tell(&of(Some(8)), &of(None)).is_empty());
    }

    #[test]
    fn destination_keeps_records_as_long_as_the_source_and_the_longest_outage() {
        let outage = Duration::from_secs(7200);
        let made = |retention: Option<&str>| {
            let values = retention.map(|millis| (KEEPING[1].to_owned(), millis.to_owned()));
            like(3, &Keeping::from(HashMap::from_iter(values)), "t", outage)
        };
        assert_eq!(made(Some("3600000")).retention, Some(outage));
        assert_eq!(
            made(Some("36000000")).retention,
            Some(Duration::from_secs(36_000))
        );
        let zstd = HashMap::from([(KEEPING[5].to_owned(), "zstd".to_owned())]);
        assert_eq!(
            like(3, &Keeping::from(zstd), "t", outage).config[KEEPING[5]],
            "zstd"
        );
        // Who may not see it takes no disk for ever.
        assert_eq!((made(None).retention, made(None).config.len()), (Some(outage), 0));
        let for_ever = made(Some("-1"));
        assert_eq!((for_ever.retention, &*for_ever.config[KEEPING[1]]), (None, "-1"));
    }
}
