//! The rules that keep the workspace as ARCHITECTURE.md draws it, read off `cargo metadata` and the files.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// A crate may know crates of lower levels only, and those of its own level not at all.
const LEVELS: &[(&str, u32)] = &[
    ("schemas", 0),
    ("units", 0),
    ("broker", 10),
    ("budget", 10),
    ("kafka", 10),
    ("table", 10),
    ("volume", 10),
    ("telemetry", 10),
    ("identity", 10),
    ("chassis", 20),
    ("control", 25),
    ("engines", 25),
    ("common", 30),
    // Knows the services whose work it does where there is no line.
    ("bundle", 45),
    ("fieldline", 50),
    ("e2e", 50),
    ("xtask", 50),
    // Known by tests only, see below.
    ("testkit", 5),
    ("fixtures", 35),
    ("services/*", 40),
];

/// An engine's client is used by the crates that wrap it.
const WRAPPED: [(&str, &[&str]); 5] = [
    ("rdkafka", &["broker"]),
    ("kafka-protocol", &["kafka"]),
    ("scylla", &["table"]),
    ("object_store", &["volume"]),
    ("rusqlite", &["broker", "table"]),
];

/// Names that say nothing of what is inside.
const DRAWERS: [&str; 6] = ["util", "utils", "helpers", "misc", "core", "types"];

/// The longest file that a newcomer is asked to hold in the head.
const MOST_LINES: usize = 700;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

struct Package {
    name: String,
    dir: PathBuf,
    /// Name and whether it is for tests only.
    dependencies: Vec<(String, bool)>,
}

impl Package {
    fn level(&self) -> u32 {
        let service = self.dir.parent().is_some_and(|dir| dir.ends_with("services"));
        let listed = LEVELS
            .iter()
            .find(|(name, _)| *name == self.name)
            .map(|(_, level)| *level);
        listed.unwrap_or_else(|| {
            if service {
                40
            } else {
                panic!("{} has no level: add it here", self.name)
            }
        })
    }

    fn sources(&self) -> Vec<PathBuf> {
        ["src", "tests", "examples", "benches"]
            .iter()
            .flat_map(|name| files(&self.dir.join(name)))
            .collect()
    }
}

fn packages() -> BTreeMap<String, Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["metadata", "--no-deps", "--offline", "--format-version", "1"];
    let output = Command::new(cargo)
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap().iter().map(|package| {
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        let package = Package {
            name: text(&package["name"]),
            dir: Path::new(package["manifest_path"].as_str().unwrap())
                .parent()
                .unwrap()
                .to_owned(),
            dependencies: dependencies
                .map(|found| (text(&found["name"]), found["kind"] == "dev"))
                .collect(),
        };
        (package.name.clone(), package)
    });
    packages.collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn none(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn no_crate_looks_upward_or_beside_itself() {
    let packages = packages();
    let mut problems = Vec::new();
    for package in packages.values() {
        for (name, for_tests) in &package.dependencies {
            let Some(other) = packages.get(name).filter(|other| other.name != package.name) else {
                continue;
            };
            let allowed = match (name.as_str(), for_tests) {
                ("testkit" | "fixtures", true) => true,
                ("testkit" | "fixtures", false) => {
                    matches!(package.name.as_str(), "e2e" | "testkit" | "fixtures")
                }
                // The depot is the other end of what a mirror speaks.
                ("depot", true) => package.name == "mirror",
                _ if package.name == "e2e" => other.name != "xtask",
                _ => other.level() < package.level(),
            };
            let direct = package.level() == 40 && !for_tests && other.level() < 30;
            if !allowed {
                problems.push(format!("{} must not know {name}", package.name));
            } else if direct && !matches!(name.as_str(), "units" | "identity") {
                problems.push(format!("{} must use {name} through common", package.name));
            }
        }
    }
    none(problems);
}

#[test]
fn every_crate_takes_lints_and_versions_from_the_workspace() {
    let mut problems = Vec::new();
    for package in packages().values() {
        let manifest = std::fs::read_to_string(package.dir.join("Cargo.toml")).unwrap();
        if !manifest.contains("[lints]\nworkspace = true") {
            problems.push(format!("{} lacks [lints] workspace = true", package.name));
        }
        let mut section = "";
        for line in manifest.lines() {
            if line.starts_with('[') {
                section = line;
            } else if section.ends_with("dependencies]")
                && line.contains('=')
                && !line.contains("workspace = true")
            {
                problems.push(format!("{} has a version of its own: {line}", package.name));
            }
        }
    }
    none(problems);
}

#[test]
fn client_of_an_engine_is_used_by_its_wrapper_alone() {
    let mut problems = Vec::new();
    for package in packages().values() {
        for (client, wrappers) in WRAPPED {
            let used = package
                .dependencies
                .iter()
                .any(|(name, for_tests)| name == client && !for_tests);
            if used && !wrappers.contains(&package.name.as_str()) {
                problems.push(format!("{} must not use {client}", package.name));
            }
        }
    }
    none(problems);
}

#[test]
fn common_is_a_facade() {
    let source = std::fs::read_to_string(root().join("crates/common/src/lib.rs")).unwrap();
    assert!(source.lines().count() <= 40);
    let code = source
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("//"));
    none(
        code.filter(|line| !line.starts_with("pub use "))
            .map(|line| format!("common has code: {line}"))
            .collect(),
    );
    assert_eq!(files(&root().join("crates/common/src")).len(), 1);
}

