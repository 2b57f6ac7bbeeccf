//! What the site wants of its link: as configured, and above that what was set while it runs.
//!
//! Each thing is a record of its own in `service-control` (see `common::control::set`), so it is in force again after a
//! restart: `budget/<setting>` is a setting of the budget, `route/<name>` is `"paused"` or `"running"`, `live_first/<name>`
//! says whether what comes in on a route goes before what waits, `class/<name>` in which class a route goes, `allow` lets
//! so many bytes of bulk cross a metered link, once, and `lost` says how much of what is lost somebody knows of
//! (`"records/ranges"`), which is remarked no more. What cannot be understood is told and changes nothing; neither does what a
//! restart would take back, and that stands in every status: bytes of a day or month, and `allow`, where nothing keeps what was
//! spent. A link may become metered all the same, for then it carries less and not more.

use std::collections::BTreeSet;
use std::sync::Arc;

use common::budget::{self, Budget, Class, Hold};
use common::chassis::Stop;
use common::control::{self, Control};
use common::schemas::ServiceSetting;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::line;
use crate::report::Board;
use crate::routes::{Classes, Direction, Lane, Route, fit, goes_first};
use crate::settings::Settings;

/// How often it is told how the budget stands.
const TOLD: std::time::Duration = std::time::Duration::from_secs(2);

/// What gauges' names begin with that say a window, and the zone of windows, days and months.
const WINDOW: &str = "window.";
const ZONE: &str = "zone.";

/// What stands in every status where limits are set that cannot be kept.
const UNCOUNTED: &str = "what the link carries is neither counted nor held to its budget: it goes by librdkafka \
                         (whole_batches = false, or settings for it), which has connections of its own";

/// Why something is not in force.
const FORGOTTEN: &str =
    "not in force, for what was spent and allowed would be forgotten when link ends: set link.state";

/// What stands in every status where limits are set and files do not come under them.
const DOORLESS: &str = "what mirror fetches is neither counted nor held to this budget: set link.door.listen, \
                        and mirror.door to the same";

/// What stands in every status where a route is to carry what comes in first, and cannot.
const IN_ORDER: &str = "live_first is not in force: all goes in its order where records go by librdkafka \
                        (whole_batches = false, or settings for it)";

/// Why live_first is not in force on a route.
const BEHIND: &str = "what comes in cannot go first in this class, and goes in its order";

/// What is wanted of routes, by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// Those that carry nothing.
    pub(crate) paused: BTreeSet<String>,
    /// Those on which what comes in goes before what waits from an outage.
    pub(crate) live_first: BTreeSet<String>,
    /// Those that go in another class than they are configured with.
    pub(crate) classes: Classes,
}

impl Wishes {
    fn configured(settings: &Settings) -> Self {
        let routes = settings.routes().into_iter();
        Self {
            paused: settings.paused.iter().cloned().collect(),
            live_first: routes
                .filter(|route| route.live_first)
                .map(|route| route.name)
                .collect(),
            classes: Classes::new(),
        }
    }

    /// A route as it is wanted.
    pub(crate) fn of_route(&self, mut route: Route) -> Route {
        route.live_first = self.live_first.contains(&route.name);
        route.classed(&self.classes)
    }

    /// A lane as it is wanted; none when it carries nothing.
    pub(crate) fn of_lane(&self, mut lane: Lane) -> Option<Lane> {
        lane.live_first = lane.backlog_of.is_none() && self.live_first.contains(&lane.route);
        (!self.paused.contains(lane.of_route())).then_some(lane)
    }
}

/// Keeps to what the site wants.
#[derive(Debug)]
pub(crate) struct Rule {
    settings: Arc<Settings>,
    budget: Budget,
    wishes: watch::Sender<Wishes>,
    control: Control,
    board: Arc<Board>,
}

impl Rule {
    /// Takes what was set before; whoever works from here on keeps to it.
    pub(crate) fn new(settings: Arc<Settings>, budget: Budget, control: Control, board: Arc<Board>) -> Self {
        let rule = Self {
            settings,
            budget,
            wishes: watch::Sender::default(),
            control,
            board,
        };
        rule.apply(&rule.control.settings().borrow());
        rule
    }

    /// What is wanted of routes, and the changes of that.
    pub(crate) fn wishes(&self) -> watch::Receiver<Wishes> {
        self.wishes.subscribe()
    }

