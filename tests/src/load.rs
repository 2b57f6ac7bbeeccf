//! Records of many kinds, sent all the while, from a seed.

use std::time::Duration;

use anyhow::{Context, Result};
use broker::{Broker, Outgoing};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinHandle;

use crate::pair;

/// How long it waits between sends, and after a send that failed.
const PAUSE: Duration = Duration::from_millis(100);

/// Sends to a broker until it is stopped. A send that fails is not repeated: what is at the broker is what counts.
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
        let broker = pair::open(url, "load").await?;
        let task = tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(seed);
            loop {
                for topic in &topics {
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
