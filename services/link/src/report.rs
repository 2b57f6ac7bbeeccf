//! What a link says about itself: state, counters and gauges.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::budget::Class;
use common::chassis::now_ms;
use common::control::Control;
use common::kafka::Skew;
use common::schemas::{Checkpoint, LostRange};
use tokio::time::Instant;

use crate::behind::Routes;
use crate::checkpoint;
use crate::lost::{Ends, Losses, Sum};
use crate::refused::Refused;
use crate::routes::Direction;
use crate::session::Progress;

/// What stands in every status while a carrier goes record by record because batches cannot be read.
const DETOUR: &str = "batches are there that link cannot read: for a while librdkafka carries, which is neither counted \
                      nor held to the budget";

/// A carrier's place among the carriers.
pub(crate) type Place = (Direction, Class);

/// How a carrier is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// It carries, or would if there were something.
    Carrying,
    /// Something keeps it, or some of its topics, from being carried.
    Problem(String),
    /// The budget lets nothing of its class cross, and this is why.
    Held(String),
    /// All of its routes are paused.
    Paused,
}

#[derive(Debug, Default)]
struct Known {
    states: BTreeMap<Place, State>,
    /// Of the carriers that go down.
    lags: BTreeMap<Class, i64>,
    routes: Routes,
    /// When the core last answered.
    contact: Option<i64>,
    /// How far this site's clock and the core's are apart.
    skew: Option<Skew>,
    /// Whether another instance is at work.
    stands_by: bool,
    /// What is lost to the other site, and where what is carried was seen to end.
    losses: Losses,
    ends: Ends,
    /// Who carries record by record what cannot be read as it is.
    detours: BTreeSet<Place>,
    /// What stands in every status, by what it is about.
    remarks: BTreeMap<&'static str, String>,
}

/// All carriers' word on the one state that a service has.
#[derive(Debug)]
pub(crate) struct Board {
    control: Control,
    known: Mutex<Known>,
}

impl Board {
    pub(crate) fn new(control: Control) -> Self {
        Self {
            control,
            known: Mutex::default(),
        }
    }

    /// What one carrier speaks through.
    pub(crate) fn report(self: &Arc<Self>, place: Place) -> Report {
        Report {
            board: self.clone(),
            place,
        }
    }

    /// Forgets the carriers: what was said of them is over.
    pub(crate) fn clear(&self) {
        let mut known = self.known();
        known.states.clear();
        known.detours.clear();
        known.lags.clear();
        known.routes.clear();
    }

    /// Says whether another instance is at work, so that this one has nothing to tell of the routes.
    pub(crate) fn stand_by(&self, stands_by: bool) {
        self.known().stands_by = stands_by;
    }

    /// Has something stand in every status, whatever the state; none when there is nothing to say about it any more.
    pub(crate) fn remark(&self, about: &'static str, text: Option<String>) {
        self.remarked(&mut self.known(), about, text);
    }

    fn remarked(&self, known: &mut Known, about: &'static str, text: Option<String>) {
        match text {
            Some(text) => drop(known.remarks.insert(about, text)),
            None => drop(known.remarks.remove(about)),
        }
        let all: Vec<&str> = known.remarks.values().map(String::as_str).collect();
        self.control.remark((!all.is_empty()).then(|| all.join("; ")));
    }

    /// Takes how much of what is lost somebody says is known.
    pub(crate) fn know(&self, lost: Option<String>) {
        let mut known = self.known();
        known.losses.know(lost);
        self.tell_lost(&mut known);
    }

    /// What is lost to the other site, by route.
    pub(crate) fn lost(&self) -> BTreeMap<String, Sum> {
        self.known().losses.routes()
    }

