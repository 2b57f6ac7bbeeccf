//! Consumer groups that move: where their committed positions are on the other side of the link.
//!
//! A position is translated by the checkpoints' offset map, exactly. Where the map does not reach, the nearest earlier
//! position that is known to skip nothing is taken and said to be that. Positions are committed for a group that has
//! no members on either side, and for no other: a member would overwrite them, or read what it has read.

mod waited;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use common::broker::{self, Broker, Watermarks};
use common::schemas::{SiteId, at_core, topic};
use serde::Serialize;

use crate::checkpoint::{key, topic_id};
use crate::error::Result;
use crate::far::Far;
use crate::history::{self, History, Place};
use crate::offsets;
use crate::place::{Ends, Place as Reach};
use crate::routes::{Direction, Lane};
use waited::Waited;

/// How many bytes a checkpoint with a full offset map has, about.
const FULL_CHECKPOINT: u64 = 1024;
/// More of them are not kept: a segment that compaction has been over, and one that is written to.
const COMPACTED: u64 = 2 * 16 * 1024 * 1024;

/// A side of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// This edge.
    Edge,
    /// The core.
    Core,
}

impl Side {
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Edge => Self::Core,
            Self::Core => Self::Edge,
        }
    }
}

/// A link's two brokers.
#[derive(Debug, Clone)]
pub struct Sides {
    /// This edge's name.
    pub site: SiteId,
    /// Its own broker.
    pub edge: Broker,
    /// The core's.
    pub core: Broker,
    /// The core's once more, under the budget: where it is there, what crosses the link crosses there.
    pub far: Option<Far>,
}

impl Sides {
    /// The broker of a side, by the way that is under the budget.
    pub(crate) fn place(&self, side: Side) -> Reach<'_> {
        match (side, &self.far) {
            (Side::Core, Some(far)) => Reach::Kafka(&far.cluster),
            (Side::Core, None) => Reach::Broker(&self.core),
            (Side::Edge, _) => Reach::Broker(&self.edge),
        }
    }

    /// The checkpoints of one direction, which are at its destination.
    ///
    /// # Errors
    /// With a broker's, or when a checkpoint cannot be read. There are none where nothing was carried yet.
    pub async fn histories(&self, direction: Direction) -> Result<HashMap<String, History>> {
        let destination = match direction {
            Direction::Down => self.place(Side::Edge),
            Direction::Up => self.place(Side::Core),
        };
        let checkpoints = at_core(&self.site, topic::CHECKPOINTS);
        history::load(destination, &checkpoints).await
    }

    /// At most how many bytes of checkpoints [`Self::histories`] reads over the link.
    ///
    /// # Errors
    /// With the broker's.
    pub async fn weight_of_histories(&self, direction: Direction) -> Result<u64> {
        if direction == Direction::Down || self.far.is_none() {
            return Ok(0);
        }
        let checkpoints = at_core(&self.site, topic::CHECKPOINTS);
        let found = self.place(Side::Core).ends(&checkpoints).await?;
        let marks = found.map_or_else(Vec::new, |ends| ends.marks);
        let offsets: i64 = marks.iter().map(|marks| marks.high - marks.low).sum();
        Ok((offsets.unsigned_abs() * FULL_CHECKPOINT).min(COMPACTED))
    }
}

/// One committed position, and what it is on the other side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Move {
    /// The group.
    pub group: String,
    /// The route that carries the topic.
    pub route: String,
    /// The topic in which the position is committed.
    pub topic: String,
    /// The partition, the same on both sides.
    pub partition: i32,
    /// What is committed: the next offset to be read.
    pub committed: i64,
    /// The topic on the other side.
    pub other_topic: String,
    /// The next offset to be read there; none when it cannot be told.
    pub position: Option<i64>,
    /// Whether who goes on there sees exactly what was still to come; else it sees some records again.
    pub exact: bool,
    /// Why it is not exact.
    pub note: Option<String>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Survey {
    /// The positions, by group, topic and partition.
    pub moves: Vec<Move>,
    /// The members of those groups that have some, on either side.
    pub in_use: BTreeMap<String, Vec<String>>,
}

