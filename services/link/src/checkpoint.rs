//! Checkpoints: how far a route has carried a source partition, and where it goes on.
//!
//! A checkpoint is written to the destination in the transaction of the records it vouches for, so the two cannot
//! disagree. Where records are gone before they could be carried, that is written down and counted; nothing is skipped
//! unseen.

use std::collections::HashMap;

use common::broker::{Broker, Outgoing, Record, Start, Watermarks};
use common::schemas::{self, Checkpoint, LostRange};

use crate::error::{Error, Result};
use crate::holder;
use crate::routes::Lane;

/// How many lost ranges a checkpoint lists; older ones are added up in one.
const MAX_LOST: usize = 64;
/// Why ranges are lost. After the second and third a partition begins anew: offsets before and after are not of one row.
const TOO_OLD: &str = "the source's retention passed before they were carried";
const MADE_AGAIN: &str = "the topic was deleted and made again: what of the old one was not carried is gone";
const WENT_BACK: &str = "the topic's offsets went back: it is carried from its beginning again";
const ADDED_UP: &str = "several ranges, added up";
/// Behind one of these, when it could be counted and when not.
const COUNTED: &str = "; counted as last seen";
const UNSEEN: &str = "; nobody has seen how much that is";
/// Stands between a topic's id and how often its offsets went back.
const TURN: char = '#';

/// The checkpoint's key: one for each route, source topic and partition.
pub fn key(route: &str, topic: &str, partition: i32) -> String {
    format!("{route}/{topic}/{partition}")
}

/// The key that a checkpoint is kept under.
pub(crate) fn keyed(checkpoint: &Checkpoint) -> String {
    key(&checkpoint.route, &checkpoint.source_topic, checkpoint.partition)
}

/// Checkpoints as they are read, the newest of each key.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// With their partitions and offsets; one that was removed is none.
    checkpoints: HashMap<String, ((i32, i64), Option<Checkpoint>)>,
    /// Whose mark is the newest.
    holder: Option<String>,
    broken: Option<Error>,
}

impl Found {
    /// Takes the next record of the topic.
    pub(crate) fn take(&mut self, at: (&str, i32, i64), key: Option<&[u8]>, value: Option<&[u8]>) {
        let key = key
            .map(|key| String::from_utf8_lossy(key).into_owned())
            .unwrap_or_default();
        match value.map(schemas::decode::<Checkpoint>) {
            None => self.put(key, (at.1, at.2), None),
            Some(Ok(mark)) if key == holder::KEY => self.holder = Some(mark.source_epoch),
            Some(Ok(checkpoint)) => self.put(key, (at.1, at.2), Some(checkpoint)),
            Some(Err(source)) => {
                self.broken = Some(Error::Checkpoint {
                    topic: at.0.to_owned(),
                    partition: at.1,
                    offset: at.2,
                    source,
                });
            }
        }
    }

    /// Nothing is put in the place of what is newer.
    pub(crate) fn put(&mut self, key: String, at: (i32, i64), checkpoint: Option<Checkpoint>) {
        let known = self.checkpoints.get(&key);
        if known.is_none_or(|(known, _)| known.0 != at.0 || known.1 < at.1) {
            self.checkpoints.insert(key, (at, checkpoint));
        }
    }

    /// Takes all that was read behind it.
    pub(crate) fn then(&mut self, news: Self) -> Result<()> {
        let news = news.whole()?;
        for (key, (at, checkpoint)) in news.checkpoints {
            self.put(key, at, checkpoint);
        }
        if news.holder.is_some() {
            self.holder = news.holder;
        }
        Ok(())
    }

    /// Those that are there, with their partitions and offsets.
    pub(crate) fn with_places(&self) -> Vec<(i32, i64, Checkpoint)> {
        let all = self.checkpoints.values();
        all.filter_map(|((partition, offset), found)| Some((*partition, *offset, found.clone()?)))
            .collect()
    }

    /// The same once more, without what could not be read.
    pub(crate) fn copy(&self) -> Self {
        Self {
            checkpoints: self.checkpoints.clone(),
            holder: self.holder.clone(),
            broken: None,
        }
    }

    /// Itself, if all could be read.
    pub(crate) fn whole(mut self) -> Result<Self> {
        self.broken.take().map_or(Ok(self), Err)
    }

