//! Sending: one record, several, or a batch that is seen whole or not at all.

use std::fmt;
use std::sync::Arc;

use crate::engine::{Engine, TransactionsEngine};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::record::{Outgoing, Placement};
use crate::trace;

/// Sends records. Cheap to clone.
#[derive(Clone)]
pub struct Producer {
    engine: Arc<dyn Engine>,
    metrics: Arc<Metrics>,
}

impl Producer {
    pub(crate) fn new(engine: Arc<dyn Engine>, metrics: Arc<Metrics>) -> Self {
        Self { engine, metrics }
    }

    /// Sends a record and returns its place when it is durable.
    pub async fn send(&self, record: Outgoing) -> Result<Placement> {
        let topic = record.topic.clone();
        let placements = self.send_all(vec![record]).await?;
        placements.into_iter().next().ok_or_else(|| Error::Send {
            topic,
            source: "the engine placed no record".into(),
        })
    }

    /// Sends records and returns their places, in the order given, when all are durable. After an error some may have
    /// been kept. Gives the current span's `traceparent` to each record that has none.
    pub async fn send_all(&self, mut records: Vec<Outgoing>) -> Result<Vec<Placement>> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        trace::inject_all(&mut records);
        let topics = self.metrics.count_topics(&records);
        let placements = self.engine.send_all(records).await?;
        self.metrics.produced(topics);
        Ok(placements)
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("engine", &self.engine).finish()
    }
}

/// The holder of a transactional id. It is spent after any error: take a new one from the broker, which fences what
/// is left of this one, and look at the destination again, for an error does not say whether a commit happened.
#[derive(Debug)]
pub struct Transactions {
    engine: Option<Box<dyn TransactionsEngine>>,
    transactional_id: String,
    metrics: Arc<Metrics>,
}

impl Transactions {
    pub(crate) fn new(engine: Box<dyn TransactionsEngine>, id: &str, metrics: Arc<Metrics>) -> Self {
        Self {
            engine: Some(engine),
            transactional_id: id.into(),
            metrics,
        }
    }

    /// Sends the batch, then what `seal` makes of the batch's places, and commits: all or nothing. Returns the places
    /// of the batch, then those of the sealing records. Dropping the future spends the handle: what was not sealed is
    /// never seen, what was sealed may or may not be, as after an error. `seal` must not wait for anything. No
    /// `traceparent` is added: carried records stay what they are.
    pub async fn commit(
        &mut self,
        batch: Vec<Outgoing>,
        seal: impl FnOnce(&[Placement]) -> Vec<Outgoing> + Send,
    ) -> Result<Vec<Placement>> {
        // Taken, so that an error or a dropped future leaves the handle spent.
        let mut engine = self.engine.take().ok_or_else(|| Error::Spent {
            transactional_id: self.transactional_id.clone(),
        })?;
        let mut topics = self.metrics.count_topics(&batch);
        let mut placements = engine.begin(batch).await?;
        let sealed = seal(&placements);
        topics.extend(self.metrics.count_topics(&sealed));
        placements.extend(engine.commit(sealed).await?);
        self.metrics.produced(topics);
        self.engine = Some(engine);
        Ok(placements)
    }

    /// Sends the batch in a transaction that is given up: whether the broker takes it, with no reader ever seeing it.
    pub async fn rehearse(mut self, batch: Vec<Outgoing>) -> Result<()> {
        let mut engine = self.engine.take().ok_or_else(|| Error::Spent {
            transactional_id: self.transactional_id.clone(),
        })?;
        engine.begin(batch).await.map(drop)
    }
}
