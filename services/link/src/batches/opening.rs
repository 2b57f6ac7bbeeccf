//! What a session asks before it carries: checkpoints, topics and their ends, in few questions for all lanes, since each
//! may be a round trip to the core.

use std::collections::HashMap;

use common::broker::Watermarks;
use common::schemas::Checkpoint;

use super::Batches;
use crate::carrier::Carrier;
use crate::error::Result;
use crate::lanes::Shape;
use crate::routes::Lane;

impl Batches {
    /// Reads all checkpoints at the destination, to the end.
    pub(crate) async fn load_checkpoints(
        &mut self,
        carrier: &Carrier,
    ) -> Result<HashMap<String, Checkpoint>> {
        self.sink.checkpoints(&carrier.checkpoints).await
    }

    /// Asks in a few questions for what a session needs to know of all lanes. What is decided later about a topic that
    /// was made again meanwhile ends with the first poll, which asks for the old one by its id.
    pub(crate) async fn look_around(&mut self, carrier: &Carrier) -> Result<()> {
        let lanes = &carrier.lanes;
        let sources: Vec<&str> = lanes.iter().map(|lane| lane.source.as_str()).collect();
        let destinations: Vec<&str> = lanes.iter().map(|lane| lane.destination.as_str()).collect();
        (self.shapes, self.places) =
            tokio::try_join!(self.source.look_at(&sources), self.sink.look_at(&destinations))?;
        self.marks = self.source.marks().await?;
        Ok(())
    }

    /// A lane's source, if source and destination are there and agree.
    pub(crate) fn seen(&self, lane: &Lane) -> Option<Shape> {
        let shape = self.shapes.get(&lane.source)?;
        let same = self.places.get(&lane.destination) == Some(&shape.partitions);
        same.then(|| shape.clone())
    }

    /// The ends of a source partition when the session began.
    pub(crate) fn marks(&self, topic: &str, partition: i32) -> Option<Watermarks> {
        self.marks.get(&(topic.to_owned(), partition)).copied()
    }
}
