use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use prometheus::Registry;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use table::contract::TABLES;
use table::{Select, Session, Settings, Value, Write};

table::rules!(run);

async fn run(rule: impl AsyncFnOnce(&Session) -> table::Result<()>) {
    let place = tempfile::tempdir().unwrap();
    rule(&open(&file(place.path())).await.unwrap()).await.unwrap();
}

fn file(place: &Path) -> String {
    format!("sqlite://{}/deeper/table.db", place.display())
}

async fn open(url: &str) -> table::Result<Session> {
    Session::open(
        &Settings {
            url: url.to_owned(),
            ..Settings::default()
        },
        "tests",
        &Registry::new(),
    )
    .await
}

fn row(name: &str) -> Write {
    Write::to("things")
        .set("shelf", "a")
        .set("box", 1)
        .set("name", name)
}

fn key(name: &str) -> [(&'static str, Value); 3] {
    [("shelf", "a".into()), ("box", 1.into()), ("name", name.into())]
}

#[tokio::test]
async fn a_second_session_in_the_process_shares_the_engine_and_a_later_one_finds_the_rows() {
    let place = tempfile::tempdir().unwrap();
    let url = file(place.path());
    let first = open(&url).await.unwrap();
    let second = open(&url).await.unwrap();
    first.migrate(TABLES).await.unwrap();
    second.prepare(TABLES).await.unwrap();
    first.upsert(row("x").set("count", 1)).await.unwrap();
    assert_eq!(
        second
            .get("things", &key("x"))
            .await
            .unwrap()
            .unwrap()
            .int("count"),
        Some(1)
    );
    drop((first, second));
    let later = open(&url).await.unwrap();
    later.prepare(TABLES).await.unwrap();
    assert_eq!(
        later
            .get("things", &key("x"))
            .await
            .unwrap()
            .unwrap()
            .int("count"),
        Some(1)
    );
}

#[tokio::test]
async fn the_file_is_plain_to_other_programs() {
    let place = tempfile::tempdir().unwrap();
    let session = open(&file(place.path())).await.unwrap();
    session.migrate(TABLES).await.unwrap();
    session
        .upsert(row("x").set("note", "hello").set("sold", true).at(10))
        .await
        .unwrap();
    let other = rusqlite::Connection::open(place.path().join("deeper/table.db")).unwrap();
    let found = other.query_row(
        "SELECT shelf, box, name, note, sold, _stamps FROM things",
        [],
        |row| {
            Ok((
                row.get(0)?,
                row.get(1)?,
                row.get(2)?,
                row.get(3)?,
                row.get(4)?,
                row.get(5)?,
            ))
        },
    );
    let found: (String, i32, String, String, bool, String) = found.unwrap();
    assert_eq!(
        (
            found.0.as_str(),
            found.1,
            found.2.as_str(),
            found.3.as_str(),
            found.4
        ),
        ("a", 1, "x", "hello", true)
    );
    assert_eq!(
        found.5,
        r#"{"marker":{"t":10},"cells":{"note":{"t":10},"sold":{"t":10}}}"#
    );
}

#[tokio::test]
async fn operations_are_counted_and_a_later_session_takes_the_series_over() {
    let place = tempfile::tempdir().unwrap();
    let registry = Registry::new();
    let settings = Settings {
        url: file(place.path()),
        ..Settings::default()
    };
    drop(Session::open(&settings, "tests", &registry).await.unwrap());
    let session = Session::open(&settings, "tests", &registry).await.unwrap();
    session.prepare(TABLES).await.unwrap_err();
    session.migrate(TABLES).await.unwrap();
    session.upsert(row("x")).await.unwrap();
    let text = prometheus::TextEncoder::new()
        .encode_to_string(&registry.gather())
        .unwrap();
    for line in [
        "table_operation_seconds_count{operation=\"upsert\"} 1",
        "table_operation_seconds_count{operation=\"migrate\"} 1",
        "table_errors_total{operation=\"prepare\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in:\n{text}");
    }
}

/// The role that this test binary plays when a test starts it as a process of its own.
fn role() -> Option<String> {
    std::env::var("TABLE_TEST_CHILD").ok()
}

fn child(test: &str, url: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([test, "--exact", "--nocapture"])
        .env("TABLE_TEST_CHILD", url);
    command
        .stdout(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

/// Prints a line at once, past the test harness.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes())
        .and_then(|()| out.flush())
        .unwrap();
}

#[tokio::test]
async fn a_second_process_is_told_who_holds_the_file() {
    if let Some(url) = role() {
        let _session = open(&url).await.unwrap();
        say("open");
        return std::future::pending().await;
    }
    let place = tempfile::tempdir().unwrap();
    let url = file(place.path());
    let mut holder = child("sqlite::a_second_process_is_told_who_holds_the_file", &url);
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("open")));
    let error = open(&url).await.unwrap_err();
    let named = format!("is held by pid {} ", holder.id());
    assert!(
        error.retryable() && error.to_string().contains(&named),
        "{error} does not say {named}"
    );
    holder.kill().unwrap();
    holder.wait().unwrap();
    open(&url).await.unwrap();
}

