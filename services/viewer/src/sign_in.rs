//! Who a caller is, and what they may do.
//!
//! There are three ways to be somebody: a session, which a password or a one-time link begins; the content of the token
//! file, which is the operator `command line`; and `sign_in = "off"`, where everybody is the operator `anyone`. Secrets are
//! kept as digests only. A session ends after twelve hours, with its sign-out, and with every change of its user.

mod address;
mod admit;
mod password;
mod role;
mod rules;
mod secret;
mod sessions;
mod throttle;
mod tickets;
mod token;
mod users;

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use common::schemas::SiteId;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::problem::{Problem, Result};
use crate::settings::Settings;

pub(crate) use address::{Origin, Proxies};
pub(crate) use admit::check;
pub(crate) use password::{Passwords, check as check_password};
pub(crate) use role::{Right, Role};
pub(crate) use sessions::{LIFETIME as SESSION_LIFETIME, Sessions, begin, end};
pub(crate) use throttle::Throttle;
pub(crate) use tickets::{LIFETIME as TICKET_LIFETIME, Ticket, Tickets};
pub use token::token;
pub(crate) use users::{
    Change as UserChange, User, Users, add as add_user, get as user, list as users, name as user_name,
    remove as remove_user, set as set_user, verified,
};

/// The bearer of the token file's content.
pub(crate) const COMMAND_LINE: &str = "command line";
/// Everybody, where nobody signs in.
pub(crate) const ANYONE: &str = "anyone";

/// How often a caller whose answer goes on is asked again.
pub(crate) const AGAIN: Duration = Duration::from_secs(15);

/// Whether callers have to say who they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Users sign in.
    #[default]
    Users,
    /// Everybody who can reach the address is operator.
    Off,
}

/// How a caller has shown who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Via {
    /// By a session, with its digest.
    Session(String),
    /// By the token file's content.
    Token,
    /// Not at all: nobody has to.
    Nothing,
}

/// Somebody who calls.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) user: String,
    pub(crate) role: Role,
    pub(crate) via: Via,
    /// Whether it is one of the site's users, who have passwords.
    pub(crate) local: bool,
}

impl Identity {
    /// The name that is kept with what was asked. The command line may speak for others; a person cannot.
    pub(crate) fn by(&self, stated: Option<String>) -> String {
        match self.via {
            Via::Token => stated.unwrap_or_else(|| self.user.clone()),
            Via::Session(_) | Via::Nothing => self.user.clone(),
        }
    }
}

/// Who calls, for a handler.
impl<S: Send + Sync> FromRequestParts<S> for Identity {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        parts.extensions.get::<Self>().cloned().ok_or_else(unknown)
    }
}

/// Where the call came from, for a handler.
impl<S: Send + Sync> FromRequestParts<S> for Origin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        parts.extensions.get::<Self>().copied().ok_or_else(unknown)
    }
}

/// Nobody has signed in.
fn unknown() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "this needs a sign-in").hint(
        "sign in on the page; `fieldline sign-in` prints a one-time link; scripts send the token file's content",
    )
}

/// All that is known of who may do what.
#[derive(Debug)]
pub(crate) struct SignIn {
    pub(crate) mode: Mode,
    pub(crate) passwords: Passwords,
    pub(crate) throttle: Throttle,
    pub(crate) tickets: Tickets,
    pub(crate) sessions: Sessions,
    pub(crate) users: Users,
    token: Option<blake3::Hash>,
    proxies: Proxies,
    /// Sites that share a host name must not share a cookie: browsers do not tell ports apart.
    cookie: String,
}

