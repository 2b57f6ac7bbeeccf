//! What the services do, and telling them what to do; mirror and link by names of their own.

use axum::Json;
use axum::extract::{Path, State};
use common::chassis::now_ms;
use common::control;
use common::schemas::{Desired, ServiceControl};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Site;
use super::input::{By, Input, Params, name, words};
use crate::app::{App, Kind};
use crate::logs::InstanceLogs;
use crate::problem::{Problem, ProblemBody, Result};
use crate::services::desired;
use crate::sign_in::Identity;
use crate::view::Service;

/// The site's services.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ServicesView {
    services: Vec<Service>,
}

/// Lists the services' instances.
#[utoipa::path(get, path = "/api/services", responses((status = 200, body = ServicesView)))]
pub(crate) async fn list(State(app): Site) -> Json<ServicesView> {
    Json(ServicesView {
        services: app.services.list(None, now_ms()),
    })
}

/// What to show of a log.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogsQuery {
    /// At most so many lines of each instance, the last ones; 200 unless told, which is also the most there are.
    limit: Option<usize>,
}

/// A service's last log lines.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LogsView {
    service: String,
    /// The instance that spoke last comes first.
    instances: Vec<InstanceLogs>,
}

/// Shows the last log lines of a service, as it passed them on: at most every two seconds, at most 32 KiB.
#[utoipa::path(get, path = "/api/services/{name}/logs", params(("name" = String, Path), LogsQuery),
    responses((status = 200, body = LogsView), (status = 400, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub(crate) async fn logs(
    State(app): Site,
    Path(service): Path<String>,
    Params(query): Params<LogsQuery>,
) -> Result<Json<LogsView>> {
    let instances = app.logs.of(&service, query.limit.unwrap_or(usize::MAX));
    if instances.is_empty() {
        known(&app, &service)?;
    }
    Ok(Json(LogsView { service, instances }))
}

/// How a service should work.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Command {
    /// What it should log, as debug or feed=trace; as its settings say when left out.
    log_level: Option<String>,
    /// Who says so; counts from the command line alone.
    by: Option<String>,
}

/// What a service was told.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CommandView {
    service: String,
    desired: &'static str,
    log_level: Option<String>,
}

/// Refuses a name that no service of this site has.
fn known(app: &App, service: &str) -> Result<()> {
    let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if service.is_empty() || service.len() > 40 || !service.bytes().all(valid) {
        return Err(Problem::not_found(format!(
            "{service:?} is no service's name: lower-case letters, digits, dashes"
        )));
    }
    if app.services.list(Some(service), now_ms()).is_empty() && app.services.told(service).is_none() {
        return Err(Problem::not_found(format!(
            "{} has no service {service} that ever reported",
            app.site
        ))
        .hint("GET /api/services lists those that did"));
    }
    Ok(())
}

async fn tell(
    app: &App,
    identity: &Identity,
    service: &str,
    what: Desired,
    command: Command,
) -> Result<Json<CommandView>> {
    known(app, service)?;
    if service == "viewer" && what == Desired::Paused {
        return Err(Problem::conflict(
            "viewer cannot be told to pause: nobody could tell it to go on",
        ));
    }
    let log_level = command
        .log_level
        .as_ref()
        .map(|level| words("log_level", level))
        .transpose()?;
    let order = ServiceControl {
        service: service.to_owned(),
        desired: what,
        log_level: log_level.clone(),
        asked_by: Some(identity.by(name("by", command.by.as_ref())?)),
        asked_at: now_ms(),
    };
    control::order(&app.broker, &order).await?;
    Ok(Json(CommandView {
        service: service.to_owned(),
        desired: desired(what),
        log_level,
    }))
}

/// Lets a service work.
#[utoipa::path(post, path = "/api/services/{name}/start", params(("name" = String, Path)), request_body = Command,
    responses((status = 200, body = CommandView), (status = 404, body = ProblemBody)))]
