//! Transactions that a killed broker tears must not hold up readers.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use broker::{Broker, Outgoing, Position, Settings, TopicSpec};
use e2e::installation::{engine, tell_engine};
use prometheus::Registry;

/// The most that a reader may wait once the broker is back.
const LIMIT: Duration = Duration::from_secs(20);

async fn open(client: &str) -> Result<Broker> {
    let settings = Settings {
        url: engine("KAFKA_URL")?,
        ..Settings::default()
    };
    Ok(Broker::open(&settings, client, &Registry::new()).await?)
}

/// Sends a record in a transaction, says so, and ends it only when told: as a producer that died with its machine.
async fn tear(
    topic: String,
    number: usize,
    opened: mpsc::Sender<()>,
    held: mpsc::Receiver<()>,
) -> Result<bool> {
    let broker = open(&format!("torn.{number}")).await?;
    let id = format!("torn-{}-{number}", std::process::id());
    let mut transactions = broker.transactions(&id).await?;
    let batch = vec![Outgoing::new(&topic, "torn", b"never seen".to_vec())];
    let committed = transactions.commit(batch, move |_| {
        // Both ends are dropped when the test is over, which is as good as a word.
        let _told = opened.send(());
        let _over = held.recv();
        Vec::new()
    });
    Ok(committed.await.is_ok())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs KAFKA_URL"]
async fn two_transactions_torn_by_a_killed_broker_hold_up_no_reader_longer_than_twenty_seconds() -> Result<()>
{
    let topic = format!("torn-{}", std::process::id());
    let broker = open("torn.reader").await?;
    broker.create_topic(&TopicSpec::new(&topic, 1)).await?;
    let (opened, open) = mpsc::channel();
    let mut holds = Vec::new();
    let mut torn = Vec::new();
    for number in 0..2 {
        let (hold, held) = mpsc::channel();
        holds.push(hold);
        torn.push(tokio::spawn(tear(topic.clone(), number, opened.clone(), held)));
    }
    drop(opened);
    tokio::task::spawn_blocking(move || -> Result<()> {
        for _ in 0..2 {
            open.recv_timeout(3 * LIMIT)
                .context("a transaction was not opened")?;
        }
        tell_engine("kill", "core")?;
        tell_engine("start", "core")
    })
    .await??;
    let back = Instant::now();
    let after = Outgoing::new(&topic, "after", b"seen".to_vec());
    broker.producer()?.send(after).await?;
    let mut reader = broker.reader(&[Position::beginning(&topic, 0)]).await?;
    let mut seen = Vec::new();
    while seen.is_empty() && back.elapsed() < 2 * LIMIT {
        seen = reader.next(10, Duration::from_secs(1)).await?;
    }
    let waited = back.elapsed();
    let values: Vec<_> = seen.iter().filter_map(|record| record.value.as_deref()).collect();
    ensure!(values == [b"seen"], "the reader saw {values:?}");
    ensure!(waited < LIMIT, "the reader waited {waited:?}");
    drop(holds);
    for task in torn {
        ensure!(!task.await??, "a transaction that was timed out was committed");
    }
    broker
        .delete_topic(&topic)
        .await
        .context("cannot delete the topic")
}
