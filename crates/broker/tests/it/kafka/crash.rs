//! Processes that are killed in the middle. A child is this test binary again, asked for one of the tests at the end.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use broker::{Broker, Outgoing, Record, TopicSpec};

use super::{env, open, plain, read, unique};

/// What may be lost to a torn transaction: DESIGN 5's limit for any reader.
const LIMIT: Duration = Duration::from_secs(20);
const BATCH: u8 = 5;

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // On unix this is SIGKILL.
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn child(test: &str, topic: &str, id: &str) -> Killed {
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            &format!("kafka::crash::{test}"),
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("CRASH_TOPIC", topic)
        .env("CRASH_ID", id)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Killed(child)
}

/// Waits until the child has said a word so often; returns the numbers it said.
fn heard(child: &mut Killed, word: &str, times: usize) -> Vec<u64> {
    let lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let said = lines.map_while(Result::ok).filter_map(|line| {
        let (_, number) = line.split_once(word)?;
        Some(number.trim().parse().unwrap())
    });
    let said: Vec<u64> = said.take(times).collect();
    assert_eq!(said.len(), times, "the child ended early");
    said
}

/// What `heard` hears.
#[expect(clippy::print_stdout, reason = "the parent reads it")]
fn say(word: &str, number: u64) {
    println!("{word} {number}");
}

/// Batches, with how many records of each were read.
fn batches(records: &[Record]) -> BTreeMap<u64, usize> {
    let mut batches = BTreeMap::new();
    for record in records {
        let number = String::from_utf8(record.key.clone().unwrap().to_vec())
            .unwrap()
            .parse()
            .unwrap();
        *batches.entry(number).or_default() += 1;
    }
    batches
}

async fn all(broker: &Broker, topic: &str) -> Vec<Record> {
    let mut records = Vec::new();
    broker
        .read_to_end(topic, |record| records.push(record))
        .await
        .unwrap();
    records
}

#[tokio::test]
#[ignore = "needs KAFKA_URL"]
async fn killed_producers_lose_nothing_acknowledged_and_keep_transactions_whole() {
    let broker = open(&plain()).await;
    let (topic, id) = (unique("crash"), unique("id"));
    broker.create_topic(&TopicSpec::new(&topic, 1)).await.unwrap();
    let mut committed = Vec::new();
    for round in 1..=testkit::rounds(4) {
        let mut child = child("commits_batches_until_killed", &topic, &id);
        committed.extend(heard(&mut child, "committed ", 3 * round));
        drop(child);
        // The next holder of the id finds whole batches only, and goes on.
        let mut transactions = broker.transactions(&id).await.unwrap();
        let seen = batches(&all(&broker, &topic).await);
        assert!(
            seen.values().all(|count| *count == usize::from(BATCH) + 1),
            "torn batches: {seen:?}"
        );
        assert!(
            committed.iter().all(|number| seen.contains_key(number)),
            "lost batches: {committed:?} {seen:?}"
        );
        let number = 1_000_000 + round as u64;
        transactions
            .commit(batch(&topic, number), |_| vec![one(&topic, number)])
            .await
            .unwrap();
        committed.push(number);
    }
}

#[tokio::test]
#[ignore = "needs KAFKA_URL"]
async fn torn_transactions_hold_up_no_reader_longer_than_twenty_seconds() {
    let broker = open(&plain()).await;
    let topic = unique("torn");
    broker.create_topic(&TopicSpec::new(&topic, 1)).await.unwrap();
    let mut torn: Vec<_> = (0..2)
        .map(|n| {
            child(
                "opens_a_transaction_and_hangs",
                &topic,
                &unique(&format!("torn{n}")),
            )
        })
        .collect();
    for child in &mut torn {
        heard(child, "open ", 1);
    }
    let begun = Instant::now();
    drop(torn);
    broker.producer().unwrap().send(one(&topic, 7)).await.unwrap();
    let records = read(&broker, &topic, 1, LIMIT).await;
    assert!(begun.elapsed() < LIMIT);
    assert_eq!(batches(&records), BTreeMap::from([(7, 1)]));
}

fn one(topic: &str, number: u64) -> Outgoing {
    Outgoing::new(topic, number.to_string(), b"value".to_vec())
}

fn batch(topic: &str, number: u64) -> Vec<Outgoing> {
    (0..BATCH).map(|_| one(topic, number)).collect()
}

#[tokio::test]
#[ignore = "the child of a test above"]
async fn commits_batches_until_killed() {
    if std::env::var_os("CRASH_TOPIC").is_none() {
        return;
    }
    let (topic, broker) = (env("CRASH_TOPIC"), open(&plain()).await);
    let mut transactions = broker.transactions(&env("CRASH_ID")).await.unwrap();
    let begun = u64::from(std::process::id()) << 24;
    for number in begun.. {
        transactions
            .commit(batch(&topic, number), |_| vec![one(&topic, number)])
            .await
            .unwrap();
        say("committed", number);
    }
}

#[tokio::test]
#[ignore = "the child of a test above"]
async fn opens_a_transaction_and_hangs() {
    if std::env::var_os("CRASH_TOPIC").is_none() {
        return;
    }
    let (topic, broker) = (env("CRASH_TOPIC"), open(&plain()).await);
    let mut transactions = broker.transactions(&env("CRASH_ID")).await.unwrap();
    let committed = transactions.commit(batch(&topic, 1), |places| {
        say("open", places.len() as u64);
        loop {
            std::thread::park();
        }
    });
    committed.await.unwrap();
}