    /// Whose mark is the newest.
    pub(crate) fn holder(&self) -> Option<&str> {
        self.holder.as_deref()
    }

    /// All of them, if all could be read.
    pub(crate) fn all(self) -> Result<HashMap<String, Checkpoint>> {
        let found = self.whole()?.checkpoints.into_iter();
        Ok(found
            .filter_map(|(key, (_, checkpoint))| Some((key, checkpoint?)))
            .collect())
    }
}

/// Reads all checkpoints at a destination, to the end.
pub async fn load(destination: &Broker, topic: &str) -> Result<HashMap<String, Checkpoint>> {
    find(destination, topic).await?.all()
}

/// The same for who left the newest mark among them ([`holder`]).
///
/// # Errors
/// With [`Error::Superseded`] when another one has left one since.
pub async fn load_held(
    destination: &Broker,
    topic: &str,
    holder: &str,
) -> Result<HashMap<String, Checkpoint>> {
    let found = find(destination, topic).await?;
    holder::confirm(found.holder(), holder)?;
    found.all()
}

/// Reads all checkpoints at a destination, to the end, and whose mark is the newest.
pub(crate) async fn find(destination: &Broker, topic: &str) -> Result<Found> {
    let mut found = Found::default();
    let visit = |record: Record| {
        let at = (&*record.topic, record.partition, record.offset);
        found.take(at, record.key.as_deref(), record.value.as_deref());
    };
    destination.read_to_end(topic, visit).await?;
    Ok(found)
}

/// The record that keeps a checkpoint.
pub fn record(topic: &str, checkpoint: &Checkpoint) -> Outgoing {
    let key = keyed(checkpoint);
    match schemas::encode(checkpoint) {
        Ok(value) => Outgoing::new(topic, key, value),
        // Cannot happen; if it did, a transaction with a record to no topic fails, and nothing goes without checkpoint.
        Err(_) => Outgoing::new("", key, Vec::new()),
    }
}

/// The id of the topic in an epoch: a checkpoint's is `id`, or `id#n` when the offsets of this very topic went back for the
/// nth time, for then the same offsets are of other records.
pub fn topic_id(epoch: &str) -> &str {
    epoch.split_once(TURN).map_or(epoch, |(id, _)| id)
}

/// How often the offsets of the topic in an epoch went back.
pub fn turn(epoch: &str) -> u64 {
    let turn = epoch.split_once(TURN).and_then(|(_, turn)| turn.parse().ok());
    turn.unwrap_or(0)
}

/// The epoch of a topic whose offsets went back so often.
pub fn epoch(id: &str, turn: u64) -> String {
    match turn {
        0 => id.to_owned(),
        _ => format!("{id}{TURN}{turn}"),
    }
}

/// Whether a partition may have begun anew behind this range.
pub(crate) fn began_anew(lost: &LostRange) -> bool {
    // Versions before counted nothing then.
    let mut anew = [MADE_AGAIN, WENT_BACK, ADDED_UP].into_iter();
    lost.count == 0 || anew.any(|reason| lost.reason.starts_with(reason))
}

/// Whether nobody knows how much of a range there was.
pub(crate) fn uncounted(lost: &LostRange) -> bool {
    lost.count == 0 && !lost.reason.ends_with(COUNTED)
}

/// Where to go on, and what was found on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct Resume {
    /// The checkpoint to go on from.
    pub checkpoint: Checkpoint,
    /// Where to read.
    pub start: Start,
    /// What cannot be carried any more; the checkpoint lists it, and must be written before anything else.
    pub lost: Option<LostRange>,
    /// Whether the source begins anew: it is another topic, or its offsets went back.
    pub anew: bool,
}

impl Resume {
    /// Counts what is lost where the partition began anew: so many of the records that were seen there were not carried.
    pub(crate) fn count(&mut self, seen: Option<i64>) {
        let Some(lost) = self.lost.as_mut().filter(|_| self.anew) else {
            return;
        };
        match seen {
            Some(count) => {
                lost.count = count;
                lost.reason.push_str(COUNTED);
            }
            None => lost.reason.push_str(UNSEEN),
        }
        if let Some(listed) = self.checkpoint.lost.last_mut() {
            *listed = lost.clone();
        }
    }
}

