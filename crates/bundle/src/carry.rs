//! Carrying a bundle's records into this site's topics: the link's protocol, with a stick for a line.
//!
//! 1. A mark is left among the checkpoints, and then all transactional ids that the link may use this way are taken over: a
//!    session of it that is under way is fenced, and one that was held up before it took its id over sees the mark and ends
//!    ([`link::holder`]).
//! 2. The checkpoints are read to the end: only now do they tell the truth. The newest mark must still be this import's.
//! 3. Each partition goes on where its checkpoint says; what is here already is passed over, and a hole is refused.
//! 4. Records and checkpoint are committed in one transaction, under the id that the link has for the topic: a session of
//!    the link that begins meanwhile fences this import, which then ends with an error and can be repeated.
//! 5. What the link has put aside as the backlog of a route with `live_first` goes where the link takes it, under the id and the
//!    checkpoint that the link has for that, as far as the bundle has it without a gap from where it waits.

use std::collections::HashMap;
use std::path::PathBuf;

use common::broker::{self, Cleanup, Record, TopicSpec, Transactions, Watermarks};
use common::budget::Class;
use common::schemas::{Checkpoint, OffsetSpan, SiteId};
use common::telemetry::chain;
use link::{Direction, Lane, Rename, Route, checkpoint, expand, holder, transactional_id};

use crate::document::{Carried, Manifest, Part, Segment};
use crate::error::{Error, Result};
use crate::here::{Here, Progress, Shown, aside, offsets};
use crate::import::{Imported, Wish};
use crate::resume::{Resumed, Track, lose, resume};
use crate::segment;
use crate::stick;

/// The most records and bytes of a transaction; a single larger record still goes.
const RECORDS: usize = 2000;
const BYTES: usize = 1 << 20;

/// Takes a bundle's records in.
#[derive(Debug)]
pub(crate) struct Carry<'a> {
    pub(crate) here: &'a Here,
    pub(crate) manifest: &'a Manifest,
    directory: PathBuf,
    wish: Wish,
    /// By id.
    pub(crate) transactions: HashMap<String, Transactions>,
    found: HashMap<String, Checkpoint>,
}

/// What keeps a partition from being carried on.
pub(crate) enum Stop {
    /// Something that concerns this partition alone, in an operator's words.
    Here(String),
    /// A record is among these that the broker refuses.
    Refused {
        records: usize,
        first: i64,
        source: broker::Error,
    },
    /// All of it.
    All(Error),
}

impl<E: Into<Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::All(error.into())
    }
}

/// How a record that is refused is found.
#[derive(Debug, Default)]
pub(crate) struct Search {
    /// Up to which offset records go one by one.
    pub(crate) one_by_one: i64,
    /// The one, and why.
    pub(crate) refused: Option<(i64, String)>,
}

impl<'a> Carry<'a> {
    /// Steps 1 and 2.
    pub(crate) async fn open(
        here: &'a Here,
        manifest: &'a Manifest,
        directory: PathBuf,
        wish: Wish,
    ) -> Result<Self> {
        let mut carry = Self {
            here,
            manifest,
            directory,
            wish,
            transactions: HashMap::new(),
            found: HashMap::new(),
        };
        carry.take_over().await?;
        Ok(carry)
    }

    fn edge(&self) -> &SiteId {
        self.here.edge(&self.manifest.from)
    }

    pub(crate) fn id(&self, class: Option<Class>) -> String {
        transactional_id(self.edge(), self.manifest.direction, class)
    }

    async fn take_over(&mut self) -> Result<()> {
        // Is this edge known? Before that nothing is to be made at this broker, not even an id.
        self.here.found(&self.manifest.from).await?;
        self.transactions.clear();
        let (checkpoints, holder) = (self.here.checkpoints(&self.manifest.from), holder::anew());
        let mark = holder::mark(&checkpoints, &holder)?;
        // Taken over once more below, which waits until the mark can be read.
        let mut marking = self.here.broker.transactions(&self.id(None)).await?;
        match marking.commit(Vec::new(), |_| vec![mark]).await {
            Ok(_) => {}
            Err(broker::Error::Fenced { .. }) => return Err(Error::LinkAtWork),
            Err(error) => return Err(error.into()),
        }
        let classes = self.manifest.topics.iter().map(|topic| topic.class);
        // What waits behind is in one of the last two.
        let used = classes.chain([Class::Backlog, Class::Assets].map(Some));
        let used: Vec<String> = used.map(|class| self.id(class)).collect();
        for class in [None].into_iter().chain(Class::ALL.map(Some)) {
            let id = self.id(class);
            let taken = self.here.broker.transactions(&id).await?;
            // One that is not used need not be kept: whoever had it is fenced.
            if used.contains(&id) {
                self.transactions.insert(id, taken);
            }
        }
        self.found = match checkpoint::load_held(&self.here.broker, &checkpoints, &holder).await {
            Err(link::Error::Superseded) => return Err(Error::LinkAtWork),
            found => found?,
        };
        Ok(())
    }

