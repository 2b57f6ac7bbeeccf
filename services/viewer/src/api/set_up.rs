//! Connecting an edge to its core.

use std::path::Path;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use common::broker::TopicSpec;
use common::chassis::{Secret, now_ms};
use common::identity::Details;
use common::schemas::{EDGE_TABLES, Topic};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{OwnedMutexGuard, mpsc};
use tracing::Instrument as _;
use utoipa::ToSchema;

use super::Site;
use super::glance::LinkView;
use super::input::Input;
use crate::app::{App, Kind};
use crate::problem::{Problem, ProblemBody, Result};
use crate::set_up::place::{self, Kept};
use crate::set_up::{self, Offer, Outcome, Step};

/// From when on it is said that a certificate ends soon.
const SOON_DAYS: i64 = 30;

/// Where the core is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CoreAddressView {
    /// Its broker.
    address: String,
    /// Its depot.
    depot: String,
}

/// Whether the site is connected.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SetUpView {
    site: String,
    /// Whether the site has what it needs to reach a core; the link's state says whether it does.
    connected: bool,
    /// Where an enrolment would be kept; null where this site's settings name its core themselves.
    place: Option<String>,
    /// As the enrolment says it; null without one.
    core: Option<CoreAddressView>,
    /// Since when that enrolment is here.
    since: Option<i64>,
    /// Until when its certificate is valid.
    certificate_ends_at: Option<i64>,
    /// What is wrong with it, or soon will be.
    problem: Option<String>,
}

fn ends(details: Option<Details>) -> (Option<i64>, Option<String>) {
    let Some(details) = details else {
        return (None, None);
    };
    let now = now_ms();
    let soon = details.days_left(now) < SOON_DAYS;
    let problem = soon.then(|| {
        format!(
            "this site's certificate {}; ask headquarters for a new enrolment",
            details.expiry(now)
        )
    });
    (Some(details.not_after), problem)
}

async fn view(app: &App) -> SetUpView {
    let link = LinkView::of(app, now_ms());
    let mut view = SetUpView {
        site: app.site.to_string(),
        connected: link.connected(),
        place: None,
        core: None,
        since: None,
        certificate_ends_at: None,
        problem: None,
    };
    let Some(path) = &app.settings.enrolment else {
        return view;
    };
    view.place = Some(path.display().to_string());
    match place::look(path, &app.site).await {
        Kept::Nothing => {}
        Kept::Unusable(problem) => {
            view.problem = Some(format!("{} cannot be used: {problem}", path.display()))
        }
        Kept::Enrolment(enrolment, since) => {
            view.connected = true;
            view.since = since;
            view.core = Some(CoreAddressView {
                address: enrolment.broker().to_string(),
                depot: enrolment.depot_url().to_owned(),
            });
            (view.certificate_ends_at, view.problem) = ends(enrolment.details().ok());
        }
    }
    view
}

/// Says whether the site is connected to a core (edge).
#[utoipa::path(get, path = "/api/set-up", responses((status = 200, body = SetUpView), (status = 404, body = ProblemBody)))]
pub(crate) async fn state(State(app): Site) -> Result<Json<SetUpView>> {
    app.only(Kind::Edge)?;
    Ok(Json(view(&app).await))
}

/// An enrolment to connect with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnrolmentInput {
    /// The document's text, as `fieldline site add --out` wrote it.
    #[schema(value_type = String)]
    enrolment: Secret,
    /// The core's broker as this site reaches it, instead of the document's.
    broker_url: Option<String>,
    /// The core's depot as this site reaches it, instead of the document's.
    depot_url: Option<String>,
}

impl EnrolmentInput {
    fn offer(&self) -> Offer<'_> {
        fn given(text: Option<&String>) -> Option<&str> {
            text.map(|text| text.trim()).filter(|text| !text.is_empty())
        }
        Offer {
            text: self.enrolment.expose(),
            broker_url: given(self.broker_url.as_ref()),
            depot_url: given(self.depot_url.as_ref()),
        }
    }
}

fn failure(steps: &[Step]) -> Option<&Step> {
    steps.iter().find(|step| step.state == Outcome::Failed)
}

fn busy() -> Problem {
    Problem::conflict("a set-up is being tested already").hint("wait for its end, half a minute at most")
}

