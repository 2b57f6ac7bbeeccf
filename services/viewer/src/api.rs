//! The routes, and their description.
#![allow(
    unused_qualifications,
    reason = "utoipa's macro names types of the same module in full"
)]

mod assets;
mod audit;
mod commands;
mod content;
mod dead_letters;
mod description;
mod estimate;
mod events;
mod glance;
mod input;
mod link;
mod link_history;
mod queue;
mod records;
mod services;
mod session;
mod set_up;
mod site;
mod sites;
mod topics;
mod users;
mod volume;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use utoipa::OpenApi;

use crate::app::App;
use crate::guard;
use crate::problem::Problem;
use crate::sign_in;

pub(crate) use assets::view as asset_view;
pub(crate) use dead_letters::topics as dead_letter_topics;
use description::Everywhere;
pub(crate) use glance::{CONTACT_MS, LinkView, MirrorView};
pub(crate) use records::MAX_STREAMS;
pub(crate) use site::troubles;
pub(crate) use sites::edges;

/// The largest body of a change.
pub(crate) const BODY_BYTES: usize = 64 * 1024;

/// Where the state of each handler comes from.
pub(crate) type Site = axum::extract::State<Arc<App>>;

/// All routes, behind the guard.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let hosts: Arc<[String]> = app.settings.allowed_hosts.clone().into();
    Router::new()
        .route(
            "/api/session",
            get(session::show)
                .post(session::sign_in)
                .delete(session::sign_out),
        )
        .route("/api/session/password", post(session::password))
        .route("/api/users", get(users::list).post(users::add))
        .route("/api/users/{name}", post(users::set).delete(users::remove))
        .route("/api/tickets", post(users::ticket))
        .route("/api/audit", get(audit::list))
        .route("/api/site", get(site::site))
        .route("/api/status", get(site::status))
        .route("/api/openapi.json", get(|| async { Json(openapi()) }))
        .route("/api/events", get(events::events))
        .route("/api/lanes", get(events::lanes))
        .route("/api/volume", get(volume::volume))
        .route("/api/assets", get(assets::list))
        .route("/api/assets/{id}", get(assets::one))
        .route("/api/assets/{id}/preview", get(content::preview))
        .route("/api/assets/{id}/content", get(content::content))
        .route("/api/assets/{id}/request", post(commands::request))
        .route("/api/assets/{id}/cancel", post(commands::cancel))
        .route("/api/assets/{id}/evict", post(volume::evict))
        .route("/api/assets/{id}/pin", post(volume::pin))
        .route("/api/assets/{id}/unpin", post(volume::unpin))
        .route("/api/assets/{id}/order", post(queue::order))
        .route("/api/assets/{id}/withdraw", post(commands::withdraw))
        .route("/api/assets/{id}/expiry", post(commands::expiry))
        .route("/api/requests", get(sites::requests))
        .route("/api/services", get(services::list))
        .route("/api/services/{name}/logs", get(services::logs))
        .route("/api/services/{name}/start", post(services::start))
        .route("/api/services/{name}/stop", post(services::stop))
        .route("/api/services/{name}/log-level", post(services::log_level))
        .route("/api/mirror", get(glance::mirror))
        .route("/api/mirror/start", post(services::mirror_start))
        .route("/api/mirror/stop", post(services::mirror_stop))
        .route("/api/mirror/estimate", get(estimate::estimate))
        .route("/api/mirror/queue", get(queue::queue))
        .route("/api/link", get(glance::link).post(link::set))
        .route("/api/link/history", get(link_history::history))
        .route("/api/link/pause", post(services::link_pause))
        .route("/api/link/resume", post(services::link_resume))
        .route("/api/set-up", get(set_up::state))
        .route("/api/set-up/test", post(set_up::test))
        .route("/api/set-up/connect", post(set_up::connect))
        .route("/api/sites", get(sites::list).post(sites::enrol))
        .route("/api/sites/{site}/revoke", post(sites::revoke))
        .route("/api/topics", get(topics::list).post(topics::create))
        .route("/api/topics/{topic}", get(topics::one).delete(topics::delete))
        .route("/api/topics/{topic}/records", get(records::records))
        .route("/api/dead-letters", get(dead_letters::list))
        .route(
            "/api/dead-letters/{topic}/{partition}/{offset}/redrive",
            post(dead_letters::redrive),
        )
        .route("/", get(crate::page::index))
        .route("/page/{hash}/{*path}", get(crate::page::file))
        .fallback(|| async {
            Problem::not_found("there is nothing here").hint("GET /api/openapi.json lists all routes")
        })
        .method_not_allowed_fallback(|| async {
            Problem::new(
                axum::http::StatusCode::METHOD_NOT_ALLOWED,
                "this resource does not take that method",
            )
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(middleware::from_fn_with_state(app.clone(), sign_in::check))
        .layer(middleware::from_fn_with_state(hosts, guard::check))
        .with_state(app.clone())
}

/// The description of the API as an OpenAPI document.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Fieldline",
        description = "The API of one site. Changes need the header `x-fieldline: 1` and a JSON body."
    ),
    paths(
        session::show,
        session::sign_in,
        session::sign_out,
        session::password,
        users::list,
        users::add,
        users::set,
        users::remove,
        users::ticket,
        audit::list,
        site::site,
        site::status,
        events::events,
        events::lanes,
        volume::volume,
        volume::evict,
        volume::pin,
        volume::unpin,
        queue::order,
        queue::queue,
        services::log_level,
        assets::list,
        assets::one,
        content::preview,
        content::content,
        commands::request,
        commands::cancel,
        commands::withdraw,
        commands::expiry,
        services::list,
        services::logs,
        services::start,
        services::stop,
        glance::mirror,
        services::mirror_start,
        services::mirror_stop,
        estimate::estimate,
        glance::link,
        link::set,
        link_history::history,
        services::link_pause,
        services::link_resume,
        set_up::state,
        set_up::test,
        set_up::connect,
        sites::list,
        sites::enrol,
        sites::revoke,
        sites::requests,
        topics::list,
        topics::one,
        topics::create,
        topics::delete,
        records::records,
        dead_letters::list,
        dead_letters::redrive,
    ),
    components(schemas(crate::problem::ProblemBody)),
    modifiers(&Everywhere)
)]
struct Description;
