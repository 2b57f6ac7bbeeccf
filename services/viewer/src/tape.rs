//! Topics of this site that are read from their beginning and followed.

use std::time::Duration;

use common::broker::{Broker, Error, Position, Reader};

/// How soon a topic that is not made yet is looked for again.
const LOOK: Duration = Duration::from_secs(30);

/// Reads a topic from its beginning; in a site made before there was any it is waited for.
pub(crate) async fn from_the_beginning(broker: &Broker, name: &str) -> Result<Reader, Error> {
    let partitions = loop {
        match broker.describe(name).await? {
            Some(topic) => break topic.partitions,
            None => tokio::time::sleep(LOOK).await,
        }
    };
    let positions: Vec<_> = (0..partitions)
        .map(|partition| Position::beginning(name, partition))
        .collect();
    broker.reader(&positions).await
}
