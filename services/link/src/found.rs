//! Topics that a route takes up by a pattern: which they are, as they come and go.
//!
//! Names are asked for at the edge's own broker often, at the core seldom. What a pattern may take is decided by the
//! settings and the name alone, so it is the same after every restart, whichever side answers first: a name that any
//! route carries up never comes down, and nothing that arrives by a list of topics goes up. A site's own topics, dead
//! letters and what bears another site's name are never taken.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use common::broker::Broker;
use common::chassis::Stop;
use common::control::Control;
use common::kafka::Cluster;
use common::schemas::{Checkpoint, SiteId, Topic, at_core, topic};
use common::telemetry;
use regex_lite::Regex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::Result;
use crate::lanes::{KEEPING, Keeping, differences};
use crate::moves::{Side, Sides};
use crate::routes::{Direction, Lane, Rename, Route, carriable, conflicts, expand};
use crate::rule::Wishes;

/// How many topics patterns take up in one direction.
const MOST: usize = 200;
/// How long a pattern may be.
const LONGEST: usize = 200;
/// How often the core is asked for its topics.
const FAR_LOOK: Duration = Duration::from_secs(300);
/// How often the settings of topics are compared.
const COMPARE: Duration = Duration::from_secs(24 * 3600);

/// Makes an expression that fits whole names, or says what is wrong with it.
pub(crate) fn compile(pattern: &str) -> std::result::Result<Regex, String> {
    if pattern.len() > LONGEST {
        return Err(format!("is longer than {LONGEST} characters"));
    }
    Regex::new(&format!("^(?:{pattern})$")).map_err(|error| error.to_string())
}

/// All lanes of these routes as the two brokers' topics are now.
///
/// # Errors
/// With a broker's.
pub async fn lanes(sides: &Sides, routes: &[Route]) -> Result<Vec<Lane>> {
    let mut catalogue = Catalogue::new(&sides.site, routes);
    for direction in [Direction::Up, Direction::Down] {
        if catalogue.asks(direction) {
            let source = match direction {
                Direction::Up => sides.place(Side::Edge),
                Direction::Down => sides.place(Side::Core),
            };
            catalogue.see(direction, &source.names().await?);
        }
    }
    Ok([catalogue.listed, catalogue.found].concat())
}

/// The lanes that patterns take up in one direction, of these topics at its source; and what is too many, in an operator's
/// words.
pub fn taken(
    site: &SiteId,
    routes: &[Route],
    direction: Direction,
    names: &[String],
) -> (Vec<Lane>, Option<String>) {
    let mut catalogue = Catalogue::new(site, routes);
    let too_many = catalogue.see(direction, names);
    (catalogue.found, too_many)
}

/// What patterns have found.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    lanes: watch::Receiver<Vec<Lane>>,
    carried: Carried,
}

/// What checkpoints say was carried: directions, routes and source topics.
type Carried = Arc<Mutex<BTreeSet<(Direction, String, String)>>>;