    /// Follows what is set, and tells how the budget stands.
    pub(crate) async fn follow(self, stop: Stop) -> anyhow::Result<()> {
        let mut settings = self.control.settings();
        let mut changes = self.budget.changes();
        let mut told = interval(TOLD);
        told.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                changed = settings.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let now = settings.borrow_and_update().clone();
                    self.apply(&now);
                    // Whoever set it waits to see it.
                    self.tell();
                    self.control.tell();
                }
                _ = changes.changed() => {}
                _ = told.tick() => {}
            }
            self.tell();
        }
    }

    fn apply(&self, set: &control::Settings) {
        let wanted = wanted(&self.settings, set);
        for problem in &wanted.problems {
            tracing::warn!(problem, "what was set for the link is left out");
            self.control.error(format!("what was set is left out: {problem}"));
        }
        if wanted.budget != self.budget.settings() {
            match self.budget.set(wanted.budget.clone()) {
                Ok(()) => tracing::info!(budget = ?wanted.budget, "the link's budget is set"),
                Err(error) => tracing::warn!(%error, "the link's budget stays as it was"),
            }
        }
        if let Some((order, bytes)) = wanted.allow
            && self.budget.confirm_once(order, bytes)
        {
            tracing::info!(bytes, "bulk may cross");
        }
        self.board.know(wanted.lost);
        let budget = self.budget.settings();
        let limited =
            budget.metered || budget.cap.is_some() || budget.per_day.is_some() || budget.per_month.is_some();
        let forgotten = wanted.forgotten.join(", ");
        self.board.remark(
            "state",
            (!forgotten.is_empty()).then(|| format!("{forgotten}: {FORGOTTEN}")),
        );
        let uncounted = self.settings.uncounted() && limited;
        self.board
            .remark("budget", uncounted.then(|| UNCOUNTED.to_owned()));
        let doorless = limited && self.settings.door.listen.is_none();
        self.board.remark("door", doorless.then(|| DOORLESS.to_owned()));
        let in_order = self.settings.by_records() && !wanted.wishes.live_first.is_empty();
        self.board
            .remark("live_first", in_order.then(|| IN_ORDER.to_owned()));
        self.wishes.send_if_modified(|wishes| {
            let change = *wishes != wanted.wishes;
            if change {
                let Wishes {
                    paused,
                    live_first,
                    classes,
                } = &wanted.wishes;
                tracing::info!(
                    ?paused,
                    ?live_first,
                    ?classes,
                    "what is wanted of routes has changed"
                );
                *wishes = wanted.wishes;
            }
            change
        });
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn tell(&self) {
        let status = self.budget.status();
        let gauge = |name: &'static str, value: u64| self.control.gauge(name, value as f64);
        let limits = [
            ("cap", status.cap),
            ("day_limit", status.day.limit),
            ("month_limit", status.month.limit),
        ];
        let budget = self.budget.settings();
        let windows = budget.windows.iter().map(|window| format!("{WINDOW}{window}"));
        let spans: Vec<String> = windows.chain([format!("{ZONE}{}", budget.zone)]).collect();
        self.control.retain_gauges(|name| {
            let spoken = name.starts_with(WINDOW) || name.starts_with(ZONE);
            let gone = |(limit, value): &(&str, Option<u64>)| *limit == name && value.is_none();
            !limits.iter().any(gone) && (!spoken || spans.iter().any(|span| span == name))
        });
        for span in spans {
            self.control.gauge(span, 1.0);
        }
        gauge("share", u64::from(budget.share));
        gauge("keeps_spent", u64::from(!line::forgets(&self.settings)));
        for (name, limit) in limits {
            if let Some(limit) = limit {
                gauge(name, limit);
            }
        }
        gauge("bytes_per_second", status.rate);
        gauge("day_bytes", status.day.bytes);
        gauge("month_bytes", status.month.bytes);
        gauge("metered", u64::from(status.metered));
        gauge("allowed_bytes", status.confirmed);
        for class in &status.classes {
            let class_gauge = |what: &str, value: f64| {
                self.control.gauge(format!("class.{}.{what}", class.class), value);
            };
            class_gauge("day_bytes", class.day as f64);
            class_gauge("month_bytes", class.month as f64);
            class_gauge("held", f64::from(code(class.held)));
            let until = class.held.and_then(|hold| hold.until()).unwrap_or_default();
            class_gauge("held_until", until as f64);
        }
        let wishes = self.wishes.borrow().clone();
        for route in self.settings.routes() {
            let route_gauge = |what: &str, value: bool| {
                let value = f64::from(u8::from(value));
                self.control.gauge(format!("route.{}.{what}", route.name), value);
            };
            route_gauge("paused", wishes.paused.contains(&route.name));
            route_gauge("up", route.direction == Direction::Up);
        }
        for route in &self.settings.extra_routes {
            let route = wishes.of_route(route.clone());
            self.control.gauge(
                format!("route.{}.live_first", route.name),
                f64::from(u8::from(route.live_first)),
            );
            let class = Class::ALL.iter().position(|class| *class == route.class(""));
            self.control.gauge(
                format!("route.{}.class", route.name),
                class.unwrap_or_default() as f64,
            );
        }
    }
}

