//! A handler that remembers what it handled, and consumers that run it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Lab, text};
use crate::broker::Broker;
use crate::consumer::{ConsumerSettings, Subscription};
use crate::error::Result;
use crate::handler::{Failure, Handler};
use crate::record::Record;

type Effect = dyn Fn(&Record, usize) -> std::result::Result<(), Failure> + Send + Sync;

/// Remembers what it handled; `effect` decides what comes of a record, `held` offsets wait for the gate.
pub(super) struct Probe {
    pub(super) handled: Mutex<Vec<Record>>,
    attempts: AtomicUsize,
    held: Vec<i64>,
    pub(super) gate: Notify,
    pub(super) entered: Notify,
    effect: Box<Effect>,
}

impl Probe {
    pub(super) fn new(
        effect: impl Fn(&Record, usize) -> std::result::Result<(), Failure> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::holding(Vec::new(), effect)
    }

    pub(super) fn holding(
        held: Vec<i64>,
        effect: impl Fn(&Record, usize) -> std::result::Result<(), Failure> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            handled: Mutex::default(),
            attempts: AtomicUsize::new(0),
            held,
            gate: Notify::new(),
            entered: Notify::new(),
            effect: Box::new(effect),
        })
    }

    pub(super) fn count(&self) -> usize {
        self.handled.lock().unwrap().len()
    }

    pub(super) fn texts(&self) -> Vec<String> {
        self.handled.lock().unwrap().iter().map(text).collect()
    }

    pub(super) async fn reached(&self, lab: &Lab, count: usize) {
        lab.eventually(async || match self.count() {
            reached if reached >= count => Ok(()),
            reached => Err(format!("{reached} of {count} handled")),
        })
        .await;
    }
}

impl Handler for Probe {
    async fn handle(&self, record: Record) -> std::result::Result<(), Failure> {
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed);
        (self.effect)(&record, attempt)?;
        if self.held.contains(&record.offset) {
            self.entered.notify_one();
            self.gate.notified().await;
        }
        self.handled.lock().unwrap().push(record);
        Ok(())
    }
}

pub(super) fn start(
    broker: &Broker,
    topic: &str,
    group: &str,
    probe: &Arc<Probe>,
) -> (CancellationToken, JoinHandle<Result<()>>) {
    let consumer = broker
        .consumer(Subscription::topics([topic]), ConsumerSettings::group(group))
        .unwrap();
    let stop = CancellationToken::new();
    (stop.clone(), tokio::spawn(consumer.run(probe.clone(), stop)))
}

pub(super) async fn finish(lab: &Lab, (stop, running): (CancellationToken, JoinHandle<Result<()>>)) {
    stop.cancel();
    timeout(lab.limit, running)
        .await
        .expect("the consumer stops in time")
        .unwrap()
        .unwrap();
}

pub(super) async fn committed_is(
    lab: &Lab,
    broker: &Broker,
    group: &str,
    topic: &str,
    expected: &[(i32, i64)],
) {
    lab.eventually(async || {
        let mut committed = broker.committed(group, topic).await.unwrap();
        committed.sort_unstable();
        if committed == expected {
            Ok(())
        } else {
            Err(format!("committed {committed:?}, not {expected:?}"))
        }
    })
    .await;
}