impl Found {
    /// Takes what checkpoints say: of topics that were deleted while no link was at work they alone know.
    pub(crate) fn hear<'c>(&self, direction: Direction, all: impl Iterator<Item = &'c Checkpoint>) {
        let mut carried = self.carried.lock().unwrap_or_else(PoisonError::into_inner);
        carried.extend(all.map(|found| (direction, found.route.clone(), found.source_topic.clone())));
    }

    /// The lanes of one direction.
    pub(crate) fn lanes(&self, direction: Direction) -> Vec<Lane> {
        let found = self.lanes.borrow();
        found
            .iter()
            .filter(|lane| lane.direction == direction)
            .cloned()
            .collect()
    }

    /// Waits until there are others. Safe to drop.
    pub(crate) async fn changed(&mut self) {
        if self.lanes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Which topics patterns take.
#[derive(Debug)]
struct Catalogue {
    site: SiteId,
    listed: Vec<Lane>,
    patterns: Vec<(Route, Regex)>,
    /// Names that every site has for itself.
    own: BTreeSet<String>,
    found: Vec<Lane>,
    /// What was taken up and is not there any more, until it is told.
    gone: Vec<Lane>,
    /// What of that was told: directions, routes and topics.
    told: BTreeSet<(Direction, String, String)>,
}

impl Catalogue {
    fn new(site: &SiteId, routes: &[Route]) -> Self {
        let compiled = |route: &Route| Some((route.clone(), compile(route.pattern.as_deref()?).ok()?));
        let own = [Topic::core(), Topic::edge(site)].concat();
        Self {
            site: site.clone(),
            listed: expand(site, routes).unwrap_or_default(),
            patterns: routes.iter().filter_map(compiled).collect(),
            own: own.into_iter().map(|topic| topic.name).collect(),
            found: Vec::new(),
            gone: Vec::new(),
            told: BTreeSet::new(),
        }
    }

    /// Takes routes as they are wanted: what goes behind on one has a topic that no other may carry to.
    fn heed(&mut self, wishes: &Wishes) {
        for lane in &mut self.listed {
            lane.live_first = wishes.live_first.contains(&lane.route);
        }
        for (route, _) in &mut self.patterns {
            route.live_first = wishes.live_first.contains(&route.name);
        }
        for lane in &mut self.found {
            lane.live_first = wishes.live_first.contains(&lane.route);
        }
        let all = self.listed.iter().chain(&self.found);
        let backlogs: Vec<Lane> = all.filter(|lane| lane.live_first).map(Lane::backlog).collect();
        let taken = |lane: &Lane| {
            let same = |backlog: &Lane| {
                (backlog.direction, &backlog.destination) == (lane.direction, &lane.destination)
            };
            backlogs.iter().any(same)
        };
        self.found.retain(|lane| !taken(lane));
    }

    /// Whether there are patterns for a direction.
    fn asks(&self, direction: Direction) -> bool {
        self.patterns
            .iter()
            .any(|(route, _)| route.direction == direction)
    }

    /// Takes up what fits of the topics at a direction's source. What does not fit any more is dropped. Says which names
    /// are too many.
    fn see(&mut self, direction: Direction, names: &[String]) -> Option<String> {
        let mut kept: Vec<Lane> = Vec::new();
        kept.extend(
            self.found
                .iter()
                .filter(|lane| lane.direction != direction)
                .cloned(),
        );
        let others = kept.len();
        let sites: Vec<String> = names.iter().filter_map(|name| enrolled(name)).collect();
        let (mut left_out, mut first) = (0, None);
        for (route, pattern) in self
            .patterns
            .iter()
            .filter(|(route, _)| route.direction == direction)
        {
            for name in names {
                let Some(at_edge) = self.fits(route, pattern, name, &sites) else {
                    continue;
                };
                let lane = route.lane(&self.site, at_edge);
                let all = [&self.listed[..], &kept, std::slice::from_ref(&lane)].concat();
                if !conflicts(&all).is_empty() {
                    continue;
                }
                if kept.len() - others >= MOST {
                    left_out += 1;
                    first.get_or_insert_with(|| name.clone());
                    continue;
                }
                kept.push(lane);
            }
        }
        let before = std::mem::replace(&mut self.found, kept);
        self.told
            .retain(|(other, _, topic)| *other != direction || !names.contains(topic));
        let gone = |lane: &Lane| lane.direction == direction && !names.contains(&lane.source);
        before.into_iter().filter(gone).for_each(|lane| self.misses(lane));
        let first = first?;
        Some(format!(
            "patterns take up {MOST} topics {direction} and no more: {left_out} are left out, {first} is the first"
        ))
    }

    /// Looks among a direction's topics for what checkpoints say was carried.
    fn compare(&mut self, direction: Direction, names: &[String], carried: &Carried) {
        let carried = carried.lock().unwrap_or_else(PoisonError::into_inner);
        let sites: Vec<String> = names.iter().filter_map(|name| enrolled(name)).collect();
        let missing = carried
            .iter()
            .filter(|(of, _, topic)| *of == direction && !names.contains(topic));
        // What no pattern would take any more is left alone: somebody meant it so.
        let lanes = missing.filter_map(|(of, name, topic)| {
            let mut patterns = self.patterns.iter();
            let (route, pattern) =
                patterns.find(|(route, _)| route.direction == *of && route.name == *name)?;
            Some(route.lane(&self.site, self.fits(route, pattern, topic, &sites)?))
        });
        let lanes: Vec<Lane> = lanes.collect();
        lanes.into_iter().for_each(|lane| self.misses(lane));
    }

    /// A topic is not there any more, which is told once.
    fn misses(&mut self, lane: Lane) {
        if self
            .told
            .insert((lane.direction, lane.route.clone(), lane.source.clone()))
        {
            self.gone.push(lane);
        }
    }

    /// A topic's name at the edge, if the route may take it.
    fn fits<'n>(&self, route: &Route, pattern: &Regex, name: &'n str, sites: &[String]) -> Option<&'n str> {
        let ours = at_core(&self.site, "");
        let at_edge = match route.rename {
            Rename::Strip => name.strip_prefix(&ours)?,
            Rename::Same | Rename::Prefix => name,
        };
        let own = name.starts_with('_')
            || at_edge.starts_with('_')
            || at_edge.starts_with("service-")
            || at_edge.ends_with(".dead-letter")
            || self.own.contains(at_edge)
            || carriable(at_edge).is_err();
        // What bears an edge's name at the core is that edge's, and at the edge it is a copy or a checkpoint.
        let named = match route.rename {
            Rename::Same => name.starts_with(&ours) || sites.iter().any(|site| name.starts_with(site)),
            // What has passed this site before would go round.
            Rename::Prefix => passed(&self.site, name),
            Rename::Strip => false,
        };
        let goes_up = |name: &str| route.direction == Direction::Down && self.goes_up(name);
        let copy = goes_up(at_edge) || at_edge.strip_suffix(".backlog").is_some_and(goes_up);
        (!own && !named && !copy && pattern.is_match(at_edge)).then_some(at_edge)
    }

    /// Whether a topic of the edge is carried up, should it exist.
    fn goes_up(&self, at_edge: &str) -> bool {
        let up = |direction| direction == Direction::Up;
        let mut listed = self.listed.iter();
        listed.any(|lane| up(lane.direction) && lane.source == at_edge)
            || self
                .patterns
                .iter()
                .any(|(route, pattern)| up(route.direction) && pattern.is_match(at_edge))
    }
}