    /// Steps 3 and 4, for each partition.
    pub(crate) async fn all(&mut self, imported: &mut Imported, shown: Shown<'_>) -> Result<()> {
        let lanes = self.lanes(imported)?;
        for topic in &self.manifest.topics {
            let lane = lanes.iter().find(|lane| {
                (&lane.route, &lane.source, &lane.destination)
                    == (&topic.route, &topic.source, &topic.destination)
            });
            let ready = match lane {
                Some(_) => self.ready(topic).await?,
                None => Err(format!(
                    "{} is on no route of this site and is left out",
                    topic.source
                )),
            };
            let (Some(lane), Ok(())) = (lane, &ready) else {
                imported.problems.extend(ready.err());
                continue;
            };
            for (partition, part) in (0..).zip(&topic.parts) {
                let track = Track {
                    lane,
                    topic,
                    partition,
                    part,
                };
                let before = imported.records + imported.refused;
                let mut done = self.search(track, false, imported, shown).await?;
                if done.is_ok() && !self.put_aside(track).is_empty() {
                    done = self.search(track, true, imported, shown).await?;
                }
                imported.notes.extend(self.left_aside(track));
                match done {
                    Ok(()) => {
                        let new = imported.records + imported.refused - before;
                        imported.known += count(part).saturating_sub(new);
                    }
                    Err(problem) => imported
                        .problems
                        .push(format!("{}/{partition}: {problem}", topic.source)),
                }
            }
        }
        Ok(())
    }

    /// What the link has put aside of a partition and nobody has carried since, if the bundle is of the same offsets.
    fn put_aside(&self, track: Track<'_>) -> Vec<OffsetSpan> {
        let Track { topic, part, .. } = track;
        let key = checkpoint::key(&topic.route, &topic.source, track.partition);
        let at = self.found.get(&key);
        let same = |at: &&Checkpoint| {
            checkpoint::topic_id(&at.source_epoch) == topic.epoch
                && checkpoint::turn(&at.source_epoch) == part.turn
        };
        let at = at.filter(same);
        at.map(|at| aside(&self.found, at)).unwrap_or_default()
    }

    /// What of that this bundle does not bring.
    fn left_aside(&self, track: Track<'_>) -> Option<String> {
        let left = offsets(&self.put_aside(track));
        (left > 0).then(|| {
            format!(
                "{}/{}: about {left} records that the link has put aside are not in this bundle: they come with the next one that \
                 is made with the receipt that is on this stick now, or when the link works again",
                track.topic.source, track.partition
            )
        })
    }

    /// What may come: at an edge what its own routes say, at the core whatever that edge carries under its own prefix.
    fn lanes(&self, imported: &mut Imported) -> Result<Vec<Lane>> {
        if self.manifest.direction == Direction::Down {
            let topics = self.manifest.topics.iter();
            let names: Vec<String> = topics.map(|topic| topic.source.clone()).collect();
            let (from, problems) = (&self.manifest.from, &mut imported.problems);
            return self.here.lanes(from, Direction::Down, &names, problems);
        }
        let mut routes: Vec<Route> = Vec::new();
        for topic in &self.manifest.topics {
            match routes.iter_mut().find(|route| route.name == topic.route) {
                Some(route) => route.topics.push(topic.source.clone()),
                None => routes.push(Route {
                    name: topic.route.clone(),
                    direction: Direction::Up,
                    topics: vec![topic.source.clone()],
                    pattern: None,
                    rename: Rename::Prefix,
                    class: None,
                    live_first: false,
                }),
            }
        }
        expand(self.edge(), &routes).map_err(|problems| Error::Routes(problems.join("; ")))
    }

