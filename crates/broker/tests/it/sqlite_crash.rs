//! The embedded broker against kill -9: what was acknowledged is there, in order, once; transactions are whole.
//!
//! A child process (this binary again, with a directory in its environment) sends and tells on stdout what was
//! acknowledged; it is killed at a random moment, and the file is looked at. All rounds work on the same file.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use broker::{Broker, Error, Outgoing, Record, TopicSpec};
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::sqlite::open;

const DIRECTORY: &str = "FIELDLINE_CRASH_DIRECTORY";
const ROUND: &str = "FIELDLINE_CRASH_ROUND";
const SENDERS: usize = 4;
const LIMIT: Duration = Duration::from_secs(30);

fn environment(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.into_string().unwrap())
}

/// Opens the broker as soon as the process before has let go of it.
async fn open_when_free(directory: &Path) -> Broker {
    let start = tokio::time::Instant::now();
    loop {
        match open(directory).await {
            Ok(broker) => return broker,
            Err(Error::Locked { .. }) if start.elapsed() < LIMIT => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

fn tell(line: std::fmt::Arguments<'_>) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).unwrap();
}

/// What the child does until it is killed. Without a directory this is no child and there is nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_sends_until_it_is_killed() {
    let (Some(directory), Some(round)) = (environment(DIRECTORY), environment(ROUND)) else {
        return;
    };
    let broker = open_when_free(&PathBuf::from(directory)).await;
    for topic in ["log", "data", "seals"] {
        broker.create_topic(&TopicSpec::new(topic, 2)).await.unwrap();
    }
    // On a line of its own, whatever the test harness has printed.
    tell(format_args!("\nopen"));
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..SENDERS {
        let (producer, round) = (broker.producer().unwrap(), round.clone());
        senders.spawn(async move {
            for n in 0_u64.. {
                let value = format!("{round}/{sender}/{n}");
                let key = format!("{round}/{sender}");
                let placement = producer
                    .send(Outgoing::new("log", key, value.clone().into_bytes()))
                    .await
                    .unwrap();
                tell(format_args!(
                    "ack {} {} {value}",
                    placement.partition, placement.offset
                ));
            }
        });
    }
    senders.spawn(async move {
        let mut transactions = broker.transactions("child").await.unwrap();
        for n in 0_u64.. {
            let batch =
                (0..3).map(|i| Outgoing::new("data", format!("{i}"), format!("{round}/{n}").into_bytes()));
            let seal = |_: &[broker::Placement]| {
                vec![Outgoing::new("seals", "k", format!("{round}/{n}").into_bytes())]
            };
            transactions.commit(batch.collect(), seal).await.unwrap();
            tell(format_args!("transaction {round}/{n}"));
        }
    });
    senders.join_all().await;
}

fn spawn(directory: &Path, round: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "sqlite_crash::child_sends_until_it_is_killed",
            "--nocapture",
        ])
        .env(DIRECTORY, directory)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

#[derive(Default)]
struct Told {
    records: BTreeMap<(i32, i64), String>,
    transactions: BTreeSet<String>,
}

fn text(record: &Record) -> String {
    String::from_utf8(record.value.as_deref().unwrap().to_vec()).unwrap()
}

async fn check(broker: &Broker, told: &Told) {
    let (mut log, mut last, mut seen) = (BTreeMap::new(), HashMap::new(), BTreeSet::new());
    broker
        .read_to_end("log", |record| {
            let value = text(&record);
            assert!(seen.insert(value.clone()), "{value} is there twice");
            let (sender, n) = value.rsplit_once('/').unwrap();
            let n: i64 = n.parse().unwrap();
            let before = last.insert(sender.to_owned(), n).unwrap_or(-1);
            assert_eq!(n, before + 1, "{value} is out of order");
            log.insert((record.partition, record.offset), value);
        })
        .await
        .unwrap();
    for (place, value) in &told.records {
        assert_eq!(log.get(place), Some(value), "acknowledged at {place:?}");
    }
    let mut parts: HashMap<String, usize> = HashMap::new();
    for topic in ["data", "seals"] {
        broker
            .read_to_end(topic, |record| *parts.entry(text(&record)).or_default() += 1)
            .await
            .unwrap();
    }
    assert!(parts.values().all(|count| *count == 4), "a transaction is torn");
    assert!(
        told.transactions.iter().all(|name| parts.contains_key(name)),
        "a committed transaction is missing"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_nothing_acknowledged_is_lost() {
    let seed: u64 = rand::random();
    eprintln!("seed {seed}");
    let mut random = rand::rngs::SmallRng::seed_from_u64(seed);
    let directory = tempfile::tempdir().unwrap();
    let mut told = Told::default();
    for round in 0..testkit::rounds(4) {
        let mut child = spawn(directory.path(), round);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Killed while opening now and then, mostly while sending.
        let wait = Duration::from_millis(random.random_range(1..400));
        let mut deadline = (round % 4 == 3).then(|| tokio::time::Instant::now() + wait);
        loop {
            let at = deadline.unwrap_or_else(|| tokio::time::Instant::now() + LIMIT);
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(at) => {
                    assert!(deadline.is_some(), "seed {seed}: the child does not open the broker");
                    child.start_kill().unwrap();
                    deadline = Some(tokio::time::Instant::now() + LIMIT);
                }
                line = lines.next_line() => {
                    let Some(line) = line.unwrap() else { break };
                    let words: Vec<_> = line.split(' ').collect();
                    match words[..] {
                        ["open"] => {
                            deadline.get_or_insert_with(|| tokio::time::Instant::now() + wait);
                        }
                        ["ack", partition, offset, value] => {
                            let place = (partition.parse().unwrap(), offset.parse().unwrap());
                            told.records.insert(place, value.to_owned());
                        }
                        ["transaction", name] => {
                            told.transactions.insert(name.to_owned());
                        }
                        _ => {}
                    }
                }
            }
        }
        child.wait().await.unwrap();
        let broker = open_when_free(directory.path()).await;
        if broker.describe("seals").await.unwrap().is_some() {
            check(&broker, &told).await;
        }
    }
    eprintln!(
        "{} records, {} transactions acknowledged",
        told.records.len(),
        told.transactions.len()
    );
    assert!(!told.records.is_empty() && !told.transactions.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_process_is_told_who_holds_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = spawn(directory.path(), 0);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let opened = async { while lines.next_line().await.unwrap().unwrap() != "open" {} };
    tokio::time::timeout(LIMIT, opened)
        .await
        .expect("the child opens the broker");
    let error = open(directory.path()).await.unwrap_err();
    let Error::Locked { holder, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(
        holder.ends_with(&format!("pid {}", child.id().unwrap())),
        "{holder}"
    );
    child.kill().await.unwrap();
    open_when_free(directory.path()).await.ping().await.unwrap();
}
