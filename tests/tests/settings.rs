//! The files in `config/` are complete, and every service takes them, with what they show as examples too.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::process::program;

const SITES: [(&str, &[&str]); 2] = [
    (
        "core",
        &[
            "feed",
            "downloader",
            "broadcaster",
            "responder",
            "depot",
            "viewer",
        ],
    ),
    ("edge", &["listener", "requester", "link", "mirror", "viewer"]),
];

fn file(site: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .join("config")
        .join(format!("{site}.toml"))
}

/// What a service says of a file, or why it refuses.
fn ask(service: &str, file: &Path, command: &str) -> Result<String, String> {
    let mut program = Command::new(program(service).unwrap());
    let output = program
        .env_clear()
        .arg("--config")
        .arg(file)
        .arg(command)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() {
        Ok(text(output.stdout))
    } else {
        Err(text(output.stderr))
    }
}

/// The name that a line sets, be it commented out or not.
fn key(line: &str) -> Option<&str> {
    let (name, _) = line.strip_prefix("# ").unwrap_or(line).split_once(" = ")?;
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    name.bytes().all(word).then_some(name)
}

#[test]
fn every_service_takes_the_files_as_they_are() {
    for (site, services) in SITES {
        for service in services {
            ask(service, &file(site), "check").unwrap();
        }
    }
}

#[test]
fn every_service_takes_the_files_with_all_that_is_commented_out() {
    let dir = tempfile::tempdir().unwrap();
    for (site, services) in SITES {
        let text = std::fs::read_to_string(file(site)).unwrap();
        // Secrets are read from their files, which are not here.
        let shown = text
            .lines()
            .filter(|line| key(line).is_none_or(|key| !key.ends_with("_file")));
        let uncommented = shown.map(|line| match line.strip_prefix("# ") {
            Some(rest) if key(line).is_some() || rest.starts_with('[') => rest,
            _ => line,
        });
        // What needs its secret is set by the environment of a real site.
        let lines: Vec<&str> = uncommented.filter(|line| key(line) != Some("username")).collect();
        let lines = lines
            .into_iter()
            .filter(|line| !matches!(key(line), Some("mechanism" | "access_key_id")));
        let whole = dir.path().join(format!("{site}.toml"));
        std::fs::write(&whole, lines.collect::<Vec<_>>().join("\n")).unwrap();
        for service in services {
            ask(service, &whole, "check").unwrap();
        }
    }
}

#[test]
fn the_files_name_every_key() {
    let mut missing = Vec::new();
    for (site, services) in SITES {
        let text = std::fs::read_to_string(file(site)).unwrap();
        let named: Vec<&str> = text.lines().filter_map(key).collect();
        for service in services {
            for line in ask(service, &file(site), "config").unwrap().lines() {
                let path = line.split(" = ").next().unwrap();
                let segments: Vec<&str> = path.split('.').skip(1).collect();
                let secret = format!("{}_file", segments.last().unwrap());
                // An inline table is named by its own key, a list or map of tables by its path.
                let known =
                    segments.iter().any(|name| named.contains(name)) || named.contains(&secret.as_str());
                if !known && !text.contains(&path.replace('-', "_")) {
                    missing.push(format!("{site}.toml lacks {path}"));
                }
            }
        }
    }
    missing.sort();
    missing.dedup();
    assert!(missing.is_empty(), "\n{}\n", missing.join("\n"));
}
