//! A broker that is fenced for a moment lists no broker in its metadata. Clients must get over that.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use broker::{
    Broker, ConsumerSettings, Failure, Handler, Outgoing, Record, Settings, Subscription, TopicSpec,
};
use e2e::installation::{engine, tell_engine};
use e2e::site::eventually;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

/// Some clients, since only those are hit that ask for metadata at the wrong moment.
const CLIENTS: usize = 12;
/// Longer than a broker's session.
const STALL: Duration = Duration::from_secs(4);
const LIMIT: Duration = Duration::from_secs(90);

/// Passes on what it gets.
struct Echo(UnboundedSender<Record>);

impl Handler for Echo {
    async fn handle(&self, record: Record) -> Result<(), Failure> {
        self.0.send(record).map_err(Failure::fatal)
    }
}

struct Client {
    broker: Broker,
    records: UnboundedReceiver<Record>,
}

impl Client {
    async fn start(number: usize, topic: &str, stop: &CancellationToken) -> Result<Self> {
        let settings = Settings::url(engine("KAFKA_URL")?);
        let broker = Broker::open(
            &settings,
            &format!("client-{number}"),
            &prometheus::Registry::new(),
        )
        .await?;
        let (to, records) = unbounded_channel();
        let subscription = Subscription {
            topics: vec![topic.to_owned()],
            suffixes: Vec::new(),
        };
        let group = ConsumerSettings::group(format!("{topic}-{number}"));
        let consumer = broker.consumer(subscription, group)?;
        let stop = stop.clone();
        tokio::spawn(async move { consumer.run(Arc::new(Echo(to)), stop).await });
        Ok(Self { broker, records })
    }

    /// Sends a record, and waits until it comes back through the client's own group.
    async fn round_trip(&mut self, topic: &str, key: &str) -> Result<()> {
        eventually(LIMIT, "a record is sent", || async {
            let producer = self.broker.producer()?;
            Ok(producer.send(Outgoing::new(topic, key, vec![1])).await?)
        })
        .await?;
        loop {
            let next = tokio::time::timeout(LIMIT, self.records.recv()).await;
            let record = next
                .context("the group's member gets nothing")?
                .context("member has ended")?;
            if record.key.as_deref() == Some(key.as_bytes()) {
                return Ok(());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn clients_get_over_a_broker_that_was_fenced() -> Result<()> {
    let stop = CancellationToken::new();
    let topic = format!("fenced-{:016x}", rand::random::<u64>());
    let first = Client::start(0, &topic, &stop).await?;
    ensure!(first.broker.create_topic(&TopicSpec::new(&topic, 1)).await?);
    let mut clients = vec![first];
    for number in 1..CLIENTS {
        clients.push(Client::start(number, &topic, &stop).await?);
    }
    for (number, client) in clients.iter_mut().enumerate() {
        client.round_trip(&topic, &format!("before-{number}")).await?;
    }
    for stall in 0..3 {
        tell_engine("pause", "core")?;
        // Whoever asks now is answered once the broker has noticed that its session is over.
        let asking: Vec<_> = clients
            .iter()
            .map(|client| {
                let (broker, topic) = (client.broker.clone(), topic.clone());
                tokio::spawn(async move {
                    for _ in 0..40 {
                        let _answer = broker.describe(&topic).await;
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                })
            })
            .collect();
        tokio::time::sleep(STALL).await;
        tell_engine("resume", "core")?;
        for task in asking {
            task.await?;
        }
        for (number, client) in clients.iter_mut().enumerate() {
            client
                .round_trip(&topic, &format!("after-{stall}-{number}"))
                .await?;
        }
    }
    stop.cancel();
    Ok(())
}
