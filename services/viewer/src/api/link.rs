//! The link's limits: how they stand, and setting them while it works.
//!
//! What is set here is kept in `service-control`, a record for each thing, and is in force again after a restart. What is
//! taken back is as the link's settings file says.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::State;
use common::budget::{self, Class};
use common::chassis::{ByteSize, now_ms};
use common::control;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::Site;
use super::input::{Input, name};
use crate::app::{App, Kind};
use crate::problem::{Problem, ProblemBody, Result};
use crate::sign_in::Identity;
use crate::view::Service;

/// More than anybody sets at once.
const MOST: usize = 50;
const HOLDS: [Option<&str>; 6] = [
    None,
    Some("outside the link's time windows"),
    Some("the link's bytes of this day are spent"),
    Some("the link's bytes of this month are spent"),
    Some("the link is metered and nobody has confirmed that this may cross"),
    Some("the link is paused"),
];

/// What was spent of a byte budget.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct SpentView {
    /// The budget; null when there is none.
    limit: Option<f64>,
    bytes: f64,
}

/// A class of what crosses.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct ClassView {
    class: &'static str,
    day_bytes: f64,
    month_bytes: f64,
    /// Why nothing of it may cross now; null when it may.
    held: Option<&'static str>,
    /// Until when, if that is known.
    held_until: Option<i64>,
}

/// A route.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct RouteView {
    name: String,
    /// up: to the core; down: from it; null where link does not say.
    direction: Option<&'static str>,
    paused: bool,
    /// Whether what comes in goes before what waits from an outage; null where that cannot be set.
    live_first: Option<bool>,
    /// What goes before it and after it; null where that cannot be set.
    class: Option<&'static str>,
    /// What waits, as far as it is known; bytes are estimated.
    lag_records: Option<f64>,
    lag_bytes: Option<f64>,
    /// How old the oldest is that waits, or the newest that was carried.
    lag_seconds: Option<f64>,
    /// How long it takes until none waits, at the rate of this minute; null while it does not get less.
    catch_up_seconds: Option<f64>,
    carried_records: Option<f64>,
    carried_bytes: Option<f64>,
}

/// What would be lost first if the core stayed away from now on.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct LossView {
    /// Of which topic; null where a full disk takes nothing more, of whichever.
    topic: Option<String>,
    hours: f64,
    /// age: records become older than the topic keeps them; size: the topic becomes larger; disk: the disk becomes full.
    by: &'static str,
}

/// How long this site's broker holds what the link has not carried, as records came in today.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct BufferView {
    /// Null when nothing would ever be lost, or it is not known yet.
    hours: Option<f64>,
    /// The first that go, the soonest first.
    first: Vec<LossView>,
}

impl BufferView {
    fn from(gauges: &BTreeMap<String, f64>) -> Self {
        let topic = |(name, hours): (&String, &f64)| {
            let topic = name.strip_prefix("buffer.")?.strip_suffix(".hours")?;
            let size = gauges.get(&format!("buffer.{topic}.by")) == Some(&1.0);
            Some(LossView {
                topic: Some(topic.to_owned()),
                hours: *hours,
                by: if size { "size" } else { "age" },
            })
        };
        let mut first: Vec<LossView> = gauges.iter().filter_map(topic).collect();
        first.extend(gauges.get("buffer_disk_hours").map(|hours| LossView {
            topic: None,
            hours: *hours,
            by: "disk",
        }));
        first.sort_by(|a, b| a.hours.total_cmp(&b.hours));
        Self {
            hours: gauges.get("buffer_hours").copied(),
            first,
        }
    }
}

/// Something that was set while the link worked.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct SetView {
    value: Value,
    by: Option<String>,
    at: i64,
}

/// The link's limits, and what they did.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(crate) struct LimitsView {
    /// Bytes per second; null when there is no cap, or link did not say.
    cap: Option<f64>,
    bytes_per_second: Option<f64>,
    /// Bytes per second in the busiest of the last hour's minutes in which the core answered, whole: a cap that is a little below
    /// what the line carries keeps classes in their order. Null where nothing is known.
    pub(super) busiest_bytes_per_second: Option<f64>,
    day: SpentView,
    month: SpentView,
    /// When it may be used, as "mon-fri 22:00-06:00"; always when there is none.
    windows: Vec<String>,
    /// The time zone of windows, days and months; null where link did not say.
    zone: Option<String>,
    /// What each lower class gets at least while a higher one could take everything, in percent.
    share: Option<f64>,
    /// Whether bulk waits until somebody allows it.
    metered: bool,
    /// How much of what was allowed has not crossed.
    allowed_bytes: Option<f64>,
    classes: Vec<ClassView>,
    routes: Vec<RouteView>,
    buffer: BufferView,
    /// Whether link forgets when it ends what was spent and allowed.
    #[serde(skip)]
    forgets: bool,
    /// When link said all this.
    as_of: Option<i64>,
    /// What is set above the settings file, by key: budget/cap, route/news, allow …
    set: BTreeMap<String, SetView>,
}