/// Decides where to go on with a partition, from its checkpoint and what the source has.
pub fn resume(
    found: Option<Checkpoint>,
    lane: &Lane,
    partition: i32,
    epoch: &str,
    marks: Watermarks,
) -> Resume {
    let Some(mut checkpoint) = found else {
        let checkpoint = Checkpoint {
            route: lane.route.clone(),
            source_topic: lane.source.clone(),
            destination_topic: lane.destination.clone(),
            partition,
            next_offset: marks.low,
            source_epoch: epoch.to_owned(),
            ..Checkpoint::default()
        };
        return Resume {
            checkpoint,
            start: Start::Beginning,
            lost: None,
            anew: false,
        };
    };
    let next = checkpoint.next_offset;
    // A client that could not learn an id in time says nothing about incarnations; the offsets still do.
    let known = topic_id(&checkpoint.source_epoch);
    let told = !epoch.is_empty() && !known.is_empty();
    let other = told && known != epoch;
    if !epoch.is_empty() && known.is_empty() {
        checkpoint.source_epoch.insert_str(0, epoch);
    }
    let (count, reason) = if other {
        (0, MADE_AGAIN)
    } else if next > marks.high {
        (0, WENT_BACK)
    } else if next < marks.low {
        (marks.low - next, TOO_OLD)
    } else {
        return Resume {
            checkpoint,
            start: Start::Offset(next),
            lost: None,
            anew: false,
        };
    };
    let lost = LostRange {
        source: next,
        count,
        reason: reason.to_owned(),
    };
    add_lost(&mut checkpoint, lost.clone());
    checkpoint.next_offset = marks.low;
    let anew = reason != TOO_OLD;
    if anew {
        // Offsets of another incarnation mean nothing here, and what carries a backlog by them is not to go on.
        checkpoint.ranges.clear();
        checkpoint.sampled = 0;
        checkpoint.backlog.clear();
        checkpoint.source_epoch = if other {
            epoch.to_owned()
        } else {
            self::epoch(
                topic_id(&checkpoint.source_epoch),
                turn(&checkpoint.source_epoch) + 1,
            )
        };
    }
    let start = if anew {
        Start::Beginning
    } else {
        Start::Offset(marks.low)
    };
    Resume {
        checkpoint,
        start,
        lost: Some(lost),
        anew,
    }
}

/// Lists what is lost.
pub(crate) fn add_lost(checkpoint: &mut Checkpoint, lost: LostRange) {
    checkpoint.lost.push(lost);
    bound(&mut checkpoint.lost);
}

