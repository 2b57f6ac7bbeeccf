//! What is lost to the other site: as the checkpoints list it, so it is known after a restart too, and told in every status
//! until somebody says that this much of it is known.

use std::collections::{BTreeMap, HashMap};

use common::schemas::Checkpoint;

use crate::checkpoint::{keyed, topic_id, uncounted};
use crate::routes::Direction;

/// How many topics are named.
const NAMED: usize = 3;

/// How much is lost: records, as far as they could be counted, and in how many ranges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) records: i64,
    pub(crate) ranges: usize,
}

impl Sum {
    fn of(checkpoint: &Checkpoint) -> Self {
        Self {
            records: checkpoint.lost.iter().map(|lost| lost.count).sum(),
            // Where a topic was made again and nothing of it waited, nothing is lost.
            ranges: checkpoint
                .lost
                .iter()
                .filter(|lost| lost.count > 0 || uncounted(lost))
                .count(),
        }
    }

    fn add(&mut self, other: Self) {
        self.records += other.records;
        self.ranges += other.ranges;
    }
}

/// All that is lost.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    /// By checkpoint: its route and topic, and how much.
    of: BTreeMap<String, (String, String, Sum)>,
    /// How many records were told of.
    told: i64,
    /// How much somebody knows of, as [`Losses::word`] has it.
    known: Option<String>,
}

impl Losses {
    /// Takes what a checkpoint lists; how many records of all are news.
    pub(crate) fn take(&mut self, checkpoint: &Checkpoint) -> i64 {
        let (sum, key) = (Sum::of(checkpoint), keyed(checkpoint));
        if sum.ranges == 0 {
            self.of.remove(&key);
        } else {
            let (route, topic) = (checkpoint.route.clone(), checkpoint.source_topic.clone());
            self.of.insert(key, (route, topic, sum));
        }
        let news = (self.sum().records - self.told).max(0);
        self.told += news;
        news
    }

    /// Takes how much somebody says is known.
    pub(crate) fn know(&mut self, known: Option<String>) {
        self.known = known;
    }

    /// All together.
    pub(crate) fn sum(&self) -> Sum {
        sum(self.of.values())
    }

    /// By route; what is lost of its backlog is lost of the route.
    pub(crate) fn routes(&self) -> BTreeMap<String, Sum> {
        let mut routes: BTreeMap<String, Sum> = BTreeMap::new();
        for (route, _, sum) in self.of.values() {
            let route = route.strip_suffix(".backlog").unwrap_or(route);
            routes.entry(route.to_owned()).or_default().add(*sum);
        }
        routes
    }

    /// How much is lost, in a word that is another one when it gets more.
    fn word(&self) -> String {
        let Sum { records, ranges } = self.sum();
        format!("{records}/{ranges}")
    }

    /// How much is lost and not known.
    pub(crate) fn unknown(&self) -> Sum {
        if self.known.as_deref() == Some(self.word().as_str()) {
            Sum::default()
        } else {
            self.sum()
        }
    }

    /// What there is to say of it in every status.
    pub(crate) fn remark(&self) -> Option<String> {
        if self.unknown() == Sum::default() {
            return None;
        }
        let mut topics: BTreeMap<&str, Sum> = BTreeMap::new();
        for (_, topic, sum) in self.of.values() {
            topics.entry(topic).or_default().add(*sum);
        }
        let named = topics.iter().take(NAMED).map(|(topic, sum)| match sum.records {
            0 => format!("an unknown number of records of {topic}"),
            1 => format!("1 record of {topic}"),
            many => format!("{many} records of {topic}"),
        });
        let mut named: Vec<String> = named.collect();
        if topics.len() > NAMED {
            named.push(format!("records of {} more topics", topics.len() - NAMED));
        }
        Some(format!("lost to the other site: {}", named.join(", ")))
    }
}

fn sum<'a>(of: impl Iterator<Item = &'a (String, String, Sum)>) -> Sum {
    let mut all = Sum::default();
    for (_, _, sum) in of {
        all.add(*sum);
    }
    all
}

