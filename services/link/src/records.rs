//! Carrying record by record, between brokers of any kind: each record is read and sent.

use common::broker::{self, Outgoing, Placement, Position, Reader, Record, Transactions};
use common::chassis::now_ms;
use tokio::time::Instant;

use crate::carrier::Carrier;
use crate::error::{Error, Result};
use crate::session::Progress;
use crate::trouble::Trouble;
use crate::{checkpoint, offsets, paths};

/// What carries records.
#[derive(Debug)]
pub(crate) struct Records {
    transactions: Transactions,
    reader: Option<Reader>,
}

impl Records {
    /// Takes over the direction's transactional id.
    pub(crate) async fn take_over(carrier: &Carrier) -> Result<Self> {
        let id = carrier.transactional_id();
        Ok(Self {
            transactions: carrier.destination.transactions(&id).await?,
            reader: None,
        })
    }

    /// Begins to read, and word of other ways along with it.
    pub(crate) async fn read(
        &mut self,
        carrier: &Carrier,
        mut positions: Vec<Position>,
        ways: Option<i64>,
    ) -> Result<()> {
        positions.extend(ways.map(|end| Position::at(paths::TOPIC, 0, end)));
        if !positions.is_empty() {
            self.reader = Some(carrier.source.reader(&positions).await?);
        }
        Ok(())
    }

    /// Writes checkpoints that vouch for no record.
    pub(crate) async fn note(&mut self, checkpoints: Vec<Outgoing>) -> Result<()> {
        self.transactions.commit(Vec::new(), |_| checkpoints).await?;
        Ok(())
    }

    /// Waits for a record, then a moment for more, so that a slow trickle does not become a transaction each.
    pub(crate) async fn gather(&mut self, carrier: &Carrier) -> Result<Vec<Record>> {
        let settings = &carrier.settings;
        let Some(reader) = self.reader.as_mut() else {
            tokio::time::sleep(*settings.poll).await;
            return Ok(Vec::new());
        };
        let mut records = reader.next(settings.max_records, *settings.poll).await?;
        let since = Instant::now();
        while !records.is_empty() && records.len() < settings.max_records {
            let bytes: u64 = records.iter().map(|record| record.size() as u64).sum();
            let left = settings.linger.saturating_sub(since.elapsed());
            if left.is_zero() || bytes >= settings.max_bytes.bytes() {
                break;
            }
            records.extend(reader.next(settings.max_records - records.len(), left).await?);
        }
        records.retain(|record| {
            let path = &*record.topic == paths::TOPIC;
            if path {
                carrier.paths.ring(record.key.as_deref().unwrap_or_default());
            }
            !path
        });
        Ok(records)
    }

    /// Carries one batch in one transaction.
    pub(crate) async fn commit(
        &mut self,
        carrier: &Carrier,
        progress: &mut Progress,
        batch: Vec<Record>,
        trouble: &mut Trouble,
    ) -> Result<()> {
        let (mut outgoing, mut places) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        let mut touched = Progress::new();
        for record in &batch {
            let at = (record.topic.to_string(), record.partition);
            let stray = || Error::Stray {
                topic: at.0.clone(),
                partition: at.1,
            };
            let known = progress.get(&at).ok_or_else(stray)?;
            let checkpoint = touched.entry(at.clone()).or_insert_with(|| known.clone());
            if record.offset < checkpoint.next_offset {
                continue;
            }
            checkpoint.next_offset = record.offset + 1;
            checkpoint.carried_at = now_ms();
            if trouble
                .refused
                .as_ref()
                .is_some_and(|refused| refused.is(&at, record.offset))
            {
                if let Some(refused) = trouble.refused.take() {
                    let to = &checkpoint.destination_topic;
                    let at_home = refused.put_aside(carrier, to, record).await?;
                    carrier.report.refused(&refused, at_home);
                }
                continue;
            }
            outgoing.push(same(record, &checkpoint.destination_topic));
            places.push((at, record.offset));
        }
        *carrier.in_hand() = touched.values().map(|known| known.route.clone()).collect();
        let carried = outgoing.len();
        let topic = &carrier.checkpoints;
        let sealed = self.transactions.commit(outgoing, |placed: &[Placement]| {
            for ((at, source), place) in places.into_iter().zip(placed) {
                if let Some(checkpoint) = touched.get_mut(&at) {
                    offsets::push(checkpoint, source, place.offset);
                }
            }
            touched
                .values()
                .map(|checkpoint| checkpoint::record(topic, checkpoint))
                .collect()
        });
        match sealed.await {
            Ok(_) => {}
            Err(source @ (broker::Error::TooLarge { .. } | broker::Error::Refused { .. })) => {
                let last = batch
                    .last()
                    .map(|last| (last.topic.to_string(), last.partition, last.offset));
                return Err(Error::Refused {
                    records: batch.len(),
                    bytes: 0,
                    last: last.unwrap_or_default(),
                    source,
                });
            }
            Err(error) => return Err(error.into()),
        }
        carrier.in_hand().clear();
        for record in &batch {
            let at = (record.topic.to_string(), record.partition);
            if let Some(known) = touched.get(&at) {
                carrier
                    .report
                    .route(&known.route, 1, record.size(), record.timestamp);
            }
        }
        progress.extend(touched);
        trouble.carried(batch.len());
        tracing::debug!(direction = %carrier.direction, records = carried, "carried");
        carrier.report.carried(carried);
        Ok(())
    }
}

/// Cuts records into transactions. While a refused record is looked for, each goes alone.
pub(crate) fn cut(carrier: &Carrier, records: Vec<Record>, trouble: &Trouble) -> Vec<Vec<Record>> {
    let settings = &carrier.settings;
    let mut batches: Vec<Vec<Record>> = Vec::new();
    let mut bytes = 0_u64;
    for (at, record) in records.into_iter().enumerate() {
        bytes += record.size() as u64;
        match batches.last_mut() {
            Some(batch)
                if at >= trouble.one_by_one
                    && batch.len() < settings.max_records
                    && bytes <= settings.max_bytes.bytes() =>
            {
                batch.push(record);
            }
            _ => {
                bytes = record.size() as u64;
                batches.push(vec![record]);
            }
        }
    }
    batches
}

/// The record as it is, for the other side.
pub(crate) fn same(record: &Record, destination: &str) -> Outgoing {
    Outgoing {
        topic: destination.to_owned(),
        partition: Some(record.partition),
        timestamp: Some(record.timestamp),
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record.headers.clone(),
    }
}
