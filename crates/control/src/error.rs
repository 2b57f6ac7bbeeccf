//! What can go wrong on the line between a service and its site.

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A command that could not be read or written. The text never includes the source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The site's commands could not be read.
    #[error("cannot read what {service} should do")]
    Read {
        /// The service.
        service: String,
        /// Why.
        #[source]
        source: broker::Error,
    },
    /// A command could not be written.
    #[error("cannot tell {service} what to do")]
    Ask {
        /// The service.
        service: String,
        /// Why.
        #[source]
        source: broker::Error,
    },
    /// A command could not be encoded.
    #[error("cannot encode what {service} should do")]
    Encode {
        /// The service.
        service: String,
        /// Why.
        #[source]
        source: schemas::Error,
    },
    /// The host stopped before the commands were read.
    #[error("stopped before it was known what {service} should do")]
    Stopped {
        /// The service.
        service: String,
    },
}