/// Tries an enrolment step by step, and changes nothing (edge). Each step is told as it begins and as it ends, a JSON
/// object a line: step, target, state (running, passed, failed, skipped), detail, remedy. The steps towards broker and
/// depot are tried at the same time. The last line is `{"passed": true}`, or false where any step failed. Whoever leaves
/// ends the test.
#[utoipa::path(post, path = "/api/set-up/test", request_body = EnrolmentInput,
    responses((status = 200, description = "JSON lines", content_type = "application/x-ndjson"),
        (status = 400, body = ProblemBody), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody)))]
pub(crate) async fn test(State(app): Site, Input(given): Input<EnrolmentInput>) -> Result<Response> {
    app.only(Kind::Edge)?;
    let turn = app.setting_up.clone().try_lock_owned().map_err(|_| busy())?;
    let (tell, told) = mpsc::channel(set_up::MOST_TOLD);
    tokio::spawn(try_out(app, given, turn, tell).in_current_span());
    let body = Body::from_stream(stream::unfold(told, |mut told| async move {
        let line = told.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(line), told))
    }));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// A test, until its end, or until nobody waits for it any more.
async fn try_out(
    app: Arc<App>,
    given: EnrolmentInput,
    _turn: OwnedMutexGuard<()>,
    tell: mpsc::Sender<String>,
) {
    let said = |step: &Step| {
        let line = serde_json::to_string(step).unwrap_or_default();
        // There is room for all that a test says; who has left hears nothing.
        let _heard = tell.try_send(line + "\n");
    };
    let offer = given.offer();
    let test = Box::pin(set_up::test(&app.site, &offer, &said));
    let steps = tokio::select! {
        biased;
        () = tell.closed() => return,
        () = app.stop.cancelled() => return,
        (steps, _) = test => steps,
    };
    let passed = failure(&steps).is_none();
    let _heard = tell.try_send(json!({"passed": passed}).to_string() + "\n");
}

/// A site that is connected now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConnectedView {
    connected: bool,
    steps: Vec<Step>,
    /// The site's own topics that were missing.
    topics: Vec<String>,
    /// The site's own tables that were missing.
    tables: Vec<String>,
}

/// Tests an enrolment, makes what the site lacks, and keeps the enrolment; link and mirror take it up by themselves
/// (edge). An enrolment that fails its test is not kept.
#[utoipa::path(post, path = "/api/set-up/connect", request_body = EnrolmentInput,
    responses((status = 200, body = ConnectedView), (status = 400, body = ProblemBody), (status = 404, body = ProblemBody),
        (status = 409, body = ProblemBody)))]
pub(crate) async fn connect(
    State(app): Site,
    Input(given): Input<EnrolmentInput>,
) -> Result<Json<ConnectedView>> {
    app.only(Kind::Edge)?;
    let path = app.settings.enrolment.as_deref().ok_or_else(|| {
        Problem::conflict("this site's settings name no place for an enrolment")
            .hint("set enrolment = \"/path/site.enrolment\" in [common], and restart")
    })?;
    let _one_at_a_time = app.setting_up.try_lock().map_err(|_| busy())?;
    let (steps, enrolment) = Box::pin(set_up::test(&app.site, &given.offer(), &|_| ())).await;
    if let Some(failed) = failure(&steps) {
        let problem = Problem::conflict(failed.failure());
        return Err(match &failed.remedy {
            Some(remedy) => problem.hint(remedy),
            None => problem,
        });
    }
    let enrolment = enrolment.ok_or_else(|| Problem::conflict("the enrolment cannot be read"))?;
    let (topics, tables) = make(&app).await?;
    keep(path, enrolment).await?;
    tracing::info!(site = %app.site, "enrolment kept");
    Ok(Json(ConnectedView {
        connected: true,
        steps,
        topics,
        tables,
    }))
}

async fn keep(path: &Path, enrolment: common::identity::Enrolment) -> Result<()> {
    place::keep(path, enrolment).await.map_err(|problem| {
        Problem::conflict(format!("the enrolment cannot be kept: {problem}"))
            .hint("the viewer must be able to write to that directory")
    })
}

/// Makes what an edge needs and does not have.
async fn make(app: &App) -> Result<(Vec<String>, Vec<String>)> {
    let mut topics = Vec::new();
    for topic in Topic::edge(&app.site) {
        let spec = TopicSpec::of(&topic, app.settings.partitions, app.settings.replication);
        if app.broker.create_topic(&spec).await? {
            topics.push(topic.name);
        }
    }
    let tables = app.table.migrate(EDGE_TABLES).await?;
    Ok((topics, tables.into_iter().map(str::to_owned).collect()))
}
