//! Who may call, and what a wrong call is told.

use reqwest::Method;
use serde_json::json;

use crate::rig::Rig;

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_not_this_machines_are_not_answered() {
    let rig = Rig::edge().await;
    let request = rig
        .http
        .get(format!("{}/api/site", rig.url))
        .header("host", "evil.example");
    assert_eq!(request.send().await.unwrap().status().as_u16(), 421);
    assert_eq!(rig.get("/api/site").await["kind"], "edge");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_a_foreign_page_could_send_are_refused() {
    let rig = Rig::edge().await;
    let url = format!("{}/api/link/pause", rig.url);
    let forged = rig
        .http
        .post(&url)
        .header("content-type", "text/plain")
        .body("{}")
        .send()
        .await
        .unwrap();
    assert_eq!(forged.status().as_u16(), 403);
    let form = rig
        .http
        .post(&url)
        .header("x-fieldline", "1")
        .body("{}")
        .send()
        .await
        .unwrap();
    assert_eq!(form.status().as_u16(), 415);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_calls_are_told_what_is_right() {
    let rig = Rig::edge().await;
    let (status, problem) = rig.answer(Method::GET, "/api/assets/nonsense", None).await;
    assert_eq!(status, 404);
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("32 lower-case hexadecimal digits")
    );
    let (status, problem) = rig.answer(Method::GET, "/api/sites", None).await;
    assert_eq!(status, 404);
    assert!(problem["detail"].as_str().unwrap().contains("core"));
    let (status, _) = rig.answer(Method::GET, "/api/assets?limt=5", None).await;
    assert_eq!(status, 400);
    let (status, problem) = rig.post("/api/topics", json!({"nam": "x"})).await;
    assert_eq!(status, 400);
    assert!(problem["detail"].as_str().unwrap().contains("nam"));
    let (status, _) = rig.answer(Method::DELETE, "/api/site", None).await;
    assert_eq!(status, 405);
    for path in ["/api/assets/%FF", "/api/topics/%C3%28/records"] {
        assert_eq!(rig.answer(Method::GET, path, None).await.0, 400, "{path}");
    }
    let (status, _) = rig.post("/api/services/nobody/start", json!({})).await;
    assert_eq!(status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn description_of_the_api_names_every_route() {
    let rig = Rig::edge().await;
    let description = rig.get("/api/openapi.json").await;
    let paths = description["paths"].as_object().unwrap();
    assert!(paths.len() >= 27, "{} paths", paths.len());
    assert_eq!(paths["/api/session"]["post"]["security"], serde_json::json!([]));
    for path in [
        "/api/assets/{id}/request",
        "/api/topics/{topic}/records",
        "/api/sites/{site}/revoke",
    ] {
        assert!(paths.contains_key(path), "{path}");
    }
}

/// Every type that is described, by name: two of one name would silently be one in the document.
#[test]
fn no_two_described_types_share_a_name() {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut left = vec![std::path::PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src"
    ))];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(
                std::fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap();
        for rest in source
            .split("ToSchema")
            .skip(1)
            .filter(|rest| rest.starts_with([')', ',']))
        {
            let declared = rest.lines().find_map(|line| {
                let (_, name) = line.split_once("struct ").or_else(|| line.split_once("enum "))?;
                name.split(|letter: char| !letter.is_alphanumeric()).next()
            });
            if let Some(name) = declared {
                found.push((name.to_owned(), path.display().to_string()));
            }
        }
    }
    assert!(found.len() > 30, "{found:?}");
    found.sort();
    for pair in found.windows(2) {
        assert_ne!(pair[0].0, pair[1].0, "{pair:?}");
    }
}
