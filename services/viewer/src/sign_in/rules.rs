//! The one table of what each route needs, and of what a change is called in the audit.
//!
//! A route that is not in it is for operators alone.

use axum::http::Method;

use super::role::Right;

/// The least that a caller needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nothing: it is answered before anybody has signed in.
    Nothing,
    /// To be signed in, as anybody.
    SignIn,
    /// This right.
    Right(Right),
    /// To be operator.
    Operator,
}

/// What one route needs.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) method: &'static str,
    /// The route as it is declared, as `/api/assets/{id}`.
    pub(crate) path: &'static str,
    pub(crate) needs: Needs,
    /// What the audit calls it; none for what only reads, and for what its handler writes down itself.
    pub(crate) action: Option<&'static str>,
}

const fn rule(method: &'static str, path: &'static str, needs: Needs, action: Option<&'static str>) -> Rule {
    Rule {
        method,
        path,
        needs,
        action,
    }
}

const fn open(method: &'static str, path: &'static str) -> Rule {
    rule(method, path, Needs::Nothing, None)
}

const fn read(path: &'static str) -> Rule {
    rule("GET", path, Needs::SignIn, None)
}

const fn read_with(path: &'static str, right: Right) -> Rule {
    rule("GET", path, Needs::Right(right), None)
}

const fn change(path: &'static str, right: Right, action: &'static str) -> Rule {
    rule("POST", path, Needs::Right(right), Some(action))
}

const fn delete(path: &'static str, right: Right, action: &'static str) -> Rule {
    rule("DELETE", path, Needs::Right(right), Some(action))
}

/// Every route.
pub(crate) const RULES: &[Rule] = &[
    open("GET", "/api/openapi.json"),
    open("GET", "/api/session"),
    open("POST", "/api/session"),
    rule("DELETE", "/api/session", Needs::SignIn, Some("session.sign_out")),
    rule(
        "POST",
        "/api/session/password",
        Needs::SignIn,
        Some("session.password"),
    ),
    read("/api/site"),
    read("/api/status"),
    read("/api/events"),
    read("/api/lanes"),
    read("/api/assets"),
    read("/api/assets/{id}"),
    read("/api/assets/{id}/preview"),
    read("/api/assets/{id}/content"),
    change("/api/assets/{id}/request", Right::Request, "asset.request"),
    change("/api/assets/{id}/cancel", Right::Request, "asset.cancel"),
    change("/api/assets/{id}/evict", Right::Evict, "asset.evict"),
    change("/api/assets/{id}/pin", Right::Evict, "asset.pin"),
    change("/api/assets/{id}/unpin", Right::Evict, "asset.unpin"),
    change("/api/assets/{id}/order", Right::Mirror, "asset.order"),
    change("/api/assets/{id}/withdraw", Right::Withdraw, "asset.withdraw"),
    change("/api/assets/{id}/expiry", Right::Withdraw, "asset.expiry"),
    read("/api/requests"),
    read("/api/volume"),
    read("/api/services"),
    read("/api/services/{name}/logs"),
    change("/api/services/{name}/start", Right::Services, "service.start"),
    change("/api/services/{name}/stop", Right::Services, "service.stop"),
    change(
        "/api/services/{name}/log-level",
        Right::Services,
        "service.log_level",
    ),
    read("/api/mirror"),
    read("/api/mirror/estimate"),
    read("/api/mirror/queue"),
    change("/api/mirror/start", Right::Mirror, "mirror.start"),
    change("/api/mirror/stop", Right::Mirror, "mirror.stop"),
    read("/api/link"),
    read("/api/link/history"),
    change("/api/link", Right::Link, "link.set"),
    change("/api/link/pause", Right::Link, "link.pause"),
    change("/api/link/resume", Right::Link, "link.resume"),
    read("/api/set-up"),
    change("/api/set-up/test", Right::SetUp, "set_up.test"),
    change("/api/set-up/connect", Right::SetUp, "set_up.connect"),
    read("/api/sites"),
    change("/api/sites", Right::Sites, "site.enrol"),
    change("/api/sites/{site}/revoke", Right::Sites, "site.revoke"),
    read("/api/topics"),
    change("/api/topics", Right::Topics, "topic.create"),
    read("/api/topics/{topic}"),
    delete("/api/topics/{topic}", Right::Topics, "topic.delete"),
    read("/api/topics/{topic}/records"),
    read("/api/dead-letters"),
    change(
        "/api/dead-letters/{topic}/{partition}/{offset}/redrive",
        Right::DeadLetters,
        "dead_letter.redrive",
    ),
    read_with("/api/users", Right::Users),
    change("/api/users", Right::Users, "user.add"),
    change("/api/users/{name}", Right::Users, "user.set"),
    delete("/api/users/{name}", Right::Users, "user.remove"),
    change("/api/tickets", Right::Users, "ticket.make"),
    read_with("/api/audit", Right::Audit),
];

/// The rule of a route; one for GET holds for HEAD.
pub(crate) fn find(method: &Method, path: &str) -> Option<&'static Rule> {
    let method = if method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    RULES
        .iter()
        .find(|rule| rule.method == method.as_str() && rule.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_written_down_by_a_name_of_its_own() {
        let mut names: Vec<&str> = RULES.iter().filter_map(|rule| rule.action).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for rule in RULES.iter().filter(|rule| rule.method != "GET") {
            assert!(
                rule.action.is_some() || rule.path == "/api/session",
                "{}",
                rule.path
            );
        }
    }

    #[test]
    fn every_declared_route_has_a_rule_and_a_description() {
        let source = include_str!("../api.rs");
        let described = crate::api::openapi();
        let mut declared = 0;
        for rest in source.split(".route(").skip(1) {
            let path = rest.split('"').nth(1).unwrap_or_default();
            if !path.starts_with("/api/") {
                continue;
            }
            declared += 1;
            assert!(
                RULES.iter().any(|rule| rule.path == path),
                "{path} is for operators alone until sign_in/rules.rs names it"
            );
            assert!(
                path == "/api/openapi.json" || described.paths.paths.contains_key(path),
                "{path} is not described"
            );
        }
        assert!(declared > 30, "{declared}");
    }
}
