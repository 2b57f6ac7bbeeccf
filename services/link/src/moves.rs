//! Consumer groups that move: where their committed positions are on the other side of the link.
//!
//! A position is translated by the checkpoints' offset map, exactly. Where the map does not reach, the nearest earlier
//! position that is known to skip nothing is taken and said to be that. Positions are committed for a group that has
//! no members on either side, and for no other: a member would overwrite them, or read what it has read.

mod waited;

use std::collections::{BTreeMap, HashMap};

use common::broker::{self, Broker, Watermarks};
use common::schemas::{SiteId, at_core, topic};
use serde::Serialize;

use crate::checkpoint::{key, topic_id};
use crate::error::Result;
use crate::far::Far;
use crate::history::{self, History, Place};
use crate::place::Place as Reach;
use crate::routes::{Direction, Lane};
use waited::Waited;

/// A side of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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
    /// The broker of a side.
    pub fn of(&self, side: Side) -> &Broker {
        match side {
            Side::Edge => &self.edge,
            Side::Core => &self.core,
        }
    }

    /// The broker of a side, by the way that is under the budget.
    pub(crate) fn place(&self, side: Side) -> Reach<'_> {
        match (side, &self.far) {
            (Side::Core, Some(far)) => Reach::Kafka(&far.cluster),
            _ => Reach::Broker(self.of(side)),
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

/// Looks for the positions that groups have on one side, in the topics of these lanes.
///
/// # Errors
/// With a broker's, or when a checkpoint cannot be read.
pub async fn survey(sides: &Sides, lanes: &[Lane], from: Side, group: Option<&str>) -> Result<Survey> {
    let here = sides.of(from);
    let mut found = Survey::default();
    for lane in lanes {
        let (topic, other) = names(lane, from);
        if here.describe(topic).await?.is_none() {
            continue;
        }
        let backlog = lane.backlog().destination;
        let behind = !at_source(lane, from) && here.describe(&backlog).await?.is_some();
        let groups = match group {
            Some(group) => vec![group.to_owned()],
            None => here.groups().await?.into_iter().map(|group| group.name).collect(),
        };
        for group in groups {
            let mut positions = here.committed(&group, topic).await?;
            if behind {
                // Who has read only what waited there would go on in the topic with its first record.
                for (partition, _) in here.committed(&group, &backlog).await? {
                    if positions.iter().all(|(known, _)| *known != partition)
                        && let Some(low) = low_of(here, topic, partition).await?
                    {
                        positions.push((partition, low));
                    }
                }
            }
            for (partition, committed) in positions {
                found.moves.push(Move {
                    group: group.clone(),
                    route: lane.route.clone(),
                    topic: topic.to_owned(),
                    partition,
                    committed,
                    other_topic: other.to_owned(),
                    position: None,
                    exact: false,
                    note: None,
                });
            }
        }
    }
    let mut others = Vec::new();
    // Checkpoints are read after the commits: what a group has seen at a destination, they vouch for.
    for direction in [Direction::Down, Direction::Up] {
        let lanes = lanes.iter().filter(|lane| lane.direction == direction);
        let lanes: HashMap<&str, &Lane> = lanes.map(|lane| (names(lane, from).0, lane)).collect();
        let mut moves = found.moves.iter_mut();
        let Some(first) = moves.find(|found| lanes.contains_key(found.topic.as_str())) else {
            continue;
        };
        let histories = sides.histories(direction).await?;
        for found in [first].into_iter().chain(moves) {
            let Some(lane) = lanes.get(found.topic.as_str()) else {
                continue;
            };
            let history = histories.get(&key(&lane.route, &lane.source, found.partition));
            locate(sides, lane, from, history, found).await?;
            let behind = histories.get(&key(&lane.backlog().route, &lane.source, found.partition));
            if let Some(waited) = history.and_then(|history| Waited::of(history, behind)) {
                others.extend(also(sides, lane, from, &waited, found).await?);
            }
        }
    }
    found.moves.extend(others);
    found.moves.sort_by(|a, b| {
        (&a.group, &a.other_topic, a.partition).cmp(&(&b.group, &b.other_topic, b.partition))
    });
    for side in [from, from.other()] {
        for group in sides.of(side).groups().await? {
            if !group.members.is_empty() && found.moves.iter().any(|found| found.group == group.name) {
                found.in_use.entry(group.name).or_default().extend(group.members);
            }
        }
    }
    Ok(found)
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
    sides: &Sides,
    lane: &Lane,
    from: Side,
    history: Option<&History>,
    found: &mut Move,
) -> Result<()> {
    let (here, there) = (sides.of(from), sides.of(from.other()));
    let other = (found.other_topic.clone(), found.partition);
    let low_there = async || low_of(there, &other.0, other.1).await;
    let Some(history) = history else {
        found.position = low_there().await?;
        found.note = Some("nothing of this partition was carried yet: the beginning".to_owned());
        return Ok(());
    };
    let source = if at_source(lane, from) { here } else { there };
    let id = source
        .describe(&lane.source)
        .await?
        .map(|topic| topic.id)
        .unwrap_or_default();
    let carried = topic_id(&history.checkpoint().source_epoch);
    if !id.is_empty() && !carried.is_empty() && id != carried {
        found.note = Some(format!(
            "{} was made again, and the link has not carried the new one yet",
            lane.source
        ));
        return Ok(());
    }
    let destination = if at_source(lane, from) { there } else { here };
    let carried = history.checkpoint().ranges.last();
    let end = carried.map_or(0, |last| last.destination + last.count);
    let there_now = known(destination.watermarks(&lane.destination, found.partition).await)?;
    if there_now.is_none_or(|marks| marks.high < end) {
        found.position = low_there().await?;
        found.note = Some(format!(
            "{} was made again since the link carried this partition: the beginning",
            lane.destination
        ));
        return Ok(());
    }
    // Who would go on before the first record goes on with the first.
    let low = here.watermarks(&found.topic, found.partition).await?.low;
    let committed = found.committed.max(low);
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
            found.position = low_there().await?;
            found.note = Some("before what the offset map remembers: the beginning".to_owned());
        }
        Place::Nothing => {
            found.position = low_there().await?;
            found.note = Some("nothing of this partition was carried yet: the beginning".to_owned());
        }
    }
    Ok(())
}

