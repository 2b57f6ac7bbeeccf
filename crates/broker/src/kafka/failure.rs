//! librdkafka's errors, told apart as [`Error`] does.

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};

use super::context::Context;
use crate::error::{Error, Source};

/// How soon a broker is asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// Whether an error means that no broker answers.
pub(super) fn unreachable(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::AllBrokersDown
                | Code::BrokerTransportFailure
                | Code::Resolve
                | Code::SSL
                | Code::Authentication
                | Code::OperationTimedOut
                | Code::MessageTimedOut
                | Code::TimedOutQueue
                | Code::RequestTimedOut
                | Code::NetworkException
                | Code::BrokerNotAvailable
        )
    )
}

/// Whether an error means that another holder of a transactional id has come.
pub(super) fn fenced(code: Code) -> bool {
    matches!(
        code,
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch
    )
}

/// Whether an error means that a partition's leader is being chosen or found: Kafka says so for a moment after a topic
/// is made, or when a broker leaves or comes back.
pub(super) fn settling(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::LeaderNotAvailable
                | Code::NotLeaderForPartition
                | Code::ReplicaNotAvailable
                | Code::KafkaStorageError
                | Code::FencedLeaderEpoch
                | Code::UnknownLeaderEpoch
                | Code::OffsetNotAvailable
        )
    )
}

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

/// Asks again for up to `patience`, as long as the error is one to `wait` for. Blocks.
pub(super) fn patiently<T>(
    patience: Duration,
    wait: impl Fn(&KafkaError) -> bool,
    mut ask: impl FnMut() -> KafkaResult<T>,
) -> KafkaResult<T> {
    let until = Instant::now() + patience;
    loop {
        match ask() {
            Err(error) if wait(&error) && Instant::now() < until => {
                tracing::debug!(%error, "the broker is asked again");
                thread::park_timeout(PAUSE);
            }
            answer => return answer,
        }
    }
}

impl Context {
    /// The error for an operation on a topic or partition. What is neither about reaching the broker nor about the
    /// topic being there is for the caller to name.
    pub(super) fn failure(
        &self,
        error: KafkaError,
        topic: &str,
        partition: Option<i32>,
        otherwise: impl FnOnce(Source) -> Error,
    ) -> Error {
        match (error.rdkafka_error_code(), partition) {
            (Some(Code::UnknownPartition), Some(partition)) => Error::UnknownPartition {
                topic: topic.to_owned(),
                partition,
            },
            (
                Some(
                    Code::UnknownTopic
                    | Code::UnknownTopicOrPartition
                    | Code::UnknownTopicId
                    | Code::UnknownPartition,
                ),
                _,
            ) if !topic.is_empty() => Error::UnknownTopic {
                topic: topic.to_owned(),
            },
            _ => self.or_unreachable(error, otherwise),
        }
    }

    /// The error for an operation: the broker is not there, or what the caller says.
    pub(super) fn or_unreachable(&self, error: KafkaError, otherwise: impl FnOnce(Source) -> Error) -> Error {
        if !unreachable(&error) {
            return otherwise(error.into());
        }
        let reason = self.reason();
        let source: Source = if reason.is_empty() {
            error.into()
        } else {
            format!("{error}: {reason}").into()
        };
        Error::Unreachable {
            servers: self.servers().to_owned(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_being_chosen_is_waited_for_and_nothing_else_is() {
        let long = Duration::from_secs(60);
        let ask = |code, patience| {
            let mut asked = 0;
            let answer = patiently(patience, settling, || {
                asked += 1;
                if asked < 3 {
                    Err(KafkaError::MetadataFetch(code))
                } else {
                    Ok(asked)
                }
            });
            (answer.is_ok(), asked)
        };
        assert_eq!(ask(Code::NotLeaderForPartition, long), (true, 3));
        assert_eq!(ask(Code::LeaderNotAvailable, Duration::ZERO), (false, 1));
        assert_eq!(ask(Code::TopicAuthorizationFailed, long), (false, 1));
    }

    #[test]
    fn errors_are_told_apart_by_what_a_caller_can_do() {
        let context = Context::new("somewhere:9092");
        let otherwise = |source| Error::Read {
            topic: "t".into(),
            source,
        };
        let tell = |code, partition| {
            context.failure(KafkaError::MessageConsumption(code), "t", partition, otherwise)
        };
        assert!(matches!(
            tell(Code::UnknownTopic, None),
            Error::UnknownTopic { .. }
        ));
        assert!(matches!(
            tell(Code::UnknownPartition, Some(7)),
            Error::UnknownPartition { partition: 7, .. }
        ));
        assert!(matches!(
            tell(Code::AllBrokersDown, None),
            Error::Unreachable { .. }
        ));
        assert!(matches!(tell(Code::InvalidMessage, None), Error::Read { .. }));
    }
}