/// Writes rows from several tasks until it is killed, and prints each one once it is acknowledged.
async fn write_until_killed(url: &str) {
    // The test's own process gives the file back a moment after it dropped its session.
    let session = testkit::eventually(Duration::from_secs(10), || open(url)).await;
    session.migrate(TABLES).await.unwrap();
    let base = std::process::id();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let session = session.clone();
        writers.spawn(async move {
            for turn in 0.. {
                let names = (0..1 + turn % 3)
                    .map(|part| format!("{base}-{writer}-{turn}-{part}"))
                    .collect::<Vec<_>>();
                let rows = names
                    .iter()
                    .map(|name| row(name).set("note", name).set("image", vec![7; 3000]));
                session.upsert_all(rows.collect()).await.unwrap();
                names.iter().for_each(|name| say(&format!("acked {name}")));
            }
        });
    }
    writers.join_all().await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    if let Some(url) = role() {
        return write_until_killed(&url).await;
    }
    let seed = std::env::var("TABLE_TEST_SEED")
        .ok()
        .map_or_else(rand::random, |seed| seed.parse().unwrap());
    say(&format!("TABLE_TEST_SEED={seed}"));
    let mut random = StdRng::seed_from_u64(seed);
    let place = tempfile::tempdir().unwrap();
    let url = file(place.path());
    let mut acked = BTreeMap::new();
    for round in 0..testkit::rounds(8) {
        let mut writer = child("sqlite::what_was_acknowledged_survives_kill_9", &url);
        let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        let wait = Duration::from_micros(random.random_range(0..300_000));
        let killer = std::thread::spawn(move || {
            std::thread::park_timeout(wait);
            writer.kill().unwrap();
            writer.wait().unwrap();
        });
        // A line that the kill cut in half was not printed whole: nobody heard of it.
        let lines = lines.map_while(Result::ok);
        let heard = lines.filter_map(|line| Some(line.split_once("acked ")?.1.to_owned()));
        acked.extend(
            heard
                .filter(|name| name.split('-').count() == 4)
                .map(|name| (name, round)),
        );
        killer.join().unwrap();
        let session = open(&url).await.unwrap();
        session.migrate(TABLES).await.unwrap();
        for (name, round) in &acked {
            let found = session.get("things", &key(name)).await.unwrap();
            let note = found.as_ref().and_then(|found| found.text("note"));
            assert_eq!(
                note,
                Some(name.as_str()),
                "acknowledged in round {round}, seed {seed}"
            );
        }
        drop(session);
        let file = rusqlite::Connection::open(place.path().join("deeper/table.db")).unwrap();
        let sound: String = file
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(sound, "ok");
    }
    assert!(!acked.is_empty(), "no round lived long enough to write");
}

#[derive(Debug, Clone)]
enum Step {
    Write {
        at: i64,
        note: Option<Option<&'static str>>,
        count: Option<Option<i32>>,
    },
    Delete {
        at: i64,
    },
}

impl Step {
    fn at(&self) -> i64 {
        match self {
            Self::Write { at, .. } | Self::Delete { at } => *at,
        }
    }

    async fn apply(&self, session: &Session, name: &str) {
        match self {
            Self::Delete { at } => session.delete("things", &key(name), *at).await.unwrap(),
            Self::Write { at, note, count } => {
                let mut write = row(name).at(*at);
                write = note.iter().fold(write, |write, note| write.set("note", *note));
                write = count
                    .iter()
                    .fold(write, |write, count| write.set("count", *count));
                session.upsert(write).await.unwrap();
            }
        }
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    let note = proptest::option::of(proptest::option::of(prop_oneof![
        Just("a"),
        Just("ab"),
        Just("b")
    ]));
    let count = proptest::option::of(proptest::option::of(-1..2i32));
    prop_oneof![
        4 => (1..6i64, note, count).prop_map(|(at, note, count)| Step::Write { at, note, count }),
        1 => (1..6i64).prop_map(|at| Step::Delete { at }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_arrival_does_not_matter(
        (steps, shuffled) in proptest::collection::vec(any_step(), 1..10)
            .prop_flat_map(|steps| (Just(steps.clone()), Just(steps).prop_shuffle())),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let place = tempfile::tempdir().unwrap();
            let session = open(&file(place.path())).await.unwrap();
            session.migrate(TABLES).await.unwrap();
            let mut sorted = steps;
            sorted.sort_by_key(Step::at);
            for step in &sorted {
                step.apply(&session, "x").await;
            }
            for step in &shuffled {
                step.apply(&session, "y").await;
            }
            let rows = session.select(Select::from("things").partition("shelf", "a").columns(&["note", "count"])).await;
            let rows = rows.unwrap();
            let x = session.get("things", &key("x")).await.unwrap();
            let y = session.get("things", &key("y")).await.unwrap();
            assert_eq!(x.is_some(), y.is_some());
            assert!(rows.windows(2).all(|pair| pair[0] == pair[1]), "{rows:?}");
        });
    }
}