/// The topics of both sides as they are now, each asked for once: on a long line each question is a round trip.
struct Look<'a> {
    sides: &'a Sides,
    found: HashMap<(Side, String), Option<Ends>>,
}

impl<'a> Look<'a> {
    fn new(sides: &'a Sides) -> Self {
        let found = HashMap::new();
        Self { sides, found }
    }

    /// A topic and its partitions' ends; none where it is not.
    async fn at(&mut self, side: Side, topic: &str) -> Result<Option<&Ends>> {
        let key = (side, topic.to_owned());
        if !self.found.contains_key(&key) {
            let found = self.sides.place(side).ends(topic).await?;
            self.found.insert(key.clone(), found);
        }
        Ok(self.found.get(&key).and_then(Option::as_ref))
    }

    /// Where a partition begins and ends; none where it is not.
    async fn marks(&mut self, side: Side, topic: &str, partition: i32) -> Result<Option<Watermarks>> {
        let found = self.at(side, topic).await?;
        let at = usize::try_from(partition).ok();
        Ok(found.and_then(|ends| ends.marks.get(at?).copied()))
    }

    /// Where a partition begins; none where it is not.
    async fn low(&mut self, side: Side, topic: &str, partition: i32) -> Result<Option<i64>> {
        Ok(self.marks(side, topic, partition).await?.map(|marks| marks.low))
    }
}

/// Looks for the positions that groups have on one side, in the topics of these lanes.
///
/// # Errors
/// With a broker's, or when a checkpoint cannot be read.
pub async fn survey(sides: &Sides, lanes: &[Lane], from: Side, group: Option<&str>) -> Result<Survey> {
    let mut look = Look::new(sides);
    let (mut found, committed) = positions(sides, &mut look, lanes, from, group).await?;
    let mut others = Vec::new();
    // Checkpoints are read after the commits, and where topics end after the checkpoints: what a group has seen at a
    // destination, checkpoints vouch for, and of what they vouch for, the destination has all.
    for direction in [Direction::Down, Direction::Up] {
        let lanes = lanes.iter().filter(|lane| lane.direction == direction);
        let lanes: HashMap<&str, &Lane> = lanes.map(|lane| (names(lane, from).0, lane)).collect();
        let mut moves = found.moves.iter_mut();
        let Some(first) = moves.find(|found| lanes.contains_key(found.topic.as_str())) else {
            continue;
        };
        let histories = sides.histories(direction).await?;
        let mut look = Look::new(sides);
        for found in [first].into_iter().chain(moves) {
            let Some(lane) = lanes.get(found.topic.as_str()) else {
                continue;
            };
            let history = histories.get(&key(&lane.route, &lane.source, found.partition));
            locate(&mut look, lane, from, history, found).await?;
            let behind = histories.get(&key(&lane.backlog().route, &lane.source, found.partition));
            if let Some(waited) = history.and_then(|history| Waited::of(history, behind)) {
                let read = committed
                    .get(&found.group)
                    .and_then(|of| of.get(&(lane.backlog().destination, found.partition)));
                others.extend(also(&mut look, lane, from, &waited, read.copied(), found).await?);
            }
        }
    }
    found.moves.extend(others);
    found.moves.sort_by(|a, b| {
        (&a.group, &a.other_topic, a.partition).cmp(&(&b.group, &b.other_topic, b.partition))
    });
    if found.moves.is_empty() {
        return Ok(found);
    }
    for side in [from, from.other()] {
        for group in sides.place(side).groups().await? {
            if !group.members.is_empty() && found.moves.iter().any(|found| found.group == group.name) {
                found.in_use.entry(group.name).or_default().extend(group.members);
            }
        }
    }
    Ok(found)
}

/// What each group has committed, by topic and partition.
type Committed = BTreeMap<String, HashMap<(String, i32), i64>>;