/// A hold as a number, for gauges: none, outside the windows, the day's bytes, the month's bytes, not confirmed.
fn code(hold: Option<Hold>) -> u8 {
    match hold {
        None => 0,
        Some(Hold::Window { .. }) => 1,
        Some(Hold::Day { .. }) => 2,
        Some(Hold::Month { .. }) => 3,
        Some(Hold::Unconfirmed) => 4,
        Some(Hold::Paused) => 5,
    }
}

#[derive(Debug, Default, PartialEq)]
struct Wanted {
    budget: budget::Settings,
    wishes: Wishes,
    /// By which order how many bytes of bulk may cross.
    allow: Option<(i64, u64)>,
    /// How much of what is lost is known.
    lost: Option<String>,
    /// What is not in force because it would be forgotten.
    forgotten: Vec<String>,
    problems: Vec<String>,
}

fn wanted(settings: &Settings, set: &control::Settings) -> Wanted {
    let mut wanted = Wanted {
        budget: settings.budget.clone(),
        wishes: Wishes::configured(settings),
        ..Wanted::default()
    };
    let forgets = line::forgets(settings);
    for (key, setting) in set {
        if forgets && needs_state(key, setting) {
            wanted.forgotten.push(key.clone());
            wanted.problems.push(format!("{key}: {FORGOTTEN}"));
            continue;
        }
        if let Err(problem) = take(&mut wanted, settings, key, setting) {
            wanted.problems.push(problem);
        }
    }
    let first = std::mem::take(&mut wanted.wishes.live_first);
    let (behind, first) = first.into_iter().partition(|name| {
        wanted
            .wishes
            .classes
            .get(name)
            .is_some_and(|class| !goes_first(*class))
    });
    wanted.wishes.live_first = first;
    wanted.problems.extend(
        behind
            .iter()
            .map(|name: &String| format!("class/{name}: {BEHIND}")),
    );
    wanted
}

/// Whether a setting counts on what was before the process began.
fn needs_state(key: &str, setting: &ServiceSetting) -> bool {
    matches!(key, "budget/per_day" | "budget/per_month" | "allow") && setting.value != "null"
}

fn take(wanted: &mut Wanted, settings: &Settings, key: &str, setting: &ServiceSetting) -> Result<(), String> {
    let value: Value = serde_json::from_str(&setting.value).map_err(|error| format!("{key}: {error}"))?;
    match (key.split_once('/'), &value) {
        (Some(("budget", key)), _) => wanted.budget = wanted.budget.with(key, value)?,
        (Some(("route", name)), Value::String(state)) if state == "paused" => {
            wanted.wishes.paused.insert(name.to_owned());
        }
        (Some(("route", name)), Value::String(state)) if state == "running" => {
            wanted.wishes.paused.remove(name);
        }
        (Some(("live_first", name)), Value::Bool(first)) => {
            wanted.wishes = live_first(&wanted.wishes, settings, name, *first)
                .map_err(|problem| format!("{key}: {problem}"))?;
        }
        (Some(("class", name)), Value::String(class)) => {
            let class = class.parse().map_err(|problem| format!("{key}: {problem}"))?;
            own(settings, name).map_err(|problem| format!("{key}: {problem}"))?;
            wanted.wishes.classes.insert(name.to_owned(), class);
        }
        (None, Value::Number(bytes)) if key == "allow" => {
            let bytes = bytes
                .as_u64()
                .ok_or_else(|| format!("{key}: a number of bytes"))?;
            wanted.allow = Some((setting.asked_at, bytes));
        }
        (None, Value::String(known)) if key == "lost" => wanted.lost = Some(known.clone()),
        _ => return Err(format!("{key}: {value} is nothing that can be set")),
    }
    Ok(())
}

