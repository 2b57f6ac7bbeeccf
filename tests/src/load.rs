//! Records of many kinds, sent all the while, from a seed.

use std::time::Duration;

use anyhow::{Context, Result};
use broker::{Broker, Outgoing, Settings};
use prometheus::Registry;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinHandle;

/// How long it waits between sends, and after a send that failed.
const PAUSE: Duration = Duration::from_millis(100);

/// How batches come compressed.
const COMPRESSIONS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
/// A transaction that takes longer is left to the broker.
const TRANSACTION: Duration = Duration::from_secs(10);

/// Sends to a broker until it is stopped: with every compression, now and then in transactions, some of which are
/// aborted. A send that fails is not repeated: what is at the broker is what counts.
#[derive(Debug)]
pub struct Load {
    task: JoinHandle<()>,
}

impl Load {
    /// Starts to send to these topics; an answer that does not come holds it up and harms nothing.
    ///
    /// # Errors
    /// When the URL is none.
    pub async fn start(url: &str, topics: Vec<String>, seed: u64) -> Result<Self> {
        let mut brokers = Vec::new();
        for compression in COMPRESSIONS {
            let mut settings = Settings::url(url);
            settings
                .librdkafka
                .insert("compression.type".into(), compression.into());
            brokers.push(Broker::open(&settings, "load", &Registry::new()).await?);
        }
        let task = tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(seed);
            loop {
                for topic in &topics {
                    let broker = &brokers[random.random_range(0..brokers.len())];
                    if random.random_bool(0.03) {
                        transactions(broker, topic, &mut random).await;
                        continue;
                    }
                    let count = random.random_range(0..6);
                    let records = (0..count).map(|_| record(topic, &mut random)).collect();
                    let Ok(producer) = broker.producer() else { return };
                    let _kept_or_not = producer.send_all(records).await;
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        Ok(Self { task })
    }

    /// Stops, in the middle of a send if it must.
    pub async fn stop(self) {
        self.task.abort();
        let _aborted = self.task.await;
    }
}

/// Sends `count` records to each topic at once.
///
/// # Errors
/// When the broker does not take them.
pub async fn fill(broker: &Broker, topics: &[String], count: usize, seed: u64) -> Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    for topic in topics {
        let records = (0..count).map(|_| record(topic, &mut random)).collect();
        let sent = broker.producer()?.send_all(records).await;
        sent.with_context(|| format!("cannot fill {topic}"))?;
    }
    Ok(())
}

/// A few transactions in a row; the last may be aborted at any point, or by the broker when nobody ends it.
async fn transactions(broker: &Broker, topic: &str, random: &mut StdRng) {
    let torn = random.random_bool(0.5);
    let batches: Vec<Vec<Outgoing>> = (0..random.random_range(1..4))
        .map(|_| {
            (0..random.random_range(1..8))
                .map(|_| record(topic, random))
                .collect()
        })
        .collect();
    let until = Duration::from_millis(random.random_range(1..60));
    let id = format!("load.{topic}");
    let work = async {
        let mut transactions = broker.transactions(&id).await?;
        let last = batches.len() - 1;
        for (number, batch) in batches.into_iter().enumerate() {
            let committed = transactions.commit(batch, |_| Vec::new());
            if torn && number == last {
                // Dropped in the middle, unless it is faster than that.
                let _committed_or_not = tokio::time::timeout(until, committed).await;
            } else {
                committed.await?;
            }
        }
        Ok::<(), broker::Error>(())
    };
    let _done_or_not = tokio::time::timeout(TRANSACTION, work).await;
}

/// Small and large, with and without key, value and headers; some can be compressed and some cannot.
fn record(topic: &str, random: &mut StdRng) -> Outgoing {
    let size = match random.random_range(0..40) {
        0 => random.random_range(5_000..20_000),
        1 => 0,
        _ => random.random_range(20..400),
    };
    let mut value = vec![b'x'; size];
    if random.random_bool(0.7) {
        random.fill(&mut value[..]);
    }
    let mut record = Outgoing::new(topic, format!("key-{}", random.random_range(0..50)), value);
    if random.random_bool(0.1) {
        record.key = None;
        record.partition = Some(random.random_range(0..3));
    }
    for number in 0..random.random_range(0..3) {
        record = record.with_header(format!("h{number}"), random.random::<[u8; 8]>().to_vec());
    }
    record
}
