//! Who may call: only under a known host name, and changes only from callers that another site's page cannot imitate.
//!
//! A page that was loaded from somewhere else can make a browser send requests here. It cannot add the header
//! `x-fieldline` or a JSON content type without the browser asking first, which is never allowed; its `Origin` is not the
//! host that it calls; and a name of its own that it points at 127.0.0.1 (DNS rebinding) is no name that this API answers
//! to.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::problem::Problem;

/// The header that shows that a change is meant.
pub(crate) const HEADER: &str = "x-fieldline";

/// What the page may load: its own files, an asset's film or sound, and pictures that it has as bytes.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; \
     media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// What an answer of the API may load: nothing.
const ANSWER_POLICY: &str = "default-src 'none'; sandbox; frame-ancestors 'none'";

/// Checks each request before anything else, and marks each answer of the API as nothing to be run.
pub(crate) async fn check(State(hosts): State<Arc<[String]>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let answer = path == "/api" || path.starts_with("/api/");
    let policy = if answer { ANSWER_POLICY } else { PAGE_POLICY };
    let mut response = match admit(request.method(), request.headers(), &hosts) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if answer {
        // Who signs out must not leave it behind for who comes next.
        let private = HeaderValue::from_static("private, no-cache");
        headers.entry(header::CACHE_CONTROL).or_insert(private);
    }
    for name in ["cross-origin-resource-policy", "cross-origin-opener-policy"] {
        headers.insert(name, HeaderValue::from_static("same-origin"));
    }
    response
}

fn admit(method: &Method, headers: &HeaderMap, hosts: &[String]) -> Result<(), Problem> {
    let mut named = headers.get_all(header::HOST).iter();
    let host = named
        .next()
        .and_then(|host| host.to_str().ok())
        .filter(|_| named.next().is_none());
    let known = host.map(name_of).is_some_and(|name| {
        matches!(name, "localhost" | "127.0.0.1" | "[::1]")
            || hosts.iter().any(|own| own.eq_ignore_ascii_case(name))
    });
    if !known {
        return Err(Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            format!(
                "this API does not answer to the host name {:?}",
                host.unwrap_or_default()
            ),
        )
        .hint("call it by 127.0.0.1 or localhost, or add the name to viewer.allowed_hosts"));
    }
    if method.is_safe() {
        return Ok(());
    }
    let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().ok());
    let own = |origin: &str| origin.split_once("://").map(|(_, rest)| rest) == host;
    if origin.is_some_and(|origin| !origin.is_some_and(own)) {
        return Err(Problem::forbidden("a change must come from this site's own page"));
    }
    if headers.get(HEADER).is_none_or(|value| value != "1") {
        return Err(Problem::forbidden("a change needs the header `x-fieldline: 1`"));
    }
    let json = |value: &HeaderValue| {
        value
            .to_str()
            .is_ok_and(|kind| kind.split(';').next() == Some("application/json"))
    };
    if method != Method::DELETE && !headers.get(header::CONTENT_TYPE).is_some_and(json) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "a change needs a JSON body and the header `content-type: application/json`",
        ));
    }
    Ok(())
}

/// The host without its port.
fn name_of(host: &str) -> &str {
    if host.starts_with('[') {
        return host.find(']').map_or(host, |end| &host[..=end]);
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(method: &Method, pairs: &[(&'static str, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        admit(method, &headers, &["viewer.example".to_owned()]).is_ok()
    }

    #[test]
    fn only_known_host_names_are_answered() {
        for host in ["127.0.0.1:8080", "localhost", "[::1]:8080", "viewer.example:80"] {
            assert!(admitted(&Method::GET, &[("host", host)]), "{host}");
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example:8080",
            "localhost.evil.example",
            "",
            "[::2]:80",
        ] {
            assert!(!admitted(&Method::GET, &[("host", host)]), "{host}");
        }
        assert!(!admitted(&Method::GET, &[]));
        assert!(!admitted(
            &Method::GET,
            &[("host", "localhost"), ("host", "evil.example")]
        ));
    }

    #[test]
    fn changes_need_a_header_and_a_type_that_a_foreign_page_cannot_send() {
        let host = ("host", "localhost");
        let own = ("x-fieldline", "1");
        assert!(!admitted(
            &Method::POST,
            &[host, ("content-type", "application/json")]
        ));
        assert!(!admitted(&Method::POST, &[host, own]));
        assert!(!admitted(
            &Method::POST,
            &[host, own, ("content-type", "text/plain")]
        ));
        assert!(admitted(
            &Method::POST,
            &[host, own, ("content-type", "application/json; charset=utf-8")]
        ));
        let origin = |origin| {
            let json = ("content-type", "application/json");
            admitted(&Method::POST, &[host, own, json, ("origin", origin)])
        };
        assert!(origin("http://localhost"));
        assert!(!origin("http://localhost:8081"));
        assert!(!origin("http://evil.example"));
        assert!(!origin("null"));
        assert!(!admitted(&Method::DELETE, &[host]));
        assert!(admitted(&Method::DELETE, &[host, own]));
    }
}
