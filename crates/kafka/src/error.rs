//! What can go wrong, told apart as far as the owner acts on it.

use std::io;

use kafka_protocol::ResponseError;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation failed. After any of them a producer or fetcher is of no more use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The settings cannot work.
    #[error("kafka settings: {0}")]
    Settings(String),
    /// No connection could be made.
    #[error("cannot reach kafka at {address}")]
    Unreachable {
        /// The server.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// The connection ended.
    #[error("connection to kafka at {address} ended")]
    Ended {
        /// The server.
        address: String,
    },
    /// The server ended the connection with a word about certificates.
    #[error("kafka at {address} refuses this client's certificate: {reason}")]
    Certificate {
        /// The server.
        address: String,
        /// What it said.
        reason: String,
    },
    /// Nothing moved on the connection for too long.
    #[error("kafka at {address} does not answer")]
    Silent {
        /// The server.
        address: String,
    },
    /// The server would not let this client in.
    #[error("kafka at {address} refuses the login: {reason}")]
    Login {
        /// The server.
        address: String,
        /// What it said.
        reason: String,
    },
    /// The server is too old or too new for what is asked.
    #[error("kafka at {address} does not speak {api} as this client does")]
    Version {
        /// The server.
        address: String,
        /// The request.
        api: &'static str,
    },
    /// Bytes that are not what the protocol says.
    #[error("malformed {what} from kafka")]
    Malformed {
        /// What could not be read.
        what: &'static str,
    },
    /// A batch that is not whole.
    #[error("a batch of {topic}/{partition} is damaged: {source}")]
    Damaged {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// What is wrong with it.
        source: crate::batch::Invalid,
    },
    /// The topic does not exist.
    #[error("unknown topic {topic}")]
    UnknownTopic {
        /// The topic.
        topic: String,
    },
    /// The topic was deleted and made again.
    #[error("topic {topic} has changed")]
    Changed {
        /// The topic.
        topic: String,
    },
    /// A position that the partition does not have (any more).
    #[error("offset {offset} of {topic}/{partition} is not there")]
    OutOfRange {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset asked for.
        offset: i64,
    },
    /// The destination does not take this batch, now or later.
    #[error("batch refused by {topic}/{partition}: {reason}")]
    Refused {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Which of the batches given.
        index: usize,
        /// What the server said.
        reason: String,
    },
    /// Another holder of the transactional id has taken over.
    #[error("transactional id {id} was taken over by another instance")]
    Fenced {
        /// The id.
        id: String,
    },
    /// The producer has seen an error before.
    #[error("transactions of {id} ended with an earlier error")]
    Spent {
        /// The id.
        id: String,
    },
    /// A topic cannot be as it is wanted.
    #[error("cannot {operation} topic {topic}: {reason}")]
    Topic {
        /// What was asked for.
        operation: &'static str,
        /// The topic.
        topic: String,
        /// What the server said.
        reason: String,
    },
    /// The server answered with an error.
    #[error("kafka refuses to {operation}: {code:?}")]
    Answer {
        /// What was asked for.
        operation: &'static str,
        /// Its code.
        code: ResponseError,
    },
}

impl Error {
    /// Whether the server does not let this client see a topic, whether it is there or not.
    pub fn hides(&self) -> bool {
        matches!(self, Self::Answer { code, .. } if *code == ResponseError::TopicAuthorizationFailed)
    }
}

/// The error in an answer, if it has one.
pub(crate) fn check(operation: &'static str, code: i16) -> Result<()> {
    ResponseError::try_from_code(code).map_or(Ok(()), |code| Err(Error::Answer { operation, code }))
}

/// Codes that pass by themselves, and before which nothing was done.
pub(crate) fn passing(code: i16) -> bool {
    use ResponseError as E;
    matches!(
        ResponseError::try_from_code(code),
        Some(E::ConcurrentTransactions | E::CoordinatorLoadInProgress | E::CoordinatorNotAvailable)
    )
}

/// Codes by which the server says that another holder of a transactional id has come.
pub(crate) fn fenced(code: i16) -> bool {
    use ResponseError as E;
    matches!(
        ResponseError::try_from_code(code),
        Some(E::ProducerFenced | E::InvalidProducerEpoch)
    )
}