/// Keeps the list short: the oldest ranges become one, whose count is their sum.
pub fn bound(lost: &mut Vec<LostRange>) {
    while lost.len() > MAX_LOST {
        let oldest = lost.remove(0);
        if let Some(first) = lost.first_mut() {
            *first = LostRange {
                source: oldest.source.min(first.source),
                count: oldest.count + first.count,
                reason: ADDED_UP.to_owned(),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::Direction;

    fn lane() -> Lane {
        Lane {
            route: "r".into(),
            direction: Direction::Up,
            source: "t".into(),
            destination: "edge.t".into(),
            class: common::budget::Class::Sensors,
            live_first: false,
            backlog_of: None,
        }
    }

    fn at(next: i64) -> Checkpoint {
        let fresh = resume(None, &lane(), 0, "one", Watermarks { low: 0, high: 0 }).checkpoint;
        let ranges = vec![schemas::OffsetRange {
            source: 0,
            destination: 0,
            count: next,
        }];
        Checkpoint {
            next_offset: next,
            ranges,
            ..fresh
        }
    }

    #[test]
    fn without_a_checkpoint_the_beginning_is_next() {
        let resumed = resume(None, &lane(), 2, "one", Watermarks { low: 5, high: 9 });
        assert_eq!((resumed.start, resumed.lost), (Start::Beginning, None));
        assert_eq!(resumed.checkpoint.next_offset, 5);
    }

    #[test]
    fn a_checkpoint_is_gone_on_from() {
        for next in [5, 7, 9] {
            let resumed = resume(Some(at(next)), &lane(), 0, "one", Watermarks { low: 5, high: 9 });
            assert_eq!((resumed.start, resumed.lost), (Start::Offset(next), None));
        }
    }

    #[test]
    fn a_gap_is_counted() {
        let resumed = resume(Some(at(3)), &lane(), 0, "one", Watermarks { low: 5, high: 9 });
        assert_eq!(resumed.start, Start::Offset(5));
        let lost = resumed.lost.unwrap();
        assert_eq!((lost.source, lost.count), (3, 2));
        assert_eq!(resumed.checkpoint.lost, [lost]);
        assert_eq!(resumed.checkpoint.ranges.len(), 1);
    }

    #[test]
    fn another_incarnation_is_written_down_and_carried_from_its_beginning() {
        let recreated = resume(Some(at(3)), &lane(), 0, "two", Watermarks { low: 0, high: 9 });
        let gone_back = resume(Some(at(30)), &lane(), 0, "one", Watermarks { low: 0, high: 9 });
        let epochs = [&recreated, &gone_back].map(|resumed| resumed.checkpoint.source_epoch.clone());
        assert_eq!(epochs, ["two", "one#1"]);
        for resumed in [recreated, gone_back] {
            assert_eq!(resumed.start, Start::Beginning);
            assert_eq!(resumed.checkpoint.lost.len(), 1);
            assert_eq!(resumed.checkpoint.ranges, []);
            assert!(resumed.anew && began_anew(&resumed.checkpoint.lost[0]));
        }
    }

    #[test]
    fn offsets_that_went_back_are_of_another_turn_of_the_same_topic() {
        let marks = Watermarks { low: 0, high: 9 };
        let first = resume(Some(at(30)), &lane(), 0, "one", marks);
        let goes_on = resume(Some(first.checkpoint.clone()), &lane(), 0, "one", marks);
        assert_eq!((goes_on.start, goes_on.lost), (Start::Offset(0), None));
        let mut later = first.checkpoint;
        later.next_offset = 20;
        let second = resume(Some(later.clone()), &lane(), 0, "one", marks);
        assert_eq!(second.checkpoint.source_epoch, "one#2");
        // Nobody learned the id, and it went back.
        assert_eq!(
            resume(Some(later), &lane(), 0, "", marks).checkpoint.source_epoch,
            "one#2"
        );
        let made_again = resume(Some(second.checkpoint), &lane(), 0, "two", marks);
        assert_eq!(made_again.checkpoint.source_epoch, "two");
    }

    #[test]
    fn what_was_seen_of_what_is_gone_is_counted() {
        let marks = Watermarks { low: 0, high: 9 };
        let mut resumed = resume(Some(at(3)), &lane(), 0, "two", marks);
        resumed.count(Some(17));
        assert_eq!(resumed.lost.unwrap().count, 17);
        assert_eq!(resumed.checkpoint.lost[0].count, 17);
        assert!(began_anew(&resumed.checkpoint.lost[0]));
        let mut unseen = resume(Some(at(3)), &lane(), 0, "two", marks);
        unseen.count(None);
        assert!(uncounted(&unseen.checkpoint.lost[0]));
        let mut nothing = resume(Some(at(3)), &lane(), 0, "two", marks);
        nothing.count(Some(0));
        assert!(!uncounted(&nothing.checkpoint.lost[0]) && began_anew(&nothing.checkpoint.lost[0]));
        let mut gap = resume(Some(at(3)), &lane(), 0, "one", Watermarks { low: 5, high: 9 });
        gap.count(Some(17));
        assert_eq!(gap.checkpoint.lost[0].count, 2);
        assert!(!began_anew(&gap.checkpoint.lost[0]));
    }

    #[test]
    fn an_id_that_nobody_learned_is_no_other_incarnation() {
        let marks = Watermarks { low: 0, high: 9 };
        let silent = resume(Some(at(3)), &lane(), 0, "", marks);
        assert_eq!((silent.start, silent.lost), (Start::Offset(3), None));
        let learned = resume(
            Some(Checkpoint {
                source_epoch: String::new(),
                ..at(3)
            }),
            &lane(),
            0,
            "one",
            marks,
        );
        assert_eq!(learned.start, Start::Offset(3));
        assert_eq!(learned.checkpoint.source_epoch, "one");
    }

    #[test]
    fn lost_ranges_are_bounded_and_their_sum_stays() {
        let one = |n| LostRange {
            source: n,
            count: 2,
            reason: "x".into(),
        };
        let mut lost: Vec<_> = (0..200).map(one).collect();
        bound(&mut lost);
        assert_eq!(lost.len(), MAX_LOST);
        assert_eq!(lost.iter().map(|range| range.count).sum::<i64>(), 400);
    }
}