impl LimitsView {
    /// As the instance says that works, or the newest.
    pub(crate) fn of(app: &App, instances: &[Service]) -> Self {
        let rank = |service: &&Service| (service.state == "running", service.reported_at);
        let newest = instances.iter().max_by_key(rank);
        let mut view = newest
            .map(|service| Self::from(&service.gauges))
            .unwrap_or_default();
        view.as_of = newest.map(|service| service.reported_at);
        let set = app.services.set("link").into_iter();
        view.set = set
            .map(|(key, setting)| {
                let value = serde_json::from_str(&setting.value).unwrap_or(Value::String(setting.value));
                let (by, at) = (setting.asked_by, setting.asked_at);
                (key, SetView { value, by, at })
            })
            .collect();
        view
    }

    /// What may cross in a second, where there is a cap.
    pub(super) fn cap(&self) -> Option<f64> {
        self.cap.filter(|cap| *cap > 0.0)
    }

    /// Why something cannot be set, as far as link has told what it has.
    fn refuses(&self, set: &BTreeMap<String, Option<Value>>) -> Result<()> {
        let told = self.routes.iter().any(|route| route.direction.is_some());
        for (key, value) in set {
            if value.as_ref().is_none_or(Value::is_null) {
                continue;
            }
            if self.forgets && matches!(key.as_str(), "budget/per_day" | "budget/per_month" | "allow") {
                return Err(Problem::conflict(format!(
                    "{key}: what was spent and allowed would be forgotten when link ends; name a directory for it \
                     in the settings of this site's link: link.state"
                )));
            }
            // Of what waits behind, its route is told what to do.
            let own = |route: &&RouteView| route.direction.is_some() && !route.name.contains('.');
            let can = |route: &&RouteView| match key.split_once('/') {
                Some(("live_first", _)) => route.live_first.is_some(),
                Some(("class", _)) => route.class.is_some(),
                _ => true,
            };
            let named = key
                .split_once('/')
                .and_then(|(what, name)| matches!(what, "route" | "live_first" | "class").then_some(name));
            let names: Vec<&str> = self
                .routes
                .iter()
                .filter(own)
                .filter(can)
                .map(|route| &*route.name)
                .collect();
            let Some(name) = named.filter(|name| told && !names.contains(name)) else {
                continue;
            };
            return Err(Problem::bad_request(match &names[..] {
                [] => format!("{key}: this site has no route of its own for which that can be set"),
                names => format!(
                    "{key}: there is no route {name}; the routes are {}",
                    names.join(", ")
                ),
            }));
        }
        self.refuses_behind(set)
    }

    /// Whether what comes in would have to go first where everything goes behind.
    fn refuses_behind(&self, set: &BTreeMap<String, Option<Value>>) -> Result<()> {
        for route in &self.routes {
            let value = |what: &str| set.get(&format!("{what}/{}", route.name)).cloned().flatten();
            let (first, class) = (value("live_first"), value("class"));
            let is_first = first.as_ref().and_then(Value::as_bool).or(route.live_first);
            let is_class = class.as_ref().and_then(Value::as_str).or(route.class);
            let asked = first.is_some() || class.is_some();
            let is_class = is_class.and_then(|class| class.parse::<Class>().ok());
            // What waits goes behind, in class backlog.
            let behind = is_class.filter(|class| *class >= Class::Backlog);
            if let Some(class) = behind.filter(|_| asked && is_first == Some(true)) {
                return Err(Problem::conflict(format!(
                    "{}: what comes in cannot go first in class {class}; switch live_first off, or choose another class",
                    route.name
                )));
            }
        }
        Ok(())
    }

    /// What a reader sees change.
    pub(super) fn seen(&self) -> Self {
        Self {
            as_of: None,
            ..self.clone()
        }
    }

