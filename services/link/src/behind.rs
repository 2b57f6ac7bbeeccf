//! How far each route is behind, and how long it takes to catch up.
//!
//! Carriers say how many records wait while they are at work. What goes up waits at this site, so how much that is can be
//! told without the core, from where the carriers were last: that counts as soon as no carrier has spoken for a while.
//! Which spans wait as backlogs, live carriers say; how far these are done, those that carry backlogs.

use std::collections::BTreeMap;
use std::time::Duration;

use common::schemas::{Checkpoint, OffsetSpan};
use tokio::time::Instant;

use crate::backlog;
use crate::report::Place;
use crate::routes::Direction;

/// For how long a carrier's own word counts.
const FRESH: Duration = Duration::from_secs(30);
/// Over how long rates are smoothed.
const SMOOTHED_S: f64 = 30.0;
/// What is carried in this time anyway is no lag to speak of.
const KEEPS_UP_S: f64 = 5.0;
/// Beyond this nobody would call it catching up.
const LONGEST_S: f64 = 365.0 * 24.0 * 3600.0;
/// How often it is noted where a carrier is.
const NOTED: Duration = Duration::from_secs(1);

/// Where carriers are: the next offset of `route/topic/partition`. Where there is a backlog of that, its oldest offset stands under
/// `route.backlog/topic/partition`, and how many records it has under [`count_key`] of that.
pub(crate) type Reached = BTreeMap<String, i64>;

/// Where it stands how many records a backlog has.
pub(crate) fn count_key(backlog: &str) -> String {
    format!("{backlog}/records")
}

/// The backlog of a key; none of what is a backlog itself.
fn backlog_of(key: &str) -> Option<String> {
    let (route, place) = key.split_once('/')?;
    (!route.ends_with(".backlog")).then(|| format!("{route}.backlog/{place}"))
}

/// Where a carrier is in a partition.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct At {
    /// Which incarnation of the topic that is.
    epoch: String,
    next: i64,
    /// What lies before and waits as a backlog, or did when the carrier began.
    behind: Vec<OffsetSpan>,
}

impl From<&Checkpoint> for At {
    fn from(checkpoint: &Checkpoint) -> Self {
        Self {
            epoch: checkpoint.source_epoch.clone(),
            next: checkpoint.next_offset,
            behind: checkpoint.backlog.clone(),
        }
    }
}

/// How far a route is behind.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Behind {
    /// Records that wait.
    pub(crate) records: i64,
    /// Their bytes, by what records of the route took so far.
    pub(crate) bytes: i64,
    /// How old the oldest of them is, or the newest that was carried.
    pub(crate) seconds: i64,
    /// How long it takes until none waits, at the rate of this minute; none when it does not get less.
    pub(crate) catch_up: Option<f64>,
    /// What was carried since the start.
    pub(crate) carried: (u64, u64),
}

/// What this site's own broker has for a route that goes up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Here {
    /// Records that wait.
    pub(crate) records: i64,
    /// When the oldest of them was made, where that was looked at.
    pub(crate) oldest: Option<i64>,
    /// How large records are, where some were looked at.
    pub(crate) each: Option<u64>,
}

/// How fast a lag changes.
#[derive(Debug, Default)]
struct Pace {
    last: Option<(Instant, i64, u64)>,
    /// By how many records a second it gets less, and how many a second are carried.
    rates: Option<(f64, f64)>,
    carried_at: Option<Instant>,
}

impl Pace {
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn look(&mut self, now: Instant, lag: i64, carried: u64) {
        let Some((then, before, had)) = self.last else {
            self.last = Some((now, lag, carried));
            return;
        };
        let passed = (now - then).as_secs_f64();
        if passed < 1.0 {
            return;
        }
        if carried != had {
            self.carried_at = Some(now);
        }
        let less = before.saturating_sub(lag) as f64 / passed;
        let more = carried.saturating_sub(had) as f64 / passed;
        let weight = 1.0 - (-passed / SMOOTHED_S).exp();
        let smooth = |old: f64, new: f64| old + weight * (new - old);
        self.rates = Some(match self.rates {
            None => (less, more),
            Some((net, rate)) => (smooth(net, less), smooth(rate, more)),
        });
        self.last = Some((now, lag, carried));
    }

    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn catch_up(&self, now: Instant) -> Option<f64> {
        let (_, lag, _) = self.last?;
        if lag <= 0 {
            return Some(0.0);
        }
        let (net, carried) = self.rates?;
        // Nothing gets less of itself.
        if self.carried_at.is_none_or(|at| now - at > FRESH) {
            return None;
        }
        let lag = lag as f64;
        if lag <= carried * KEEPS_UP_S {
            return Some(lag / carried);
        }
        Some(lag / net).filter(|seconds| net > 0.0 && *seconds <= LONGEST_S)
    }
}

