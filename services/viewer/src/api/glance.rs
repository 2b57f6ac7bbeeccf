//! The mirror and the link at a glance.

use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use common::chassis::now_ms;
use common::schemas::{Desired, ServiceControl};
use serde::Serialize;
use utoipa::ToSchema;

use super::Site;
use super::link::LimitsView;
use crate::app::{App, Kind};
use crate::problem::{ProblemBody, Result};
use crate::services::desired;
use crate::view::Service;

/// How long ago the other side may have answered while the link counts as up: with nothing to say for a while it asks once in
/// two minutes, and waits 20 s for a late answer. With less an idle link would be told down, and up again by the telling.
pub(crate) const CONTACT_MS: i64 = 150_000;
/// What to do about a link whose process has ended: nothing on the page starts one.
const START: &str = "start link on its machine; its last log lines are under Services";

/// Assets, and the bytes of them.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(crate) struct SumView {
    assets: usize,
    bytes: i64,
}

/// The mirror at a glance.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct MirrorView {
    desired: Option<&'static str>,
    instances: Vec<Service>,
    /// What can be fetched.
    ready: SumView,
    /// What is here.
    mirrored: SumView,
    /// When somebody last changed the order of the queue; null where nobody has since the viewer started.
    ordered_at: Option<i64>,
}

fn sum(app: &App, state: &str, now: i64) -> SumView {
    let sum = app.index.sum(state, now);
    SumView {
        assets: sum.assets,
        bytes: sum.bytes,
    }
}

fn told(app: &App, service: &str) -> Option<&'static str> {
    app.services.desired(service).map(desired)
}

impl MirrorView {
    pub(crate) fn of(app: &App, now: i64) -> Self {
        Self {
            desired: told(app, "mirror"),
            instances: app.services.list(Some("mirror"), now),
            ready: sum(app, "ready", now),
            mirrored: sum(app, "mirrored", now),
            ordered_at: Some(app.ordered_at.load(Ordering::Relaxed)).filter(|at| *at > 0),
        }
    }

    /// What a reader sees change.
    pub(crate) fn seen(&self) -> Self {
        Self {
            instances: self.instances.iter().map(Service::seen).collect(),
            ..self.clone()
        }
    }
}

/// Says how far the mirror is (edge).
#[utoipa::path(get, path = "/api/mirror", responses((status = 200, body = MirrorView), (status = 404, body = ProblemBody)))]
pub(crate) async fn mirror(State(app): Site) -> Result<Json<MirrorView>> {
    app.only(Kind::Edge)?;
    app.indexed().await?;
    Ok(Json(MirrorView::of(&app, now_ms())))
}

/// Records that wait to be carried.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(crate) struct LagView {
    /// From the core; null when that is not known.
    down: Option<f64>,
    /// To the core.
    up: Option<f64>,
}

impl LagView {
    /// Both ways, as far as it is known.
    pub(crate) fn records(&self) -> Option<f64> {
        let known = [self.down, self.up].into_iter().flatten();
        known.reduce(|sum, lag| sum + lag)
    }
}

/// How far this site's clock and the core's are apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub(crate) struct ClockView {
    /// By how many milliseconds this site's is ahead; behind is less than zero.
    ahead_ms: f64,
    /// How far that may be wrong, either way.
    within_ms: f64,
}

/// The link at a glance.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct LinkView {
    /// up, down, paused, or not_connected where this site has no enrolment yet.
    state: &'static str,
    /// When both sides last answered, to this run of link or to one before.
    last_contact_at: Option<i64>,
    /// Since when it carries nothing; null when it is up, or was never up.
    down_since: Option<i64>,
    /// As of the last contact.
    pub(crate) lag: LagView,
    /// Null before something was carried to a core on Kafka.
    clock: Option<ClockView>,
    /// What is wrong; null when it is up.
    why: Option<String>,
    /// What to do about it.
    remedy: Option<&'static str>,
    desired: Option<&'static str>,
    /// Gauges `lag_records_down`, `lag_records_up` and `last_contact_at`; counters `carried_down`, `carried_up`, `lost`
    /// and `refused`.
    instances: Vec<Service>,
    /// What it may use, and what it used.
    limits: LimitsView,
}

