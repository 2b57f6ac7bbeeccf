//! What the carriers of a direction know of its checkpoints, so that a session need not read all of them again: over a
//! thin line that would take minutes, and it would do so after each cut.
//!
//! Whoever writes checkpoints has left a mark before ([`crate::holder`]), under one transactional id. So while nobody has
//! taken over that id since this process left its own mark, all there is is what was read once and what this process has
//! committed since, but for transactions of which it never heard how they ended: they are *in doubt*, and who opens a
//! session under their id reads from where it stood when they began. When somebody has, or the destination does not know
//! any more, everything is read anew, the marks too.

mod file;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::broker::Outgoing;
use common::kafka::{Cluster, Held, Partition, Producer, Topic};

use crate::batches;
use crate::carrier::TIMEOUT;
use crate::checkpoint::{self, Found};
use crate::error::Result;

use file::Saved;

/// How often the file is written while transactions are committed.
const SAVE: Duration = Duration::from_secs(60);

/// Offsets of the topic of checkpoints, by partition; where there is none, its beginning.
type Offsets = HashMap<i32, i64>;

/// What the carriers of a direction know together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Where it is kept.
    file: Option<PathBuf>,
    /// The id of marks, and what it is held by. Whoever reads everything keeps the others waiting, which would read the same.
    mark: tokio::sync::Mutex<Option<(String, Held)>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    known: Option<Known>,
    /// Somebody else may have written: all is to be read anew.
    anew: bool,
    /// Transactions were committed since the file was written.
    unsaved: bool,
    /// Transactions that were begun, by their ids, and from where on they may have written.
    doubts: HashMap<String, Offsets>,
}

#[derive(Debug)]
struct Known {
    /// The incarnation of the topic.
    topic: String,
    found: Found,
    /// What lies before these is in `found`, or in doubt.
    next: Offsets,
}

impl Kept {
    /// Keeps it in a file too, where there is one.
    pub(crate) fn new(file: Option<PathBuf>) -> Self {
        Self(Arc::new(Shared {
            file,
            ..Shared::default()
        }))
    }

    /// Remembers what an earlier process knew, if nobody has left a mark since under this id; before this process does.
    pub(crate) async fn recall(&self, cluster: &Cluster, id: &str) -> Result<()> {
        let path = self.0.file.clone();
        let Some(path) = path.filter(|_| self.state().known.is_none()) else {
            return Ok(());
        };
        let saved = tokio::task::spawn_blocking(move || Saved::read(&path)).await;
        let Some(saved) = saved.ok().flatten().filter(|saved| saved.id == id) else {
            return Ok(());
        };
        let held = Producer::still_held(cluster, id, TIMEOUT, saved.held()).await?;
        if held.is_some() {
            let mut found = Found::default();
            for (partition, offset, checkpoint) in saved.checkpoints {
                found.put(
                    checkpoint::keyed(&checkpoint),
                    (partition, offset),
                    Some(checkpoint),
                );
            }
            self.state().known = Some(Known {
                topic: saved.topic,
                found,
                next: saved.next,
            });
        }
        Ok(())
    }

    /// Writes the file now and then.
    pub(crate) async fn saving(&self) {
        loop {
            tokio::time::sleep(SAVE).await;
            // An idle link wears no disk.
            if std::mem::take(&mut self.state().unsaved) {
                self.save().await;
            }
        }
    }

    /// Writes the file.
    pub(crate) async fn save(&self) {
        let mark = self.0.mark.lock().await.clone();
        self.write(mark.as_ref()).await;
    }

    async fn write(&self, mark: Option<&(String, Held)>) {
        let (Some(mark), Some(path)) = (mark, self.0.file.clone()) else {
            return;
        };
        let saved = match &*self.state() {
            State {
                known: Some(known),
                anew: false,
                doubts,
                ..
            } => {
                // What is in doubt is so for the next process too.
                let sure = |(at, next): (&i32, &i64)| {
                    let from = |from: &Offsets| from.get(at).copied().unwrap_or_default();
                    (*at, doubts.values().map(from).fold(*next, i64::min))
                };
                let next = known.next.iter().map(sure).collect();
                Saved::new(&known.topic, mark, next, known.found.with_places())
            }
            _ => return,
        };
        let written = tokio::task::spawn_blocking(move || {
            let written = saved.write(&path);
            written.map_err(|error| (path, error))
        });
        if let Ok(Err((path, error))) = written.await {
            tracing::warn!(path = %path.display(), %error, "known checkpoints cannot be kept");
        }
    }

    /// Takes note that this process has left the newest mark.
    pub(crate) async fn marked(&self, id: &str, held: Held) {
        *self.0.mark.lock().await = Some((id.to_owned(), held));
    }

