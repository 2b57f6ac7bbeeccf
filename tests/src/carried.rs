//! What became of a topic's records on their way: read off the two brokers, and off nothing else.
//!
//! Records are compared by a digest of key, value, headers and timestamp, partition by partition, as readers of
//! committed records see them. The client checks the checksum of every batch it reads.

use std::collections::HashMap;
use std::fmt;

use anyhow::{Context, Result, ensure};
use broker::{Broker, Record, Settings};
use prometheus::Registry;

/// The first half of a BLAKE3 hash: enough to tell records apart, and half the memory.
type Digest = [u8; 16];

/// What became of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The topic at the source.
    pub topic: String,
    /// The partition, of both.
    pub partition: i32,
    /// Records at the source.
    pub source: usize,
    /// Records at the destination.
    pub destination: usize,
    /// Records of the source that the destination lacks.
    pub lost: usize,
    /// Copies at the destination beyond those at the source.
    pub twice: usize,
    /// Records at the destination that the source never had.
    pub strange: usize,
    /// First copies that come before one that went before them.
    pub disordered: usize,
    /// A digest over all records in order, at the source.
    pub source_digest: String,
    /// The same at the destination.
    pub destination_digest: String,
}

impl Verdict {
    /// Whether the two are the same, record for record.
    pub fn same(&self) -> bool {
        self.source_digest == self.destination_digest && self.source == self.destination
    }

    fn of(topic: &str, partition: i32, source: &[Digest], destination: &[Digest]) -> Self {
        // Where each record was at the source; equal records take turns. What is the same needs no map.
        let mut places: HashMap<Digest, Vec<usize>> = HashMap::new();
        let same = source == destination;
        if !same {
            for (place, digest) in source.iter().enumerate().rev() {
                places.entry(*digest).or_default().push(place);
            }
        }
        let (mut twice, mut strange, mut disordered) = (0, 0, 0);
        let mut furthest = None;
        let mut found = if same { source.len() } else { 0 };
        for digest in destination.iter().filter(|_| !same) {
            match places.get_mut(digest) {
                None => strange += 1,
                Some(left) => match left.pop() {
                    None => twice += 1,
                    Some(place) => {
                        found += 1;
                        if furthest.is_some_and(|furthest| place < furthest) {
                            disordered += 1;
                        }
                        furthest = furthest.max(Some(place));
                    }
                },
            }
        }
        Self {
            topic: topic.to_owned(),
            partition,
            source: source.len(),
            destination: destination.len(),
            lost: source.len() - found,
            twice,
            strange,
            disordered,
            source_digest: whole(source),
            destination_digest: whole(destination),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<40} {:>3} {:>9} {:>9} lost={} twice={} strange={} disordered={} {} {}",
            self.topic,
            self.partition,
            self.source,
            self.destination,
            self.lost,
            self.twice,
            self.strange,
            self.disordered,
            &self.source_digest[..16],
            if self.same() { "=" } else { "DIFFERS" }
        )
    }
}

fn whole(digests: &[Digest]) -> String {
    let mut hasher = blake3::Hasher::new();
    for digest in digests {
        hasher.update(digest);
    }
    hasher.finalize().to_hex().to_string()
}

fn digest(record: &Record) -> Digest {
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: Option<&[u8]>| {
        let length = bytes.map_or(-1, |bytes| i64::try_from(bytes.len()).unwrap_or(i64::MAX));
        hasher.update(&length.to_be_bytes());
        hasher.update(bytes.unwrap_or_default());
    };
    part(record.key.as_deref());
    part(record.value.as_deref());
    for (name, value) in &record.headers {
        part(Some(name.as_bytes()));
        part(Some(value));
    }
    hasher.update(&record.timestamp.to_be_bytes());
    let mut digest = Digest::default();
    digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    digest
}

/// Opens a broker to be read only.
///
/// # Errors
/// When the URL is none, or an embedded broker is in use.
pub async fn open(url: &str) -> Result<Broker> {
    let mut settings = Settings::url(url);
    settings.librdkafka = [
        ("check.crcs", "true"),
        ("fetch.message.max.bytes", "4194304"),
        ("queued.max.messages.kbytes", "32768"),
    ]
    .map(|(property, value)| (property.to_owned(), value.to_owned()))
    .into();
    Broker::open(&settings, "check-carried", &Registry::new())
        .await
        .with_context(|| format!("cannot open {url}"))
}

/// Compares a topic with what became of it, partition by partition.
///
/// # Errors
/// When one cannot be read, or their partitions differ in number.
pub async fn compare(
    source: &Broker,
    topic: &str,
    destination: &Broker,
    carried: &str,
) -> Result<Vec<Verdict>> {
    let (sent, came) = (
        digests(source, topic).await?,
        digests(destination, carried).await?,
    );
    ensure!(
        sent.len() == came.len(),
        "{topic} has {} partitions and {carried} {}",
        sent.len(),
        came.len()
    );
    let pairs = sent.iter().zip(&came).enumerate();
    pairs
        .map(|(partition, (sent, came))| Ok(Verdict::of(topic, i32::try_from(partition)?, sent, came)))
        .collect()
}

async fn digests(broker: &Broker, topic: &str) -> Result<Vec<Vec<Digest>>> {
    let description = broker
        .describe(topic)
        .await?
        .with_context(|| format!("there is no topic {topic}"))?;
    let mut partitions = vec![Vec::new(); usize::try_from(description.partitions)?];
    let read = broker.read_to_end(topic, |record| {
        let partition = usize::try_from(record.partition).ok();
        if let Some(records) = partition.and_then(|partition| partitions.get_mut(partition)) {
            records.push(digest(&record));
        }
    });
    read.await.with_context(|| format!("cannot read {topic}"))?;
    Ok(partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(source: &str, destination: &str) -> (usize, usize, usize, usize, bool) {
        let digests = |text: &str| text.bytes().map(|byte| [byte; 16]).collect::<Vec<_>>();
        let found = Verdict::of("t", 0, &digests(source), &digests(destination));
        (
            found.lost,
            found.twice,
            found.strange,
            found.disordered,
            found.same(),
        )
    }

    #[test]
    fn each_kind_of_damage_is_counted_as_itself() {
        assert_eq!(verdict("abcab", "abcab"), (0, 0, 0, 0, true));
        assert_eq!(verdict("abcab", "abab"), (1, 0, 0, 0, false));
        assert_eq!(verdict("abc", "abbc"), (0, 1, 0, 0, false));
        assert_eq!(verdict("abc", "abxc"), (0, 0, 1, 0, false));
        assert_eq!(verdict("abc", "acb"), (0, 0, 0, 1, false));
        assert_eq!(verdict("", ""), (0, 0, 0, 0, true));
        // Two that are alike at the source are two at the destination.
        assert_eq!(verdict("aab", "ab"), (1, 0, 0, 0, false));
    }
}
