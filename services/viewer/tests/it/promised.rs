//! What the OpenAPI document promises, held against every answer that any test here gets.

use std::sync::LazyLock;

use reqwest::Method;
use serde_json::Value;

const PROBLEM: &str = "application/problem+json";

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| serde_json::to_value(viewer::openapi()).unwrap());

/// The document's operation for a request; none where it has no such route.
fn operation(method: &Method, path: &str) -> Option<&'static Value> {
    let path = path.split('?').next().unwrap_or_default();
    let fits = |template: &str| {
        let parts = (template.split('/'), path.split('/'));
        template.matches('/').count() == path.matches('/').count()
            && parts
                .0
                .zip(parts.1)
                .all(|(wanted, part)| wanted == part || (wanted.starts_with('{') && !part.is_empty()))
    };
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let (_, item) = paths.iter().find(|(template, _)| fits(template))?;
    item.get(method.as_str().to_lowercase())
}

/// Refuses an answer that the document does not name.
pub(crate) fn check(method: &Method, path: &str, status: u16, kind: Option<&str>) {
    let Some(operation) = operation(method, path) else {
        return;
    };
    let named = &operation["responses"][status.to_string()];
    assert!(
        named.is_object(),
        "{method} {path}: {status} is not in the document"
    );
    assert!(
        status < 400 || kind == Some(PROBLEM),
        "{method} {path}: {status} as {kind:?}"
    );
}

#[test]
fn every_answer_is_named_and_every_refusal_is_a_problem_with_words() {
    for (path, item) in DOCUMENT["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let named = operation["responses"].as_object().unwrap();
            let what = format!("{method} {path}: {:?}", named.keys());
            assert!(!named.contains_key("default"), "{what}");
            assert!(named.keys().any(|status| status.starts_with('2')), "{what}");
            let changes = ["400", "403", "413", "415"];
            let needed: &[&str] = match method.as_str() {
                "post" => &changes,
                "delete" => &changes[1..3],
                _ => &[],
            };
            for status in ["401", "421", "503"].iter().chain(needed) {
                assert!(named.contains_key(*status), "{what} lack {status}");
            }
            for (status, answer) in named.iter().filter(|(status, _)| status.starts_with(['4', '5'])) {
                assert!(answer["content"][PROBLEM].is_object(), "{what}: {status}");
                assert_ne!(
                    answer["description"].as_str().unwrap_or_default(),
                    "",
                    "{what}: {status}"
                );
            }
        }
    }
}

#[test]
#[should_panic(expected = "418 is not in the document")]
fn an_answer_that_is_not_named_is_found() {
    check(&Method::GET, "/api/assets/x?y=z", 418, Some(PROBLEM));
}