    /// The checkpoints as they are, for who has just taken over a transactional id: nothing of it is under way.
    pub(crate) async fn read(&self, cluster: &Arc<Cluster>, topic: &Topic, id: &str) -> Result<Found> {
        let mut mark = self.0.mark.lock().await;
        if let Some((marks, held)) = mark.as_mut() {
            let still = Producer::still_held(cluster, marks, TIMEOUT, *held).await?;
            *held = match still {
                Some(held) => held,
                None => {
                    self.state().anew = true;
                    // A mark that is left from now on shows in this id, an earlier one is read.
                    Producer::take_over(cluster, marks, TIMEOUT).await?.held()
                }
            };
            if let Some(starts) = self.starts(&topic.id(), id) {
                drop(mark);
                let (news, ends) = tail(cluster, topic, &starts).await?;
                let went_back = |(at, from): (&i32, &i64)| ends.get(at).is_some_and(|end| end < from);
                if !starts.iter().any(went_back)
                    && let Some(found) = self.learn(&topic.id(), id, news, &ends)
                {
                    self.save().await;
                    return found;
                }
                mark = self.0.mark.lock().await;
            }
        }
        if mark.is_some() {
            self.forget(&topic.id());
        }
        let (found, ends) = tail(cluster, topic, &Offsets::new()).await?;
        let found = found.whole()?;
        if mark.is_some() {
            self.know(&topic.id(), id, found.copy(), ends)?;
            self.write(mark.as_ref()).await;
        }
        Ok(found)
    }

    /// Takes note that a transaction is begun under an id. Called before anything of it is written.
    pub(crate) fn begin(&self, id: &str) {
        let State { known, doubts, .. } = &mut *self.state();
        if !doubts.contains_key(id) {
            let next = known.as_ref().map(|known| known.next.clone());
            doubts.insert(id.to_owned(), next.unwrap_or_default());
        }
    }

