//! Routes: what is carried, in which direction, and under which name.
//!
//! A set of routes is checked as a whole before anything is carried: no record can come back to where it was, and a
//! destination topic has exactly one source, of the same partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use common::budget::Class;
use common::schemas::{SiteId, at_core, topic};

use crate::found;
use crate::moves::Side;

/// Which way records go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the core to this edge.
    Down,
    /// From this edge to the core.
    Up,
}

impl Direction {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Up => "up",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a topic is called on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rename {
    /// The same.
    Same,
    /// `t` at the edge is `<site>.t` at the core: the only way up.
    Prefix,
    /// `<site>.t` at the core is `t` at the edge.
    Strip,
}

/// Topics that are carried one way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Its name; part of the checkpoints' keys, so a route that is renamed starts over.
    pub name: String,
    /// Which way.
    pub direction: Direction,
    /// The topics, by their names at the edge.
    #[serde(default)]
    pub topics: Vec<String>,
    /// Instead of a list: what their names at the edge look like, as a regular expression for the whole of a name.
    #[serde(default)]
    pub pattern: Option<String>,
    /// Their names at the core.
    pub rename: Rename,
    /// What goes before it and after it on the link; by the topic when unset, and sensors for topics of one's own.
    #[serde(default)]
    pub class: Option<Class>,
    /// Whether what comes in goes before what waits from an outage: that goes to `<topic>.backlog`.
    #[serde(default)]
    pub live_first: bool,
}

/// Classes of routes, by their names, in place of those that they are configured with.
pub(crate) type Classes = BTreeMap<String, Class>;

/// One topic of a route, with its names on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// The route's name.
    pub route: String,
    /// Which way.
    pub direction: Direction,
    /// The topic's name where it is read.
    pub source: String,
    /// The topic's name where it is written.
    pub destination: String,
    /// Its place among what crosses the link.
    pub class: Class,
    /// Whether what comes in goes before what waits from an outage.
    pub live_first: bool,
    /// The route whose backlog it carries, if it does.
    pub backlog_of: Option<String>,
}

impl Lane {
    /// The topic's name on a side.
    pub(crate) fn at(&self, side: Side) -> &str {
        if (self.direction == Direction::Up) == (side == Side::Edge) {
            &self.source
        } else {
            &self.destination
        }
    }

    /// The lane of what waits from an outage, beside this one: there is one as long as anything waits, also when what
    /// comes in does not go first any more. It is never in the same class, for a carrier is at one place of a partition.
    pub fn backlog(&self) -> Self {
        Self {
            route: format!("{}.backlog", self.route),
            source: self.source.clone(),
            destination: format!("{}.backlog", self.destination),
            direction: self.direction,
            class: match self.class {
                Class::Backlog => Class::Assets,
                _ => Class::Backlog,
            },
            live_first: false,
            backlog_of: Some(self.route.clone()),
        }
    }

    /// In the class that its route has now. What waits behind stays a backlog.
    pub(crate) fn classed(mut self, classes: &Classes) -> Self {
        self.class = classes.get(&self.route).copied().unwrap_or(self.class);
        self
    }

    /// The route that people know it by.
    pub(crate) fn of_route(&self) -> &str {
        self.backlog_of.as_deref().unwrap_or(&self.route)
    }
}

impl Route {
    /// One of its topics, by the name at the edge.
    pub(crate) fn lane(&self, site: &SiteId, topic: &str) -> Lane {
        let at_core = match self.rename {
            Rename::Same => topic.to_owned(),
            Rename::Prefix | Rename::Strip => at_core(site, topic),
        };
        let (source, destination) = match self.direction {
            Direction::Down => (at_core, topic.to_owned()),
            Direction::Up => (topic.to_owned(), at_core),
        };
        Lane {
            route: self.name.clone(),
            direction: self.direction,
            source,
            destination,
            class: self.class(topic),
            live_first: self.live_first,
            backlog_of: None,
        }
    }

    /// In the class that it has now.
    pub(crate) fn classed(mut self, classes: &Classes) -> Self {
        self.class = classes.get(&self.name).copied().or(self.class);
        self
    }

    /// The place among what crosses the link of one of its topics.
    pub(crate) fn class(&self, topic: &str) -> Class {
        self.class.unwrap_or_else(|| usual(topic))
    }
}

/// Whether what comes in may go first in a class: what waits goes behind it, in class backlog.
pub(crate) fn goes_first(class: Class) -> bool {
    class < Class::Backlog
}

/// The class of a topic whose route names none.
fn usual(topic: &str) -> Class {
    match topic {
        topic::ASSET_REQUEST | topic::ASSET_RECEIPT | topic::SITE_STATUS => Class::Requests,
        topic::ASSET_RESPONSE => Class::Responses,
        topic::ASSET_BROADCAST => Class::Broadcasts,
        topic::ASSET_PREVIEW => Class::Previews,
        _ => Class::Sensors,
    }
}

