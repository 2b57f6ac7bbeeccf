//! Every route, for every role and for nobody. The list here is written by hand: a route that is described and not in it
//! fails the test.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::json;
use testkit::asset_id;

use crate::rig::Rig;

const ROLES: [&str; 4] = ["viewer", "field", "analyst", "operator"];
const OPEN: &[&str] = &["", "viewer", "field", "analyst", "operator"];
const ALL: &[&str] = &["viewer", "field", "analyst", "operator"];
const FIELD: &[&str] = &["field", "operator"];
const ANALYST: &[&str] = &["analyst", "operator"];
const WORKERS: &[&str] = &["field", "analyst", "operator"];
const OPERATOR: &[&str] = &["operator"];

/// Who may call what.
const EXPECTED: &[(&str, &[&str])] = &[
    ("GET /api/session", OPEN),
    ("POST /api/session", OPEN),
    ("DELETE /api/session", ALL),
    ("POST /api/session/password", ALL),
    ("GET /api/site", ALL),
    ("GET /api/status", ALL),
    ("GET /api/events", ALL),
    ("GET /api/lanes", ALL),
    ("GET /api/assets", ALL),
    ("GET /api/assets/{id}", ALL),
    ("GET /api/assets/{id}/preview", ALL),
    ("GET /api/assets/{id}/content", ALL),
    ("POST /api/assets/{id}/request", FIELD),
    ("POST /api/assets/{id}/cancel", FIELD),
    ("POST /api/assets/{id}/evict", FIELD),
    ("POST /api/assets/{id}/pin", FIELD),
    ("POST /api/assets/{id}/unpin", FIELD),
    ("POST /api/assets/{id}/order", FIELD),
    ("POST /api/assets/{id}/withdraw", ANALYST),
    ("POST /api/assets/{id}/expiry", ANALYST),
    ("GET /api/requests", ALL),
    ("GET /api/volume", ALL),
    ("GET /api/services", ALL),
    ("GET /api/services/{name}/logs", ALL),
    ("POST /api/services/{name}/start", OPERATOR),
    ("POST /api/services/{name}/stop", OPERATOR),
    ("POST /api/services/{name}/log-level", OPERATOR),
    ("GET /api/mirror", ALL),
    ("GET /api/mirror/estimate", ALL),
    ("GET /api/mirror/queue", ALL),
    ("POST /api/mirror/start", FIELD),
    ("POST /api/mirror/stop", FIELD),
    ("GET /api/link", ALL),
    ("GET /api/link/history", ALL),
    ("POST /api/link", FIELD),
    ("POST /api/link/pause", FIELD),
    ("POST /api/link/resume", FIELD),
    ("GET /api/set-up", ALL),
    ("POST /api/set-up/test", OPERATOR),
    ("POST /api/set-up/connect", OPERATOR),
    ("GET /api/sites", ALL),
    ("POST /api/sites", OPERATOR),
    ("POST /api/sites/{site}/revoke", OPERATOR),
    ("GET /api/topics", ALL),
    ("POST /api/topics", OPERATOR),
    ("GET /api/topics/{topic}", ALL),
    ("DELETE /api/topics/{topic}", OPERATOR),
    ("GET /api/topics/{topic}/records", ALL),
    ("GET /api/dead-letters", ALL),
    (
        "POST /api/dead-letters/{topic}/{partition}/{offset}/redrive",
        OPERATOR,
    ),
    ("GET /api/users", OPERATOR),
    ("POST /api/users", OPERATOR),
    ("POST /api/users/{name}", OPERATOR),
    ("DELETE /api/users/{name}", OPERATOR),
    ("POST /api/tickets", OPERATOR),
    ("GET /api/audit", WORKERS),
];

/// Every route of the description, as `GET /api/site`; signing out comes last, since it ends the sign-in.
fn described() -> Vec<String> {
    let description = serde_json::to_value(viewer::openapi()).unwrap();
    let mut routes = Vec::new();
    for (path, operations) in description["paths"].as_object().unwrap() {
        let methods = operations.as_object().unwrap().keys();
        let methods = methods.filter(|key| ["get", "post", "put", "patch", "delete"].contains(&key.as_str()));
        routes.extend(methods.map(|method| format!("{} {path}", method.to_uppercase())));
    }
    routes.sort_by_key(|route| (route == "DELETE /api/session", route.clone()));
    routes
}

fn filled(path: &str) -> String {
    path.replace("{id}", asset_id(1).as_str())
        .replace("{name}", "nobody")
        .replace("{site}", "edge-9")
        .replace("{topic}", "nothing")
        .replace("{partition}", "0")
        .replace("{offset}", "0")
}

async fn every_route_for_every_role(rig: &Rig) {
    let expected: BTreeMap<&str, &[&str]> = EXPECTED.iter().copied().collect();
    let mut callers = vec![("", String::new())];
    for role in ROLES {
        callers.push((role, rig.user(role).await));
    }
    let mut refused_changes = 0;
    for route in described() {
        let allowed = expected.get(route.as_str());
        let allowed = allowed
            .unwrap_or_else(|| panic!("who may call {route}? say it in this test and in sign_in/rules.rs"));
        let (method, path) = route.split_once(' ').unwrap();
        let method: Method = method.parse().unwrap();
        for (role, cookie) in &callers {
            let body = (method == Method::POST).then(|| json!({}));
            let answer = rig.browse(cookie, method.clone(), &filled(path), body).await;
            let what = format!("{route} by {role:?}: {} {}", answer.status, answer.body);
            if allowed.contains(role) {
                assert!(!matches!(answer.status, 401 | 403), "{what}");
                continue;
            }
            assert_eq!(answer.status, if role.is_empty() { 401 } else { 403 }, "{what}");
            assert_eq!(
                answer.headers["content-type"], "application/problem+json",
                "{what}"
            );
            assert_eq!(
                role.is_empty(),
                answer.headers.contains_key("www-authenticate"),
                "{what}"
            );
            if !role.is_empty() {
                assert!(
                    answer.body["detail"].as_str().unwrap().contains("needs the role"),
                    "{what}"
                );
                refused_changes += usize::from(method != Method::GET);
            }
        }
    }
    let told = rig
        .get("/api/audit?limit=1000&q=refused:%20this%20needs%20the%20role")
        .await;
    assert_eq!(told["entries"].as_array().unwrap().len(), refused_changes);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_of_an_edge_is_for_its_roles_alone() {
    every_route_for_every_role(&Rig::edge().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_of_the_core_is_for_its_roles_alone() {
    every_route_for_every_role(&Rig::core().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_route_is_told_to_nobody_who_has_not_signed_in() {
    let rig = Rig::edge().await;
    for path in ["/api/nothing", "/api", "/api/"] {
        assert_eq!(
            rig.browse("", Method::GET, path, None).await.status,
            401,
            "{path}"
        );
        assert_eq!(rig.answer(Method::GET, path, None).await.0, 404, "{path}");
    }
    assert_eq!(
        rig.browse("", Method::PUT, "/api/site", Some(json!({})))
            .await
            .status,
        401
    );
    assert_eq!(
        rig.browse("", Method::GET, "/api/openapi.json", None)
            .await
            .status,
        200
    );
    assert_eq!(rig.browse("", Method::HEAD, "/api/site", None).await.status, 401);
    for path in ["/%61pi/site", "//api/site", "/x/../api/site"] {
        let answer = rig.browse("", Method::GET, path, None).await;
        assert!(answer.body["kind"].is_null(), "{path}: {}", answer.body);
    }
}