/// Whether a route is one of the site's own, which it may do with as it likes.
fn own(settings: &Settings, name: &str) -> Result<(), String> {
    if settings.extra_routes.iter().any(|route| route.name == name) {
        Ok(())
    } else {
        Err(format!("{name} is none of this site's extra_routes"))
    }
}

/// What is wanted when a route is to carry what comes in first, or not any more; or why that cannot be.
fn live_first(wishes: &Wishes, settings: &Settings, name: &str, first: bool) -> Result<Wishes, String> {
    let mut changed = wishes.clone();
    if !first {
        changed.live_first.remove(name);
        return Ok(changed);
    }
    // Of those that every edge has nobody reads what would wait behind.
    own(settings, name)?;
    changed.live_first.insert(name.to_owned());
    let routes = settings.routes().into_iter();
    let routes: Vec<Route> = routes.map(|route| changed.of_route(route)).collect();
    match fit(&routes) {
        Ok(()) => Ok(changed),
        Err(problems) => Err(problems.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> control::Settings {
        let setting = |(key, value): &(&str, &str)| {
            let setting = ServiceSetting {
                service: "link".into(),
                key: (*key).into(),
                value: (*value).into(),
                asked_by: None,
                asked_at: 7,
            };
            ((*key).to_owned(), setting)
        };
        pairs.iter().map(setting).collect()
    }

    #[test]
    fn what_is_set_goes_above_what_is_configured() {
        let mut settings = Settings {
            paused: vec!["status".into(), "sensors".into()],
            state: Some("/var/lib/fieldline/link".into()),
            ..Settings::default()
        };
        settings.budget.metered = true;
        let wanted = wanted(
            &settings,
            &set(&[
                ("allow", "20000000"),
                ("lost", "\"7/2\""),
                ("budget/cap", "\"32KB\""),
                ("budget/metered", "false"),
                ("budget/per_day", "null"),
                ("route/broadcasts", "\"paused\""),
                ("route/status", "\"running\""),
            ]),
        );
        assert_eq!(wanted.problems, Vec::<String>::new());
        assert_eq!(wanted.budget.cap.map(|cap| cap.bytes()), Some(32_000));
        assert!(!wanted.budget.metered);
        assert_eq!(wanted.allow, Some((7, 20_000_000)));
        assert_eq!(wanted.lost.as_deref(), Some("7/2"));
        assert_eq!(
            wanted.wishes.paused,
            ["broadcasts", "sensors"].map(String::from).into()
        );
    }

    #[test]
    fn what_a_restart_would_take_back_is_told_and_not_in_force() {
        let mut settings = Settings::default();
        settings.broker.url = "kafka://edge:9092".into();
        let asked = set(&[
            ("allow", "20000000"),
            ("budget/cap", "\"32KB\""),
            ("budget/metered", "true"),
            ("budget/per_day", "\"5MB\""),
            ("budget/per_month", "null"),
        ]);
        let without = wanted(&settings, &asked);
        assert_eq!(without.forgotten, ["allow", "budget/per_day"]);
        assert_eq!(without.problems.len(), 2);
        assert!(
            without
                .problems
                .iter()
                .all(|problem| problem.contains("link.state"))
        );
        assert_eq!((without.allow, without.budget.per_day), (None, None));
        assert!(without.budget.metered && without.budget.cap.is_some());
        settings.state = Some("/var/lib/fieldline/link".into());
        let kept = wanted(&settings, &asked);
        assert!(kept.problems.is_empty() && kept.forgotten.is_empty());
        assert!(kept.allow.is_some() && kept.budget.per_day.is_some());
    }

    #[test]
    fn what_comes_in_goes_first_on_routes_that_have_a_topic_for_the_rest() {
        let route = |name: &str, topic: &str, first: bool| Route {
            name: name.into(),
            direction: Direction::Up,
            topics: vec![topic.into()],
            pattern: None,
            rename: crate::routes::Rename::Prefix,
            class: None,
            live_first: first,
        };
        let mut settings = Settings {
            extra_routes: vec![
                route("ore", "ore", true),
                route("coal", "coal", false),
                route("slag", "slag", false),
                route("tin", "tin", false),
                route("taken", "slag.backlog", false),
            ],
            ..Settings::default()
        };
        settings.extra_routes[1].class = Some(Class::Backlog);
        let wanted = wanted(
            &settings,
            &set(&[
                ("live_first/ore", "false"),
                ("live_first/requests", "true"),
                ("live_first/coal", "true"),
                ("live_first/slag", "true"),
                ("live_first/iron", "true"),
                ("live_first/tin", "true"),
                ("live_first/zinc", "1"),
            ]),
        );
        assert_eq!(wanted.wishes.live_first, ["tin".to_owned()].into());
        // As they are read, by key.
        let parts = [
            "cannot go first in class backlog",
            "iron is none of",
            "requests is none of",
            "must have one source",
            "nothing that can be set",
        ];
        assert_eq!(wanted.problems.len(), parts.len(), "{:?}", wanted.problems);
        for (problem, part) in wanted.problems.iter().zip(parts) {
            assert!(
                problem.starts_with("live_first/") && problem.contains(part),
                "{problem}"
            );
        }
    }

    #[test]
    fn routes_of_ones_own_go_in_other_classes_and_what_goes_behind_never_first() {
        let route = |name: &str, class| Route {
            name: name.into(),
            direction: Direction::Up,
            topics: vec![name.into()],
            pattern: None,
            rename: crate::routes::Rename::Prefix,
            class,
            live_first: true,
        };
        let settings = Settings {
            extra_routes: vec![
                route("coal", None),
                route("ore", Some(Class::Broadcasts)),
                route("tin", None),
            ],
            ..Settings::default()
        };
        let wanted = wanted(
            &settings,
            &set(&[
                ("class/coal", "\"previews\""),
                ("class/iron", "\"previews\""),
                ("class/ore", "\"backlog\""),
                ("class/requests", "\"assets\""),
                ("class/tin", "\"films\""),
            ]),
        );
        let classes = [
            ("coal".to_owned(), Class::Previews),
            ("ore".to_owned(), Class::Backlog),
        ];
        assert_eq!(wanted.wishes.classes, classes.into());
        assert_eq!(wanted.wishes.live_first, ["coal", "tin"].map(String::from).into());
        let parts = [
            "iron is none of",
            "requests is none of",
            "`films` is no class",
            "goes in its order",
        ];
        assert_eq!(wanted.problems.len(), parts.len(), "{:?}", wanted.problems);
        for (problem, part) in wanted.problems.iter().zip(parts) {
            assert!(problem.contains(part), "{problem}");
        }
        let lanes = crate::expand(&"edge-1".parse().unwrap(), &settings.extra_routes).unwrap();
        let classed = |lane: Lane| lane.classed(&wanted.wishes.classes).class;
        assert_eq!(
            lanes.iter().cloned().map(classed).collect::<Vec<_>>(),
            [Class::Previews, Class::Backlog, Class::Sensors]
        );
        assert_eq!(classed(lanes[0].backlog()), Class::Backlog);
        let behind = |lane: Lane| lane.classed(&wanted.wishes.classes).backlog().class;
        assert_eq!(
            lanes.iter().cloned().map(behind).collect::<Vec<_>>(),
            [Class::Backlog, Class::Assets, Class::Backlog]
        );
        assert_eq!(
            wanted.wishes.of_route(settings.extra_routes[0].clone()).class(""),
            Class::Previews
        );
    }

    #[test]
    fn what_cannot_be_understood_is_told_and_changes_nothing() {
        let settings = Settings {
            state: Some("/var/lib/fieldline/link".into()),
            ..Settings::default()
        };
        let wanted = wanted(
            &settings,
            &set(&[
                ("budget/cap", "\"fast\""),
                ("route/x", "1"),
                ("speed", "2"),
                ("allow", "{"),
            ]),
        );
        assert_eq!(wanted.problems.len(), 4);
        assert_eq!(
            (wanted.budget, wanted.wishes),
            (settings.budget, Wishes::default())
        );
    }
}