/// Whether a topic's name says that its records have been at this site: then they must not leave it again.
pub(crate) fn passed(site: &SiteId, name: &str) -> bool {
    let sites = name.rsplit_once('.').map_or("", |(sites, _)| sites);
    sites.split('.').any(|passed| passed == site.as_str())
}

/// What begins the names of an edge's topics, if this is the one that every enrolled edge has.
fn enrolled(name: &str) -> Option<String> {
    let site = name.strip_suffix(topic::CHECKPOINTS)?;
    (site.len() > 1 && site.ends_with('.')).then(|| site.to_owned())
}

/// Looks for topics as long as the service runs.
#[derive(Debug)]
pub(crate) struct Finder {
    catalogue: Catalogue,
    own: Broker,
    core: Broker,
    /// Both once more where they are clusters; the core under the link's budget.
    near: Option<Arc<Cluster>>,
    far: Option<Arc<Cluster>>,
    refresh: Duration,
    control: Control,
    wishes: watch::Receiver<Wishes>,
    found: watch::Sender<Vec<Lane>>,
    carried: Carried,
}

impl Finder {
    pub(crate) fn new(
        site: &SiteId,
        routes: &[Route],
        (own, core): (&Broker, &Broker),
        (near, far): (Option<Arc<Cluster>>, Option<Arc<Cluster>>),
        refresh: Duration,
        (control, wishes): (&Control, &watch::Receiver<Wishes>),
    ) -> Self {
        Self {
            catalogue: Catalogue::new(site, routes),
            own: own.clone(),
            core: core.clone(),
            near,
            far,
            refresh,
            control: control.clone(),
            wishes: wishes.clone(),
            found: watch::Sender::default(),
            carried: Carried::default(),
        }
    }

    /// What it finds.
    pub(crate) fn found(&self) -> Found {
        Found {
            lanes: self.found.subscribe(),
            carried: self.carried.clone(),
        }
    }

