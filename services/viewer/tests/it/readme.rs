//! The README's tables name what there is.

use std::collections::BTreeSet;

const README: &str = include_str!("../../README.md");

/// The rows of the table that begins with this heading: its first cell, its second cell.
fn table(heading: &str) -> Vec<(&'static str, &'static str)> {
    let (_, rest) = README.split_once(heading).unwrap();
    let rows = rest.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split_once('|').unwrap())
        .collect()
}

/// The words in back quotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Where a parameter stands, its name left out.
fn plain(path: &str) -> String {
    let parts = path
        .split('/')
        .map(|part| if part.starts_with('{') { "{}" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

#[test]
fn every_route_is_in_the_readme_and_the_readme_names_no_other() {
    let description = serde_json::to_value(viewer::openapi()).unwrap();
    let described: BTreeSet<String> = description["paths"]
        .as_object()
        .unwrap()
        .keys()
        .map(|path| plain(path))
        .collect();
    let mut told = BTreeSet::new();
    for (routes, _) in table("| route | answer |") {
        let mut last = String::new();
        for word in quoted(routes) {
            // `GET /api/x?query`, `POST, DELETE /api/x`, `/api/y`, or `…/z`: beside the route before.
            let Some(path) = word
                .split_whitespace()
                .find(|part| part.starts_with('/') || part.starts_with('…'))
            else {
                continue;
            };
            let path = path.split('?').next().unwrap();
            let full = match path.strip_prefix('…') {
                Some(end) => format!("{}{end}", last.rsplit_once('/').unwrap().0),
                None => path.to_owned(),
            };
            told.insert(plain(&full));
            last = full;
        }
    }
    assert_eq!(told, described);
}

#[test]
fn every_kind_of_event_is_in_the_readme() {
    let (_, events) = README.split_once("## Events").unwrap();
    let (events, _) = events.split_once("\n## ").unwrap();
    let told: BTreeSet<&str> = quoted(events).collect();
    let description = serde_json::to_value(viewer::openapi()).unwrap();
    let text = description["paths"]["/api/events"]["get"]["description"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
        + description["paths"]["/api/events"]["get"]["summary"]
            .as_str()
            .unwrap_or_default();
    for kind in [
        "hello",
        "reset",
        "assets",
        "services",
        "logs",
        "problems",
        "sites",
        "requests",
        "lanes",
        "link",
        "mirror",
        "volume",
        "history",
        "dead_letters",
        "audit",
        "users",
    ] {
        assert!(told.contains(kind), "{kind}");
        assert!(text.contains(&format!("`{kind}`")), "{kind}: {text}");
    }
}
