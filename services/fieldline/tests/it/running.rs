//! `link` and `mirror` of a running edge.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use testkit::{TempDir, eventually};

use crate::rig::{Running, Said, command, fieldline};

const LIMIT: Duration = Duration::from_secs(60);

/// A demo: a core and an edge that are at work.
struct Demo {
    said: Value,
    _process: Running,
    _directory: TempDir,
}

impl Demo {
    async fn start() -> Self {
        let directory = testkit::temp_dir();
        // Its link's door is the tenth behind the first.
        let port = testkit::free_ports(11);
        let number = |at: u16| (port + at).to_string();
        let mut words = vec!["demo".to_owned(), "--json".to_owned(), "--dir".to_owned()];
        words.push(directory.path().display().to_string());
        words.extend(["--port".to_owned(), number(0)]);
        words.extend(["--feed-port".to_owned(), number(2)]);
        words.extend(["--depot-port".to_owned(), number(3)]);
        let mut process = Running(command(words).stdout(Stdio::piped()).spawn().unwrap());
        let output = process.0.stdout.take().unwrap();
        let said = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(output).read_line(&mut line).unwrap();
            line
        });
        let said = tokio::time::timeout(LIMIT, said).await.unwrap().unwrap();
        Self {
            said: serde_json::from_str(&said).unwrap(),
            _process: process,
            _directory: directory,
        }
    }

    /// A command for the edge.
    fn edge(&self, words: &[&str]) -> Said {
        let edge = &self.said["sites"][1];
        let more = [
            "--url",
            edge["url"].as_str().unwrap(),
            "--token-file",
            edge["token_file"].as_str().unwrap(),
        ];
        fieldline(&[words, &more].concat())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_is_not_there_or_does_not_know_who_asks_is_told_with_what_to_do() {
    let nobody = format!("http://127.0.0.1:{}", testkit::free_port());
    for words in [
        &["link", "status"][..],
        &["link", "pause"],
        &["mirror", "start"],
        &["mirror", "queue"],
    ] {
        let said = fieldline(&[words, &["--url", &nobody]].concat());
        said.fails(1, "cannot reach a site at")
            .fails(1, "hint: is it running?");
        assert!(said.out.is_empty(), "{said:?}");
    }
    fieldline(&[
        "link",
        "status",
        "--url",
        &nobody,
        "--token-file",
        "/nowhere/token",
    ])
    .fails(1, "/nowhere/token");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_link_is_limited_paused_and_resumed_by_command() {
    let demo = Demo::start().await;
    let status = |wanted: &'static str| {
        let demo = &demo;
        eventually(LIMIT, move || async move {
            let said = demo.edge(&["link", "status"]);
            said.prints("");
            if said.out.contains(wanted) {
                Ok(())
            } else {
                Err(format!("no {wanted:?} in {}", said.out))
            }
        })
    };
    demo.edge(&["link", "cap", "32KB"]).prints("budget/cap: ");
    status("cap: 31.25 KiB a second").await;
    demo.edge(&["link", "cap", "off"]).prints("budget/cap: none");
    demo.edge(&["link", "cap", "configured"]).prints("budget/cap: ");
    demo.edge(&["link", "cap", "fast"]).fails(1, "fast");
    demo.edge(&["link", "budget", "--day", "200MB", "--month", "5GB"])
        .prints("budget/per_day: ")
        .prints("budget/per_month: ");
    status("of 190.73 MiB").await;
    demo.edge(&["link", "metered", "on"])
        .prints("budget/metered: true");
    demo.edge(&["link", "allow", "20MB"]).prints("");
    status("metered, ").await;
    demo.edge(&["link", "metered", "configured"])
        .prints("budget/metered: ");
    demo.edge(&["link", "windows", "mon-fri 22:00-06:00"])
        .prints("budget/windows: ");
    demo.edge(&["link", "windows", "off"]).prints("budget/windows: ");
    demo.edge(&["link", "windows", "sometimes"]).fails(1, "sometimes");

    demo.edge(&["link", "pause", "broadcasts"])
        .prints("route/broadcasts: ");
    status("route broadcasts: paused").await;
    demo.edge(&["link", "resume", "broadcasts"])
        .prints("route/broadcasts: ");
    demo.edge(&["link", "pause", "no-such-route"])
        .fails(1, "there is no route no-such-route")
        .fails(1, "hint: the routes are ");
    demo.edge(&["link", "pause"]).prints("");
    status("desired: paused").await;
    demo.edge(&["link", "resume"]).prints("");
    status("desired: running").await;
    let json = demo.edge(&["link", "status", "--json"]).json();
    assert_eq!(json["desired"], "running", "{json}");
}

#[tokio::test(flavor = "multi_thread")]
async fn assets_are_fetched_ordered_pinned_and_evicted_by_command() {
    let demo = Demo::start().await;
    let assets = eventually(LIMIT, || async {
        let all = demo.edge(&["assets", "--json"]).json();
        let ids: Vec<String> = all["assets"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|asset| Some(asset["asset_id"].as_str()?.to_owned()))
            .collect();
        if ids.len() >= 2 {
            Ok(ids)
        } else {
            Err(format!("{all}"))
        }
    })
    .await;
    let (first, second) = (assets[0].as_str(), assets[1].as_str());
    demo.edge(&["mirror", "estimate"]).prints("0 assets");
    demo.edge(&["request", first, second]).prints("");
    eventually(LIMIT, || async {
        let said = demo.edge(&["mirror", "estimate", "--json"]).json();
        if said["assets"] == 2 { Ok(()) } else { Err(said) }
    })
    .await;
    demo.edge(&["mirror", "estimate"]).prints("2 assets, ");
    demo.edge(&["mirror", "order", second, "first"])
        .prints("has priority");
    demo.edge(&["mirror", "order", first, "-3"])
        .prints("has priority -3");
    demo.edge(&["mirror", "order", first, "sideways"])
        .fails(1, "sideways");
    demo.edge(&["mirror", "queue"])
        .prints(second)
        .prints("2 assets, ");
    demo.edge(&["mirror", "stop"]).prints("");
    demo.edge(&["mirror", "start"]).prints("");
    demo.edge(&["mirror", "status"])
        .prints("mirrored: 2 assets")
        .prints("ready: 0 assets");
    demo.edge(&["mirror", "queue"]).prints("0 assets, ");
    demo.edge(&["mirror", "pin", first]).prints("is pinned");
    demo.edge(&["mirror", "unpin", first]).prints("is not pinned");
    demo.edge(&["mirror", "evict", first]).prints("is evicted");
    demo.edge(&["mirror", "status"]).prints("mirrored: 1 assets");
    let nobody = testkit::asset_id(1).to_string();
    for what in ["pin", "evict"] {
        demo.edge(&["mirror", what, &nobody]).fails(1, "");
    }
    demo.edge(&["mirror", "order", &nobody, "first"]).fails(1, "");
}
