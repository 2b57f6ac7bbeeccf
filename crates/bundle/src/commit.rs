//! One transaction of an import: records, and the checkpoint that vouches for them.

use common::broker::{self, Outgoing, Record};
use common::chassis::now_ms;
use common::schemas::Checkpoint;
use link::{Refused, checkpoint, offsets};

use crate::carry::{Carry, Search, Stop};
use crate::document::Carried;
use crate::error::Error;
use crate::import::Imported;

impl Carry<'_> {
    /// Carries records as far as before `end`, and moves the checkpoint there. The one that is refused is put aside.
    pub(crate) async fn commit(
        &mut self,
        topic: &Carried,
        mut batch: Vec<Record>,
        end: i64,
        at: &mut Checkpoint,
        search: &mut Search,
        imported: &mut Imported,
    ) -> Result<(), Stop> {
        if let Some((offset, reason)) = &search.refused
            && let [record] = &batch[..]
            && record.offset == *offset
        {
            // The site that it comes from is not here: it is put among the dead letters of this one.
            let mut record = record.clone();
            record.topic = topic.destination.as_str().into();
            let refused = Refused {
                at: (topic.destination.clone(), record.partition, record.offset),
                reason: reason.clone(),
            };
            refused
                .bury(&self.here.broker, &record)
                .await
                .map_err(Error::from)?;
            imported.refused += 1;
            search.refused = None;
            batch.clear();
        }
        let mut next = at.clone();
        next.next_offset = end;
        // No older than the bundle, whatever the clock here says.
        next.carried_at = now_ms().max(self.manifest.created_at);
        let outgoing: Vec<Outgoing> = batch
            .iter()
            .map(|record| same(record, &topic.destination))
            .collect();
        let sources: Vec<i64> = batch.iter().map(|record| record.offset).collect();
        let checkpoints = self.here.checkpoints(&self.manifest.from);
        let id = self.id(topic.class);
        let spent = || broker::Error::Spent {
            transactional_id: id.clone(),
        };
        let transactions = self.transactions.get_mut(&id).ok_or_else(spent)?;
        let sealed = transactions.commit(outgoing, |placed| {
            for (source, place) in sources.iter().zip(placed) {
                offsets::push(&mut next, *source, place.offset);
            }
            vec![checkpoint::record(&checkpoints, &next)]
        });
        match sealed.await {
            Ok(_) => {
                imported.records += batch.len() as u64;
                *at = next;
                Ok(())
            }
            Err(source @ (broker::Error::TooLarge { .. } | broker::Error::Refused { .. })) => {
                let first = batch.first().map_or(0, |first| first.offset);
                Err(Stop::Refused {
                    records: batch.len(),
                    first,
                    source,
                })
            }
            Err(broker::Error::Fenced { .. }) => Err(Stop::All(Error::LinkAtWork)),
            Err(error) => Err(error.into()),
        }
    }
}

fn same(record: &Record, destination: &str) -> Outgoing {
    Outgoing {
        topic: destination.to_owned(),
        partition: Some(record.partition),
        timestamp: Some(record.timestamp),
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record.headers.clone(),
    }
}