impl LinkView {
    /// What a reader sees change.
    pub(crate) fn seen(&self) -> Self {
        Self {
            instances: self.instances.iter().map(Service::seen).collect(),
            limits: self.limits.seen(),
            ..self.clone()
        }
    }

    pub(crate) fn of(app: &App, now: i64) -> Self {
        let instances = app.services.list(Some("link"), now);
        let mut limits = LimitsView::of(app, &instances);
        let busiest = app.history.busiest();
        limits.busiest_bytes_per_second = busiest.map(|busiest| busiest.bytes_per_second.round());
        Self {
            limits,
            ..Self::from(instances, app.services.told("link").as_ref(), now)
                .remembering(app.history.contact())
        }
    }

    /// Whether it has reached a core, now or before it started anew.
    pub(crate) fn connected(&self) -> bool {
        self.state != "not_connected" && self.last_contact_at.is_some()
    }

    /// With what an earlier run of link knew.
    fn remembering(mut self, contact: Option<i64>) -> Self {
        self.last_contact_at = self.last_contact_at.max(contact);
        self.down_since = self.last_contact_at.filter(|_| self.state != "up");
        self
    }

    fn from(instances: Vec<Service>, told: Option<&ServiceControl>, now: i64) -> Self {
        let gauge = |name: &str| {
            let newest = instances
                .iter()
                .filter(|service| service.gauges.contains_key(name))
                .max_by_key(|service| service.reported_at)?;
            newest.gauges.get(name).copied()
        };
        #[expect(clippy::cast_possible_truncation, reason = "milliseconds since 1970")]
        let last_contact_at = gauge("last_contact_at").map(|at| at as i64);
        // An instance that is gone says nothing of the one that works.
        let rank = |service: &&Service| (service.state == "running", service.reported_at);
        let (state, why, remedy) = match instances.iter().max_by_key(rank) {
            None => ("down", Some("link has never reported".to_owned()), Some(START)),
            Some(service) => said(service, told, last_contact_at, now),
        };
        let down = state != "up";
        Self {
            state,
            last_contact_at,
            down_since: last_contact_at.filter(|_| down),
            lag: LagView {
                down: gauge("lag_records_down"),
                up: gauge("lag_records_up"),
            },
            clock: gauge("clock_skew_ms").map(|ahead_ms| ClockView {
                ahead_ms,
                within_ms: gauge("clock_skew_within_ms").unwrap_or_default(),
            }),
            why,
            remedy,
            desired: told.map(|told| desired(told.desired)),
            instances,
            limits: LimitsView::default(),
        }
    }
}

type Said = (&'static str, Option<String>, Option<&'static str>);

fn said(service: &Service, told: Option<&ServiceControl>, last_contact_at: Option<i64>, now: i64) -> Said {
    let error = || service.last_error.clone();
    let by = || {
        told.filter(|told| told.desired == Desired::Paused)?
            .asked_by
            .clone()
    };
    let detail = service.detail.clone();
    match service.state {
        "paused" | "draining" => (
            "paused",
            Some(format!(
                "nothing crosses since {} paused it",
                by().as_deref().unwrap_or("somebody")
            )),
            Some("resume it when records are to cross again; nothing is lost meanwhile"),
        ),
        "waiting"
            if detail
                .as_deref()
                .is_some_and(|why| why.starts_with("not connected")) =>
        {
            (
                "not_connected",
                detail,
                Some("an operator connects this site under Set-up"),
            )
        }
        "waiting" => (
            "down",
            detail
                .or_else(error)
                .or_else(|| Some("it does not say why".to_owned())),
            Some("it goes on by itself as soon as it can; nothing is lost"),
        ),
        "running" if last_contact_at.is_some_and(|at| now - at < CONTACT_MS) => ("up", None, None),
        "running" if last_contact_at.is_none() && now - service.started_at < CONTACT_MS => (
            "down",
            Some("it has just started, and has not heard from the core yet".to_owned()),
            Some("wait a moment"),
        ),
        "running" => (
            "down",
            error().or_else(|| Some("the core does not answer".to_owned())),
            Some("it goes on by itself when the core can be reached; nothing is lost"),
        ),
        "silent" => ("down", Some("link says nothing any more".to_owned()), Some(START)),
        _ => (
            "down",
            detail
                .or_else(error)
                .or_else(|| Some(format!("link is {}", service.state))),
            Some(START),
        ),
    }
}