/// The routes that every edge has.
pub fn builtin() -> Vec<Route> {
    let route = |name: &str, direction, topics: &[&str], rename| Route {
        name: name.to_owned(),
        direction,
        topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        pattern: None,
        rename,
        class: None,
        live_first: false,
    };
    vec![
        route(
            "broadcasts",
            Direction::Down,
            &[topic::ASSET_BROADCAST, topic::ASSET_PREVIEW],
            Rename::Same,
        ),
        route(
            "responses",
            Direction::Down,
            &[topic::ASSET_RESPONSE],
            Rename::Strip,
        ),
        route(
            "requests",
            Direction::Up,
            &[topic::ASSET_REQUEST, topic::ASSET_RECEIPT],
            Rename::Prefix,
        ),
        route("status", Direction::Up, &[topic::SITE_STATUS], Rename::Prefix),
    ]
}

/// Gives each topic of each route its two names.
///
/// # Errors
/// With all that is wrong with the routes, each problem naming its route.
pub fn expand(site: &SiteId, routes: &[Route]) -> Result<Vec<Lane>, Vec<String>> {
    let mut problems = Vec::new();
    let mut names = BTreeSet::new();
    let mut lanes = Vec::new();
    for route in routes {
        let name = &route.name;
        if name.is_empty()
            || !name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        {
            problems.push(format!(
                "route {name:?}: the name must be lower-case letters, digits and dashes"
            ));
        }
        if !names.insert(name) {
            problems.push(format!("route {name}: there are two of this name"));
        }
        match &route.pattern {
            None if route.topics.is_empty() => {
                problems.push(format!("route {name}: topics are missing, or a pattern for them"));
            }
            Some(_) if !route.topics.is_empty() => {
                problems.push(format!("route {name}: topics or a pattern, not both"));
            }
            Some(pattern) => {
                if let Err(problem) = found::compile(pattern) {
                    problems.push(format!("route {name}: pattern: {problem}"));
                }
            }
            None => {}
        }
        if let Some(class) = route
            .class
            .filter(|class| route.live_first && !goes_first(*class))
        {
            problems.push(format!(
                "route {name}: what comes in cannot go first in class {class}; leave the class out"
            ));
        }
        if (route.direction == Direction::Up) != (route.rename == Rename::Prefix) {
            problems.push(format!(
                "route {name}: rename must be prefix on the way up, so that a topic at the core has one writing site, and same or strip on the way down"
            ));
        }
        for topic in &route.topics {
            if let Err(problem) = carriable(topic) {
                problems.push(format!("route {name}: {problem}"));
            }
            if route.direction == Direction::Up && found::passed(site, topic) {
                problems.push(format!(
                    "route {name}: {topic} has been at this site, and would go round in a loop"
                ));
            }
            lanes.push(route.lane(site, topic));
        }
    }
    problems.extend(conflicts(&lanes));
    if problems.is_empty() {
        Ok(lanes)
    } else {
        Err(problems)
    }
}

/// Whether routes fit together, as far as that does not hang on which topics patterns find: at any site, whatever its name.
///
/// # Errors
/// As [`expand`].
pub(crate) fn fit(routes: &[Route]) -> Result<(), Vec<String>> {
    match "any-site".parse() {
        Ok(site) => expand(&site, routes).map(drop),
        Err(_) => Ok(()),
    }
}

pub(crate) fn carriable(name: &str) -> Result<(), String> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > 200 || !name.bytes().all(valid) {
        return Err(format!("{name:?} is no topic name"));
    }
    let internal = [
        topic::CHECKPOINTS,
        topic::LINK_PATHS,
        topic::SERVICE_STATUS,
        topic::SERVICE_CONTROL,
        topic::SERVICE_LOG,
        topic::SERVICE_HISTORY,
        topic::ASSET_CHANGES,
    ];
    if internal
        .iter()
        .any(|own| name == *own || name.ends_with(&format!(".{own}")))
    {
        return Err(format!("{name} is a site's own and is never carried"));
    }
    Ok(())
}

