//! What a group has committed.

use std::thread;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use tokio::time::Instant;

use super::ANSWER;

/// How soon it is asked for again.
const PAUSE: Duration = Duration::from_millis(200);

/// Whether the group's coordinator is just being made, as at a fresh broker, or moved.
pub(super) fn coordinator_moves(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::NotCoordinator
                | Code::CoordinatorNotAvailable
                | Code::CoordinatorLoadInProgress
                | Code::WaitingForCoordinator
        )
    )
}

/// Asks the group's coordinator, again for up to `patience` as long as the error is one to `wait` for. Blocks.
pub(super) fn committed<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    list: &TopicPartitionList,
    patience: Duration,
    wait: impl Fn(&KafkaError) -> bool,
) -> KafkaResult<TopicPartitionList> {
    let until = Instant::now() + patience;
    loop {
        match consumer.committed_offsets(list.clone(), ANSWER) {
            Err(error) if wait(&error) && Instant::now() < until => {
                tracing::debug!(%error, "committed offsets are asked for again");
                thread::park_timeout(PAUSE);
            }
            answer => return answer,
        }
    }
}