/// Says how the link is (edge).
#[utoipa::path(get, path = "/api/link", responses((status = 200, body = LinkView), (status = 404, body = ProblemBody)))]
pub(crate) async fn link(State(app): Site) -> Result<Json<LinkView>> {
    app.only(Kind::Edge)?;
    Ok(Json(LinkView::of(&app, now_ms())))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn link(state: &'static str, detail: Option<&str>, contact: Option<i64>) -> LinkView {
        let service = Service {
            service: "link".into(),
            instance: "0".into(),
            state,
            reported_state: state,
            detail: detail.map(str::to_owned),
            last_error: None,
            last_error_at: None,
            started_at: 0,
            reported_at: 0,
            version: "1".into(),
            counters: BTreeMap::new(),
            #[expect(clippy::cast_precision_loss, reason = "a test")]
            gauges: contact
                .map(|at| ("last_contact_at".to_owned(), at as f64))
                .into_iter()
                .collect(),
            desired: None,
            log_level: None,
            rate: None,
            lag: None,
            dead_letters: 0,
            uptime_s: None,
        };
        LinkView::from(vec![service], None, 200_000)
    }

    #[test]
    fn link_is_up_only_while_the_core_answers_and_says_since_when_it_is_not() {
        // As long as an idle one asks once.
        let up = link("running", None, Some(80_000));
        assert_eq!((up.state, up.down_since, up.why), ("up", None, None));
        let down = link("running", None, Some(5_000));
        assert_eq!((down.state, down.down_since), ("down", Some(5_000)));
        assert!(down.why.is_some() && down.remedy.is_some());
        let paused = link("paused", None, Some(90_000));
        assert_eq!(
            (paused.state, paused.why.as_deref()),
            ("paused", Some("nothing crosses since somebody paused it"))
        );
        let told = ServiceControl {
            service: "link".into(),
            desired: Desired::Paused,
            log_level: None,
            asked_by: Some("kim".into()),
            asked_at: 0,
        };
        let paused = LinkView::from(paused.instances, Some(&told), 100_000);
        assert_eq!(paused.why.as_deref(), Some("nothing crosses since kim paused it"));
        assert_eq!(paused.desired, Some("paused"));
        assert_eq!(link("silent", None, Some(90_000)).state, "down");
        assert_eq!(
            link("waiting", Some("not connected: …"), None).state,
            "not_connected"
        );
        assert_eq!(LinkView::from(Vec::new(), None, 0).state, "down");
    }

    #[test]
    fn a_link_that_started_again_knows_of_the_contact_before_and_is_not_up_by_it() {
        let again = link("running", None, None).remembering(Some(99_000));
        assert_eq!(
            (again.state, again.last_contact_at, again.down_since),
            ("down", Some(99_000), Some(99_000))
        );
        assert!(again.connected());
        let up = link("running", None, Some(99_500)).remembering(Some(99_000));
        assert_eq!(
            (up.state, up.last_contact_at, up.down_since),
            ("up", Some(99_500), None)
        );
    }
}