    fn from(gauges: &BTreeMap<String, f64>) -> Self {
        let gauge = |name: &str| gauges.get(name).copied();
        let named_by = |what: &'static str| gauges.keys().filter_map(move |name| name.strip_prefix(what));
        let class = |class: Class| {
            let of = |what: &str| gauge(&format!("class.{class}.{what}"));
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a small number, and milliseconds since 1970"
            )]
            let (held, until) = (
                of("held").unwrap_or_default() as usize,
                of("held_until").unwrap_or_default() as i64,
            );
            ClassView {
                class: class.name(),
                day_bytes: of("day_bytes").unwrap_or_default(),
                month_bytes: of("month_bytes").unwrap_or_default(),
                held: HOLDS.get(held).copied().flatten(),
                held_until: (until > 0).then_some(until),
            }
        };
        let names: BTreeSet<&str> = gauges
            .keys()
            .filter_map(|name| Some(name.strip_prefix("route.")?.rsplit_once('.')?.0))
            .collect();
        let route = |name: &&str| {
            let of = |what: &str| gauge(&format!("route.{name}.{what}"));
            RouteView {
                name: (*name).to_owned(),
                direction: gauge(&format!(
                    "route.{}.up",
                    name.strip_suffix(".backlog").unwrap_or(name)
                ))
                .map(|up| if up > 0.0 { "up" } else { "down" }),
                paused: of("paused").is_some_and(|paused| paused > 0.0),
                live_first: of("live_first").map(|first| first > 0.0),
                class: of("class").and_then(class_at),
                lag_records: of("lag_records"),
                lag_bytes: of("lag_bytes"),
                lag_seconds: of("lag_seconds"),
                catch_up_seconds: of("catch_up_seconds"),
                carried_records: of("carried_records"),
                carried_bytes: of("carried_bytes"),
            }
        };
        let spent = |span: &str| SpentView {
            limit: gauge(&format!("{span}_limit")),
            bytes: gauge(&format!("{span}_bytes")).unwrap_or_default(),
        };
        Self {
            cap: gauge("cap"),
            bytes_per_second: gauge("bytes_per_second"),
            busiest_bytes_per_second: None,
            day: spent("day"),
            month: spent("month"),
            windows: named_by("window.").map(str::to_owned).collect(),
            zone: named_by("zone.").next().map(str::to_owned),
            share: gauge("share"),
            metered: gauge("metered").is_some_and(|metered| metered > 0.0),
            allowed_bytes: gauge("allowed_bytes"),
            classes: Class::ALL.map(class).into(),
            routes: names.iter().map(route).collect(),
            buffer: BufferView::from(gauges),
            forgets: gauge("keeps_spent") == Some(0.0),
            as_of: None,
            set: BTreeMap::new(),
        }
    }
}

/// The class of a place in the order, which is how gauges tell it.
fn class_at(place: f64) -> Option<&'static str> {
    let mut classes = (0_u32..).zip(Class::ALL);
    classes
        .find(|(own, _)| f64::from(*own) == place)
        .map(|(_, class)| class.name())
}

/// What is to be set; all else stays as it is.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LinkSettings {
    /// Settings of `[link.budget]` by name, null for none: cap, windows, zone, per_day, per_month, reserve, metered, share.
    budget: BTreeMap<String, Value>,
    /// How many bytes of bulk may cross a metered link from now on, as "20MB".
    allow: Option<String>,
    /// Routes by name: paused or running.
    routes: BTreeMap<String, String>,
    /// Routes by name: whether what comes in goes before what waits from an outage, which goes to `<topic>.backlog`.
    live_first: BTreeMap<String, bool>,
    /// Routes of one's own by name: in which class they go, requests, responses, broadcasts, sensors, previews, backlog or
    /// assets; the first goes before all others.
    classes: BTreeMap<String, String>,
    /// How much of what is lost to the other site is known, as "records/ranges": it is remarked no more.
    lost: Option<String>,
    /// What is to be as the settings file says, by key: budget/cap, route/news, live_first/news, class/news …
    as_configured: Vec<String>,
    /// Who says so; counts from the command line alone.
    by: Option<String>,
}

/// What was set, by key; null is as the settings file says.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct LinkSet {
    set: BTreeMap<String, Option<Value>>,
}

fn named(key: &str) -> bool {
    let valid =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'/' | b'.');
    !key.is_empty() && key.len() <= 100 && key.bytes().all(valid)
}