    /// Looks until `stop`.
    pub(crate) async fn follow(mut self, stop: Stop) -> anyhow::Result<()> {
        let (mut asked, mut told) = (None::<Instant>, None);
        let (mut known_lanes, mut unlike, mut compare_at) = (Vec::new(), None, Instant::now());
        let far_look = FAR_LOOK.max(self.refresh);
        while !stop.is_cancelled() {
            let mut problems = Vec::new();
            self.catalogue.heed(&self.wishes.borrow_and_update());
            if self.catalogue.asks(Direction::Up) {
                match self.own.topic_names().await {
                    Ok(names) => problems.extend(self.see(Direction::Up, &names)),
                    Err(error) => {
                        tracing::debug!(error = %telemetry::chain(&error), "this site's topics cannot be listed");
                    }
                }
            }
            let due = asked.is_none_or(|asked| asked.elapsed() >= far_look);
            if due && self.catalogue.asks(Direction::Down) {
                let names = stop.run_until_cancelled(self.far_names()).await;
                match names {
                    None => break,
                    Some(Ok(names)) => {
                        asked = Some(Instant::now());
                        problems.extend(self.see(Direction::Down, &names));
                    }
                    Some(Err(error)) => {
                        tracing::debug!(error = %telemetry::chain(&error), "the core's topics cannot be listed");
                    }
                }
            }
            for gone in std::mem::take(&mut self.catalogue.gone) {
                self.control.error(format!(
                    "topic {} of route {} is gone {}: what of it was not carried is lost to the other site",
                    gone.source,
                    gone.route,
                    match gone.direction {
                        Direction::Up => "at this site",
                        Direction::Down => "at the core",
                    }
                ));
            }
            self.found.send_if_modified(|known| {
                let news = *known != self.catalogue.found;
                if news {
                    tracing::info!(
                        topics = self.catalogue.found.len(),
                        "topics are taken up by patterns"
                    );
                    known.clone_from(&self.catalogue.found);
                }
                news
            });
            let lanes = [&self.catalogue.listed[..], &self.catalogue.found].concat();
            if lanes != known_lanes || Instant::now() >= compare_at {
                match stop.run_until_cancelled(self.differences(&lanes)).await {
                    None => break,
                    Some(Ok(found)) => (unlike, compare_at) = (found, Instant::now() + COMPARE),
                    Some(Err(error)) => {
                        tracing::debug!(error = %telemetry::chain(&error), "topics cannot be compared");
                        // Not again at once: each attempt may be bytes on a line that is down.
                        compare_at = Instant::now() + far_look;
                    }
                }
                known_lanes = lanes;
            }
            problems.extend(unlike.clone());
            let problem = (!problems.is_empty()).then(|| problems.join("; "));
            if problem.is_some() && problem != told {
                told.clone_from(&problem);
                self.control.error(problem.unwrap_or_default());
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(self.refresh) => {}
                // Its sender lives as long as the service.
                Ok(()) = self.wishes.changed() => {}
            }
        }
        Ok(())
    }

    fn see(&mut self, direction: Direction, names: &[String]) -> Option<String> {
        let too_many = self.catalogue.see(direction, names);
        self.catalogue.compare(direction, names, &self.carried);
        too_many
    }

    /// What the destinations of these lanes will not keep as their sources do.
    async fn differences(&self, lanes: &[Lane]) -> Result<Option<String>> {
        let keeps = async |side, cluster: &Option<Arc<Cluster>>, broker: &Broker| -> Result<Vec<_>> {
            let names: Vec<&str> = lanes.iter().map(|lane| lane.at(side)).collect();
            if let Some(cluster) = cluster {
                let found = cluster.properties(&names, &KEEPING).await?.into_iter();
                return Ok(found
                    .map(|values| (!values.is_empty()).then(|| Keeping::from(values)))
                    .collect());
            }
            let mut found = Vec::with_capacity(names.len());
            for name in names {
                found.push(broker.describe(name).await?.map(Keeping::from));
            }
            Ok(found)
        };
        let near = keeps(Side::Edge, &self.near, &self.own).await?;
        let far = keeps(Side::Core, &self.far, &self.core).await?;
        let mut problems = Vec::new();
        for ((lane, near), far) in lanes.iter().zip(near).zip(far) {
            let (Some(near), Some(far)) = (near, far) else {
                continue;
            };
            problems.extend(match lane.direction {
                Direction::Up => differences(lane, &near, &far),
                Direction::Down => differences(lane, &far, &near),
            });
        }
        Ok((!problems.is_empty()).then(|| problems.join("; ")))
    }

