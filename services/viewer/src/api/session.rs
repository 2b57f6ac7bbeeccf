//! Signing in and out, and who one is.

use std::net::IpAddr;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use common::chassis::VERSION;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Site;
use super::input::Input;
use crate::app::{App, Kind};
use crate::audit::{self, Deed};
use crate::problem::{Problem, ProblemBody, Result};
use crate::sign_in::{self, Identity, Mode, Origin, Right, Role, Ticket, Via};

/// Who one is, and what one may do here.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionView {
    /// Null before the sign-in.
    user: Option<String>,
    role: Option<Role>,
    /// users: people sign in; off: everybody is operator.
    sign_in: Mode,
    site: String,
    kind: Kind,
    version: &'static str,
    /// Of request, mirror, link, evict, withdraw, services, dead_letters, topics, sites, users, set_up, audit.
    rights: Vec<&'static str>,
}

fn view(app: &App, who: Option<(String, Role)>) -> SessionView {
    let rights = who.as_ref().map(|(_, role)| Right::of(*role, app.kind));
    let (user, role) = who.unzip();
    SessionView {
        user,
        role,
        sign_in: app.sign_in.mode,
        site: app.site.to_string(),
        kind: app.kind,
        version: VERSION,
        rights: rights.unwrap_or_default(),
    }
}

/// Says who one is; also to those who have not signed in.
#[utoipa::path(get, path = "/api/session", responses((status = 200, body = SessionView)))]
pub(crate) async fn show(State(app): Site, identity: Result<Identity>) -> Json<SessionView> {
    let who = identity.ok().map(|identity| (identity.user, identity.role));
    Json(view(&app, who))
}

/// A name with its password, or a one-time link's secret.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Credentials {
    user: Option<String>,
    password: Option<String>,
    ticket: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

type Signed = ([(HeaderName, HeaderValue); 1], Json<SessionView>);

fn cookie(app: &App, secret: Option<&str>, origin: Origin) -> Result<[(HeaderName, HeaderValue); 1]> {
    let text = app.sign_in.cookie(secret, origin);
    let value = HeaderValue::from_str(&text)
        .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the session is no header"))?;
    Ok([(header::SET_COOKIE, value)])
}

/// Signs in.
#[utoipa::path(post, path = "/api/session", request_body = Credentials,
    responses((status = 200, body = SessionView), (status = 401, body = ProblemBody), (status = 429, body = ProblemBody)))]
pub(crate) async fn sign_in(
    State(app): Site,
    origin: Origin,
    Input(given): Input<Credentials>,
) -> Result<Signed> {
    let address = origin.address;
    let user = given.user.as_deref();
    let kept = app
        .sign_in
        .throttle
        .admit(user, &address.to_string(), Instant::now());
    kept.map_err(|wait| {
        let seconds = wait.as_secs().saturating_add(1);
        Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            format!("too many sign-ins have failed; the next may be tried in {seconds} s"),
        )
        .retry_after(seconds)
    })?;
    let ticket = match verified(&app, &given).await {
        Ok(ticket) => ticket,
        Err(problem) => {
            let deed = deed(given.user, None, address, given.ticket.is_some());
            audit::stranger(&app, deed, &problem).await;
            return Err(problem);
        }
    };
    app.sign_in.throttle.succeeded(user, &address.to_string());
    let by_link = given.ticket.is_some();
    let deed = deed(Some(ticket.user.clone()), Some(ticket.role), address, by_link);
    let entry = audit::begin(&app, deed).await?;
    let begun = sign_in::begin(&app, &ticket).await;
    let outcome = match &begun {
        Ok(_) => "done".to_owned(),
        Err(error) => format!("failed: {error}"),
    };
    audit::finish(&app, entry, &outcome).await;
    let secret = begun?;
    tracing::info!(user = %ticket.user, %address, "signed in");
    Ok((
        cookie(&app, Some(&secret), origin)?,
        Json(view(&app, Some((ticket.user, ticket.role)))),
    ))
}

fn deed(user: Option<String>, role: Option<Role>, address: IpAddr, by_link: bool) -> Deed {
    Deed {
        user,
        role,
        address,
        action: "session.sign_in",
        target: None,
        detail: by_link.then(|| "one-time link".to_owned()),
    }
}

async fn verified(app: &App, given: &Credentials) -> Result<Ticket> {
    match (&given.user, &given.password, &given.ticket) {
        (Some(user), Some(password), None) => {
            let user = sign_in::verified(app, user, password).await?;
            Ok(Ticket {
                user: user.name,
                role: user.role,
                local: true,
            })
        }
        (None, None, Some(ticket)) => app.sign_in.tickets.take(ticket, Instant::now()).ok_or_else(|| {
            Problem::new(StatusCode::UNAUTHORIZED, "this link is used up, or too old")
                .hint("`fieldline sign-in` prints a new one")
        }),
        _ => Err(Problem::bad_request("give user and password, or ticket alone")),
    }
}

/// Signs out: the session ends at once.
#[utoipa::path(delete, path = "/api/session",
    responses((status = 200, body = SessionView), (status = 401, body = ProblemBody)))]
pub(crate) async fn sign_out(State(app): Site, identity: Identity, origin: Origin) -> Result<Signed> {
    if let Via::Session(digest) = &identity.via {
        sign_in::end(&app, digest).await?;
    }
    Ok((cookie(&app, None, origin)?, Json(view(&app, None))))
}