/// Where source partitions were seen to end: what of a topic was not carried when it is no more.
#[derive(Debug, Default)]
pub(crate) struct Ends(HashMap<(Direction, String), HashMap<i32, (String, i64)>>);

impl Ends {
    /// Where a partition was seen to end.
    pub(crate) fn of(&self, direction: Direction, topic: &str, partition: i32) -> Option<i64> {
        let partitions = self.0.get(&(direction, topic.to_owned()))?;
        partitions.get(&partition).map(|(_, end)| *end)
    }

    /// A carrier begins with a partition that ends here.
    pub(crate) fn begin(&mut self, direction: Direction, topic: &str, partition: i32, epoch: &str, end: i64) {
        let partitions = self.0.entry((direction, topic.to_owned())).or_default();
        partitions.insert(partition, (topic_id(epoch).to_owned(), end));
    }

    /// Somebody sees where a partition ends. It counts only for the topic that carriers know, and only if it is more: less
    /// is of another one, or of offsets that went back, which a carrier has to find.
    pub(crate) fn see(&mut self, direction: Direction, topic: &str, partition: i32, epoch: &str, end: i64) {
        let partitions = self.0.get_mut(&(direction, topic.to_owned()));
        if let Some((id, known)) = partitions.and_then(|partitions| partitions.get_mut(&partition))
            && id == topic_id(epoch)
        {
            *known = end.max(*known);
        }
    }
}

#[cfg(test)]
mod tests {
    use common::schemas::LostRange;

    use super::*;

    fn checkpoint(topic: &str, counts: &[i64]) -> Checkpoint {
        let lost = counts.iter().map(|count| LostRange {
            source: 0,
            count: *count,
            reason: "x".into(),
        });
        Checkpoint {
            route: "r".into(),
            source_topic: topic.into(),
            destination_topic: topic.into(),
            partition: 0,
            next_offset: 9,
            source_epoch: "one".into(),
            lost: lost.collect(),
            ..Checkpoint::default()
        }
    }

    #[test]
    fn what_checkpoints_list_is_told_once_and_remarked_until_it_is_known() {
        let mut losses = Losses::default();
        assert_eq!(losses.take(&checkpoint("a", &[])), 0);
        assert_eq!(losses.remark(), None);
        assert_eq!(losses.take(&checkpoint("a", &[5, 2])), 7);
        assert_eq!(
            losses.take(&checkpoint("a", &[5, 2])),
            0,
            "the next session finds the same"
        );
        assert_eq!(losses.take(&checkpoint("b", &[0])), 0);
        let remark = losses.remark().unwrap();
        assert_eq!(
            remark,
            "lost to the other site: 7 records of a, an unknown number of records of b"
        );
        losses.know(Some("7/3".into()));
        assert_eq!((losses.remark(), losses.unknown().ranges), (None, 0));
        assert_eq!(losses.take(&checkpoint("b", &[0, 1])), 1);
        assert!(losses.remark().is_some(), "there is more than somebody knows of");
        assert_eq!(
            losses.routes()["r"],
            Sum {
                records: 8,
                ranges: 4
            }
        );
    }

    #[test]
    fn end_that_was_seen_is_that_of_the_topic_which_is_carried() {
        let mut ends = Ends::default();
        ends.see(Direction::Up, "t", 0, "one", 50);
        assert_eq!(ends.of(Direction::Up, "t", 0), None, "no carrier knows it");
        ends.begin(Direction::Up, "t", 0, "one#2", 10);
        ends.see(Direction::Up, "t", 0, "one", 50);
        ends.see(Direction::Up, "t", 0, "one", 40);
        ends.see(Direction::Up, "t", 0, "two", 90);
        ends.see(Direction::Down, "t", 0, "one", 80);
        assert_eq!(ends.of(Direction::Up, "t", 0), Some(50));
        ends.begin(Direction::Up, "t", 0, "two", 4);
        assert_eq!(ends.of(Direction::Up, "t", 0), Some(4));
    }
}
