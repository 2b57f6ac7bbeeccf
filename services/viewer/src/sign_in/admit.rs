//! Lets a caller through to a route, or not, and writes down what they ask for: before it happens, and again when it
//! has.
//!
//! A change goes on when its caller has left, so that what is written down is what happened.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::rejection::RawPathParamsRejection::InvalidUtf8InPathParam;
use axum::extract::{ConnectInfo, FromRequestParts as _, MatchedPath, RawPathParams, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;

use super::role::Role;
use super::rules::{self, Needs};
use super::{Identity, Origin, identify, unknown};
use crate::api::BODY_BYTES;
use crate::app::App;
use crate::audit::{self, Deed};
use crate::problem::{Problem, Refusal, Result};

/// Checks each request to the API; the page's own files are for everybody.
pub(crate) async fn check(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let route = parts.extensions.get::<MatchedPath>().cloned();
    let route = route.as_ref().map(MatchedPath::as_str);
    let origin = origin(&app, &parts);
    parts.extensions.insert(origin);
    let inside = |path: &str| path == "/api" || path.starts_with("/api/");
    if !route.is_some_and(inside) && !inside(parts.uri.path()) {
        return next.run(Request::from_parts(parts, body)).await;
    }
    let rule = route.and_then(|route| rules::find(&parts.method, route));
    let needs = match (rule, route) {
        (Some(rule), _) => rule.needs,
        (None, Some(_)) => Needs::Operator,
        (None, None) => Needs::SignIn,
    };
    let identity = match identify(&app, &parts.headers).await {
        Ok(identity) => identity,
        Err(problem) => return refused(problem),
    };
    // Handlers read text from paths, and what axum answers where there is none is no problem document.
    let open = RawPathParams::from_request_parts(&mut parts, &()).await;
    if let (Some(_), Err(InvalidUtf8InPathParam(_))) = (&identity, open) {
        return refused(Problem::bad_request("the path is not UTF-8"));
    }
    let allowed = allowed(identity.as_ref(), needs);
    if let Some(identity) = &identity {
        parts.extensions.insert(identity.clone());
    }
    let Some(action) = rule.and_then(|rule| rule.action) else {
        return match allowed {
            Ok(()) => next.run(Request::from_parts(parts, body)).await,
            Err(problem) => refused(problem),
        };
    };
    let mut deed = Deed {
        user: identity.as_ref().map(|identity| identity.user.clone()),
        role: identity.as_ref().map(|identity| identity.role),
        address: origin.address,
        action,
        target: target(route.unwrap_or_default(), parts.uri.path()),
        detail: None,
    };
    if identity.is_none() {
        let problem = unknown();
        audit::stranger(&app, deed, &problem).await;
        return refused(problem);
    }
    let bytes = match to_bytes(body, BODY_BYTES).await {
        Ok(bytes) => bytes,
        Err(_) => {
            return refused(Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body is larger than {BODY_BYTES} bytes"),
            ));
        }
    };
    let (named, detail) = audit::told(&bytes);
    deed.target = deed.target.or(named);
    deed.detail = detail;
    if let Err(problem) = allowed {
        // What cannot be written down is told instead.
        let written = audit::refused(&app, deed, &problem).await;
        return refused(written.err().unwrap_or(problem));
    }
    let request = Request::from_parts(parts, Body::from(bytes));
    let work = async move {
        let entry = match audit::begin(&app, deed).await {
            Ok(entry) => entry,
            Err(problem) => return problem.into_response(),
        };
        let response = next.run(request).await;
        audit::finish(&app, entry, &outcome(&response)).await;
        response
    };
    let work = tokio::spawn(work.in_current_span());
    work.await.unwrap_or_else(|_| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the request broke off").into_response()
    })
}

fn origin(app: &App, parts: &Parts) -> Origin {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let peer = peer.map_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)), |peer| peer.0);
    app.sign_in.proxies.origin(peer, &parts.headers)
}

fn allowed(identity: Option<&Identity>, needs: Needs) -> Result<()> {
    let (identity, right) = match (identity, needs) {
        (_, Needs::Nothing) | (Some(_), Needs::SignIn) => return Ok(()),
        (None, _) => return Err(unknown()),
        (Some(identity), Needs::Operator) => (identity, None),
        (Some(identity), Needs::Right(right)) => (identity, Some(right)),
    };
    let role = identity.role;
    if role == Role::Operator || right.is_some_and(|right| role.has(right)) {
        return Ok(());
    }
    let roles = right.map_or_else(|| Role::Operator.as_str().to_owned(), |right| right.roles());
    Err(Problem::forbidden(format!(
        "this needs the role {roles}; {} is {}",
        identity.user,
        role.as_str()
    )))
}

/// What became of a request.
fn outcome(response: &Response) -> String {
    let status = response.status();
    if status.is_success() {
        return "done".to_owned();
    }
    let why = response.extensions().get::<Refusal>();
    let why = why.map_or_else(|| status.to_string(), |why| why.0.clone());
    let word = if status.is_server_error() {
        "failed"
    } else {
        "refused"
    };
    format!("{word}: {why}")
}

fn refused(problem: Problem) -> Response {
    let mut response = problem.into_response();
    if response.status() == StatusCode::UNAUTHORIZED {
        let scheme = HeaderValue::from_static("Bearer realm=\"fieldline\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    }
    response
}

/// The parts of a path that a route leaves open.
fn target(route: &str, path: &str) -> Option<String> {
    let open = route
        .split('/')
        .zip(path.split('/'))
        .filter(|(route, _)| route.starts_with('{'))
        .map(|(_, part)| part);
    let target: Vec<&str> = open.collect();
    (!target.is_empty()).then(|| target.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign_in::{Right, Via};

    #[test]
    fn who_may_not_is_told_which_role_may() {
        let kim = Identity {
            user: "kim".into(),
            role: Role::Field,
            via: Via::Token,
            local: false,
        };
        assert!(allowed(None, Needs::Nothing).is_ok());
        assert!(allowed(None, Needs::SignIn).is_err());
        assert!(allowed(Some(&kim), Needs::SignIn).is_ok());
        assert!(allowed(Some(&kim), Needs::Right(Right::Mirror)).is_ok());
        assert!(allowed(Some(&kim), Needs::Operator).is_err());
        let problem = allowed(Some(&kim), Needs::Right(Right::Withdraw)).unwrap_err();
        assert_eq!(
            problem.to_string(),
            "this needs the role analyst or operator; kim is field"
        );
    }

    #[test]
    fn target_is_what_the_route_leaves_open() {
        let redrive = "/api/dead-letters/{topic}/{partition}/{offset}/redrive";
        assert_eq!(
            target(redrive, "/api/dead-letters/a.dead-letter/0/7/redrive").as_deref(),
            Some("a.dead-letter/0/7")
        );
        assert_eq!(target("/api/link/pause", "/api/link/pause"), None);
    }
}