#[derive(Debug)]
struct Said {
    at: Instant,
    /// By route: records that wait, and when the newest was made that was carried.
    routes: BTreeMap<String, (i64, i64)>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Carried {
    records: u64,
    bytes: u64,
    newest: i64,
}

/// All that is known of all routes.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    said: BTreeMap<Place, Said>,
    carried: BTreeMap<String, Carried>,
    reached: BTreeMap<Place, (Instant, BTreeMap<String, At>)>,
    /// Where carriers were in what they carry no more, or before the lease was lost.
    earlier: BTreeMap<String, At>,
    /// Where they were before this process.
    noted: Reached,
    here: BTreeMap<String, Here>,
    paces: BTreeMap<String, Pace>,
}

impl Routes {
    /// Forgets what carriers said; where they were is kept.
    pub(crate) fn clear(&mut self) {
        for (_, reached) in std::mem::take(&mut self.reached).into_values() {
            self.earlier.extend(reached);
        }
        self.said.clear();
    }

    /// Takes what an earlier process knew.
    pub(crate) fn remember(&mut self, noted: Reached) {
        self.noted = noted;
    }

    /// A carrier says how many records of its routes wait.
    pub(crate) fn say(&mut self, place: Place, routes: BTreeMap<String, (i64, i64)>, now: Instant) {
        self.said.insert(place, Said { at: now, routes });
    }

    /// Records of a route were carried.
    pub(crate) fn carry(&mut self, route: &str, records: usize, bytes: usize, newest: i64) {
        let carried = match self.carried.get_mut(route) {
            Some(carried) => carried,
            None => self.carried.entry(route.to_owned()).or_default(),
        };
        carried.records += records as u64;
        carried.bytes += bytes as u64;
        carried.newest = newest;
    }

    /// Whether it is worth noting again where a carrier is.
    pub(crate) fn notes(&self, place: Place, now: Instant) -> bool {
        self.reached
            .get(&place)
            .is_none_or(|(at, _)| now.saturating_duration_since(*at) >= NOTED)
    }

    /// Notes where a carrier is. Where it was in what it carries no more, as of a route that was paused, is kept.
    pub(crate) fn reach(&mut self, place: Place, reached: BTreeMap<String, At>, now: Instant) {
        let before = self.reached.insert(place, (now, reached));
        let (Some((_, before)), Some((_, reached))) = (before, self.reached.get(&place)) else {
            return;
        };
        let left = before.into_iter().filter(|(key, _)| !reached.contains_key(key));
        self.earlier.extend(left);
    }

    /// Notes where the carrier of a partition was when it left it, or is said to have.
    pub(crate) fn left(&mut self, key: String, at: At) {
        for (_, reached) in self.reached.values_mut() {
            reached.remove(&key);
        }
        self.earlier.insert(key, at);
    }

    /// Where all carriers are, or were last.
    pub(crate) fn everywhere(&self) -> Reached {
        let mut known: BTreeMap<&str, &At> = BTreeMap::new();
        let reached = self.reached.values().map(|(_, reached)| reached);
        for (key, at) in [&self.earlier].into_iter().chain(reached).flatten() {
            known.insert(key, at);
        }
        let mut all = self.noted.clone();
        for (key, at) in &known {
            let Some(backlog) = backlog_of(key) else { continue };
            all.insert((*key).to_owned(), at.next);
            // Of offsets of another incarnation nothing is done.
            let done = known.get(&*backlog).filter(|done| done.epoch == at.epoch);
            let waits = backlog::left(&at.behind, done.map_or(i64::MIN, |done| done.next));
            let count = count_key(&backlog);
            match waits.first() {
                Some(first) => {
                    all.insert(count, backlog::count(&waits));
                    all.insert(backlog, first.from);
                }
                None => {
                    all.remove(&count);
                    all.remove(&backlog);
                }
            }
        }
        all
    }

    /// Takes what this site's broker has for the routes that go up.
    pub(crate) fn look(&mut self, here: BTreeMap<String, Here>) {
        self.here = here;
    }