    /// Whether the topic can take what comes; an edge makes one that is missing.
    async fn ready(&self, topic: &Carried) -> Result<Result<(), String>> {
        let name = &topic.destination;
        let partitions = i32::try_from(topic.parts.len()).unwrap_or(i32::MAX);
        let there = match self.here.broker.describe(name).await? {
            Some(there) => there.partitions,
            None if self.manifest.direction == Direction::Up => {
                let edge = self.edge();
                // The built-in topics of an edge come with it; those of its own routes are the core's to make.
                return Ok(Err(format!(
                    "there is no topic {name} here: run `fieldline site add {edge}`, or for one of its own routes `fieldline topics create {name} --partitions {partitions}`"
                )));
            }
            None => {
                let spec = TopicSpec::new(name, partitions);
                let kept = topic.retention_ms.and_then(|kept| kept.try_into().ok());
                let kept = std::time::Duration::from_millis(kept.unwrap_or(0)).max(self.here.retention);
                let spec = TopicSpec {
                    cleanup: if topic.compacted {
                        Cleanup::Compact
                    } else {
                        Cleanup::Delete
                    },
                    retention: (!topic.compacted).then_some(kept),
                    ..spec
                };
                self.here.broker.create_topic(&spec).await?;
                partitions
            }
        };
        if there == partitions {
            return Ok(Ok(()));
        }
        Ok(Err(format!(
            "{} has {partitions} partitions and {name} has {there}: make them equal, for a partition keeps its number",
            topic.source
        )))
    }

    /// Carries a partition, or what was put aside of it, and finds a record in it that is refused.
    async fn search(
        &mut self,
        track: Track<'_>,
        behind: bool,
        imported: &mut Imported,
        shown: Shown<'_>,
    ) -> Result<Result<(), String>> {
        let mut search = Search::default();
        loop {
            let lost = imported.lost;
            let carried = if behind {
                self.behind(track, &mut search, imported, shown).await
            } else {
                self.partition(track, &mut search, imported, shown).await
            };
            match carried {
                Ok(()) => return Ok(Ok(())),
                Err(Stop::Here(problem)) => return Ok(Err(problem)),
                Err(Stop::All(error)) => return Err(error),
                Err(Stop::Refused {
                    records,
                    first,
                    source,
                }) => {
                    if records > 1 {
                        search.one_by_one = first + i64::try_from(records).unwrap_or(i64::MAX);
                    } else {
                        search.refused = Some((first, chain(&source)));
                    }
                    imported.lost = lost;
                    // After any error: new transactions, and the checkpoints to the end.
                    self.take_over().await?;
                }
            }
        }
    }

    async fn partition(
        &mut self,
        track: Track<'_>,
        search: &mut Search,
        imported: &mut Imported,
        shown: Shown<'_>,
    ) -> Result<(), Stop> {
        let Track {
            topic,
            partition,
            part,
            ..
        } = track;
        let key = checkpoint::key(&topic.route, &topic.source, partition);
        let known = self.found.get(&key).cloned();
        let resumed = resume(known, track, self.manifest, self.wish.accept_loss).map_err(Stop::Here)?;
        let Some(Resumed {
            mut at,
            lost,
            went_back,
        }) = resumed
        else {
            return Ok(());
        };
        imported.lost += lost;
        if let Some(next) = went_back {
            let note = format!(
                "{}/{partition}: its offsets went back at {}: all is taken in from its beginning again, and what came before behind \
                 offset {next} may be lost",
                topic.source, self.manifest.from
            );
            if !imported.notes.contains(&note) {
                imported.notes.push(note);
            }
            if part.segments.is_empty() {
                // That it went back is written down at once: there may be more than before when the next one comes.
                let end = at.next_offset;
                self.commit(topic, Vec::new(), end, &mut at, search, imported)
                    .await?;
                self.found.insert(key.clone(), at.clone());
            }
        }
        for segment in &part.segments {
            if segment.end <= at.next_offset {
                continue;
            }
            let records = match self.read(segment, &topic.source, partition).await {
                Ok(records) => records,
                Err(problem) if self.wish.accept_loss => {
                    tracing::warn!(problem, "a segment is given up");
                    continue;
                }
                Err(problem) => return Err(Stop::Here(problem)),
            };
            if segment.begin > at.next_offset {
                // Only what was given up can be missing in between.
                let reason = "the segment was damaged, and the loss accepted";
                imported.lost += lose(&mut at, segment.begin, reason);
            }
            self.span(topic, segment.end, records, &mut at, search, imported)
                .await?;
            self.found.insert(key.clone(), at.clone());
            shown(Progress {
                what: format!("{}/{partition}", topic.destination),
                done: u64::try_from(at.next_offset - part.begin).unwrap_or(0),
                total: u64::try_from(part.end() - part.begin).unwrap_or(0),
            });
        }
        Ok(())
    }