/// The positions that groups have on one side, and all that they have committed there in these topics.
async fn positions(
    sides: &Sides,
    look: &mut Look<'_>,
    lanes: &[Lane],
    from: Side,
    group: Option<&str>,
) -> Result<(Survey, Committed)> {
    let mut topics = BTreeSet::new();
    for lane in lanes {
        let (topic, _) = names(lane, from);
        let backlog = (!at_source(lane, from)).then(|| lane.backlog().destination);
        for topic in [topic.to_owned()].into_iter().chain(backlog) {
            if look.at(from, &topic).await?.is_some() {
                topics.insert(topic);
            }
        }
    }
    let groups = match group {
        _ if topics.is_empty() => Vec::new(),
        Some(group) => vec![group.to_owned()],
        None => {
            let groups = sides.place(from).groups().await?.into_iter();
            groups.map(|group| group.name).collect()
        }
    };
    let (mut found, mut all) = (Survey::default(), Committed::new());
    for group in groups {
        let committed = sides.place(from).committed(&group, &topics).await?;
        for lane in lanes {
            let (topic, other) = names(lane, from);
            let mut positions: BTreeMap<i32, i64> = BTreeMap::new();
            for ((of, partition), offset) in &committed {
                if of == topic {
                    positions.insert(*partition, *offset);
                } else if !at_source(lane, from)
                    && *of == lane.backlog().destination
                    && !committed.contains_key(&(topic.to_owned(), *partition))
                    // Who has read only what waited there would go on in the topic with its first record.
                    && let Some(low) = look.low(from, topic, *partition).await?
                {
                    positions.insert(*partition, low);
                }
            }
            found
                .moves
                .extend(positions.into_iter().map(|(partition, committed)| Move {
                    group: group.clone(),
                    route: lane.route.clone(),
                    topic: topic.to_owned(),
                    partition,
                    committed,
                    other_topic: other.to_owned(),
                    position: None,
                    exact: false,
                    note: None,
                }));
        }
        all.insert(group, committed);
    }
    Ok((found, all))
}

/// The topic's name on one side, and on the other.
fn names(lane: &Lane, from: Side) -> (&str, &str) {
    (lane.at(from), lane.at(from.other()))
}

fn at_source(lane: &Lane, from: Side) -> bool {
    (from == Side::Edge) == (lane.direction == Direction::Up)
}

/// Fills in where a position is on the other side.
async fn locate(
    look: &mut Look<'_>,
    lane: &Lane,
    from: Side,
    history: Option<&History>,
    found: &mut Move,
) -> Result<()> {
    let low_there = look
        .low(from.other(), &found.other_topic, found.partition)
        .await?;
    let Some(history) = history else {
        found.position = low_there;
        found.note = Some("nothing of this partition was carried yet: the beginning".to_owned());
        return Ok(());
    };
    let (source, destination) = if at_source(lane, from) {
        (from, from.other())
    } else {
        (from.other(), from)
    };
    let id = look.at(source, &lane.source).await?;
    let id = id.map(|ends| ends.shape.id.clone()).unwrap_or_default();
    let carried = topic_id(&history.checkpoint().source_epoch);
    if !id.is_empty() && !carried.is_empty() && id != carried {
        found.note = Some(format!(
            "{} was made again, and the link has not carried the new one yet",
            lane.source
        ));
        return Ok(());
    }
    let carried = history.checkpoint().ranges.last();
    let end = carried.map_or(0, |last| last.destination + last.count);
    let there_now = look
        .marks(destination, &lane.destination, found.partition)
        .await?;
    if there_now.is_none_or(|marks| marks.high < end) {
        found.position = low_there;
        found.note = Some(format!(
            "{} was made again since the link carried this partition: the beginning",
            lane.destination
        ));
        return Ok(());
    }
    // Who would go on before the first record goes on with the first.
    let low = look.low(from, &found.topic, found.partition).await?;
    let committed = found.committed.max(low.unwrap_or_default());
    let place = if at_source(lane, from) {
        history.to_destination(committed)
    } else {
        history.to_source(committed)
    };
    match place {
        Place::Exact(position) => {
            found.position = Some(position);
            found.exact = true;
        }
        Place::Ahead(position) => {
            let ahead = committed - history.checkpoint().next_offset;
            found.position = Some(position);
            found.note = Some(format!(
                "{ahead} records before it are not carried yet and will be seen again"
            ));
        }
        Place::Forgotten => {
            let known = history.checkpoint();
            let near = if at_source(lane, from) {
                offsets::near_destination(known, committed)
            } else {
                offsets::near_source(known, committed)
            };
            let near = near.filter(|(position, _)| low_there.is_some_and(|low| low <= *position));
            (found.position, found.note) = match near {
                Some((position, 0)) => {
                    found.exact = true;
                    (Some(position), None)
                }
                Some((position, again)) => {
                    let note = format!(
                        "so far back the offset map knows places nearby: up to {again} records will be seen again"
                    );
                    (Some(position), Some(note))
                }
                None => {
                    let note = "before what the offset map remembers: the beginning";
                    (low_there, Some(note.to_owned()))
                }
            };
        }
        Place::Nothing => {
            found.position = low_there;
            found.note = Some("nothing of this partition was carried yet: the beginning".to_owned());
        }
    }
    Ok(())
}