/// What would let a record come twice, or come back.
pub(crate) fn conflicts(lanes: &[Lane]) -> Vec<String> {
    let mut problems = Vec::new();
    let backlogs = lanes.iter().filter(|lane| lane.live_first).map(Lane::backlog);
    let lanes: Vec<Lane> = lanes.iter().cloned().chain(backlogs).collect();
    for (at, lane) in lanes.iter().enumerate() {
        for other in &lanes[at + 1..] {
            if lane.direction != other.direction {
                continue;
            }
            if lane.source == other.source && other.backlog_of.is_none() {
                problems.push(format!(
                    "routes {} and {}: both carry {}",
                    lane.route, other.route, lane.source
                ));
            }
            if lane.destination == other.destination {
                problems.push(format!(
                    "routes {} and {}: both carry to {}, which must have one source",
                    lane.route, other.route, lane.destination
                ));
            }
        }
        // What arrives at a site must not leave it again: two hops could bring it back.
        for other in lanes.iter().filter(|other| other.direction != lane.direction) {
            if lane.destination == other.source {
                problems.push(format!(
                    "routes {} and {}: {} would arrive and leave again, which makes a loop",
                    lane.route, other.route, lane.destination
                ));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> SiteId {
        "edge-1".parse().unwrap()
    }

    fn route(name: &str, direction: Direction, topic: &str, rename: Rename) -> Route {
        Route {
            name: name.into(),
            direction,
            topics: vec![topic.into()],
            pattern: None,
            rename,
            class: None,
            live_first: false,
        }
    }

    #[test]
    fn builtin_routes_carry_the_topics_of_the_exchange() {
        let lanes = expand(&site(), &builtin()).unwrap();
        let names: Vec<_> = lanes
            .iter()
            .map(|lane| (lane.direction, lane.source.as_str(), lane.destination.as_str()))
            .collect();
        assert_eq!(
            names,
            [
                (Direction::Down, "ASSET_BROADCAST", "ASSET_BROADCAST"),
                (Direction::Down, "ASSET_PREVIEW", "ASSET_PREVIEW"),
                (Direction::Down, "edge-1.ASSET_RESPONSE", "ASSET_RESPONSE"),
                (Direction::Up, "ASSET_REQUEST", "edge-1.ASSET_REQUEST"),
                (Direction::Up, "ASSET_RECEIPT", "edge-1.ASSET_RECEIPT"),
                (Direction::Up, "site-status", "edge-1.site-status"),
            ]
        );
    }

    #[test]
    fn no_loop_can_be_configured() {
        let there_and_back = [
            route("up", Direction::Up, "t", Rename::Prefix),
            route("down", Direction::Down, "t", Rename::Strip),
        ];
        assert!(
            expand(&site(), &there_and_back)
                .unwrap_err()
                .iter()
                .any(|problem| problem.contains("loop"))
        );
        let onwards = [
            route("down", Direction::Down, "t", Rename::Same),
            route("up", Direction::Up, "t", Rename::Prefix),
        ];
        assert!(
            expand(&site(), &onwards)
                .unwrap_err()
                .iter()
                .any(|problem| problem.contains("loop"))
        );
        let broadcast_back = [
            builtin(),
            vec![route("x", Direction::Up, "ASSET_BROADCAST", Rename::Prefix)],
        ]
        .concat();
        assert!(expand(&site(), &broadcast_back).is_err());
    }

    #[test]
    fn destination_topic_has_one_source_and_the_core_topic_one_writing_site() {
        let two = [
            route("a", Direction::Down, "t", Rename::Same),
            route("b", Direction::Down, "t", Rename::Strip),
        ];
        assert!(expand(&site(), &two).unwrap_err()[0].contains("one source"));
        for rename in [Rename::Same, Rename::Strip] {
            assert!(expand(&site(), &[route("a", Direction::Up, "t", rename)]).is_err());
        }
        assert!(expand(&site(), &[route("a", Direction::Down, "t", Rename::Prefix)]).is_err());
    }

    #[test]
    fn sites_own_topics_and_bad_names_are_refused() {
        for name in [
            "service-control",
            "service-log",
            "checkpoints",
            "edge-1.checkpoints",
            "",
            "a b",
            "ä",
        ] {
            assert!(
                expand(&site(), &[route("a", Direction::Down, name, Rename::Same)]).is_err(),
                "{name}"
            );
        }
        let twice = [
            route("a", Direction::Down, "t", Rename::Same),
            route("a", Direction::Down, "u", Rename::Same),
        ];
        assert!(expand(&site(), &twice).is_err());
        assert!(expand(&site(), &[route("A/b", Direction::Down, "t", Rename::Same)]).is_err());
    }

    #[test]
    fn backlog_of_a_route_has_a_topic_of_its_own() {
        let mut sensors = route("sensors", Direction::Up, "t", Rename::Prefix);
        sensors.live_first = true;
        let lanes = expand(&site(), &[sensors.clone()]).unwrap();
        let backlog = lanes[0].backlog();
        assert_eq!(
            (backlog.source.as_str(), backlog.destination.as_str()),
            ("t", "edge-1.t.backlog")
        );
        assert_eq!(
            (backlog.route.as_str(), backlog.of_route()),
            ("sensors.backlog", "sensors")
        );
        let taken = [
            sensors.clone(),
            route("other", Direction::Up, "t.backlog", Rename::Prefix),
        ];
        assert!(expand(&site(), &taken).unwrap_err()[0].contains("one source"));
        for class in [Class::Backlog, Class::Assets] {
            sensors.class = Some(class);
            assert!(expand(&site(), &[sensors.clone()]).is_err());
            sensors.live_first = false;
            let lane = expand(&site(), &[sensors.clone()]).unwrap().remove(0);
            assert_ne!(lane.class, lane.backlog().class);
            sensors.live_first = true;
        }
    }

    #[test]
    fn more_topics_can_be_carried() {
        let routes = [
            builtin(),
            vec![route(
                "sensors",
                Direction::Up,
                "iot-sensor-sw-temperature",
                Rename::Prefix,
            )],
        ]
        .concat();
        let lanes = expand(&site(), &routes).unwrap();
        assert_eq!(
            lanes.last().unwrap().destination,
            "edge-1.iot-sensor-sw-temperature"
        );
    }
}