    /// How far each route is behind at this moment.
    pub(crate) fn behind(&mut self, now: Instant, now_ms: i64) -> BTreeMap<String, Behind> {
        let mut names: Vec<String> = self
            .said
            .values()
            .flat_map(|said| said.routes.keys().cloned())
            .collect();
        names.extend(self.here.keys().cloned());
        names.extend(self.carried.keys().cloned());
        names.sort_unstable();
        names.dedup();
        let mut all = BTreeMap::new();
        for name in names {
            let mut behind = self.of(&name, now, now_ms);
            let pace = self.paces.entry(name.clone()).or_default();
            pace.look(now, behind.records, behind.carried.0);
            behind.catch_up = pace.catch_up(now);
            all.insert(name, behind);
        }
        all
    }

    fn of(&self, route: &str, now: Instant, now_ms: i64) -> Behind {
        let (mut records, mut newest, mut fresh) = (0, 0, false);
        for ((direction, _), said) in &self.said {
            if let Some((wait, at)) = said.routes.get(route) {
                records += wait;
                newest = newest.max(*at);
                fresh |= *direction == Direction::Down || now - said.at < FRESH;
            }
        }
        let carried = self.carried.get(route).copied().unwrap_or_default();
        newest = newest.max(carried.newest);
        let here = self.here.get(route);
        if !fresh && !self.here.is_empty() {
            records = here.map_or(0, |here| here.records);
        }
        let each = carried.bytes.checked_div(carried.records);
        let each = each
            .or_else(|| here.and_then(|here| here.each))
            .unwrap_or_default();
        // Known better from the record itself; but a carrier is ahead of what was looked at a while ago.
        let oldest = here.and_then(|here| here.oldest).unwrap_or(newest).max(newest);
        let waits = records > 0 && oldest > 0;
        Behind {
            records,
            bytes: records.saturating_mul(i64::try_from(each).unwrap_or(i64::MAX)),
            seconds: if waits { (now_ms - oldest).max(0) / 1000 } else { 0 },
            catch_up: None,
            carried: (carried.records, carried.bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use common::budget::Class;
    use proptest::prelude::*;

    use super::*;

    const UP: Place = (Direction::Up, Class::Sensors);

    fn say(routes: &mut Routes, records: i64, now: Instant) {
        routes.say(UP, [("news".to_owned(), (records, 1_000))].into(), now);
    }

    #[test]
    fn a_lag_that_shrinks_ends_in_time_and_one_that_grows_does_not() {
        let start = Instant::now();
        let mut routes = Routes::default();
        let mut of = |second: u64, lag: i64, carried: usize| {
            let now = start + Duration::from_secs(second);
            say(&mut routes, lag, now);
            routes.carry("news", carried, carried * 100, 1_000);
            routes.behind(now, 61_000)["news"]
        };
        of(0, 10_000, 0);
        let shrinking = of(10, 9_000, 1_500);
        assert_eq!(
            (shrinking.records, shrinking.bytes, shrinking.seconds),
            (9_000, 900_000, 60)
        );
        assert_eq!(shrinking.catch_up.map(f64::round), Some(90.0));
        assert_eq!(of(20, 9_000, 0).records, 9_000);
        for second in 3..20 {
            of(second * 10, 9_000 + i64::try_from(second).unwrap() * 100, 10);
        }
        assert_eq!(of(200, 12_000, 10).catch_up, None);
        assert_eq!(of(210, 0, 10).catch_up, Some(0.0));
        // What a second brings is carried within a second.
        assert!(of(220, 3, 1_000).catch_up.unwrap() < 5.0);
    }

    #[test]
    fn what_waits_here_counts_when_no_carrier_speaks() {
        let start = Instant::now();
        let mut routes = Routes::default();
        say(&mut routes, 5, start);
        let here = Here {
            records: 70,
            oldest: Some(31_000),
            each: Some(10),
        };
        routes.look([("news".to_owned(), here)].into());
        assert_eq!(routes.behind(start, 61_000)["news"].records, 5);
        let later = routes.behind(start + FRESH, 61_000)["news"];
        assert_eq!((later.records, later.bytes, later.seconds), (70, 700, 30));
        assert_eq!(later.catch_up, None);
        routes.look([("other".to_owned(), here)].into());
        let later = routes.behind(start + FRESH, 61_000)["news"];
        assert_eq!(later.records, 0, "it waits no more");
    }

    fn at(epoch: &str, next: i64, behind: &[(i64, i64)]) -> At {
        let span = |(from, until): &(i64, i64)| OffsetSpan {
            from: *from,
            until: *until,
        };
        At {
            epoch: epoch.to_owned(),
            next,
            behind: behind.iter().map(span).collect(),
        }
    }

    fn reached(figures: &[(&str, i64)]) -> Reached {
        let figures = figures.iter().map(|(key, next)| ((*key).to_owned(), *next));
        figures.collect()
    }

    #[test]
    fn where_carriers_were_is_known_after_a_restart_and_backlogs_that_are_done_are_not() {
        let mut routes = Routes::default();
        let noted = [
            ("a/t/0", 5),
            ("a.backlog/t/0", 2),
            ("a.backlog/t/0/records", 3),
            ("b/u/0", 7),
        ];
        routes.remember(reached(&noted));
        assert_eq!(routes.everywhere(), reached(&noted));
        routes.reach(
            UP,
            [("a/t/0".to_owned(), at("one", 9, &[]))].into(),
            Instant::now(),
        );
        let now = routes.everywhere();
        assert_eq!(now, reached(&[("a/t/0", 9), ("b/u/0", 7)]));
        routes.clear();
        assert_eq!(routes.everywhere(), now);
    }

    #[test]
    fn where_a_carrier_was_in_a_route_that_it_carries_no_more_is_kept() {
        let mut routes = Routes::default();
        let mut reach = |now: &[(&str, i64)]| {
            let now = now.iter();
            let now = now.map(|(key, next)| ((*key).to_owned(), at("one", *next, &[])));
            routes.reach(UP, now.collect(), Instant::now());
            routes.everywhere()
        };
        reach(&[("a/t/0", 5), ("b/u/0", 7)]);
        let paused = reach(&[("b/u/0", 8)]);
        assert_eq!((paused["a/t/0"], paused["b/u/0"]), (5, 8));
        let resumed = reach(&[("a/t/0", 6), ("b/u/0", 8)]);
        assert_eq!(resumed["a/t/0"], 6);
    }

    #[test]
    fn what_waits_as_a_backlog_is_what_its_carrier_has_not_passed() {
        const BEHIND: Place = (Direction::Up, Class::Backlog);
        let mut routes = Routes::default();
        let mut reach = |place: Place, key: &str, at: Option<At>| {
            let now = at.map(|at| (key.to_owned(), at)).into_iter();
            routes.reach(place, now.collect(), Instant::now());
            let all = routes.everywhere();
            let of = |key: &str| all.get(key).copied();
            (of("a.backlog/t/0"), of("a.backlog/t/0/records"))
        };
        let live = |epoch: &str, spans: &[(i64, i64)]| Some(at(epoch, 100, spans));
        let spans = [(10, 30), (50, 60)];
        // Also while its class is held, and nobody carries it.
        assert_eq!(reach(UP, "a/t/0", live("one", &spans)), (Some(10), Some(30)));
        let carries = |next| Some(at("one", next, &[]));
        let behind = "a.backlog/t/0";
        assert_eq!(reach(BEHIND, behind, carries(25)), (Some(25), Some(15)));
        assert_eq!(reach(BEHIND, behind, None), (Some(25), Some(15)), "it was held");
        assert_eq!(reach(BEHIND, behind, carries(50)), (Some(50), Some(10)));
        // The live carrier hears of it when it begins again.
        routes.left(behind.to_owned(), at("one", 60, &[]));
        assert_eq!(routes.everywhere(), reached(&[("a/t/0", 100)]));
        let mut reach = |live: At| {
            routes.reach(UP, [("a/t/0".to_owned(), live)].into(), Instant::now());
            routes.everywhere().get("a.backlog/t/0/records").copied()
        };
        assert_eq!(reach(at("one", 200, &[(100, 200)])), Some(100));
        assert_eq!(reach(at("two", 40, &[(0, 40)])), Some(40), "another incarnation");
    }

    proptest! {
        #[test]
        fn a_time_to_catch_up_is_a_time(looks in prop::collection::vec((0_u64..100, 0_i64..1_000_000, 0_usize..100_000), 1..50)) {
            let mut now = Instant::now();
            let mut routes = Routes::default();
            for (passed, lag, carried) in looks {
                now += Duration::from_secs(passed);
                say(&mut routes, lag, now);
                routes.carry("news", carried, carried, 0);
                let behind = routes.behind(now, 0)["news"];
                if let Some(seconds) = behind.catch_up {
                    prop_assert!(seconds.is_finite() && (0.0..=LONGEST_S).contains(&seconds));
                    prop_assert!(lag > 0 || seconds == 0.0);
                }
                prop_assert!(lag > 0 || behind.catch_up == Some(0.0) );
            }
        }
    }
}