/// Heeds what waited from outages and went to a topic of its own: who moves to the destination has a position there too,
/// which is returned; who moves to the source goes on where neither topic was read.
async fn also(
    sides: &Sides,
    lane: &Lane,
    from: Side,
    waited: &Waited<'_>,
    found: &mut Move,
) -> Result<Option<Move>> {
    // Nothing is known of it.
    if found.position.is_none() {
        return Ok(None);
    }
    let (here, there) = (sides.of(from), sides.of(from.other()));
    let topic = lane.backlog().destination;
    if at_source(lane, from) {
        let low = here.watermarks(&found.topic, found.partition).await?.low;
        let (place, again) = waited.to_backlog(found.committed.max(low));
        let (position, note) = match place {
            Place::Exact(position) => (Some(position), None),
            Place::Ahead(position) => {
                let note =
                    format!("{again} records that wait for it are not carried yet and will be seen again");
                (Some(position), Some(note))
            }
            Place::Forgotten => (
                low_of(there, &topic, found.partition).await?,
                Some("before what the offset map remembers: the beginning".to_owned()),
            ),
            Place::Nothing => (
                low_of(there, &topic, found.partition).await?,
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
    let committed = here.committed(&found.group, &topic).await?;
    let read = committed.into_iter().find(|(at, _)| *at == found.partition);
    let read = match read {
        Some((_, read)) => read,
        None => low_of(here, &topic, found.partition).await?.unwrap_or_default(),
    };
    let low = here.watermarks(&found.topic, found.partition).await?.low;
    match waited.to_source(found.committed.max(low), read) {
        Some((position, exact)) => {
            found.position = Some(position);
            found.exact = exact;
            found.note = (!exact).then(|| {
                format!("not all of {topic} was read: from there on some records will be seen again")
            });
        }
        None => {
            found.position = low_of(there, &found.other_topic, found.partition).await?;
            found.exact = false;
            found.note = Some("before what the offset map remembers: the beginning".to_owned());
        }
    }
    Ok(None)
}

/// Where a partition begins; none where it is not.
async fn low_of(broker: &Broker, topic: &str, partition: i32) -> Result<Option<i64>> {
    let marks = known(broker.watermarks(topic, partition).await)?;
    Ok(marks.map(|marks| marks.low))
}

/// None where there is no such place.
fn known(marks: broker::Result<Watermarks>) -> Result<Option<Watermarks>> {
    match marks {
        Ok(marks) => Ok(Some(marks)),
        Err(broker::Error::UnknownTopic { .. } | broker::Error::UnknownPartition { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
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
    let there = sides.of(from.other());
    for ((group, topic), positions) in &positions {
        there.commit_for(group, topic, positions).await?;
    }
    Ok(positions.values().map(Vec::len).sum())
}