    /// Takes note that it is committed: its checkpoints, and where the last one in each partition is.
    pub(crate) fn committed(
        &self,
        id: &str,
        checkpoints: &[(Partition, Outgoing)],
        lasts: &[(Partition, i64)],
    ) {
        let State {
            known,
            doubts,
            unsaved,
            ..
        } = &mut *self.state();
        let Some(known) = known else {
            return;
        };
        *unsaved = true;
        doubts.remove(id);
        for (to, checkpoint) in checkpoints {
            let Some((_, last)) = lasts.iter().find(|(at, _)| at == to) else {
                continue;
            };
            let at = (&*to.topic, to.index, *last);
            let (key, value) = (checkpoint.key.as_deref(), checkpoint.value.as_deref());
            known.found.take(at, key, value);
            known.reach(to.index, last + 1);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From where on a session under this id has to read; none when it has to read everything.
    fn starts(&self, topic: &str, id: &str) -> Option<Offsets> {
        let state = self.state();
        let known = state.known.as_ref().filter(|_| !state.anew);
        let known = known.filter(|known| known.topic == topic)?;
        Some(state.doubts.get(id).unwrap_or(&known.next).clone())
    }

    /// Learns what was read from there to the ends; all that is known now, unless that was given up meanwhile.
    fn learn(&self, topic: &str, id: &str, news: Found, ends: &Offsets) -> Option<Result<Found>> {
        let State {
            known, doubts, anew, ..
        } = &mut *self.state();
        let known = known.as_mut().filter(|_| !*anew);
        let known = known.filter(|known| known.topic == topic)?;
        if let Err(error) = known.found.then(news) {
            return Some(Err(error));
        }
        for (at, end) in ends {
            known.reach(*at, *end);
        }
        doubts.remove(id);
        Some(Ok(known.found.copy()))
    }

    /// Knows nothing any more but what is committed from now on.
    fn forget(&self, topic: &str) {
        let mut state = self.state();
        state.anew = true;
        state.known = Some(Known {
            topic: topic.to_owned(),
            found: Found::default(),
            next: Offsets::new(),
        });
    }

    /// Knows all that was read from the beginning to the ends, and what was committed meanwhile. What else others have under
    /// way lies behind those, or came to its end: the reading waited for that.
    fn know(&self, topic: &str, id: &str, mut found: Found, ends: Offsets) -> Result<()> {
        let State {
            known, doubts, anew, ..
        } = &mut *self.state();
        if let Some(meanwhile) = known.take().filter(|meanwhile| meanwhile.topic == topic) {
            found.then(meanwhile.found)?;
        }
        doubts.remove(id);
        for from in doubts.values_mut() {
            from.clone_from(&ends);
        }
        *anew = false;
        *known = Some(Known {
            topic: topic.to_owned(),
            found,
            next: ends,
        });
        Ok(())
    }
}

impl Known {
    fn reach(&mut self, partition: i32, end: i64) {
        let next = self.next.entry(partition).or_insert(0);
        *next = (*next).max(end);
    }
}

/// Reads the checkpoints from some offsets on, to the end of what is written there: another carrier's open transaction hides
/// what this one committed behind its beginning. Also returns the ends.
async fn tail(cluster: &Arc<Cluster>, topic: &Topic, starts: &Offsets) -> Result<(Found, Offsets)> {
    let mut found = Found::default();
    let take = |partition, row: common::kafka::Read| {
        let at = (topic.name.as_str(), partition, row.offset);
        found.take(at, row.key.as_deref(), row.value.as_deref());
    };
    let ends = batches::from(cluster, topic, starts, take).await?;
    Ok((found, ends))
}

#[cfg(test)]
mod tests {
    use common::schemas::Checkpoint;
    use proptest::prelude::*;

    use super::*;

    const TOPIC: &str = "checkpoints";
    const IDS: [&str; 3] = ["sensors", "requests", "backlog"];

    /// A cluster's partition of checkpoints, and what carriers know of it.
    #[derive(Default)]
    struct Cluster {
        /// What was committed; markers and what was aborted is none.
        log: Vec<Option<Outgoing>>,
        kept: Kept,
    }

    fn newest(id: &str, key: u8, offset: i64) -> Outgoing {
        let newest = Checkpoint {
            route: format!("{id}-{key}"),
            source_topic: "t".into(),
            destination_topic: "edge.t".into(),
            partition: 0,
            next_offset: offset,
            source_epoch: "one".into(),
            ..Checkpoint::default()
        };
        checkpoint::record(TOPIC, &newest)
    }

    fn at() -> Partition {
        Partition {
            topic: TOPIC.into(),
            index: 0,
        }
    }

    impl Cluster {
        fn end(&self) -> i64 {
            i64::try_from(self.log.len()).unwrap()
        }

        fn found(&self, from: i64, until: i64) -> Found {
            let mut found = Found::default();
            for offset in from..until {
                if let Some(record) = &self.log[usize::try_from(offset).unwrap()] {
                    found.take((TOPIC, 0, offset), record.key.as_deref(), record.value.as_deref());
                }
            }
            found
        }

        /// A transaction of one checkpoint, which may be aborted, and whose end may not be heard of.
        fn carry(&mut self, id: &str, key: u8, committed: bool, heard: bool) {
            self.kept.begin(id);
            let record = newest(id, key, self.end());
            let offset = self.end();
            self.log.push(committed.then(|| record.clone()));
            self.log.push(None);
            if committed && heard {
                self.kept.committed(id, &[(at(), record)], &[(at(), offset)]);
            }
        }

        /// What a session under an id finds; when all is read anew, others carry meanwhile. One that is late has begun by
        /// then, and its end is not heard of.
        fn open(
            &mut self,
            id: &str,
            anew: bool,
            meanwhile: &[(&str, u8)],
            late: Option<(&str, u8)>,
        ) -> Found {
            self.kept.state().anew |= anew;
            let until = self.end();
            let ends = Offsets::from([(0, until)]);
            if let Some((late, _)) = late {
                self.kept.begin(late);
            }
            let found = match self.kept.starts(TOPIC, id) {
                Some(starts) => {
                    let news = self.found(starts.get(&0).copied().unwrap_or(0), until);
                    self.kept.learn(TOPIC, id, news, &ends).unwrap().unwrap()
                }
                None => {
                    self.kept.forget(TOPIC);
                    for (other, key) in meanwhile {
                        self.carry(other, *key, true, true);
                    }
                    let found = self.found(0, until);
                    self.kept.know(TOPIC, id, found.copy(), ends).unwrap();
                    found
                }
            };
            if let Some((late, key)) = late {
                self.carry(late, key, true, false);
            }
            found
        }

        fn truth(&self, id: &str) -> HashMap<String, Checkpoint> {
            let mut all = self.found(0, self.end()).all().unwrap();
            all.retain(|_, checkpoint| checkpoint.route.starts_with(id));
            all
        }
    }

    proptest! {
        /// Sessions that end at any point, transactions of which nobody hears, everything read anew at times: whoever opens
        /// a session finds its checkpoints as they are.
        #[test]
        fn who_opens_a_session_finds_its_own_checkpoints_as_they_are(
            steps in prop::collection::vec((0_usize..3, 0_u8..2, 0_u8..9, 0_u8..8), 1..80)
        ) {
            let mut cluster = Cluster::default();
            let mut open = [false; 3];
            for (who, key, what, others) in steps {
                let id = IDS[who];
                match what {
                    // Without a session nothing is carried.
                    0..=4 if open[who] => {
                        let (committed, heard) = (what != 1, what > 2);
                        cluster.carry(id, key, committed, heard);
                        open[who] = committed && heard;
                    }
                    _ => {
                        let there: Vec<usize> = (0..3).filter(|other| *other != who && open[*other]).collect();
                        let late = there.first().copied().filter(|_| others > 5);
                        let meanwhile: Vec<_> = there
                            .iter()
                            .filter(|other| Some(**other) != late)
                            .flat_map(|other| (0..others % 3).map(|key| (IDS[*other], key)))
                            .collect();
                        let found = cluster.open(id, what > 6, &meanwhile, late.map(|late| (IDS[late], key)));
                        let mut found = found.all().unwrap();
                        found.retain(|_, checkpoint| checkpoint.route.starts_with(id));
                        prop_assert_eq!(found, cluster.truth(id));
                        open[who] = true;
                        if let Some(late) = late {
                            open[late] = false;
                        }
                    }
                }
            }
        }
    }
}