/// Heeds what waited from outages and went to a topic of its own: who moves to the destination has a position there too,
/// which is returned; who moves to the source goes on where neither topic was read. `read` is what the group has committed
/// in that topic.
async fn also(
    look: &mut Look<'_>,
    lane: &Lane,
    from: Side,
    waited: &Waited<'_>,
    read: Option<i64>,
    found: &mut Move,
) -> Result<Option<Move>> {
    // Nothing is known of it.
    if found.position.is_none() {
        return Ok(None);
    }
    let (topic, partition) = (lane.backlog().destination, found.partition);
    let low = look.low(from, &found.topic, partition).await?;
    let committed = found.committed.max(low.unwrap_or_default());
    if at_source(lane, from) {
        let (place, again) = waited.to_backlog(committed);
        let low_there = look.low(from.other(), &topic, partition).await?;
        let (position, note) = match place {
            Place::Exact(position) => (Some(position), None),
            Place::Ahead(position) => {
                let note =
                    format!("{again} records that wait for it are not carried yet and will be seen again");
                (Some(position), Some(note))
            }
            Place::Forgotten => (
                low_there,
                Some("before what the offset map remembers: the beginning".to_owned()),
            ),
            Place::Nothing => (
                low_there,
                (again > 0).then(|| format!("{again} records will be seen again: the beginning")),
            ),
        };
        return Ok(Some(Move {
            other_topic: topic,
            exact: position.is_some() && note.is_none(),
            position,
            note,
            ..found.clone()
        }));
    }
    let read = match read {
        Some(read) => read,
        None => look.low(from, &topic, partition).await?.unwrap_or_default(),
    };
    match waited.to_source(committed, read) {
        Some((position, exact)) => {
            found.position = Some(position);
            found.exact = exact;
            found.note = (!exact).then(|| {
                format!("not all of {topic} was read: from there on some records will be seen again")
            });
        }
        None => {
            found.position = look.low(from.other(), &found.other_topic, partition).await?;
            found.exact = false;
            found.note = Some("before what the offset map remembers: the beginning".to_owned());
        }
    }
    Ok(None)
}

/// Commits the positions on the other side, for groups that have no members. Returns how many.
///
/// # Errors
/// With [`broker::Error::GroupInUse`] before anything is committed when a group has members.
pub async fn apply(sides: &Sides, from: Side, survey: &Survey) -> Result<usize> {
    if let Some((group, members)) = survey.in_use.iter().next() {
        return Err(broker::Error::GroupInUse {
            group: group.clone(),
            members: members.clone(),
        }
        .into());
    }
    let mut positions: BTreeMap<(&str, &str), Vec<(i32, i64)>> = BTreeMap::new();
    for found in &survey.moves {
        if let Some(position) = found.position {
            let of = positions.entry((&found.group, &found.other_topic)).or_default();
            of.push((found.partition, position));
        }
    }
    let there = sides.place(from.other());
    for ((group, topic), positions) in &positions {
        there.commit_for(group, topic, positions).await?;
    }
    Ok(positions.values().map(Vec::len).sum())
}