fn checked(wanted: LinkSettings) -> std::result::Result<BTreeMap<String, Option<Value>>, String> {
    let mut set = BTreeMap::new();
    for key in wanted.as_configured {
        set.insert(key, None);
    }
    for (key, value) in wanted.budget {
        budget::Settings::default().with(&key, value.clone())?;
        set.insert(format!("budget/{key}"), Some(value));
    }
    for (route, state) in wanted.routes {
        if !matches!(state.as_str(), "paused" | "running") {
            return Err(format!("routes: {route} can be paused or running"));
        }
        set.insert(format!("route/{route}"), Some(state.into()));
    }
    for (route, first) in wanted.live_first {
        set.insert(format!("live_first/{route}"), Some(first.into()));
    }
    for (route, class) in wanted.classes {
        let class: Class = class
            .parse()
            .map_err(|problem| format!("classes: {route}: {problem}"))?;
        set.insert(format!("class/{route}"), Some(class.name().into()));
    }
    if let Some(allow) = wanted.allow {
        let bytes: ByteSize = allow.parse().map_err(|error| format!("allow: {error}"))?;
        set.insert("allow".to_owned(), Some(bytes.bytes().into()));
    }
    if let Some(lost) = wanted.lost {
        let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !lost
            .split_once('/')
            .is_some_and(|(records, ranges)| number(records) && number(ranges))
        {
            return Err("lost: records and ranges, as 20/3".to_owned());
        }
        set.insert("lost".to_owned(), Some(lost.into()));
    }
    if set.is_empty() || set.len() > MOST {
        return Err(format!(
            "name what is to be set: 1 to {MOST} of budget, routes, live_first, classes, allow, lost, as_configured"
        ));
    }
    match set.keys().find(|key| !named(key)) {
        Some(key) => Err(format!("{key:?} is nothing that can be set")),
        None => Ok(set),
    }
}

/// Sets the link's limits, which routes are paused, on which what comes in goes first, and in which class they go (edge).
#[utoipa::path(post, path = "/api/link", request_body = LinkSettings, responses((status = 200, body = LinkSet),
    (status = 400, body = ProblemBody), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody)))]