impl SignIn {
    /// Reads the token file, and makes it when it is missing.
    pub(crate) fn open(settings: &Settings, site: &SiteId) -> anyhow::Result<Self> {
        let token = settings.token_file.as_deref().map(token).transpose()?;
        Ok(Self {
            mode: settings.sign_in,
            passwords: Passwords::default(),
            throttle: Throttle::default(),
            tickets: Tickets::default(),
            sessions: Sessions::default(),
            users: Users::default(),
            token: token.as_deref().map(secret::digest),
            proxies: Proxies::parse(&settings.trusted_proxies).map_err(anyhow::Error::msg)?,
            cookie: format!("fieldline_session_{site}"),
        })
    }

    /// The cookie that gives a browser its session; without one it takes it away.
    pub(crate) fn cookie(&self, session: Option<&str>, origin: Origin) -> String {
        let age = session.map_or(0, |_| SESSION_LIFETIME.as_secs());
        let secure = if origin.encrypted { "; Secure" } else { "" };
        format!(
            "{}={}; HttpOnly; SameSite=Strict; Path=/; Max-Age={age}{secure}",
            self.cookie,
            session.unwrap_or_default()
        )
    }

    fn session<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        let cookies = headers.get_all(header::COOKIE).into_iter();
        cookies
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find_map(|(name, value)| (name == self.cookie && !value.is_empty()).then_some(value))
    }
}

/// Who sent these headers; none where nothing in them says so. A token that is wrong is an error, since whoever sends
/// one expects it to count.
pub(crate) async fn identify(app: &App, headers: &HeaderMap) -> Result<Option<Identity>> {
    let who = |user: &str, via| Identity {
        user: user.to_owned(),
        role: Role::Operator,
        via,
        local: false,
    };
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let given = value.to_str().ok().and_then(|text| text.strip_prefix("Bearer "));
        return match (given, &app.sign_in.token) {
            (Some(given), Some(token)) if secret::digest(given.trim()) == *token => {
                Ok(Some(who(COMMAND_LINE, Via::Token)))
            }
            _ => Err(
                Problem::new(StatusCode::UNAUTHORIZED, "the token is not this site's")
                    .hint("it is the content of viewer.token_file"),
            ),
        };
    }
    if app.sign_in.mode == Mode::Off {
        return Ok(Some(who(ANYONE, Via::Nothing)));
    }
    let Some(secret) = app.sign_in.session(headers) else {
        return Ok(None);
    };
    let session = sessions::find(app, secret).await?;
    Ok(session.map(|session| Identity {
        user: session.user,
        role: session.role,
        via: Via::Session(session.digest),
        local: session.local,
    }))
}

/// Whether a caller whose answer goes on is still somebody. An engine that is away for a moment ends no stream.
pub(crate) async fn stands(app: &App, headers: &HeaderMap) -> bool {
    !matches!(identify(app, headers).await, Ok(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_command_line_speaks_for_others() {
        let who = |via| Identity {
            user: "kim".into(),
            role: Role::Operator,
            via,
            local: false,
        };
        let by = Some("lee".to_owned());
        assert_eq!(who(Via::Token).by(by.clone()), "lee");
        assert_eq!(who(Via::Token).by(None), "kim");
        assert_eq!(who(Via::Session("d".into())).by(by), "kim");
    }

    #[test]
    fn a_session_is_found_by_its_own_sites_cookie_alone() {
        let site = "edge-1".parse().unwrap();
        let sign_in = SignIn::open(&Settings::default(), &site).unwrap();
        let mut headers = HeaderMap::new();
        headers.append("cookie", "fieldline_session_core=a; b=c".parse().unwrap());
        assert_eq!(sign_in.session(&headers), None);
        headers.append("cookie", "x=y; fieldline_session_edge-1=secret".parse().unwrap());
        assert_eq!(sign_in.session(&headers), Some("secret"));
        let origin = Origin {
            address: [127, 0, 0, 1].into(),
            encrypted: true,
        };
        assert_eq!(
            sign_in.cookie(Some("s"), origin),
            "fieldline_session_edge-1=s; HttpOnly; SameSite=Strict; Path=/; Max-Age=43200; Secure"
        );
    }
}