#[test]
fn files_are_named_for_what_they_hold_small_and_finished() {
    let unfinished = [concat!("to", "do!("), concat!("unimpl", "emented!(")];
    let mut problems = Vec::new();
    for package in packages().values() {
        for path in package.sources() {
            let shown = path.strip_prefix(root()).unwrap().display().to_string();
            let stem = path.file_stem().unwrap().to_str().unwrap();
            let parent = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
            if DRAWERS.contains(&stem) || DRAWERS.contains(&parent) {
                problems.push(format!("{shown}: a drawer; name it for what it holds"));
            }
            if stem == "mod" {
                problems.push(format!("{shown}: write {parent}.rs beside the directory"));
            }
            let source = std::fs::read_to_string(&path).unwrap();
            let lines = source.lines().count();
            if lines > MOST_LINES {
                problems.push(format!("{shown}: {lines} lines, {MOST_LINES} at most"));
            }
            for word in unfinished.iter().filter(|word| source.contains(**word)) {
                problems.push(format!("{shown}: has {word}"));
            }
        }
    }
    none(problems);
}

#[test]
fn every_service_has_a_readme_and_a_main_of_one_line() {
    let mut problems = Vec::new();
    for package in packages().values().filter(|package| package.level() == 40) {
        if !package.dir.join("README.md").exists() {
            problems.push(format!("{} has no README.md", package.name));
        }
        let main = std::fs::read_to_string(package.dir.join("src/main.rs")).unwrap_or_default();
        if main.is_empty() || main.lines().count() > 15 {
            problems.push(format!(
                "{}: main.rs is missing or longer than 15 lines",
                package.name
            ));
        }
    }
    none(problems);
}

/// The third-party files of the page are those that were looked at: the README beside them says what each was.
#[test]
fn third_party_files_of_the_page_are_what_their_readme_says() {
    let dir = root().join("services/viewer/page/vendor");
    let readme = std::fs::read_to_string(dir.join("README.md")).unwrap();
    let mut said: BTreeMap<&str, &str> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.split_once("  "))
        .map(|(hash, name)| (name, hash))
        .collect();
    let mut problems = Vec::new();
    for entry in std::fs::read_dir(&dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name == "README.md" {
            continue;
        }
        let digest = Sha256::digest(std::fs::read(dir.join(&name)).unwrap());
        let hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        if said.remove(name.as_str()) != Some(&hash) {
            problems.push(format!("{name} is not what README.md says: it has {hash}"));
        }
        if !readme.contains(&format!("`{name}`")) {
            problems.push(format!("README.md does not say where {name} is from"));
        }
    }
    problems.extend(
        said.keys()
            .map(|name| format!("{name} is in README.md and not there")),
    );
    none(problems);
}