    /// Carries what the link has put aside of a partition, span by span from the oldest, as far as it is here without a gap:
    /// what is missing is not lost, for the link has it still, and the next bundle can bring it.
    async fn behind(
        &mut self,
        track: Track<'_>,
        search: &mut Search,
        imported: &mut Imported,
        shown: Shown<'_>,
    ) -> Result<(), Stop> {
        let Track {
            lane,
            topic,
            partition,
            part,
        } = track;
        let spans = self.put_aside(track);
        let topic = topic.behind(lane);
        self.ready(&topic).await?.map_err(Stop::Here)?;
        let key = checkpoint::key(&topic.route, &topic.source, partition);
        let epoch = checkpoint::epoch(&topic.epoch, part.turn);
        let known = self.found.get(&key).filter(|known| known.source_epoch == epoch);
        let fresh = || {
            let marks = Watermarks {
                low: part.low,
                high: part.end(),
            };
            checkpoint::resume(None, &lane.backlog(), partition, &epoch, marks).checkpoint
        };
        let mut at = known.cloned().unwrap_or_else(fresh);
        let total = offsets(&spans);
        let mut done = 0;
        for span in spans {
            at.next_offset = span.from;
            for segment in &part.segments {
                if segment.end <= at.next_offset || segment.begin >= span.until {
                    continue;
                }
                if segment.begin > at.next_offset {
                    return Ok(());
                }
                let mut records = self
                    .read(segment, &topic.source, partition)
                    .await
                    .map_err(Stop::Here)?;
                records.retain(|record| record.offset < span.until);
                let (from, end) = (at.next_offset, segment.end.min(span.until));
                self.span(&topic, end, records, &mut at, search, imported).await?;
                self.found.insert(key.clone(), at.clone());
                done += u64::try_from(end - from).unwrap_or(0);
                shown(Progress {
                    what: format!("{}/{partition}", topic.destination),
                    done,
                    total,
                });
            }
            if at.next_offset < span.until {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The records of a segment; what keeps them from being read, in an operator's words.
    async fn read(&self, segment: &Segment, source: &str, partition: i32) -> Result<Vec<Record>, String> {
        let path = self.directory.join(format!("{}.segment", segment.hash));
        let (file, wanted, source) = (path.clone(), segment.clone(), source.to_owned());
        let read = tokio::task::spawn_blocking(move || {
            let file = stick::whole(&file, wanted.bytes, &wanted.hash)?;
            Ok::<_, Error>(segment::read(&wanted, &file, &source, partition))
        });
        match read.await.unwrap_or(Ok(None)) {
            Ok(Some(records)) => Ok(records),
            Ok(None) => Err(format!("{}: it makes no sense", path.display())),
            Err(error) => Err(chain(&error)),
        }
    }

    /// Carries those of these records that are not here, and moves the checkpoint to `end`.
    async fn span(
        &mut self,
        topic: &Carried,
        end: i64,
        records: Vec<Record>,
        at: &mut Checkpoint,
        search: &mut Search,
        imported: &mut Imported,
    ) -> Result<(), Stop> {
        let mut records: Vec<Record> = records
            .into_iter()
            .filter(|record| record.offset >= at.next_offset)
            .collect();
        loop {
            let one = records
                .first()
                .is_some_and(|first| first.offset < search.one_by_one);
            let take = cut(&records, if one { 1 } else { RECORDS });
            let rest = records.split_off(take);
            let batch = std::mem::replace(&mut records, rest);
            let until = match batch.last() {
                Some(last) if !records.is_empty() => last.offset + 1,
                _ => end,
            };
            self.commit(topic, batch, until, at, search, imported).await?;
            if records.is_empty() {
                return Ok(());
            }
        }
    }
}

fn count(part: &Part) -> u64 {
    part.segments.iter().map(|segment| segment.records).sum()
}

/// How many records go in one transaction.
fn cut(records: &[Record], most: usize) -> usize {
    let mut bytes = 0;
    let fits = |record: &&Record| {
        bytes += record.size();
        bytes <= BYTES
    };
    records
        .iter()
        .take(most)
        .take_while(fits)
        .count()
        .max(1)
        .min(records.len())
}