    /// Where a partition of this site ends, as somebody sees who does not carry it.
    pub(crate) fn sees(&self, topic: &str, partition: i32, id: &str, end: i64) {
        self.known().ends.see(Direction::Up, topic, partition, id, end);
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn tell_lost(&self, known: &mut Known) {
        let (sum, unknown) = (known.losses.sum(), known.losses.unknown());
        if sum.ranges > 0 {
            self.control.gauge("lost_records", sum.records as f64);
            self.control.gauge("lost_ranges", sum.ranges as f64);
            self.control.gauge("lost_unknown", unknown.ranges as f64);
        }
        let remark = known.losses.remark();
        self.remarked(known, "lost", remark);
    }

    /// Whether another instance is at work.
    pub(crate) fn stands_by(&self) -> bool {
        self.known().stands_by
    }

    /// When the core last answered.
    pub(crate) fn contact(&self) -> Option<i64> {
        self.known().contact
    }

    /// How far this site's clock and the core's are apart.
    pub(crate) fn skew(&self) -> Option<Skew> {
        self.known().skew
    }

    /// Looks at, or adds to, what is known of the routes.
    pub(crate) fn routes<T>(&self, look: impl FnOnce(&mut Routes) -> T) -> T {
        look(&mut self.known().routes)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the states of all carriers are together: what the service waits for, if it does.
fn together(states: &BTreeMap<Place, State>) -> Option<String> {
    // Each problem once, with its direction where the other has another or none.
    let mut problems: Vec<(&String, Option<Direction>)> = Vec::new();
    for ((direction, _), state) in states {
        let State::Problem(problem) = state else {
            continue;
        };
        match problems.iter_mut().find(|(known, _)| *known == problem) {
            Some((_, of)) => *of = of.filter(|of| of == direction),
            None => problems.push((problem, Some(*direction))),
        }
    }
    if !problems.is_empty() {
        let said = problems.iter().map(|(problem, of)| match of {
            Some(direction) => format!("{direction}: {problem}"),
            None => (*problem).clone(),
        });
        return Some(said.collect::<Vec<_>>().join("; "));
    }
    // While something may cross, what may not is no reason to call the link down.
    let idle = |state: &State| matches!(state, State::Held(_) | State::Paused);
    if states.is_empty() || !states.values().all(idle) {
        return None;
    }
    let held = states.values().find_map(|state| match state {
        State::Held(why) => Some(why.clone()),
        _ => None,
    });
    Some(held.unwrap_or_else(|| "all routes are paused".to_owned()))
}

/// One carrier's word.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    board: Arc<Board>,
    place: Place,
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
impl Report {
    /// As [`Board::remark`].
    pub(crate) fn remark(&self, about: &'static str, text: Option<&str>) {
        self.board.remark(about, text.map(str::to_owned));
    }

    /// Says whether it carries record by record what cannot be read as it is.
    pub(crate) fn detour(&self, on: bool) {
        let mut known = self.board.known();
        if on {
            known.detours.insert(self.place);
        } else {
            known.detours.remove(&self.place);
        }
        let text = (!known.detours.is_empty()).then(|| DETOUR.to_owned());
        self.board.remarked(&mut known, "detour", text);
    }

    /// Says how the carrier is.
    pub(crate) fn state(&self, state: State) {
        let mut known = self.board.known();
        known.states.insert(self.place, state);
        self.tell(&known);
    }

    /// What was said here is over, and nobody carries in this place, or speaks for himself.
    pub(crate) fn over(&self) {
        let mut known = self.board.known();
        known.states.remove(&self.place);
        self.tell(&known);
    }

    fn tell(&self, known: &Known) {
        match together(&known.states) {
            None => self.board.control.running(),
            Some(why) => self.board.control.waiting(why),
        }
    }

    /// Says what keeps the carrier from working; none when nothing does.
    pub(crate) fn problem(&self, problem: Option<String>) {
        self.state(problem.map_or(State::Carrying, State::Problem));
    }

    /// Counts carried records, which are contact as well.
    pub(crate) fn carried(&self, records: usize) {
        let name = match self.place.0 {
            Direction::Down => "carried_down",
            Direction::Up => "carried_up",
        };
        let records = i64::try_from(records).unwrap_or(i64::MAX);
        self.board.control.count(name, records);
        self.contact();
    }

    /// Counts what was carried of a route, with the time of its newest record.
    pub(crate) fn route(&self, route: &str, records: usize, bytes: usize, newest: i64) {
        self.board.known().routes.carry(route, records, bytes, newest);
    }

    /// Both sides answered, and this many records wait.
    pub(crate) fn looked(&self, lag: i64) {
        self.lag(lag);
        self.contact();
    }

    /// This many records wait. Of what goes up the lookout tells, which knows it also while no carrier does.
    pub(crate) fn lag(&self, lag: i64) {
        let (direction, class) = self.place;
        if direction == Direction::Up {
            return;
        }
        let mut known = self.board.known();
        known.lags.insert(class, lag);
        let sum: i64 = known.lags.values().sum();
        drop(known);
        self.board.control.gauge("lag_records_down", sum as f64);
    }

    /// So far behind are the carrier's routes: records that wait, and when the last carried one was made. And it is here.
    pub(crate) fn behind(&self, routes: BTreeMap<String, (i64, i64)>, progress: &Progress) {
        let now = Instant::now();
        let mut known = self.board.known();
        known.routes.say(self.place, routes, now);
        let due = progress.is_empty() || known.routes.notes(self.place, now);
        drop(known);
        if due {
            self.here(progress);
        }
    }

    /// The carrier is here. Of what goes down the core knows what waits.
    pub(crate) fn here(&self, progress: &Progress) {
        if self.place.0 == Direction::Up {
            let reached = progress.values();
            let reached = reached.map(|known| (checkpoint::keyed(known), known.into()));
            let mut known = self.board.known();
            known.routes.reach(self.place, reached.collect(), Instant::now());
        }
    }

    /// Somebody was here in what he carries no more, as its checkpoint says.
    pub(crate) fn was(&self, checkpoint: &Checkpoint) {
        if self.place.0 == Direction::Up {
            let key = checkpoint::keyed(checkpoint);
            self.board.known().routes.left(key, checkpoint.into());
        }
    }

    /// Records are gone before they were carried. What its checkpoint lists is counted.
    pub(crate) fn lost(&self, topic: &str, partition: i32, range: &LostRange) {
        let LostRange {
            source,
            count,
            reason,
        } = range;
        let text = match count {
            0 if checkpoint::uncounted(range) => {
                format!(
                    "records of {topic}/{partition} from offset {source} on may be lost to the other site: {reason}"
                )
            }
            0 => format!("nothing of {topic}/{partition} is lost, though {reason}"),
            _ => format!(
                "{count} records of {topic}/{partition} from offset {source} are lost to the other site: {reason}"
            ),
        };
        self.board.control.error(text);
    }

    /// Takes what a checkpoint lists of what is lost.
    pub(crate) fn losses(&self, checkpoint: &Checkpoint) {
        let mut known = self.board.known();
        let news = known.losses.take(checkpoint);
        if news > 0 {
            self.board.control.count("lost", news);
        }
        if news > 0 || !checkpoint.lost.is_empty() {
            self.board.tell_lost(&mut known);
        }
    }

    /// Where a source partition was seen to end, while it was the one that is carried.
    pub(crate) fn seen(&self, topic: &str, partition: i32) -> Option<i64> {
        self.board.known().ends.of(self.place.0, topic, partition)
    }

    /// A carrier begins with a partition that ends here.
    pub(crate) fn begin(&self, topic: &str, partition: i32, epoch: &str, end: i64) {
        let mut known = self.board.known();
        known.ends.begin(self.place.0, topic, partition, epoch, end);
    }

    /// A source partition ends here now.
    pub(crate) fn sees(&self, topic: &str, partition: i32, epoch: &str, end: i64) {
        let mut known = self.board.known();
        known.ends.see(self.place.0, topic, partition, epoch, end);
    }

    /// A record went to the dead letters of its site, or to this edge's instead of the core's.
    pub(crate) fn refused(&self, refused: &Refused, at_home: bool) {
        let (topic, partition, offset) = &refused.at;
        let whose = if at_home {
            "this site's dead letters, for the core does not let it write there"
        } else {
            "the dead letters"
        };
        self.board.control.count("refused", 1);
        self.board.control.error(format!(
            "{topic}/{partition}/{offset} is among {whose}: {}",
            refused.reason
        ));
    }

    /// What was just written tells how far the other end's clock and this one are apart, if it does. Only the core's is
    /// of interest.
    pub(crate) fn skew(&self, measured: Option<Skew>) {
        let Some(measured) = measured.filter(|_| self.place.0 == Direction::Up) else {
            return;
        };
        let mut known = self.board.known();
        let skew = known.skew.map_or(measured, |known| known.then(measured));
        known.skew = Some(skew);
        drop(known);
        self.board.control.gauge("clock_skew_ms", skew.ahead_ms as f64);
        self.board
            .control
            .gauge("clock_skew_within_ms", skew.within_ms as f64);
    }

    /// The core answered.
    pub(crate) fn contact(&self) {
        let now = now_ms();
        self.board.known().contact = Some(now);
        self.board.control.gauge("last_contact_at", now as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_waits_when_something_is_wrong_or_nothing_may_cross() {
        let of = |states: &[State]| {
            let places = [
                (Direction::Down, Class::Broadcasts),
                (Direction::Up, Class::Requests),
                (Direction::Up, Class::Sensors),
            ];
            together(&places.into_iter().zip(states.iter().cloned()).collect())
        };
        let held = || State::Held("no window".into());
        assert_eq!(of(&[State::Carrying, held(), State::Paused]), None);
        assert_eq!(of(&[held(), held(), State::Paused]), Some("no window".into()));
        assert_eq!(of(&[State::Paused]), Some("all routes are paused".into()));
        let problem = || State::Problem("no topic".into());
        assert_eq!(of(&[problem(), problem(), problem()]), Some("no topic".into()));
        let other = State::Problem("no right".into());
        assert_eq!(
            of(&[problem(), other.clone(), other]),
            Some("down: no topic; up: no right".into())
        );
    }
}
