//! Reading given partitions, outside any group.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::ReaderEngine;
use crate::error::Result;
use crate::metrics::Metrics;
use crate::record::{Position, Record};

/// Reads partitions from given positions on, committed records only, in order within each partition. It keeps its
/// positions itself; nothing is committed. Futures may be dropped without losing records.
#[derive(Debug)]
pub struct Reader {
    engine: Box<dyn ReaderEngine>,
    metrics: Arc<Metrics>,
}

impl Reader {
    pub(crate) fn new(engine: Box<dyn ReaderEngine>, metrics: Arc<Metrics>) -> Self {
        Self { engine, metrics }
    }

    /// The next records, as soon as there are any and at most `max_records`; none after `max_wait`. A position outside
    /// its partition is [`crate::Error::OffsetOutOfRange`]; seek before going on.
    pub async fn next(&mut self, max_records: usize, max_wait: Duration) -> Result<Vec<Record>> {
        let records = self.engine.next(max_records.max(1), max_wait).await?;
        for run in records.chunk_by(|a, b| a.topic == b.topic) {
            self.metrics.consumed(&run[0].topic, run.len());
        }
        Ok(records)
    }

    /// The next offset to be read, past whatever readers never see; none before it is known, or for a partition that
    /// is not read.
    pub fn position(&self, topic: &str, partition: i32) -> Option<i64> {
        self.engine.position(topic, partition)
    }

    /// Goes on somewhere else in one of the partitions.
    pub async fn seek(&mut self, position: Position) -> Result<()> {
        self.engine.seek(position).await
    }
}
