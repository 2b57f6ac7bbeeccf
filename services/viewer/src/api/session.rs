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
use crate::sign_in::{self, Identity, Mode, Origin, Right, Role, Ticket, UserChange, Via, check_password};

/// Who one is, and what one may do here.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionView {
    /// Null before the sign-in.
    user: Option<String>,
    role: Option<Role>,
    /// Whether one has a password here, which one can change.
    has_password: bool,
    /// users: people sign in; off: everybody is operator.
    sign_in: Mode,
    site: String,
    kind: Kind,
    version: &'static str,
    /// Of request, mirror, link, evict, withdraw, services, dead_letters, topics, sites, users, set_up, audit.
    rights: Vec<&'static str>,
}

fn view(app: &App, who: Option<Ticket>) -> SessionView {
    let rights = who.as_ref().map(|who| Right::of(who.role, app.kind));
    SessionView {
        has_password: who.as_ref().is_some_and(|who| who.local),
        role: who.as_ref().map(|who| who.role),
        user: who.map(|who| who.user),
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
    let who = identity.ok().map(|identity| Ticket {
        user: identity.user,
        role: identity.role,
        local: identity.local,
    });
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
    admit(&app, user, address)?;
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
    let begun = sign_in::begin(&app, &ticket, 0).await;
    let outcome = match &begun {
        Ok(_) => "done".to_owned(),
        Err(error) => format!("failed: {error}"),
    };
    audit::finish(&app, entry, &outcome).await;
    let secret = begun?;
    tracing::info!(user = %ticket.user, %address, "signed in");
    Ok((
        cookie(&app, Some(&secret), origin)?,
        Json(view(&app, Some(ticket))),
    ))
}

/// Counts a try of a password, or refuses it: guessing is slow.
fn admit(app: &App, user: Option<&str>, address: IpAddr) -> Result<()> {
    let tried = app
        .sign_in
        .throttle
        .admit(user, &address.to_string(), Instant::now());
    tried.map_err(|wait| {
        let seconds = wait.as_secs().saturating_add(1);
        Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            format!("too many passwords were wrong; the next may be tried in {seconds} s"),
        )
        .retry_after(seconds)
    })
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

/// One's own password, and the next one.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPassword {
    /// The one that counts now.
    old_password: String,
    /// At least ten letters.
    password: String,
}

/// Changes one's own password. All other sessions of the user end; the caller's goes on under a new cookie.
#[utoipa::path(post, path = "/api/session/password", request_body = NewPassword,
    responses((status = 200, body = SessionView), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody),
        (status = 403, body = ProblemBody, description = "the old password is wrong, or another site's page could have sent this"),
        (status = 404, body = ProblemBody), (status = 409, body = ProblemBody), (status = 429, body = ProblemBody)))]
pub(crate) async fn password(
    State(app): Site,
    identity: Identity,
    origin: Origin,
    Input(given): Input<NewPassword>,
) -> Result<Signed> {
    let no_password = || {
        Problem::conflict(format!("{} has no password here", identity.user))
            .hint("an operator adds you as a user of this site")
    };
    check_password(&given.password)?;
    if given.password == given.old_password {
        return Err(Problem::bad_request("the new password is the old one"));
    }
    let user = match identity.local {
        true => sign_in::user(&app, &identity.user).await?,
        false => None,
    };
    let user = user.ok_or_else(no_password)?;
    // A session that somebody else holds is no way to guess.
    admit(&app, Some(&user.name), origin.address)?;
    let kept = Some(user.password_hash.as_str());
    if !app.sign_in.passwords.verify(&given.old_password, kept).await? {
        return Err(Problem::forbidden("the old password is wrong"));
    }
    app.sign_in
        .throttle
        .succeeded(Some(&user.name), &origin.address.to_string());
    let change = UserChange {
        password_hash: Some(app.sign_in.passwords.hash(&given.password).await?),
        unchanged_since: Some(user.changed_at),
        ..UserChange::default()
    };
    let user = sign_in::set_user(&app, &user.name, change).await?;
    let ticket = Ticket {
        user: user.name,
        role: user.role,
        local: true,
    };
    let secret = sign_in::begin(&app, &ticket, user.changed_at).await?;
    Ok((
        cookie(&app, Some(&secret), origin)?,
        Json(view(&app, Some(ticket))),
    ))
}
