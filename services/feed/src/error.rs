//! Why a catalogue could not be read.

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

/// A catalogue that cannot be read now. It is tried again, and the service's status says why it waits.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum Error {
    #[error("cannot read the catalogue {catalogue}")]
    Read {
        catalogue: String,
        source: std::io::Error,
    },
    #[error("cannot get the catalogue from {host}")]
    Get { host: String, source: reqwest::Error },
    #[error("{host} answered {status} instead of the catalogue")]
    Status {
        host: String,
        status: reqwest::StatusCode,
    },
    #[error("the catalogue {catalogue} is larger than {limit} bytes")]
    TooLarge { catalogue: String, limit: u64 },
    #[error("the catalogue is no {format}")]
    Json {
        format: &'static str,
        source: serde_json::Error,
    },
    #[error("the catalogue is no RSS, Atom or JSON feed")]
    Feed(#[source] Box<feed_rs::parser::ParseFeedError>),
}
