//! Who may sign in, and one-time links that do it for them.

use std::time::Instant;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use common::chassis::now_ms;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Site;
use super::input::Input;
use crate::app::App;
use crate::problem::{Problem, ProblemBody, Result};
use crate::sign_in::{
    self, Identity, Role, TICKET_LIFETIME, Ticket, User, UserChange, Via, check_password, user_name,
};

/// A user.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UserView {
    name: String,
    role: Role,
    created_at: i64,
    /// When the name lost the right to sign in; null while it has it.
    disabled_at: Option<i64>,
}

impl From<User> for UserView {
    fn from(user: User) -> Self {
        Self {
            name: user.name,
            role: user.role,
            created_at: user.created_at,
            disabled_at: user.disabled_at,
        }
    }
}

/// The users.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsersView {
    users: Vec<UserView>,
}

/// Says that there are other users than before: who may read them reads them there.
#[derive(Debug, Serialize)]
struct News {
    at: i64,
}

fn tell(app: &App) {
    app.hub.publish("users", &News { at: now_ms() });
}

/// Lists the users.
#[utoipa::path(get, path = "/api/users",
    responses((status = 200, body = UsersView), (status = 403, body = ProblemBody)))]
pub(crate) async fn list(State(app): Site) -> Result<Json<UsersView>> {
    let users = sign_in::users(&app).await?;
    Ok(Json(UsersView {
        users: users.into_iter().map(UserView::from).collect(),
    }))
}

/// A user to add.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewUser {
    name: String,
    role: Role,
    /// At least ten letters.
    password: String,
}

/// Adds a user.
#[utoipa::path(post, path = "/api/users", request_body = NewUser,
    responses((status = 201, body = UserView), (status = 400, body = ProblemBody), (status = 409, body = ProblemBody),
        (status = 429, body = ProblemBody)))]
pub(crate) async fn add(
    State(app): Site,
    Input(new): Input<NewUser>,
) -> Result<(StatusCode, Json<UserView>)> {
    user_name(&new.name)?;
    check_password(&new.password)?;
    let now = now_ms();
    let user = User {
        password_hash: app.sign_in.passwords.hash(&new.password).await?,
        name: new.name,
        role: new.role,
        created_at: now,
        changed_at: now,
        disabled_at: None,
    };
    sign_in::add_user(&app, &user).await?;
    tell(&app);
    Ok((StatusCode::CREATED, Json(user.into())))
}

/// What to change of a user; what is left out stays.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct UserEdit {
    role: Option<Role>,
    /// At least ten letters.
    password: Option<String>,
    /// Whether the name loses the right to sign in.
    disabled: Option<bool>,
}

/// Changes a user, whose sessions end.
#[utoipa::path(post, path = "/api/users/{name}", params(("name" = String, Path)), request_body = UserEdit,
    responses((status = 200, body = UserView), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody),
        (status = 429, body = ProblemBody)))]
pub(crate) async fn set(
    State(app): Site,
    identity: Identity,
    Path(name): Path<String>,
    Input(edit): Input<UserEdit>,
) -> Result<Json<UserView>> {
    let loses = edit.disabled == Some(true) || edit.role.is_some_and(|role| role != identity.role);
    if loses {
        not_oneself(&identity, &name)?;
    }
    let password_hash = match &edit.password {
        Some(password) => {
            check_password(password)?;
            Some(app.sign_in.passwords.hash(password).await?)
        }
        None => None,
    };
    let change = UserChange {
        role: edit.role,
        password_hash,
        disabled: edit.disabled,
        unchanged_since: None,
        leaves_operator: identity.via != Via::Token,
    };
    let user = sign_in::set_user(&app, &name, change).await?;
    tell(&app);
    Ok(Json(user.into()))
}

/// A user who is gone.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RemovedView {
    name: String,
    deleted: bool,
}

/// Removes a user, whose sessions end.
#[utoipa::path(delete, path = "/api/users/{name}", params(("name" = String, Path)),
    responses((status = 200, body = RemovedView), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody)))]
pub(crate) async fn remove(
    State(app): Site,
    identity: Identity,
    Path(name): Path<String>,
) -> Result<Json<RemovedView>> {
    not_oneself(&identity, &name)?;
    sign_in::remove_user(&app, &name, identity.via != Via::Token).await?;
    tell(&app);
    Ok(Json(RemovedView { name, deleted: true }))
}

/// Keeps people from locking themselves out by a slip.
fn not_oneself(identity: &Identity, name: &str) -> Result<()> {
    if identity.user == name && matches!(identity.via, Via::Session(_)) {
        return Err(Problem::conflict("you cannot take this from yourself")
            .hint("ask another operator, or use the command line"));
    }
    Ok(())
}

/// Whom a one-time link signs in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewTicket {
    /// One of the users, or any other name for a guest.
    user: String,
    /// A user's own when left out; a guest needs one.
    role: Option<Role>,
    /// Keeps the link until its first use, instead of ten minutes; for the command line alone.
    #[serde(default)]
    until_used: bool,
}

/// A one-time link's secret.
#[derive(Serialize, ToSchema)]
pub(crate) struct TicketView {
    /// Belongs after `#/sign-in/` in the page's address.
    ticket: String,
    user: String,
    role: Role,
    /// Null when it lasts until its first use.
    expires_at: Option<i64>,
}

/// Makes a one-time link.
#[utoipa::path(post, path = "/api/tickets", request_body = NewTicket,
    responses((status = 201, body = TicketView), (status = 400, body = ProblemBody), (status = 409, body = ProblemBody)))]
pub(crate) async fn ticket(
    State(app): Site,
    identity: Identity,
    Input(new): Input<NewTicket>,
) -> Result<(StatusCode, Json<TicketView>)> {
    let user = user_name(&new.user)?.to_owned();
    let known = sign_in::user(&app, &user).await?;
    if known.as_ref().is_some_and(|known| known.disabled_at.is_some()) {
        return Err(Problem::conflict(format!("{user} may not sign in")));
    }
    let missing = || {
        Problem::bad_request(format!(
            "role is missing, and there is no user {user} who has one"
        ))
    };
    let role = new.role.or_else(|| known.as_ref().map(|known| known.role));
    let role = role.ok_or_else(missing)?;
    if new.until_used && identity.via != Via::Token {
        return Err(Problem::forbidden(
            "only the command line makes links without an end",
        ));
    }
    let lifetime = (!new.until_used).then_some(TICKET_LIFETIME);
    let ticket = Ticket {
        user: user.clone(),
        role,
        local: known.is_some(),
    };
    let text = app.sign_in.tickets.make(ticket, lifetime, Instant::now());
    let made = TicketView {
        ticket: text,
        user,
        role,
        expires_at: lifetime
            .map(|lifetime| now_ms().saturating_add(i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX))),
    };
    Ok((StatusCode::CREATED, Json(made)))
}
