//! `link` and `mirror` of a running edge.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use testkit::{TempDir, eventually};

use crate::rig::{Running, Said, command, fieldline};

pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A demo: a core and an edge that are at work.
struct Demo {
    said: Value,
    _process: Running,
    _directory: TempDir,
}

impl Demo {
    async fn start() -> Self {
        let directory = testkit::temp_dir();
        let port = testkit::free_ports(4);
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

    /// What the edge has heard of, once that is two assets.
    async fn assets(&self) -> [String; 2] {
        eventually(LIMIT, || async {
            let all = self.edge(&["assets", "--json"]).json();
            let ids = all["assets"].as_array().into_iter().flatten();
            let mut ids = ids.filter_map(|asset| Some(asset["asset_id"].as_str()?.to_owned()));
            match (ids.next(), ids.next()) {
                (Some(first), Some(second)) => Ok([first, second]),
                _ => Err(format!("{all}")),
            }
        })
        .await
    }

    /// Waits until so many assets can be fetched.
    async fn ready(&self, count: u32) {
        eventually(LIMIT, || async {
            let said = self.edge(&["mirror", "estimate", "--json"]).json();
            if said["assets"] == count {
                Ok(())
            } else {
                Err(said)
            }
        })
        .await;
    }
}

fn named<'a>(list: &'a Value, field: &str, name: &str) -> &'a Value {
    let mut all = list.as_array().unwrap().iter();
    all.find(|one| one[field] == name)
        .unwrap_or_else(|| panic!("no {name} in {list}"))
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
    demo.edge(&["link", "share", "10%"]).prints("budget/share: 10");
    demo.edge(&["link", "share", "50"]).fails(1, "1 to 15 percent");
    demo.edge(&["link", "share", "half"])
        .fails(1, "\"half\" is no share");
    demo.edge(&["link", "share", "configured"])
        .prints("budget/share: ");
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
        .fails(1, "there is no route no-such-route; the routes are broadcasts, ");
    demo.edge(&["link", "live-first", "requests", "on"])
        .fails(1, "no route of its own");
    demo.edge(&["link", "live-first", "requests", "configured"])
        .prints("live_first/requests: as configured");
    demo.edge(&["link", "class", "requests", "assets"])
        .fails(1, "no route of its own");
    demo.edge(&["link", "class", "requests", "films"])
        .fails(1, "`films` is no class; there are requests, ");
    demo.edge(&["link", "class", "requests", "configured"])
        .prints("class/requests: as configured");
    demo.edge(&["link", "pause"]).prints("");
    status("desired: paused").await;
    demo.edge(&["link", "resume"]).prints("");
    status("desired: running").await;
    let json = demo.edge(&["link", "status", "--json"]).json();
    assert_eq!(json["desired"], "running", "{json}");
}

#[tokio::test(flavor = "multi_thread")]
async fn status_says_what_waits_how_long_it_is_held_what_was_spent_and_when_the_core_answered() {
    let demo = Demo::start().await;
    let [fetched, waits] = demo.assets().await;
    demo.edge(&["link", "budget", "--day", "200MB"])
        .prints("budget/per_day: ");
    demo.edge(&["request", &fetched]).prints("");
    demo.ready(1).await;
    // From now on a request waits for the core, and a receipt, which is sent again until the core has it.
    demo.edge(&["link", "pause", "requests"])
        .prints("route/requests: ");
    eventually(LIMIT, || async {
        let said = demo.edge(&["link", "status"]);
        let paused = said.out.contains("route requests: paused");
        paused.then_some(()).ok_or(said.out)
    })
    .await;
    demo.edge(&["request", &waits]).prints("");
    demo.edge(&["mirror", "start"]).prints("");
    let json = eventually(LIMIT, || async {
        let said = demo.edge(&["status", "--json"]);
        let json: Value = serde_json::from_str(&said.out).unwrap();
        let limits = &json["link"]["limits"];
        let waits = &named(&limits["routes"], "name", "requests")["lag_records"];
        let known = waits.as_f64() >= Some(2.0)
            && named(&limits["classes"], "class", "assets")["day_bytes"].as_f64() > Some(0.0)
            && limits["buffer"]["first"][0].is_object();
        known.then_some(json).ok_or(said.out)
    })
    .await;
    let (link, limits) = (&json["link"], &json["link"]["limits"]);
    assert_eq!(link["state"], "up", "{link}");
    let answered = link["last_contact_at"].as_i64().unwrap();
    let ago = common::chassis::now_ms() - answered;
    assert!((0..120_000).contains(&ago), "{ago} ms ago");
    let route = named(&limits["routes"], "name", "requests");
    assert!(
        route["paused"] == true && route["lag_bytes"].as_f64() > Some(0.0),
        "{route}"
    );
    // Topics of the exchange are kept for 30 days.
    let first = &limits["buffer"]["first"][0];
    let hours = first["hours"].as_f64().unwrap();
    assert!(
        (719.0..=720.0).contains(&hours) && first["by"] == "age",
        "{first}"
    );
    let (day, assets) = (&limits["day"], named(&limits["classes"], "class", "assets"));
    assert_eq!(day["limit"], 200e6, "{day}");
    assert!(
        day["bytes"].as_f64() >= assets["day_bytes"].as_f64(),
        "{day} {assets}"
    );

    let said = demo.edge(&["status"]);
    said.prints("edge edge-1 (version ")
        .prints("link: up; the core last answered 20")
        .prints("route requests: paused; ")
        .prints(" records wait, about ")
        .prints(", the oldest ")
        .prints("this site holds what waits for 30 d; then the oldest of ")
        .prints(" go first, for they are too old")
        .prints(" of 190.73 MiB; this month: ");
    let spent = said.out.lines().find(|line| line.starts_with("    assets: "));
    assert!(spent.is_some_and(|line| line.ends_with(" today")), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn assets_are_fetched_ordered_pinned_and_evicted_by_command() {
    let demo = Demo::start().await;
    let assets = demo.assets().await;
    let (first, second) = (assets[0].as_str(), assets[1].as_str());
    demo.edge(&["mirror", "estimate"]).prints("0 assets");
    demo.edge(&["request", first, second]).prints("");
    demo.ready(2).await;
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
