//! What can end a session of a direction; each one is answered by a new session.

use common::{broker, kafka, schemas};

/// The result of link's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A broker's own error.
    #[error(transparent)]
    Broker(#[from] broker::Error),
    /// An error on the way of whole batches.
    #[error(transparent)]
    Wire(#[from] kafka::Error),
    /// A checkpoint that cannot be read: starting somewhere else would lose or repeat records.
    #[error("checkpoint at {topic}/{partition}/{offset} cannot be read")]
    Checkpoint {
        /// The topic of checkpoints.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset.
        offset: i64,
        /// Why not.
        source: schemas::Error,
    },
    /// A record that nothing asked for.
    #[error("{topic}/{partition} is not among what is read")]
    Stray {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// A topic was deleted and made again, or changed its partitions.
    #[error("topic {topic} has changed")]
    Changed {
        /// The topic.
        topic: String,
    },
    /// The core does not know this edge.
    #[error("the core has no topic {topic}: run `fieldline site add {site}` there")]
    NotEnrolled {
        /// The topic that is missing.
        topic: String,
        /// This edge.
        site: String,
    },
    /// Both addresses lead to one cluster: each record would come back for ever.
    #[error("this site's broker and the core's are one cluster: nothing can be carried from it to itself")]
    Itself,
    /// Another instance has got the lease since this one did.
    #[error("another instance of link has taken over")]
    Superseded,
    /// The destination will not take one of these records.
    #[error("a record is refused by the destination")]
    Refused {
        /// How many records were in the transaction.
        records: usize,
        /// The size of the batch that it is in; zero where nobody knows in which.
        bytes: usize,
        /// The last of them: source topic, partition, offset.
        last: (String, i32, i64),
        /// What the destination said.
        source: broker::Error,
    },
}

impl Error {
    /// Whether another instance has taken over.
    pub(crate) fn fenced(&self) -> bool {
        matches!(
            self,
            Self::Broker(broker::Error::Fenced { .. })
                | Self::Wire(kafka::Error::Fenced { .. })
                | Self::Superseded
        )
    }

    /// Whether batches are of a kind that only record by record can be carried.
    pub(crate) fn unreadable(&self) -> bool {
        use kafka::batch::Invalid;
        matches!(
            self,
            Self::Wire(
                kafka::Error::Damaged {
                    source: Invalid::Records | Invalid::Header,
                    ..
                } | kafka::Error::Version { .. }
            )
        )
    }
}