pub(crate) async fn set(
    State(app): Site,
    identity: Identity,
    Input(wanted): Input<LinkSettings>,
) -> Result<Json<LinkSet>> {
    app.only(Kind::Edge)?;
    let by = identity.by(name("by", wanted.by.as_ref())?);
    let set = checked(wanted).map_err(Problem::bad_request)?;
    LimitsView::of(&app, &app.services.list(Some("link"), now_ms())).refuses(&set)?;
    for (key, value) in &set {
        let value = value.as_ref().map(Value::to_string);
        control::set(&app.broker, "link", key, value, Some(&by)).await?;
    }
    Ok(Json(LinkSet { set }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(text: &str) -> std::result::Result<BTreeMap<String, Option<Value>>, String> {
        checked(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn what_is_set_is_checked_first() {
        let text = r#"{"budget": {"cap": "32KB", "per_day": null}, "allow": "20MB", "routes": {"news": "paused"}, "lost": "20/3",
            "live_first": {"news": true}, "classes": {"news": "previews"}, "as_configured": ["budget/share"]}"#;
        let set = wanted(text).unwrap();
        assert_eq!(set.len(), 8);
        assert_eq!(set["class/news"], Some("previews".into()));
        assert_eq!(set["live_first/news"], Some(true.into()));
        assert_eq!(set["allow"], Some(20_000_000.into()));
        assert_eq!(
            (&set["budget/per_day"], &set["budget/share"]),
            (&Some(Value::Null), &None)
        );
        for text in [
            "{}",
            r#"{"budget": {"cap": "fast"}}"#,
            r#"{"budget": {"speed": 1}}"#,
            r#"{"routes": {"news": "off"}}"#,
            r#"{"routes": {"NEWS": "paused"}}"#,
            r#"{"classes": {"news": "films"}}"#,
            r#"{"allow": "much"}"#,
            r#"{"lost": "20"}"#,
        ] {
            assert!(wanted(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_link_would_not_do_is_refused() {
        let gauges = |remembers: f64| {
            let gauges = [
                ("route.news.up", 0.0),
                ("route.news.live_first", 0.0),
                ("route.news.class", 3.0),
                ("route.ore.up", 1.0),
                ("route.ore.live_first", 1.0),
                ("route.ore.class", 4.0),
                ("route.news.backlog.lag_records", 7.0),
                ("route.requests.up", 1.0),
                ("keeps_spent", remembers),
            ];
            gauges.map(|(name, value)| (name.to_owned(), value)).into()
        };
        let said = |remembers: f64| LimitsView::from(&gauges(remembers));
        let detail = |view: &LimitsView, text: &str| {
            view.refuses(&wanted(text).unwrap())
                .err()
                .map(|problem| problem.to_string())
        };
        let limits = r#"{"budget": {"per_day": "5MB"}}"#;
        assert_eq!(detail(&said(1.0), limits), None);
        assert!(detail(&said(0.0), limits).unwrap().contains("link.state"));
        assert_eq!(
            detail(&LimitsView::default(), limits),
            None,
            "link has not said anything"
        );
        for text in [
            r#"{"budget": {"cap": "32KB", "metered": true, "per_month": null}}"#,
            r#"{"as_configured": ["budget/per_day", "route/old"]}"#,
            r#"{"routes": {"news": "paused"}, "live_first": {"news": true}, "classes": {"ore": "sensors"}}"#,
            r#"{"live_first": {"ore": false}, "classes": {"ore": "backlog", "news": "backlog"}}"#,
        ] {
            assert_eq!(detail(&said(0.0), text), None, "{text}");
        }
        for (text, can) in [
            (r#"{"routes": {"nws": "paused"}}"#, "news, ore, requests"),
            (r#"{"routes": {"news.backlog": "paused"}}"#, "news, ore, requests"),
            (r#"{"live_first": {"requests": true}}"#, "routes are news, ore"),
            (r#"{"classes": {"requests": "assets"}}"#, "routes are news, ore"),
            (r#"{"classes": {"ore": "assets"}}"#, "choose another class"),
            (
                r#"{"classes": {"news": "backlog"}, "live_first": {"news": true}}"#,
                "choose another class",
            ),
        ] {
            assert!(detail(&said(1.0), text).unwrap().ends_with(can), "{text}");
        }
    }

    #[test]
    fn gauges_become_classes_and_routes() {
        let gauges = [
            ("cap", 32_000.0),
            ("class.backlog.held", 4.0),
            ("class.sensors.day_bytes", 5.0),
            ("route.news.paused", 1.0),
            ("route.news.up", 0.0),
            ("route.readings.live_first", 1.0),
            ("route.readings.class", 3.0),
            ("window.mon-fri 22:00-06:00", 1.0),
            ("zone.Europe/Berlin", 1.0),
            ("share", 7.0),
            ("route.readings.backlog.lag_records", 7.0),
            ("route.readings.catch_up_seconds", 60.0),
            ("buffer_hours", 3.0),
            ("buffer_disk_hours", 9.0),
            ("buffer.edge.ore.hours", 3.0),
            ("buffer.edge.ore.by", 1.0),
            ("buffer.ASSET_REQUEST.hours", 720.0),
        ];
        let gauges = gauges.map(|(name, value)| (name.to_owned(), value)).into();
        let view = LimitsView::from(&gauges);
        assert_eq!(view.cap, Some(32_000.0));
        let held: Vec<_> = view.classes.iter().filter(|class| class.held.is_some()).collect();
        assert_eq!((held.len(), held[0].class), (1, "backlog"));
        assert_eq!(view.routes.len(), 3);
        assert!(view.routes[0].paused && view.routes[0].live_first.is_none());
        assert_eq!(view.routes[1].live_first, Some(true));
        assert_eq!(
            (view.routes[0].class, view.routes[1].class),
            (None, Some("sensors"))
        );
        assert_eq!(
            (&*view.windows, view.share),
            (&["mon-fri 22:00-06:00".to_owned()][..], Some(7.0))
        );
        assert_eq!(view.zone.as_deref(), Some("Europe/Berlin"));
        assert_eq!(view.routes[1].catch_up_seconds, Some(60.0));
        assert_eq!(view.routes[2].name, "readings.backlog");
        assert_eq!(view.routes[2].lag_records, Some(7.0));
        assert_eq!(view.buffer.hours, Some(3.0));
        let first: Vec<_> = view
            .buffer
            .first
            .iter()
            .map(|loss| (loss.topic.as_deref(), loss.by))
            .collect();
        assert_eq!(
            first,
            [
                (Some("edge.ore"), "size"),
                (None, "disk"),
                (Some("ASSET_REQUEST"), "age")
            ]
        );
    }
}