pub(crate) async fn start(
    State(app): Site,
    identity: Identity,
    Path(service): Path<String>,
    Input(command): Input<Command>,
) -> Result<Json<CommandView>> {
    tell(&app, &identity, &service, Desired::Running, command).await
}

/// Lets a service finish what it holds, and wait.
#[utoipa::path(post, path = "/api/services/{name}/stop", params(("name" = String, Path)), request_body = Command,
    responses((status = 200, body = CommandView), (status = 404, body = ProblemBody)))]
pub(crate) async fn stop(
    State(app): Site,
    identity: Identity,
    Path(service): Path<String>,
    Input(command): Input<Command>,
) -> Result<Json<CommandView>> {
    tell(&app, &identity, &service, Desired::Paused, command).await
}

/// What a service should log.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogLevel {
    /// As debug or feed=trace; as its settings say when left out.
    level: Option<String>,
    /// Who says so; counts from the command line alone.
    by: Option<String>,
}

/// Sets what a service logs. It goes on, or stays paused, as it is.
#[utoipa::path(post, path = "/api/services/{name}/log-level", params(("name" = String, Path)), request_body = LogLevel,
    responses((status = 200, body = CommandView), (status = 400, body = ProblemBody), (status = 404, body = ProblemBody),
        (status = 409, body = ProblemBody)))]
pub(crate) async fn log_level(
    State(app): Site,
    identity: Identity,
    Path(service): Path<String>,
    Input(level): Input<LogLevel>,
) -> Result<Json<CommandView>> {
    let paused = |service: &Service| matches!(service.reported_state, "paused" | "draining");
    let desired = match app.services.desired(&service) {
        Some(told) => told,
        // A service that nobody told anything does what it does by itself.
        None if app.services.list(Some(&service), now_ms()).iter().any(paused) => Desired::Paused,
        None => Desired::Running,
    };
    let command = Command {
        log_level: level.level,
        by: level.by,
    };
    tell(&app, &identity, &service, desired, command).await
}

async fn edge_tell(
    app: &App,
    identity: &Identity,
    service: &str,
    what: Desired,
    by: By,
) -> Result<Json<CommandView>> {
    app.only(Kind::Edge)?;
    tell(
        app,
        identity,
        service,
        what,
        Command {
            log_level: None,
            by: by.by,
        },
    )
    .await
}

/// Lets the mirror fetch what is ready (edge).
#[utoipa::path(post, path = "/api/mirror/start", request_body = By, responses((status = 200, body = CommandView)))]
pub(crate) async fn mirror_start(
    State(app): Site,
    identity: Identity,
    Input(by): Input<By>,
) -> Result<Json<CommandView>> {
    edge_tell(&app, &identity, "mirror", Desired::Running, by).await
}

/// Stops the mirror after the chunks in hand (edge).
#[utoipa::path(post, path = "/api/mirror/stop", request_body = By, responses((status = 200, body = CommandView)))]
pub(crate) async fn mirror_stop(
    State(app): Site,
    identity: Identity,
    Input(by): Input<By>,
) -> Result<Json<CommandView>> {
    edge_tell(&app, &identity, "mirror", Desired::Paused, by).await
}

/// Carries nothing until resumed (edge).
#[utoipa::path(post, path = "/api/link/pause", request_body = By, responses((status = 200, body = CommandView)))]
pub(crate) async fn link_pause(
    State(app): Site,
    identity: Identity,
    Input(by): Input<By>,
) -> Result<Json<CommandView>> {
    edge_tell(&app, &identity, "link", Desired::Paused, by).await
}

/// Carries again (edge).
#[utoipa::path(post, path = "/api/link/resume", request_body = By, responses((status = 200, body = CommandView)))]
pub(crate) async fn link_resume(
    State(app): Site,
    identity: Identity,
    Input(by): Input<By>,
) -> Result<Json<CommandView>> {
    edge_tell(&app, &identity, "link", Desired::Running, by).await
}
