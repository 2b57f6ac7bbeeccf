//! Who did what: written before it happens, completed after it, kept, searchable.

use common::chassis::now_ms;
use common::table::{Value as Cell, Write};
use reqwest::Method;
use serde_json::{Value, json};

use crate::edge_site::broadcast;
use crate::rig::{PASSWORD, Rig};

fn entries(page: &Value) -> Vec<(&str, &str, &str, &str)> {
    page["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            let text = |field: &str| entry[field].as_str().unwrap_or("-");
            (text("user"), text("action"), text("target"), text("outcome"))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_told_with_who_what_and_what_became_of_it() {
    let rig = Rig::core().await;
    let viewer = rig.user("viewer").await;
    let new = json!({"name": "sensors", "partitions": 2});
    assert_eq!(rig.post("/api/topics", new.clone()).await.0, 201);
    assert_eq!(
        rig.browse(&viewer, Method::POST, "/api/topics", Some(new))
            .await
            .status,
        403
    );
    assert_eq!(
        rig.post("/api/sites/edge-9/revoke", json!({"reason": "lost"}))
            .await
            .0,
        404
    );
    assert_eq!(
        rig.answer(Method::DELETE, "/api/topics/sensors", None).await.0,
        200
    );
    assert_eq!(
        rig.browse("", Method::DELETE, "/api/topics/sensors", None)
            .await
            .status,
        401
    );
    rig.browse(&viewer, Method::DELETE, "/api/session", None).await;
    let page = rig.get("/api/audit").await;
    assert_eq!(
        entries(&page),
        [
            ("viewer", "session.sign_out", "-", "done"),
            ("-", "topic.delete", "sensors", "refused: this needs a sign-in"),
            ("command line", "topic.delete", "sensors", "done"),
            (
                "command line",
                "site.revoke",
                "edge-9",
                "refused: core has not enrolled edge-9"
            ),
            (
                "viewer",
                "topic.create",
                "sensors",
                "refused: this needs the role operator; viewer is viewer"
            ),
            ("command line", "topic.create", "sensors", "done"),
            ("viewer", "session.sign_in", "-", "done"),
            ("command line", "user.add", "viewer", "done"),
        ]
    );
    let revoked = &page["entries"][3];
    assert_eq!(
        (&revoked["detail"], &revoked["from"]),
        (&json!("reason: lost"), &json!("127.0.0.1"))
    );
    assert_eq!(revoked["role"], "operator");
    let added = &page["entries"][7];
    assert_eq!(added["detail"], "role: viewer, password: set");
    assert!(!page.to_string().contains(PASSWORD));
    assert!(page["next"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_speaks_for_themselves_and_the_command_line_for_others() {
    let rig = Rig::edge().await;
    let field = rig.user("field").await;
    let body = json!({"by": "somebody else"});
    let path = "/api/services/link/stop";
    rig.post(path, body.clone()).await;
    rig.browse(&field, Method::POST, "/api/link/pause", Some(body))
        .await;
    let page = rig.get("/api/audit?q=somebody%20else").await;
    assert_eq!(page["entries"][0]["user"], "field");
    assert_eq!(page["entries"][1]["user"], "command line");
}

#[tokio::test(flavor = "multi_thread")]
async fn deeds_are_found_by_the_title_of_their_asset() {
    let rig = Rig::edge().await;
    let ids = [broadcast(&rig, 1, b"one").await, broadcast(&rig, 2, b"two").await];
    rig.shows("/api/assets", |page| page["total"] == 2).await;
    for id in &ids {
        let (status, said) = rig.post(&format!("/api/assets/{id}/request"), json!({})).await;
        assert_eq!(status, 200, "{said}");
    }
    let found = rig.get("/api/audit?q=ENTRY%202").await;
    assert_eq!(entries(&found).len(), 1, "{found}");
    assert_eq!(found["entries"][0]["target"], ids[1].as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_on_the_link_is_told() {
    let rig = Rig::edge().await;
    let wanted = json!({"budget": {"cap": "32KB", "per_day": null}, "routes": {"broadcasts": "paused"}, "allow": "20MB"});
    assert_eq!(rig.post("/api/link", wanted).await.0, 200);
    let back = json!({"as_configured": ["route/broadcasts"], "lost": "20/3"});
    assert_eq!(rig.post("/api/link", back).await.0, 200);
    let page = rig.get("/api/audit?action=link.set").await;
    let details: Vec<_> = page["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["detail"].as_str().unwrap())
        .collect();
    assert_eq!(
        details,
        [
            r#"lost: 20/3, as_configured: ["route/broadcasts"]"#,
            r#"budget: {"cap":"32KB","per_day":null}, routes: {"broadcasts":"paused"}, allow: 20MB"#,
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn search_goes_page_by_page_and_month_by_month() {
    let rig = Rig::core().await;
    let now = now_ms();
    let write = |age: i64, user: &str, number: i64| {
        let at = now - age * 24 * 3600 * 1000 - number;
        Write::to("audit")
            .set("day", day(at))
            .set("at", Cell::timestamp(at))
            .set("id", format!("{number:04x}"))
            .set("user_name", user)
            .set("action", "asset.request")
            .set("outcome", "done")
    };
    let rows = (0..25).map(|number| write(2, "kim", number));
    rig.table
        .upsert_all(rows.chain([write(100, "lee", 1)]).collect())
        .await
        .unwrap();
    let first = rig.get("/api/audit?user=kim&limit=10").await;
    assert_eq!(first["entries"].as_array().unwrap().len(), 10);
    let mut seen = Vec::new();
    let mut next = String::new();
    loop {
        let page = rig
            .get(&format!("/api/audit?user=kim&limit=10&before={next}"))
            .await;
        let ids = page["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["id"].as_str().unwrap().to_owned());
        seen.extend(ids);
        match page["next"].as_str() {
            Some(more) if seen.len() < 25 => next = more.to_owned(),
            _ => break,
        }
    }
    assert_eq!(
        seen,
        (0..25).map(|number| format!("{number:04x}")).collect::<Vec<_>>()
    );
    let (mut calls, mut before, mut found) = (0, String::new(), Vec::new());
    loop {
        calls += 1;
        let page = rig.get(&format!("/api/audit?user=lee&before={before}")).await;
        found.extend(page["entries"].as_array().unwrap().clone());
        match page["next"].as_str() {
            Some(more) => before = more.to_owned(),
            None => break,
        }
    }
    assert_eq!(found.len(), 1);
    assert!((13..=16).contains(&calls), "{calls}");
    assert_eq!(
        rig.answer(Method::GET, "/api/audit?before=soon", None).await.0,
        400
    );
    let none = rig.get("/api/audit?action=asset.cancel").await;
    assert_eq!(none["entries"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_may_load_its_own_files_and_an_answer_nothing() {
    let rig = Rig::edge().await;
    let policy = |headers: &reqwest::header::HeaderMap| {
        headers["content-security-policy"].to_str().unwrap().to_owned()
    };
    let answer = rig.browse("", Method::GET, "/api/session", None).await;
    assert_eq!(
        policy(&answer.headers),
        "default-src 'none'; sandbox; frame-ancestors 'none'"
    );
    assert_eq!(answer.headers["cross-origin-opener-policy"], "same-origin");
    let page = rig.browse("", Method::GET, "/", None).await;
    let page = policy(&page.headers);
    assert!(
        page.contains("script-src 'self'") && !page.contains("unsafe"),
        "{page}"
    );
}

/// The UTC day of a moment, as 2026-11-21.
fn day(at: i64) -> String {
    let at = jiff::Timestamp::from_millisecond(at).unwrap();
    at.to_zoned(jiff::tz::TimeZone::UTC).date().to_string()
}
