//! Which announcements are answered already, though the group has not committed them.
//!
//! A crash between an effect and its commit brings announcements back. Downloading again would be correct, but wasted,
//! and a server that has changed its mind meanwhile would turn a broadcast asset into a failed one. So what follows the
//! committed offsets is read once at the start: an announcement with a later outcome behind it is passed over.

use std::collections::HashMap;
use std::time::Duration;

use common::broker::{self, Broker, Position, Record};
use common::schemas::{self, Asset, AssetId, AssetState, topic};
use tokio::time::Instant;

/// More are not remembered; what is beyond is downloaded again.
const MOST: usize = 200_000;
const SILENCE: Duration = Duration::from_secs(15);

/// The offset of the newest outcome of each asset, in what the group has not committed.
#[derive(Debug, Default)]
pub(crate) struct Settled(HashMap<AssetId, i64>);

impl Settled {
    /// Reads from the group's commits to the end as it is now.
    pub(crate) async fn read(broker: &Broker, group: &str) -> broker::Result<Self> {
        let mut settled = Self::default();
        let mut ends = Vec::new();
        let mut positions = Vec::new();
        let Some(described) = broker.describe(topic::ASSET_PIPELINE).await? else {
            return Ok(settled);
        };
        let committed: HashMap<i32, i64> = broker
            .committed(group, topic::ASSET_PIPELINE)
            .await?
            .into_iter()
            .collect();
        for partition in 0..described.partitions {
            let marks = broker.watermarks(topic::ASSET_PIPELINE, partition).await?;
            // What was never committed is read from its beginning, as the consumer does.
            let start = committed
                .get(&partition)
                .map_or(marks.low, |offset| marks.low.max(*offset));
            if start < marks.high {
                ends.push((partition, marks.high));
                positions.push(Position::at(topic::ASSET_PIPELINE, partition, start));
            }
        }
        if positions.is_empty() {
            return Ok(settled);
        }
        let mut reader = broker.reader(&positions).await?;
        let mut heard = Instant::now();
        let behind = |reader: &broker::Reader| {
            let at = |partition| {
                reader
                    .position(topic::ASSET_PIPELINE, partition)
                    .unwrap_or(i64::MAX)
            };
            ends.iter().any(|(partition, end)| at(*partition) < *end)
        };
        while behind(&reader) && heard.elapsed() < SILENCE {
            let records = reader.next(500, Duration::from_millis(500)).await?;
            if !records.is_empty() {
                heard = Instant::now();
            }
            records.iter().for_each(|record| settled.note(record));
        }
        Ok(settled)
    }

    fn note(&mut self, record: &Record) {
        let Some(value) = &record.value else { return };
        // What cannot be decoded is the handler's to report.
        let Ok(asset) = schemas::decode::<Asset>(value) else {
            return;
        };
        if asset.state != AssetState::Announced && self.0.len() < MOST {
            self.0.insert(asset.asset_id, record.offset);
        }
    }

    /// Whether the announcement at this offset has its outcome behind it.
    pub(crate) fn covers(&self, asset_id: &AssetId, offset: i64) -> bool {
        // One key is in one partition, so the offsets compare.
        self.0.get(asset_id).is_some_and(|outcome| *outcome > offset)
    }
}
