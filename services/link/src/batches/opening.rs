//! What a session asks before it carries: checkpoints, topics and their ends, in few questions for all lanes, since each
//! may be a round trip to the core.

use common::broker::Watermarks;

use super::Batches;
use super::sink::Sink;
use super::source::Source;
use crate::carrier::Carrier;
use crate::checkpoint::Found;
use crate::error::{Error, Result};
use crate::lanes::Shape;
use crate::paths::{self, Ways};
use crate::routes::Lane;
use crate::wire::Wire;

impl Batches {
    /// Takes over the carrier's transactional id and reads the checkpoints to the end. Meanwhile it asks, in a few questions,
    /// for what a session needs to know of all lanes. What is decided later about a topic that was made again since ends
    /// with the first poll, which asks for the old one by its id.
    pub(crate) async fn open(carrier: &Carrier, wire: &Wire) -> Result<(Self, Found)> {
        let lanes = &carrier.lanes;
        let mut sources: Vec<&str> = lanes.iter().map(|lane| lane.source.as_str()).collect();
        if !carrier.paths.hidden() {
            sources.push(paths::TOPIC);
        }
        let live_first = lanes.iter().filter(|lane| lane.live_first);
        let backlogs: Vec<Lane> = live_first.map(Lane::backlog).collect();
        let destinations = lanes.iter().chain(&backlogs);
        let destinations: Vec<&str> = destinations.map(|lane| lane.destination.as_str()).collect();
        let mut source = Source::new(&wire.source, &carrier.source);
        let reading = async {
            let shapes = match source.look_at(&sources).await {
                Err(Error::Wire(error)) if error.hides() && sources.contains(&paths::TOPIC) => {
                    sources.pop();
                    let shapes = source.look_at(&sources).await?;
                    carrier.paths.hide();
                    carrier
                        .report
                        .remark(paths::about(carrier.direction), Some(paths::UNSEEN));
                    shapes
                }
                looked => looked?,
            };
            Ok((shapes, source.marks().await?))
        };
        let writing = async {
            let (mut sink, places) = Sink::take_over(carrier, &wire.destination, &destinations).await?;
            let found = sink.checkpoints(&carrier.checkpoints).await?;
            Ok::<_, Error>((sink, places, found))
        };
        let ((shapes, marks), (sink, places, found)) = tokio::try_join!(reading, writing)?;
        Ok((Self::new(carrier, source, sink, (shapes, marks, places)), found))
    }

    /// A lane's source, if source and destination are there and agree.
    pub(crate) fn seen(&self, lane: &Lane) -> Option<Shape> {
        let shape = self.shapes.get(&lane.source)?;
        self.leads_to(lane, shape.partitions).then(|| shape.clone())
    }

    /// Which incarnation of a lane's destination there was.
    pub(crate) fn place(&self, lane: &Lane) -> Option<&str> {
        self.places.get(&lane.destination).map(|place| place.id.as_str())
    }

    /// By which ways the topics at the source came there.
    pub(crate) async fn ways(&mut self, carrier: &Carrier) -> Result<Ways> {
        let (Some(shape), Some(marks)) = (self.shapes.get(paths::TOPIC), self.marks(paths::TOPIC, 0)) else {
            return Ok(Ways::default());
        };
        if let Some(known) = carrier.paths.known(&shape.id, marks.high) {
            return Ok(known);
        }
        let ways = self.source.ways().await?;
        carrier.paths.keep(&shape.id, marks.high, &ways);
        Ok(ways)
    }

    /// Whether a lane's destination is there, as it should be.
    pub(crate) fn leads_to(&self, lane: &Lane, partitions: i32) -> bool {
        let place = self.places.get(&lane.destination);
        place.is_some_and(|place| place.partitions == partitions)
    }

    /// The ends of a source partition when the session began.
    pub(crate) fn marks(&self, topic: &str, partition: i32) -> Option<Watermarks> {
        self.marks.get(&(topic.to_owned(), partition)).copied()
    }
}