    async fn far_names(&self) -> Result<Vec<String>> {
        match &self.far {
            Some(cluster) => Ok(cluster.names().await?),
            None => Ok(self.core.topic_names().await?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::builtin;

    fn catalogue(extra: &[Route]) -> Catalogue {
        let site = "edge-1".parse().unwrap();
        let routes = [builtin(), extra.to_vec()].concat();
        assert_eq!(expand(&site, &routes).err(), None);
        Catalogue::new(&site, &routes)
    }

    fn route(name: &str, direction: Direction, pattern: &str, rename: Rename) -> Route {
        Route {
            name: name.into(),
            direction,
            topics: Vec::new(),
            pattern: Some(pattern.into()),
            rename,
            class: None,
            live_first: false,
        }
    }

    fn see(catalogue: &mut Catalogue, direction: Direction, names: &[&str]) -> Vec<(String, String)> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(catalogue.see(direction, &names), None);
        let found = catalogue.found.iter().filter(|lane| lane.direction == direction);
        found
            .map(|lane| (lane.source.clone(), lane.destination.clone()))
            .collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect()
    }

    #[test]
    fn whole_names_are_matched_and_topics_come_and_go() {
        let mut of = catalogue(&[route("iot", Direction::Up, "iot-.*", Rename::Prefix)]);
        let seen = see(&mut of, Direction::Up, &["iot-a", "my-iot-b", "iot-c"]);
        assert_eq!(
            seen,
            pairs(&[("iot-a", "edge-1.iot-a"), ("iot-c", "edge-1.iot-c")])
        );
        let seen = see(&mut of, Direction::Up, &["iot-c"]);
        assert_eq!(seen, pairs(&[("iot-c", "edge-1.iot-c")]));
    }

    #[test]
    fn what_is_gone_is_told_once_also_when_nobody_looked_meanwhile() {
        let mut of = catalogue(&[route("iot", Direction::Up, "iot-.*", Rename::Prefix)]);
        let known = |direction, route: &str, topic: &str| (direction, route.to_owned(), topic.to_owned());
        let carried = Carried::new(Mutex::new(BTreeSet::from([
            known(Direction::Up, "iot", "iot-a"),
            known(Direction::Up, "iot", "iot-c"),
            // Of a pattern as it was before, of a backlog, and of another direction.
            known(Direction::Up, "iot", "old-d"),
            known(Direction::Up, "iot.backlog", "iot-e"),
            known(Direction::Down, "iot", "iot-f"),
        ])));
        let mut told = |names: &[&str]| {
            see(&mut of, Direction::Up, names);
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            of.compare(Direction::Up, &names, &carried);
            let gone = std::mem::take(&mut of.gone);
            gone.into_iter().map(|lane| lane.source).collect::<Vec<_>>()
        };
        assert_eq!(told(&["iot-b", "iot-c"]), ["iot-a"]);
        assert_eq!(told(&["iot-c"]), ["iot-b"]);
        assert!(told(&["iot-c", "iot-a"]).is_empty());
        assert_eq!(told(&[]), ["iot-c", "iot-a"]);
        assert!(told(&[]).is_empty());
    }

    #[test]
    fn where_what_waits_goes_nothing_else_is_carried() {
        let mut of = catalogue(&[route("iot", Direction::Up, "iot-.*", Rename::Prefix)]);
        let names = ["iot-a", "iot-a.backlog"];
        assert_eq!(see(&mut of, Direction::Up, &names).len(), 2);
        let wishes = |routes: &[&str]| Wishes {
            live_first: routes.iter().map(|name| (*name).to_owned()).collect(),
            ..Wishes::default()
        };
        of.heed(&wishes(&["iot"]));
        let alone = pairs(&[("iot-a", "edge-1.iot-a")]);
        assert_eq!(of.found.len(), 1, "{:?}", of.found);
        assert_eq!(see(&mut of, Direction::Up, &names), alone);
        of.heed(&wishes(&[]));
        assert_eq!(see(&mut of, Direction::Up, &names).len(), 2);
    }

    #[test]
    fn nothing_of_a_sites_own_is_taken() {
        let mut of = catalogue(&[
            route("up", Direction::Up, ".*", Rename::Prefix),
            route("down", Direction::Down, ".*", Rename::Strip),
        ]);
        let up = [
            "service-status",
            "service-x",
            "site-status",
            "asset-changes",
            "ASSET_BROADCAST",
            "ASSET_REQUEST",
            "edge-1.checkpoints",
            "edge-2.checkpoints",
            "region.edge-1.t",
            "edge-1.t",
            "t.dead-letter",
            "_schemas",
            "t",
        ];
        assert_eq!(see(&mut of, Direction::Up, &up), pairs(&[("t", "edge-1.t")]));
        // All of that goes up, should it be there, so nothing comes down.
        assert!(
            see(
                &mut of,
                Direction::Down,
                &["edge-1.t", "edge-1.u", "edge-2.t", "t"]
            )
            .is_empty()
        );
    }

    #[test]
    fn no_loop_whichever_side_is_seen_first() {
        let routes = [
            route("up", Direction::Up, "iot-.*", Rename::Prefix),
            route("down", Direction::Down, "(iot|cmd)-.*", Rename::Strip),
        ];
        let core = [
            "edge-1.iot-a",
            "edge-1.iot-a.backlog",
            "edge-1.cmd-a",
            "edge-2.cmd-b",
        ];
        let edge = ["iot-a", "iot-b", "cmd-a"];
        for first in [Direction::Up, Direction::Down] {
            let mut of = catalogue(&routes);
            for direction in [first, Direction::Up, Direction::Down] {
                see(
                    &mut of,
                    direction,
                    if direction == Direction::Up { &edge } else { &core },
                );
            }
            assert_eq!(
                see(&mut of, Direction::Down, &core),
                pairs(&[("edge-1.cmd-a", "cmd-a")])
            );
            assert_eq!(
                see(&mut of, Direction::Up, &edge),
                pairs(&[("iot-a", "edge-1.iot-a"), ("iot-b", "edge-1.iot-b")])
            );
            assert!(conflicts(&[&of.listed[..], &of.found].concat()).is_empty());
        }
    }

    #[test]
    fn no_edge_sees_what_is_another_edges() {
        let mut of = catalogue(&[route("all", Direction::Down, ".*", Rename::Same)]);
        let core = [
            "edge-2.checkpoints",
            "edge-2.secret",
            "edge-1.x",
            "weather",
            "ASSET_BROADCAST",
            "asset-pipeline",
        ];
        assert_eq!(
            see(&mut of, Direction::Down, &core),
            pairs(&[("weather", "weather")])
        );
    }

    #[test]
    fn number_of_topics_is_bounded_and_that_is_said() {
        let mut of = catalogue(&[route("iot", Direction::Up, "iot-.*", Rename::Prefix)]);
        let names: Vec<String> = (0..MOST + 5).map(|n| format!("iot-{n:04}")).collect();
        let said = of.see(Direction::Up, &names).unwrap();
        assert!(
            said.contains("5 are left out") && said.contains("iot-0200"),
            "{said}"
        );
        assert_eq!(of.found.len(), MOST);
    }

    #[test]
    fn patterns_that_cannot_be_read_are_told() {
        let site = "edge-1".parse().unwrap();
        let bad = route("bad", Direction::Up, "iot-(", Rename::Prefix);
        assert!(expand(&site, &[bad]).unwrap_err()[0].contains("pattern"));
        let mut both = route("both", Direction::Up, "iot-.*", Rename::Prefix);
        both.topics = vec!["t".into()];
        assert!(expand(&site, &[both]).unwrap_err()[0].contains("not both"));
    }
}
